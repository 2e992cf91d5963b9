"""How alike two pictures of one view are: shift, gain, tones, PSNR, SSIM. Linear light in, errors in sRGB 0..1."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.color import LUMINANCE, FloatArray, linear_to_srgb, srgb_to_linear

BoolArray = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]

CLIPPED = 0.95
"""Linear value from which a photograph is taken to be clipped."""


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


def shift_between(picture: FloatArray, photo: FloatArray, weight: Array) -> tuple[float, float, float]:
    """By how many pixels (x, y) `photo` shows things elsewhere than `picture`, and the correlation's peak, 0..1.

    Phase correlation of log luminance, windowed by `weight` [H, W] in 0..1 (soft edges, or its own outline answers).
    """
    windows = []
    for linear in (picture, photo):
        values = np.log(0.01 + linear @ LUMINANCE).astype(np.float64)
        windows.append((values - np.average(values, weights=weight)) * weight)
    (x, y), peak = cv2.phaseCorrelate(windows[0], windows[1])
    return float(x), float(y), float(peak)


def tone_curve(picture: FloatArray, photo: FloatArray, where: BoolArray) -> Callable[[FloatArray], FloatArray]:
    """What brings a linear picture to the tones of another exposure of the same view.

    A camera's jpeg is not sRGB of the light: shadows and lights of one subject differ between two exposures by factors
    that differ by two. One curve for all channels, from sRGB value to sRGB value: medians over `where`, which must be
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


@dataclass(frozen=True)
class Views:
    """What two photographs of one view have in common, where both are sharp."""

    gain: list[float]
    """Of each channel, linear, from the first to the second."""
    shift: tuple[float, float]
    """Pixels (x, y) by which the second shows things elsewhere."""
    likeness: float
    """Correlation of log luminance after the shift, -1..1."""

    @property
    def stops(self) -> float:
        """Largest difference of exposure of a channel, in stops."""
        return max(abs(math.log2(max(gain, 1e-6))) for gain in self.gain)

    @property
    def pixels(self) -> float:
        """Length of the shift."""
        return math.hypot(*self.shift)


def compare_views(closed: FloatArray, photo: FloatArray, focal_mask: Array | None = None) -> Views:
    """Gain, shift and likeness of an all-in-focus picture and a photograph through a lens, [H, W, 3] linear.

    Compared is what `focal_mask` [H, W] marks or, without one, what is about as sharp in the photograph.
    """
    marked = sharp_in_both(closed, photo) if focal_mask is None else (focal_mask >= 0.5).astype(np.float32)
    inner = np.asarray(cv2.erode(marked, np.ones((5, 5), np.uint8)), np.float32)
    marked = inner if inner.mean() > 0.005 else marked
    if marked.mean() < 0.002:
        marked = np.ones_like(marked)
    weight = cv2.GaussianBlur(marked.astype(np.float64), (0, 0), 3)
    x, y, _ = shift_between(closed, photo, weight)
    height, width = weight.shape
    back = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y]])
    moved = np.asarray(cv2.warpAffine(photo, back, (width, height), borderMode=cv2.BORDER_REPLICATE), np.float32)
    logs = [np.log(0.01 + picture @ LUMINANCE)[marked > 0.5].astype(np.float64) for picture in (closed, moved)]
    flat = [bool(values.std() < 1e-3) for values in logs]
    likeness = float(all(flat)) if any(flat) else float(np.corrcoef(*logs)[0, 1])  # a wall is like a wall only
    gain = [float(value) for value in gain_between(closed, moved, marked > 0.5)]
    return Views(gain, (x, y), likeness)


def sharp_in_both(closed: FloatArray, photo: FloatArray) -> FloatArray:
    """1 where the photograph keeps most of the fine detail that the all-in-focus picture has, else 0; [H, W]."""
    detail: list[Array] = []
    for linear in (closed, photo):
        values: Array = np.log(0.01 + linear @ LUMINANCE)
        fine: Array = values - cv2.GaussianBlur(values, (0, 0), 1.5)
        detail.append(np.asarray(cv2.GaussianBlur(fine * fine, (0, 0), 0.012 * min(values.shape)), np.float32))
    there = detail[0] > np.quantile(detail[0], 0.3)
    return np.asarray(there & (detail[1] > 0.5 * detail[0]), np.float32)


@dataclass(frozen=True, eq=False)
class Comparison:
    """How a picture differs from a photograph, in sRGB, after the best gain per channel."""

    square: Array
    """Squared error, mean of the channels, [H, W]."""
    luminances: tuple[Array, Array]

    @classmethod
    def of(cls, picture: FloatArray, photo: FloatArray) -> "Comparison":
        """Of two linear pictures [H, W, 3]."""
        ours, theirs = (linear_to_srgb(p.clip(0, 1)) for p in (picture * gain_between(picture, photo), photo))
        return cls(((ours - theirs) ** 2).mean(axis=2), (ours @ LUMINANCE, theirs @ LUMINANCE))

    def psnr(self, where: BoolArray | None = None) -> float:
        """Decibels over a part of the picture, at most 100."""
        error = float((self.square if where is None else self.square[where]).mean())
        return -10 * math.log10(max(error, 1e-10))

    def ssim(self, where: BoolArray | None = None) -> float:
        """Mean similarity over a part of the picture."""
        similarity = ssim_map(*self.luminances)
        return float((similarity if where is None else similarity[where]).mean())


def ssim_map(a: Array, b: Array) -> Array:
    """Wang's SSIM of two pictures in 0..1, [H, W]: windows of 11 x 11 with sigma 1.5, K1 = 0.01, K2 = 0.03."""

    def blurred(x: Array) -> Array:
        return cv2.GaussianBlur(x.astype(np.float64), (11, 11), 1.5)

    ma, mb = blurred(a), blurred(b)
    va, vb, cov = blurred(a * a) - ma * ma, blurred(b * b) - mb * mb, blurred(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    result: Array = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
    return result
