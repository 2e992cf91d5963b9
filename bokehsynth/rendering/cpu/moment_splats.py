"""Kernels of nodes from `FieldMoments`: every block of a table's cells that lands narrowly sends one ray.

A ray has the light of its block, lands in the middle of it and is a box as wide as it. Blocks that land more than
WIDEST apart are split, into smaller blocks and at last into equal parts.
"""

import numpy as np

from bokehsynth.rendering.aperture.field_grid import SIDE
from bokehsynth.rendering.aperture.field_lookup import place_of
from bokehsynth.rendering.aperture.field_moments import (
    AA,
    BLOCKS,
    LIGHT,
    MEAN_AX,
    MEAN_AY,
    MEAN_SX,
    MEAN_SY,
    ROWS,
    SA,
    SS,
)
from bokehsynth.rendering.cpu.node_kernels import MOST, node_radius, splat
from bokehsynth.rendering.jit import always_inline_kernel, inline_kernel, kernel

WIDEST = 0.2, 0.52
"""Half the width in px at most of the box of a block that sends one ray, by level: of large blocks less, since rims cut
them to shapes that are no boxes. `splat` knows boxes up to 0.5, which these are cut to."""

LARGEST_BY_BLOCKS = 12.8
"""Blur radius in px, of an opening within the unit disc, up to which blocks serve: beyond, where those of two by two
cells are wider than 1.6 px, rims are better met cell by cell (`node_kernels.splat_grids`)."""

X, Y, WIDTH, HEIGHT, MOVED, XX, XY, YY = range(8)
"""Rows of where blocks land: px in the picture, half the width and height of their boxes; the radius that a tilted
plane has for them, and covariances in the meridional frame."""


@kernel
def splat_moment_nodes(table, moments, row, camera, area, out, norms):
    """`node_kernels.splat_table_nodes` from the `FieldMoments` of a `FieldTable` that is `round`."""
    place = -1
    for n in range(len(row.x)):
        if not row.wanted[n]:
            continue
        place += 1
        there = place_of(table, row.y, row.x[n])
        splat_moments(moments, there, node_radius(row, n, camera, area), row.half, out[place], norms[n])


@kernel
def splat_moments(moments, there, tilted, half, out, norms):
    """Fill kernels float32 [C, 2 half + 1, 2 half + 1] and their sums [C]; there: of `place_of`.

    tilted: (r, ex, ey), the signed blur radius and K g.
    """
    cosine, sine = there[4], there[5]
    turned = tilted[0], cosine * tilted[1] + sine * tilted[2], cosine * tilted[2] - sine * tilted[1]
    spacing, first = 2 * moments.half / (SIDE - 1), 0
    while first < len(BLOCKS) - 1 and BLOCKS[first] * spacing * abs(tilted[0]) > 2 * WIDEST[first]:
        first += 1
    cells = ((SIDE - 1) // BLOCKS[-1]) ** 2
    rows, landed = np.empty(ROWS * cells, np.float32), np.empty((8, cells), np.float32)
    split, parents = np.empty(cells, np.bool_), np.empty(cells, np.bool_)
    for c in range(out.shape[0]):
        out[c] = 0
        total = 0.0
        for level in range(first, len(BLOCKS)):
            side = (SIDE - 1) // BLOCKS[level]
            here = rows[: ROWS * side * side].reshape(ROWS, side * side)
            _between_nodes(moments.levels[level], there, c, here)
            _land(here, turned, (cosine, sine), landed)
            widest, last, any_split = np.float32(WIDEST[level]), level == len(BLOCKS) - 1, False
            for k in range(side * side):
                split[k] = False
                if level > first and not parents[k // side // 2 * (side // 2) + k % side // 2]:
                    continue
                weight = here[LIGHT, k]
                if weight <= 0:
                    continue
                if landed[WIDTH, k] <= widest and landed[HEIGHT, k] <= widest:
                    box = _box(landed[WIDTH, k], landed[HEIGHT, k])
                    total += splat(out, c, (landed[X, k], landed[Y, k]), box, half, weight)
                elif last:
                    total += _splat_parts(landed, k, (cosine, sine), weight, out, c, half)
                else:
                    split[k] = any_split = True
            if not any_split:
                break
            split, parents = parents, split
        norms[c] = total


@kernel
def _between_nodes(level, there, c, out):
    """Fill the moments [ROWS, blocks] of a channel between two nodes; means of aberrations are cubic, as they are in
    `field_lookup.grids_at`."""
    i, t, last = there[1], np.float32(there[3]), level.shape[0] - 2
    for row in range(ROWS):
        _linear(level[i, c, row], level[i + 1, c, row], t, out[row])
    if 0 < i < last:
        for row in (MEAN_AX, MEAN_AY):
            _bend(level[i - 1, c, row], level[i, c, row], level[i + 1, c, row], level[i + 2, c, row], t, out[row])


@kernel
def _linear(a, b, t, out):
    for k in range(len(out)):
        out[k] = a[k] + t * (b[k] - a[k])


@kernel
def _bend(a, b, d, e, t, out):
    """Go on from what is linear between b and d to Lagrange's polynomial through all four."""
    one, two = np.float32(1), np.float32(2)
    sixth = t * (one - t) / np.float32(6)
    before, behind = sixth * (two - t), sixth * (one + t)
    for k in range(len(out)):
        out[k] -= before * (a[k] - two * b[k] + d[k]) + behind * (b[k] - two * d[k] + e[k])


@kernel
def _land(here, turned, turn, out):
    """Fill rows X .. YY of where blocks land on a plane; turned: `tilted` in the meridional frame."""
    r, ex, ey = np.float32(turned[0]), np.float32(turned[1]), np.float32(turned[2])
    cosine, sine, one, three = np.float32(turn[0]), np.float32(turn[1]), np.float32(1), np.float32(3)
    count, moved = here.shape[1], out[MOVED]
    if ex == 0 and ey == 0:
        moved[:count] = r
    else:
        for k in range(count):
            lean = one - ex * here[MEAN_SX, k] - ey * here[MEAN_SY, k]
            moved[k] = (r + ex * here[MEAN_AX, k] + ey * here[MEAN_AY, k]) / lean
    for kind in range(3):
        _spread(here[SS + kind], here[SA + kind], here[AA + kind], moved, out[XX + kind])
    for k in range(count):
        x = here[MEAN_AX, k] + here[MEAN_SX, k] * moved[k]
        y = here[MEAN_AY, k] + here[MEAN_SY, k] * moved[k]
        out[X, k], out[Y, k] = cosine * x - sine * y, sine * x + cosine * y
    xx, xy, yy = three * cosine * cosine, three * cosine * sine, three * sine * sine
    _extents(out[XX], out[XY], out[YY], (xx, -xy - xy, yy), out[WIDTH], count)
    _extents(out[XX], out[XY], out[YY], (yy, xy + xy, xx), out[HEIGHT], count)


@kernel
def _spread(ss, sa, aa, moved, out):
    for k in range(len(ss)):
        out[k] = (ss[k] * moved[k] + sa[k]) * moved[k] + aa[k]


@kernel
def _extents(xx, xy, yy, shares, out, count):
    """Half the width of boxes as wide as their blocks: a box's variance is a third of its square."""
    a, b, d = shares
    for k in range(count):
        out[k] = np.sqrt(max(a * xx[k] + b * xy[k] + d * yy[k], np.float32(0)))


@always_inline_kernel
def _box(width, height):
    """A box as `splat` takes it."""
    least, most, quarter = np.float32(1 / 128), np.float32(0.5), np.float32(0.25)
    width, height = min(max(width, least), most), min(max(height, least), most)
    return width, height, quarter / width, quarter / height


@inline_kernel
def _splat_parts(landed, k, turn, weight, out, c, half):
    """Add a wide block's light, as so many boxes that each is narrow enough: parts of a parallelogram of its spread."""
    one, zero, three = np.float32(1), np.float32(0), np.float32(3)
    cosine, sine = np.float32(turn[0]), np.float32(turn[1])
    widest = max(landed[WIDTH, k], landed[HEIGHT, k])
    count = min(int(np.ceil(widest * np.float32(1 / WIDEST[-1]))), MOST)
    along = np.sqrt(max(three * landed[XX, k], np.float32(1e-12)))
    lean = three * landed[XY, k] / along
    across = np.sqrt(max(three * landed[YY, k] - lean * lean, zero))
    step, total = one / np.float32(count), zero
    box, part = _box(landed[WIDTH, k] * step, landed[HEIGHT, k] * step), weight * step * step
    for j in range(count):
        q = np.float32(2 * j + 1) * step - one
        for i in range(count):
            p = np.float32(2 * i + 1) * step - one
            x, y = p * along, p * lean + q * across
            ray = landed[X, k] + cosine * x - sine * y, landed[Y, k] + sine * x + cosine * y
            total += splat(out, c, ray, box, half, part)
    return total
