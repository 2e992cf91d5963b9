"""Layers prepared for one lens: their kernels, weighed planes and prefix sums, and the tables that tiles read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from bokehsynth.optics import Plane
from bokehsynth.optics.layer import Layer, spacious
from bokehsynth.rendering.aperture.footprint_kernel import UNVIGNETTED, collapse, nodes_between
from bokehsynth.rendering.aperture.pupil import CornerKernels
from bokehsynth.rendering.aperture.tables import LensTables
from bokehsynth.rendering.cpu.layer_filter import preweigh, sum_along
from bokehsynth.rendering.cpu.simd import address_of
from bokehsynth.rendering.cpu.tile_bounds import pyramid, pyramid_levels
from bokehsynth.rendering.tile_constants import (
    FAR_KERNELS,
    GROUP,
    LANES,
    NEAR_KERNELS,
    RUNS_FROM,
    TAP_KERNELS,
    TILE_H,
    TILE_W,
)
from bokehsynth.rendering.types import Float64Array, FloatArray, IntArray, RenderInput

Kernels = tuple[IntArray, FloatArray, IntArray, IntArray, IntArray, Float64Array]
"""What `collapse.collapse` returns."""

BAND_TEXELS = 8_000_000
"""Canvas texels whose weighed planes and sums are held at once: half a gigabyte for three layers."""

_extremes: "WeakKeyDictionary[Layer, FloatArray]" = WeakKeyDictionary()
"""Part of a layer's packed form that only this backend reads."""


@dataclass(frozen=True, eq=False)
class Plate:
    """One layer and one lens."""

    layer: Layer
    plane: Plane
    extremes: FloatArray
    opaque: bool
    radii: tuple[float, float]
    """Smallest and largest signed blur radius over the picture, px."""
    uniform: bool
    """Whether the lens passes the same light through all of its opening."""

    @property
    def reference(self) -> float:
        """Radius in px at which the weights of run kernels are 1."""
        return max(abs(self.radii[0]), abs(self.radii[1]))

    @property
    def runs(self) -> bool:
        """Whether some tiles need prefix sums."""
        return self.uniform and self.reference >= RUNS_FROM


def plate(layer: Layer, scene: RenderInput, tables: LensTables) -> Plate:
    """Look at a layer through a lens."""
    plane = layer.disparity
    assert isinstance(plane, Plane), "height fields are traced by `relief`"
    if layer not in _extremes:
        _extremes[layer] = pyramid(layer.packed, pyramid_levels(*layer.shape))
    extremes = _extremes[layer]
    radii = [scene.lens.blur * (d - scene.lens.focus) for d in plane.corners(scene.width, scene.height)]
    uniform = tables.transmission.shape == (1, 1, 1)
    return Plate(layer, plane, extremes, bool(extremes[0, -1] == 1), (min(radii), max(radii)), uniform)


def bands(scene: RenderInput, plates: Sequence[Plate]) -> list[tuple[int, int]]:
    """Tile rows, first and last + 1, that are developed together: all, or fewer where the canvas is large."""
    rows = -(-scene.height // TILE_H)
    canvas_rows, width = scene.layers[0].shape
    if canvas_rows * width <= BAND_TEXELS or not any(each.runs for each in plates):
        return [(0, rows)]
    height = max(4, (BAND_TEXELS // width - 2 * scene.margin) // TILE_H)
    return [(start, min(rows, start + height)) for start in range(0, rows, height)]


@dataclass(frozen=True, eq=False)
class Weighed:
    """Planes times |s|^-3 and their prefix sums (`marginal.preweigh`) for canvas rows `first` on."""

    planes: FloatArray | None
    """None for a frontal layer, whose weight is 1: its packed planes serve as they are."""
    sums: FloatArray
    first: int


def weigh(plates: Sequence[Plate], scene: RenderInput, band: tuple[int, int]) -> list[Weighed | None]:
    """The weighed planes for all footprints of a band of tile rows, None for a layer that needs none.

    They share one allocation, which the allocator then keeps for the next picture: fresh pages cost as much as sums.
    """
    height, width = scene.layers[0].shape
    first, last = band[0] * TILE_H, min(height, band[1] * TILE_H + 2 * scene.margin)
    counts = [(3 if each.opaque else 4) if each.runs else 0 for each in plates]
    tilted = [each.plane.slope != 0 for each in plates]
    room = spacious((sum(n * (1 + more) for n, more in zip(counts, tilted, strict=True)), last - first, width))
    result: list[Weighed | None] = []
    for each, count, more in zip(plates, counts, tilted, strict=True):
        if count == 0:
            result.append(None)
            continue
        sums, planes, room = room[:count], room[count : count * (1 + more)], room[count * (1 + more) :]
        packed = each.layer.packed[:count]
        if more:
            plane = each.plane
            preweigh(packed, (plane.d, plane.gx, plane.gy), view(scene), each.reference, first, planes, sums)
        else:
            sum_along(packed, first, sums)
        result.append(Weighed(planes if more else None, sums, first))
    return result


def view(scene: RenderInput) -> tuple[float, float, float, float]:
    """(K, focus, row and column of the canvas's centre)."""
    height, width = scene.layers[0].shape
    return scene.lens.blur, scene.lens.focus, (height - 1) / 2, (width - 1) / 2


def layer_planes(
    scene: RenderInput, plates: Sequence[Plate], weighed: Sequence[Weighed | None], spans: IntArray
) -> Any:
    """What `develop.develop_rows` reads of the layers."""
    addresses, stride = np.zeros((len(plates), 6), np.int64), scene.layers[0].shape[1]
    for row, each, more in zip(addresses, plates, weighed, strict=True):
        packed = each.layer.packed
        row[:] = address_of(packed), packed[0].nbytes, 0, 0, 0, 0
        if more is not None:  # as if the rows before the band were there: one index serves all three
            before, step = 4 * more.first * stride, more.sums[0].nbytes
            row[2:4] = row[:2] if more.planes is None else (address_of(more.planes) - before, step)
            row[4:] = address_of(more.sums) - before, step
    opaque = np.array([each.opaque for each in plates], np.int64)
    return addresses, plane_rows(plates), opaque, spans, view(scene), scene.margin, stride


def plane_rows(plates: Sequence[Plate]) -> Float64Array:
    """(d, gx, gy) of every layer: [L, 3]."""
    return np.array([(each.plane.d, each.plane.gx, each.plane.gy) for each in plates])


@dataclass(frozen=True, eq=False)
class Aims:
    """What rays have in common on all tiles: found once for each layer."""

    stretches: Float64Array
    """[L, N] K / (1 - K g.s): a hit lies at the ray's lens point times this times delta."""
    steps: IntArray
    """[L, N] from a pixel's own texel to the hit's upper left one, for frontal layers; 0 for tilted ones."""
    places: FloatArray
    """float32 [L, N, 2] of the hit relative to that texel."""


def aims(scene: RenderInput, plates: Sequence[Plate], points: Float64Array) -> Aims:
    """Prepare the rays through lens points [N, 2]."""
    stretches = np.empty((len(plates), len(points)))
    steps, places = np.zeros(stretches.shape, np.int64), np.zeros((*stretches.shape, 2), np.float32)
    K, stride = scene.lens.blur, scene.layers[0].shape[1]
    for m, each in enumerate(plates):
        stretches[m] = K / (1 - K * (points @ np.array([each.plane.gx, each.plane.gy])))
        if each.plane.slope == 0:
            hits = points * (K * (each.plane.d - scene.lens.focus))
            whole = np.floor(hits)
            places[m] = hits - whole
            steps[m] = whole[:, 1] * stride + whole[:, 0]
    return Aims(stretches, steps, places)


def book_of_planes(scene: RenderInput, plates: Sequence[Plate], tables: LensTables) -> tuple[Any, IntArray]:
    """Kernels at nodes of the radius for every layer: the book and, [L, 3, 2], where each family lies in it."""
    spans, pages = np.zeros((len(plates), 3, 2), np.int64), []
    at = 0
    for m, each in enumerate(plates):
        for family, nodes in _families(each, scene).items():
            ex, ey = scene.lens.blur * each.plane.gx, scene.lens.blur * each.plane.gy
            kernels = collapse(
                tables.outline, tables.detail, tables.transmission, UNVIGNETTED, nodes, ex, ey,
                family != TAP_KERNELS, each.layer.shape[1],
            )  # fmt: skip
            pages.append((nodes, kernels))
            spans[m, family] = at, at + len(nodes)
            at += len(nodes)
    return _bind(pages, plates), spans


def book_of_corners(corners: "Sequence[CornerKernels | None]", plates: Sequence[Plate]) -> tuple[Any, IntArray]:
    """Kernels at the corners of one row of tiles: the book and, [L, 3, 2], where they lie in it.

    spans[m] is ((first entry of the uppermost line, of the next), (of the last, or 0; whether they are run kernels),
    (corners per tile, rows between lines)).
    """
    spans, pages = np.zeros((len(plates), 3, 2), np.int64), []
    at = 0
    for m, each in enumerate(corners):
        if each is not None:
            spans[m, 1, 1], spans[m, 2] = each.runs, (TILE_W // each.steps.across, each.steps.down)
            for line, (kernels, radii) in enumerate(zip(each.lines, each.radii, strict=True)):
                pages.append((radii, kernels))
                spans[m].flat[line] = at
                at += len(radii)
    return _bind(pages, plates), spans


def _families(each: Plate, scene: RenderInput) -> dict[int, Float64Array]:
    """Which kernels a layer needs, and at which radii: tap by tap near the focus, runs in front of it and behind."""
    low, high = each.radii
    if low == high == 0:
        return {}
    if each.plane.slope == 0:
        family = TAP_KERNELS if not each.runs else NEAR_KERNELS if low > 0 else FAR_KERNELS
        return {family: np.array([low])}
    if not each.uniform:
        return {TAP_KERNELS: nodes_between(low, high)}
    found = {}
    # A group of pixels that straddles RUNS_FROM is filtered tap by tap.
    spread = abs(each.plane.gx) * (LANES - 1) + abs(each.plane.gy) * (GROUP - 1)
    farthest = RUNS_FROM + scene.lens.blur * spread
    if low < RUNS_FROM and high > -RUNS_FROM:
        found[TAP_KERNELS] = nodes_between(max(low, -farthest), min(high, farthest))
    if high >= RUNS_FROM:
        found[NEAR_KERNELS] = nodes_between(max(low, RUNS_FROM), high)
    if low <= -RUNS_FROM:
        found[FAR_KERNELS] = nodes_between(low, min(high, -RUNS_FROM))
    return found


def _bind(pages: "Sequence[tuple[Float64Array, Kernels]]", plates: Sequence[Plate]) -> Any:
    """Kernels end to end: ((offsets, weights, first_tap, edges, first_run), nodes, norms, reference)."""
    reference = np.array([each.reference for each in plates])
    if not pages:
        none, zero = np.zeros((2, 0), np.int64), np.zeros(1, np.int64)
        return (none[0], none.astype(np.float32), zero, none, zero), np.zeros(0), np.zeros((0, 4)), reference
    nodes = np.concatenate([radii for radii, _ in pages])
    offsets, weights, edges = (np.concatenate([kernels[k] for _, kernels in pages], axis=-1) for k in (0, 1, 3))
    norms = np.concatenate([kernels[5] for _, kernels in pages])
    first_tap = _end_to_end([kernels[2] for _, kernels in pages])
    first_run = _end_to_end([kernels[4] for _, kernels in pages])
    return (offsets, weights, first_tap, edges, first_run), nodes, norms, reference


def _end_to_end(firsts: list[IntArray]) -> IntArray:
    """Tables of first indices of lists that are put end to end; each ends where the next begins."""
    joined, at = [np.zeros(1, np.int64)], 0
    for first in firsts:
        joined.append(first[1:] + at)
        at += int(first[-1])
    return np.concatenate(joined)
