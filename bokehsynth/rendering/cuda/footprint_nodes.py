"""The footprint kernels of a batch: which radii its layers need, and one table that says where each is made."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.optics import Plane
from bokehsynth.rendering.aperture import pupil as pupils
from bokehsynth.rendering.aperture.footprint_kernel import radius_nodes
from bokehsynth.rendering.aperture.tables import LensTables, tables_of
from bokehsynth.rendering.cuda.chords import CHORDS_FROM, chords_of
from bokehsynth.rendering.cuda.device import DeviceArray
from bokehsynth.rendering.cuda.layer_cache import LayerCache, fold_sides
from bokehsynth.rendering.cuda.structs import NODE
from bokehsynth.rendering.types import Float64Array, RenderInput

LARGEST_HALF = 767
"""Texels from the pixel that a kernel may reach: two million weights, as many as were tried."""

NodeTable = np.ndarray[tuple[int], np.dtype[Any]]
"""Rows of `structs.NODE`."""


class FootprintNodes:
    """Collects the radii of layer after layer; then makes one table of all, a column at a time."""

    def __init__(self, cache: LayerCache) -> None:
        self.cache = cache
        self.kept: list[Any] = []
        """Arrays on the device that the table points to."""
        self._radii: list[Float64Array] = []
        self._tilts: list[tuple[float, float, float]] = []
        self._tables: list[LensTables] = []
        self._count = 0

    def of_scene(self, scene: RenderInput) -> Callable[[Plane], tuple[int, int]]:
        """A function that adds nodes for a plane, close enough to interpolate between: number of the first, how many.

        None where nothing is blurred, or only rays are used.
        """
        K, focus, width, height = scene.lens.blur, scene.lens.focus, scene.width, scene.height
        if K == 0 or pupils.has_pupil(scene.lens.aperture):
            return lambda plane: (self._count, 0)
        tables = tables_of(scene.lens.aperture)

        def add(plane: Plane) -> tuple[int, int]:
            low, high = (K * (d - focus) for d in plane.extremes(width, height))
            if low == high == 0:
                return self._count, 0
            radii = np.array([low]) if plane.slope == 0 else radius_nodes(low, high)
            self._radii.append(radii)
            self._tilts.append((K * plane.gx, K * plane.gy, K * plane.slope))
            self._tables.append(tables)
            self._count += len(radii)
            return self._count - len(radii), len(radii)

        return add

    def table(self) -> NodeTable:
        """Every node with what it is made from, its weights placed end to end in memory; zeros, to be summed to."""
        nodes: NodeTable = np.zeros(self._count, NODE)
        if not self._count:
            return nodes
        counts = [len(radii) for radii in self._radii]
        ex, ey, e = np.repeat(np.array(self._tilts), counts, axis=0).T
        nodes["r"], nodes["ex"], nodes["ey"] = np.concatenate(self._radii), ex, ey
        reach = np.abs(nodes["r"]) / (1 - e)
        half = np.ceil(reach) + 2
        if half.max() > LARGEST_HALF:
            raise UsageError(
                f"a blur radius of {np.abs(nodes['r'][half.argmax()]):.0f} px is too large for cuda, about 700 at "
                "most; use cpu"
            )
        nodes["half"] = half
        distinct = list(dict.fromkeys(self._tables))
        which = np.repeat([distinct.index(tables) for tables in self._tables], counts)
        for number, tables in enumerate(distinct):
            self._fill(nodes, which == number, reach, tables)
        self._place(nodes)
        return nodes

    def _fill(self, nodes: NodeTable, these: "np.ndarray[Any, Any]", reach: Float64Array, tables: LensTables) -> None:
        """What the nodes of one aperture are made from: lens points, or chords for large ones."""
        nodes["sets"][these] = len(tables.transmission)
        sides, large = fold_sides(reach, tables), these & (np.abs(nodes["r"]) >= CHORDS_FROM)
        folded = these & ~large
        for side in set(sides[folded].tolist()):
            grid, places = self._keep(self.cache.lens_points(tables, side)), folded & (sides == side)
            nodes["points"][places], nodes["weights"][places] = self._at(grid.points), self._at(grid.weights)
            nodes["count"][places] = grid.count
        if large.any():
            nodes["transmission"][large] = self._at(self._keep(self.cache.transmission(tables)))
            nodes["table_side"][large] = tables.transmission.shape[1]
        for k in np.flatnonzero(large):
            r, ex, ey = (float(nodes[name][k]) for name in ("r", "ex", "ey"))
            made = chords_of(tables, r, ex, ey, int(nodes["half"][k]))
            nodes["chords"][k], nodes["rows"][k] = (self._at(self._put(array)) for array in made)

    def _place(self, nodes: NodeTable) -> None:
        """Weights and spans of all kernels end to end in memory."""
        sides = 2 * nodes["half"].astype(np.int64) + 1
        texels = nodes["sets"] * sides * sides
        ends, columns = np.cumsum(texels), np.cumsum(sides)
        sums = self._keep(self.cache.device.zeros((int(ends[-1]),), np.uint32))
        spans = self._keep(self.cache.device.empty((int(columns[-1]), 2), np.int32))
        nodes["sums"] = self._at(sums) + 4 * (ends - texels)
        nodes["spans"] = self._at(spans) + 8 * (columns - sides)

    def _put(self, array: "np.ndarray[Any, Any]") -> DeviceArray:
        return self._keep(self.cache.device.put(array))

    def _keep(self, thing: Any) -> Any:
        self.kept.append(thing)
        return thing

    def _at(self, array: DeviceArray) -> int:
        return self.cache.device.address(array)
