"""The CPU renderer of scenes in which a layer's disparity is a height field.

Every ray's first hit is found exactly, through walls and folds (`intersections`), planes beside height fields included.
The picture is cut into tiles; a tile traces its visible layers with as many rays as its largest blur radius needs.
Tiles that see one opaque height field alone are `lone_fields`.
Nothing is reordered between threads and no fast-math is used: the same bytes for any number of threads.
"""

from itertools import product

import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.optics import Plane
from bokehsynth.rendering.cpu.height_field.accumulate import TILE_H, TILE_W, trace_tile
from bokehsynth.rendering.cpu.height_field.intersections import Surfaces, block_bounds, classify_layers, extremes
from bokehsynth.rendering.cpu.height_field.lone_fields import ray_tables, render_lone_fields
from bokehsynth.rendering.cpu.kernel_arguments import Camera, Picture, Tile
from bokehsynth.rendering.cpu.threads import in_pieces
from bokehsynth.rendering.cpu.tile_bounds import OPAQUE, REACH, visible_order
from bokehsynth.rendering.types import Float64Array, FloatArray, RenderInput, RenderOutput


def render_scene(scene: RenderInput, samples: int | None) -> RenderOutput:
    """Render with at least `samples` rays where anything is blurred; None chooses by the local blur radius.

    Raises UsageError for an aperture that changes over the field.
    """
    lens = scene.lens
    if lens.aperture.depends_on_field:
        raise UsageError(
            f"{type(lens.aperture).__name__} changes over the picture (pupil or aberration): the cpu backend renders "
            "no height field through it; use backend='reference', or cut the field into layers with one Plane each"
        )
    surfaces = _surfaces(scene)
    blocks = [np.stack([block_bounds(each) for each in planes]) for planes in (surfaces.packed[:, 3], surfaces.heights)]
    whole = np.stack([extremes(each) for each in blocks[1]])
    rows, columns = surfaces.packed.shape[2:]
    camera = Camera(scene.lens.blur, float(np.float32(scene.lens.focus)), (rows - 1) / 2, (columns - 1) / 2)
    size = scene.height, scene.width
    picture = Picture(np.empty((*size, 3), np.float32), np.empty(size, np.float32))

    corners = list(product(range(0, scene.height, TILE_H), range(0, scene.width, TILE_W)))
    states = [
        classify_layers(surfaces, blocks[0], blocks[1], whole, camera, _tile(scene, camera, *corner))
        for corner in corners
    ]
    lone = _lone_fields(scene, surfaces, states)
    render_lone_fields(scene, surfaces, blocks[1], lone, samples, picture)
    rough = [i for i in range(len(corners)) if lone[i] < 0]
    tables = ray_tables(scene, [_reach(states[i]) for i in rough], samples)

    def trace_tiles(start: int, stop: int) -> None:
        for i, rays in zip(rough[start:stop], tables[start:stop], strict=True):
            trace_tile(surfaces, states[i], rays.points, rays.weights, camera, scene.margin, corners[i], picture)

    in_pieces(0, len(rough), trace_tiles)
    return RenderOutput(picture.color, picture.coverage)


def _lone_fields(
    scene: RenderInput, surfaces: Surfaces, states: list[Float64Array]
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """The layer of each tile that sees one opaque height field and nothing else, -1 of the other tiles."""
    lone, order = np.full(len(states), -1), np.empty(len(scene.layers), np.int64)
    for i, state in enumerate(states):
        alone = visible_order(state, order) == 1 and surfaces.field[order[0]] >= 0
        if alone and state[order[0], OPAQUE] == 1 and state[order[0], REACH] > 0:
            lone[i] = order[0]
    return lone


def _tile(scene: RenderInput, camera: Camera, y: int, x: int) -> Tile:
    rows, columns = min(TILE_H, scene.height - y), min(TILE_W, scene.width - x)
    return Tile(y + scene.margin - camera.cy, x + scene.margin - camera.cx, rows, columns)


def _reach(state: Float64Array) -> float:
    """Largest reach in pixels of the layers that are visible on a tile."""
    order = np.empty(len(state), np.int64)
    return max(state[order[: visible_order(state, order)], REACH], default=0.0)


def _surfaces(scene: RenderInput) -> Surfaces:
    """Surfaces of the layers. Planes are rounded as fields and the focus are: what is level is so in both."""
    planes, field = np.full((len(scene.layers), 3), np.nan), np.full(len(scene.layers), -1, np.int64)
    heights: list[FloatArray] = []
    for m, surface in enumerate(layer.disparity for layer in scene.layers):
        if isinstance(surface, Plane):
            planes[m] = np.float32(surface.d), surface.gx, surface.gy
        else:
            field[m] = len(heights)
            heights.append(surface.values - np.float32(scene.lens.focus))
    packed = np.stack([layer.packed for layer in scene.layers])
    return Surfaces(packed, planes, field, np.stack(heights or [np.zeros((1, 1), np.float32)]))
