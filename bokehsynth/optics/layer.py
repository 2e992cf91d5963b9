"""A layer: colour, alpha and disparity of one surface of the scene."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth.errors import UsageError
from bokehsynth.optics.thin_lens import HeightField, Plane, Surface

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Layer:
    """One surface of the scene on a canvas that is `margin` pixels larger than the picture on each side.

    `color` is float32 [Hc, Wc, 3], straight (not premultiplied) linear light >= 0, lights may exceed 1; `alpha` is
    float32 [Hc, Wc] in 0..1; `disparity` is a Plane about the canvas's centre, or a height field: the disparity of
    every texel, float32 [Hc, Wc], kept as a `HeightField`. Arrays of another float type are converted; NaN, infinite
    or out-of-range values are refused. The arrays must not be changed afterwards: the packed form is computed once.
    """

    color: FloatArray
    alpha: FloatArray
    disparity: Surface

    def __init__(self, color: npt.NDArray[Any], alpha: npt.NDArray[Any], disparity: Surface | npt.NDArray[Any]) -> None:
        color, alpha = _float32("color", color), _float32("alpha", alpha)
        if color.ndim != 3 or color.shape[2] != 3:
            raise UsageError(f"Layer.color must be [H, W, 3], got shape {color.shape}")
        if alpha.shape != color.shape[:2]:
            raise UsageError(f"Layer.alpha must have the color's shape {color.shape[:2]}, got {alpha.shape}")
        if not (np.isfinite(color).all() and color.min() >= 0):
            raise UsageError("Layer.color must be finite linear light >= 0")
        if not (alpha.min() >= 0 and alpha.max() <= 1):  # also false for NaN
            raise UsageError(f"Layer.alpha must lie in 0..1, got {alpha.min():g}..{alpha.max():g}")
        object.__setattr__(self, "color", color)
        object.__setattr__(self, "alpha", alpha)
        object.__setattr__(self, "disparity", _surface(disparity, alpha.shape))

    @classmethod
    def of_checked(cls, color: FloatArray, alpha: FloatArray, disparity: Surface) -> "Layer":
        """A layer of arrays that were a layer's before, in another process: they are not checked again."""
        layer = cls.__new__(cls)
        for name, value in (("color", color), ("alpha", alpha), ("disparity", disparity)):
            object.__setattr__(layer, name, value)
        return layer

    @property
    def shape(self) -> tuple[int, int]:
        """Canvas height and width."""
        return self.alpha.shape[0], self.alpha.shape[1]

    @cached_property
    def packed(self) -> FloatArray:
        """Premultiplied planes R, G, B, A as the renderers read them, float32 [4, Hc, Wc], contiguous."""
        planes = spacious((4, *self.shape))
        for channel in range(3):  # in all three at once NumPy would make another picture on the way
            np.multiply(self.color[..., channel], self.alpha, out=planes[channel])
        planes[3] = self.alpha
        return planes


def _surface(disparity: Any, shape: tuple[int, ...]) -> Surface:
    """A Plane as it is, an array as a height field of the canvas's shape."""
    if isinstance(disparity, np.ndarray):
        disparity = HeightField(disparity)
    if not isinstance(disparity, Plane | HeightField):
        raise UsageError(
            f"Layer.disparity must be a Plane or a height field (a float array [H, W]), got {type(disparity).__name__}"
        )
    if isinstance(disparity, HeightField) and disparity.values.shape != shape:
        raise UsageError(
            f"a height field must have the canvas's shape {shape}, margins included; got {disparity.values.shape}"
        )
    return disparity


def spacious(shape: tuple[int, int, int]) -> FloatArray:
    """Allocate planes [P, H, W], uninitialised, with spare elements behind: kernels read whole tiles past the end."""
    size = shape[0] * shape[1] * shape[2]
    memory = np.empty(size + 8 * shape[2] + 64, np.float32)
    memory[size:] = 0
    return memory[:size].reshape(shape)


def _float32(name: str, value: Any) -> FloatArray:
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"Layer.{name} must be a float array (linear light), got {array.dtype}: see srgb_to_linear")
    if array.size == 0:
        raise UsageError(f"Layer.{name} is empty: shape {array.shape}")
    return np.ascontiguousarray(array, dtype=np.float32)
