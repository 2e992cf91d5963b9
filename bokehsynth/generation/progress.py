"""Consumes worker events: updates the progress bar and event log, and aborts when the failure budget is exceeded."""

import contextlib
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tqdm import tqdm

from bokehsynth.errors import AssetError, BokehsynthError, ChangedError, DeviceError, FailureBudgetError, StorageError
from bokehsynth.generation.crash_log import CrashLog
from bokehsynth.generation.disk_space import check_free_space, describe_shortage, typical_bytes
from bokehsynth.generation.event_log import EventLog
from bokehsynth.generation.quarantine import QuarantinedDraw
from bokehsynth.recipe import Recipe
from bokehsynth.shards import Layout, ShardPlan
from bokehsynth.workers.events import Cancelled, Died, Done, Event, Failed, Progress, WorkerWarning

FAILURES_ALLOWED = 0.05
"""Share of the planned shards (at least two), or of their samples (at least ten), that a run may lose."""


_LOG_SECONDS = 30
"""Seconds between two states of the bar in a log file."""


class _QuietStream:
    """A stream for the bar: a stderr whose reader has gone, or whose disk is full, loses the bar and stops nothing.

    In a file or pipe each state of the bar is a line of its own, without carriage returns.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.is_terminal = bool(getattr(stream, "isatty", lambda: False)())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text if the stream takes it."""
        shown = text if self.is_terminal else f"{text.strip()}\n" if text.strip() else ""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(shown)
        return len(text)

    def flush(self) -> None:
        """Flush the stream if it can be."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class RunMonitor:
    """Handles the events of one run."""

    def __init__(self, recipe: Recipe, layout: Layout, todo: Sequence[ShardPlan], log: EventLog) -> None:
        self.recipe, self.layout, self.log = recipe, layout, log
        self.uncommitted = set(todo)
        self.planned = len(todo)
        self.failures: list[Failed] = []
        self.quarantined: list[QuarantinedDraw] = []
        self.samples = sum(plan.count for plan in todo)
        self.made = self.bytes = 0
        self._warned: set[str] = set()
        self._bar: Any = None

    def bar(self, total: int, visible: bool) -> "tqdm[Any]":
        """A progress bar over `total` samples, to be closed after the run; a stderr that fails only loses the bar."""
        hidden, stream = not visible or sys.stderr is None, _QuietStream(sys.stderr)
        self._bar = tqdm(
            total=total, initial=total - self.samples, unit="sample", disable=hidden, dynamic_ncols=True,
            smoothing=0.05, file=stream, mininterval=0.1 if stream.is_terminal else _LOG_SECONDS,
            maxinterval=10 if stream.is_terminal else _LOG_SECONDS,
        )  # fmt: skip
        return self._bar

    def handle(self, event: Event) -> None:
        """Handle an event. Raises StorageError or FailureBudgetError when going on makes no sense."""
        match event:
            case Progress(units=units):
                self._bar.update(units)
            case Died(spec=plan):
                self._died(event, CrashLog(self.layout.crash_log(plan)))
            case Cancelled(spec=plan):
                CrashLog(self.layout.crash_log(plan)).not_at_fault()
            case Done(spec=plan):
                self._committed(event, plan)
            case Failed():
                self._failed(event)
            case WorkerWarning(text=text):
                self._warning(text)

    def raise_if_failed(self) -> None:
        """Raise at the end if any shard failed: a run is whole or it is not."""
        if len(self.failures) == self.planned:
            raise FailureBudgetError(f"every one of the {self.planned} shards failed. {self._summary()}")
        if self.failures:
            raise BokehsynthError(f"{len(self.failures)} of {self.planned} shards failed. {self._summary()}")

    def _committed(self, event: Done, plan: ShardPlan) -> None:
        first = not self.made
        self.uncommitted.discard(plan)
        self.made += plan.count
        self.bytes += event.result.bytes
        self.log.write(
            "committed", shard=plan.name, attempts=event.attempts, seconds=round(event.seconds, 3), samples=plan.count,
            bytes=event.result.bytes, host=event.result.host,
        )  # fmt: skip
        for draw in event.result.quarantined:
            self.log.write("quarantined", **asdict(draw))
        self.quarantined += event.result.quarantined
        lost = len({(draw.split, draw.index) for draw in self.quarantined})
        if lost > max(10, FAILURES_ALLOWED * self.samples):
            draw = self.quarantined[-1]
            raise FailureBudgetError(
                f"{lost} of {self.made} samples had to be drawn again, so the run stops. The last one: {draw.split} "
                f"{draw.index}: {draw.message}. All stand in logs/events.jsonl"
            )
        if first:
            check_free_space(self.layout, sorted(self.uncommitted), self.bytes / self.made)

    def _died(self, event: Died, crash_log: CrashLog) -> None:
        if event.in_company:
            crash_log.not_at_fault()
        else:
            crash_log.died(event.kind, event.seconds)
        self.log.write(
            "died", shard=event.spec.name, attempts=event.attempts, cause=event.cause, counted=not event.in_company
        )

    def _warning(self, text: str) -> None:
        """Show a warning once, whatever its numbers and however many workers send it; log it with new numbers."""
        kind = re.sub(r"\d+", "#", text)
        if text not in self._warned:
            self.log.write("remark", message=text)
            if kind not in self._warned:
                self.log.say(f"note: {text}")
        self._warned |= {text, kind}

    def _failed(self, event: Failed) -> None:
        self.failures.append(event)
        error, shard = event.error, event.spec.name
        self.log.write("failed", shard=shard, attempts=event.attempts, error=str(error), trace=event.trace)
        if isinstance(error, StorageError) and error.full:
            per_sample = self.bytes / self.made if self.made else typical_bytes(self.recipe)
            shortage = describe_shortage(self.layout, sorted(self.uncommitted), per_sample)
            raise StorageError(f"{shortage}. {error}") from error
        if isinstance(error, StorageError | ChangedError | DeviceError):
            raise error
        if isinstance(error, AssetError):  # it could be read when it was indexed
            raise ChangedError(f"an asset changed under a running recipe: {error}") from error
        if len(self.failures) > max(2, int(FAILURES_ALLOWED * self.planned)):
            raise FailureBudgetError(f"{len(self.failures)} shards failed, so the run stops. {self._summary()}")

    def _summary(self) -> str:
        first = self.failures[0]
        error = " ".join(
            f"{type(first.error).__name__}: {first.error}".split()
        )  # a user's class may write several lines
        return (
            f"{first.spec.name}: {error}. What was committed stays valid; details stand in logs/events.jsonl; run the "
            "same line again to make the rest"
        )
