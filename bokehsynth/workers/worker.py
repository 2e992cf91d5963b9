"""One spawned worker process: the supervisor's handle of it, and the loop that runs in it."""

import contextlib
import ctypes
import gc
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import connection, util
from multiprocessing.context import SpawnProcess
from typing import Any

from bokehsynth.errors import BokehsynthError, user_error
from bokehsynth.workers.events import DeathKind, Task, is_fatal_to_worker
from bokehsynth.workers.handle import Exit, WorkerHandle

OUT_OF_MEMORY = 137
"""Exit code of a worker whose task raised MemoryError: it ends as if the kernel had killed it."""

DEVICE_LOST = 75
"""Exit code of a worker whose device failed under it."""

SINGLE_THREAD = dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Variables that keep the libraries of a child process to one thread."""

KEPT_BYTES = 512 << 20
"""Freed memory that a worker keeps at the top of its heap: a sample of 512 px passes 200 MB through arrays, and its
peak is the same. What is free below an array that stays has no bound of its own until `return_freed_memory`."""

RETURNED_FROM = 1 << 30
"""Bytes that a worker takes up from which it returns what is free in its heap, between two specs."""

LARGEST_FROM_HEAP = 32 << 20
"""Bytes up to which arrays lie in memory that is kept: the most that glibc takes."""

_OWN_SIGNALS = {
    signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS
}  # fmt: skip
"""Signals that a process gets for what it does itself."""

_PARENT_SIGNALS = {signal.SIGINT, signal.SIGTERM}
"""Signals that may reach a whole process group at once, and that only the parent acts upon."""

_CONTEXT = multiprocessing.get_context("spawn")
_SAFE_PATH = "PYTHONSAFEPATH"
"""Variable that keeps the working directory off sys.path (Python 3.11 and later)."""
_STARTING = threading.Lock()
"""Held while a child is started: the variables it inherits are those of this process."""


class Worker(WorkerHandle):
    """A spawned process, and the supervisor's end of its pipe."""

    def __init__(self, payload: bytes, slot: int = 0, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(slot)
        self.pipe, theirs = _CONTEXT.Pipe()
        self.process = start_child("bokehsynth-worker", _serve, (theirs, payload), environment or {})
        theirs.close()

    def send(self, spec: Any) -> None:
        """Send a spec down the pipe."""
        with contextlib.suppress(OSError):
            self.pipe.send(spec)

    def receive(self) -> tuple[str, Any]:
        """The next message in the pipe."""
        kind, value = self.pipe.recv()
        return kind, value

    def end(self, ended: bool = False) -> Exit:
        """Kill the process unless it has `ended` by itself, wait for it, and say how it ended."""
        if ended:
            self.process.join()
        self.process.kill()
        self.process.join()
        code = self.process.exitcode
        self.pipe.close()
        self.process.close()
        by_itself = code is not None and code >= 0 and code != OUT_OF_MEMORY
        return Exit(describe_exit(code), death_kind(code), by_itself)


def describe_exit(code: int | None) -> str:
    """An exit code in words."""
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return {OUT_OF_MEMORY: "out of memory", DEVICE_LOST: "a lost device"}.get(code or 0, f"code {code}")


def death_kind(code: int | None) -> DeathKind:
    """What an exit code tells of the cause; a process whose code is unknown was killed."""
    own = code is not None and (code >= 0 or -code in _OWN_SIGNALS) and code not in {OUT_OF_MEMORY, DEVICE_LOST}
    return "crashed" if own else "killed"


def start_child(
    name: str, run: Callable[..., None], arguments: tuple[Any, ...], environment: Mapping[str, str]
) -> SpawnProcess:
    """Start a process that runs `run(*arguments)`, single-threaded, deaf to signals, and ends with this one."""
    process = _CONTEXT.Process(
        target=_run_child, args=(run, arguments, _SAFE_PATH in os.environ), name=name, daemon=True
    )
    with _inherited({**SINGLE_THREAD, _SAFE_PATH: "1", **environment}), _isolated_on_python_310():
        process.start()
    return process


def _run_child(run: Callable[..., None], arguments: tuple[Any, ...], safe_path: bool) -> None:
    """What a child does first; `safe_path` says whether the parent itself has PYTHONSAFEPATH.

    Only then do programs that a user's step starts.
    """
    if not safe_path:
        os.environ.pop(_SAFE_PATH, None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # so does a batch system's SIGTERM
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PARENT_SIGNALS)
    _die_with_parent()
    keep_freed_memory()
    import cv2

    cv2.setNumThreads(1)
    run(*arguments)


def _serve(pipe: "connection.Connection[Any, Any]", payload: bytes) -> None:
    """Run a worker: load the task, then specs in, results out, until the pipe closes."""
    sending = threading.Lock()

    def send(kind: str, value: Any) -> None:
        with sending:  # a task may have threads, and any of them may log
            pipe.send((kind, value))

    logging.getLogger("bokehsynth").addHandler(_WarningForwarder(send))
    gc.disable()
    try:
        task = _loaded(payload)
    except _UnusableError as wrapped:
        send("unusable", wrapped.args)
        return
    gc.freeze()  # a quarter of a million objects of modules, which every full collection would look through
    gc.enable()
    send("ready", None)
    while True:
        try:
            spec = pipe.recv()
        except EOFError:
            return
        try:
            answer = ("done", task(spec, lambda units: send("progress", units)))
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except BaseException as raised:  # whatever a user's code lets pass is its failure
            error = user_error(raised)
            if is_fatal_to_worker(error):
                send("warning", str(error))
                os._exit(DEVICE_LOST)
            answer = ("failed", (picklable_error(error), traceback.format_exc()))
        send(*answer)
        return_freed_memory()


def _loaded(payload: bytes) -> Task:
    """The task, prepared; _UnusableError for what its `prepare` or an exit of a module it imports raised.

    Without memory this process ends as one that the kernel kills while it starts: another one may find more.
    """
    task: Task | None = None
    try:
        task = pickle.loads(payload)
        if hasattr(task, "prepare"):
            task.prepare()
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BaseException as raised:
        if task is None and isinstance(raised, Exception):
            raise
        raise _UnusableError(picklable_error(user_error(raised)), traceback.format_exc()) from None
    return task


class _UnusableError(Exception):
    """Why a task cannot be used in a worker: the error, and its traceback as text."""


class _WarningForwarder(logging.Handler):
    """Sends warnings to the engine instead of printing them."""

    def __init__(self, send: Callable[[str, str], None]) -> None:
        super().__init__(logging.WARNING)
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send the message; where that fails, the parent is gone."""
        with contextlib.suppress(OSError):
            self._send("warning", record.getMessage())


def _die_with_parent() -> None:
    """End this process as soon as the one that spawned it is gone, however that happened.

    On Linux the kernel does it, also to a process that is stopped or deep in a library; a thread does it elsewhere,
    and where the parent was gone before the kernel was asked.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    request_parent_death_signal()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def request_parent_death_signal() -> None:
    """On Linux, have the kernel kill this process as soon as the thread that started it has ended."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, int(signal.SIGKILL), 0, 0, 0)


def keep_freed_memory() -> bool:
    """With glibc, have this process keep freed memory for its next arrays (KEPT_BYTES); returns whether it does.

    By default pictures go back to the kernel, which clears every page again. Settings of the environment come first.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    trim_threshold, mmap_threshold = -1, -3
    return bool(set_option(mmap_threshold, LARGEST_FROM_HEAP) and set_option(trim_threshold, KEPT_BYTES))


def return_freed_memory() -> bool:
    """With glibc, return all that is free to the kernel where this process takes RETURNED_FROM; whether any was."""
    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"):
        return False
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no /proc: then always
        resident = RETURNED_FROM
    return resident >= RETURNED_FROM and bool(ctypes.CDLL(None).malloc_trim(0))


def picklable_error(error: Exception) -> Exception:
    """An error that another process can be sent: itself, or one with its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return BokehsynthError(f"{type(error).__name__}: {error}")
    return error


@contextlib.contextmanager
def _inherited(variables: Mapping[str, str]) -> Iterator[None]:
    """A child started inside the block inherits these variables, and blocked signals until it ignores them itself."""
    with _STARTING:
        before = {name: os.environ[name] for name in variables if name in os.environ}
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _PARENT_SIGNALS)
        os.environ.update(variables)
        try:
            yield
        finally:
            for name in variables:
                del os.environ[name]
            os.environ.update(before)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def _isolated_on_python_310() -> Iterator[None]:
    """A child started inside the block imports nothing from the working directory on Python 3.10, too.

    `multiprocessing` starts a child and its resource tracker by `python -c`, which puts that directory first, and they
    import from it before they are given the parent's sys.path. 3.10 knows no PYTHONSAFEPATH, but -I; the list of flags
    has no public door, and 3.10 is no longer changed.
    """
    if sys.version_info >= (3, 11):
        yield
        return
    flags = util._args_from_interpreter_flags
    util._args_from_interpreter_flags = lambda: [*flags(), "-I"]
    try:
        yield
    finally:
        util._args_from_interpreter_flags = flags
