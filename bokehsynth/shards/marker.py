"""Where everything of a data set lies, which shards it has, and when one of them exists.

A shard exists when its marker is valid: it parses, it names this shard of this plan and identity, and the tar and the
index stand there with the recorded size. A tar without a marker is nothing. Only `verify` reads a tar to its end.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from bokehsynth.errors import DataError, UsageError
from bokehsynth.files import TMP_MARK, pretty_json, storage_errors
from bokehsynth.schema import FORMAT_VERSION, sample_key

REMAKE = "run the same `bokehsynth generate` line again to make it anew"


@dataclass(frozen=True, order=True)
class ShardPlan:
    """Which samples one shard holds: `first` .. `first + count - 1` of its split."""

    split: str
    shard: int
    first: int
    count: int

    @property
    def name(self) -> str:
        """`train-000000`, the stem of the shard's files."""
        return f"{self.split}-{self.shard:06d}"

    def __len__(self) -> int:
        return self.count

    @property
    def keys(self) -> list[str]:
        """The keys of its samples, in file order."""
        return [sample_key(self.split, index) for index in range(self.first, self.first + self.count)]


def plan_shards(split: str, samples: int, per_shard: int, before: Sequence[ShardPlan] = ()) -> list[ShardPlan]:
    """All shards of a split of `samples` samples: `before` as they are, then new ones of `per_shard`, the last shorter.

    `before` is what an extended data set already has (`stored_plans`); its short last shard stays short. Raises
    UsageError if it holds more than `samples`.
    """
    plans = list(before)
    first = plans[-1].first + plans[-1].count if plans else 0
    if first > samples:
        raise UsageError(f"{split} already has {first} samples, more than the {samples} asked for; shards never shrink")
    for start in range(first, samples, per_shard):
        plans.append(ShardPlan(split, len(plans), start, min(per_shard, samples - start)))
    return plans


@dataclass(frozen=True)
class Layout:
    """Every path of a data set under `root`. Nothing is created here."""

    root: Path

    @property
    def hidden(self) -> Path:
        """`.bokehsynth`: markers, indices and temporary files, which no reader takes for data."""
        return self.root / ".bokehsynth"

    @property
    def staging(self) -> Path:
        """`.bokehsynth/tmp`: shards being written, on the file system of the finished ones."""
        return self.hidden / "tmp"

    @property
    def dataset(self) -> Path:
        """`dataset.json`: written last; the data set is whole when it is there."""
        return self.root / "dataset.json"

    @property
    def card(self) -> Path:
        """`README.md`, the Hugging Face data set card."""
        return self.root / "README.md"

    @property
    def recipe(self) -> Path:
        """`recipe.yaml`, resolved."""
        return self.root / "recipe.yaml"

    @property
    def schema(self) -> Path:
        """`schema.json` of the recipe."""
        return self.root / "schema.json"

    @property
    def assets(self) -> Path:
        """`assets.jsonl`, the frozen asset list."""
        return self.root / "assets.jsonl"

    @property
    def preview(self) -> Path:
        """`preview.png`, a contact sheet."""
        return self.root / "preview.png"

    @property
    def quarantine(self) -> Path:
        """`quarantine.jsonl`, assets and samples that were given up."""
        return self.root / "quarantine.jsonl"

    @property
    def report(self) -> Path:
        """`report/`, made on demand."""
        return self.root / "report"

    @property
    def logs(self) -> Path:
        """`logs/`: times, hosts, attempts; the only part that differs from run to run."""
        return self.root / "logs"

    def split(self, split: str) -> Path:
        """`train/`: the tars of a split and nothing else."""
        return self.root / split

    def split_markers(self, split: str) -> Path:
        """`.bokehsynth/train/`: markers and indices of a split."""
        return self.hidden / split

    def tar(self, plan: ShardPlan) -> Path:
        """`train/train-000000.tar`."""
        return self.split(plan.split) / f"{plan.name}.tar"

    def marker(self, plan: ShardPlan) -> Path:
        """`.bokehsynth/train/train-000000.done.json`."""
        return self.split_markers(plan.split) / f"{plan.name}.done.json"

    def index(self, plan: ShardPlan) -> Path:
        """`.bokehsynth/train/train-000000.idx`, for DALI and for random access."""
        return self.split_markers(plan.split) / f"{plan.name}.idx"

    def given_up(self, plan: ShardPlan) -> Path:
        """`.bokehsynth/train/train-000000.quarantine.jsonl`: draws of its samples that were given up, if any."""
        return self.split_markers(plan.split) / f"{plan.name}.quarantine.jsonl"

    def trail(self, plan: ShardPlan) -> Path:
        """`.bokehsynth/tmp/train-000000.trail`: what its workers were about to do, until it is committed."""
        return self.staging / f"{plan.name}.trail"


@dataclass(frozen=True, kw_only=True)
class ShardMarker:
    """What is promised of one committed shard. It holds nothing that hangs on time, host or attempt."""

    format: int
    split: str
    shard: int
    first: int
    n: int
    """Samples in the shard."""
    first_key: str
    last_key: str
    bytes: int
    """Size of the tar."""
    sha256: str
    """Of the tar."""
    pixels_sha256: str
    """Over the lines of `codec.stored_digest` of its samples, one per line: free of any encoder."""
    members: list[str]
    """Members of every sample, in file order: `aif.png`, ..., `json`, ..."""
    identity: dict[str, str]
    """Digests of what the data set is made from: recipe, assets, lens, degradation."""

    @property
    def plan(self) -> ShardPlan:
        """The part of the split that this shard holds."""
        return ShardPlan(self.split, self.shard, self.first, self.n)

    def text(self) -> str:
        """The marker file: canonical, so that equal markers are equal files."""
        return pretty_json(asdict(self))


def parse_marker(text: str, where: Path) -> ShardMarker:
    """The marker behind a file's text; a DataError, naming `where`, unless it is exactly one."""
    try:
        values = json.loads(text)
        marker = ShardMarker(**values)
        for item in fields(ShardMarker):
            kind = {"members": list, "identity": dict}.get(item.name, item.type)
            if type(values[item.name]) is not kind:
                raise TypeError(f"{item.name} is {values[item.name]!r}")
        words = [*marker.members, *marker.identity.values()]
        whole = marker.text() == text and all(type(word) is str for word in words)
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: not a shard marker ({error}); {REMAKE}") from None
    if marker.format != FORMAT_VERSION:
        raise DataError(f"{where}: format {marker.format}; this bokehsynth reads format {FORMAT_VERSION}")
    keys = (sample_key(marker.split, marker.first), sample_key(marker.split, marker.first + marker.n - 1))
    if not whole or marker.n < 1 or (marker.first_key, marker.last_key) != keys:
        raise DataError(f"{where}: the marker was altered after it was written; {REMAKE}")
    return marker


def read_marker(layout: Layout, plan: ShardPlan) -> ShardMarker:
    """The marker of a shard; a DataError if there is none, or if it does not parse. Plan and tar are not compared."""
    path = layout.marker(plan)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no marker: the shard was never finished; {REMAKE}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    return parse_marker(text, path)


def check_shard(layout: Layout, plan: ShardPlan, identity: Mapping[str, str] | None = None) -> ShardMarker:
    """The marker of a shard that exists; otherwise a DataError that says which file is wrong and why.

    Compares the marker with the plan and, if given, the identity, and the sizes on disk; it does not read the tar.
    """
    marker, path = read_marker(layout, plan), layout.marker(plan)
    if marker.plan != plan:
        raise DataError(f"{path}: speaks of {marker.plan}, the data set has {plan} there; {REMAKE}")
    if identity is not None and marker.identity != dict(identity):
        names = [
            name for name in sorted({*marker.identity, *identity}) if marker.identity.get(name) != identity.get(name)
        ]
        raise DataError(f"{path}: made with another {', '.join(names)}; choose another --out, or delete this one")
    tar = layout.tar(plan)
    if not tar.is_file():
        raise DataError(f"{tar}: missing, though its marker is there; {REMAKE}")
    if (size := tar.stat().st_size) != marker.bytes:
        raise DataError(
            f"{tar}: holds {size} bytes where its marker says {marker.bytes}: truncated or altered; {REMAKE}"
        )
    if not layout.index(plan).is_file():
        raise DataError(f"{layout.index(plan)}: missing, though its marker is there; {REMAKE}")
    return marker


def find_shard(layout: Layout, plan: ShardPlan, identity: Mapping[str, str] | None = None) -> ShardMarker | None:
    """The marker of a shard that exists, or None if it has to be made: `check_shard` as a question."""
    try:
        return check_shard(layout, plan, identity)
    except DataError:
        return None


def common_identity(layout: Layout) -> dict[str, str] | None:
    """The identity in which all readable markers agree; None where they do not, or there is none."""
    found: dict[str, str] | None = None
    for path in sorted(layout.hidden.glob("*/*.done.json")):
        try:
            identity = parse_marker(path.read_text(encoding="utf-8"), path).identity
        except (DataError, OSError, ValueError):
            continue
        if found is not None and identity != found:
            return None
        found = identity
    return found


def chain_of(plans: Sequence[ShardPlan]) -> list[ShardPlan]:
    """The same shards if they follow each other from 0 without a gap; otherwise none."""
    first = 0
    for shard, plan in enumerate(plans):
        if plan.shard != shard or plan.first != first:
            return []
        first += plan.count
    return list(plans)


def committed_plans(layout: Layout, split: str) -> list[ShardPlan]:
    """What the readable markers of a split say they hold, by shard number; tars are not looked at."""
    plans = []
    for path in sorted(layout.split_markers(split).glob("*.done.json")):
        try:
            plans.append(parse_marker(path.read_text(encoding="utf-8"), path).plan)
        except (DataError, OSError, ValueError):
            continue
    return sorted(plans)


def sweep_temporaries(layout: Layout, plans: Iterable[ShardPlan] | None = None) -> list[Path]:
    """Delete what dead writers left behind, and say what it was.

    Call it under the run's lock: with `plans`, only leftovers of those shards go, since other shard ranges may be in
    other living hands; without, every temporary file of the data set.
    """
    folders = [layout.root, layout.staging, layout.hidden]
    folders += [path for base in (layout.root, layout.hidden) for path in (base / "train", base / "val")]
    names = None if plans is None else tuple(f"{plan.name}." for plan in plans)
    removed = []
    for folder in folders:
        for path in sorted(folder.glob(f"*{TMP_MARK}*")) if folder.is_dir() else []:
            if names is None or path.name.lstrip(".").startswith(names):
                with storage_errors(path):
                    path.unlink(missing_ok=True)
                removed.append(path)
    return removed
