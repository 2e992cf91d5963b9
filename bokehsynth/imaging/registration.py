"""Registration of two exposures of one view: shift, gain and correlation where both are sharp; linear light."""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.color import LUMINANCE, FloatArray
from bokehsynth.imaging.metrics import gain_between

Array = npt.NDArray[Any]


def shift_between(picture: FloatArray, photo: FloatArray, weight: Array) -> tuple[float, float, float]:
    """The shift in pixels (x, y) from `picture` to `photo`, and the peak of the correlation, 0..1.

    Phase correlation of log luminance, windowed by `weight` [H, W] in 0..1, whose edges must be
    soft, or its own outline correlates.
    """
    windows = []
    for linear in (picture, photo):
        values = np.log(0.01 + linear @ LUMINANCE).astype(np.float64)
        windows.append((values - np.average(values, weights=weight)) * weight)
    (x, y), peak = cv2.phaseCorrelate(windows[0], windows[1])
    return float(x), float(y), float(peak)


@dataclass(frozen=True)
class ViewComparison:
    """Gain, shift and correlation of two photographs of one view, where both are sharp."""

    gain: list[float]
    """Linear gain of each channel from the first to the second."""
    shift: tuple[float, float]
    """Pixels (x, y) by which the second is displaced."""
    correlation: float
    """Correlation of log luminance after the shift, -1..1."""

    @property
    def stops(self) -> float:
        """Largest difference of exposure of a channel, in stops."""
        return max(abs(math.log2(max(gain, 1e-6))) for gain in self.gain)

    @property
    def pixels(self) -> float:
        """Length of the shift."""
        return math.hypot(*self.shift)


def compare_views(all_in_focus: FloatArray, photo: FloatArray, focal_mask: Array | None = None) -> ViewComparison:
    """Gain, shift and correlation of an all-in-focus picture and a photograph through a lens, [H, W, 3] linear.

    Only the region that `focal_mask` [H, W] marks is compared or, without one, what is about as sharp in both.
    """
    marked = sharp_in_both(all_in_focus, photo) if focal_mask is None else (focal_mask >= 0.5).astype(np.float32)
    inner = np.asarray(cv2.erode(marked, np.ones((5, 5), np.uint8)), np.float32)
    marked = inner if inner.mean() > 0.005 else marked
    if marked.mean() < 0.002:
        marked = np.ones_like(marked)
    weight = cv2.GaussianBlur(marked.astype(np.float64), (0, 0), 3)
    x, y, _ = shift_between(all_in_focus, photo, weight)
    height, width = weight.shape
    back = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y]])
    moved = np.asarray(cv2.warpAffine(photo, back, (width, height), borderMode=cv2.BORDER_REPLICATE), np.float32)
    logs = [np.log(0.01 + picture @ LUMINANCE)[marked > 0.5].astype(np.float64) for picture in (all_in_focus, moved)]
    flat = [bool(values.std() < 1e-3) for values in logs]
    # A flat picture correlates with another flat one only.
    correlation = float(all(flat)) if any(flat) else float(np.corrcoef(*logs)[0, 1])
    gain = [float(value) for value in gain_between(all_in_focus, moved, marked > 0.5)]
    return ViewComparison(gain, (x, y), correlation)


def sharp_in_both(all_in_focus: FloatArray, photo: FloatArray) -> FloatArray:
    """1 where the photograph keeps most of the fine detail that the all-in-focus picture has, else 0; [H, W]."""
    detail: list[Array] = []
    for linear in (all_in_focus, photo):
        values: Array = np.log(0.01 + linear @ LUMINANCE)
        fine: Array = values - cv2.GaussianBlur(values, (0, 0), 1.5)
        detail.append(np.asarray(cv2.GaussianBlur(fine * fine, (0, 0), 0.012 * min(values.shape)), np.float32))
    there = detail[0] > np.quantile(detail[0], 0.3)
    return np.asarray(there & (detail[1] > 0.5 * detail[0]), np.float32)
