"""Means and sums over rays, composited into pixels."""

from typing import Any

import numpy as np

from bokehsynth.rendering.cpu.kernel_arguments import Group, Picture, Scratch, Visible
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
from bokehsynth.rendering.jit import inline_kernel
from bokehsynth.rendering.tile_constants import FLOAT_BYTES, LANES
from bokehsynth.rendering.types import IntArray


@inline_kernel
def composite(
    opaque: IntArray, passed: IntArray, visible: Visible, group: Group, with_rays: bool, scratch: Scratch,
    picture: Picture,
) -> None:  # fmt: skip
    """Composite the means, add what varies together, divide by the light that arrived, write the pixels.

    opaque [L]: layers whose alpha is 1; passed [3]: whether R, G and B pass the aperture.
    """
    order, slots = visible.order, scratch.slots
    nothing, one = splat(np.float32(0)), splat(np.float32(1))
    rgb, share = scratch.buffer, scratch.buffer + FLOAT_BYTES * 3 * LANES
    for r in range(group.rows):
        at = r * LANES
        covered = nothing
        for c in range(3):
            if passed[c] == 0:  # the aperture blocks this channel: black, and no part of the coverage
                store(rgb, c * LANES, nothing)
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
            store(rgb, c * LANES, where_positive(arrived, div(value, arrived), nothing))
            covered = arrived if slots == 4 else add(covered, arrived)
        if slots > 4:
            covered = div(covered, splat(np.float32(passed[0] + passed[1] + passed[2])))
        store(share, 0, covered)
        _write_row(group, r, rgb, share, picture)


@inline_kernel
def _control_variate(opaque: IntArray, order: IntArray, scratch: Scratch, c: int, a: int, at: int) -> tuple[Any, Any]:
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


@inline_kernel
def _write_row(group: Group, r: int, rgb: int, share: int, picture: Picture) -> None:
    """Write one row of a group: colour at the address `rgb`, coverage at `share`."""
    color, coverage = picture
    pixel = group.pixel + r * coverage.shape[1]
    if group.columns == LANES:
        red, green, blue = load(rgb, 0), load(rgb, LANES), load(rgb, 2 * LANES)
        store_rgb(np.int64(color.ctypes.data), 3 * pixel, red, green, blue)
        store(np.int64(coverage.ctypes.data), pixel, load(share, 0))
        return
    y, x = pixel // coverage.shape[1], pixel % coverage.shape[1]
    for lane in range(group.columns):
        for c in range(3):
            color[y, x + lane, c] = peek(rgb, c * LANES + lane)
        coverage[y, x + lane] = peek(share, lane)
