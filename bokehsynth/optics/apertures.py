"""Shapes of the lens opening: the class a researcher extends, and the ones that come with the package."""

import inspect
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth.errors import UsageError

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
Float64Array = npt.NDArray[np.float64]
PupilDisc = tuple[Array, float]
"""Centre [..., 2] in lens units and radius of a rim as it appears in the pupil."""


class Aperture(ABC):
    """The shape of the opening. A subclass writes `inside`; the other methods are there to be overridden.

    Lens points `s` are float64 [N, 2] (x right, y down) on the unit disc; field positions `h` are float [..., 2],
    (p - centre) / half-diagonal of the picture. The class runs on the host only: backends read tables baked from it
    (`rendering.aperture`), except `reference`, which asks the class itself for every ray.
    """

    extent: float = 1.0
    """Largest abs(s) that `inside` lets through; beyond 1 where a pupil grows or moves off the axis."""

    @abstractmethod
    def inside(self, s: Float64Array) -> BoolArray:
        """Which lens points let light through, bool [N]."""

    def weight(self, s: Float64Array) -> Array:
        """Relative transmission, >= 0, [N] or [N, 3] for R, G, B.

        A subclass may write `weight(s, h)`, both [N, 2], for a transmission that changes over the picture.
        """
        return np.ones(len(s))

    def pupil(self, h: Array) -> PupilDisc | list[PupilDisc]:
        """Centre [..., 2] and radius of a disc that a lens point must also lie in (mechanical vignetting).

        Or a list of such discs, one for each rim.
        """
        return np.zeros_like(h), math.inf

    def aberration(self, s: Float64Array, h: Array) -> Array:
        """Pixels added to each ray's displacement, [N, 2], or [N, 3, 2] for R, G, B."""
        return np.zeros_like(s)

    @property
    def has_aberration(self) -> bool:
        """Whether the class has an `aberration` of its own."""
        return type(self).aberration is not Aperture.aberration

    @property
    def weight_depends_on_field(self) -> bool:
        """Whether `weight` takes h as well."""
        return len(inspect.signature(self.weight).parameters) > 1

    @property
    def depends_on_field(self) -> bool:
        """Whether the opening or its rays change over the picture."""
        return type(self).pupil is not Aperture.pupil or self.has_aberration or self.weight_depends_on_field

    def transmission(self, s: Float64Array, h: Array) -> Array:
        """What `weight` answers for lens points s [N, 2] at field positions h [N, 2]."""
        weight: Any = self.weight
        return weight(s, h) if self.weight_depends_on_field else weight(s)

    def pupil_discs(self, h: Array) -> list[PupilDisc]:
        """The answer of `pupil` as a list, whichever form it has."""
        answer = self.pupil(h)
        return [answer] if isinstance(answer, tuple) else list(answer)


class SameAperture:
    """A key of caches that is equal for one object alone, and keeps it alive.

    Equality of the class itself need not do: an inherited one does not see what a subclass added.
    """

    def __init__(self, aperture: Aperture) -> None:
        self.aperture = aperture

    def __hash__(self) -> int:
        return object.__hash__(self.aperture)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameAperture) and other.aperture is self.aperture


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

    def pupil(self, h: Array) -> PupilDisc:
        """The rim's disc: centre strength*h."""
        return self.strength * np.asarray(h), self.radius
