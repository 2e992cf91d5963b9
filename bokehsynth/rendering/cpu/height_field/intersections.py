"""Numba kernels of the height-field ray tracer: bounds of the layers on a tile, and where rays meet height fields.

Pixels lie on texels. For one lens point, therefore, all rays cross the lines between texels at the same values of
their parameter delta = d - d_f, and between two crossings every ray sees its own quadratic with shared coefficients
of position. So the inner loops run over neighbouring pixels, read memory in order, and find the first hit exactly: no
step size, no iteration to converge.

Height fields come as h = d - d_f, float32, d_f rounded to float32: a field in focus is exactly 0.
"""

from typing import NamedTuple

import numpy as np

from bokehsynth.rendering.cpu.tile_bounds import HIGH, LOW, OPAQUE, REACH, STATES, VISIBLE, plane_range
from bokehsynth.rendering.jit import inline_kernel, kernel
from bokehsynth.rendering.types import Float64Array, FloatArray, IntArray

BLOCK = 8
"""Side of the blocks of texels whose extremes are known."""

ZERO, ONE = np.float32(0), np.float32(1)
AT_THE_END = np.float32(1 - 1e-6)
"""A hit this close to a crossing is put on it, at most 1.5e-6 px away: delta = 0 is a crossing, and stays 0."""


class Surfaces(NamedTuple):
    """The layers of a picture on their canvas."""

    packed: FloatArray  # float32 [L, 4, Hc, Wc]: premultiplied R, G, B, A
    planes: Float64Array  # [L, 3]: d, gx, gy; NaN for a height field, which thereby equals no other plane
    field: IntArray  # [L]: index of the layer's height field, -1 for a plane
    heights: FloatArray  # float32 [F, Hc, Wc]: d - d_f


class Crossings(NamedTuple):
    """Where all rays of one lens point cross lines between texels, from a layer's nearest delta to its farthest."""

    place: FloatArray
    """float32 [L, n, 4]: delta, position in the cell before the crossing (x and y in 0..1), and the product of the
    steps in x and y since the entry before."""
    cell: IntArray  # [L, n, 2]: texel offset (y, x) from the pixel to that cell
    filled: IntArray  # [L]: number of entries


@kernel
def block_bounds(values):
    """Least and largest value of every BLOCK x BLOCK block: float32 [2, ceil(H/BLOCK), ceil(W/BLOCK)]."""
    height, width = values.shape
    rows, columns = (height + BLOCK - 1) // BLOCK, (width + BLOCK - 1) // BLOCK
    out = np.empty((2, rows, columns), np.float32)
    for r in range(rows):
        for c in range(columns):
            block = values[r * BLOCK : (r + 1) * BLOCK, c * BLOCK : (c + 1) * BLOCK]
            out[0, r, c], out[1, r, c] = block.min(), block.max()
    return out


@kernel
def extremes(blocks):
    """Least and largest value of the whole of what `block_bounds` were taken of: float32 [2]."""
    return np.array([blocks[0].min(), blocks[1].max()], np.float32)


@kernel
def classify_layers(surfaces, alpha_blocks, height_blocks, height_extremes, camera, tile):
    """State of every layer on a tile, float64 [L, STATES] as in `tile_bounds`, VARIES aside, from `block_bounds`.

    height_extremes float32 [F, 2]: `extremes` of each field, taken once for all tiles.
    """
    state = np.zeros((len(surfaces.planes), STATES))
    top, left = int(tile.y + camera.cy), int(tile.x + camera.cx)
    for m in range(len(surfaces.planes)):
        if surfaces.field[m] < 0:
            low, high, reach = plane_range(surfaces.planes, m, camera, tile)
            low, high = float(np.float32(low)), float(np.float32(high))  # rounded as the hits are, for ties
        else:
            blocks = height_blocks[surfaces.field[m]], height_extremes[surfaces.field[m]]
            low, high, reach = field_range(blocks, camera.blur, (top, left), (tile.rows, tile.columns))
        pad = int(np.ceil(reach)) + 1
        least, most = _bounds(alpha_blocks[m], top, left, tile.rows, tile.columns, pad)
        state[m, VISIBLE], state[m, OPAQUE] = most > 0, least == 1
        state[m, LOW], state[m, HIGH], state[m, REACH] = low, high, reach
    return state


@kernel
def part_ranges(blocks, K, corners, sizes):
    """`field_range` of every part, float64 [N, 3]: its first texel (y, x), int64 [N, 2], and its size, int64 [N, 2]."""
    ranges, whole = np.empty((len(corners), 3)), (blocks, extremes(blocks))
    for i in range(len(corners)):
        corner, size = (corners[i, 0], corners[i, 1]), (sizes[i, 0], sizes[i, 1])
        ranges[i, 0], ranges[i, 1], ranges[i, 2] = field_range(whole, K, corner, size)
    return ranges


@kernel
def field_range(blocks, K, corner, size):
    """Bounds of d - d_f of all hits on a part, and its reach in px.

    blocks: (`block_bounds` of the heights, their `extremes`). Every hit lies within K*|delta| of its pixel: each bound
    on delta bounds where to look for a better one.
    """
    (bounds, whole), (top, left), (rows, columns) = blocks, corner, size
    low, high = whole[0], whole[1]
    for _ in range(8):
        pad = int(np.ceil(K * max(abs(low), abs(high)))) + 1
        closer = _bounds(bounds, top, left, rows, columns, pad)
        if closer == (low, high):
            break
        low, high = closer
    return float(low), float(high), K * max(abs(low), abs(high))


@kernel
def _bounds(blocks, top, left, rows, columns, pad):
    """Least and largest value over a tile and `pad` texels around it, from those of blocks."""
    r0, r1 = max(0, top - pad) // BLOCK, min(blocks.shape[1] - 1, (top + rows - 1 + pad) // BLOCK)
    c0, c1 = max(0, left - pad) // BLOCK, min(blocks.shape[2] - 1, (left + columns - 1 + pad) // BLOCK)
    return blocks[0, r0 : r1 + 1, c0 : c1 + 1].min(), blocks[1, r0 : r1 + 1, c0 : c1 + 1].max()


@kernel
def empty_crossings(state, K):
    """Allocate the crossings of one lens point for every layer, as many as its range of delta can have."""
    most = 8
    for m in range(len(state)):
        most = max(most, 8 + int(1.5 * K * (state[m, HIGH] - state[m, LOW])))  # |ux| + |uy| <= sqrt(2) K
    layers = len(state)
    return Crossings(
        np.empty((layers, most, 4), np.float32), np.empty((layers, most, 2), np.int64), np.zeros(layers, np.int64)
    )


@inline_kernel
def list_crossings(low, high, ux, uy, crossings, m):
    """List where rays p + (ux, uy)*delta, coming from delta = high, cross lines between texels on their way to low.

    Fills the entries of layer m from entry 0 (delta = high) on, and their number.
    """
    x, y = ux * high, uy * high
    _store_crossing(crossings, m, 0, high, np.floor(y), np.floor(x), (y, x), 0.0)
    sx, sy = -1.0 if ux > 0 else 1.0, -1.0 if uy > 0 else 1.0  # delta falls
    line_x = np.ceil(x) - 1 if ux > 0 else np.floor(x) + 1
    line_y = np.ceil(y) - 1 if uy > 0 else np.floor(y) + 1
    count, before = 1, high
    while before > low:
        to_x = line_x / ux if ux != 0 else -np.inf
        to_y = line_y / uy if uy != 0 else -np.inf
        delta = min(before, max(low, to_x, to_y))
        half, step = (before + delta) / 2, delta - before
        iy, ix = np.floor(uy * half), np.floor(ux * half)
        _store_crossing(crossings, m, count, delta, iy, ix, (uy * delta, ux * delta), ux * step * uy * step)
        if to_x >= delta:
            line_x += sx
        if to_y >= delta:
            line_y += sy
        before = delta
        count += 1
    crossings.filled[m] = count


@inline_kernel
def _store_crossing(crossings, m, k, delta, iy, ix, place, twist):
    y, x = place
    crossings.place[m, k, 0], crossings.place[m, k, 3] = delta, twist
    crossings.place[m, k, 1], crossings.place[m, k, 2] = min(1.0, max(0.0, x - ix)), min(1.0, max(0.0, y - iy))
    crossings.cell[m, k, 0], crossings.cell[m, k, 1] = int(iy), int(ix)


@inline_kernel
def intersect_height_field(field, m, crossings, low, row, left, height, delta):
    """Fill delta[m] with h(q) where the rays of pixels (row, left), (row, left + 1), ... first meet a height field.

    field: (heights float32 [F, Hc, Wc], index); m: the layer, whose `crossings` are listed; low: the least height;
    height float32 [n] is scratch.
    """
    heights, f = field
    place, cell, count = crossings
    for x in range(len(height)):
        height[x], delta[m, x] = -np.inf, low
    before = place[m, 0, 0]
    for k in range(count[m]):
        after, texel = place[m, k, 0], (row + cell[m, k, 0], left + cell[m, k, 1])
        step = before, after, place[m, k, 1], place[m, k, 2], place[m, k, 3]
        if _cross_cell(heights, f, texel, step, height, delta, m) == 0:
            break
        before = after


@inline_kernel
def _cross_cell(heights, f, texel, step, height, delta, m):
    """Take rays from delta = before to after, through one cell each; returns how many have not met the field.

    texel (y, x): upper left one of the first pixel's cell; step: before, after, and an entry of `Crossings`.

    `height` is h(q) at `before`, infinity once the field is met. In front of the field h(q) - delta is < 0; along the
    cell it is the quadratic near + slope*t + bend*t*t, t = 0..1, and its first root is the hit. The hit's delta is
    taken from h, not from the ray: on level ground it is that level to the bit, and ties with other layers are ties.
    """
    (iy, ix), (before, after, fx, fy, twist) = texel, step
    i, j, upper, lower = np.uint64(ix), np.uint64(ix + 1), np.uint64(iy), np.uint64(iy + 1)
    still = np.int32(0)
    for x in range(np.uint64(len(height))):
        a, b = heights[f, upper, i + x], heights[f, upper, j + x]
        c, d = heights[f, lower, i + x], heights[f, lower, j + x]
        top, bottom = a + fx * (b - a), c + fx * (d - c)
        h0, h1 = height[x], top + fy * (bottom - top)
        near, far = h0 - before, h1 - after
        bend = twist * ((d - c) - (b - a))
        slope = far - near - bend
        t = np.float32(-2) * near / (slope + np.sqrt(slope * slope - np.float32(4) * bend * near))
        inside = (t > ZERO) & (t < AT_THE_END)
        waits = near < ZERO
        met = waits & (inside | (far >= ZERO) | ((t > ZERO) & (t < ONE)))
        hit = h1 + (ONE - t) * ((h0 - h1) - bend * t) if inside else after
        delta[m, x] = hit if met else delta[m, x]
        height[x] = h1 if waits & (not met) else np.float32(np.inf)
        still += np.int32(waits & (not met))
    return still
