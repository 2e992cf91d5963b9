"""Surfaces of a lens, front to back, and what light sees of them: shape, glass, rim."""

from dataclasses import dataclass, replace

from bokehsynth.errors import UsageError

FRAUNHOFER_D, FRAUNHOFER_F, FRAUNHOFER_C = 587.56, 486.13, 656.27
"""Wavelengths in nm at which glass catalogues state nd and vd."""

LINES = (620.0, 540.0, 460.0)
"""Wavelengths in nm that stand for R, G and B."""


@dataclass(frozen=True)
class Surface:
    """One surface, in mm; the radius of curvature is > 0 with its centre to the right, 0 where it is flat."""

    radius: float = 0.0
    thickness: float = 0.0
    """To the next surface; of the last one, to the sensor."""
    index: float = 1.0
    """nd of what lies behind."""
    abbe: float | None = None
    """vd of what lies behind; None: no dispersion."""
    semi_diameter: float | None = None
    """Rays beyond it are stopped; None: no rim."""
    conic: float = 0.0
    asphere: tuple[float, ...] = ()
    """Coefficients of r^4, r^6, ... of the sag."""
    stop: bool = False

    @property
    def curvature(self) -> float:
        """1/radius, 0 for a flat surface."""
        return 1 / self.radius if self.radius else 0.0

    def index_at(self, wavelength: float) -> float:
        """Index behind the surface at a wavelength in nm: n = nd + B * (wavelength^-2 - d^-2), B from vd."""
        if self.abbe is None:
            return self.index
        slope = (self.index - 1) / self.abbe / (FRAUNHOFER_F**-2 - FRAUNHOFER_C**-2)
        return self.index + slope * (wavelength**-2 - FRAUNHOFER_D**-2)


@dataclass(frozen=True)
class LensStack:
    """Surfaces at their places: the first vertex at z = 0, the sensor at `sensor`; light goes to larger z."""

    surfaces: tuple[Surface, ...]
    sensor: float

    @property
    def vertices(self) -> tuple[float, ...]:
        """z of every surface."""
        places = [0.0]
        for surface in self.surfaces[:-1]:
            places.append(places[-1] + surface.thickness)
        return tuple(places)

    @property
    def stop(self) -> int:
        """Place of the stop among the surfaces."""
        return next(i for i, surface in enumerate(self.surfaces) if surface.stop)

    def indices(self, wavelength: float) -> list[float]:
        """Indices before the first surface and behind every one."""
        return [1.0] + [surface.index_at(wavelength) for surface in self.surfaces]

    def stopped_to(self, semi_diameter: float) -> "LensStack":
        """The same lens with another semi-diameter of its stop."""
        surfaces = list(self.surfaces)
        surfaces[self.stop] = replace(surfaces[self.stop], semi_diameter=semi_diameter)
        return replace(self, surfaces=tuple(surfaces))


def check_surfaces(surfaces: tuple[Surface, ...], source: str) -> None:
    """UsageError, naming source and surface, for surfaces that are no lens."""
    if not surfaces:
        raise UsageError(f"{source}: a lens needs at least one surface")
    stops = [number for number, surface in enumerate(surfaces, 1) if surface.stop]
    if len(stops) != 1:
        found = f"surfaces {', '.join(map(str, stops))} are" if stops else "no surface is"
        raise UsageError(
            f'{source}: {found} the stop; mark exactly one with "stop": true (for an iris between two elements add a '
            "flat surface in air, radius 0)"
        )
    for number, surface in enumerate(surfaces, 1):
        where = f"{source}, surface {number}"
        if surface.index < 1:
            raise UsageError(f"{where}: index must be at least 1, got {surface.index:g}")
        if surface.abbe is not None and surface.abbe <= 0:
            raise UsageError(f"{where}: abbe must be > 0, got {surface.abbe:g}; leave it out for no dispersion")
        if surface.thickness < 0 and number < len(surfaces):
            raise UsageError(f"{where}: thickness must be >= 0, got {surface.thickness:g}")
        rim = surface.semi_diameter
        if rim is not None and rim <= 0:
            raise UsageError(f"{where}: semi_diameter must be > 0, got {rim:g}; leave it out for no rim")
        edge = abs(surface.radius) / (1 + surface.conic) ** 0.5 if surface.radius and surface.conic > -1 else None
        if rim is not None and edge is not None and rim > edge * (1 + 1e-9):
            raise UsageError(
                f"{where}: semi_diameter {rim:g} is larger than the surface, which ends {edge:g} mm from the axis "
                f"(radius {surface.radius:g})"
            )
