"""The CPU renderer: exact means of every layer by footprint kernels, rays only where layers vary together.

Per tile (`tile_pass`): a layer in focus is copied; a blurred one is filtered by the table of weights that all rays of a
pixel collapse to (`footprint_kernel`, `layer_filter`); the means are composited; where an edge varies in front of
something that varies too, a set of rays adds what means miss (`control_variate`); tiles in which layers change order
are traced ray by ray (`ray_tracer`), scenes with height fields too (`height_field`). Nothing is reordered between
threads and no fast-math is used: the same bytes for any number of threads.
"""

from collections.abc import Sequence

import numpy as np

from bokehsynth.optics import HeightField
from bokehsynth.rendering import tile_constants
from bokehsynth.rendering.aperture import pupil as pupils
from bokehsynth.rendering.aperture.tables import FieldLensTables, LensTables, RaySet, tables_of
from bokehsynth.rendering.cpu import pinhole, prepared_layers, tile_pass
from bokehsynth.rendering.cpu.kernel_arguments import KernelTable, LayerPlanes, Picture, PupilField, Rays, TilePlan
from bokehsynth.rendering.cpu.ray_tracer import grid_side, trace_tiles
from bokehsynth.rendering.cpu.reduced_layers import cell_sides
from bokehsynth.rendering.cpu.threads import in_pieces
from bokehsynth.rendering.cpu.tile_plan import plan_tiles
from bokehsynth.rendering.tile_constants import CELL, TILE_H, TILE_W
from bokehsynth.rendering.types import RenderInput, RenderOutput, far_blurred_scene, small_scene

NO_PUPIL = PupilField(np.zeros((0, 2), np.int64), np.zeros(0), 0)


def render_scene(scene: RenderInput, samples: int | None) -> RenderOutput:
    """Render; rays, where they are needed, number at least `samples`, None chooses by the local blur radii.

    Raises UsageError for height fields seen through an aperture that changes over the picture.
    """
    aperture = scene.lens.aperture
    if any(isinstance(layer.disparity, HeightField) for layer in scene.layers):
        from bokehsynth.rendering.cpu.height_field import tracer  # what few recipes need takes time to import

        return tracer.render_scene(scene, samples)
    tables = tables_of(aperture)
    if scene.lens.blur > 0 and (pupils.has_pupil(aperture) or isinstance(tables, FieldLensTables)):
        from bokehsynth.rendering.cpu import field_renderer

        return field_renderer.render_scene(scene, samples)
    output = empty_output(scene)
    if scene.lens.blur == 0 and pinhole.planes_in_order(scene) is not None:
        pinhole.composite(scene, output)
        return output
    table = ray_set(scene, tables, samples)
    layers = [prepared_layers.prepare_layer(layer, scene, tables) for layer in scene.layers]
    cells = cell_sides(layers, tables)
    if max(cells) > 1:
        from bokehsynth.rendering.cpu import reduced_renderer

        reduced_renderer.filter_tiles(scene, layers, cells, tables, table, samples, output)
    else:
        _filter_tiles(scene, layers, tables, table, output)
    _trace_crossings(scene, layers, table, output)
    return output


def empty_output(scene: RenderInput) -> RenderOutput:
    """Allocate the picture."""
    tiles = -(-scene.height // TILE_H), -(-scene.width // TILE_W)
    size = scene.height, scene.width
    return RenderOutput(np.empty((*size, 3), np.float32), np.empty(size, np.float32), np.zeros(tiles, np.uint8))


def _filter_tiles(
    scene: RenderInput, layers: Sequence[prepared_layers.PreparedLayer], tables: LensTables, table: RaySet,
    output: RenderOutput,
) -> None:  # fmt: skip
    """Render all tiles but those in which layers change order."""
    rays = prepared_layers.rays_of(scene, layers, table)
    plan = plan_tiles(scene, layers, output)
    kernels = prepared_layers.kernels_by_radius(scene, layers, tables)

    def render_rows(start: int, stop: int) -> None:
        planes = prepared_layers.layer_planes(scene, layers, weighted)
        render_tiles(planes, plan, kernels, rays, (start, stop), output)

    for band in prepared_layers.bands(scene, layers):
        weighted: list[prepared_layers.WeightedPlanes | None] = []  # frees the last band's before this one's are made
        weighted = prepared_layers.weight_planes(layers, scene, band)
        in_pieces(*band, render_rows)


def render_tiles(
    layers: LayerPlanes, plan: TilePlan, kernels: KernelTable, rays: Rays, tile_rows: tuple[int, int],
    output: RenderOutput,
) -> None:  # fmt: skip
    """`tile_pass.render_rows` with scratch of its own."""
    scratch = np.zeros((tile_pass.scratch_cells(len(layers.planes), len(rays.weights)), CELL), np.float32)
    picture = Picture(output.color, output.coverage)
    tile_pass.render_rows(layers, plan, kernels, rays, NO_PUPIL, tile_rows, picture, scratch)


def _trace_crossings(
    scene: RenderInput, layers: Sequence[prepared_layers.PreparedLayer], table: RaySet, output: RenderOutput
) -> None:
    """Trace the tiles in which layers change order from ray to ray."""
    assert output.paths is not None
    crossing = np.argwhere(output.paths == tile_constants.RAY_TRACED)
    if len(crossing) == 0:
        return
    traced = prepared_layers.traced_layers(scene, layers)
    corners, picture = crossing * (TILE_H, TILE_W), Picture(output.color, output.coverage)
    disc, rays = pupils.NO_DISC, (table.points, table.weights, table.spans)
    in_pieces(0, len(corners), lambda start, stop: trace_tiles(traced, rays, disc, corners[start:stop], picture))


def ray_set(scene: RenderInput, tables: LensTables, samples: int | None) -> RaySet:
    """The sets of rays that tiles of this scene may ask for."""
    reach = max(scene.lens.reach(layer.disparity, scene.width, scene.height) for layer in scene.layers)
    return tables.ray_set(samples, grid_side(reach))


def warm_up() -> None:
    """Compile the kernels of lenses that look alike all over the picture, so that spawned workers only load them."""
    render_scene(small_scene(), None)


def warm_up_coarse() -> None:
    """Compile what pictures blurred beyond COARSE_FROM px need besides."""
    render_scene(far_blurred_scene(), None)
