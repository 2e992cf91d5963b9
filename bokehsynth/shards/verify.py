"""Doubting a data set: every promise of a marker and of `dataset.json` is held against the bytes; nothing is deleted.

Kinds of faults:

    unfinished  no dataset.json, or committed shards that it does not count
    dataset     dataset.json does not parse or disagrees with the markers
    marker      a marker is missing, does not parse, was altered, or speaks of another shard or identity
    missing     a marker without its tar
    size        the tar has another length than its marker says
    tar         truncated, or no whole archive of ours: cut payload, damaged header, no end blocks
    sha256      the bytes are not those that were committed
    key         a sample that belongs elsewhere: swapped or renamed shards, wrong order
    members     a sample with other members than the marker names
    count       another number of samples than planned
    sample      a sample that cannot be decoded or contradicts its metadata
    pixels      decoded arrays and metadata are not those that were committed
    index       the .idx does not describe the tar
    duplicate   two shards with the same content
    stray       something in a split's folder that is not a shard of the data set
"""

import hashlib
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from bokehsynth.errors import DataError, UsageError
from bokehsynth.rng import SPLITS
from bokehsynth.schema import FIELDS, META_TYPES
from bokehsynth.shards.codec import decode_stored, stored_digest
from bokehsynth.shards.dataset import markers_digest, read_dataset, stored_plans
from bokehsynth.shards.marker import (
    Layout,
    ShardMarker,
    ShardPlan,
    chain_of,
    committed_plans,
    common_identity,
    read_marker,
)
from bokehsynth.shards.tar import TarEntry, index_text, iter_tar, split_name


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong; `shard` is None where it concerns the data set."""

    split: str
    shard: int | None
    kind: str
    message: str


@dataclass
class VerifyReport:
    """What `verify_dataset` looked at and what it found."""

    root: Path
    faults: list[Fault] = field(default_factory=list)
    shards: int = 0
    samples: int = 0
    """Samples seen in tars."""
    decoded: int = 0
    """Samples whose arrays were decoded."""
    bytes: int = 0
    attempts: dict[tuple[str, int], dict[int, int]] = field(default_factory=dict)
    """Per shard, the samples (by index) that were drawn more than once, with the attempt in their record."""

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""
        return not self.faults

    def broken(self) -> list[tuple[str, int]]:
        """(split, shard) of every shard with a fault: what has to be made anew."""
        return sorted({(fault.split, fault.shard) for fault in self.faults if fault.shard is not None})


@dataclass
class ShardCheck:
    """The result for one shard."""

    plan: ShardPlan
    marker: ShardMarker | None = None
    faults: list[Fault] = field(default_factory=list)
    samples: int = 0
    decoded: int = 0
    bytes: int = 0
    sha256: str = ""
    attempts: dict[int, int] = field(default_factory=dict)
    contradicted: str = ""
    """Where `dataset.json` says otherwise than a sample: the shard is not to blame for that."""

    def fault(self, kind: str, message: str) -> None:
        """Note a fault; of each kind the first one of a shard speaks for all."""
        if all(known.kind != kind for known in self.faults):
            self.faults.append(Fault(self.plan.split, self.plan.shard, kind, message))


def verify_dataset(
    path: str | os.PathLike[str],
    decode: float = 1.0,
    workers: int = 1,
    progress: Callable[[ShardCheck], None] | None = None,
) -> VerifyReport:
    """Check a data set, finished or not, on `workers` threads; `progress` is called after each shard.

    Every byte is hashed. `decode` is the share of samples that are also decoded, spread evenly over each shard; the
    pixel digests can only be checked at 1. Raises only DataError, if there is no such directory, and UsageError, if
    `decode` is no share.
    """
    if not 0 <= decode <= 1:
        raise UsageError(f"decode is a share of the samples, 0 to 1, got {decode}")
    layout = Layout(Path(path))
    if not layout.root.is_dir():
        raise DataError(f"{layout.root}: no such data set directory")
    report = VerifyReport(layout.root)
    record = _record(layout, report)
    if record is not None:
        record = _as_marked(layout, record, report)
    plans = {split: _plans(layout, record, split, report) for split in _splits(layout, record)}
    everything = [plan for shards in plans.values() for plan in shards]
    checks: list[ShardCheck] = []
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        for check in pool.map(partial(verify_shard, layout, record=record, decode=decode), everything):
            checks.append(check)
            report.faults += check.faults
            report.shards += 1
            report.samples += check.samples
            report.decoded += check.decoded
            report.attempts[check.plan.split, check.plan.shard] = check.attempts
            report.bytes += check.bytes
            if progress is not None:
                progress(check)
    _check_duplicates(checks, report)
    contradicted = [check for check in checks if check.contradicted]
    if contradicted:
        report.faults.append(Fault("", None, "dataset", f"{layout.dataset}: {contradicted[0].contradicted}"))
    if record is not None:
        _check_totals(layout, record, checks, report)
    for split, shards in plans.items():
        _check_strays(layout, split, shards, report)
    return report


def verify_shard(
    layout: Layout, plan: ShardPlan, record: Mapping[str, Any] | None = None, decode: float = 1.0
) -> ShardCheck:
    """Check one shard against its marker, the plan and, if given, the content of `dataset.json`."""
    check = ShardCheck(plan)
    try:
        check.marker = read_marker(layout, plan)
        if check.marker.plan != plan:
            check.fault("marker", f"{layout.marker(plan)}: speaks of {check.marker.plan}, there belongs {plan}")
        elif record is not None and check.marker.identity != record.get("identity"):
            check.fault("marker", f"{layout.marker(plan)}: its identity is not that of dataset.json")
    except DataError as error:
        check.fault("marker", str(error))
    tar = layout.tar(plan)
    try:
        with open(tar, "rb") as file:
            entries = _check_tar(check, file, str(tar), record, decode)
    except FileNotFoundError:
        check.fault("missing", f"{tar}: there is no such shard")
        return check
    except OSError as error:
        check.fault("tar", f"{tar}: cannot be read ({error})")
        return check
    _check_index(layout, check, entries)
    return check


class _HashingStream:
    """A file that hashes what is read from it, so that a shard is read once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        self.size += len(data)
        return data

    def drain(self) -> None:
        while self.read(1 << 20):
            pass


def _check_tar(
    check: ShardCheck, file: BinaryIO, where: str, record: Mapping[str, Any] | None, decode: float
) -> list[TarEntry]:
    """Walk one archive; returns its members as far as it is whole."""
    stream, entries, pixels = _HashingStream(file), [], hashlib.sha256()
    keys = iter(check.plan.keys)
    stride = 1 / decode if decode > 0 else float("inf")
    due = 0.0 if decode > 0 else stride
    try:
        for key, members, found in _samples(iter_tar(stream, where)):
            entries += found
            wanted = next(keys, None)
            if key != wanted:
                check.fault("key", f"{where}: holds {key} where {wanted or 'the end'} belongs: swapped or out of order")
            if check.marker is not None and [split_name(entry.name)[1] for entry in found] != check.marker.members:
                check.fault("members", f"{where}: {key} holds {', '.join(members)}, its marker names others")
            if check.samples >= due:
                due += stride
                pixels.update(f"{_check_sample(check, key, members, where, record)}\n".encode())
            check.samples += 1
    except DataError as error:
        check.fault("tar", str(error))
    stream.drain()
    check.bytes, check.sha256 = stream.size, stream.digest.hexdigest()
    if check.samples != check.plan.count:
        check.fault("count", f"{where}: holds {check.samples} whole samples where {check.plan.count} belong")
    if check.marker is not None:
        if check.bytes != check.marker.bytes:
            check.fault("size", f"{where}: holds {check.bytes} bytes, its marker says {check.marker.bytes}")
        if check.sha256 != check.marker.sha256:
            check.fault("sha256", f"{where}: its sha256 is {check.sha256}, its marker says {check.marker.sha256}")
        if check.decoded == check.plan.count and pixels.hexdigest() != check.marker.pixels_sha256:
            check.fault("pixels", f"{where}: pixels or metadata are not those of its marker")
    return entries


def _samples(members: Iterable[tuple[TarEntry, bytes]]) -> Iterator[tuple[str, dict[str, bytes], list[TarEntry]]]:
    """Members grouped by key, as every reader groups them: by change of key."""
    key = ""
    payloads: dict[str, bytes] = {}
    entries: list[TarEntry] = []
    for entry, payload in members:
        found, member = split_name(entry.name)
        if entries and found != key:
            yield key, payloads, entries
            payloads, entries = {}, []
        key = found
        payloads[member] = payload
        entries.append(entry)
    if entries:
        yield key, payloads, entries


def _check_sample(
    check: ShardCheck, key: str, members: Mapping[str, bytes], where: str, record: Mapping[str, Any] | None
) -> str:
    """The digest of one sample, noting what is wrong with it; empty if it cannot be decoded."""
    check.decoded += 1
    try:
        meta, stored = decode_stored(key, members)
    except DataError as error:
        check.fault("sample", f"{where}: {error}")
        return ""
    if meta["attempt"]:
        check.attempts[meta["index"]] = meta["attempt"]
    identity = check.marker.identity if check.marker is not None else {}
    for name in sorted(META_TYPES.keys() & identity.keys()):
        if meta[name] != identity[name]:
            check.fault("sample", f"{where}: {key}: {name} is {meta[name]}, the marker says {identity[name]}")
    table = record.get("fields", {}) if record is not None else {}
    for name in stored:
        scale_key = FIELDS[name].scale_key
        if scale_key and name in table and meta[scale_key] != table[name].get("scale"):
            check.contradicted = f"the scale of {name} is not that of {key}, {meta[scale_key]}"
    return stored_digest(stored, meta)


def _check_index(layout: Layout, check: ShardCheck, entries: list[TarEntry]) -> None:
    path = layout.index(check.plan)
    try:
        same = path.read_bytes() == index_text(entries).encode()
    except OSError as error:
        check.fault("index", f"{path}: cannot be read ({error})")
        return
    if not same:
        check.fault("index", f"{path}: does not describe the tar beside it")


def _record(layout: Layout, report: VerifyReport) -> dict[str, Any] | None:
    try:
        return read_dataset(layout)
    except DataError as error:
        report.faults.append(Fault("", None, "dataset" if layout.dataset.exists() else "unfinished", str(error)))
        return None


def _as_marked(layout: Layout, record: dict[str, Any], report: VerifyReport) -> dict[str, Any]:
    """The content of `dataset.json`, corrected where the markers agree with each other and not with it.

    It follows from the markers. One edit in it must not make all shards suspects.
    """
    identity = common_identity(layout)
    if identity is not None and identity != record["identity"]:
        report.faults.append(Fault("", None, "dataset", f"{layout.dataset}: identity is not that of the markers"))
        record = record | {"identity": identity}
    splits = dict(record["splits"])
    for split, said in splits.items():
        counts = [plan.count for plan in chain_of(committed_plans(layout, split))]
        listed = said.get("counts")
        if not isinstance(listed, list) or any(map(operator.ne, counts, listed)):  # either may go further
            message = f"{layout.dataset}: counts of split {split} are not those of the markers"
            report.faults.append(Fault(split, None, "dataset", message))
            splits[split] = said | ({"counts": counts} if counts else {})
    return record | {"splits": splits}


def _splits(layout: Layout, record: Mapping[str, Any] | None) -> list[str]:
    there = [split for split in SPLITS if layout.split(split).is_dir() or layout.split_markers(split).is_dir()]
    return sorted({*there, *(record["splits"] if record is not None else ())})


def _plans(layout: Layout, record: Mapping[str, Any] | None, split: str, report: VerifyReport) -> list[ShardPlan]:
    """The shards of a split: what `dataset.json` counts, and what else has a marker."""
    committed = committed_plans(layout, split)
    if record is None:
        _check_gaps(split, committed, report)
        return committed
    try:
        planned = stored_plans(record, split) if split in record["splits"] else []
    except DataError as error:
        report.faults.append(Fault(split, None, "dataset", str(error)))
        return committed
    extra = [plan for plan in committed if plan.shard >= len(planned)]
    if extra:
        message = f"{extra[0].name} and {len(extra) - 1} more are committed, but dataset.json does not count them"
        report.faults.append(Fault(split, None, "unfinished", f"{message}: run the same line again, or `finalize`"))
    return planned + extra


def _check_gaps(split: str, committed: list[ShardPlan], report: VerifyReport) -> None:
    """Without `dataset.json` the markers themselves must follow each other, as far as they go."""
    for before, after in pairwise(committed):
        if after.shard == before.shard + 1 and after.first != before.first + before.count:
            message = f"{after.name} starts at {after.first}, {before.name} ends before {before.first + before.count}"
            report.faults.append(Fault(split, after.shard, "marker", message))


def _check_duplicates(checks: list[ShardCheck], report: VerifyReport) -> None:
    seen: dict[str, ShardPlan] = {}
    for check in checks:
        if check.sha256 and check.sha256 in seen:
            message = f"{check.plan.name} has the very bytes of {seen[check.sha256].name}"
            report.faults.append(Fault(check.plan.split, check.plan.shard, "duplicate", message))
        seen.setdefault(check.sha256, check.plan)


def _check_totals(layout: Layout, record: Mapping[str, Any], checks: list[ShardCheck], report: VerifyReport) -> None:
    """What `dataset.json` says of each split against the markers."""
    for split, said in record["splits"].items():
        count = len(said["counts"]) if isinstance(said.get("counts"), list) else 0
        markers = [check.marker for check in checks if check.plan.split == split and check.plan.shard < count]
        whole = [marker for marker in markers if marker is not None]
        if len(whole) != len(markers):
            continue  # said already: a marker is missing
        true = {
            "samples": sum(marker.n for marker in whole),
            "shards": len(whole),
            "bytes": sum(marker.bytes for marker in whole),
            "markers_sha256": markers_digest(whole),
        }
        wrong = [name for name, value in true.items() if said.get(name) != value]
        if wrong:
            message = f"{layout.dataset}: {', '.join(wrong)} of split {split} are not those of the markers"
            report.faults.append(Fault(split, None, "dataset", message))


def _check_strays(layout: Layout, split: str, plans: list[ShardPlan], report: VerifyReport) -> None:
    tars = {layout.tar(plan).name for plan in plans}
    folder = layout.split(split)
    for name in sorted(os.listdir(folder)) if folder.is_dir() else []:
        if name not in tars:
            message = f"{folder / name}: no shard of this data set, but readers may take it for one"
            report.faults.append(Fault(split, None, "stray", message))
    vouched = {layout.marker(plan).name for plan in plans}
    for path in sorted(layout.split_markers(split).glob("*.done.json")):
        if path.name not in vouched:
            report.faults.append(Fault(split, None, "marker", f"{path}: no marker of a shard of this data set"))
