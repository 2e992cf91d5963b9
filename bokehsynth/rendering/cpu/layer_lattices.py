"""How each layer's kernels stand where the opening changes over the picture: nodes as far apart as serve, or rays."""

from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth.rendering.aperture.field_motion import FieldMotion, nodes_at
from bokehsynth.rendering.aperture.tables import FieldLensTables
from bokehsynth.rendering.cpu import prepared_layers
from bokehsynth.rendering.cpu.column_kernels import MOST
from bokehsynth.rendering.cpu.field_tracer import PART
from bokehsynth.rendering.cpu.node_rows import (
    BY_COLUMNS,
    BY_NODES,
    BY_RADIUS,
    BY_RAYS,
    COARSEST,
    FieldScene,
    Lattice,
    node_radii,
)
from bokehsynth.rendering.tile_constants import FINEST, TILE_W
from bokehsynth.rendering.types import Float64Array, IntArray

BoolArray = npt.NDArray[np.bool_]
MotionAround = tuple[npt.NDArray[Any], npt.NDArray[Any], FieldMotion]
"""Columns x, rows y and the motion there."""

SIZES = 1, 2, COARSEST // FINEST
"""Of cells, in the finest ones."""

MOVES, MOVED_SHARE = 0.6, 0.125
"""Pixels by which rims and rays may move from node to node, more only at the finest lattice, and share of the blur
radius, and of the light."""

ASTRAY_MOVES, ASTRAY_SHARE = (0.3, 0.5), (0.12, 0.3)
"""The same of lenses with aberrations, in px or as a share of a spot's width, whichever is more: of a lattice, and of
the finest one, since beyond there are rays by the thousand."""

BEND = 0.1
"""Share of its blur radius by which a plane's may change from node to node."""

FEW_PX = 0.2
"""Pixels by which it may change in any case, of lenses with aberrations, which leave no point in focus: half-way a
spot's variance is too large by 0.0025 px squared."""

LARGEST_BY_RADIUS, WIDEST_BY_RADIUS = 12.0, 6.0
"""Blur radius, and its range over a cell, in px, up to which kernels by radius pay: more are more than the rays."""


def layer_lattices(prepared: FieldScene) -> list[Lattice]:
    """A lattice [rows, columns] for each layer."""
    around = {size * FINEST: _motion_around(prepared, size * FINEST) for size in SIZES}
    return [_lattice(prepared, each, around) for each in prepared.layers]


def _motion_around(prepared: FieldScene, step: int) -> list[MotionAround]:
    """The motion at the middle and the corners of cells `step` px wide; nothing where it is the same everywhere."""
    if not isinstance(prepared.tables, FieldLensTables):
        return []
    (rows, columns), result = prepared.cells(step), []
    table = prepared.tables.field_table(prepared.scene.width, prepared.scene.height)
    for dy, dx in ((0.5, 0.5), (0, 0), (0, 1), (1, 0), (1, 1)):
        x, y = (np.arange(columns) + dx) * step, (np.arange(rows) + dy) * step
        result.append((x, y, prepared.motion.at(nodes_at(table, x, y))))
    return result


def _changes(
    prepared: FieldScene, each: prepared_layers.PreparedLayer, step: int, around: list[MotionAround]
) -> Float64Array:
    """How much the kernels of a layer differ at nodes `step` px apart, [cells], of what serves: 1 and less do."""
    scene, (rows, columns) = prepared.scene, prepared.cells(step)
    if not isinstance(prepared.tables, FieldLensTables):  # rims move alike all over the picture
        moves = step * prepared.motion.pixels(max(abs(r) for r in each.radii))
        slow = step * prepared.motion.rims <= MOVED_SHARE
        serve = bool((slow & (moves <= (MOVES if step > FINEST else np.inf))).all())
        return np.full((rows, columns), 0.0 if serve else np.inf)
    most = np.zeros((rows, columns))
    for x, y, here in around:
        plane = each.plane.at(x[None, :] - (scene.width - 1) / 2, y[:, None] - (scene.height - 1) / 2)
        radius = np.broadcast_to(scene.lens.blur * (plane - scene.lens.focus), most.shape)
        if scene.lens.aperture.has_aberration:
            pixels, share = ASTRAY_MOVES[step == FINEST], ASTRAY_SHARE[step == FINEST]
            serves = np.maximum(pixels, share * here.width(radius))
        else:
            serves = np.full(most.shape, MOVES if step > FINEST else np.inf)
            radius = np.full(most.shape, max(abs(r) for r in each.radii))
        most = np.maximum(most, step * np.maximum(here.rims, here.fading) / MOVED_SHARE)
        most = np.maximum(most, step * here.pixels(radius) / serves)
    return most


def _lattice(
    prepared: FieldScene, each: prepared_layers.PreparedLayer, around: dict[int, list[MotionAround]]
) -> Lattice:  # fmt: skip
    """How a layer's means are made: between nodes as far apart as serve, [rows, columns] of the finest cells."""
    shape = tuple(COARSEST // FINEST * side for side in prepared.cells(COARSEST))
    ways, sizes, steps = np.full(shape, BY_NODES), np.ones(shape, np.int64), np.zeros(shape, np.int64)
    finest, changes = _ways(prepared, each, FINEST, around[FINEST])
    here = slice(finest.shape[0]), slice(finest.shape[1])
    columns = np.ceil(np.clip(np.nan_to_num(changes, nan=1.0), 1, MOST))
    ways[here], steps[here] = finest, np.where(finest == BY_COLUMNS, columns, 0)
    for size in SIZES[1:]:
        by_nodes = _ways(prepared, each, size * FINEST, around[size * FINEST])[0] == BY_NODES
        serve = np.repeat(np.repeat(by_nodes, size, axis=0), size, axis=1)
        served = np.zeros(shape, np.bool_)
        served[: serve.shape[0], : serve.shape[1]] = serve
        ways[served], sizes[served], steps[served] = BY_NODES, size, 0
    return Lattice(ways, sizes, steps)


def _linear_over_tiles(prepared: FieldScene) -> bool:
    """Whether a lens has a table whose nodes lie so far apart that plain rays would not go through tiles in parts."""
    scene, tables = prepared.scene, prepared.tables
    return isinstance(tables, FieldLensTables) and PART * tables.field_table(scene.width, scene.height).step >= TILE_W


def _ways(
    prepared: FieldScene, each: prepared_layers.PreparedLayer, step: int, around: list[MotionAround]
) -> tuple[IntArray, Float64Array]:  # fmt: skip
    """How a layer's means are made in cells `step` px wide, and how much kernels change there (`_changes`).

    BY_NODES, BY_RADIUS or, where neither does, BY_COLUMNS of lenses that have a table and BY_RAYS of others, and in
    pictures so small that the field is not linear over a tile, as what rays of a tile share takes it to be.
    """
    changes = _changes(prepared, each, step, around)
    otherwise = BY_COLUMNS if _linear_over_tiles(prepared) else BY_RAYS
    if each.plane.slope == 0:
        return np.where(changes <= 1, BY_NODES, otherwise), changes
    radii = node_radii(prepared, each, step, prepared.cells(step))
    corners = np.stack([radii[:-1, :-1], radii[:-1, 1:], radii[1:, :-1], radii[1:, 1:]])
    low, high = corners.min(axis=0), corners.max(axis=0)
    least = np.where(low * high > 0, np.abs(corners).min(axis=0), 0.0)
    change = prepared.scene.lens.blur * step * max(abs(each.plane.gx), abs(each.plane.gy))
    if prepared.scene.lens.aperture.has_aberration:  # by radius are the kernels of a cell's middle; nothing is in focus
        changes = np.maximum(changes, change / np.maximum(BEND * least, FEW_PX))
        return np.where(changes <= 1, BY_NODES, otherwise), changes
    near = (changes <= 1) & (np.abs(corners).max(axis=0) <= LARGEST_BY_RADIUS) & (high - low <= WIDEST_BY_RADIUS)
    with np.errstate(divide="ignore"):
        changes = np.maximum(changes, change / (BEND * least))
    return np.where(changes <= 1, BY_NODES, np.where(near, BY_RADIUS, otherwise)), changes
