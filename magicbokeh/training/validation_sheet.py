"""Validation sheets: rows of LQ | ours | target | error for judging by eye."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

ByteArray = npt.NDArray[np.uint8]

PAPER, INK, FAINT = (250, 250, 248), (28, 28, 30), (110, 110, 114)
GAP, HEAD, CAPTION, SMALLEST = 10, 54, 26, 192
ERROR_TOP = 0.25
"""Error at which the colour map ends, as a share of the range from black to white."""
_COLUMNS = (("LQ", "the input"), ("ours", "the network"), ("target", "the truth"), ("error", ""))


@dataclass(frozen=True)
class Row:
    """One row of a sheet."""

    lq: ByteArray
    ours: ByteArray
    target: ByteArray
    """uint8 [H, W, 3]."""
    error: npt.NDArray[np.float32]
    """[H, W] as a share of the range from black to white."""
    caption: str


def draw_sheet(rows: Sequence[Row]) -> ByteArray:
    """Draw the sheet, uint8 [H, W, 3]; pictures below 192 px are enlarged without smoothing."""
    height, width = rows[0].lq.shape[:2]
    factor = max(1, -(-SMALLEST // min(height, width)))
    height, width = height * factor, width * factor
    total = GAP + 4 * (width + GAP)
    bands = [_head(total, width)]
    for row in rows:
        heat = cv2.applyColorMap(
            np.rint(np.clip(row.error / ERROR_TOP, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO
        )[..., ::-1]
        band = _blank(height, total)
        for place, picture in enumerate((row.lq, row.ours, row.target, heat)):
            left = GAP + place * (width + GAP)
            band[:, left : left + width] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST)
        bands += [band, _write(_blank(CAPTION, total), [(GAP, 4, row.caption, 13, INK)])]
    return np.concatenate(bands)


def _head(total: int, width: int) -> ByteArray:
    band = _blank(HEAD, total)
    texts: list[tuple[int, int, str, int, tuple[int, int, int]]] = []
    for place, (name, about) in enumerate(_COLUMNS):
        left = GAP + place * (width + GAP)
        texts += [(left, 6, name, 16, INK), (left + 14 + 9 * len(name), 9, about, 12, FAINT)]
    left = GAP + 3 * (width + GAP)
    ramp = cv2.applyColorMap(np.linspace(0, 255, width - 78).astype(np.uint8)[None].repeat(9, 0), cv2.COLORMAP_INFERNO)
    band[36:45, left + 12 : left + 12 + ramp.shape[1]] = ramp[..., ::-1]
    texts += [(left, 32, "0", 12, INK), (left + 16 + ramp.shape[1], 32, f"{ERROR_TOP:.0%} or more", 11, INK)]
    return _write(band, texts)


def _blank(height: int, width: int) -> ByteArray:
    return np.full((height, width, 3), PAPER, np.uint8)


def _write(image: ByteArray, texts: Sequence[tuple[int, int, str, int, tuple[int, int, int]]]) -> ByteArray:
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    for x, y, text, size, color in texts:
        pen.text((x, y), text, fill=color, font=_font(size))
    return np.asarray(canvas)


@lru_cache(maxsize=8)
def _font(size: int) -> Any:
    return ImageFont.load_default(size)
