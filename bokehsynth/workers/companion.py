"""A process beside the workers of a run that serves them all, as one that has a device does; replaced when it ends.

Workers reach it by a name that outlives it: the run itself holds the listening socket, and who connects while there is
no process waits for the next one. The name is one of Linux's abstract ones, of which nothing stays in a folder.
"""

import multiprocessing
import os
import secrets
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from bokehsynth.errors import BokehsynthError
from bokehsynth.workers.supervisor import MAX_FAILED_STARTS
from bokehsynth.workers.worker import describe_exit, start_child

ADDRESS = "BOKEHSYNTH_COMPANION"
"""Variable in which a worker finds the name of its companion's socket."""

BACKLOG = 1024
"""Workers that may wait for the process at a time."""


@dataclass(frozen=True)
class Companion:
    """What the process does, and the variables it is started with besides those of a worker."""

    serve: Callable[[socket.socket, Callable[[], None]], None]
    """Picklable; called as serve(listener, ready) in the process: calls `ready()` once it is, and takes connections
    by `accept(listener)` until it is ended."""
    environment: Mapping[str, str] = field(default_factory=dict)


class CompanionProcess:
    """The process of a companion, seen from the run; all calls must come from the thread that started the workers."""

    def __init__(self, companion: Companion) -> None:
        self.companion = companion
        name = f"bokehsynth-{os.getpid()}-{secrets.token_hex(8)}"
        self.workers_environment = {ADDRESS: name}
        """Variables that tell a worker the way."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"\0{name}")
        self._listener.listen(BACKLOG)
        self._process: SpawnProcess | None = None
        self._ready: Connection[Any, Any] | None = None
        """Where the process says that it is ready; None once it has."""
        self._failed_starts = 0

    def tend(self) -> None:
        """Start the process if there is none. BokehsynthError if it ends again and again while starting."""
        if self._process is not None:
            ended = self._process.exitcode is not None  # before the message is looked for, which may come just now
            if self._ready is not None and self._ready.poll():
                try:
                    self._ready.recv()
                    self._ready, self._failed_starts = None, 0
                except EOFError:
                    pass
            if not ended:
                return
            self._count_failed_start(self._process.exitcode)
            self._process.close()
        self._ready, theirs = multiprocessing.get_context("spawn").Pipe(duplex=False)
        arguments = (self.companion.serve, self._listener, theirs)
        self._process = start_child("bokehsynth-companion", _serve, arguments, self.companion.environment)
        theirs.close()

    def close(self) -> None:
        """End the process at once, and refuse connections."""
        self._listener.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None

    def _count_failed_start(self, code: int | None) -> None:
        if self._ready is None:  # it had started
            return
        self._failed_starts += 1
        by_itself = code is not None and code >= 0
        if by_itself or self._failed_starts == MAX_FAILED_STARTS:
            raise BokehsynthError(
                f"the process that serves the workers ended with {describe_exit(code)} while starting"
                + ("; its message stands above" if by_itself else f", {MAX_FAILED_STARTS} times in a row")
            )


def _serve(serve: Callable[..., None], listener: socket.socket, ready: "Connection[Any, Any]") -> None:
    def say_ready() -> None:
        ready.send(None)

    serve(listener, say_ready)


def accept(listener: socket.socket) -> "Connection[Any, Any] | None":
    """Take a connection that waits; None if it is of another user, or already gone."""
    try:
        found, _ = listener.accept()
    except OSError:
        return None
    credentials = found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    if struct.unpack("3i", credentials)[1] != os.geteuid():
        found.close()
        return None
    return Connection(found.detach())


def connect() -> "Connection[Any, Any]":
    """Connect this worker to its companion; OSError if the run has ended."""
    ours = socket.socket(socket.AF_UNIX)
    try:
        ours.connect(f"\0{os.environ[ADDRESS]}")
    except OSError:
        ours.close()
        raise
    return Connection(ours.detach())
