"""Remake a stored sample from nothing but its own record and the recipe beside it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth.config.user_code import user_code
from bokehsynth.errors import DeviceError, UsageError
from bokehsynth.files import data_path
from bokehsynth.generation.machine_record import devices_of
from bokehsynth.generation.stored_recipe import find_pictures, stored_recipe
from bokehsynth.pipeline import sample_from_draw, scene_renderer
from bokehsynth.recipe import Recipe
from bokehsynth.rendering import resolve_device
from bokehsynth.sample_draw import SampleDraw, canvas_margin, check_draw, draw_from_meta
from bokehsynth.scene import SceneDraw
from bokehsynth.schema import Sample, sample_key
from bokehsynth.shards import Layout, open_dataset
from bokehsynth.stores import StoredPath

TEXEL = 16
"""Bytes of a texel of a layer: colour and alpha as float32."""
PIXEL = 3
"""Bytes of a pixel of a view or a source, which are held in 8 bit until all of a sample is made."""
LAYER_BYTES = 400_000_000
"""Bytes of the layers of a scene that is made again without trust; composing and rendering take some four times it."""


def replay_device(dataset: str | StoredPath, asked: str = "auto") -> tuple[list[str], str]:
    """The devices that the set was made on, and the one to make a sample on again: `auto` is the set's own.

    Raises DeviceError if that is not there. Of a set made on several, no sample tells on which; `auto` is then as
    everywhere.
    """
    made_on = devices_of(Layout(data_path(dataset)))
    if asked != "auto" or len(made_on) != 1:
        return made_on, resolve_device(asked)
    try:
        return made_on, resolve_device(made_on[0])
    except DeviceError as error:
        cause = str(error).split("; ")[0]  # without its advice, which is for another command
        raise DeviceError(
            f"{dataset}: was made on {made_on[0]}, so only there every pixel comes out as stored ({cause}); "
            "--device cpu makes the sample here all the same, and counts the pixels whose last bits differ"
        ) from None


def replay_sample(
    dataset: str | StoredPath, key: str, device: str = "auto", trust_code: bool = False, overrides: Sequence[str] = ()
) -> tuple[Sample, Sample, dict[str, int]]:
    """The stored sample, the remade one, and for each field that differs the number of differing pixels.

    `device` as in `replay_device`. Raises UsageError for a key that is none of this data set's, DeviceError for a
    device that is not there, DataError for a record that the recipe cannot have drawn. Classes outside bokehsynth that
    the recipe or the sample's record names are imported with `trust_code` alone, else UntrustedCodeError names them;
    and only then a scene may be of any size. `overrides` as in `stored_recipe`.
    """
    split, _, number = key.rpartition("-")
    stored_split = open_dataset(dataset, split) if split in {"train", "val"} and number.isdigit() else None
    if stored_split is None or int(number) >= len(stored_split) or key != sample_key(split, int(number)):
        raise UsageError(f"{dataset}: has no sample {key!r}; keys look like {sample_key('train', 12)}")
    stored = stored_split[int(number)]
    layout = Layout(data_path(dataset))
    recipe = stored_recipe(layout, trust_code, overrides)
    find_pictures(layout, recipe)
    render_scene = scene_renderer(replay_device(dataset, device)[1])
    with user_code(trust_code):
        draw = draw_from_meta(stored.meta)
        check_draw(recipe, draw, stored.meta)
        if not trust_code:
            check_size(recipe, draw, key)
        remade = sample_from_draw(recipe, draw, render_scene)
    counts = {name: differing_pixels(stored[name], remade[name]) for name in stored.arrays}
    return stored, remade, {name: count for name, count in counts.items() if count}


def check_size(recipe: Recipe, draw: SampleDraw, key: str) -> None:
    """UsageError for a scene whose layers and pictures would take more than LAYER_BYTES: a recipe can ask for any."""
    pictures = draw.scene.height * draw.scene.width * PIXEL * len(recipe.more_pictures)
    height, width, layers = draw.scene.height, draw.scene.width, 1
    if isinstance(draw.scene, SceneDraw):
        margin = canvas_margin(recipe, draw)
        height, width, layers = height + 2 * margin, width + 2 * margin, len(draw.scene.planes)
    more = f" and {count} further pictures" if (count := len(recipe.more_pictures)) else ""
    if (needed := height * width * layers * TEXEL + pictures) > LAYER_BYTES:
        raise UsageError(
            f"{key}: its {layers} layers of {width} x {height} px{more} take {needed / 1e9:.1f} GB, more than the "
            f"{LAYER_BYTES / 1e9:.1f} GB that a data set of strangers gets; if you trust it, add --trust-code (from "
            "Python: trust_code=True)"
        )


def differing_pixels(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> int:
    """The number of pixels in which two pictures differ; all of the larger one where their sizes do."""
    if a.shape != b.shape:
        return max(a.shape[0] * a.shape[1], b.shape[0] * b.shape[1])
    unequal = a != b
    return int(np.count_nonzero(unequal.any(axis=2) if unequal.ndim == 3 else unequal))
