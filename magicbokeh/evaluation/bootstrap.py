"""Means with bootstrap intervals, and paired differences to a baseline."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
LEVEL = 0.95
_BLOCK = 1 << 20
"""Numbers that are drawn at a time."""


@dataclass(frozen=True)
class Interval:
    """A mean over samples and the percentile interval of its bootstrap."""

    mean: float
    low: float
    high: float
    count: int


def interval(values: Sequence[float]) -> Interval | None:
    """The mean of per-sample values with its 95 % interval; None without values.

    Percentile bootstrap (Efron and Tibshirani 1993, §13.3): 2000 resamples of the samples with replacement, always
    the same ones for the same count. One value alone has no interval: low = high = mean.
    """
    data = np.asarray(values, np.float64)
    if not len(data):
        return None
    means = np.concatenate([data[block].mean(axis=1) for block in _draws(len(data))])
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(data.mean()), float(low), float(high), len(data))


def _draws(count: int) -> Iterator[npt.NDArray[np.int64]]:
    """The resamples, [N, count] at a time: all at once would take 320 MB for 20,000 samples."""
    rng, rows = np.random.default_rng(0), max(1, _BLOCK // count)
    for first in range(0, RESAMPLES, rows):
        yield rng.integers(0, count, size=(min(rows, RESAMPLES - first), count))
