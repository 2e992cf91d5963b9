"""Verifies a data set: every promise of a marker and of `dataset.json` is compared with the bytes; nothing is deleted.

`verify_shard` checks one shard and lists the kinds of faults; here the shards are compared with each other and with
`dataset.json`.
"""

import contextlib
import operator
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

from bokehsynth.errors import DataError, NoDatasetError, UsageError
from bokehsynth.files import data_path, files_in, sha256_bytes
from bokehsynth.rng import SPLITS
from bokehsynth.shards.dataset import read_dataset, refuse_no_folder, split_record, stored_plans
from bokehsynth.shards.layout import Layout
from bokehsynth.shards.marker import ShardMarker, committed_plans, common_identity, each, read_marker
from bokehsynth.shards.plan import ShardPlan, contiguous, shard_range
from bokehsynth.shards.verify_shard import Fault, ShardCheck, verify_shard
from bokehsynth.stores import ObjectPath, StoredPath

ABSENT_SHOWN = 100
"""Shards of which nothing is there that are named one by one."""


@dataclass
class VerifyReport:
    """What `verify_dataset` read and what it found."""

    root: StoredPath
    faults: list[Fault] = field(default_factory=list)
    shards: int = 0
    samples: int = 0
    """Samples seen in tars."""
    decoded: int = 0
    """Samples whose arrays were decoded."""
    bytes: int = 0
    attempts: dict[tuple[str, int], dict[int, int]] = field(default_factory=dict)
    """Per shard, the samples (by index) that were drawn more than once, with the attempt in their record."""

    lost_markers: list[ShardMarker] = field(default_factory=list)
    """Markers that are not there, or damaged, and follow from their tars: with them `dataset.json` has the digest of
    its markers again."""
    lost_indices: list[ShardPlan] = field(default_factory=list)
    """Shards of which nothing is wrong but the index, which follows from the tar."""
    mended: bool = False
    """Whether all that was found has been mended, and nothing is left to be made anew."""
    not_compared: list[str] = field(default_factory=list)
    """Classes that the recipe names and whose code was not compared, since it is not trusted."""

    def fault(self, kind: str, message: str, split: str = "", shard: int | None = None) -> None:
        """Add a fault of a shard, a split or the data set."""
        self.faults.append(Fault(split, shard, kind, message))

    @property
    def ok(self) -> bool:
        """True if there is no fault."""
        return not self.faults

    def broken(self) -> list[tuple[str, int]]:
        """(split, shard) of every shard with a fault: these have to be remade."""
        return sorted({(fault.split, fault.shard) for fault in self.faults if fault.shard is not None})


def verify_dataset(
    path: str | os.PathLike[str] | ObjectPath, decode: float = 1.0, workers: int = 1, shards: str = "0/1"
) -> VerifyReport:
    """Check a data set, finished or not, on `workers` threads.

    Every byte is hashed. `decode` is the share of samples that are also decoded, spread evenly over each shard; the
    pixel digests can only be checked at 1. `shards`: `I/N`, read the tars of the I-th of N ranges of the shards alone
    (zero-based), of the others the markers: what N such calls find together is what one over everything finds. Raises
    only NoDatasetError, if there is no data set, and UsageError, if `decode` is no share or `shards` no range.
    """
    if not 0 <= decode <= 1:
        raise UsageError(f"decode is a share of the samples, 0 to 1, got {decode}")
    layout = Layout(data_path(path))
    refuse_no_folder(layout)
    report = VerifyReport(layout.root)
    record = None
    try:
        record = _as_marked(layout, read_dataset(layout), report)
    except NoDatasetError:
        if not _has_shards(layout):
            raise
        report.fault("unfinished", f"{layout.root}: has neither dataset.json nor {layout.hidden.name}, only tars")
    except DataError as error:
        report.fault("dataset" if layout.dataset.exists() else "unfinished", str(error))
    plans = {split: _plans(layout, record, split, report) for split in SPLITS}
    everything = [plan for split, planned in plans.items() for plan in _looked_at(layout, split, planned, report)]
    mine = shard_range(everything, shards)
    checks: list[ShardCheck] = []
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        for check in pool.map(partial(verify_shard, layout, record=record, decode=decode), mine):
            checks.append(check)
            report.faults += check.faults
            report.shards += 1
            report.samples += check.samples
            report.decoded += check.decoded
            report.attempts[check.plan.split, check.plan.shard] = check.attempts
            report.bytes += check.bytes
    others = _only_marked(layout, everything, mine)
    _check_duplicates([*others, *checks], report)
    _check_keys(checks, report)
    if contradicted := [check.contradicted for check in checks if check.contradicted]:
        report.fault("dataset", f"{layout.dataset}: {contradicted[0]}")
    if record is not None:
        _check_totals(layout, record, sorted([*checks, *others], key=lambda check: check.plan), report)
        if not others:
            _find_lost(layout, record, checks, report)
    for split, planned in plans.items():
        _check_strays(layout, split, planned, report)
    return report


def _has_shards(layout: Layout) -> bool:
    """Whether there is a tar where shards lie, of a set that lost everything else."""
    return any(files_in(layout.split(split), f"{split}-*.tar") for split in SPLITS)


def _only_marked(layout: Layout, everything: list[ShardPlan], mine: list[ShardPlan]) -> list[ShardCheck]:
    """The shards of other ranges with what their markers say: whether that is so is found where they are read."""
    left = sorted({*everything} - {*mine})
    return list(each(layout, partial(_marked, layout), left))


def _marked(layout: Layout, plan: ShardPlan) -> ShardCheck:
    check = ShardCheck(plan)
    with contextlib.suppress(DataError):  # a fault of its own range
        check.marker = read_marker(layout, plan)
        check.sha256 = check.marker.sha256
    return check


def _as_marked(layout: Layout, record: dict[str, Any], report: VerifyReport) -> dict[str, Any]:
    """The content of `dataset.json`, corrected where the markers agree with each other and not with it.

    It follows from the markers. One edit in it must not make all shards faulty.
    """
    identity = common_identity(layout)
    if identity is not None and identity != record["identity"]:
        report.fault("dataset", f"{layout.dataset}: identity is not that of the markers")
        record = record | {"identity": identity}
    splits = dict(record["splits"])
    for split, recorded in splits.items():
        counts = [plan.count for plan in contiguous(committed_plans(layout, split))]
        listed = recorded.get("counts")
        if not isinstance(listed, list) or any(map(operator.ne, counts, listed)):  # either may go further
            report.fault("dataset", f"{layout.dataset}: counts of split {split} are not those of the markers", split)
            splits[split] = recorded | ({"counts": counts} if counts else {})
    return record | {"splits": splits}


def _plans(layout: Layout, record: Mapping[str, Any] | None, split: str, report: VerifyReport) -> list[ShardPlan]:
    """The shards of a split: those that `dataset.json` counts, and any others that have a marker."""
    committed = committed_plans(layout, split)
    if record is None:
        for before, after in pairwise(committed):  # the markers must follow each other as far as they go
            end = before.first + before.count
            if after.shard == before.shard + 1 and after.first != end:
                message = f"{after.name} starts at {after.first}, {before.name} ends before {end}"
                report.fault("marker", message, split, after.shard)
        return committed
    try:
        planned = stored_plans(record, split) if split in record["splits"] else []
    except DataError as error:
        report.fault("dataset", str(error), split)
        return committed
    extra = [plan for plan in committed if plan.shard >= len(planned)]
    if extra:
        message = f"{extra[0].name} and {len(extra) - 1} more are committed, but dataset.json does not count them"
        report.fault("unfinished", f"{message}: run the same line again, or `finalize`", split)
    return planned + extra


def _looked_at(layout: Layout, split: str, plans: list[ShardPlan], report: VerifyReport) -> list[ShardPlan]:
    """The shards to be checked one by one: all of which anything is there, and the first of those that are not.

    `dataset.json` may count millions of shards that never were.
    """
    folders = (layout.split(split), layout.split_markers(split))
    there = {name.partition(".")[0] for folder in folders for name in _names(folder)}
    looked_at, absent, last = [], 0, ""
    for plan in plans:
        if plan.name not in there:
            absent, last = absent + 1, plan.name
            if absent > ABSENT_SHOWN:
                continue
        looked_at.append(plan)
    if absent > ABSENT_SHOWN:
        more = f"{absent - ABSENT_SHOWN:,} more shards"
        report.fault("missing", f"{layout.split(split)}: {more} are counted and not there, the last {last}", split)
    return looked_at


def _check_duplicates(checks: list[ShardCheck], report: VerifyReport) -> None:
    seen: dict[str, ShardPlan] = {}
    for check in checks:
        if check.sha256 and check.sha256 in seen:
            message = f"{check.plan.name} has the very bytes of {seen[check.sha256].name}"
            report.fault("duplicate", message, check.plan.split, check.plan.shard)
        seen.setdefault(check.sha256, check.plan)


def _check_keys(checks: list[ShardCheck], report: VerifyReport) -> None:
    """Table readers need one set of keys in all records."""
    decoded = [check for check in checks if check.keys]
    for check in decoded:
        if check.keys != decoded[0].keys:
            message = f"{check.plan.name}: its records have other keys than those of {decoded[0].plan.name}"
            report.fault("sample", message, check.plan.split, check.plan.shard)


def _check_totals(layout: Layout, record: Mapping[str, Any], checks: list[ShardCheck], report: VerifyReport) -> None:
    """Compare the totals of each split in `dataset.json` with the markers."""
    for split, recorded in record["splits"].items():
        count = len(recorded["counts"]) if isinstance(recorded.get("counts"), list) else 0
        markers = [check.marker for check in checks if check.plan.split == split and check.plan.shard < count]
        whole = [marker for marker in markers if marker is not None]
        if not whole or len(whole) != len(markers):
            continue  # a marker is missing, or there is no count: a fault already
        wrong = [name for name, value in split_record(whole).items() if recorded.get(name) != value]
        if wrong:
            message = f"{layout.dataset}: {', '.join(wrong)} of split {split} are not those of the markers"
            report.fault("dataset", message, split)


def _find_lost(layout: Layout, record: Mapping[str, Any], checks: list[ShardCheck], report: VerifyReport) -> None:
    """Find markers and indices that follow from their tars; those of a split only if `dataset.json` confirms them."""
    report.lost_indices = [
        check.plan for check in checks if check.marker is not None and [f.kind for f in check.faults] == ["index"]
    ]
    for split, recorded in record["splits"].items():
        mine = [check for check in checks if check.plan.split == split]
        lost = [check.follows for check in mine if check.follows is not None]
        markers = [check.marker or check.follows for check in mine]
        texts = [marker.text() for marker in markers if marker is not None]
        if not lost:
            continue
        if len(texts) == len(markers) and sha256_bytes("".join(texts)) == recorded.get("markers_sha256"):
            report.lost_markers += lost
        else:
            message = (
                f"{len(lost)} of its markers are lost, and the tars do not give those that {layout.dataset} has the "
                "digest of: a tar was altered, or another marker is lost with its tar"
            )
            report.fault("dataset", message, split)


def _names(folder: StoredPath) -> list[str]:
    """What lies in a folder, sorted; nothing where it is not there."""
    return sorted(path.name for path in folder.iterdir()) if isinstance(folder, ObjectPath) or folder.is_dir() else []


def _check_strays(layout: Layout, split: str, plans: list[ShardPlan], report: VerifyReport) -> None:
    tars = {layout.tar(plan).name for plan in plans}
    folder = layout.split(split)
    for name in _names(folder):
        if name not in tars:
            report.fault("stray", f"{folder / name}: no shard of this data set, but readers may take it for one", split)
    expected = {layout.marker(plan).name for plan in plans}
    for path in files_in(layout.split_markers(split), "*.done.json"):
        if path.name not in expected:
            report.fault("marker", f"{path}: no marker of a shard of this data set", split)
