"""The opening of a traced lens: aberration and transmission from its table."""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from bokehsynth.optics.apertures import Aperture, Array, BoolArray, Float64Array
from bokehsynth.optics.prescription.bake import LensTable
from bokehsynth.optics.prescription.field_point import FieldPoint, cubic_share, field_point
from bokehsynth.optics.prescription.polynomials import degree_of, monomials

_CHUNK = 8192
"""Rays evaluated at once: their coefficients stay within a few MB."""

_RUN = 16
"""Rays in a row of one field position, on average, from which positions are evaluated one by one."""

_POINTS = 64
"""Field positions whose polynomials an aperture keeps."""


_AtOneField = Callable[[Float64Array, Float64Array], Float64Array]
"""Of lens points [N, 2] and one field position [2]."""

_AtFields = Callable[[Float64Array, Float64Array], Float64Array]
"""Of lens points and field positions, [N, 2] both."""


class PrescriptionAperture(Aperture):
    """What a real lens at one stop and focus does to rays, for pictures of one size. Made by `Prescription.at`."""

    def __init__(self, table: LensTable, name: str) -> None:
        self.table, self.name = table, name
        self.extent = table.extent
        self._points: OrderedDict[float, FieldPoint] = OrderedDict()

    def __repr__(self) -> str:
        return f"PrescriptionAperture({self.name!r})"

    def inside(self, s: Float64Array) -> BoolArray:
        """The disc that holds every opening; `weight` says what passes where."""
        return np.einsum("ij,ij->i", s, s) <= self.extent**2

    @property
    def weight_depends_on_field(self) -> bool:
        """Always."""
        return True

    def aberration(self, s: Float64Array, h: Array) -> Array:
        """Pixels for R, G, B, [N, 3, 2]."""
        return self._evaluated((self._aberration_at, self._aberration), s, np.asarray(h, np.float64), (3, 2))

    def weight(self, s: Float64Array, h: Array) -> Array:  # type: ignore[override]
        """Light per area of s for R, G, B, [N, 3], relative to green on the axis; 0 where a rim stops the ray."""
        return self._evaluated((self._weight_at, self._weight), s, np.asarray(h, np.float64), (3,))

    def at_field(self, radius: float) -> FieldPoint:
        """What it does to rays of field positions at abs(h) = radius; the last ones asked for are kept."""
        found = self._points.pop(radius, None)
        if found is None:
            found = field_point(self.table, radius)
            while len(self._points) >= _POINTS:
                self._points.popitem(last=False)
        self._points[radius] = found
        return found

    def _evaluated(
        self, ways: "tuple[_AtOneField, _AtFields]", s: Float64Array, h: Float64Array, tail: tuple[int, ...]
    ) -> Float64Array:
        """Evaluate field position by field position where rays come in runs of one, else ray by ray."""
        out = np.empty((len(s), *tail))
        if len(s) == 0:
            return out
        firsts = np.concatenate([[0], np.flatnonzero((h[1:] != h[:-1]).any(axis=1)) + 1])
        if len(firsts) * _RUN > len(s) > 1:
            for start in range(0, len(s), _CHUNK):
                part = slice(start, start + _CHUNK)
                out[part] = ways[1](s[part], h[part])
            return out
        for first, last in zip(firsts, [*firsts[1:], len(s)], strict=True):
            for start in range(first, last, _CHUNK):
                part = slice(start, min(start + _CHUNK, last))
                out[part] = ways[0](s[part], h[first])
        return out

    def _aberration_at(self, s: Float64Array, h: Float64Array) -> Float64Array:
        here, (x, y) = self.at_field(float(np.hypot(*h))), _direction(h)
        along, across = np.moveaxis(here.aberration_of(here.monomials(s @ [[x, -y], [y, x]])), -1, 0)
        return np.stack([x * along - y * across, y * along + x * across], axis=-1)

    def _weight_at(self, s: Float64Array, h: Float64Array) -> Float64Array:
        here, (x, y) = self.at_field(float(np.hypot(*h))), _direction(h)
        local = s @ [[x, -y], [y, x]]
        return here.weight_of(local, here.monomials(local))

    def _aberration(self, s: Float64Array, h: Float64Array) -> Float64Array:
        local, turn = _meridional(s, h)
        value = self._polynomials(self.table.aberration, local, h)
        result: Float64Array = np.einsum("nij,ncj->nci", turn, value)
        return result

    def _weight(self, s: Float64Array, h: Float64Array) -> Float64Array:
        local, _ = _meridional(s, h)
        weight: Float64Array = np.maximum(self._polynomials(self.table.weight, local, h), 0)
        low, step = self._rows(h, 2)
        places = (local[:, 0], local[:, 0], local[:, 1], local[:, 1], np.hypot(local[:, 0], local[:, 1]))
        for side, (place, sign) in enumerate(zip(places, (1, -1, 1, -1, -1), strict=True)):
            near, far = self.table.bounds[low, :, side], self.table.bounds[low + 1, :, side]
            with np.errstate(invalid="ignore"):
                bound = np.where(step[:, None] > 0, near * (1 - step[:, None]) + far * step[:, None], near)
            weight = np.where(sign * (place[:, None] - bound) >= 0, weight, 0)
        beyond = self.table.dark_beyond & (np.hypot(h[:, 0], h[:, 1]) > self.table.fields[-1] * (1 + 1e-6))
        hits = self._polynomials(self.table.rims, local, h)
        square = np.einsum("ncri,ncri->ncr", hits, hits)
        stopped = ((square > 1) | (square < np.square(self.table.inner))).any(axis=2)
        return np.where(stopped | beyond[:, None], 0, weight)

    def _rows(self, h: Float64Array, count: int) -> tuple[Array, Float64Array]:
        """First of `count` rows of the table to interpolate at h, and the place of h behind it in rows."""
        fields = self.table.fields
        place = np.minimum(np.hypot(h[:, 0], h[:, 1]) / fields[-1], 1) * (len(fields) - 1)
        low = np.clip(np.floor(place).astype(np.int64) - (count // 2 - 1), 0, len(fields) - count)
        return low, place - low

    def _polynomials(self, table: Float64Array, s: Float64Array, h: Float64Array) -> Float64Array:
        """Values [N, 3, ...] at points of the meridional frame, cubic in abs(h) through four rows of the table."""
        low, place = self._rows(h, 4)
        powers, total = monomials(s, degree_of(table.shape[2])), np.zeros((len(s), *table.shape[1:2], *table.shape[3:]))
        for row in range(4):
            share = cubic_share(row, place)
            total += np.einsum("nk,nck...->nc...", powers * share[:, None], table[low + row])
        return total


def _direction(h: Float64Array) -> tuple[float, float]:
    """Cosine and sine of the angle of h [2]; (1, 0) on the axis."""
    radius = float(np.hypot(*h))
    return (float(h[0]) / radius, float(h[1]) / radius) if radius > 0 else (1.0, 0.0)


def _meridional(s: Float64Array, h: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Points in the frame whose x axis points along h, and the turns [N, 2, 2] that lead back."""
    radius = np.hypot(h[:, 0], h[:, 1])
    with np.errstate(invalid="ignore", divide="ignore"):
        x = np.where(radius > 0, h[:, 0] / radius, 1.0)
        y = np.where(radius > 0, h[:, 1] / radius, 0.0)
    turn = np.stack([np.stack([x, -y], axis=-1), np.stack([y, x], axis=-1)], axis=1)
    return np.einsum("nij,ni->nj", turn, s), turn
