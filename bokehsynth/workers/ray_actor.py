"""The Ray side of a worker: an actor that holds one worker process of its node and passes on what it sends.

The process is the same as on one machine, so its ends are told as exactly: Ray itself does not say by which signal or
code a process ended. It dies with the actor, and the actor with its driver or its node.
"""

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
        """Start the process; its messages until it is ready."""
        yield "placed", socket.gethostname()
        self._worker = Worker(payload, environment=self._environment)
        yield from self._messages({"ready"})

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
