"""The rays of one group of pixels: sums that `finish` turns into what exact means miss (`covary` says why)."""

import numpy as np

from bokehsynth.rendering.cpu.ray_batches import (
    BATCH,
    aim,
    dim,
    look_up,
    mark_passed,
    repeat,
    sum_light,
    sum_samples,
    sum_slanted_colour,
)
from bokehsynth.rendering.cpu.simd import add, cell, load, madd, mul, splat, store
from bokehsynth.rendering.cpu.tile_bounds import REACH, same_plane
from bokehsynth.rendering.jit import leaf
from bokehsynth.rendering.tile_constants import CELL, FLOAT_BYTES, GROUP, LANES, NO_PUPIL, PACKED, PACKED_STEP

MOST = 64
"""Largest side of a grid of rays in a tile: 4,096 for what kernels leave over beat 51 x 51 alone at any radius."""


@leaf
def correlate(  # noqa: PLR0912  # one batch of rays, from start to end
    addresses, planes, opaque, view, stride, kinds, state, order, y, x, pupil, pixel,
    width, points, weights, stretches, steps, places, start, stop, texel, place, drift, kind, sums, spare,
):  # fmt: skip
    """Sums over rays start .. stop - 1: of w c and w a of each layer (rows of `sums` by layer), and of what arrives.

    Row `layers` of sums gets sum w T c of all layers but the first and sum w T at the end, the next one sum w. Rays
    that the pupil stops count for nothing; `pixel` is the group's first in its planes, which are `width` wide.
    """
    layers = len(planes)
    mode, centres, radius = pupil
    nothing = splat(np.float32(0))
    for m in range(layers + 2):
        for p in range(kinds):
            for r in range(GROUP):
                store(cell(sums, kinds, m, p), r * LANES, nothing)
    through, samples = spare, spare + FLOAT_BYTES * CELL * BATCH
    mask = samples + FLOAT_BYTES * CELL * BATCH if mode != NO_PUPIL else 0
    base = int(y + view[2]) * stride + int(x + view[3])
    for batch in range(start, stop, BATCH):
        end = min(stop, batch + BATCH)
        count, closed = end - batch, False
        for i in range(count * GROUP):
            store(through, i * LANES, splat(np.float32(1)))
        if mode != NO_PUPIL:
            mark_passed(centres, pixel, width, radius, points, batch, count, mask)
        for c in range(kinds - 3):
            sum_samples(through, mask, weights, c, batch, count, cell(sums, kinds, layers + 1, c))
        for n in range(len(order)):
            m = order[n]
            sharp = state[m, REACH] == 0
            if not sharp:
                aim(
                    planes, m, view, x, y, points, stretches, steps, places, batch, end, stride,
                    texel, place, drift, kind,
                )  # fmt: skip
            slanted = planes[m, 1] != 0 or planes[m, 2] != 0
            if n > 0 and slanted and not sharp and kinds == 4:
                sum_slanted_colour(
                    addresses[m, PACKED], addresses[m, PACKED_STEP], stride, texel, place, drift, kind, through, mask,
                    weights, batch, count, cell(sums, kinds, m, 0), cell(sums, kinds, layers, 0), FLOAT_BYTES * CELL,
                )  # fmt: skip
            elif n > 0:  # nothing lies in front of the first: its light is its mean
                for p in range(3):
                    _add_light(
                        addresses, planes, m, p, stride, base, sharp, texel, place, drift, kind, through, mask,
                        weights, min(p, kinds - 4), batch, count, cell(sums, kinds, m, p),
                        cell(sums, kinds, layers, p),
                    )  # fmt: skip
            if opaque[m] == 1:
                closed = True
                break
            _take_light(addresses, planes, m, stride, base, sharp, texel, place, drift, kind, count, through, samples)
            for c in range(kinds - 3):
                sum_samples(samples, mask, weights, c, batch, count, cell(sums, kinds, m, 3 + c))
        for c in range(0 if closed else kinds - 3):
            sum_samples(through, mask, weights, c, batch, count, cell(sums, kinds, layers, 3 + c))


@leaf
def _add_light(
    addresses, planes, m, p, stride, base, sharp, texel, place, drift, kind, through, mask,
    weights, channel, start, count, mean, full,
):  # fmt: skip
    """Add plane p of layer m, as `count` rays see it, to its own mean and to the light that arrives."""
    plane = addresses[m, PACKED] + p * addresses[m, PACKED_STEP]
    if sharp:
        _sum_sharp(plane, stride, base, through, mask, weights, channel, start, count, mean, full)
        return
    frontal = planes[m, 1] == 0 and planes[m, 2] == 0
    sum_light(
        plane, stride, frontal, texel, place, drift, kind, through, mask, weights, channel, start, count, mean, full
    )  # fmt: skip


@leaf
def _take_light(addresses, planes, m, stride, base, sharp, texel, place, drift, kind, count, through, samples):
    """Alpha of layer m as `count` rays see it, into `samples`, and out of what they let `through`."""
    plane = addresses[m, PACKED] + 3 * addresses[m, PACKED_STEP]
    if sharp:
        repeat(plane, stride, base, count, samples)
    else:
        frontal = planes[m, 1] == 0 and planes[m, 2] == 0
        look_up(plane, stride, frontal, texel, place, drift, kind, count, samples)
    dim(samples, through, count)


@leaf
def rays_for(planes, state, order, ray_spans, light):
    """Start and stop in the ray tables for a tile.

    What is estimated is how two layers vary together, so the side follows the geometric mean of the two largest blur
    radii. Rays go where the light is: `light` is the brightest behind the nearest layer over what is typical of the
    picture (`survey`). Edges of two layers in one plane coincide on every ray: more rays find the seam.
    """
    widest, second, seam = 0.0, 0.0, 1.0
    for n in range(len(order)):
        m, before = order[n], order[max(0, n - 1)]
        if n > 0 and same_plane(planes, m, before):
            seam = 2.0
        reach = state[m, REACH]
        if reach > widest:
            widest, second = reach, widest
        else:
            second = max(second, reach)
    mean = np.sqrt(widest * second)
    side = seam * _share(light, mean) * max(min(3.2 + 0.52 * mean, 11.0), 0.45 * mean)
    even = min(2 * int(np.ceil(side)), MOST, len(ray_spans) - 1)
    return ray_spans[even, 0], ray_spans[even, 1]


@leaf
def _share(light, mean):
    """What the side of a tile's grid is multiplied by.

    Errors grow with the light and fall with about the 3/4th power of the number of rays, so that a fixed number of
    rays does most where the side goes with a small power of the light. Large radii, at which a footprint holds lights
    and shadows alike, feel less of it.
    """
    part = min(max((12.0 - mean) / 6.0, 0.3), 1.0)
    return 1.0 + part * (min(max(1.1 * np.sqrt(np.sqrt(light)), 0.65), 1.3) - 1.0)


@leaf
def _sum_sharp(plane, stride, base, through, mask, weights, channel, start, count, mean, full):
    """`sum_light` of a layer in focus: every ray sees the pixel's own texel."""
    for row in range(GROUP):
        value = load(plane, base + row * stride)
        m, f = load(mean, row * LANES), load(full, row * LANES)
        for i in range(count):
            c = mul(splat(weights[channel, start + i]), value)
            if mask != 0:
                c = mul(c, load(mask, (i * GROUP + row) * LANES))
            m, f = add(m, c), madd(f, load(through, (i * GROUP + row) * LANES), c)
        store(mean, row * LANES, m)
        store(full, row * LANES, f)
