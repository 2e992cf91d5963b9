"""Samples in two steps: everything before the shot, by any process; the shot and the rest, several at once.

For whoever has a device that is fast and costly to reach: workers set up, and the process that has it photographs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bokehsynth.pipeline import SampleDraw, develop, draw_sample, finish, set_up
from bokehsynth.recipe import Recipe
from bokehsynth.render import render_batch
from bokehsynth.render.frames import Frames
from bokehsynth.scene import Composition
from bokehsynth.schema import Sample
from bokehsynth.soundness import first_good, first_sound


@dataclass(frozen=True, eq=False)
class SetUp:
    """A sample before its shot: what a process without the device does for one that has it."""

    draw: SampleDraw
    scene: Composition


def set_up_sample(recipe: Recipe, index: int, split: str = "train") -> SetUp:
    """Draw and compose sample `index`: all of `make_sample` that comes before the shot."""

    def attempted(attempt: int) -> SetUp:
        draw = draw_sample(recipe, index, split, attempt)
        return SetUp(draw, set_up(recipe, draw))

    return first_good(attempted)


def make_samples(recipe: Recipe, set_ups: Sequence[SetUp], backend: str = "auto") -> list[Sample]:
    """What `make_sample` gives for each, photographed together."""
    made = []
    for ready, frames in zip(set_ups, render_batch([each.scene for each in set_ups], backend), strict=True):

        def make(attempt: int, ready: SetUp = ready, frames: Frames = frames) -> Sample:
            if attempt == ready.draw.attempt:
                return finish(recipe, ready.draw, ready.scene, frames)
            return develop(recipe, draw_sample(recipe, ready.draw.index, ready.draw.split, attempt), backend)

        made.append(first_sound(make, ready.draw.attempt))
    return made
