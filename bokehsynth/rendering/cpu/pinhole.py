"""The all-in-focus picture of planes that do not cross in the picture, and their disparity.

The arithmetic is that of `composite` for layers in focus, operation by operation: pixels that a lens leaves in focus
have the bits of this picture.
"""

from collections.abc import Sequence

import numpy as np

from bokehsynth.optics import Plane
from bokehsynth.rendering.cpu import simd
from bokehsynth.rendering.cpu.kernel_arguments import Picture
from bokehsynth.rendering.cpu.simd import address_of, div, load, madd, mul, splat, store, sub, where_positive
from bokehsynth.rendering.jit import always_inline_kernel, inline_kernel
from bokehsynth.rendering.tile_constants import LANES
from bokehsynth.rendering.types import FloatArray, RenderInput, RenderOutput


def planes_in_order(scene: RenderInput) -> "Sequence[Plane] | None":
    """The layers' planes, if each lies nowhere in front of the one before it; None if not, or with height fields."""
    planes = [layer.disparity for layer in scene.layers if isinstance(layer.disparity, Plane)]
    if len(planes) < len(scene.layers):
        return None
    corners = np.array([plane.corners(scene.width, scene.height) for plane in planes])
    return planes if bool((np.diff(corners, axis=0) <= 0).all()) else None  # at the corners, so everywhere


def composite(scene: RenderInput, output: RenderOutput) -> None:
    """Composite the layers, which must be `planes_in_order`, into `output`."""
    packed = np.array([address_of(layer.packed) for layer in scene.layers], np.int64)
    steps = scene.layers[0].packed[0].nbytes, scene.layers[0].shape[1]
    scratch = np.empty(4 * LANES, np.float32)
    _composite(packed, *steps, scene.margin, address_of(scratch), Picture(output.color, output.coverage))


@inline_kernel
def _composite(packed, step, stride, margin, scratch, picture):
    height, width = picture.coverage.shape
    nothing, one = splat(np.float32(0)), splat(np.float32(1))
    for y in range(height):
        for x in range(0, width, LANES):
            at, through = (y + margin) * stride + margin + x, one
            red, green, blue = nothing, nothing, nothing
            for m in range(len(packed)):
                red = madd(red, load(packed[m], at), through)
                green = madd(green, load(packed[m] + step, at), through)
                blue = madd(blue, load(packed[m] + 2 * step, at), through)
                through = mul(through, sub(one, load(packed[m] + 3 * step, at)))
            arrived = sub(one, through)
            red = where_positive(arrived, div(red, arrived), nothing)
            green = where_positive(arrived, div(green, arrived), nothing)
            blue = where_positive(arrived, div(blue, arrived), nothing)
            write_pixels(red, green, blue, arrived, y * width + x, width - x, scratch, picture)


@always_inline_kernel
def write_pixels(red, green, blue, covered, pixel, count, scratch, picture):
    """Write `count` pixels of a row, LANES at most, from number `pixel` on; scratch: address of 4 LANES floats."""
    color, coverage = picture
    if count >= LANES:
        simd.store_rgb(np.int64(color.ctypes.data), 3 * pixel, red, green, blue)
        store(np.int64(coverage.ctypes.data), pixel, covered)
        return
    store(scratch, 0, red)
    store(scratch, LANES, green)
    store(scratch, 2 * LANES, blue)
    store(scratch, 3 * LANES, covered)
    y, x = pixel // coverage.shape[1], pixel % coverage.shape[1]
    for lane in range(count):
        for c in range(3):
            color[y, x + lane, c] = simd.peek(scratch, c * LANES + lane)
        coverage[y, x + lane] = simd.peek(scratch, 3 * LANES + lane)


def maps(scene: RenderInput, planes: Sequence[Plane]) -> tuple[FloatArray, FloatArray]:
    """Disparity and defocus, float32 [H, W], of the nearest layer at which the accumulated alpha reaches 0.5.

    Of the last layer where none does. Both are rounded once, from float64.
    """
    disparity, defocus = (np.empty((scene.height, scene.width), np.float32) for _ in range(2))
    alphas = np.array([address_of(layer.alpha) for layer in scene.layers], np.int64)
    numbers = np.array([(plane.d, plane.gx, plane.gy) for plane in planes])
    stride = scene.layers[0].shape[1]
    _fill(alphas, numbers, scene.lens.blur, scene.lens.focus, scene.margin, stride, disparity, defocus)
    return disparity, defocus


@inline_kernel
def _fill(alphas, planes, blur, focus, margin, stride, disparity, defocus):
    height, width = disparity.shape
    last = len(alphas) - 1
    for row in range(height):
        y, first = row - (height - 1) / 2, (row + margin) * stride + margin
        for column in range(width):
            through, m = np.float32(1), 0
            while m < last:
                through *= np.float32(1) - simd.peek(alphas[m], first + column)
                if through <= np.float32(0.5):
                    break
                m += 1
            d = planes[m, 0] + planes[m, 1] * (column - (width - 1) / 2) + planes[m, 2] * y
            disparity[row, column], defocus[row, column] = d, blur * abs(d - focus)
