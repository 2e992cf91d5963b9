"""Which shards a data set has, which of them a run is to make, and which are not committed yet."""

import contextlib
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from bokehsynth.errors import ChangedError, DataError, UsageError
from bokehsynth.files import atomic_write, pretty_json, storage_errors
from bokehsynth.generation.shard_lock import Ranges
from bokehsynth.recipe import Recipe
from bokehsynth.schema import MAX_SAMPLES
from bokehsynth.shards import (
    Layout,
    ShardPlan,
    committed_plans,
    contiguous,
    find_shards,
    plan_shards,
    read_dataset,
    read_marker,
    stored_plans,
)
from bokehsynth.untrusted_files import read_json

RESTORE_HINT = "`bokehsynth verify --fix` restores it from the shards"


def all_plans(recipe: Recipe, layout: Layout | None = None) -> list[ShardPlan]:
    """Every shard of a data set, split by split; of one on disk, as it was begun and extended.

    Raises DataError if the record of its extensions cannot be true: that would cut the shards in other places.
    """
    steps = read_extensions(layout) if layout else []
    plans: list[ShardPlan] = []
    for split in recipe.splits:
        shards: list[ShardPlan] = []
        try:
            for total in [*(step.get(split, 0) for step in steps), recipe.count(split)]:
                shards = plan_shards(split, total, recipe.shards.samples, shards)
        except UsageError as error:
            assert layout is not None  # without steps nothing can shrink
            raise DataError(f"{layout.extensions}: is not how this set grew ({error}); {RESTORE_HINT}") from None
        plans += shards
    return plans


def check_shard_boundaries(layout: Layout, plans: Sequence[ShardPlan]) -> None:
    """Raise ChangedError if the shards that are there begin or end elsewhere than planned.

    The record of extensions says where; one that was lost or edited would have whole shards made over. `dataset.json`
    is believed first, then the markers.
    """
    planned = {plan.name: plan for plan in plans}
    there = counted_plans(layout)
    for plan in () if there else plans:
        with contextlib.suppress(DataError):  # a marker that is damaged or in another's place is remade anyway
            marked = read_marker(layout, plan).plan
            there += [marked] if marked.name == plan.name else []
    for found in there:
        place = planned.get(found.name)
        if place != found:
            wanted = f"samples {place.first} to {place.first + place.count - 1}" if place else "nothing"
            raise ChangedError(
                f"{layout.root}: {found.name} holds samples {found.first} to {found.first + found.count - 1} where "
                f"{layout.extensions}, the record of extensions, puts {wanted}: one of them was lost or altered, and "
                f"whole shards would be made over; {RESTORE_HINT}"
            )


def restore_extensions(layout: Layout, recipe: Recipe) -> None:
    """Rewrite the record of extensions where it contradicts the shards.

    An extension is where a shard is short and another follows. One that ended on a full shard left no trace and needs
    none.
    """
    try:
        check_shard_boundaries(layout, all_plans(recipe, layout))
    except (ChangedError, DataError):
        marked = [plan for split in recipe.splits for plan in contiguous(committed_plans(layout, split))]
        counted = counted_plans(layout)
        shards = marked if sample_count(marked) >= sample_count(counted) else counted
        if steps := _steps(recipe, shards):
            atomic_write(layout.extensions, pretty_json(steps))
        else:
            with storage_errors(layout.extensions):
                layout.extensions.unlink(missing_ok=True)


def _steps(recipe: Recipe, shards: Sequence[ShardPlan]) -> list[dict[str, int]]:
    """The totals per split at which each extension began, for all splits side by side."""
    ends = {
        split: [
            plan.first + plan.count
            for plan in shards
            if plan.split == split
            and plan.count < recipe.shards.samples
            and plan.first + plan.count < recipe.count(split)
        ]
        for split in recipe.splits
    }
    last = {split: found[-1] if found else 0 for split, found in ends.items()}
    rows = zip_longest(*ends.values())
    return [{split: last[split] if end is None else end for split, end in zip(ends, row, strict=True)} for row in rows]


def counted_plans(layout: Layout) -> list[ShardPlan]:
    """The shards that `dataset.json` counts, fewer until an extension ends; none where it cannot be read."""
    try:
        record = read_dataset(layout)
        return [plan for split in record["splits"] for plan in stored_plans(record, split)]
    except DataError:
        return []


def is_complete(layout: Layout, plans: Sequence[ShardPlan]) -> bool:
    """Whether `dataset.json` is there and counts just these shards."""
    return sorted(counted_plans(layout)) == sorted(plans)


def read_extensions(layout: Layout) -> list[dict[str, int]]:
    """Read the samples per split that the data set had before each of its extensions."""
    path = layout.extensions
    if not path.exists():
        return []
    try:
        totals: Any = read_json(path)
        if not all(type(n) is int and 0 <= n <= MAX_SAMPLES for total in totals for n in total.values()):
            raise TypeError("counts must be whole numbers")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except DataError as error:
        raise DataError(f"{error}; {RESTORE_HINT}") from None
    except (TypeError, AttributeError) as error:
        raise DataError(f"{path}: is not the record of extensions ({error}); {RESTORE_HINT}") from None
    return list(totals)


def uncommitted(layout: Layout, plans: Sequence[ShardPlan], identity: Mapping[str, str]) -> list[ShardPlan]:
    """The shards that are not committed with this identity."""
    plans = list(plans)
    found = find_shards(layout, plans, identity)
    return [plan for plan, marker in zip(plans, found, strict=True) if marker is None]


def lock_ranges(plans: Sequence[ShardPlan]) -> Ranges:
    """First and last shard of each split, for `shard_lock`."""
    ranges: Ranges = {}
    for plan in plans:
        first, last = ranges.get(plan.split, (plan.shard, plan.shard))
        ranges[plan.split] = (min(first, plan.shard), max(last, plan.shard))
    return ranges


def sample_count(plans: Sequence[ShardPlan]) -> int:
    """The number of samples in these shards."""
    return sum(plan.count for plan in plans)
