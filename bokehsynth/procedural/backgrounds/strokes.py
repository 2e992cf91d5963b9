"""Antialiased lines and polygons, painted in order on a transparent sheet that is then laid over a picture."""

from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.color import encode_8bit, srgb_to_linear
from bokehsynth.procedural.backgrounds.painting import Frame, gray_to_rgb
from bokehsynth.procedural.toolkit import FloatArray, Points

Sheet = npt.NDArray[np.uint8]
Fixed = npt.NDArray[np.int32]
Paints = Iterator[tuple[int, ...]]

SUPERSAMPLE = 2
SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


class Strokes:
    """A transparent sheet at twice the resolution on which lines and polygons are drawn, then laid over a picture.

    The sheet holds 8-bit sRGB premultiplied by coverage: drawing on zeros with antialiasing gives just that. Strokes
    wait until the sheet is laid down, so that thousands of them are converted to OpenCV's terms in one go.
    """

    def __init__(self, frame: Frame, ceiling: float = 1.0) -> None:
        """`ceiling` is the light that the byte 255 stands for: more than 1 for what lies in full sun."""
        self.frame = frame
        self.ceiling = np.float32(ceiling)
        self.scale = frame.size * SUPERSAMPLE
        self._points: list[Points] = []
        self._tones: list[FloatArray] = []
        self._draw: list[Callable[[Sheet, Fixed, Paints], None]] = []

    def lines(self, points: npt.ArrayLike, width: float, color: FloatArray) -> None:
        """Polylines [N, K, 2] of one width (unit length) and linear color."""
        self._wait(np.asarray(points), color[None], partial(_lines, max(1, round(width * self.scale))))

    def shapes(self, outlines: npt.ArrayLike, colors: npt.ArrayLike, together: int = 1) -> None:
        """Polygons [N, K, 2] of any shape in order, each in its own linear color [N, 3] or all in one [3].

        `together` neighbours in the list are filled at once in the color of the first: much faster for thousands of
        leaves and windows. Where such neighbours overlap they leave holes.
        """
        points = np.asarray(outlines)
        tones = np.asarray(colors, np.float32)
        if tones.ndim == 1:
            tones = np.broadcast_to(tones, (len(points), 3))
        self._wait(points, tones[::together], partial(_fill, together))

    def fill(self, outline: npt.ArrayLike, color: npt.ArrayLike) -> None:
        """One polygon [K, 2] in one linear color [3]."""
        self.shapes(np.asarray(outline)[None], color)

    def over(self, picture: FloatArray, light: FloatArray | None = None) -> FloatArray:
        """Lay the sheet over `picture` [H, W, 3] in place and return its coverage [H, W].

        `light` [H, W, 3] multiplies the strokes' color.
        """
        frame = self.frame
        large = self._drawn()
        sheet = cv2.resize(large, (frame.width, frame.height), interpolation=cv2.INTER_AREA)
        cover = np.multiply(sheet[..., 3], np.float32(1 / 255), dtype=np.float32)
        used = np.flatnonzero(sheet[..., 3].any(axis=1))
        if len(used):
            top, bottom = int(used[0]), int(used[-1]) + 1
            alpha = gray_to_rgb(cover[top:bottom])
            straight = np.ascontiguousarray(sheet[top:bottom, :, :3]) / np.maximum(alpha, np.float32(1 / 255))
            color = srgb_to_linear(np.minimum(straight + np.float32(0.5), np.float32(255)).astype(np.uint8))
            if self.ceiling != 1:
                color *= self.ceiling
            if light is not None:
                color *= light[top:bottom]
            picture[top:bottom] += alpha * (color - picture[top:bottom])
        return cover

    def _wait(self, points: Points, tones: FloatArray, draw: Callable[[Sheet, Fixed, Paints], None]) -> None:
        if len(points):
            self._points.append(points)
            self._tones.append(tones)
            self._draw.append(draw)

    def _drawn(self) -> Sheet:
        """The large sheet with all that waits drawn on it."""
        sheet = np.zeros((self.frame.height * SUPERSAMPLE, self.frame.width * SUPERSAMPLE, 4), np.uint8)
        if not self._points:
            return sheet
        paints = np.full((sum(map(len, self._tones)), 4), 255, np.uint8)
        paints[:, :3] = encode_8bit(np.concatenate(self._tones) / self.ceiling)
        codes = map(tuple, paints.tolist())
        # Picture coordinate p covers sheet pixels around p * scale - 0.5 (pixel centres at integers).
        places = np.concatenate([points.reshape(-1, 2) for points in self._points], dtype=np.float64)
        pixels = np.clip(places * self.scale - 0.5, -20_000, 20_000)
        fixed = np.rint(pixels * (1 << SHIFT)).astype(np.int32)
        start = 0
        for points, draw in zip(self._points, self._draw, strict=True):
            count, corners = points.shape[:2]
            draw(sheet, fixed[start : start + count * corners].reshape(count, corners, 2), codes)
            start += count * corners
        self._points, self._tones, self._draw = [], [], []
        return sheet


def _lines(thickness: int, sheet: Sheet, points: Fixed, paints: Paints) -> None:
    kind = cv2.LINE_AA if thickness == 1 else cv2.LINE_8
    cv2.polylines(sheet, list(points), False, next(paints), thickness, kind, SHIFT)


def _fill(together: int, sheet: Sheet, outlines: Fixed, paints: Paints) -> None:
    corners = list(outlines)
    for i in range(0, len(corners), together):
        cv2.fillPoly(sheet, corners[i : i + together], next(paints), cv2.LINE_AA, SHIFT)


def boxes(left: npt.ArrayLike, top: npt.ArrayLike, right: npt.ArrayLike, bottom: npt.ArrayLike) -> Points:
    """Upright rectangles [N, 4, 2] from arrays [N]: corners (left, top), (right, top), and so on round."""
    outline = np.empty((np.broadcast(left, top, right, bottom).size, 4, 2))
    outline[:, 0, 0] = outline[:, 3, 0] = left
    outline[:, 1, 0] = outline[:, 2, 0] = right
    outline[:, 0, 1] = outline[:, 1, 1] = top
    outline[:, 2, 1] = outline[:, 3, 1] = bottom
    return outline


def leaves(centres: Points, length: npt.ArrayLike, angle: npt.ArrayLike, slender: float = 0.5) -> Points:
    """Pointed leaves [N, 6, 2] around `centres` [N, 2]."""
    a = np.broadcast_to(np.asarray(angle, np.float64), len(centres))
    half = np.broadcast_to(np.asarray(length, np.float64), len(centres))[:, None, None] / 2
    s = slender
    form = np.array([(-1, 0), (-0.35, -s), (0.35, -0.9 * s), (1, 0), (0.35, 0.9 * s), (-0.35, s)])
    turn = np.stack([np.stack([np.cos(a), np.sin(a)], -1), np.stack([-np.sin(a), np.cos(a)], -1)], 1)
    return centres[:, None] + half * (form @ turn)


def discs(centres: Points, radius: npt.ArrayLike, corners: int = 10) -> Points:
    """Regular polygons [N, corners, 2] around `centres` [N, 2]."""
    t = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    r = np.broadcast_to(np.asarray(radius, np.float64), len(centres))
    return centres[:, None] + r[:, None, None] * np.stack([np.cos(t), np.sin(t)], -1)
