"""What the fast backends know of an aperture: its outline, its transmission, and sets of rays, baked once."""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.optics import Aperture, SameAperture
from bokehsynth.optics.prescription.aperture import PrescriptionAperture
from bokehsynth.optics.pupil_parts import PupilPart
from bokehsynth.rendering.aperture.field_moments import FieldMoments, moments_of
from bokehsynth.rendering.aperture.field_motion import FieldMotion, motion_of
from bokehsynth.rendering.aperture.field_reach import FieldReach
from bokehsynth.rendering.aperture.field_table import (
    FieldTable,
    bake_field_table,
    channels_of,
    open_share,
)
from bokehsynth.rendering.aperture.footprint_kernel import UNVIGNETTED, ApertureShape, density_kernel
from bokehsynth.rendering.aperture.lens_points import (
    LensPoints,
    bake,
    check_inside,
    check_weights,
    concentric_grid,
    needs_field_table,
    smallest_side,
    vogel_points,
)
from bokehsynth.rendering.aperture.outline import simplify_outline, trace_outline
from bokehsynth.rendering.aperture.scanlines import scan
from bokehsynth.rendering.types import Float64Array, FloatArray, IntArray

_TRANSMISSION_SIDE = 257
"""Points per side of a varying transmission's table; looked up bilinearly."""

_FINEST = 2048
"""Largest side of a grid in which lens points are looked for."""


class LensTables:
    """Tables of one aperture, each made when first asked for. The aperture must not change afterwards."""

    def __init__(self, aperture: Aperture) -> None:
        self.aperture = aperture
        self._grids: dict[int, LensPoints] = {}
        self._ray_sets: dict[int, RaySet] = {}
        self._single_grids: dict[int, RaySet] = {}

    @cached_property
    def outline(self) -> Float64Array:
        """Directed segments of the opening's boundary, [V, 4]."""
        return trace_outline(self.aperture)

    @cached_property
    def coarse_outline(self) -> Float64Array:
        """The outline with as few segments as keep within 1e-4 of it, for kernels that are made by the thousand."""
        return simplify_outline(self.outline, 1e-4)

    @property
    def opening(self) -> ApertureShape:
        """What footprint kernels are made from."""
        return ApertureShape(self.outline, self.detail, self.transmission)

    @property
    def uniform(self) -> bool:
        """Whether the same light passes through all of the opening."""
        return self.channels == 1 and self.transmission.shape == (1, 1, 1)

    @property
    def channels(self) -> int:
        """1 where R, G and B are treated alike, 3 where not."""
        return len(self.transmission)

    @cached_property
    def full(self) -> bool:
        """Whether the opening is the whole unit disc: then its edge is that of every grid of lens points."""
        return bool(np.asarray(self.aperture.inside(vogel_points(4096)), np.bool_).all())

    @cached_property
    def detail(self) -> int:
        """How many times closer than a disc the opening must be scanned: corners, holes and uneven glass need it.

        Doubled until twice as many sub-rows change no weight of a test kernel by more than 5e-4 of the largest.
        """
        last = None
        for power in range(6):
            opening = ApertureShape(self.outline, 2**power, self.transmission)
            lines = scan(self.outline, 3.3, 0.1, 0.05, opening.detail)
            kernel = density_kernel(lines, opening, 3.3, 0.1, 0.05, UNVIGNETTED[0], 8)
            if last is not None and np.abs(kernel - last).max() < 5e-4 * kernel.max():
                return int(2 ** (power - 1))
            last = kernel
        return 32

    @cached_property
    def transmission(self) -> FloatArray:
        """Transmission over the square -1..1 of lens points, float32 [C, T, T]; [1, 1, 1] where it is uniform.

        C is 1, or 3 if the channels differ. Beyond the opening its values go on for a few points, so that a lookup at
        the rim is not mixed with what no ray sees.
        """
        points = self.grid(64).points
        weights = check_weights(self.aperture, points)
        if (weights == weights[0, 0]).all():
            return np.ones((1, 1, 1), np.float32)
        channels = 1 if (weights == weights[:, :1]).all() else 3
        line = np.linspace(-1, 1, _TRANSMISSION_SIDE)
        x, y = (a.ravel() for a in np.meshgrid(line, line))
        square = np.stack([x, y], axis=1)
        inside = np.einsum("ij,ij->i", square, square) <= 1
        inside[inside] = np.asarray(self.aperture.inside(square[inside]), np.bool_)
        table = np.zeros((channels, len(square)))
        table[:, inside] = check_weights(self.aperture, square[inside]).T[:channels]
        shape = (_TRANSMISSION_SIDE, _TRANSMISSION_SIDE)
        return _continued(table.reshape(channels, *shape), inside.reshape(shape)).astype(np.float32)

    def grid(self, side: int) -> LensPoints:
        """Bake at least 95 % of side**2 effective rays, (sum w)^2 / sum w^2 in every channel that passes light.

        A grid of that side for a full disc, a finer one for a narrow or uneven opening.
        """
        if side not in self._grids:
            finer = side
            while True:
                table = _bake_or_none(self.aperture, finer)
                effective = 0.0 if table is None else _effective(table.weights)
                if table is not None and effective >= 0.95 * side**2:
                    break
                if finer >= _FINEST:
                    raise UsageError(
                        f"{type(self.aperture).__name__} lets almost no light through: a grid of {finer} x {finer} "
                        f"lens points holds only {effective:.0f} effective rays; widen the opening or even its weights"
                    )
                grown = 2.0 if effective == 0 else min(2.0, 1.01 * side / np.sqrt(effective))
                finer = min(_FINEST, max(finer + 2, round(finer * grown)))
            self._grids[side] = table
        return self._grids[side]

    def ray_set(self, samples: int | None, largest: int) -> "RaySet":
        """The sets of rays that tiles may ask for: of all sides up to `largest`, or one of at least `samples`."""
        if samples is None:
            return self.ray_sets_by_size(largest)
        return self.rays(smallest_side(samples, self.grid))

    def rays(self, side: int) -> "RaySet":
        """One grid, for every tile that needs rays. The same object for the same side: devices keep it."""
        if side not in self._single_grids:
            table = self.grid(side)
            weights = np.ascontiguousarray(table.weights.T[: self.channels])
            self._single_grids[side] = RaySet(table.points, weights, np.array([(0, len(table.points))], np.int64))
        return self._single_grids[side]

    def ray_sets_by_size(self, largest: int) -> "RaySet":
        """Grids of growing side up to `largest` or a little more, end to end; a tile takes the one it needs."""
        sides = _sides_up_to(largest)
        if sides[-1] not in self._ray_sets:
            tables = [self.grid(side) for side in sides]
            ends = np.cumsum([0] + [len(table.points) for table in tables])
            step = np.searchsorted(sides, np.arange(sides[-1] + 1))
            weights = np.concatenate([table.weights for table in tables]).T[: self.channels]
            self._ray_sets[sides[-1]] = RaySet(
                np.concatenate([table.points for table in tables]),
                np.ascontiguousarray(weights),
                np.ascontiguousarray(np.stack([ends[step], ends[step + 1]], axis=1)),
            )
        return self._ray_sets[sides[-1]]


class HalfTables(LensTables):
    """Tables of one of two parts of an opening, whose rays are those of the whole: what rays miss adds up as well."""

    def __init__(self, half: PupilPart) -> None:
        super().__init__(half)
        self.whole = half.whole

    def grid(self, side: int) -> LensPoints:
        """The rays of the whole's grid that pass, weighted by what passes."""
        if side not in self._grids:
            points = tables_of(self.whole).grid(side).points
            points = np.ascontiguousarray(points[check_inside(self.aperture, points)])
            weights = check_weights(self.aperture, points)
            if len(points) == 0 or weights.sum() <= 0:
                raise UsageError(f"a part of {type(self.whole).__name__} lets no light through")
            self._grids[side] = LensPoints(points, np.ascontiguousarray(weights, dtype=np.float32))
        return self._grids[side]


class FieldLensTables(LensTables):
    """Tables of an aperture that `field_table` bakes: rays of equal weight, what they do is in the table."""

    def __init__(self, aperture: Aperture) -> None:
        super().__init__(aperture)
        self._field_tables: dict[tuple[int, int], FieldTable] = {}
        self._motions: dict[tuple[int, int], FieldMotion] = {}
        self._moments: dict[tuple[int, int], FieldMoments] = {}
        self._reaches: dict[tuple[int, int, int], FieldReach] = {}

    @property
    def uniform(self) -> bool:
        """Never: what passes is in the field's table."""
        return False

    @cached_property
    def channels(self) -> int:
        """1 where R, G and B are treated alike, 3 where not."""
        return channels_of(self.aperture)

    def field_table(self, width: int, height: int) -> FieldTable:
        """The table for pictures of a size; those of the last two sizes are kept."""
        if (width, height) not in self._field_tables:
            while len(self._field_tables) > 1:
                del self._field_tables[next(iter(self._field_tables))]
            self._field_tables[width, height] = bake_field_table(self.aperture, width, height, self.channels)
        return self._field_tables[width, height]

    def motion(self, width: int, height: int) -> FieldMotion:
        """How fast the table for pictures of a size changes; that of the last two sizes is kept."""
        if (width, height) not in self._motions:
            while len(self._motions) > 1:
                del self._motions[next(iter(self._motions))]
            self._motions[width, height] = motion_of(self.field_table(width, height))
        return self._motions[width, height]

    def moments(self, width: int, height: int) -> FieldMoments | None:
        """Moments of blocks of the table's cells; None of a table that is not `round`."""
        table = self.field_table(width, height)
        if not table.round:
            return None
        if (width, height) not in self._moments:
            while len(self._moments) > 1:
                del self._moments[next(iter(self._moments))]
            self._moments[width, height] = moments_of(table)
        return self._moments[width, height]

    def reach(self, width: int, height: int, largest: float) -> FieldReach | None:
        """How far rays land at blur radii up to `largest` px, None if that depends on the direction of the field."""
        table = self.field_table(width, height)
        if not table.round:
            return None
        power = math.ceil(math.log2(max(largest, 1.0)))
        key = width, height, power
        if key not in self._reaches:
            while len(self._reaches) > 3:
                del self._reaches[next(iter(self._reaches))]
            self._reaches[key] = FieldReach(table, 2.0**power)
        return self._reaches[key]

    @cached_property
    def _share(self) -> float:
        return max(open_share(self.aperture), 0.1)

    def grid(self, side: int) -> LensPoints:
        """Bake about side**2 rays that pass at the picture's centre, or as many as pass elsewhere."""
        if side not in self._grids:
            points = self.aperture.extent * concentric_grid.__wrapped__(round(side / math.sqrt(self._share)))
            points = np.ascontiguousarray(points[check_inside(self.aperture, points)])
            if len(points) == 0:
                raise UsageError(f"{type(self.aperture).__name__} lets no light through: it opens to no lens point")
            self._grids[side] = LensPoints(points, np.ones((len(points), 3), np.float32))
        return self._grids[side]


@lru_cache(maxsize=256)
def _sides_up_to(largest: int) -> tuple[int, ...]:
    """Sides of grids in steps of an eighth, up to `largest` or a little more: few scenes ask for a set of their own."""
    sides = [2]
    while sides[-1] < largest:
        sides.append(sides[-1] + 2 * max(1, sides[-1] // 16))
    return tuple(sides)


@dataclass(frozen=True, eq=False)
class RaySet:
    """points float64 [N, 2], weights float32 [C, N]; spans int64 [S, 2]: first and last + 1 ray of the grid for a side.

    With one span that is the grid for all sides; otherwise spans[side], up to the largest.
    """

    points: Float64Array
    weights: FloatArray
    spans: IntArray

    @property
    def channels_passed(self) -> IntArray:
        """Whether R, G and B pass at all, int64 [3]."""
        passes = (self.weights > 0).any(axis=1)
        return np.broadcast_to(passes, 3).astype(np.int64)


def _bake_or_none(aperture: Aperture, side: int) -> LensPoints | None:
    try:
        return bake(aperture, side)
    except UsageError:
        if side >= _FINEST:
            raise
        return None  # no point of so coarse a grid lies in a narrow opening


def _effective(weights: FloatArray) -> float:
    total, square = weights.sum(axis=0, dtype=np.float64), np.square(weights, dtype=np.float64).sum(axis=0)
    return float(min(t * t / s for t, s in zip(total, square, strict=True) if s > 0))


def _continued(table: Float64Array, known: "np.ndarray[tuple[int, int], np.dtype[np.bool_]]") -> Float64Array:
    """Values [C, T, T] carried three points beyond where they are known, as means of known neighbours."""
    for _ in range(3):
        total, count = np.zeros_like(table), np.zeros(known.shape)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                seen = np.roll(known, (dy, dx), axis=(0, 1))
                total += np.roll(table, (dy, dx), axis=(1, 2)) * seen
                count += seen
        grown = ~known & (count > 0)
        table = np.where(grown, total / np.maximum(count, 1), table)
        known = known | grown
    return table


def tables_of(aperture: Aperture) -> LensTables:
    """The tables of an aperture, kept by equality where its own class defines it, by identity otherwise.

    An inherited equality does not count: it would not see what the subclass added.
    """
    whole = aperture.whole if isinstance(aperture, PupilPart) else aperture
    if isinstance(whole, PrescriptionAperture):
        return _kept_traced(SameAperture(aperture))
    if "__eq__" in vars(type(aperture)):
        try:
            return _kept_equal(aperture)
        except TypeError:  # equal, but not hashable
            return _tables(aperture)
    return _kept_same(SameAperture(aperture))


@lru_cache(maxsize=32)
def _kept_equal(aperture: Aperture) -> LensTables:
    return _tables(aperture)


@lru_cache(maxsize=32)
def _kept_same(key: SameAperture) -> LensTables:
    return _tables(key.aperture)


@lru_cache(maxsize=8)
def _kept_traced(key: SameAperture) -> LensTables:
    """Few: these lenses are made for one sample each, and their tables take 5 MB for each of two sizes of pictures."""
    return _tables(key.aperture)


def _tables(aperture: Aperture) -> LensTables:
    if needs_field_table(aperture):
        return FieldLensTables(aperture)
    if isinstance(aperture, PupilPart) and aperture.column.count * aperture.row.count == 2:
        return HalfTables(aperture)
    return LensTables(aperture)
