"""Downscale large pictures in linear light, strip by strip, so that no whole picture is held in floats."""

from collections.abc import Callable

import cv2
import numpy as np

from bokehsynth.assets.decode.raster import Raster
from bokehsynth.color import FloatArray

STRIP = 256
"""Rows converted to floats at a time."""


def reduced(raster: Raster, shorter: int) -> FloatArray:
    """Linear light, reduced by a whole factor so that the shorter side is still at least `shorter` pixels."""
    return in_strips(raster, whole_factor(raster.size, shorter), lambda light: light)


def whole_factor(size: tuple[int, int], shorter: int) -> int:
    """The largest whole factor that leaves `shorter` pixels on the shorter side."""
    return max(1, min(size) // shorter)


def in_strips(raster: Raster, factor: int, change: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """`change` applied to linear light [h, W, 3] strip by strip, each reduced by a whole factor at once."""
    return reduced_rows(raster, factor, lambda rows: change(raster.light(rows)))


def weighted(raster: Raster, factor: int, weight: FloatArray) -> FloatArray:
    """Linear light times `weight` [H, W], reduced by a whole factor."""
    return reduced_rows(raster, factor, lambda rows: raster.light(rows) * cv2.merge([weight[rows]] * 3))


def reduced_rows(raster: Raster, factor: int, light: Callable[[slice], FloatArray]) -> FloatArray:
    """`light` [h, W, 3] of rows of a raster, asked for strip by strip, each reduced by a whole factor at once."""
    height = raster.size[0]
    if factor == 1:
        return light(slice(None))
    strip = max(1, STRIP // factor) * factor
    rows = [averaged(light(slice(top, min(top + strip, height))), factor) for top in range(0, height, strip)]
    return np.concatenate([row for row in rows if row.size])


def shrunk(image: FloatArray, shorter: int) -> FloatArray:
    """Area-averaged so that the shorter side is at most `shorter`; never enlarged."""
    factor = shorter / min(image.shape[:2])
    if factor >= 1:
        return image
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)


def averaged(image: FloatArray, factor: int) -> FloatArray:
    """Box means of factor x factor pixels; the remainder at the lower and right edge is cut off."""
    if factor == 1:
        return image
    height, width = (side // factor for side in image.shape[:2])
    if not height or not width:
        return np.empty((0, width, *image.shape[2:]), np.float32)
    part = image[: height * factor, : width * factor]
    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA), np.float32)
