"""Means of a layer where its kernels change too fast for a lattice of nodes: kernels at columns of every few rows.

A group of pixels has kernels at so many of its columns that they are alike enough, linear between two; rows share them,
fewer where kernels change faster. At its most every pixel has a kernel of its own.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bokehsynth.rendering import tile_constants as tiles
from bokehsynth.rendering.aperture.field_grid import AX, AY, DISTANCE, SIDE
from bokehsynth.rendering.aperture.field_lookup import grids_at, place_of
from bokehsynth.rendering.aperture.field_moments import ROWS, FieldMoments
from bokehsynth.rendering.aperture.field_motion import FieldMotion
from bokehsynth.rendering.aperture.field_table import FieldTable
from bokehsynth.rendering.cpu.kernel_arguments import Texels
from bokehsynth.rendering.cpu.moment_splats import LARGEST_BY_BLOCKS, splat_moments
from bokehsynth.rendering.cpu.node_kernels import NodeGrids, splat_grids
from bokehsynth.rendering.cpu.simd import (
    clamp01,
    div,
    load,
    madd,
    maximum,
    mul,
    ramp,
    splat,
    store,
    sub,
    where_positive,
)
from bokehsynth.rendering.cpu.tile_bounds import REACH
from bokehsynth.rendering.jit import always_inline_kernel, inline_kernel, kernel
from bokehsynth.rendering.tile_constants import CELL, FLOAT_BYTES, GROUP, LANES, TILE_H, TILE_W
from bokehsynth.rendering.types import Float64Array, FloatArray, IntArray

MOST = LANES - 1
"""Steps between columns at most: then every pixel of a row has its own kernel."""

FEW, SEVERAL = 2, 5
"""Steps up to which all rows of a group share kernels, and up to which two do: rows lie up to one and a half, or half a
row, from where their kernel stands."""

STEEP = 2.0
"""Root mean square aberration in px up to which blocks serve. Beyond, they land as shapes that are no boxes: 150 to 300
px from the centre of petzval-f1.4 (0.7, 2, 7 and 15 px) their kernels are off by 0.04, 0.07, 0.12 and 0.22 of what
rays say, root mean square, those of cells by 0.015 to 0.05."""


class Columns(NamedTuple):
    """What kernels at columns are made from, and room for one."""

    steps: IntArray  # [L, rows, cells]: kernels of a group's row less one; 0 where means are made otherwise
    table: FieldTable
    moments: FieldMoments
    by_blocks: npt.NDArray[np.bool_]  # [nodes]: where the moments serve; nowhere where the table is not `round`
    farthest: Float64Array  # [nodes]: bound for the aberrations beside a node in px, infinite where not `round`
    grids: NodeGrids  # of one place
    dense: FloatArray  # float32 [C * side * side]
    offsets: IntArray  # [side * side]
    weights: FloatArray  # float32 [C, side * side]
    norms: Float64Array  # [C]
    means: FloatArray  # float32 [groups of a tile * L * slots, CELL]: of the present tile


def columns_of(
    steps: IntArray, table: FieldTable, moments: FieldMoments | None, motion: FieldMotion, side: int
) -> Columns:  # fmt: skip
    """Room for kernels of `side` texels per side."""
    nodes, channels = table.values.shape[1:3]
    by_blocks, farthest = np.zeros(nodes, np.bool_), np.full(nodes, np.inf)
    if moments is None:
        nothing = np.empty((0, channels, ROWS, 0), np.float32)
        moments = FieldMoments((nothing, nothing), table.half)
    else:
        by_blocks[:-1], farthest = motion.spread[0, 0] <= STEEP**2, _farthest(table)
    grids = NodeGrids(np.empty((1, channels, 4, SIDE * SIDE), np.float32), np.empty((1, 2)), table.half)
    return Columns(
        steps, table, moments, by_blocks, farthest, grids,
        np.empty(channels * side * side, np.float32), np.empty(side * side, np.int64),
        np.empty((channels, side * side), np.float32), np.empty(channels),
        np.empty((TILE_H // GROUP * len(steps) * (3 + channels), CELL), np.float32),
    )  # fmt: skip


def _farthest(table: FieldTable) -> Float64Array:
    """Largest aberration at the nodes on both sides of a place, of a grid's points that light passes or lies beside."""
    values, spacing = table.values[0], 2 * table.half / (SIDE - 1)
    lengths = np.hypot(values[..., AX, :], values[..., AY, :])
    here = np.where(values[..., DISTANCE, :] > -spacing, lengths, 0).max(axis=(1, 2)).astype(np.float64)
    return np.maximum(here, np.append(here[1:], here[-1])) + 1  # a cubic peaks between its nodes


@kernel
def filter_columns(layers, strip, row, tile, buffer, area):
    """Fill `means` of the visible layers of a tile that are made at columns.

    strip: `cell_filter.CellStrip`; row: of the tile's finest cell in it; tile: its row, column and what it sees;
    buffer: address of room for a group; area: height and width of the picture.
    """
    columns, (tile_row, tile_column, visible) = strip.columns, tile
    y0, x0 = tile_row * TILE_H, tile_column * TILE_W
    y, x = y0 + layers.margin - layers.camera.cy, x0 + layers.margin - layers.camera.cx
    for m in visible.order:
        steps = columns.steps[m, row, tile_column]
        if steps == 0 or visible.state[m, REACH] == 0:
            continue
        room = (int(np.sqrt(len(columns.offsets)) + 0.5) - 1) // 2
        half = min(int(np.ceil(visible.state[m, REACH])) + 1, max(layers.margin - 1, 1), room)
        for top in range(0, min(TILE_H, area[0] - y0), GROUP):
            base = int(y + top + layers.camera.cy) * layers.stride + int(x + layers.camera.cx)
            last = max(min(TILE_W, area[1] - x0) - 1, 1)
            _filter_group(layers, columns, (m, steps, half), (y + top, x, base, last), (top // GROUP, buffer))


@kernel
def means_of(columns, layers, m, number):
    """Address of the means of layer m for a tile's group of this number, plane after plane."""
    slots = 3 + len(columns.norms)
    return np.int64(columns.means.ctypes.data) + FLOAT_BYTES * CELL * slots * (number * layers + m)


@kernel
def _filter_group(layers, columns, layer, group, room):
    """Fill the means of a layer (number, steps, half a kernel's side) for a group (y, x, base, its last column)."""
    (m, steps, half), (y, x, base, last), (number, buffer) = layer, group, room
    channels = len(columns.norms)
    high = GROUP if steps <= FEW else GROUP // 2 if steps <= SEVERAL else 1
    count, out = 3 if layers.opaque[m] == 1 else 3 + channels, means_of(columns, len(layers.planes), m, number)
    for at in range(count * GROUP):
        store(out, at * LANES, splat(np.float32(0)))
    for top in range(0, GROUP, high):
        for c in range(channels):
            store(buffer, c * LANES, splat(np.float32(0)))
        for k in range(steps + 1):
            place = y + top + (high - 1) / 2, x + k * last / steps
            length = _make_kernel(layers, columns, m, place, half)
            apart = sub(mul(ramp(), splat(np.float32(steps / last))), splat(np.float32(k)))
            share = clamp01(sub(splat(np.float32(1)), maximum(apart, sub(splat(np.float32(0)), apart))))
            for c in range(channels):
                total = load(buffer, c * LANES)
                store(buffer, c * LANES, madd(total, share, splat(np.float32(columns.norms[c]))))
            store(buffer, channels * LANES, share)
            _add_kernel(layers, columns, (m, count), base, (top, high, length), (buffer, out))
        _divide(channels, count, (top, high), (buffer, out))


@kernel
def _make_kernel(layers, columns, m, place, half):
    """Make the kernel of a layer at a place (y, x) from the picture's centre; returns how many taps it has."""
    camera, channels = layers.camera, len(columns.norms)
    d, gx, gy = layers.planes[m, 0], layers.planes[m, 1], layers.planes[m, 2]
    radius = camera.blur * (d + gx * place[1] + gy * place[0] - camera.focus)
    tilted = radius, camera.blur * gx, camera.blur * gy
    y, x = place[0] + columns.table.centre[1], place[1] + columns.table.centre[0]
    there = place_of(columns.table, y, x)
    farthest, e = columns.farthest[there[1]], camera.extent * camera.blur * np.hypot(gx, gy)
    reach = (camera.extent * abs(radius) + e * farthest) / (1 - e) + farthest
    if reach < half - 2:
        half = int(np.ceil(reach)) + 2
    side = 2 * half + 1
    dense = columns.dense[: channels * side * side].reshape(channels, side, side)
    if columns.by_blocks[there[1]] and abs(radius) * camera.extent <= LARGEST_BY_BLOCKS:
        splat_moments(columns.moments, there, tilted, half, dense, columns.norms)
    else:
        grids = columns.grids
        grids.turns[0, 0], grids.turns[0, 1] = grids_at(columns.table, y, x, grids.values[0])
        splat_grids(grids, 0, tilted, half, dense, columns.norms)
    length = 0
    for j in range(side):
        first, stop = _covered(dense, j)
        offset = (j - half) * layers.stride - half
        for i in range(first, stop):
            columns.offsets[length] = offset + i
            for c in range(channels):
                columns.weights[c, length] = dense[c, j, i]
            length += 1
    return length


@inline_kernel
def _covered(dense, j):
    """First and last + 1 texel of row j that a kernel of any channel covers."""
    channels, _, side = dense.shape
    first, stop = side, 0
    for c in range(channels):
        i = 0
        while i < first and dense[c, j, i] == 0:
            i += 1
        first = min(first, i)
        i = side
        while i > stop and dense[c, j, i - 1] == 0:
            i -= 1
        stop = max(stop, i)
    return first, stop


@inline_kernel
def _add_kernel(layers, columns, layer, base, rows, room):
    """Add what the kernel gives to rows (first, how many, taps) of a layer (number, planes), times each pixel's share.

    room: addresses of the buffer, where the share comes after the sums of the channels, and of the layer's means.
    """
    (m, count), (top, high, length), (buffer, means), channels = layer, rows, room, len(columns.norms)
    source, step = layers.addresses[m, tiles.PACKED], layers.addresses[m, tiles.PACKED_STEP]
    share = load(buffer, channels * LANES)
    for p in range(count):
        plane, channel = min(p, 3), min(p, channels - 1) if p < 3 else p - 3
        texels = Texels(source + plane * step, layers.stride, base + top * layers.stride)
        out = means + FLOAT_BYTES * CELL * p
        if high == GROUP:
            _four_rows(texels, columns, channel, length, share, out)
        elif high == 2:
            _two_rows(texels, columns, channel, length, share, out + FLOAT_BYTES * LANES * top)
        else:
            _one_row(texels, columns, channel, length, share, out + FLOAT_BYTES * LANES * top)


@always_inline_kernel
def _four_rows(texels, columns, channel, length, share, out):
    source, stride, base = texels
    a0 = splat(np.float32(0))
    a1, a2, a3 = a0, a0, a0
    for t in range(length):
        at, w = base + columns.offsets[t], splat(columns.weights[channel, t])
        a0 = madd(a0, w, load(source, at))
        a1 = madd(a1, w, load(source, at + stride))
        a2 = madd(a2, w, load(source, at + 2 * stride))
        a3 = madd(a3, w, load(source, at + 3 * stride))
    store(out, 0, madd(load(out, 0), share, a0))
    store(out, LANES, madd(load(out, LANES), share, a1))
    store(out, 2 * LANES, madd(load(out, 2 * LANES), share, a2))
    store(out, 3 * LANES, madd(load(out, 3 * LANES), share, a3))


@always_inline_kernel
def _two_rows(texels, columns, channel, length, share, out):
    source, stride, base = texels
    a0 = splat(np.float32(0))
    a1 = a0
    for t in range(length):
        at, w = base + columns.offsets[t], splat(columns.weights[channel, t])
        a0 = madd(a0, w, load(source, at))
        a1 = madd(a1, w, load(source, at + stride))
    store(out, 0, madd(load(out, 0), share, a0))
    store(out, LANES, madd(load(out, LANES), share, a1))


@always_inline_kernel
def _one_row(texels, columns, channel, length, share, out):
    source, _, base = texels
    a0 = splat(np.float32(0))
    for t in range(length):
        a0 = madd(a0, splat(columns.weights[channel, t]), load(source, base + columns.offsets[t]))
    store(out, 0, madd(load(out, 0), share, a0))


@inline_kernel
def _divide(channels, count, rows, room):
    """Divide rows (first, how many) by the sums of their kernels."""
    nothing, (buffer, means) = splat(np.float32(0)), room
    for p in range(count):
        total = load(buffer, (min(p, channels - 1) if p < 3 else p - 3) * LANES)
        out = means + FLOAT_BYTES * CELL * p
        for row in range(rows[0], rows[0] + rows[1]):
            mean = div(load(out, row * LANES), total)
            store(out, row * LANES, where_positive(total, mean, nothing))
