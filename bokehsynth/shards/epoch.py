"""The order in which samples are read: an epoch's permutation, and the part of it that a rank and a worker have.

Everything follows from (seed, epoch, shard counts) and the part's place, so that a position in it is a number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from bokehsynth.errors import UsageError
from bokehsynth.rng import reading_order
from bokehsynth.shards.plan import ShardPlan

Indices = npt.NDArray[np.int64]

MAX_SHUFFLE = 1 << 24
"""Samples of a shuffling window; it holds numbers of samples, no pictures."""


@dataclass(frozen=True)
class ReadingOrder:
    """Which samples one process reads in an epoch, and in which order.

    Ranks have parts that follow each other in an order of the shards, so that each rank reads few shards; two parts
    differ by one sample at most, or with `even` by none. Within the part of a rank and worker, `shuffle` mixes samples
    over a window.
    """

    rank: int = 0
    world: int = 1
    shuffle: int = 0
    """0: index order. n: shards in random order, and each sample from a window of n of the part's next ones."""
    seed: int = 0
    even: bool = False
    """Whether all parts have the same number of samples: those left over at the end are not read."""

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise UsageError(f"rank must be 0 to world - 1, got rank {self.rank} of world {self.world}")
        if not 0 <= self.shuffle <= MAX_SHUFFLE:
            raise UsageError(f"shuffle must be 0 to {MAX_SHUFFLE}, samples in the window; got {self.shuffle}")
        if self.seed < 0:
            raise UsageError(f"seed must be 0 or above, got {self.seed}")

    def count(self, samples: int, worker: int = 0, workers: int = 1) -> int:
        """Samples of the part of one worker of this rank."""
        first, last = self._bounds(samples, worker, workers)
        return last - first

    def indices(self, plans: Sequence[ShardPlan], epoch: int, worker: int = 0, workers: int = 1) -> Sequence[int]:
        """Numbers of the samples of one worker of this rank in an epoch, in order.

        Without shuffling they take no memory, however many samples a set says that it has.
        """
        first, last = self._bounds(plans[-1].first + plans[-1].count, worker, workers)
        if not self.shuffle:
            return range(first, last)
        shards = reading_order(self.seed, epoch).permutation(len(plans))
        ends = np.cumsum([plans[shard].count for shard in shards])
        found: list[Indices] = []
        for shard, end in zip(shards, ends, strict=True):
            begin = end - plans[shard].count
            low, high = max(first, begin), min(last, end)
            if low < high:
                found.append(np.arange(low, high) - begin + plans[shard].first)
        place = self.rank * workers + worker
        mixed = _mixed(np.concatenate(found) if found else np.arange(0), self.shuffle, self.seed, epoch, place)
        return cast("Sequence[int]", mixed)

    def _bounds(self, samples: int, worker: int, workers: int) -> tuple[int, int]:
        """Where the part begins and ends in the order of all ranks."""
        if self.even:
            samples -= samples % (self.world * workers)
        low, high = (samples * rank // self.world for rank in (self.rank, self.rank + 1))
        first, last = ((high - low) * number // workers for number in (worker, worker + 1))
        return low + first, low + last


def _mixed(indices: Indices, window: int, seed: int, epoch: int, place: int) -> Indices:
    """Each number drawn from the next `window` that were not drawn yet."""
    rng = reading_order(seed, epoch, place + 1)
    places = rng.random(len(indices))
    out = indices.copy()
    for number in range(len(out)):  # a partial Fisher-Yates: what stands at `number` moves into the window
        other = number + int(places[number] * min(window, len(out) - number))
        out[number], out[other] = out[other], out[number]
    return out


def positions_after(counts: Sequence[int], batch: int, batches: int, start: Sequence[int] = ()) -> list[int]:
    """Samples that each worker of a torch DataLoader has given after so many batches of `batch` samples.

    Batches come from the workers in turn, the first one's turn first wherever the loader began (`start`; none given: at
    0), from those that still have some; each worker's last batch may be smaller.
    """
    given = list(start) or [0] * len(counts)
    while batches > 0 and any(done < count for done, count in zip(given, counts, strict=True)):
        for worker, count in enumerate(counts):
            if batches > 0 and given[worker] < count:
                given[worker] = min(count, given[worker] + batch)
                batches -= 1
    return given
