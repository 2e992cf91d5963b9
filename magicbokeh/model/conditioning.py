"""Builds the network's defocus map from a disparity map, a focus specification and a blur strength.

Training and inference use the same functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth import UsageError

FloatArray = npt.NDArray[np.float32]

BLUR_SIZE = 512
"""`blur` is a radius in pixels where the shorter side of the picture has this many."""


@dataclass(frozen=True)
class Focus:
    """Disparities in focus: an interval, of width zero for an ideal lens."""

    far: float
    near: float

    def distance(self, disparity: FloatArray) -> FloatArray:
        """The distance of each disparity from the interval, float32."""
        below, above = np.float32(self.far) - disparity, disparity - np.float32(self.near)
        return np.maximum(np.maximum(below, above), np.float32(0))


def blur_in_pixels(blur: float, size: tuple[int, int]) -> float:
    """K for a picture of (height, width): pixels of radius per unit of disparity difference."""
    if not isinstance(blur, int | float | np.integer | np.floating) or not np.isfinite(blur) or blur < 0:
        raise UsageError(f"blur: a radius in pixels at {BLUR_SIZE} px of the shorter side, 0 or more, not {blur!r}")
    return float(blur) * min(size) / BLUR_SIZE


def defocus_map(radius: FloatArray, blur_reference: float) -> FloatArray:
    """Scale blur radii in network pixels to the network's defocus, 0..1; beyond the reference it stays 1."""
    return np.minimum(radius / np.float32(blur_reference), np.float32(1))


def find_focus(focus: Any, disparity: FloatArray | None, size: tuple[int, int], focus_range: float = 0.0) -> Focus:
    """Convert a focus specification to the interval of disparities in focus.

    `focus`: (x, y) in pixels of the upright photo; a list of such points (all are in focus, and what lies between);
    a box (x0, y0, x1, y1); a mask [H, W], true or above half where sharp; a disparity in 0..1; or "auto", the largest
    near object. `focus_range` widens the interval by so much disparity on both sides.
    """
    if not 0 <= focus_range <= 1:
        raise UsageError(f"focus_range: a disparity, 0 to 1, not {focus_range}")
    values = _focus_values(focus, disparity, size)
    return Focus(min(values) - focus_range, max(values) + focus_range)


def _focus_values(focus: Any, disparity: FloatArray | None, size: tuple[int, int]) -> list[float]:
    if isinstance(focus, bool | np.bool_):
        raise UsageError("focus: (x, y), a box, a mask, a disparity or 'auto', not a bool")
    if isinstance(focus, int | float | np.integer | np.floating):
        if not 0 <= focus <= 1:
            raise UsageError(f"focus: a disparity must be 0 (far) to 1 (near), not {focus}; a point is (x, y)")
        return [float(focus)]
    if disparity is None:
        raise UsageError("focus: needs a disparity map")
    if hasattr(focus, "getexif"):  # a PIL picture
        focus = np.asarray(focus.convert("L"))
    if hasattr(focus, "detach"):  # a tensor
        focus = focus.detach().cpu().numpy()
    if isinstance(focus, str):
        if focus != "auto":
            raise UsageError(f"focus: the only word is 'auto', not {focus!r}")
        return [_nearest_object(disparity)]
    if isinstance(focus, np.ndarray) and focus.ndim == 2 and focus.shape == size:
        return [_median(disparity[_mask(focus)], "the mask")]
    if isinstance(focus, Sequence | np.ndarray) and len(focus):
        return _focus_of_coordinates(focus, disparity, size)
    raise UsageError(f"focus: (x, y), points, a box, a mask {list(size)}, a disparity or 'auto', not {_short(focus)}")


def _focus_of_coordinates(focus: Any, disparity: FloatArray, size: tuple[int, int]) -> list[float]:
    """The disparities of one point, one box, or several points."""
    try:
        numbers = np.asarray(focus, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.ndim == 2 and numbers.shape[1] == 2:
        return [_disparity_at(disparity, x, y, size) for x, y in numbers]
    if numbers.shape == (2,):
        return [_disparity_at(disparity, numbers[0], numbers[1], size)]
    if numbers.shape == (4,):
        left, top, right, bottom = (round(number) for number in numbers)
        inside = disparity[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        return [_median(inside, f"the box {(left, top, right, bottom)}")]
    raise UsageError(f"focus: (x, y), points, (x0, y0, x1, y1) or a mask {list(size)}, not {_short(focus)}")


def _disparity_at(disparity: FloatArray, x: float, y: float, size: tuple[int, int]) -> float:
    if not (0 <= x <= size[1] - 1 and 0 <= y <= size[0] - 1):
        raise UsageError(f"focus: the point ({x:g}, {y:g}) lies outside the upright photo of {size[1]} x {size[0]} px")
    return float(disparity[round(y), round(x)])


def _mask(mask: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Threshold a mask at half of its type's range; integers 0 and 1 count as false and true."""
    if mask.dtype == np.bool_:
        return mask
    whole = np.issubdtype(mask.dtype, np.integer) and mask.max() > 1
    return mask > 0.5 * (np.iinfo(mask.dtype).max if whole else 1)


def _median(values: FloatArray, where: str) -> float:
    """The lower median."""
    if not values.size:
        raise UsageError(f"focus: {where} selects no pixel of the photo")
    return float(np.sort(values, axis=None)[(values.size - 1) // 2])


def _nearest_object(disparity: FloatArray) -> float:
    """The median disparity of the largest connected near region, its area weighted towards the picture's centre."""
    import cv2

    levels = np.rint(disparity * 255).astype(np.uint8)
    _, near = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    count, labels = cv2.connectedComponents(near)
    if count < 2:  # one flat depth
        return _median(disparity, "the photo")
    height, width = disparity.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    central = np.exp(-(x * x + y * y))
    weight = np.bincount(labels.ravel(), central.ravel(), count)
    return _median(disparity[labels == 1 + int(np.argmax(weight[1:]))], "the photo")


def _short(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"an array {list(shape)}" if shape is not None else repr(value)[:60]
