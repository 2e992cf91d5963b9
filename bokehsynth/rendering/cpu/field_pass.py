"""The fast path where the opening changes over the picture: `tile_pass` with kernels at nodes, cell by cell."""

from typing import NamedTuple

import numpy as np

from bokehsynth.rendering import tile_constants as tiles
from bokehsynth.rendering.cpu.cell_filter import Cell, compile_cell, filter_cell, filter_radii
from bokehsynth.rendering.cpu.column_kernels import filter_columns, means_of
from bokehsynth.rendering.cpu.composite import composite
from bokehsynth.rendering.cpu.control_variate import rays_for, sum_rays
from bokehsynth.rendering.cpu.field_variate import TileRays, fill_tile_rays, sum_field_rays
from bokehsynth.rendering.cpu.kernel_arguments import Group, PupilField, Rays, Visible
from bokehsynth.rendering.cpu.simd import cell, load, store
from bokehsynth.rendering.cpu.tile_bounds import REACH
from bokehsynth.rendering.cpu.tile_pass import copy_layer, copy_plan, workspace
from bokehsynth.rendering.jit import always_inline_kernel, kernel
from bokehsynth.rendering.tile_constants import FINEST, GROUP, LANES, TILE_H, TILE_W


class CellRays(NamedTuple):
    """Rays of the tiles that need some."""

    sets: Rays
    pupil: PupilField  # without rims where there is a table
    of_tile: TileRays


@kernel
def render_cells(layers, plan, strip, taps, beams, picture, memory):
    """Fill the tiles of one strip, but those that are RAY_TRACED.

    strip: `cell_filter.CellStrip`; taps: `cell_filter.CellTaps`; memory: as of `tile_pass.render_rows`. Cells go by in
    Z-order, so that all of a large one's come before the next.
    """
    count, slots = len(layers.planes), 3 + len(beams.sets.weights)
    state, seen, hits, scratch = workspace(count, slots, memory)
    compiled = np.full((count, 3), -1)
    rows, columns = plan.paths.shape
    for block in range(0, strip.sizes.shape[2], strip.rows):
        for k in range(strip.rows * strip.rows):
            x, y = block + (k & 1) + (k >> 1 & 2), (k >> 1 & 1) + (k >> 2 & 2)
            first = (strip.number * strip.rows + y) * FINEST // TILE_H
            for tile_row in range(first, min(first + FINEST // TILE_H, rows)):
                if x >= columns or plan.paths[tile_row, x] == tiles.RAY_TRACED:
                    continue
                visible = Visible(state, seen[: copy_plan(plan, tile_row, x, state, seen)])
                tile, room = (tile_row, x, visible), (hits, scratch, compiled)
                filter_columns(layers, strip, y, tile, scratch.buffer, picture.coverage.shape)
                _render_tile(layers, plan, (strip, y), taps, tile, beams, room, picture)


@always_inline_kernel
def _render_tile(layers, plan, around, taps, tile, beams, room, picture):
    """Fill one tile: row, column and what it sees; around: the strip, and the tile's row of finest cells in it."""
    (strip, row), (tile_row, column, visible), (rays, pupil, of_tile) = around, tile, beams
    hits, scratch, compiled = room
    height, width = picture.coverage.shape
    path, y0, x0 = plan.paths[tile_row, column], tile_row * TILE_H, column * TILE_W
    for m in visible.order:
        nodes = strip.spans[m, row, column, 0] == strip.spans[m, row, column, 1]
        nodes = nodes and strip.columns.steps[m, row, column] == 0
        here = _cell_of(strip, m, row, column)
        if visible.state[m, REACH] != 0 and nodes and not _is(compiled, m, here):
            compile_cell(strip, m, here, layers.stride, taps)
            compiled[m, 0], compiled[m, 1], compiled[m, 2] = here
    with_rays = path == tiles.CONTROL_VARIATE
    y, left = y0 + layers.margin - layers.camera.cy, x0 + layers.margin - layers.camera.cx
    span, kind = (0, 0), (False, False)
    if with_rays:
        span = rays_for(layers, visible, rays, plan.lights[tile_row, column] / plan.rms_light)
        if len(of_tile.counts) > 0:
            kind = of_tile.moving[tile_row, column] == 1, of_tile.together[tile_row, column] == 1
            middle = y0 + (TILE_H - 1) / 2, x0 + (TILE_W - 1) / 2
            fill_tile_rays(rays, span, middle[0], middle[1], kind, of_tile)
    for top in range(0, min(TILE_H, height - y0), GROUP):
        base = int(y + top + layers.camera.cy) * layers.stride + int(left + layers.camera.cx)
        rows, columns = min(GROUP, height - y0 - top), min(TILE_W, width - x0)
        group = Group(y + top, left, base, (y0 + top) * width + x0, top, rows, columns, column)
        place = column, (y0 + top + (GROUP - 1) / 2) / FINEST - strip.number * strip.rows
        _filter_layers(layers, (strip, row), taps, visible, group, place, scratch)
        if with_rays and len(of_tile.counts) > 0:
            sum_field_rays(layers, visible, group, rays, of_tile, kind, hits, scratch)
        elif with_rays:
            sum_rays(layers, visible, group, rays, span, pupil, hits, scratch)
        composite(layers.opaque, rays.channels_passed, visible, group, with_rays, scratch, picture)


@always_inline_kernel
def _cell_of(strip, m, row, column):
    """The cell of a layer in which one of the finest lies."""
    size = strip.sizes[m, row, column]
    return Cell(row // size * size, column // size * size, size)


@always_inline_kernel
def _is(compiled, m, here):
    return compiled[m, 0] == here.row and compiled[m, 1] == here.column and compiled[m, 2] == here.size


@always_inline_kernel
def _filter_layers(layers, around, taps, visible, group, place, scratch):
    """Fill `scratch.means` of the visible layers."""
    strip, row = around
    for m in visible.order:
        planes = 3 if layers.opaque[m] == 1 else scratch.slots
        span = strip.spans[m, row, group.tile_column, 0], strip.spans[m, row, group.tile_column, 1]
        if visible.state[m, REACH] == 0:
            copy_layer(layers, m, group, planes, scratch)
        elif strip.columns.steps[m, row, group.tile_column] > 0:
            _copy_means(means_of(strip.columns, len(layers.planes), m, group.top // GROUP), m, planes, scratch)
        elif span[1] > span[0]:
            filter_radii(layers, strip, m, span, group, planes, scratch)
        else:
            here = _cell_of(strip, m, row, group.tile_column)
            filter_cell(layers, strip, taps, (m, here), group, place, planes, scratch)


@always_inline_kernel
def _copy_means(address, m, planes, scratch):
    """Take the means of a layer that are made already."""
    for p in range(planes):
        out = cell(scratch.means, scratch.slots, m, p)
        for r in range(GROUP):
            store(out, r * LANES, load(address, (p * GROUP + r) * LANES))
