"""The files that describe a whole data set: `dataset.json`, which makes it complete, and the Hugging Face card."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from bokehsynth.errors import DataError
from bokehsynth.files import atomic_write, pretty_json, sha256_bytes
from bokehsynth.schema import FIELDS, FORMAT_VERSION
from bokehsynth.shards.codec import META_MEMBER, decode_meta
from bokehsynth.shards.layout import Layout
from bokehsynth.shards.marker import ShardMarker, check_shard
from bokehsynth.shards.plan import ShardPlan
from bokehsynth.shards.tar import TarEntry, parse_index, split_name

_DECODE = {
    "color": "uint8 [height, width, 3], sRGB: np.asarray(Image.open(f))",
    "color16": "uint16 [height, width, 3], sRGB: cv2.imdecode(data, cv2.IMREAD_UNCHANGED)[..., ::-1]",
    "map": "float32 [height, width]: np.asarray(Image.open(f)).astype(np.float32) * np.float32(scale)",
}
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
    for plan in sorted(plans):
        markers.setdefault(plan.split, []).append(check_shard(layout, plan, identity))
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
    }


def write_dataset_json(layout: Layout, record: Mapping[str, Any], description: str = "") -> None:
    """Write the card, with a paragraph of `description`, and, last of all, `dataset.json`."""
    atomic_write(layout.card, card_text(record, description))
    atomic_write(layout.dataset, pretty_json(record))


def read_dataset(layout: Layout) -> dict[str, Any]:
    """Read `dataset.json`; a DataError that says what is there instead, and what to do, if it is missing."""
    if not layout.root.is_dir():
        raise DataError(f"{layout.root}: no such data set directory")
    try:
        record = json.loads(layout.dataset.read_text(encoding="utf-8"))
        _check_tables(record)
    except FileNotFoundError:
        raise DataError(_why_incomplete(layout)) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{layout.dataset}: cannot be read ({error}); `bokehsynth finalize` writes it anew") from None
    if record.get("format") != FORMAT_VERSION:
        raise DataError(f"{layout.dataset}: format {record.get('format')}; this bokehsynth reads {FORMAT_VERSION}")
    return record


def _check_tables(record: Any) -> None:
    """Raise ValueError unless the tables that readers iterate over are there; the format says what they hold."""
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    for name in ("identity", "fields", "splits"):
        if not isinstance(record.get(name), dict):
            raise ValueError(f"no table {name}")
    if not all(isinstance(item, dict) for name in ("fields", "splits") for item in record[name].values()):
        raise ValueError("a field or split is no table")


def stored_plans(record: Mapping[str, Any], split: str) -> list[ShardPlan]:
    """The shards of a split as `dataset.json` counts them; a DataError if it has no such split or no counts."""
    if split not in record["splits"]:
        raise DataError(f"no split {split!r} in this data set; it has {', '.join(sorted(record['splits']))}")
    counts = record["splits"][split].get("counts")
    if not isinstance(counts, list) or not counts or not all(type(count) is int and count > 0 for count in counts):
        raise DataError(f"dataset.json: the counts of split {split} are not a list of numbers above 0")
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
    index = layout.index(first).read_text(encoding="ascii")
    meta = read_meta(layout.tar(first), parse_index(index, str(layout.index(first)))[0], first.keys[0])
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


def read_meta(tar: Path, entries: Iterable[TarEntry], key: str) -> dict[str, Any]:
    """The JSON record of the sample with these members, its pictures left unread."""
    entry = next(entry for entry in entries if split_name(entry.name)[1] == META_MEMBER)
    with open(tar, "rb", buffering=0) as file:
        file.seek(entry.offset)
        return decode_meta(key, {META_MEMBER: file.read(entry.size)})


def _why_incomplete(layout: Layout) -> str:
    committed = len(list(layout.hidden.glob("*/*.done.json")))
    if not layout.hidden.is_dir():
        return f"{layout.root}: not a bokehsynth data set: it has no dataset.json"
    return (
        f"{layout.root}: no dataset.json: the run is unfinished, {committed} shards are committed. Run the same "
        f"`bokehsynth generate` line again to resume it, or `bokehsynth finalize {layout.root}` if every shard is there"
    )
