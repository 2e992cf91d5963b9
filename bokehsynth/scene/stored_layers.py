"""The layers of a sample as fields: what a scene's layers show in the picture, and layers made of it again."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bokehsynth.color import encode_8bit, srgb_to_linear
from bokehsynth.errors import DataError, UsageError
from bokehsynth.optics import Plane
from bokehsynth.optics.layer import Layer
from bokehsynth.schema import MAP_MAX, Array, Sample


def layer_names(count: int, most: int) -> list[str]:
    """Numbers of the fields of `count` layers where a recipe has `most`: from the front, the background's the last."""
    return [f"{i:02d}" for i in [*range(count - 1), most - 1]]


def layer_arrays(layers: Sequence[Layer], margin: int, most: int, fields: Sequence[str]) -> dict[str, Array]:
    """Mattes, float32 [H, W], and colours, uint8 [H, W, 3] sRGB, of a scene's layers, cut to the picture.

    `layers` are near to far, on a canvas that is `margin` pixels larger on each side. A layer that the scene lacks is
    empty; colour is 0 where the matte, rounded to 16 bits, is 0.
    """
    if not fields:
        return {}
    height, width = (side - 2 * margin for side in layers[0].shape)
    cut = np.s_[margin : margin + height, margin : margin + width]
    by_name = dict(zip(layer_names(len(layers), most), layers, strict=True))
    arrays: dict[str, Array] = {}
    for field in fields:
        part, _, name = field.partition("_")
        layer = by_name.get(name)
        if part == "matte":
            arrays[field] = np.zeros((height, width), np.float32) if layer is None else layer.alpha[cut]
        elif layer is None:
            arrays[field] = np.zeros((height, width, 3), np.uint8)
        else:
            seen = np.rint(layer.alpha[cut] * np.float64(MAP_MAX)) > 0
            arrays[field] = encode_8bit(layer.color[cut]) * seen[..., None]
    return arrays


def layers_meta(layers: Sequence[Layer], most: int) -> dict[str, Any]:
    """The keys of a sample's record that say which layers it has, and where they stand."""
    planes = [layer.disparity for layer in layers if isinstance(layer.disparity, Plane)]
    assert len(planes) == len(layers), "scenes of layers have planes"
    return {
        "layer_names": layer_names(len(layers), most),
        "layer_disparity": [float(plane.d) for plane in planes],
        "layer_gx": [float(plane.gx) for plane in planes],
        "layer_gy": [float(plane.gy) for plane in planes],
    }


def layers_of(sample: Sample, margin: int = 0) -> list[Layer]:
    """The layers of a sample, near to far, as `render` takes them.

    The sample must hold `matte_NN` and `color_NN` of each of its layers. The canvas is the picture with `margin` pixels
    more on each side, where the picture's border is repeated: what stood there is not stored. Raises DataError if a
    field is missing, UsageError for a negative margin.
    """
    if margin < 0:
        raise UsageError(f"margin must be at least 0, got {margin}")
    meta = sample.meta
    if "layer_names" not in meta:
        raise DataError(
            f"sample {sample.key} has no layers: make the set with `layers` in shards.fields (of scenes of layers)"
        )
    places = zip(meta["layer_names"], meta["layer_disparity"], meta["layer_gx"], meta["layer_gy"], strict=True)
    beyond = ((margin, margin), (margin, margin))
    return [
        Layer(
            np.pad(srgb_to_linear(sample[f"color_{name}"]), (*beyond, (0, 0)), mode="edge"),
            np.pad(sample[f"matte_{name}"], beyond, mode="edge"),
            Plane(disparity, gx, gy),
        )
        for name, disparity, gx, gy in places
    ]
