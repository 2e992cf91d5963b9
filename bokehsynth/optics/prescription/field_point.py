"""What a traced lens does to the rays of one field position, from its table."""

from dataclasses import dataclass

import numpy as np

from bokehsynth.optics.apertures import BoolArray, Float64Array
from bokehsynth.optics.prescription.bake import LensTable
from bokehsynth.optics.prescription.polynomials import degree_of, monomials


@dataclass(frozen=True, eq=False)
class FieldPoint:
    """A `LensTable` at one abs(h), for lens points in the meridional frame; coefficients [C, P, ...] as there."""

    aberration: Float64Array
    weight: Float64Array
    rims: Float64Array
    bounds: Float64Array
    """[C, 5]; NaN where a pupil opens or closes at once."""
    inner: Float64Array
    dark: bool
    """Whether it lies beyond the edge of the image."""

    def monomials(self, s: Float64Array) -> Float64Array:
        """What the coefficients belong to, at lens points [N, 2]: [N, P]."""
        return monomials(s, degree_of(self.weight.shape[1]))

    def aberration_of(self, powers: Float64Array) -> Float64Array:
        """Pixels [N, C, 2] of lens points of these monomials."""
        result: Float64Array = np.tensordot(powers, self.aberration, axes=([1], [1]))
        return result

    def weight_of(self, s: Float64Array, powers: Float64Array) -> Float64Array:
        """Light [N, C] of lens points and their monomials, 0 where it does not pass."""
        if self.dark:
            return np.zeros((len(s), len(self.weight)))
        weight = np.tensordot(powers, self.weight, axes=([1], [1]))
        return np.where(self._within(s) & self._between_rims(powers), np.maximum(weight, 0), 0)

    def _within(self, s: Float64Array) -> BoolArray:
        """Which lens points lie within the bounds of each colour, [N, C]."""
        (x, y), low, high = s.T[:, :, None], self.bounds[:, [0, 2]], self.bounds[:, [1, 3]]
        across, down = (x >= low[:, 0]) & (x <= high[:, 0]), (y >= low[:, 1]) & (y <= high[:, 1])
        result: BoolArray = across & down & (np.hypot(x, y) <= self.bounds[:, 4])
        return result

    def _between_rims(self, powers: Float64Array) -> BoolArray:
        """Which lens points no rim stops, [N, C]."""
        hits = np.tensordot(powers, self.rims, axes=([1], [1]))
        square = np.einsum("ncri,ncri->ncr", hits, hits)
        stopped = square > 1
        if self.inner.any():
            stopped |= square < np.square(self.inner)
        result: BoolArray = ~stopped.any(axis=2)
        return result


def field_point(table: LensTable, radius: float) -> FieldPoint:
    """The table at abs(h) = radius: cubic through four rows, bounds linear between two."""
    count, edge = len(table.fields), float(table.fields[-1])
    place = min(radius / edge, 1) * (count - 1)
    low = min(max(int(place) - 1, 0), count - 4)
    shares = [cubic_share(row, np.array([place - low])) for row in range(4)]

    def mixed(values: Float64Array) -> Float64Array:
        result: Float64Array = sum((share * values[low + row] for row, share in enumerate(shares)), np.zeros(1))
        return result

    before = min(int(place), count - 2)
    step = place - before
    bounds = table.bounds[before].copy()
    if step > 0:
        with np.errstate(invalid="ignore"):
            bounds = bounds * (1 - step) + table.bounds[before + 1] * step
    dark = table.dark_beyond and radius > edge * (1 + 1e-6)
    return FieldPoint(mixed(table.aberration), mixed(table.weight), mixed(table.rims), bounds, table.inner, dark)


def cubic_share(row: int, place: Float64Array) -> Float64Array:
    """Lagrange's weight of row 0..3 at places between them."""
    others = [other for other in range(4) if other != row]
    result: Float64Array = np.prod([(place - other) / (row - other) for other in others], axis=0)
    return result
