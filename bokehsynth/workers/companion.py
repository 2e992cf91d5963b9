"""A process beside the workers of a run that serves them all, as one that has a device does; replaced when it ends.

Workers reach it by a name that outlives it: the run itself holds the listening socket, and who connects while there is
no process waits for the next one. The name is one of Linux's abstract ones, of which nothing stays in a folder. Such
names can be listed, and containers that share a network share them: who connects has to know a key of the run, too,
before anything it sends is unpickled.
"""

import hmac
import multiprocessing
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from bokehsynth.errors import BokehsynthError
from bokehsynth.workers.supervisor import MAX_FAILED_STARTS
from bokehsynth.workers.timeouts import COMPILING
from bokehsynth.workers.worker import describe_exit, start_child

ADDRESS = "BOKEHSYNTH_COMPANION"
"""Variable in which a worker finds the name of its companion's socket."""

KEY = "BOKEHSYNTH_COMPANION_KEY"
"""Variable with the key of the run, random: a worker sends it first."""

KEY_BYTES = 32

MAX_SLOW_STARTS = 2
"""Processes in a row that may not be ready in time: what hangs at each start hangs for good."""

END_SECONDS = 10.0
"""For which the end of a process that was killed is waited for: one that is stuck in a driver never ends."""

BACKLOG = 1024
"""Workers that may wait for the process at a time."""


@dataclass(frozen=True)
class Companion:
    """What the process does, and the variables it is started with besides those of a worker."""

    serve: Callable[[socket.socket, Callable[[], None]], None]
    """Picklable; called as serve(listener, ready) in the process: calls `ready()` once it is, and again when it has
    served a worker, at least the first time. Takes connections by `accept(listener)` until it is ended, and trusts
    those alone that are `is_of_this_run`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    starting: float = COMPILING
    """Seconds in which it has to be ready."""


class CompanionProcess:
    """The process of a companion, seen from the run; all calls must come from the thread that started the workers."""

    def __init__(self, companion: Companion) -> None:
        self.companion = companion
        name = f"bokehsynth-{os.getpid()}-{secrets.token_hex(8)}"
        self.workers_environment = {ADDRESS: name, KEY: secrets.token_hex(KEY_BYTES)}
        """Variables that tell a worker the way, and let it in."""
        self.warnings: list[str] = []
        """What is to be said, of processes that ended; to be taken by the run."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"\0{name}")
        self._listener.listen(BACKLOG)
        self._process: SpawnProcess | None = None
        self._reports: Connection[Any, Any] | None = None
        """Where the process says that it is ready, and that it has served."""
        self._ready, self._started, self._killed = False, 0.0, False
        self._failures = self._slow_starts = 0
        """In a row: processes that ended before they had served, and that were not ready in time."""

    def tend(self) -> None:
        """Start the process if there is none, end one that is not ready in time.

        BokehsynthError if it ends again and again before it has served, or is not ready in time twice.
        """
        if self._process is not None:
            ended = self._process.exitcode is not None  # before the messages are looked for, which may come just now
            self._read_reports()
            if not ended:
                if not self._ready:
                    self._end_slow_start()
                return
            self._tell_end(self._process.exitcode)
            self._process.close()
        self._reports, theirs = multiprocessing.get_context("spawn").Pipe(duplex=False)
        arguments = (self.companion.serve, self._listener, theirs)
        environment = {**self.companion.environment, **self.workers_environment}
        self._process = start_child("bokehsynth-companion", _serve, arguments, environment)
        self._ready, self._started, self._killed = False, time.monotonic(), False
        theirs.close()

    def close(self) -> None:
        """End the process at once, and refuse connections."""
        self._listener.close()
        if self._process is not None:
            self._process.kill()
            self._process.join(END_SECONDS)
            if self._process.exitcode is not None:
                self._process.close()
            self._process = None

    def _read_reports(self) -> None:
        assert self._reports is not None
        try:
            while self._reports.poll():
                self._reports.recv()
                if self._ready:
                    self._failures = 0
                self._ready, self._slow_starts = True, 0
        except (EOFError, OSError):  # it has ended
            pass

    def _end_slow_start(self) -> None:
        """Kill a process that is not ready in time, once; what a driver holds even then ends the run."""
        assert self._process is not None
        late = time.monotonic() - self._started - self.companion.starting
        if late > 0 and not self._killed:
            self._killed = True
            self._slow_starts += 1
            self._process.kill()
        if (self._killed and self._slow_starts == MAX_SLOW_STARTS) or late > END_SECONDS:
            raise BokehsynthError(
                f"the process that serves the workers was not ready after {self.companion.starting:.0f} s; does its "
                "device answer (nvidia-smi)?"
            )

    def _tell_end(self, code: int | None) -> None:
        """Say that a process has ended; BokehsynthError where another one would end, too."""
        self._failures += 1
        how = f"the process that serves the workers ended with {describe_exit(code)}"
        if not self._ready and code is not None and code >= 0:
            raise BokehsynthError(f"{how} while starting; its message stands above")
        if self._failures == MAX_FAILED_STARTS:
            raise BokehsynthError(f"{how}, the last of {MAX_FAILED_STARTS} in a row that ended before they had served")
        late = f": it was not ready after {self.companion.starting:.0f} s" if self._killed else ""
        self.warnings.append(f"{how}{late}; another one is started")


def _serve(serve: Callable[..., None], listener: socket.socket, ready: "Connection[Any, Any]") -> None:
    left = 2  # that it is ready, and that it has served: more would fill the pipe of a run that does not listen

    def say() -> None:
        nonlocal left
        if left:
            left -= 1
            ready.send(None)

    serve(listener, say)


def accept(listener: socket.socket) -> "Connection[Any, Any] | None":
    """Take a connection that waits; None if it is of another user, or already gone. OSError: nothing can be taken."""
    try:
        found, _ = listener.accept()
    except (ConnectionError, BlockingIOError):
        return None
    credentials = found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    if struct.unpack("3i", credentials)[1] != os.geteuid():
        found.close()
        return None
    return Connection(found.detach())


def is_of_this_run(link: "Connection[Any, Any]") -> bool:
    """Whether the first bytes that came down a new connection, which has some, are the run's key; never waits."""
    with socket.socket(fileno=os.dup(link.fileno())) as found:
        sent = found.recv(KEY_BYTES, socket.MSG_DONTWAIT)
    return hmac.compare_digest(sent, bytes.fromhex(os.environ[KEY]))


def connect() -> "Connection[Any, Any]":
    """Connect this worker to its companion; OSError if the run has ended."""
    ours = socket.socket(socket.AF_UNIX)
    try:
        ours.connect(f"\0{os.environ[ADDRESS]}")
        ours.sendall(bytes.fromhex(os.environ[KEY]))
    except OSError:
        ours.close()
        raise
    return Connection(ours.detach())
