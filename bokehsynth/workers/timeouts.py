"""How long a worker may be silent before it is taken for hung."""

import statistics
from collections import deque
from dataclasses import dataclass, field

STARTING = 120.0
"""Seconds in which a worker has to start: imports from a slow disk take long, and nothing can be learnt from them."""


@dataclass(frozen=True)
class Patience:
    """Seconds between two reports of a task; every further attempt at the same spec gets twice as long."""

    first: float = 120.0
    """While nothing is known yet."""
    least: float = 20.0
    times: float = 50.0
    """Of the running median between two reports, once it is known."""

    @classmethod
    def fixed(cls, seconds: float) -> "Patience":
        """The same limit from the first report to the last."""
        return cls(first=seconds, least=seconds, times=0.0)


@dataclass
class Pace:
    """The running median of the time between two reports, over all workers."""

    patience: Patience
    _recent: "deque[float]" = field(default_factory=lambda: deque(maxlen=101))

    def note(self, seconds: float, units: int) -> None:
        """A worker reported `units` units, `seconds` after its last word."""
        if units > 0:
            self._recent.append(seconds / units)

    @property
    def median(self) -> float | None:
        """Seconds per unit, None before the first report."""
        return statistics.median(self._recent) if self._recent else None

    def limit(self, attempts: int) -> float:
        """Seconds of silence after which the worker of a spec is ended, on this attempt at it."""
        median = self.median
        base = self.patience.first if median is None else max(self.patience.least, self.patience.times * median)
        return float(base * 2 ** (attempts - 1))
