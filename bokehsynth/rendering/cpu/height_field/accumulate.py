"""Numba kernels of the height-field ray tracer: carry rays through the layers of a tile, sum them, normalise the sums.

Ray-outer, pixel-inner: one ray is carried through the layers for a row of pixels at a time. A lookup is bilinear and
lies at another place for every pixel, but neighbours mostly move together: runs of them read memory in order.
"""

from typing import NamedTuple

import numpy as np

from bokehsynth.rendering.cpu.height_field.intersections import empty_crossings, intersect_height_field, list_crossings
from bokehsynth.rendering.cpu.ray_sums import write_pixel
from bokehsynth.rendering.cpu.tile_bounds import HIGH, LOW, REACH, is_ordered, nearest_first, visible_order
from bokehsynth.rendering.jit import inline_kernel, kernel
from bokehsynth.rendering.types import FloatArray

TILE_H, TILE_W = 8, 128
GROUP = 64
"""Rays summed before they are added to the whole: float32 sums of thousands then lose no more than those of dozens."""
RUN = 16
"""Neighbours that must share their texels for a loop of their own (measured: shorter ones cost more than they save)."""


class Canvas(NamedTuple):
    """Premultiplied planes with their rows of `width` texels end to end, float32 [L, 4, Hc*Wc]."""

    flat: FloatArray
    width: int


class Ray(NamedTuple):
    """One lens point: (ux, uy) = K*s, so that a hit lies at p + (ux, uy)*delta; weights of R, G and B."""

    ux: float
    uy: float
    weights: tuple[float, float, float]


class Scratch(NamedTuple):
    """One ray of every pixel of a row of n."""

    delta: FloatArray  # float32 [L, n]: d(p') - d_f of the hits
    through: FloatArray  # float32 [n]: light that still passes
    fraction: FloatArray  # float32 [2, n]: position of a lookup in its cell, x and y
    value: FloatArray  # float32 [4, n]: R, G, B, A looked up
    texel: "np.ndarray[tuple[int], np.dtype[np.int32]]"
    """int32 [n]: upper left texel of a lookup as seen from pixel 0, equal for neighbours that move together."""


class Sums(NamedTuple):
    """Sums over the rays of a tile."""

    light: FloatArray  # float32 [rows, 6, n]: light of R, G and B, then how much of it some layer has stopped
    touched: FloatArray  # float32 [rows, n]: the largest share of a ray that a layer out of focus has stopped


@kernel
def trace_tile(surfaces, state, points, weights, camera, margin, corner, picture):
    """Trace the tile of at most TILE_H x TILE_W whose first pixel is `corner` (y, x) of the picture.

    state: of `classify_layers`; points float64 [N, 2], weights float32 [N, 3].
    """
    y0, x0 = corner
    rows, n = min(TILE_H, len(picture.color) - y0), min(TILE_W, picture.color.shape[1] - x0)
    layers = len(surfaces.planes)
    order = np.empty(layers, np.int64)
    order = order[: visible_order(state, order)]
    ordered = is_ordered(state, order, len(order), surfaces.planes)
    moves = False  # whether anything on the tile moves with the lens point
    for m in order:
        moves |= state[m, REACH] > 0
    part = Sums(np.zeros((rows, 6, n), np.float32), np.zeros((rows, n), np.float32))
    whole = np.zeros((rows, 6, n), np.float32)
    weight, total = np.zeros(3, np.float32), np.zeros(3, np.float32)
    crossings = empty_crossings(state, camera.blur)
    scratch = Scratch(
        np.empty((layers, n), np.float32), np.empty(n, np.float32), np.empty((2, n), np.float32),
        np.empty((4, n), np.float32), np.empty(n, np.int32),
    )  # fmt: skip
    canvas = Canvas(surfaces.packed.reshape(layers, 4, -1), surfaces.packed.shape[3])
    for i in range(len(points)):
        weight += weights[i]
        if moves:
            ray = Ray(
                camera.blur * points[i, 0], camera.blur * points[i, 1], (weights[i, 0], weights[i, 1], weights[i, 2])
            )
            for m in order:
                if surfaces.field[m] >= 0:
                    list_crossings(state[m, LOW], state[m, HIGH], ray.ux, ray.uy, crossings, m)
            for row in range(rows):
                y, x = y0 + row + margin, x0 + margin
                _intersect_layers(surfaces, state, order, crossings, camera, ray, (y, x), scratch)
                _carry(canvas, order, ordered, ray, y * canvas.width + x, scratch, part, row)
        if i % GROUP == GROUP - 1 or i == len(points) - 1:
            whole += part.light
            total += weight
            part.light[:], weight[:] = 0, 0
    _normalise(surfaces, camera, margin, corner, Sums(whole, part.touched), total, moves, picture)


@inline_kernel
def _intersect_layers(surfaces, state, order, crossings, camera, ray, texel, scratch):
    """Fill delta of the visible layers for one ray of the pixels at texels (y, x), (y, x + 1), ..."""
    y, x = texel
    for k in range(len(order)):
        m = order[k]
        if surfaces.field[m] >= 0:
            field, low = (surfaces.heights, surfaces.field[m]), np.float32(state[m, LOW])
            intersect_height_field(field, m, crossings, low, y, x, scratch.through, scratch.delta)
        else:
            _intersect_plane(surfaces.planes, m, camera, ray, y, x, scratch.delta)


@inline_kernel
def _intersect_plane(planes, m, camera, ray, y, x, delta):
    """Fill delta[m] = d(p') - d_f for the rays of the pixels at texels (y, x), (y, x + 1), ..."""
    d, gx, gy = planes[m, 0], planes[m, 1], planes[m, 2]
    stretch = 1 / (1 - (gx * ray.ux + gy * ray.uy))
    first = (d + gx * (x - camera.cx) + gy * (y - camera.cy) - camera.focus) * stretch
    step = gx * stretch
    for k in range(delta.shape[1]):
        delta[m, k] = first + step * k


@kernel
def _carry(canvas, order, ordered, ray, corner, scratch, sums, row):
    """Take one ray of every pixel of a row through the layers, in the order of each pixel's own hits.

    corner: texel of the row's first pixel.
    """
    delta, through = scratch.delta, scratch.through
    n = len(through)
    for x in range(n):
        through[x] = 1
    if ordered or _is_sorted(delta, order):
        _pass_layers(canvas, order, ray, corner, scratch, sums, row, (0, n))
    else:
        local, start = nearest_first(delta, order, 0), 0
        for x in range(1, n):
            mine = nearest_first(delta, order, x)
            if (mine != local).any():
                _pass_layers(canvas, local, ray, corner, scratch, sums, row, (start, x))
                local, start = mine, x
        _pass_layers(canvas, local, ray, corner, scratch, sums, row, (start, n))
    for c in range(3):
        for x in range(n):
            sums.light[row, 3 + c, x] += ray.weights[c] * (np.float32(1) - through[x])


@inline_kernel
def _is_sorted(delta, order):
    for k in range(1, len(order)):
        a, b = order[k - 1], order[k]
        wrong = 0
        for x in range(delta.shape[1]):
            wrong += (delta[a, x] < delta[b, x]) | ((delta[a, x] == delta[b, x]) & (a > b))
        if wrong > 0:
            return False
    return True


@inline_kernel
def _pass_layers(canvas, order, ray, corner, scratch, sums, row, span):
    """Composite the layers in this order at pixels span[0]..span[1] of a row."""
    start, stop = span
    for k in range(len(order)):
        _look_up(canvas, order[k], ray, corner, scratch, start, stop)
        if not _add(scratch, order[k], ray, sums, row, start, stop):
            return


@inline_kernel
def _look_up(canvas, m, ray, corner, scratch, start, stop):
    """Look up R, G, B, A of layer m bilinearly at pixels start..stop, displaced by (ux, uy)*delta."""
    delta, fraction, texel = scratch.delta, scratch.fraction, scratch.texel
    ux, uy = np.float32(ray.ux), np.float32(ray.uy)
    width = canvas.width
    for x in range(np.uint64(start), np.uint64(stop)):
        dx, dy = ux * delta[m, x], uy * delta[m, x]
        ix, iy = np.floor(dx), np.floor(dy)
        fraction[0, x], fraction[1, x] = dx - ix, dy - iy
        texel[x] = np.int32(iy) * np.int32(width) + np.int32(ix) + np.int32(corner)
    x = start
    while x < stop:
        end = x + 1
        while end < stop and texel[end] == texel[x]:
            end += 1
        upper, lower = np.uint64(texel[x]), np.uint64(texel[x] + width)
        if end - x >= RUN:
            for c in range(4):
                _look_up_run(canvas.flat, m, c, (upper, lower), scratch, np.uint64(x), np.uint64(end))
        else:
            for k in range(np.uint64(x), np.uint64(end)):
                _look_up_one(canvas.flat, m, upper + k, lower + k, scratch, k)
        x = end


@inline_kernel
def _look_up_run(flat, m, c, texels, scratch, start, stop):
    fraction, value = scratch.fraction, scratch.value
    upper, lower = texels
    right, lower_right = upper + np.uint64(1), lower + np.uint64(1)
    for x in range(start, stop):
        a, b = flat[m, c, upper + x], flat[m, c, lower + x]
        a += fraction[0, x] * (flat[m, c, right + x] - a)
        b += fraction[0, x] * (flat[m, c, lower_right + x] - b)
        value[c, x] = a + fraction[1, x] * (b - a)


@inline_kernel
def _look_up_one(flat, m, upper, lower, scratch, x):
    fx, fy = scratch.fraction[0, x], scratch.fraction[1, x]
    for c in range(np.uint64(4)):
        a, b = flat[m, c, upper], flat[m, c, lower]
        a += fx * (flat[m, c, upper + np.uint64(1)] - a)
        b += fx * (flat[m, c, lower + np.uint64(1)] - b)
        scratch.value[c, x] = a + fy * (b - a)


@inline_kernel
def _add(scratch, m, ray, sums, row, start, stop):
    """Put one layer behind those before it; False once no light passes."""
    delta, through, value, light, touched = scratch.delta, scratch.through, scratch.value, sums.light, sums.touched
    first, last = np.uint64(start), np.uint64(stop)
    for c in range(3):
        for x in range(first, last):
            light[row, c, x] += ray.weights[c] * through[x] * value[c, x]
    most = np.float32(0)
    for x in range(first, last):
        stopped = through[x] * value[3, x]
        touched[row, x] = max(touched[row, x], stopped if delta[m, x] != 0 else np.float32(0))
        through[x] *= np.float32(1) - value[3, x]
        most = max(most, through[x])
    return most > 0


@kernel
def _normalise(surfaces, camera, margin, corner, sums, total, moves, picture):
    """Divide the sums over rays by their weights, `total`: colour and coverage of a tile.

    A pixel that saw nothing but layers in focus gets what a pinhole sees, computed as the pinhole does and not as a
    mean over rays: bit-identical to the all-in-focus picture.
    """
    value, share = np.empty(3, np.float32), np.empty(3, np.float32)
    delta = np.empty((len(surfaces.planes), 1))
    for row in range(len(sums.touched)):
        for x in range(sums.touched.shape[1]):
            y, column = corner[0] + row, corner[1] + x
            sharp = False
            if not moves or sums.touched[row, x] == 0:
                sharp = _pinhole(surfaces, camera, y + margin, column + margin, delta, value, share)
            if moves and not sharp:
                for c in range(3):
                    value[c], share[c] = sums.light[row, c, x] / total[c], sums.light[row, 3 + c, x] / total[c]
            write_pixel(value, share, total, picture, y, column)


@kernel
def _pinhole(surfaces, camera, row, column, delta, value, share):
    """Colour and coverage of the chief ray of texel (row, column), and whether all that it meets is in focus."""
    for m in range(len(surfaces.planes)):
        if surfaces.field[m] >= 0:
            delta[m, 0] = surfaces.heights[surfaces.field[m], row, column]
        else:
            d, gx, gy = surfaces.planes[m]
            delta[m, 0] = d + gx * (column - camera.cx) + gy * (row - camera.cy) - camera.focus
    through, sharp = np.float32(1), True
    value[:] = 0
    for m in nearest_first(delta, np.arange(len(surfaces.planes)), 0):
        alpha = surfaces.packed[m, 3, row, column]
        sharp &= delta[m, 0] == 0 or through * alpha == 0
        for c in range(3):
            value[c] += surfaces.packed[m, c, row, column] * through
        through *= np.float32(1) - alpha
    share[:] = np.float32(1) - through
    return sharp
