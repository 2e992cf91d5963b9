"""Sums over the rays of a tile, and the pixels that come of them."""

from typing import NamedTuple

import numpy as np

from bokehsynth.rendering.cpu.tile_bounds import REACH
from bokehsynth.rendering.jit import inline_kernel, kernel
from bokehsynth.rendering.types import FloatArray


class Sums(NamedTuple):
    """Sums over the rays of a tile of rows x n pixels, float32, and what is left of the present ray."""

    light: FloatArray
    """[rows, 3, n]: light of blurred layers."""
    sharp: FloatArray
    """[rows, L, 3, n]: light that reaches a layer in focus."""
    arrived: FloatArray
    """[rows, 3, n]: light that some layer has stopped."""
    passed: FloatArray
    """[rows, 3, n]: light that the pupil lets pass."""
    through: FloatArray
    """[n]: of one ray of the pixels of a row."""


@kernel
def empty_sums(rows, layers, n):
    """Sums over no ray."""
    light, sharp = np.zeros((rows, 3, n), np.float32), np.zeros((rows, layers, 3, n), np.float32)
    return Sums(light, sharp, np.zeros_like(light), np.zeros_like(light), np.empty(n, np.float32))


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
