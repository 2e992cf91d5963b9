"""Which tiles see nothing but one smooth height field out of focus, so that its texels' discs are the picture."""

import numpy as np
import numpy.typing as npt

from bokehsynth.rendering.cpu.height_field.disc_rows import disc_rows
from bokehsynth.rendering.cpu.height_field.scattered_discs import BLOCK, ENTRY, STRIP, scatter_strip
from bokehsynth.rendering.cpu.kernel_arguments import Picture
from bokehsynth.rendering.cpu.threads import in_pieces
from bokehsynth.rendering.jit import inline_kernel, kernel
from bokehsynth.rendering.tile_constants import LANES
from bokehsynth.rendering.types import FloatArray

STEEPEST = 0.75
"""Largest K abs(grad d) of a smooth field: at 1 it begins to hide parts of itself."""
MOST_BENT = 0.3
"""Largest K abs(d(q-1) - 2d(q) + d(q+1)) in px, along x and y: a texel's disc has one slope, and its rim is off by a
third of that. Up to here discs are no worse than rays (alternating columns, a lone lamp: both 6e-4 rms)."""
NEAREST = 4.0
"""Least blur radius in px of texels that draw discs; nearer to the focus a texel's own slope bends its disc."""
LARGEST = 96.0
"""Largest blur radius in px of texels that draw discs: a table holds the chords of all radii."""
BRIGHTEST = np.float32(256)
"""Most light of texels that draw discs: the ends of discs cancel to float32's precision only, and what is left stays in
all pixels to the right of them (36 texels of 250 at a radius of 5 px: up to 2e-4)."""


@kernel
def mark_rough(layer, blur, margin, tile_sides, rough):
    """Set `rough` [tile rows, columns] where some texel that may reach a tile is steep, bent, near the focus or bright.

    layer: (packed float32 [4, Hc, Wc], heights float32 [Hc, Wc], d - d_f). A ray that meets the field twice meets it
    where K grad d.s >= 1 at the second hit, so that a texel there, whose disc holds the pixel, is steep. Returns which
    blocks of BLOCK x BLOCK texels are smooth, bool [rows, columns]: all that reach the other tiles.
    """
    height, width = layer[1].shape
    tile_height, tile_width = tile_sides
    smooth = np.empty((-(-height // BLOCK), -(-width // BLOCK)), np.bool_)
    for top in range(0, height, BLOCK):
        for left in range(0, width, BLOCK):
            is_smooth, farthest = _judge_block(layer, blur, top, left)
            smooth[top // BLOCK, left // BLOCK] = is_smooth
            if is_smooth:
                continue
            reach = int(blur * farthest) + 3
            first_row = max(0, (top - margin - reach) // tile_height)
            last_row = min(len(rough) - 1, (top + BLOCK - margin + reach) // tile_height)
            first = max(0, (left - margin - reach) // tile_width)
            last = min(rough.shape[1] - 1, (left + BLOCK - margin + reach) // tile_width)
            for row in range(first_row, last_row + 1):
                for column in range(first, last + 1):
                    rough[row, column] = True
    return smooth


@inline_kernel
def _judge_block(layer, blur, top, left):
    """Whether the texels of a block draw discs, and the largest abs(d - d_f) among them."""
    packed, heights = layer
    height, width = heights.shape
    nearest, farthest, brightest = np.float32(np.inf), np.float32(0), np.float32(0)
    across, down, bent = np.float32(0), np.float32(0), np.float32(0)
    for y in range(top, min(height, top + BLOCK)):
        for x in range(left, min(width, left + BLOCK)):
            h = heights[y, x]
            right, below = heights[y, min(x + 1, width - 1)], heights[min(y + 1, height - 1), x]
            crosses = h * right <= 0 or h * below <= 0
            nearest = np.float32(0) if crosses else min(nearest, abs(h))
            farthest = max(farthest, abs(h))
            across, down = max(across, abs(right - h)), max(down, abs(below - h))
            if 0 < x < width - 1:
                bent = max(bent, abs((right - h) - (h - heights[y, x - 1])))
            if 0 < y < height - 1:
                bent = max(bent, abs((below - h) - (h - heights[y - 1, x])))
            brightest = max(brightest, packed[0, y, x], packed[1, y, x], packed[2, y, x])
    between = blur * nearest >= NEAREST and blur * farthest <= LARGEST
    level = blur * np.hypot(across, down) <= STEEPEST and blur * bent <= MOST_BENT
    return between and level and brightest <= BRIGHTEST, farthest


def scatter_tiles(
    layer: tuple[FloatArray, FloatArray], smooth: npt.NDArray[np.bool_], blur: float, margin: int,
    chosen: npt.NDArray[np.bool_], tile_sides: tuple[int, int], picture: Picture,
) -> None:  # fmt: skip
    """Fill the `chosen` tiles of the picture from the texels of a layer's smooth blocks, both as in `mark_rough`."""
    if not chosen.any():
        return
    height, width = picture.coverage.shape
    largest = min(blur * float(np.abs(layer[1]).max()), LARGEST)
    rows = disc_rows(NEAREST, largest)
    pad = 2 * int(largest) + 6
    strips = [s for s in range(0, height, STRIP) if chosen[s // tile_sides[0] : -(-(s + STRIP) // tile_sides[0])].any()]

    def work(start: int, stop: int) -> None:
        memory = np.empty((STRIP, width + 2 * pad, ENTRY), np.float32), np.empty((2, LANES), np.float32)
        for strip in strips[start:stop]:
            inside = chosen[strip // tile_sides[0] : -(-(strip + STRIP) // tile_sides[0])].any(axis=0)
            columns = np.flatnonzero(inside)
            span = int(columns[0]) * tile_sides[1], min(width, (int(columns[-1]) + 1) * tile_sides[1])
            part, tiles = (strip, *span), (chosen, tile_sides)
            scatter_strip((*layer, smooth), rows, blur, (margin, largest), part, tiles, memory, picture)

    in_pieces(0, len(strips), work)
