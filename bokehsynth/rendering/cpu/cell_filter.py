"""Means of layers where the opening changes over the picture: kernels at nodes, linear between, cell by cell.

A cell is a square of pixels between four nodes, FINEST pixels wide or a few times as many. Texels that all four
kernels cover become runs of prefix sums; every other one is a tap with four coefficients, of 1, x, y and xy. A group of
pixels has its own value and slope of each.
"""

from typing import NamedTuple

import numpy as np

from bokehsynth.rendering import tile_constants as tiles
from bokehsynth.rendering.aperture.footprint_kernel import INTERIOR, SHORTEST_RUN
from bokehsynth.rendering.cpu.column_kernels import Columns
from bokehsynth.rendering.cpu.kernel_arguments import Kernels, Radius, Texels
from bokehsynth.rendering.cpu.layer_filter import filter_plane, value_and_slope
from bokehsynth.rendering.cpu.simd import cell, div, load, madd, mul, ramp, splat, store, where_positive
from bokehsynth.rendering.jit import inline_kernel, kernel
from bokehsynth.rendering.tile_constants import CELL, FINEST, FLOAT_BYTES, GROUP, LANES
from bokehsynth.rendering.types import Float64Array, FloatArray, IntArray


class CellStrip(NamedTuple):
    """Kernels of all layers at the nodes of a strip, which is `rows` of the finest cells high."""

    number: int  # of this strip
    rows: int
    kernels: FloatArray  # float32, flat: of each node [C, side, side]
    starts: IntArray  # [L, rows + 1, n]: where a node's kernels begin
    sides: IntArray  # [L]
    halves: IntArray  # [L, rows + 1, n]: texels on each side of the middle that a node's kernels may touch
    norms: Float64Array  # [L, rows + 1, n, C]: their sums
    runs: IntArray  # [L]: whether texels well inside are 1, and prefix sums serve them
    reference: Float64Array  # [L]: radius in px at which the weights of a tilted layer's `runs` are 1; 0 without any
    sizes: IntArray  # [L, rows, cells]: of the cell that one of the finest belongs to, in these
    table: Kernels  # by radius, of layers and cells whose radius changes too much from node to node
    spans: IntArray  # [L, rows, cells, 2]: first and last + 1 of a cell's kernels by radius; equal where nodes serve
    columns: Columns  # of cells whose kernels change too much from node to node


class Cell(NamedTuple):
    """A cell of one layer: its first node in the strip, and its size in the finest cells."""

    row: int
    column: int
    size: int


class CellTaps(NamedTuple):
    """One cell's kernels, as taps and runs, for each layer."""

    offsets: IntArray  # [L, T]
    terms: FloatArray  # float32 [L, 4 C, T]: coefficients of 1, x, y, xy, each for all channels
    edges: IntArray  # [L, 2, R]: right and left ends of runs
    counts: IntArray  # [L, 2]: taps and runs
    weights: FloatArray  # float32 [2 C, T]: scratch of a group
    firsts: IntArray  # [2, 2]: scratch


def empty_taps(strip: CellStrip, channels: int) -> CellTaps:
    """Room for the largest cell."""
    layers, side = len(strip.sides), int(strip.sides.max(initial=1))
    size = side * side
    return CellTaps(
        np.empty((layers, size), np.int64), np.empty((layers, 4 * channels, size), np.float32),
        np.empty((layers, 2, side * (side // SHORTEST_RUN + 1)), np.int64), np.zeros((layers, 2), np.int64),
        np.empty((2 * channels, size), np.float32), np.zeros((2, 2), np.int64),
    )  # fmt: skip


@kernel
def compile_cell(strip, m, place, stride, taps):
    """Fill layer m's taps of the `Cell` at `place` from the four kernels around it."""
    y, x, size = place
    halves, starts = strip.halves[m], strip.starts[m]
    half = max(halves[y, x], halves[y, x + size], halves[y + size, x], halves[y + size, x + size])
    corners = starts[y, x], starts[y, x + size], starts[y + size, x], starts[y + size, x + size]
    if strip.runs[m] == 1:
        _compile_runs(strip, m, corners, half, stride, taps)
        return
    side, channels, middle, count = strip.sides[m], strip.norms.shape[3], strip.sides[m] // 2, 0
    for j in range(middle - half, middle + half + 1):
        first, last = _used(strip.kernels, corners, (channels, side), j * side + middle - half, 2 * half + 1)
        length = last - first
        offset = (j - middle) * stride - middle - j * side + first
        for t in range(length):
            taps.offsets[m, count + t] = offset + t
        for c in range(channels):
            _fill_terms(strip.kernels, corners, c * side * side + first, length, taps.terms, (m, c, count))
        count += max(length, 0)
    taps.counts[m, 0], taps.counts[m, 1] = count, 0


@inline_kernel
def _used(k, corners, size, start, length):
    """First and last + 1 of `length` texels of a row that a kernel of any channel covers; size: channels, side."""
    k00, k10, k01, k11 = corners
    (channels, side), first, last = size, start + length, start
    for c in range(channels):
        plane = c * side * side
        for at in range(start, first):
            here = plane + at
            if k[k00 + here] != 0 or k[k10 + here] != 0 or k[k01 + here] != 0 or k[k11 + here] != 0:
                first = at
                break
        for at in range(start + length - 1, last - 1, -1):
            here = plane + at
            if k[k00 + here] != 0 or k[k10 + here] != 0 or k[k01 + here] != 0 or k[k11 + here] != 0:
                last = at + 1
                break
    return first, last


@inline_kernel
def _fill_terms(k, corners, at, length, terms, place):
    """Fill coefficients of 1, x, y and xy of neighbouring taps of a channel; place: (m, c, first tap) in `terms`."""
    (k00, k10, k01, k11), (m, c, first) = corners, place
    channels = terms.shape[1] // 4
    for t in range(length):
        here = at + t
        a, b, d, e = k[k00 + here], k[k10 + here], k[k01 + here], k[k11 + here]
        terms[m, c, first + t], terms[m, channels + c, first + t] = a, b - a
        terms[m, 2 * channels + c, first + t] = d - a
        terms[m, 3 * channels + c, first + t] = e - d - b + a


@kernel
def _compile_runs(strip, m, corners, half, stride, taps):
    """`compile_cell` of a layer with runs."""
    side, channels, middle = strip.sides[m], strip.norms.shape[3], strip.sides[m] // 2
    (k00, k10, k01, k11), k = corners, strip.kernels
    count, runs = 0, 0
    for j in range(middle - half, middle + half + 1):
        column = middle - half
        while column <= middle + half:
            at = j * side + column
            stop = column
            while stop <= middle + half and _inside(k, k00, k10, k01, k11, j * side + stop):
                stop += 1
            if stop - column >= SHORTEST_RUN:
                start = (j - middle) * stride - middle
                taps.edges[m, 0, runs], taps.edges[m, 1, runs] = start + stop, start + column
                runs += 1
                column = stop
                continue
            used = False
            for c in range(channels):
                here = c * side * side + at
                a, b, d, e = k[k00 + here], k[k10 + here], k[k01 + here], k[k11 + here]
                used = used or a != 0 or b != 0 or d != 0 or e != 0
                taps.terms[m, c, count], taps.terms[m, channels + c, count] = a, b - a
                taps.terms[m, 2 * channels + c, count] = d - a
                taps.terms[m, 3 * channels + c, count] = e - d - b + a
            if used:
                taps.offsets[m, count] = (j - middle) * stride + column - middle
                count += 1
            column += 1
    taps.counts[m, 0], taps.counts[m, 1] = count, runs


@inline_kernel
def _inside(k, a, b, d, e, at):
    limit = np.float32(INTERIOR)
    return (
        abs(k[a + at] - 1) < limit and abs(k[b + at] - 1) < limit
        and abs(k[d + at] - 1) < limit and abs(k[e + at] - 1) < limit
    )  # fmt: skip


@kernel
def filter_cell(layers, strip, taps, cell_of, group, place, count, scratch):
    """Fill `scratch.means` of a layer for a group of pixels in a cell.

    cell_of: number of the layer, and the `Cell`; place: x of the first pixel and y of the group's middle in the strip,
    in the finest cells; count: planes to fill.
    """
    channels, (m, here) = strip.norms.shape[3], cell_of
    u, v = (place[0] - here.column) / here.size, (place[1] - here.row) / here.size
    length, runs = taps.counts[m, 0], taps.counts[m, 1]
    per_tile = np.float32(LANES / (FINEST * here.size))
    for c in range(channels):
        _combine(taps.terms[m], c, channels, length, np.float32(u), np.float32(v), per_tile, taps.weights)
    taps.firsts[0, 1], taps.firsts[1, 1] = length, runs
    kernels = Kernels(
        taps.offsets[m], taps.weights, taps.firsts[0], taps.edges[m], taps.firsts[1], strip.norms[m, 0, 0]
    )  # fmt: skip
    for r in range(GROUP):
        store(scratch.buffer, r * LANES, mul(ramp(), splat(np.float32(1 / LANES))))
    source, step = layers.addresses[m, tiles.PACKED], layers.addresses[m, tiles.PACKED_STEP]
    tilted = strip.reference[m] > 0
    if tilted:
        source, step = layers.addresses[m, tiles.SOURCE], layers.addresses[m, tiles.SOURCE_STEP]
        _tilt_gains(layers, m, group, strip.reference[m], scratch.buffer + FLOAT_BYTES * CELL)
    for p in range(count):
        plane, channel = min(p, 3), min(p, scratch.slots - 4) if p < 3 else p - 3
        texels = Texels(source + plane * step, layers.stride, group.base)
        sums = layers.addresses[m, tiles.SUMS] + plane * layers.addresses[m, tiles.SUMS_STEP]
        out = cell(scratch.means, scratch.slots, m, p)
        value_and_slope(texels, sums, kernels, 0, channel, scratch.buffer, out)
        _divide(strip.norms, m, here, channel, (u, v), per_tile, out)
        if tilted:
            for r in range(GROUP):
                gain = load(scratch.buffer, CELL + r * LANES)
                store(out, r * LANES, mul(load(out, r * LANES), gain))


@inline_kernel
def _tilt_gains(layers, m, group, reference, out):
    """Fill |r / reference|^3 of every pixel: the scale of the weights in the picture of a tilted layer."""
    K = layers.camera.blur
    d, gx, gy = layers.planes[m, 0], layers.planes[m, 1], layers.planes[m, 2]
    first = K * (d + gx * group.x + gy * group.y - layers.camera.focus)
    scale = 1 / reference if first > 0 else -1 / reference
    for r in range(GROUP):
        here = madd(splat(np.float32((first + K * gy * r) * scale)), splat(np.float32(K * gx * scale)), ramp())
        store(out, r * LANES, mul(here, mul(here, here)))


@inline_kernel
def filter_radii(layers, strip, m, span, group, count, scratch):
    """`filter_cell` by kernels at nodes of the radius, those of the cell's middle."""
    K = layers.camera.blur
    d, gx, gy = layers.planes[m, 0], layers.planes[m, 1], layers.planes[m, 2]
    radius = Radius(K * (d + gx * group.x + gy * group.y - layers.camera.focus), K * gx, K * gy)
    source, step = layers.addresses[m, tiles.PACKED], layers.addresses[m, tiles.PACKED_STEP]
    for p in range(count):
        plane, channel = min(p, 3), min(p, scratch.slots - 4) if p < 3 else p - 3
        texels = Texels(source + plane * step, layers.stride, group.base)
        out = cell(scratch.means, scratch.slots, m, p)
        filter_plane(texels, 0, strip.table, span, radius, channel, scratch.buffer, out)


@kernel
def _combine(terms, c, channels, length, u, v, per_tile, weights):
    """Value at (u, v) and slope per tile of every tap of channel c."""
    t0, t1, t2, t3 = terms[c], terms[channels + c], terms[2 * channels + c], terms[3 * channels + c]
    value, rise = weights[c], weights[channels + c]
    for t in range(length):  # two loops: one would keep the compiler from vectors, for fear of overlaps
        value[t] = t0[t] + v * t2[t] + u * (t1[t] + v * t3[t])
    for t in range(length):
        rise[t] = (t1[t] + v * t3[t]) * per_tile


@inline_kernel
def _divide(norms, m, here, c, place, per_tile, out):
    """Divide by the sums of the kernels, interpolated as they are."""
    (y, x, size), (u, v) = here, place
    a, b = norms[m, y, x, c], norms[m, y, x + size, c]
    d, e = norms[m, y + size, x, c], norms[m, y + size, x + size, c]
    slope = (b - a) + v * (e - d - b + a)
    first = a + v * (d - a) + u * slope
    total = madd(splat(np.float32(first)), splat(np.float32(slope * per_tile / LANES)), ramp())
    nothing = splat(np.float32(0))
    for r in range(GROUP):
        store(out, r * LANES, where_positive(total, div(load(out, r * LANES), total), nothing))
