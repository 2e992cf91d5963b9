"""Grids of lens points of a `FieldTable`: distances to a rim, weights beyond it, and turning them over the field."""

import numpy as np

from bokehsynth.rendering.jit import kernel
from bokehsynth.rendering.types import FloatArray

SIDE = 37
"""Lens points per side of a grid: an aberration c s^3 is met to 3 c / 4 / 16^2 px."""

AX, AY, WEIGHT, DISTANCE = range(4)
"""Rows of a table."""

FAR = 1e9
"""Cells to a rim that was not met yet."""


@kernel
def distances(opened, across, down, cell):
    """Signed distance of every grid point to the rim, > 0 inside; -1 everywhere where nothing is open.

    Beside the rim that of a straight line through the crossings of its grid lines, `across` along rows and `down` along
    columns; farther away by fast sweeping (Zhao 2005) of the eikonal equation.
    """
    side = len(opened)
    d = np.empty((side, side))
    for j in range(side):
        for i in range(side):
            dx = min(_crossed(across, j, i - 1, True), _crossed(across, j, i, False))
            dy = min(_crossed(down, j - 1, i, True), _crossed(down, j, i, False))
            d[j, i] = min(dx, dy)
            if dx < FAR and dy < FAR:
                d[j, i] = dx * dy / max(np.hypot(dx, dy), 1e-12)
    fixed = d < FAR
    if not fixed.any():
        return np.full((side, side), -1.0)
    for sweep in range(8):
        for n in range(side):
            j = n if sweep & 1 == 0 else side - 1 - n
            for k in range(side):
                i = k if sweep & 2 == 0 else side - 1 - k
                if not fixed[j, i]:
                    d[j, i] = _swept(d, j, i)
    return np.where(opened, d, -d) * cell


@kernel
def _crossed(places, j, i, backwards):
    """Cells from a grid point to the crossing of the grid line that begins at (j, i); FAR without one."""
    if j < 0 or i < 0 or j >= places.shape[0] or i >= places.shape[1] or np.isnan(places[j, i]):
        return FAR
    return 1 - places[j, i] if backwards else places[j, i]


@kernel
def _swept(d, j, i):
    """The distance that follows from those of the four neighbours, in cells."""
    side = len(d)
    a = min(d[j, max(i - 1, 0)], d[j, min(i + 1, side - 1)])
    b = min(d[max(j - 1, 0), i], d[min(j + 1, side - 1), i])
    if min(a, b) >= FAR:
        return d[j, i]
    new = (a + b + np.sqrt(2 - (a - b) * (a - b))) / 2 if abs(a - b) < 1 else min(a, b) + 1
    return min(d[j, i], new)


@kernel
def carried_on(weights, opened):
    """Weights carried on ten points beyond the opening, as means of their neighbours: rims move between nodes."""
    side = len(weights)
    out, known = weights * opened, opened.copy()
    for _ in range(10):
        more, seen = out.copy(), known.copy()
        for j in range(side):
            for i in range(side):
                if known[j, i]:
                    continue
                total, count = 0.0, 0
                for y in range(max(j - 1, 0), min(j + 2, side)):
                    for x in range(max(i - 1, 0), min(i + 2, side)):
                        if known[y, x]:
                            total += out[y, x]
                            count += 1
                if count > 0:
                    more[j, i] = total / count
                    seen[j, i] = True
        out, known = more, seen
    return out


def bound_dark(values: FloatArray) -> None:
    """Bound the aberrations of lens points that light does not pass, in place: values float32 [F, C, 4, SIDE * SIDE].

    A formula says nothing of them, and polynomials run away: 1e6 px at the edge of a lens's image circle. Between two
    points or nodes they still weigh. At a node they reach twice as far at most as those of its light; a node without
    light has the aberrations of the last one with some, or of the first.
    """
    np.clip(values, -FAR, FAR, out=values)  # squares of float32 end at 1e19
    length = np.hypot(values[:, :, AX], values[:, :, AY])
    lit = (values[:, :, DISTANCE] > 0) & (values[:, :, WEIGHT] > 0)
    most = 2 * np.where(lit, length, 0).max(axis=-1)
    share = np.where(lit, 1, np.minimum(1, most[..., None] / np.maximum(length, 1e-6)))
    values[:, :, [AX, AY]] *= share[:, :, None].astype(np.float32)
    for c in range(values.shape[1]):
        bright = np.flatnonzero(lit[:, c].any(axis=-1))
        if len(bright) == 0:
            continue
        last = bright[np.maximum(np.searchsorted(bright, np.arange(len(values)), side="right") - 1, 0)]
        values[:, c, AX], values[:, c, AY] = values[last, c, AX], values[last, c, AY]


@kernel
def turned(grids, turn, half, out):
    """Fill float32 [C, 4, SIDE * SIDE] with grids of the meridional frame, whose x axis points along h, turned back.

    turn: cosine and sine of the angle of h. Weights are linear between the grid's points, since they may be rough; the
    rest is cubic.
    """
    cosine, sine = turn
    channels = grids.shape[0]
    scale = (SIDE - 1) / (2 * half)
    wx, wy = np.zeros((2, 4)), np.zeros((2, 4))
    for k in range(SIDE * SIDE):
        sx, sy = (k % SIDE) / scale - half, (k // SIDE) / scale - half
        px = min(max((cosine * sx + sine * sy + half) * scale, 0.0), SIDE - 1.0)
        py = min(max((cosine * sy - sine * sx + half) * scale, 0.0), SIDE - 1.0)
        i, j = min(int(px), SIDE - 2), min(int(py), SIDE - 2)
        _shares(px - i, wx)
        _shares(py - j, wy)
        for c in range(channels):
            ax, ay, weight, distance = 0.0, 0.0, 0.0, 0.0
            for dj in range(-1, 3):
                for di in range(-1, 3):
                    at = min(max(j + dj, 0), SIDE - 1) * SIDE + min(max(i + di, 0), SIDE - 1)
                    cubic = wx[0, di + 1] * wy[0, dj + 1]
                    ax += cubic * grids[c, AX, at]
                    ay += cubic * grids[c, AY, at]
                    distance += cubic * grids[c, DISTANCE, at]
                    weight += wx[1, di + 1] * wy[1, dj + 1] * grids[c, WEIGHT, at]
            out[c, AX, k], out[c, AY, k] = cosine * ax - sine * ay, sine * ax + cosine * ay
            out[c, WEIGHT, k], out[c, DISTANCE, k] = weight, distance


@kernel
def _shares(u, weights):
    """Weights of four points in a row at 0..1 between the second and the third: Catmull-Rom's and linear ones."""
    weights[0, 0] = u * (u * (2 - u) - 1) / 2
    weights[0, 1] = (u * u * (3 * u - 5) + 2) / 2
    weights[0, 2] = u * (u * (4 - 3 * u) + 1) / 2
    weights[0, 3] = u * u * (u - 1) / 2
    weights[1, 0], weights[1, 1], weights[1, 2], weights[1, 3] = 0.0, 1 - u, u, 0.0
