"""sRGB at the edges, linear light inside (IEC 61966-2-1)."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bokehsynth.errors import UnsoundError

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Rec. 709 luminance of linear R, G, B."""

_BUCKET_BITS = 15
"""Floats that agree in all but so many bits differ by 0.4 %; the narrowest step of 8-bit sRGB, at white, is 0.9 %."""


def srgb_to_linear(encoded: npt.NDArray[np.generic]) -> FloatArray:
    """Decode sRGB to linear light, float32 of the same shape.

    Integer input means its full scale (uint8: 255, uint16: 65535); float input means 1.0. Floats outside 0..1 are
    decoded by the same formula and not clamped; negative values stay as they are.
    """
    array = np.asarray(encoded)
    if array.dtype == np.uint8:
        return np.take(_DECODE_8, array)
    if array.dtype == np.uint16:
        return _decode_16()[array]
    if np.issubdtype(array.dtype, np.integer):
        array = array.astype(np.float64) / np.iinfo(array.dtype).max
    return _decode(array.astype(np.float64)).astype(np.float32)


def linear_to_srgb(linear: npt.NDArray[np.generic]) -> FloatArray:
    """Encode linear light to sRGB, float32 of the same shape; 1.0 is white, nothing is clamped."""
    value = np.asarray(linear, dtype=np.float32)
    dark = value <= np.float32(0.0031308)
    if 4 * np.count_nonzero(dark) < dark.size:
        return np.where(dark, value * np.float32(12.92), _curve(np.maximum(value, np.float32(0.0031308))))
    encoded = np.asarray(value * np.float32(12.92))  # a power takes ten times as long as choosing what needs one
    bright = ~dark
    encoded[bright] = _curve(value[bright])
    return encoded


def _curve(value: FloatArray) -> FloatArray:
    return np.float32(1.055) * np.power(value, np.float32(1 / 2.4)) - np.float32(0.055)


def brightest(color: FloatArray) -> FloatArray:
    """The largest channel [H, W] of [H, W, 3]; NumPy's own `max` over three values takes five times as long."""
    return np.maximum(np.maximum(color[..., 0], color[..., 1]), color[..., 2])


def encode_8bit(linear: npt.NDArray[np.generic]) -> ByteArray:
    """Linear light to 8-bit sRGB, clamped to 0..1 and rounded to nearest; UnsoundError for NaN and infinity."""
    clipped = _displayable(linear)
    clipped += np.float32(0)  # minus zero has the bits of a large number
    least, first = _steps_of_8_bits()
    code = np.take(least, clipped.view(np.uint32) >> _BUCKET_BITS)
    code += clipped >= np.take(first, code)
    return code


class CodeTable(NamedTuple):
    """What `encode` looks up, so that a device can do the same to the bit.

    The code of x, clamped to 0..1, is `least[bits >> bucket_bits]` of its float32's bits, and one more from
    `steps[that]` on.
    """

    encode: Callable[[npt.NDArray[np.generic]], ByteArray]
    """Encodes on the host."""
    least: ByteArray
    steps: FloatArray
    bucket_bits: int


@cache
def table_of_8_bits() -> CodeTable:
    """The table of `encode_8bit`."""
    return CodeTable(encode_8bit, *_steps_of_8_bits(), _BUCKET_BITS)


def encode_16bit(linear: npt.NDArray[np.generic]) -> npt.NDArray[np.uint16]:
    """Linear light to 16-bit sRGB, clamped to 0..1 and rounded to nearest; UnsoundError for NaN and infinity."""
    clipped = _displayable(linear)
    return np.rint(linear_to_srgb(clipped).astype(np.float64) * 65535).astype(np.uint16)


def _round_to_8_bits(linear: FloatArray) -> ByteArray:
    return (linear_to_srgb(linear) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


@cache
def _steps_of_8_bits() -> tuple[ByteArray, FloatArray]:
    """Return what `encode_8bit` looks up: the least code in each bucket of floats, and the float where code + 1 begins.

    A bucket holds the non-negative floats that agree in all but their last `_BUCKET_BITS` bits; it is narrower than any
    step of the code. The steps are found by bisection, with the arithmetic of this machine.
    """
    white = np.float32(1).view(np.uint32)
    low, high = np.zeros(255, np.uint32), np.full(255, white)
    codes = np.arange(1, 256)
    while (low < high).any():
        middle = (low + high) // 2
        reached = _round_to_8_bits(middle.view(np.float32)) >= codes
        low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
    buckets = np.arange((white >> _BUCKET_BITS) + 1, dtype=np.uint32) << _BUCKET_BITS
    least = np.searchsorted(high, buckets, side="right").astype(np.uint8)
    return least, np.append(high.view(np.float32), np.float32(np.inf))


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
