"""Kernels of all layers at nodes of a lattice, made as strips of cells go by (`node_kernels`, `cell_filter`).

A layer has nodes of its own: far apart where its kernels change little.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bokehsynth.rendering.aperture import pupil as pupils
from bokehsynth.rendering.aperture.field_grid import SIDE
from bokehsynth.rendering.aperture.field_moments import FieldMoments
from bokehsynth.rendering.aperture.field_motion import FieldMotion
from bokehsynth.rendering.aperture.field_table import FieldTable, no_field_table
from bokehsynth.rendering.aperture.footprint_kernel import radius_nodes
from bokehsynth.rendering.aperture.scanlines import scan
from bokehsynth.rendering.aperture.tables import FieldLensTables, LensTables, RaySet
from bokehsynth.rendering.cpu import node_kernels, prepared_layers
from bokehsynth.rendering.cpu.cell_filter import CellStrip
from bokehsynth.rendering.cpu.column_kernels import Columns, columns_of
from bokehsynth.rendering.cpu.kernel_arguments import Kernels
from bokehsynth.rendering.cpu.moment_splats import LARGEST_BY_BLOCKS, splat_moment_nodes
from bokehsynth.rendering.cpu.prepared_layers import concatenate_kernels
from bokehsynth.rendering.cpu.radius_kernels import RadiusCells, pupil_radii, splat_radii
from bokehsynth.rendering.tile_constants import FINEST, RUNS_FROM
from bokehsynth.rendering.types import Float64Array, IntArray, RenderInput

BoolArray = npt.NDArray[np.bool_]

LEANING = 0.05
"""K abs(g) up to which tilted layers take kernels of covered areas."""

COARSEST = 4 * FINEST
"""Pixels between nodes at most."""

BY_NODES, BY_RADIUS, BY_COLUMNS, BY_RAYS = range(4)
"""How a cell's means of a layer are made: between nodes, by kernels at radii, at columns of a few rows, or by rays
alone."""


@dataclass(frozen=True, eq=False)
class FieldScene:
    """A scene, its lens's tables, and its layers prepared."""

    scene: RenderInput
    tables: LensTables
    layers: Sequence[prepared_layers.PreparedLayer]
    rays: RaySet
    motion: FieldMotion

    def cells(self, step: int) -> tuple[int, int]:
        """Rows and columns of cells `step` px wide."""
        return -(-self.scene.height // step), -(-self.scene.width // step)


class Lattice(NamedTuple):
    """How the means of layers are made, by the finest cells, whole COARSEST ones of them."""

    ways: IntArray  # [L, rows, columns]: BY_NODES .. BY_RAYS, -1 where nothing is filtered
    sizes: IntArray  # [L, rows, columns]: of the cell that one of the finest belongs to, in these
    steps: IntArray  # [L, rows, columns]: between the columns of cells that are made BY_COLUMNS, 0 of others

    @property
    def strip(self) -> int:
        """Rows of a strip: as many as the largest cell has."""
        return int(self.sizes.max())

    def nodes(self) -> BoolArray:
        """Nodes beside a cell that they serve, [L, rows + 1, columns + 1]."""
        count, rows, columns = self.ways.shape
        needed = np.zeros((count, rows + 1, columns + 1), np.bool_)
        for size in (1, 2, 4):
            served = (self.ways == BY_NODES) & (self.sizes == size)
            cells = served.reshape(count, rows // size, size, columns // size, size).any(axis=(2, 4))
            for dy, dx in itertools.product((0, size), (0, size)):
                needed[:, dy : dy + rows : size, dx : dx + columns : size] |= cells
        return needed


def node_radii(
    prepared: FieldScene, each: prepared_layers.PreparedLayer, step: int, cells: tuple[int, int]
) -> Float64Array:
    """Signed blur radius of a layer at every node of a lattice of so many cells, [rows + 1, columns + 1]."""
    scene, (rows, columns) = prepared.scene, cells
    x = np.arange(columns + 1) * step - (scene.width - 1) / 2
    y = np.arange(rows + 1) * step - (scene.height - 1) / 2
    radii: Float64Array = scene.lens.blur * (each.plane.at(x[None, :], y[:, None]) - scene.lens.focus)
    return np.broadcast_to(radii, (rows + 1, columns + 1))


class NodeRows:
    """Kernels of all layers at the nodes of a strip, made as strips go by."""

    def __init__(self, prepared: FieldScene, lattice: Lattice) -> None:
        self.prepared, self.lattice = prepared, lattice
        scene, tables = prepared.scene, prepared.tables
        (count, rows, columns), channels = lattice.ways.shape, tables.channels
        self._camera = prepared_layers.camera_of(scene)
        self.table: FieldTable | None = None
        self._moments: FieldMoments | None = None
        if isinstance(tables, FieldLensTables):
            self.table = tables.field_table(scene.width, scene.height)
            self._moments = tables.moments(scene.width, scene.height)
        self._radii = np.stack([node_radii(prepared, each, FINEST, (rows, columns)) for each in prepared.layers])
        halves = [self._half(each, radii) for each, radii in zip(prepared.layers, self._radii, strict=True)]
        self._halves, self._needed = np.stack(halves), lattice.nodes()
        sides = 2 * self._halves.max(axis=(1, 2)) + 1
        self._sizes = channels * sides * sides
        most = self._needed.sum(axis=2)
        high = lattice.strip
        largest = max(int((self._sizes @ most[:, y : y + high + 1]).sum()) for y in range(0, rows, high))
        self._memories = [np.empty(largest, np.float32) for _ in range(2)]
        shape = count, high + 1, columns + 1
        covers = np.array([self._covers(m) for m in range(count)], np.int64)
        references = np.array(
            [each.reference * float(each.plane.slope > 0 and covers[m]) for m, each in enumerate(prepared.layers)],
            np.float64,
        )
        self.strip = CellStrip(
            0, high, self._memories[0], np.zeros(shape, np.int64), sides, self._halves[:, : high + 1],
            np.zeros((*shape, channels)), covers, references,
            lattice.sizes[:, :high], _no_kernels(channels), np.zeros((count, high, columns, 2), np.int64),
            self._columns(),
        )  # fmt: skip
        self._last = -2
        self._x = np.arange(columns + 1, dtype=np.float64) * FINEST
        self._lines = {
            m: scan(tables.coarse_outline, self._radii[m][0, 0], 0.0, 0.0, tables.detail if tables.detail > 1 else 0)
            for m in range(count)
            if self.strip.runs[m]
        }
        if self.table is not None:
            self._memory = np.empty((columns + 1, channels, 4, SIDE**2), np.float32), np.empty((columns + 1, 2))

    def _columns(self) -> Columns:
        """Room for kernels at columns; none where no cell has any."""
        table, side = self.table or no_field_table(self.prepared.tables.channels), 1
        if (self.lattice.ways == BY_COLUMNS).any():
            side = 2 * int(self._halves.max()) + 1
        steps = self.lattice.steps[:, : self.lattice.strip]
        return columns_of(steps, table, self._moments, self.prepared.motion, side)

    def _half(self, each: prepared_layers.PreparedLayer, radii: Float64Array) -> IntArray:
        """Texels on each side of the middle that kernels at the nodes may touch, within the canvas's margin."""
        camera = self._camera
        e = camera.extent * camera.blur * each.plane.slope
        reach = (camera.extent * np.abs(radii) + e * camera.astray) / (1 - e) + camera.astray
        return np.minimum(np.ceil(reach).astype(np.int64) + 1, max(self.prepared.scene.margin - 1, 1))

    def _covers(self, m: int) -> bool:
        """Whether layer m has kernels of covered areas: the opening passes the same light, and the plane leans little.

        Norms of kernels are bilinear between nodes, which is off by up to 5e-4 of the light for LEANING.
        """
        each = self.prepared.layers[m]
        if not each.uniform or not self._needed[m].any():
            return False
        if each.plane.slope == 0:
            return abs(each.radii[0]) >= RUNS_FROM
        radii, served = self._radii[m][self._needed[m]], self.lattice.ways[m] != BY_RADIUS
        least = abs(radii).min() if radii.min() * radii.max() > 0 else 0.0
        lean = self.prepared.scene.lens.blur * each.plane.slope
        return bool(lean <= LEANING and each.needs_sums and least >= max(each.runs_from) and served.all())

    def around(self, number: int) -> CellStrip:
        """The kernels of a strip."""
        first, high = number * self.strip.rows, self.strip.rows
        rows = slice(first, first + high + 1)
        before, starts = self.strip.starts[:, high].copy(), self.strip.starts
        needed = self._needed[:, rows]
        sizes = np.broadcast_to(self._sizes[:, None, None], needed.shape)
        ends = np.cumsum(np.where(needed, sizes, 0).ravel()).reshape(needed.shape)
        starts[:] = np.where(needed, ends - sizes, 0)
        self._memories.reverse()
        above, below = self._memories[1], self._memories[0]
        self.strip = self.strip._replace(kernels=below)
        again = self._last == number - 1
        if again:
            self.strip.norms[:, 0] = self.strip.norms[:, high]
            for m in range(len(starts)):
                if needed[m, 0].any():
                    k = int(np.argmax(needed[m, 0]))
                    here, there, size = int(starts[m, 0, k]), int(before[m, k]), self._row_size(m, needed[m, 0])
                    below[here : here + size] = above[there : there + size]
        for place in range(int(again), high + 1):
            self._fill(first + place, place)
        self._last = number
        return self.strip._replace(
            number=number, halves=self._halves[:, rows], sizes=self.lattice.sizes[:, first : first + high],
            table=self._by_radius(first),
            columns=self.strip.columns._replace(steps=self.lattice.steps[:, first : first + high]),
        )  # fmt: skip

    def _row_size(self, m: int, needed: BoolArray) -> int:
        return int(self._sizes[m]) * int(needed.sum())

    def _by_radius(self, first: int) -> Kernels:
        """Kernels by radius of the cells of a strip that need them; notes where they lie."""
        prepared, spans = self.prepared, self.strip.spans
        spans[:] = 0
        cells = np.argwhere(self.lattice.ways[:, first : first + self.strip.rows] == BY_RADIUS)
        if len(cells) == 0:
            return _no_kernels(prepared.tables.channels)
        m, y, x = cells.T
        scene, tables = prepared.scene, prepared.tables
        planes = prepared_layers.plane_rows(prepared.layers)
        corners = np.stack([self._radii[m, first + y + j, x + i] for j, i in itertools.product((0, 1), (0, 1))])
        low, high, tilts = corners.min(axis=0), corners.max(axis=0), scene.lens.blur * planes[m, 1:]
        at_y = np.minimum((first + y + 0.5) * FINEST, scene.height - 1)
        at_x = np.minimum((x + 0.5) * FINEST, scene.width - 1)
        stride = scene.layers[0].shape[1]
        if self.table is None:
            around = RadiusCells(pupils.pupils_at(scene, at_x, at_y), low, high, tilts)
            opening = tables.opening._replace(outline=tables.coarse_outline)
            offsets, weights, firsts, nodes, counts = pupil_radii(opening, around, stride)
            none = np.zeros((2, 0), np.int64), np.zeros(len(nodes) + 1, np.int64)
            found = Kernels(offsets, weights, firsts, *none, nodes)
        else:
            radii = [radius_nodes(*each) for each in zip(low, high, strict=True)]
            cases = zip(radii, at_y, at_x, tilts, strict=True)
            parts = [
                (r, splat_radii(self.table, (float(v), float(u)), r, (float(e[0]), float(e[1])), stride))
                for r, v, u, e in cases
            ]
            found, counts = concatenate_kernels(parts), np.array([len(r) for r in radii])
        ends = np.cumsum(counts)
        spans[m, y, x, 0], spans[m, y, x, 1] = ends - counts, ends
        return found

    def _kernels(self, m: int, place: int, needed: BoolArray) -> Any:
        """Kernels of layer m at the needed nodes of a row of the strip, [needed, C, side, side]."""
        strip, size = self.strip, self._row_size(m, needed)
        start, side = int(strip.starts[m, place, int(np.argmax(needed))]), int(strip.sides[m])
        return strip.kernels[start : start + size].reshape(-1, strip.norms.shape[3], side, side)

    def _by_blocks(self, m: int, node_row: int) -> bool:
        """Whether kernels of layer m at a row of nodes are made of blocks of the table's cells."""
        if self._moments is None or not self._needed[m, node_row].any():
            return False
        largest = np.abs(self._radii[m, node_row][self._needed[m, node_row]]).max()
        return bool(largest * self.prepared.scene.lens.aperture.extent <= LARGEST_BY_BLOCKS)

    def _fill(self, node_row: int, place: int) -> None:
        """Make the kernels of a row of nodes."""
        nodes = self._needed[:, node_row]
        if not nodes.any():
            return
        prepared = self.prepared
        scene, camera = prepared.scene, self._camera
        y, area = float(node_row * FINEST), (scene.height, scene.width)
        rims = grids = None
        if self.table is None:
            rims = pupils.pupils_at(scene, self._x, np.full_like(self._x, y))
        blocks = np.array([self._by_blocks(m, node_row) for m in range(len(nodes))])
        if self.table is not None and nodes[~blocks].any():
            grids = node_kernels.NodeGrids(*self._memory, self.table.half)
            node_kernels.grids_of_row(self.table, y, self._x, nodes[~blocks].any(axis=0), grids)
        for m, each in enumerate(prepared.layers):
            if (each.radii == (0.0, 0.0) and camera.astray == 0) or not nodes[m].any():
                continue
            out, norms = self._kernels(m, place, nodes[m]), self.strip.norms[m, place]
            plane = np.array([each.plane.d, each.plane.gx, each.plane.gy])
            row = node_kernels.NodeRow(self._x, y, plane, int(self.strip.sides[m]) // 2, nodes[m])
            if self.strip.runs[m]:
                shape = prepared.tables.opening._replace(outline=prepared.tables.coarse_outline)
                node_kernels.cover_pupil_nodes(shape, self._lines[m], rims, row, camera, area, out, norms)
                continue
            if self.table is None:
                shape = prepared.tables.opening._replace(outline=prepared.tables.coarse_outline)
                node_kernels.weigh_pupil_nodes(shape, rims, row, camera, area, out, norms)
                continue
            if blocks[m]:
                splat_moment_nodes(self.table, self._moments, row, camera, area, out, norms)
                continue
            node_kernels.splat_table_nodes(grids, row, camera, area, out, norms)


def _no_kernels(channels: int) -> Kernels:
    none, first = np.zeros((2, 0), np.int64), np.zeros(1, np.int64)
    return Kernels(none[0], np.zeros((2 * channels, 0), np.float32), first, none, first, np.zeros(0))
