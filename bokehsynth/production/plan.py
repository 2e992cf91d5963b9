"""Which shards a data set has, which of them a run is to make, and which are not there yet."""

import json
from collections.abc import Sequence
from typing import Any

from bokehsynth.errors import DataError, UsageError
from bokehsynth.files import atomic_write, pretty_json
from bokehsynth.lock import Ranges
from bokehsynth.recipe import Recipe
from bokehsynth.shards import Layout, ShardPlan, find_shard, plan_shards


def all_plans(recipe: Recipe, layout: Layout | None = None) -> list[ShardPlan]:
    """Every shard of a data set, split by split; of one on disk, as it was begun and extended."""
    totals = [*(read_extensions(layout) if layout else []), {split: recipe.count(split) for split in recipe.splits}]
    plans: list[ShardPlan] = []
    for split in recipe.splits:
        shards: list[ShardPlan] = []
        for total in totals:
            shards = plan_shards(split, total.get(split, 0), recipe.shards.samples, shards)
        plans += shards
    return plans


def read_extensions(layout: Layout) -> list[dict[str, int]]:
    """Samples per split that the data set had before each of its extensions."""
    path = layout.hidden / "extensions.json"
    if not path.is_file():
        return []
    try:
        totals: Any = json.loads(path.read_text(encoding="utf-8"))
        if not all(type(n) is int and n >= 0 for total in totals for n in total.values()):
            raise TypeError("counts must be whole numbers")
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: is not the record of extensions ({error}); restore it, or start anew") from None
    return list(totals)


def write_extensions(layout: Layout, totals: Sequence[dict[str, int]]) -> None:
    """Remember how the data set grew: shards never change, so a short one stays where it is."""
    atomic_write(layout.hidden / "extensions.json", pretty_json(list(totals)))


def missing(layout: Layout, recipe: Recipe, plans: Sequence[ShardPlan]) -> list[ShardPlan]:
    """The shards that are not committed."""
    return [plan for plan in plans if find_shard(layout, plan, recipe.identity) is None]


def range_of(plans: Sequence[ShardPlan], shards: str) -> list[ShardPlan]:
    """The I-th of N nearly equal consecutive ranges of the shards, `I/N`, zero-based."""
    number, slash, of = shards.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise UsageError(f"--shards must be I/N with 0 <= I < N, for example 0/3; got {shards!r}")
    i, n = int(number), int(of)
    return list(plans[len(plans) * i // n : len(plans) * (i + 1) // n])


def lock_ranges(plans: Sequence[ShardPlan]) -> Ranges:
    """First and last shard of each split, as `lock.shard_lock` wants them."""
    ranges: Ranges = {}
    for plan in plans:
        first, last = ranges.get(plan.split, (plan.shard, plan.shard))
        ranges[plan.split] = (min(first, plan.shard), max(last, plan.shard))
    return ranges


def count(plans: Sequence[ShardPlan]) -> int:
    """Samples in these shards."""
    return sum(plan.count for plan in plans)
