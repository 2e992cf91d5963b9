"""Supervised processes on this machine: one spec per worker at a time, spawned, single-threaded, restarted if killed.

`multiprocessing.Pool` hangs for ever when a worker is killed, and `ProcessPoolExecutor` gives up everything; here each
worker has a pipe of its own, so that it is known who died over what, and the others go on.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

from bokehsynth.engines.events import Done, Event, Failed, Progress, Task
from bokehsynth.errors import BokehsynthError, UsageError

MAX_ATTEMPTS = 3
"""How often a spec may kill its worker."""

_SINGLE_THREAD = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_CONTEXT = multiprocessing.get_context("spawn")


def default_workers() -> int:
    """The CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_local(task: Task, specs: Iterable[Any], workers: int) -> Iterator[Event]:
    """Run `task` over `specs` in `workers` processes; yields events as they happen, results in any order.

    The task is pickled once per worker. When the iterator is closed or an exception passes through, the workers are
    killed; they also die by themselves when this process does. Raises UsageError if workers cannot even start.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UsageError(
            "a worker process is importing your script, which calls bokehsynth again; put the call under "
            "`if __name__ == '__main__':`"
        )
    waiting = deque(_Job(spec) for spec in specs)
    payload = pickle.dumps(task)
    slots: list[_Worker] = []
    try:
        while waiting or any(worker.job for worker in slots):
            while waiting and len(slots) < workers:
                slots.append(_Worker(payload))
            for worker in slots:
                if worker.job is None and waiting:
                    worker.give(waiting.popleft())
            ready = connection.wait([worker.pipe for worker in slots if worker.job])
            for worker in [worker for worker in slots if worker.pipe in ready]:
                yield from _attend(worker, slots, waiting)
    finally:
        for worker in slots:
            worker.kill()


@dataclass
class _Job:
    spec: Any
    attempts: int = 0
    units: int = 0
    started: float = field(default_factory=time.monotonic)


class _Worker:
    """A process, our end of its pipe, and the job it holds."""

    def __init__(self, payload: bytes) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_serve, args=(theirs, payload), name="bokehsynth-worker", daemon=True)
        self.job: _Job | None = None
        self.greeted = False
        with _environment(dict.fromkeys(_SINGLE_THREAD, "1")), _sigint_blocked():
            self.process.start()
        theirs.close()

    def give(self, job: _Job) -> None:
        """Hand over a job; a worker that is already dead is noticed when its pipe is read."""
        job.attempts, job.units, job.started = job.attempts + 1, 0, time.monotonic()
        self.job = job
        with contextlib.suppress(OSError):
            self.pipe.send(job.spec)

    def kill(self) -> None:
        """End the process at once and wait for it."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _attend(worker: _Worker, slots: list[_Worker], waiting: deque[_Job]) -> Iterator[Event]:
    """Read one message of a worker, or take in its death."""
    job = worker.job
    assert job is not None
    try:
        kind, value = worker.pipe.recv()
    except (EOFError, OSError):
        yield from _bury(worker, job, slots, waiting)
        return
    if kind == "ready":
        worker.greeted = True
    elif kind == "progress":
        job.units += value
        yield Progress(job.spec, value)
    else:
        worker.job = None
        if kind == "done":
            yield Done(job.spec, value, job.attempts, time.monotonic() - job.started)
        else:
            error, trace = value
            yield Failed(job.spec, error, trace, job.attempts)


def _bury(worker: _Worker, job: _Job, slots: list[_Worker], waiting: deque[_Job]) -> Iterator[Event]:
    worker.process.join()
    code = worker.process.exitcode
    slots.remove(worker)
    worker.kill()
    if not worker.greeted and code is not None and code >= 0:  # it ended itself; a signal may strike at any time
        raise UsageError(
            f"a worker process ended with code {code} while starting; its message stands above. If you call bokehsynth "
            "from a script, the call must stand under `if __name__ == '__main__':`"
        )
    if job.units:
        yield Progress(job.spec, -job.units)
    if job.attempts < MAX_ATTEMPTS:
        waiting.appendleft(job)
    else:
        killed = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"code {code}"
        error = BokehsynthError(f"its worker was ended by {killed}, {job.attempts} times")
        yield Failed(job.spec, error, "", job.attempts)


def _serve(pipe: "connection.Connection[Any, Any]", payload: bytes) -> None:
    """A worker's life: unpickle the task, then specs in, results out, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _die_with_parent()
    import cv2

    cv2.setNumThreads(1)
    task: Task = pickle.loads(payload)
    pipe.send(("ready", None))
    while True:
        try:
            spec = pipe.recv()
        except EOFError:
            return
        try:
            answer = ("done", task(spec, lambda units: pipe.send(("progress", units))))
        except Exception as error:
            answer = ("failed", (_picklable(error), traceback.format_exc()))
        pipe.send(answer)


def _die_with_parent() -> None:
    """End this process as soon as the one that spawned it is gone, however that happened."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _picklable(error: Exception) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return BokehsynthError(f"{type(error).__name__}: {error}")
    return error


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """A child started inside the block inherits the block, until it has chosen to ignore Ctrl-C itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_ENVIRONMENT = threading.Lock()


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for a child that is started inside the block; one thread at a time."""
    with _ENVIRONMENT:
        yield from _changed_environment(values)


def _changed_environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
