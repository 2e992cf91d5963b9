"""Renders the tiles of a picture some of whose layers are blurred so far that a coarser form of them will do."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bokehsynth.rendering.aperture.tables import LensTables, RaySet
from bokehsynth.rendering.cpu import prepared_layers, reduced_pass, tile_pass
from bokehsynth.rendering.cpu.kernel_arguments import Picture, PupilField
from bokehsynth.rendering.cpu.prepared_layers import PreparedLayer
from bokehsynth.rendering.cpu.reduced_means import Reading, layer_means, layers_together
from bokehsynth.rendering.cpu.simd import address_of
from bokehsynth.rendering.cpu.threads import in_pieces
from bokehsynth.rendering.cpu.tile_plan import plan_tiles
from bokehsynth.rendering.tile_constants import CELL, LANES, TILE_H
from bokehsynth.rendering.types import IntArray, RenderInput, RenderOutput

NO_PUPIL = PupilField(np.zeros((0, 2), np.int64), np.zeros(0), 0)


def filter_tiles(
    scene: RenderInput, layers: Sequence[PreparedLayer], cells: Sequence[int], tables: LensTables, table: RaySet,
    samples: int | None, output: RenderOutput,
) -> None:  # fmt: skip
    """Render all tiles but those in which layers change order; cells: sides of each layer's cells, 1 for all texels."""
    plan = plan_tiles(scene, layers, output)
    rays = prepared_layers.rays_of(scene, layers, table)
    readings, held = _readings(scene, layers, cells, tables, samples)
    readings = readings._replace(modes=np.zeros(plan.paths.shape, np.uint8))
    if readings.together.max() >= 0:
        reduced_pass.fill_modes(plan, readings.means >= 0, readings.modes)
    # No kernels and no sums of coarse layers are needed.
    fine = [each if side == 1 else replace(each, radii=(0.0, 0.0)) for each, side in zip(layers, cells, strict=True)]
    kernels = prepared_layers.kernels_by_radius(scene, fine, tables)
    count = sum(len(each.planes) for each in held)

    def render_rows(start: int, stop: int) -> None:
        planes = prepared_layers.layer_planes(scene, fine, weighted)
        memory = np.zeros((tile_pass.scratch_cells(len(layers), len(rays.weights)), CELL), np.float32)
        buffer = np.zeros((count, TILE_H, scene.width + LANES), np.float32)
        picture = Picture(output.color, output.coverage)
        work = reduced_pass.Workspace(memory, buffer, NO_PUPIL)
        reduced_pass.render_rows(planes, plan, kernels, rays, readings, (start, stop), picture, work)

    for band in prepared_layers.bands(scene, fine):
        weighted: list[prepared_layers.WeightedPlanes | None] = []
        weighted = prepared_layers.weight_planes(fine, scene, band)
        in_pieces(*band, render_rows)


def _readings(
    scene: RenderInput, layers: Sequence[PreparedLayer], cells: Sequence[int], tables: LensTables, samples: int | None
) -> tuple[reduced_pass.Readings, list[Reading]]:
    """What coarse layers contribute, and the arrays that it points into."""
    held: list[Reading] = []
    means, together = np.full((2, len(layers)), -1, np.int64)
    coarse = [m for m, side in enumerate(cells) if side > 1]
    for m in coarse:
        means[m] = _append(held, layer_means(scene, scene.layers[m], cells[m], tables))
    if len(coarse) > 1:
        cell = min(cells[m] for m in coarse)
        for m, each in zip(
            coarse, layers_together(scene, [scene.layers[m] for m in coarse], cell, tables, samples) or [], strict=False
        ):
            together[m] = _append(held, each)
    return _collect(held, means, together), held


def _append(held: list[Reading], one: Reading) -> int:
    """Put a reading behind the others; returns the number of its first plane."""
    held.append(one)
    return sum(len(each.planes) for each in held[:-1])


def _collect(held: Sequence[Reading], means: IntArray, together: IntArray) -> reduced_pass.Readings:
    weights = np.empty((len(held), 4, len(held[0].share)), np.float32)
    for k, each in enumerate(held):
        reduced_pass.row_weights(each.share, each.cell, weights[k])
    starts = np.cumsum([0, *(len(each.planes) for each in held)])
    bounded = [3 if start in means else -1 for start in starts[:-1]]
    return reduced_pass.Readings(
        np.array(
            [(address_of(each.planes), *each.planes.shape, address_of(each.limits), len(each.limits)) for each in held],
            np.int64,
        ),
        np.stack([each.column for each in held]), weights,
        np.array([each.first for each in held]), np.array([each.cell for each in held], np.int64),
        np.array(bounded, np.int64), np.zeros((0, 0), np.uint8), means, together,
    )  # fmt: skip
