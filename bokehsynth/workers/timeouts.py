"""How long a worker may send nothing before it times out."""

import statistics
from collections import deque
from dataclasses import dataclass, field, replace

MOST_DOUBLINGS = 3
"""Enough for a machine that is slow just now; more would have a spec that hangs hold a worker for hours."""

STARTING = 120.0
"""Seconds in which a worker has to start: imports from a slow disk take long, and nothing can be learnt from them."""

COMPILING = 900.0
"""The same of a worker that compiles kernels first: two minutes and more on a machine with other work."""


@dataclass(frozen=True)
class TimeoutPolicy:
    """Seconds between two reports of a task; after each timeout the same spec gets twice as long, up to 8 times."""

    initial: float = 120.0
    """Until the first report."""
    minimum: float = 20.0
    factor: float = 50.0
    """Times the running median between two reports, once it is known."""

    @classmethod
    def constant(cls, seconds: float) -> "TimeoutPolicy":
        """The same limit from the first report to the last."""
        return cls(initial=seconds, minimum=seconds, factor=0.0)

    def at_least(self, seconds: float) -> "TimeoutPolicy":
        """With a minimum of no less than that; a constant limit stays as it is."""
        return replace(self, minimum=max(seconds, self.minimum)) if self.factor else self


@dataclass
class ReportInterval:
    """The running median of the time between two reports, over all workers."""

    policy: TimeoutPolicy
    _recent: "deque[float]" = field(default_factory=lambda: deque(maxlen=101))

    def add(self, seconds: float, units: int) -> None:
        """Record that a worker reported `units` units, `seconds` after its last message."""
        if units > 0:
            self._recent.append(seconds / units)

    @property
    def median(self) -> float | None:
        """Seconds per unit, None before the first report."""
        return statistics.median(self._recent) if self._recent else None

    def limit(self, timeouts: int) -> float:
        """Seconds of silence after which the worker of a spec is ended that has timed out so often."""
        median = self.median
        base = self.policy.initial if median is None else max(self.policy.minimum, self.policy.factor * median)
        return float(base * 2 ** min(timeouts, MOST_DOUBLINGS))
