"""A first look at every tile of a picture: what it sees, which way it goes, and how bright it is where rays are needed.

Rays are shared out over the whole picture, so that all tiles are looked at before the first is developed.
"""

from dataclasses import dataclass

import numpy as np

from bokehsynth.rendering.cpu.tile_bounds import (
    OPAQUE,
    REACH,
    STATES,
    brightest,
    classify,
    is_ordered,
    varies_together,
    visible_order,
)
from bokehsynth.rendering.jit import kernel, leaf
from bokehsynth.rendering.tile_constants import (
    BY_RAYS,
    CONTROL_VARIATE,
    COPY,
    DIRECT,
    PREFIX_SUM,
    RAY_TRACED,
    RUNS_FROM,
    TILE_H,
    TILE_W,
)
from bokehsynth.rendering.types import Float64Array, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Survey:
    """What is known of the tiles [rows, columns] of a picture of L layers."""

    states: Float64Array
    """[rows, columns, L, STATES]: see `tiles`."""
    orders: IntArray
    """[rows, columns, L]: layers that are seen, near to far, then -1."""
    lights: FloatArray
    """float32 [rows, columns]: brightest light behind the nearest layer of CONTROL_VARIATE tiles. Infinite where no
    layer closes the view: there colours are divided by what little light arrives."""


def blank_survey(tile_rows: int, tile_columns: int, layers: int) -> Survey:
    """Room for `survey_rows`."""
    shape = (tile_rows, tile_columns)
    return Survey(np.empty((*shape, layers, STATES)), np.empty((*shape, layers), np.int64), np.zeros(shape, np.float32))


@kernel
def survey_rows(planes, extremes, levels, view, margin, size, mode, start, stop, states, orders, lights, paths):
    """Fill tile rows start .. stop - 1 of a `Survey` and of `paths` for a picture of size (height, width).

    mode: NO_PUPIL, BY_CORNERS or BY_RAYS.
    """
    layers = len(planes)
    state, seen = np.zeros((layers, STATES)), np.empty(layers, np.int64)
    for row in range(start, stop):
        y0 = row * TILE_H
        rows = min(TILE_H, size[0] - y0)
        for column in range(paths.shape[1]):
            x0 = column * TILE_W
            n = min(TILE_W, size[1] - x0)
            y, x = y0 + margin - view[2], x0 + margin - view[3]
            for m in range(layers):
                classify(planes, extremes, levels, view, y, x, rows, n, m, state)
            count = visible_order(state, seen)
            way = _path(state, seen, count, planes, extremes, mode)
            if way == CONTROL_VARIATE:
                lights[row, column] = _light(extremes, levels, view, y, x, rows, n, state, seen, count)
            paths[row, column] = way
            for m in range(layers):
                orders[row, column, m] = seen[m] if m < count else -1
                for k in range(STATES):
                    states[row, column, m, k] = state[m, k]


@leaf
def _path(state, seen, count, planes, extremes, mode):
    """Which way a tile goes."""
    reach = 0.0
    for k in range(count):
        reach = max(reach, state[seen[k], REACH])
    way = CONTROL_VARIATE
    if not varies_together(state, seen, count, extremes):
        way = COPY if reach == 0 else DIRECT if reach < RUNS_FROM else PREFIX_SUM
    if not is_ordered(state, seen, count, planes) or (mode == BY_RAYS and way != COPY):
        way = RAY_TRACED
    return way


@leaf
def _light(extremes, levels, view, y, x, rows, n, state, seen, count):
    if state[seen[count - 1], OPAQUE] == 0:
        return np.float32(np.inf)
    light = np.float32(0)
    for k in range(1, count):
        m = seen[k]
        light = max(light, brightest(extremes, levels, m, y + view[2], x + view[3], rows, n, state[m, REACH] + 1))
    return light


@kernel
def typical_light(lights):
    """Root mean square of the lights of tiles that have one."""
    total, count = 0.0, 0
    for light in lights.flat:
        if 0 < light < np.inf:
            total += light * light
            count += 1
    return np.sqrt(total / count) if count > 0 else 1.0
