"""Kernels of all layers at rows of nodes, made as rows of cells go by (`node_kernels`, `cell_filter`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bokehsynth.rendering.aperture import pupil as pupils
from bokehsynth.rendering.aperture.field_grid import SIDE
from bokehsynth.rendering.aperture.field_motion import FieldMotion
from bokehsynth.rendering.aperture.field_table import FieldTable
from bokehsynth.rendering.aperture.footprint_kernel import FootprintKernels, footprint_kernels, radius_nodes
from bokehsynth.rendering.aperture.scanlines import scan
from bokehsynth.rendering.aperture.tables import FieldLensTables, LensTables, RaySet
from bokehsynth.rendering.cpu import node_kernels, prepared_layers
from bokehsynth.rendering.cpu.cell_filter import CellRow
from bokehsynth.rendering.cpu.kernel_arguments import Kernels
from bokehsynth.rendering.cpu.prepared_layers import concatenate_kernels
from bokehsynth.rendering.tile_constants import RUNS_FROM
from bokehsynth.rendering.types import Float64Array, IntArray, RenderInput

BY_NODES, BY_RADIUS, BY_RAYS = range(3)
"""How a cell's means of a layer are made: between nodes, by kernels at radii, or by rays alone."""


@dataclass(frozen=True, eq=False)
class FieldScene:
    """A scene, its lens's tables, and its layers prepared."""

    scene: RenderInput
    tables: LensTables
    layers: Sequence[prepared_layers.PreparedLayer]
    rays: RaySet
    motion: FieldMotion
    step: int
    """Pixels between nodes."""

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return -(-self.scene.height // self.step), -(-self.scene.width // self.step)


def node_radii(prepared: FieldScene, each: prepared_layers.PreparedLayer) -> Float64Array:
    """Signed blur radius of a layer at every node, [rows + 1, columns + 1]."""
    scene, (rows, columns) = prepared.scene, prepared.cells
    x = np.arange(columns + 1) * prepared.step - (scene.width - 1) / 2
    y = np.arange(rows + 1) * prepared.step - (scene.height - 1) / 2
    radii: Float64Array = scene.lens.blur * (each.plane.at(x[None, :], y[:, None]) - scene.lens.focus)
    return np.broadcast_to(radii, (rows + 1, columns + 1))


class NodeRows:
    """Kernels of all layers at two neighbouring rows of nodes, made as rows of cells go by."""

    def __init__(self, prepared: FieldScene, wanted: IntArray) -> None:
        self.prepared, self.wanted = prepared, wanted
        scene, tables = prepared.scene, prepared.tables
        _, columns = prepared.cells
        count, channels = len(prepared.layers), tables.channels
        self._radii = [node_radii(prepared, each) for each in prepared.layers]
        self._halves = [self._half(each, radii) for each, radii in zip(prepared.layers, self._radii, strict=True)]
        sides = np.array([2 * int(half.max()) + 1 for half in self._halves], np.int64)
        sizes = 2 * (columns + 1) * channels * sides * sides
        ends = np.cumsum(sizes)
        self.row = CellRow(
            0, prepared.step, np.zeros(int(ends[-1]), np.float32), ends - sizes, sides,
            np.zeros((count, 2, columns + 1, channels)), np.array([self._covers(m) for m in range(count)], np.int64),
            np.zeros((count, columns), np.int64), _no_kernels(channels), np.zeros((count, columns, 2), np.int64),
        )  # fmt: skip
        self._last = -2
        self._x = np.arange(columns + 1, dtype=np.float64) * prepared.step
        self._lines = {
            m: scan(tables.coarse_outline, self._radii[m][0, 0], 0.0, 0.0, tables.detail if tables.detail > 1 else 0)
            for m in range(count)
            if self.row.runs[m]
        }
        self.table: FieldTable | None = None
        if isinstance(tables, FieldLensTables):
            self.table = tables.field_table(scene.width, scene.height)
            self._memory = np.empty((columns + 1, channels, 4, SIDE**2), np.float32), np.empty((columns + 1, 2))

    def _half(self, each: prepared_layers.PreparedLayer, radii: Float64Array) -> IntArray:
        """Texels on each side of the middle that kernels at the nodes may touch, within the canvas's margin."""
        camera = prepared_layers.camera_of(self.prepared.scene)
        e = camera.extent * camera.blur * each.plane.slope
        reach = (camera.extent * np.abs(radii) + e * camera.astray) / (1 - e) + camera.astray
        return np.minimum(np.ceil(reach).astype(np.int64) + 1, max(self.prepared.scene.margin - 1, 1))

    def _covers(self, m: int) -> bool:
        """Whether layer m has kernels of covered areas: it is frontal, and the opening passes the same light."""
        each = self.prepared.layers[m]
        return each.uniform and each.plane.slope == 0 and abs(each.radii[0]) >= RUNS_FROM

    def around(self, cell_row: int) -> CellRow:
        """The kernels above and below a row of cells."""
        if self._last == cell_row - 1:
            for m in range(len(self._halves)):
                both = self._kernels(m)
                both[0] = both[1]
            self.row.norms[:, 0] = self.row.norms[:, 1]
            self._fill(cell_row + 1, 1)
        else:
            self._fill(cell_row, 0)
            self._fill(cell_row + 1, 1)
        self._last = cell_row
        for m, half in enumerate(self._halves):
            rows = half[cell_row : cell_row + 2]
            self.row.halves[m] = np.maximum(rows[:, :-1], rows[:, 1:]).max(axis=0)
        return self.row._replace(number=cell_row, table=self._by_radius(cell_row))

    def _by_radius(self, cell_row: int) -> Kernels:
        """Kernels by radius of the cells of a row that need them; notes where they lie."""
        prepared, spans = self.prepared, self.row.spans
        spans[:] = 0
        parts: list[tuple[Float64Array, FootprintKernels]] = []
        at = 0
        for m, x in np.argwhere(self.wanted[:, cell_row] == BY_RADIUS):
            plane, radii = prepared.layers[m].plane, self._radii[m]
            around = radii[cell_row : cell_row + 2, x : x + 2]
            nodes = radius_nodes(around.min(), around.max())
            tilt = prepared.scene.lens.blur * plane.gx, prepared.scene.lens.blur * plane.gy
            parts.append((nodes, self._kernels_at((cell_row + 0.5, x + 0.5), nodes, tilt)))
            spans[m, x] = at, at + len(nodes)
            at += len(nodes)
        return concatenate_kernels(parts) if parts else _no_kernels(prepared.tables.channels)

    def _kernels_at(
        self, place: tuple[float, float], nodes: Float64Array, tilt: tuple[float, float]
    ) -> FootprintKernels:
        """Kernels at blur radii, at a place in cells."""
        scene, tables = self.prepared.scene, self.prepared.tables
        y, x = min(place[0] * self.prepared.step, scene.height - 1), min(place[1] * self.prepared.step, scene.width - 1)
        stride = scene.layers[0].shape[1]
        if self.table is not None:
            return node_kernels.splat_radii(self.table, (y, x), nodes, tilt, stride)
        rims = pupils.pupils_at(scene, np.array([x]), np.array([y]))
        opening = tables.opening._replace(outline=tables.coarse_outline)
        return footprint_kernels(opening, rims, nodes, *tilt, False, stride)

    def _kernels(self, m: int) -> Any:
        """Kernels of layer m, [2, n, C, side, side]."""
        row = self.row
        side, shape = int(row.sides[m]), row.norms.shape
        size = 2 * shape[2] * shape[3] * side * side
        start = int(row.starts[m])
        return row.kernels[start : start + size].reshape(2, shape[2], shape[3], side, side)

    def _fill(self, node_row: int, place: int) -> None:
        """Make the kernels of a row of nodes."""
        prepared = self.prepared
        scene, camera = prepared.scene, prepared_layers.camera_of(prepared.scene)
        y, area = float(node_row * prepared.step), (scene.height, scene.width)
        nodes = np.array([self._nodes(m, node_row) for m in range(len(prepared.layers))])
        rims = grids = None
        if self.table is None:
            rims = pupils.pupils_at(scene, self._x, np.full_like(self._x, y))
        else:
            grids = node_kernels.NodeGrids(*self._memory, self.table.half)
            node_kernels.grids_of_row(self.table, y, self._x, nodes.any(axis=0), grids)
        for m, each in enumerate(prepared.layers):
            if each.radii == (0.0, 0.0) and camera.astray == 0:
                continue
            out, norms = self._kernels(m)[place], self.row.norms[m, place]
            plane = np.array([each.plane.d, each.plane.gx, each.plane.gy])
            row = node_kernels.NodeRow(self._x, y, plane, int(self.row.sides[m]) // 2, nodes[m])
            if not row.wanted.any():
                continue
            if self.row.runs[m]:
                node_kernels.cover_pupil_nodes(self._lines[m], rims, self._radii[m][0, 0], row, out, norms)
                continue
            if self.table is None:
                shape = prepared.tables.opening._replace(outline=prepared.tables.coarse_outline)
                node_kernels.weigh_pupil_nodes(shape, rims, row, camera, area, out, norms)
                continue
            node_kernels.splat_table_nodes(grids, row, camera, area, out, norms)

    def _nodes(self, m: int, node_row: int) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        """Nodes of a row beside a cell that they serve."""
        cells = (self.wanted[m, max(node_row - 1, 0) : node_row + 1] == BY_NODES).any(axis=0)
        result: np.ndarray[Any, np.dtype[np.bool_]] = np.append(cells, False) | np.append(False, cells)
        return result


def _no_kernels(channels: int) -> Kernels:
    none, first = np.zeros((2, 0), np.int64), np.zeros(1, np.int64)
    return Kernels(none[0], np.zeros((2 * channels, 0), np.float32), first, none, first, np.zeros(0))
