"""Footprint kernels of single pixels where the opening changes over the picture: rays splatted, or covered areas.

`cell_filter` interpolates between them. A kernel is not normalised: its sum goes with it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bokehsynth.rendering.aperture.field_grid import AX, AY, DISTANCE, SIDE, WEIGHT
from bokehsynth.rendering.aperture.footprint_kernel import FootprintKernels, coverage_kernel, density_kernel
from bokehsynth.rendering.aperture.scanlines import scan
from bokehsynth.rendering.jit import inline_kernel, kernel
from bokehsynth.rendering.types import Float64Array

BoolArray = npt.NDArray[np.bool_]

RAY_STEP = 0.35
"""Distance in px between rays of a kernel: the tent that each leaves smooths what lies between."""

FEWEST, MOST = 64, 200
"""Least and largest side of the grid of rays of a kernel."""


@kernel
def kernel_side(radius):
    """Side of the grid of rays that a kernel of a blur radius is made of."""
    return min(max(2 * int(np.ceil(np.sqrt(np.pi) * radius / RAY_STEP / 2)), FEWEST), MOST)


class NodeRow(NamedTuple):
    """A row of nodes of one layer."""

    x: Float64Array  # [n]: pixels of the picture; and of all of them
    y: float
    plane: Float64Array  # d, gx, gy of the layer
    half: int  # texels on each side of the kernels' middle
    wanted: BoolArray  # [n]: nodes of cells that are filtered


@inline_kernel
def _splat(out, c, x, y, half, weight):
    """Add a ray's tent to a kernel; what falls outside belongs to nodes beyond the picture's border."""
    i, j = int(np.floor(x)), int(np.floor(y))
    u, v = np.float32(x - i), np.float32(y - j)
    i, j = i + half, j + half
    if i < 0 or j < 0 or i >= 2 * half or j >= 2 * half:
        return np.float32(0)
    upper, lower = weight * (np.float32(1) - v), weight * v
    out[c, j, i] += upper * (np.float32(1) - u)
    out[c, j, i + 1] += upper * u
    out[c, j + 1, i] += lower * (np.float32(1) - u)
    out[c, j + 1, i + 1] += lower * u
    return weight


@kernel
def splat_table_nodes(rays, side, row, camera, area, out, norms):
    """Fill kernels float32 [n, C, 2 half + 1, 2 half + 1] and their sums [n, C] from a `FieldTable`.

    rays: `field_tracer.FieldRays`; side: of the set to take; area: height and width of the picture.
    """
    start, stop = rays.spans[side]
    channels = out.shape[1]
    sharp, K = rays.sharpness[side], camera.blur
    d, gx, gy = row.plane
    local, columns = np.empty((channels, SIDE * SIDE, 4), np.float32), np.empty(4, np.float32)
    for n in range(len(row.x)):
        if not row.wanted[n]:
            continue
        out[n] = 0
        _table_at(rays.table, row.y, row.x[n], local)
        delta = d + gx * (row.x[n] - (area[1] - 1) / 2) + gy * (row.y - (area[0] - 1) / 2) - camera.focus
        for c in range(channels):
            total = 0.0
            for i in range(start, stop):
                at, u, v = rays.cells[i], rays.fractions[i, 0], rays.fractions[i, 1]
                for k in range(4):
                    upper = local[c, at, k] + u * (local[c, at + 1, k] - local[c, at, k])
                    lower = local[c, at + SIDE, k] + u * (local[c, at + SIDE + 1, k] - local[c, at + SIDE, k])
                    columns[k] = upper + v * (lower - upper)
                share = min(max(columns[DISTANCE] * sharp + np.float32(0.5), np.float32(0)), np.float32(1))
                weight = columns[WEIGHT] * share
                if weight <= 0:
                    continue
                sx, sy, ax, ay = rays.points[i, 0], rays.points[i, 1], columns[AX], columns[AY]
                moved = (delta + gx * ax + gy * ay) * K / (1 - K * (gx * sx + gy * sy))
                total += _splat(out[n], c, ax + sx * moved, ay + sy * moved, row.half, weight)
            norms[n, c] = total


@kernel
def splat_radii(rays, side, place, radii, tilt, stride):
    """`footprint_kernels` at blur radii from a `FieldTable` at one place (y, x) of the picture; tilt: K g.

    Near the focus a plane's radius changes too much from node to node; rims move little there.
    """
    channels, count = rays.table.values.shape[2], len(radii)
    local, columns = np.empty((channels, SIDE * SIDE, 4), np.float32), np.empty(4, np.float32)
    _table_at(rays.table, place[0], place[1], local)
    ex, ey = tilt
    e = np.hypot(ex, ey)
    start, stop = rays.spans[side]
    reach, strayed = max(abs(radii[0]), abs(radii[-1])), 0.0
    for c in range(channels):
        for i in range(SIDE * SIDE):
            if local[c, i, DISTANCE] > -0.1:
                strayed = max(strayed, np.hypot(local[c, i, AX], local[c, i, AY]))
    half = int(np.ceil((reach * rays.table.half + e * strayed) / (1 - e * rays.table.half) + strayed)) + 2
    width = 2 * half + 1
    dense = np.zeros((count, channels, width, width), np.float32)
    for c in range(channels):
        for i in range(start, stop):
            at, u, v = rays.cells[i], rays.fractions[i, 0], rays.fractions[i, 1]
            for k in range(4):
                upper = local[c, at, k] + u * (local[c, at + 1, k] - local[c, at, k])
                lower = local[c, at + SIDE, k] + u * (local[c, at + SIDE + 1, k] - local[c, at + SIDE, k])
                columns[k] = upper + v * (lower - upper)
            share = columns[DISTANCE] * rays.sharpness[side] + np.float32(0.5)
            weight = columns[WEIGHT] * min(max(share, np.float32(0)), np.float32(1))
            if weight <= 0:
                continue
            sx, sy, ax, ay = rays.points[i, 0], rays.points[i, 1], columns[AX], columns[AY]
            for n in range(count):
                moved = (radii[n] + ex * ax + ey * ay) / (1 - ex * sx - ey * sy)
                _splat(dense[n], c, ax + sx * moved, ay + sy * moved, half, weight)
    return _listed(dense, half, stride)


@kernel
def _listed(dense, half, stride):
    """Kernels [n, C, side, side], normalised, as taps beside their differences to the next."""
    count, channels, width = dense.shape[0], dense.shape[1], dense.shape[2]
    for n in range(count):
        for c in range(channels):
            total = dense[n, c].sum()
            if total > 0:
                dense[n, c] /= total
    offsets, weights = (
        np.empty((1, count * width * width), np.int64),
        np.empty((2 * channels, count * width * width), np.float32),
    )
    first, taps = np.zeros(count + 1, np.int64), 0
    for n in range(count):
        after = min(n + 1, count - 1)
        for j in range(width):
            for i in range(width):
                used = False
                for c in range(channels):
                    here, there = dense[n, c, j, i], dense[after, c, j, i]
                    used = used or here != 0 or there != 0
                    weights[c, taps], weights[channels + c, taps] = here, there - here
                if used:
                    offsets[0, taps] = (j - half) * stride + i - half
                    taps += 1
        first[n + 1] = taps
    return FootprintKernels(
        offsets[0, :taps].copy(), weights[:, :taps].copy(), first, np.zeros((2, 0), np.int64),
        np.zeros(count + 1, np.int64), np.ones((count, 4)),
    )  # fmt: skip


@kernel
def _table_at(table, y, x, out):
    """Fill float32 [C, SIDE * SIDE, 4]: the table at pixel (y, x), maybe between nodes or beyond the last ones."""
    ny, nx = table.values.shape[0], table.values.shape[1]
    px, py = x / table.step, y / table.step
    i, j = min(int(px), nx - 2), min(int(py), ny - 2)
    u, v = np.float32(px - i), np.float32(py - j)
    for c in range(out.shape[0]):
        for k in range(SIDE * SIDE):
            for column in range(4):
                a, b = table.values[j, i, c, k, column], table.values[j, i + 1, c, k, column]
                d, e = table.values[j + 1, i, c, k, column], table.values[j + 1, i + 1, c, k, column]
                upper, lower = a + u * (b - a), d + u * (e - d)
                out[c, k, column] = upper + v * (lower - upper)


@kernel
def weigh_pupil_nodes(opening, rims, row, camera, area, out, norms):
    """`splat_table_nodes` of an `ApertureShape` with rims [n, R, 3], integrated along scanlines; sums 1, 0 if dark."""
    K = camera.blur
    d, gx, gy = row.plane
    detail = opening.detail if opening.detail > 1 else 0  # smooth outlines need less
    lines, last = scan(opening.outline, 1.0, 0.0, 0.0, detail), 0.0
    for n in range(len(row.x)):
        if not row.wanted[n]:
            continue
        delta = d + gx * (row.x[n] - (area[1] - 1) / 2) + gy * (row.y - (area[0] - 1) / 2) - camera.focus
        r = K * delta
        if r != last:
            lines, last = scan(opening.outline, r, K * gx, K * gy, detail), r
        out[n] = density_kernel(lines, opening, r, K * gx, K * gy, rims[n], row.half)
        for c in range(out.shape[1]):
            norms[n, c] = 1.0 if out[n, c].sum() > 0 else 0.0


@kernel
def cover_pupil_nodes(lines, rims, r, row, out, norms):
    """Kernels of a frontal layer of signed radius r whose texels are 1 well inside: what rims leave of the opening.

    lines: `scanlines.scan` of the opening at r; rims [n, R, 3].
    """
    for n in range(len(rims)):
        if not row.wanted[n]:
            continue
        covered = coverage_kernel(lines, r, 0.0, 0.0, rims[n], row.half)
        total = 0.0
        for j in range(len(covered)):
            for i in range(len(covered)):
                value = covered[j, i]
                if abs(value) < 1e-9:  # what differences left beside the opening
                    value = 0.0
                out[n, 0, j, i] = value
                total += value
        norms[n, 0] = total
