"""The thin lens in the units of a data set: disparity, blur, focus, and the shape of the aperture.

Derivation, units and signs: `docs/optics.md`. In short, for a plane of disparity d(p) and a lens focused at d_f, the
ray from pixel p through lens point s (unit disc, x right, y down) meets the plane at

    p' = p + s * K * delta / (1 - K g.s),    delta = d(p) - d_f,    g = gradient of d

and a point at disparity d draws a disc of radius r = K * |d - d_f| pixels. Where d is a height field there is no
closed form: the ray's hit is the nearest solution of p' = p + s * K * (d(p') - d_f).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth.errors import UsageError

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """A layer's disparity, linear in pixel coordinates: d(p) = d + gx*(x - cx) + gy*(y - cy).

    `d` is the disparity at the picture's centre ((W-1)/2, (H-1)/2); `gx`, `gy` are disparity per pixel.
    """

    d: float
    gx: float = 0.0
    gy: float = 0.0

    def __post_init__(self) -> None:
        for name in ("d", "gx", "gy"):
            if not math.isfinite(getattr(self, name)):
                raise UsageError(f"Plane.{name} must be finite, got {getattr(self, name)}")

    @property
    def slope(self) -> float:
        """|g|, disparity per pixel along the steepest direction."""
        return math.hypot(self.gx, self.gy)

    def at(self, x: Any, y: Any) -> Any:
        """Disparity at offsets (x, y) from the centre, numbers or arrays that broadcast."""
        return self.d + self.gx * x + self.gy * y

    def corners(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Disparity at the four corner pixels of a centred width x height picture; its extremes lie there."""
        x, y = (width - 1) / 2, (height - 1) / 2
        return self.at(-x, -y), self.at(x, -y), self.at(-x, y), self.at(x, y)

    def extremes(self, width: int, height: int) -> tuple[float, float]:
        """Smallest and largest disparity over the pixels of a centred width x height picture."""
        corners = self.corners(width, height)
        return min(corners), max(corners)


@dataclass(frozen=True, eq=False)
class HeightField:
    """A layer's disparity given at every texel of its canvas, float32 [Hc, Wc], bilinear between texels.

    A step between two texels is therefore a steep wall, not a gap: a "rubber sheet". Beyond the canvas the border
    texels go on. Other float types are converted; the array must not be changed afterwards.
    """

    values: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        values = np.asarray(self.values)
        if values.ndim != 2 or values.size == 0 or not np.issubdtype(values.dtype, np.floating):
            raise UsageError(f"a height field must be a float array [H, W], got {values.dtype} {values.shape}")
        values = np.ascontiguousarray(values, dtype=np.float32)
        if not np.isfinite(values).all():
            raise UsageError("a height field must be finite: it has NaN or infinite disparities")
        object.__setattr__(self, "values", values)

    @cached_property
    def range(self) -> tuple[float, float]:
        """Smallest and largest disparity on the canvas."""
        return float(self.values.min()), float(self.values.max())

    def at(self, x: Any, y: Any) -> Float64Array:
        """Disparity at offsets (x, y) from the canvas's centre, numbers or arrays that broadcast, float64."""
        height, width = self.values.shape
        px = np.clip(x + (width - 1) / 2, 0, width - 1)
        py = np.clip(y + (height - 1) / 2, 0, height - 1)
        ix, iy = np.floor(px).astype(np.int64), np.floor(py).astype(np.int64)
        jx, jy = np.minimum(ix + 1, width - 1), np.minimum(iy + 1, height - 1)
        fx, fy = px - ix, py - iy
        upper, lower = self.values[iy, ix].astype(np.float64), self.values[jy, ix].astype(np.float64)
        upper += fx * (self.values[iy, jx] - upper)
        lower += fx * (self.values[jy, jx] - lower)
        result: Float64Array = upper + fy * (lower - upper)
        return result

    def extremes(self, width: int, height: int) -> tuple[float, float]:
        """Smallest and largest disparity over the pixels of the centred width x height picture."""
        rows, columns = self.values.shape
        top, left = (rows - height) // 2, (columns - width) // 2
        inside = self.values[top : top + height, left : left + width]
        return float(inside.min()), float(inside.max())


Surface = Plane | HeightField
"""Where a layer lies."""


class Aperture(ABC):
    """The shape of the opening. A subclass writes `inside`; the other methods are there to be overridden.

    Lens points `s` are float64 [N, 2] (x right, y down) on the unit disc; field positions `h` are float [..., 2],
    (p - centre) / half-diagonal of the picture. The class runs on the host only: backends read tables baked from it
    (`render.bake`), except `reference`, which asks the class itself for every ray.
    """

    @abstractmethod
    def inside(self, s: Float64Array) -> BoolArray:
        """Which lens points let light through, bool [N]."""

    def weight(self, s: Float64Array) -> Array:
        """Relative transmission, >= 0, [N] or [N, 3] for R, G, B."""
        return np.ones(len(s))

    def pupil(self, h: Array) -> tuple[Array, float]:
        """Centre [..., 2] and radius of a second disc that a lens point must also lie in (mechanical vignetting)."""
        return np.zeros_like(h), math.inf

    def aberration(self, s: Float64Array, h: Array) -> Array:
        """Pixels added to each ray's displacement, [N, 2]."""
        return np.zeros_like(s)

    @property
    def depends_on_field(self) -> bool:
        """Whether the opening or its rays change over the picture."""
        return type(self).pupil is not Aperture.pupil or type(self).aberration is not Aperture.aberration


@dataclass(frozen=True)
class Disc(Aperture):
    """The ideal round opening."""

    def inside(self, s: Float64Array) -> BoolArray:
        """|s| <= 1."""
        return np.einsum("ij,ij->i", s, s) <= 1.0


@dataclass(frozen=True)
class Polygon(Aperture):
    """An iris of straight or rounded blades, circumradius 1.

    `blades` >= 3; a vertex lies at angle `rotation` (radians) from +x; `curvature` 0 is straight, 1 is the full disc
    (the boundary radius is blended: R = (1 - c) * cos(pi/n) / cos(phi) + c, phi the angle from the side's middle).
    """

    blades: int
    rotation: float = 0.0
    curvature: float = 0.0

    def __post_init__(self) -> None:
        if self.blades < 3:
            raise UsageError(f"Polygon.blades must be at least 3, got {self.blades}")
        if not 0 <= self.curvature <= 1:
            raise UsageError(f"Polygon.curvature must be in 0..1, got {self.curvature}")

    def inside(self, s: Float64Array) -> BoolArray:
        """|s| within the blended boundary radius at its angle."""
        half_angle = math.pi / self.blades
        angle = np.arctan2(s[:, 1], s[:, 0]) - self.rotation
        phi = np.mod(angle, 2 * half_angle) - half_angle
        straight = math.cos(half_angle) / np.cos(phi)
        result: BoolArray = np.hypot(s[:, 0], s[:, 1]) <= (1 - self.curvature) * straight + self.curvature
        return result


@dataclass(frozen=True)
class Ring(Aperture):
    """A mirror lens: the disc without its central part of radius `inner`, 0 <= inner < 1."""

    inner: float

    def __post_init__(self) -> None:
        if not 0 <= self.inner < 1:
            raise UsageError(f"Ring.inner must be in 0..1 (1 excluded), got {self.inner}")

    def inside(self, s: Float64Array) -> BoolArray:
        """inner <= |s| <= 1."""
        square = np.einsum("ij,ij->i", s, s)
        return (square <= 1.0) & (square >= self.inner**2)


@dataclass(frozen=True)
class CatEye(Aperture):
    """A disc clipped by a rim that moves with the field: |s| <= 1 and |s - strength*h| <= radius."""

    strength: float
    radius: float = 1.0

    def __post_init__(self) -> None:
        if self.strength < 0 or self.radius <= 0:
            raise UsageError(f"CatEye needs strength >= 0 and radius > 0, got {self.strength} and {self.radius}")

    def inside(self, s: Float64Array) -> BoolArray:
        """|s| <= 1."""
        return np.einsum("ij,ij->i", s, s) <= 1.0

    def pupil(self, h: Array) -> tuple[Array, float]:
        """The rim's disc: centre strength*h."""
        return self.strength * np.asarray(h), self.radius


@dataclass(frozen=True)
class Lens:
    """A thin lens focused on one disparity.

    `blur` is K >= 0, pixels of blur radius per unit of disparity difference; `focus` is d_f. With `falloff` the
    picture darkens by the light that a field-dependent aperture blocks; without, it is normalised by it.
    """

    blur: float
    focus: float
    aperture: Aperture = field(default_factory=Disc)
    falloff: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.blur) and self.blur >= 0):
            raise UsageError(f"Lens.blur must be a finite number of pixels >= 0, got {self.blur}")
        if not math.isfinite(self.focus):
            raise UsageError(f"Lens.focus must be finite, got {self.focus}")

    @classmethod
    def from_camera(
        cls,
        *,
        focal_length_mm: float,
        f_number: float,
        focus_distance_m: float,
        sensor_width_mm: float,
        image_width_px: int,
        near_m: float,
        aperture: Aperture | None = None,
    ) -> "Lens":
        """The lens of a real camera, for disparity d = near_m / distance (1 at `near_m`, 0 at infinity).

        K = (W/w) * f^2 * S1 / (2 N (S1 - f)) / near_m and d_f = near_m / S1: the thin lens's circle of confusion is
        exactly linear in inverse distance (docs/optics.md). `focus_distance_m` is measured from the lens and must be
        beyond the focal length.
        """
        f, s1 = focal_length_mm / 1000, focus_distance_m
        if min(f, f_number, sensor_width_mm, image_width_px, near_m) <= 0:
            raise UsageError("Lens.from_camera: focal length, f-number, sensor, image width and near_m must be > 0")
        if s1 <= f:
            raise UsageError(f"focus_distance_m must exceed the focal length of {f:g} m, got {s1:g}")
        pixels_per_m = image_width_px / (sensor_width_mm / 1000)
        blur_px_m = pixels_per_m * f * f * s1 / (2 * f_number * (s1 - f))
        return cls(blur=blur_px_m / near_m, focus=near_m / s1, aperture=aperture or Disc())

    def radius(self, disparity: Any) -> Any:
        """Blur radius in pixels at a disparity (number or array)."""
        return self.blur * abs(disparity - self.focus)

    def radius_max(self, surface: Surface, width: int, height: int) -> float:
        """Largest blur radius of a layer over a centred picture, in pixels."""
        return max(self.radius(d) for d in surface.extremes(width, height))

    def reach(self, surface: Surface, width: int, height: int) -> float:
        """Farthest distance in pixels between a pixel and any of its hits on the layer.

        For a plane r_max / (1 - K|g|). For a height field the largest blur radius over its whole canvas: a hit at q
        lies K * |s| * |d(q) - d_f| from its pixel. That is a bound, reached only if the extreme lies where rays go.
        """
        if isinstance(surface, HeightField):
            return max(self.radius(d) for d in surface.range)
        eccentricity = self.blur * surface.slope
        if eccentricity >= 1:
            raise UsageError(
                f"the plane is too steep for this lens: blur {self.blur:g} px x slope {surface.slope:g} per px must be "
                f"below 1, or rays run along the plane; lower the blur below {1 / surface.slope:g} or the tilt"
            )
        return self.radius_max(surface, width, height) / (1 - eccentricity)

    def margin(self, surfaces: Sequence[Surface], width: int, height: int) -> int:
        """Overscan in pixels that makes every ray of these layers land on the canvas.

        `width` and `height` are the picture's. A height field is as large as its canvas, so its answer serves to check
        a margin; to choose one before the field exists, ask with the plane of its largest defocus.
        """
        return math.ceil(max(self.reach(surface, width, height) for surface in surfaces)) + 2
