"""The tables of a batch of scenes, and the launches over them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.optics import HeightField, Plane
from bokehsynth.rendering.aperture import pupil as pupils
from bokehsynth.rendering.aperture.footprint_kernel import radius_nodes
from bokehsynth.rendering.aperture.lens_points import refuse_unbaked
from bokehsynth.rendering.aperture.tables import LensTables, RaySet, tables_of
from bokehsynth.rendering.cuda.chords import CHORDS_FROM, chords_of
from bokehsynth.rendering.cuda.device import DeviceArray
from bokehsynth.rendering.cuda.layer_cache import LARGEST_SIDE, LayerCache, fold_sides
from bokehsynth.rendering.cuda.structs import LAYER, MAX_LAYERS, NODE, ROWS, SCENE, TILE, TILE_W, as_bytes, rows
from bokehsynth.rendering.types import RenderInput

LARGEST_HALF = 767
"""Texels from the pixel that a kernel may reach: one of its columns must fit into what `layer_filter.cuh` stages."""


@dataclass(frozen=True, eq=False)
class DeviceOutput:
    """An output on the device, arrays of CuPy; hand them on with `__dlpack__`, as in `torch.from_dlpack(x.color)`."""

    color: DeviceArray
    """float32 [H, W, 3], linear light."""
    coverage: DeviceArray
    """float32 [H, W]."""
    tiles: DeviceArray
    """Rows of `structs.TILE` as bytes: the plan of every tile."""


class Batch:
    """The tables of one batch, and everything that they point to.

    Raises UsageError for scenes that these kernels cannot render, and what the device raises when it is full.
    """

    def __init__(self, cache: LayerCache, scenes: Sequence[RenderInput], tables: Sequence[RaySet]) -> None:
        """`tables`: for each scene the sets of rays that its tiles may ask for."""
        self.device, self.cache = cache.device, cache
        for scene in scenes:
            _check(scene)
        cache.upload([layer for scene in scenes for layer in scene.layers])
        self.scenes = scenes
        self.outputs: list[DeviceOutput] = []
        """Filled by `render` or `trace_all`."""
        self._keep: list[Any] = []
        self._nodes: list[np.ndarray[Any, Any]] = []
        layer_tables = [self._layers(scene) for scene in scenes]
        self.footprints = self._place_nodes()
        """The table of `structs.NODE`: radius, tilt, and where the weights lie."""
        self._node_table = self._put(as_bytes(self.footprints if len(self.footprints) else np.zeros(1, NODE)))
        self._table = self._put(
            rows(SCENE, [self._entry(*each) for each in zip(scenes, layer_tables, tables, strict=True)])
        )

    def render(self) -> None:
        """Make the pictures; once, since kernels are summed up where they lie."""
        self.make_footprints()
        for kernel in ("plan_tiles", "composite_tiles", "trace_rays"):
            self._launch(kernel)

    def trace_all(self) -> None:
        """Make the pictures by every ray of the tables through every layer."""
        self._launch("trace_all")

    def make_footprints(self) -> None:
        """Make the texel weights of all nodes."""
        nodes = self.footprints
        large = nodes[nodes["chords"] != 0]
        if not len(nodes):
            return
        rays, half = (int(nodes[name].max()) for name in ("count", "half"))
        if rays:
            self.device.launch("fold_rays", (len(nodes), -(-rays // 256), 1), (256, 1, 1), self._node_table)
        if len(large):
            table, texels = self._put(as_bytes(large)), (2 * int(large["half"].max()) + 1) ** 2
            self.device.launch("integrate_chords", (len(large), -(-texels // 256), 1), (256, 1, 1), table)
            self.device.launch("normalise_chords", (len(large), 1, 1), (256, 1, 1), table)
        self.device.launch("measure_columns", (len(nodes), half // 32 + 1, 1), (64, 1, 1), self._node_table)

    def _launch(self, kernel: str) -> None:
        columns = max(-(-scene.width // TILE_W) for scene in self.scenes)
        lines = max(-(-scene.height // ROWS) for scene in self.scenes)
        block = (32, 1, 1) if kernel in {"plan_tiles", "composite_tiles"} else (TILE_W, ROWS, 1)
        self.device.launch(kernel, (columns, lines, len(self.scenes)), block, self._table)

    def _layers(self, scene: RenderInput) -> DeviceArray:
        entries = []
        rounded = any(isinstance(layer.disparity, HeightField) for layer in scene.layers)
        for layer in scene.layers:
            uploaded = self._keep_alive(self.cache.layer(layer))
            first, count = sum(len(nodes) for nodes in self._nodes), 0
            entry: dict[str, Any] = {"texels": self._at(uploaded.texels), "alphas": self._at(uploaded.alphas)}
            focus = np.float32(scene.lens.focus)
            if isinstance(layer.disparity, HeightField):
                low, high = (np.float32(value) - focus for value in layer.disparity.range)
                entry |= {"values": self._at(uploaded.values), "heights": self._at(uploaded.heights)}
                entry |= {"focus": focus, "low": low, "high": high}
            else:
                plane = layer.disparity
                # beside height fields planes are rounded like them: what is level, or in focus, in one is so in both
                d = float(np.float32(plane.d) - focus) if rounded else plane.d - scene.lens.focus
                entry |= {"d": d, "gx": plane.gx, "gy": plane.gy}
                count = self._add_nodes(scene, plane)
            entries.append(entry | {"first_node": first, "nodes": count})
        return self._put(rows(LAYER, entries))

    def _add_nodes(self, scene: RenderInput, plane: Plane) -> int:
        """Kernels at nodes of the radius, close enough to interpolate between; none where only rays are used."""
        K, tables = scene.lens.blur, tables_of(scene.lens.aperture)
        low, high = (K * (d - scene.lens.focus) for d in plane.extremes(scene.width, scene.height))
        if low == high == 0 or pupils.has_pupil(scene.lens.aperture):
            return 0
        e = K * plane.slope
        radii = np.array([low]) if plane.slope == 0 else radius_nodes(low, high)
        nodes = np.zeros(len(radii), NODE)
        nodes["r"], nodes["ex"], nodes["ey"] = radii, K * plane.gx, K * plane.gy
        nodes["half"] = np.ceil(np.abs(radii) / (1 - e)) + 2
        if nodes["half"].max() > LARGEST_HALF:
            raise UsageError(
                f"a blur radius of {np.abs(radii).max():.0f} px is too large for cuda, about 700 at most; use cpu"
            )
        nodes["sets"], sides = len(tables.transmission), fold_sides(np.abs(radii) / (1 - e), tables)
        large = np.abs(radii) >= CHORDS_FROM
        for side in np.unique(sides[~large]).tolist():
            grid, these = self._keep_alive(self.cache.lens_points(tables, side)), (sides == side) & ~large
            for name in ("points", "weights"):
                nodes[name][these] = self._at(getattr(grid, name))
            nodes["count"][these] = grid.count
        if large.any():
            nodes[large] = self._with_chords(nodes[large], tables)
        self._nodes.append(nodes)
        return len(nodes)

    def _with_chords(self, nodes: "np.ndarray[Any, Any]", tables: LensTables) -> "np.ndarray[Any, Any]":
        """Large footprints, whose weights are integrated rather than folded, with their chords."""
        nodes["transmission"] = self._at(self._keep_alive(self.cache.transmission(tables)))
        nodes["table_side"] = tables.transmission.shape[1]
        for node in nodes:
            made = chords_of(tables, float(node["r"]), float(node["ex"]), float(node["ey"]), int(node["half"]))
            node["chords"], node["rows"] = self._at(self._put(made.chords)), self._at(self._put(made.rows))
        return nodes

    def _place_nodes(self) -> "np.ndarray[Any, Any]":
        """Place all kernels end to end in memory."""
        nodes = np.concatenate([np.zeros(0, NODE), *self._nodes])
        sides = 2 * nodes["half"].astype(np.int64) + 1
        ends, columns = np.cumsum(nodes["sets"] * sides * sides), np.cumsum(sides)
        if len(nodes):
            sums = self._keep_alive(self.device.zeros((int(ends[-1]),), np.uint32))
            spans = self._keep_alive(self.device.empty((int(columns[-1]), 2), np.int32))
            nodes["sums"] = self._at(sums) + 4 * (ends - nodes["sets"] * sides * sides)
            nodes["spans"] = self._at(spans) + 8 * (columns - sides)
        return nodes

    def _entry(self, scene: RenderInput, layers: DeviceArray, table: RaySet) -> dict[str, Any]:
        device, size = self.device, (scene.height, scene.width)
        ray_sets = self._keep_alive(self.cache.ray_sets_by_size(table))
        tiles = device.empty((-(-scene.height // ROWS) * -(-scene.width // TILE_W), TILE.itemsize), np.uint8)
        made = DeviceOutput(device.empty((*size, 3), np.float32), device.empty(size, np.float32), tiles)
        self.outputs.append(made)
        entry = {
            "layers": self._at(layers), "nodes": self._at(self._node_table), "points": self._at(ray_sets.rays.points),
            "weights": self._at(ray_sets.rays.weights), "spans": self._at(ray_sets.spans), "tiles": self._at(tiles),
            "base": self._at(self._keep_alive(device.empty((6, *size), np.float32))), "color": self._at(made.color),
            "coverage": self._at(made.coverage), "blur": scene.lens.blur, "height": scene.height, "width": scene.width,
            "canvas_height": scene.layers[0].shape[0], "canvas_width": scene.layers[0].shape[1],
            "margin": scene.margin, "layer_count": len(scene.layers), "rays": ray_sets.rays.count,
            "sides": ray_sets.sides, "sets": len(table.weights), "channels_passed": ray_sets.channels_passed,
        }  # fmt: skip
        pupil = pupils.pupil_of(scene) if scene.lens.blur > 0 else None
        if pupil is not None:
            centres = np.moveaxis(pupil.centres[0], 0, 2)
            entry |= {"pupils": self._at(self._put(centres)), "pupil_radius": float(pupil.radii[0])}
            if scene.lens.falloff:
                share = pupils.relative_light(scene)
                entry["transmission"] = self._at(self._put(share))
        return entry

    def _put(self, array: "np.ndarray[Any, Any]") -> DeviceArray:
        return self._keep_alive(self.device.put(array))

    def _keep_alive(self, thing: Any) -> Any:
        self._keep.append(thing)
        return thing

    def _at(self, array: DeviceArray) -> int:
        return self.device.address(array)


def _check(scene: RenderInput) -> None:
    refuse_unbaked(scene)
    if len(scene.layers) > MAX_LAYERS:
        raise UsageError(f"cuda renders at most {MAX_LAYERS} layers, got {len(scene.layers)}; use backend='cpu'")


def ray_set(scene: RenderInput, samples: int | None) -> RaySet:
    """The sets of rays that tiles may ask for: all sizes, or one of at least `samples`."""
    return tables_of(scene.lens.aperture).ray_set(samples, LARGEST_SIDE)
