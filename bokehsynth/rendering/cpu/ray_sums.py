"""Sums over the rays of a tile: what a layer adds to them along a row of pixels, and the pixels that come of them."""

from typing import NamedTuple

import numpy as np

from bokehsynth.rendering.cpu.tile_bounds import REACH
from bokehsynth.rendering.jit import inline_kernel, kernel
from bokehsynth.rendering.types import FloatArray


class Sums(NamedTuple):
    """Sums over the rays of a tile of rows x n pixels, float32, and what is left of the present ray."""

    light: FloatArray  # [rows, 3, n]: light of blurred layers
    sharp: FloatArray  # [rows, L, 3, n]: light that reaches a layer in focus
    arrived: FloatArray  # [rows, 3, n]: light that some layer has stopped
    passed: FloatArray  # [rows, 3, n]: light that the pupil lets pass
    through: FloatArray  # [n]: of one ray of the pixels of a row


class Taps(NamedTuple):
    """Bilinear taps of a row of pixels, the same texels apart from the step of one per pixel.

    (iy, ix) is the upper left texel of pixel 0 and jy the row below; fx, fy are the fractions at the first pixel and
    dfx, dfy their drift from pixel to pixel, 0 for a frontal plane.
    """

    ix: int
    iy: int
    jy: int
    fx: float
    fy: float
    dfx: float
    dfy: float


@kernel
def empty_sums(rows, layers, n):
    """Sums over no ray."""
    light, sharp = np.zeros((rows, 3, n), np.float32), np.zeros((rows, layers, 3, n), np.float32)
    return Sums(light, sharp, np.zeros_like(light), np.zeros_like(light), np.empty(n, np.float32))


@inline_kernel
def add_arrived(open_to, weights, sums, row):
    """Add how much of this ray some layer has stopped, and how much the pupil let pass."""
    for c in range(3):
        for x in range(np.uint64(len(open_to))):
            sums.arrived[row, c, x] += weights[c] * (open_to[x] - sums.through[x])
            sums.passed[row, c, x] += weights[c] * open_to[x]


@inline_kernel
def same_texels(taps, start, stop):
    """Find where the run of pixels ends whose taps are the same texels apart from the step of one per pixel."""
    length = float(stop - start)
    if taps.dfx > 0:
        length = min(length, np.ceil((1 - taps.fx) / taps.dfx))
    elif taps.dfx < 0:
        length = min(length, np.floor(taps.fx / -taps.dfx) + 1)
    if taps.dfy > 0:
        length = min(length, np.ceil((1 - taps.fy) / taps.dfy))
    elif taps.dfy < 0:
        length = min(length, np.floor(taps.fy / -taps.dfy) + 1)
    return start + max(1, int(length))


@inline_kernel
def add_sharp(packed, m, texel, opaque, weights, sharp, through, span):
    """Add the light that reaches a layer in focus, over a span (row, first, last + 1) of pixels.

    The colour is multiplied in once, after all rays.
    """
    row, first, last = span[0], np.uint64(span[1]), np.uint64(span[2])
    top, left = texel[0], np.uint64(texel[1])
    for c in range(3):
        weight = weights[c]
        for x in range(first, last):
            sharp[row, m, c, x] += weight * through[x]
    if opaque:
        for x in range(first, last):
            through[x] = np.float32(0)
    else:
        for x in range(first, last):
            through[x] *= np.float32(1) - packed[m, 3, top, left + x]


@inline_kernel
def add_blurred(packed, m, taps, opaque, weights, light, through, span):
    """Add a blurred layer to a span of pixels whose bilinear taps are the same texels plus x.

    One short loop per channel, with few enough arrays that the compiler can prove them apart and vectorise.
    """
    if taps.dfx == 0 and taps.dfy == 0:
        for c in range(3):
            if weights[c] != 0:
                _add_frontal(packed, m, c, taps, weights[c], light, through, span)
    else:
        for c in range(3):
            if weights[c] != 0:
                _add_tilted(packed, m, c, taps, weights[c], light, through, span)
    if opaque:
        for x in range(np.uint64(span[1]), np.uint64(span[2])):
            through[x] = np.float32(0)
    else:
        _attenuate(packed, m, taps, through, span)


@inline_kernel
def _add_frontal(packed, m, c, taps, w, light, through, span):
    row, iy, jy = span[0], taps.iy, taps.jy
    u, v, one = np.float32(taps.fx), np.float32(taps.fy), np.float32(1)
    f00, f10, f01, f11 = w * (one - u) * (one - v), w * u * (one - v), w * (one - u) * v, w * u * v
    i, j = np.uint64(taps.ix), np.uint64(taps.ix + 1)
    for x in range(np.uint64(span[1]), np.uint64(span[2])):
        light[row, c, x] += through[x] * (
            f00 * packed[m, c, iy, i + x] + f10 * packed[m, c, iy, j + x]
            + f01 * packed[m, c, jy, i + x] + f11 * packed[m, c, jy, j + x]
        )  # fmt: skip


@inline_kernel
def _add_tilted(packed, m, c, taps, w, light, through, span):
    row = span[0]
    for x in range(np.uint64(span[1]), np.uint64(span[2])):
        light[row, c, x] += w * through[x] * _drifting_lookup(packed, m, c, taps, x, np.uint64(span[1]))


@inline_kernel
def _attenuate(packed, m, taps, through, span):
    """Multiply the light by 1 - alpha."""
    for x in range(np.uint64(span[1]), np.uint64(span[2])):
        through[x] *= np.float32(1) - _drifting_lookup(packed, m, 3, taps, x, np.uint64(span[1]))


@inline_kernel
def _drifting_lookup(packed, m, c, taps, x, first):
    """Bilinear lookup at pixel x of a run that begins at pixel `first`."""
    one, step = np.float32(1), np.float32(np.int32(x - first))
    u, v = np.float32(taps.fx) + np.float32(taps.dfx) * step, np.float32(taps.fy) + np.float32(taps.dfy) * step
    i, j = np.uint64(taps.ix) + x, np.uint64(taps.ix + 1) + x
    upper = (one - u) * packed[m, c, taps.iy, i] + u * packed[m, c, taps.iy, j]
    lower = (one - u) * packed[m, c, taps.jy, i] + u * packed[m, c, taps.jy, j]
    return (one - v) * upper + v * lower


@kernel
def normalise(layers, visible, sums, y0, x0, picture):
    """Divide the sums over rays by the light that passed: colour and coverage of a tile.

    A pixel that nothing blurred touches gets what a pinhole sees, computed as the pinhole does and not as a mean over
    rays: bit-identical to the all-in-focus picture.
    """
    value, share, total = np.empty(3, np.float32), np.empty(3, np.float32), np.empty(3, np.float32)
    for row in range(len(sums.light)):
        for x in range(sums.light.shape[2]):
            for c in range(3):
                total[c] = sums.passed[row, c, x]
            texel = y0 + row + layers.margin, x0 + x + layers.margin
            if not _pinhole(layers.packed, visible, texel, sums, (row, x), value, share):
                for c in range(3):
                    if total[c] == 0:
                        continue
                    value[c], share[c] = sums.light[row, c, x] / total[c], sums.arrived[row, c, x] / total[c]
                    for m in visible.order:
                        if visible.state[m, REACH] == 0:
                            value[c] += layers.packed[m, c, texel[0], texel[1]] * (sums.sharp[row, m, c, x] / total[c])
            write_pixel(value, share, total, picture, y0 + row, x0 + x)


@inline_kernel
def _pinhole(packed, visible, texel, sums, pixel, value, share):
    """Colour and coverage of the layers in focus alone, and whether they are all that this pixel saw.

    They are if no blurred light arrived and every layer in focus was reached by the light that those before it let
    through, and nothing else stopped any: to 2e-5, what the sums of a few thousand float32 terms lose (seen: 1.1e-5),
    a two-hundredth of an 8-bit step.
    """
    (top, left), (row, x), passed = texel, pixel, sums.passed
    through, untouched = np.float32(1), True
    for c in range(3):
        value[c] = 0
        if sums.light[row, c, x] != 0:
            untouched = False
    for m in visible.order:
        if visible.state[m, REACH] != 0:
            continue
        for c in range(3):
            if passed[row, c, x] > 0 and abs(sums.sharp[row, m, c, x] / passed[row, c, x] - through) > 2e-5:
                untouched = False
            value[c] += packed[m, c, top, left] * through
        through *= np.float32(1) - packed[m, 3, top, left]
    for c in range(3):
        share[c] = np.float32(1) - through
        if passed[row, c, x] > 0 and abs(sums.arrived[row, c, x] / passed[row, c, x] - share[c]) > 2e-5:
            untouched = False
    return untouched


@inline_kernel
def write_pixel(value, share, total, picture, y, x):
    """Write pixel (y, x): light [3] and the share of rays that some layer stopped [3], both means over rays.

    total [3]: light of all rays. A channel that the aperture blocks altogether is black and does not count for the
    coverage.
    """
    covered, channels = np.float32(0), np.float32(0)
    for c in range(3):
        picture.color[y, x, c] = 0
        if total[c] == 0:
            continue
        covered += share[c]
        channels += 1
        if share[c] > 0:
            picture.color[y, x, c] = value[c] / share[c]
    picture.coverage[y, x] = covered / max(channels, np.float32(1))
