"""From one photograph and a disparity map to layers: a bent sheet, or flat sheets that go on behind each other."""

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.color import FloatArray
from bokehsynth.imaging.inpaint import push_pull
from bokehsynth.optics import Plane
from bokehsynth.optics.layer import Layer

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

STEP = 0.06
"""Jump of disparity between neighbours from which it counts as an edge."""
SHARPEN = 5
"""Window in pixels within which the ramp of a depth edge becomes a step."""


def spread(disparity: FloatArray) -> FloatArray:
    """A map of any scale and offset brought to 0..1, its own extremes; a flat map becomes 0."""
    low, high = float(disparity.min()), float(disparity.max())
    result: FloatArray = ((disparity - low) / max(high - low, 1e-12)).astype(np.float32)
    return result


def sharpened(disparity: FloatArray, grow: int = 1) -> FloatArray:
    """Ramps of depth edges as steps, which then give `grow` pixels to the near side; [H, W].

    A pixel on a ramp takes the nearer of the extremes round it. The near side grows because the pixels beside an edge
    have colours of both sides, which would else be spread by the blur of the far side.
    """
    window = np.ones((SHARPEN, SHARPEN), np.uint8)
    high, low = cv2.dilate(disparity, window), cv2.erode(disparity, window)
    steep = np.where(high - disparity < disparity - low, high, low)
    sharp = np.where(high - low > STEP, steep, disparity)
    near = cv2.dilate(sharp, np.ones((2 * grow + 1, 2 * grow + 1), np.uint8))
    return np.where(near - sharp > STEP, near, sharp).astype(np.float32, copy=False)


def padded(picture: FloatArray, margin: int) -> FloatArray:
    """The picture mirrored on all sides, [H + 2 * margin, W + 2 * margin, ...]."""
    return np.asarray(cv2.copyMakeBorder(picture, margin, margin, margin, margin, cv2.BORDER_REFLECT_101), np.float32)


def bent_sheet(color: FloatArray, disparity: FloatArray, margin: int) -> list[Layer]:
    """One opaque layer that the disparity map bends."""
    field = padded(disparity, margin)
    return [Layer(padded(color, margin), np.ones_like(field), field)]


def flat_sheets(
    color: FloatArray, disparity: FloatArray, margin: int, count: int = 8, soft: float = 0.0, filled: bool = True
) -> list[Layer]:
    """The disparity cut into at most `count` slabs, each a frontal plane of its own, near to far.

    If `filled`, a sheet reaches as far behind nearer ones as any ray, the last one everywhere, with colours filled in;
    `soft` is the sigma in pixels of the blur of the mattes.
    """
    color, disparity = padded(color, margin), padded(disparity, margin)
    slab = slabs(disparity, count)
    layers = []
    for k in range(slab.max() + 1):
        own, nearer = slab == k, slab < k
        alpha = own.astype(np.float32)
        if filled:
            alpha[nearer & (distance_to(own) <= margin)] = 1
            alpha[:] = 1 if k == slab.max() else alpha
        if soft:
            alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), soft).clip(0, 1), np.float32)
        layers.append(Layer(push_pull(color, own.astype(np.float32)), alpha, Plane(float(disparity[own].mean()))))
    return layers


def slabs(disparity: FloatArray, count: int) -> IntArray:
    """Number of each pixel's slab, 0 the nearest: Lloyd's cuts of the histogram, empty slabs dropped."""
    if disparity.max() <= disparity.min():
        return np.zeros(disparity.shape, np.int64)
    values = np.linspace(float(disparity.min()), float(disparity.max()), 1024)
    weights, _ = np.histogram(disparity, bins=1024, range=(values[0], values[-1]))
    mass = np.cumsum(np.cbrt(weights))  # the best levels are as dense as the cube root of the histogram
    levels = np.interp((np.arange(count) + 0.5) / count * mass[-1], mass, values)
    for _ in range(100):
        cell = np.searchsorted((levels[1:] + levels[:-1]) / 2, values)
        mass = np.bincount(cell, weights, len(levels))
        levels = np.bincount(cell, weights * values, len(levels))[mass > 0] / mass[mass > 0]
    cell = np.searchsorted((levels[1:] + levels[:-1]) / 2, disparity)
    _, index = np.unique(cell, return_inverse=True)  # rounding may leave one empty
    result: IntArray = index.max() - index.reshape(disparity.shape)
    return result


def distance_to(mask: BoolArray) -> FloatArray:
    """Pixels to the nearest of a mask, [H, W]."""
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5), np.float32)
