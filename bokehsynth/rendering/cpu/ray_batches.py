"""Batches of rays, carried through one layer at a time for LANES x GROUP pixels.

`intersect_batch` finds the texels, `sum_light` adds a plane's light up, `attenuate` takes from the rays what the layer
stops. `control_variate` says what for.
"""

import numpy as np

from bokehsynth.rendering.cpu.simd import add, load, madd, mul, peek, positive, put, ramp, splat, store, sub
from bokehsynth.rendering.jit import always_inline_kernel, inline_kernel
from bokehsynth.rendering.tile_constants import CELL, FLOAT_BYTES, GROUP, LANES

BATCH = 32
"""Rays at a time: their transmissions stay in the first-level cache."""

ONE_TEXEL, TWO_TEXELS, SCATTERED = range(3)
"""How far the hits of a tile's pixels drift apart for one ray: they share their four texels, apart from the step of one
per pixel; they need a neighbour more; each has its own."""


@always_inline_kernel
def intersect_batch(layers, m, group, rays, start, stop, hits):
    """Fill one row of `hits` for each ray start .. stop - 1: where it meets layer m."""
    texel, fraction, drift, kind = hits
    d, gx, gy = layers.planes[m, 0], layers.planes[m, 1], layers.planes[m, 2]
    if gx == 0 and gy == 0:
        for i in range(start, stop):
            n = i - start
            texel[n] = group.base + rays.steps[m, i]
            fraction[n, 0], fraction[n, 1] = rays.fractions[m, i, 0], rays.fractions[m, i, 1]
        return
    delta = d + gx * group.x + gy * group.y - layers.camera.focus
    for i in range(start, stop):
        n = i - start
        along_x, along_y = rays.points[i, 0] * rays.stretches[m, i], rays.points[i, 1] * rays.stretches[m, i]
        qx, qy = along_x * delta, along_y * delta
        spread_x = spread(along_x * gx, along_x * gy, drift, n, 0)
        spread_y = spread(along_y * gx, along_y * gy, drift, n, 2)
        ix, iy = np.floor(qx + spread_x[0]), np.floor(qy + spread_y[0])
        widest = max(qx + spread_x[1] - ix, qy + spread_y[1] - iy)
        kind[n] = ONE_TEXEL if widest < 1 else TWO_TEXELS if widest < 2 else SCATTERED
        texel[n] = group.base + int(iy) * layers.stride + int(ix)
        fraction[n, 0], fraction[n, 1] = qx - ix, qy - iy


@inline_kernel
def spread(per_column, per_row, drift, n, at):
    """Note a hit's drift over the group; returns its least and largest offset."""
    drift[n, at], drift[n, at + 1] = per_column, per_row
    low = min(per_column, 0.0) * (LANES - 1) + min(per_row, 0.0) * (GROUP - 1)
    return low, max(per_column, 0.0) * (LANES - 1) + max(per_row, 0.0) * (GROUP - 1)


@always_inline_kernel
def sum_light(texels, frontal, hits, batch, channel, mean, full):
    """Add the light of one plane of a blurred layer to two sums over rays, at addresses of CELL floats.

    mean: of w c, the layer alone; full: of w T c, the light that arrives.
    """
    if frontal:
        _sum_frontal(texels, hits, batch, channel, mean, full)
        return
    for row in range(GROUP):
        m, f = load(mean, row * LANES), load(full, row * LANES)
        for i in range(batch.size):
            value = _slanted(texels.address, texels.stride, hits, i, row)
            c = mul(splat(batch.weights[channel, batch.start + i]), value)
            if batch.mask != 0:
                c = mul(c, load(batch.mask, i * CELL + row * LANES))
            m, f = add(m, c), madd(f, load(batch.through, i * CELL + row * LANES), c)
        store(mean, row * LANES, m)
        store(full, row * LANES, f)


@inline_kernel
def sum_sharp(texels, batch, channel, mean, full):
    """`sum_light` of a layer in focus: every ray meets the pixel's own texel."""
    for row in range(GROUP):
        value = load(texels.address, texels.base + row * texels.stride)
        m, f = load(mean, row * LANES), load(full, row * LANES)
        for i in range(batch.size):
            c = mul(splat(batch.weights[channel, batch.start + i]), value)
            if batch.mask != 0:
                c = mul(c, load(batch.mask, (i * GROUP + row) * LANES))
            m, f = add(m, c), madd(f, load(batch.through, (i * GROUP + row) * LANES), c)
        store(mean, row * LANES, m)
        store(full, row * LANES, f)


@inline_kernel
def _sum_frontal(texels, hits, batch, channel, mean, full):
    """Share the same four taps among all pixels, and rows of texels among rows of pixels."""
    plane, stride, _ = texels
    weights, start, count, through, mask = batch
    m0, m1, m2, m3 = load(mean, 0), load(mean, LANES), load(mean, 2 * LANES), load(mean, 3 * LANES)
    f0, f1, f2, f3 = load(full, 0), load(full, LANES), load(full, 2 * LANES), load(full, 3 * LANES)
    for i in range(count):
        u, v, w = hits.fraction[i, 0], hits.fraction[i, 1], weights[channel, start + i]
        at, ray = hits.texel[i], i * CELL
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


@inline_kernel
def _slanted(plane, stride, hits, i, row):
    """Look ray i up for one row of pixels whose hits drift from texel to texel."""
    texel, fraction, drift, kind = hits
    fx, fy = fraction[i, 0] + drift[i, 1] * np.float32(row), fraction[i, 1] + drift[i, 3] * np.float32(row)
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


@inline_kernel
def sum_slanted_colour(texels, step, hits, batch, mean, full):
    """`sum_light` of a tilted layer's three colour planes at once, for a lens that treats them alike.

    texels, mean, full: of red; the planes of green and blue lie `step` bytes farther each, their sums one cell.
    """
    plane, stride, _ = texels
    texel, fraction, drift, kind = hits
    weights, start, count, through, mask = batch
    one, cell = splat(np.float32(1)), FLOAT_BYTES * CELL
    for row in range(GROUP):
        at = row * LANES
        m0, m1, m2 = load(mean, at), load(mean + cell, at), load(mean + 2 * cell, at)
        f0, f1, f2 = load(full, at), load(full + cell, at), load(full + 2 * cell, at)
        for i in range(count):
            w, t = splat(weights[0, start + i]), load(through, i * CELL + at)
            if mask != 0:
                w = mul(w, load(mask, i * CELL + at))
            if kind[i] == ONE_TEXEL:
                u = madd(splat(fraction[i, 0] + drift[i, 1] * np.float32(row)), splat(drift[i, 0]), ramp())
                v = madd(splat(fraction[i, 1] + drift[i, 3] * np.float32(row)), splat(drift[i, 2]), ramp())
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
                c0 = mul(w, _slanted(plane, stride, hits, i, row))
                c1 = mul(w, _slanted(plane + step, stride, hits, i, row))
                c2 = mul(w, _slanted(plane + 2 * step, stride, hits, i, row))
            m0, f0 = add(m0, c0), madd(f0, t, c0)
            m1, f1 = add(m1, c1), madd(f1, t, c1)
            m2, f2 = add(m2, c2), madd(f2, t, c2)
        store(mean, at, m0)
        store(mean + cell, at, m1)
        store(mean + 2 * cell, at, m2)
        store(full, at, f0)
        store(full + cell, at, f1)
        store(full + 2 * cell, at, f2)


@inline_kernel
def _scattered(plane, stride, at, fx, fy, drift_x, drift_y):
    """Look up pixel by pixel, for the steepest planes."""
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


@inline_kernel
def look_up(texels, frontal, hits, count, samples):
    """Look a plane up by `count` rays, CELL floats each, at the address `samples`."""
    plane, stride, _ = texels
    for i in range(count):
        if frontal:
            u, v = hits.fraction[i, 0], hits.fraction[i, 1]
            _look_up_frontal(plane, stride, hits.texel[i], u, v, samples, i * CELL)
            continue
        for row in range(GROUP):
            store(samples, (i * GROUP + row) * LANES, _slanted(plane, stride, hits, i, row))


@inline_kernel
def _look_up_frontal(plane, stride, at, u, v, samples, here):
    right, left = splat(u), splat(np.float32(1) - u)
    lower, upper = splat(v), splat(np.float32(1) - v)
    h0 = madd(mul(left, load(plane, at)), right, load(plane, at + 1))
    for row in range(GROUP):
        at += stride
        h1 = madd(mul(left, load(plane, at)), right, load(plane, at + 1))
        store(samples, here + row * LANES, madd(mul(upper, h0), lower, h1))
        h0 = h1


@inline_kernel
def repeat_texel(texels, count, samples):
    """`look_up` in a layer in focus: every ray meets the pixel's own texel."""
    for row in range(GROUP):
        value = load(texels.address, texels.base + row * texels.stride)
        for i in range(count):
            store(samples, (i * GROUP + row) * LANES, value)


@inline_kernel
def sum_samples(samples, batch, channel, total):
    """Add w times the samples of a batch to `total`."""
    for row in range(GROUP):
        t = load(total, row * LANES)
        for i in range(batch.size):
            at, w = (i * GROUP + row) * LANES, splat(batch.weights[channel, batch.start + i])
            if batch.mask != 0:
                w = mul(w, load(batch.mask, at))
            t = madd(t, w, load(samples, at))
        store(total, row * LANES, t)


@inline_kernel
def attenuate(samples, batch):
    """T *= 1 - a for every ray of a batch."""
    one = splat(np.float32(1))
    for i in range(batch.size * GROUP):
        store(batch.through, i * LANES, mul(load(batch.through, i * LANES), sub(one, load(samples, i * LANES))))
