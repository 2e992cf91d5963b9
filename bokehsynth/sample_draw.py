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
from bokehsynth.rendering.aperture.lens_points import mean_point
from bokehsynth.rendering.frames import Frames
from bokehsynth.rng import Stage, stream
from bokehsynth.scene import AnyDraw, ComposedScene, MorePictures, PairDraw, SceneDraw, SceneSpec, draw_scene
from bokehsynth.scene.camera import CameraDraw, MetricCamera
from bokehsynth.scene.check_draw import check_camera_draw, check_scene_draw, check_source
from bokehsynth.scene.compose import margin_of
from bokehsynth.scene.more_pictures import SourceDraw, draw_source
from bokehsynth.scene.stored_layers import layers_meta
from bokehsynth.scene.stored_layers import layers_of as layers_of  # noqa: PLC0414  # public from here
from bokehsynth.schema import FORMAT_VERSION, SOURCE
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
    source: SourceDraw | None = None
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
    source = None
    if recipe.source is not None:
        rng = stream(recipe.seed, split, Stage.SOURCE, index, attempt)
        source = _draw_source(recipe, scene, aperture, camera, which, rng)
    rng = stream(recipe.seed, split, Stage.DEGRADE, index, attempt)
    degradation = draw_degradation(recipe.resolved_degradation, rng)
    return SampleDraw(
        split=split, index=index, attempt=attempt, aperture=aperture, scene=scene, degradation=degradation,
        camera=None if camera is None else camera.draw, source=source,
    )  # fmt: skip


def _draw_camera(recipe: Recipe, rng: np.random.Generator) -> MetricCamera | None:
    ranges = recipe.lens.ranges
    if ranges is None:
        return None
    others = [lens.blur_bound(recipe.frame) for lens in recipe.lenses[1:] if recipe.frame is not None]
    return MetricCamera(ranges.draw(rng), max(recipe.radius_bound, *(bound or 0.0 for bound in others), 0.0))


def _draw_source(
    recipe: Recipe, scene: AnyDraw, aperture: int, camera: MetricCamera | None, which: int, rng: np.random.Generator
) -> SourceDraw:
    assert recipe.source is not None
    assert isinstance(recipe.scene, SceneSpec)
    assert isinstance(scene, SceneDraw), "recipes with a source have layers"
    drawn = None if camera is None else camera.draw
    return draw_source(recipe.source, recipe.scene, scene, aperture, drawn, which, rng)


def more_pictures(recipe: Recipe, draw: SampleDraw) -> MorePictures:
    """What is photographed of a drawn scene besides `hq`."""
    source, lens, camera = draw.source, recipe.lens, draw.camera
    if source is None or recipe.source is None:
        return MorePictures(recipe.views, radius_bound=recipe.radius_bound)
    if recipe.source.lens is not None:
        lens, camera = recipe.source.lens, source.camera
    return MorePictures(
        recipe.views, source, lens.scene_lens(source.aperture, camera, recipe.frame), radius_bound=recipe.radius_bound
    )


def canvas_margin(recipe: Recipe, draw: SampleDraw) -> int:
    """Pixels that the canvas of a drawn scene of layers has beyond each side of the picture."""
    assert isinstance(draw.scene, SceneDraw)
    lens = recipe.lens.scene_lens(draw.aperture, draw.camera, recipe.frame)
    return margin_of(draw.scene, lens, more_pictures(recipe, draw))


def sample_meta(recipe: Recipe, draw: SampleDraw, scene: ComposedScene, frames: Frames) -> dict[str, Any]:
    """The flat JSON record of a sample (`META_TYPES`, and keys of a camera, of views, of a source, of layers)."""
    record = asdict(draw) | {"composed": scene.notes}
    pair = {}
    if isinstance(draw.scene, PairDraw) and recipe.assets.f_numbers:
        pair = {"f_number": recipe.catalogue.by_id[draw.scene.asset].f_number}
    metric = {} if draw.camera is None else {"near_m": float(draw.camera.near_m)}
    for name in ("camera", "source"):
        if record[name] is None:
            del record[name]
    return {
        "format": FORMAT_VERSION,
        "index": draw.index, "split": draw.split, "seed": recipe.seed, "attempt": draw.attempt,
        "width": draw.scene.width, "height": draw.scene.height,
        "blur": float(scene.lens.blur), "focus": float(scene.lens.focus),
        "radius_max": float(frames.defocus.max()),
        "aperture": recipe.lens.names[draw.aperture],
        **recipe.scales,
        **pair, **metric, **_views_meta(recipe, scene), **_source_meta(recipe, draw, scene),
        **(layers_meta(scene.layers, recipe.most_layers) if recipe.layer_fields else {}),
        "assets": draw.scene.assets,
        **recipe.identity,
        "draw": canonical_json(record),
    }  # fmt: skip


def _views_meta(recipe: Recipe, scene: ComposedScene) -> dict[str, Any]:
    """What each stored view is."""
    if recipe.views is None:
        return {}
    names = [name for name in recipe.views.names if name in recipe.shards.fields]
    lenses = [scene.pictures[name].lens for name in names]
    middles = [mean_point(lens.aperture) for lens in lenses]
    return {
        "views": recipe.views.kind, "view_names": names,
        "view_blur": [float(lens.blur) for lens in lenses], "view_focus": [float(lens.focus) for lens in lenses],
        "view_x": [x for x, _ in middles], "view_y": [y for _, y in middles],
    }  # fmt: skip


def _source_meta(recipe: Recipe, draw: SampleDraw, scene: ComposedScene) -> dict[str, Any]:
    if recipe.source is None or draw.source is None:
        return {}
    lens, spec = scene.pictures[SOURCE].lens, recipe.source.lens or recipe.lens
    return {
        "source_blur": float(lens.blur), "source_focus": float(lens.focus),
        "source_aperture": spec.names[draw.source.aperture],
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
        check_source_draw(recipe, draw)
        check_degradation_draw(recipe.resolved_degradation, draw.degradation)
    except DataError as error:
        raise DataError(f"the sample's `draw` record is not what the recipe can draw: {error}") from None


def check_source_draw(recipe: Recipe, draw: SampleDraw) -> None:
    """DataError unless `draw` has a source that the recipe can draw for its scene."""
    spec, source = recipe.source, draw.source
    if (spec is None) != (source is None):
        raise DataError("has a source where the recipe has none, or the other way round")
    if spec is None or source is None:
        return
    assert isinstance(draw.scene, SceneDraw)
    assert isinstance(recipe.scene, SceneSpec)
    count = len((spec.lens or recipe.lens).names)
    if not 0 <= source.aperture < count:
        raise DataError(f"has aperture {source.aperture} of the source, the recipe {count}")
    if spec.lens is None and source.aperture != draw.aperture:
        raise DataError("the source's aperture is not that of the sample")
    check_source(spec, recipe.scene, draw.scene, source, draw.camera)


_DRAW = TypeAdapter(SampleDraw)
