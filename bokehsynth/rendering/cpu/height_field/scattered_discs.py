"""Smooth height fields without rays: every texel draws its disc.

Where K abs(grad d) < 1 a field hides nothing of itself, and a texel q draws a disc of radius K abs(delta(q)) about q
whose brightness at p is proportional to 1 + (p - q).grad d / delta(q) (docs/optics.md, "Smooth fields are exact"). A
chord of it is two ends in a table of differences along x: of the light, and of how it rises from pixel to pixel. An end
is the integral of a tent, as wide as the chord's end moves over the texel. Running sums in float64 then give the
picture. The weights that reach a pixel are summed too and divided by, so that one colour stays that colour.
"""

import numpy as np

from bokehsynth.rendering.cpu.height_field.disc_rows import PER_PX
from bokehsynth.rendering.cpu.simd import add, load, madd, mul, pair, poke, splat, store, sub
from bokehsynth.rendering.jit import always_inline_kernel, kernel
from bokehsynth.rendering.tile_constants import FLOAT_BYTES, LANES

BLOCK = 8
"""Side of the blocks of texels that draw discs or none."""
STRIP = 32
"""Rows of pixels that are filled together: their differences stay in the second-level cache."""
NARROWEST, WIDEST = np.float32(0.3), np.float32(1.5)
"""Half widths of tents that soften ends, in pixels."""
ENTRY = 8
"""Floats for each pixel: red, green, blue and weight, then how they rise per pixel."""


@kernel
def scatter_strip(surface, rows, blur, sizes, part, tiles, memory, picture):
    """Fill the chosen tiles of a part of the picture from the texels of an opaque height field's smooth blocks.

    surface: (packed float32 [4, Hc, Wc], heights float32 [Hc, Wc], d - d_f, and which blocks are smooth, bool [rows,
    columns]); rows: `DiscRows` of their radii; sizes: (margin, their largest radius in px); part: first row of STRIP
    rows, first and last + 1 column; tiles: (bool [rows, columns], their height and width); memory: scratch,
    differences float32 [STRIP, columns, ENTRY] and colours float32 [2, LANES]; picture: `Picture`.
    """
    packed, heights, smooth = surface
    differences, colours = memory
    margin, largest = sizes
    strip, left, right = part
    height, width = picture.coverage.shape
    count = min(STRIP, height - strip)
    differences[:] = 0
    pad, far = (differences.shape[1] - width) // 2, int(largest) + 2
    line = differences.shape[1] * ENTRY
    target, scratch = differences.ctypes.data, colours.ctypes.data
    first, last = max(1, strip + margin - far), min(heights.shape[0] - 1, strip + count + margin + far)
    for y in range(first, last):
        for x in range(max(1, margin + left - far), min(heights.shape[1] - 1, margin + right + far)):
            delta = heights[y, x]
            radius = blur * abs(delta)
            column, row = x - margin, y - margin - strip
            if not smooth[y // BLOCK, x // BLOCK] or not (
                -radius - 2 < row < count + radius + 1 and left - radius - 2 < column < right + radius + 2
            ):
                continue
            _fill_colours(packed, y, x, scratch)
            slope = (
                0.5 * (heights[y, x + 1] - heights[y, x - 1]) / delta,
                0.5 * (heights[y + 1, x] - heights[y - 1, x]) / delta,
            )
            node = int(radius * PER_PX + 0.5) - rows.first
            chords = rows.starts[node], rows.starts[node + 1]
            _scatter_disc(rows, chords, (row, count, column + pad), (*slope, radius), (target, line), scratch)
    _sum_rows(differences, (strip, count, left, right, pad), tiles, picture)


@always_inline_kernel
def _fill_colours(packed, y, x, scratch):
    """Lay the colour out for two neighbouring pixels: their light; how it rises, and that the second is one further."""
    for c in range(4):
        value = packed[c, y, x] if c < 3 else np.float32(1)
        for half in range(2):
            poke(scratch, half * ENTRY + c, value)
            poke(scratch, half * ENTRY + 4 + c, np.float32(0))
            poke(scratch, LANES + half * ENTRY + c, value if half == 1 else np.float32(0))
            poke(scratch, LANES + half * ENTRY + 4 + c, value)


@always_inline_kernel
def _scatter_disc(rows, chords, place, slope, target, scratch):
    """Add the ends of all chords of a disc that lie in the strip. place: row of its middle, rows, column."""
    middle, count, column = place
    along, down, radius = slope
    light, rise = load(scratch, 0), load(scratch, LANES)
    skew, tilt = np.float32(radius * radius * along), np.float32(radius * radius * down)
    along, down, one = np.float32(along), np.float32(down), np.float32(1)
    for k in range(chords[0], chords[1]):
        row = middle + rows.row[k]
        if row < 0 or row >= count:
            continue
        half, share, below = rows.half[k], rows.share[k], np.float32(rows.row[k])
        level, step = share * (one + down * below), share * along
        start = target[0] + FLOAT_BYTES * row * target[1]
        inverse = one / half
        across = (tilt + below) * inverse * rows.thickness[k]
        across, turn = across * across, skew * inverse
        _add_end(start, column, -half, (one - turn) * (one - turn) + across, (level, step), light, rise, True)
        _add_end(start, column, half, (one + turn) * (one + turn) + across, (level, step), light, rise, False)


@always_inline_kernel
def _add_end(start, column, end, square, brightness, light, rise, begins):
    """Add where a chord begins or ends: a step smoothed by the integral of a tent, on up to four pixels.

    square: of half the width of the tent; brightness: at the disc's middle, and its rise per pixel.
    """
    level, step = brightness
    width = min(max(np.sqrt(square), NARROWEST), WIDEST)
    whole, scale = np.floor(end - width), np.float32(1) / width
    f = (end - whole) * scale
    c1, c2, c3 = _passed(scale - f), _passed(np.float32(2) * scale - f), _passed(np.float32(3) * scale - f)
    here = madd(mul(splat(level + step * (whole + np.float32(1))), light), splat(step), rise)
    there = madd(here, splat(np.float32(2) * step), light)
    at = (column + int(whole) + 1) * ENTRY
    a = mul(pair(c1, c2 - c1), here)
    b = mul(pair(c3 - c2, np.float32(1) - c3), there)
    if begins:
        store(start, at, add(load(start, at), a))
        store(start, at + LANES, add(load(start, at + LANES), b))
    else:
        store(start, at, sub(load(start, at), a))
        store(start, at + LANES, sub(load(start, at + LANES), b))


@always_inline_kernel
def _passed(t):
    """Integral of the tent 1 - abs(t) from -1 to t."""
    t = min(max(t, np.float32(-1)), np.float32(1))
    rest = np.float32(1) - abs(t)
    part = np.float32(0.5) * rest * rest
    return part if t < 0 else np.float32(1) - part


@kernel
def _sum_rows(differences, part, tiles, picture):
    """Sum the differences along x, and divide by the weight."""
    strip, count, left, right, pad = part
    chosen, (tile_height, tile_width) = tiles
    for row in range(count):
        r, g, b, w = 0.0, 0.0, 0.0, 0.0
        dr, dg, db, dw = 0.0, 0.0, 0.0, 0.0
        y = strip + row
        for x in range(-pad, right):
            at = differences[row, pad + x]
            r, g, b, w = r + dr + at[0], g + dg + at[1], b + db + at[2], w + dw + at[3]
            dr, dg, db, dw = dr + at[4], dg + at[5], db + at[6], dw + at[7]
            if x >= left and chosen[y // tile_height, x // tile_width]:
                color = picture.color[y, x]
                color[0], color[1], color[2] = max(0.0, r / w), max(0.0, g / w), max(0.0, b / w)
                picture.coverage[y, x] = 1
