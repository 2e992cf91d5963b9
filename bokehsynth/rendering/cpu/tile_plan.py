"""Per-tile classification: visible layers and their order, the rendering path, and the brightest light behind an edge.

Rays are shared out over the whole picture by that light, so that all tiles are planned before the first is filtered.
"""

from collections.abc import Sequence

import numpy as np

from bokehsynth.rendering import tile_constants as tiles
from bokehsynth.rendering.cpu import prepared_layers, tile_bounds
from bokehsynth.rendering.cpu.kernel_arguments import Footprint, Tile, TilePlan
from bokehsynth.rendering.cpu.threads import in_pieces
from bokehsynth.rendering.cpu.tile_bounds import OPAQUE, REACH, STATES
from bokehsynth.rendering.jit import inline_kernel, kernel
from bokehsynth.rendering.tile_constants import RUNS_FROM, TILE_H, TILE_W
from bokehsynth.rendering.types import Float64Array, RenderInput, RenderOutput


def empty_plan(paths: "np.ndarray[tuple[int, int], np.dtype[np.uint8]]", layers: int) -> TilePlan:
    """Allocate what `plan_rows` fills, beside the `paths` that a picture has already."""
    shape, lights = paths.shape, np.zeros(paths.shape, np.float32)
    return TilePlan(np.empty((*shape, layers, STATES)), np.empty((*shape, layers), np.int64), lights, paths, 1.0)


def plan_tiles(
    scene: RenderInput, layers: Sequence[prepared_layers.PreparedLayer], output: RenderOutput,
    reaches: Float64Array | None = None,
) -> TilePlan:  # fmt: skip
    """Classify every tile; fills the output's paths.

    reaches [L, rows, columns]: bounds, in px, for how far rays of a tile come, where they are known better than by the
    largest blur radius and aberration.
    """
    assert output.paths is not None
    plan = empty_plan(output.paths, len(layers))
    planes, pyramids = prepared_layers.plane_rows(layers), prepared_layers.pyramids_of(layers)
    camera, area = prepared_layers.camera_of(scene), (scene.margin, scene.height, scene.width)
    rows = len(output.paths)
    if reaches is None:
        reaches = np.zeros((0, 0, 0))
    in_pieces(0, rows, lambda start, stop: plan_rows(planes, pyramids, camera, area, (start, stop), reaches, plan))
    return plan._replace(rms_light=rms_light(plan.lights))


@kernel
def plan_rows(planes, pyramids, camera, area, tile_rows, reaches, plan):
    """Fill tile rows tile_rows[0] .. tile_rows[1] - 1 of a `TilePlan`.

    planes [L, 3] (d, gx, gy); area (margin, height, width) of the picture; reaches: of `plan_tiles`, or none.
    """
    states, orders, lights, paths, _ = plan
    margin, height, width = area
    layers = len(planes)
    state, visible = np.zeros((layers, STATES)), np.empty(layers, np.int64)
    for row in range(tile_rows[0], tile_rows[1]):
        y0 = row * TILE_H
        for column in range(paths.shape[1]):
            x0 = column * TILE_W
            y, x = y0 + margin - camera.cy, x0 + margin - camera.cx
            tile = Tile(y, x, min(TILE_H, height - y0), min(TILE_W, width - x0))
            for m in range(layers):
                most = reaches[m, row, column] if len(reaches) > 0 else np.inf
                tile_bounds.classify(planes, pyramids, camera, tile, m, most, state)
            count = tile_bounds.visible_order(state, visible)
            path = _path(state, visible, count, planes, pyramids)
            if path == tiles.CONTROL_VARIATE:
                lights[row, column] = _light(pyramids, camera, tile, state, visible, count)
            paths[row, column] = path
            for m in range(layers):
                orders[row, column, m] = visible[m] if m < count else -1
                for k in range(STATES):
                    states[row, column, m, k] = state[m, k]


@inline_kernel
def _path(state, order, count, planes, pyramids):
    """Choose a tile's rendering path."""
    reach = 0.0
    for k in range(count):
        reach = max(reach, state[order[k], REACH])
    path = tiles.CONTROL_VARIATE
    if not tile_bounds.varies_together(state, order, count, pyramids):
        path = tiles.COPY if reach == 0 else tiles.DIRECT if reach < RUNS_FROM else tiles.PREFIX_SUM
    if not tile_bounds.is_ordered(state, order, count, planes):
        path = tiles.RAY_TRACED
    return path


@inline_kernel
def _light(pyramids, camera, tile, state, order, count):
    """Brightest light behind the nearest layer (`TilePlan.lights`)."""
    if state[order[count - 1], OPAQUE] == 0:
        return np.float32(np.inf)
    light = np.float32(0)
    for k in range(1, count):
        m = order[k]
        top, left = tile.y + camera.cy, tile.x + camera.cx
        footprint = Footprint(top, left, tile.rows, tile.columns, state[m, REACH] + 1)
        light = max(light, tile_bounds.max_light(pyramids, m, footprint))
    return light


@kernel
def rms_light(lights):
    """Root mean square of the finite lights, 1 without any."""
    total = 0.0
    count = 0
    for light in lights.flat:
        if 0 < light < np.inf:
            total += light * light
            count += 1
    return np.sqrt(total / count) if count > 0 else 1.0
