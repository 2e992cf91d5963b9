"""Painting landscapes: pictures in linear light, shapes on a byte canvas of twice the size, points of light.

Coordinates are in picture heights: y runs from 0 (top) to 1, x from 0 to about 4/3.
"""

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.color import linear_to_srgb, srgb_to_linear

FloatArray = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]

WIDTH = 4 / 3
BRIGHTEST = 20.0

_FINER = 2
_BITS = 4
_TABLE = srgb_to_linear(np.arange(256, dtype=np.uint8))


def shape_of(size: int) -> tuple[int, int]:
    """Rows and columns of a landscape with `size` rows."""
    return size, round(size * WIDTH)


def grid(size: int) -> tuple[FloatArray, FloatArray]:
    """Pixel centres: x as [1, W] and y as [H, 1], in picture heights."""
    height, width = shape_of(size)
    x = (np.arange(width, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    y = (np.arange(height, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    return x[None, :], y[:, None]


def paint(code: str) -> FloatArray:
    """A colour "rrggbb" as linear light [3]."""
    return srgb_to_linear(np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], np.uint8))


def paints(codes: str) -> FloatArray:
    """Colours "rrggbb rrggbb ..." as linear light [N, 3]."""
    return np.stack([paint(code) for code in codes.split()])


def mix(first: npt.ArrayLike, second: npt.ArrayLike, share: npt.ArrayLike) -> FloatArray:
    """`first` where `share` is 0, `second` where it is 1; shares are [H, W] for pictures, [N, 1] for colours."""
    a, b, t = (np.asarray(v, np.float32) for v in (first, second, share))
    if t.ndim == 2 and t.shape[1] != 1:
        t = t[..., None]
    blend = (b - a) * t
    blend += a
    return blend


class Sketch:
    """A picture as sRGB bytes at twice its size, on which antialiased shapes are painted back to front."""

    def __init__(self, light: FloatArray, ceiling: float = 2.0) -> None:
        """`light` is [H, W, 3] linear; `ceiling` the light that the byte 255 stands for."""
        self.ceiling = ceiling
        self.size = light.shape[0]
        self.width = light.shape[1]
        small = self._encode(light)
        # Light above the ceiling (the sun) cannot be told in bytes; it is put back where nothing was painted over it.
        self._excess = np.maximum(light - np.float32(ceiling), 0) if light.max() > ceiling else None
        self._before = small
        self._queue: list[tuple[Points, int]] = []
        self._tones: list[FloatArray] = []
        self.bytes = np.ascontiguousarray(
            cv2.resize(small, (self.width * _FINER, self.size * _FINER), interpolation=cv2.INTER_NEAREST)
        )

    def shapes(self, outlines: npt.ArrayLike, colors: npt.ArrayLike, together: int = 1) -> None:
        """Fill outlines [N, K, 2] with linear colours [N, 3] or [3], in order.

        `together` neighbours in the list are filled at once in the colour of the first: much faster for thousands
        of leaves and blades.
        """
        points = np.asarray(outlines, np.float64)
        tones = np.broadcast_to(np.asarray(colors, np.float32), (len(points), 3))
        self._queue.append((points, together))
        self._tones.append(tones[::together])

    def fill(self, outline: npt.ArrayLike, color: npt.ArrayLike) -> None:
        """Fill one outline [K, 2]."""
        self.shapes(np.asarray(outline, np.float64)[None], color)

    def light(self) -> FloatArray:
        """The finished picture [H, W, 3], linear."""
        self._flush()
        small = np.asarray(cv2.resize(self.bytes, (self.width, self.size), interpolation=cv2.INTER_AREA), np.uint8)
        light = np.asarray(_TABLE[small] * np.float32(self.ceiling), np.float32)
        if self._excess is not None:
            light += self._excess * (small == self._before)
        return light

    def _flush(self) -> None:
        """Paint what was queued; thousands of shapes are converted to bytes and sixteenths of pixels in one go."""
        if not self._queue:
            return
        codes = iter(self._encode(np.concatenate(self._tones)).tolist())
        fixed = self._fixed(np.concatenate([points.reshape(-1, 2) for points, _ in self._queue]))
        start = 0
        for points, together in self._queue:
            count, corners = points.shape[:2]
            part = fixed[start : start + count * corners].reshape(count, corners, 2)
            start += count * corners
            for i in range(0, count, together):
                cv2.fillPoly(self.bytes, list(part[i : i + together]), next(codes), cv2.LINE_AA, _BITS)
        self._queue, self._tones = [], []

    def _encode(self, light: FloatArray) -> npt.NDArray[np.uint8]:
        encoded = linear_to_srgb(np.clip(light * np.float32(1 / self.ceiling), 0, 1))
        return (encoded * np.float32(255) + np.float32(0.5)).astype(np.uint8)

    def _fixed(self, points: Points) -> npt.NDArray[np.int32]:
        pixels = points * (self.size * _FINER) - 0.5
        return np.rint(np.clip(pixels, -20_000, 20_000) * (1 << _BITS)).astype(np.int32)


def boxes(left: npt.ArrayLike, top: npt.ArrayLike, right: npt.ArrayLike, bottom: npt.ArrayLike) -> Points:
    """Upright rectangles [N, 4, 2] from arrays [N]."""
    sides = (np.atleast_1d(np.asarray(v, np.float64)) for v in (left, top, right, bottom))
    x0, y0, x1, y1 = np.broadcast_arrays(*sides)
    return np.stack([np.stack(p, -1) for p in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))], 1)


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


def lamps(light: FloatArray, places: Points, radius: npt.ArrayLike, colors: npt.ArrayLike) -> None:
    """Lay points of light onto a picture: `colors` [N, 3] is the peak, `radius` [N] in picture heights.

    A lamp smaller than a pixel still covers one. Lamps do not add up: the brighter one is seen.
    """
    height, width = light.shape[:2]
    n = len(places)
    down, across = np.arange(height)[:, None], np.arange(width)[None, :]
    radii = np.maximum(np.broadcast_to(np.asarray(radius, np.float64), n) * height, 0.6)
    tones = np.broadcast_to(np.asarray(colors, np.float32), (n, 3))
    for (x, y), r, tone in zip(places * height - 0.5, radii, tones, strict=True):
        reach = int(r + 2)
        top, bottom = max(int(y) - reach, 0), min(int(y) + reach + 2, height)
        left, right = max(int(x) - reach, 0), min(int(x) + reach + 2, width)
        if top < bottom and left < right:
            distance = np.hypot(down[top:bottom] - y, across[:, left:right] - x)
            cover = np.minimum(np.maximum(r + 0.5 - distance, 0), 1).astype(np.float32)
            window = light[top:bottom, left:right]
            np.maximum(window, cover[..., None] * tone, out=window)


def glow(light: FloatArray, radius: float, share: float, floor: float = 1.0) -> FloatArray:
    """Add the veil that light above `floor` throws around itself, `radius` picture heights wide."""
    small_size = (max(light.shape[1] // 4, 1), max(light.shape[0] // 4, 1))
    small = cv2.resize(np.maximum(light - np.float32(floor), 0), small_size, interpolation=cv2.INTER_AREA)
    veil = cv2.GaussianBlur(small, (0, 0), max(radius * small_size[1], 0.3))
    return light + np.float32(share) * np.asarray(cv2.resize(veil, light.shape[1::-1]), np.float32)


def finished(light: FloatArray) -> FloatArray:
    """The picture as a Landscape wants it: float32, contiguous, 0 to 20."""
    return np.ascontiguousarray(np.clip(light, 0, BRIGHTEST), dtype=np.float32)
