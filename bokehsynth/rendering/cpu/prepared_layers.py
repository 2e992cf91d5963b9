"""Layers prepared for one lens: footprint kernels, weighted planes and prefix sums, and what tiles read of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from bokehsynth.optics import Plane
from bokehsynth.optics.layer import Layer, spacious
from bokehsynth.optics.thin_lens import largest_aberration
from bokehsynth.rendering import tile_constants as tiles
from bokehsynth.rendering.aperture import footprint_kernel
from bokehsynth.rendering.aperture.footprint_kernel import UNVIGNETTED, FootprintKernels
from bokehsynth.rendering.aperture.tables import LensTables, RaySet
from bokehsynth.rendering.cpu.kernel_arguments import (
    Camera,
    Kernels,
    KernelTable,
    LayerPlanes,
    Pyramids,
    Rays,
    TracedLayers,
)
from bokehsynth.rendering.cpu.layer_filter import apply_tilt_weight, prefix_sums, runs_from
from bokehsynth.rendering.cpu.simd import address_of
from bokehsynth.rendering.cpu.tile_bounds import min_max_pyramid, pyramid_levels
from bokehsynth.rendering.tile_constants import GROUP, LANES, TILE_H
from bokehsynth.rendering.types import Float64Array, FloatArray, IntArray, RenderInput

BAND_TEXELS = 8_000_000
"""Canvas texels whose weighted planes and sums are held at once: half a gigabyte for three layers."""

_bounds: "WeakKeyDictionary[Layer, FloatArray]" = WeakKeyDictionary()
"""The min-max pyramid of a layer's packed form, which only this backend reads."""


@dataclass(frozen=True, eq=False)
class PreparedLayer:
    """One layer and one lens."""

    layer: Layer
    plane: Plane
    bounds: FloatArray
    opaque: bool
    radii: tuple[float, float]
    """Smallest and largest signed blur radius over the picture, px."""
    runs_from: tuple[float, float]
    """Blur radii before and behind the focus from which sums along rows serve (`layer_filter.runs_from`)."""
    uniform: bool
    """Whether the lens passes the same light through all of its opening."""

    @property
    def reference(self) -> float:
        """Radius in px at which the weights of kernels with prefix sums are 1."""
        return max(abs(self.radii[0]), abs(self.radii[1]))

    @property
    def needs_sums(self) -> bool:
        """Whether some tiles need prefix sums."""
        near, far = self.runs_from
        return self.uniform and (self.radii[1] >= near or self.radii[0] <= -far)


def prepare_layer(layer: Layer, scene: RenderInput, tables: LensTables) -> PreparedLayer:
    """Collect what a lens makes of a layer; its pyramid is kept for the next lens."""
    plane = layer.disparity
    assert isinstance(plane, Plane), "height fields are traced by `height_field`"
    if layer not in _bounds:
        _bounds[layer] = min_max_pyramid(layer.packed, pyramid_levels(*layer.shape))
    bounds = _bounds[layer]
    radii = [scene.lens.blur * (d - scene.lens.focus) for d in plane.corners(scene.width, scene.height)]
    rows_from = runs_from(scene.lens.blur * plane.gx, scene.lens.blur * plane.gy)
    opaque = bool(bounds[0, -1] == 1)
    return PreparedLayer(layer, plane, bounds, opaque, (min(radii), max(radii)), rows_from, tables.uniform)


def bands(scene: RenderInput, layers: Sequence[PreparedLayer]) -> list[tuple[int, int]]:
    """Split the tile rows into (first, last + 1) filtered together: all, or fewer where the canvas is large."""
    rows = -(-scene.height // TILE_H)
    canvas_rows, width = scene.layers[0].shape
    if canvas_rows * width <= BAND_TEXELS or not any(each.needs_sums for each in layers):
        return [(0, rows)]
    height = max(4, (BAND_TEXELS // width - 2 * scene.margin) // TILE_H)
    return [(start, min(rows, start + height)) for start in range(0, rows, height)]


@dataclass(frozen=True, eq=False)
class WeightedPlanes:
    """Planes times |s|^-3 and their prefix sums (`layer_filter.apply_tilt_weight`) for canvas rows `first` on."""

    planes: FloatArray | None
    """None for a frontal layer, whose weight is 1: its packed planes serve as they are."""
    sums: FloatArray
    first: int


def weight_planes(
    layers: Sequence[PreparedLayer], scene: RenderInput, band: tuple[int, int]
) -> list[WeightedPlanes | None]:
    """Weight and sum the planes for all footprints of a band of tile rows; None for a layer that needs no sums.

    They share one allocation, which the allocator then keeps for the next picture: fresh pages cost as much as sums.
    """
    height, width = scene.layers[0].shape
    first, last = band[0] * TILE_H, min(height, band[1] * TILE_H + 2 * scene.margin)
    counts = [(3 if each.opaque else 4) if each.needs_sums else 0 for each in layers]
    tilted = [each.plane.slope != 0 for each in layers]
    scratch = spacious((sum(n * (1 + more) for n, more in zip(counts, tilted, strict=True)), last - first, width))
    result: list[WeightedPlanes | None] = []
    for each, count, more in zip(layers, counts, tilted, strict=True):
        if count == 0:
            result.append(None)
            continue
        sums, planes, scratch = scratch[:count], scratch[count : count * (1 + more)], scratch[count * (1 + more) :]
        packed = each.layer.packed[:count]
        if more:
            plane = each.plane
            apply_tilt_weight(
                packed, (plane.d, plane.gx, plane.gy), camera_of(scene), each.reference, first, planes, sums
            )
        else:
            prefix_sums(packed, first, sums)
        result.append(WeightedPlanes(planes if more else None, sums, first))
    return result


def camera_of(scene: RenderInput) -> Camera:
    """The lens over the scene's canvas."""
    height, width = scene.layers[0].shape
    astray = largest_aberration(scene.lens, scene.width, scene.height)
    extent = max(1.0, scene.lens.aperture.extent)
    return Camera(scene.lens.blur, scene.lens.focus, (height - 1) / 2, (width - 1) / 2, extent, astray)


def layer_planes(
    scene: RenderInput, layers: Sequence[PreparedLayer], weighted: Sequence[WeightedPlanes | None]
) -> LayerPlanes:
    """Collect what `tile_pass.render_rows` reads of the layers."""
    addresses, stride = np.zeros((len(layers), 6), np.int64), scene.layers[0].shape[1]
    for row, each, more in zip(addresses, layers, weighted, strict=True):
        packed = each.layer.packed
        row[:] = address_of(packed), packed[0].nbytes, 0, 0, 0, 0
        if more is not None:  # as if the rows before the band were there: one index serves all three
            before, step = 4 * more.first * stride, more.sums[0].nbytes
            row[2:4] = row[:2] if more.planes is None else (address_of(more.planes) - before, step)
            row[4:] = address_of(more.sums) - before, step
    opaque = np.array([each.opaque for each in layers], np.int64)
    return LayerPlanes(addresses, plane_rows(layers), opaque, stride, scene.margin, camera_of(scene))


def plane_rows(layers: Sequence[PreparedLayer]) -> Float64Array:
    """(d, gx, gy) of every layer: [L, 3]."""
    return np.array([(each.plane.d, each.plane.gx, each.plane.gy) for each in layers])


def pyramids_of(layers: Sequence[PreparedLayer]) -> Pyramids:
    """The min-max pyramids of all layers."""
    return Pyramids(np.stack([each.bounds for each in layers]), pyramid_levels(*layers[0].layer.shape))


def traced_layers(scene: RenderInput, layers: Sequence[PreparedLayer]) -> TracedLayers:
    """What plain rays read of the layers."""
    packed = np.stack([layer.packed for layer in scene.layers])
    return TracedLayers(packed, plane_rows(layers), pyramids_of(layers), camera_of(scene), scene.margin)


def rays_of(scene: RenderInput, layers: Sequence[PreparedLayer], table: RaySet) -> Rays:
    """Prepare sets of rays: where they meet the layers, as far as it is the same for all pixels."""
    points = table.points
    stretches = np.empty((len(layers), len(points)))
    steps, fractions = np.zeros(stretches.shape, np.int64), np.zeros((*stretches.shape, 2), np.float32)
    K, stride = scene.lens.blur, scene.layers[0].shape[1]
    for m, each in enumerate(layers):
        stretches[m] = K / (1 - K * (points @ np.array([each.plane.gx, each.plane.gy])))
        if each.plane.slope == 0:
            hits = points * (K * (each.plane.d - scene.lens.focus))
            whole = np.floor(hits)
            fractions[m] = hits - whole
            steps[m] = whole[:, 1] * stride + whole[:, 0]
    return Rays(points, table.weights, table.spans, table.channels_passed, stretches, steps, fractions)


def kernels_by_radius(scene: RenderInput, layers: Sequence[PreparedLayer], tables: LensTables) -> KernelTable:
    """Make kernels at nodes of the radius for every layer; spans [m, family] is the first and last + 1 of a family."""
    spans, parts = np.zeros((len(layers), 3, 2), np.int64), []
    at = 0
    for m, each in enumerate(layers):
        for family, nodes in _radius_nodes(each, scene).items():
            ex, ey = scene.lens.blur * each.plane.gx, scene.lens.blur * each.plane.gy
            kernels = footprint_kernel.footprint_kernels(
                tables.opening, UNVIGNETTED, nodes, ex, ey, family != tiles.TAP_KERNELS, each.layer.shape[1]
            )  # fmt: skip
            parts.append((nodes, kernels))
            spans[m, family] = at, at + len(nodes)
            at += len(nodes)
    return _concatenate(parts, layers, spans)


def _radius_nodes(each: PreparedLayer, scene: RenderInput) -> dict[int, Float64Array]:
    """Radii at which a layer needs kernels, by family: taps near the focus, prefix sums in front of it and behind."""
    low, high = each.radii
    if low == high == 0:
        return {}
    if each.plane.slope == 0:
        family = tiles.TAP_KERNELS if not each.needs_sums else tiles.NEAR_KERNELS if low > 0 else tiles.FAR_KERNELS
        return {family: np.array([low])}
    if not each.uniform:
        return {tiles.TAP_KERNELS: footprint_kernel.radius_nodes(low, high)}
    found = {}
    near, far = each.runs_from
    # A group of pixels that straddles one of them is filtered tap by tap.
    spread = scene.lens.blur * (abs(each.plane.gx) * (LANES - 1) + abs(each.plane.gy) * (GROUP - 1))
    if low < near and high > -far:
        found[tiles.TAP_KERNELS] = footprint_kernel.radius_nodes(max(low, -far - spread), min(high, near + spread))
    if high >= near:
        found[tiles.NEAR_KERNELS] = footprint_kernel.radius_nodes(max(low, near), high)
    if low <= -far:
        found[tiles.FAR_KERNELS] = footprint_kernel.radius_nodes(low, min(high, -far))
    return found


def _concatenate(
    parts: "Sequence[tuple[Float64Array, FootprintKernels]]", layers: Sequence[PreparedLayer], spans: IntArray
) -> KernelTable:
    """Put kernels (radii, arrays) end to end."""
    reference = np.array([each.reference for each in layers])
    if not parts:
        none, zero = np.zeros((2, 0), np.int64), np.zeros(1, np.int64)
        weights, norms = np.zeros((2, 0), np.float32), np.zeros((0, 4))
        return KernelTable(Kernels(none[0], weights, zero, none, zero, np.zeros(0)), norms, spans, reference)
    norms = np.concatenate([kernels[5] for _, kernels in parts])
    return KernelTable(concatenate_kernels(parts), norms, spans, reference)


def concatenate_kernels(parts: "Sequence[tuple[Float64Array, FootprintKernels]]") -> Kernels:
    """Put kernels (radii, arrays) end to end."""
    offsets, weights, edges = (np.concatenate([kernels[k] for _, kernels in parts], axis=-1) for k in (0, 1, 3))
    first_tap = _concatenate_firsts([kernels[2] for _, kernels in parts])
    first_run = _concatenate_firsts([kernels[4] for _, kernels in parts])
    return Kernels(offsets, weights, first_tap, edges, first_run, np.concatenate([radii for radii, _ in parts]))


def _concatenate_firsts(firsts: list[IntArray]) -> IntArray:
    """Join tables of first indices of lists that are put end to end; each ends where the next begins."""
    joined, at = [np.zeros(1, np.int64)], 0
    for first in firsts:
        joined.append(first[1:] + at)
        at += int(first[-1])
    return np.concatenate(joined)
