"""The CPU renderer of openings that change over the picture: pupils, aberrations, weights over the field, any extent.

Kernels stand at nodes of a lattice, close enough together that rims move little between two (`node_kernels`,
`cell_filter`). Tiles where a plane is too steep, or too close to the focus, to interpolate are traced ray by ray.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth.rendering import tile_constants as tiles
from bokehsynth.rendering.aperture import pupil as pupils
from bokehsynth.rendering.aperture.field_light import light_at
from bokehsynth.rendering.aperture.field_motion import FieldMotion, constant_motion, nodes_at
from bokehsynth.rendering.aperture.tables import FieldLensTables, LensTables, tables_of
from bokehsynth.rendering.cpu import prepared_layers, tile_pass
from bokehsynth.rendering.cpu.cell_filter import empty_taps
from bokehsynth.rendering.cpu.field_pass import CellRays, render_cells
from bokehsynth.rendering.cpu.field_tracer import field_rays, trace_field_tiles
from bokehsynth.rendering.cpu.field_variate import STEADY, TOGETHER, tile_rays
from bokehsynth.rendering.cpu.kernel_arguments import LayerPlanes, Picture, PupilField, Rays, TilePlan
from bokehsynth.rendering.cpu.layer_lattices import layer_lattices
from bokehsynth.rendering.cpu.node_rows import (
    BY_COLUMNS,
    BY_NODES,
    BY_RAYS,
    FieldScene,
    Lattice,
    NodeRows,
)
from bokehsynth.rendering.cpu.ray_tracer import grid_side, trace_tiles
from bokehsynth.rendering.cpu.simd import address_of
from bokehsynth.rendering.cpu.threads import in_pieces
from bokehsynth.rendering.cpu.tile_bounds import REACH
from bokehsynth.rendering.cpu.tile_plan import plan_tiles
from bokehsynth.rendering.tile_constants import CELL, FINEST, TILE_H, TILE_W
from bokehsynth.rendering.types import Float64Array, RenderInput, RenderOutput

BoolArray = npt.NDArray[np.bool_]


def render_scene(scene: RenderInput, samples: int | None) -> RenderOutput:
    """Render; rays, where they are needed, number at least `samples`, None chooses by the local blur radii."""
    tables = tables_of(scene.lens.aperture)
    reach = max(scene.lens.reach(layer.disparity, scene.width, scene.height) for layer in scene.layers)
    rays = tables.ray_set(samples, grid_side(reach))
    layers = [prepared_layers.prepare_layer(layer, scene, tables) for layer in scene.layers]
    prepared = FieldScene(scene, tables, layers, rays, _motion(scene, tables))
    output = _empty_output(scene)
    lattices = layer_lattices(prepared)
    lattice = Lattice(*(np.stack(each) for each in zip(*lattices, strict=True)))
    reaches = _reaches(prepared)
    plan = _planned(prepared, lattice, reaches, output)
    _filter_cells(prepared, plan, _wanted(lattice, plan), reaches is not None, output)
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


def _planned(
    prepared: FieldScene, lattice: Lattice, reaches: Float64Array | None, output: RenderOutput
) -> TilePlan:  # fmt: skip
    """Classify tiles; those where a layer that is seen goes BY_RAYS are RAY_TRACED."""
    plan = plan_tiles(prepared.scene, prepared.layers, output, reaches)
    assert output.paths is not None
    rows, columns = output.paths.shape
    for m, way in enumerate(lattice.ways):
        per_tile = np.repeat(way, FINEST // TILE_H, axis=0)
        output.paths[_seen(plan, m) & (per_tile[:rows, :columns] == BY_RAYS)] = tiles.RAY_TRACED
    return plan


def _reaches(prepared: FieldScene) -> Float64Array | None:
    """Bounds for how far rays of each tile come, [L, rows, columns], None where the table knows no better ones."""
    tables, scene = prepared.tables, prepared.scene
    if not isinstance(tables, FieldLensTables):
        return None
    largest = max(max(abs(r) for r in each.radii) for each in prepared.layers)
    known = tables.reach(scene.width, scene.height, largest)
    if known is None:
        return None
    camera, result = prepared_layers.camera_of(scene), []
    rows, columns = prepared.cells(TILE_H)[0], prepared.cells(TILE_W)[1]
    y, x = np.arange(rows) * TILE_H - (scene.height - 1) / 2, np.arange(columns) * TILE_W - (scene.width - 1) / 2
    for each in prepared.layers:
        corners = [
            np.broadcast_to(each.plane.at(x[None, :] + dx, y[:, None] + dy) - scene.lens.focus, (rows, columns))
            for dx in (0, min(TILE_W, scene.width) - 1)
            for dy in (0, min(TILE_H, scene.height) - 1)
        ]
        radii = np.clip(scene.lens.blur * np.stack(corners), *each.radii)
        e = camera.extent * camera.blur * each.plane.slope
        frontal = camera.extent * np.abs(radii).max(axis=0) + camera.astray
        tilted = (frontal - camera.astray + e * camera.astray) / (1 - e) + camera.astray
        reach = known.of_tiles(radii.min(axis=0), radii.max(axis=0)) + tilted - frontal
        sharp = (radii == 0).all(axis=0) & (camera.astray == 0)
        result.append(np.where(sharp, 0.0, reach))
    return np.stack(result)


def _seen(plan: TilePlan, m: int) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Tiles in which layer m is visible and blurred."""
    seen: np.ndarray[Any, np.dtype[np.bool_]] = (plan.orders == m).any(axis=2) & (plan.states[:, :, m, REACH] > 0)
    return seen


def _wanted(lattice: Lattice, plan: TilePlan) -> Lattice:
    """The lattice without the cells in which a layer's means are not needed."""
    count, rows, columns = lattice.ways.shape
    result = np.full(lattice.ways.shape, -1)
    for m in range(count):
        seen = np.zeros((rows * (FINEST // TILE_H), columns), np.bool_)
        filtered = _seen(plan, m) & (plan.paths != tiles.RAY_TRACED)
        seen[: filtered.shape[0], : filtered.shape[1]] = filtered
        needed = seen.reshape(rows, -1, columns).any(axis=1)
        result[m][needed] = lattice.ways[m][needed]
    sizes = np.where(result == BY_NODES, lattice.sizes, 1)  # strips are as high as the largest cell
    return Lattice(result, sizes, np.where(result == BY_COLUMNS, lattice.steps, 0))


def _filter_cells(
    prepared: FieldScene, plan: TilePlan, lattice: Lattice, bounded: bool, output: RenderOutput
) -> None:  # fmt: skip
    """Render all tiles that are not RAY_TRACED; bounded: whether tiles know how far their own rays go."""
    scene, layers = prepared.scene, prepared.layers
    rays = prepared_layers.rays_of(scene, layers, prepared.rays)
    pupil, keep = _pupil_field(prepared)
    per_strip = lattice.strip * FINEST // TILE_H
    for band in _bands(prepared, per_strip):
        weighted = prepared_layers.weight_planes(layers, scene, band)
        planes = prepared_layers.layer_planes(scene, layers, weighted)
        if bounded:
            planes = planes._replace(camera=planes.camera._replace(astray=0.0))  # tiles know how far their rays go
        work = _StripWork(prepared, lattice, plan, planes, rays, pupil, output)
        in_pieces(band[0] // per_strip, -(-band[1] // per_strip), work)
        del work, planes, weighted  # before the next band's are made
    del keep


@dataclass(frozen=True, eq=False)
class _StripWork:
    """Renders strips of cells."""

    prepared: FieldScene
    lattice: Lattice
    plan: TilePlan
    planes: LayerPlanes
    rays: Rays
    pupil: PupilField
    output: RenderOutput

    def __call__(self, start: int, stop: int) -> None:
        nodes, channels = NodeRows(self.prepared, self.lattice), self.prepared.tables.channels
        taps = empty_taps(nodes.strip, channels)
        memory = np.zeros((tile_pass.scratch_cells(len(self.planes.planes), channels), CELL), np.float32)
        astray = prepared_layers.camera_of(self.prepared.scene).astray
        of_tile = tile_rays(nodes.table, self.prepared.rays, channels, _kinds(self.prepared, self.plan), astray)
        beams = CellRays(self.rays, self.pupil, of_tile)
        picture, per_strip = Picture(self.output.color, self.output.coverage), self.lattice.strip * FINEST // TILE_H
        for number in range(start, stop):
            paths = self.plan.paths[number * per_strip : (number + 1) * per_strip]
            if (paths != tiles.RAY_TRACED).any():
                render_cells(self.planes, self.plan, nodes.around(number), taps, beams, picture, memory)


def _bands(prepared: FieldScene, per_strip: int) -> list[tuple[int, int]]:
    """Bands of tile rows (`prepared_layers.bands`) that whole strips make up."""
    last = -(-prepared.scene.height // TILE_H)
    bands = prepared_layers.bands(prepared.scene, prepared.layers)
    ends = [0, *(stop - stop % per_strip for _, stop in bands[:-1]), last]
    return [(start, stop) for start, stop in itertools.pairwise(ends) if start < stop]


def _kinds(prepared: FieldScene, plan: TilePlan) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Tiles whose aberrations are not STEADY, and those whose colours land TOGETHER."""
    rows, columns = plan.paths.shape
    if not isinstance(prepared.tables, FieldLensTables):
        return np.zeros((rows, columns), np.uint8), np.zeros((rows, columns), np.uint8)
    table = prepared.tables.field_table(prepared.scene.width, prepared.scene.height)
    here = nodes_at(table, (np.arange(columns) + 0.5) * TILE_W, (np.arange(rows) + 0.5) * TILE_H)
    motion = prepared.motion.at(here)
    moving = motion.rays * (TILE_W / 2) > STEADY
    light = np.maximum(plan.lights, 1.0)  # not over the picture's own: at night lamps lie behind most edges
    alike = (motion.colours <= TOGETHER / light) & (prepared.tables.channels == 3)
    return moving.astype(np.uint8), alike.astype(np.uint8)


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
