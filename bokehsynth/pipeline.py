"""The path of a sample on one page: draw -> compose -> render -> degrade -> Sample."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bokehsynth.assets.load.store import AssetStore
from bokehsynth.color import ByteArray, encode_8bit, encode_16bit
from bokehsynth.degradation import Degraded, apply_degradation
from bokehsynth.recipe import Recipe
from bokehsynth.rendering import Scene, render, render_batch
from bokehsynth.rendering.frames import Frames
from bokehsynth.sample_checks import raise_unless_retryable, retry_until_valid
from bokehsynth.sample_draw import SampleDraw, draw_sample, more_pictures, sample_meta
from bokehsynth.scene import ComposedScene, compose
from bokehsynth.schema import HALVES, SOURCE, Sample, quantized, sample_key

ASSET_STORE = AssetStore()
"""The pictures that this process used last; its content never changes a sample."""

IN_FOCUS = 1.0
"""Blur radius in pixels up to which `mask` calls a pixel in focus, where no asset brings a mask."""


def make_sample(recipe: Recipe, index: int, split: str = "train", backend: str = "auto") -> Sample:
    """Make sample `index`, quantised exactly as a shard holds it; a draw that fails `sample_checks` is drawn again."""
    render_scene = scene_renderer(backend)
    return retry_until_valid(
        lambda attempt: sample_from_draw(recipe, draw_sample(recipe, index, split, attempt), render_scene)
    )


def sample_from_draw(
    recipe: Recipe, draw: SampleDraw, render_scene: Callable[[Scene], Frames], scene: ComposedScene | None = None
) -> Sample:
    """Turn a draw into its sample, deterministically; the only place where this happens.

    `render_scene` decides where and with which others the scene is rendered; `scene` is given if composed already.
    """
    scene = scene or compose_draw(recipe, draw)
    frames = render_scene(scene)  # further pictures are encoded in turn: the frames of one take ten times the memory
    pictures = {n: render_scene(scene.pictures[n]).view_by(encode_8bit, n in HALVES) for n in recipe.more_pictures}
    aif = frames.all_in_focus_by(encode_8bit)
    degraded = apply_degradation(pictures.get(SOURCE, aif), draw.degradation)
    arrays = sample_arrays(recipe, scene, frames, degraded, {"aif": aif, **pictures})
    return Sample(sample_key(draw.split, draw.index), sample_meta(recipe, draw, scene, frames), arrays)


def compose_draw(recipe: Recipe, draw: SampleDraw) -> ComposedScene:
    """Read the drawn pictures and lay them out in front of the drawn lens."""
    lens = recipe.lens.scene_lens(draw.aperture, draw.camera, recipe.frame)
    return compose(draw.scene, ASSET_STORE.of(recipe.catalogue), lens, more_pictures(recipe, draw))


def scene_renderer(backend: str = "auto") -> Callable[[Scene], Frames]:
    """`render` by one backend, as a function of the scene alone."""
    return lambda scene: render(scene.layers, scene.lens, scene.margin, backend)


def sample_arrays(
    recipe: Recipe, scene: ComposedScene, frames: Frames, degraded: Degraded, pictures: Mapping[str, ByteArray]
) -> dict[str, Any]:
    """The recipe's fields, each quantised to the steps that a file holds; `pictures` are encoded already."""
    made: dict[str, Any] = {
        "lq": degraded.lq, "lq_native": degraded.lq_native, "defocus": frames.defocus, "disparity": frames.disparity,
        "mask": frames.defocus <= IN_FOCUS if scene.mask is None else scene.mask, **pictures, **recipe.layers_in(scene),
    }  # fmt: skip
    if "hq" in recipe.shards.fields:  # else it is not even rendered
        made["hq"] = frames.bokeh_by(encode_8bit) if scene.captured is None else encode_8bit(scene.captured)
    if "hq16" in recipe.shards.fields:
        made["hq16"] = encode_16bit(frames.bokeh if scene.captured is None else scene.captured)
    return {name: quantized(name, made[name], recipe.scales) for name in recipe.shards.fields}


@dataclass(frozen=True, eq=False)
class ComposedSample:
    """A sample before rendering: what a process without the GPU prepares for the one that has it."""

    draw: SampleDraw
    scene: ComposedScene


def compose_sample(recipe: Recipe, index: int, split: str = "train") -> ComposedSample:
    """Draw and compose sample `index`: the part of `make_sample` that comes before rendering."""

    def attempt_sample(attempt: int) -> ComposedSample:
        draw = draw_sample(recipe, index, split, attempt)
        return ComposedSample(draw, compose_draw(recipe, draw))

    return retry_until_valid(attempt_sample, check=lambda composed: None)


def render_samples(recipe: Recipe, composed: Sequence[ComposedSample], backend: str = "auto") -> list[Sample]:
    """The part of `make_sample` from rendering on, for several samples whose scenes are rendered together."""
    batch: dict[Any, Frames] = {}
    try:
        scenes = [scene for each in composed for scene in each.scene.with_pictures(recipe.more_pictures)]
        batch |= zip(scenes, render_batch(scenes, backend, codes=recipe.device_codes), strict=True)
    except BaseException as raised:  # one scene cannot be rendered: each by itself, so that only it is drawn again
        raise_unless_retryable(raised)

    def finish(each: ComposedSample) -> Sample:
        def attempt_sample(attempt: int) -> Sample:
            if batch and attempt == each.draw.attempt:
                return sample_from_draw(recipe, each.draw, batch.__getitem__, each.scene)
            draw = draw_sample(recipe, each.draw.index, each.draw.split, attempt)
            return sample_from_draw(recipe, draw, scene_renderer(backend))

        return retry_until_valid(attempt_sample, each.draw.attempt)

    return [finish(each) for each in composed]


SetUp = ComposedSample  # the public names of 0.4
set_up_sample = compose_sample


def make_samples(recipe: Recipe, set_ups: Sequence[ComposedSample], backend: str = "auto") -> list[Sample]:
    """Do as `render_samples`."""
    return render_samples(recipe, set_ups, backend)
