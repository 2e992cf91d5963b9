"""The image of an opening on a layer, cut into sub-rows: where its outline crosses them, what a pupil leaves of each.

u -> r u / (1 - e.u) maps lines to lines, so the image of the outline's polygon is a polygon.
"""

from typing import NamedTuple

import numpy as np

from bokehsynth.rendering.jit import kernel
from bokehsynth.rendering.types import Float64Array, IntArray

GAUSS = np.polynomial.legendre.leggauss(8)
GAUSS_X, GAUSS_W = (GAUSS[0] + 1) / 2, GAUSS[1] / 2
_COARSE = np.polynomial.legendre.leggauss(3)
COARSE_X, COARSE_W = (_COARSE[0] + 1) / 2, _COARSE[1] / 2


class Scanlines(NamedTuple):
    """Where the outline of an opening's image crosses lines of constant y, in px from the pixel."""

    y: Float64Array  # [n]
    heights: Float64Array  # [n]: what each line stands for
    x: Float64Array  # crossings, sorted along each line; openings lie between those of even and odd place
    first: IntArray  # [n + 1]: the crossings of line k are first[k] .. first[k + 1] - 1


@kernel
def _scanlines(low, high, detail):
    """Sub-rows y [n] and their heights [n] between low and high, Gauss points in every texel row.

    Near the tips the chord of a smooth opening grows like a square root, over several texels in one row: there
    y = tip + t^2, with as many groups of points as texels are swept; `detail` times as many for any opening. Detail 0
    takes three points for eight: enough where rims that move cost more than that.
    """
    points, shares = (COARSE_X, COARSE_W) if detail == 0 else (GAUSS_X, GAUSS_W)
    detail = max(detail, 1)
    first, last = int(np.floor(low)), int(np.ceil(high))
    sweep = np.sqrt(high - low)  # texels that half a chord gains in the row of the tip, for a disc
    most = int(sweep / 3) + 1
    size = 8 * (last - first + 4) * most * detail
    y, g = np.empty(size), np.empty(size)
    n = 0
    middle = (low + high) / 2
    for half in range(2):
        a, b = (low, middle) if half == 0 else (middle, high)
        edge = a
        while edge < b:
            stop = min(b, np.floor(edge) + 1)
            near, far = (edge - low, stop - low) if half == 0 else (high - stop, high - edge)
            groups = detail * min(most, int(sweep * (np.sqrt(far) - np.sqrt(near)) / 3) + 1)
            for group in range(groups):
                for k in range(len(points)):
                    t = (group + points[k]) / groups
                    w = shares[k] / groups
                    y[n], g[n] = _sub_row(edge, stop, t, w, edge == low, stop == high)
                    n += 1
            edge = stop
    return y[:n], g[:n]


@kernel
def _sub_row(a, b, t, w, at_top, at_bottom):
    """Map a point t of 0..1 and its weight to y in a..b and a height; quadratic towards a tip."""
    if at_top:
        return a + (b - a) * t * t, (b - a) * 2 * t * w
    if at_bottom:
        return b - (b - a) * (1 - t) * (1 - t), (b - a) * 2 * (1 - t) * w
    return a + (b - a) * t, (b - a) * w


@kernel
def scan(outline, r, ex, ey, detail):
    """Cut the image of an outline [V, 4] at signed radius r and tilt (ex, ey) into Scanlines."""
    count = len(outline)
    placed = np.empty((count, 4))
    low, high = np.inf, -np.inf
    for i in range(count):
        for end in range(2):
            ux, uy = outline[i, 2 * end], outline[i, 2 * end + 1]
            stretch = r / (1 - ex * ux - ey * uy)
            placed[i, 2 * end], placed[i, 2 * end + 1] = ux * stretch, uy * stretch
            low, high = min(low, uy * stretch), max(high, uy * stretch)
    y, g = _scanlines(low, high, detail)
    first = np.zeros(len(y) + 1, np.int64)
    for i in range(count):
        upper, lower = min(placed[i, 1], placed[i, 3]), max(placed[i, 1], placed[i, 3])
        n = np.searchsorted(y, upper)
        while n < len(y) and y[n] < lower:
            first[n + 1] += 1
            n += 1
    for n in range(len(y)):
        first[n + 1] += first[n]
    x, used = np.empty(first[-1]), np.zeros(len(y), np.int64)
    for i in range(count):
        upper, lower = min(placed[i, 1], placed[i, 3]), max(placed[i, 1], placed[i, 3])
        n = np.searchsorted(y, upper)
        slope = (placed[i, 2] - placed[i, 0]) / (placed[i, 3] - placed[i, 1])
        while n < len(y) and y[n] < lower:
            at = placed[i, 0] + (y[n] - placed[i, 1]) * slope
            place = first[n] + used[n]
            while place > first[n] and x[place - 1] > at:
                x[place] = x[place - 1]
                place -= 1
            x[place] = at
            used[n] += 1
            n += 1
    return Scanlines(y, g, x, first)


@kernel
def through_pupils(y, left, right, r, ex, ey, pupil):
    """The part of a chord left..right at height y whose lens points lie in all discs of a pupil [rims, 3]."""
    for rim in range(len(pupil)):
        left, right = through_pupil(y, left, right, r, ex, ey, pupil[rim])
    return left, right


@kernel
def through_pupil(y, left, right, r, ex, ey, pupil):
    """The part of a chord left..right at height y whose lens points lie in the pupil's disc (cx, cy, radius).

    |u - c| <= radius with u = D / (r + e.D) is a quadratic inequality in x.
    """
    cx, cy, radius = pupil[0], pupil[1], pupil[2]
    if radius >= 1 + np.hypot(cx, cy):
        return left, right
    q = r + ey * y
    a = (1 - cx * ex) ** 2 + (cy * ex) ** 2 - (radius * ex) ** 2
    b = -(1 - cx * ex) * cx * q - (y - cy * q) * cy * ex - radius**2 * q * ex
    c = (cx * q) ** 2 + (y - cy * q) ** 2 - (radius * q) ** 2
    inner = b * b - a * c
    if a > 0:
        if inner <= 0:
            return left, left
        return max(left, (-b - np.sqrt(inner)) / a), min(right, (-b + np.sqrt(inner)) / a)
    if inner <= 0 or a == 0:
        return left, right
    near, far = (-b + np.sqrt(inner)) / a, (-b - np.sqrt(inner)) / a  # a < 0: passes outside of near..far
    if left + right > near + far:
        return max(left, far), right
    return left, min(right, near)
