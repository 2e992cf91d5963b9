"""Footprint kernels: all rays of one pixel through one layer, folded into one table of texel weights.

A ray of lens point u meets a layer at the offset  D = r u / (1 - e.u)  from its pixel (r = K delta, signed; e = K g),
so the layer's mean over the opening is a weighted sum of texels,

    weight(i) = integral over the opening of tent(D(u) - i) du,   tent = the bilinear lookup,

whatever the number of rays. The opening is a polygon (`outline`); u -> D maps lines to lines, so its image is
one too. It is scanned in sub-rows, Gauss points between texel rows, closer at the tips; along a sub-row the integral
is closed. Two forms:

coverage  weight of area du * (1 - e.u)^-3, uniform where the tent lies inside: sums along a row become prefix sums.
          The picture it is applied to carries the missing factor |s|^-3 (`cpu.layer_filter`).
density   the true weight, also with a transmission that varies over the opening. Every texel is a tap of its own.

Between two radii the weights are interpolated; `node_spacing` says what that costs.
"""

from typing import NamedTuple

import numpy as np

from bokehsynth.rendering.aperture.scanlines import scan, through_pupils
from bokehsynth.rendering.jit import always_inline_kernel, kernel
from bokehsynth.rendering.types import Float64Array, FloatArray, IntArray

INTERIOR = 1e-6
"""A texel whose coverage differs from 1 by less lies inside."""

SHORTEST_RUN = 4
"""Texels; a shorter run costs more than its taps."""

PIECE = 0.5 / np.sqrt(3.0)
"""Two Gauss points 1/2 -+ PIECE per texel make the integral of a linear function times a smooth one."""

UNVIGNETTED = np.array([[[0.0, 0.0, np.inf]]])
"""The `pupils` of an opening that no further disc limits."""


class ApertureShape(NamedTuple):
    """The aperture that footprint kernels integrate over, baked by `tables.LensTables`."""

    outline: Float64Array  # [V, 4]: directed segments of the boundary
    detail: int  # how many times closer than a disc it is scanned
    transmission: FloatArray  # [C, T, T] over the square -1..1 of lens points; [1, 1, 1] where it is uniform


class FootprintKernels(NamedTuple):
    """Kernels at n nodes as lists of taps, each beside its difference to the next (0 for the last)."""

    offsets: IntArray  # [T]: row * stride + column of each tap
    weights: FloatArray  # [2C, T]: C values, then C differences
    first_tap: IntArray  # [n + 1]
    edges: IntArray  # [2, R]: right and left end of runs in a prefix sum
    first_run: IntArray  # [n + 1]
    norms: Float64Array  # [n, 4]: kernel i at r_i and r_i+1, kernel i + 1 at both; coverage form only


@kernel
def node_spacing(radius):
    """Return the distance in px between interpolated kernels at a blur radius: about r / 32.

    The interpolated rim is off by h^2/8 of a texel's weight 1/(pi r^2), and near the focus, where weights are linear in
    r but for a term r^2/(2 pi), by h^2/(8 pi). Measured: a weight of the disc is off by 1.0e-4 at most (r = 1.1), of a
    ring by 4.2e-4; from 6 px on by 6e-5.
    """
    r = abs(radius)
    step = 0.03125
    while r >= 64 * step:
        step *= 2
    return step


@kernel
def radius_nodes(low, high):
    """Signed radii, multiples of `node_spacing`, that enclose low..high: float64 [n], n >= 2. Zero is one if inside."""
    count = 0
    for fill in range(2):
        node = np.floor(low / node_spacing(low)) * node_spacing(low)
        if fill == 1:
            out = np.empty(count)
        count = 0
        while True:
            if fill == 1:
                out[count] = node
            count += 1
            if node >= high and count >= 2:
                break
            step = node_spacing(node) if node >= 0 else node_spacing(node + 1e-9)
            node += step
    return out


@always_inline_kernel
def _cover(out, half, x, y, weight, lean_x, lean_y):
    """Add weight * tent-smoothed step, 1 left of x, as differences along the rows above and below y.

    (lean_x, lean_y) = 3 e / r: within a texel the density falls by that share per px, which a rim texel, covered on
    one side, feels at first order; one covered throughout does not.
    """
    row, column = int(np.floor(y)), int(np.floor(x))
    f, v = x - column, y - row
    near, far = (1 - f) * (1 - f) / 2, f * f / 2
    # First moments of the tent left of x, of the texels at and after it: integral of t (1 - |t|).
    at = -lean_x * (f * f / 2 - f * f * f / 3 - 1 / 6)
    after = -lean_x * ((f - 1) ** 2 / 2 + (f - 1) ** 3 / 3 - 1 / 6)
    j, i = row + half, column + half
    upper, lower = weight * (1 - v) * (1 - lean_y * v), weight * v * (1 - lean_y * (v - 1))
    out[j, i - 1] += upper * (near - at)
    out[j, i] += upper * (1 - near - far + at - after)
    out[j, i + 1] += upper * (far + after)
    out[j + 1, i - 1] += lower * (near - at)
    out[j + 1, i] += lower * (1 - near - far + at - after)
    out[j + 1, i + 1] += lower * (far + after)


@kernel
def coverage_kernel(lines, r, ex, ey, pupil, half):
    """Share of every texel's tent that the image of the opening covers, 1 inside: float64 [2 half + 1] squared.

    lines: of `scan`; r: signed blur radius in px; (ex, ey) = K g; pupil [rims, 3]: centres and radii of discs that
    lens points must also lie in.
    """
    y, g, x, first = lines
    out = np.zeros((2 * half + 1, 2 * half + 1))
    for n in range(len(y)):
        if not -half < y[n] < half:  # of a node beyond the picture's border
            continue
        for k in range(first[n], first[n + 1] - 1, 2):
            left, right = through_pupils(y[n], x[k], x[k + 1], r, ex, ey, pupil)
            left, right = max(left, 1.0 - half), min(right, half - 1e-9)
            if right > left:
                _cover(out, half, right, y[n], g[n], 3 * ex / r, 3 * ey / r)
                _cover(out, half, left, y[n], -g[n], 3 * ex / r, 3 * ey / r)
    for j in range(len(out)):
        total = 0.0
        for i in range(len(out) - 1, -1, -1):
            total += out[j, i]
            out[j, i] = total
    return out


@kernel
def density_kernel(lines, opening, r, ex, ey, pupil, half):
    """Weights of the texels, one set for each channel of the transmission, sums 1: float64 [C, 2 half + 1] squared."""
    y, g, x, first = lines
    detail, table = opening.detail, opening.transmission
    channels, side = len(table), table.shape[1]
    out = np.zeros((channels, 2 * half + 1, 2 * half + 1))
    if r == 0:
        out[:, half, half] = 1
        return out
    step = 2 * half if side == 1 else abs(r) / (4 * detail)  # transmission may vary within a texel
    for n in range(len(y)):
        row = int(np.floor(y[n]))
        v, j = y[n] - row, row + half
        if not -half < y[n] < half:
            continue
        for k in range(first[n], first[n + 1] - 1, 2):
            left, right = through_pupils(y[n], x[k], x[k + 1], r, ex, ey, pupil)
            left, right = max(left, 1.0 - half), min(right, half - 1e-9)
            start = left
            while start < right:
                column = int(np.floor(start))
                stop = min(right, float(column + 1), start + step)
                for point in range(2):
                    at = start + (stop - start) * (0.5 + (2 * point - 1) * PIECE)
                    scale = r + ex * at + ey * y[n]  # du = r / scale^3 dD
                    dense = g[n] * (stop - start) / 2 * r / (scale * scale * scale)
                    u = at - column
                    for c in range(channels):
                        w = dense * (1.0 if side == 1 else _transmission(table[c], at / scale, y[n] / scale))
                        i = column + half
                        out[c, j, i] += w * (1 - v) * (1 - u)
                        out[c, j, i + 1] += w * (1 - v) * u
                        out[c, j + 1, i] += w * v * (1 - u)
                        out[c, j + 1, i + 1] += w * v * u
                start = stop
    for c in range(channels):
        total = out[c].sum()
        if total > 0:
            out[c] /= total
    return out


@kernel
def passed_light(opening, pupils):
    """Integral of the transmission over what each pupil [P, rims, 3] (cx, cy, radius) lets pass: [P, C]."""
    detail, table = opening.detail, opening.transmission
    channels, side = len(table), table.shape[1]
    out = np.zeros((len(pupils), channels))
    y, g, x, first = scan(opening.outline, 1.0, 0.0, 0.0, detail)
    for p in range(len(pupils)):
        for n in range(len(y)):
            for k in range(first[n], first[n + 1] - 1, 2):
                left, right = through_pupils(y[n], x[k], x[k + 1], 1.0, 0.0, 0.0, pupils[p])
                pieces = 1 if side == 1 else 8 * detail
                for piece in range(pieces if right > left else 0):
                    for point in range(2):
                        at = left + (right - left) * (piece + 0.5 + (2 * point - 1) * PIECE) / pieces
                        for c in range(channels):
                            w = 1.0 if side == 1 else _transmission(table[c], at, y[n])
                            out[p, c] += w * g[n] * (right - left) / (2 * pieces)
    return out


@kernel
def _transmission(table, ux, uy):
    side = len(table)
    px = min(max((ux + 1) / 2 * (side - 1), 0.0), side - 1.0)
    py = min(max((uy + 1) / 2 * (side - 1), 0.0), side - 1.0)
    i, j = min(int(px), side - 2), min(int(py), side - 2)
    u, v = px - i, py - j
    upper = (1 - u) * table[j, i] + u * table[j, i + 1]
    lower = (1 - u) * table[j + 1, i] + u * table[j + 1, i + 1]
    return (1 - v) * upper + v * lower


@kernel
def kernel_norm(kernel, half, r, ex, ey):
    """Sum of a coverage kernel times (1 + e.D/r)^-3: what the picture's |s|^-3 makes of a constant.

    Of the texels in a footprint 1 + e.D/r is more than 0.4/(1 + e) (one px beyond the rim, r = 6). Those where it is
    less lie about the line in focus, where rounding has left 1e-17 of a weight and the factor has no limit.
    """
    total, least = 0.0, 0.25 / (1 + np.hypot(ex, ey))
    for j in range(len(kernel)):
        for i in range(len(kernel)):
            scale = 1 + (ex * (i - half) + ey * (j - half)) / r
            if kernel[j, i] != 0 and scale > least:
                total += kernel[j, i] / (scale * scale * scale)
    return total


@kernel
def half_width(r, ex, ey):
    """Texels from the pixel that a kernel may touch."""
    return int(np.ceil(abs(r) / (1 - np.hypot(ex, ey)))) + 2


@kernel
def _grown(array, needed):
    """Return the array, or a copy twice as long if `needed` elements of its last axis do not fit."""
    if needed <= array.shape[1]:
        return array
    copy = np.empty((array.shape[0], max(needed, 2 * array.shape[1])), array.dtype)
    copy[:, : array.shape[1]] = array
    return copy


@kernel
def footprint_kernels(opening, pupils, nodes, ex, ey, runs, stride):
    """Make the kernels at all `nodes`, signed radii, as lists of taps ready to be applied: FootprintKernels.

    pupils [1 or n, rims, 3]: cx, cy, radius of every rim, for all nodes or for each. runs: the coverage form. stride:
    texels per row.
    """
    channels, n = len(opening.transmission), len(nodes)
    offsets, edges = np.empty((1, 1024), np.int64), np.empty((2, 256), np.int64)
    weights = np.empty((2 * channels, 1024), np.float32)
    first_tap, first_run, norms = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64), np.ones((n, 4))
    half = 1
    for i in range(n):
        half = max(half, half_width(nodes[i], ex, ey))
    lines = scan(opening.outline, nodes[0], ex, ey, opening.detail)
    after = _kernels(lines, opening, nodes[0], ex, ey, pupils[0], runs, half)
    taps, ends = 0, 0
    for i in range(n):
        here, beyond = after, nodes[min(i + 1, n - 1)]
        if i < n - 1:
            if beyond != nodes[i]:
                lines = scan(opening.outline, beyond, ex, ey, opening.detail)
            after = _kernels(lines, opening, beyond, ex, ey, pupils[min(i + 1, len(pupils) - 1)], runs, half)
        if runs:
            norms[i, 0], norms[i, 1] = (
                kernel_norm(here[0], half, nodes[i], ex, ey),
                kernel_norm(here[0], half, beyond, ex, ey),
            )
            norms[i, 2], norms[i, 3] = (
                kernel_norm(after[0], half, nodes[i], ex, ey),
                kernel_norm(after[0], half, beyond, ex, ey),
            )
        side = 2 * half + 1
        for j in range(side):
            offsets, weights = _grown(offsets, taps + side), _grown(weights, taps + side)
            edges = _grown(edges, ends + side)
            column, start = 0, (j - half) * stride - half
            while column < side:
                stop = column
                while runs and stop < side and _inside(here[0, j, stop]) and _inside(after[0, j, stop]):
                    stop += 1
                if stop - column >= SHORTEST_RUN:
                    edges[0, ends], edges[1, ends] = start + stop, start + column
                    ends += 1
                    column = stop
                    continue
                if _add_tap(here, after, j, column, weights, taps):
                    offsets[0, taps] = start + column
                    taps += 1
                column += 1
        first_tap[i + 1], first_run[i + 1] = taps, ends
    return FootprintKernels(
        offsets[0, :taps].copy(), weights[:, :taps].copy(), first_tap, edges[:, :ends].copy(), first_run, norms
    )


@always_inline_kernel
def _add_tap(here, after, j, column, weights, tap):
    """Note a texel's weights in two kernels as tap number `tap`; returns whether it has any."""
    channels, used = len(here), False
    for c in range(channels):
        used = used or here[c, j, column] > 1e-12 or after[c, j, column] > 1e-12
        weights[c, tap] = here[c, j, column]
        weights[channels + c, tap] = after[c, j, column] - here[c, j, column]
    return used


@always_inline_kernel
def _inside(coverage):
    return abs(coverage - 1) < INTERIOR


@kernel
def _kernels(lines, opening, r, ex, ey, pupil, runs, half):
    if runs:
        out = np.empty((1, 2 * half + 1, 2 * half + 1))
        out[0] = coverage_kernel(lines, r, ex, ey, pupil, half)
        return out
    return density_kernel(lines, opening, r, ex, ey, pupil, half)
