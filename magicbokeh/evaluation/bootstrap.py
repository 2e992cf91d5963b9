"""Means with bootstrap intervals, and paired differences to a baseline."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
LEVEL = 0.95


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
    means = data[_draws(len(data))].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(data.mean()), float(low), float(high), len(data))


def _draws(count: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, count, size=(RESAMPLES, count))
