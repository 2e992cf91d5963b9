"""Surfaces of a lens, front to back, and what light sees of them: shape, glass, rim."""

from collections.abc import Sequence
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
    sellmeier: tuple[float, ...] = ()
    """B1, B2, B3, C1, C2, C3 (um^2) of what lies behind, in place of `index` and `abbe`; empty: those hold."""
    mirror: bool = False
    """Reflects: light then goes to smaller z, and thicknesses are negative, until it is reflected again."""
    inner_semi_diameter: float | None = None
    """Rays closer to the axis are stopped: a hole, or what stands before it; None: none are."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "asphere", tuple(self.asphere))
        object.__setattr__(self, "sellmeier", tuple(self.sellmeier))

    @property
    def curvature(self) -> float:
        """1/radius, 0 for a flat surface."""
        return 1 / self.radius if self.radius else 0.0

    def index_at(self, wavelength: float) -> float:
        """Index behind the surface at a wavelength in nm.

        Sellmeier's n^2 = 1 + sum of B L^2 / (L^2 - C), L in um, or n = nd + B * (wavelength^-2 - d^-2) with B from vd.
        """
        if self.sellmeier:
            square = (wavelength / 1000) ** 2
            pairs = zip(self.sellmeier[:3], self.sellmeier[3:], strict=True)
            return float((1 + sum(b * square / (square - c) for b, c in pairs)) ** 0.5)
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
        """Indices before the first surface and behind every one; < 0 where light goes to smaller z."""
        found = [1.0]
        for surface in self.surfaces:
            sign = 1 if found[-1] > 0 else -1
            found.append(-found[-1] if surface.mirror else sign * surface.index_at(wavelength))
        return found

    def inner_shares(self, places: Sequence[int]) -> list[float]:
        """Return the share of the semi-diameter within which the rims at these places stop rays as well."""
        rims = [self.surfaces[i] for i in places]
        return [(rim.inner_semi_diameter or 0.0) / (rim.semi_diameter or 1.0) for rim in rims]

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
    direction = 1
    for number, surface in enumerate(surfaces, 1):
        where = f"{source}, surface {number}"
        direction = -direction if surface.mirror else direction
        if surface.mirror and (surface.index != 1 or surface.sellmeier):
            raise UsageError(f"{where}: a mirror has no glass behind it: leave index and glass out")
        if surface.index < 1:
            raise UsageError(f"{where}: index must be at least 1, got {surface.index:g}")
        if surface.abbe is not None and surface.abbe <= 0:
            raise UsageError(f"{where}: abbe must be > 0, got {surface.abbe:g}; leave it out for no dispersion")
        if surface.thickness * direction < 0 and number < len(surfaces):
            rule = ">= 0" if direction > 0 else "<= 0 behind a mirror, from which light goes back"
            raise UsageError(f"{where}: thickness must be {rule}, got {surface.thickness:g}")
        inner = surface.inner_semi_diameter
        if inner is not None and not 0 < inner < (surface.semi_diameter or 0):
            raise UsageError(
                f"{where}: inner_semi_diameter must be > 0 and below the semi_diameter that it needs, got {inner:g}; "
                "leave it out for none"
            )
        rim = surface.semi_diameter
        if rim is not None and rim <= 0:
            raise UsageError(f"{where}: semi_diameter must be > 0, got {rim:g}; leave it out for no rim")
        edge = abs(surface.radius) / (1 + surface.conic) ** 0.5 if surface.radius and surface.conic > -1 else None
        if rim is not None and edge is not None and rim > edge * (1 + 1e-9):
            raise UsageError(
                f"{where}: semi_diameter {rim:g} is larger than the surface, which ends {edge:g} mm from the axis "
                f"(radius {surface.radius:g})"
            )
        if surface.sellmeier:
            _check_glass(surface, where)
    if direction < 0:
        raise UsageError(f"{source}: light leaves to the front: mirrors come in pairs")


def _check_glass(surface: Surface, where: str) -> None:
    if len(surface.sellmeier) != 6:
        raise UsageError(f"{where}: sellmeier must be [B1, B2, B3, C1, C2, C3], got {len(surface.sellmeier)} numbers")
    for line in (FRAUNHOFER_F, *LINES, FRAUNHOFER_C):
        square = (line / 1000) ** 2
        pairs = list(zip(surface.sellmeier[:3], surface.sellmeier[3:], strict=True))
        n2 = 1 + sum(b * square / (square - c) if square != c else float("inf") for b, c in pairs)
        if not 1 <= n2 < 36:  # also for NaN
            raise UsageError(f"{where}: sellmeier gives no index of a glass at {line:g} nm (n^2 = {n2:.4g})")
    nd = surface.index_at(FRAUNHOFER_D)
    if surface.index != 1 and abs(nd - surface.index) > 0.002:
        raise UsageError(f"{where}: index {surface.index:g} is not that of its sellmeier, {nd:.5f}; one is misread")
