"""What coarse layers contribute to a picture: their means over the opening, and what they do together.

Both are arrays on the grid of a `CoarseScene`, read between its pixels by `Reading`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bokehsynth.optics.layer import Layer
from bokehsynth.rendering import tile_constants as tiles
from bokehsynth.rendering.aperture.tables import LensTables
from bokehsynth.rendering.cpu import prepared_layers, tile_pass
from bokehsynth.rendering.cpu.control_variate import rays_for
from bokehsynth.rendering.cpu.kernel_arguments import Group, LayerPlanes, Visible
from bokehsynth.rendering.cpu.layer_covariance import sum_rays_by_layer, write_covariances
from bokehsynth.rendering.cpu.ray_tracer import grid_side
from bokehsynth.rendering.cpu.reduced_layers import CoarseScene, coarse_scene
from bokehsynth.rendering.cpu.simd import cell, load, store
from bokehsynth.rendering.cpu.threads import in_pieces
from bokehsynth.rendering.cpu.tile_plan import empty_plan, plan_rows, rms_light
from bokehsynth.rendering.jit import kernel
from bokehsynth.rendering.tile_constants import CELL, GROUP, LANES, TILE_H, TILE_W
from bokehsynth.rendering.types import FloatArray, RenderInput

FAINT = 1e-3


class Reading(NamedTuple):
    """Planes float32 [P, rows, columns] on a coarse grid, and where the picture's pixels lie on it."""

    planes: FloatArray
    column: "np.ndarray[tuple[int], np.dtype[np.int32]]"  # [W]: the coarse pixel at or before each pixel of a row
    share: "np.ndarray[tuple[int], np.dtype[np.float64]]"  # [W]: how far it lies on the way to the next
    first: float  # coarse row of the picture's row 0
    cell: int  # pixels per coarse pixel
    limits: FloatArray  # `straight_limits` of planes that hold alpha, else [0, rows, columns]


def reading(coarse: CoarseScene, planes: FloatArray, width: int, limits: FloatArray | None = None) -> Reading:
    """Planes of a coarse scene, for pictures that are `width` px wide."""
    place = coarse.first[1] + np.arange(width) / coarse.cell
    column = np.floor(place)
    if limits is None:
        limits = np.zeros((0, *planes.shape[1:]), np.float32)
    return Reading(planes, column.astype(np.int32), place - column, coarse.first[0], coarse.cell, limits)


def straight_limits(means: FloatArray) -> FloatArray:
    """Least and largest straight colour of the 4 x 4 pixels that a cubic between pixels (y, x) and (y, x) + 1 reads.

    means: [3 + C, rows, columns] of a layer. Returns [6, rows, columns], three least ones first; 0 where nothing covers
    a pixel. Pixels of a share of FAINT of the largest alpha say nothing of a colour: sums along rows leave noise there.
    """
    _, rows, columns = means.shape
    straight = np.empty((6, rows, columns), np.float32)
    limits = np.empty_like(straight)
    in_pieces(0, rows, lambda start, stop: _straight_colors(means, (start, stop), straight))
    in_pieces(0, rows, lambda start, stop: _extremes_of_neighbours(straight, (start, stop), limits))
    return limits


@kernel
def _straight_colors(means, rows, straight):
    """Fill rows with colour over alpha, twice; inf and -inf, which bound nothing, where alpha is faint."""
    columns = means.shape[2]
    most = np.empty(columns, np.float32)
    around = np.empty(columns + 3, np.float32)
    for y in range(rows[0], rows[1]):
        for c in range(3):
            alpha = means[3 + c] if len(means) == 6 else means[3]
            if c == 0 or len(means) == 6:
                _extreme_of_window(alpha, y, np.float32(1), around, most)
            for x in range(columns):
                if alpha[y, x] > np.float32(FAINT) * most[x]:
                    value = means[c, y, x] / alpha[y, x]
                    straight[c, y, x] = value
                    straight[3 + c, y, x] = value
                else:
                    straight[c, y, x] = np.inf
                    straight[3 + c, y, x] = -np.inf


@kernel
def _extremes_of_neighbours(straight, rows, limits):
    """Fill rows of `straight_limits`."""
    columns = straight.shape[2]
    around = np.empty(columns + 3, np.float32)
    for y in range(rows[0], rows[1]):
        for c in range(3):
            _extreme_of_window(straight[c], y, np.float32(-1), around, limits[c, y])
            _extreme_of_window(straight[3 + c], y, np.float32(1), around, limits[3 + c, y])
            for x in range(columns):
                if limits[3 + c, y, x] < limits[c, y, x]:  # nothing covers these pixels
                    limits[c, y, x] = 0
                    limits[3 + c, y, x] = 0


@kernel
def _extreme_of_window(plane, y, sign, around, out):
    """Fill `out` with the largest (`sign` 1) or least (-1) values of the windows of `straight_limits` in row y."""
    last, columns = plane.shape[0] - 1, plane.shape[1]
    before, here, after, beyond = max(y - 1, 0), y, min(y + 1, last), min(y + 2, last)
    for x in range(columns):
        a, b, c, d = sign * plane[before, x], sign * plane[here, x], sign * plane[after, x], sign * plane[beyond, x]
        a, c = b if b > a else a, d if d > c else c
        around[x + 1] = c if c > a else a
    around[0] = around[1]
    around[columns + 1] = around[columns]
    around[columns + 2] = around[columns]
    for x in range(columns):
        a, b, c, d = around[x], around[x + 1], around[x + 2], around[x + 3]
        a, c = b if b > a else a, d if d > c else c
        out[x] = sign * (c if c > a else a)


def layer_means(scene: RenderInput, layer: Layer, cell_side: int, tables: LensTables) -> Reading:
    """Means over the opening of one layer on cells of that size: three colours, then alpha unless it is 1."""
    coarse = coarse_scene(scene, [layer], cell_side, tables)
    small, layers = coarse.scene, coarse.layers
    kernels = prepared_layers.kernels_by_radius(small, layers, tables)
    slots = 3 + tables.channels
    count = 3 if layers[0].opaque else slots
    means = _empty_planes(small, count)
    for band in prepared_layers.bands(small, layers):
        weighted: list[prepared_layers.WeightedPlanes | None] = []
        weighted = prepared_layers.weight_planes(layers, small, band)
        planes = prepared_layers.layer_planes(small, layers, weighted)

        def filter_rows(start: int, stop: int, planes: LayerPlanes = planes) -> None:
            scratch = np.zeros((tile_pass.scratch_cells(1, slots - 3), CELL), np.float32)
            _filter_rows(planes, kernels, (start, stop), small.width, slots, means, scratch)

        in_pieces(*band, filter_rows)
    return reading(coarse, means, scene.width, straight_limits(means) if count > 3 else None)


def _empty_planes(small: RenderInput, *count: int) -> FloatArray:
    """Planes of whole tiles."""
    return np.zeros((*count, -(-small.height // TILE_H) * TILE_H, -(-small.width // TILE_W) * TILE_W), np.float32)


@kernel
def _filter_rows(layers, table, tile_rows, width, slots, means, memory):
    """Fill the rows of means of tile rows tile_rows[0] .. tile_rows[1] - 1 of layer 0."""
    camera = layers.camera
    _, _, _, scratch = tile_pass.workspace(1, slots, memory)
    for row in range(tile_rows[0], tile_rows[1]):
        for top in range(row * TILE_H, (row + 1) * TILE_H, GROUP):
            for left in range(0, width, TILE_W):
                y, x = top + layers.margin - camera.cy, left + layers.margin - camera.cx
                base = int(y + camera.cy) * layers.stride + int(x + camera.cx)
                group = Group(y, x, base, 0, top, GROUP, LANES, 0)
                tile_pass.filter_layer(layers, table, 0, group, len(means), scratch)
                for p in range(len(means)):
                    plane = np.int64(means.ctypes.data) + 4 * p * means.shape[1] * means.shape[2]
                    for r in range(GROUP):
                        value = load(cell(scratch.means, slots, 0, p), r * LANES)
                        store(plane, (top + r) * means.shape[2] + left, value)


def layers_together(
    scene: RenderInput, layers: Sequence[Layer], cell_side: int, tables: LensTables, samples: int | None
) -> list[Reading] | None:
    """For each of several layers, what it does together with those before it (`layer_covariance`).

    None where these layers change order somewhere.
    """
    coarse = coarse_scene(scene, layers, cell_side, tables)
    small, prepared = coarse.scene, coarse.layers
    paths = np.zeros((-(-small.height // TILE_H), -(-small.width // TILE_W)), np.uint8)
    plan = empty_plan(paths, len(layers))
    rows, pyramids = prepared_layers.plane_rows(prepared), prepared_layers.pyramids_of(prepared)
    camera, area = prepared_layers.camera_of(small), (small.margin, small.height, small.width)
    none = np.zeros((0, 0, 0))
    in_pieces(0, len(paths), lambda start, stop: plan_rows(rows, pyramids, camera, area, (start, stop), none, plan))
    if (paths == tiles.RAY_TRACED).any():
        return None
    plan = plan._replace(rms_light=rms_light(plan.lights))
    reach = max(small.lens.reach(layer.disparity, small.width, small.height) for layer in small.layers)
    rays = prepared_layers.rays_of(small, prepared, tables.ray_set(samples, grid_side(reach)))
    planes = prepared_layers.layer_planes(small, prepared, [None] * len(prepared))
    slots = 3 + tables.channels
    out = _empty_planes(small, len(layers), slots)

    def sum_rows(start: int, stop: int) -> None:
        scratch = np.zeros((tile_pass.scratch_cells(len(layers), slots - 3), CELL), np.float32)
        _covariance_rows(planes, plan, rays, (start, stop), out, scratch)

    in_pieces(0, len(paths), sum_rows)
    return [reading(coarse, part, scene.width) for part in out]


@kernel
def _covariance_rows(layers, plan, rays, tile_rows, out, memory):
    """Fill rows of `layers_together` of tile rows tile_rows[0] .. tile_rows[1] - 1."""
    camera, count = layers.camera, len(layers.planes)
    state, seen, hits, scratch = tile_pass.workspace(count, 3 + len(rays.weights), memory)
    for row in range(tile_rows[0], tile_rows[1]):
        for column in range(plan.paths.shape[1]):
            if plan.paths[row, column] != tiles.CONTROL_VARIATE:
                continue
            y0, x0 = row * TILE_H, column * TILE_W
            y, x = y0 + layers.margin - camera.cy, x0 + layers.margin - camera.cx
            visible = Visible(state, seen[: tile_pass.copy_plan(plan, row, column, state, seen)])
            span = rays_for(layers, visible, rays, plan.lights[row, column] / plan.rms_light)
            for top in range(0, TILE_H, GROUP):
                base = int(y + top + camera.cy) * layers.stride + int(x + camera.cx)
                group = Group(y + top, x, base, 0, top, GROUP, LANES, column)
                sum_rays_by_layer(layers, visible, group, rays, span, hits, scratch)
                write_covariances(layers.opaque, visible, scratch, (y0 + top, x0), out)
