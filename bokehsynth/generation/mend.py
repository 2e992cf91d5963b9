"""What `verify --fix` changes: it writes anew what follows from the tars, and lets `generate` remake the rest.

Hold the locks of the shards and of the files beside them.
"""

import contextlib
import os
import re
from collections.abc import Collection, Sequence

from bokehsynth.errors import LockedError, UsageError
from bokehsynth.files import files_in, storage_errors
from bokehsynth.generation.dataset_files import restore_records
from bokehsynth.generation.plan import restore_extensions
from bokehsynth.generation.quarantine import read_list, write_shard_list
from bokehsynth.recipe import Recipe
from bokehsynth.rng import SPLITS
from bokehsynth.shards import Layout, ShardPlan, VerifyReport, committed_plans, restore_shard
from bokehsynth.stores import ObjectPath

Stamps = dict[str, tuple[int, int, int] | str]
"""Inode, size and time of the files that decide what is deleted, by path; of an object its version."""


def take_stamps(layout: Layout) -> Stamps:
    """What the markers and records of a set are now, to be compared later (`refuse_changed`)."""
    paths = [layout.dataset, layout.recipe, layout.identity, layout.machines, layout.extensions]
    paths += [path for split in SPLITS for path in files_in(layout.split_markers(split), "*.done.json")]
    stamps: Stamps = {}
    for path in paths:
        with contextlib.suppress(OSError):
            if isinstance(path, ObjectPath):
                stamps[str(path)] = path.held().version
                continue
            status = os.stat(path)
            stamps[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return stamps


def refuse_changed(layout: Layout, before: Stamps) -> None:
    """LockedError if a run has changed markers or records since `take_stamps`: what was found may no longer be so."""
    now = take_stamps(layout)
    changed = sorted(path for path in {*before, *now} if before.get(path) != now.get(path))
    if changed:
        raise LockedError(
            f"{layout.root}: {changed[0]} was written while the set was verified, so a run is working on it; nothing "
            "was changed: wait for its end, and verify again"
        )


def restore_lost(layout: Layout, report: VerifyReport, recipe: Recipe | None) -> list[ShardPlan]:
    """Write anew the markers, indices and records that follow from the tars and `dataset.json`; the shards mended.

    `recipe` is the recorded one; without it the record of extensions cannot be restored.
    """
    quarantined = []
    with contextlib.suppress(UsageError):  # no list, or none that can be read
        quarantined = read_list(layout.quarantine)
    for plan in report.lost_indices:
        restore_shard(layout, plan, None)
    for marker in report.lost_markers:
        entries = [entry for entry in quarantined if _is_of(marker.plan, entry.split, entry.index)]
        if entries and not layout.shard_quarantine(marker.plan).exists():
            write_shard_list(layout, marker.plan, entries)
        restore_shard(layout, marker.plan, marker)
    if recipe is not None:
        restore_extensions(layout, recipe)
    restore_records(layout)
    return [*report.lost_indices, *(marker.plan for marker in report.lost_markers)]


def names_of_whole(report: VerifyReport) -> set[str]:
    """Names of the shards whose tars have no fault, and whose marker or index has: `train-000000`."""
    kinds: dict[str, set[str]] = {}
    for fault in report.faults:
        if fault.shard is not None:
            kinds.setdefault(ShardPlan(fault.split, fault.shard, 0, 1).name, set()).add(fault.kind)
    return {name for name, found in kinds.items() if found <= {"marker", "index"}}


def delete_markers(layout: Layout, plans: Sequence[ShardPlan], whole: Collection[str]) -> None:
    """Delete the markers of damaged shards, so that the next `generate` remakes just those.

    In a bucket tars and indices are never put over others, so those of the shards are deleted after the markers; the
    tars that `whole` names stay, since a run that makes the same bytes takes them as they are.
    """
    for plan in plans:
        others = [layout.index(plan)] if layout.remote else []
        others += [layout.tar(plan)] if layout.remote and plan.name not in whole else []
        for path in [layout.marker(plan), *others]:
            with storage_errors(path):
                path.unlink(missing_ok=True)


def delete_uncommitted(layout: Layout, whole: Collection[str]) -> None:
    """Delete what is there of shards in a bucket without a marker that can be read: nothing is put over it.

    That are damaged markers, indices and, but for those that `whole` names, tars. Of a run that is just committing one,
    that costs the shard, which the next run makes anew.
    """
    for split in SPLITS if layout.remote else ():
        hidden, part = layout.split_markers(split), re.compile(rf"({split}-[0-9]{{6,}})\.(done\.json|idx|tar)")
        there = [part.fullmatch(path.name) for path in [*files_in(layout.split(split)), *files_in(hidden)]]
        names = {match[1] for match in there if match is not None}
        for name in sorted(names - {plan.name for plan in committed_plans(layout, split)}):  # asked last: runs go on
            tars = [] if name in whole else [layout.split(split) / f"{name}.tar"]
            for path in [hidden / f"{name}.done.json", hidden / f"{name}.idx", *tars]:
                path.unlink(missing_ok=True)


def _is_of(plan: ShardPlan, split: str, index: int) -> bool:
    return split == plan.split and plan.first <= index < plan.first + plan.count
