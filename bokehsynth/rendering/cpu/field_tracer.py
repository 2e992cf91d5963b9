"""Rays of apertures with an aberration, or with a weight that changes over the picture: read from a `FieldTable`.

Rays of one lens point start beside their pixels, channel by channel, and more or less of their light passes. Over a
tile both are linear: the table at its centre and its slopes are made once per tile, and looked up once per ray. In
small pictures, over a tile of which the field changes much, each tile is traced in parts.
"""

from typing import NamedTuple

import numpy as np

from bokehsynth.rendering.aperture.field_grid import AX, AY, DISTANCE, SIDE, WEIGHT
from bokehsynth.rendering.aperture.field_lookup import grids_in_picture
from bokehsynth.rendering.aperture.field_table import FieldTable
from bokehsynth.rendering.aperture.tables import RaySet
from bokehsynth.rendering.cpu import ray_sums
from bokehsynth.rendering.cpu.kernel_arguments import Tile
from bokehsynth.rendering.cpu.ray_tracer import Ray, grid_side, intersect_layers, intersect_unordered, visible_in
from bokehsynth.rendering.cpu.tile_bounds import REACH
from bokehsynth.rendering.jit import inline_kernel, kernel
from bokehsynth.rendering.tile_constants import TILE_H, TILE_W
from bokehsynth.rendering.types import Float64Array, FloatArray, IntArray

COLUMNS = 12
"""Of a tile's table: value, slope per column and slope per row of the four columns of a `FieldTable`."""


PART = 4
"""Nodes of the table that a tile, or a part of one, may be wide: an eighth of the half-diagonal. What is quadratic over
the field is then off by 1/256 of what it is in the corner."""


class FieldRays(NamedTuple):
    """Sets of rays, and where their lens points lie in a grid of the table."""

    table: FieldTable
    points: Float64Array  # [N, 2]
    spans: IntArray  # [S, 2]: first and last + 1 ray of the set for a side
    cells: IntArray  # [N]: grid point at the upper left
    fractions: FloatArray  # float32 [N, 2]
    sharpness: FloatArray  # float32 [S]: 1 over the distance of neighbouring rays, in lens units


def field_rays(table: FieldTable, rays: RaySet) -> FieldRays:
    """Place sets of rays in a table's grids."""
    place = (rays.points + table.half) * ((SIDE - 1) / (2 * table.half))
    low = np.minimum(place.astype(np.int64), SIDE - 2)
    radius = table.half
    counts = rays.spans[:, 1] - rays.spans[:, 0]
    sharpness = np.sqrt(counts / np.pi) / radius
    return FieldRays(
        table, rays.points, rays.spans, low[:, 1] * SIDE + low[:, 0],
        (place - low).astype(np.float32), sharpness.astype(np.float32),
    )  # fmt: skip


@kernel
def tile_table(table, place, size, spare, out):
    """Fill float32 [C, SIDE * SIDE, COLUMNS]: the table at a place (y, x), maybe between nodes, and its slopes.

    The slopes are those over `size`, rows and columns; spare: float32 [6, C, 4, SIDE * SIDE].
    """
    y, x = place
    across, down = size[1] / 2, size[0] / 2
    grids_in_picture(table, y, x - across, spare[4], spare[0])
    grids_in_picture(table, y, x + across, spare[4], spare[1])
    grids_in_picture(table, y - down, x, spare[4], spare[2])
    grids_in_picture(table, y + down, x, spare[4], spare[3])
    grids_in_picture(table, y, x, spare[4], spare[5])
    per_column, per_row = np.float32(1 / size[1]), np.float32(1 / size[0])
    for c in range(out.shape[0]):
        for column in range(4):
            left, right = spare[0, c, column], spare[1, c, column]
            above, below = spare[2, c, column], spare[3, c, column]
            for k in range(SIDE * SIDE):
                out[c, k, column] = spare[5, c, column, k]
                out[c, k, 4 + column] = (right[k] - left[k]) * per_column
                out[c, k, 8 + column] = (below[k] - above[k]) * per_row


@inline_kernel
def ray_columns(local, c, cell, fraction, i, out):
    """Fill float32 [COLUMNS] with what a tile's table says of ray i."""
    at, u, v = cell[i], fraction[i, 0], fraction[i, 1]
    one = np.float32(1)
    w00, w10, w01, w11 = (one - u) * (one - v), u * (one - v), (one - u) * v, u * v
    for column in range(COLUMNS):
        out[column] = (
            w00 * local[c, at, column] + w10 * local[c, at + 1, column]
            + w01 * local[c, at + SIDE, column] + w11 * local[c, at + SIDE + 1, column]
        )  # fmt: skip


@kernel
def trace_field_tiles(layers, rays, corners, picture):
    """`ray_tracer.trace_tiles` for a `FieldTable`."""
    channels = rays.table.values.shape[2]
    local = np.empty((channels, SIDE * SIDE, COLUMNS), np.float32)
    spare = np.empty((6, channels, 4, SIDE * SIDE), np.float32)
    part = max(1, int(PART * rays.table.step))
    for k in range(len(corners)):
        bottom = min(corners[k, 0] + TILE_H, len(picture.color))
        right = min(corners[k, 1] + TILE_W, picture.color.shape[1])
        for y0 in range(corners[k, 0], bottom, part):
            for x0 in range(corners[k, 1], right, part):
                size = min(part, bottom - y0), min(part, right - x0)
                _trace_tile(layers, rays, (y0, x0), size, (local, spare), picture)


@kernel
def _trace_tile(layers, rays, corner, size, memory, picture):
    (local, spare), (y0, x0), (rows, n) = memory, corner, size
    count, camera, margin, channels = len(layers.packed), layers.camera, layers.margin, len(local)
    y, x = y0 + margin - camera.cy, x0 + margin - camera.cx
    visible, ordered = visible_in(layers, Tile(y, x, rows, n))
    reach = 0.0
    for m in visible.order:
        reach = max(reach, visible.state[m, REACH])
    side = min(len(rays.spans) - 1, grid_side(reach))
    middle_y, middle_x = (rows - 1) / 2, (n - 1) / 2
    tile_table(rays.table, (y0 + middle_y, x0 + middle_x), size, spare, local)
    sums = ray_sums.empty_sums(rows, count, n)
    open_to, columns = np.empty(n, np.float32), np.empty(COLUMNS, np.float32)
    for c in range(channels):
        weights = np.ones(3, np.float32)
        if channels == 3:
            weights[:] = 0
            weights[c] = 1
        for i in range(rays.spans[side, 0], rays.spans[side, 1]):
            ray_columns(local, c, rays.cells, rays.fractions, i, columns)
            for axis in (AX, AY):
                columns[axis], columns[4 + axis], columns[8 + axis] = within(
                    columns[axis], columns[4 + axis], columns[8 + axis], (middle_x, middle_y), layers.camera.astray
                )
            motion = float(columns[4 + AY]), 1.0 + columns[4 + AX]
            ray = Ray((rays.points[i, 0], rays.points[i, 1]), weights, motion)
            for row in range(rows):
                down = row - middle_y
                if not fill_passed(columns, rays.sharpness[side], down, -middle_x, open_to):
                    continue
                sums.through[:] = open_to
                start_y = y + row + columns[AY] + columns[8 + AY] * down - columns[4 + AY] * middle_x
                start_x = x + columns[AX] + columns[8 + AX] * down - columns[4 + AX] * middle_x
                if ordered:
                    intersect_layers(layers, visible, ray, (start_y, start_x), (row, 0, n), sums)
                else:
                    intersect_unordered(layers, visible, ray, (start_y, start_x), row, sums)
                ray_sums.add_arrived(open_to, weights, sums, row)
    ray_sums.normalise(layers, visible, sums, y0, x0, picture)


@inline_kernel
def within(value, per_column, per_row, half, limit):
    """Bound an aberration in the middle of a tile, and its slopes, so that it stays within `limit` all over the tile.

    half: half the tile's width and height. A table may say more than the canvas and the tile's bounds are made for
    where it changes too fast between two nodes.
    """
    value = min(max(value, -limit), limit)
    drift, left = abs(per_column) * half[0] + abs(per_row) * half[1], limit - abs(value)
    if drift > left:
        per_column, per_row = per_column * (left / drift), per_row * (left / drift)
    return value, per_column, per_row


@inline_kernel
def fill_passed(columns, sharpness, down, first, passed):
    """Fill the light of a ray that passes at the pixels of a row; returns whether there is any.

    down, first: of the row, and of its first pixel, from the tile's centre. A rim cuts rays that lie within half their
    distance of it to a part.
    """
    found, zero, one = False, np.float32(0), np.float32(1)
    weight, distance = columns[WEIGHT] + columns[8 + WEIGHT] * down, columns[DISTANCE] + columns[8 + DISTANCE] * down
    for k in range(len(passed)):
        along = np.float32(first + k)
        share = (distance + columns[4 + DISTANCE] * along) * sharpness + np.float32(0.5)
        value = max(weight + columns[4 + WEIGHT] * along, zero) * min(max(share, zero), one)
        passed[k] = value
        found = found or value > 0
    return found
