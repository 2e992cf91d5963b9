"""Exact means of one layer over the opening: collapsed kernels applied to tiles of TILE_W x GROUP pixels.

`Book` arrays are described in `collapse.collapse`. A frontal layer has one kernel; a tilted one has kernels at nodes of
the radius, and a lane's value is interpolated between the two that enclose it: the kernel at the first node of the
tile plus, node by node, the clamped part of the way to the next one times the difference.
"""

import numpy as np

from bokehsynth.rendering.cpu.simd import add, clamp01, load, madd, poke, ramp, splat, store, sub
from bokehsynth.rendering.jit import kernel, leaf
from bokehsynth.rendering.tile_constants import GROUP, LANES

NEAREST = 2.0
"""Pixels of blur radius below which a texel is in no footprint of radius RUNS_FROM: its weight |s|^-3 is left out."""


@kernel
def sum_along(planes, y0, sums):
    """Prefix sums along x (excluding the texel itself) of planes [P, Hc, Wc] from canvas row y0 on: [P, rows, Wc]."""
    count, rows, width = sums.shape
    for row in range(rows):
        y, r, g, b, a = y0 + row, 0.0, 0.0, 0.0, 0.0
        for x in range(width):  # four sums at once, since one waits for each of its additions
            sums[0, row, x], sums[1, row, x], sums[2, row, x] = r, g, b
            r, g, b = r + planes[0, y, x], g + planes[1, y, x], b + planes[2, y, x]
            if count == 4:
                sums[3, row, x] = a
                a += planes[3, y, x]


@kernel
def preweigh(planes, plane, view, reference, y0, weighed, sums):
    """Planes of a tilted layer times (reference / |K s|)^3 and their prefix sums along x (excluding the texel itself).

    planes float32 [P, Hc, Wc], premultiplied; plane (d, gx, gy); view (K, focus, oy, ox) with (oy, ox) the canvas's
    centre; weighed, sums float32 [P, rows, Wc] are filled for canvas rows y0 on.

    Sums run from both ends of a row towards the line in focus, where weights are largest: added last, they do not
    drown the others. No run crosses that line.
    """
    K, focus, oy, ox = view
    d, gx, gy = plane
    count, rows, width = weighed.shape
    weight = np.empty(width, np.float32)
    for row in range(rows):
        y = y0 + row
        turn = width
        start, slope = K * (d + gy * (y - oy) - focus - gx * ox), K * gx
        if slope != 0:
            turn = int(min(max(np.ceil(-start / slope), 0.0), float(width)))
        for x in range(width):
            s = abs(start + slope * x)
            ratio = reference / s if s >= NEAREST else 0.0
            weight[x] = ratio * ratio * ratio
        _sum_colour(planes, weight, y, row, turn, weighed, sums)
        if count == 4:
            _sum_plane(planes, weight, y, row, turn, weighed, sums)


@leaf
def _sum_colour(planes, weight, y, row, turn, weighed, sums):
    """Three sums at once, since one waits for each of its additions."""
    width = len(weight)
    r, g, b = 0.0, 0.0, 0.0
    for x in range(turn):
        w = weight[x]
        red, green, blue = planes[0, y, x] * w, planes[1, y, x] * w, planes[2, y, x] * w
        weighed[0, row, x], weighed[1, row, x], weighed[2, row, x] = red, green, blue
        sums[0, row, x], sums[1, row, x], sums[2, row, x] = r, g, b
        r, g, b = r + red, g + green, b + blue
    r, g, b = 0.0, 0.0, 0.0
    for x in range(width - 1, turn - 1, -1):
        w = weight[x]
        red, green, blue = planes[0, y, x] * w, planes[1, y, x] * w, planes[2, y, x] * w
        r, g, b = r + red, g + green, b + blue
        weighed[0, row, x], weighed[1, row, x], weighed[2, row, x] = red, green, blue
        sums[0, row, x], sums[1, row, x], sums[2, row, x] = -r, -g, -b


@leaf
def _sum_plane(planes, weight, y, row, turn, weighed, sums):
    """The fourth plane, alpha."""
    total = 0.0
    for x in range(turn):
        value = planes[3, y, x] * weight[x]
        weighed[3, row, x], sums[3, row, x] = value, total
        total += value
    total = 0.0
    for x in range(len(weight) - 1, turn - 1, -1):
        value = planes[3, y, x] * weight[x]
        total += value
        weighed[3, row, x], sums[3, row, x] = value, -total


@leaf
def _value(source, sums, stride, base, offsets, weights, first_tap, edges, first_run, entry, channel, out):
    """Kernel `entry` on GROUP rows of one plane; base is the index of the first pixel's own texel."""
    a0 = splat(np.float32(0))
    a1, a2, a3 = a0, a0, a0
    for t in range(first_tap[entry], first_tap[entry + 1]):
        at, w = base + offsets[t], splat(weights[channel, t])
        a0 = madd(a0, w, load(source, at))
        a1 = madd(a1, w, load(source, at + stride))
        a2 = madd(a2, w, load(source, at + 2 * stride))
        a3 = madd(a3, w, load(source, at + 3 * stride))
    for t in range(first_run[entry], first_run[entry + 1]):
        right, left = base + edges[0, t], base + edges[1, t]
        a0 = add(a0, sub(load(sums, right), load(sums, left)))
        a1 = add(a1, sub(load(sums, right + stride), load(sums, left + stride)))
        a2 = add(a2, sub(load(sums, right + 2 * stride), load(sums, left + 2 * stride)))
        a3 = add(a3, sub(load(sums, right + 3 * stride), load(sums, left + 3 * stride)))
    store(out, 0, a0)
    store(out, LANES, a1)
    store(out, 2 * LANES, a2)
    store(out, 3 * LANES, a3)


@leaf
def _value_and_slope(
    source, sums, stride, base, offsets, weights, first_tap, edges, first_run, entry, channel, share, out
):
    """Kernel `entry` plus share (address, per pixel) times its difference to the next."""
    rise = channel + len(weights) // 2
    a0 = splat(np.float32(0))
    a1, a2, a3, b0, b1, b2, b3 = a0, a0, a0, a0, a0, a0, a0
    for t in range(first_tap[entry], first_tap[entry + 1]):
        at, w, d = base + offsets[t], splat(weights[channel, t]), splat(weights[rise, t])
        v = load(source, at)
        a0, b0 = madd(a0, w, v), madd(b0, d, v)
        v = load(source, at + stride)
        a1, b1 = madd(a1, w, v), madd(b1, d, v)
        v = load(source, at + 2 * stride)
        a2, b2 = madd(a2, w, v), madd(b2, d, v)
        v = load(source, at + 3 * stride)
        a3, b3 = madd(a3, w, v), madd(b3, d, v)
    for t in range(first_run[entry], first_run[entry + 1]):
        right, left = base + edges[0, t], base + edges[1, t]
        a0 = add(a0, sub(load(sums, right), load(sums, left)))
        a1 = add(a1, sub(load(sums, right + stride), load(sums, left + stride)))
        a2 = add(a2, sub(load(sums, right + 2 * stride), load(sums, left + 2 * stride)))
        a3 = add(a3, sub(load(sums, right + 3 * stride), load(sums, left + 3 * stride)))
    store(out, 0, madd(a0, b0, load(share, 0)))
    store(out, LANES, madd(a1, b1, load(share, LANES)))
    store(out, 2 * LANES, madd(a2, b2, load(share, 2 * LANES)))
    store(out, 3 * LANES, madd(a3, b3, load(share, 3 * LANES)))


@leaf
def _slope(source, stride, base, offsets, weights, first_tap, entry, channel, share, out):
    """Add share times the difference of kernel `entry` to the next."""
    rise = channel + len(weights) // 2
    b0 = splat(np.float32(0))
    b1, b2, b3 = b0, b0, b0
    for t in range(first_tap[entry], first_tap[entry + 1]):
        at, d = base + offsets[t], splat(weights[rise, t])
        b0 = madd(b0, d, load(source, at))
        b1 = madd(b1, d, load(source, at + stride))
        b2 = madd(b2, d, load(source, at + 2 * stride))
        b3 = madd(b3, d, load(source, at + 3 * stride))
    store(out, 0, madd(load(out, 0), b0, load(share, 0)))
    store(out, LANES, madd(load(out, LANES), b1, load(share, LANES)))
    store(out, 2 * LANES, madd(load(out, 2 * LANES), b2, load(share, 2 * LANES)))
    store(out, 3 * LANES, madd(load(out, 3 * LANES), b3, load(share, 3 * LANES)))


@leaf
def _shares(r, rx, ry, node, beyond, out):
    """How far each pixel's radius lies on the way from one node to the next, 0..1."""
    scale = 1 / (beyond - node)
    for row in range(GROUP):
        way = madd(splat(np.float32((r + ry * row - node) * scale)), splat(np.float32(rx * scale)), ramp())
        store(out, row * LANES, clamp01(way))


@leaf
def gains(r, rx, ry, nodes, norms, entry, stop, reference, out):
    """1 / norm of every pixel's interpolated coverage kernel, times |r / reference|^3 for the weights' own scale.

    r, rx, ry, entry, stop: see `filter_plane`; out: address of GROUP x LANES floats.
    """
    if stop - entry == 1:
        for row in range(GROUP):
            store(out, row * LANES, splat(np.float32(1 / norms[entry, 0])))
        return
    for row in range(GROUP):
        for lane in range(LANES):
            at, i = r + ry * row + rx * lane, entry
            while i < stop - 2 and at > nodes[i + 1]:
                i += 1
            t = min(max((at - nodes[i]) / (nodes[i + 1] - nodes[i]), 0.0), 1.0)
            near = norms[i, 0] + t * (norms[i, 1] - norms[i, 0])
            far = norms[i, 2] + t * (norms[i, 3] - norms[i, 2])
            ratio = abs(at) / reference
            poke(out, row * LANES + lane, np.float32(ratio * ratio * ratio / (near + t * (far - near))))


@leaf
def filter_plane(
    source, sums, stride, base, offsets, weights, first_tap, edges, first_run, nodes, entry, stop, r, rx, ry,
    channel, scratch, out,
):  # fmt: skip
    """Mean of one plane of a layer over the opening for GROUP x LANES pixels, without `gains`.

    source, sums: addresses of the plane and of its prefix sums; base: index of the first pixel's own texel; offsets to
    first_run, nodes: the book, of which entries `entry` .. `stop` - 1 belong to this layer; r, rx, ry: signed blur
    radius of the first pixel and its rise per column and row; channel: of the book's weights; scratch, out: addresses
    of GROUP x LANES floats.
    """
    if stop - entry == 1:
        _value(source, sums, stride, base, offsets, weights, first_tap, edges, first_run, entry, channel, out)
        return
    low = r + min(0.0, rx * (LANES - 1)) + min(0.0, ry * (GROUP - 1))
    high = r + max(0.0, rx * (LANES - 1)) + max(0.0, ry * (GROUP - 1))
    while entry < stop - 2 and nodes[entry + 1] <= low:
        entry += 1
    _shares(r, rx, ry, nodes[entry], nodes[entry + 1], scratch)
    _value_and_slope(
        source, sums, stride, base, offsets, weights, first_tap, edges, first_run, entry, channel, scratch, out
    )
    while entry < stop - 2 and nodes[entry + 1] < high:
        entry += 1
        _shares(r, rx, ry, nodes[entry], nodes[entry + 1], scratch)
        _slope(source, stride, base, offsets, weights, first_tap, entry, channel, scratch, out)


@leaf
def filter_between(
    source, sums, stride, base, offsets, weights, first_tap, edges, first_run, above, below, per_tile, row, rows,
    channel, scratch, out,
):  # fmt: skip
    """`filter_plane` between kernels at corners: entries `above` .. `above` + per_tile along the tile, and `below` ...

    The group's first pixel lies `row` rows below the upper line of corners, of the `rows` between the two lines.
    scratch: address of 2 x GROUP x LANES floats.
    """
    lower = scratch + 4 * GROUP * LANES
    for entry, here in ((above, out), (below, lower)):
        for step in range(per_tile):
            for r in range(GROUP):
                way = madd(splat(np.float32(-step)), splat(np.float32(per_tile / LANES)), ramp())
                store(scratch, r * LANES, clamp01(way))
            if step == 0:
                _value_and_slope(
                    source, sums, stride, base, offsets, weights, first_tap, edges, first_run, entry, channel,
                    scratch, here,
                )  # fmt: skip
            else:
                _slope(source, stride, base, offsets, weights, first_tap, entry + step, channel, scratch, here)
    for r in range(GROUP):
        way = splat(np.float32((row + r) / rows))
        near = load(out, r * LANES)
        store(out, r * LANES, madd(near, way, sub(load(lower, r * LANES), near)))


@leaf
def gains_between(r, rx, ry, norms, above, below, per_tile, row, rows, reference, out):
    """`gains` for `filter_between`."""
    for i in range(GROUP):
        for lane in range(LANES):
            step = lane * per_tile // LANES
            t, v = lane * per_tile / LANES - step, (row + i) / rows
            near = norms[above + step, 0] + t * (norms[above + step, 3] - norms[above + step, 0])
            far = norms[below + step, 0] + t * (norms[below + step, 3] - norms[below + step, 0])
            ratio = abs(r + ry * i + rx * lane) / reference
            poke(out, i * LANES + lane, np.float32(ratio * ratio * ratio / (near + v * (far - near))))
