"""The CUDA renderer: the definition of the picture on a GPU, a batch of shots at a time.

Per tile, as on the CPU: a layer in focus is copied; a blurred one is filtered by the table of weights that all rays of
a pixel collapse to; the means are composited; where layers vary together a small set of rays adds what means miss;
tiles in which layers change order, height fields, and openings that change over the field are traced ray by ray. The
kernels are in `kernels/`; nothing comes back to the host between them. Sums are never reordered: the same bytes for
the same device and versions, whatever shares the batch.
"""

import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bokehsynth.errors import DeviceError, UsageError
from bokehsynth.layers import Layer
from bokehsynth.optics import Aperture, HeightField, Plane
from bokehsynth.render import cuda_device, vignette
from bokehsynth.render.collapse import half_width, nodes_between
from bokehsynth.render.cuda_device import Device, DeviceArray
from bokehsynth.render.cuda_stock import LARGEST_SIDE, Stock
from bokehsynth.render.cuda_tables import LAYER, MAX_LAYERS, NODE, ROWS, SHOT, TILE, TILE_W, rows
from bokehsynth.render.lens_tables import LensTables, RayTable, tables_of
from bokehsynth.render.shot import Exposure, FloatArray, Shot

LOG = logging.getLogger(__name__)

LARGEST_HALF = 767
"""Texels from the pixel that a kernel may reach: one of its columns must fit into what `taps.cuh` stages."""

_TURN = threading.Lock()
"""One batch at a time."""


@dataclass(frozen=True, eq=False)
class DeviceExposure:
    """An exposure on the device, arrays of CuPy; hand them on with `__dlpack__`, as in `torch.from_dlpack(x.color)`."""

    color: DeviceArray
    """float32 [H, W, 3], linear light."""
    coverage: DeviceArray
    """float32 [H, W]."""
    tiles: DeviceArray


def trace(shot: Shot, samples: int | None) -> Exposure:
    """`trace_batch` of one shot."""
    return trace_batch([shot], samples)[0]


def transmission(shot: Shot) -> FloatArray:
    """Share of the opening's light that its pupil lets pass at each pixel, float32 [H, W]."""
    return vignette.transmission(shot, tables_of(shot.lens.aperture))


def trace_batch(shots: Sequence[Shot], samples: int | None = None) -> list[Exposure]:
    """Render shots of any sizes; rays, where they are needed, number at least `samples`, None chooses by the radii.

    Where the device's memory does not hold the batch, it is halved as often as needed, with a warning in the log.
    Raises UsageError for an aperture with `aberration`, and DeviceError if one shot alone is too large.
    """
    device = cuda_device.the_device()
    try:
        with _TURN:
            return [_fetch(device, shot, made) for shot, made in zip(shots, _expose(shots, samples), strict=True)]
    except device.out_of_memory as error:
        problem = str(error)
    stock_of(device).clear()
    if len(shots) == 1:
        raise DeviceError(
            f"one frame of {shots[0].height} x {shots[0].width} px with {len(shots[0].layers)} layers does not fit "
            f"into the GPU's memory ({problem}); make it smaller, free the GPU, or use --device cpu"
        )
    half = len(shots) // 2
    LOG.warning("out of GPU memory: a batch of %d is halved to %d", len(shots), len(shots) - half)
    return trace_batch(shots[:-half], samples) + trace_batch(shots[-half:], samples)


def expose_batch(shots: Sequence[Shot], samples: int | None = None) -> list[DeviceExposure]:
    """`trace_batch` whose pictures stay on the device, for a consumer that lives there."""
    with _TURN:
        return _expose(shots, samples)


def brute_force(shot: Shot, side: int) -> Exposure:
    """The picture by the plain ray tracer: every ray of a grid meets every layer. The measure of the other kernels."""
    device = cuda_device.the_device()
    with _TURN:
        run = _Run(device, [shot], tables_of(shot.lens.aperture).rays(side))
        run.launch("brute")
        return _fetch(device, shot, run.exposures[0], False)


_STOCKS: dict[int, Stock] = {}


def stock_of(device: Device) -> Stock:
    """What is kept on the device."""
    return _STOCKS.setdefault(id(device), Stock(device))  # a stock keeps its device, so that ids stay taken


def _expose(shots: Sequence[Shot], samples: int | None) -> list[DeviceExposure]:
    run = _Run(cuda_device.the_device(), shots, None, samples)
    run.collapse()
    for kernel in ("survey", "develop", "shine"):
        run.launch(kernel)
    return run.exposures


def _fetch(device: Device, shot: Shot, made: DeviceExposure, surveyed: bool = True) -> Exposure:
    color, coverage = device.get(made.color), device.get(made.coverage)
    if not surveyed:
        return Exposure(color, coverage)
    columns = -(-shot.width // TILE_W)
    paths = device.get(made.tiles).view(TILE)["path"].reshape(-1, columns).astype(np.uint8)
    return Exposure(color, coverage, np.repeat(paths, 2, axis=1)[:, : -(-shot.width // 16)])


class _Run:
    """The tables of one batch, and everything that they point to."""

    def __init__(
        self, device: Device, shots: Sequence[Shot], table: RayTable | None, samples: int | None = None
    ) -> None:
        self.device, self.stock = device, stock_of(device)
        for shot in shots:
            _check(shot)
        self.stock.bring([layer for shot in shots for layer in shot.layers])
        self.shots = shots
        self.keep: list[Any] = []
        self.nodes: list[dict[str, Any]] = []
        layer_tables = [self._layers(shot) for shot in shots]
        self.node_table = self._place_nodes()
        self.exposures: list[DeviceExposure] = []
        entries = [
            self._entry(shot, layers, table or _ray_table(tables_of(shot.lens.aperture), samples))
            for shot, layers in zip(shots, layer_tables, strict=True)
        ]
        self.table = device.put(rows(SHOT, entries))

    def collapse(self) -> None:
        """Fold the kernels of every blurred plane."""
        if self.nodes:
            rays, side = (max(node[name] for node in self.nodes) for name in ("count", "half"))
            self.device.launch("collapse", (len(self.nodes), -(-rays // 256), 1), (256, 1, 1), self.node_table)
            self.device.launch("measure", (len(self.nodes), side // 32 + 1, 1), (64, 1, 1), self.node_table)

    def launch(self, kernel: str) -> None:
        """One of the kernels that run over shots."""
        columns = max(-(-shot.width // TILE_W) for shot in self.shots)
        lines = max(-(-shot.height // ROWS) for shot in self.shots)
        grid = (-(-columns * lines // 32), 1) if kernel == "survey" else (columns, lines)
        block = (32, 1, 1) if kernel in {"survey", "develop"} else (TILE_W, ROWS, 1)
        self.device.launch(kernel, (*grid, len(self.shots)), block, self.table)

    def _layers(self, shot: Shot) -> DeviceArray:
        entries = []
        rounded = any(isinstance(layer.disparity, HeightField) for layer in shot.layers)
        for layer in shot.layers:
            there = self._held(self.stock.layer(layer))
            first = len(self.nodes)
            entry: dict[str, Any] = {"texels": self._at(there.texels), "alphas": self._at(there.alphas)}
            focus = np.float32(shot.lens.focus)
            if isinstance(layer.disparity, HeightField):
                low, high = (np.float32(value) - focus for value in layer.disparity.range)
                entry |= {"values": self._at(there.values), "heights": self._at(there.heights)}
                entry |= {"focus": focus, "low": low, "high": high}
            else:
                plane = layer.disparity
                # beside height fields planes are rounded like them: what is level, or in focus, in one is so in both
                d = float(np.float32(plane.d) - focus) if rounded else plane.d - shot.lens.focus
                entry |= {"d": d, "gx": plane.gx, "gy": plane.gy}
                self._add_nodes(shot, plane)
            entries.append(entry | {"first_node": first, "nodes": len(self.nodes) - first})
        return self._put(rows(LAYER, entries))

    def _add_nodes(self, shot: Shot, plane: Plane) -> None:
        """Kernels at nodes of the radius, close enough to interpolate between; none where only rays are used."""
        K, tables = shot.lens.blur, tables_of(shot.lens.aperture)
        low, high = (K * (d - shot.lens.focus) for d in plane.extremes(shot.width, shot.height))
        if low == high == 0 or vignette.has_pupil(shot.lens.aperture):
            return
        ex, ey = K * plane.gx, K * plane.gy
        for r in [low] if plane.slope == 0 else nodes_between(low, high).tolist():
            half = half_width(r, ex, ey)
            if half > LARGEST_HALF:
                raise UsageError(f"a blur radius of {abs(r):.0f} px is too large for cuda: at most about 700; use cpu")
            points = self._held(self.stock.lens_set(tables, abs(r) / (1 - math.hypot(ex, ey))))
            self.nodes.append({
                "points": self._at(points.points), "weights": self._at(points.weights), "count": points.count,
                "sets": len(tables.transmission), "r": r, "ex": ex, "ey": ey, "half": half,
            })  # fmt: skip

    def _place_nodes(self) -> DeviceArray:
        """Room for all kernels, end to end, and their table."""
        sides = [2 * node["half"] + 1 for node in self.nodes]
        sizes = [node["sets"] * side * side for node, side in zip(self.nodes, sides, strict=True)]
        sums = self._held(self.device.zeros((max(1, sum(sizes)),), np.uint32))
        spans = self._held(self.device.empty((max(1, sum(sides)), 2), np.int32))
        at, column = self.device.address(sums), self.device.address(spans)
        for node, side, size in zip(self.nodes, sides, sizes, strict=True):
            node |= {"sums": at, "spans": column}
            at, column = at + 4 * size, column + 8 * side
        return self._held(self.device.put(rows(NODE, self.nodes or [{}])))

    def _entry(self, shot: Shot, layers: DeviceArray, table: RayTable) -> dict[str, Any]:
        device, size = self.device, (shot.height, shot.width)
        ladder = self._held(self.stock.ladder(table))
        tiles = device.empty((-(-shot.height // ROWS) * -(-shot.width // TILE_W), TILE.itemsize), np.uint8)
        made = DeviceExposure(device.empty((*size, 3), np.float32), device.empty(size, np.float32), tiles)
        self.exposures.append(made)
        entry = {
            "layers": self._at(layers), "nodes": self._at(self.node_table), "points": self._at(ladder.rays.points),
            "weights": self._at(ladder.rays.weights), "spans": self._at(ladder.spans), "tiles": self._at(tiles),
            "base": self._at(self._held(device.empty((6, *size), np.float32))), "color": self._at(made.color),
            "coverage": self._at(made.coverage), "blur": shot.lens.blur, "height": shot.height, "width": shot.width,
            "canvas_height": shot.layers[0].shape[0], "canvas_width": shot.layers[0].shape[1],
            "margin": shot.margin, "layer_count": len(shot.layers), "rays": ladder.rays.count, "sides": ladder.sides,
            "sets": len(table.weights), "lit": ladder.lit,
        }  # fmt: skip
        pupil = vignette.pupil_of(shot) if shot.lens.blur > 0 else None
        if pupil is not None:
            entry |= {"pupils": self._at(self._put(np.moveaxis(pupil.centres, 0, 2))), "pupil_radius": pupil.radius}
            if shot.lens.falloff:
                entry["transmission"] = self._at(self._put(transmission(shot)))
        return entry

    def _put(self, array: "np.ndarray[Any, Any]") -> DeviceArray:
        return self._held(self.device.put(array))

    def _held(self, thing: Any) -> Any:
        self.keep.append(thing)
        return thing

    def _at(self, array: DeviceArray) -> int:
        return self.device.address(array)


def _check(shot: Shot) -> None:
    aperture = shot.lens.aperture
    if type(aperture).aberration is not Aperture.aberration and shot.lens.blur > 0:
        raise UsageError(
            f"{type(aperture).__name__} has an aberration, which only backend='reference' renders: its rays land "
            "elsewhere at every pixel, and no table of texels stands for them"
        )
    if len(shot.layers) > MAX_LAYERS:
        raise UsageError(f"cuda renders at most {MAX_LAYERS} layers, got {len(shot.layers)}; use backend='cpu'")


def _ray_table(tables: LensTables, samples: int | None) -> RayTable:
    """The sets of rays that tiles may ask for: all sizes, or one of at least `samples`."""
    if samples is None:
        return tables.ladder(LARGEST_SIDE)
    side = max(2, 2 * int(math.sqrt(samples) / 2))
    while len(tables.grid(side).points) < samples:
        side += 2
    return tables.rays(side)


def warm_up() -> None:
    """Compile every kernel, so that spawned workers only load them."""
    from bokehsynth.optics import Lens

    canvas = np.ones((24, 24, 3), np.float32)
    layers = (Layer(canvas, canvas[..., 0] * 0.5, Plane(0.9)), Layer(canvas, canvas[..., 0], Plane(0.1, 1e-3)))
    trace(Shot(layers, Lens(4.0, 0.5), 4), None)
