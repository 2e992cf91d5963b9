"""`logs/events.jsonl`: what happened when, where and at which attempt; the only file that differs from run to run."""

import json
import os
import time
from collections.abc import Callable
from typing import Any

from bokehsynth.files import append_line
from bokehsynth.shards import Layout


class EventLog:
    """Appends one JSON object per line; a log that cannot be written is one warning and stops nothing."""

    def __init__(self, layout: Layout, say: Callable[[str], None]) -> None:
        self._path, self.say = layout.logs / "events.jsonl", say
        self._closed = False

    def write(self, event: str, **facts: Any) -> None:
        """Append one line: the event, the time, this host and process, and the facts."""
        if self._closed:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        record = {"time": now, "host": os.uname().nodename, "pid": os.getpid(), "event": event, **facts}
        try:
            append_line(self._path, json.dumps(record))
        except OSError as error:
            self._closed = True
            self.say(f"warning: {self._path}: {error.strerror}; the run goes on without its log")
