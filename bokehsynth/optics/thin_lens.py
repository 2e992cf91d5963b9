"""The thin lens in the units of a data set: disparity, blur, focus.

Derivation, units and signs: `docs/optics.md`. In short, for a plane of disparity d(p) and a lens focused at d_f, the
ray from pixel p through lens point s (unit disc, x right, y down) meets the plane at

    p' = p + s * K * delta / (1 - K g.s),    delta = d(p) - d_f,    g = gradient of d

and a point at disparity d draws a disc of radius r = K * |d - d_f| pixels. Where d is a height field there is no
closed form: the ray's hit is the nearest solution of p' = p + s * K * (d(p') - d_f).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth.errors import UsageError
from bokehsynth.optics.apertures import Aperture, Disc, Float64Array, SameAperture

Array = npt.NDArray[Any]


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
        exactly linear in inverse distance (docs/optics.md). `focus_distance_m` is measured from the lens; it must be
        beyond the focal length and may be infinite.
        """
        f, s1 = focal_length_mm / 1000, focus_distance_m
        if min(f, f_number, sensor_width_mm, image_width_px, near_m) <= 0:
            raise UsageError("Lens.from_camera: focal length, f-number, sensor, image width and near_m must be > 0")
        if s1 <= f:
            raise UsageError(f"focus_distance_m must exceed the focal length of {f:g} m, got {s1:g}")
        pixels_per_m = image_width_px / (sensor_width_mm / 1000)
        if math.isinf(s1):
            return cls(blur=pixels_per_m * f * f / (2 * f_number) / near_m, focus=0.0, aperture=aperture or Disc())
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
        Lens points beyond the unit disc scale both, and the largest aberration is added (docs/optics.md).
        """
        extent, astray = self.aperture.extent, largest_aberration(self, width, height)
        if isinstance(surface, HeightField):
            return extent * max(self.radius(d) for d in surface.range) + astray
        eccentricity = extent * self.blur * surface.slope
        if eccentricity >= 1:
            raise UsageError(
                f"the plane is too steep for this lens: blur {self.blur:g} px x slope {surface.slope:g} per px must be "
                f"below {1 / extent:g}, or rays run along the plane; lower the blur below "
                f"{1 / (extent * surface.slope):g} or the tilt"
            )
        radius = extent * self.radius_max(surface, width, height)
        return (radius + eccentricity * astray) / (1 - eccentricity) + astray

    def margin(self, surfaces: Sequence[Surface], width: int, height: int) -> int:
        """Overscan in pixels that makes every ray of these layers land on the canvas.

        `width` and `height` are the picture's. A height field is as large as its canvas, so its answer serves to check
        a margin; to choose one before the field exists, ask with the plane of its largest defocus.
        """
        return math.ceil(max(self.reach(surface, width, height) for surface in surfaces)) + 2


_FIELDS, _ALONG, _RINGS, _ANGLES = 7, 33, 8, 32
"""Field positions per side and along half a diagonal, and rings and angles of lens points, at which the largest
aberration is looked for. At the edge of an image circle it grows within a tenth of the field."""


def largest_aberration(lens: Lens, width: int, height: int) -> float:
    """Bound, in pixels, for the aberration of every ray that passes, over a picture; 0 for a lens without blur.

    The largest value on a lattice of lens points and field positions, and along half a diagonal, and 5 % more for what
    lies between.
    """
    if lens.blur == 0 or not lens.aperture.has_aberration:
        return 0.0
    return _largest_aberration(SameAperture(lens.aperture), width, height)


@lru_cache(maxsize=64)
def _largest_aberration(key: SameAperture, width: int, height: int) -> float:
    aperture = key.aperture
    angle = np.arange(_ANGLES) * (2 * math.pi / _ANGLES)
    radius = aperture.extent * np.arange(_RINGS, 0, -1)[:, None] / _RINGS
    rings = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(-1, 2)
    points = np.concatenate([np.zeros((1, 2)), rings])
    points = points[np.asarray(aperture.inside(points), np.bool_)]
    corner = np.array([width, height]) / math.hypot(width, height)
    line = np.linspace(-1, 1, _FIELDS)
    lattice = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    fields = np.concatenate([lattice, np.repeat(np.linspace(0, 1, _ALONG)[1:-1, None], 2, axis=1)]) * corner
    s, h = np.tile(points, (len(fields), 1)), np.repeat(fields, len(points), axis=0)
    passes = np.ones(len(s), np.bool_)
    for centre, disc_radius in aperture.pupil_discs(h):
        passes &= np.hypot(*(s - centre).T) <= disc_radius
    weights = np.asarray(aperture.transmission(s, h))
    passes &= weights.reshape(len(s), -1).max(axis=1, initial=0) > 0
    if not passes.any():
        return 0.0
    shift = np.asarray(aperture.aberration(s[passes], h[passes]), np.float64)
    return 1.05 * float(np.hypot(shift[..., 0], shift[..., 1]).max())
