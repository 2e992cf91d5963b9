"""Rows of blurred texels: discs as chords of the rows of pixels that they reach.

A texel is a tent one pixel to each side. Along x its chords get soft ends when they are scattered (`scattered_discs`);
along y a row sees the disc through the tent, so that a row's chord is a mean of chords. Near a disc's upper and lower
rim, where these differ much, a row has several.
"""

from typing import NamedTuple

import numpy as np

from bokehsynth.rendering.jit import inline_kernel, kernel
from bokehsynth.rendering.types import FloatArray, IntArray

PER_PX = 32
"""Radii in the table per pixel: the nearest one is at most 1/64 px off."""
PIECES = 6
"""Into which the tent is cut in rows near the upper and lower rim."""
FLAT_UP_TO = 0.72
"""Share of the radius up to which one chord serves a row."""


class DiscRows(NamedTuple):
    """Chords of discs of radii first/PER_PX, (first + 1)/PER_PX, ..., end to end."""

    first: int
    starts: IntArray  # [N + 1]: where the chords of a radius begin
    row: IntArray  # [M]: pixels below the disc's centre
    half: FloatArray  # float32 [M]: half the length of a chord
    share: FloatArray  # float32 [M]: of the light: weight of the chord in its row over the area of the disc
    thickness: FloatArray  # float32 [M]: of the part of the tent that the chord is a mean over


def disc_rows(least: float, largest: float) -> DiscRows:
    """Make the chords of all discs between two radii in px."""
    first, last = int(least * PER_PX), int(np.ceil(largest * PER_PX))
    counts = np.zeros(last - first + 2, np.int64)
    none = np.zeros(0, np.float32)
    _list_rows(first, counts, np.zeros(0, np.int64), none, none, none)
    starts: IntArray = np.cumsum(counts)
    half, share, thickness = np.empty((3, starts[-1]), np.float32)
    rows = DiscRows(first, starts, np.empty(starts[-1], np.int64), half, share, thickness)
    _list_rows(first, starts, rows.row, half, share, thickness)
    return rows


@kernel
def _list_rows(first, starts, row, half, share, thickness):
    """Fill the chords from `starts` on; without any room for them, their numbers: counts[i + 1] of radius i."""
    counting = len(row) == 0
    for i in range(len(starts) - 1):
        radius, count = (first + i) / PER_PX, 0
        reach = int(np.ceil(radius + 1)) - 1
        for y in range(-reach, reach + 1):
            pieces = 1 if abs(y) <= FLAT_UP_TO * radius else PIECES
            for k in range(pieces):
                low, high = 2 * k / pieces - 1, 2 * (k + 1) / pieces - 1
                weight = _tent_below(high) - _tent_below(low)
                chord = _chord_through_tent(radius, y, low, high) / weight
                if chord <= 0:
                    continue
                if not counting:
                    at = starts[i] + count
                    row[at], half[at], share[at] = y, chord, weight / (np.pi * max(radius * radius, 1e-6))
                    thickness[at] = 1 / pieces
                count += 1
        if counting:
            starts[i + 1] = count


@inline_kernel
def _tent_below(t):
    """Integral of 1 - abs(t) from -1 to t."""
    return 0.5 * (1 + t) * (1 + t) if t < 0 else 1 - 0.5 * (1 - t) * (1 - t)


@inline_kernel
def _chord_through_tent(radius, y, low, high):
    """Integral of (1 - abs(t)) sqrt(radius^2 - (y + t)^2) over t from low to high, where it is real."""
    total = 0.0
    for side in range(2):
        a, b = (max(low, -1.0), min(high, 0.0)) if side == 0 else (max(low, 0.0), min(high, 1.0))
        if a < b:
            sign = 1.0 if side == 0 else -1.0
            # tent = 1 + sign t = (1 - sign y) + sign (y + t)
            total += (1 - sign * y) * (_area(radius, y + b) - _area(radius, y + a))
            total += sign * (_moment(radius, y + b) - _moment(radius, y + a))
    return total


@inline_kernel
def _area(radius, y):
    """Integral of sqrt(radius^2 - y^2)."""
    y = min(max(y, -radius), radius)
    return 0.5 * (y * np.sqrt(max(0.0, radius * radius - y * y)) + radius * radius * np.arcsin(y / radius))


@inline_kernel
def _moment(radius, y):
    """Integral of y sqrt(radius^2 - y^2)."""
    square = max(0.0, radius * radius - y * y)
    return -square * np.sqrt(square) / 3
