"""Plain rays, ray-outer and pixel-inner: for tiles in which layers change order from ray to ray, and as a measure.

For one lens point all pixels of a row see a layer through (nearly) the same displacement, so the inner loop runs over
neighbouring pixels with four shared bilinear taps and vectorises.

Exact by construction: a layer in focus does not move with the lens point, so its colour is taken out of the sum over
rays and multiplied by the light that reaches it. Where nothing blurred lies in front that factor is exactly 1, and
the pixel is bit-identical to the all-in-focus picture.
"""

import numpy as np

from bokehsynth.rendering.cpu.kernel_arguments import Tile
from bokehsynth.rendering.cpu.tile_bounds import OPAQUE, REACH, STATES, classify, is_ordered, visible_order
from bokehsynth.rendering.jit import kernel
from bokehsynth.rendering.tile_constants import TILE_H, TILE_W


@kernel
def grid_side(radius):
    """Side of the square grid of rays for a blur radius in pixels: even, so that the set is mirror symmetric.

    Chosen so that no scene measured was worse than 51 x 51 rays: the first term covers soft mattes and lights of 20 at
    small radii, the second keeps neighbouring rays within 1.3 px up to 90 px; beyond, 16,384 rays are enough to be
    better than 51 x 51.
    """
    return min(128, 2 * int(np.ceil(max(18 + 1.3 * radius, 1.4 * radius) / 2)))


@kernel
def trace_tile(packed, planes, pyramids, view, margin, rays, centres, radius, y0, x0, color, coverage):
    """Trace the TILE_H x TILE_W tile at (y0, x0) of the picture.

    packed float32 [L, 4, Hc, Wc] premultiplied R, G, B, A; planes float64 [L, 3] (d, gx, gy); pyramids: see
    `kernel_arguments`; view (K, focus, oy, ox); rays: points, weights and spans of a `lens_tables.RayTable`; centres
    float32 [2, H, W] and radius: of the pupil's disc, [2, 0, 0] without one; color float32 [H, W, 3] and coverage
    float32 [H, W] are filled.
    """
    points, weights, spans = rays
    layers = len(packed)
    rows, n = min(TILE_H, len(color) - y0), min(TILE_W, color.shape[1] - x0)
    # Coordinates are offsets from the picture's centre, which lies at (oy, ox) of the canvas.
    y, x = y0 + margin - view[2], x0 + margin - view[3]
    state, seen = np.zeros((layers, STATES)), np.empty(layers, np.int64)
    tile = Tile(y, x, rows, n)
    for m in range(layers):
        classify(planes, pyramids, view, tile, m, state)
    order = seen[: visible_order(state, seen)]
    ordered = is_ordered(state, order, len(order), planes)
    start, stop, moving = _rays_for(state, order, spans)

    light = np.zeros((rows, 3, n), np.float32)
    arrived = np.zeros((rows, 3, n), np.float32)
    sharp = np.zeros((rows, layers, 3, n), np.float32)  # light that reaches a layer in focus
    passed, w = np.zeros((rows, 3, n), np.float32), np.ones(3, np.float32)
    through, open_to = np.empty(n, np.float32), np.ones(n, np.float32)
    for i in range(start, stop):
        s = (points[i, 0], points[i, 1])
        if moving:
            for c in range(3):
                w[c] = weights[min(c, len(weights) - 1), i]
        for row in range(rows):
            if centres.shape[1] > 0 and moving:
                for k in range(n):
                    dx, dy = centres[0, y0 + row, x0 + k] - s[0], centres[1, y0 + row, x0 + k] - s[1]
                    open_to[k] = 1 if dx * dx + dy * dy <= radius * radius else 0
            through[:] = open_to
            if ordered:
                _cross_layers(
                    packed, planes, state, order, view, s, w, y + row, x, 0, n, light[row], sharp[row], through
                )
            else:
                _cross_unordered(packed, planes, state, order, view, s, w, y + row, x, light[row], sharp[row], through)
            _arrive(open_to, through, w, arrived[row], passed[row])
    _develop(packed, state, order, margin, y0, x0, light, arrived, sharp, passed, color, coverage)


@kernel
def _rays_for(state, order, spans):
    """Start and stop in the ray tables, by the tile's largest reach, and whether anything moves with the lens point.

    Where nothing does, any one ray is the answer, whatever weight it has in the table.
    """
    reach = 0.0
    for m in order:
        reach = max(reach, state[m, REACH])
    if reach == 0:
        return 0, 1, False
    side = min(len(spans) - 1, grid_side(reach))
    return spans[side, 0], spans[side, 1], True


@kernel
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


@kernel
def _nearness(plane, view, s, y, x):
    """d(p') - d_f where the ray through offset (x, y) and lens point s meets a plane."""
    d, gx, gy = plane
    return (d + gx * x + gy * y - view[1]) / (1 - view[0] * (gx * s[0] + gy * s[1]))


@kernel
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


@kernel
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


@kernel
def _arrive(open_to, through, w, arrived, passed):
    """Note how much of this ray some layer has stopped, and how much the pupil let pass."""
    for c in range(3):
        seen, all_of_it = arrived[c], passed[c]
        for x in range(len(through)):
            seen[x] += w[c] * (open_to[x] - through[x])
            all_of_it[x] += w[c] * open_to[x]


@kernel
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


@kernel
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


@kernel
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


@kernel
def _add_frontal(packed, m, c, ix, iy, jy, fx, fy, w, light, through, start, stop):
    u, v, one = np.float32(fx), np.float32(fy), np.float32(1)
    f00, f10, f01, f11 = w * (one - u) * (one - v), w * u * (one - v), w * (one - u) * v, w * u * v
    i, j = np.uint64(ix), np.uint64(ix + 1)
    for x in range(np.uint64(start), np.uint64(stop)):
        light[c, x] += through[x] * (
            f00 * packed[m, c, iy, i + x] + f10 * packed[m, c, iy, j + x]
            + f01 * packed[m, c, jy, i + x] + f11 * packed[m, c, jy, j + x]
        )  # fmt: skip


@kernel
def _add_tilted(packed, m, c, ix, iy, jy, fx, fy, dfx, dfy, w, light, through, start, stop):
    fx32, fy32, dx32, dy32, one = np.float32(fx), np.float32(fy), np.float32(dfx), np.float32(dfy), np.float32(1)
    i, j, first = np.uint64(ix), np.uint64(ix + 1), np.uint64(start)
    for x in range(first, np.uint64(stop)):
        step = np.float32(np.int32(x - first))
        u, v = fx32 + dx32 * step, fy32 + dy32 * step
        upper = (one - u) * packed[m, c, iy, i + x] + u * packed[m, c, iy, j + x]
        lower = (one - u) * packed[m, c, jy, i + x] + u * packed[m, c, jy, j + x]
        light[c, x] += w * through[x] * ((one - v) * upper + v * lower)


@kernel
def _dim(packed, m, ix, iy, jy, fx, fy, dfx, dfy, through, start, stop):
    fx32, fy32, dx32, dy32, one = np.float32(fx), np.float32(fy), np.float32(dfx), np.float32(dfy), np.float32(1)
    i, j, first = np.uint64(ix), np.uint64(ix + 1), np.uint64(start)
    for x in range(first, np.uint64(stop)):
        step = np.float32(np.int32(x - first))
        u, v = fx32 + dx32 * step, fy32 + dy32 * step
        upper = (one - u) * packed[m, 3, iy, i + x] + u * packed[m, 3, iy, j + x]
        lower = (one - u) * packed[m, 3, jy, i + x] + u * packed[m, 3, jy, j + x]
        through[x] *= one - ((one - v) * upper + v * lower)


@kernel
def _develop(packed, state, order, margin, y0, x0, light, arrived, sharp, passed, color, coverage):
    """Sums over rays -> normalised colour and coverage of a tile.

    A pixel that nothing blurred touches gets what a pinhole sees, computed as the pinhole does and not as a mean over
    rays: bit-identical to the all-in-focus picture. A channel that the aperture blocks altogether is black and does
    not count for the coverage.
    """
    value, share = np.empty(3, np.float32), np.empty(3, np.float32)
    for row in range(len(light)):
        for x in range(light.shape[2]):
            untouched = _pinhole(
                packed, state, order, margin, y0, x0, row, x, light, arrived, sharp, passed, value, share
            )
            seen, channels = np.float32(0), np.float32(0)
            for c in range(3):
                color[y0 + row, x0 + x, c] = 0
                if passed[row, c, x] == 0:
                    continue
                if not untouched:
                    value[c] = light[row, c, x] / passed[row, c, x]
                    for m in order:
                        if state[m, REACH] == 0:
                            reached = sharp[row, m, c, x] / passed[row, c, x]
                            value[c] += packed[m, c, y0 + row + margin, x0 + x + margin] * reached
                    share[c] = arrived[row, c, x] / passed[row, c, x]
                seen += share[c]
                channels += 1
                if share[c] > 0:
                    color[y0 + row, x0 + x, c] = value[c] / share[c]
            coverage[y0 + row, x0 + x] = seen / max(channels, np.float32(1))


@kernel
def _pinhole(packed, state, order, margin, y0, x0, row, x, light, arrived, sharp, passed, value, share):
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
            if passed[row, c, x] > 0 and abs(sharp[row, m, c, x] / passed[row, c, x] - through) > 2e-5:
                untouched = False
            value[c] += packed[m, c, y0 + row + margin, x0 + x + margin] * through
        through *= np.float32(1) - packed[m, 3, y0 + row + margin, x0 + x + margin]
    share[:] = np.float32(1) - through
    for c in range(3):
        if passed[row, c, x] > 0 and abs(arrived[row, c, x] / passed[row, c, x] - share[c]) > 2e-5:
            untouched = False
    return untouched
