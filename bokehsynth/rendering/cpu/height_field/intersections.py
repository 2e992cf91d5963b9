"""Numba kernels of the height-field ray tracer, first part: what a tile can see, and where rays meet surfaces.

Pixels lie on texels. For one lens point, therefore, all rays cross the lines between texels at the same values of
their parameter delta = d - d_f, and between two crossings every ray sees its own quadratic with shared coefficients
of position. So the inner loops run over neighbouring pixels, read memory in order, and find the first hit exactly: no
step size, no iteration to converge.

Height fields come as h = d - d_f, float32, d_f rounded to float32: a field in focus is exactly 0.
"""

import numpy as np

from bokehsynth.rendering.jit import kernel

BLOCK = 8
"""Side of the blocks of texels whose extremes are known."""

VISIBLE, OPAQUE, LOW, HIGH, REACH = range(5)
"""What a tile knows of a layer: seen at all, hides what lies behind, range of d(p') - d_f, reach in pixels."""

ZERO, ONE = np.float32(0), np.float32(1)
AT_THE_END = np.float32(1 - 1e-6)
"""A hit this close to a crossing is put on it, at most 1.5e-6 px away: delta = 0 is a crossing, and stays 0."""


@kernel
def block_extremes(values):
    """Smallest and largest value of every BLOCK x BLOCK block: float32 [2, ceil(H/BLOCK), ceil(W/BLOCK)]."""
    height, width = values.shape
    rows, columns = (height + BLOCK - 1) // BLOCK, (width + BLOCK - 1) // BLOCK
    out = np.empty((2, rows, columns), np.float32)
    for r in range(rows):
        for c in range(columns):
            block = values[r * BLOCK : (r + 1) * BLOCK, c * BLOCK : (c + 1) * BLOCK]
            out[0, r, c], out[1, r, c] = block.min(), block.max()
    return out


@kernel
def survey(alphas, planes, which, heights, view, y0, x0, rows, n):
    """What rays of the tile at (y0, x0) can see of every layer, float64 [L, 5]: VISIBLE .. REACH.

    alphas, heights: block extremes [L, 2, ., .] and [F, 2, ., .]; planes float64 [L, 3] (d, gx, gy); which int64 [L],
    the layer's height field or -1; view: K, d_f, canvas height and width, margin.
    """
    K, focus, canvas_h, canvas_w, margin = view
    top, left = y0 + int(margin), x0 + int(margin)
    state = np.zeros((len(planes), 5))
    for m in range(len(planes)):
        if which[m] < 0:
            x, y = left - (canvas_w - 1) / 2, top - (canvas_h - 1) / 2
            low, high, reach = _plane_range(planes[m], K, focus, y, x, rows, n)
        else:
            low, high, reach = _field_range(heights[which[m]], K, top, left, rows, n)
        thin, thick = _extremes(alphas[m], top, left, rows, n, int(np.ceil(reach)) + 1)
        state[m, VISIBLE], state[m, OPAQUE] = thick > 0, thin == 1
        state[m, LOW], state[m, HIGH], state[m, REACH] = low, high, reach
    return state


@kernel
def _plane_range(plane, K, focus, y, x, rows, n):
    e = K * np.hypot(plane[1], plane[2])
    low, high = np.inf, -np.inf
    for j in range(2):
        for i in range(2):
            delta = plane[0] + plane[1] * (x + i * (n - 1)) + plane[2] * (y + j * (rows - 1)) - focus
            low, high = min(low, delta), max(high, delta)
    reach = K * max(abs(low), abs(high)) / (1 - e)
    # d(p') - d_f = delta / (1 - K g.s): the lens point stretches the range by 1/(1 -+ e)
    low = low / (1 + e) if low > 0 else low / (1 - e)
    high = high / (1 - e) if high > 0 else high / (1 + e)
    return float(np.float32(low)), float(np.float32(high)), reach  # rounded as the hits are, for ties


@kernel
def _field_range(blocks, K, top, left, rows, n):
    """Every hit lies within K*|delta| of its pixel: each bound on delta bounds where to look for a better one."""
    low, high = blocks[0].min(), blocks[1].max()
    for _ in range(8):
        pad = int(np.ceil(K * max(abs(low), abs(high)))) + 1
        closer = _extremes(blocks, top, left, rows, n, pad)
        if closer == (low, high):
            break
        low, high = closer
    return float(low), float(high), K * max(abs(low), abs(high))


@kernel
def _extremes(blocks, top, left, rows, n, pad):
    """Smallest and largest value over the tile and `pad` texels around it, from block extremes."""
    r0, r1 = max(0, top - pad) // BLOCK, min(blocks.shape[1] - 1, (top + rows - 1 + pad) // BLOCK)
    c0, c1 = max(0, left - pad) // BLOCK, min(blocks.shape[2] - 1, (left + n - 1 + pad) // BLOCK)
    return blocks[0, r0 : r1 + 1, c0 : c1 + 1].min(), blocks[1, r0 : r1 + 1, c0 : c1 + 1].max()


@kernel
def visible_order(state):
    """Indices of the layers that can be seen on this tile, near to far.

    A layer is left out where its footprint is empty, or where an opaque layer lies in front of it for every ray.
    """
    order = np.empty(len(state), np.int64)
    visible = 0
    for m in range(len(state)):
        hidden = state[m, VISIBLE] == 0
        for k in range(len(state)):
            if state[k, OPAQUE] == 1 and _surely_before(state, k, m):
                hidden = True
        if hidden:
            continue
        place = visible  # insertion by nearness, ties by the order given
        while place > 0 and state[order[place - 1], HIGH] < state[m, HIGH]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = m
        visible += 1
    return order[:visible]


@kernel
def surely_ordered(state, order):
    """Whether one order, near to far, holds for every ray and pixel of the tile."""
    sure = True
    for k in range(1, len(order)):
        sure &= _surely_before(state, order[k - 1], order[k])
    return sure


@kernel
def _surely_before(state, a, b):
    return state[a, LOW] > state[b, HIGH] or (state[a, LOW] == state[b, HIGH] and a < b)


@kernel
def list_crossings(low, high, ux, uy, at, cell):
    """Where rays p + (ux, uy)*delta, coming from delta = high, cross lines between texels on their way to low.

    Fills, from entry 0 (delta = high) on, at[k] = delta, the position in its cell (two fractions in 0..1) and the
    product of the steps in x and y since the entry before; cell[k] = texel offset (y, x) of the cell that lies before
    the crossing. Returns the number of entries.
    """
    x, y = ux * high, uy * high
    ix, iy = np.floor(x), np.floor(y)
    _note(at[0], cell[0], high, iy, ix, x, y, 0.0)
    sx, sy = -1.0 if ux > 0 else 1.0, -1.0 if uy > 0 else 1.0  # delta falls
    line_x = np.ceil(x) - 1 if ux > 0 else np.floor(x) + 1
    line_y = np.ceil(y) - 1 if uy > 0 else np.floor(y) + 1
    count, before = 1, high
    while before > low:
        to_x = line_x / ux if ux != 0 else -np.inf
        to_y = line_y / uy if uy != 0 else -np.inf
        delta = min(before, max(low, to_x, to_y))
        half, step = (before + delta) / 2, delta - before
        _note(
            at[count], cell[count], delta, np.floor(uy * half), np.floor(ux * half), ux * delta, uy * delta,
            ux * step * uy * step,
        )  # fmt: skip
        if to_x >= delta:
            line_x += sx
        if to_y >= delta:
            line_y += sy
        before = delta
        count += 1
    return count


@kernel
def _note(at, cell, delta, iy, ix, x, y, twist):
    at[0], at[1], at[2], at[3] = delta, min(1.0, max(0.0, x - ix)), min(1.0, max(0.0, y - iy)), twist
    cell[0], cell[1] = int(iy), int(ix)


@kernel
def meet_field(heights, f, at, cell, m, count, low, row, left, height, delta):
    """Fill delta[m] with h(q) where the rays of pixels (row, left), (row, left + 1), ... first meet height field f.

    heights float32 [F, Hc, Wc]; at [L, ., 4] and cell [L, ., 2]: entries of `list_crossings` for layer m, `count` of
    them; height float32 [n] is scratch.
    """
    for x in range(len(height)):
        height[x], delta[m, x] = -np.inf, low
    before = at[m, 0, 0]
    for k in range(count):
        iy, ix = row + cell[m, k, 0], left + cell[m, k, 1]
        fx, fy, after, twist = at[m, k, 1], at[m, k, 2], at[m, k, 0], at[m, k, 3]
        if _cross_cell(heights, f, iy, ix, fx, fy, before, after, twist, height, delta, m) == 0:
            break
        before = after


@kernel
def _cross_cell(heights, f, iy, ix, fx, fy, before, after, twist, height, delta, m):
    """Take rays from delta = before to after, through one cell each; returns how many have not met the field.

    `height` is h(q) at `before`, infinity once the field is met. In front of the field h(q) - delta is < 0; along the
    cell it is the quadratic near + slope*t + bend*t*t, t = 0..1, and its first root is the hit. The hit's delta is
    taken from h, not from the ray: on level ground it is that level to the bit, and ties with other layers are ties.
    """
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
