"""What kernels of the fast path are given together: tuples of arrays and numbers, which Numba compiles field by field.

A parameter of a kernel bears the name of its tuple, as in `layers` for LayerPlanes and `table` for KernelTable.

Rays, radii and texels of one GROUP of pixels are found from its first pixel: GROUP rows of LANES neighbours.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bokehsynth.rendering.types import Float64Array, FloatArray, IntArray


class Camera(NamedTuple):
    """The lens, and where the picture's centre lies on the canvas."""

    blur: float  # K, px per unit of disparity
    focus: float
    cy: float
    cx: float
    extent: float = 1.0  # largest abs(s) of lens points, if beyond 1
    astray: float = 0.0  # largest aberration in px


class Pyramids(NamedTuple):
    """Min-max pyramids of all layers (`tile_bounds.min_max_pyramid`)."""

    bounds: FloatArray  # float32 [L, 3, blocks of all levels]: least and largest alpha, largest premultiplied colour
    levels: IntArray  # [n, 3]: offset, rows and columns of a level


class Tile(NamedTuple):
    """A tile: its first pixel as an offset from the picture's centre, and its size in pixels."""

    y: float
    x: float
    rows: int
    columns: int


class Footprint(NamedTuple):
    """The canvas texels that rays of a tile may meet: the tile's rectangle and what lies within `pad` px of it."""

    top: float
    left: float
    rows: int
    columns: int
    pad: float


class TilePlan(NamedTuple):
    """What is known of the tiles [rows, columns] of a picture of L layers before the first is filtered."""

    states: Float64Array  # [rows, columns, L, STATES]: see `tile_bounds`
    orders: IntArray  # [rows, columns, L]: visible layers, near to far, then -1
    lights: FloatArray
    """float32 [rows, columns]: brightest light behind the nearest layer of tiles on the path CONTROL_VARIATE. Infinite
    where no layer closes the view: there colours are divided by what little light arrives."""
    paths: npt.NDArray[np.uint8]  # uint8 [rows, columns]: `tile_constants.COPY` .. RAY_TRACED
    rms_light: float  # root mean square of the finite `lights`, 1 without any


class LayerPlanes(NamedTuple):
    """The layers of a picture on their canvas."""

    addresses: IntArray  # [L, 6]: columns PACKED .. SUMS_STEP of `tile_constants`
    planes: Float64Array  # [L, 3]: d, gx, gy
    opaque: IntArray  # [L]: whether alpha is 1 everywhere
    stride: int  # texels per canvas row
    margin: int
    camera: Camera


class Kernels(NamedTuple):
    """Kernels of all layers, end to end (`footprint_kernel` describes the arrays)."""

    offsets: IntArray
    weights: FloatArray
    first_tap: IntArray
    edges: IntArray
    first_run: IntArray
    nodes: Float64Array


class KernelTable(NamedTuple):
    """Kernels, and what else is known of them: apart, since functions called for every plane pay for each array."""

    kernels: Kernels
    norms: Float64Array
    spans: IntArray  # [L, 3, 2]: where each layer's kernels lie (`prepared_layers`)
    reference: Float64Array  # [L]: radius in px at which the weights of kernels with prefix sums are 1


class Rays(NamedTuple):
    """Sets of rays that tiles choose from, one after the other."""

    points: Float64Array  # [N, 2] on the unit disc
    weights: FloatArray  # float32 [C, N]
    spans: IntArray  # [S, 2]: first and last + 1 ray of the set for a side
    channels_passed: IntArray  # [3]: whether R, G and B pass the aperture at all
    stretches: Float64Array  # [L, N] K / (1 - K g.s): a hit lies at the ray's lens point times this times delta
    steps: IntArray  # [L, N] from a pixel's own texel to the hit's upper left one, for frontal layers
    fractions: FloatArray  # float32 [L, N, 2] of the hit relative to that texel


class PupilField(NamedTuple):
    """The discs that lens points must also lie in."""

    centres: IntArray  # [rims, 2]: addresses of float32 [H, W]: x and y of a disc's centre at every pixel, lens units
    radii: Float64Array  # [rims]
    width: int  # W


class Picture(NamedTuple):
    """What is filled."""

    color: FloatArray  # float32 [H, W, 3]
    coverage: FloatArray  # float32 [H, W]


class Visible(NamedTuple):
    """The layers of one tile."""

    state: Float64Array  # [L, STATES]
    order: IntArray  # visible layers, near to far


class Group(NamedTuple):
    """One group of pixels."""

    y: float
    x: float  # offset of the first pixel from the picture's centre
    base: int  # index of its own texel on the canvas
    pixel: int  # its index in the picture
    top: int  # its row in the tile
    rows: int
    columns: int  # pixels of the group that lie in the picture
    tile_column: int


class Scratch(NamedTuple):
    """Addresses of scratch: `slots` cells of CELL floats for each layer, three colours and one alpha per channel."""

    means: int  # exact means of the layers
    sums: int  # sums over rays, of the layers and two rows more (`control_variate.sum_rays`)
    buffer: int
    slots: int


class Texels(NamedTuple):
    """One plane of a layer."""

    address: int  # of canvas texel (0, 0)
    stride: int  # texels per row
    base: int  # index of the group's first pixel's own texel


class Radius(NamedTuple):
    """Signed blur radius of a plane in px: of a group's first pixel, and its rise per column and per row."""

    first: float
    per_column: float
    per_row: float


class Hits(NamedTuple):
    """Where a batch of rays meets a layer."""

    texel: IntArray  # [n] index of the upper left texel, for the group's first pixel
    fraction: FloatArray  # float32 [n, 2]: x and y of the first pixel's hit relative to it
    drift: FloatArray  # float32 [n, 4]: of the hit's x per column and row, then of its y
    kind: IntArray  # [n]: ONE_TEXEL .. SCATTERED of `ray_batches`


class Batch(NamedTuple):
    """A batch of rays: `size` from ray `start` on. Addresses hold CELL floats for each."""

    weights: FloatArray
    start: int
    size: int
    through: int  # address of the light that is left of each ray
    mask: int  # address of which rays the pupil lets pass, 1 or 0; 0 if all


class TracedLayers(NamedTuple):
    """The layers of a picture on their canvas, and the lens."""

    packed: FloatArray  # float32 [L, 4, Hc, Wc]: premultiplied R, G, B, A
    planes: Float64Array  # [L, 3]: d, gx, gy
    pyramids: Pyramids
    camera: Camera
    margin: int
