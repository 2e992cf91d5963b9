"""Which samples each shard of a data set holds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bokehsynth.errors import UsageError
from bokehsynth.schema import sample_key

MOST_DIGITS = 9
"""Of a number of ranges."""


@dataclass(frozen=True, order=True, slots=True)
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
    def keys(self) -> Iterator[str]:
        """The keys of its samples, in file order, one after the other: a marker may claim any number of them."""
        return (sample_key(self.split, index) for index in range(self.first, self.first + self.count))

    @property
    def first_key(self) -> str:
        """The key of its first sample."""
        return sample_key(self.split, self.first)

    @property
    def last_key(self) -> str:
        """The key of its last sample."""
        return sample_key(self.split, self.first + self.count - 1)


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


def contiguous(plans: Sequence[ShardPlan]) -> list[ShardPlan]:
    """The same shards if they follow each other from 0 without a gap; otherwise none."""
    first = 0
    for shard, plan in enumerate(plans):
        if plan.shard != shard or plan.first != first:
            return []
        first += plan.count
    return list(plans)


def parse_range(shards: str) -> tuple[int, int]:
    """(I, N) of `I/N`; UsageError unless 0 <= I < N."""
    number, slash, of = shards.partition("/")
    digits = slash and number.isdecimal() and of.isdecimal() and max(len(number), len(of)) <= MOST_DIGITS
    if not digits or int(number) >= int(of):
        raise UsageError(f"--shards must be I/N with 0 <= I < N, for example 0/3; got {shards!r:.40}")
    return int(number), int(of)


def shard_range(plans: Sequence[ShardPlan], shards: str) -> list[ShardPlan]:
    """The I-th of N nearly equal consecutive ranges of the shards, `I/N`, zero-based."""
    i, n = parse_range(shards)
    return list(plans[len(plans) * i // n : len(plans) * (i + 1) // n])
