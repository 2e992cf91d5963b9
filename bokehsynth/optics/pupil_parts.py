"""Parts of an opening: what the two halves of a dual pixel see through, and the cells of a light-field camera.

A part passes the light of the whole opening times a share of it. The shares of all parts are a partition of unity, so
the light through all of them is that through the whole, ray by ray.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.optics.apertures import Aperture, Array, BoolArray, Float64Array, PupilDisc, SameAperture

NARROWEST = 32
"""Bands along one axis, at most: each then spans eight points of the tables of fast backends."""


@dataclass(frozen=True)
class Band:
    """One of `count` bands, equally wide, that cover the opening's diameter -1..1 along one axis.

    Neighbours meet in a smooth ramp that reaches `softness` (0 excluded, up to 1) of half a band's width to either
    side of the line between them. The outer bands go on beyond the unit disc.
    """

    index: int
    count: int
    softness: float

    def __post_init__(self) -> None:
        if not 1 <= self.count <= NARROWEST or not 0 <= self.index < self.count:
            raise UsageError(f"a band must be one of 1..{NARROWEST}, got {self.index} of {self.count}")
        if not 0 < self.softness <= 1:
            raise UsageError(f"softness must be in 0..1 (0 excluded), got {self.softness}")

    def share(self, x: Float64Array) -> Float64Array:
        """Share 0..1 of the light at lens coordinate x, any shape; those of all bands add up to 1."""
        return self._beyond(self.index, x) - self._beyond(self.index + 1, x)

    def _beyond(self, line: int, x: Float64Array) -> Float64Array:
        """How far x lies beyond the line below band number `line`: 0 before the ramp, 1 behind it."""
        if line == 0:
            return np.ones_like(x)
        if line == self.count:
            return np.zeros_like(x)
        place = -1 + 2 * line / self.count
        t = np.clip((x - place) * self.count / (2 * self.softness) + 0.5, 0, 1)
        result: Float64Array = t * t * (3 - 2 * t)
        return result


class PupilPart(Aperture):
    """The part of an opening in one band of x and one of y. Made by `part_of`."""

    def __init__(self, whole: Aperture, column: Band, row: Band) -> None:
        self.whole, self.column, self.row = whole, column, row
        self.extent = whole.extent

    def __repr__(self) -> str:
        return f"PupilPart({self.whole!r}, {self.column!r}, {self.row!r})"

    @property
    def is_half(self) -> bool:
        """Whether there is one other part."""
        return self.column.count * self.row.count == 2

    @property
    def number(self) -> int:
        """Its place among all parts, row by row."""
        return self.row.index * self.column.count + self.column.index

    @property
    def has_aberration(self) -> bool:
        """Whether the whole opening has an aberration."""
        return self.whole.has_aberration

    @property
    def weight_depends_on_field(self) -> bool:
        """Whether the whole opening's transmission changes over the picture."""
        return self.whole.weight_depends_on_field

    def share(self, s: Float64Array) -> Float64Array:
        """Share 0..1 of the light through lens points [N, 2] that belongs to this part, [N]."""
        return self.column.share(s[:, 0]) * self.row.share(s[:, 1])

    def inside(self, s: Float64Array) -> BoolArray:
        """Lens points of the opening of which a share belongs to this part."""
        result: BoolArray = np.asarray(self.whole.inside(s), np.bool_) & (self.share(s) > 0)
        return result

    def weight(self, s: Float64Array, h: Array | None = None) -> Array:
        """The whole opening's transmission, [N] or [N, 3], times the share."""
        weight = self.whole.transmission(s, np.zeros_like(s) if h is None else h)
        share = self.share(s)
        return np.asarray(weight) * (share if np.ndim(weight) == 1 else share[:, None])

    def aberration(self, s: Float64Array, h: Array) -> Array:
        """That of the whole opening."""
        return self.whole.aberration(s, h)


class VignettedPart(PupilPart):
    """The part of an opening that rims cut, which move over the picture."""

    def pupil(self, h: Array) -> PupilDisc | list[PupilDisc]:
        """The rims of the whole opening."""
        return self.whole.pupil(h)


def part_of(whole: Aperture, column: Band, row: Band) -> PupilPart:
    """The part of an opening in one band of x and one of y; the same object for the same opening and bands.

    Lens points have image orientation: the first column is the opening's left as seen from behind the camera, so that
    its picture is that of an eye further to the left. It serves on every backend that renders the whole opening. Raises
    UsageError for a part through which no light passes.
    """
    return _part_of(SameAperture(whole), column, row)


def halves_of(whole: Aperture, softness: float = 0.5) -> tuple[PupilPart, PupilPart]:
    """The left and the right half of an opening, as the two photodiodes of a dual pixel see it."""
    left, right = (part_of(whole, Band(index, 2, softness), Band(0, 1, softness)) for index in (0, 1))
    return left, right


def all_parts(part: PupilPart) -> list[PupilPart]:
    """All parts of the same opening in the same bands, row by row."""
    columns, rows = (
        [Band(index, band.count, band.softness) for index in range(band.count)] for band in (part.column, part.row)
    )
    return [part_of(part.whole, column, row) for row in rows for column in columns]


@lru_cache(maxsize=64)
def _part_of(key: SameAperture, column: Band, row: Band) -> PupilPart:
    vignetted = type(key.aperture).pupil is not Aperture.pupil
    return (VignettedPart if vignetted else PupilPart)(key.aperture, column, row)
