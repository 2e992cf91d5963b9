"""The contract between an engine and its caller: the task it runs, and the events it yields."""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from bokehsynth.errors import DeviceError

Report = Callable[[int], None]
"""A task calls it with the number of units just finished; a task that reports nothing for too long times out."""

Task = Callable[[Any, Report], Any]
"""Picklable; called as task(spec, report) in a worker, returns something small and picklable, or raises.

If it has a method `prepare()`, that is called before the first spec of each worker: what takes long once is part of its
start. What it raises ends the run, which raises it; after a MemoryError another worker is started.

A task that kills its worker, or raises what `is_fatal_to_worker`, is called again with the same spec: what it has to
remember must be on disk.
"""


def is_fatal_to_worker(error: BaseException) -> bool:
    """Whether a process is of no use after an error: there was no memory, or its device is lost."""
    return isinstance(error, MemoryError) or (isinstance(error, DeviceError) and error.lost)


@dataclass(frozen=True)
class Progress:
    """Units of a spec that were just finished (taken back, as a negative number, when its worker died)."""

    spec: Any
    units: int


DeathKind = Literal["crashed", "killed", "timed_out"]
"""`crashed`: by an exit code or a signal that a process brings upon itself. `killed`: by another signal, for want of
memory, or with its device: the cause may lie outside. `timed_out`: ended by this engine, for its silence."""


@dataclass(frozen=True)
class Died:
    """A worker ended over a spec, which is tried again unless a Failed follows; its engine lived on for a while."""

    spec: Any
    cause: str
    """`signal SIGKILL`, `code 1`, or `silence for 20 s`."""
    kind: DeathKind
    in_company: bool
    """Whether another worker of this engine died, too, between this one's last message and now."""
    seconds: float
    """From its last message to its end."""
    attempts: int


@dataclass(frozen=True)
class Cancelled:
    """A spec whose worker was ended because a stop was requested: no fault of the spec's."""

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
class WorkerWarning:
    """A warning that bokehsynth logged in a worker; no sign of progress."""

    text: str


Event = Progress | Died | Cancelled | Done | Failed | WorkerWarning


class Engine(Protocol):
    """Runs a task over specs somewhere: the place for another cluster system is beside `pool` and `ray_engine`."""

    @property
    def workers(self) -> int | None:
        """Workers in all; None: as many as there is room for."""
        ...

    def run(self, task: Task, specs: Iterable[Any]) -> Generator[Event, None, None]:
        """Yield events as they happen; every spec ends in one Done, Failed, or Cancelled at a stop."""
        ...
