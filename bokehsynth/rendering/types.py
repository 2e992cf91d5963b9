"""What a renderer is given and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bokehsynth.optics import Lens, Plane
from bokehsynth.optics.layer import Layer

FloatArray = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]

Encode = Callable[[FloatArray], ByteArray]
"""Makes codes of a linear picture."""


class CodeTable(Protocol):
    """A rising step function from 0..1 to codes as a table (`color.CodeTable`)."""

    @property
    def encode(self) -> Encode:
        """The same on the host; raises for values that are not finite."""

    @property
    def least(self) -> ByteArray:
        """Least code of the floats that agree in all but their last `bucket_bits` bits."""

    @property
    def steps(self) -> FloatArray:
        """Where each code's next one begins."""

    @property
    def bucket_bits(self) -> int:
        """Bits."""


@dataclass(frozen=True, eq=False)
class RenderInput:
    """Checked input of a renderer: layers near to far, the lens, and the overscan of the canvas."""

    layers: tuple[Layer, ...]
    lens: Lens
    margin: int

    @property
    def height(self) -> int:
        """Rows of the picture."""
        return self.layers[0].shape[0] - 2 * self.margin

    @property
    def width(self) -> int:
        """Columns of the picture."""
        return self.layers[0].shape[1] - 2 * self.margin

    def offsets(self) -> tuple[Float64Array, Float64Array]:
        """Pixel coordinates relative to the picture's centre: x [1, W] and y [H, 1]."""
        x = np.arange(self.width, dtype=np.float64) - (self.width - 1) / 2
        y = np.arange(self.height, dtype=np.float64) - (self.height - 1) / 2
        return x[None, :], y[:, None]

    def all_in_focus(self) -> "RenderInput":
        """Return the same scene with zero blur; the aperture has no effect."""
        return RenderInput(self.layers, Lens(0.0, self.lens.focus), self.margin)

    def crop(self, canvas: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The picture's part of a canvas array [Hc, Wc, ...]."""
        return canvas[self.margin : self.margin + self.height, self.margin : self.margin + self.width]


def small_scene() -> RenderInput:
    """Two layers, one translucent: rendering them compiles the kernels of lenses that look alike all over."""
    canvas = np.ones((24, 24, 3), np.float32)
    layers = (Layer(canvas, canvas[..., 0] * 0.5, Plane(0.9)), Layer(canvas, canvas[..., 0], Plane(0.1, 1e-3)))
    return RenderInput(layers, Lens(4.0, 0.5), 4)


def far_blurred_scene() -> RenderInput:
    """Two layers with edges, blurred so far that the CPU reduces them, before one that is not: they vary together."""
    margin = 56
    shape = (8 + 2 * margin, 16 + 2 * margin)
    canvas, alpha = np.ones((*shape, 3), np.float32), np.zeros(shape, np.float32)
    alpha[:, shape[1] // 2 :] = 1
    textured = canvas * alpha[..., None]
    layers = (
        Layer(textured, alpha, Plane(0.9)),
        Layer(textured, alpha, Plane(0.85)),
        Layer(textured, np.ones(shape, np.float32), Plane(0.45)),
    )
    return RenderInput(layers, Lens(100.0, 0.4), margin)


@dataclass(frozen=True, eq=False)
class RenderOutput:
    """What a backend computes for one lens: colour normalised by the light that arrived, and how much did."""

    color: FloatArray
    """[H, W, 3] linear."""
    coverage: FloatArray
    """[H, W] in 0..1: the share of rays that some layer stopped."""
    paths: npt.NDArray[np.uint8] | None = None
    """Which way each tile went, where a backend has several (`rendering.PATHS`)."""
    part_light: FloatArray | None = None
    """[H, W, 3] or [1, 1, 3], of a half of an opening: its light over that of the whole."""


@dataclass(frozen=True)
class Backend:
    """One implementation of the definition."""

    render_scene: Callable[[RenderInput, int | None], RenderOutput]
    """(scene, number of rays or None for training quality) -> output."""
    transmission: Callable[[RenderInput], FloatArray]
    """Share of the opening's light that its pupil lets pass at each pixel, float32 [H, W]."""
    partitions: bool = False
    """Whether both halves of an opening add up to the whole as it renders them, and come with their `part_light`."""
