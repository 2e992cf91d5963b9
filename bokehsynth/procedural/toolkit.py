"""Arithmetic that both kinds of painting share."""

import numpy as np
import numpy.typing as npt

from bokehsynth.color import srgb_to_linear

FloatArray = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]
"""Places or outlines [..., 2], in units of the picture or of the subject."""


def rgb(code: str) -> FloatArray:
    """Linear light float32 [3] of an sRGB colour written as rrggbb."""
    return srgb_to_linear(np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], np.uint8))


def smoothstep(low: float, high: float, value: npt.NDArray[np.floating]) -> FloatArray:
    """0 below `low`, 1 above `high`, smooth between; with `low` > `high` it falls."""
    t = np.clip((np.asarray(value, np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
