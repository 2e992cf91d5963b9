"""The fast path where the opening changes over the picture: `tile_pass` with kernels at nodes, cell by cell."""

from typing import NamedTuple

import numpy as np

from bokehsynth.rendering import tile_constants as tiles
from bokehsynth.rendering.cpu.cell_filter import compile_cell, filter_cell, filter_radii
from bokehsynth.rendering.cpu.composite import composite
from bokehsynth.rendering.cpu.control_variate import rays_for, sum_rays
from bokehsynth.rendering.cpu.field_variate import TileRays, fill_tile_rays, sum_field_rays
from bokehsynth.rendering.cpu.kernel_arguments import Group, PupilField, Rays, Visible
from bokehsynth.rendering.cpu.tile_bounds import REACH
from bokehsynth.rendering.cpu.tile_pass import copy_layer, copy_plan, workspace
from bokehsynth.rendering.jit import kernel
from bokehsynth.rendering.tile_constants import GROUP, TILE_H, TILE_W


class CellRays(NamedTuple):
    """Rays of the tiles that need some."""

    sets: Rays
    pupil: PupilField  # without rims where there is a table
    of_tile: TileRays


@kernel
def render_cells(layers, plan, row, taps, beams, picture, memory):
    """Fill the tiles of one row of cells, but those that are RAY_TRACED.

    row: `cell_filter.CellRow`; taps: `cell_filter.CellTaps`; memory: as of `tile_pass.render_rows`.
    """
    rays, pupil, of_tile = beams
    height, width = picture.coverage.shape
    count, slots = len(layers.planes), 3 + len(rays.weights)
    state, seen, hits, scratch = workspace(count, slots, memory)
    compiled = np.empty(count, np.int64)
    first, last = row.number * row.step // TILE_H, min((row.number + 1) * row.step // TILE_H, plan.paths.shape[0])
    for x in range(row.halves.shape[1]):
        compiled[:] = 0
        for tile_row in range(first, last):
            for column in range(x * row.step // TILE_W, min((x + 1) * row.step // TILE_W, plan.paths.shape[1])):
                path, y0, x0 = plan.paths[tile_row, column], tile_row * TILE_H, column * TILE_W
                if path == tiles.RAY_TRACED:
                    continue
                visible = Visible(state, seen[: copy_plan(plan, tile_row, column, state, seen)])
                for m in visible.order:
                    nodes = row.spans[m, x, 0] == row.spans[m, x, 1]
                    if state[m, REACH] != 0 and compiled[m] == 0 and nodes:
                        compile_cell(row, m, x, layers.stride, taps)
                        compiled[m] = 1
                with_rays = path == tiles.CONTROL_VARIATE
                y, left = y0 + layers.margin - layers.camera.cy, x0 + layers.margin - layers.camera.cx
                span, moving = (0, 0), False
                if with_rays:
                    span = rays_for(layers, visible, rays, plan.lights[tile_row, column] / plan.rms_light)
                    if len(of_tile.counts) > 0:
                        moving = of_tile.moving[tile_row, column] == 1
                        middle = y0 + (TILE_H - 1) / 2, x0 + (TILE_W - 1) / 2
                        fill_tile_rays(rays, span, middle[0], middle[1], moving, of_tile)
                for top in range(0, min(TILE_H, height - y0), GROUP):
                    base = int(y + top + layers.camera.cy) * layers.stride + int(left + layers.camera.cx)
                    rows, columns = min(GROUP, height - y0 - top), min(TILE_W, width - x0)
                    group = Group(y + top, left, base, (y0 + top) * width + x0, top, rows, columns, column)
                    middle = y0 + top + (GROUP - 1) / 2
                    place = (x0 / row.step - x, middle / row.step - row.number)
                    _filter_layers(layers, row, taps, x, visible, group, place, scratch)
                    if with_rays and len(of_tile.counts) > 0:
                        sum_field_rays(layers, visible, group, rays, of_tile, moving, hits, scratch)
                    elif with_rays:
                        sum_rays(layers, visible, group, rays, span, pupil, hits, scratch)
                    composite(layers.opaque, rays.channels_passed, visible, group, with_rays, scratch, picture)


@kernel
def _filter_layers(layers, row, taps, x, visible, group, place, scratch):
    """Fill `scratch.means` of the visible layers."""
    for m in visible.order:
        planes = 3 if layers.opaque[m] == 1 else scratch.slots
        if visible.state[m, REACH] == 0:
            copy_layer(layers, m, group, planes, scratch)
        elif row.spans[m, x, 1] > row.spans[m, x, 0]:
            filter_radii(layers, row, m, x, group, planes, scratch)
        else:
            filter_cell(layers, row, taps, (m, x), group, place, planes, scratch)
