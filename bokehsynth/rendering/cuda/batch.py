"""The tables of a batch of scenes, and the launches over them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.optics import HeightField, SameAperture
from bokehsynth.rendering.aperture import pupil as pupils
from bokehsynth.rendering.aperture.lens_points import refuse_unbaked
from bokehsynth.rendering.aperture.tables import RaySet, tables_of
from bokehsynth.rendering.cuda.device import DeviceArray
from bokehsynth.rendering.cuda.footprint_nodes import FootprintNodes
from bokehsynth.rendering.cuda.layer_cache import LARGEST_SIDE, LayerCache
from bokehsynth.rendering.cuda.structs import (
    LAYER,
    LINES,
    LINES_RGB,
    MAX_LAYERS,
    MOST_PLANES,
    NODE,
    ROWS,
    SCENE,
    TILE,
    TILE_W,
    WARPS,
    as_bytes,
    rows,
)
from bokehsynth.rendering.types import RenderInput


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
        _check(scenes)
        cache.upload([layer for scene in scenes for layer in scene.layers])
        self.scenes = scenes
        columns = max(-(-scene.width // TILE_W) for scene in scenes)
        self._tiles = columns, max(-(-scene.height // ROWS) for scene in scenes)
        self._sets = [len(table.weights) for table in tables]
        self.outputs: list[DeviceOutput] = []
        """Filled by `render` or `trace_all`."""
        self._keep: list[Any] = []
        nodes = self._keep_alive(FootprintNodes(cache))
        layers = self._put(rows(LAYER, [entry for scene in scenes for entry in self._layer_entries(scene, nodes)]))
        self.footprints = nodes.table()
        """The table of `structs.NODE`: radius, tilt, and where the weights lie."""
        self._node_table = self._put(as_bytes(self.footprints if len(self.footprints) else np.zeros(1, NODE)))
        pixels = [scene.height * scene.width for scene in scenes]
        base = self._at(self._keep_alive(self.device.empty((6 * sum(pixels),), np.float32)))
        first, entries = 0, []
        for k, (scene, table) in enumerate(zip(scenes, tables, strict=True)):
            placed = {"layers": self._at(layers) + LAYER.itemsize * first, "base": base + 24 * sum(pixels[:k])}
            entries.append(placed | self._entry(scene, table))
            first += len(scene.layers)
        self._table = self._put(rows(SCENE, entries))

    def render(self) -> None:
        """Make the pictures; once, since kernels are summed up where they lie."""
        self.make_footprints()
        self._launch("plan_tiles", 1)
        self._launch("composite_tiles", WARPS)
        self._launch("trace_rays", ROWS)
        for sets, suffix, lines in ((1, "", LINES), (3, "_rgb", LINES_RGB)):
            for layers in range(2, self._most_planes(sets) + 1):
                self._launch(f"add_control_variate_{layers}{suffix}", ROWS // lines)

    def trace_all(self) -> None:
        """Make the pictures by every ray of the tables through every layer."""
        self._launch("trace_all", ROWS)

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

    def _most_planes(self, sets: int) -> int:
        """Most layers that a tile of `add_control_variate_N` may have, of scenes with so many sets of weights."""
        blurred = zip(self.scenes, self._sets, strict=True)
        found = [len(scene.layers) for scene, count in blurred if count == sets and scene.lens.blur > 0]
        return min(max(found, default=0), MOST_PLANES)

    def _launch(self, kernel: str, warps: int) -> None:
        self.device.launch(kernel, (*self._tiles, len(self.scenes)), (TILE_W, warps, 1), self._table)

    def _layer_entries(self, scene: RenderInput, nodes: FootprintNodes) -> Iterator[dict[str, Any]]:
        """A row of `structs.LAYER` for each layer of a scene."""
        rounded = any(isinstance(layer.disparity, HeightField) for layer in scene.layers)
        footprints = nodes.of_scene(scene)
        for layer in scene.layers:
            uploaded = self._keep_alive(self.cache.layer(layer))
            entry: dict[str, Any] = {"texels": self._at(uploaded.texels), "alpha": self._at(uploaded.alpha)}
            entry["alphas"] = self._at(uploaded.alphas)
            # A pinhole's picture is that of any focus, to the bit also where layers tie by rounding.
            in_focus = scene.lens.focus if scene.lens.blur > 0 else 0.0
            focus = np.float32(in_focus)
            if isinstance(layer.disparity, HeightField):
                low, high = (np.float32(value) - focus for value in layer.disparity.range)
                entry |= {"values": self._at(uploaded.values), "heights": self._at(uploaded.heights)}
                entry |= {"focus": focus, "low": low, "high": high}
            else:
                plane = layer.disparity
                # beside height fields planes are rounded like them: what is level, or in focus, in one is so in both
                d = float(np.float32(plane.d) - focus) if rounded else plane.d - in_focus
                entry |= {"d": d, "gx": plane.gx, "gy": plane.gy}
                entry["first_node"], entry["nodes"] = footprints(plane)
            yield entry

    def _entry(self, scene: RenderInput, table: RaySet) -> dict[str, Any]:
        device, size = self.device, (scene.height, scene.width)
        ray_sets = self._keep_alive(self.cache.ray_sets_by_size(table))
        tiles = device.empty((-(-scene.height // ROWS) * -(-scene.width // TILE_W), TILE.itemsize), np.uint8)
        made = DeviceOutput(device.empty((*size, 3), np.float32), device.empty(size, np.float32), tiles)
        self.outputs.append(made)
        entry = {
            "nodes": self._at(self._node_table), "points": self._at(ray_sets.rays.points),
            "weights": self._at(ray_sets.rays.weights), "spans": self._at(ray_sets.spans), "tiles": self._at(tiles),
            "color": self._at(made.color), "coverage": self._at(made.coverage),
            "blur": scene.lens.blur, "height": scene.height, "width": scene.width,
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


def _check(scenes: Sequence[RenderInput]) -> None:
    for scene in {SameAperture(scene.lens.aperture): scene for scene in scenes}.values():
        refuse_unbaked(scene)
    for scene in scenes:
        if len(scene.layers) > MAX_LAYERS:
            raise UsageError(f"cuda renders at most {MAX_LAYERS} layers, got {len(scene.layers)}; use backend='cpu'")


def ray_set(scene: RenderInput, samples: int | None) -> RaySet:
    """The sets of rays that tiles may ask for: all sizes, or one of at least `samples`."""
    return tables_of(scene.lens.aperture).ray_set(samples, LARGEST_SIDE)
