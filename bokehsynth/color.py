"""sRGB at the edges, linear light inside (IEC 61966-2-1)."""

from functools import cache

import numpy as np
import numpy.typing as npt

from bokehsynth.errors import UnsoundError

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Rec. 709 luminance of linear R, G, B."""


def srgb_to_linear(encoded: npt.NDArray[np.generic]) -> FloatArray:
    """Decode sRGB to linear light, float32 of the same shape.

    Integer input means its full scale (uint8: 255, uint16: 65535); float input means 1.0. Floats outside 0..1 are
    decoded by the same formula and not clamped; negative values stay as they are.
    """
    array = np.asarray(encoded)
    if array.dtype == np.uint8:
        return _DECODE_8[array]
    if array.dtype == np.uint16:
        return _decode_16()[array]
    if np.issubdtype(array.dtype, np.integer):
        array = array.astype(np.float64) / np.iinfo(array.dtype).max
    return _decode(array.astype(np.float64)).astype(np.float32)


def linear_to_srgb(linear: npt.NDArray[np.generic]) -> FloatArray:
    """Encode linear light to sRGB, float32 of the same shape; 1.0 is white, nothing is clamped."""
    value = np.asarray(linear, dtype=np.float32)
    curve = np.float32(1.055) * np.power(np.maximum(value, np.float32(0.0031308)), np.float32(1 / 2.4))
    return np.where(value <= np.float32(0.0031308), value * np.float32(12.92), curve - np.float32(0.055))


def encode_8bit(linear: npt.NDArray[np.generic]) -> ByteArray:
    """Linear light to 8-bit sRGB, clamped to 0..1 and rounded to nearest; UnsoundError for NaN and infinity."""
    clipped = _displayable(linear)
    return (linear_to_srgb(clipped) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def encode_16bit(linear: npt.NDArray[np.generic]) -> npt.NDArray[np.uint16]:
    """Linear light to 16-bit sRGB, clamped to 0..1 and rounded to nearest; UnsoundError for NaN and infinity."""
    clipped = _displayable(linear)
    return np.rint(linear_to_srgb(clipped).astype(np.float64) * 65535).astype(np.uint16)


def _displayable(linear: npt.NDArray[np.generic]) -> FloatArray:
    if not np.isfinite(linear).all():
        raise UnsoundError("a picture holds values that are not finite", "not_finite")
    return np.clip(np.asarray(linear, dtype=np.float32), np.float32(0), np.float32(1))


def _decode(value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    curve = ((np.maximum(value, 0.04045) + 0.055) / 1.055) ** 2.4
    return np.where(value <= 0.04045, value / 12.92, curve)


@cache
def _decode_16() -> FloatArray:
    return _decode(np.arange(65536) / 65535.0).astype(np.float32)


_DECODE_8 = _decode(np.arange(256) / 255.0).astype(np.float32)
