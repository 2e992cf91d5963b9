"""Moments of the light in blocks of a `FieldTable`'s cells: what one ray through a block needs to stand for it.

A ray of a lens point s with the aberration a lands at a + r s for a blur radius r. Of all light in a block the mean of
that is a line in r and its spread a square polynomial, so that both are right at any radius without asking a cell again
(light of each block as a whole, its mean place and its second moments; third ones are lost).
"""

from typing import NamedTuple

import numpy as np

from bokehsynth.rendering.aperture.field_grid import AX, AY, DISTANCE, SIDE, WEIGHT
from bokehsynth.rendering.aperture.field_lookup import in_cell
from bokehsynth.rendering.aperture.field_table import FieldTable
from bokehsynth.rendering.jit import kernel
from bokehsynth.rendering.types import FloatArray

BLOCKS = (4, 2)
"""Cells per side of a block, by level."""

LIGHT, MEAN_SX, MEAN_SY, MEAN_AX, MEAN_AY, SS, SA, AA = 0, 1, 2, 3, 4, 5, 8, 11
"""Rows of moments: light in cells' worth; means of s in lens units and of a in px; from the last three on each xx, xy
and yy of the covariances of s, of s with a (both ways, added), and of a."""

ROWS = 14

_PARTS = 4
"""A cell that a rim cuts is asked at so many places per side."""


class FieldMoments(NamedTuple):
    """Moments at the nodes of a table that is `round`, in the meridional frame."""

    levels: tuple[FloatArray, FloatArray]
    """float32 [nodes, C, ROWS, blocks] for each of BLOCKS."""
    half: float
    """Largest coordinate of the grid's lens points."""


def moments_of(table: FieldTable) -> FieldMoments:
    """The moments of a table that is `round`."""
    values = table.values[0]
    nodes, channels = values.shape[:2]
    cells, two, four = (
        np.empty((nodes, channels, ROWS, ((SIDE - 1) // block) ** 2), np.float32) for block in (1, 2, 4)
    )
    _fill(values, table.half, cells)
    _join(cells, SIDE - 1, two)
    _join(two, (SIDE - 1) // 2, four)
    return FieldMoments((four, two), table.half)


@kernel
def _fill(values, half, out):
    """Fill the moments of single cells, [nodes, C, ROWS, cells]."""
    spacing, cells = 2 * half / (SIDE - 1), SIDE - 1
    x, y = np.empty(SIDE * SIDE), np.empty(SIDE * SIDE)
    for node in range(len(values)):
        for c in range(values.shape[1]):
            grids = values[node, c]
            _bent(grids[AX], x)
            _bent(grids[AY], y)
            for j in range(cells):
                for i in range(cells):
                    at, here = j * SIDE + i, out[node, c, :, j * cells + i]
                    middle = (i + 0.5) * spacing - half, (j + 0.5) * spacing - half
                    _whole_cell(grids, (x, y), at, middle, spacing, here)
                    distances = grids[DISTANCE]
                    nearest = max(distances[at], distances[at + 1], distances[at + SIDE], distances[at + SIDE + 1])
                    farthest = min(distances[at], distances[at + 1], distances[at + SIDE], distances[at + SIDE + 1])
                    if nearest <= -0.5 * spacing:
                        here[LIGHT] = 0
                    elif farthest < 0.5 * spacing:
                        _cut_cell(grids, (x, y), at, middle, spacing, here)


@kernel
def _bent(values, out):
    """Fill values so that what is linear between them has the mean of what is curved (`node_kernels._bend_chords`)."""
    out[:] = values
    for j in range(1, SIDE - 1):
        for k in range(j * SIDE + 1, j * SIDE + SIDE - 1):
            around = values[k - 1] + values[k + 1] + values[k - SIDE] + values[k + SIDE]
            out[k] = values[k] - 0.1 * (around - 4 * values[k])


@kernel
def _whole_cell(grids, places, at, middle, spacing, out):
    """Fill the moments of a cell that is open everywhere: its means and, of a parallelogram, its covariances."""
    x, y = places
    weights = grids[WEIGHT]
    out[LIGHT] = max((weights[at] + weights[at + 1] + weights[at + SIDE] + weights[at + SIDE + 1]) / 4, 0.0)
    out[MEAN_SX], out[MEAN_SY] = middle
    out[MEAN_AX] = (x[at] + x[at + 1] + x[at + SIDE] + x[at + SIDE + 1]) / 4
    out[MEAN_AY] = (y[at] + y[at + 1] + y[at + SIDE] + y[at + SIDE + 1]) / 4
    ux, vx = _edges(x, at)
    uy, vy = _edges(y, at)
    out[SS], out[SS + 1], out[SS + 2] = spacing * spacing / 12, 0, spacing * spacing / 12
    out[SA], out[SA + 1], out[SA + 2] = spacing * ux / 6, spacing * (uy + vx) / 12, spacing * vy / 6
    out[AA], out[AA + 1], out[AA + 2] = (ux * ux + vx * vx) / 12, (ux * uy + vx * vy) / 12, (uy * uy + vy * vy) / 12


@kernel
def _edges(values, at):
    """Change of values across a cell, and down it."""
    a, b, d, e = values[at], values[at + 1], values[at + SIDE], values[at + SIDE + 1]
    return (b - a + e - d) / 2, (d - a + e - b) / 2


@kernel
def _cut_cell(grids, places, at, middle, spacing, out):
    """Fill the moments of a cell that a rim cuts, from what passes of its parts."""
    x, y = places
    sums, step = np.zeros(ROWS), 1 / _PARTS
    for q in range(_PARTS):
        for p in range(_PARTS):
            u, v = (p + 0.5) * step, (q + 0.5) * step
            share = in_cell(grids[DISTANCE], at, u, v) / (step * spacing) + 0.5
            light = max(in_cell(grids[WEIGHT], at, u, v), 0.0) * min(max(share, 0.0), 1.0) * step * step
            sx, sy = (u - 0.5) * spacing, (v - 0.5) * spacing
            ax, ay = in_cell(x, at, u, v) - out[MEAN_AX], in_cell(y, at, u, v) - out[MEAN_AY]
            sums[LIGHT] += light
            sums[MEAN_SX] += light * sx
            sums[MEAN_SY] += light * sy
            sums[MEAN_AX] += light * ax
            sums[MEAN_AY] += light * ay
            _add_products(sums, light, (sx, sy, ax, ay))
    out[LIGHT] = sums[LIGHT]
    if sums[LIGHT] <= 0:
        return
    sums[MEAN_SX:] /= sums[LIGHT]
    off = sums[MEAN_SX], sums[MEAN_SY], sums[MEAN_AX], sums[MEAN_AY]
    _add_products(sums, -1.0, off)
    for row in range(SS, ROWS):  # each part is as wide as a part of the cell
        out[row] = sums[row] + out[row] * step * step
    out[MEAN_SX], out[MEAN_SY] = middle[0] + off[0], middle[1] + off[1]
    out[MEAN_AX] += off[2]
    out[MEAN_AY] += off[3]


@kernel
def _add_products(out, share, place):
    """Add a share of what a place (sx, sy, ax, ay) beside the middle is worth to the rows of covariances."""
    sx, sy, ax, ay = place
    out[SS] += share * sx * sx
    out[SS + 1] += share * sx * sy
    out[SS + 2] += share * sy * sy
    out[SA] += share * 2 * sx * ax
    out[SA + 1] += share * (sx * ay + sy * ax)
    out[SA + 2] += share * 2 * sy * ay
    out[AA] += share * ax * ax
    out[AA + 1] += share * ax * ay
    out[AA + 2] += share * ay * ay


@kernel
def _join(parts, side, out):
    """Fill the moments of blocks of two by two blocks, of which there are side x side."""
    shares, around = np.empty(4), np.empty(4, np.int64)
    for node in range(len(parts)):
        for c in range(parts.shape[1]):
            here, there = parts[node, c], out[node, c]
            for k in range(there.shape[1]):
                first = k // (side // 2) * 2 * side + k % (side // 2) * 2
                around[0], around[1], around[2], around[3] = first, first + 1, first + side, first + side + 1
                light = 0.0
                for n in range(4):
                    shares[n] = here[LIGHT, around[n]]
                    light += shares[n]
                for n in range(4):
                    shares[n] = shares[n] / light if light > 0 else 0.25
                there[LIGHT, k] = light
                _join_block(here, around, shares, there[:, k])


@kernel
def _join_block(here, around, shares, out):
    """Fill the means and covariances of four blocks taken together."""
    for row in range(MEAN_SX, ROWS):
        total = 0.0
        for n in range(4):
            total += shares[n] * here[row, around[n]]
        out[row] = total
    for n in range(4):
        k = around[n]
        place = (
            here[MEAN_SX, k] - out[MEAN_SX], here[MEAN_SY, k] - out[MEAN_SY],
            here[MEAN_AX, k] - out[MEAN_AX], here[MEAN_AY, k] - out[MEAN_AY],
        )  # fmt: skip
        _add_products(out, shares[n], place)
