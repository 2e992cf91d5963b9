"""Merge parts of one data set: ranges of its shards that were made in folders or buckets of their own."""

from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from bokehsynth.config.strict_yaml import load_yaml
from bokehsynth.config.user_code import user_code
from bokehsynth.errors import ChangedError, UsageError
from bokehsynth.files import data_path
from bokehsynth.generation.dataset_files import (
    check_format,
    differences,
    machines_of,
    read_identity,
    record_machine,
    refuse_other_machine,
)
from bokehsynth.generation.generate import GenerateResult, finalize
from bokehsynth.generation.plan import all_plans, lock_ranges, uncommitted
from bokehsynth.generation.quarantine import read_shard_list, write_shard_list
from bokehsynth.generation.shard_lock import set_up_lock, shard_lock
from bokehsynth.recipe import Recipe
from bokehsynth.rng import SPLITS
from bokehsynth.shards import Layout, ShardPlan, committed_plans, copy_shard, find_shards, read_marker
from bokehsynth.stores import StoredPath


@dataclass(frozen=True)
class MergeResult:
    """What a merge did."""

    copied: int
    """Shards that were copied."""
    missing: tuple[str, ...]
    """Names of shards that no part has yet."""
    finished: GenerateResult | None
    """The whole set; None while shards are missing."""


def merge(
    out: str | StoredPath,
    parts: Sequence[str | StoredPath],
    *,
    trust_code: bool = False,
    lock: bool = True,
    allow_mixed: bool = False,
    overrides: Sequence[str] = (),
    progress: bool = False,
) -> MergeResult:
    """Copy into the data set `out` the shards of `parts` that it lacks, and complete it once none is missing.

    All are parts of one set: the same recipe, pictures, code and number of samples, begun with `generate --shards I/N`
    in folders of their own. What is committed stays, so a merge that was interrupted goes on when it is called again.
    Raises UsageError where there is no data set, ChangedError, naming what differs, for parts of another set and for a
    shard of which two parts have other bytes, DataError for a damaged part, LockedError if a run works on `out`.
    `allow_mixed`, `lock`, `trust_code` and `overrides` as in `generate` and `finalize`.
    """
    layout = Layout(data_path(out))
    sources = [Layout(data_path(part)) for part in parts]
    plans, identity = _plans(layout), _identity(layout)
    for source in sources:
        _check_part(layout, source, identity, allow_mixed)
    with shard_lock(layout.lock, lock_ranges(plans), lock):
        with set_up_lock(layout.lock, lock):
            for machine in [machine for source in sources for machine in machines_of(source, strict=True)]:
                record_machine(layout, machine)
        todo = _shards_to_copy(layout, sources, plans, identity)
        for source, plan in tqdm(todo, unit="shard", disable=not progress):
            if entries := read_shard_list(source, plan):
                write_shard_list(layout, plan, entries)
            copy_shard(source, layout, read_marker(source, plan))
        missing = tuple(plan.name for plan in uncommitted(layout, plans, identity))
    if missing:
        return MergeResult(len(todo), missing, None)
    return MergeResult(len(todo), (), finalize(out, trust_code, lock, overrides))


def _plans(layout: Layout) -> list[ShardPlan]:
    """All shards of the set that is being put together."""
    if not layout.identity.is_file() or not layout.recipe.is_file():
        raise UsageError(f"{layout.root}: no data set was begun here; copy a part there, then merge the others")
    check_format(layout)
    with user_code(trusted=False):
        return all_plans(load_yaml(layout.recipe, Recipe), layout)


def _identity(layout: Layout) -> dict[str, str]:
    identity = read_identity(layout)
    if identity is None:
        raise UsageError(f"{layout.root}: holds no data set whose identity can be read; `bokehsynth verify` tells more")
    return {name: str(value) for name, value in identity.items()}


def _check_part(layout: Layout, part: Layout, identity: dict[str, str], allow_mixed: bool) -> None:
    """ChangedError unless `part` is of the very set, made by machines of the same kind or with `allow_mixed`."""
    theirs = _plans(part)
    if part.root == layout.root:
        raise UsageError(f"{part.root}: is the set itself; name the other parts")
    lines = differences(identity, _identity(part))
    if not lines and theirs != _plans(layout):
        count, of = sum(map(len, theirs)), sum(map(len, _plans(layout)))
        lines = [f"samples: {of} -> {count}, or an extension"]
    if lines:
        listed = "\n  ".join(lines)
        raise ChangedError(
            f"{part.root}: is no part of {layout.root} (of the set -> of the part):\n  {listed}\n"
            "Parts have the same recipe, pictures and number of samples, and are made with --shards I/N"
        )
    for machine in machines_of(part, strict=True) if not allow_mixed else ():
        refuse_other_machine(layout, machine)


def _shards_to_copy(
    layout: Layout, parts: Sequence[Layout], plans: Sequence[ShardPlan], identity: dict[str, str]
) -> list[tuple[Layout, ShardPlan]]:
    """Each shard that `layout` lacks with the first part that has it; ChangedError where two have other bytes."""
    planned = {plan.name: plan for plan in plans}
    digests = {
        marker.plan.name: (marker.sha256, layout.root)
        for marker in find_shards(layout, plans, identity)
        if marker is not None
    }
    found: list[tuple[Layout, ShardPlan]] = []
    for part in parts:
        there = [plan for split in SPLITS for plan in committed_plans(part, split) if planned.get(plan.name) == plan]
        for marker in find_shards(part, there, identity):
            if marker is None:
                continue
            name = marker.plan.name
            digest, where = digests.setdefault(name, (marker.sha256, part.root))
            if digest != marker.sha256:
                raise ChangedError(
                    f"{part.root}: {name} has other bytes than in {where}, though all they are made from is the same; "
                    "`bokehsynth audit` of both tells which one its recipe gives"
                )
            if where == part.root:
                found.append((part, planned[name]))
    return found
