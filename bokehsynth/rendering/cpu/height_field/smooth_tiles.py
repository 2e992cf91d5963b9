"""Which tiles see nothing but one smooth height field out of focus, so that its texels' discs are the picture."""

import numpy as np
import numpy.typing as npt

from bokehsynth.rendering.cpu.height_field.disc_rows import disc_rows
from bokehsynth.rendering.cpu.height_field.scattered_discs import ENTRY, STRIP, scatter_strip
from bokehsynth.rendering.cpu.kernel_arguments import Picture
from bokehsynth.rendering.cpu.threads import in_pieces
from bokehsynth.rendering.jit import kernel
from bokehsynth.rendering.tile_constants import LANES
from bokehsynth.rendering.types import FloatArray

BLOCK = 8
"""Side of the blocks of texels that are judged together."""
STEEPEST = 0.75
"""Largest K abs(grad d) of a smooth field: at 1 it begins to hide parts of itself."""
NEAREST = 4.0
"""Least blur radius in px of texels that draw discs; nearer to the focus a texel's own slope bends its disc."""
LARGEST = 96.0
"""Largest blur radius in px of texels that draw discs: a table holds the chords of all radii."""


@kernel
def mark_rough(heights, blur, margin, tile_sides, rough):
    """Set `rough` [tile rows, columns] where some texel that may reach a tile is steep or near the focus.

    heights float32 [Hc, Wc]: d - d_f. A ray that meets the field twice meets it where K grad d.s >= 1 at the second
    hit, so that a texel there, whose disc holds the pixel, is steep.
    """
    height, width = heights.shape
    tile_height, tile_width = tile_sides
    for top in range(0, height, BLOCK):
        for left in range(0, width, BLOCK):
            nearest, farthest, across, down = np.float32(np.inf), np.float32(0), np.float32(0), np.float32(0)
            for y in range(top, min(height, top + BLOCK)):
                for x in range(left, min(width, left + BLOCK)):
                    h = heights[y, x]
                    right, below = heights[y, min(x + 1, width - 1)], heights[min(y + 1, height - 1), x]
                    crosses = h * right <= 0 or h * below <= 0
                    nearest = np.float32(0) if crosses else min(nearest, abs(h))
                    farthest = max(farthest, abs(h))
                    across, down = max(across, abs(right - h)), max(down, abs(below - h))
            between = blur * nearest >= NEAREST and blur * farthest <= LARGEST
            if between and blur * np.hypot(across, down) <= STEEPEST:
                continue
            reach = int(blur * farthest) + 3
            first_row = max(0, (top - margin - reach) // tile_height)
            last_row = min(len(rough) - 1, (top + BLOCK - margin + reach) // tile_height)
            first = max(0, (left - margin - reach) // tile_width)
            last = min(rough.shape[1] - 1, (left + BLOCK - margin + reach) // tile_width)
            for row in range(first_row, last_row + 1):
                for column in range(first, last + 1):
                    rough[row, column] = True


def scatter_tiles(
    packed: FloatArray, heights: FloatArray, blur: float, margin: int, chosen: npt.NDArray[np.bool_],
    tile_sides: tuple[int, int], picture: Picture,
) -> None:  # fmt: skip
    """Fill the `chosen` tiles of the picture from a layer's texels: packed float32 [4, Hc, Wc], heights [Hc, Wc]."""
    if not chosen.any():
        return
    height, width = picture.coverage.shape
    largest = min(blur * float(np.abs(heights).max()), LARGEST)
    rows = disc_rows(NEAREST / 2, largest)
    pad = 2 * int(largest) + 6
    strips = [s for s in range(0, height, STRIP) if chosen[s // tile_sides[0] : -(-(s + STRIP) // tile_sides[0])].any()]

    def work(start: int, stop: int) -> None:
        memory = np.empty((STRIP, width + 2 * pad, ENTRY), np.float32), np.empty((2, LANES), np.float32)
        for strip in strips[start:stop]:
            inside = chosen[strip // tile_sides[0] : -(-(strip + STRIP) // tile_sides[0])].any(axis=0)
            columns = np.flatnonzero(inside)
            span = int(columns[0]) * tile_sides[1], min(width, (int(columns[-1]) + 1) * tile_sides[1])
            sizes = margin, largest, NEAREST / 2
            part, tiles = (strip, *span), (chosen, tile_sides)
            scatter_strip((packed, heights), rows, blur, sizes, part, tiles, memory, picture)

    in_pieces(0, len(strips), work)
