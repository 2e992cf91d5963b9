"""Bounds over each tile's footprint: which layers are visible, in which order, and whether two of them vary together.

Alpha is bounded by a min-max pyramid of blocks. Bounds that are too loose cost time and never change what a tile's
exact parts converge to.
"""

import numpy as np

from bokehsynth.rendering.cpu.kernel_arguments import Footprint
from bokehsynth.rendering.jit import inline_kernel, kernel
from bokehsynth.rendering.types import IntArray

BLOCK = 4
"""Side in texels of the finest blocks."""
ACROSS, COARSER, LIGHT_ACROSS = 24, 2, 6
"""Most fine blocks across a footprint for bounds of alpha; how many levels above them the search begins; most blocks
across for the brightest light."""

VISIBLE, OPAQUE, LOW, HIGH, REACH, VARIES = range(6)
"""State of a layer on a tile: visible at all; hides what lies behind; range of d(p') - d_f; reach in pixels; whether
its alpha varies over the footprint."""
STATES = 6


def pyramid_levels(height: int, width: int) -> IntArray:
    """Offset, rows and columns of every level of a canvas's pyramid, int64 [n, 3]; sides halve up to one block."""
    levels, offset, side = [], 0, BLOCK
    while True:
        rows, columns = -(-height // side), -(-width // side)
        levels.append((offset, rows, columns))
        offset += rows * columns
        if rows == columns == 1:
            return np.array(levels, np.int64)
        side *= 2


@kernel
def min_max_pyramid(packed, levels):
    """Least and largest alpha and largest premultiplied colour of blocks: float32 [3, blocks of all levels]."""
    offset, rows, columns = levels[-1]
    out = np.empty((3, offset + rows * columns), np.float32)
    _, height, width = packed.shape
    low, high, bright = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    for r in range(levels[0, 1]):
        low[:], high[:], bright[:] = 2, -1, 0
        for y in range(r * BLOCK, min(height, r * BLOCK + BLOCK)):
            for x in range(width):
                low[x] = min(low[x], packed[3, y, x])
                high[x] = max(high[x], packed[3, y, x])
                bright[x] = max(bright[x], packed[0, y, x], packed[1, y, x], packed[2, y, x])
        for c in range(levels[0, 2]):
            stop, at = min(width, c * BLOCK + BLOCK), r * levels[0, 2] + c
            out[0, at], out[1, at], out[2, at] = low[c * BLOCK], high[c * BLOCK], bright[c * BLOCK]
            for x in range(c * BLOCK + 1, stop):
                out[0, at] = min(out[0, at], low[x])
                out[1, at] = max(out[1, at], high[x])
                out[2, at] = max(out[2, at], bright[x])
    for level in range(1, len(levels)):
        offset, rows, columns = levels[level]
        finer, fine_rows, fine_columns = levels[level - 1]
        for r in range(rows):
            for c in range(columns):
                at = offset + r * columns + c
                out[0, at], out[1, at], out[2, at] = 2, -1, 0
                for y in range(2 * r, min(fine_rows, 2 * r + 2)):
                    for x in range(2 * c, min(fine_columns, 2 * c + 2)):
                        source = finer + y * fine_columns + x
                        out[0, at] = min(out[0, at], out[0, source])
                        out[1, at] = max(out[1, at], out[1, source])
                        out[2, at] = max(out[2, at], out[2, source])
    return out


@inline_kernel
def plane_range(planes, m, camera, tile):
    """Range of d(p') - d_f of a plane over a tile, for all lens points, and its largest blur radius in pixels."""
    K, focus = camera.blur, camera.focus
    d, gx, gy = planes[m, 0], planes[m, 1], planes[m, 2]
    slope = np.hypot(gx, gy)
    e = camera.extent * (K * slope)
    low, high = np.inf, -np.inf
    for j in range(2):
        for i in range(2):
            delta = d + gx * (tile.x + i * (tile.columns - 1)) + gy * (tile.y + j * (tile.rows - 1)) - focus
            low, high = min(low, delta), max(high, delta)
    reach = (camera.extent * (K * max(abs(low), abs(high))) + e * camera.astray) / (1 - e) + camera.astray
    low, high = low - slope * camera.astray, high + slope * camera.astray
    # d(p') - d_f = delta / (1 - K g.s): the lens point stretches the range by 1/(1 -+ e)
    low = low / (1 + e) if low > 0 else low / (1 - e)
    high = high / (1 - e) if high > 0 else high / (1 + e)
    return low, high, reach


@inline_kernel
def classify(planes, pyramids, camera, tile, m, most, state):
    """Fill the state of layer m over the footprint of a tile; most: a bound for its reach.

    Arrays come whole, with an index: a slice would be counted and released, which costs as much as the work.
    """
    low, high, reach = plane_range(planes, m, camera, tile)
    reach = min(reach, most)
    state[m, LOW], state[m, HIGH], state[m, REACH] = low, high, reach
    if pyramids.bounds[m, 0, -1] == 1:
        least, largest = np.float32(1), np.float32(1)
    else:
        pad = reach + 1 if reach > 0 else 0.0
        least, largest = _alpha_bounds(
            pyramids, m, Footprint(tile.y + camera.cy, tile.x + camera.cx, tile.rows, tile.columns, pad)
        )
    state[m, VISIBLE] = 1 if largest > 0 else 0
    state[m, OPAQUE] = 1 if least == 1 else 0
    state[m, VARIES] = 1 if least < largest else 0


@inline_kernel
def _alpha_bounds(pyramids, m, footprint):
    """Least and largest alpha of the blocks that a footprint touches.

    Coarse blocks first; fine ones of those whose alpha varies. Stops once alpha is known to vary around 0 and 1.
    """
    bounds, levels = pyramids
    fine, side = 0, BLOCK
    while (2 * footprint.pad + footprint.columns) / side > ACROSS and fine < len(levels) - 1:
        fine += 1
        side *= 2
    level = min(fine + COARSER, len(levels) - 1)
    side <<= level - fine
    offset, block_columns = levels[level, 0], levels[level, 2]
    first, last = _block_rows(footprint, side, levels[level, 1])
    least, most = np.float32(2), np.float32(-1)
    for r in range(first, last + 1):
        c0, c1 = _block_columns(footprint, r, side, block_columns)
        for c in range(c0, c1 + 1):
            at = offset + r * block_columns + c
            low, high = bounds[m, 0, at], bounds[m, 1, at]
            if low < high and level > fine:
                low, high = _fine_bounds(pyramids, m, footprint, r, c, level, fine)
            least, most = min(least, low), max(most, high)
            if least < most and least < 1 and most > 0:
                return least, most
    return least, most


@inline_kernel
def _fine_bounds(pyramids, m, footprint, row, column, level, fine):
    """`_alpha_bounds` over the fine blocks of one coarse block."""
    bounds, levels = pyramids
    more, side = level - fine, BLOCK << fine
    offset, block_rows, block_columns = levels[fine, 0], levels[fine, 1], levels[fine, 2]
    least, most = np.float32(2), np.float32(-1)
    for r in range(row << more, min(block_rows, (row + 1) << more)):
        c0, c1 = _block_columns(footprint, r, side, block_columns)
        for c in range(max(c0, column << more), min(c1, ((column + 1) << more) - 1) + 1):
            at = offset + r * block_columns + c
            least, most = min(least, bounds[m, 0, at]), max(most, bounds[m, 1, at])
            if least < most and least < 1 and most > 0:
                return least, most
    return least, most


@inline_kernel
def _block_rows(footprint, side, block_rows):
    """First and last row of blocks that a footprint touches."""
    top, pad = footprint.top, footprint.pad
    return max(0, int(top - pad) // side), min(block_rows - 1, int(top + footprint.rows - 1 + pad) // side)


@inline_kernel
def _block_columns(footprint, r, side, block_columns):
    """First and last block of row r that a footprint touches; none where the first comes after the last."""
    top, left, rows, columns, pad = footprint
    dy = max(0.0, top - (r * side + side - 1), r * side - (top + rows - 1))
    if dy > pad:
        return 0, -1
    wide = np.sqrt(pad * pad - dy * dy)
    first, last = int(np.floor((left - wide) / side)), int(np.floor((left + columns - 1 + wide) / side))
    return max(0, first), min(block_columns - 1, last)


@inline_kernel
def max_light(pyramids, m, footprint):
    """Largest premultiplied channel of the blocks that a footprint touches, or a little farther out."""
    bounds, levels = pyramids
    level, side = 0, BLOCK
    while (2 * footprint.pad + footprint.columns) / side > LIGHT_ACROSS and level < len(levels) - 1:
        level += 1
        side *= 2
    offset, block_columns = levels[level, 0], levels[level, 2]
    first, last = _block_rows(footprint, side, levels[level, 1])
    bright = np.float32(0)
    for r in range(first, last + 1):
        c0, c1 = _block_columns(footprint, r, side, block_columns)
        for at in range(offset + r * block_columns + c0, offset + r * block_columns + c1 + 1):
            bright = max(bright, bounds[m, 2, at])
    return bright


@inline_kernel
def visible_order(state, order):
    """Fill `order` with the layers visible on this tile, near to far; returns how many.

    A layer is left out where its footprint is empty, or where an opaque layer lies in front of it for every ray.
    """
    layers = len(state)
    visible = 0
    for m in range(layers):
        hidden = state[m, VISIBLE] == 0
        for k in range(layers):
            if state[k, OPAQUE] == 1 and (
                state[k, LOW] > state[m, HIGH] or (state[k, LOW] == state[m, HIGH] and k < m)
            ):
                hidden = True
        if hidden:
            continue
        place = visible  # insertion by nearness, ties by the order given
        while place > 0 and state[order[place - 1], HIGH] < state[m, HIGH]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = m
        visible += 1
    return visible


@kernel
def nearest_first(delta, order, x):
    """The layers of `order` by delta[m, x], nearest first; ties keep the order of the layers."""
    local = order.copy()
    for k in range(1, len(order)):
        layer, place = order[k], k
        while place > 0:
            before = local[place - 1]
            if delta[layer, x] < delta[before, x] or (delta[layer, x] == delta[before, x] and layer > before):
                break
            local[place] = before
            place -= 1
        local[place] = layer
    return local


@inline_kernel
def same_plane(planes, a, b):
    """Whether two layers lie in one plane."""
    return planes[a, 0] == planes[b, 0] and planes[a, 1] == planes[b, 1] and planes[a, 2] == planes[b, 2]


@inline_kernel
def is_ordered(state, order, count, planes):
    """Whether one order, near to far, holds for every ray and pixel of the tile."""
    for k in range(1, count):
        a, b = order[k - 1], order[k]
        if same_plane(planes, a, b):
            continue  # a tie for every ray
        if state[a, LOW] < state[b, HIGH] or (state[a, LOW] == state[b, HIGH] and a > b):
            return False
    return True


@inline_kernel
def varies_together(state, order, count, pyramids):
    """Whether a blurred layer's alpha varies in front of another blurred layer that is seen through it."""
    dimming = False
    for k in range(count):
        m = order[k]
        if state[m, REACH] == 0:
            continue
        if dimming and (state[m, VARIES] == 1 or pyramids.bounds[m, 2, -1] > 0):
            return True
        if state[m, VARIES] == 1:
            dimming = True
    return False
