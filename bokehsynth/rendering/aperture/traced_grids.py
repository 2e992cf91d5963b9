"""Grids of a `FieldTable` for traced lenses: as `field_table` asks for them, all polynomials of a node in one product.

A traced lens looks the same from all sides, so its nodes lie on one ray from the picture's centre. Rims are looked for
by a compiled search along the grid's lines, which asks each colour for its own points alone.
"""

import numpy as np
import numpy.typing as npt

from bokehsynth.errors import UsageError
from bokehsynth.optics.prescription.aperture import PrescriptionAperture
from bokehsynth.optics.prescription.field_point import FieldPoint
from bokehsynth.rendering.aperture.field_grid import AX, AY, DISTANCE, SIDE, WEIGHT, carried_on, distances
from bokehsynth.rendering.jit import inline_kernel, kernel
from bokehsynth.rendering.types import Float64Array, FloatArray

BoolArray = npt.NDArray[np.bool_]


class TracedGrids:
    """Grids of a traced lens's nodes."""

    def __init__(self, aperture: PrescriptionAperture, half: float, bisections: int) -> None:
        """Make ready for grids whose points reach to `half`; rims are found by so many bisections of a cell."""
        self.aperture, self.bisections = aperture, bisections
        self.line = np.linspace(-half, half, SIDE)
        self.s = np.stack(np.meshgrid(self.line, self.line), axis=-1).reshape(-1, 2)
        here = aperture.at_field(0.0)
        self.within = np.asarray(aperture.inside(self.s), np.bool_)
        self.powers = here.monomials(self.s[self.within])
        radius = np.hypot(*self.s.T)
        self.beyond = radius > aperture.extent
        rim = self.s * np.minimum(1, aperture.extent / np.maximum(radius, 1e-9))[:, None]
        mirrored = 2 * rim[self.beyond] - self.s[self.beyond]
        self.rays = here.monomials(np.concatenate([rim, mirrored]))

    def at(self, radius: float) -> FloatArray:
        """The grids of the node at abs(h) = radius, float32 [3, 4, SIDE * SIDE]."""
        here = self.aperture.at_field(radius)
        weights = np.zeros((len(self.s), 3))
        weights[self.within] = here.weight_of(self.s[self.within], self.powers)
        shift = self._aberration(here)
        if not np.isfinite(shift[(weights > 0).any(axis=1)]).all():
            raise UsageError(f"{self.aperture!r}: no finite aberration where light passes, at abs(h) = {radius:.3f}")
        out = np.empty((3, 4, SIDE * SIDE), np.float32)
        out[:, [AX, AY]] = np.nan_to_num(shift).transpose(1, 2, 0)
        opened = np.ascontiguousarray((weights > 0).T.reshape(3, SIDE, SIDE))
        lens = (here.weight, here.rims, here.bounds, np.square(here.inner), self.aperture.extent**2)
        across, down = rim_crossings(opened, self.line, lens, self.bisections)
        for c in range(3):
            out[c, WEIGHT] = carried_on(weights[:, c].reshape(SIDE, SIDE), opened[c]).ravel()
            out[c, DISTANCE] = distances(opened[c], across[c], down[c], self.line[1] - self.line[0]).ravel()
        return out

    def _aberration(self, here: FieldPoint) -> Float64Array:
        """Pixels [SIDE * SIDE, 3, 2]; beyond the extent straight on through its rim."""
        asked = here.aberration_of(self.rays)
        shift = asked[: len(self.s)].copy()
        shift[self.beyond] = 2 * shift[self.beyond] - asked[len(self.s) :]
        return shift


@kernel
def rim_crossings(opened, line, lens, bisections):
    """Where rims cross grid lines, across [C, SIDE, SIDE - 1] and down [C, SIDE - 1, SIDE]: 0..1, NaN where none does.

    lens: weight, rims and bounds of a `FieldPoint`, squares of its inner shares and of the aperture's extent.
    """
    channels, side = opened.shape[0], len(line)
    across = np.full((channels, side, side - 1), np.nan)
    down = np.full((channels, side - 1, side), np.nan)
    powers = np.empty((2, 16))
    for c in range(channels):
        for j in range(side):
            for i in range(side):
                begin = opened[c, j, i]
                if i < side - 1 and opened[c, j, i + 1] != begin:
                    step = line[i + 1] - line[i], 0.0
                    across[c, j, i] = _crossing((line[i], line[j]), step, begin, lens, c, bisections, powers)
                if j < side - 1 and opened[c, j + 1, i] != begin:
                    step = 0.0, line[j + 1] - line[j]
                    down[c, j, i] = _crossing((line[i], line[j]), step, begin, lens, c, bisections, powers)
    return across, down


@inline_kernel
def _crossing(start, step, begin, lens, c, bisections, powers):
    """Share of a step from a grid point after which rays stop passing, or begin to."""
    low, high = 0.0, 1.0
    for _ in range(bisections):
        middle = (low + high) / 2
        if _passes(start[0] + middle * step[0], start[1] + middle * step[1], lens, c, powers) == begin:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@inline_kernel
def _passes(x, y, lens, c, powers):
    """Whether light of colour c passes at a lens point; powers: memory of two rows of those of x and y."""
    weight, rims, bounds, inner, extent = lens
    if not (x * x + y * y <= extent and bounds[c, 0] <= x <= bounds[c, 1] and bounds[c, 2] <= y <= bounds[c, 3]):
        return False
    if not np.hypot(x, y) <= bounds[c, 4]:
        return False
    count, degree = weight.shape[1], 0
    while (degree + 1) * (degree + 2) < 2 * count:
        degree += 1
    powers[0, 0], powers[1, 0] = 1.0, 1.0
    for k in range(degree):
        powers[0, k + 1], powers[1, k + 1] = powers[0, k] * x, powers[1, k] * y
    for rim in range(rims.shape[2]):
        at_x, at_y, k = 0.0, 0.0, 0
        for i in range(degree + 1):
            for j in range(degree + 1 - i):
                term = powers[0, i] * powers[1, j]
                at_x += term * rims[c, k, rim, 0]
                at_y += term * rims[c, k, rim, 1]
                k += 1
        square = at_x * at_x + at_y * at_y
        if square > 1 or square < inner[rim]:
            return False
    light, k = 0.0, 0
    for i in range(degree + 1):
        for j in range(degree + 1 - i):
            light += powers[0, i] * powers[1, j] * weight[c, k]
            k += 1
    return light > 0
