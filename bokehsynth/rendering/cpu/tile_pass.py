"""From exact means and rays to a finished picture: the fast path of the CPU renderer, tile by tile."""

import numpy as np

from bokehsynth.rendering.cpu.composite import finish
from bokehsynth.rendering.cpu.control_variate import correlate, rays_for
from bokehsynth.rendering.cpu.layer_filter import filter_between, filter_plane, gains, gains_between
from bokehsynth.rendering.cpu.ray_batches import BATCH
from bokehsynth.rendering.cpu.simd import cell, load, mul, store
from bokehsynth.rendering.cpu.tile_bounds import REACH, STATES
from bokehsynth.rendering.jit import kernel, leaf
from bokehsynth.rendering.tile_constants import (
    BY_CORNERS,
    CELL,
    CONTROL_VARIATE,
    FAR_KERNELS,
    FLOAT_BYTES,
    GROUP,
    LANES,
    NEAR_KERNELS,
    PACKED,
    PACKED_STEP,
    RAY_TRACED,
    RUNS_FROM,
    SOURCE,
    SOURCE_STEP,
    SUMS,
    SUMS_STEP,
    TAP_KERNELS,
    TILE_H,
    TILE_W,
)


def room_rows(layers: int, channels: int) -> int:
    """Rows of scratch that `develop_rows` needs."""
    return 2 * (layers + 1) * (3 + channels) + 3 * BATCH + 1


@kernel
def develop_rows(layer_planes, survey, book, rays, pupil, start, stop, color, coverage, room):
    """Fill tile rows start .. stop - 1 of color [H, W, 3] and coverage [H, W].

    layer_planes: (addresses, planes, opaque, spans, view, margin, stride); survey: states, orders and lights of a
    `survey.Survey`, their typical light and which way each tile goes; book: (taps, nodes, norms, reference); rays:
    points, weights and spans of a `lens_tables.RayTable`, which of R, G, B pass at all, and `plates.Aims`; pupil:
    (NO_PUPIL, BY_CORNERS or BY_RAYS, addresses of the two planes [H, W] of its centre, its radius); with corners,
    `spans` and the book are those of a single tile row (`plates.book_of_corners`); see `cpu`. RAY_TRACED tiles are left
    alone. room: float32 [room_rows(L, C), CELL] of scratch; the caller holds it, since addresses into it would not
    keep it alive.
    """
    addresses, planes, opaque, spans, view, margin, stride = layer_planes
    states, orders, lights, typical, paths = survey
    (offsets, kernel_weights, first_tap, edges, first_run), nodes, norms, reference = book
    points, weights, ray_spans, lit, stretches, steps, places = rays
    layers, kinds = len(planes), 3 + len(weights)
    state, seen = np.zeros((layers, STATES)), np.empty(layers, np.int64)
    texel, kind = np.empty(BATCH, np.int64), np.empty(BATCH, np.int64)
    place, drift = np.empty((BATCH, 2), np.float32), np.empty((BATCH, 4), np.float32)
    means = np.int64(room.ctypes.data)
    sums = means + FLOAT_BYTES * CELL * layers * kinds
    spare = sums + FLOAT_BYTES * CELL * (layers + 2) * kinds
    for row in range(start, stop):
        y0 = row * TILE_H
        rows = min(TILE_H, len(color) - y0)
        for column in range(paths.shape[1]):
            way = paths[row, column]
            if way == RAY_TRACED:
                continue
            together, x0 = way == CONTROL_VARIATE, column * TILE_W
            n = min(TILE_W, color.shape[1] - x0)
            y, x = y0 + margin - view[2], x0 + margin - view[3]
            order = seen[: _recall(states, orders, row, column, state, seen)]
            if together:
                begin, end = rays_for(planes, state, order, ray_spans, lights[row, column] / typical)
            for top in range(0, rows, GROUP):
                _expose(
                    addresses, planes, opaque, spans, view, stride, kinds, state, order, y + top, x,
                    pupil[0] == BY_CORNERS, top, column,
                    offsets, kernel_weights, first_tap, edges, first_run, nodes, norms, reference, means, spare,
                )  # fmt: skip
                if together:
                    pixel = (y0 + top) * color.shape[1] + x0
                    correlate(
                        addresses, planes, opaque, view, stride, kinds, state, order, y + top, x, pupil, pixel,
                        color.shape[1], points, weights, stretches, steps, places, begin, end,
                        texel, place, drift, kind, sums, spare,
                    )  # fmt: skip
                finish(
                    kinds, opaque, lit, state, order, together, means, sums, spare,
                    y0 + top, x0, min(GROUP, rows - top), n, color, coverage,
                )  # fmt: skip


@leaf
def _recall(states, orders, row, column, state, seen):
    """Copy what is known of a tile: a slice would be counted and released. Returns how many layers are seen."""
    count = 0
    for m in range(len(seen)):
        seen[m] = orders[row, column, m]
        count += seen[m] >= 0
        for k in range(STATES):
            state[m, k] = states[row, column, m, k]
    return count


@leaf
def _expose(  # noqa: PLR0912  # one branch for each way a layer can be blurred
    addresses, planes, opaque, spans, view, stride, kinds, state, order, y, x, vignetted, top,
    column, offsets, weights, first_tap, edges, first_run, nodes, norms, reference, means, spare,
):  # fmt: skip
    """Means over the opening of the layers in `order`, for the group whose first pixel lies at offset (x, y).

    With a pupil the kernels are those at corners (`plates.book_of_corners`), and `top` is the group's row in the tile.
    """
    K, focus, oy, ox = view
    base, line, rows, per_tile = int(y + oy) * stride + int(x + ox), 0, 1, 0
    for m in order:
        count = 3 if opaque[m] == 1 else kinds
        if state[m, REACH] == 0:
            for p in range(count):
                plane, here = addresses[m, PACKED] + min(p, 3) * addresses[m, PACKED_STEP], cell(means, kinds, m, p)
                for r in range(GROUP):
                    store(here, r * LANES, load(plane, base + r * stride))
            continue
        r, rx, ry = K * (planes[m, 0] + planes[m, 1] * x + planes[m, 2] * y - focus), K * planes[m, 1], K * planes[m, 2]
        if vignetted:
            runs, per_tile, rows = spans[m, 1, 1] == 1, spans[m, 2, 0], spans[m, 2, 1]
            line = top // rows  # of corners above the group
            entry = (spans[m, 0, 0] if line == 0 else spans[m, 0, 1]) + column * per_tile
            stop = (spans[m, 0, 1] if line == 0 else spans[m, 1, 0]) + column * per_tile
        else:
            family = _family(spans, m, r, rx, ry)
            runs, entry, stop = family != TAP_KERNELS, spans[m, family, 0], spans[m, family, 1]
        source, step = addresses[m, PACKED], addresses[m, PACKED_STEP]
        if runs:
            source, step = addresses[m, SOURCE], addresses[m, SOURCE_STEP]
        for p in range(count):
            plane, channel = min(p, 3), min(p, kinds - 4) if p < 3 else p - 3
            at, prefix = source + plane * step, addresses[m, SUMS] + plane * addresses[m, SUMS_STEP]
            if vignetted:
                filter_between(
                    at, prefix, stride, base, offsets, weights, first_tap, edges, first_run, entry, stop, per_tile,
                    top - line * rows, rows, channel, spare, cell(means, kinds, m, p),
                )  # fmt: skip
            else:
                filter_plane(
                    at, prefix, stride, base, offsets, weights, first_tap, edges, first_run, nodes, entry, stop,
                    r, rx, ry, channel, spare, cell(means, kinds, m, p),
                )  # fmt: skip
        if runs:
            if vignetted:
                gains_between(
                    r, rx, ry, norms, entry, stop, per_tile, top - line * rows, rows, reference[m], spare
                )  # fmt: skip
            else:
                gains(r, rx, ry, nodes, norms, entry, stop, reference[m], spare)
            for p in range(count):
                here = cell(means, kinds, m, p)
                for i in range(GROUP):
                    store(here, i * LANES, mul(load(here, i * LANES), load(spare, i * LANES)))


@leaf
def _family(spans, m, r, rx, ry):
    """Which kernels serve a group: with prefix sums where the layer has them and all its radii are large enough."""
    low = r + min(0.0, rx * (LANES - 1)) + min(0.0, ry * (GROUP - 1))
    high = r + max(0.0, rx * (LANES - 1)) + max(0.0, ry * (GROUP - 1))
    alone = spans[m, TAP_KERNELS, 1] == spans[m, TAP_KERNELS, 0]  # then only pixels past the border have smaller radii
    if (low >= RUNS_FROM or alone) and spans[m, NEAR_KERNELS, 1] > spans[m, NEAR_KERNELS, 0]:
        return NEAR_KERNELS
    if (high <= -RUNS_FROM or alone) and spans[m, FAR_KERNELS, 1] > spans[m, FAR_KERNELS, 0]:
        return FAR_KERNELS
    return TAP_KERNELS
