"""The task of a worker: make the samples of one shard and commit them, taking account of earlier crashes over it."""

import contextlib
import os
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from threading import Event, Thread

from bokehsynth.errors import BokehsynthError, ChangedError, StorageError
from bokehsynth.files import make_directory
from bokehsynth.generation.batching import BatchOptions, BatchRenderer, RenderQueue
from bokehsynth.generation.crash_log import CrashLog, Suspect
from bokehsynth.generation.kernels import compile_kernels
from bokehsynth.generation.quarantine import (
    QuarantinedDraw,
    first_attempt,
    read_shard_list,
    stable_message,
    write_shard_list,
)
from bokehsynth.generation.render_client import the_client
from bokehsynth.pipeline import sample_from_draw
from bokehsynth.recipe import Recipe
from bokehsynth.rendering import render_batch
from bokehsynth.sample_checks import MAX_ATTEMPTS, NOT_RETRYABLE, retry_until_valid
from bokehsynth.sample_draw import draw_sample
from bokehsynth.schema import Sample
from bokehsynth.shards import (
    Layout,
    PackedSample,
    PngEncoder,
    ShardPlan,
    encode_png,
    find_shard,
    pack,
    write_shard,
)
from bokehsynth.workers.events import Report, is_fatal_to_worker

DISK_FULL_RETRY_SECONDS = 3.0
"""Pause of a shard that found the disk full, before its second and last attempt."""

CONTROL_TICK = 0.25
"""Seconds between two signs of life while a worker only waits."""

SIGN_SECONDS = 5.0
"""Between two signs of life of a worker that stores a shard in a bucket."""

SampleResult = tuple[PackedSample, list[QuarantinedDraw]]
"""A sample as the tar holds it, and the draws of it that were quarantined on the way."""


@dataclass(frozen=True)
class ShardResult:
    """What a worker returns of a shard that it committed."""

    bytes: int
    quarantined: tuple[QuarantinedDraw, ...]
    """Draws of this shard in quarantine, from this run or before."""
    host: str = ""
    """The machine of the worker that committed it, or found it committed."""


@dataclass(frozen=True)
class ShardTask:
    """Makes and commits one shard; picklable, called in a worker."""

    recipe: Recipe
    layout: Layout
    device: str
    batching: BatchOptions = field(default_factory=BatchOptions)
    check_node: Callable[[Layout, Recipe, str], None] | None = None
    """Called first where workers may be on other machines than the run: raises what they cannot do."""
    compiles: bool = False
    """Whether the worker compiles the recipe's kernels before its first shard: the run itself has not."""
    encode_png: PngEncoder = encode_png
    """That of the set: a module's function, so that the task can be pickled."""
    served: bool = False
    """Whether another process renders for this worker, which then needs no device."""

    def prepare(self) -> None:
        """Load the device's kernels: where nothing can be cached they are compiled, which takes long once.

        A device that fails here fails before any sample, so that no sample is suspected.
        """
        if self.check_node is not None:
            self.check_node(self.layout, self.recipe, self.device)
        elif self.compiles:
            compile_kernels(self.recipe, self.device)
        elif self.device == "cuda" and not self.served:
            from bokehsynth.rendering.cuda import renderer as cuda

            cuda.warm_up()

    def __call__(self, plan: ShardPlan, report: Report) -> ShardResult:
        """Make and commit one shard. StorageError where the disk refuses twice; else what a sample raises for good."""
        if self.layout.remote:
            make_directory(self.layout.staging)  # of this machine, on which no run may have begun
        crash_log = CrashLog(self.layout.crash_log(plan))
        with _signs_of_life(report, self.layout.remote):
            committed = find_shard(self.layout, plan, self.recipe.identity)
            quarantined = tuple(read_shard_list(self.layout, plan)) if committed is not None else ()
        if committed is not None:  # its worker was killed before it could report the result
            crash_log.delete()
            report(plan.count)
            return ShardResult(committed.bytes, quarantined, os.uname().nodename)
        if self.served:  # here, where a worker that waits can say so; before any sample, so that none is suspected
            the_client().prepare(lambda: report(0))
        try:
            while (suspect := crash_log.suspect()) is not None:
                self._retry_isolated(plan, suspect, crash_log, report)
                report(0)
            return self._commit(plan, crash_log, report)
        except _ListChangedError:  # its draws are to be made anew
            report(0)
            return self(plan, report)
        except StorageError as error:
            if not error.full:
                raise
            time.sleep(DISK_FULL_RETRY_SECONDS)  # other workers that found the disk full delete their temporary files
            report(0)
            return self._commit(plan, crash_log, report)

    def _commit(self, plan: ShardPlan, crash_log: CrashLog, report: Report) -> ShardResult:
        batching = BatchOptions() if crash_log.has_isolated_ok() else self.batching
        with _signs_of_life(report, self.layout.remote):
            quarantined = read_shard_list(self.layout, plan)
        attempt = _ShardAttempt(self, plan, crash_log, report, batching, quarantined)
        crash_log.begin()
        try:
            with contextlib.closing(attempt.samples()) as samples, _signs_of_life(report, self.layout.remote, attempt):
                marker = write_shard(self.layout, plan, samples, self.recipe.shards, self.recipe.identity)
        except BaseException as error:
            if not is_fatal_to_worker(error):  # otherwise the log has to say what was in flight
                with contextlib.suppress(StorageError):  # the same disk that may have refused the shard
                    crash_log.not_at_fault()
            raise
        crash_log.delete()
        return ShardResult(marker.bytes, tuple(attempt.quarantined), os.uname().nodename)

    def _retry_isolated(self, plan: ShardPlan, suspect: Suspect, crash_log: CrashLog, report: Report) -> None:
        """Make a suspect alone; or wait, where a control is due; or, after enough deaths, quarantine its draw."""
        if suspect.control_s:
            _wait(suspect.control_s, crash_log, report)
            return
        with _signs_of_life(report, self.layout.remote):
            quarantined = read_shard_list(self.layout, plan)
        if suspect.verdict is not None:
            attempt = first_attempt(quarantined, suspect.index)
            how = "hung over it" if suspect.verdict == "hung" else "was killed by it"
            message = f"its worker {how} again and again, also when it was made alone"
            draw = QuarantinedDraw(plan.split, suspect.index, attempt, suspect.verdict, message)
            with _signs_of_life(report, self.layout.remote):
                self.refuse_committed(plan)
                write_shard_list(self.layout, plan, [*quarantined, draw])
            crash_log.quarantined(suspect.index)
            return

        def record(draw: QuarantinedDraw) -> None:  # at once: if the next draw is fatal, that one is the suspect
            if draw.attempt < MAX_ATTEMPTS - 1:  # after the last one the shard fails, and has to find that itself
                with _signs_of_life(report, self.layout.remote):
                    self.refuse_committed(plan)
                    write_shard_list(self.layout, plan, [*read_shard_list(self.layout, plan), draw])

        crash_log.isolated_start(suspect.index)
        try:
            _ShardAttempt(self, plan, crash_log, report, BatchOptions(), quarantined).make(suspect.index, record)
        except _ListChangedError:
            raise
        except Exception as error:
            if is_fatal_to_worker(error):
                raise
            # no crash: what it raises is dealt with when the shard is made
        crash_log.isolated_ok()

    def refuse_committed(self, plan: ShardPlan) -> None:
        """_ListChangedError if another machine has committed the shard, which a draw listed now would contradict."""
        if self.layout.remote and find_shard(self.layout, plan, self.recipe.identity) is not None:
            raise _ListChangedError(f"{self.layout.marker(plan)}: was put by another machine")


class _ListChangedError(ChangedError):
    """Another machine has committed the shard, or quarantined draws of it, while it was being made."""


@contextlib.contextmanager
def _signs_of_life(report_life: Report, remote: bool, attempt: "_ShardAttempt | None" = None) -> Iterator[None]:
    """While a bucket is asked, which may be busy for as long as its patience goes, report that the worker lives.

    Of an `attempt` only once its samples are made: while they are, they are what may hang.
    """
    done = Event()

    def report() -> None:
        while not done.wait(SIGN_SECONDS):
            if attempt is None or attempt.committing:
                report_life(0)

    thread = Thread(target=report, daemon=True)
    if remote:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if remote:
            thread.join()


def _wait(seconds: float, crash_log: CrashLog, report: Report) -> None:
    """The control of a trial: do nothing for so long, to see whether this worker is killed all the same."""
    crash_log.control_start()
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, CONTROL_TICK))
        report(0)
    crash_log.control_ok()


@dataclass
class _ShardAttempt:
    """One attempt at one shard."""

    task: ShardTask
    plan: ShardPlan
    crash_log: CrashLog
    report: Report
    batching: BatchOptions
    quarantined: list[QuarantinedDraw]
    committing: bool = False
    """Whether all samples are made, and what is left is to store them."""

    def __post_init__(self) -> None:
        codes = self.task.recipe.device_codes
        render: BatchRenderer = partial(render_batch, backend=self.task.device, codes=codes)
        if self.task.served:
            suspect = self.batching.window == 1
            render = partial(the_client().render, codes=codes, alive=lambda: self.report(0), suspect=suspect)
        self._queue: RenderQueue[SampleResult] = RenderQueue(self.batching, render)

    def samples(self) -> Generator[PackedSample, None, None]:
        """Yield the samples in order.

        Their quarantined draws are on disk before the last sample is taken, hence before the marker.
        """
        indexes = range(self.plan.first, self.plan.first + self.plan.count)
        unreported = 0
        with contextlib.closing(self._queue.run(self.make, indexes, self.crash_log.in_flight)) as results:
            for packed, quarantined in results:
                self.quarantined += quarantined
                yield packed
                unreported += 1
                if not self._queue.ready or unreported == self.batching.window:  # a burst is one step of progress
                    self.report(unreported)
                    unreported = 0
        self.crash_log.committing()
        self.committing = True
        layout = self.task.layout
        if self.quarantined:
            self.task.refuse_committed(self.plan)
        write_shard_list(layout, self.plan, self.quarantined)
        if layout.remote and read_shard_list(layout, self.plan) != sorted(set(self.quarantined)):
            raise _ListChangedError(f"{layout.shard_quarantine(self.plan)}: was changed by another machine")

    def make(self, index: int, record: Callable[[QuarantinedDraw], None] = lambda draw: None) -> SampleResult:
        """Make one sample, in any thread; `record` is called with each draw as soon as it is quarantined."""
        recipe, split = self.task.recipe, self.plan.split
        quarantined: list[QuarantinedDraw] = []

        def make(attempt: int) -> Sample:
            return sample_from_draw(recipe, draw_sample(recipe, index, split, attempt), self._queue.render)

        def quarantine(attempt: int, error: Exception) -> None:
            reason = getattr(error, "reason", "raised")
            quarantined.append(QuarantinedDraw(split, index, attempt, reason, stable_message(error)))
            record(quarantined[-1])

        try:
            sample = retry_until_valid(make, first_attempt(self.quarantined, index), quarantine)
        except NOT_RETRYABLE:
            raise
        except Exception as error:
            raise BokehsynthError(
                f"sample {index} of {split} cannot be made: all of its {MAX_ATTEMPTS} draws were given up, the last "
                f"because of {type(error).__name__}: {error}"
            ) from error
        return pack(sample, recipe.shards, self.task.encode_png), quarantined
