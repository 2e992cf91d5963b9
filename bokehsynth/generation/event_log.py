"""`logs/events.jsonl`: what happened when, where and at which attempt; the only file that differs from run to run.

In a bucket nothing can be appended: each run has a file of its own, `logs/events-HOST-PID-TIME.jsonl`, which is put
anew at most every PUT_SECONDS and at the end.
"""

import json
import os
import re
import time
from collections.abc import Callable
from typing import Any

from bokehsynth.errors import BokehsynthError
from bokehsynth.files import append_line, atomic_write, files_in
from bokehsynth.shards import Layout
from bokehsynth.stores import ObjectPath, StoredPath

PUT_SECONDS = 30.0
"""Between two puts of a log."""


class EventLog:
    """Appends one JSON object per line; a log that cannot be written is one warning and stops nothing."""

    def __init__(self, layout: Layout, say: Callable[[str], None]) -> None:
        self._path, self.say = layout.logs / "events.jsonl", say
        if layout.remote:
            host = re.sub(r"[^\w-]", "_", os.uname().nodename, flags=re.ASCII)
            self._path = layout.logs / f"events-{host}-{os.getpid()}-{time.time_ns() // 1_000_000}.jsonl"
        self._lines: list[str] = []
        self._put_at = time.monotonic()
        self._closed = False

    def write(self, event: str, **facts: Any) -> None:
        """Append one line: the event, the time, this host and process, and the facts."""
        if self._closed:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        record = {"time": now, "host": os.uname().nodename, "pid": os.getpid(), "event": event, **facts}
        try:
            if isinstance(self._path, ObjectPath):
                self._add(self._path, json.dumps(record), last=event in {"stopped", "finished"})
            else:
                append_line(self._path, json.dumps(record))
        except (OSError, BokehsynthError) as error:
            self._closed = True
            reason = getattr(error, "strerror", None) or error
            self.say(f"warning: {self._path}: {reason}; the run goes on without its log")

    def _add(self, path: ObjectPath, line: str, last: bool) -> None:
        self._lines.append(f"{line}\n")
        if last or time.monotonic() - self._put_at > PUT_SECONDS:
            self._put_at = time.monotonic()
            atomic_write(path, "".join(self._lines))


def event_logs(layout: Layout) -> list[StoredPath]:
    """The logs of all runs on a set."""
    return files_in(layout.logs, "events-*.jsonl") if layout.remote else [layout.logs / "events.jsonl"]
