"""Small pictures that stand for photographs, drawn anew for each test run."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

Bytes = bytes


def landscape(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """uint8 [H, W, 3], sharp, and of coarse features of its own: no two seeds look alike."""
    rng = np.random.RandomState(seed)  # tests may: nothing of this reaches a data set
    coarse = cv2.resize(rng.rand(5, 6, 3), (width, height), interpolation=cv2.INTER_CUBIC)
    fine = rng.rand(height, width, 1) * 0.35
    return np.clip((0.1 + 0.55 * coarse + fine) * 255, 0, 255).astype(np.uint8)


def cutout(seed: int, height: int = 120, width: int = 100) -> np.ndarray:
    """uint8 [H, W, 4]: a textured disc with a soft rim, its own colour under soft alpha."""
    color = landscape(seed, height, width)
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(y - height / 2, x - width / 2)
    alpha = np.clip((0.42 * min(height, width) - radius) / 8 + 0.5, 0, 1)
    return np.dstack([color, np.rint(alpha * 255).astype(np.uint8)])


def encoded(picture: Image.Image | np.ndarray, form: str = "PNG", **options) -> Bytes:
    """The bytes of a picture file."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def save(path: Path, picture: np.ndarray, **options) -> Path:
    """Write a picture, folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, **options)
    return path


def folders(root: Path, cutouts: int = 4, landscapes: int = 4) -> Path:
    """`root/cutouts` and `root/landscapes`."""
    for i in range(cutouts):
        save(root / "cutouts" / f"c{i}.png", cutout(100 + i))
    for i in range(landscapes):
        save(root / "landscapes" / f"l{i}.png", landscape(i))
    return root
