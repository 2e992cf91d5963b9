"""Apertures whose rays go astray, or whose weight changes over the picture, as tables over field and lens points.

At nodes of a lattice over the picture stands, for every channel, a square grid of lens points: the aberration, the
weight, carried on beyond the opening, and the signed distance to the opening's rim. Between nodes and grid points all
are linear; the distance moves a rim where a mask would fade it. What `inside`, `weight` and `pupil` stop is all in it.

Of an aperture that looks the same from all sides the nodes lie on one ray from the picture's centre, and its grids are
those of the meridional frame, whose x axis points along h (`field_lookup` reads both kinds).
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bokehsynth.errors import UsageError
from bokehsynth.optics import Aperture
from bokehsynth.optics.prescription.aperture import PrescriptionAperture
from bokehsynth.rendering.aperture.field_grid import AX, AY, DISTANCE, SIDE, WEIGHT, bound_dark, carried_on, distances
from bokehsynth.rendering.aperture.field_lookup import look_up
from bokehsynth.rendering.aperture.lens_points import check_inside, check_weights, vogel_points
from bokehsynth.rendering.aperture.traced_grids import TracedGrids
from bokehsynth.rendering.types import Float64Array, FloatArray

BoolArray = npt.NDArray[np.bool_]

SPARE = 2
"""Points of the grid beyond the opening's extent, for lookups at its rim."""

CELLS_ACROSS = SIDE - 1 - 2 * SPARE
"""Cells of the grid from one side of the opening to the other."""

FIELDS = 33
"""Field positions along the longer side of the picture; of an aperture that looks the same from all sides, abs(h)."""

_BISECTIONS = 8
"""A rim is found to a 1/256 of a cell, 1e-4 of the opening's radius."""

_GOOD_PX, _GOOD_SHARE = 0.15, 0.02
"""Largest root mean square of the error of an aberration between nodes, in px, or as a share of the largest aberration.
Of petzval-f1.4, the worst of the packaged lenses, wide open: 0.05 px of 11 px at 330 x 220 px, focused at 2 m, where
single rays at the rim are off by 0.65 px; 0.1 px of 17 px at 256 x 256 px, focused at infinity."""


class FieldTable(NamedTuple):
    """What an aperture does to rays, for pictures of one size."""

    values: FloatArray
    """float32 [ny, nx, C, 4, SIDE * SIDE]: rows AX .. DISTANCE, C = 1 or 3 channels. px; 1; 1; lens units."""
    step: float
    """Pixels between nodes; node (0, 0) is the picture's first pixel, or its centre where it is `round`."""
    half: float
    """Largest coordinate of the grid's lens points."""
    round: bool
    """Whether the nodes lie on a ray from the centre, ny = 1."""
    centre: tuple[float, float]
    """x and y of the picture's centre."""


def no_field_table(channels: int) -> FieldTable:
    """The table of lenses that have none: of no lens points."""
    return FieldTable(np.zeros((1, 1, channels, 4, 0), np.float32), 1.0, 1.0, False, (0.0, 0.0))


def bake_field_table(aperture: Aperture, width: int, height: int, channels: int) -> FieldTable:
    """Ask an aperture at all nodes. Raises UsageError if its aberration changes too fast for the table."""
    step = max(width - 1, height - 1, 1) / (FIELDS - 1)
    nx, ny = (math.ceil((side - 1) / step - 1e-9) + 1 for side in (width, height))
    half = aperture.extent * (1 + 2 * SPARE / CELLS_ACROSS)
    x, y = (np.arange(max(2, n)) * step - (side - 1) / 2 for n, side in ((nx, width), (ny, height)))
    h = np.stack(np.meshgrid(x, y), axis=-1) / (math.hypot(width, height) / 2)
    same = _same_from_all_sides(aperture)
    if same:
        corner = min(np.hypot(h[..., 0], h[..., 1]).max(), 1.0)  # the lattice may end beyond the picture's
        radii = np.linspace(0, corner, FIELDS)
        along = np.stack(_grids_along(aperture, half, channels, radii))
        bound_dark(along)
        values = along[None]
        step = float(radii[1]) * math.hypot(width, height) / 2
    else:
        baker = _Baker(aperture, half, channels)
        grids = [baker.grid_at(each) for each in h.reshape(-1, 2)]
        values = np.stack(grids).reshape(*h.shape[:2], channels, 4, SIDE * SIDE)
        if aperture.has_aberration:
            for row in values:
                bound_dark(row)
    table = FieldTable(values, step, half, same, ((width - 1) / 2, (height - 1) / 2))
    _check(aperture, table, (width, height))
    return table


def _grids_along(aperture: Aperture, half: float, channels: int, radii: Float64Array) -> list[FloatArray]:
    """The grids of nodes on the x axis, at these abs(h)."""
    if type(aperture) is PrescriptionAperture:
        lens = TracedGrids(aperture, half, _BISECTIONS)
        return [lens.at(float(radius)) for radius in radii]
    baker = _Baker(aperture, half, channels)
    return [baker.grid_at(np.array([radius, 0.0])) for radius in radii]


def channels_of(aperture: Aperture) -> int:
    """1 where R, G and B are treated alike, 3 where not."""
    points = _sample(aperture, 64)
    fields = np.stack(np.meshgrid(*2 * [np.linspace(-1, 1, 9)]), axis=-1).reshape(-1, 2) / math.sqrt(2)
    s, h = np.tile(points, (len(fields), 1)), np.repeat(fields, len(points), axis=0)
    if np.asarray(aperture.aberration(points, np.zeros_like(points))).ndim == 3:
        return 3
    weights = check_weights(aperture, s, h)
    return 1 if (weights == weights[:, :1]).all() else 3


def _sample(aperture: Aperture, count: int) -> Float64Array:
    """Return those of `count` lens points that `inside` accepts, [N, 2]."""
    points = aperture.extent * vogel_points(count)
    return np.asarray(points[check_inside(aperture, points)])


def open_share(aperture: Aperture) -> float:
    """Share of the disc of radius `extent` through which light passes at the picture's centre."""
    points = _sample(aperture, 4096)
    passes = (_weights(aperture, points, np.zeros(2)) > 0).any(axis=1)
    return float(passes.sum()) / 4096 if len(points) else 0.0


def _weights(aperture: Aperture, s: Float64Array, h: Float64Array) -> Float64Array:
    """Light of each channel that passes at lens points [N, 2] for a field position [2]: [N, 3], 0 where none does."""
    here = np.broadcast_to(h, s.shape)
    result = np.zeros((len(s), 3))
    passes = np.einsum("ij,ij->i", s, s) <= aperture.extent**2 * (1 + 1e-12)
    passes[passes] = check_inside(aperture, s[passes])
    for centre, radius in aperture.pupil_discs(here):
        passes &= np.hypot(*(s - centre).T) <= radius
    if passes.any():
        result[passes] = check_weights(aperture, s[passes], here[passes])
    return result


def aberrations(aperture: Aperture, s: Float64Array, h: Float64Array) -> Float64Array:
    """What `aberration` answers for lens points [N, 2] at field positions [N, 2], for R, G, B: [N, 3, 2]."""
    shift = np.asarray(aperture.aberration(s, h), np.float64)
    if shift.shape not in {(len(s), 2), (len(s), 3, 2)}:
        raise UsageError(
            f"{type(aperture).__name__}.aberration must return [N, 2] or [N, 3, 2], got shape {shift.shape}"
        )
    return np.repeat(shift[:, None], 3, axis=1) if shift.ndim == 2 else shift


class _Baker:
    """Asks an aperture for the grids of single nodes; what does not depend on the field only once."""

    def __init__(self, aperture: Aperture, half: float, channels: int) -> None:
        self.aperture, self.channels = aperture, channels
        self.line = np.linspace(-half, half, SIDE)
        self.s = np.stack(np.meshgrid(self.line, self.line), axis=-1).reshape(-1, 2)
        self._same: tuple[FloatArray, BoolArray] | None = None

    def grid_at(self, h: Float64Array) -> FloatArray:
        """One node's grids, float32 [C, 4, SIDE * SIDE]."""
        opening, lit = self._opening_at(h)
        shift = self._aberration_at(h)
        if not np.isfinite(shift[lit]).all():
            name = type(self.aperture).__name__
            raise UsageError(f"{name}.aberration must be finite where light passes, at h = {tuple(h.round(3))}")
        out = np.empty((self.channels, 4, SIDE * SIDE), np.float32)
        out[:, [WEIGHT, DISTANCE]] = opening.swapaxes(1, 2)
        out[:, [AX, AY]] = np.nan_to_num(shift[:, : self.channels]).transpose(1, 2, 0)
        return out

    def _aberration_at(self, h: Float64Array) -> Float64Array:
        """Pixels [SIDE * SIDE, 3, 2]; beyond the extent, where no lens points are, straight on through its rim."""
        if not self.aperture.has_aberration:
            return np.zeros((len(self.s), 3, 2))
        radius = np.hypot(*self.s.T)
        within = self.s * np.minimum(1, self.aperture.extent / np.maximum(radius, 1e-9))[:, None]
        beyond = radius > self.aperture.extent
        mirrored = np.where(beyond[:, None], 2 * within - self.s, within)
        points = np.concatenate([within, mirrored[beyond]])
        asked = aberrations(self.aperture, points, _rows(h, len(points)))
        shift = asked[: len(within)].copy()
        shift[beyond] = 2 * shift[beyond] - asked[len(within) :]
        return shift

    def _opening_at(self, h: Float64Array) -> tuple[FloatArray, BoolArray]:
        """Weights and distances [C, SIDE * SIDE, 2], and where light of any channel passes."""
        aperture = self.aperture
        changes = aperture.weight_depends_on_field or type(aperture).pupil is not Aperture.pupil
        if self._same is not None and not changes:
            return self._same
        weights = _weights(aperture, self.s, h)
        opened = weights > 0
        lit = np.asarray(opened.any(axis=1))
        across, down = self._crossings(opened.T.reshape(3, SIDE, SIDE)[: self.channels], h)
        out = np.empty((self.channels, SIDE * SIDE, 2), np.float32)
        for c in range(self.channels):
            is_open = np.ascontiguousarray(opened[:, c].reshape(SIDE, SIDE))
            out[c, :, 0] = carried_on(weights[:, c].reshape(SIDE, SIDE), is_open).ravel()
            out[c, :, 1] = distances(is_open, across[c], down[c], self.line[1] - self.line[0]).ravel()
        self._same = out, lit
        return out, lit

    def _crossings(self, opened: BoolArray, h: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Where the rim crosses grid lines, across [C, SIDE, SIDE - 1] and down [C, SIDE - 1, SIDE]: 0..1, else NaN."""
        s = np.broadcast_to(self.s.reshape(1, SIDE, SIDE, 2), (*opened.shape, 2))
        across, down = opened[:, :, :-1] != opened[:, :, 1:], opened[:, :-1] != opened[:, 1:]
        a = np.concatenate([s[:, :, :-1][across], s[:, :-1][down]])
        b = np.concatenate([s[:, :, 1:][across], s[:, 1:][down]])
        starts_open = np.concatenate([opened[:, :, :-1][across], opened[:, :-1][down]])
        channel = np.concatenate([np.nonzero(across)[0], np.nonzero(down)[0]])
        low, high = np.zeros(len(a)), np.ones(len(a))
        for _ in range(_BISECTIONS if len(a) else 0):
            middle = (low + high) / 2
            is_open = _weights(self.aperture, a + middle[:, None] * (b - a), h)[np.arange(len(a)), channel] > 0
            same = is_open == starts_open
            low, high = np.where(same, middle, low), np.where(same, high, middle)
        places = [np.full(where.shape, np.nan) for where in (across, down)]
        places[0][across], places[1][down] = np.split((low + high) / 2, [across.sum()])
        return places[0], places[1]


def _rows(h: Float64Array, count: int) -> Float64Array:
    return np.broadcast_to(h, (count, 2))


def _same_from_all_sides(aperture: Aperture) -> bool:
    """Whether turning lens points and field together turns the aberration and changes nothing else."""
    if type(aperture) is PrescriptionAperture:  # its table knows one direction of the field
        return True
    s = _sample(aperture, 500)
    radii = np.linspace(0.05, 1, len(s))
    h = radii[:, None] * vogel_points(len(s))[::-1] / np.hypot(*vogel_points(len(s))[::-1].T)[:, None]
    shift, weight = aberrations(aperture, s, h), _passed(aperture, s, h)
    for angle in (0.7, 2.1, 4.4):
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        turned = s @ turn.T
        if not check_inside(aperture, turned * (1 - 1e-9)).all():
            return False
        there = aberrations(aperture, turned, h @ turn.T)
        if not np.allclose(there, shift @ turn.T, atol=1e-6):
            return False
        same = np.isclose(_passed(aperture, turned, h @ turn.T), weight, rtol=1e-6, atol=1e-9).all(axis=1)
        if same.mean() < 0.99:  # at a rim rounding decides
            return False
    return True


def _passed(aperture: Aperture, s: Float64Array, h: Float64Array) -> Float64Array:
    """Weights [N, 3] of lens points at field positions, 0 where a rim stops them."""
    passes = np.ones(len(s), np.bool_)
    for centre, radius in aperture.pupil_discs(h):
        passes &= np.hypot(*(s - centre).T) <= radius
    result: Float64Array = check_weights(aperture, s, h) * passes[:, None]
    return result


def _check(aperture: Aperture, table: FieldTable, size: tuple[int, int]) -> None:
    """UsageError where the aberration between nodes is not what the table says."""
    if not aperture.has_aberration:
        return
    s = _sample(aperture, 600)
    place = (vogel_points(len(s))[::7][: len(s)] + 1) / 2  # as good as random, the same every time
    place = np.resize(place, (len(s), 2)) * (np.array(size) - 1)
    h = (place - (np.array(size) - 1) / 2) / (math.hypot(*size) / 2)
    lit = _passed(aperture, s, h).max(axis=1) > 0
    if not lit.any():
        return
    found = look_up(table, s[lit], place[lit, 0], place[lit, 1])[..., :2]
    expected = aberrations(aperture, s[lit], h[lit])[:, : found.shape[1]]
    off, size_of = (np.hypot(a[..., 0], a[..., 1]) for a in (found - expected, expected))
    error, largest = float(np.sqrt(np.square(off).mean())), float(size_of.max())
    if error > max(_GOOD_PX, _GOOD_SHARE * largest):
        way = "smooth it"
        if isinstance(aperture, PrescriptionAperture):
            way, edge = "stop the lens down, make the pictures smaller", float(aperture.table.fields[-1])
            if aperture.table.dark_beyond:
                way += f" or the sensor narrower (the lens's image ends at {edge:.0%} of the picture's half diagonal)"
        raise UsageError(
            f"{type(aperture).__name__}.aberration changes too fast for the tables of cpu: off by {error:.2g} px rms "
            f"between {SIDE} lens points and {FIELDS} field positions per side; {way}, or use backend='reference'"
        )
