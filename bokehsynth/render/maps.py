"""Disparity of the layer that a pixel shows, for stacks of planes that do not cross in the picture."""

import numpy as np

from bokehsynth.render.jit import leaf
from bokehsynth.render.lanes import address_of, peek
from bokehsynth.render.shot import Float64Array, Shot


def visible_disparity_of_planes(shot: Shot, planes: Float64Array) -> Float64Array:
    """Disparity [H, W] of the nearest layer at which the accumulated alpha reaches 0.5, else of the last.

    planes [L, 3]: d, gx, gy of the layers, which must come nearest first at every pixel.
    """
    out = np.empty((shot.height, shot.width))
    alphas = np.array([address_of(layer.alpha) for layer in shot.layers], np.int64)
    _fill(alphas, planes, shot.margin, shot.layers[0].shape[1], out)
    return out


@leaf
def _fill(alphas, planes, margin, stride, out):
    height, width = out.shape
    last = len(alphas) - 1
    for row in range(height):
        y, first = row - (height - 1) / 2, (row + margin) * stride + margin
        for column in range(width):
            through, m = np.float32(1), 0
            while m < last:
                through *= np.float32(1) - peek(alphas[m], first + column)
                if through <= np.float32(0.5):
                    break
                m += 1
            out[row, column] = planes[m, 0] + planes[m, 1] * (column - (width - 1) / 2) + planes[m, 2] * y
