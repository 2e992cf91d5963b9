"""All random choices of one sample as plain data, and the JSON record in which they travel."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from bokehsynth.degradation import DegradationDraw, draw_degradation
from bokehsynth.errors import DataError, UsageError
from bokehsynth.files import canonical_json
from bokehsynth.recipe import Recipe
from bokehsynth.rendering.frames import Frames
from bokehsynth.rng import Stage, stream
from bokehsynth.scene import AnyDraw, ComposedScene, draw_scene
from bokehsynth.scene.camera import CameraDraw, MetricCamera
from bokehsynth.schema import FORMAT_VERSION


@dataclass(frozen=True, kw_only=True)
class SampleDraw:
    """Every random choice of one sample: plain, JSON-able, enough to make it again."""

    split: str
    index: int
    attempt: int
    aperture: int
    """Place in the recipe's list of apertures."""
    scene: AnyDraw
    degradation: DegradationDraw
    camera: CameraDraw | None = None
    """Where the recipe has one."""


def draw_sample(recipe: Recipe, index: int, split: str = "train", attempt: int = 0) -> SampleDraw:
    """Draw sample `index` of a split. It depends on the recipe, split and index alone, never on other samples.

    Any index up to 2**32 may be drawn, also beyond `samples`: a training run can go on for long.
    """
    if recipe.count(split) == 0:
        raise UsageError(f"the recipe has no {split} samples and set no assets apart for them (samples.{split} is 0)")
    if not 0 <= index < 2**32:  # a larger index would share its stream with a redraw of a smaller one
        raise UsageError(f"index must be >= 0 and below 2**32, got {index}")
    rng = stream(recipe.seed, split, Stage.APERTURE, index, attempt)
    which, aperture = recipe.lens.pick_aperture(index, rng)
    camera = _draw_camera(recipe, stream(recipe.seed, split, Stage.CAMERA, which, attempt))
    scene = draw_scene(recipe.scene, recipe.frame, recipe.catalogue, recipe.seed, split, which, attempt, camera)
    rng = stream(recipe.seed, split, Stage.DEGRADE, index, attempt)
    degradation = draw_degradation(recipe.resolved_degradation, rng)
    return SampleDraw(
        split=split, index=index, attempt=attempt, aperture=aperture, scene=scene, degradation=degradation,
        camera=None if camera is None else camera.draw,
    )  # fmt: skip


def _draw_camera(recipe: Recipe, rng: np.random.Generator) -> MetricCamera | None:
    ranges = recipe.lens.ranges
    return None if ranges is None else MetricCamera(ranges.draw(rng), recipe.radius_bound)


def sample_meta(recipe: Recipe, draw: SampleDraw, scene: ComposedScene, frames: Frames) -> dict[str, Any]:
    """The flat JSON record of a sample (`META_TYPES`; with a camera also `near_m`)."""
    record = asdict(draw) | {"composed": scene.notes}
    metric = {} if draw.camera is None else {"near_m": float(draw.camera.near_m)}
    if draw.camera is None:
        del record["camera"]
    return {
        "format": FORMAT_VERSION,
        "index": draw.index, "split": draw.split, "seed": recipe.seed, "attempt": draw.attempt,
        "width": draw.scene.width, "height": draw.scene.height,
        "blur": float(scene.lens.blur), "focus": float(scene.lens.focus),
        "radius_max": float(frames.defocus.max()),
        "aperture": recipe.lens.names[draw.aperture],
        **recipe.scales,
        **metric,
        "assets": draw.scene.assets,
        **recipe.identity,
        "draw": canonical_json(record),
    }  # fmt: skip


def draw_from_meta(meta: dict[str, Any] | Any) -> SampleDraw:
    """Read the draw back from a sample's JSON record; DataError if the record holds none."""
    try:
        record = json.loads(meta["draw"])
        record.pop("composed")
        return _DRAW.validate_python(record)
    except (KeyError, ValueError) as error:
        raise DataError(f"the sample's `draw` record cannot be read: {error}") from None


_DRAW = TypeAdapter(SampleDraw)
