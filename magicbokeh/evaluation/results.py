"""The figures of an evaluation: means with intervals, differences to a baseline, and costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from magicbokeh.evaluation.bootstrap import Interval, interval
from magicbokeh.evaluation.items import Values
from magicbokeh.evaluation.metrics import FRECHET, Metric
from magicbokeh.evaluation.perceptual import frechet_distance


class Cell(NamedTuple):
    """One number of the tables."""

    value: Interval | None
    """None: nothing was measured there."""
    difference: Interval | None
    """To the baseline, over the samples that both have; None for the baseline itself."""


class Costs(NamedTuple):
    """What a method takes for one picture; None where that is not its own, or not known."""

    seconds: float | None
    memory: float | None
    flops: float | None
    untimed: str = ""
    """Why there are no seconds although the work is its own."""


@dataclass(frozen=True)
class Results:
    """All figures."""

    set_name: str
    count: int
    splits: Sequence[str]
    metrics: Sequence[Metric]
    methods: Mapping[str, str]
    """By name, what each is."""
    baseline: str
    cells: Mapping[tuple[str, str, str], Cell]
    """By method, metric, split."""
    costs: Mapping[str, Costs]
    device: str
    set_split: str | None = None
    """The split of a generated set."""

    def empty_splits(self, metric: str) -> list[str]:
        """The splits in which a metric has no number of any method."""
        return [
            split
            for split in self.splits
            if all(self.cells[method, metric, split].value is None for method in self.methods)
        ]


Table = Mapping[str, Mapping[str, Values]]
"""By method and key."""


def cells(
    table: Table, metrics: Sequence[Metric], splits: Sequence[str], baseline: str
) -> dict[tuple[str, str, str], Cell]:
    """The figures of every method, metric and split."""
    found = {}
    for method, values in table.items():
        for metric in metrics:
            for split in splits:
                if metric.of_set:
                    one = _set_level(metric, values, split)
                    found[method, metric.name, split] = Cell(one, None)
                    continue
                ours = _column(values, metric.name, split)
                base = _column(table[baseline], metric.name, split)
                both = [key for key in ours if key in base]
                difference = interval([ours[key] - base[key] for key in both]) if method != baseline else None
                found[method, metric.name, split] = Cell(interval(list(ours.values())), difference)
    return found


def _column(values: Mapping[str, Values], metric: str, split: str) -> dict[str, float]:
    """By key, what was measured."""
    return {key: one.metrics[metric][split] for key, one in values.items() if split in one.metrics.get(metric, {})}


def _set_level(metric: Metric, values: Mapping[str, Values], split: str) -> Interval | None:
    """The Fréchet distance; its bootstrap would repeat pictures, which shrinks covariances: no interval."""
    if metric.name != FRECHET.name or metric.missing is not None:
        return None
    there = [one for one in values.values() if split in one.features]
    if len(there) < 2:
        return None
    distance = frechet_distance(
        np.stack([one.features[split] for one in there]), np.stack([one.target_features[split] for one in there])
    )
    return Interval(distance, distance, distance, len(there))


def costs(values: Mapping[str, Values]) -> Costs:
    """The median time of warm calls, the largest memory, the mean of the counted operations.

    The first call of a process counts operations, which slows it down: a method with no other has no time.
    """
    timed = [one for one in values.values() if one.seconds is not None]
    warm = [one for one in timed if one.warm]
    memory = [one.memory for one in values.values() if one.memory is not None]
    flops = [one.flops for one in values.values() if one.flops is not None]
    return Costs(
        float(np.median([one.seconds for one in warm])) if warm else None,
        max(memory) if memory else None,
        float(np.mean(flops)) if flops else None,
        "the first call of a method is not timed, and there was no other" if timed and not warm else "",
    )
