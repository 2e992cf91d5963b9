"""Control variates layer by layer: what each layer adds that means of single layers miss, apart from all others.

`control_variate` has the sum over a picture's layers. Here each layer stands alone, so that layers in focus, which do
not vary over the opening, may be put between them afterwards:

    light[l] = mean(T_l c_l) - prod(1 - mean(a_k)) mean(c_l),  left[l] = mean(T_l (1 - a_l)) - prod(1 - mean(a_k))

with products over the layers k before l (and l itself).
"""

import numpy as np

from bokehsynth.rendering.cpu import ray_batches
from bokehsynth.rendering.cpu.control_variate import attenuate_by, clear_sums
from bokehsynth.rendering.cpu.kernel_arguments import Batch, Texels
from bokehsynth.rendering.cpu.ray_batches import BATCH
from bokehsynth.rendering.cpu.simd import cell, div, load, mul, splat, store, sub, where_positive
from bokehsynth.rendering.jit import always_inline_kernel, inline_kernel
from bokehsynth.rendering.tile_constants import CELL, FLOAT_BYTES, GROUP, LANES, PACKED, PACKED_STEP


@inline_kernel
def sum_rays_by_layer(layers, visible, group, rays, span, hits, scratch):
    """Fill `scratch.sums` with sums of w c and w a of each layer, and `scratch.means` with those of w T c and, in
    place of alpha, of w T behind it; row `layers` + 1 of the sums gets sum w. All layers are blurred."""
    count, slots = len(layers.planes), scratch.slots
    clear_sums(count, scratch)
    for m in range(count):
        for p in range(slots):
            for r in range(GROUP):
                store(cell(scratch.means, slots, m, p), r * LANES, splat(np.float32(0)))
    through, samples = scratch.buffer, scratch.buffer + FLOAT_BYTES * CELL * BATCH
    for start in range(span[0], span[1], BATCH):
        size = min(span[1], start + BATCH) - start
        batch = Batch(rays.weights, start, size, through, 0)
        for i in range(size * GROUP):
            store(through, i * LANES, splat(np.float32(1)))
        _sum_batch(layers, visible, group, rays, batch, hits, samples, scratch)


@always_inline_kernel
def _sum_batch(layers, visible, group, rays, batch, hits, samples, scratch):
    """Carry one batch of rays through the layers; samples: address of CELL floats for each ray."""
    count, slots, sums = len(layers.planes), scratch.slots, scratch.sums
    for c in range(slots - 3):
        ray_batches.sum_samples(batch.through, batch, c, cell(sums, slots, count + 1, c))
    for n in range(len(visible.order)):
        m = visible.order[n]
        ray_batches.intersect_batch(layers, m, group, rays, batch.start, batch.start + batch.size, hits)
        slanted = layers.planes[m, 1] != 0 or layers.planes[m, 2] != 0
        first, step = layers.addresses[m, PACKED], layers.addresses[m, PACKED_STEP]
        if n > 0 and slanted and slots == 4:
            mean, full = cell(sums, slots, m, 0), cell(scratch.means, slots, m, 0)
            ray_batches.sum_slanted_colour(Texels(first, layers.stride, group.base), step, hits, batch, mean, full)
        elif n > 0:
            for p in range(3):
                texels = Texels(first + p * step, layers.stride, group.base)
                mean, full = cell(sums, slots, m, p), cell(scratch.means, slots, m, p)
                ray_batches.sum_light(texels, not slanted, hits, batch, min(p, slots - 4), mean, full)
        if layers.opaque[m] == 1:
            break
        alpha = Texels(first + 3 * step, layers.stride, group.base)
        attenuate_by(alpha, False, not slanted, hits, batch, samples)
        for c in range(slots - 3):
            ray_batches.sum_samples(samples, batch, c, cell(sums, slots, m, 3 + c))
            ray_batches.sum_samples(batch.through, batch, c, cell(scratch.means, slots, m, 3 + c))


@inline_kernel
def write_covariances(opaque, visible, scratch, corner, out):
    """Fill the group from pixel `corner` (y, x) on of out float32 [L, 3 + C, rows, columns]: light, then left."""
    order, slots = visible.order, scratch.slots
    one = splat(np.float32(1))
    step = FLOAT_BYTES * out.shape[2] * out.shape[3]
    for r in range(GROUP):
        at = r * LANES
        here = (corner[0] + r) * out.shape[3] + corner[1]
        for c in range(3):
            a = 3 + min(c, slots - 4)
            total = load(cell(scratch.sums, slots, len(opaque) + 1, a - 3), at)
            weight = where_positive(total, div(one, total), splat(np.float32(0)))
            through = one
            for place in range(len(order)):
                m = order[place]
                plane = np.int64(out.ctypes.data) + step * slots * m
                if place > 0:
                    mean = mul(load(cell(scratch.sums, slots, m, c), at), weight)
                    full = mul(load(cell(scratch.means, slots, m, c), at), weight)
                    store(plane + step * c, here, sub(full, mul(mean, through)))
                if opaque[m] == 1:
                    break
                through = mul(through, sub(one, mul(load(cell(scratch.sums, slots, m, a), at), weight)))
                left = mul(load(cell(scratch.means, slots, m, a), at), weight)
                store(plane + step * a, here, sub(left, through))
