"""Samples in two steps: everything before the shot, by any process; the shot and the rest, several at once.

For whoever has a device that is fast and costly to reach: workers set up, and the process that has it photographs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bokehsynth.pipeline import SampleDraw, develop, draw_sample, finish, set_up
from bokehsynth.recipe import Recipe
from bokehsynth.rendering import render_batch
from bokehsynth.rendering.frames import Frames
from bokehsynth.sample_checks import NotTheSample, first_good, first_sound
from bokehsynth.scene import Composition
from bokehsynth.schema import Sample


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
    try:
        pictures: Sequence[Frames | None] = render_batch([each.scene for each in set_ups], backend)
    except NotTheSample:
        raise
    except Exception:  # one of them cannot be photographed: each by itself, to see which is drawn again
        pictures = [None] * len(set_ups)
    return [_made(recipe, ready, frames, backend) for ready, frames in zip(set_ups, pictures, strict=True)]


def _made(recipe: Recipe, ready: SetUp, frames: Frames | None, backend: str) -> Sample:
    def make(attempt: int) -> Sample:
        if attempt != ready.draw.attempt:
            return develop(recipe, draw_sample(recipe, ready.draw.index, ready.draw.split, attempt), backend)
        shown = render_batch([ready.scene], backend)[0] if frames is None else frames
        return finish(recipe, ready.draw, ready.scene, shown)

    return first_sound(make, ready.draw.attempt)
