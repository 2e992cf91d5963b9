"""The ray tracer on the CPU: ray-outer, pixel-inner over row spans, compiled by Numba.

For one lens point all pixels of a row see a layer through (nearly) the same displacement, so the inner loop runs over
neighbouring pixels with four shared bilinear taps and vectorises. The frame is cut into tiles; a tile traces only the
layers it can see, with as many rays as its largest blur radius needs. Nothing is reordered between threads and no
fast-math is used: the same bytes for any number of threads.

Exact by construction: a layer in focus does not move with the lens point, so its colour is taken out of the sum over
rays and multiplied by the light that reaches it. Where nothing blurred lies in front that factor is exactly 1, and
the pixel is bit-identical to the all-in-focus picture.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numba
import numpy as np
import numpy.typing as npt

from bokehsynth.errors import UsageError
from bokehsynth.render.bake import bake
from bokehsynth.render.kernels import TILE_H, TILE_W, block_extremes, grid_side, trace_tile
from bokehsynth.render.shot import Exposure, FloatArray, Shot

Float64Array = npt.NDArray[np.float64]

THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
"""Set by the environment variable of that name, like every Numba program; workers of a generator run with 1."""


def trace(shot: Shot, samples: int | None) -> Exposure:
    """Render with at least `samples` rays where anything is blurred; None chooses by the local blur radius.

    Raises UsageError for an aperture that changes over the field.
    """
    aperture = shot.lens.aperture
    if aperture.depends_on_field:
        raise UsageError(
            f"{type(aperture).__name__} changes over the picture (pupil or aberration), which the cpu backend does "
            "not render; use backend='reference'"
        )
    packed = np.stack([layer.packed for layer in shot.layers])
    planes = np.array([(p.d, p.gx, p.gy) for p in (layer.disparity for layer in shot.layers)])
    extremes = np.stack([block_extremes(layer) for layer in packed[:, 3]])
    points, weights, first, last_side = _ray_tables(shot, samples)
    color = np.empty((shot.height, shot.width, 3), np.float32)
    coverage = np.empty((shot.height, shot.width), np.float32)

    def tile(corner: tuple[int, int]) -> None:
        y0, x0 = corner
        trace_tile(
            packed, planes, extremes, points, weights, first, last_side,
            shot.lens.blur, shot.lens.focus, shot.margin, y0, x0, color, coverage,
        )  # fmt: skip

    corners = product(range(0, shot.height, TILE_H), range(0, shot.width, TILE_W))
    if THREADS == 1:
        for corner in corners:
            tile(corner)
    else:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(tile, corners))
    return Exposure(color, coverage)


def warm_up() -> None:
    """Compile (or load from the cache) every kernel, so that spawned workers only load it."""
    from bokehsynth.layers import Layer
    from bokehsynth.optics import Lens, Plane

    canvas = np.ones((24, 24, 3), np.float32)
    layers = (Layer(canvas, canvas[..., 0] * 0.5, Plane(0.9)), Layer(canvas, canvas[..., 0], Plane(0.1, 1e-3)))
    trace(Shot(layers, Lens(4.0, 0.5), 4), None)


def _ray_tables(shot: Shot, samples: int | None) -> tuple[Float64Array, FloatArray, npt.NDArray[np.int64], int]:
    """Lens points of every grid side that a tile of this shot may ask for, end to end.

    Returns points [N, 2], weights [N, 3], `first` where side 2k occupies rows first[k] .. first[k + 1], and the
    largest side. With `samples` given there is one table, used for every blurred tile.
    """
    aperture, planes = shot.lens.aperture, [layer.disparity for layer in shot.layers]
    if samples is not None:
        side = _side_for(shot, samples)
        table = bake(aperture, side)
        first = np.array([0] * (side // 2 + 1) + [len(table.points)], np.int64)
        return table.points, table.weights, first, -side
    reach = max(shot.lens.reach(plane, shot.width, shot.height) for plane in planes)
    sides = range(grid_side(0.0), grid_side(reach) + 2, 2)
    tables = [bake(aperture, side) for side in sides]
    first = np.zeros(sides[-1] // 2 + 2, np.int64)
    first[sides[0] // 2 + 1 :] = np.cumsum([len(table.points) for table in tables])
    points = np.concatenate([table.points for table in tables])
    return points, np.concatenate([table.weights for table in tables]), first, sides[-1]


def _side_for(shot: Shot, samples: int) -> int:
    """Smallest even grid side whose table holds at least `samples` rays."""
    side = max(2, 2 * int(np.sqrt(samples) / 2))
    while len(bake(shot.lens.aperture, side).points) < samples:
        side += 2
    return side
