"""Footprint kernels of single pixels where the opening changes over the picture: rays splatted, or covered areas.

`cell_filter` interpolates between them. A kernel is not normalised: its sum goes with it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bokehsynth.rendering.aperture.field_grid import AX, AY, DISTANCE, SIDE, WEIGHT
from bokehsynth.rendering.aperture.field_lookup import grids_at, in_cell
from bokehsynth.rendering.aperture.footprint_kernel import coverage_kernel, density_kernel, kernel_norm
from bokehsynth.rendering.aperture.scanlines import scan
from bokehsynth.rendering.jit import always_inline_kernel, kernel
from bokehsynth.rendering.types import Float64Array, FloatArray

BoolArray = npt.NDArray[np.bool_]

RAY_STEP = 1.0
"""Most px between rays of a kernel: boxes of their cells are as wide at most. Half of it changed no RMSE of a picture
(K 32: 6.3e-4 against 6.1e-4)."""

MOST = 16
"""Most rays per side of a cell of a table's grid: of blur radii up to 256 px, or aberrations that grow by 16 px."""


class NodeRow(NamedTuple):
    """A row of nodes of one layer."""

    x: Float64Array  # [n]: pixels of the picture; and of all of them
    y: float
    plane: Float64Array  # d, gx, gy of the layer
    half: int  # texels on each side of the kernels' middle
    wanted: BoolArray  # [n]: nodes of cells that are filtered


@always_inline_kernel
def splat(out, c, ray, box, half, weight):
    """Add a ray's light to a kernel: the tent of lookups, convolved with a box of the size of the ray's cell.

    Tents of bare points add up to a mesh where points do not lie a whole part of a pixel apart. What falls outside
    belongs to nodes beyond the picture's border.
    """
    half_one, one = np.float32(0.5), np.uint64(1)
    x, y = np.floor(ray[0] + half_one), np.floor(ray[1] + half_one)
    i, j = int(x) + half, int(y) + half
    if i < 1 or j < 1 or i >= 2 * half or j >= 2 * half:
        return np.float32(0)
    left, middle, right = _shares(ray[0] - x, box[0], box[2])
    above, level, below = _shares(ray[1] - y, box[1], box[3])
    above, level, below = above * weight, level * weight, below * weight
    j0, i0 = np.uint64(j - 1), np.uint64(i - 1)  # unsigned: Numba counts none from the end
    j1, j2, i1, i2 = j0 + one, j0 + one + one, i0 + one, i0 + one + one
    out[c, j0, i0] += above * left
    out[c, j0, i1] += above * middle
    out[c, j0, i2] += above * right
    out[c, j1, i0] += level * left
    out[c, j1, i1] += level * middle
    out[c, j1, i2] += level * right
    out[c, j2, i0] += below * left
    out[c, j2, i1] += below * middle
    out[c, j2, i2] += below * right
    return weight


@always_inline_kernel
def _shares(u, half, scale):
    """What three texels get of a box around a place u from the second, half as wide as it, and 1 / (4 half)."""
    zero = np.float32(0)
    first, last = max(u - half, zero), max(u + half, zero)
    behind = (last - first) * (last + first) * scale  # the mean of max(x, 0) over the box
    before = behind - u
    return before, np.float32(1) - before - behind, behind


class NodeGrids(NamedTuple):
    """A `FieldTable` at the nodes of a row, or at a single place."""

    values: FloatArray  # float32 [n, C, 4, K]: rows AX .. DISTANCE
    turns: Float64Array  # [n, 2]: of `field_lookup.grids_at`
    half: float


@kernel
def grids_of_row(table, y, x, wanted, out):
    """Fill `NodeGrids` at pixels x [n] of a row y where they are wanted."""
    for n in range(len(x)):
        if wanted[n]:
            out.turns[n, 0], out.turns[n, 1] = grids_at(table, y, x[n], out.values[n])


@kernel
def splat_grids(grids, n, tilted, half, out, norms):
    """Fill kernels float32 [C, 2 half + 1, 2 half + 1] and their sums [C] from the grids of node n.

    tilted: (r, ex, ey), the signed blur radius and K g. Every cell of a grid sends its light in as many rays as it is
    wide where they land: their sum is the same however many there are.
    """
    cosine, sine = grids.turns[n]
    turned = tilted[0], cosine * tilted[1] + sine * tilted[2], cosine * tilted[2] - sine * tilted[1]
    spacing = np.float32(2 * grids.half / (SIDE - 1))
    shut, inverse = np.float32(-0.5) * spacing, np.float32(1) / spacing
    x, y = np.empty(SIDE * SIDE, np.float32), np.empty(SIDE * SIDE, np.float32)
    zero, half_one, one = np.float32(0), np.float32(0.5), np.float32(1)
    for c in range(grids.values.shape[1]):
        out[c] = 0
        total = 0.0
        weights, distances = grids.values[n, c, WEIGHT], grids.values[n, c, DISTANCE]
        _place_grid(grids, n, c, turned, x, y)
        for row in range(SIDE - 1):
            for at in range(row * SIDE, row * SIDE + SIDE - 1):
                below = at + SIDE
                nearest = max(distances[at], distances[at + 1], distances[below], distances[below + 1])
                if nearest <= shut:
                    continue
                across, down = _rays_per_side(x, y, at)
                step_u, step_v = one / np.float32(across), one / np.float32(down)
                box, part = _box(x, y, at, step_u, step_v), step_u * step_v
                sharp = np.float32(max(across, down)) * inverse
                farthest = min(distances[at], distances[at + 1], distances[below], distances[below + 1])
                at_rim = farthest * sharp < half_one
                for j in range(down):
                    v = (np.float32(j) + half_one) * step_v
                    for i in range(across):
                        u = (np.float32(i) + half_one) * step_u
                        weight = part * in_cell(weights, at, u, v)
                        if at_rim:
                            weight *= min(max(in_cell(distances, at, u, v) * sharp + half_one, zero), one)
                        if weight > 0:
                            ray = in_cell(x, at, u, v), in_cell(y, at, u, v)
                            total += splat(out, c, ray, box, half, weight)
        norms[c] = total


@always_inline_kernel
def _rays_per_side(x, y, at):
    """Rays across a grid's cell and down it that lie RAY_STEP apart, or closer together."""
    right, below = at + 1, at + SIDE
    across = max(_square(x, y, at, right), _square(x, y, below, below + 1))
    down = max(_square(x, y, at, below), _square(x, y, right, below + 1))
    if max(across, down) <= np.float32(RAY_STEP * RAY_STEP * 1.001):  # rounding
        return 1, 1
    return _count(across), _count(down)


@always_inline_kernel
def _count(square):
    """Rays along an edge of this length, squared."""
    return max(min(int(np.ceil(np.sqrt(square) / RAY_STEP - 1e-3)), MOST), 1)


@always_inline_kernel
def _box(x, y, at, step_u, step_v):
    """Half the width and height of a ray's cell, so large a part of a grid's cell, and 1 / 4 of their inverses."""
    right, below, beyond = at + 1, at + SIDE, at + SIDE + 1
    quarter, half, least = np.float32(0.25), np.float32(0.5), np.float32(1 / 128)
    across_x, down_x = abs(x[right] - x[at] + x[beyond] - x[below]), abs(x[below] - x[at] + x[beyond] - x[right])
    across_y, down_y = abs(y[right] - y[at] + y[beyond] - y[below]), abs(y[below] - y[at] + y[beyond] - y[right])
    width = min(max(quarter * max(across_x * step_u, down_x * step_v), least), half)
    height = min(max(quarter * max(across_y * step_u, down_y * step_v), least), half)
    inverse = quarter / (width * height)
    return width, height, height * inverse, width * inverse


@always_inline_kernel
def _square(x, y, a, b):
    """Square of the distance between two points."""
    dx, dy = x[b] - x[a], y[b] - y[a]
    return dx * dx + dy * dy


@kernel
def _place_grid(grids, n, c, tilted, x, y):
    """Fill x and y [K] in px of where rays of a grid's points meet a plane."""
    (r, ex, ey), spacing = tilted, np.float32(2 * grids.half / (SIDE - 1))
    ax, ay = grids.values[n, c, AX], grids.values[n, c, AY]
    one, half, radius = np.float32(1), np.float32(grids.half), np.float32(r)
    slope_x, slope_y = np.float32(ex), np.float32(ey)
    for j in range(SIDE):
        sy, first = np.float32(j) * spacing - half, j * SIDE
        if ex == 0 and ey == 0:
            for i in range(SIDE):
                x[first + i] = ax[first + i] + (np.float32(i) * spacing - half) * radius
                y[first + i] = ay[first + i] + sy * radius
            continue
        for i in range(SIDE):
            sx, k = np.float32(i) * spacing - half, first + i
            moved = (radius + slope_x * ax[k] + slope_y * ay[k]) / (one - slope_x * sx - slope_y * sy)
            x[k], y[k] = ax[k] + sx * moved, ay[k] + sy * moved
    cosine, sine = np.float32(grids.turns[n, 0]), np.float32(grids.turns[n, 1])
    for k in range(SIDE * SIDE):
        x[k], y[k] = cosine * x[k] - sine * y[k], sine * x[k] + cosine * y[k]
    spare = np.empty_like(x)
    _bend_chords(x, spare)
    _bend_chords(y, spare)


@kernel
def _bend_chords(values, spare):
    """Move a grid's values so that what is linear between them has the mean of what is curved.

    Rays in the middle of cells would land outside of where they do. A chord is off by u (1 - u) / 2 second differences:
    1/8 where a cell has one ray, 1/12 in the mean; a tenth serves all.
    """
    spare[:] = values
    tenth, four = np.float32(0.1), np.float32(4)
    for j in range(1, SIDE - 1):
        for k in range(j * SIDE + 1, j * SIDE + SIDE - 1):
            around = spare[k - 1] + spare[k + 1] + spare[k - SIDE] + spare[k + SIDE]
            values[k] = spare[k] - tenth * (around - four * spare[k])


@always_inline_kernel
def node_radius(row, n, camera, area):
    """Signed blur radius in px at a node, and what it grows by for a px to the right and a px down."""
    d, gx, gy = row.plane
    delta = d + gx * (row.x[n] - (area[1] - 1) / 2) + gy * (row.y - (area[0] - 1) / 2) - camera.focus
    return camera.blur * delta, camera.blur * gx, camera.blur * gy


@kernel
def splat_table_nodes(grids, row, camera, area, out, norms):
    """Fill kernels float32 [wanted, C, 2 half + 1, 2 half + 1] and their sums [n, C] from `NodeGrids`.

    area: height and width of the picture.
    """
    place = -1
    for n in range(len(row.x)):
        if not row.wanted[n]:
            continue
        place += 1
        splat_grids(grids, n, node_radius(row, n, camera, area), row.half, out[place], norms[n])


@kernel
def weigh_pupil_nodes(opening, rims, row, camera, area, out, norms):
    """`splat_table_nodes` of an `ApertureShape` with rims [n, R, 3], integrated along scanlines; sums 1, 0 if dark."""
    detail = opening.detail if opening.detail > 1 else 0  # smooth outlines need less
    lines, last, place = scan(opening.outline, 1.0, 0.0, 0.0, detail), 0.0, -1
    for n in range(len(row.x)):
        if not row.wanted[n]:
            continue
        place += 1
        r, ex, ey = node_radius(row, n, camera, area)
        if r != last:
            lines, last = scan(opening.outline, r, ex, ey, detail), r
        out[place] = density_kernel(lines, opening, r, ex, ey, rims[n], row.half)
        for c in range(out.shape[1]):
            norms[n, c] = 1.0 if out[place, c].sum() > 0 else 0.0


@kernel
def cover_pupil_nodes(opening, lines, rims, row, camera, area, out, norms):
    """Kernels of a layer whose texels are 1 well inside: what rims leave of the opening.

    lines: `scanlines.scan` of the opening at a frontal layer's radius; rims [n, R, 3]. The picture that kernels of a
    tilted layer are applied to carries |s|^-3 (`layer_filter.apply_tilt_weight`).
    """
    detail, place = opening.detail if opening.detail > 1 else 0, -1
    for n in range(len(rims)):
        if not row.wanted[n]:
            continue
        place += 1
        r, ex, ey = node_radius(row, n, camera, area)
        if ex != 0 or ey != 0:
            lines = scan(opening.outline, r, ex, ey, detail)
        covered = coverage_kernel(lines, r, ex, ey, rims[n], row.half)
        for j in range(len(covered)):
            for i in range(len(covered)):
                if abs(covered[j, i]) < 1e-9:  # what differences left beside the opening
                    covered[j, i] = 0.0
                out[place, 0, j, i] = covered[j, i]
        norms[n, 0] = kernel_norm(covered, row.half, r, ex, ey)
