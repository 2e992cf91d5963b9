"""A decoded file's stored numbers, and their conversion to linear light."""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.color import FloatArray, srgb_to_linear
from bokehsynth.imaging.icc import GreyProfile, RgbProfile

Stored = npt.NDArray[Any]
"""uint8, uint16 or float32."""


ALL_BYTES = np.arange(256, dtype=np.uint8)


@dataclass(frozen=True)
class Raster:
    """A decoded file, as stored; upright."""

    values: Stored
    """[H, W] grey or [H, W, 3] RGB; integers over their full scale, or floats in linear light."""
    alpha: Stored | None
    """[H, W], integers over their full scale or floats in 0..1."""
    format: str
    """PNG, JPEG, WEBP, TIFF, HDR or EXR."""
    mode: str
    """Pillow's name of the stored mode, with `;16` where the channels have 16 bits, or `float`."""
    profile: RgbProfile | GreyProfile | None = None
    """Set where integers are not sRGB."""
    notes: tuple[str, ...] = ()
    """Assumptions made where the file leaves something open."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def depth(self) -> int:
        """Bits per stored channel."""
        return 8 * self.values.dtype.itemsize

    @property
    def linear(self) -> bool:
        """Whether the values are linear light, unbounded above white."""
        return bool(self.values.dtype == np.float32)

    @property
    def is_srgb_of_8_bits(self) -> bool:
        """Whether light is a function of each stored byte."""
        return bool(self.values.dtype == np.uint8) and self.profile is None

    def light(self, rows: slice = slice(None)) -> FloatArray:
        """Linear sRGB light [rows, W, 3], 1.0 = white; never negative, above white only in scene-referred files."""
        part = self.values[rows]
        if self.linear:
            light = np.maximum(part, 0).astype(np.float32, copy=False)
        elif self.is_srgb_of_8_bits:
            light = looked_up(part, srgb_to_linear(ALL_BYTES))
        else:
            light = srgb_to_linear(part) if self.profile is None else self.profile.to_linear(part)
        return light if light.ndim == 3 else np.repeat(light[..., None], 3, axis=2)

    def opacity(self, rows: slice = slice(None)) -> FloatArray | None:
        """Alpha [rows, W] in 0..1."""
        return None if self.alpha is None else unit(self.alpha[rows])

    def grey(self) -> FloatArray:
        """The stored numbers as a matte [H, W] in 0..1: not light, so no curve; of RGB, the mean of its channels."""
        values = unit(self.values)
        return values if values.ndim == 2 else values.mean(axis=2, dtype=np.float32)


def looked_up(values: Stored, table: FloatArray) -> FloatArray:
    """`table` [256] at bytes [H, W] or [H, W, C]: NumPy's indexing takes three times as long as OpenCV's."""
    return np.asarray(cv2.LUT(values, table), np.float32) if values.size else np.take(table, values)


def unit(values: Stored) -> FloatArray:
    """Integers over their full scale, or floats clamped: 0..1."""
    if values.dtype == np.float32:
        return np.clip(values, np.float32(0), np.float32(1))
    return values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)


def upright(values: Stored, orientation: int) -> Stored:
    """Apply an EXIF orientation, 1 to 8, to [H, W] or [H, W, C]."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        values = values[::-1]
    if orientation in {2, 3, 6, 7}:
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def straight(color: FloatArray, alpha: FloatArray) -> FloatArray:
    """Unpremultiply [H, W] or [H, W, 3]: divided by alpha; black where that is 0."""
    over = alpha if color.ndim == 2 else alpha[..., None]
    return np.divide(color, over, out=np.zeros_like(color), where=over > 0)


def unpremultiplied(raster: Raster, alpha: FloatArray) -> Raster:
    """Divide the stored numbers by alpha [H, W]: editors premultiply encoded values, so these are divided."""
    color = straight(raster.values.astype(np.float32), alpha)
    if raster.linear:
        return replace(raster, values=color)
    full = np.float32(np.iinfo(raster.values.dtype).max)
    return replace(raster, values=np.clip(np.rint(color), 0, full).astype(raster.values.dtype))
