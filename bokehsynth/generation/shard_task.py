"""The task of a worker: make the samples of one shard and commit them, minding what happened to those before it."""

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial

from bokehsynth.errors import BokehsynthError, StorageError
from bokehsynth.generation.batching import Flow, Line
from bokehsynth.generation.crash_log import Case, Trail
from bokehsynth.generation.quarantine import GivenUp, first_attempt, plain_words, read_shard_list, write_shard_list
from bokehsynth.pipeline import draw_sample, finish, set_up
from bokehsynth.recipe import Recipe
from bokehsynth.rendering import render_batch
from bokehsynth.sample_checks import MAX_ATTEMPTS, NotTheSample, first_sound
from bokehsynth.schema import Sample
from bokehsynth.shards import Layout, PackedSample, ShardPlan, find_shard, pack, write_shard
from bokehsynth.workers import Report, ends_worker

PAUSE = 3.0
"""Seconds for which a shard that found no room waits before its second and last attempt."""


@dataclass(frozen=True)
class Made:
    """What a worker tells of a shard that it committed."""

    bytes: int
    given_up: tuple[GivenUp, ...]
    """Draws that this shard has given up, in this run or before."""


@dataclass(frozen=True)
class ShardMaker:
    """Makes and commits one shard; picklable, called in a worker."""

    recipe: Recipe
    layout: Layout
    device: str
    flow: Flow = field(default_factory=Flow)

    def prepare(self) -> None:
        """Load the device's kernels: where nothing can be cached they are compiled, which takes long once.

        A device that fails here fails before any sample, which then is not to blame.
        """
        if self.device == "cuda":
            from bokehsynth.rendering.cuda import renderer as cuda

            cuda.warm_up()

    def __call__(self, plan: ShardPlan, report: Report) -> Made:
        """Make and commit one shard. StorageError where the disk refuses twice; whatever a sample raises for good."""
        trail = Trail(self.layout.trail(plan))
        there = find_shard(self.layout, plan, self.recipe.identity)
        if there is not None:  # whoever made it was killed before it could say so
            trail.forget()
            report(plan.count)
            return Made(there.bytes, tuple(read_shard_list(self.layout, plan)))
        while (case := trail.case()) is not None:
            self._examine(plan, case, trail, report)
            report(0)
        try:
            return self._commit(plan, trail, report)
        except StorageError as error:
            if not error.full:
                raise
            time.sleep(PAUSE)  # others that found no room have dropped what they had, too
            report(0)
            return self._commit(plan, trail, report)

    def _commit(self, plan: ShardPlan, trail: Trail, report: Report) -> Made:
        flow = Flow() if trail.examined() else self.flow
        attempt = _Attempt(self, plan, trail, report, flow, read_shard_list(self.layout, plan))
        trail.begin()
        try:
            with contextlib.closing(attempt.samples()) as samples:
                marker = write_shard(self.layout, plan, samples, self.recipe.shards, self.recipe.identity)
        except BaseException as error:
            if not ends_worker(error):  # then the trail has to say what was in the making
                with contextlib.suppress(StorageError):  # the same disk that may have refused the shard
                    trail.pardoned()
            raise
        trail.forget()
        return Made(marker.bytes, tuple(attempt.given_up))

    def _examine(self, plan: ShardPlan, case: Case, trail: Trail, report: Report) -> None:
        """Make a suspect alone; or, once that has been fatal often enough, put its draw in quarantine."""
        given_up = read_shard_list(self.layout, plan)
        if case.proven:
            attempt = first_attempt(given_up, case.index)
            reason, how = ("hung", "hung over it") if case.hung else ("killed", "was killed by it")
            words = f"its worker {how} again and again, also when it was made alone"
            write_shard_list(self.layout, plan, [*given_up, GivenUp(plan.split, case.index, attempt, reason, words)])
            trail.convicted(case.index)
            return

        def note(entry: GivenUp) -> None:  # at once: if the next draw is fatal, that one is to blame
            if entry.attempt < MAX_ATTEMPTS - 1:  # after the last one the shard fails, and has to find that itself
                write_shard_list(self.layout, plan, [*read_shard_list(self.layout, plan), entry])

        trail.alone(case.index)
        try:
            _Attempt(self, plan, trail, report, Flow(), given_up).make(case.index, note)
        except Exception as error:
            if ends_worker(error):
                raise
            # no death: what it raises is dealt with when the shard is made
        trail.passed()


@dataclass
class _Attempt:
    """One attempt at one shard."""

    maker: ShardMaker
    plan: ShardPlan
    trail: Trail
    report: Report
    flow: Flow
    given_up: list[GivenUp]

    def __post_init__(self) -> None:
        self._line: Line[_Outcome] = Line(self.flow, partial(render_batch, backend=self.maker.device))

    def samples(self) -> Generator[PackedSample, None, None]:
        """The samples in order; what they gave up is on disk before the last one is taken, hence before the marker."""
        indexes = range(self.plan.first, self.plan.first + self.plan.count)
        unreported = 0
        with contextlib.closing(self._line.run(self.make, indexes, self.trail.making)) as line:
            for packed, given_up in line:
                self.given_up += given_up
                yield packed
                unreported += 1
                if not self._line.ready or unreported == self.flow.window:  # a burst counts as one, for who waits
                    self.report(unreported)
                    unreported = 0
        self.trail.committing()
        write_shard_list(self.maker.layout, self.plan, self.given_up)

    def make(self, index: int, note: Callable[[GivenUp], None] = lambda entry: None) -> "_Outcome":
        """One sample, as the tar holds it, and the draws of it that were given up; in whichever thread.

        `note` hears of each of these as soon as it is given up.
        """
        recipe, split = self.maker.recipe, self.plan.split
        given_up: list[GivenUp] = []

        def make(attempt: int) -> Sample:
            draw = draw_sample(recipe, index, split, attempt)
            scene = set_up(recipe, draw)
            return finish(recipe, draw, scene, self._line.photograph(scene))

        def give_up(attempt: int, error: Exception) -> None:
            reason = getattr(error, "reason", "raised")
            given_up.append(GivenUp(split, index, attempt, reason, plain_words(error)))
            note(given_up[-1])

        try:
            sample = first_sound(make, first_attempt(self.given_up, index), give_up)
        except NotTheSample:
            raise
        except Exception as error:
            raise BokehsynthError(
                f"sample {index} of {split} cannot be made: all of its {MAX_ATTEMPTS} draws were given up, the last "
                f"because of {type(error).__name__}: {error}"
            ) from error
        return pack(sample, recipe.shards), given_up


_Outcome = tuple[PackedSample, list[GivenUp]]
