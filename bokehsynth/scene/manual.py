"""Scenes composed by hand: cut-outs given a place, or a photograph given a disparity map; nothing is drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from bokehsynth.color import FloatArray
from bokehsynth.errors import UsageError
from bokehsynth.imaging.pictures import Cutout
from bokehsynth.optics import Aperture, Disc, Lens, Plane, Surface, load_prescription, sized_aperture
from bokehsynth.optics.layer import Layer
from bokehsynth.optics.prescription import focus_tables
from bokehsynth.scene.camera import CameraDraw, SceneLens
from bokehsynth.scene.composed_scene import ComposedScene, disparity_seen_at
from bokehsynth.scene.depth_layers import normalize_depth, reflect_pad
from bokehsynth.scene.depth_photo import DepthPhoto, cut_photo
from bokehsynth.scene.draw import ForegroundDraw, disparity_gradient
from bokehsynth.scene.place import place_in_picture, side_on_canvas


@dataclass(frozen=True, eq=False, kw_only=True)
class PlacedCutout:
    """A cut-out and its place; UsageError for a place that is not possible."""

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
class CameraSettings:
    """The lens and what it is focused on: a disparity, or what is seen at a pixel (x, y)."""

    blur: float
    """K, pixels of blur radius per unit of disparity difference; not of a real lens, which has its own."""
    focus: float | tuple[int, int]
    aperture: Aperture = field(default_factory=Disc)
    falloff: bool = False
    real: SceneLens | None = None
    """A prescription and its camera, in place of `blur` and `aperture`."""

    def lens(self, focus: float, size: tuple[int, int]) -> Lens:
        """Return the lens focused on a disparity, for pictures of `size` (height, width)."""
        if self.real is not None:
            return replace(self.real.focused(focus, size), falloff=self.falloff)
        return Lens(self.blur, focus, sized_aperture(self.aperture, size), self.falloff)


def real_lens(
    name_or_path: str, f_number: float | None, near_m: float, sensor_width_mm: float, size: tuple[int, int]
) -> SceneLens:
    """Return a prescription at a stop for pictures of `size` (height, width); UsageError for what it cannot do.

    Disparity is near_m / distance; without an f-number the lens is wide open.
    """
    prescription = load_prescription(name_or_path)
    half_diagonal = sensor_width_mm / 2 * math.hypot(1, size[0] / size[1])
    camera = CameraDraw(
        focal_length_mm=None,
        f_number=f_number or prescription.f_number,
        sensor_width_mm=sensor_width_mm,
        near_m=near_m,
        focus_m=None,
    )
    return SceneLens(camera=camera, tables=focus_tables(prescription, half_diagonal, near_m))


def scale_to_cover(color: FloatArray, size: tuple[int, int] | None) -> FloatArray:
    """Scale a picture [h, w, 3] until it covers `size` (height, width) and keep its middle; as it is for None."""
    if size is None or color.shape[:2] == size:
        return color
    return np.maximum(_covering(color, size, cv2.INTER_CUBIC), 0)


def scale_map_to_cover(values: FloatArray, size: tuple[int, int] | None) -> FloatArray:
    """Scale a map [h, w] of any scale as `scale_to_cover` its picture; it stays between its extremes."""
    if size is None or values.shape == size:
        return values
    return _covering(values, size, cv2.INTER_LINEAR)


def _covering(values: FloatArray, size: tuple[int, int], enlarging: int) -> FloatArray:
    factor = max(size[0] / values.shape[0], size[1] / values.shape[1])
    h, w = (max(side, round(given * factor)) for side, given in zip(size, values.shape[:2], strict=True))
    shown = cv2.resize(values, (w, h), interpolation=cv2.INTER_AREA if factor < 1 else enlarging)
    top, left = (h - size[0]) // 2, (w - size[1]) // 2
    return np.asarray(shown[top : top + size[0], left : left + size[1]], np.float32)


def compose_cutouts(
    background: FloatArray, plane: Plane, cutouts: Sequence[PlacedCutout], camera: CameraSettings
) -> ComposedScene:
    """Place cut-outs in front of a background [H, W, 3] that fills the picture and is mirrored beyond its borders.

    The nearer cut-out covers the farther one, whatever their order here. UsageError for one that would be shown larger
    than its file has pixels for.
    """
    height, width = background.shape[:2]
    near_to_far = sorted(cutouts, key=lambda item: -item.disparity)
    planes: list[Surface] = [*(Plane(item.disparity) for item in near_to_far), plane]
    focuses = [d for surface in planes for d in surface.extremes(width, height)]
    if not isinstance(camera.focus, tuple):
        focuses = [camera.focus]
    margin = max(camera.lens(focus, (height, width)).margin(planes, width, height) for focus in focuses)
    layers = []
    for item in near_to_far:
        draw = ForegroundDraw(
            asset="", flip=item.flip, exposure=0.0, scale=item.scale, rotation=item.rotation, x=item.x,
            bottom=item.bottom, plane=Plane(item.disparity),
        )  # fmt: skip
        side = side_on_canvas(item.cutout, draw, height, width, 0)
        if side > 16 * max(item.cutout.alpha.shape):
            raise UsageError(f"a foreground of {max(item.cutout.alpha.shape)} px would be shown {side} px large")
        layers.append(Layer(*place_in_picture(item.cutout, draw, height, width, margin), draw.plane))
    canvas = reflect_pad(background, margin)
    layers.append(Layer(canvas, np.ones(canvas.shape[:2], np.float32), plane))
    focus = camera.focus
    if isinstance(focus, tuple):
        focus = disparity_seen_at(_inside(focus, height, width), layers, margin)
    return ComposedScene(layers=layers, lens=camera.lens(focus, (height, width)), margin=margin)


def compose_depth_photo(
    photo: FloatArray, disparity: FloatArray, cameras: Sequence[CameraSettings], lit: FloatArray | None = None
) -> tuple[DepthPhoto, list[Lens]]:
    """Cut a photograph [H, W, 3] by a disparity map [h, w] of any scale, bright = near; with the lenses before it.

    `lit` is the photograph with lamps as bright as they were, for what is blurred; None: as it is.

    UsageError for a focus outside the picture.
    """
    height, width = photo.shape[:2]
    if disparity.shape != (height, width):
        disparity = np.asarray(cv2.resize(disparity, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    depth = normalize_depth(disparity)
    lenses = []
    for camera in cameras:
        focus = camera.focus
        if isinstance(focus, tuple):
            x, y = _inside(focus, height, width)
            focus = float(depth[y, x])
        lenses.append(camera.lens(focus, (height, width)))
    return cut_photo(photo, depth, lenses, lit), lenses


def _inside(at: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    if not (0 <= at[0] < width and 0 <= at[1] < height):
        raise UsageError(f"focus at {at[0]},{at[1]} lies outside the picture of {width} x {height} px")
    return at


def tilted_plane(d: float, tilt: float, angle: float, height: int, width: int) -> Plane:
    """Return the plane whose disparity spans `tilt` along `angle` (degrees clockwise from +x, 90 = down)."""
    plane = Plane(d, *disparity_gradient(tilt, angle, height, width))
    for corner in plane.extremes(width, height):
        _check(round(corner, 9), f"the background reaches a disparity of {corner:.3g}; keep it and its tilt in 0..1")
    return plane


def _check(disparity: float, message: str) -> None:
    if not 0 <= disparity <= 1:  # also false for NaN
        raise UsageError(message)
