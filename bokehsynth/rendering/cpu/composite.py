"""From means and sums over rays to pixels."""

import numpy as np

from bokehsynth.rendering.cpu.simd import (
    add,
    cell,
    div,
    load,
    madd,
    mul,
    peek,
    splat,
    store,
    store_rgb,
    sub,
    where_positive,
)
from bokehsynth.rendering.cpu.tile_bounds import REACH
from bokehsynth.rendering.jit import leaf
from bokehsynth.rendering.tile_constants import FLOAT_BYTES, LANES


@leaf
def finish(kinds, opaque, lit, state, order, together, means, sums, spare, y0, x0, rows, n, color, coverage):
    """Composite the means, add what varies together, divide by the light that arrived, write the pixels."""
    nothing, one = splat(np.float32(0)), splat(np.float32(1))
    layers = len(opaque)
    rgb, share = spare, spare + FLOAT_BYTES * 3 * LANES
    for r in range(rows):
        at = r * LANES
        covered = nothing
        for c in range(3):
            if lit[c] == 0:  # the aperture blocks this channel: black, and no part of the coverage
                store(rgb, c * LANES, nothing)
                continue
            a = 3 + min(c, kinds - 4)
            value, through, before = nothing, one, nothing
            for place in range(len(order)):
                m = order[place]
                value = madd(value, load(cell(means, kinds, m, c), at), through)
                if opaque[m] == 1:
                    through = nothing
                    break
                alpha = load(cell(means, kinds, m, a), at)
                if place < len(order) - 1 and state[m, REACH] > 0:
                    before = add(before, alpha)
                through = mul(through, sub(one, alpha))
            if together:
                total = load(cell(sums, kinds, layers + 1, a - 3), at)
                weight = where_positive(total, div(one, total), nothing)  # a pupil may stop every ray of a set
                light, left = _over_sums(kinds, opaque, order, sums, c, a, at, weight)
                seen = add(light, mul(load(cell(sums, kinds, layers, c), at), weight))
                value = add(value, where_positive(before, seen, nothing))
                seen = sub(mul(load(cell(sums, kinds, layers, a), at), weight), left)
                through = add(through, where_positive(before, seen, nothing))
            arrived = sub(one, through)
            store(rgb, c * LANES, where_positive(arrived, div(value, arrived), nothing))
            covered = arrived if kinds == 4 else add(covered, arrived)
        store(share, 0, covered if kinds == 4 else div(covered, splat(np.float32(lit[0] + lit[1] + lit[2]))))
        if n == LANES:
            pixel = (y0 + r) * coverage.shape[1] + x0
            red, green, blue = load(rgb, 0), load(rgb, LANES), load(rgb, 2 * LANES)
            store_rgb(np.int64(color.ctypes.data), 3 * pixel, red, green, blue)
            store(np.int64(coverage.ctypes.data), pixel, load(share, 0))
            continue
        for lane in range(n):
            for c in range(3):
                color[y0 + r, x0 + lane, c] = peek(rgb, c * LANES + lane)
            coverage[y0 + r, x0 + lane] = peek(share, lane)


@leaf
def _over_sums(kinds, opaque, order, sums, c, a, at, weight):
    """Minus the light of the rays' own means composited, without the first layer's, and what they let through."""
    light, through = splat(np.float32(0)), splat(np.float32(1))
    for place in range(len(order)):
        m = order[place]
        if place > 0:
            light = sub(light, mul(mul(load(cell(sums, kinds, m, c), at), weight), through))
        if opaque[m] == 1:
            through = splat(np.float32(0))
            break
        through = mul(through, sub(splat(np.float32(1)), mul(load(cell(sums, kinds, m, a), at), weight)))
    return light, through
