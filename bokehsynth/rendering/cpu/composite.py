"""Means and sums over rays, composited into pixels."""

import numpy as np

from bokehsynth.rendering.cpu.pinhole import write_pixels
from bokehsynth.rendering.cpu.simd import add, cell, div, load, madd, mul, splat, store, sub, where_positive
from bokehsynth.rendering.cpu.tile_bounds import REACH
from bokehsynth.rendering.jit import always_inline_kernel, inline_kernel
from bokehsynth.rendering.tile_constants import LANES


@always_inline_kernel
def composite(opaque, passed, visible, group, with_rays, scratch, picture):
    """Composite the means, add what varies together, divide by the light that arrived, write the pixels.

    opaque [L]: layers whose alpha is 1; passed [3]: whether R, G and B pass the aperture.
    """
    order, slots = visible.order, scratch.slots
    nothing, one = splat(np.float32(0)), splat(np.float32(1))
    values = scratch.buffer
    for r in range(group.rows):
        at = r * LANES
        covered = nothing
        for c in range(3):
            if passed[c] == 0:  # the aperture blocks this channel: black, and no part of the coverage
                store(values, c * LANES, nothing)
                continue
            a = 3 + min(c, slots - 4)
            value, through, before = nothing, one, nothing
            for place in range(len(order)):
                m = order[place]
                value = madd(value, load(cell(scratch.means, slots, m, c), at), through)
                if opaque[m] == 1:
                    through = nothing
                    break
                alpha = load(cell(scratch.means, slots, m, a), at)
                if place < len(order) - 1 and visible.state[m, REACH] > 0:
                    before = add(before, alpha)
                through = mul(through, sub(one, alpha))
            if with_rays:
                light, left = _control_variate(opaque, order, scratch, c, a, at)
                value = add(value, where_positive(before, light, nothing))
                through = add(through, where_positive(before, left, nothing))
            arrived = sub(one, through)
            store(values, c * LANES, where_positive(arrived, div(value, arrived), nothing))
            covered = arrived if slots == 4 else add(covered, arrived)
        if slots > 4:
            covered = div(covered, splat(np.float32(passed[0] + passed[1] + passed[2])))
        red, green, blue = load(values, 0), load(values, LANES), load(values, 2 * LANES)
        pixel = group.pixel + r * picture.coverage.shape[1]
        write_pixels(red, green, blue, covered, pixel, group.columns, values, picture)


@inline_kernel
def _control_variate(opaque, order, scratch, c, a, at):
    """Light and transmission that reach channel c by the rays less their own means composited, both without the first
    layer's light."""
    sums, slots, layers = scratch.sums, scratch.slots, len(opaque)
    total = load(cell(sums, slots, layers + 1, a - 3), at)
    # A pupil may stop every ray of a set.
    weight = where_positive(total, div(splat(np.float32(1)), total), splat(np.float32(0)))
    light, through = splat(np.float32(0)), splat(np.float32(1))
    for place in range(len(order)):
        m = order[place]
        if place > 0:
            light = sub(light, mul(mul(load(cell(sums, slots, m, c), at), weight), through))
        if opaque[m] == 1:
            through = splat(np.float32(0))
            break
        through = mul(through, sub(splat(np.float32(1)), mul(load(cell(sums, slots, m, a), at), weight)))
    light = add(light, mul(load(cell(sums, slots, layers, c), at), weight))
    return light, sub(mul(load(cell(sums, slots, layers, a), at), weight), through)
