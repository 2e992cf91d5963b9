"""What exact means of single layers miss: layers that vary together over the opening.

A pixel is E[sum_l T_l c_l] with T_l the light that the layers before l let through on each ray. Compositing means,
over(E[c_0], E[c_1], ...), is that only where no two factors vary at once. Their difference is estimated from a set of
rays, the same for both terms, so that what the set gets wrong of a single layer cancels:

    delta = mean(sum_l T_l c_l) - over(mean(c_0), mean(c_1), ...)

It is exactly 0 where at most one layer varies, and converges to the truth as rays are added.

A batch of rays is carried through one layer at a time, for GROUP x LANES pixels: `aim` finds the texels, `sum_light`
adds a plane's light up, `dim` takes from the rays what the layer stops.
"""

import numpy as np

from bokehsynth.rendering.cpu.simd import (
    add,
    load,
    madd,
    mul,
    peek,
    positive,
    put,
    ramp,
    splat,
    store,
    sub,
    where_positive,
)
from bokehsynth.rendering.jit import leaf
from bokehsynth.rendering.tile_constants import CELL, GROUP, LANES

BATCH = 32
"""Rays at a time: their transmissions stay in the first-level cache."""

ONE_TEXEL, TWO_TEXELS, SCATTERED = range(3)
"""How far the hits of a tile's pixels drift apart for one ray: they share their four texels, apart from the step of one
per pixel; they need a neighbour more; each has its own."""


@leaf
def aim(planes, m, view, x, y, points, stretches, steps, places, start, stop, stride, texel, place, drift, kind):
    """Where rays start .. stop - 1 meet layer m: one row of `texel`, `place`, `drift` and `kind` per ray.

    planes [L, 3] (d, gx, gy); view (K, focus, oy, ox); (x, y) offset of the group's first pixel; stretches, steps,
    places: see `plates.Aims`. texel int64: index of the upper left texel; place float32 [., 2]: of the first pixel,
    relative to it; drift float32 [., 4]: of the hit's x per column and row, then of its y.
    """
    _, focus, oy, ox = view
    d, gx, gy = planes[m, 0], planes[m, 1], planes[m, 2]
    base = int(y + oy) * stride + int(x + ox)
    if gx == 0 and gy == 0:
        for i in range(start, stop):
            n = i - start
            texel[n], place[n, 0], place[n, 1] = base + steps[m, i], places[m, i, 0], places[m, i, 1]
        return
    delta = d + gx * x + gy * y - focus
    for i in range(start, stop):
        n = i - start
        along_x, along_y = points[i, 0] * stretches[m, i], points[i, 1] * stretches[m, i]
        qx, qy = along_x * delta, along_y * delta
        spread_x = _spread(along_x * gx, along_x * gy, drift, n, 0)
        spread_y = _spread(along_y * gx, along_y * gy, drift, n, 2)
        ix, iy = np.floor(qx + spread_x[0]), np.floor(qy + spread_y[0])
        widest = max(qx + spread_x[1] - ix, qy + spread_y[1] - iy)
        kind[n] = ONE_TEXEL if widest < 1 else TWO_TEXELS if widest < 2 else SCATTERED
        texel[n], place[n, 0], place[n, 1] = base + int(iy) * stride + int(ix), qx - ix, qy - iy


@leaf
def _spread(per_column, per_row, drift, n, at):
    drift[n, at], drift[n, at + 1] = per_column, per_row
    low = min(per_column, 0.0) * (LANES - 1) + min(per_row, 0.0) * (GROUP - 1)
    return low, max(per_column, 0.0) * (LANES - 1) + max(per_row, 0.0) * (GROUP - 1)


@leaf
def sum_light(
    plane, stride, frontal, texel, place, drift, kind, through, mask, weights, channel, start, count, mean, full
):
    """Add w c to `mean` and w T c to `full` over `count` rays.

    plane: address of canvas texel (0, 0); weights float32 [C, N], used from ray `start` on; through, mean, full:
    addresses of CELL floats, the first for every ray, as for `mask`: which rays the pupil lets pass, 0 if all.
    """
    if frontal:
        _sum_frontal(plane, stride, texel, place, through, mask, weights, channel, start, count, mean, full)
        return
    for row in range(GROUP):
        m, f = load(mean, row * LANES), load(full, row * LANES)
        for i in range(count):
            c = mul(splat(weights[channel, start + i]), _slanted(plane, stride, texel, place, drift, kind, i, row))
            if mask != 0:
                c = mul(c, load(mask, i * CELL + row * LANES))
            m, f = add(m, c), madd(f, load(through, i * CELL + row * LANES), c)
        store(mean, row * LANES, m)
        store(full, row * LANES, f)


@leaf
def _sum_frontal(plane, stride, texel, place, through, mask, weights, channel, start, count, mean, full):
    """The same four taps for every pixel; rows of texels are shared between rows of pixels."""
    m0, m1, m2, m3 = load(mean, 0), load(mean, LANES), load(mean, 2 * LANES), load(mean, 3 * LANES)
    f0, f1, f2, f3 = load(full, 0), load(full, LANES), load(full, 2 * LANES), load(full, 3 * LANES)
    for i in range(count):
        u, v, w, at, ray = place[i, 0], place[i, 1], weights[channel, start + i], texel[i], i * CELL
        right, left = splat(u), splat(np.float32(1) - u)
        lower, upper = splat(w * v), splat(w * (np.float32(1) - v))
        h0 = madd(mul(left, load(plane, at)), right, load(plane, at + 1))
        at += stride
        h1 = madd(mul(left, load(plane, at)), right, load(plane, at + 1))
        c = madd(mul(upper, h0), lower, h1)
        if mask != 0:
            c = mul(c, load(mask, ray))
        m0, f0 = add(m0, c), madd(f0, load(through, ray), c)
        at += stride
        h0 = madd(mul(left, load(plane, at)), right, load(plane, at + 1))
        c = madd(mul(upper, h1), lower, h0)
        if mask != 0:
            c = mul(c, load(mask, ray + LANES))
        m1, f1 = add(m1, c), madd(f1, load(through, ray + LANES), c)
        at += stride
        h1 = madd(mul(left, load(plane, at)), right, load(plane, at + 1))
        c = madd(mul(upper, h0), lower, h1)
        if mask != 0:
            c = mul(c, load(mask, ray + 2 * LANES))
        m2, f2 = add(m2, c), madd(f2, load(through, ray + 2 * LANES), c)
        at += stride
        h0 = madd(mul(left, load(plane, at)), right, load(plane, at + 1))
        c = madd(mul(upper, h1), lower, h0)
        if mask != 0:
            c = mul(c, load(mask, ray + 3 * LANES))
        m3, f3 = add(m3, c), madd(f3, load(through, ray + 3 * LANES), c)
    store(mean, 0, m0)
    store(mean, LANES, m1)
    store(mean, 2 * LANES, m2)
    store(mean, 3 * LANES, m3)
    store(full, 0, f0)
    store(full, LANES, f1)
    store(full, 2 * LANES, f2)
    store(full, 3 * LANES, f3)


@leaf
def _slanted(plane, stride, texel, place, drift, kind, i, row):
    """Ray i's lookups for one row of pixels whose hits drift from texel to texel."""
    fx, fy = place[i, 0] + drift[i, 1] * np.float32(row), place[i, 1] + drift[i, 3] * np.float32(row)
    at, one = texel[i] + row * stride, splat(np.float32(1))
    u = madd(splat(fx), splat(drift[i, 0]), ramp())
    v = madd(splat(fy), splat(drift[i, 2]), ramp())
    if kind[i] == ONE_TEXEL:
        left = sub(one, u)
        above = madd(mul(left, load(plane, at)), u, load(plane, at + 1))
        below = madd(mul(left, load(plane, at + stride)), u, load(plane, at + stride + 1))
        return madd(mul(sub(one, v), above), v, below)
    if kind[i] == TWO_TEXELS:  # the same lookup, as hat functions on three by three texels
        u0, u2, v0, v2 = positive(sub(one, u)), positive(sub(u, one)), positive(sub(one, v)), positive(sub(v, one))
        u1, v1 = sub(sub(one, u0), u2), sub(sub(one, v0), v2)
        h = madd(madd(mul(u0, load(plane, at)), u1, load(plane, at + 1)), u2, load(plane, at + 2))
        total = mul(v0, h)
        at += stride
        h = madd(madd(mul(u0, load(plane, at)), u1, load(plane, at + 1)), u2, load(plane, at + 2))
        total = madd(total, v1, h)
        at += stride
        h = madd(madd(mul(u0, load(plane, at)), u1, load(plane, at + 1)), u2, load(plane, at + 2))
        return madd(total, v2, h)
    return _scattered(plane, stride, at, fx, fy, drift[i, 0], drift[i, 2])


@leaf
def sum_slanted_colour(
    plane, step, stride, texel, place, drift, kind, through, mask, weights, start, count, mean, full, cell
):
    """`sum_light` of a tilted layer's three colour planes at once, for a lens that treats them alike.

    step: bytes from plane to plane; mean, full: of red; `cell` bytes further of green, and again of blue.
    """
    one = splat(np.float32(1))
    for row in range(GROUP):
        at = row * LANES
        m0, m1, m2 = load(mean, at), load(mean + cell, at), load(mean + 2 * cell, at)
        f0, f1, f2 = load(full, at), load(full + cell, at), load(full + 2 * cell, at)
        for i in range(count):
            w, t = splat(weights[0, start + i]), load(through, i * CELL + at)
            if mask != 0:
                w = mul(w, load(mask, i * CELL + at))
            if kind[i] == ONE_TEXEL:
                u = madd(splat(place[i, 0] + drift[i, 1] * np.float32(row)), splat(drift[i, 0]), ramp())
                v = madd(splat(place[i, 1] + drift[i, 3] * np.float32(row)), splat(drift[i, 2]), ramp())
                lower, upper = mul(v, w), mul(sub(one, v), w)
                w00, w01 = mul(sub(one, u), upper), mul(u, upper)
                w10, w11 = mul(sub(one, u), lower), mul(u, lower)
                here = texel[i] + row * stride
                below = here + stride
                red = madd(mul(w00, load(plane, here)), w01, load(plane, here + 1))
                c0 = madd(madd(red, w10, load(plane, below)), w11, load(plane, below + 1))
                green = madd(mul(w00, load(plane + step, here)), w01, load(plane + step, here + 1))
                c1 = madd(madd(green, w10, load(plane + step, below)), w11, load(plane + step, below + 1))
                last = plane + 2 * step
                blue = madd(mul(w00, load(last, here)), w01, load(last, here + 1))
                c2 = madd(madd(blue, w10, load(last, below)), w11, load(last, below + 1))
            else:
                c0 = mul(w, _slanted(plane, stride, texel, place, drift, kind, i, row))
                c1 = mul(w, _slanted(plane + step, stride, texel, place, drift, kind, i, row))
                c2 = mul(w, _slanted(plane + 2 * step, stride, texel, place, drift, kind, i, row))
            m0, f0 = add(m0, c0), madd(f0, t, c0)
            m1, f1 = add(m1, c1), madd(f1, t, c1)
            m2, f2 = add(m2, c2), madd(f2, t, c2)
        store(mean, at, m0)
        store(mean + cell, at, m1)
        store(mean + 2 * cell, at, m2)
        store(full, at, f0)
        store(full + cell, at, f1)
        store(full + 2 * cell, at, f2)


@leaf
def _scattered(plane, stride, at, fx, fy, drift_x, drift_y):
    """Pixel by pixel, for the steepest planes."""
    out = splat(np.float32(0))
    for lane in range(LANES):
        px, py = fx + drift_x * np.float32(lane), fy + drift_y * np.float32(lane)
        ix, iy = int(np.floor(px)), int(np.floor(py))
        u, v = px - np.float32(ix), py - np.float32(iy)
        a = at + iy * stride + ix + lane
        above = (np.float32(1) - u) * peek(plane, a) + u * peek(plane, a + 1)
        below = (np.float32(1) - u) * peek(plane, a + stride) + u * peek(plane, a + stride + 1)
        out = put(out, lane, (np.float32(1) - v) * above + v * below)
    return out


@leaf
def look_up(plane, stride, frontal, texel, place, drift, kind, count, samples):
    """Lookups of a plane by `count` rays, CELL floats each, at the address `samples`."""
    for i in range(count):
        if frontal:
            _look_frontal(plane, stride, texel[i], place[i, 0], place[i, 1], samples, i * CELL)
            continue
        for row in range(GROUP):
            value = _slanted(plane, stride, texel, place, drift, kind, i, row)
            store(samples, (i * GROUP + row) * LANES, value)


@leaf
def _look_frontal(plane, stride, at, u, v, samples, here):
    right, left = splat(u), splat(np.float32(1) - u)
    lower, upper = splat(v), splat(np.float32(1) - v)
    h0 = madd(mul(left, load(plane, at)), right, load(plane, at + 1))
    for row in range(GROUP):
        at += stride
        h1 = madd(mul(left, load(plane, at)), right, load(plane, at + 1))
        store(samples, here + row * LANES, madd(mul(upper, h0), lower, h1))
        h0 = h1


@leaf
def sum_samples(samples, mask, weights, channel, start, count, total):
    """Add w times the samples of `count` rays to `total`."""
    for row in range(GROUP):
        t = load(total, row * LANES)
        for i in range(count):
            at, w = (i * GROUP + row) * LANES, splat(weights[channel, start + i])
            if mask != 0:
                w = mul(w, load(mask, at))
            t = madd(t, w, load(samples, at))
        store(total, row * LANES, t)


@leaf
def dim(samples, through, count):
    """T *= 1 - a for `count` rays."""
    one = splat(np.float32(1))
    for i in range(count * GROUP):
        store(through, i * LANES, mul(load(through, i * LANES), sub(one, load(samples, i * LANES))))


@leaf
def repeat(plane, stride, base, count, samples):
    """A layer in focus: every ray sees the pixel's own texel."""
    for row in range(GROUP):
        value = load(plane, base + row * stride)
        for i in range(count):
            store(samples, (i * GROUP + row) * LANES, value)


@leaf
def mark_passed(centres, pixel, width, radius, points, start, count, mask):
    """Which of `count` rays lie in the pupil's disc at each pixel of a group: 1 or 0 at the address `mask`.

    centres: address of two planes [H, W] of its centre's x and y; pixel: index of the group's first pixel in them;
    width: of a row; radius of the disc.
    """
    limit, one, none = splat(np.float32(radius * radius)), splat(np.float32(1)), splat(np.float32(0))
    for i in range(count):
        sx, sy = splat(np.float32(points[start + i, 0])), splat(np.float32(points[start + i, 1]))
        for row in range(GROUP):
            dx, dy = sub(load(centres[0], pixel + row * width), sx), sub(load(centres[1], pixel + row * width), sy)
            within = sub(limit, madd(mul(dx, dx), dy, dy))
            store(mask, (i * GROUP + row) * LANES, where_positive(within, one, none))
