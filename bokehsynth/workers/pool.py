"""Worker processes on this machine: spawned, single-threaded, replaced if killed."""

import multiprocessing
import os
import pickle
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

from bokehsynth.errors import UsageError
from bokehsynth.workers.companion import Companion, CompanionProcess
from bokehsynth.workers.events import Event, Task, WorkerWarning
from bokehsynth.workers.supervisor import RunPolicy, supervise
from bokehsynth.workers.worker import Worker


def usable_cpus() -> int:
    """The CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class LocalEngine:
    """Runs a task over specs in `workers` processes."""

    workers: int
    policy: RunPolicy = field(default_factory=RunPolicy)
    environments: tuple[Mapping[str, str], ...] = ()
    """Variables that the workers are started with, assigned in turn; a replacement gets those of the worker before."""
    companions: tuple[Companion, ...] = ()
    """Processes that serve the workers, assigned to them in turn."""

    def run(self, task: Task, specs: Iterable[Any]) -> Generator[Event, None, None]:
        """Yield the events of `supervisor.supervise`; the task is pickled once per worker.

        The workers also die by themselves when this process does. Raises UsageError if they cannot even start.
        """
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise UsageError(
                "a worker process is importing your script, which calls bokehsynth again; put the call under "
                "`if __name__ == '__main__':`"
            )
        crew = _LocalCrew(self, pickle.dumps(task))
        try:
            with closing(supervise(crew, specs, self.policy)) as events:
                for event in events:
                    yield from crew.warnings()
                    yield event
        finally:
            crew.close()


class _LocalCrew:
    """The processes of one run."""

    def __init__(self, engine: LocalEngine, payload: bytes) -> None:
        self.engine, self.payload = engine, payload
        self.companions = [CompanionProcess(companion) for companion in engine.companions]

    def wanted(self) -> int:
        self._tend()
        return self.engine.workers

    def start(self, slot: int) -> Worker:
        environments = self.engine.environments or ({},)
        environment = dict(environments[slot % len(environments)])
        if self.companions:
            environment |= self.companions[slot % len(self.companions)].workers_environment
        return Worker(self.payload, slot, environment)

    def wait(self, workers: Sequence[Worker], seconds: float) -> list[Worker]:
        self._tend()
        readable = connection.wait([worker.pipe for worker in workers], seconds)
        return [worker for worker in workers if worker.pipe in readable]

    def end(self, workers: Sequence[Worker]) -> None:
        for worker in workers:
            worker.end()

    def warnings(self) -> Iterator[WorkerWarning]:
        """What has happened to companions since the last call; workers that wait for one have events all the time."""
        for companion in self.companions:
            while companion.warnings:
                yield WorkerWarning(companion.warnings.pop(0))

    def close(self) -> None:
        for companion in self.companions:
            companion.close()

    def _tend(self) -> None:
        for companion in self.companions:
            companion.tend()
