"""Scenes put together by hand: cut-outs given a place, or a photograph given a disparity map. No recipe, no dice."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from bokehsynth.color import FloatArray
from bokehsynth.errors import UsageError
from bokehsynth.imaging.pictures import Cutout
from bokehsynth.optics import Aperture, HeightField, Lens, Plane, Surface
from bokehsynth.optics.layer import Layer
from bokehsynth.scene.composed_scene import Composition
from bokehsynth.scene.depth_layers import bent_sheet, padded, sharpened, spread
from bokehsynth.scene.draw import ForegroundDraw
from bokehsynth.scene.place import place_cutout, side_on_canvas

DISPARITIES = (0.0, 1.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Standing:
    """A cut-out and where it stands; UsageError for a place that is none."""

    cutout: Cutout
    disparity: float
    """0 far .. 1 near."""
    x: float = 0.5
    """Horizontal place of its middle, 0..1 of the picture."""
    bottom: float = 1.0
    """Height of its lower edge, 0 = top, 1 = bottom."""
    scale: float = 0.8
    """Longer side over the picture's shorter side."""
    rotation: float = 0.0
    """Degrees clockwise."""
    flip: bool = False

    def __post_init__(self) -> None:
        _check(self.disparity, f"a foreground's disparity must lie in 0..1, got {self.disparity:g}")
        for name in ("x", "bottom", "rotation"):
            if not math.isfinite(getattr(self, name)):
                raise UsageError(f"a foreground's {name} must be finite, got {getattr(self, name):g}")
        if not 0 < self.scale < math.inf:
            raise UsageError(f"a foreground's scale must be above 0, got {self.scale:g}")


@dataclass(frozen=True, kw_only=True)
class Shooting:
    """The lens and what it is focused on: a disparity, or what is seen at a pixel (x, y)."""

    blur: float
    """K, pixels of blur radius per unit of disparity difference."""
    focus: float | tuple[int, int]
    aperture: Aperture
    falloff: bool = False

    def lens(self, focus: float) -> Lens:
        """Focused on a disparity."""
        return Lens(self.blur, focus, self.aperture, self.falloff)


def fitted(color: FloatArray, size: tuple[int, int] | None) -> FloatArray:
    """A picture [h, w, ...] scaled until it covers `size` (height, width), its middle kept; as it is for None."""
    if size is None or color.shape[:2] == size:
        return color
    factor = max(size[0] / color.shape[0], size[1] / color.shape[1])
    h, w = (max(side, round(given * factor)) for side, given in zip(size, color.shape[:2], strict=True))
    shown = cv2.resize(color, (w, h), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    top, left = (h - size[0]) // 2, (w - size[1]) // 2
    return np.maximum(shown[top : top + size[0], left : left + size[1]], 0).astype(np.float32, copy=False)


def stage(background: FloatArray, plane: Plane, standing: Sequence[Standing], shooting: Shooting) -> Composition:
    """Cut-outs in front of a background [H, W, 3] that fills the picture; beyond its borders it goes on mirrored.

    The nearer cut-out covers the farther one, whatever their order here. UsageError for one that would be shown larger
    than its file has pixels for.
    """
    height, width = background.shape[:2]
    near_to_far = sorted(standing, key=lambda item: -item.disparity)
    planes: list[Surface] = [*(Plane(item.disparity) for item in near_to_far), plane]
    focuses = [d for surface in planes for d in surface.extremes(width, height)]
    if not isinstance(shooting.focus, tuple):
        focuses = [shooting.focus]
    margin = max(shooting.lens(focus).margin(planes, width, height) for focus in focuses)
    layers = []
    for item in near_to_far:
        draw = ForegroundDraw(
            asset="", flip=item.flip, exposure=0.0, scale=item.scale, rotation=item.rotation, x=item.x,
            bottom=item.bottom, plane=Plane(item.disparity),
        )  # fmt: skip
        side = side_on_canvas(item.cutout, draw, height, width, margin)
        if side > 16 * max(item.cutout.alpha.shape):
            raise UsageError(f"a foreground of {max(item.cutout.alpha.shape)} px would be shown {side} px large")
        layers.append(Layer(*place_cutout(item.cutout, draw, height, width, margin), draw.plane))
    canvas = padded(background, margin)
    layers.append(Layer(canvas, np.ones(canvas.shape[:2], np.float32), plane))
    focus = shooting.focus
    if isinstance(focus, tuple):
        focus = _seen_at(focus, layers, margin, height, width)
    return Composition(layers=layers, lens=shooting.lens(focus), margin=margin)


def relief(photo: FloatArray, disparity: FloatArray, shooting: Shooting) -> Composition:
    """A photograph [H, W, 3] bent by a disparity map [h, w] of any scale, bright = near (see docs/optics.md)."""
    height, width = photo.shape[:2]
    if disparity.shape != (height, width):
        disparity = np.asarray(cv2.resize(disparity, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    sheet = sharpened(spread(disparity))
    focus = shooting.focus
    if isinstance(focus, tuple):
        x, y = _inside(focus, height, width)
        focus = float(sheet[y, x])
    lens = shooting.lens(focus)
    margin = lens.margin([HeightField(sheet)], width, height)
    return Composition(layers=bent_sheet(photo, sheet, margin), lens=lens, margin=margin)


def _seen_at(at: tuple[int, int], layers: Sequence[Layer], margin: int, height: int, width: int) -> float:
    """Disparity of the layer at which the accumulated alpha reaches 0.5."""
    x, y = _inside(at, height, width)
    through = 1.0
    for layer in layers:
        through *= 1 - float(layer.alpha[margin + y, margin + x])
        if through <= 0.5:
            break
    return float(layer.disparity.at(x - (width - 1) / 2, y - (height - 1) / 2))


def _inside(at: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    if not (0 <= at[0] < width and 0 <= at[1] < height):
        raise UsageError(f"focus at {at[0]},{at[1]} lies outside the picture of {width} x {height} px")
    return at


def tilted(d: float, tilt: float, angle: float, height: int, width: int) -> Plane:
    """A plane whose disparity spans `tilt` across the picture along `angle` (degrees clockwise from +x, 90 = down)."""
    dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    extent = abs(dx) * (width - 1) + abs(dy) * (height - 1)
    plane = Plane(d, tilt * dx / extent, tilt * dy / extent) if extent > 0 else Plane(d)
    for corner in plane.extremes(width, height):
        _check(round(corner, 9), f"the background reaches a disparity of {corner:.3g}; keep it and its tilt in 0..1")
    return plane


def _check(disparity: float, message: str) -> None:
    if not DISPARITIES[0] <= disparity <= DISPARITIES[1]:  # also false for NaN
        raise UsageError(message)
