"""Fractal noise on lattices of fixed resolution, so that a place has the same clouds and rocks at every size."""

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.rng import from_seed

FloatArray = npt.NDArray[np.float32]


def fractal(
    seed: int, shape: tuple[int, int], cells: tuple[float, float], octaves: int = 6, fading: float = 0.55
) -> FloatArray:
    """Noise [H, W] of about zero mean and unit deviation.

    The coarsest lattice has `cells` (rows, columns) knots over the picture, every further octave twice as many with
    `fading` times the amplitude. Octaves that the picture cannot resolve are left out; since each octave has a seed
    of its own, the others do not notice.
    """
    height, width = shape
    total = np.zeros((2, 2), np.float32)
    for octave in range(octaves):
        lattice = max(2, round(cells[0] * 2**octave)), max(2, round(cells[1] * 2**octave))
        if lattice[0] > 1.1 * height and lattice[1] > 1.1 * width:
            break
        knots = from_seed(seed + octave).standard_normal(lattice, dtype=np.float32)
        total = resized(total, lattice) + np.float32(fading**octave) * knots
    deviation = np.sqrt(sum(fading ** (2 * octave) for octave in range(octaves))) * 0.75
    return resized(total, shape) * np.float32(1 / deviation)


def resized(knots: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """A lattice stretched over [H, W]: averaged where it is finer than the picture, cubic where it is coarser."""
    height, width = shape
    rows, columns = knots.shape[:2]
    coarse = (min(rows, height), min(columns, width))
    if coarse != (rows, columns):
        knots = np.asarray(cv2.resize(knots, coarse[::-1], interpolation=cv2.INTER_AREA), np.float32)
    if coarse == shape:
        return knots
    return np.asarray(cv2.resize(knots, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def ramp(low: float, high: float, value: npt.ArrayLike) -> FloatArray:
    """Smooth step: 0 below `low`, 1 above `high` (or the reverse when low > high)."""
    t = np.clip((np.asarray(value, np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
