"""A real lens as its surfaces, and the thin lens with aberrations that it is at one stop and focus."""

import math
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.optics.prescription.aperture import PrescriptionAperture
from bokehsynth.optics.prescription.bake import bake_tables, pixels_per_tangent, pupil_radius
from bokehsynth.optics.prescription.bundles import Camera
from bokehsynth.optics.prescription.paraxial import Paraxial, paraxial
from bokehsynth.optics.prescription.surfaces import LINES, LensStack, Surface, check_surfaces
from bokehsynth.optics.thin_lens import Lens

_LEAST_OPENING = 0.8
"""Share of the radius that the file's f-number asks for which the rims must let through."""


class LensState(NamedTuple):
    """A lens stopped down and focused."""

    stack: LensStack
    properties: Paraxial
    radius: float
    """R in mm."""
    mm_per_tangent: float
    """On the sensor, per unit tangent of the green chief ray at the centre: f_px times the pixels' pitch."""

    def blur(self, pixels_per_mm: float, near_m: float) -> float:
        """K = f_px * R / near."""
        return self.mm_per_tangent * pixels_per_mm * (self.radius / 1000) / near_m


@dataclass(frozen=True)
class Prescription:
    """A lens as a patent lists it: surfaces front to back, in mm, light from the left.

    `load_prescription` reads one; `at` focuses it and gives the `Lens` that `render` takes.
    """

    name: str
    focal_length_mm: float
    f_number: float
    surfaces: tuple[Surface, ...]
    source: str = ""
    """Patent or textbook from which the numbers come."""
    wavelengths_nm: tuple[float, float, float] = LINES
    """Lines that stand for R, G and B."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "surfaces", tuple(self.surfaces))  # hashable: it is a key of caches
        object.__setattr__(self, "wavelengths_nm", tuple(self.wavelengths_nm))
        for key in ("focal_length_mm", "f_number"):
            if not (math.isfinite(getattr(self, key)) and getattr(self, key) > 0):
                raise UsageError(f"{self.name}: {key} must be a number > 0, got {getattr(self, key)}")
        check_surfaces(self.surfaces, self.name)
        try:
            properties = paraxial(self._unfocused(), self._green)
        except np.linalg.LinAlgError:
            raise UsageError(f"{self.name}: the surfaces form no image: their numbers are beyond all scale") from None
        if not (math.isfinite(properties.focal_length) and properties.focal_length > 0):
            raise UsageError(
                f"{self.name}: the surfaces form no image (focal length {properties.focal_length:g} mm); a surface is "
                "missing, or a radius has the wrong sign: it is positive where the centre lies behind the surface"
            )
        if abs(properties.focal_length / self.focal_length_mm - 1) > 0.1:
            raise UsageError(
                f"{self.name}: the surfaces have a focal length of {properties.focal_length:.4g} mm, focal_length_mm "
                f"says {self.focal_length_mm:g}; a surface is missing, or a radius or thickness is misread"
            )

    def at(
        self,
        *,
        f_number: float | None = None,
        focus_m: float = math.inf,
        near_m: float = 1.0,
        sensor_width_mm: float = 36.0,
        size: tuple[int, int],
    ) -> Lens:
        """The lens stopped down to `f_number`, focused at `focus_m`, for pictures of `size` (height, width).

        Disparity is d = near_m / Z, Z the distance from the entrance pupil along the axis: 1 at `near_m`, 0 at
        infinity. Focus moves the whole lens. The result serves pictures of this size alone: its aberration is in
        pixels. Tracing takes about a second; the openings asked for last are kept, whatever their near_m. Raises
        UsageError for an f-number below the file's and for a focus nearer than the lens can be.
        """
        number = self.f_number if f_number is None else f_number
        height, width = size
        for what, value in (("near_m", near_m), ("sensor_width_mm", sensor_width_mm), ("height and width", min(size))):
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{self.name}: {what} must be > 0, got {value}")
        state = self.state(number, focus_m)
        aperture = _aperture(self, float(number), float(focus_m), float(sensor_width_mm), (height, width))
        return Lens(state.blur(width / sensor_width_mm, near_m), near_m / focus_m, aperture)

    def state(self, f_number: float, focus_m: float) -> "LensState":
        """The lens stopped down and focused, with what K follows from; UsageError as `at`."""
        return _state(self, float(f_number), float(focus_m))

    def focused(self, f_number: float, focus_m: float) -> tuple[LensStack, Paraxial]:
        """The surfaces, stopped down, with the sensor where it stands for a focus distance, and their properties."""
        if not f_number >= self.f_number * (1 - 1e-9):
            raise UsageError(f"{self.name} opens to f/{self.f_number:g}, got f_number {f_number:g}; stop it down")
        stack = self._unfocused()
        properties = paraxial(stack, self._green)
        stop = stack.surfaces[stack.stop]
        open_ = stop.semi_diameter or abs(properties.focal_length / (2 * self.f_number * properties.pupil_scale))
        nearest = max(properties.entrance_pupil - properties.front_focus, properties.entrance_pupil) / 1000
        if not focus_m > nearest:
            raise UsageError(
                f"{self.name}: focus_m must be beyond {nearest:.4g} m from the entrance pupil, where the sensor would "
                f"be infinitely far behind the lens or the object within it; got {focus_m:g}; focus farther away (in a "
                "recipe near_m is the nearest focus)"
            )
        beyond = focus_m * 1000 - (properties.entrance_pupil - properties.front_focus)
        stack = stack.stopped_to(open_ * self.f_number / f_number)
        stack = LensStack(stack.surfaces, stack.sensor + properties.focal_length**2 / beyond)
        return stack, paraxial(stack, self._green)

    @property
    def record(self) -> dict[str, Any]:
        """It as the content of a prescription file, with every number that is not a default."""
        surfaces: list[dict[str, Any]] = []
        for i, surface in enumerate(self.surfaces):
            given = {key.name: getattr(surface, key.name) for key in fields(Surface)}
            needed = {"radius", "thickness"} if i < len(self.surfaces) - 1 else {"radius"}
            surfaces.append(
                {
                    key.name: _plain(given[key.name])
                    for key in fields(Surface)
                    if key.name in needed or given[key.name] != key.default
                }
            )
        return {
            "name": self.name, "source": self.source, "focal_length_mm": self.focal_length_mm,
            "f_number": self.f_number, "wavelengths_nm": list(self.wavelengths_nm), "surfaces": surfaces,
        }  # fmt: skip

    @property
    def _green(self) -> float:
        return self.wavelengths_nm[1]

    def _unfocused(self) -> LensStack:
        """The surfaces with the sensor at the last thickness, or at the paraxial focus where that is missing."""
        stack = LensStack(self.surfaces, 0.0)
        behind = self.surfaces[-1].thickness
        sensor = stack.vertices[-1] + behind if behind else paraxial(stack, self._green).back_focus
        return LensStack(self.surfaces, sensor)

    def check_opening(self) -> None:
        """UsageError where a rim lets much less through than the stop, wide open and focused at infinity.

        Close up another rim than the stop may well bound what meets the axis.
        """
        stack, properties = self.focused(self.f_number, math.inf)
        radius = pupil_radius(stack, self._green, properties)
        stop = stack.surfaces[stack.stop].semi_diameter or 0.0
        asked = stop * abs(properties.pupil_scale)
        if radius < _LEAST_OPENING * asked:
            rims = [(s.semi_diameter, i) for i, s in enumerate(stack.surfaces, 1) if s.semi_diameter and not s.stop]
            narrowest = min(rims)[1] if rims else 0
            given = self.surfaces[stack.stop].semi_diameter is not None
            way = "give the stop a smaller one" if given else "state a larger f_number, to which the stop opens"
            raise UsageError(
                f"{self.name}, surface {stack.stop + 1}: the stop (semi-diameter {stop:g}) is larger than the other "
                f"rims let light through: they pass a pupil of radius {radius:.4g} mm where it asks for {asked:.4g}; "
                f"see the semi_diameter of surface {narrowest}, or {way}"
            )


@lru_cache(maxsize=64)
def _state(prescription: Prescription, f_number: float, focus_m: float) -> LensState:
    """`Prescription.state`: a sample asks for it more than once."""
    stack, properties = prescription.focused(f_number, focus_m)
    line = prescription.wavelengths_nm[1]
    radius = pupil_radius(stack, line, properties)
    scale = pixels_per_tangent(stack, line, properties.entrance_pupil, 1.0)
    return LensState(stack, properties, radius, scale)


@lru_cache(maxsize=8)
def _aperture(
    prescription: Prescription, f_number: float, focus_m: float, sensor_width_mm: float, size: tuple[int, int]
) -> PrescriptionAperture:
    """The opening of `Prescription.at`, traced: the same object for the same arguments, which near_m is none of."""
    state, (height, width) = prescription.state(f_number, focus_m), size
    f_px, half_diagonal = state.mm_per_tangent * width / sensor_width_mm, math.hypot(width, height) / 2
    defocus = state.blur(width / sensor_width_mm, 1.0) / focus_m  # K * d_f
    lines = prescription.wavelengths_nm
    camera = Camera(state.stack, state.properties, lines, f_px, state.radius, defocus, half_diagonal)
    return PrescriptionAperture(bake_tables([camera])[0], f"{prescription.name} f/{f_number:g}")


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
