"""What a run makes of its engine's events: progress, the journal, pardons, and when enough is enough."""

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from bokehsynth.errors import AssetError, BokehsynthError, ChangedError, DeviceError, FailureBudgetError, StorageError
from bokehsynth.generation.crash_log import Trail
from bokehsynth.generation.disk_space import check_room, how_full, typical_bytes
from bokehsynth.generation.event_log import Journal
from bokehsynth.generation.quarantine import GivenUp
from bokehsynth.recipe import Recipe
from bokehsynth.shards import Layout, ShardPlan
from bokehsynth.workers import Abandoned, Died, Done, Event, Failed, Progress, Remark

FAILURES_ALLOWED = 0.05
"""Share of the planned shards (at least two), or of their samples (at least ten), that a run may lose."""


class _Mutable:
    """A stream for the bar: a stderr whose reader has gone, or whose disk is full, falls silent and stops nothing."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """All of it, or nothing."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As far as it goes."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class Watch:
    """Keeps account of one run."""

    def __init__(self, recipe: Recipe, layout: Layout, todo: Sequence[ShardPlan], journal: Journal) -> None:
        self.recipe, self.layout, self.journal = recipe, layout, journal
        self.left = set(todo)
        self.planned = len(todo)
        self.failures: list[Failed] = []
        self.given_up: list[GivenUp] = []
        self.samples = sum(plan.count for plan in todo)
        self.made = self.bytes = 0
        self._said: set[str] = set()
        self._bar: Any = None

    @contextmanager
    def bar(self, total: int, visible: bool) -> Iterator[None]:
        """A progress bar over `total` samples while the block runs; a stderr that fails only loses the bar."""
        hidden = not visible or sys.stderr is None
        self._bar = tqdm(
            total=total, initial=total - self.samples, unit="sample", disable=hidden, dynamic_ncols=True,
            smoothing=0.05, file=_Mutable(sys.stderr),
        )  # fmt: skip
        try:
            yield
        finally:
            self._bar.close()

    def take(self, event: Event) -> None:
        """Account for an event. Raises StorageError or FailureBudgetError when going on makes no sense."""
        match event:
            case Progress(units=units):
                self._bar.update(units)
            case Died(spec=plan, hung=hung):
                if hung:
                    Trail(self.layout.trail(plan)).hung()
                self.journal.died(event)
            case Abandoned(spec=plan):
                Trail(self.layout.trail(plan)).pardoned()
            case Done(spec=plan):
                self._committed(event, plan)
            case Failed():
                self._failed(event)
            case Remark(text=text):
                self._remark(text)

    def judge(self) -> None:
        """Raise at the end if any shard failed: a run is whole or it is not."""
        if len(self.failures) == self.planned:
            raise FailureBudgetError(f"every one of the {self.planned} shards failed. {self._account()}")
        if self.failures:
            raise BokehsynthError(f"{len(self.failures)} of {self.planned} shards failed. {self._account()}")

    def _committed(self, event: Done, plan: ShardPlan) -> None:
        first = not self.made
        self.left.discard(plan)
        self.made += plan.count
        self.bytes += event.result.bytes
        self.journal.committed(event)
        for draw in event.result.given_up:
            self.journal.gave_up(draw)
        self.given_up += event.result.given_up
        lost = len({(draw.split, draw.index) for draw in self.given_up})
        if lost > max(10, FAILURES_ALLOWED * self.samples):
            draw = self.given_up[-1]
            raise FailureBudgetError(
                f"{lost} of {self.made} samples had to be drawn again, so the run stops. The last one: {draw.split} "
                f"{draw.index}: {draw.message}. All stand in logs/events.jsonl"
            )
        if first:
            check_room(self.layout, sorted(self.left), self.bytes / self.made)

    def _remark(self, text: str) -> None:
        """Every worker may come to the same one; the user is told once, the journal whenever its numbers are new."""
        kind = re.sub(r"\d+", "#", text)
        if text not in self._said:
            self.journal.remark(text, aloud=kind not in self._said)
        self._said |= {text, kind}

    def _failed(self, event: Failed) -> None:
        self.failures.append(event)
        self.journal.failed(event)
        error = event.error
        if isinstance(error, StorageError) and error.full:
            per_sample = self.bytes / self.made if self.made else typical_bytes(self.recipe)
            raise StorageError(f"{how_full(self.layout, sorted(self.left), per_sample)}. {error}") from error
        if isinstance(error, StorageError | ChangedError | DeviceError):
            raise error
        if isinstance(error, AssetError):  # it could be read when it was indexed
            raise ChangedError(f"an asset changed under a running recipe: {error}") from error
        if len(self.failures) > max(2, int(FAILURES_ALLOWED * self.planned)):
            raise FailureBudgetError(f"{len(self.failures)} shards failed, so the run stops. {self._account()}")

    def _account(self) -> str:
        first = self.failures[0]
        return (
            f"{first.spec.name}: {type(first.error).__name__}: {first.error}. What was committed stays valid; details "
            f"stand in logs/events.jsonl; run the same line again to make the rest"
        )
