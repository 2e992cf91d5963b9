"""The Ray side of a worker: an actor that holds one worker process of its node and passes on what it sends.

The process is the same as on one machine, so its ends are told as exactly: Ray itself does not say by which signal or
code a process ended. It dies with the actor, and the actor with its driver or its node.
"""

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from bokehsynth.workers.handle import Exit
from bokehsynth.workers.worker import Worker

Message = tuple[str, Any]
"""What `handle.WorkerHandle.receive` returns; or `ended` with the Exit of the process, the last one."""


class NodeWorker:
    """An actor: one worker process on the node where Ray has placed it."""

    def __init__(self, folder: str, environment: Mapping[str, str]) -> None:
        """Work in the driver's `folder`, where the node has it: a recipe or data set may have a relative path."""
        if os.path.isdir(folder):
            os.chdir(folder)
        self._environment = environment
        self._worker: Worker | None = None

    def start(self, payload: bytes) -> Iterator[Message]:
        """Start the process; its messages until it is ready, or its task is found unusable."""
        yield "placed", socket.gethostname()
        written = _stderr_size()
        self._worker = Worker(payload, environment=self._environment)
        for kind, value in self._messages({"ready", "unusable"}):
            yield kind, value._replace(message=_last_words(written)) if kind == "ended" else value

    def work(self, spec: Any) -> Iterator[Message]:
        """Hand the process a spec; its messages until there is an outcome."""
        assert self._worker is not None
        self._worker.send(spec)
        yield from self._messages({"done", "failed"})

    def _messages(self, last: set[str]) -> Iterator[Message]:
        assert self._worker is not None
        while True:
            try:
                kind, value = self._worker.receive()
            except (EOFError, OSError):
                how: Exit = self._worker.end(ended=True)
                yield "ended", how
                return
            yield kind, value
            if kind in last:
                return


def _stderr_size() -> int:
    """Bytes in the log file of Ray that this process and its children write their stderr to; 0 if it is none."""
    with contextlib.suppress(OSError):
        return os.fstat(2).st_size
    return 0


def _last_words(written: int) -> str:
    """Where the stderr of this actor is, and the last line in it after the first `written` bytes."""
    place, line = "worker-*.err among Ray's logs (/tmp/ray/session_latest/logs, if Ray was started as usual)", ""
    with contextlib.suppress(OSError):
        path = os.readlink("/proc/self/fd/2")
        if os.path.isfile(path):
            place = path
            with open(path, encoding="utf-8", errors="replace") as log:
                log.seek(written)
                line = next((text.strip() for text in reversed(log.readlines()) if text.strip()), "")
    return f"its message stands on node {socket.gethostname()} in {place}" + (f": {line[-400:]}" if line else "")
