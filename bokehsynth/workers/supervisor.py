"""Supervises workers, wherever they are: one spec per worker at a time, retries, time limits, a clean stop.

`multiprocessing.Pool` hangs for ever when a worker is killed, and `ProcessPoolExecutor` gives up everything; here each
worker has a channel of its own, so that the supervisor knows which spec a dead worker had, and the others go on.
"""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, NamedTuple

from bokehsynth.errors import BokehsynthError, UsageError
from bokehsynth.workers import signals
from bokehsynth.workers.events import Cancelled, Died, Done, Event, Failed, Progress, WorkerWarning
from bokehsynth.workers.handle import AnyWorker, Crew, Exit, Job
from bokehsynth.workers.timeouts import STARTING, ReportInterval, TimeoutPolicy

MAX_ATTEMPTS = 30
"""How often a spec may end its worker in one run; a task that reads what it left on disk needs far fewer."""

MAX_LOST = 100
"""How often a spec may lose its worker with its node in one run; spot machines go often, but a spec that takes its node
away every time (memory that a whole container is ended for) must not run for ever."""

MAX_FAILED_STARTS = 50
"""How many workers in a row may be killed from outside before any has started."""

TICK = 0.25
"""Seconds between two checks of the clock and of the signals."""

SETTLE_SECONDS = 1.0
"""Seconds for which this process has to outlive a worker before it says so: what takes a whole run away may take the
workers first, and what strikes several of them does so in about that time."""

SERIAL_AFTER = 3
"""Attempts after which a spec whose worker died beside others is tried while no other such spec is."""

NO_ROOM_SECONDS = 15.0
"""How long no worker may find room in a cluster before that is said."""

LIFETIME = 900.0
"""Seconds after which a worker is replaced, between two specs: whatever a library leaks goes with it."""


@dataclass(frozen=True)
class RunPolicy:
    """How patient a run is with its workers."""

    timeouts: TimeoutPolicy = field(default_factory=TimeoutPolicy)
    grace: float = 25.0
    """Seconds that work in flight gets when the run is told to stop."""
    lifetime: float = LIFETIME
    """Seconds after which a worker is replaced, between two specs."""
    starting: float = STARTING
    """Seconds in which a worker has to start."""


def supervise(crew: Crew[AnyWorker], specs: Iterable[Any], policy: RunPolicy) -> Generator[Event, None, None]:
    """Yield events as they happen, results in any order; a spec with a length tells how many units it holds.

    SIGTERM and SIGINT are deferred: no spec is assigned any more, those in flight get `grace` seconds, and Stopped is
    raised. When the iterator is closed or an exception passes through, the workers are ended. Raises UsageError if
    workers cannot even start, and whatever the task's `prepare` raises in one.
    """
    supervisor = _Supervisor(crew, policy, deque(Job(spec) for spec in specs))
    with signals.defer_signals():
        try:
            yield from supervisor.work()
        finally:
            supervisor.close()


class _Death(NamedTuple):
    """The end of a worker; `began` is its last message, the times are those of `time.monotonic`."""

    job: Job | None
    exit: Exit
    began: float
    at: float
    host: str


class _Supervisor(Generic[AnyWorker]):
    """The workers of one run and what is still to be done."""

    def __init__(self, crew: Crew[AnyWorker], policy: RunPolicy, waiting: "deque[Job]") -> None:
        self.crew, self.policy, self.waiting = crew, policy, waiting
        self.workers: list[AnyWorker] = []
        self.interval = ReportInterval(policy.timeouts)
        self.failed_starts = 0
        self.deaths: deque[_Death] = deque(maxlen=1000)
        self.unsettled: list[_Death] = []
        """Deaths over a job that are too recent to be told."""
        self.now = self.begun = time.monotonic()
        self.told_of_room = False
        self.stop_by: float | None = None

    @property
    def busy(self) -> list[AnyWorker]:
        return [worker for worker in self.workers if worker.job]

    def work(self) -> Iterator[Event]:
        """Yield events until every spec is done or a stop was requested."""
        while self.busy or self.unsettled or (self.waiting and self.stop_by is None):
            if self.stop_by is None:
                self._spawn()
            awaited = [worker for worker in self.workers if worker.job or not worker.ready]
            for worker in self.crew.wait(awaited, TICK):
                yield from self._receive(worker)
            before, self.now = self.now, time.monotonic()
            # A pause of this process itself (Ctrl-Z, a suspended machine) hardly counts.
            yield from self._kill_timed_out(min(self.now - before, 2 * TICK))
            yield from self._settle()
            yield from self._say_no_room()
            if signals.stop_requested():
                yield from self._drain()

    def close(self) -> None:
        """End every worker."""
        self.crew.end(self.workers)
        self.workers.clear()

    def _spawn(self) -> None:
        """Start the workers that are missing, and give each one that is idle a job."""
        wanted = min(self.crew.wanted(), len(self.waiting) + len(self.unsettled) + len(self.busy))
        while len(self.workers) < wanted:
            taken = {worker.slot for worker in self.workers}
            self.workers.append(self.crew.start(next(slot for slot in count() if slot not in taken)))
        for worker in self.workers:
            if worker.ready and worker.job is None and (job := self._next_job()) is not None:
                worker.give(job)

    def _next_job(self) -> Job | None:
        """Take the first job that may be tried now."""
        tried = [worker.job for worker in self.workers] + [death.job for death in self.unsettled]
        occupied = any(job is not None and job.serial for job in tried)
        for place, job in enumerate(self.waiting):
            if not (job.serial and occupied):
                del self.waiting[place]
                return job
        return None

    def _receive(self, worker: AnyWorker) -> Iterator[Event]:
        """Read one message of a worker, or handle its death."""
        try:
            kind, value = worker.receive()
        except (EOFError, OSError):
            yield from self._reap(worker)
            return
        if kind == "warning":
            yield WorkerWarning(value)
            return
        now = time.monotonic()
        since, worker.last_message, worker.idle_s = now - worker.last_message, now, 0.0
        job = worker.job
        if kind == "placed":
            worker.placed, worker.started, worker.host = True, now, value
        elif kind == "unusable":  # no spec's fault, and another worker would meet the same
            error, trace = value
            raise error from BokehsynthError(f"in a worker that was starting:\n{trace}")
        elif job is None:
            worker.ready, self.failed_starts = True, 0
        elif kind == "progress":
            job.units += value
            self.interval.add(since, value)
            yield Progress(job.spec, value)
        else:
            worker.job = None
            if kind == "done":
                yield Done(job.spec, value, job.attempts, now - job.started)
            else:
                error, trace = value
                yield Failed(job.spec, error, trace, job.attempts)
            if now - worker.started > self.policy.lifetime:
                self.workers.remove(worker)
                worker.end()

    def _reap(self, worker: AnyWorker, silence: float = 0.0) -> Iterator[Event]:
        """Remove a dead or timed-out worker; its death is told, and its spec tried again, once it has settled."""
        self.workers.remove(worker)
        job = worker.job
        how = worker.end(ended=not silence)
        if silence:
            how = Exit(f"silence for {silence:.0f} s", "timed_out", by_itself=False)
        death = _Death(job, how, worker.last_message, time.monotonic(), worker.host)
        self.deaths.append(death)
        if job is None:
            self._count_failed_start(how)
            return
        self.unsettled.append(death)
        job.timeouts += bool(silence)
        job.lost += how.outside
        if job.units:
            yield Progress(job.spec, -job.units)

    def _settle(self) -> Iterator[Event]:
        """Tell of the deaths that this process has outlived by now; their specs go first again."""
        for death in [death for death in self.unsettled if death.at + SETTLE_SECONDS <= self.now]:
            self.unsettled.remove(death)
            job = death.job
            assert job is not None
            # What strikes several workers at once strikes one machine: deaths on others are no excuse.
            others = (other for other in self.deaths if other is not death and other.host == death.host)
            in_company = death.exit.outside or any(
                death.began <= other.at <= death.at + SETTLE_SECONDS for other in others
            )
            yield Died(job.spec, death.exit.cause, death.exit.kind, in_company, death.at - death.began, job.attempts)
            tries = job.attempts - job.lost
            job.serial = job.serial or (in_company and not death.exit.outside and tries >= SERIAL_AFTER)
            if tries < MAX_ATTEMPTS and job.lost < MAX_LOST:
                self.waiting.appendleft(job)
            else:
                error = BokehsynthError(f"its worker was ended {job.attempts} times, at last by {death.exit.cause}")
                yield Failed(job.spec, error, "", job.attempts)

    def _count_failed_start(self, how: Exit) -> None:
        self.failed_starts += 1
        if how.by_itself:
            raise UsageError(
                f"a worker process ended with {how.cause} while starting; {how.message}. If you call "
                "bokehsynth from a script, the call must stand under `if __name__ == '__main__':`"
            )
        if self.failed_starts == MAX_FAILED_STARTS:
            raise BokehsynthError(
                f"{MAX_FAILED_STARTS} workers in a row were ended by {how.cause} while starting; is there enough "
                "memory for --workers of them?"
            )

    def _kill_timed_out(self, passed: float) -> Iterator[Event]:
        """End the workers that sent nothing for longer than the timeout of what they do."""
        for worker in list(self.workers):
            if (worker.ready and worker.job is None) or not worker.placed:
                continue
            worker.idle_s += passed
            limit = self.interval.limit(worker.job.timeouts) if worker.job else self.policy.starting
            if worker.idle_s > max(limit, 4 * TICK):
                yield from self._reap(worker, worker.idle_s)

    def _say_no_room(self) -> Iterator[Event]:
        """Say once that the run waits for others, or for a cluster to grow."""
        if any(worker.placed for worker in self.workers):
            self.told_of_room = True
        elif self.workers and not self.told_of_room and self.now - self.begun > NO_ROOM_SECONDS:
            self.told_of_room = True
            yield WorkerWarning("no node of the cluster has room for a worker yet; the run waits for one")

    def _drain(self) -> Iterator[Event]:
        """After a request to stop: a worker that can finish in the time that is left may, the others are ended."""
        if self.stop_by is None:
            self.stop_by = self.now + self.policy.grace
        left = self.stop_by - self.now
        for death in self.unsettled:  # whatever asked for the stop may have ended them, too
            assert death.job is not None
            yield Cancelled(death.job.spec)
        self.unsettled.clear()
        ended = [worker for worker in self.workers if worker.job is None or self._needs(worker.job) > left]
        if not ended:
            return
        self.workers = [worker for worker in self.workers if worker not in ended]
        self.crew.end(ended)
        for worker in ended:
            if worker.job is not None:
                yield Cancelled(worker.job.spec)

    def _needs(self, job: Job) -> float:
        """Seconds to the end of a job, as far as that is known; never less than 0."""
        median = self.interval.median
        if median is None or not hasattr(job.spec, "__len__"):
            return 0.0
        return max(0.0, (len(job.spec) - job.units) * median / 2)  # it may be twice as fast as most: let it try
