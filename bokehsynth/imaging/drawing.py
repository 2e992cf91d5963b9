"""Text and grids on sheets of pictures; all pictures are uint8 [H, W, 3], RGB."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from bokehsynth.files import atomic_write

ByteArray = npt.NDArray[np.uint8]
Text = tuple[int, int, str, int, tuple[int, int, int]]
"""x and y of the upper left corner, the words, font size in pixels, colour."""

PAPER, INK, FAINT = (250, 250, 248), (28, 28, 30), (120, 120, 124)


def blank(height: int, width: int) -> ByteArray:
    """An empty part of a sheet."""
    return np.full((height, width, 3), PAPER, np.uint8)


def write_text(image: ByteArray, texts: Sequence[Text]) -> ByteArray:
    """The picture with texts on it; no more of each than could be seen."""
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    for x, y, text, size, color in texts:
        pen.text((x, y), text[: image.shape[1]], fill=color, font=default_font(size))
    return np.asarray(canvas)


@lru_cache(maxsize=8)
def default_font(size: int) -> Any:
    """Pillow's own font."""
    return ImageFont.load_default(size)


def grid(cells: Sequence[ByteArray], columns: int, empty: ByteArray) -> ByteArray:
    """Cells of one size, `columns` a row; the last row is filled up with `empty`."""
    cells = [*cells, *[empty] * (-len(cells) % columns)]
    rows = [np.concatenate(cells[i : i + columns], axis=1) for i in range(0, len(cells), columns)]
    return np.concatenate(rows, axis=0)


def write_sheet(path: Path, sheet: ByteArray, compression: int | None = None) -> None:
    """Write a sheet as PNG, at a compression of 0 to 9 or as OpenCV finds fast."""
    atomic_write(path, encode_sheet(sheet, compression))


def encode_sheet(sheet: ByteArray, compression: int | None = None) -> bytes:
    """A sheet as the bytes of a PNG file, at a compression of 0 to 9 or as OpenCV finds fast."""
    options = [] if compression is None else [cv2.IMWRITE_PNG_COMPRESSION, compression]
    return bytes(cv2.imencode(".png", sheet[..., ::-1], options)[1].tobytes())
