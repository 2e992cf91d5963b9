"""The product in one page: draw -> compose -> render -> degrade -> Sample."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from bokehsynth.assets.load.store import AssetStore
from bokehsynth.color import encode_8bit, encode_16bit
from bokehsynth.degradation import DegradationDraw, apply_degradation, draw_degradation
from bokehsynth.errors import DataError, UsageError
from bokehsynth.files import canonical_json
from bokehsynth.recipe import Recipe
from bokehsynth.rendering import render
from bokehsynth.rendering.frames import Frames
from bokehsynth.rng import Stage, stream
from bokehsynth.sample_checks import first_sound
from bokehsynth.scene import AnyDraw, Composition, compose, draw_scene
from bokehsynth.schema import FORMAT_VERSION, Sample, on_steps, sample_key

ASSET_STORE = AssetStore()
"""The last few pictures of this process; what is on it never changes a sample."""

IN_FOCUS = 1.0
"""Blur radius in pixels up to which `mask` calls a pixel in focus, where nobody marked it."""


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
    which, aperture = recipe.lens.turn(index, rng)
    scene = draw_scene(recipe.scene, recipe.frame, recipe.catalogue, recipe.seed, split, which, attempt)
    rng = stream(recipe.seed, split, Stage.DEGRADE, index, attempt)
    degradation = draw_degradation(recipe.resolved_degradation, rng)
    return SampleDraw(
        split=split, index=index, attempt=attempt, aperture=aperture, scene=scene, degradation=degradation
    )


def make_sample(recipe: Recipe, index: int, split: str = "train", backend: str = "auto") -> Sample:
    """Make sample `index`, quantised exactly as a shard holds it: drawn again if it is no use (`soundness`)."""
    return first_sound(lambda attempt: develop(recipe, draw_sample(recipe, index, split, attempt), backend))


def develop(recipe: Recipe, draw: SampleDraw, backend: str = "auto") -> Sample:
    """The sample behind a draw: deterministic, whoever drew it and when."""
    scene = set_up(recipe, draw)
    frames = render(scene.layers, scene.lens, scene.margin, backend)
    return finish(recipe, draw, scene, frames)


def set_up(recipe: Recipe, draw: SampleDraw) -> Composition:
    """Before the shot: the drawn pictures are read and laid out in front of the drawn lens."""
    return compose(draw.scene, ASSET_STORE.of(recipe.catalogue), recipe.lens.apertures[draw.aperture])


def finish(recipe: Recipe, draw: SampleDraw, scene: Composition, frames: Frames) -> Sample:
    """After the shot: degraded, and everything brought onto the steps that a file holds."""
    bokeh = frames.bokeh if scene.photograph is None else scene.photograph  # a pair brings its own
    mask = frames.defocus <= IN_FOCUS if scene.mask is None else scene.mask
    aif = encode_8bit(frames.all_in_focus)
    degraded = apply_degradation(aif, draw.degradation)
    made: dict[str, Any] = {
        "lq": degraded.lq, "hq": encode_8bit(bokeh), "aif": aif, "defocus": frames.defocus,
        "disparity": frames.disparity, "mask": mask, "lq_native": degraded.lq_native,
    }  # fmt: skip
    if "hq16" in recipe.shards.fields:
        made["hq16"] = encode_16bit(bokeh)
    arrays = {name: on_steps(name, made[name], recipe.scales) for name in recipe.shards.fields}
    return Sample(sample_key(draw.split, draw.index), _meta(recipe, draw, scene, frames), arrays)


def _meta(recipe: Recipe, draw: SampleDraw, scene: Composition, frames: Frames) -> dict[str, Any]:
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
        "draw": canonical_json(asdict(draw) | {"composed": scene.facts}),
    }  # fmt: skip


def draw_from_meta(meta: dict[str, Any] | Any) -> SampleDraw:
    """The draw that a sample's JSON record holds; DataError if it is not one."""
    try:
        record = json.loads(meta["draw"])
        record.pop("composed")
        return _DRAW.validate_python(record)
    except (KeyError, ValueError) as error:
        raise DataError(f"the sample's `draw` record cannot be read: {error}") from None


_DRAW = TypeAdapter(SampleDraw)
