"""Tiles of pictures some of whose layers are reduced: means of those are read, rays carry what is left.

Layers of a tile are of three kinds: coarse ones (`reduced_layers`), ones in focus, which no ray moves, and the other
blurred ones. What coarse layers do together is read from `reduced_means.layers_together`; layers in focus between them
multiply it. Where another blurred layer lies behind all of them, rays add what it does together with them:

    mean(sum_l T_l c_l) - sum_l mean(T') prod(1 - mean(a_k)) mean(c_l),

over the layers l behind the coarse ones, T' the light that those let through on a ray.
"""

from typing import NamedTuple

import numpy as np

from bokehsynth.rendering import tile_constants as tiles
from bokehsynth.rendering.cpu import ray_batches, tile_pass
from bokehsynth.rendering.cpu.composite import composite
from bokehsynth.rendering.cpu.control_variate import attenuate_by, clear_sums, rays_for, rays_of_radius, sum_rays
from bokehsynth.rendering.cpu.kernel_arguments import Batch, Group, PupilField, Texels, Visible
from bokehsynth.rendering.cpu.pinhole import write_pixels
from bokehsynth.rendering.cpu.ray_batches import BATCH
from bokehsynth.rendering.cpu.simd import add, cell, div, load, madd, mul, peek, splat, store, sub, where_positive
from bokehsynth.rendering.cpu.tile_bounds import REACH
from bokehsynth.rendering.jit import always_inline_kernel, inline_kernel, kernel
from bokehsynth.rendering.tile_constants import CELL, FLOAT_BYTES, GROUP, LANES, PACKED, PACKED_STEP, TILE_H, TILE_W
from bokehsynth.rendering.types import Float64Array, FloatArray, IntArray

ALL_RAYS, TOGETHER, BEHIND = range(3)
"""What adds to a tile's means: rays through all layers; coarse layers alone; these, and rays for layers behind."""


class Readings(NamedTuple):
    """The `reduced_means.Reading`s of a picture; the caller holds their arrays."""

    arrays: IntArray  # [readings, 6]: address, planes, rows, columns of each; address and planes of its limits
    columns: "np.ndarray[tuple[int, int], np.dtype[np.int32]]"  # [readings, W]
    weights: FloatArray  # float32 [readings, 4, W]: of the coarse pixels before, at and after each pixel of a row
    firsts: Float64Array  # [readings]
    cells: IntArray  # [readings]: pixels per coarse pixel
    bounded: IntArray
    """[readings]: planes from this one on lie in 0..1, those before are not negative; -1: differences of any sign."""
    modes: "np.ndarray[tuple[int, int], np.dtype[np.uint8]]"  # [rows, columns]: ALL_RAYS .. BEHIND of each tile
    means: IntArray  # [L]: which plane of the buffer a layer's means begin at, -1 for layers that are not coarse
    together: IntArray  # [L]: likewise `layers_together`, -1 where nothing of the kind was made


class Workspace(NamedTuple):
    """What one pass over tiles writes to; the caller holds it."""

    memory: FloatArray  # float32 [tile_pass.scratch_cells(L, C), CELL]
    buffer: FloatArray  # float32 [planes, TILE_H, more than W]: readings of a row of tiles
    pupil: PupilField  # none


class Read(NamedTuple):
    """The buffer's address and width, and what adds to the means of the present tile."""

    address: int
    width: int
    mode: int


@kernel
def _read_rows(readings, y, stop, buffer):
    """Read all planes between coarse pixels, by cubic splines, for picture rows y .. stop - 1.

    buffer: float32 [planes, rows, width].
    """
    n = readings.columns.shape[1]
    lines, w = np.empty((4, n), np.float32), np.empty(4)
    at = 0
    for k in range(len(readings.arrays)):
        address, count, rows, stride, limits, limited = readings.arrays[k]
        for p in range(count):
            plane, known = address + FLOAT_BYTES * p * rows * stride, -8
            largest = np.float32(np.inf if p < readings.bounded[k] else 1)
            least = np.float32(0 if readings.bounded[k] >= 0 else -np.inf)
            for row in range(y, stop):
                place = readings.firsts[k] + row / readings.cells[k]
                j = int(place)
                for line in range(max(j - 1, known + 1), j + 3):
                    _read_row(plane, line * stride, readings.columns, readings.weights, k, lines[line % 4])
                known = j + 2
                cubic_weights(place - j, readings.cells[k], w)
                w0, w1, w2, w3 = np.float32(w[0]), np.float32(w[1]), np.float32(w[2]), np.float32(w[3])
                a, b, c, d = lines[(j - 1) % 4], lines[j % 4], lines[(j + 1) % 4], lines[(j + 2) % 4]
                for x in range(n):
                    value = w0 * a[x] + w1 * b[x] + w2 * c[x] + w3 * d[x]
                    buffer[at, row - y, x] = min(max(value, least), largest)
            at += 1
        if limited > 0:
            planes = (at - count, count - 3)
            for row in range(y, stop):
                start = int(readings.firsts[k] + row / readings.cells[k]) * stride
                _limit_row(limits, (start, rows * stride), readings.columns[k], planes, buffer[:, row - y])


@inline_kernel
def _limit_row(limits, place, columns, planes, buffer):
    """Keep three colours, from plane planes[0] on, between the straight colours around times the alpha that was read.

    Colour and alpha overshoot by different shares of their own size: where little light arrives, their quotient would
    be any colour. limits: address of `reduced_means.straight_limits`; place: its first pixel and texels per plane.
    """
    start, step = place
    for c in range(3):
        first, a = planes[0] + c, planes[0] + 3 + min(c, planes[1] - 1)
        for x in range(np.uint64(len(columns))):
            i, alpha = start + columns[x], buffer[a, x]
            least, largest = peek(limits, c * step + i), peek(limits, (3 + c) * step + i)
            buffer[first, x] = min(max(buffer[first, x], least * alpha), largest * alpha)


@inline_kernel
def _read_row(plane, start, columns, weights, k, out):
    for x in range(np.uint64(len(out))):
        i = start + columns[k, x]
        out[x] = (
            weights[k, 0, x] * peek(plane, i - 1) + weights[k, 1, x] * peek(plane, i)
            + weights[k, 2, x] * peek(plane, i + 1) + weights[k, 3, x] * peek(plane, i + 2)
        )  # fmt: skip


@kernel
def cubic_weights(t, cell_side, out):
    """Weights of the four coarse pixels around a place `t` of the way between the middle two.

    A cubic of the family of Mitchell and Netravali (1988), B + 2 C = 1, whose second moment B / 3 takes back what cells
    and the bilinear lookup between them add to the variance of a footprint's rim: f^2 (1/12 + 1/6) - 1/6.
    """
    b = 3 * (1 / (6 * cell_side * cell_side) - 0.25)
    c = (1 - b) / 2
    for k in range(4):
        x = abs(t + 1 - k)
        if x < 1:
            out[k] = ((12 - 9 * b - 6 * c) * x**3 + (-18 + 12 * b + 6 * c) * x**2 + 6 - 2 * b) / 6
        else:
            out[k] = ((-b - 6 * c) * x**3 + (6 * b + 30 * c) * x**2 + (-12 * b - 48 * c) * x + 8 * b + 24 * c) / 6


@kernel
def row_weights(shares, cell_side, out):
    """`cubic_weights` of every pixel of a row: float32 [4, W]."""
    w = np.empty(4)
    for x in range(len(shares)):
        cubic_weights(shares[x], cell_side, w)
        for k in range(4):
            out[k, x] = w[k]


@kernel
def fill_modes(plan, coarse, modes):
    """Fill what adds to the means of each tile: ALL_RAYS .. BEHIND, uint8 [rows, columns]."""
    for row in range(modes.shape[0]):
        for column in range(modes.shape[1]):
            # Where colours are divided by what little light arrives, sums that were read apart would not fit together.
            closed = plan.lights[row, column] < np.inf
            modes[row, column] = _mode(plan, coarse, row, column) if closed else ALL_RAYS


@inline_kernel
def _mode(plan, coarse, row, column):
    """Without other blurred layers the coarse ones are all; otherwise those must come first, two of them or more."""
    large, others, first = 0, 0, True
    for place in range(plan.orders.shape[2]):
        m = plan.orders[row, column, place]
        if m < 0:
            break
        if coarse[m]:
            large += 1
            first = first and place == large - 1
        elif plan.states[row, column, m, REACH] > 0:
            others += 1
    if large < 2:
        return ALL_RAYS
    if others == 0:
        return TOGETHER
    return BEHIND if first else ALL_RAYS


@kernel
def render_rows(layers, plan, table, rays, readings, tile_rows, picture, work):
    """`tile_pass.render_rows` where `readings` holds some layers' means."""
    paths, lights, camera = plan.paths, plan.lights, layers.camera
    height, width = picture.coverage.shape
    count, slots = len(layers.planes), 3 + len(rays.weights)
    state, seen, hits, scratch = tile_pass.workspace(count, slots, work.memory)
    address, wide = np.int64(work.buffer.ctypes.data), work.buffer.shape[2]
    for row in range(tile_rows[0], tile_rows[1]):
        y0 = row * TILE_H
        _read_rows(readings, y0, min(height, y0 + TILE_H), work.buffer)
        for column in range(paths.shape[1]):
            path, x0, mode = paths[row, column], column * TILE_W, readings.modes[row, column]
            if path == tiles.RAY_TRACED:
                continue
            y, x = y0 + layers.margin - camera.cy, x0 + layers.margin - camera.cx
            read = Read(address, wide, mode)
            visible = Visible(state, seen[: tile_pass.copy_plan(plan, row, column, state, seen)])
            together = path == tiles.CONTROL_VARIATE and mode != ALL_RAYS
            span = (0, 0)
            if path == tiles.CONTROL_VARIATE:
                light = lights[row, column] / plan.rms_light
                span = (
                    _rays_behind(visible, readings.means, rays, light) if together
                    else rays_for(layers, visible, rays, light)
                )  # fmt: skip
            for top in range(0, min(TILE_H, height - y0), GROUP):
                base = int(y + top + camera.cy) * layers.stride + int(x + camera.cx)
                rows, columns = min(GROUP, height - y0 - top), min(TILE_W, width - x0)
                group = Group(y + top, x, base, (y0 + top) * width + x0, top, rows, columns, column)
                _filter_layers(layers, table, readings.means, read, visible, group, scratch)
                if together:
                    if mode == BEHIND:
                        _sum_behind(layers, readings.means, visible, group, rays, span, hits, scratch)
                    _composite(layers.opaque, rays.channels_passed, visible, group, readings, read, scratch, picture)
                    continue
                if path == tiles.CONTROL_VARIATE:
                    sum_rays(layers, visible, group, rays, span, work.pupil, hits, scratch)
                composite(layers.opaque, rays.channels_passed, visible, group, path == tiles.CONTROL_VARIATE, scratch,
                          picture)  # fmt: skip


@always_inline_kernel
def _buffered(read, plane, group, r):
    """Address of a plane's values of one row of a group in the buffer, for `load` from 0 on."""
    return read.address + FLOAT_BYTES * ((plane * TILE_H + group.top + r) * read.width + group.tile_column * TILE_W)


@always_inline_kernel
def _filter_layers(layers, table, means, read, visible, group, scratch):
    """Fill `scratch.means` of the visible layers."""
    for m in visible.order:
        count = 3 if layers.opaque[m] == 1 else scratch.slots
        if visible.state[m, REACH] == 0:
            tile_pass.copy_layer(layers, m, group, count, scratch)
        elif means[m] >= 0:
            for p in range(count):
                for r in range(GROUP):
                    value = load(_buffered(read, means[m] + p, group, r), 0)
                    store(cell(scratch.means, scratch.slots, m, p), r * LANES, value)
        else:
            tile_pass.filter_layer(layers, table, m, group, count, scratch)


@inline_kernel
def _rays_behind(visible, means, rays, light):
    """Rays for what the largest layer behind the coarse ones does together with them (`rays_for`)."""
    state, order = visible
    large, other = 0.0, 0.0
    for m in order:
        if means[m] >= 0:
            large = max(large, state[m, REACH])
        else:
            other = max(other, state[m, REACH])
    return rays_of_radius(rays, np.sqrt(large * other), 1.0, light)


@inline_kernel
def _sum_behind(layers, means, visible, group, rays, span, hits, scratch):
    """Fill `scratch.sums` as `control_variate.sum_rays` does, but for the coarse layers, which only stop light.

    Row `layers` + 1 gets sum w T' after the sums of w.
    """
    clear_sums(len(layers.planes), scratch)
    through = scratch.buffer
    for start in range(span[0], span[1], BATCH):
        size = min(span[1], start + BATCH) - start
        batch = Batch(rays.weights, start, size, through, 0)
        for i in range(size * GROUP):
            store(through, i * LANES, splat(np.float32(1)))
        _sum_batch(layers, means, visible, group, rays, batch, hits, scratch)


@always_inline_kernel
def _sum_batch(layers, means, visible, group, rays, batch, hits, scratch):
    count, slots, sums = len(layers.planes), scratch.slots, scratch.sums
    samples = scratch.buffer + FLOAT_BYTES * CELL * BATCH
    channels = slots - 3
    closed, behind = False, False
    for c in range(channels):
        ray_batches.sum_samples(batch.through, batch, c, cell(sums, slots, count + 1, c))
    for m in visible.order:
        if means[m] < 0 and not behind:
            behind = True
            for c in range(channels):
                ray_batches.sum_samples(batch.through, batch, c, cell(sums, slots, count + 1, channels + c))
        sharp = visible.state[m, REACH] == 0
        if not sharp:
            ray_batches.intersect_batch(layers, m, group, rays, batch.start, batch.start + batch.size, hits)
        slanted = layers.planes[m, 1] != 0 or layers.planes[m, 2] != 0
        first, step = layers.addresses[m, PACKED], layers.addresses[m, PACKED_STEP]
        if behind:
            _add_light(
                Texels(first, layers.stride, group.base), step, (m, count), (sharp, slanted), hits, batch, scratch
            )
        if layers.opaque[m] == 1:
            closed = True
            break
        alpha = Texels(first + 3 * step, layers.stride, group.base)
        attenuate_by(alpha, sharp, not slanted, hits, batch, samples)
        if behind:
            for c in range(channels):
                ray_batches.sum_samples(samples, batch, c, cell(sums, slots, m, 3 + c))
    for c in range(0 if closed else channels):
        ray_batches.sum_samples(batch.through, batch, c, cell(sums, slots, count, 3 + c))


@always_inline_kernel
def _add_light(texels, step, rows, kind, hits, batch, scratch):
    """Add a layer's light: alone to row rows[0] of the sums, as it arrives to row rows[1].

    texels: of red, the planes of green and blue lie `step` bytes farther each; kind: in focus, and tilted.
    """
    slots, sums = scratch.slots, scratch.sums
    sharp, slanted = kind
    if slanted and not sharp and slots == 4:
        mean, full = cell(sums, slots, rows[0], 0), cell(sums, slots, rows[1], 0)
        ray_batches.sum_slanted_colour(texels, step, hits, batch, mean, full)
        return
    for p in range(3):
        plane = Texels(texels.address + p * step, texels.stride, texels.base)
        mean, full = cell(sums, slots, rows[0], p), cell(sums, slots, rows[1], p)
        if sharp:
            ray_batches.sum_sharp(plane, batch, min(p, slots - 4), mean, full)
        else:
            ray_batches.sum_light(plane, not slanted, hits, batch, min(p, slots - 4), mean, full)


@always_inline_kernel
def _composite(opaque, passed, visible, group, readings, read, scratch, picture):
    """Composite means and what layers do together, divide by the light that arrived, write the pixels."""
    order, slots = visible.order, scratch.slots
    nothing, one = splat(np.float32(0)), splat(np.float32(1))
    values = scratch.buffer
    for r in range(group.rows):
        at = r * LANES
        covered = nothing
        for c in range(3):
            if passed[c] == 0:
                store(values, c * LANES, nothing)
                continue
            a = 3 + min(c, slots - 4)
            value, before = nothing, nothing
            # Light that the coarse layers let through: of means, and what they add together; that the others let.
            coarse, together, others = one, nothing, one
            for place in range(len(order)):
                m = order[place]
                light = load(cell(scratch.means, slots, m, c), at)
                if readings.means[m] >= 0:
                    more = load(_buffered(read, readings.together[m] + c, group, r), 0)
                    light = add(mul(coarse, light), where_positive(before, more, nothing))
                else:
                    light = mul(add(coarse, together), light)
                value = madd(value, others, light)
                if opaque[m] == 1:
                    others = nothing
                    break
                alpha = load(cell(scratch.means, slots, m, a), at)
                if visible.state[m, REACH] > 0:
                    before = add(before, alpha)
                if readings.means[m] >= 0:
                    coarse = mul(coarse, sub(one, alpha))
                    more = load(_buffered(read, readings.together[m] + a, group, r), 0)
                    together = where_positive(before, more, nothing)
                else:
                    others = mul(others, sub(one, alpha))
            through = mul(others, add(coarse, together))
            if read.mode == BEHIND:
                light, left = _behind(opaque, readings.means, order, scratch, c, a, at)
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
def _behind(opaque, means, order, scratch, c, a, at):
    """Light and transmission by the rays of `_sum_behind` less their own means composited."""
    sums, slots, layers = scratch.sums, scratch.slots, len(opaque)
    total = load(cell(sums, slots, layers + 1, a - 3), at)
    weight = where_positive(total, div(splat(np.float32(1)), total), splat(np.float32(0)))
    light = splat(np.float32(0))
    through = mul(load(cell(sums, slots, layers + 1, a - 3 + slots - 3), at), weight)
    for m in order:
        if means[m] >= 0:
            continue
        light = sub(light, mul(mul(load(cell(sums, slots, m, c), at), weight), through))
        if opaque[m] == 1:
            through = splat(np.float32(0))
            break
        through = mul(through, sub(splat(np.float32(1)), mul(load(cell(sums, slots, m, a), at), weight)))
    light = add(light, mul(load(cell(sums, slots, layers, c), at), weight))
    return light, sub(mul(load(cell(sums, slots, layers, a), at), weight), through)
