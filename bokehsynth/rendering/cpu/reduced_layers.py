"""Layers at a fraction of their resolution, for blur radii that hide the difference.

In pictures blurred beyond COARSE_FROM px, a layer whose blur radius is at least REDUCED_RADIUS times a whole number f
is averaged over cells of f x f texels. Its means over the opening are found on that coarser canvas, where they change
by a texel from pixel to pixel, and read between pixels by cubic splines that take back the variance which cells and
lookups add to a footprint's rim (`reduced_pass.cubic_weights`). The light of every texel arrives in full.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from bokehsynth.optics import Lens, Plane
from bokehsynth.optics.layer import Layer, spacious
from bokehsynth.rendering.aperture.tables import LensTables
from bokehsynth.rendering.cpu.prepared_layers import PreparedLayer, prepare_layer
from bokehsynth.rendering.cpu.threads import in_pieces
from bokehsynth.rendering.jit import kernel
from bokehsynth.rendering.tile_constants import COARSE_FROM
from bokehsynth.rendering.types import FloatArray, RenderInput

REDUCED_RADIUS = 16.0
"""Least blur radius, in cells, at which a layer is reduced; of narrow openings the radius counts less (`_width`)."""
SMOOTH = 0.02
"""Transmission that bends by less than this share from cell to cell counts as smooth (`_roughness`): Apodized(0.05)
bends by 0.006, four onion rings of contrast 0.5 by 0.2, an edge in a picture by 1."""
LAMP = 4e-3
"""Light of a lone texel, spread over its disc, from which its layer is not reduced: the disc of a cell is centred on
the cell, up to (f - 1) / 2 px away from the texel's."""
LARGEST_CELL = 8
BORDER = 5
"""Cells beyond the canvas, repeating its edge: footprints of coarse pixels reach a little farther."""

_reduced: "WeakKeyDictionary[Layer, dict[int, Layer]]" = WeakKeyDictionary()
"""Coarser forms of a layer by the side of their cells."""


class _CoarseLayer(Layer):
    """A layer that is known by its packed planes alone."""

    def __init__(self, packed: FloatArray, plane: Plane) -> None:
        object.__setattr__(self, "packed", packed)
        object.__setattr__(self, "color", np.moveaxis(packed[:3], 0, 2))
        object.__setattr__(self, "alpha", packed[3])
        object.__setattr__(self, "disparity", plane)


@dataclass(frozen=True, eq=False)
class CoarseScene:
    """Some layers of a scene on cells of f x f texels."""

    scene: RenderInput
    layers: list[PreparedLayer]
    cell: int
    """f."""
    first: tuple[float, float]
    """(y, x) of the picture's first pixel on the grid of the coarse picture's pixels."""


def cell_sides(layers: Sequence[PreparedLayer], tables: LensTables) -> list[int]:
    """Side of the cells that each layer may be reduced to: 1 where it may not, or where nothing is blurred so far."""
    if max(each.reference for each in layers) <= COARSE_FROM:
        return [1] * len(layers)
    finest = _width(tables)
    return [_cell_side(each, finest) for each in layers]


def _cell_side(each: PreparedLayer, finest: float) -> int:
    low, high = each.radii
    least = finest * min(abs(low), abs(high)) if low * high > 0 else 0.0
    side = max(1, min(LARGEST_CELL, round(least / REDUCED_RADIUS - 0.499)))
    brightest = LAMP * np.pi * least * least  # of a texel whose disc would be seen to be elsewhere
    if side == 1 or each.bounds[2].max() <= brightest or _lone_light(each.layer.packed[:3], side) <= brightest:
        return side
    return 1


def _lone_light(planes: FloatArray, side: int) -> float:
    """By how much some texel exceeds the mean of its cell of `side` x `side` texels, at most."""
    height, width = (n // side * side for n in planes.shape[1:])
    largest = 0.0
    for plane in planes:  # what lies beyond the last whole cell is far from the picture
        cells = plane[:height, :width].reshape(height // side, side, width // side, side)
        largest = max(largest, float((cells.max(axis=(1, 3)) - cells.mean(axis=(1, 3))).max()))
    return largest


def _width(tables: LensTables) -> float:
    """How wide an opening is, 2 area / perimeter: 1 of the unit disc, w of a slit of width w.

    Half of that where transmission varies smoothly within it; 0, so that nothing is reduced, where cells would blur it.
    """
    x0, y0, x1, y1 = tables.outline.T
    area, length = abs((x0 * y1 - x1 * y0).sum()) / 2, np.hypot(x1 - x0, y1 - y0).sum()
    width = float(min(1.0, 2 * area / length))
    if tables.uniform:
        return width
    return 0.5 * width if _roughness(tables) < SMOOTH else 0.0


def _roughness(tables: LensTables) -> float:
    """How far transmission is from straight over a cell at the least radius: its largest second difference at
    steps of half of 1 / REDUCED_RADIUS, in radii, relative to its largest value."""
    transmission = tables.transmission
    side = transmission.shape[-1]
    step = round((side - 1) / REDUCED_RADIUS / 4)
    x, y = (a.ravel() for a in np.meshgrid(*2 * [np.linspace(-1, 1, side)]))
    points = np.stack([x, y], axis=1)
    inside = np.einsum("ij,ij->i", points, points) <= 1
    inside[inside] = np.asarray(tables.aperture.inside(points[inside]), np.bool_)
    largest, inside = 0.0, inside.reshape(side, side)
    for values, within in ((transmission, inside), (transmission.swapaxes(1, 2), inside.T)):
        before, here, after = (slice(k, side - 2 * step + k) for k in (0, step, 2 * step))
        bend = abs(values[:, before] - 2 * values[:, here] + values[:, after])
        largest = max(largest, float((bend * (within[before] & within[here] & within[after])).max()))
    return largest / float(transmission.max())


def coarse_scene(scene: RenderInput, layers: Sequence[Layer], cell: int, tables: LensTables) -> CoarseScene:
    """The scene of these layers on cells of `cell` texels."""
    coarse = tuple(_coarse_layer(layer, cell) for layer in layers)
    rows, columns = coarse[0].shape
    first = (scene.margin - (cell - 1) / 2) / cell + BORDER
    margin = int(np.floor(first)) - 1  # cubics take one coarse pixel more on either side
    for coarse_side, side in ((rows, scene.height), (columns, scene.width)):
        last = int(np.floor(first + (side - 1) / cell)) + 1
        margin = min(margin, coarse_side - 2 - last)
    lens = Lens(scene.lens.blur / cell, scene.lens.focus, scene.lens.aperture)
    reduced = RenderInput(coarse, lens, margin)
    prepared = [prepare_layer(layer, reduced, tables) for layer in coarse]
    return CoarseScene(reduced, prepared, cell, (first - margin, first - margin))


def _coarse_layer(layer: Layer, cell: int) -> Layer:
    known = _reduced.setdefault(layer, {})
    if cell not in known:
        height, width = layer.shape
        rows, columns = -(-height // cell) + 2 * BORDER, -(-width // cell) + 2 * BORDER
        packed = spacious((4, rows, columns))
        in_pieces(0, rows, lambda start, stop: _average(layer.packed, cell, (start, stop), packed))
        plane = layer.disparity
        assert isinstance(plane, Plane)
        # Where the coarse canvas's centre lies from the canvas's: its cells may end beyond the canvas on one side.
        y = cell * ((rows - 1) / 2 - BORDER) + (cell - 1) / 2 - (height - 1) / 2
        x = cell * ((columns - 1) / 2 - BORDER) + (cell - 1) / 2 - (width - 1) / 2
        moved = Plane(plane.d + plane.gx * x + plane.gy * y, plane.gx * cell, plane.gy * cell)
        known[cell] = _CoarseLayer(packed, moved)
    return known[cell]


@kernel
def _average(packed, cell, rows, out):
    """Fill rows rows[0] .. rows[1] - 1 of the coarse planes with means over cells; edges are repeated."""
    _, height, width = packed.shape
    total = np.empty(width, np.float32)
    count = np.float32(cell * cell)  # divided by it, cells that are 1 throughout stay 1
    whole = width // cell
    for p in range(4):
        for j in range(rows[0], rows[1]):
            total[:] = 0
            for k in range(cell):
                y = min(max((j - BORDER) * cell + k, 0), height - 1)
                for x in range(width):
                    total[x] += packed[p, y, x]
            for i in range(whole):
                value = total[i * cell]
                for n in range(1, cell):
                    value += total[i * cell + n]
                out[p, j, i + BORDER] = value / count
            for i in range(BORDER):
                out[p, j, i] = cell * total[0] / count
            for i in range(whole, out.shape[2] - BORDER):
                value = np.float32(0)
                for n in range(cell):
                    value += total[min(i * cell + n, width - 1)]
                out[p, j, i + BORDER] = value / count
            for i in range(out.shape[2] - BORDER, out.shape[2]):
                out[p, j, i] = cell * total[width - 1] / count
