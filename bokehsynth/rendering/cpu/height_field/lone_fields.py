"""Tiles that see one opaque height field and nothing else: smooth parts by their texels' discs, the rest by rays."""

from functools import partial

import numpy as np
import numpy.typing as npt

from bokehsynth.rendering.aperture.lens_points import LensPoints, bake, smallest_side
from bokehsynth.rendering.aperture.tables import tables_of
from bokehsynth.rendering.cpu.height_field.accumulate import TILE_H, TILE_W
from bokehsynth.rendering.cpu.height_field.intersections import Surfaces, part_ranges
from bokehsynth.rendering.cpu.height_field.one_field import ROWS, OneField, trace_one_field
from bokehsynth.rendering.cpu.height_field.smooth_tiles import mark_rough, scatter_tiles
from bokehsynth.rendering.cpu.kernel_arguments import Picture
from bokehsynth.rendering.cpu.ray_tracer import grid_side
from bokehsynth.rendering.cpu.threads import in_pieces
from bokehsynth.rendering.tile_constants import LANES
from bokehsynth.rendering.types import FloatArray, IntArray, RenderInput

MOST_RAYS = 128
"""Largest side of a grid of rays (`grid_side`)."""
PART = (ROWS, LANES)
"""Rows and columns of the parts of a tile that are discs or rays as a whole."""


def render_lone_fields(
    scene: RenderInput, surfaces: Surfaces, height_blocks: FloatArray, lone: IntArray, samples: int | None,
    picture: Picture,
) -> None:  # fmt: skip
    """Fill the tiles whose only layer is lone[tile], by rays alone if `samples` says how many.

    Sets `lone` to -1 everywhere where R, G and B differ on their way through the lens: nothing is filled then.
    """
    if (lone >= 0).any() and not _weighs_alike(bake(scene.lens.aperture, MOST_RAYS)):
        lone[:] = -1
    columns = -(-scene.width // TILE_W)
    tables = tables_of(scene.lens.aperture)
    for m in np.unique(lone[lone >= 0]):
        parts = np.repeat(np.repeat((lone == m).reshape(-1, columns), TILE_H // ROWS, 0), TILE_W // LANES, 1)
        parts = parts[: -(-scene.height // ROWS), : -(-scene.width // LANES)]
        heights = surfaces.heights[surfaces.field[m]]
        if samples is None and tables.full and tables.uniform:
            rough = np.zeros(parts.shape, np.bool_)
            layer = surfaces.packed[m], heights
            smooth = mark_rough(layer, scene.lens.blur, scene.margin, PART, rough)
            scatter_tiles(layer, smooth, scene.lens.blur, scene.margin, parts & ~rough, PART, picture)
            parts = parts & rough
        _trace_parts(scene, surfaces.packed[m], heights, height_blocks[surfaces.field[m]], parts, samples, picture)


def _trace_parts(
    scene: RenderInput, packed: FloatArray, heights: FloatArray, blocks: FloatArray, parts: npt.NDArray[np.bool_],
    samples: int | None, picture: Picture,
) -> None:  # fmt: skip
    """Trace parts of the picture, bool [rows, columns] of PARTs."""
    corners = np.argwhere(parts) * PART
    sizes = np.minimum(PART, (scene.height, scene.width) - corners)
    m, blur = scene.margin, scene.lens.blur
    ranges = part_ranges(blocks, blur, corners + m, sizes)
    tables = ray_tables(scene, ranges[:, 2].tolist(), samples)
    field = _one_field(packed, heights, blocks)

    def work(start: int, stop: int) -> None:
        memory = np.empty(ROWS * 9 * LANES + 3 * LANES, np.float32)
        for i in range(start, stop):
            (low, high), rays = ranges[i, :2].tolist(), tables[i]
            weights = np.ascontiguousarray(rays.weights[:, 0])
            part = tuple(corners[i].tolist()), tuple(sizes[i].tolist())
            trace_one_field(field, (rays.points, weights), blur, (low, high), m, part, memory, picture)

    in_pieces(0, len(corners), work)


def _one_field(packed: FloatArray, heights: FloatArray, blocks: FloatArray) -> OneField:
    """Lay a layer out as the kernels read it; they read up to LANES texels past the last one, and a row below."""
    height, width = heights.shape
    spare = 2 * width + 2 * LANES
    texels, levels = np.ones((height * width + spare, 4), np.float32), np.zeros(height * width + spare, np.float32)
    texels[: height * width, :3] = packed[:3].reshape(3, -1).T
    levels[: height * width] = heights.ravel()
    return OneField(texels, levels, blocks, width)


def _weighs_alike(points: LensPoints) -> bool:
    """Whether R, G and B have the same weight at every lens point."""
    return bool((points.weights == points.weights[:, :1]).all())


def ray_tables(scene: RenderInput, reaches: list[float], samples: int | None) -> list[LensPoints]:
    """The rays of every tile, from its reach in pixels or for all the same."""
    rays = partial(bake, scene.lens.aperture)
    fixed = None if samples is None else smallest_side(samples, rays)
    sides = [fixed or grid_side(reach) for reach in reaches]
    baked = {side: rays(side) for side in set(sides)}
    return [baked[side] for side in sides]
