"""Numba kernels of the height-field ray tracer, second part: what the rays bring to the pixels of a tile.

Ray-outer, pixel-inner: one ray is carried through the layers for a row of pixels at a time. A lookup is bilinear and
lies at another place for every pixel, but neighbours mostly move together: runs of them read memory in order.
"""

import numpy as np

from bokehsynth.rendering.cpu.height_field.intersections import (
    HIGH,
    LOW,
    list_crossings,
    meet_field,
    surely_ordered,
    visible_order,
)
from bokehsynth.rendering.jit import kernel

TILE_H, TILE_W = 8, 128
GROUP = 64
"""Rays summed before they are added to the whole: float32 sums of thousands then lose no more than those of dozens."""
RUN = 16
"""Neighbours that must share their texels for a loop of their own (measured: shorter ones cost more than they save)."""


@kernel
def trace_tile(packed, planes, which, heights, state, points, weights, view, moves, y0, x0, color, coverage):
    """Trace the tile of at most TILE_H x TILE_W at (y0, x0) of the picture.

    packed float32 [L, 4, Hc, Wc] premultiplied R, G, B, A; planes float64 [L, 3]; which int64 [L]; heights float32
    [F, Hc, Wc] (d - d_f); state float64 [L, 5] and view as in `survey`; points float64 [N, 2], weights float32 [N, 3];
    `moves`: whether anything on the tile moves with the lens point; color float32 [H, W, 3] and coverage float32
    [H, W] are filled.
    """
    rows, n = min(TILE_H, len(color) - y0), min(TILE_W, color.shape[1] - x0)
    order = visible_order(state)
    ordered = surely_ordered(state, order)
    part, whole = np.zeros((rows, 6, n), np.float32), np.zeros((rows, 6, n), np.float32)  # light, then arrived
    touched = np.zeros((rows, n), np.float32)
    weight, total = np.zeros(3, np.float32), np.zeros(3, np.float32)
    at, cell, count = _crossing_tables(state, view[0])
    delta, scratch, texel = np.empty((len(planes), n), np.float32), np.empty((8, n), np.float32), np.empty(n, np.int32)
    flat = packed.reshape(len(packed), 4, -1)
    for i in range(len(points)):
        weight += weights[i]
        if moves:
            ux, uy, w = view[0] * points[i, 0], view[0] * points[i, 1], (weights[i, 0], weights[i, 1], weights[i, 2])
            for m in order:
                if which[m] >= 0:
                    count[m] = list_crossings(state[m, LOW], state[m, HIGH], ux, uy, at[m], cell[m])
            for row in range(rows):
                for k in range(len(order)):
                    m = order[k]
                    y, x = y0 + row + int(view[4]), x0 + int(view[4])
                    if which[m] >= 0:
                        low = np.float32(state[m, LOW])
                        meet_field(heights, which[m], at, cell, m, count[m], low, y, x, scratch[0], delta)
                    else:
                        _meet_plane(planes, m, view, ux, uy, y, x, delta)
                _carry(flat, order, ordered, delta, view, ux, uy, y0, x0, w, scratch, texel, part, touched, row)
        if i % GROUP == GROUP - 1 or i == len(points) - 1:
            whole += part
            total += weight
            part[:], weight[:] = 0, 0
    _develop(packed, planes, which, heights, view, moves, y0, x0, whole, touched, total, color, coverage)


@kernel
def _crossing_tables(state, K):
    """Room for every layer's crossings of one ray: deltas and positions, cells, and how many."""
    most = 8
    for m in range(len(state)):
        most = max(most, 8 + int(1.5 * K * (state[m, HIGH] - state[m, LOW])))  # |ux| + |uy| <= sqrt(2) K
    layers = len(state)
    return np.empty((layers, most, 4), np.float32), np.empty((layers, most, 2), np.int64), np.zeros(layers, np.int64)


@kernel
def _meet_plane(planes, m, view, ux, uy, y, x, delta):
    """Fill delta[m] = d(p') - d_f for the rays of the pixels at texels (y, x), (y, x + 1), ..."""
    _, focus, canvas_h, canvas_w, _ = view
    d, gx, gy = planes[m, 0], planes[m, 1], planes[m, 2]
    stretch = 1 / (1 - (gx * ux + gy * uy))
    first = (d + gx * (x - (canvas_w - 1) / 2) + gy * (y - (canvas_h - 1) / 2) - focus) * stretch
    step = gx * stretch
    for k in range(delta.shape[1]):
        delta[m, k] = first + step * k


@kernel
def _carry(flat, order, ordered, delta, view, ux, uy, y0, x0, w, scratch, texel, sums, touched, row):
    """Take one ray of every pixel of a row through the layers, in the order of each pixel's own hits."""
    n = delta.shape[1]
    width, margin = int(view[3]), int(view[4])
    corner = (y0 + row + margin) * width + x0 + margin
    u = np.float32(ux), np.float32(uy)
    for x in range(n):
        scratch[0, x] = 1  # light that still passes
    if ordered or _is_sorted(delta, order):
        _pass_layers(flat, width, order, delta, corner, u, w, scratch, texel, sums, touched, row, 0, n)
    else:
        local, start = _sorted_at(delta, order, 0), 0
        for x in range(1, n):
            mine = _sorted_at(delta, order, x)
            if (mine != local).any():
                _pass_layers(flat, width, local, delta, corner, u, w, scratch, texel, sums, touched, row, start, x)
                local, start = mine, x
        _pass_layers(flat, width, local, delta, corner, u, w, scratch, texel, sums, touched, row, start, n)
    for c in range(3):
        for x in range(n):
            sums[row, 3 + c, x] += w[c] * (np.float32(1) - scratch[0, x])


@kernel
def _is_sorted(delta, order):
    for k in range(1, len(order)):
        a, b = order[k - 1], order[k]
        wrong = 0
        for x in range(delta.shape[1]):
            wrong += (delta[a, x] < delta[b, x]) | ((delta[a, x] == delta[b, x]) & (a > b))
        if wrong > 0:
            return False
    return True


@kernel
def _sorted_at(delta, order, x):
    """The layers of `order` by their hits at pixel x, nearest first; ties keep the order of the layers."""
    local = order.copy()
    for k in range(1, len(order)):
        layer, place = order[k], k
        while place > 0 and _before(delta[layer, x], layer, delta[local[place - 1], x], local[place - 1]):
            local[place] = local[place - 1]
            place -= 1
        local[place] = layer
    return local


@kernel
def _before(mine, layer, other, other_layer):
    return mine > other or (mine == other and layer < other_layer)


@kernel
def _pass_layers(flat, width, order, delta, corner, u, w, scratch, texel, sums, touched, row, start, stop):
    for k in range(len(order)):
        _look_up(flat, width, order[k], corner, delta, u, scratch, texel, start, stop)
        if not _add(scratch, delta, order[k], w, sums, touched, row, start, stop):
            return


@kernel
def _look_up(flat, width, m, corner, delta, u, scratch, texel, start, stop):
    """Bilinear R, G, B, A of layer m at pixels start..stop, displaced by u*delta, into rows 4..7 of the scratch.

    flat float32 [L, 4, Hc*Wc]; rows 1 and 2 of the scratch hold the fractions, `texel` the texel of the upper left
    tap as seen from pixel 0: equal for neighbours that move together.
    """
    for x in range(np.uint64(start), np.uint64(stop)):
        dx, dy = u[0] * delta[m, x], u[1] * delta[m, x]
        ix, iy = np.floor(dx), np.floor(dy)
        scratch[1, x], scratch[2, x] = dx - ix, dy - iy
        texel[x] = np.int32(iy) * np.int32(width) + np.int32(ix) + np.int32(corner)
    x = start
    while x < stop:
        end = x + 1
        while end < stop and texel[end] == texel[x]:
            end += 1
        upper, lower = np.uint64(texel[x]), np.uint64(texel[x] + width)
        if end - x >= RUN:
            for c in range(4):
                _look_up_run(flat, m, c, upper, lower, scratch, np.uint64(x), np.uint64(end))
        else:
            for k in range(np.uint64(x), np.uint64(end)):
                _look_up_one(flat, m, upper + k, lower + k, scratch, k)
        x = end


@kernel
def _look_up_run(flat, m, c, upper, lower, scratch, start, stop):
    right, lower_right = upper + np.uint64(1), lower + np.uint64(1)
    for x in range(start, stop):
        a, b = flat[m, c, upper + x], flat[m, c, lower + x]
        a += scratch[1, x] * (flat[m, c, right + x] - a)
        b += scratch[1, x] * (flat[m, c, lower_right + x] - b)
        scratch[4 + c, x] = a + scratch[2, x] * (b - a)


@kernel
def _look_up_one(flat, m, upper, lower, scratch, x):
    fx, fy = scratch[1, x], scratch[2, x]
    for c in range(np.uint64(4)):
        a, b = flat[m, c, upper], flat[m, c, lower]
        a += fx * (flat[m, c, upper + np.uint64(1)] - a)
        b += fx * (flat[m, c, lower + np.uint64(1)] - b)
        scratch[np.uint64(4) + c, x] = a + fy * (b - a)


@kernel
def _add(scratch, delta, m, w, sums, touched, row, start, stop):
    """Put one layer behind those before it; False once no light passes."""
    first, last = np.uint64(start), np.uint64(stop)
    for c in range(3):
        for x in range(first, last):
            sums[row, c, x] += w[c] * scratch[0, x] * scratch[4 + c, x]
    most = np.float32(0)
    for x in range(first, last):
        stopped = scratch[0, x] * scratch[7, x]
        touched[row, x] = max(touched[row, x], stopped if delta[m, x] != 0 else np.float32(0))
        scratch[0, x] *= np.float32(1) - scratch[7, x]
        most = max(most, scratch[0, x])
    return most > 0


@kernel
def _develop(packed, planes, which, heights, view, moves, y0, x0, sums, touched, total, color, coverage):
    """Sums over rays -> normalised colour and coverage of a tile.

    A pixel that saw nothing but layers in focus gets what a pinhole sees, computed as the pinhole does and not as a
    mean over rays: bit-identical to the all-in-focus picture. A channel that the aperture blocks altogether is black
    and does not count for the coverage.
    """
    value, share = np.empty(3, np.float32), np.empty(3, np.float32)
    delta = np.empty((len(planes), 1))
    for row in range(len(touched)):
        for x in range(touched.shape[1]):
            sharp = False
            if not moves or touched[row, x] == 0:
                sharp = _pinhole(packed, planes, which, heights, view, y0 + row, x0 + x, delta, value, share)
            seen, channels = np.float32(0), np.float32(0)
            for c in range(3):
                color[y0 + row, x0 + x, c] = 0
                if total[c] == 0:
                    continue
                if moves and not sharp:
                    value[c], share[c] = sums[row, c, x] / total[c], sums[row, 3 + c, x] / total[c]
                seen += share[c]
                channels += 1
                if share[c] > 0:
                    color[y0 + row, x0 + x, c] = value[c] / share[c]
            coverage[y0 + row, x0 + x] = seen / channels


@kernel
def _pinhole(packed, planes, which, heights, view, y, x, delta, value, share):
    """Colour and coverage of the chief ray of pixel (y, x), and whether all that it meets is in focus."""
    _, focus, canvas_h, canvas_w, margin = view
    row, column = y + int(margin), x + int(margin)
    for m in range(len(planes)):
        if which[m] >= 0:
            delta[m, 0] = heights[which[m], row, column]
        else:
            d, gx, gy = planes[m]
            delta[m, 0] = d + gx * (column - (canvas_w - 1) / 2) + gy * (row - (canvas_h - 1) / 2) - focus
    through, sharp = np.float32(1), True
    value[:] = 0
    for m in _sorted_at(delta, np.arange(len(planes)), 0):
        alpha = packed[m, 3, row, column]
        sharp &= delta[m, 0] == 0 or through * alpha == 0
        for c in range(3):
            value[c] += packed[m, c, row, column] * through
        through *= np.float32(1) - alpha
    share[:] = np.float32(1) - through
    return sharp
