"""The fast path, tile by tile: exact means of layers, sums over rays where layers vary together, composited pixels."""

import numpy as np

from bokehsynth.rendering import tile_constants as tiles
from bokehsynth.rendering.cpu.composite import composite
from bokehsynth.rendering.cpu.control_variate import rays_for, sum_rays
from bokehsynth.rendering.cpu.kernel_arguments import Group, Hits, Radius, Scratch, Texels, Visible
from bokehsynth.rendering.cpu.layer_filter import (
    filter_plane,
    gains,
    radius_range,
    runs_from,
)
from bokehsynth.rendering.cpu.ray_batches import BATCH
from bokehsynth.rendering.cpu.simd import cell, load, mul, store
from bokehsynth.rendering.cpu.tile_bounds import REACH, STATES
from bokehsynth.rendering.jit import always_inline_kernel, inline_kernel, kernel
from bokehsynth.rendering.tile_constants import CELL, FLOAT_BYTES, GROUP, LANES, TILE_H, TILE_W


def scratch_cells(layers: int, channels: int) -> int:
    """Cells of scratch that `render_rows` needs."""
    return 2 * (layers + 1) * (3 + channels) + 3 * BATCH + 1


@kernel
def workspace(count, slots, memory):
    """Return what one pass over tiles of `count` layers writes to: states and order of layers, hits, scratch memory."""
    fraction, drift = np.empty((BATCH, 2), np.float32), np.empty((BATCH, 4), np.float32)
    hits = Hits(np.empty(BATCH, np.int64), fraction, drift, np.empty(BATCH, np.int64))
    means = np.int64(memory.ctypes.data)
    sums = means + FLOAT_BYTES * CELL * count * slots
    scratch = Scratch(means, sums, sums + FLOAT_BYTES * CELL * (count + 2) * slots, slots)
    return np.zeros((count, STATES)), np.empty(count, np.int64), hits, scratch


@kernel
def render_rows(layers, plan, table, rays, pupil, tile_rows, picture, memory):
    """Fill tile rows tile_rows[0] .. tile_rows[1] - 1 of a picture but for tiles that are RAY_TRACED.

    memory: float32 [scratch_cells(L, C), CELL]; the caller holds it, since addresses into it would not keep it alive.
    """
    paths, lights, stride, camera = plan.paths, plan.lights, layers.stride, layers.camera
    opaque, passed = layers.opaque, rays.channels_passed
    height, width = picture.coverage.shape
    count, slots = len(layers.planes), 3 + len(rays.weights)
    state, seen, hits, scratch = workspace(count, slots, memory)
    for row in range(tile_rows[0], tile_rows[1]):
        y0 = row * TILE_H
        for column in range(paths.shape[1]):
            path, x0 = paths[row, column], column * TILE_W
            if path == tiles.RAY_TRACED:
                continue
            with_rays = path == tiles.CONTROL_VARIATE
            y, x = y0 + layers.margin - camera.cy, x0 + layers.margin - camera.cx
            visible = Visible(state, seen[: copy_plan(plan, row, column, state, seen)])
            if with_rays:
                span = rays_for(layers, visible, rays, lights[row, column] / plan.rms_light)
            for top in range(0, min(TILE_H, height - y0), GROUP):
                base = int(y + top + camera.cy) * stride + int(x + camera.cx)
                rows, columns = min(GROUP, height - y0 - top), min(TILE_W, width - x0)
                group = Group(y + top, x, base, (y0 + top) * width + x0, top, rows, columns, column)
                _filter_layers(layers, table, visible, group, scratch)
                if with_rays:
                    sum_rays(layers, visible, group, rays, span, pupil, hits, scratch)
                composite(opaque, passed, visible, group, with_rays, scratch, picture)


@inline_kernel
def copy_plan(plan, row, column, state, seen):
    """Copy what is planned of a tile: a slice would be counted and released. Returns how many layers are visible."""
    count = 0
    for m in range(len(seen)):
        seen[m] = plan.orders[row, column, m]
        count += seen[m] >= 0
        for k in range(STATES):
            state[m, k] = plan.states[row, column, m, k]
    return count


@always_inline_kernel
def _filter_layers(layers, table, visible, group, scratch):
    """Fill `scratch.means` of the visible layers."""
    for m in visible.order:
        count = 3 if layers.opaque[m] == 1 else scratch.slots
        if visible.state[m, REACH] == 0:
            copy_layer(layers, m, group, count, scratch)
            continue
        filter_layer(layers, table, m, group, count, scratch)


@always_inline_kernel
def filter_layer(layers, table, m, group, count, scratch):
    """Fill `count` planes of `scratch.means` of a blurred layer."""
    K = layers.camera.blur
    d, gx, gy = layers.planes[m, 0], layers.planes[m, 1], layers.planes[m, 2]
    radius = Radius(K * (d + gx * group.x + gy * group.y - layers.camera.focus), K * gx, K * gy)
    family = _family(table.spans, m, radius)
    with_sums, span = family != tiles.TAP_KERNELS, (table.spans[m, family, 0], table.spans[m, family, 1])
    source, step = layers.addresses[m, tiles.PACKED], layers.addresses[m, tiles.PACKED_STEP]
    if with_sums:
        source, step = layers.addresses[m, tiles.SOURCE], layers.addresses[m, tiles.SOURCE_STEP]
    for p in range(count):
        plane, channel = min(p, 3), min(p, scratch.slots - 4) if p < 3 else p - 3
        texels = Texels(source + plane * step, layers.stride, group.base)
        sums = layers.addresses[m, tiles.SUMS] + plane * layers.addresses[m, tiles.SUMS_STEP]
        out = cell(scratch.means, scratch.slots, m, p)
        filter_plane(texels, sums, table.kernels, span, radius, channel, scratch.buffer, out)
    if with_sums:
        gains(radius, table, span, table.reference[m], scratch.buffer)
        _apply_gains(m, count, scratch)


@always_inline_kernel
def _apply_gains(m, count, scratch):
    """Multiply the means of a layer by the gains in the buffer."""
    for p in range(count):
        here = cell(scratch.means, scratch.slots, m, p)
        for i in range(GROUP):
            store(here, i * LANES, mul(load(here, i * LANES), load(scratch.buffer, i * LANES)))


@always_inline_kernel
def copy_layer(layers, m, group, count, scratch):
    """Means of a layer in focus: its own texels."""
    for p in range(count):
        plane = layers.addresses[m, tiles.PACKED] + min(p, 3) * layers.addresses[m, tiles.PACKED_STEP]
        here = cell(scratch.means, scratch.slots, m, p)
        for r in range(GROUP):
            store(here, r * LANES, load(plane, group.base + r * layers.stride))


@always_inline_kernel
def _family(spans, m, radius):
    """Choose the kernels of a group: with prefix sums where the layer has them and all its radii are large enough."""
    low, high = radius_range(radius)
    near, far = runs_from(radius.per_column, radius.per_row)
    # Without taps only pixels beyond the border have smaller radii.
    alone = spans[m, tiles.TAP_KERNELS, 1] == spans[m, tiles.TAP_KERNELS, 0]
    if (low >= near or alone) and spans[m, tiles.NEAR_KERNELS, 1] > spans[m, tiles.NEAR_KERNELS, 0]:
        return tiles.NEAR_KERNELS
    if (high <= -far or alone) and spans[m, tiles.FAR_KERNELS, 1] > spans[m, tiles.FAR_KERNELS, 0]:
        return tiles.FAR_KERNELS
    return tiles.TAP_KERNELS
