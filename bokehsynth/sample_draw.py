"""All random choices of one sample as plain data, and the JSON record in which they travel."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from bokehsynth.degradation import DegradationDraw, draw_degradation
from bokehsynth.errors import DataError, UsageError
from bokehsynth.files import canonical_json
from bokehsynth.recipe import Recipe
from bokehsynth.rendering.frames import Frames
from bokehsynth.rng import Stage, stream
from bokehsynth.scene import AnyDraw, ComposedScene, draw_scene
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
    scene = draw_scene(recipe.scene, recipe.frame, recipe.catalogue, recipe.seed, split, which, attempt)
    rng = stream(recipe.seed, split, Stage.DEGRADE, index, attempt)
    degradation = draw_degradation(recipe.resolved_degradation, rng)
    return SampleDraw(
        split=split, index=index, attempt=attempt, aperture=aperture, scene=scene, degradation=degradation
    )


def sample_meta(recipe: Recipe, draw: SampleDraw, scene: ComposedScene, frames: Frames) -> dict[str, Any]:
    """The flat JSON record of a sample (`META_TYPES`)."""
    return {
        "format": FORMAT_VERSION,
        "index": draw.index, "split": draw.split, "seed": recipe.seed, "attempt": draw.attempt,
        "width": draw.scene.width, "height": draw.scene.height,
        "blur": float(scene.lens.blur), "focus": float(scene.lens.focus),
        "radius_max": float(frames.defocus.max()),
        "aperture": recipe.lens.names[draw.aperture],
        **recipe.scales,
        "assets": draw.scene.assets,
        **recipe.identity,
        "draw": canonical_json(asdict(draw) | {"composed": scene.notes}),
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
