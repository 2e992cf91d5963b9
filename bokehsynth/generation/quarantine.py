"""Lists of the draws of samples that are in quarantine: they cannot be made, or their pictures are no use.

The list is part of the data set: sample i is drawn with the first attempt that is not on it, so that the same recipe
and the same list give the same bytes on any run. Each shard keeps its own part beside its marker, written before the
marker; `quarantine.jsonl` is all of them in order, after the assets that could not be used.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bokehsynth.errors import ChangedError, DataError, UsageError
from bokehsynth.files import atomic_write, canonical_json, files_in, make_directory, storage_errors
from bokehsynth.rng import SPLITS
from bokehsynth.schema import MAX_SAMPLES, sample_key
from bokehsynth.shards import Layout, ShardPlan
from bokehsynth.stores import ObjectPath, StoredPath
from bokehsynth.untrusted_files import parse_json, read_lines

MAX_DRAWS = 1000
"""Draws of one sample that a list may name; far fewer fail a shard."""


@dataclass(frozen=True, order=True)
class QuarantinedDraw:
    """One draw of one sample that is not used."""

    split: str
    index: int
    attempt: int
    """0 is the first draw; the sample is drawn again with the next one."""
    reason: str
    """`killed` or `hung`: its worker, also in isolation; another machine may not find these, and has to be handed the
    list (`generate --quarantine`). `black`, `not_finite`, `not_degraded`, `out_of_range`: no use. `raised`: an
    exception."""
    message: str

    def line(self) -> str:
        """The draw as a line of the list."""
        return canonical_json({"kind": "sample", "key": sample_key(self.split, self.index)} | asdict(self)) + "\n"


def read_shard_list(layout: Layout, plan: ShardPlan) -> list[QuarantinedDraw]:
    """The draws of a shard that are in quarantine so far, in order."""
    path = layout.shard_quarantine(plan)
    return read_list(path) if (path.is_file() if layout.remote else path.exists()) else []


def write_shard_list(layout: Layout, plan: ShardPlan, entries: Iterable[QuarantinedDraw]) -> None:
    """Replace the list of a shard; no entries, no file. In a bucket they are added to what other machines put there."""
    path = layout.shard_quarantine(plan)
    if isinstance(path, ObjectPath):
        if added := set(entries):
            path.change(lambda old: _with_entries(path, old, added))
        return
    make_directory(path.parent)
    write_lines(path, "".join(entry.line() for entry in sorted(set(entries))))


def _with_entries(path: ObjectPath, old: bytes | None, added: set[QuarantinedDraw]) -> bytes:
    there = _parsed(path, old.decode().splitlines()) if old else []
    return "".join(entry.line() for entry in sorted({*there, *added})).encode()


def write_lines(path: StoredPath, text: str) -> None:
    """Write a list; without any line there is no file."""
    if text:
        atomic_write(path, text)
    else:
        with storage_errors(path):
            path.unlink(missing_ok=True)


def read_list(path: StoredPath) -> list[QuarantinedDraw]:
    """Read the draws in a list, sorted; lines of another kind (assets) are skipped. UsageError if it is no list."""
    try:
        lines = read_lines(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except DataError as error:
        raise UsageError(str(error)) from None
    return _parsed(path, lines)


def _parsed(path: StoredPath, lines: Iterable[str]) -> list[QuarantinedDraw]:
    try:
        entries = [entry for line in lines for entry in _entries_of(parse_json(line, "a line"))]
    except DataError as error:
        raise UsageError(f"{path}: is not a quarantine list ({error})") from None
    except (TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{path}: is not a quarantine list ({type(error).__name__}: {error})") from None
    return sorted(entries)


def _entries_of(record: Any) -> list[QuarantinedDraw]:
    """The draw in a line of a list; none in one about an asset. TypeError, KeyError or AttributeError if it is none."""
    if record["kind"] != "sample":
        return []
    entry = QuarantinedDraw(**{key: value for key, value in record.items() if key not in {"kind", "key"}})
    if any(type(number) is not int for number in (entry.index, entry.attempt)):
        raise TypeError("index and attempt must be whole numbers")
    if not 0 <= entry.index < MAX_SAMPLES or not 0 <= entry.attempt < MAX_DRAWS:
        raise TypeError(f"sample {entry.index!r:.12} has no draw {entry.attempt!r:.12}")
    if any(type(word) is not str for word in (entry.split, entry.reason, entry.message)):
        raise TypeError("split, reason and message must be text")
    if entry.split not in SPLITS:
        raise TypeError(f"its split must be train or val, got {entry.split!r:.20}")
    return [entry]


def first_attempt(entries: Iterable[QuarantinedDraw], index: int) -> int:
    """The number of the first attempt at a sample that is not on the list."""
    taken = {entry.attempt for entry in entries if entry.index == index}
    return next(attempt for attempt in range(len(taken) + 1) if attempt not in taken)


def import_list(layout: Layout, path: Path, plans: Sequence[ShardPlan], committed: set[ShardPlan]) -> None:
    """Take over the list of another run for the shards that are still to be made.

    Raises ChangedError if a shard is committed already without a draw that the list has in quarantine.
    """
    entries = read_list(path)
    for plan in plans:
        imported = [e for e in entries if e.split == plan.split and plan.first <= e.index < plan.first + plan.count]
        existing = read_shard_list(layout, plan)
        if plan in committed:
            if not set(imported) <= set(existing):
                raise ChangedError(
                    f"{layout.root}: {plan.name} was made without the quarantine of {path}; choose another --out"
                )
        elif imported:
            write_shard_list(layout, plan, [*existing, *imported])


def merged_list(layout: Layout, plans: Iterable[ShardPlan]) -> list[QuarantinedDraw]:
    """The quarantined draws of all these shards."""
    folders = [layout.split_markers(split) for split in SPLITS]  # most have no list, and asking for each takes time
    there = {path.name for folder in folders for path in files_in(folder, "*.quarantine.jsonl")}
    plans = [plan for plan in plans if layout.shard_quarantine(plan).name in there]
    return sorted(entry for plan in plans for entry in read_shard_list(layout, plan))


def stable_message(error: BaseException) -> str:
    """An error in one line that is the same on every run: no addresses of objects."""
    first = (str(error).splitlines() or [""])[0]
    return re.sub(r"0x[0-9a-fA-F]+", "0x...", f"{type(error).__name__}: {first}")[:500]
