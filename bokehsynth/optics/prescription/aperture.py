"""The opening of a traced lens: aberration and transmission from its table."""

from collections.abc import Callable

import numpy as np

from bokehsynth.optics.apertures import Aperture, Array, BoolArray, Float64Array
from bokehsynth.optics.prescription.bake import LensTable
from bokehsynth.optics.prescription.polynomials import degree_of, monomials

_CHUNK = 8192
"""Rays evaluated at once: their coefficients stay within a few MB."""


class PrescriptionAperture(Aperture):
    """What a real lens at one stop and focus does to rays, for pictures of one size. Made by `Prescription.at`."""

    def __init__(self, table: LensTable, name: str) -> None:
        self.table, self.name = table, name
        self.extent = table.extent

    def __repr__(self) -> str:
        return f"PrescriptionAperture({self.name!r})"

    def inside(self, s: Float64Array) -> BoolArray:
        """The disc that holds every opening; `weight` says what passes where."""
        return np.einsum("ij,ij->i", s, s) <= self.extent**2

    def aberration(self, s: Float64Array, h: Array) -> Array:
        """Pixels for R, G, B, [N, 3, 2]."""
        return _in_chunks(self._aberration, s, np.asarray(h, np.float64), (3, 2))

    def weight(self, s: Float64Array, h: Array) -> Array:  # type: ignore[override]
        """Light per area of s for R, G, B, [N, 3], relative to green on the axis; 0 where a rim stops the ray."""
        return _in_chunks(self._weight, s, np.asarray(h, np.float64), (3,))

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
        if len(h) > 1 and (h == h[0]).all():
            shares = [_cubic_share(row, place[:1]) for row in range(4)]
            mixed = sum(share * table[low[0] + row] for row, share in enumerate(shares))
            return np.tensordot(monomials(s, degree_of(table.shape[2])), mixed, axes=([1], [1]))
        powers, total = monomials(s, degree_of(table.shape[2])), np.zeros((len(s), *table.shape[1:2], *table.shape[3:]))
        for row in range(4):
            share = _cubic_share(row, place)
            total += np.einsum("nk,nck...->nc...", powers * share[:, None], table[low + row])
        return total


def _cubic_share(row: int, place: Float64Array) -> Float64Array:
    """Lagrange's weight of row 0..3 at places between them."""
    others = [other for other in range(4) if other != row]
    result: Float64Array = np.prod([(place - other) / (row - other) for other in others], axis=0)
    return result


def _meridional(s: Float64Array, h: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Points in the frame whose x axis points along h, and the turns [N, 2, 2] that lead back."""
    radius = np.hypot(h[:, 0], h[:, 1])
    with np.errstate(invalid="ignore", divide="ignore"):
        x = np.where(radius > 0, h[:, 0] / radius, 1.0)
        y = np.where(radius > 0, h[:, 1] / radius, 0.0)
    turn = np.stack([np.stack([x, -y], axis=-1), np.stack([y, x], axis=-1)], axis=1)
    return np.einsum("nij,ni->nj", turn, s), turn


def _in_chunks(
    evaluate: Callable[[Float64Array, Float64Array], Float64Array],
    s: Float64Array,
    h: Float64Array,
    tail: tuple[int, ...],
) -> Float64Array:
    out = np.empty((len(s), *tail))
    for start in range(0, len(s), _CHUNK):
        part = slice(start, start + _CHUNK)
        out[part] = evaluate(s[part], h[part])
    return out
