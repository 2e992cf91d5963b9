"""`logs/events.jsonl`: what happened when, where and at which attempt; the only file that differs from run to run."""

import json
import os
import time
from collections.abc import Callable
from typing import Any

from bokehsynth.generation.quarantine import QuarantinedDraw
from bokehsynth.shards import Layout
from bokehsynth.workers import Died, Done, Failed


class EventLog:
    """Appends one JSON object per line; a log that cannot be written is one warning and stops nothing."""

    def __init__(self, layout: Layout, say: Callable[[str], None]) -> None:
        self._layout, self._say = layout, say
        self._closed = False

    def write(self, event: str, **facts: Any) -> None:
        """Append one line: the event, the time, this host and process, and the facts."""
        if self._closed:
            return
        record = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "event": event,
            **facts,
        }
        path = self._layout.logs / "events.jsonl"
        try:
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(handle, (json.dumps(record) + "\n").encode())  # one write: runs that share the file take turns
            finally:
                os.close(handle)
        except OSError as error:
            self._closed = True
            self._say(f"warning: {path}: {error.strerror}; the run goes on without its log")

    def committed(self, event: Done) -> None:
        """Log that a shard is committed."""
        self.write(
            "committed", shard=event.spec.name, attempts=event.attempts, seconds=round(event.seconds, 3),
            samples=event.spec.count, bytes=event.result.bytes,
        )  # fmt: skip

    def died(self, event: Died) -> None:
        """Log that a worker died over a shard."""
        self.write("died", shard=event.spec.name, attempts=event.attempts, cause=event.cause)

    def failed(self, event: Failed) -> None:
        """Log that this run stops trying to make a shard."""
        self.write(
            "failed", shard=event.spec.name, attempts=event.attempts, error=str(event.error), trace=event.trace
        )  # fmt: skip

    def warning(self, text: str, show: bool = True) -> None:
        """Log a worker's warning; with `show` the user sees it, too."""
        self.write("remark", message=text)
        if show:
            self._say(f"note: {text}")

    def quarantined(self, draw: QuarantinedDraw) -> None:
        """Log that a draw of a sample is in quarantine."""
        self.write(
            "quarantined", split=draw.split, index=draw.index, attempt=draw.attempt, reason=draw.reason,
            message=draw.message,
        )  # fmt: skip
