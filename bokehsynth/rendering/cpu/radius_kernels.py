"""Kernels at blur radii of cells near the focus, where a plane's radius changes too much from node to node.

Rims move little there: a cell's kernels are those of its middle.
"""

from typing import NamedTuple

import numpy as np

from bokehsynth.rendering.aperture.field_grid import AX, AY, DISTANCE, SIDE
from bokehsynth.rendering.aperture.footprint_kernel import FootprintKernels, footprint_kernels, radius_nodes
from bokehsynth.rendering.cpu.node_kernels import NodeGrids, grids_of_row, splat_grids
from bokehsynth.rendering.jit import kernel
from bokehsynth.rendering.types import Float64Array


class RadiusCells(NamedTuple):
    """Cells of layers, and the rims at their middles."""

    rims: Float64Array  # [n, R, 3]
    low: Float64Array  # [n]: least signed blur radius in px; and the largest
    high: Float64Array
    tilts: Float64Array  # [n, 2]: K g


@kernel
def pupil_radii(opening, cells, stride):
    """`footprint_kernels` of all cells, end to end: offsets, weights, first taps, radii, and kernels [n] of a cell."""
    counts = np.empty(len(cells.low), np.int64)
    for k in range(len(counts)):
        counts[k] = len(radius_nodes(cells.low[k], cells.high[k]))
    channels, total = len(opening.transmission), counts.sum()
    nodes, first = np.empty(total), np.zeros(total + 1, np.int64)
    offsets, weights = np.empty(4096, np.int64), np.empty((2 * channels, 4096), np.float32)
    at, taps = 0, 0
    for k in range(len(counts)):
        here, tilt = radius_nodes(cells.low[k], cells.high[k]), cells.tilts[k]
        found = footprint_kernels(opening, cells.rims[k : k + 1], here, tilt[0], tilt[1], False, stride)
        more = taps + len(found.offsets)
        if more > len(offsets):
            longer, heavier = np.empty(2 * more, np.int64), np.empty((2 * channels, 2 * more), np.float32)
            longer[:taps], heavier[:, :taps] = offsets[:taps], weights[:, :taps]
            offsets, weights = longer, heavier
        offsets[taps:more], weights[:, taps:more] = found.offsets, found.weights
        for i in range(counts[k]):
            nodes[at + i], first[at + i + 1] = here[i], taps + found.first_tap[i + 1]
        at, taps = at + counts[k], more
    return offsets[:taps].copy(), weights[:, :taps].copy(), first, nodes, counts


@kernel
def splat_radii(table, place, radii, tilt, stride):
    """`footprint_kernels` at blur radii from a `FieldTable` at one place (y, x) of the picture; tilt: K g.

    Near the focus a plane's radius changes too much from node to node; rims move little there.
    """
    channels, count = table.values.shape[2], len(radii)
    grids = NodeGrids(np.empty((1, channels, 4, SIDE * SIDE), np.float32), np.empty((1, 2)), table.half)
    grids_of_row(table, place[0], np.array([place[1]]), np.array([True]), grids)
    ex, ey = tilt
    e = np.hypot(ex, ey)
    reach, strayed = max(abs(radii[0]), abs(radii[-1])), 0.0
    for c in range(channels):
        for i in range(SIDE * SIDE):
            if grids.values[0, c, DISTANCE, i] > -0.1:
                strayed = max(strayed, np.hypot(grids.values[0, c, AX, i], grids.values[0, c, AY, i]))
    half = int(np.ceil((reach * table.half + e * strayed) / (1 - e * table.half) + strayed)) + 2
    width = 2 * half + 1
    dense, norms = np.zeros((count, channels, width, width), np.float32), np.empty(channels)
    for n in range(count):
        splat_grids(grids, 0, (radii[n], ex, ey), half, dense[n], norms)
    return _listed(dense, half, stride)


@kernel
def _listed(dense, half, stride):
    """Kernels [n, C, side, side], normalised, as taps beside their differences to the next."""
    count, channels, width = dense.shape[0], dense.shape[1], dense.shape[2]
    for n in range(count):
        for c in range(channels):
            total = dense[n, c].sum()
            if total > 0:
                dense[n, c] /= total
    offsets, weights = (
        np.empty((1, count * width * width), np.int64),
        np.empty((2 * channels, count * width * width), np.float32),
    )
    first, taps = np.zeros(count + 1, np.int64), 0
    for n in range(count):
        after = min(n + 1, count - 1)
        for j in range(width):
            for i in range(width):
                used = False
                for c in range(channels):
                    here, there = dense[n, c, j, i], dense[after, c, j, i]
                    used = used or here != 0 or there != 0
                    weights[c, taps], weights[channels + c, taps] = here, there - here
                if used:
                    offsets[0, taps] = (j - half) * stride + i - half
                    taps += 1
        first[n + 1] = taps
    return FootprintKernels(
        offsets[0, :taps].copy(), weights[:, :taps].copy(), first, np.zeros((2, 0), np.int64),
        np.zeros(count + 1, np.int64), np.ones((count, 4)),
    )  # fmt: skip
