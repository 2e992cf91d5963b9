"""Ray tracer of planes, ray-outer and pixel-inner: for tiles in which layers change order from ray to ray.

For one lens point all pixels of a row see a layer through (nearly) the same displacement, so the inner loop runs over
neighbouring pixels with four shared bilinear taps and vectorises.

Exact by construction: a layer in focus does not move with the lens point, so its colour is taken out of the sum over
rays and multiplied by the light that reaches it. Where nothing blurred lies in front that factor is exactly 1, and
the pixel is bit-identical to the all-in-focus picture.
"""

from typing import NamedTuple

import numpy as np

from bokehsynth.rendering.cpu import ray_sums, tile_bounds
from bokehsynth.rendering.cpu.kernel_arguments import Tile, Visible
from bokehsynth.rendering.cpu.tile_bounds import OPAQUE, REACH, STATES
from bokehsynth.rendering.jit import inline_kernel, kernel
from bokehsynth.rendering.tile_constants import TILE_H, TILE_W
from bokehsynth.rendering.types import FloatArray


class Ray(NamedTuple):
    """One lens point s, the light that it lets pass, float32 [3] of R, G and B, and how its rays start.

    motion (y, x): from one pixel of a row to the next, (0, 1) without an aberration.
    """

    s: tuple[float, float]
    weights: FloatArray
    motion: tuple[float, float]


@kernel
def grid_side(radius):
    """Side of the square grid of rays for a blur radius in pixels: even, so that the set is mirror symmetric.

    Chosen so that no scene measured was worse than 51 x 51 rays: the first term covers soft mattes and lights of 20 at
    small radii, the second keeps neighbouring rays within 1.3 px up to 90 px; beyond, 16,384 rays are enough to be
    better than 51 x 51.
    """
    return min(128, 2 * int(np.ceil(max(18 + 1.3 * radius, 1.4 * radius) / 2)))


@kernel
def trace_tiles(layers, rays, pupil, corners, picture):
    """Trace the TILE_H x TILE_W tiles of the picture whose first pixels are `corners`, int64 [N, 2] (y, x).

    rays: (points, weights, spans) of an `aperture.tables.RaySet`; pupil: centres float32 [rims, 2, H, W] of the discs
    that lens points must lie in, and their radii.
    """
    for k in range(len(corners)):
        _trace_tile(layers, rays, pupil, corners[k, 0], corners[k, 1], picture)


@kernel
def visible_in(layers, tile):
    """Return which layers a tile sees, near to far, as `Visible`, and whether that is their order for every ray."""
    count = len(layers.packed)
    state, order = np.zeros((count, STATES)), np.empty(count, np.int64)
    for m in range(count):
        tile_bounds.classify(layers.planes, layers.pyramids, layers.camera, tile, m, np.inf, state)
    visible = Visible(state, order[: tile_bounds.visible_order(state, order)])
    return visible, tile_bounds.is_ordered(state, visible.order, len(visible.order), layers.planes)


@kernel
def _trace_tile(layers, rays, pupil, y0, x0, picture):
    count, camera, margin = len(layers.packed), layers.camera, layers.margin
    rows, n = min(TILE_H, len(picture.color) - y0), min(TILE_W, picture.color.shape[1] - x0)
    # Coordinates are offsets from the picture's centre.
    y, x = y0 + margin - camera.cy, x0 + margin - camera.cx
    visible, ordered = visible_in(layers, Tile(y, x, rows, n))
    points, ray_weights, spans = rays
    start, stop, moving = _rays_for(visible, spans)

    sums = ray_sums.empty_sums(rows, count, n)
    weights, open_to = np.ones(3, np.float32), np.ones(n, np.float32)
    for i in range(start, stop):
        if moving:
            for c in range(3):
                weights[c] = ray_weights[min(c, len(ray_weights) - 1), i]
        ray = Ray((points[i, 0], points[i, 1]), weights, (0.0, 1.0))
        for row in range(rows):
            if len(pupil.radii) > 0 and moving:
                _pupil_mask(pupil, ray, y0 + row, x0, open_to)
            sums.through[:] = open_to
            if ordered:
                intersect_layers(layers, visible, ray, (y + row, x), (row, 0, n), sums)
            else:
                intersect_unordered(layers, visible, ray, (y + row, x), row, sums)
            ray_sums.add_arrived(open_to, weights, sums, row)
    ray_sums.normalise(layers, visible, sums, y0, x0, picture)


@inline_kernel
def _rays_for(visible, spans):
    """First and last + 1 ray for the tile's largest reach, and whether anything moves with the lens point.

    Where nothing does, any one ray is the answer, whatever weight it has in the table.
    """
    reach = 0.0
    for m in visible.order:
        reach = max(reach, visible.state[m, REACH])
    if reach == 0:
        return 0, 1, False
    side = min(len(spans) - 1, grid_side(reach))
    return spans[side, 0], spans[side, 1], True


@inline_kernel
def _pupil_mask(pupil, ray, y, x, open_to):
    """Mark the pixels (y, x), (y, x + 1), ... at which the lens point lies in the pupil's discs: 1 or 0."""
    open_to[:] = 1
    for rim in range(len(pupil.radii)):
        limit = pupil.radii[rim] * pupil.radii[rim]
        for k in range(len(open_to)):
            dx, dy = pupil.centres[rim, 0, y, x + k] - ray.s[0], pupil.centres[rim, 1, y, x + k] - ray.s[1]
            if dx * dx + dy * dy > limit:
                open_to[k] = 0


@kernel
def intersect_unordered(layers, visible, ray, place, row, sums):
    """Trace one ray over one row whose layers change order: cut at the crossings, then sort each piece.

    Along a row d(p') of every plane is linear in x, so two planes cross at most once and the order between
    crossings is constant.
    """
    planes, camera, order = layers.planes, layers.camera, visible.order
    y, x = place
    vy, vx = ray.motion
    count, n = len(order), len(sums.through)
    value, ahead, delta = np.empty(count), np.empty(count), np.empty((len(planes), 1))
    for k in range(count):
        value[k] = _intersect_plane(planes, order[k], camera, ray.s, y, x)
        ahead[k] = _intersect_plane(planes, order[k], camera, ray.s, y + vy, x + vx)
    cuts = np.empty(2 + count * count, np.int64)
    cuts[0], cuts[1] = 0, n
    found = 2
    for a in range(count):
        for b in range(a):
            relative_slope = (ahead[a] - value[a]) - (ahead[b] - value[b])
            at = (value[b] - value[a]) / relative_slope if relative_slope != 0 else -1.0
            if 0 <= at <= n - 1:  # a pixel right at the crossing is a piece of its own, for its tie
                cuts[found], cuts[found + 1] = int(np.ceil(at - 1e-6)), int(np.floor(at + 1e-6)) + 1
                found += 2
    cuts = np.sort(cuts[:found])
    for piece in range(found - 1):
        start, stop = cuts[piece], cuts[piece + 1]
        if start < stop:
            middle = (start + stop - 1) / 2
            for m in order:
                delta[m, 0] = _intersect_plane(planes, m, camera, ray.s, y + vy * middle, x + vx * middle)
            local = Visible(visible.state, tile_bounds.nearest_first(delta, order, 0))
            intersect_layers(layers, local, ray, place, (row, start, stop), sums)


@inline_kernel
def _intersect_plane(planes, m, camera, s, y, x):
    """d(p') - d_f where the ray through offset (x, y) and lens point s meets plane m."""
    d, gx, gy = planes[m, 0], planes[m, 1], planes[m, 2]
    return (d + gx * x + gy * y - camera.focus) / (1 - camera.blur * (gx * s[0] + gy * s[1]))


@inline_kernel
def intersect_layers(layers, visible, ray, place, span, sums):
    """Carry one ray through the layers for a span (row, first, last + 1) of pixels.

    place (y, x): offset of the row's pixel 0 from the picture's centre.
    """
    K, focus, cy, cx = layers.camera.blur, layers.camera.focus, layers.camera.cy, layers.camera.cx
    y, x = place
    sx, sy = ray.s
    vy, vx = ray.motion
    row, first, last = span
    for m in visible.order:
        opaque = visible.state[m, OPAQUE] == 1
        d, gx, gy = layers.planes[m, 0], layers.planes[m, 1], layers.planes[m, 2]
        if visible.state[m, REACH] == 0:  # in focus all over the tile
            texel = int(y + cy), int(x + cx)
            ray_sums.add_sharp(layers.packed, m, texel, opaque, ray.weights, sums.sharp, sums.through, span)
            continue
        stretch = K / (1 - K * (gx * sx + gy * sy))
        delta = d + gx * x + gy * y - focus
        qx, qy = x + cx + sx * stretch * delta, y + cy + sy * stretch * delta
        slope = gx * vx + gy * vy
        dx, dy = (vx - 1) + sx * stretch * slope, vy + sy * stretch * slope
        start = first
        while start < last:
            px, py = qx + dx * start, qy + dy * start
            ix, iy = int(np.floor(px)), int(np.floor(py))
            jy = min(iy + 1, layers.packed.shape[2] - 1)  # at the canvas's last row that tap's weight is 0
            taps = ray_sums.Taps(ix, iy, jy, px - ix, py - iy, dx, dy)
            stop = ray_sums.same_texels(taps, start, last)
            ray_sums.add_blurred(
                layers.packed, m, taps, opaque, ray.weights, sums.light, sums.through, (row, start, stop)
            )
            start = stop
