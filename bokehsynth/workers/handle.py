"""What the supervisor knows of a worker, wherever it runs: the job it holds, what it sends, how it ended."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from bokehsynth.workers.events import DeathKind


@dataclass
class Job:
    """A spec, and its attempts so far."""

    spec: Any
    attempts: int = 0
    timeouts: int = 0
    """How many of its attempts were ended for silence."""
    lost: int = 0
    """How many of its attempts ended with their node, by no fault of the spec's."""
    units: int = 0
    started: float = 0.0
    serial: bool = False
    """Whether it waits for others of this kind: its workers died again and again while those of others did."""


class Exit(NamedTuple):
    """How a worker ended."""

    cause: str
    """`signal SIGKILL`, `code 1`, or what a cluster says."""
    kind: DeathKind
    by_itself: bool
    """Whether it left with an exit code, rather than by a signal or for want of memory, which may strike any time."""
    outside: bool = False
    """Whether it is known that no spec can be the cause: its whole node has gone."""
    message: str = "its message stands above"
    """Where to find what it wrote to stderr."""


class WorkerHandle(ABC):
    """A worker that takes one job at a time, seen from the supervisor."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        """Its place in the pool, which its replacement takes."""
        self.job: Job | None = None
        self.placed = True
        """Whether its process is being started; False while a cluster has no room for it."""
        self.host = ""
        """The machine it was placed on; empty: this one."""
        self.ready = False
        """Whether it has unpickled the task and can take a job."""
        self.idle_s = 0.0
        """Seconds since its last message while the supervisor was running: time suspended does not count."""
        self.started = self.last_message = time.monotonic()

    def give(self, job: Job) -> None:
        """Hand over a job; a worker that is already dead is noticed when its messages are read."""
        job.attempts, job.units, job.started = job.attempts + 1, 0, time.monotonic()
        self.job, self.last_message, self.idle_s = job, job.started, 0.0
        self.send(job.spec)

    @abstractmethod
    def send(self, spec: Any) -> None:
        """Send a spec to the worker, which may be dead."""

    @abstractmethod
    def receive(self) -> tuple[str, Any]:
        """The next message, as (kind, value); EOFError or OSError when there is none, since the worker has ended.

        Kinds: `placed` with the name of the machine; `ready`, or, as the last, `unusable` with the error of the task's
        `prepare` and its traceback as text; then per spec any number of `progress` and one `done` or
        `failed`; `warning` at any time.
        """

    @abstractmethod
    def end(self, ended: bool = False) -> Exit:
        """End the worker at once, or wait for the end of one that has `ended` by itself, and say how it ended."""


AnyWorker = TypeVar("AnyWorker", bound=WorkerHandle)


class Crew(Protocol[AnyWorker]):
    """The workers of one run: how many there should be, and how they are started and listened to."""

    def wanted(self) -> int:
        """How many workers there may be now."""
        ...

    def start(self, slot: int) -> AnyWorker:
        """Start a worker in a slot that is free."""
        ...

    def wait(self, workers: Sequence[AnyWorker], seconds: float) -> Iterable[AnyWorker]:
        """Wait until some of these have sent something or ended, for so long at most; return those."""
        ...

    def end(self, workers: Sequence[AnyWorker]) -> None:
        """End these workers at once, all together."""
        ...
