"""Numba kernels for tiles that see nothing but one opaque height field: sixteen pixels at once.

The hits are those of `intersections`. Where no lane can have met the field between two crossings (a quadratic is at
most a quarter of its bend above its ends) no root is looked for. A texel's colours lie side by side: four texels fill a
register.
"""

from typing import NamedTuple

import numpy as np

from bokehsynth.rendering.cpu.height_field.intersections import BLOCK, Crossings, list_crossings
from bokehsynth.rendering.cpu.simd import (
    add,
    any_not_negative,
    div,
    floor,
    load,
    load_four,
    madd,
    magnitude,
    maximum,
    mul,
    peek,
    peek_place,
    root,
    splat,
    spread_four,
    store,
    store_places,
    sub,
    where_not_negative,
    where_positive,
)
from bokehsynth.rendering.jit import always_inline_kernel, inline_kernel, kernel
from bokehsynth.rendering.tile_constants import FLOAT_BYTES, LANES
from bokehsynth.rendering.types import FloatArray

ROWS = 8
"""Rows of a part of the picture that is traced at once."""
GROUP = 64
"""Rays summed before they are added to the whole: float32 sums of thousands then lose no more than those of dozens."""
AT_THE_END = np.float32(1 - 1e-6)
"""See `intersections`."""


class OneField(NamedTuple):
    """One opaque height field on its canvas, with spare elements behind each array."""

    texels: FloatArray  # float32 [Hc * Wc, 4]: R, G, B, 1
    heights: FloatArray  # float32 [Hc * Wc]: d - d_f
    blocks: FloatArray  # float32 [2, rows, columns]: `block_bounds` of the heights
    width: int  # Wc


@kernel
def trace_one_field(field, rays, blur, bounds, margin, part_of_picture, memory, picture):
    """Trace a part of at most ROWS x LANES pixels: its first pixel (y, x) and its size (rows, columns).

    rays: points float64 [N, 2] and weights float32 [N]; bounds (low, high) of d - d_f of all hits; memory: float32
    [ROWS * 9 * LANES + 3 * LANES], scratch.
    """
    ((y0, x0), size), (low, high), (points, weights) = part_of_picture, bounds, rays
    rows, columns = size
    most = 8 + int(1.5 * blur * (high - low))
    crossings = Crossings(np.empty((1, most, 4), np.float32), np.empty((1, most, 2), np.int64), np.zeros(1, np.int64))
    memory[:] = 0
    part = memory.ctypes.data
    whole, touched = part + FLOAT_BYTES * ROWS * 4 * LANES, part + FLOAT_BYTES * ROWS * 8 * LANES
    scratch = touched + FLOAT_BYTES * ROWS * LANES
    total = 0.0
    base = (y0 + margin) * field.width + x0 + margin
    for i in range(len(points)):
        ux, uy = blur * points[i, 0], blur * points[i, 1]
        near, far = _range_of_ray(field.blocks, (y0 + margin, x0 + margin), size, (ux, uy), low, high)
        list_crossings(near, far, ux, uy, crossings, 0)
        for row in range(rows):
            here = base + row * field.width
            delta = _first_hits(field, crossings, np.float32(near), here)
            store(touched, row * LANES, maximum(load(touched, row * LANES), magnitude(delta)))
            _add_texels(field, delta, (np.float32(ux), np.float32(uy)), (here, columns), weights[i], scratch, part, row)
        total += weights[i]
        if i % GROUP == GROUP - 1 or i == len(points) - 1:
            for k in range(4 * rows):
                store(whole, k * LANES, add(load(whole, k * LANES), load(part, k * LANES)))
                store(part, k * LANES, splat(np.float32(0)))
    for row in range(rows):
        for x in range(columns):
            color, texel = picture.color[y0 + row, x0 + x], field.texels[base + row * field.width + x]
            sharp = peek(touched, row * LANES + x) == 0
            for c in range(3):
                color[c] = texel[c] if sharp else peek(whole, (row * LANES + x) * 4 + c) / np.float32(total)
            picture.coverage[y0 + row, x0 + x] = 1


@inline_kernel
def _range_of_ray(blocks, first, size, ray, low, high):
    """Bounds of d - d_f where the rays of one lens point meet the field, from those of the blocks that they cross."""
    for _ in range(2):
        y = min(ray[1] * low, ray[1] * high), max(ray[1] * low, ray[1] * high)
        x = min(ray[0] * low, ray[0] * high), max(ray[0] * low, ray[0] * high)
        r0, r1 = int(first[0] + np.floor(y[0])) // BLOCK, int(first[0] + size[0] + np.floor(y[1])) // BLOCK
        c0, c1 = int(first[1] + np.floor(x[0])) // BLOCK, int(first[1] + size[1] + np.floor(x[1])) // BLOCK
        least, most = np.float32(np.inf), np.float32(-np.inf)
        for r in range(max(0, r0), min(blocks.shape[1] - 1, r1) + 1):
            for c in range(max(0, c0), min(blocks.shape[2] - 1, c1) + 1):
                least, most = min(least, blocks[0, r, c]), max(most, blocks[1, r, c])
        low, high = max(low, float(least)), min(high, float(most))
    return low, high


@always_inline_kernel
def _first_hits(field, crossings, low, here):
    """h(q) where the rays of sixteen pixels, from texel `here` on, first meet the field."""
    heights, width = field.heights.ctypes.data, field.width
    place, cell = crossings.place, crossings.cell
    zero, one, quarter = splat(np.float32(0)), splat(np.float32(1)), splat(np.float32(0.25))
    met_height = splat(np.float32(np.inf))
    before = splat(place[0, 0, 0])
    at = here + cell[0, 0, 0] * width + cell[0, 0, 1]
    height, _ = _height(heights, at, width, splat(place[0, 0, 1]), splat(place[0, 0, 2]))
    start = sub(height, before)
    delta = where_not_negative(start, before, splat(low))
    height = where_not_negative(start, met_height, height)
    for k in range(1, crossings.filled[0]):
        after = splat(place[0, k, 0])
        at = here + cell[0, k, 0] * width + cell[0, k, 1]
        h1, twist = _height(heights, at, width, splat(place[0, k, 1]), splat(place[0, k, 2]))
        near, far = sub(height, before), sub(h1, after)
        bend = mul(splat(place[0, k, 3]), twist)
        highest = madd(maximum(near, far), quarter, magnitude(bend))
        if any_not_negative(where_not_negative(near, splat(np.float32(-1)), highest)):
            slope = sub(sub(far, near), bend)
            square = sub(mul(slope, slope), mul(mul(splat(np.float32(4)), bend), near))
            t = div(mul(splat(np.float32(-2)), near), add(slope, root(square)))
            hit = add(h1, mul(sub(one, t), sub(sub(height, h1), mul(bend, t))))
            inside = where_positive(t, where_positive(sub(splat(AT_THE_END), t), one, zero), zero)
            met = where_positive(t, where_positive(sub(one, t), one, zero), where_not_negative(far, one, zero))
            met = where_not_negative(far, one, met)
            met = where_not_negative(near, zero, met)
            delta = where_positive(met, where_positive(inside, hit, after), delta)
            height = where_positive(met, met_height, where_not_negative(near, met_height, h1))
            if not any_not_negative(sub(splat(np.float32(1e30)), height)):
                return delta
        else:
            height = where_not_negative(near, met_height, h1)
        before = after
    return delta


@always_inline_kernel
def _height(heights, at, width, fx, fy):
    """Sixteen bilinear heights, and how far each cell is from a plane."""
    a, b = load(heights, at), load(heights, at + 1)
    c, d = load(heights, at + width), load(heights, at + width + 1)
    upper, lower = sub(b, a), sub(d, c)
    top, bottom = madd(a, fx, upper), madd(c, fx, lower)
    return madd(top, fy, sub(bottom, top)), sub(lower, upper)


@always_inline_kernel
def _add_texels(field, delta, ray, span, weight, scratch, sums, row):
    """Add the colours that the rays of a span of pixels (first texel, number) meet, times the weight."""
    here, columns = span
    texels, width = field.texels.ctypes.data, field.width
    dx, dy = mul(splat(ray[0]), delta), mul(splat(ray[1]), delta)
    ix, iy = floor(dx), floor(dy)
    store(scratch, 0, sub(dx, ix))
    store(scratch, LANES, sub(dy, iy))
    store_places(scratch, 2 * LANES, ix, iy, width)
    w = splat(weight)
    for x in range(0, columns, 4):
        p = here + x + peek_place(scratch, 2 * LANES + x)
        q = here + x + 1 + peek_place(scratch, 2 * LANES + x + 1)
        r = here + x + 2 + peek_place(scratch, 2 * LANES + x + 2)
        s = here + x + 3 + peek_place(scratch, 2 * LANES + x + 3)
        fx, fy = spread_four(scratch, x), spread_four(scratch, LANES + x)
        top = load_four(texels, p, q, r, s)
        top = madd(top, fx, sub(load_four(texels, p + 1, q + 1, r + 1, s + 1), top))
        p, q, r, s = p + width, q + width, r + width, s + width
        bottom = load_four(texels, p, q, r, s)
        bottom = madd(bottom, fx, sub(load_four(texels, p + 1, q + 1, r + 1, s + 1), bottom))
        value = madd(top, fy, sub(bottom, top))
        at = (row * LANES + x) * 4
        store(sums, at, madd(load(sums, at), w, value))
