"""Reading a `FieldTable`: all grids at a place of the picture, or what it says of one lens point there."""

import numpy as np

from bokehsynth.rendering.aperture.field_grid import AX, AY, DISTANCE, SIDE, WEIGHT, turned
from bokehsynth.rendering.jit import always_inline_kernel, inline_kernel, kernel


@inline_kernel
def place_of(table, y, x):
    """Nodes around pixel (y, x), which may lie beyond the last ones: the first row and column, and the place behind it.

    Returns (row, column, v, u, cosine, sine); the turn is that of the meridional frame, (1, 0) where the table is not
    `round`.
    """
    ny, nx = table.values.shape[0], table.values.shape[1]
    if table.round:
        dx, dy = x - table.centre[0], y - table.centre[1]
        radius = np.hypot(dx, dy)
        i = min(int(radius / table.step), nx - 2)
        if radius == 0:
            return 0, i, 0.0, 0.0, 1.0, 0.0
        return 0, i, 0.0, radius / table.step - i, dx / radius, dy / radius
    px, py = x / table.step, y / table.step
    i, j = max(min(int(px), nx - 2), 0), max(min(int(py), ny - 2), 0)
    return j, i, py - j, px - i, 1.0, 0.0


@kernel
def grids_at(table, y, x, out):
    """Fill float32 [C, 4, SIDE * SIDE] with the grids at pixel (y, x); returns their turn (cosine, sine).

    What they say is turned by it: a lens point s and its aberration stand in the picture's frame as R(turn) s.
    """
    j, i, v, u, cosine, sine = place_of(table, y, x)
    near, far, last = np.float32(u), np.float32(v), table.values.shape[1] - 2
    for c in range(out.shape[0]):
        for row in range(4):
            here, after = table.values[j, i, c, row], table.values[j, i + 1, c, row]
            if table.round and row < WEIGHT and 0 < i < last:
                _cubic(table.values[0, i - 1, c, row], here, after, table.values[0, i + 2, c, row], near, out[c, row])
                continue
            _linear(here, after, near, out[c, row])
            if not table.round:
                _bilinear(table.values[j + 1, i, c, row], table.values[j + 1, i + 1, c, row], near, far, out[c, row])
    return cosine, sine


@kernel
def _linear(a, b, t, out):
    for k in range(SIDE * SIDE):
        out[k] = a[k] + t * (b[k] - a[k])


@kernel
def _bilinear(a, b, t, v, out):
    """Go on from what is in `out` to the next row of nodes."""
    for k in range(SIDE * SIDE):
        out[k] += v * (a[k] + t * (b[k] - a[k]) - out[k])


@kernel
def _cubic(a, b, d, e, t, out):
    """Lagrange's polynomial through four nodes, t behind the second: float32 as all of a table."""
    one, two = np.float32(1), np.float32(2)
    sixth = t * (one - t) / np.float32(6)
    before, behind = sixth * (two - t), sixth * (one + t)
    for k in range(SIDE * SIDE):
        out[k] = b[k] + t * (d[k] - b[k]) - before * (a[k] - two * b[k] + d[k]) - behind * (b[k] - two * d[k] + e[k])


@kernel
def grids_in_picture(table, y, x, spare, out):
    """`grids_at` in the picture's frame; `spare`: as large as `out`."""
    if not table.round:
        grids_at(table, y, x, out)
        return
    turn = grids_at(table, y, x, spare)
    turned(spare, turn, table.half, out)


@inline_kernel
def columns_at(table, place, sx, sy, c):
    """Return the four columns of channel c at a lens point of the picture's frame; place: of `place_of`."""
    j, i, v, u, cosine, sine = place
    scale = (SIDE - 1) / (2 * table.half)
    px = min(max((cosine * sx + sine * sy + table.half) * scale, 0.0), SIDE - 1.0)
    py = min(max((cosine * sy - sine * sx + table.half) * scale, 0.0), SIDE - 1.0)
    column, row = min(int(px), SIDE - 2), min(int(py), SIDE - 2)
    at, right, down = row * SIDE + column, np.float32(px - column), np.float32(py - row)
    t = np.float32(u)
    ax, ay, weight, distance = _four(table.values, j, i, c, at, right, down)
    more = _four(table.values, j, i + 1, c, at, right, down)
    ax, ay = ax + t * (more[0] - ax), ay + t * (more[1] - ay)
    weight, distance = weight + t * (more[2] - weight), distance + t * (more[3] - distance)
    if not table.round:
        below, b = j + 1, np.float32(v)
        first, last = (
            _four(table.values, below, i, c, at, right, down),
            _four(table.values, below, i + 1, c, at, right, down),
        )
        ax, ay = (
            ax + b * (first[0] + t * (last[0] - first[0]) - ax),
            ay + b * (first[1] + t * (last[1] - first[1]) - ay),
        )
        weight += b * (first[2] + t * (last[2] - first[2]) - weight)
        distance += b * (first[3] + t * (last[3] - first[3]) - distance)
    along, across = np.float32(cosine), np.float32(sine)
    return along * ax - across * ay, across * ax + along * ay, weight, distance


@always_inline_kernel
def _four(values, j, i, c, at, right, down):
    """What a grid says between four of its points."""
    one = np.float32(1)
    shares = (one - right) * (one - down), right * (one - down), (one - right) * down, right * down
    return (
        _point(values, j, i, c, AX, at, shares), _point(values, j, i, c, AY, at, shares),
        _point(values, j, i, c, WEIGHT, at, shares), _point(values, j, i, c, DISTANCE, at, shares),
    )  # fmt: skip


@always_inline_kernel
def _point(values, j, i, c, row, at, shares):
    upper = shares[0] * values[j, i, c, row, at] + shares[1] * values[j, i, c, row, at + 1]
    lower = shares[2] * values[j, i, c, row, at + SIDE] + shares[3] * values[j, i, c, row, at + SIDE + 1]
    return upper + lower


@always_inline_kernel
def in_cell(values, at, u, v):
    """Values of a grid's points, at a place in the cell of point `at`."""
    upper = values[at] + u * (values[at + 1] - values[at])
    lower = values[at + SIDE] + u * (values[at + SIDE + 1] - values[at + SIDE])
    return upper + v * (lower - upper)


@kernel
def look_up(table, s, x, y):
    """Columns of lens points s [N, 2] at pixels (x, y) [N] of the picture: float32 [N, C, 4]."""
    out = np.empty((len(s), table.values.shape[2], 4), np.float32)
    for n in range(len(s)):
        place = place_of(table, y[n], x[n])
        for c in range(out.shape[1]):
            here = columns_at(table, place, s[n, 0], s[n, 1], c)
            for column in range(4):
                out[n, c, column] = here[column]
    return out
