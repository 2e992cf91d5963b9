"""All random choices of one sample as plain data, and the JSON record in which they travel."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from bokehsynth.degradation import DegradationDraw, draw_degradation
from bokehsynth.degradation.check_draw import check_degradation_draw
from bokehsynth.errors import DataError, UsageError
from bokehsynth.files import canonical_json
from bokehsynth.recipe import Recipe
from bokehsynth.rendering.frames import Frames
from bokehsynth.rng import Stage, stream
from bokehsynth.scene import AnyDraw, ComposedScene, draw_scene
from bokehsynth.scene.camera import CameraDraw, MetricCamera
from bokehsynth.scene.check_draw import check_camera_draw, check_scene_draw
from bokehsynth.schema import FORMAT_VERSION
from bokehsynth.untrusted_files import parse_json


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


def draw_from_meta(meta: Mapping[str, Any]) -> SampleDraw:
    """Read the draw back from a sample's JSON record; DataError if the record holds none.

    A record that may be a stranger's must also pass `check_draw`.
    """
    record = parse_json(str(meta.get("draw", "")), "the sample's `draw` record")
    if not isinstance(record, dict) or "composed" not in record:
        raise DataError("the sample's `draw` record is no draw: it has no `composed`")
    del record["composed"]
    try:
        return _DRAW.validate_python(record)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        place, found = ".".join(map(str, fault["loc"])), f"{fault.get('input')!r:.80}"
        raise DataError(f"the sample's `draw` record is no draw: {place}: {fault['msg']}, got {found}") from None
    except (RecursionError, OverflowError) as error:
        raise DataError(f"the sample's `draw` record is no draw: {error}") from None


def check_draw(recipe: Recipe, draw: SampleDraw, meta: Mapping[str, Any]) -> None:
    """DataError, naming the number, unless `draw` is one that `recipe` can make of the sample with this record."""
    try:
        named = (draw.split, draw.index, draw.attempt, draw.scene.width, draw.scene.height)
        recorded = tuple(meta[name] for name in ("split", "index", "attempt", "width", "height"))
        if named != recorded or draw.attempt < 0:
            raise DataError(f"is of {named}, the record of {recorded}")
        if not 0 <= draw.aperture < len(recipe.lens.names):
            raise DataError(f"has aperture {draw.aperture}, the recipe {len(recipe.lens.names)}")
        check_camera_draw(recipe.lens.ranges, draw.camera, draw.scene)
        check_scene_draw(recipe.scene, draw.scene, recipe.frame, recipe.catalogue, draw.split)
        check_degradation_draw(recipe.resolved_degradation, draw.degradation)
    except DataError as error:
        raise DataError(f"the sample's `draw` record is not what the recipe can draw: {error}") from None


_DRAW = TypeAdapter(SampleDraw)
