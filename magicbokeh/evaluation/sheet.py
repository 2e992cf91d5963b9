"""A contact sheet of samples and methods: one row per sample, the input first and the truth last."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from magicbokeh.evaluation.items import ByteArray

CELL, GAP, HEAD, CAPTION = 256, 8, 28, 22
_PAPER, _INK, _FAINT = (250, 250, 248), (28, 28, 30), (110, 110, 114)
MOST_ROWS = 12


class SheetRow(NamedTuple):
    """One sample."""

    key: str
    pictures: Sequence[ByteArray]
    """In the order of the columns, all of one size."""
    captions: Sequence[str]
    """Below each picture."""


def draw_sheet(columns: Sequence[str], rows: Sequence[SheetRow]) -> ByteArray:
    """Draw the sheet, uint8 [H, W, 3]; pictures are brought to 256 px of their longer side."""
    heights = [_scaled(row.pictures[0])[0] for row in rows]
    height = HEAD + sum(one + CAPTION + GAP for one in heights)
    canvas = Image.new("RGB", (GAP + len(columns) * (CELL + GAP), height), _PAPER)
    pen = ImageDraw.Draw(canvas)
    for place, name in enumerate(columns):
        pen.text((GAP + place * (CELL + GAP), 6), name[:34], fill=_INK, font=_font(14))
    top = HEAD
    for row, inner in zip(rows, heights, strict=True):
        for place, (picture, caption) in enumerate(zip(row.pictures, row.captions, strict=True)):
            left = GAP + place * (CELL + GAP)
            size = _scaled(picture)
            smaller = size[0] < picture.shape[0]
            how = cv2.INTER_AREA if smaller else cv2.INTER_NEAREST
            shown = np.ascontiguousarray(cv2.resize(picture, (size[1], size[0]), interpolation=how), np.uint8)
            canvas.paste(Image.fromarray(shown), (left, top))
            pen.text((left, top + inner + 3), caption[:44], fill=_FAINT, font=_font(11))
        top += inner + CAPTION + GAP
    return np.asarray(canvas, np.uint8)


def _scaled(picture: ByteArray) -> tuple[int, int]:
    """(height, width) in the sheet."""
    height, width = picture.shape[:2]
    factor = CELL / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


@lru_cache(maxsize=4)
def _font(size: int) -> Any:
    return ImageFont.load_default(size)
