"""Randomness that is addressed, not consumed.

Every random choice is a function of `(seed, split, stage, index)`, so sample 17 is the same whether one worker
draws it first or sixty-four draw it last. The stage numbers are part of the data set format: a changed number is
another data set. Nothing else in the package constructs a generator (a test walks the source for that).
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import TypeVar

import numpy as np

T = TypeVar("T")

SPLITS = {"train": 0, "val": 1}


class Stage(IntEnum):
    """One address space per stage of a sample. Append, never renumber."""

    ASSETS = 0
    SCENE = 1
    LENS = 2
    DEGRADE = 3
    APERTURE = 4
    CAMERA = 5
    SOURCE = 6
    LAYOUT = 7


def stream(seed: int, split: str, stage: Stage, index: int, attempt: int = 0) -> np.random.Generator:
    """The generator of one stage of one sample.

    `attempt` counts redraws of a sample that had to be given up; attempt 0 is the ordinary address.
    """
    key = (SPLITS[split], int(stage), index) + ((attempt,) if attempt else ())
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def reading_order(seed: int, epoch: int, place: int = 0) -> np.random.Generator:
    """The generator of the order in which an epoch is read: of the shards, or of one reader's samples.

    Its addresses are apart from those of samples, whose keys begin with a split.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(len(SPLITS), epoch, place))))


def from_seed(seed: int) -> np.random.Generator:
    """The generator behind a seed that a draw recorded (noise fields, procedural pictures)."""
    return np.random.Generator(np.random.PCG64(seed))


def draw_seed(rng: np.random.Generator) -> int:
    """A 63-bit seed to be written into a draw; `from_seed` turns it back into a generator."""
    return int(rng.integers(1 << 63))


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A plain float in [low, high)."""
    return low + (high - low) * float(rng.random())


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with the given probability; always consumes one number, so that later choices do not shift."""
    return float(rng.random()) < probability


def pick(rng: np.random.Generator, items: Sequence[T], weights: Sequence[float] | None = None) -> T:
    """One of `items`, evenly or by `weights` (any positive scale); consumes one number."""
    if weights is None:
        return items[min(int(rng.random() * len(items)), len(items) - 1)]
    edges = np.cumsum(np.asarray(weights, dtype=np.float64))
    return items[int(np.searchsorted(edges, rng.random() * edges[-1], side="right").clip(0, len(items) - 1))]
