"""What an engine says while it works."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bokehsynth.errors import DeviceError

Report = Callable[[int], None]
"""A task calls it with the number of units just finished; a task that is silent for too long is taken for hung."""

Task = Callable[[Any, Report], Any]
"""Picklable; called as task(spec, report) in a worker, returns something small and picklable, or raises.

If it has a method `prepare()`, that is called before the first spec of each worker: what takes long once is part of its
start. What it raises is the outcome of every spec that this worker is given.

A task that kills its worker is called again with the same spec: what it learnt must lie on disk. So is one that raises
what `ends_worker`.
"""


def ends_worker(error: BaseException) -> bool:
    """Whether a process is of no use after an error: there was no memory, or its device is lost."""
    return isinstance(error, MemoryError) or (isinstance(error, DeviceError) and error.lost)


@dataclass(frozen=True)
class Progress:
    """Units of a spec that were just finished (taken back, as a negative number, when its worker died)."""

    spec: Any
    units: int


@dataclass(frozen=True)
class Died:
    """A worker ended over a spec, which is tried again unless a Failed follows."""

    spec: Any
    cause: str
    """`signal SIGKILL`, `code 1`, or `silent for 20 s`."""
    hung: bool
    """Whether this engine ended it, for its silence."""
    attempts: int


@dataclass(frozen=True)
class Abandoned:
    """A spec whose worker was ended because the run was told to stop: no fault of the spec's."""

    spec: Any


@dataclass(frozen=True)
class Done:
    """A spec's result."""

    spec: Any
    result: Any
    attempts: int
    seconds: float


@dataclass(frozen=True)
class Failed:
    """A spec that was given up: its task raised, or killed every worker that tried it."""

    spec: Any
    error: BaseException
    trace: str
    attempts: int


@dataclass(frozen=True)
class Remark:
    """What code of ours logged as a warning in a worker; no sign of progress."""

    text: str


Event = Progress | Died | Abandoned | Done | Failed | Remark
