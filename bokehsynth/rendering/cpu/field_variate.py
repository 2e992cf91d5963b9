"""`control_variate` for rays that a `FieldTable` leads astray, channel by channel, and dims.

Rays of a tile have the light of its middle, and the aberration too where it is STEADY over a tile; elsewhere it is
linear over the tile. Where colours land TOGETHER, rays of the second channel serve all three. What they are asked for
is how two layers vary together, and no more.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bokehsynth.rendering.aperture.field_lookup import columns_at, place_of
from bokehsynth.rendering.aperture.field_table import FieldTable, no_field_table
from bokehsynth.rendering.aperture.tables import RaySet
from bokehsynth.rendering.cpu import ray_batches
from bokehsynth.rendering.cpu.control_variate import attenuate_by, clear_sums
from bokehsynth.rendering.cpu.field_tracer import within
from bokehsynth.rendering.cpu.kernel_arguments import Batch, Texels
from bokehsynth.rendering.cpu.ray_batches import BATCH
from bokehsynth.rendering.cpu.simd import cell, load, splat, store
from bokehsynth.rendering.cpu.tile_bounds import REACH
from bokehsynth.rendering.jit import always_inline_kernel, inline_kernel
from bokehsynth.rendering.tile_constants import CELL, FLOAT_BYTES, GROUP, LANES, PACKED, PACKED_STEP, TILE_H, TILE_W
from bokehsynth.rendering.types import FloatArray, IntArray

STEADY = 0.1
"""Pixels by which aberrations may change within half a tile's width for its rays to share their taps."""

TOGETHER = 0.02
"""Pixels by which rays of other colours may land beside those of green for green to stand for all three, of light up to
1: what green gets wrong of the others grows with both. Stripes over noise at K = 12: rms errors of R and B are 1.05
times those of rays of their own at up to 0.02 px, 1.27 times at 0.05 and 2.5 times at 0.15."""


class TileRays(NamedTuple):
    """The rays of one tile that pass, channel by channel; scratch."""

    table: FieldTable
    shifts: FloatArray  # float32 [C, N, 2]: aberrations
    weights: FloatArray  # float32 [C, N]
    slopes: FloatArray  # float32 [C, N, 4]: of ax per column and row, then of ay, where the tile's rays move
    numbers: IntArray  # [C, N] in the set of rays
    counts: IntArray  # [C]; [0] of a lens that has no table
    moving: npt.NDArray[np.uint8]  # [tile rows, tile columns]: whether aberrations are not STEADY
    together: npt.NDArray[np.uint8]  # [tile rows, tile columns]: whether one channel's rays serve all
    astray: float  # px that the canvas is made for


def tile_rays(
    table: FieldTable | None, rays: RaySet, channels: int, kinds: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]],
    astray: float,
) -> TileRays:  # fmt: skip
    """Room for the largest set of rays; kinds: `moving` and `together`; astray: bound for aberrations, in px."""
    if table is None:
        table, channels, most = no_field_table(0), 0, 0
    else:
        most = int((rays.spans[:, 1] - rays.spans[:, 0]).max())
    shape, floats = (channels, most), np.float32
    return TileRays(
        table, np.empty((*shape, 2), floats), np.empty(shape, floats), np.empty((*shape, 4), floats),
        np.empty(shape, np.int64), np.zeros(channels, np.int64), *kinds, astray,
    )  # fmt: skip


@inline_kernel
def fill_tile_rays(rays, span, y, x, kind, out):
    """Note what passes of the rays of `span` at a tile with its middle at (y, x); kind: whether it is moving, together.

    Rims cut rays within half their distance to a part. Rays that serve all channels are the first one's.
    """
    (moving, together), table, zero, one = kind, out.table, np.float32(0), np.float32(1)
    middle = place_of(table, y, x)
    left, right = place_of(table, y, x - TILE_W / 2), place_of(table, y, x + TILE_W / 2)
    above, below = place_of(table, y - TILE_H / 2, x), place_of(table, y + TILE_H / 2, x)
    half = TILE_W / 2, TILE_H / 2
    sharp = np.float32(np.sqrt((span[1] - span[0]) / np.pi) / table.half)
    for c in range(1 if together else len(out.counts)):
        n, asked = 0, 1 if together else c
        for i in range(span[0], span[1]):
            sx, sy = rays.points[i, 0], rays.points[i, 1]
            ax, ay, weight, distance = columns_at(table, middle, sx, sy, asked)
            weight *= min(max(distance * sharp + np.float32(0.5), zero), one)
            if weight <= 0:
                continue
            out.shifts[c, n, 0], out.shifts[c, n, 1], out.weights[c, n], out.numbers[c, n] = ax, ay, weight, i
            if moving:
                a, b = columns_at(table, left, sx, sy, asked), columns_at(table, right, sx, sy, asked)
                d, e = columns_at(table, above, sx, sy, asked), columns_at(table, below, sx, sy, asked)
                across, down = np.float32(1 / TILE_W), np.float32(1 / TILE_H)
                out.slopes[c, n, 0], out.slopes[c, n, 1] = (b[0] - a[0]) * across, (e[0] - d[0]) * down
                out.slopes[c, n, 2], out.slopes[c, n, 3] = (b[1] - a[1]) * across, (e[1] - d[1]) * down
            else:
                out.slopes[c, n] = zero
            for k in range(2):  # nothing is clamped to the canvas here
                out.shifts[c, n, k], out.slopes[c, n, 2 * k], out.slopes[c, n, 2 * k + 1] = within(
                    out.shifts[c, n, k], out.slopes[c, n, 2 * k], out.slopes[c, n, 2 * k + 1], half, out.astray
                )
            n += 1
        out.counts[c] = n


@always_inline_kernel
def sum_field_rays(layers, visible, group, rays, of_tile, kind, hits, scratch):
    """`control_variate.sum_rays` of the rays that `fill_tile_rays` has noted."""
    clear_sums(len(layers.planes), scratch)
    through, (moving, together) = scratch.buffer, kind
    for c in range(1 if together else len(of_tile.counts)):
        for start in range(0, of_tile.counts[c], BATCH):
            count = min(of_tile.counts[c], start + BATCH) - start
            batch = Batch(of_tile.weights, start, count, through, 0)
            for i in range(count * GROUP):
                store(through, i * LANES, splat(np.float32(1)))
            _sum_batch(layers, visible, group, (rays, of_tile, c, moving, together), batch, hits, scratch)
    if together:
        _share_out(len(layers.planes), scratch)


@inline_kernel
def _share_out(count, scratch):
    """Copy what the first channel's rays let through to the other two."""
    for m in range(count + 2):
        first = 0 if m > count else 3
        for r in range(GROUP):
            value = load(cell(scratch.sums, scratch.slots, m, first), r * LANES)
            store(cell(scratch.sums, scratch.slots, m, first + 1), r * LANES, value)
            store(cell(scratch.sums, scratch.slots, m, first + 2), r * LANES, value)


@inline_kernel
def _sum_batch(layers, visible, group, sent, batch, hits, scratch):
    """Carry one batch of rays of a channel, of all if there is one, through the layers."""
    _, _, c, moving, together = sent
    count, slots, sums = len(layers.planes), scratch.slots, scratch.sums
    samples = scratch.buffer + FLOAT_BYTES * CELL * BATCH
    first_plane, last_plane = (0, 3) if slots == 4 or together else (c, c + 1)
    closed = False
    ray_batches.sum_samples(batch.through, batch, c, cell(sums, slots, count + 1, c))
    for n in range(len(visible.order)):
        m = visible.order[n]
        sharp = visible.state[m, REACH] == 0
        frontal = layers.planes[m, 1] == 0 and layers.planes[m, 2] == 0 and not moving
        if not sharp:
            _intersect(layers, m, group, sent, batch, hits)
        first, step = layers.addresses[m, PACKED], layers.addresses[m, PACKED_STEP]
        if n > 0 and last_plane == 3 and first_plane == 0 and not (sharp or frontal):
            mean, full = cell(sums, slots, m, 0), cell(sums, slots, count, 0)
            ray_batches.sum_slanted_colour(Texels(first, layers.stride, group.base), step, hits, batch, mean, full)
        elif n > 0:  # nothing lies in front of the first: its light is its mean
            for p in range(first_plane, last_plane):
                texels = Texels(first + p * step, layers.stride, group.base)
                mean, full = cell(sums, slots, m, p), cell(sums, slots, count, p)
                if sharp:
                    ray_batches.sum_sharp(texels, batch, c, mean, full)
                else:
                    ray_batches.sum_light(texels, frontal, hits, batch, c, mean, full)
        if layers.opaque[m] == 1:
            closed = True
            break
        alpha = Texels(first + 3 * step, layers.stride, group.base)
        attenuate_by(alpha, sharp, frontal, hits, batch, samples)
        ray_batches.sum_samples(samples, batch, c, cell(sums, slots, m, 3 + c))
    if not closed:
        ray_batches.sum_samples(batch.through, batch, c, cell(sums, slots, count, 3 + c))


@inline_kernel
def _intersect(layers, m, group, sent, batch, hits):
    """Fill one row of `hits` for each ray of a batch: where it meets layer m."""
    (texel, fraction, drift, kind), (rays, of_tile, c, moving, _) = hits, sent
    d, gx, gy = layers.planes[m, 0], layers.planes[m, 1], layers.planes[m, 2]
    delta = d + gx * group.x + gy * group.y - layers.camera.focus
    right, down = -(TILE_W - 1) / 2, group.top - (TILE_H - 1) / 2
    for n in range(batch.size):
        at = batch.start + n
        i, ax, ay = of_tile.numbers[c, at], of_tile.shifts[c, at, 0], of_tile.shifts[c, at, 1]
        xx, xy, yx, yy = 0.0, 0.0, 0.0, 0.0
        if moving:
            xx, xy, yx, yy = _four(of_tile.slopes, c, at)
            ax, ay = ax + xx * right + xy * down, ay + yx * right + yy * down
        along_x, along_y = rays.points[i, 0] * rays.stretches[m, i], rays.points[i, 1] * rays.stretches[m, i]
        here = delta + gx * ax + gy * ay
        per_column, per_row = gx + gx * xx + gy * yx, gy + gx * xy + gy * yy
        qx, qy = ax + along_x * here, ay + along_y * here
        spread_x = ray_batches.spread(xx + along_x * per_column, xy + along_x * per_row, drift, n, 0)
        spread_y = ray_batches.spread(yx + along_y * per_column, yy + along_y * per_row, drift, n, 2)
        ix, iy = np.floor(qx + spread_x[0]), np.floor(qy + spread_y[0])
        widest = max(qx + spread_x[1] - ix, qy + spread_y[1] - iy)
        kind[n] = (
            ray_batches.ONE_TEXEL if widest < 1 else ray_batches.TWO_TEXELS if widest < 2 else ray_batches.SCATTERED
        )
        texel[n] = group.base + int(iy) * layers.stride + int(ix)
        fraction[n, 0], fraction[n, 1] = qx - ix, qy - iy


@inline_kernel
def _four(slopes, c, at):
    return float(slopes[c, at, 0]), float(slopes[c, at, 1]), float(slopes[c, at, 2]), float(slopes[c, at, 3])
