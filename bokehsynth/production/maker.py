"""The task of a worker: make the samples of one shard and commit them, minding what happened to those before it."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from bokehsynth.engines import Report
from bokehsynth.errors import BokehsynthError, StorageError
from bokehsynth.pipeline import develop, draw_sample
from bokehsynth.production.quarantine import GivenUp, first_attempt, plain_words, read_shard_list, write_shard_list
from bokehsynth.production.trail import Case, Trail
from bokehsynth.recipe import Recipe
from bokehsynth.schema import Sample
from bokehsynth.shards import Layout, ShardPlan, find_shard, write_shard
from bokehsynth.soundness import MAX_ATTEMPTS, NotTheSample, first_sound

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

    def __call__(self, plan: ShardPlan, report: Report) -> Made:
        """Make and commit one shard. StorageError where the disk refuses twice; whatever a sample raises for good."""
        trail = Trail(self.layout.trail(plan))
        there = find_shard(self.layout, plan, self.recipe.identity)
        if there is not None:  # whoever made it was killed before it could say so
            trail.forget()
            report(plan.count)
            return Made(there.bytes, tuple(read_shard_list(self.layout, plan)))
        while (case := trail.case()) is not None:
            self._examine(plan, case, trail)
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
        attempt = _Attempt(self, plan, trail, report, read_shard_list(self.layout, plan))
        trail.begin()
        try:
            marker = write_shard(self.layout, plan, attempt.samples(), self.recipe.shards, self.recipe.identity)
        except MemoryError:
            raise  # the worker dies of it, as by the kernel's hand, and the trail has to say over which sample
        except BaseException:
            with contextlib.suppress(StorageError):  # the same disk that may have refused the shard
                trail.pardoned()
            raise
        trail.forget()
        return Made(marker.bytes, tuple(attempt.given_up))

    def _examine(self, plan: ShardPlan, case: Case, trail: Trail) -> None:
        """Make a suspect alone; or, once that has been fatal often enough, put its draw in quarantine."""
        given_up = read_shard_list(self.layout, plan)
        attempt = first_attempt(given_up, case.index)
        if case.proven:
            reason, how = ("hung", "hung over it") if case.hung else ("killed", "was killed by it")
            words = f"its worker {how} again and again, also when it was made alone"
            write_shard_list(self.layout, plan, [*given_up, GivenUp(plan.split, case.index, attempt, reason, words)])
            trail.convicted(case.index)
            return
        trail.alone(case.index)
        try:
            develop(self.recipe, draw_sample(self.recipe, case.index, plan.split, attempt), self.device)
        except MemoryError:
            raise  # a death: the worker ends with it
        except Exception:  # no death: what it raises is dealt with when the shard is made
            pass
        trail.passed()


@dataclass
class _Attempt:
    """One attempt at one shard."""

    maker: ShardMaker
    plan: ShardPlan
    trail: Trail
    report: Report
    given_up: list[GivenUp] = field(default_factory=list)

    def samples(self) -> Iterator[Sample]:
        """The samples in order; what they gave up is on disk before the last one is taken, hence before the marker."""
        for index in range(self.plan.first, self.plan.first + self.plan.count):
            self.trail.making(index)
            yield self._sample(index)
            self.report(1)
        self.trail.committing()
        write_shard_list(self.maker.layout, self.plan, self.given_up)

    def _sample(self, index: int) -> Sample:
        recipe, split = self.maker.recipe, self.plan.split

        def make(attempt: int) -> Sample:
            return develop(recipe, draw_sample(recipe, index, split, attempt), self.maker.device)

        def give_up(attempt: int, error: Exception) -> None:
            reason = getattr(error, "reason", "raised")
            self.given_up.append(GivenUp(split, index, attempt, reason, plain_words(error)))

        try:
            return first_sound(make, first_attempt(self.given_up, index), give_up)
        except NotTheSample:
            raise
        except Exception as error:
            raise BokehsynthError(
                f"sample {index} of {split} cannot be made: all of its {MAX_ATTEMPTS} draws were given up, the last "
                f"because of {type(error).__name__}: {error}"
            ) from error
