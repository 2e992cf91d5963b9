"""Supervised processes on this machine: one spec per worker at a time, spawned, single-threaded, replaced if killed.

`multiprocessing.Pool` hangs for ever when a worker is killed, and `ProcessPoolExecutor` gives up everything; here each
worker has a pipe of its own, so that it is known who died over what, and the others go on.
"""

import multiprocessing
import os
import pickle
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import connection
from typing import Any

from bokehsynth.errors import BokehsynthError, UsageError
from bokehsynth.workers import signals
from bokehsynth.workers.events import Abandoned, Died, Done, Event, Failed, Progress, Remark, Task
from bokehsynth.workers.timeouts import STARTING, Pace, Patience
from bokehsynth.workers.worker import Job, Worker, how_it_ended

MAX_ATTEMPTS = 30
"""How often a spec may end its worker in one run; a task that learns from what it left on disk needs far fewer."""

MAX_STILLBORN = 50
"""How many workers in a row may be killed from outside before any has started."""

TICK = 0.25
"""Seconds between two looks at the clock and at the signals."""

LIFETIME = 900.0
"""Seconds after which a worker is replaced, between two specs: whatever a library leaks goes with it."""


def default_workers() -> int:
    """The CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class LocalEngine:
    """Runs a task over specs in `workers` processes."""

    workers: int
    patience: Patience = field(default_factory=Patience)
    grace: float = 25.0
    """Seconds that work in flight gets when the run is told to stop."""
    lifetime: float = LIFETIME
    environments: tuple[Mapping[str, str], ...] = ()
    """Variables that the workers are started with, dealt out in turn; whoever replaces a worker gets its own."""

    def run(self, task: Task, specs: Iterable[Any]) -> Generator[Event, None, None]:
        """Yield events as they happen, results in any order; a spec with a length tells how many units it holds.

        The task is pickled once per worker. SIGTERM and SIGINT are held back: no spec is handed out any more, those in
        flight get `grace` seconds, and Stopped is raised. When the iterator is closed or an exception passes through,
        the workers are ended; they also die by themselves when this process does. Raises UsageError if workers cannot
        even start.
        """
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise UsageError(
                "a worker process is importing your script, which calls bokehsynth again; put the call under "
                "`if __name__ == '__main__':`"
            )
        crew = _Crew(self, pickle.dumps(task), deque(Job(spec) for spec in specs))
        with signals.held_back():
            try:
                yield from crew.work()
            finally:
                crew.dismiss()


class _Crew:
    """The workers of one run and what is still to be done."""

    def __init__(self, engine: LocalEngine, payload: bytes, waiting: "deque[Job]") -> None:
        self.engine, self.payload, self.waiting = engine, payload, waiting
        self.workers: list[Worker] = []
        self.pace = Pace(engine.patience)
        self.stillborn = 0
        self.now = time.monotonic()
        self.stop_by: float | None = None

    @property
    def busy(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.job]

    def work(self) -> Iterator[Event]:
        """Until nothing is left, or nobody may go on."""
        while self.busy or (self.waiting and self.stop_by is None):
            if self.stop_by is None:
                self._hire()
                self._hand_out()
            for worker in self._ready():
                yield from self._attend(worker)
            yield from self._end_the_hung(self._pass_time())
            if signals.asked():
                yield from self._wind_down()

    def dismiss(self) -> None:
        """End every worker."""
        for worker in self.workers:
            worker.end()
        self.workers.clear()

    def _hire(self) -> None:
        wanted = min(self.engine.workers, len(self.waiting) + len(self.busy))
        while len(self.workers) < wanted:
            taken = {worker.slot for worker in self.workers}
            slot = next(slot for slot in count() if slot not in taken)
            dealt = self.engine.environments
            self.workers.append(Worker(self.payload, slot, dealt[slot % len(dealt)] if dealt else {}))

    def _hand_out(self) -> None:
        for worker in self.workers:
            if worker.ready and worker.job is None and self.waiting:
                worker.give(self.waiting.popleft())

    def _ready(self) -> list[Worker]:
        """The workers that have something to say, or that are dead, within a tick."""
        listening = [worker for worker in self.workers if worker.job or not worker.ready]
        said = connection.wait([worker.pipe for worker in listening], TICK)
        return [worker for worker in listening if worker.pipe in said]

    def _pass_time(self) -> float:
        """Seconds since the last look; a pause of this process itself (Ctrl-Z, a suspended machine) hardly counts."""
        before, self.now = self.now, time.monotonic()
        return min(self.now - before, 2 * TICK)

    def _attend(self, worker: Worker) -> Iterator[Event]:
        """Read one message of a worker, or take in its death."""
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._bury(worker)
            return
        if kind == "remark":
            yield Remark(value)
            return
        now = time.monotonic()
        since, worker.heard, worker.silent = now - worker.heard, now, 0.0
        job = worker.job
        if job is None:  # its first words
            worker.ready, self.stillborn = True, 0
        elif kind == "progress":
            job.units += value
            self.pace.note(since, value)
            yield Progress(job.spec, value)
        else:
            worker.job = None
            if kind == "done":
                yield Done(job.spec, value, job.attempts, now - job.started)
            else:
                error, trace = value
                yield Failed(job.spec, error, trace, job.attempts)
            if now - worker.born > self.engine.lifetime:
                self.workers.remove(worker)
                worker.end()

    def _bury(self, worker: Worker, silence: float = 0.0) -> Iterator[Event]:
        """Take a dead or hung worker from the crew; its spec goes back to the front."""
        self.workers.remove(worker)
        job = worker.job
        if not silence:
            worker.process.join()
        code = worker.process.exitcode
        worker.end()
        cause = f"silence for {silence:.0f} s" if silence else how_it_ended(code)
        if job is None:
            self._count_stillborn(code, cause)
            return
        if job.units:
            yield Progress(job.spec, -job.units)
        yield Died(job.spec, cause, bool(silence), job.attempts)
        if job.attempts < MAX_ATTEMPTS:
            self.waiting.appendleft(job)
        else:
            error = BokehsynthError(f"its worker was ended {job.attempts} times, at last by {cause}")
            yield Failed(job.spec, error, "", job.attempts)

    def _count_stillborn(self, code: int | None, cause: str) -> None:
        self.stillborn += 1
        if code is not None and code >= 0:  # it ended itself; a signal may strike at any time
            raise UsageError(
                f"a worker process ended with code {code} while starting; its message stands above. If you call "
                "bokehsynth from a script, the call must stand under `if __name__ == '__main__':`"
            )
        if self.stillborn == MAX_STILLBORN:
            raise BokehsynthError(
                f"{MAX_STILLBORN} workers in a row were ended by {cause} while starting; is there enough "
                "memory for --workers of them?"
            )

    def _end_the_hung(self, passed: float) -> Iterator[Event]:
        """Workers that said nothing for longer than their kind of work ever takes."""
        for worker in list(self.workers):
            if worker.ready and worker.job is None:
                continue
            worker.silent += passed
            limit = self.pace.limit(worker.job.attempts) if worker.job else STARTING
            if worker.silent > max(limit, 4 * TICK):
                yield from self._bury(worker, worker.silent)

    def _wind_down(self) -> Iterator[Event]:
        """Told to stop: whoever can finish in the time that is left may; the others are ended, and it is said over
        what."""
        if self.stop_by is None:
            self.stop_by = self.now + self.engine.grace
        left = self.stop_by - self.now
        for worker in list(self.workers):
            if worker.job is None or self._needs(worker.job) > left:
                job = worker.job
                self.workers.remove(worker)
                worker.end()
                if job is not None:
                    yield Abandoned(job.spec)

    def _needs(self, job: Job) -> float:
        """Seconds to the end of a job, as far as that is known; never less than 0."""
        median = self.pace.median
        if median is None or not hasattr(job.spec, "__len__"):
            return 0.0
        return max(0.0, (len(job.spec) - job.units) * median / 2)  # it may be twice as fast as most: let it try
