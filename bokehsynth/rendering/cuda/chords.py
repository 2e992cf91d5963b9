"""Large footprints for the device: the image of an opening on a layer, cut into chords, sorted by rows of texels.

Lens points cannot cover thousands of texels evenly: folded from 512 x 512 of them a disc of 160 px varied by 3 %, one
of 500 px had holes. The kernels integrate the bilinear tent of each texel over these chords instead.
"""

from typing import NamedTuple

import numpy as np

from bokehsynth.rendering.aperture.scanlines import scan
from bokehsynth.rendering.aperture.tables import LensTables
from bokehsynth.rendering.types import FloatArray

CHORDS_FROM = 64.0
"""Radius in px from which footprints are integrated. Below, folded lens points vary by 0.5 % at most."""

CLOSEST = 4
"""Times closer than a disc that an opening is scanned at most. Corners and holes of radii this large fill few texels:
against 16 times, one texel's weight is off by 1 % of the largest (a ring, at the tips of its hole)."""


class Chords(NamedTuple):
    """Chords of one footprint, in px from its pixel."""

    chords: FloatArray
    """float32 [n, 4]: y, the height that the chord stands for, left and right end; ascending in y."""
    rows: "np.ndarray[tuple[int], np.dtype[np.int32]]"
    """int32 [2 half + 2]: first chord of each row of texels, -half .. half, and where the last one ends."""


def chords_of(tables: LensTables, radius: float, ex: float, ey: float, half: int) -> Chords:
    """Chords of the opening's image at a signed blur radius in px and tilt (ex, ey) = K g, within half px."""
    lines = scan(tables.outline, radius, ex, ey, min(tables.detail, CLOSEST))
    pairs = np.diff(lines.first) // 2
    line = np.repeat(np.arange(len(pairs)), pairs)
    left = lines.first[line] + 2 * (np.arange(len(line)) - np.repeat(np.cumsum(pairs) - pairs, pairs))
    y = lines.y[line]
    chords = np.stack([y, lines.heights[line], lines.x[left], lines.x[left + 1]], axis=1)
    rows = np.searchsorted(y, np.arange(-half, half + 2))
    return Chords(chords.astype(np.float32), rows.astype(np.int32))
