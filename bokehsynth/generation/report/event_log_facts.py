"""What `logs/events.jsonl` tells about the making of a set: machines, deaths, samples per second over time.

The log is read line by line. A line that is none of ours is counted and passed over: a run may have been cut short.
"""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from bokehsynth.errors import DataError
from bokehsynth.stores import StoredPath
from bokehsynth.untrusted_files import open_regular, parse_json, refuse_holes

BINS = 60
"""Parts of the time from the first event to the last."""
MAX_LINES = 1_000_000
MAX_BYTES = 64 << 20
"""Bytes of the log that are read, from its start: some 300,000 lines as runs write them."""
MAX_LINE = 1 << 16
"""Bytes of a line; only the traceback of a failed shard comes near it."""
MAX_HOSTS = 200
"""Machines that are told apart."""
MAX_COMMITS = 1_000_000
_TIME = "%Y-%m-%dT%H:%M:%S%z"


@dataclass
class HostFacts:
    """What one machine did."""

    shards: int = 0
    samples: int = 0
    bytes: int = 0
    seconds: float = 0.0
    """Seconds that its workers spent, all together, on the shards that they committed."""
    deaths: int = 0
    failures: int = 0
    first: float = float("inf")
    """Seconds since 1970, of its first and last event."""
    last: float = 0.0


@dataclass
class EventFacts:
    """What the log holds."""

    hosts: dict[str, HostFacts] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    """Deaths of workers by cause."""
    commits: list[tuple[float, float, int]] = field(default_factory=list)
    """Each committed shard: when, after how many seconds, how many samples."""
    passed_over: int = 0
    """Lines that are no events."""
    fault: str = ""
    """Why there is nothing, or not all."""

    @property
    def span(self) -> tuple[float, float]:
        """First and last moment in which shards were in the making, seconds since 1970."""
        return min(at - took for at, took, _ in self.commits), max(at for at, _, _ in self.commits)

    def throughput(self, bins: int = BINS) -> list[float]:
        """Samples per second in equal parts of `span`; a shard's are spread over the time that it took."""
        first, last = self.span
        edges = np.linspace(0.0, max(last - first, 1.0), bins + 1)
        ends, took, samples = np.array(self.commits, np.float64).T
        took = np.maximum(took, 1e-6)
        begins = ends - took - first
        made = [float(samples @ np.clip((edge - begins) / took, 0.0, 1.0)) for edge in edges[:-1]]
        return [max(0.0, float(rate)) for rate in np.diff([*made, samples.sum()]) / (edges[1] - edges[0])]


def read_events(paths: Sequence[StoredPath]) -> EventFacts:
    """Read the logs of all runs on a set: one file in a folder, one for each run in a bucket."""
    facts = EventFacts()
    for path in paths:
        _read_log(path, facts)
    return facts


def _read_log(path: StoredPath, facts: EventFacts) -> None:
    try:
        for line in _lines(path):
            try:
                record = parse_json(line.decode("utf-8"), "a line")
                _take(facts, record)
            except (DataError, UnicodeDecodeError, ValueError, TypeError, KeyError, OverflowError):
                facts.passed_over += 1
    except FileNotFoundError:
        facts.fault = f"there is no {path.parent.name}/{path.name}: the log stays where a set was made"
    except (OSError, DataError) as error:
        facts.fault = str(error)


def _lines(path: StoredPath) -> Iterator[bytes]:
    """The lines of a regular file; DataError after MAX_LINES or MAX_BYTES. A line beyond MAX_LINE is several."""
    with open_regular(path) as raw:
        refuse_holes(raw, path)
        file = io.BufferedReader(raw)  # type: ignore[type-var]
        size = 0
        for _ in range(MAX_LINES):
            line = file.readline(MAX_LINE)
            size += len(line)
            if not line:
                return
            if size > MAX_BYTES:
                raise DataError(f"{path}: only its first {MAX_BYTES:,} bytes are shown")
            yield line
        if file.read(1):
            raise DataError(f"{path}: only its first {MAX_LINES:,} lines are shown")


def _take(facts: EventFacts, record: dict[str, Any]) -> None:
    """Add one event; KeyError, TypeError or ValueError if it is none."""
    event, at = record["event"], datetime.strptime(record["time"], _TIME).timestamp()
    if not 1e9 < at < 1e11:
        raise ValueError("no time of ours")
    name = str(record["host"])[:100]
    if name not in facts.hosts and len(facts.hosts) >= MAX_HOSTS:
        name = "others"
    if event == "committed":
        samples, size, took = int(record["samples"]), int(record["bytes"]), float(record["seconds"])
        if not (0 < samples < 1 << 40 and 0 <= size < 1 << 60 and 0 <= took < 1e9):
            raise ValueError("out of range")
    host = facts.hosts.setdefault(name, HostFacts())
    host.first, host.last = min(host.first, at), max(host.last, at)
    if event == "committed":
        host.first = min(host.first, at - took)
        host.shards, host.samples, host.bytes = host.shards + 1, host.samples + samples, host.bytes + size
        host.seconds += took
        if len(facts.commits) < MAX_COMMITS:
            facts.commits.append((at, took, samples))
    elif event == "died":
        host.deaths += 1
        facts.causes[str(record["cause"])[:100] if len(facts.causes) < MAX_HOSTS else "others"] += 1
    elif event == "failed":
        host.failures += 1
    facts.events[str(event)[:40] if len(facts.events) < MAX_HOSTS else "others"] += 1
