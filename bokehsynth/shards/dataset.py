"""The files that describe a whole data set: `dataset.json`, which makes it complete, and the Hugging Face card."""

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, BinaryIO

from bokehsynth.errors import ChangedError, DataError, NoDatasetError
from bokehsynth.files import atomic_write, change_file, pretty_json, sha256_bytes
from bokehsynth.rng import SPLITS
from bokehsynth.schema import FIELDS, FORMAT_VERSION, MAX_SAMPLES, SOURCE, VIEW_FIELDS
from bokehsynth.shards.codec import MAX_RECORD, META_MEMBER, check_sizes, decode_meta
from bokehsynth.shards.index import read_index
from bokehsynth.shards.layout import Layout
from bokehsynth.shards.marker import ShardMarker, check_shards
from bokehsynth.shards.pixels_root import pixels_root
from bokehsynth.shards.plan import ShardPlan
from bokehsynth.shards.tar import TarEntry, split_name
from bokehsynth.stores import StoredPath
from bokehsynth.untrusted_files import open_regular, parse_json, read_at, read_json

_DECODE = {
    "color": "uint8 [height, width, 3], sRGB: np.asarray(Image.open(f))",
    "color16": "uint16 [height, width, 3], sRGB: cv2.imdecode(data, cv2.IMREAD_UNCHANGED)[..., ::-1]",
    "map": "float32 [height, width]: np.asarray(Image.open(f)).astype(np.float32) * np.float32(scale)",
}
MAX_DATASET_JSON = 64 << 20
"""Bytes of `dataset.json`, a line of which is the count of a shard."""

_WRITE_ANEW = "`bokehsynth finalize` writes it anew"
_UNITS = {"defocus": "px"}
_SPLIT_NAMES = {"train": "train", "val": "validation"}
"""Split folders to the split names that Hugging Face gives them, with the card and without."""


LICENCE_NOT_STATED = (
    "Not stated. The pictures inherit the licences of the assets they were made from; see `assets.jsonl`."
)
"""Text of the card's licence section, where its maker gives none."""


def describe_dataset(
    layout: Layout, plans: Iterable[ShardPlan], name: str, identity: Mapping[str, str], made_with: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of `dataset.json`, which follows from the markers and the arguments alone; nothing is written.

    `plans` holds all shards of every split, `identity` the digests in every marker, `made_with` versions, CPU features
    and device. Raises DataError if a shard does not exist: a data set is complete or has no `dataset.json`.
    """
    markers: dict[str, list[ShardMarker]] = {}
    for marker in check_shards(layout, sorted(plans), identity):
        markers.setdefault(marker.split, []).append(marker)
    if not markers:
        raise DataError(f"{layout.root}: a data set without any shard")
    return {
        "format": FORMAT_VERSION,
        "name": name,
        "licence": LICENCE_NOT_STATED,
        "identity": dict(identity),
        "made_with": dict(made_with),
        "key": "{split}-{index:09d}",
        "fields": _field_table(layout, [marker for group in markers.values() for marker in group]),
        "splits": {split: split_record(group) for split, group in markers.items()},
        "pixels_root": pixels_root([marker for group in markers.values() for marker in group]),
    }


def check_totals(layout: Layout, record: Mapping[str, Any]) -> bool:
    """DataError unless the totals and pixel hashes of `dataset.json` are those of the markers.

    Returns whether it has a root of pixel hashes: sets that were completed before version 0.5 have none.
    """
    every = []
    for split in record["splits"]:
        markers = list(check_shards(layout, stored_plans(record, split), record["identity"]))
        every += markers
        if wrong := [
            name for name, value in split_record(markers).items() if record["splits"][split].get(name) != value
        ]:
            raise DataError(f"{layout.dataset}: {', '.join(wrong)} of split {split} are not those of the markers")
    root = record.get("pixels_root")
    if root is not None and (not every or root != pixels_root(every)):
        raise DataError(
            f"{layout.dataset}: its root of pixel hashes is not that of the markers: one of them was altered"
        )
    return root is not None


def write_dataset_json(layout: Layout, record: Mapping[str, Any], description: str = "") -> None:
    """Write the card, with a paragraph of `description`, and, last of all, `dataset.json`."""
    atomic_write(layout.card, card_text(record, description))
    if layout.remote:
        change_file(layout.dataset, lambda old: _successor(layout, old, record))
    else:
        atomic_write(layout.dataset, pretty_json(record))  # whatever is there is replaced, and never read


def _successor(layout: Layout, old: bytes | None, record: Mapping[str, Any]) -> bytes:
    """The text of `record`; ChangedError where another machine has meanwhile written that of a larger set."""
    if old is not None:
        with contextlib.suppress(DataError, UnicodeDecodeError):
            there = parse_json(old.decode(), str(layout.dataset))
            if not _fault_of(there) and _samples(there) > _samples(record):
                raise ChangedError(
                    f"{layout.dataset}: describes {_samples(there)} samples, more than the {_samples(record)} of this "
                    "run: another machine has extended the set; there is nothing left to do"
                )
    return pretty_json(record).encode()


def _samples(record: Mapping[str, Any]) -> int:
    return sum(plan.count for split in record["splits"] for plan in stored_plans(record, split))


def refuse_no_folder(layout: Layout) -> None:
    """NoDatasetError unless there is a folder that may hold a data set."""
    if not layout.root.is_dir():
        what = "is a file, and a data set is a folder" if layout.root.exists() else "no such data set directory"
        raise NoDatasetError(f"{layout.root}: {what}")


def read_dataset(layout: Layout) -> dict[str, Any]:
    """Read `dataset.json`; a DataError that says what is there instead, and what to do, if it is missing."""
    refuse_no_folder(layout)
    try:
        record = read_json(layout.dataset, MAX_DATASET_JSON)
    except FileNotFoundError:
        raise _incomplete(layout) from None
    except OSError as error:
        raise DataError(f"{layout.dataset}: cannot be read ({error}); {_WRITE_ANEW}") from None
    except DataError as error:
        raise DataError(f"{error}; {_WRITE_ANEW}") from None
    if fault := _fault_of(record):
        raise DataError(f"{layout.dataset}: is no description of a data set ({fault}); {_WRITE_ANEW}")
    if record.get("format") != FORMAT_VERSION:
        raise DataError(f"{layout.dataset}: format {record.get('format')}; this bokehsynth reads {FORMAT_VERSION}")
    return record


def _fault_of(record: Any) -> str:
    """What is wrong with the tables that readers iterate over; empty if nothing is. The format says what they hold."""
    if not isinstance(record, dict):
        return "not a JSON object"
    for name in ("identity", "fields", "splits"):
        if not isinstance(record.get(name), dict):
            return f"no table {name}"
    if not all(isinstance(item, dict) for name in ("fields", "splits") for item in record[name].values()):
        return "a field or split is no table"
    if unknown := record["splits"].keys() - SPLITS.keys():
        return f"its splits must be out of train and val, got {min(unknown)!r:.80}"  # they are names of folders
    if not all(isinstance(digest, str) for digest in record["identity"].values()):
        return "a digest of its identity is no text"
    return ""


def stored_plans(record: Mapping[str, Any], split: str) -> list[ShardPlan]:
    """The shards of a split as `dataset.json` counts them; a DataError if it has no such split or no counts."""
    if split not in record["splits"]:
        raise DataError(f"no split {split!r} in this data set; it has {', '.join(sorted(record['splits']))}")
    counts = record["splits"][split].get("counts")
    if not isinstance(counts, list) or not counts or not all(type(count) is int and count > 0 for count in counts):
        raise DataError(f"dataset.json: the counts of split {split} are not a list of numbers above 0")
    if sum(counts) > MAX_SAMPLES:
        raise DataError(f"dataset.json: the counts of split {split} come to more than {MAX_SAMPLES:,} samples")
    ends = accumulate(counts)
    return [
        ShardPlan(split, shard, end - count, count) for shard, (end, count) in enumerate(zip(ends, counts, strict=True))
    ]


def card_text(record: Mapping[str, Any], description: str) -> str:
    """The Hugging Face data set card (`README.md`) for the content of a `dataset.json`."""
    splits, table = record["splits"], record["fields"]
    total = sum(split["samples"] for split in splits.values())
    front = [f"pretty_name: {json.dumps(record['name'])}", "tags:", "- webdataset", "- bokeh", "configs:"]
    front += ["- config_name: default", "  data_files:"]
    for split in splits:
        front += [f"  - split: {_SPLIT_NAMES[split]}", f"    path: {split}/*.tar"]
    sizes = [[_SPLIT_NAMES[name], f"`{name}/`", *(split[key] for key in _SIZES)] for name, split in splits.items()]
    columns = [[f"`{item['member']}`", item["about"], f"`{item['decode']}`"] for item in table.values()]
    maps = {name: item for name, item in table.items() if item["kind"] == "map"}
    scales = [
        [f"`{name}`", f"`{item['scale_key']}`" if item["scale_key"] else "fixed", item["scale"], item["unit"] or "1"]
        for name, item in maps.items()
    ]
    paragraphs = [
        "\n".join(["---", *front, "---"]),
        f"# {record['name']}",
        description,
        _CARD_OPENING.format(total=total),
        _table(["split", "folder", *_SIZES], sizes),
        "## Fields",
        _table(["column", "content", "decoded"], [*columns, ["`json`", "one flat record, alike in every sample", "-"]]),
        _CARD_MAPS if scales else "",
        _table(["map", "key of its scale", "scale", "unit"], scales) if scales else "",
        _CARD_VIEWS if VIEW_FIELDS.keys() & table.keys() else "",
        _CARD_SOURCE if SOURCE in table else "",
        _CARD_READING.format(
            arrays="\n".join(_card_line(name, item) for name, item in table.items()),
            split=next(iter(splits)),
            reader_split=_SPLIT_NAMES[next(iter(splits))],
        ),
        "## Licence",
        record["licence"],
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


_SIZES = ("samples", "shards", "bytes")

_CARD_OPENING = """\
{total} samples of bokeh training data, made by bokehsynth: a degraded all-in-focus picture, the same scene through a
lens, and the maps in between."""

_CARD_MAPS = """\
Maps are 16-bit grey PNG. A scale is the same in every sample of this data set and also stands in its JSON record.
**Never** bring a map to 8 bits: `Image.convert("RGB")`, `convert("L")`, and readers that do so (webdataset's
`decode("pil")` and `decode("rgb")`) clip every count above 255 to white. `np.asarray(Image.open(...))` keeps them."""

_CARD_VIEWS = """\
Views are further pictures of the same scene. The JSON record names them in `view_names`; `view_blur` and `view_focus`
are K and the focus of each, in the same order, so that its blur radius is `view_blur * abs(disparity - view_focus)`.
`view_x` and `view_y` are where in the opening its light passes, in radii, x right and y down: what stands at disparity
d is seen `-blur * (d - focus)` times that further right and further down than through the middle."""

_CARD_SOURCE = """\
`lq` is not the degraded all-in-focus picture, but that of `source`: another setting of the lens before the same scene,
with K `source_blur`, focused on `source_focus`, through `source_aperture` (in the JSON record)."""

_CARD_READING = """\
## Reading

```python
import json
import numpy as np
from datasets import load_dataset

data = load_dataset("path/to/this/directory", split="{reader_split}")
sample = data[0]
meta = sample["json"]
{arrays}
draw = json.loads(meta["draw"])
```

```python
import bokehsynth as bs

for sample in bs.open_dataset("path/to/this/directory", split="{split}"):
    sample.key, sample.arrays, sample.meta["focus"]
```

`json` holds, among others, `index`, `split`, `blur` (pixels of blur radius per unit of disparity difference), `focus`
(the disparity in focus), the scales, the asset ids and the digests of what the sample was made from. `draw` is every
random choice of the sample, as JSON in a string."""


def _card_line(name: str, item: Mapping[str, Any]) -> str:
    picture = f'np.asarray(sample["{item["member"]}"])'
    if item["kind"] == "color":
        return f"{name} = {picture}"
    if item["kind"] == "color16":
        return f"# {name}: Pillow would bring it to 8 bits; bokehsynth and OpenCV read all 16"
    scale = f'meta["{item["scale_key"]}"]' if item["scale_key"] else repr(item["scale"])
    return f"{name} = {picture}.astype(np.float32) * np.float32({scale})"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def split_record(markers: Sequence[ShardMarker]) -> dict[str, Any]:
    """What `dataset.json` says of a split: it follows from its markers, in shard order."""
    first, last = markers[0].plan, markers[-1].plan
    number = f"{first.shard:06d}" if first == last else f"{{{first.shard:06d}..{last.shard:06d}}}"
    return {
        "samples": sum(marker.n for marker in markers),
        "shards": len(markers),
        "bytes": sum(marker.bytes for marker in markers),
        "counts": [marker.n for marker in markers],
        "urls": f"{first.split}/{first.split}-{number}.tar",
        "markers_sha256": sha256_bytes("".join(marker.text() for marker in markers)),
    }


def _field_table(layout: Layout, markers: Sequence[ShardMarker]) -> dict[str, dict[str, Any]]:
    """What each member holds; the scales come from the first sample, since they are the same in all."""
    members = markers[0].members
    if any(marker.members != members for marker in markers):
        raise DataError(f"{layout.root}: the shards do not all hold the same members, so no reader could take them")
    first = markers[0].plan
    meta = read_meta(layout.tar(first), read_index(layout, first).entries(first.first), first.first_key)
    table: dict[str, dict[str, Any]] = {}
    for member in members:
        name = split_name(member)[0]
        if name == META_MEMBER:
            continue
        field = FIELDS[name]
        table[name] = {"kind": field.kind, "member": member, "about": field.about, "decode": _DECODE[field.kind]}
        if field.kind == "map":
            table[name] |= {"scale_key": field.scale_key, "scale": field.scale(meta), "unit": _UNITS.get(name, "")}
    return table


def read_meta(tar: StoredPath, entries: Iterable[TarEntry], key: str) -> dict[str, Any]:
    """The JSON record of the sample with these members, its pictures left unread."""
    entry = next((entry for entry in entries if split_name(entry.name)[1] == META_MEMBER), None)
    if entry is None:
        raise DataError(f"{tar}: {key} has no member {META_MEMBER!r}")
    try:
        with open_regular(tar) as file:
            return decode_meta(key, {META_MEMBER: read_record(file, entry)})
    except (OSError, DataError) as error:
        where = "" if str(tar) in str(error) else f"{tar}: "
        raise DataError(f"{where}{error}") from None


def read_record(file: BinaryIO, entry: TarEntry) -> bytes:
    """The bytes of a sample's JSON record in an open tar, whose position stays; DataError for one that is too large."""
    if entry.size > MAX_RECORD:
        raise DataError(f"{entry.name} would hold {entry.size:,} bytes; a record has at most {MAX_RECORD:,}")
    data = read_at(file, entry.size, entry.offset)
    if len(data) != entry.size:
        raise DataError(f"{entry.name}: the tar ends within it")
    return data


def check_entries(file: BinaryIO, entries: Sequence[TarEntry], key: str) -> None:
    """DataError unless members of these sizes may belong to one sample; to be asked before they are read."""
    members = [split_name(entry.name)[1] for entry in entries]
    sizes = dict.fromkeys(members, 0)
    for member, entry in zip(members, entries, strict=True):
        sizes[member] += entry.size  # of a member that stands there twice both are read
    check_sizes(key, sizes, lambda: read_record(file, entries[members.index(META_MEMBER)]))


def _incomplete(layout: Layout) -> DataError:
    committed = len([path for split in SPLITS for path in layout.split_markers(split).glob("*.done.json")])
    if not layout.hidden.is_dir():
        return NoDatasetError(f"{layout.root}: not a bokehsynth data set: it has no dataset.json")
    return DataError(
        f"{layout.root}: no dataset.json: the run is unfinished, {committed} shards are committed. Run the same "
        f"`bokehsynth generate` line again to resume it, or `bokehsynth finalize {layout.root}` if every shard is there"
    )
