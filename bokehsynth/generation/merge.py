"""Merge parts of one data set: ranges of its shards that were made in folders or buckets of their own."""

from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from bokehsynth.config.strict_yaml import load_yaml
from bokehsynth.config.user_code import user_code
from bokehsynth.errors import ChangedError, UsageError
from bokehsynth.files import data_path
from bokehsynth.generation.crash_log import CrashLog
from bokehsynth.generation.dataset_files import check_format, read_identity
from bokehsynth.generation.disk_space import check_free_space
from bokehsynth.generation.generate import GenerateResult, finalize
from bokehsynth.generation.machine_record import known_machines, record_machine, refuse_other_machine
from bokehsynth.generation.plan import all_plans, lock_ranges, read_extensions, uncommitted
from bokehsynth.generation.provenance import require_png_package
from bokehsynth.generation.quarantine import read_shard_list, write_shard_list
from bokehsynth.generation.records import differences
from bokehsynth.generation.shard_lock import set_up_lock, shard_lock
from bokehsynth.recipe import Recipe
from bokehsynth.rng import SPLITS
from bokehsynth.shards import (
    Layout,
    ShardMarker,
    ShardPlan,
    committed_plans,
    copy_shard,
    find_shards,
    sweep_temporaries,
)
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
    shard of which two parts have other bytes (with `allow_mixed`: other pixels), DataError for a damaged part,
    LockedError if a run works on `out`. `allow_mixed`, `lock`, `trust_code` and `overrides` as in `generate` and
    `finalize`.
    """
    require_png_package()
    layout = Layout(data_path(out))
    sources = list({str(part): Layout(data_path(part)) for part in parts}.values())
    recipe, identity = _begun(layout), _identity(layout)
    plans = all_plans(recipe, layout)
    for source in sources:
        _check_part(layout, source, recipe, identity)
        if not allow_mixed:
            _check_machines(layout, source)
    with shard_lock(layout.lock, lock_ranges(plans), lock):
        sweep_temporaries(layout, plans)  # of merges and runs that were killed
        todo = _shards_to_copy(layout, sources, plans, identity, by_pixels=allow_mixed)
        _check_room(layout, [marker for _, marker in todo])
        with set_up_lock(layout.lock, lock):
            for source in sources:
                if any(part is source for part, _ in todo):
                    for machine in known_machines(source):
                        record_machine(layout, machine)
        for source, marker in tqdm(todo, unit="shard", disable=not progress):
            _take_over_quarantine(source, layout, marker.plan)
            copy_shard(source, layout, marker)
            CrashLog(layout.crash_log(marker.plan)).delete()  # of a run here that never came to its end
        missing = tuple(plan.name for plan in uncommitted(layout, plans, identity))
    if missing:
        return MergeResult(len(todo), missing, None)
    return MergeResult(len(todo), (), finalize(out, trust_code, lock, overrides))


def _begun(layout: Layout) -> Recipe:
    """The recipe with which a set was begun, as its file says; its pictures are not looked for."""
    if not layout.identity.is_file() or not layout.recipe.is_file():
        raise UsageError(f"{layout.root}: no data set was begun here; copy a part there, then merge the others")
    check_format(layout)
    with user_code(trusted=False):
        return load_yaml(layout.recipe, Recipe)


def _identity(layout: Layout) -> dict[str, str]:
    identity = read_identity(layout)
    if identity is None:
        raise UsageError(f"{layout.root}: holds no data set whose identity can be read; `bokehsynth verify` tells more")
    return {name: str(value) for name, value in identity.items()}


def _check_part(layout: Layout, part: Layout, recipe: Recipe, identity: dict[str, str]) -> None:
    """ChangedError unless `part` is of the very set. Its shards are not planned: it may claim any number of them."""
    theirs = _begun(part)
    if part.root == layout.root:
        raise UsageError(f"{part.root}: is the set itself; name the other parts")
    lines = differences(identity, _identity(part)) or differences(recipe.portable_dict, theirs.portable_dict)
    if not lines:
        lines = differences({"extensions": read_extensions(layout)}, {"extensions": read_extensions(part)})
    if lines:
        listed = "\n  ".join(lines)
        raise ChangedError(
            f"{part.root}: is no part of {layout.root} (of the set -> of the part):\n  {listed}\n"
            "Parts have the same recipe, pictures and number of samples, and are made with --shards I/N"
        )


def _check_machines(layout: Layout, part: Layout) -> None:
    """ChangedError unless `part` was made by machines of the kind of those that have worked on the set."""
    machines = known_machines(part, strict=True)
    if not machines:
        raise ChangedError(
            f"{part.root}: {part.machines.name}, the record of the machines that made it, is missing, so its pixels "
            "may be of another kind; --allow-mixed goes on all the same."
        )
    for machine in machines:
        refuse_other_machine(layout, machine)


def _check_room(layout: Layout, markers: Sequence[ShardMarker]) -> None:
    """StorageError unless the disk has room for these shards."""
    samples = sum(marker.n for marker in markers)
    if samples:
        check_free_space(layout, [marker.plan for marker in markers], sum(marker.bytes for marker in markers) / samples)


def _take_over_quarantine(source: Layout, layout: Layout, plan: ShardPlan) -> None:
    """Give a shard the list of draws that it was made with, also where that is none and a run here had begun one.

    In a bucket a list only grows; ChangedError where it has draws that the part did not skip.
    """
    theirs, ours = read_shard_list(source, plan), read_shard_list(layout, plan)
    if layout.remote and not set(ours) <= set(theirs):
        raise ChangedError(
            f"{layout.root}: {plan.name} has draws in quarantine here with which {source.root} made it; run the "
            "generate line here to make it"
        )
    if theirs != ours:
        write_shard_list(layout, plan, theirs)


def _shards_to_copy(
    layout: Layout, parts: Sequence[Layout], plans: Sequence[ShardPlan], identity: dict[str, str], by_pixels: bool
) -> list[tuple[Layout, ShardMarker]]:
    """The marker of each shard that `layout` lacks, and the first part that has it.

    ChangedError where two have other bytes; `by_pixels`, other pixels: encoders of two machines may differ.
    """

    def digest_of(marker: ShardMarker) -> str:
        return marker.pixels_sha256 if by_pixels else marker.sha256

    what = "pixels" if by_pixels else "bytes"
    planned = {plan.name: plan for plan in plans}
    digests = {
        marker.plan.name: (digest_of(marker), layout.root)
        for marker in find_shards(layout, plans, identity)
        if marker is not None
    }
    found: list[tuple[Layout, ShardMarker]] = []
    for part in parts:
        there = [plan for split in SPLITS for plan in committed_plans(part, split) if planned.get(plan.name) == plan]
        for marker in find_shards(part, there, identity):
            if marker is None:
                continue
            name = marker.plan.name
            if name not in digests:
                found.append((part, marker))
            digest, where = digests.setdefault(name, (digest_of(marker), part.root))
            if digest != digest_of(marker):
                raise ChangedError(
                    f"{part.root}: {name} has other {what} than in {where}, though all they are made from is the same; "
                    "`bokehsynth audit` of both tells which one its recipe gives"
                )
    return found
