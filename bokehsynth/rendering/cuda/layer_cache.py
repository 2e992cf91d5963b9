"""What stays on the device between scenes: layers as long as they live, lens points as long as their tables do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from bokehsynth.optics import HeightField
from bokehsynth.optics.layer import Layer
from bokehsynth.rendering.aperture.tables import LensTables, RaySet
from bokehsynth.rendering.cuda.device import Device, DeviceArray
from bokehsynth.rendering.cuda.sharp_pictures import SharpPictures
from bokehsynth.rendering.cuda.structs import BLOCK, CANVAS, rows
from bokehsynth.rendering.types import CodeTable, Encode

LARGEST_SIDE = 128
"""Largest side of a grid of plain rays that `ray_tracer.grid_side` asks for."""

SIDES = (48, 64, 96, 128, 160, 192, 256, 384, 512)
"""Sides of the grids of lens points that footprint kernels are folded from."""


def fold_sides(radii: "np.ndarray[Any, Any]", tables: LensTables) -> "np.ndarray[Any, Any]":
    """Sides of the grids of lens points for blur radii in px: 24 per px up to 128 points, never below 6 per px.

    The error of a texel's weight falls with the points per px, that of a picture with the texels of a disc too. A full
    disc is what the points are spread over; where an opening's own edge goes between them there are twice as many.
    """
    wanted = np.maximum(np.minimum(24 * radii, 128), 6 * radii)
    if not tables.full:
        wanted = 2 * wanted
    found: np.ndarray[Any, Any] = np.asarray(SIDES)[np.minimum(np.searchsorted(SIDES, wanted), len(SIDES) - 1)]
    return found


@dataclass(frozen=True, eq=False)
class DeviceLayer:
    """A layer's texels, their alpha once more, and extremes of its alpha and height field."""

    texels: DeviceArray
    alpha: DeviceArray
    alphas: DeviceArray
    values: DeviceArray | None
    heights: DeviceArray | None


@dataclass(frozen=True, eq=False)
class DeviceLensPoints:
    """Lens points [N, 2] and weights [sets, N]."""

    points: DeviceArray
    weights: DeviceArray
    count: int


@dataclass(frozen=True, eq=False)
class DeviceRaySet:
    """Ray sets of growing side end to end, and the span of each side."""

    rays: DeviceLensPoints
    spans: DeviceArray
    sides: int
    channels_passed: int


class LayerCache:
    """What one device holds between batches; an entry goes with the object on the host that it was made from."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._layers: WeakKeyDictionary[Layer, DeviceLayer] = WeakKeyDictionary()
        self._ray_sets: WeakKeyDictionary[RaySet, DeviceRaySet] = WeakKeyDictionary()
        self._sets: WeakKeyDictionary[LensTables, dict[int, DeviceLensPoints]] = WeakKeyDictionary()
        self._transmissions: WeakKeyDictionary[LensTables, DeviceArray] = WeakKeyDictionary()
        self._codes: dict[Encode, tuple[DeviceArray, DeviceArray]] = {}
        self.sharp = SharpPictures()
        """Pictures on the host."""

    def clear(self) -> None:
        """Let go of everything."""
        self._layers.clear()
        self._ray_sets.clear()
        self._sets.clear()
        self._transmissions.clear()
        self._codes.clear()
        self.sharp.clear()
        self.device.release()

    def evictable_besides(self, layers: Iterable[Layer]) -> int:
        """Number of layers kept that are none of these, so that clearing makes memory."""
        return len(set(self._layers) - set(layers))

    def upload(self, layers: Sequence[Layer]) -> None:
        """Upload and pack those layers that are not there yet."""
        device, new, entries, kept = self.device, {}, [], []
        for layer in dict.fromkeys(layers):
            if layer in self._layers:
                continue
            height, width = layer.shape
            blocks = (height // BLOCK + 2) * (width // BLOCK + 2)  # at most, however they lie
            color, alpha = device.put(layer.color), device.put(layer.alpha)
            values = heights = None
            if isinstance(layer.disparity, HeightField):
                values, heights = device.put(layer.disparity.values), device.empty((2, blocks), np.float32)
            texels, alphas = device.empty((height, width, 4), np.float32), device.empty((2, blocks), np.float32)
            new[layer] = DeviceLayer(texels, alpha, alphas, values, heights)
            kept.append(color)
            entries.append({
                "color": device.address(color), "alpha": device.address(alpha), "texels": device.address(texels),
                "alphas": device.address(alphas), "height": height, "width": width,
                "values": 0 if values is None else device.address(values),
                "heights": 0 if heights is None else device.address(heights),
            })  # fmt: skip
        if not new:
            return
        table = device.put(rows(CANVAS, entries))
        texels_most = max(entry["height"] * entry["width"] for entry in entries)
        blocks_most = max(array.alphas.shape[1] for array in new.values())
        device.launch("pack", (-(-texels_most // 256), 1, len(entries)), (256, 1, 1), table)
        device.launch("block_bounds", (-(-blocks_most // 64), 1, len(entries)), (64, 1, 1), table)
        self._layers.update(new)

    def layer(self, layer: Layer) -> DeviceLayer:
        """Return a layer that was uploaded."""
        return self._layers[layer]

    def ray_sets_by_size(self, table: RaySet) -> DeviceRaySet:
        """Upload the rays of a table once."""
        if table not in self._ray_sets:
            channels_passed = sum(int(passes) << c for c, passes in enumerate(table.channels_passed.tolist()))
            rays = self._put(table.points, table.weights)
            spans = self.device.put(table.spans.astype(np.int32))
            self._ray_sets[table] = DeviceRaySet(rays, spans, len(table.spans), channels_passed)
        return self._ray_sets[table]

    def lens_points(self, tables: LensTables, side: int) -> DeviceLensPoints:
        """The points from which a kernel is folded, weights of sum 1."""
        sets = self._sets.setdefault(tables, {})
        if side not in sets:
            grid = tables.grid(side)
            weights = grid.weights.T[: len(tables.transmission)].astype(np.float64)
            total = weights.sum(axis=1, keepdims=True)
            sets[side] = self._put(grid.points, weights / np.where(total > 0, total, 1))
        return sets[side]

    def transmission(self, tables: LensTables) -> DeviceArray:
        """Upload the table of an opening's transmission once, float32 [sets, side, side]."""
        if tables not in self._transmissions:
            self._transmissions[tables] = self.device.put(tables.transmission)
        return self._transmissions[tables]

    def codes(self, table: CodeTable) -> tuple[DeviceArray, DeviceArray]:
        """Upload a table's `least` and `steps` once."""
        if table.encode not in self._codes:
            self._codes[table.encode] = self.device.put(table.least), self.device.put(table.steps)
        return self._codes[table.encode]

    def _put(self, points: "np.ndarray[Any, Any]", weights: "np.ndarray[Any, Any]") -> DeviceLensPoints:
        put = self.device.put
        return DeviceLensPoints(put(points.astype(np.float32)), put(weights.astype(np.float32)), len(points))
