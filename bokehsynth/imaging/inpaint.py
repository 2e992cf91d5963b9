"""Push-pull inpainting."""

from collections.abc import Callable

import cv2
import numpy as np

from bokehsynth.color import FloatArray


def push_pull(
    color: FloatArray, weight: FloatArray, trust: float = 1.0, extent: Callable[[int, int], int] = max
) -> FloatArray:
    """Colour [H, W, 3] continued to where `weight` [H, W] is 0: weighted means of ever larger cells, finest first.

    A cell keeps its own mean in the measure of `trust` times its weight, at most 1, and takes the rest from the next
    coarser level. The coarsest has an `extent` of one cell: by `max` it is a single cell, by `min` a row or column.
    """

    def pull(total: FloatArray, weight: FloatArray) -> FloatArray:
        mean = np.asarray(total / np.maximum(weight, np.float32(1e-6))[..., None], np.float32)
        height, width = weight.shape
        share = np.minimum(weight * np.float32(trust), 1)[..., None]
        if share.min() >= 1 or extent(height, width) == 1:
            return mean
        size = (max(1, width // 2), max(1, height // 2))
        smaller = (np.asarray(cv2.resize(a, size, interpolation=cv2.INTER_AREA), np.float32) for a in (total, weight))
        coarse = cv2.resize(pull(*smaller), (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(share * mean + (1 - share) * coarse, np.float32)

    return pull(color * weight[..., None], weight)
