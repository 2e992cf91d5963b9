"""Numba kernels of the CPU ray tracer. They get arrays and numbers, allocate scratch of one tile, and only fill."""

import numba as nb
import numpy as np

from bokehsynth.render.kernel_cache import ensure_cache_place

ensure_cache_place()

TILE_H, TILE_W = 8, 256
BLOCK = 8

VISIBLE, OPAQUE, LOW, HIGH, REACH = range(5)
"""What a tile knows of a layer: seen at all, hides what lies behind, range of d(p') - d_f, reach in pixels."""

_jit = nb.njit(nogil=True, cache=True, error_model="numpy", boundscheck=False)


@_jit
def grid_side(radius):
    """Side of the square grid of rays for a blur radius in pixels: even, so that the set is mirror symmetric.

    Chosen so that no scene measured is worse than 51 x 51 rays (`benchmarks/rays.md`): the first term covers soft
    mattes and lights of 20 at small radii, the second keeps neighbouring rays within 1.3 px at large ones.
    """
    return 2 * int(np.ceil(max(18 + 1.3 * radius, 1.4 * radius) / 2))


@_jit
def block_extremes(alpha):
    """Smallest and largest alpha of every BLOCK x BLOCK block: float32 [2, ceil(H/BLOCK), ceil(W/BLOCK)]."""
    height, width = alpha.shape
    rows, columns = (height + BLOCK - 1) // BLOCK, (width + BLOCK - 1) // BLOCK
    out = np.empty((2, rows, columns), np.float32)
    for r in range(rows):
        for c in range(columns):
            low, high = np.float32(2), np.float32(-1)
            for y in range(r * BLOCK, min(height, r * BLOCK + BLOCK)):
                for x in range(c * BLOCK, min(width, c * BLOCK + BLOCK)):
                    low = min(low, alpha[y, x])
                    high = max(high, alpha[y, x])
            out[0, r, c] = low
            out[1, r, c] = high
    return out


@_jit
def trace_tile(packed, planes, extremes, points, weights, first, last_side, K, focus, margin, y0, x0, color, coverage):
    """Trace the TILE_H x TILE_W tile at (y0, x0) of the picture.

    packed float32 [L, 4, Hc, Wc] premultiplied R, G, B, A; planes float64 [L, 3] (d, gx, gy); extremes [L, 2, ., .];
    points float64 [N, 2], weights float32 [N, 3], first int64: rays by grid side (see cpu._ray_tables), `last_side`
    the largest, or minus the only one; color float32 [H, W, 3] and coverage float32 [H, W] are filled.
    """
    layers = len(packed)
    rows, n = min(TILE_H, len(color) - y0), min(TILE_W, color.shape[1] - x0)
    # Coordinates are offsets from the picture's centre, which lies at (oy, ox) of the canvas.
    oy, ox = (packed.shape[2] - 1) / 2, (packed.shape[3] - 1) / 2
    view = (K, focus, oy, ox)
    y, x = y0 + margin - oy, x0 + margin - ox
    state = np.zeros((layers, 5))
    for m in range(layers):
        _classify(planes[m], extremes[m], view, y, x, rows, n, state[m])
    order = _visible_order(state)
    ordered = _is_ordered(state, order)
    start, stop, moving = _rays_for(state, order, first, last_side)

    light = np.zeros((rows, 3, n), np.float32)
    arrived = np.zeros((rows, 3, n), np.float32)
    sharp = np.zeros((rows, layers, 3, n), np.float32)  # light that reaches a layer in focus
    total, unit = np.zeros(3, np.float32), np.ones(3, np.float32)
    through = np.empty(n, np.float32)
    for i in range(start, stop):
        s = (points[i, 0], points[i, 1])
        w = weights[i] if moving else unit
        total += w
        for row in range(rows):
            through[:] = 1
            if ordered:
                _cross_layers(
                    packed, planes, state, order, view, s, w, y + row, x, 0, n, light[row], sharp[row], through
                )
            else:
                _cross_unordered(packed, planes, state, order, view, s, w, y + row, x, light[row], sharp[row], through)
            _arrive(through, w, arrived[row])
    _develop(packed, state, order, margin, y0, x0, light, arrived, sharp, total, color, coverage)


@_jit
def _classify(plane, extremes, view, y, x, rows, n, out):
    """Depth range, reach and alpha range of one layer over the footprint of a tile whose corner is at offset (x, y)."""
    K, focus, oy, ox = view
    e = K * np.hypot(plane[1], plane[2])
    low, high = np.inf, -np.inf
    for j in range(2):
        for i in range(2):
            delta = plane[0] + plane[1] * (x + i * (n - 1)) + plane[2] * (y + j * (rows - 1)) - focus
            low, high = min(low, delta), max(high, delta)
    reach = K * max(abs(low), abs(high)) / (1 - e)
    top, left = int(y + oy), int(x + ox)
    pad = int(np.ceil(reach)) + 1
    r0, r1 = max(0, top - pad) // BLOCK, min(extremes.shape[1] - 1, (top + rows - 1 + pad) // BLOCK)
    c0, c1 = max(0, left - pad) // BLOCK, min(extremes.shape[2] - 1, (left + n - 1 + pad) // BLOCK)
    out[VISIBLE] = 1 if extremes[1, r0 : r1 + 1, c0 : c1 + 1].max() > 0 else 0
    out[OPAQUE] = 1 if extremes[0, r0 : r1 + 1, c0 : c1 + 1].min() == 1 else 0
    # d(p') - d_f = delta / (1 - K g.s): the lens point stretches the range by 1/(1 -+ e)
    out[LOW] = low / (1 + e) if low > 0 else low / (1 - e)
    out[HIGH] = high / (1 - e) if high > 0 else high / (1 + e)
    out[REACH] = reach


@_jit
def _visible_order(state):
    """Indices of the layers that can be seen on this tile, near to far.

    A layer is left out where its footprint is empty, or where an opaque layer lies in front of it for every ray.
    """
    layers = len(state)
    order = np.empty(layers, np.int64)
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
    return order[:visible]


@_jit
def _is_ordered(state, order):
    """Whether one order, near to far, holds for every ray and pixel of the tile."""
    for k in range(1, len(order)):
        a, b = order[k - 1], order[k]
        if state[a, LOW] < state[b, HIGH] or (state[a, LOW] == state[b, HIGH] and a > b):
            return False
    return True


@_jit
def _rays_for(state, order, first, last_side):
    """Start and stop in the ray tables, by the tile's largest reach, and whether anything moves with the lens point.

    Where nothing does, any one ray is the answer, whatever weight it has in the table.
    """
    reach = 0.0
    for m in order:
        reach = max(reach, state[m, REACH])
    if reach == 0:
        return 0, 1, False
    side = -last_side if last_side < 0 else min(last_side, grid_side(reach))
    return first[side // 2], first[side // 2 + 1], True


@_jit
def _cross_unordered(packed, planes, state, order, view, s, w, y, x, light, sharp, through):
    """One ray over one row whose layers change order: cut at the crossings, then sort each piece.

    Along a row d(p') of every plane is linear in x, so two planes cross at most once and the order between
    crossings is constant.
    """
    visible, n = len(order), len(through)
    value, ahead = np.empty(visible), np.empty(visible)
    for k in range(visible):
        value[k] = _nearness(planes[order[k]], view, s, y, x)
        ahead[k] = _nearness(planes[order[k]], view, s, y, x + 1)
    cuts = np.empty(2 + visible * visible, np.int64)
    cuts[0], cuts[1] = 0, n
    count = 2
    for a in range(visible):
        for b in range(a):
            closing = (ahead[a] - value[a]) - (ahead[b] - value[b])
            at = (value[b] - value[a]) / closing if closing != 0 else -1.0
            if 0 <= at <= n - 1:  # a pixel right at the crossing is a piece of its own, for its tie
                cuts[count], cuts[count + 1] = int(np.ceil(at - 1e-6)), int(np.floor(at + 1e-6)) + 1
                count += 2
    cuts = np.sort(cuts[:count])
    for piece in range(count - 1):
        x0, x1 = cuts[piece], cuts[piece + 1]
        if x0 < x1:
            for k in range(visible):
                value[k] = _nearness(planes[order[k]], view, s, y, x + (x0 + x1 - 1) / 2)
            local = _sorted_by(value, order)
            _cross_layers(packed, planes, state, local, view, s, w, y, x, x0, x1, light, sharp, through)


@_jit
def _nearness(plane, view, s, y, x):
    """d(p') - d_f where the ray through offset (x, y) and lens point s meets a plane."""
    d, gx, gy = plane
    return (d + gx * x + gy * y - view[1]) / (1 - view[0] * (gx * s[0] + gy * s[1]))


@_jit
def _sorted_by(nearness, order):
    """The layers of `order`, nearest first; ties keep the order of the layers."""
    local, rank = order.copy(), nearness.copy()
    for k in range(len(order)):
        layer, mine, place = order[k], nearness[k], k
        while place > 0 and (rank[place - 1] < mine or (rank[place - 1] == mine and local[place - 1] > layer)):
            rank[place], local[place] = rank[place - 1], local[place - 1]
            place -= 1
        rank[place], local[place] = mine, layer
    return local


@_jit
def _cross_layers(packed, planes, state, order, view, s, w, y, x, x0, x1, light, sharp, through):
    """Carry one ray through the layers for pixels x0..x1 of a row; (x, y) is the offset of the row's first pixel."""
    K, focus, oy, ox = view
    for m in order:
        opaque = state[m, OPAQUE] == 1
        d, gx, gy = planes[m]
        if state[m, REACH] == 0:  # in focus all over the tile
            _reach_sharp(packed, m, int(y + oy), int(x + ox), opaque, w, sharp, through, x0, x1)
            continue
        stretch = K / (1 - K * (gx * s[0] + gy * s[1]))
        delta = d + gx * x + gy * y - focus
        qx, qy = x + ox + s[0] * stretch * delta, y + oy + s[1] * stretch * delta
        dx, dy = s[0] * stretch * gx, s[1] * stretch * gx  # drift of the hit from pixel to pixel, 0 for a frontal plane
        start = x0
        while start < x1:
            px, py = qx + dx * start, qy + dy * start
            ix, iy = int(np.floor(px)), int(np.floor(py))
            stop = _same_texel(px - ix, py - iy, dx, dy, start, x1)
            _hit_span(packed, m, ix, iy, px - ix, py - iy, dx, dy, opaque, w, light, through, start, stop)
            start = stop


@_jit
def _arrive(through, w, arrived):
    """Note how much of this ray some layer has stopped."""
    for c in range(3):
        seen = arrived[c]
        for x in range(len(through)):
            seen[x] += w[c] * (np.float32(1) - through[x])


@_jit
def _same_texel(fx, fy, dfx, dfy, start, stop):
    """Where the run of pixels ends whose taps are the same texels apart from the step of one per pixel."""
    length = float(stop - start)
    if dfx > 0:
        length = min(length, np.ceil((1 - fx) / dfx))
    elif dfx < 0:
        length = min(length, np.floor(fx / -dfx) + 1)
    if dfy > 0:
        length = min(length, np.ceil((1 - fy) / dfy))
    elif dfy < 0:
        length = min(length, np.floor(fy / -dfy) + 1)
    return start + max(1, int(length))


@_jit
def _reach_sharp(packed, m, top, left, opaque, w, sharp, through, start, stop):
    """Note the light that reaches a layer in focus; its colour is multiplied in once, after all rays."""
    first, last = np.uint64(start), np.uint64(stop)
    base = np.uint64(left)
    for c in range(3):
        weight = w[c]
        for x in range(first, last):
            sharp[m, c, x] += weight * through[x]
    if opaque:
        for x in range(first, last):
            through[x] = np.float32(0)
    else:
        for x in range(first, last):
            through[x] *= np.float32(1) - packed[m, 3, top, base + x]


@_jit
def _hit_span(packed, m, ix, iy, fx, fy, dfx, dfy, opaque, w, light, through, start, stop):
    """Add a blurred layer to pixels start..stop of a row, a run whose bilinear taps are the same texels plus x.

    One short loop per channel, with few enough arrays that the compiler can prove them apart and vectorise.
    """
    jy = min(iy + 1, packed.shape[2] - 1)  # at the canvas's last row that tap's weight is 0
    if dfx == 0 and dfy == 0:
        for c in range(3):
            _add_frontal(packed, m, c, ix, iy, jy, fx, fy, w[c], light, through, start, stop)
    else:
        for c in range(3):
            _add_tilted(packed, m, c, ix, iy, jy, fx, fy, dfx, dfy, w[c], light, through, start, stop)
    if opaque:
        for x in range(np.uint64(start), np.uint64(stop)):
            through[x] = np.float32(0)
    else:
        _dim(packed, m, ix, iy, jy, fx, fy, dfx, dfy, through, start, stop)


@_jit
def _add_frontal(packed, m, c, ix, iy, jy, fx, fy, w, light, through, start, stop):
    u, v, one = np.float32(fx), np.float32(fy), np.float32(1)
    f00, f10, f01, f11 = w * (one - u) * (one - v), w * u * (one - v), w * (one - u) * v, w * u * v
    i, j = np.uint64(ix), np.uint64(ix + 1)
    for x in range(np.uint64(start), np.uint64(stop)):
        light[c, x] += through[x] * (
            f00 * packed[m, c, iy, i + x] + f10 * packed[m, c, iy, j + x]
            + f01 * packed[m, c, jy, i + x] + f11 * packed[m, c, jy, j + x]
        )  # fmt: skip


@_jit
def _add_tilted(packed, m, c, ix, iy, jy, fx, fy, dfx, dfy, w, light, through, start, stop):
    fx32, fy32, dx32, dy32, one = np.float32(fx), np.float32(fy), np.float32(dfx), np.float32(dfy), np.float32(1)
    i, j, first = np.uint64(ix), np.uint64(ix + 1), np.uint64(start)
    for x in range(first, np.uint64(stop)):
        step = np.float32(np.int32(x - first))
        u, v = fx32 + dx32 * step, fy32 + dy32 * step
        upper = (one - u) * packed[m, c, iy, i + x] + u * packed[m, c, iy, j + x]
        lower = (one - u) * packed[m, c, jy, i + x] + u * packed[m, c, jy, j + x]
        light[c, x] += w * through[x] * ((one - v) * upper + v * lower)


@_jit
def _dim(packed, m, ix, iy, jy, fx, fy, dfx, dfy, through, start, stop):
    fx32, fy32, dx32, dy32, one = np.float32(fx), np.float32(fy), np.float32(dfx), np.float32(dfy), np.float32(1)
    i, j, first = np.uint64(ix), np.uint64(ix + 1), np.uint64(start)
    for x in range(first, np.uint64(stop)):
        step = np.float32(np.int32(x - first))
        u, v = fx32 + dx32 * step, fy32 + dy32 * step
        upper = (one - u) * packed[m, 3, iy, i + x] + u * packed[m, 3, iy, j + x]
        lower = (one - u) * packed[m, 3, jy, i + x] + u * packed[m, 3, jy, j + x]
        through[x] *= one - ((one - v) * upper + v * lower)


@_jit
def _develop(packed, state, order, margin, y0, x0, light, arrived, sharp, total, color, coverage):
    """Sums over rays -> normalised colour and coverage of a tile.

    A pixel that nothing blurred touches gets what a pinhole sees, computed as the pinhole does and not as a mean over
    rays: bit-identical to the all-in-focus picture. A channel that the aperture blocks altogether is black and does
    not count for the coverage.
    """
    value, share = np.empty(3, np.float32), np.empty(3, np.float32)
    for row in range(len(light)):
        for x in range(light.shape[2]):
            untouched = _pinhole(
                packed, state, order, margin, y0, x0, row, x, light, arrived, sharp, total, value, share
            )
            seen, channels = np.float32(0), np.float32(0)
            for c in range(3):
                color[y0 + row, x0 + x, c] = 0
                if total[c] == 0:
                    continue
                if not untouched:
                    value[c] = light[row, c, x] / total[c]
                    for m in order:
                        if state[m, REACH] == 0:
                            reached = sharp[row, m, c, x] / total[c]
                            value[c] += packed[m, c, y0 + row + margin, x0 + x + margin] * reached
                    share[c] = arrived[row, c, x] / total[c]
                seen += share[c]
                channels += 1
                if share[c] > 0:
                    color[y0 + row, x0 + x, c] = value[c] / share[c]
            coverage[y0 + row, x0 + x] = seen / channels


@_jit
def _pinhole(packed, state, order, margin, y0, x0, row, x, light, arrived, sharp, total, value, share):
    """Colour and coverage of the layers in focus alone, and whether they are all that this pixel saw.

    They are if no blurred light arrived and every layer in focus was reached by the light that those before it let
    through, and nothing else stopped any: to 2e-5, what the sums of a few thousand float32 terms lose (seen: 1.1e-5),
    a two-hundredth of an 8-bit step.
    """
    through, untouched = np.float32(1), True
    value[:] = 0
    for c in range(3):
        if light[row, c, x] != 0:
            untouched = False
    for m in order:
        if state[m, REACH] != 0:
            continue
        for c in range(3):
            if total[c] > 0 and abs(sharp[row, m, c, x] / total[c] - through) > 2e-5:
                untouched = False
            value[c] += packed[m, c, y0 + row + margin, x0 + x + margin] * through
        through *= np.float32(1) - packed[m, 3, y0 + row + margin, x0 + x + margin]
    share[:] = np.float32(1) - through
    for c in range(3):
        if total[c] > 0 and abs(arrived[row, c, x] / total[c] - share[c]) > 2e-5:
            untouched = False
    return untouched
