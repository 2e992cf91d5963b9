"""Night photographs whose lens is known (`benchmarks.calibrate`), small ones, and pictures as files."""

from pathlib import Path

import cv2
import numpy as np

from benchmarks.calibrate import Night, night


def small_night(seed: int = 1) -> Night:
    """A quick one: 26 lamps in 450 x 300 px."""
    return night(seed, 300, 450, 26)


def save_picture(path: Path, picture: np.ndarray) -> Path:
    """Write an array as the picture that its name says."""
    assert cv2.imwrite(str(path), picture)
    return path
