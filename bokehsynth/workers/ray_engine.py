"""The engine on a Ray cluster: workers are actors, placed by the CPUs and GPUs they ask for.

Only as many specs are handed to Ray as there are workers; all else waits here, so that a cluster that shrinks, grows
or loses nodes never holds more than its workers' specs. Retries, time limits and signals are the supervisor's.
"""

import contextlib
import multiprocessing
import os
import pickle
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bokehsynth.errors import UsageError
from bokehsynth.workers import signals
from bokehsynth.workers.events import Event, Task
from bokehsynth.workers.handle import Exit, WorkerHandle
from bokehsynth.workers.ray_actor import NodeWorker
from bokehsynth.workers.ray_cluster import cluster_address, connected, import_ray
from bokehsynth.workers.supervisor import RunPolicy, supervise

STARTING = 900.0
"""Seconds in which a worker that was placed has to start: imports from the file system of a node that did none yet, and
kernels that are compiled there once."""

SILENCE = 90.0
"""Seconds of silence, at least, before a worker is taken for one that hangs: Ray takes some 50 to notice that a machine
has vanished, and then says so."""

SHARES = 10_000
"""Parts of a GPU that Ray counts in."""

END_SECONDS = 5.0
"""How long the end of actors that are killed is waited for."""

RESOURCES_SECONDS = 2.0
"""How long the resources of a cluster are believed before they are asked for again."""


@dataclass(frozen=True)
class RayEngine:
    """Runs a task over specs in the workers of a Ray cluster: the one at `address`, or one started for the run."""

    workers: int | None
    """Workers in all; None: as many as the cluster has room for, nodes that join later included."""
    policy: RunPolicy = field(default_factory=lambda: RunPolicy(starting=STARTING))
    address: str | None = None
    """`auto` or HOST:PORT; None: RAY_ADDRESS, and without that a cluster of one's own."""
    cpus: int = 1
    """CPUs of each worker."""
    sharing: int = 0
    """How many workers share a GPU; 0: they need none."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of every worker, besides those that Ray sets for the GPU."""

    def __post_init__(self) -> None:
        import_ray()
        cluster_address(self.address)

    def run(self, task: Task, specs: Iterable[Any]) -> Generator[Event, None, None]:
        """Yield the events of `supervisor.supervise`; the task goes to each node once.

        Workers end with this process, however it ends, and so does a cluster started here. UsageError if the cluster
        cannot be joined, or its nodes cannot start workers.
        """
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise UsageError(
                "a worker process is importing your script; put its call under `if __name__ == '__main__'`"
            )
        workers = self.workers or 1
        gpus = -(-workers // self.sharing) if self.sharing else 0
        with signals.defer_signals(), connected(self.address, workers * self.cpus, gpus) as ray:
            yield from supervise(_RayCrew(self, ray, pickle.dumps(task)), specs, self.policy)


class _RayCrew:
    """The actors of one run."""

    def __init__(self, engine: RayEngine, ray: Any, payload: bytes) -> None:
        self.engine, self.ray = engine, ray
        self.payload = ray.put(payload)
        self.actor = ray.remote(NodeWorker).options(
            num_cpus=engine.cpus, num_gpus=gpu_share(engine.sharing), max_restarts=0, max_task_retries=0
        )
        self.room, self.asked = 1, -RESOURCES_SECONDS

    def wanted(self) -> int:
        if self.engine.workers is not None:
            return self.engine.workers
        if time.monotonic() - self.asked >= RESOURCES_SECONDS:
            self.asked = time.monotonic()
            resources = self.ray.cluster_resources()
            room = resources.get("CPU", 0.0) // self.engine.cpus
            if self.engine.sharing:
                room = min(room, resources.get("GPU", 0.0) * self.engine.sharing)
            self.room = max(1, int(room))  # one waits for a cluster that is empty now
        return self.room

    def start(self, slot: int) -> "_RayWorker":
        return _RayWorker(self.ray, self.actor, slot, self.payload, self.engine.environment)

    def wait(self, workers: Sequence["_RayWorker"], seconds: float) -> list["_RayWorker"]:
        by_stream = {id(worker.stream): worker for worker in workers}
        streams = [worker.stream for worker in workers]
        if not streams:
            time.sleep(seconds)
            return []
        ready, rest = self.ray.wait(streams, num_returns=1, timeout=seconds)
        if ready and rest:
            ready += self.ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        return [by_stream[id(stream)] for stream in ready]

    def end(self, workers: Sequence["_RayWorker"]) -> None:
        for worker in workers:
            worker.kill()
        if workers:
            _await_end(self.ray, workers)


class _RayWorker(WorkerHandle):
    """An actor, and the stream of messages of its call."""

    def __init__(self, ray: Any, actor: Any, slot: int, payload: Any, environment: Mapping[str, str]) -> None:
        super().__init__(slot)
        self.placed = False
        self._ray = ray
        self._actor = actor.remote(os.getcwd(), dict(environment))
        self.stream = self._actor.start.options(num_returns="streaming").remote(payload)
        self._exit = Exit("the engine", "killed", by_itself=False, outside=True)

    def send(self, spec: Any) -> None:
        """Call the actor with a spec."""
        self.stream = self._actor.work.options(num_returns="streaming").remote(spec)

    def receive(self) -> tuple[str, Any]:
        """The next message of the call; EOFError once the process, its actor or its node has ended."""
        try:
            kind, value = self._ray.get(next(self.stream))
        except StopIteration:
            raise EOFError from None
        except self._ray.exceptions.RayError as error:
            self._exit = _exit_of(self._ray, error)
            raise EOFError from None
        if kind == "ended":
            self._exit = value
            raise EOFError
        return kind, value

    def end(self, ended: bool = False) -> Exit:
        """Kill the actor, and its process with it."""
        self.kill()
        if not ended:
            _await_end(self._ray, [self])
        return self._exit

    def kill(self) -> None:
        """Have Ray kill the actor, some time soon."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._actor, no_restart=True)


def _await_end(ray: Any, workers: Sequence["_RayWorker"]) -> None:
    """Wait until the calls of killed actors have ended, as far as Ray can tell: what they wrote to is free then."""
    with contextlib.suppress(ray.exceptions.RayError):
        ray.wait([worker.stream.completed() for worker in workers], num_returns=len(workers), timeout=END_SECONDS)


def gpu_share(sharing: int) -> float:
    """The part of a GPU that each of so many workers asks for, rounded down as Ray counts: all of them find room."""
    return SHARES // sharing / SHARES if sharing else 0.0


def _exit_of(ray: Any, error: Exception) -> Exit:
    """What the end of an actor means. Its process does all the work, so that no spec is its cause, but for memory."""
    text = " ".join(str(error).split())
    if getattr(error, "actor_init_failed", False) or isinstance(error, ray.exceptions.RayTaskError):
        raise UsageError(
            "a worker cannot be started on a node of the Ray cluster; every node needs the bokehsynth of this one, "
            f"and its packages: {text[-400:]}"
        ) from None
    if isinstance(error, ray.exceptions.OutOfMemoryError) or "memory monitor" in text:
        return Exit("out of memory (Ray)", "killed", by_itself=False)
    return Exit("the end of its Ray worker or node", "killed", by_itself=False, outside=True)
