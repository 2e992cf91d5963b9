"""The CPU renderer of openings that change over the picture: pupils, aberrations, weights over the field, any extent.

Kernels stand at nodes of a lattice, close enough together that rims move little between two (`node_kernels`,
`cell_filter`). Tiles where a plane is too steep, or too close to the focus, to interpolate are traced ray by ray.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from bokehsynth.rendering import tile_constants as tiles
from bokehsynth.rendering.aperture import pupil as pupils
from bokehsynth.rendering.aperture.field_light import light_at
from bokehsynth.rendering.aperture.field_motion import FieldMotion, constant_motion, nodes_at
from bokehsynth.rendering.aperture.tables import FieldLensTables, LensTables, tables_of
from bokehsynth.rendering.cpu import prepared_layers, tile_pass
from bokehsynth.rendering.cpu.cell_filter import empty_taps
from bokehsynth.rendering.cpu.field_pass import CellRays, render_cells
from bokehsynth.rendering.cpu.field_tracer import field_rays, trace_field_tiles
from bokehsynth.rendering.cpu.field_variate import STEADY, tile_rays
from bokehsynth.rendering.cpu.kernel_arguments import LayerPlanes, Picture, PupilField, Rays, TilePlan
from bokehsynth.rendering.cpu.node_rows import BY_NODES, BY_RADIUS, BY_RAYS, FieldScene, NodeRows, node_radii
from bokehsynth.rendering.cpu.ray_tracer import grid_side, trace_tiles
from bokehsynth.rendering.cpu.simd import address_of
from bokehsynth.rendering.cpu.threads import in_pieces
from bokehsynth.rendering.cpu.tile_bounds import REACH
from bokehsynth.rendering.cpu.tile_plan import plan_tiles
from bokehsynth.rendering.tile_constants import CELL, TILE_H, TILE_W
from bokehsynth.rendering.types import IntArray, RenderInput, RenderOutput

FINEST = 16
"""Pixels between nodes at least: the width of a tile."""

MOVES, MOVED_SHARE = 0.6, 0.125
"""Pixels by which rims and rays may move from node to node, more only at the finest lattice, and share of the blur
radius, and of the light."""

ASTRAY_MOVES, ASTRAY_SHARE = (0.45, 0.5), (0.15, 0.3)
"""The same of lenses with aberrations, in px or as a share of a spot's width, whichever is more: of a lattice, and of
the finest one, since beyond there are rays by the thousand."""

BEND = 0.1
"""Share of its blur radius by which a plane's may change from node to node."""

FEW_PX = 0.2
"""Pixels by which it may change in any case, of lenses with aberrations, which leave no point in focus: half-way a
spot's variance is too large by 0.0025 px squared."""

LARGEST_BY_RADIUS, WIDEST_BY_RADIUS = 12.0, 6.0
"""Blur radius, and its range over a cell, in px, up to which kernels by radius pay: more are more than the rays."""


def render_scene(scene: RenderInput, samples: int | None) -> RenderOutput:
    """Render; rays, where they are needed, number at least `samples`, None chooses by the local blur radii."""
    tables = tables_of(scene.lens.aperture)
    reach = max(scene.lens.reach(layer.disparity, scene.width, scene.height) for layer in scene.layers)
    rays = tables.ray_set(samples, grid_side(reach))
    layers = [prepared_layers.prepare_layer(layer, scene, tables) for layer in scene.layers]
    motion = _motion(scene, tables)
    coarser = (FieldScene(scene, tables, layers, rays, motion, step) for step in (64, 32))
    prepared = next((each for each in coarser if _fits(each)), FieldScene(scene, tables, layers, rays, motion, FINEST))
    output = _empty_output(scene)
    ways = np.stack([_ways(prepared, each) for each in layers])
    plan = _planned(prepared, ways, output)
    _filter_cells(prepared, plan, ways, output)
    _trace_tiles(prepared, output)
    if scene.lens.falloff:
        output.color[:] *= _relative_light(prepared)
    return output


def _relative_light(prepared: FieldScene) -> Any:
    scene, tables = prepared.scene, prepared.tables
    if isinstance(tables, FieldLensTables):
        return light_at(tables.field_table(scene.width, scene.height), scene.width, scene.height)
    return pupils.relative_light(scene)[..., None]


def _empty_output(scene: RenderInput) -> RenderOutput:
    """Allocate the picture."""
    shape, size = (-(-scene.height // TILE_H), -(-scene.width // TILE_W)), (scene.height, scene.width)
    return RenderOutput(np.empty((*size, 3), np.float32), np.empty(size, np.float32), np.zeros(shape, np.uint8))


def _motion(scene: RenderInput, tables: LensTables) -> FieldMotion:
    if isinstance(tables, FieldLensTables):
        return tables.motion(scene.width, scene.height)
    return constant_motion(pupils.drift(scene))


def _fits(prepared: FieldScene) -> bool:
    """Whether nodes are close enough together for every layer and cell."""
    return all(bool(_close_enough(prepared, each).all()) for each in prepared.layers)


def _close_enough(prepared: FieldScene, each: prepared_layers.PreparedLayer) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Whether the kernels of a layer are alike enough at the nodes around a cell, [cells]."""
    scene, step, (rows, columns) = prepared.scene, prepared.step, prepared.cells
    table = None
    if isinstance(prepared.tables, FieldLensTables):
        table = prepared.tables.field_table(scene.width, scene.height)
    enough = np.ones((rows, columns), np.bool_)
    for dy, dx in ((0.5, 0.5), (0, 0), (0, 1), (1, 0), (1, 1)):
        x, y = (np.arange(columns) + dx) * step, (np.arange(rows) + dy) * step
        here = prepared.motion.at(nodes_at(table, x, y))
        plane = each.plane.at(x[None, :] - (scene.width - 1) / 2, y[:, None] - (scene.height - 1) / 2)
        radius = np.broadcast_to(scene.lens.blur * (plane - scene.lens.focus), enough.shape)
        if scene.lens.aperture.has_aberration:
            pixels, share = ASTRAY_MOVES[step == FINEST], ASTRAY_SHARE[step == FINEST]
            most = np.maximum(pixels, share * here.width(radius))
        else:
            most = np.full(enough.shape, MOVES if step > FINEST else np.inf)
            radius = np.full(enough.shape, max(abs(r) for r in each.radii))
        enough &= step * np.maximum(here.rims, here.fading) <= MOVED_SHARE
        enough &= step * here.pixels(radius) <= most
    return enough


def _ways(prepared: FieldScene, each: prepared_layers.PreparedLayer) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """How each cell's means of a layer are made: BY_NODES, BY_RADIUS or, where neither does, BY_RAYS."""
    step, enough = prepared.step, _close_enough(prepared, each)
    if each.plane.slope == 0:
        return np.where(enough, BY_NODES, BY_RAYS)
    radii = node_radii(prepared, each)
    corners = np.stack([radii[:-1, :-1], radii[:-1, 1:], radii[1:, :-1], radii[1:, 1:]])
    low, high = corners.min(axis=0), corners.max(axis=0)
    least = np.where(low * high > 0, np.abs(corners).min(axis=0), 0.0)
    change = prepared.scene.lens.blur * step * max(abs(each.plane.gx), abs(each.plane.gy))
    if prepared.scene.lens.aperture.has_aberration:  # by radius are the kernels of a cell's middle; nothing is in focus
        return np.where(enough & (change <= np.maximum(BEND * least, FEW_PX)), BY_NODES, BY_RAYS)
    near = enough & (np.abs(corners).max(axis=0) <= LARGEST_BY_RADIUS) & (high - low <= WIDEST_BY_RADIUS)
    return np.where(enough & (change <= BEND * least), BY_NODES, np.where(near, BY_RADIUS, BY_RAYS))


def _planned(prepared: FieldScene, ways: IntArray, output: RenderOutput) -> TilePlan:
    """Classify tiles; those where a layer that is seen goes BY_RAYS are RAY_TRACED."""
    plan = plan_tiles(prepared.scene, prepared.layers, output)
    assert output.paths is not None
    rows, columns = output.paths.shape
    for m, way in enumerate(ways):
        per_tile = np.repeat(np.repeat(way, prepared.step // TILE_H, axis=0), prepared.step // TILE_W, axis=1)
        output.paths[_seen(plan, m) & (per_tile[:rows, :columns] == BY_RAYS)] = tiles.RAY_TRACED
    return plan


def _seen(plan: TilePlan, m: int) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Tiles in which layer m is visible and blurred."""
    seen: np.ndarray[Any, np.dtype[np.bool_]] = (plan.orders == m).any(axis=2) & (plan.states[:, :, m, REACH] > 0)
    return seen


def _wanted(prepared: FieldScene, plan: TilePlan, ways: IntArray) -> IntArray:
    """The ways of the cells in which a layer's means are needed, -1 elsewhere."""
    rows, columns = prepared.cells
    down, across = prepared.step // TILE_H, prepared.step // TILE_W
    result = np.full(ways.shape, -1)
    for m in range(len(ways)):
        seen = np.zeros((rows * down, columns * across), np.bool_)
        filtered = _seen(plan, m) & (plan.paths != tiles.RAY_TRACED)
        seen[: filtered.shape[0], : filtered.shape[1]] = filtered
        needed = seen.reshape(rows, down, columns, across).any(axis=(1, 3))
        result[m][needed] = ways[m][needed]
    return result


def _filter_cells(prepared: FieldScene, plan: TilePlan, ways: IntArray, output: RenderOutput) -> None:
    """Render all tiles that are not RAY_TRACED."""
    scene, layers = prepared.scene, prepared.layers
    rays = prepared_layers.rays_of(scene, layers, prepared.rays)
    pupil, keep = _pupil_field(prepared)
    wanted = _wanted(prepared, plan, ways)
    for band in _cell_bands(prepared):
        weighted = prepared_layers.weight_planes(layers, scene, band)
        planes = prepared_layers.layer_planes(scene, layers, weighted)
        work = _CellWork(prepared, wanted, plan, planes, rays, pupil, output)
        per_cell = prepared.step // TILE_H
        in_pieces(band[0] // per_cell, -(-band[1] // per_cell), work)
        del work, planes, weighted  # before the next band's are made
    del keep


@dataclass(frozen=True, eq=False)
class _CellWork:
    """Renders rows of cells."""

    prepared: FieldScene
    wanted: IntArray
    plan: TilePlan
    planes: LayerPlanes
    rays: Rays
    pupil: PupilField
    output: RenderOutput

    def __call__(self, start: int, stop: int) -> None:
        nodes, channels = NodeRows(self.prepared, self.wanted), self.prepared.tables.channels
        taps = empty_taps(nodes.row, channels)
        memory = np.zeros((tile_pass.scratch_cells(len(self.planes.planes), channels), CELL), np.float32)
        of_tile = tile_rays(nodes.table, self.prepared.rays, channels, _moving(self.prepared))
        beams = CellRays(self.rays, self.pupil, of_tile)
        picture, per_cell = Picture(self.output.color, self.output.coverage), self.prepared.step // TILE_H
        for cell_row in range(start, stop):
            paths = self.plan.paths[cell_row * per_cell : (cell_row + 1) * per_cell]
            if (paths != tiles.RAY_TRACED).any():
                row = nodes.around(cell_row)
                render_cells(self.planes, self.plan, row, taps, beams, picture, memory)


def _cell_bands(prepared: FieldScene) -> list[tuple[int, int]]:
    """Bands of tile rows (`prepared_layers.bands`) that whole rows of cells make up."""
    per_cell, last = prepared.step // TILE_H, -(-prepared.scene.height // TILE_H)
    bands = prepared_layers.bands(prepared.scene, prepared.layers)
    ends = [0, *(stop - stop % per_cell for _, stop in bands[:-1]), last]
    return [(start, stop) for start, stop in itertools.pairwise(ends) if start < stop]


def _moving(prepared: FieldScene) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """Tiles whose aberrations are not STEADY."""
    scene = prepared.scene
    rows, columns = -(-scene.height // TILE_H), -(-scene.width // TILE_W)
    if not isinstance(prepared.tables, FieldLensTables):
        return np.zeros((rows, columns), np.uint8)
    table = prepared.tables.field_table(scene.width, scene.height)
    here = nodes_at(table, (np.arange(columns) + 0.5) * TILE_W, (np.arange(rows) + 0.5) * TILE_H)
    return (prepared.motion.at(here).rays * (TILE_W / 2) > STEADY).astype(np.uint8)


def _pupil_field(prepared: FieldScene) -> "tuple[PupilField, pupils.Pupil | None]":
    """What rays ask of the pupil, and what its addresses point into."""
    pupil = None if isinstance(prepared.tables, FieldLensTables) else pupils.pupil_of(prepared.scene)
    if pupil is None:
        return PupilField(np.zeros((0, 2), np.int64), np.zeros(0), 0), None
    centres = np.array([[address_of(each) for each in centre] for centre in pupil.centres], np.int64)
    return PupilField(centres, pupil.radii, prepared.scene.width), pupil


def _trace_tiles(prepared: FieldScene, output: RenderOutput) -> None:
    """Trace the tiles that are left to rays."""
    assert output.paths is not None
    scene, layers = prepared.scene, prepared.layers
    left = np.argwhere(output.paths == tiles.RAY_TRACED)
    if len(left) == 0:
        return
    traced = prepared_layers.traced_layers(scene, layers)
    corners, picture = left * (TILE_H, TILE_W), Picture(output.color, output.coverage)
    if isinstance(prepared.tables, FieldLensTables):
        rays = field_rays(prepared.tables.field_table(scene.width, scene.height), prepared.rays)
        in_pieces(0, len(corners), lambda start, stop: trace_field_tiles(traced, rays, corners[start:stop], picture))
        return
    disc = pupils.pupil_of(scene) or pupils.NO_DISC
    plain = prepared.rays.points, prepared.rays.weights, prepared.rays.spans
    in_pieces(0, len(corners), lambda start, stop: trace_tiles(traced, plain, disc, corners[start:stop], picture))
