"""How far a picture is from a photograph of the same view: error in sRGB 0..1, after gain and tone curve."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth.color import FloatArray, linear_to_srgb, srgb_to_linear

BoolArray = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]

CLIPPED = 0.95
"""Linear value from which a photograph is taken to be clipped."""


def psnr(mean_square: float) -> float:
    """Peak signal-to-noise ratio in decibels for a mean squared error of values in 0..1, at most 100."""
    return -10 * math.log10(max(mean_square, 1e-10))


def gain_between(picture: FloatArray, photo: FloatArray, where: BoolArray | None = None) -> npt.NDArray[np.float32]:
    """Gain of each channel [3] that brings one linear picture nearest to another, clipped pixels left out; 1 if all
    are."""
    usable = np.maximum(picture, photo).max(axis=2) < CLIPPED
    usable &= True if where is None else where
    p, q = picture[usable].astype(np.float64), photo[usable].astype(np.float64)
    power = (p * p).sum(0)
    gain: npt.NDArray[np.float32] = np.where(power > 0, (p * q).sum(0) / np.maximum(power, 1e-12), 1.0).astype(
        np.float32
    )
    return gain


def tone_curve(picture: FloatArray, photo: FloatArray, where: BoolArray) -> Callable[[FloatArray], FloatArray]:
    """A function that maps a linear picture to the tones of another exposure of the same view.

    A camera's JPEG is not sRGB of the light: the gain between two exposures differs by a factor of two between shadows
    and highlights. One curve for all channels, from sRGB value to sRGB value: medians over `where`, which must be
    sharp in both, made monotone; straight to black and to white beyond its tones.
    """
    source, target = (linear_to_srgb(p.clip(0, 1))[where].ravel() for p in (picture, photo))
    cell = (source * 64).astype(int)
    knots = [(0.0, 0.0)]
    for k in np.flatnonzero(np.bincount(cell) >= 50):
        knots.append((float(np.median(source[cell == k])), float(np.median(target[cell == k]))))
    x, y = np.array([*knots, (1.0, max(1.0, knots[-1][1]))]).T
    y = np.maximum.accumulate(y)
    return lambda linear: srgb_to_linear(np.interp(linear_to_srgb(linear.clip(0, 1)), x, y).astype(np.float32))


def squared_error(picture: FloatArray, photo: FloatArray) -> Array:
    """Squared error [H, W] of two linear pictures [H, W, 3] in sRGB, mean of the channels, after the best gains."""
    ours, theirs = (linear_to_srgb(p.clip(0, 1)) for p in (picture * gain_between(picture, photo), photo))
    error: Array = ((ours - theirs) ** 2).mean(axis=2)
    return error
