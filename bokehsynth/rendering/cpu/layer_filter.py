"""Exact means of one layer over the opening: footprint kernels applied to groups of LANES x GROUP pixels.

The arrays of a `KernelTable` are described in `footprint_kernel`. A frontal layer has one kernel; a tilted one has
kernels at nodes of the radius, and a lane's value is interpolated between the two that enclose it: the kernel at the
first node of the tile plus, node by node, the clamped part of the way to the next one times the difference.
"""

import numpy as np

from bokehsynth.rendering.cpu.simd import add, clamp01, load, madd, poke, ramp, splat, store, sub
from bokehsynth.rendering.jit import always_inline_kernel, inline_kernel, kernel
from bokehsynth.rendering.tile_constants import GROUP, LANES, RUNS_FROM

NEAREST = 2.0
"""Pixels of blur radius below which a texel is in no footprint of radius RUNS_FROM: its weight |s|^-3 is left out."""


@kernel
def prefix_sums(planes, y0, sums):
    """Sum planes [P, Hc, Wc] along x, the texel itself excluded, from canvas row y0 on: [P, rows, Wc]."""
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
def apply_tilt_weight(planes, plane, camera, reference, y0, weighted, sums):
    """Multiply planes of a tilted layer by (reference / |K s|)^3 and sum them along x (excluding the texel itself).

    planes float32 [P, Hc, Wc], premultiplied; plane (d, gx, gy); weighted, sums float32 [P, rows, Wc] are filled for
    canvas rows y0 on.

    Sums run from both ends of a row towards the line in focus, where weights are largest: added last, they do not
    drown the others. No run crosses that line.
    """
    K, focus, cy, cx = camera.blur, camera.focus, camera.cy, camera.cx
    d, gx, gy = plane
    count, rows, width = weighted.shape
    weight = np.empty(width, np.float32)
    for row in range(rows):
        y = y0 + row
        turn = width
        start, slope = K * (d + gy * (y - cy) - focus - gx * cx), K * gx
        if slope != 0:
            turn = int(min(max(np.ceil(-start / slope), 0.0), float(width)))
        for x in range(width):
            s = abs(start + slope * x)
            ratio = reference / s if s >= NEAREST else 0.0
            weight[x] = ratio * ratio * ratio
        _sum_colours(planes, weight, y, row, turn, weighted, sums)
        if count == 4:
            _sum_alpha(planes, weight, y, row, turn, weighted, sums)


@inline_kernel
def _sum_colours(planes, weight, y, row, turn, weighted, sums):
    """Weight and sum the colours: three sums at once, since one waits for each of its additions."""
    width = len(weight)
    r, g, b = 0.0, 0.0, 0.0
    for x in range(turn):
        w = weight[x]
        red, green, blue = planes[0, y, x] * w, planes[1, y, x] * w, planes[2, y, x] * w
        weighted[0, row, x], weighted[1, row, x], weighted[2, row, x] = red, green, blue
        sums[0, row, x], sums[1, row, x], sums[2, row, x] = r, g, b
        r, g, b = r + red, g + green, b + blue
    r, g, b = 0.0, 0.0, 0.0
    for x in range(width - 1, turn - 1, -1):
        w = weight[x]
        red, green, blue = planes[0, y, x] * w, planes[1, y, x] * w, planes[2, y, x] * w
        r, g, b = r + red, g + green, b + blue
        weighted[0, row, x], weighted[1, row, x], weighted[2, row, x] = red, green, blue
        sums[0, row, x], sums[1, row, x], sums[2, row, x] = -r, -g, -b


@inline_kernel
def _sum_alpha(planes, weight, y, row, turn, weighted, sums):
    """Weight and sum the fourth plane."""
    total = 0.0
    for x in range(turn):
        value = planes[3, y, x] * weight[x]
        weighted[3, row, x], sums[3, row, x] = value, total
        total += value
    total = 0.0
    for x in range(len(weight) - 1, turn - 1, -1):
        value = planes[3, y, x] * weight[x]
        total += value
        weighted[3, row, x], sums[3, row, x] = value, -total


@always_inline_kernel
def _value(texels, sums, kernels, entry, channel, out):
    """Apply kernel `entry` to GROUP rows of one plane."""
    source, stride, base = texels
    a0 = splat(np.float32(0))
    a1, a2, a3 = a0, a0, a0
    for t in range(kernels.first_tap[entry], kernels.first_tap[entry + 1]):
        at, w = base + kernels.offsets[t], splat(kernels.weights[channel, t])
        a0 = madd(a0, w, load(source, at))
        a1 = madd(a1, w, load(source, at + stride))
        a2 = madd(a2, w, load(source, at + 2 * stride))
        a3 = madd(a3, w, load(source, at + 3 * stride))
    for t in range(kernels.first_run[entry], kernels.first_run[entry + 1]):
        right, left = base + kernels.edges[0, t], base + kernels.edges[1, t]
        a0 = add(a0, sub(load(sums, right), load(sums, left)))
        a1 = add(a1, sub(load(sums, right + stride), load(sums, left + stride)))
        a2 = add(a2, sub(load(sums, right + 2 * stride), load(sums, left + 2 * stride)))
        a3 = add(a3, sub(load(sums, right + 3 * stride), load(sums, left + 3 * stride)))
    store(out, 0, a0)
    store(out, LANES, a1)
    store(out, 2 * LANES, a2)
    store(out, 3 * LANES, a3)


@inline_kernel
def value_and_slope(texels, sums, kernels, entry, channel, share, out):
    """Apply kernel `entry` plus share (address, per pixel) times its difference to the next."""
    source, stride, base = texels
    rise = channel + len(kernels.weights) // 2
    a0 = splat(np.float32(0))
    a1, a2, a3, b0, b1, b2, b3 = a0, a0, a0, a0, a0, a0, a0
    for t in range(kernels.first_tap[entry], kernels.first_tap[entry + 1]):
        at, w, d = base + kernels.offsets[t], splat(kernels.weights[channel, t]), splat(kernels.weights[rise, t])
        v = load(source, at)
        a0, b0 = madd(a0, w, v), madd(b0, d, v)
        v = load(source, at + stride)
        a1, b1 = madd(a1, w, v), madd(b1, d, v)
        v = load(source, at + 2 * stride)
        a2, b2 = madd(a2, w, v), madd(b2, d, v)
        v = load(source, at + 3 * stride)
        a3, b3 = madd(a3, w, v), madd(b3, d, v)
    for t in range(kernels.first_run[entry], kernels.first_run[entry + 1]):
        right, left = base + kernels.edges[0, t], base + kernels.edges[1, t]
        a0 = add(a0, sub(load(sums, right), load(sums, left)))
        a1 = add(a1, sub(load(sums, right + stride), load(sums, left + stride)))
        a2 = add(a2, sub(load(sums, right + 2 * stride), load(sums, left + 2 * stride)))
        a3 = add(a3, sub(load(sums, right + 3 * stride), load(sums, left + 3 * stride)))
    store(out, 0, madd(a0, b0, load(share, 0)))
    store(out, LANES, madd(a1, b1, load(share, LANES)))
    store(out, 2 * LANES, madd(a2, b2, load(share, 2 * LANES)))
    store(out, 3 * LANES, madd(a3, b3, load(share, 3 * LANES)))


@inline_kernel
def _slope(texels, kernels, entry, channel, share, out):
    """Add share times the difference of kernel `entry` to the next."""
    source, stride, base = texels
    rise = channel + len(kernels.weights) // 2
    b0 = splat(np.float32(0))
    b1, b2, b3 = b0, b0, b0
    for t in range(kernels.first_tap[entry], kernels.first_tap[entry + 1]):
        at, d = base + kernels.offsets[t], splat(kernels.weights[rise, t])
        b0 = madd(b0, d, load(source, at))
        b1 = madd(b1, d, load(source, at + stride))
        b2 = madd(b2, d, load(source, at + 2 * stride))
        b3 = madd(b3, d, load(source, at + 3 * stride))
    store(out, 0, madd(load(out, 0), b0, load(share, 0)))
    store(out, LANES, madd(load(out, LANES), b1, load(share, LANES)))
    store(out, 2 * LANES, madd(load(out, 2 * LANES), b2, load(share, 2 * LANES)))
    store(out, 3 * LANES, madd(load(out, 3 * LANES), b3, load(share, 3 * LANES)))


@inline_kernel
def _shares(radius, node, next_node, out):
    """Fill how far each pixel's radius lies on the way from one node to the next, 0..1."""
    r, rx, ry = radius
    scale = 1 / (next_node - node)
    for row in range(GROUP):
        share = madd(splat(np.float32((r + ry * row - node) * scale)), splat(np.float32(rx * scale)), ramp())
        store(out, row * LANES, clamp01(share))


@inline_kernel
def radius_range(radius):
    """Least and largest radius of a group."""
    r, rx, ry = radius
    low = r + min(0.0, rx * (LANES - 1)) + min(0.0, ry * (GROUP - 1))
    return low, r + max(0.0, rx * (LANES - 1)) + max(0.0, ry * (GROUP - 1))


@inline_kernel
def runs_from(per_column, per_row):
    """Least blur radii (before the focus, behind it) at which the kernels of a plane may take sums along rows.

    per_column, per_row: K g. Of planes steeper than K abs(g) = 0.84 a footprint of RUNS_FROM would hold texels nearer
    to the focus than NEAREST. Behind the focus the first kernel that a group takes is that of its largest radius: at
    its pixel of the smallest one it must not reach across the line in focus, where the sums turn.
    """
    e = np.hypot(per_column, per_row)
    spread = abs(per_column) * (LANES - 1) + abs(per_row) * (GROUP - 1)
    near = max(RUNS_FROM, (NEAREST + 1.5 * e) * (1 + e))
    return near, max(near, e * spread + 2 * e * (1 + e))


@always_inline_kernel
def gains(radius, table, span, reference, out):
    """Fill 1 / norm of every pixel's interpolated coverage kernel, times |r / reference|^3 for the weights' own scale.

    span: see `filter_plane`; out: address of GROUP x LANES floats.
    """
    nodes, norms = table.kernels.nodes, table.norms
    entry, stop = span
    if stop - entry == 1:
        for row in range(GROUP):
            store(out, row * LANES, splat(np.float32(1 / norms[entry, 0])))
        return
    r, rx, ry = radius
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


@always_inline_kernel
def filter_plane(texels, sums, kernels, span, radius, channel, scratch, out):
    """Mean of one plane of a layer over the opening for GROUP x LANES pixels, without `gains`.

    sums: address of the plane's prefix sums; span: first and last + 1 of the layer's kernels; channel: of their
    weights; scratch, out: addresses of GROUP x LANES floats.
    """
    entry, stop = span
    if stop - entry == 1:
        _value(texels, sums, kernels, entry, channel, out)
        return
    low, high = radius_range(radius)
    while entry < stop - 2 and kernels.nodes[entry + 1] <= low:
        entry += 1
    _shares(radius, kernels.nodes[entry], kernels.nodes[entry + 1], scratch)
    value_and_slope(texels, sums, kernels, entry, channel, scratch, out)
    while entry < stop - 2 and kernels.nodes[entry + 1] < high:
        entry += 1
        _shares(radius, kernels.nodes[entry], kernels.nodes[entry + 1], scratch)
        _slope(texels, kernels, entry, channel, scratch, out)
