"""Height fields on the CPU: a ray tracer for scenes in which a layer's disparity is an array, compiled by Numba.

Every ray's first hit is found exactly, through walls and folds (`relief_hits`), planes beside height fields included.
The picture is cut into tiles; a tile traces the layers it can see, with as many rays as its largest blur radius needs.
Nothing is reordered between threads and no fast-math is used: the same bytes for any number of threads.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numba
import numpy as np
import numpy.typing as npt

from bokehsynth.errors import UsageError
from bokehsynth.optics import Plane
from bokehsynth.rendering.aperture.lens_points import LensTable, bake
from bokehsynth.rendering.cpu.height_field.accumulate import TILE_H, TILE_W, trace_tile
from bokehsynth.rendering.cpu.height_field.intersections import REACH, block_extremes, survey, visible_order
from bokehsynth.rendering.cpu.ray_tracer import grid_side
from bokehsynth.rendering.types import Float64Array, FloatArray, RenderInput, RenderOutput

THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
"""Set by the environment variable of that name, like every Numba program; workers of a generator run with 1."""


def render_scene(scene: RenderInput, samples: int | None) -> RenderOutput:
    """Render with at least `samples` rays where anything is blurred; None chooses by the local blur radius.

    Raises UsageError for an aperture that changes over the field.
    """
    lens = scene.lens
    if lens.aperture.depends_on_field:
        raise UsageError(
            f"{type(lens.aperture).__name__} changes over the picture (pupil or aberration): the cpu backend renders "
            "no height field through it; use backend='reference', or cut the field into layers with one Plane each"
        )
    packed = np.stack([layer.packed for layer in scene.layers])
    planes, which, heights = _surfaces(scene)
    alpha_blocks = np.stack([block_extremes(layer) for layer in packed[:, 3]])
    height_blocks = np.stack([block_extremes(field) for field in heights])
    view = (lens.blur, float(np.float32(lens.focus)), packed.shape[2], packed.shape[3], scene.margin)
    color = np.empty((scene.height, scene.width, 3), np.float32)
    coverage = np.empty((scene.height, scene.width), np.float32)

    corners = list(product(range(0, scene.height, TILE_H), range(0, scene.width, TILE_W)))
    states = [
        survey(alpha_blocks, planes, which, height_blocks, view, y0, x0,
               min(TILE_H, scene.height - y0), min(TILE_W, scene.width - x0))
        for y0, x0 in corners
    ]  # fmt: skip
    reaches = [max((state[m, REACH] for m in visible_order(state)), default=0.0) for state in states]
    tables = _ray_tables(scene, reaches, samples)

    def tile(job: tuple[tuple[int, int], Float64Array, float, LensTable]) -> None:
        (y0, x0), state, reach, rays = job
        trace_tile(
            packed, planes, which, heights, state, rays.points, rays.weights, view, reach > 0, y0, x0, color, coverage
        )

    jobs = zip(corners, states, reaches, tables, strict=True)
    if THREADS == 1:
        for job in jobs:
            tile(job)
    else:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(tile, jobs))
    return RenderOutput(color, coverage)


def _surfaces(scene: RenderInput) -> tuple[Float64Array, npt.NDArray[np.int64], FloatArray]:
    """Planes [L, 3] (d, gx, gy), the number of each layer's height field or -1 [L], and d - d_f of the fields.

    Planes are rounded like fields and the focus, so that what is level, or in focus, in one is so in the other.
    """
    planes, which = np.zeros((len(scene.layers), 3)), np.full(len(scene.layers), -1, np.int64)
    heights: list[FloatArray] = []
    for m, surface in enumerate(layer.disparity for layer in scene.layers):
        if isinstance(surface, Plane):
            planes[m] = np.float32(surface.d), surface.gx, surface.gy
        else:
            which[m] = len(heights)
            heights.append(surface.values - np.float32(scene.lens.focus))
    return planes, which, np.stack(heights or [np.zeros((1, 1), np.float32)])


def _ray_tables(scene: RenderInput, reaches: list[float], samples: int | None) -> list[LensTable]:
    """The rays of every tile, from its reach in pixels or for all the same."""
    fixed = None if samples is None else _side_for(scene, samples)
    sides = [fixed or grid_side(reach) for reach in reaches]
    baked = {side: bake(scene.lens.aperture, side) for side in set(sides)}
    return [baked[side] for side in sides]


def _side_for(scene: RenderInput, samples: int) -> int:
    """Smallest even grid side whose table holds at least `samples` rays."""
    side = max(2, 2 * int(np.sqrt(samples) / 2))
    while len(bake(scene.lens.aperture, side).points) < samples:
        side += 2
    return side
