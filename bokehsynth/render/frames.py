"""What a renderer is given and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth.layers import Layer
from bokehsynth.optics import Lens

FloatArray = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shot:
    """Checked input of a renderer: layers near to far, the lens, and the overscan of the canvas."""

    layers: tuple[Layer, ...]
    lens: Lens
    margin: int

    @property
    def height(self) -> int:
        """Of the picture."""
        return self.layers[0].shape[0] - 2 * self.margin

    @property
    def width(self) -> int:
        """Of the picture."""
        return self.layers[0].shape[1] - 2 * self.margin

    def offsets(self) -> tuple[Float64Array, Float64Array]:
        """Pixel coordinates relative to the picture's centre: x [1, W] and y [H, 1]."""
        x = np.arange(self.width, dtype=np.float64) - (self.width - 1) / 2
        y = np.arange(self.height, dtype=np.float64) - (self.height - 1) / 2
        return x[None, :], y[:, None]

    def crop(self, canvas: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The picture's part of a canvas array [Hc, Wc, ...]."""
        return canvas[self.margin : self.margin + self.height, self.margin : self.margin + self.width]


@dataclass(frozen=True, eq=False)
class Exposure:
    """What a backend computes for one lens: colour normalised by the light that arrived, and how much did."""

    color: FloatArray
    """[H, W, 3] linear."""
    coverage: FloatArray
    """[H, W] in 0..1: the share of rays that some layer stopped."""


Trace = Callable[[Shot, int | None], Exposure]
"""A backend: (shot, number of rays or None for training quality) -> exposure."""


class Frames:
    """The pictures and maps of one shot, NumPy float32 on every backend; each is computed when first read."""

    def __init__(self, shot: Shot, trace: Trace, samples: int | None) -> None:
        self._shot, self._trace, self._samples = shot, trace, samples

    @cached_property
    def _exposure(self) -> Exposure:
        return self._trace(self._shot, self._samples)

    @property
    def bokeh(self) -> FloatArray:
        """The scene through the lens, [H, W, 3] linear light, not clamped."""
        return self._exposure.color

    @property
    def coverage(self) -> FloatArray:
        """Share of the light that comes from the layers rather than from nothing behind them, [H, W] in 0..1."""
        return self._exposure.coverage

    @cached_property
    def all_in_focus(self) -> FloatArray:
        """The same layers through a pinhole (K = 0), [H, W, 3] linear light, not clamped."""
        shot = self._shot
        return self._trace(Shot(shot.layers, Lens(0.0, shot.lens.focus), shot.margin), 1).color

    @cached_property
    def disparity(self) -> FloatArray:
        """Disparity of the nearest layer at which the accumulated alpha reaches 0.5, [H, W].

        Never a blend of two layers: a blend crosses the focus and would draw a false sharp rim. Where nothing
        reaches 0.5 it is the farthest layer's.
        """
        return _visible_disparity(self._shot).astype(np.float32)

    @cached_property
    def defocus(self) -> FloatArray:
        """Blur radius in pixels of that layer, r = K * |d - d_f|, [H, W], >= 0."""
        radius: Float64Array = self._shot.lens.radius(_visible_disparity(self._shot))
        return radius.astype(np.float32)

    @cached_property
    def transmission(self) -> FloatArray:
        """Light that a field-dependent aperture lets pass, relative to none being blocked, [H, W] in 0..1."""
        from bokehsynth.render.bake import transmission_map

        return transmission_map(self._shot)


def _visible_disparity(shot: Shot) -> Float64Array:
    x, y = shot.offsets()
    shape = (len(shot.layers), shot.height, shot.width)
    disparity = np.empty(shape)
    alpha = np.empty(shape, np.float32)
    for i, layer in enumerate(shot.layers):
        disparity[i] = layer.disparity.at(x, y)
        alpha[i] = shot.crop(layer.alpha)
    if (
        np.diff(disparity, axis=0) > 0
    ).any():  # planes cross inside the picture: near to far changes from pixel to pixel
        order = np.argsort(-disparity, axis=0, kind="stable")
        disparity = np.take_along_axis(disparity, order, axis=0)
        alpha = np.take_along_axis(alpha, order, axis=0)
    reached = np.empty(shape[:1] + shape[1:], np.bool_)
    through = np.ones(shape[1:], np.float32)
    for i in range(shape[0]):
        through *= 1 - alpha[i]
        reached[i] = through <= 0.5
    reached[-1] = True
    first = np.argmax(reached, axis=0)
    result: Float64Array = np.take_along_axis(disparity, first[None], axis=0)[0]
    return result
