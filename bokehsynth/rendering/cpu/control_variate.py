"""Control variate: what exact means of single layers miss where layers vary together over the opening.

A pixel is E[sum_l T_l c_l] with T_l the light that the layers before l let through on each ray. Compositing means,
over(E[c_0], E[c_1], ...), is that only where no two factors vary at once. Their difference is estimated from a set of
rays, the same for both terms, so that what the set gets wrong of a single layer cancels:

    delta = mean(sum_l T_l c_l) - over(mean(c_0), mean(c_1), ...)

It is exactly 0 where at most one layer varies, and converges to the truth as rays are added. `sum_rays` makes the sums,
`composite` the difference.
"""

import numpy as np

from bokehsynth.rendering.cpu import ray_batches
from bokehsynth.rendering.cpu.kernel_arguments import Batch, Texels
from bokehsynth.rendering.cpu.ray_batches import BATCH
from bokehsynth.rendering.cpu.simd import cell, load, madd, mul, splat, store, sub, where_positive
from bokehsynth.rendering.cpu.tile_bounds import REACH, same_plane
from bokehsynth.rendering.jit import always_inline_kernel, inline_kernel
from bokehsynth.rendering.tile_constants import CELL, FLOAT_BYTES, GROUP, LANES, PACKED, PACKED_STEP

MOST = 64
"""Largest side of a grid of rays in a tile: 4,096 for what kernels leave over beat 51 x 51 alone at any radius."""


@always_inline_kernel
def sum_rays(layers, visible, group, rays, span, pupil, hits, scratch):
    """Fill `scratch.sums` with sums over the rays of `span`: w c and w a of each layer, and of what arrives.

    Row `layers` gets sum w T c of all layers but the first and sum w T at the end, the next one sum w. Rays that the
    pupil stops count for nothing.
    """
    clear_sums(len(layers.planes), scratch)
    through, samples = scratch.buffer, scratch.buffer + FLOAT_BYTES * CELL * BATCH
    mask = samples + FLOAT_BYTES * CELL * BATCH if len(pupil.radii) > 0 else 0
    for start in range(span[0], span[1], BATCH):
        count = min(span[1], start + BATCH) - start
        batch = Batch(rays.weights, start, count, through, mask)
        for i in range(count * GROUP):
            store(through, i * LANES, splat(np.float32(1)))
        if len(pupil.radii) > 0:
            _pupil_mask(pupil, group.pixel, rays.points, batch)
        _sum_batch(layers, visible, group, rays, batch, hits, samples, scratch)


@always_inline_kernel
def clear_sums(layers, scratch):
    """Sums over no ray, of so many layers."""
    nothing = splat(np.float32(0))
    for m in range(layers + 2):
        for p in range(scratch.slots):
            for r in range(GROUP):
                store(cell(scratch.sums, scratch.slots, m, p), r * LANES, nothing)


@inline_kernel
def _pupil_mask(pupil, pixel, points, batch):
    """Fill the mask of a batch: which rays lie in the pupil's discs at each pixel of the group from `pixel` on."""
    one, none = splat(np.float32(1)), splat(np.float32(0))
    for rim in range(len(pupil.radii)):
        limit = splat(np.float32(pupil.radii[rim] * pupil.radii[rim]))
        for i in range(batch.size):
            at = batch.start + i
            sx, sy = splat(np.float32(points[at, 0])), splat(np.float32(points[at, 1]))
            for row in range(GROUP):
                here, cell_row = pixel + row * pupil.width, (i * GROUP + row) * LANES
                dx, dy = sub(load(pupil.centres[rim, 0], here), sx), sub(load(pupil.centres[rim, 1], here), sy)
                within = sub(limit, madd(mul(dx, dx), dy, dy))
                before = one if rim == 0 else load(batch.mask, cell_row)
                store(batch.mask, cell_row, where_positive(within, before, none))


@always_inline_kernel
def _sum_batch(layers, visible, group, rays, batch, hits, samples, scratch):
    """Carry one batch of rays through the layers; samples: address of CELL floats for each ray."""
    count, slots, sums = len(layers.planes), scratch.slots, scratch.sums
    closed = False
    for c in range(slots - 3):
        ray_batches.sum_samples(batch.through, batch, c, cell(sums, slots, count + 1, c))
    for n in range(len(visible.order)):
        m = visible.order[n]
        sharp = visible.state[m, REACH] == 0
        if not sharp:
            ray_batches.intersect_batch(layers, m, group, rays, batch.start, batch.start + batch.size, hits)
        slanted = layers.planes[m, 1] != 0 or layers.planes[m, 2] != 0
        first, step = layers.addresses[m, PACKED], layers.addresses[m, PACKED_STEP]
        if n > 0 and slanted and not sharp and slots == 4:
            mean, full = cell(sums, slots, m, 0), cell(sums, slots, count, 0)
            ray_batches.sum_slanted_colour(Texels(first, layers.stride, group.base), step, hits, batch, mean, full)
        elif n > 0:  # nothing lies in front of the first: its light is its mean
            for p in range(3):
                texels = Texels(first + p * step, layers.stride, group.base)
                mean, full = cell(sums, slots, m, p), cell(sums, slots, count, p)
                if sharp:
                    ray_batches.sum_sharp(texels, batch, min(p, slots - 4), mean, full)
                else:
                    ray_batches.sum_light(texels, not slanted, hits, batch, min(p, slots - 4), mean, full)
        if layers.opaque[m] == 1:
            closed = True
            break
        alpha = Texels(first + 3 * step, layers.stride, group.base)
        attenuate_by(alpha, sharp, not slanted, hits, batch, samples)
        for c in range(slots - 3):
            ray_batches.sum_samples(samples, batch, c, cell(sums, slots, m, 3 + c))
    for c in range(0 if closed else slots - 3):
        ray_batches.sum_samples(batch.through, batch, c, cell(sums, slots, count, 3 + c))


@always_inline_kernel
def attenuate_by(alpha, sharp, frontal, hits, batch, samples):
    """Look a layer's alpha up into `samples` and take it out of what the rays let through."""
    if sharp:
        ray_batches.repeat_texel(alpha, batch.size, samples)
    else:
        ray_batches.look_up(alpha, frontal, hits, batch.size, samples)
    ray_batches.attenuate(samples, batch)


@inline_kernel
def rays_for(layers, visible, rays, light):
    """First and last + 1 ray of the set for a tile.

    What is estimated is how two layers vary together, so the side follows the geometric mean of the two largest blur
    radii. Rays go where the light is: `light` is the brightest behind the nearest layer over the root mean square
    of the picture (`tile_plan`). Edges of two layers in one plane coincide on every ray: more rays find the seam.
    """
    state, order = visible
    widest, second, seam = 0.0, 0.0, 1.0
    for n in range(len(order)):
        m, before = order[n], order[max(0, n - 1)]
        if n > 0 and same_plane(layers.planes, m, before):
            seam = 2.0
        reach = state[m, REACH] - layers.camera.astray / 2  # few rays go so far astray
        if reach > widest:
            widest, second = reach, widest
        else:
            second = max(second, reach)
    return rays_of_radius(rays, np.sqrt(widest * second), seam, light)


@inline_kernel
def rays_of_radius(rays, mean, factor, light):
    """First and last + 1 ray of the set for a mean blur radius in px, with `factor` times its side (`rays_for`)."""
    side = factor * _light_factor(light, mean) * max(min(3.2 + 0.52 * mean, 11.0), 0.45 * mean)
    even = min(2 * int(np.ceil(side)), MOST, len(rays.spans) - 1)
    return rays.spans[even, 0], rays.spans[even, 1]


@inline_kernel
def _light_factor(light, mean):
    """Factor of the side of a tile's grid.

    Errors grow with the light and fall with about the 3/4th power of the number of rays, so that a fixed number of
    rays does most where the side goes with a small power of the light. Large radii, at which a footprint holds lights
    and shadows alike, feel less of it.
    """
    part = min(max((12.0 - mean) / 6.0, 0.3), 1.0)
    return 1.0 + part * (min(max(1.1 * np.sqrt(np.sqrt(light)), 0.65), 1.3) - 1.0)
