"""Layers from one photograph and its disparity map: a height field, or frontal slices that go on behind each other."""

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.color import FloatArray
from bokehsynth.imaging.inpaint import push_pull
from bokehsynth.optics import Plane
from bokehsynth.optics.layer import Layer

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

EDGE_STEP = 0.06
"""Jump of disparity between neighbours from which it counts as an edge."""
EDGE_WINDOW = 5
"""Window in pixels within which the ramp of a depth edge becomes a step."""


def normalize_depth(disparity: FloatArray) -> FloatArray:
    """Bring a map of any scale and offset to 0..1, its own extremes; a flat map becomes 0."""
    low, high = float(disparity.min()), float(disparity.max())
    result: FloatArray = ((disparity - low) / max(high - low, 1e-12)).astype(np.float32)
    return result


def sharpen_depth_edges(
    disparity: FloatArray, grow: int = 1, window: int = EDGE_WINDOW, step: float = EDGE_STEP
) -> FloatArray:
    """Turn ramps of depth edges into steps, then grow the near side by `grow` pixels; [H, W].

    A pixel on a ramp takes the nearer of the extremes round it. The near side grows because the pixels beside an edge
    have colours of both sides, which the blur of the far side would spread otherwise.
    """
    around = np.ones((window, window), np.uint8)
    high, low = cv2.dilate(disparity, around), cv2.erode(disparity, around)
    steep = np.where(high - disparity < disparity - low, high, low)
    sharp = np.where(high - low > step, steep, disparity)
    near = cv2.dilate(sharp, np.ones((2 * grow + 1, 2 * grow + 1), np.uint8))
    return np.where(near - sharp > step, near, sharp).astype(np.float32, copy=False)


def reflect_pad(picture: FloatArray, margin: int) -> FloatArray:
    """Mirror the picture beyond all sides, [H + 2 * margin, W + 2 * margin, ...]."""
    return np.asarray(cv2.copyMakeBorder(picture, margin, margin, margin, margin, cv2.BORDER_REFLECT_101), np.float32)


def height_field_layer(color: FloatArray, disparity: FloatArray, margin: int) -> Layer:
    """One opaque layer whose disparity is the map."""
    field = reflect_pad(disparity, margin)
    return Layer(reflect_pad(color, margin), np.ones_like(field), field)


def depth_slices(
    color: FloatArray, disparity: FloatArray, margin: int, count: int = 8, soft: float = 0.0, inpaint: bool = True
) -> list[Layer]:
    """Cut the picture by its disparity into at most `count` layers, each a frontal plane, near to far.

    With `inpaint`, a slice reaches as far behind nearer ones as any ray, the last one everywhere, its colours
    inpainted; `soft` is the sigma in pixels of the blur of the mattes.
    """
    color, disparity = reflect_pad(color, margin), reflect_pad(disparity, margin)
    level = quantize_depth(disparity, count)
    layers = []
    for k in range(level.max() + 1):
        own, nearer = level == k, level < k
        alpha = own.astype(np.float32)
        if inpaint:
            alpha[nearer & (distance_to(own) <= margin)] = 1
            alpha[:] = 1 if k == level.max() else alpha
        if soft:
            alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), soft).clip(0, 1), np.float32)
        layers.append(Layer(push_pull(color, own.astype(np.float32)), alpha, Plane(float(disparity[own].mean()))))
    return layers


def quantize_depth(disparity: FloatArray, count: int) -> IntArray:
    """Index of each pixel's level, 0 the nearest: Lloyd-Max quantisation of the histogram, empty levels dropped."""
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
