"""The painter's tools: a frame in unit coordinates, antialiased strokes, blending, all in linear light.

Unit coordinates: y runs 0..1 down the picture, x runs 0..4/3, so geometry does not know the picture's size.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.color import encode_8bit, srgb_to_linear

FloatArray = npt.NDArray[np.float32]

SUPERSAMPLE = 2
ASPECT = 4 / 3
SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


@dataclass(frozen=True)
class Frame:
    """The picture's size and its pixel centres in unit coordinates."""

    size: int
    """Shorter side (height) in pixels."""

    @property
    def height(self) -> int:
        """Pixels."""
        return self.size

    @property
    def width(self) -> int:
        """Pixels."""
        return round(self.size * 4 / 3)

    @property
    def x(self) -> FloatArray:
        """float32 [1, W]."""
        return ((np.arange(self.width, dtype=np.float32) + np.float32(0.5)) / np.float32(self.size))[None, :]

    @property
    def y(self) -> FloatArray:
        """float32 [H, 1]."""
        return ((np.arange(self.height, dtype=np.float32) + np.float32(0.5)) / np.float32(self.size))[:, None]

    def cover(self, distance: FloatArray) -> FloatArray:
        """Coverage 0..1 of a half space from the signed distance (unit lengths, positive inside)."""
        share: FloatArray = np.clip(distance * np.float32(self.size) + np.float32(0.5), np.float32(0), np.float32(1))
        return share


class Strokes:
    """A transparent sheet at twice the resolution on which lines and polygons are drawn, then laid over a picture.

    The sheet holds 8-bit sRGB premultiplied by coverage: drawing on zeros with antialiasing gives just that.
    """

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.scale = frame.size * SUPERSAMPLE
        self.sheet = np.zeros((frame.height * SUPERSAMPLE, frame.width * SUPERSAMPLE, 4), np.uint8)

    def lines(self, points: FloatArray, width: float, color: FloatArray) -> None:
        """Polylines [N, K, 2] of one width (unit length) and linear color."""
        if len(points) == 0:
            return
        thickness = max(1, round(width * self.scale))
        kind = cv2.LINE_AA if thickness == 1 else cv2.LINE_8
        cv2.polylines(self.sheet, list(self._fixed(points)), False, _paint(color), thickness, kind, SHIFT)

    def shapes(self, outlines: FloatArray, colors: FloatArray) -> None:
        """Polygons [N, K, 2] of any shape in order, each in its own linear color [N, 3] or all in one [3]."""
        paints = encode_8bit(np.broadcast_to(colors, (len(outlines), 3))).tolist()
        for points, (red, green, blue) in zip(self._fixed(outlines), paints, strict=True):
            cv2.fillPoly(self.sheet, [points], (red, green, blue, 255), cv2.LINE_AA, SHIFT)

    def discs(self, centres: FloatArray, radii: FloatArray, colors: FloatArray) -> None:
        """Discs at [N, 2] of radii [N] (unit lengths) in order, each in its own linear color [N, 3]."""
        paints = encode_8bit(np.broadcast_to(colors, (len(centres), 3))).tolist()
        sizes = np.maximum(np.rint(radii * self.scale * (1 << SHIFT)), 1).astype(int).tolist()
        for (x, y), r, (red, green, blue) in zip(self._fixed(centres).tolist(), sizes, paints, strict=True):
            cv2.circle(self.sheet, (x, y), r, (red, green, blue, 255), -1, cv2.LINE_AA, SHIFT)

    def over(self, picture: FloatArray, light: FloatArray | None = None) -> None:
        """Lay the sheet over `picture` [H, W, 3] in place; `light` [H, W, 3] multiplies the strokes' color."""
        used = np.flatnonzero(self.sheet[:, :, 3].any(axis=1))
        if len(used) == 0:
            return
        top, bottom = int(used[0]) // SUPERSAMPLE, int(used[-1]) // SUPERSAMPLE + 1
        sheet = self.sheet[top * SUPERSAMPLE : bottom * SUPERSAMPLE]
        small = cv2.resize(sheet, (self.frame.width, bottom - top), interpolation=cv2.INTER_AREA)
        alpha = spread(np.multiply(small[..., 3], np.float32(1 / 255), dtype=np.float32))
        straight = np.ascontiguousarray(small[..., :3]) / np.maximum(alpha, np.float32(1 / 255))
        color = srgb_to_linear(np.minimum(straight + np.float32(0.5), np.float32(255)).astype(np.uint8))
        if light is not None:
            color *= light[top:bottom]
        picture[top:bottom] += alpha * (color - picture[top:bottom])

    def _fixed(self, points: FloatArray) -> npt.NDArray[np.int32]:
        # Picture coordinate p covers sheet pixels around p * scale - 0.5 (pixel centres at integers).
        pixels = (np.asarray(points, dtype=np.float64) * self.scale - 0.5) * (1 << SHIFT)
        return np.rint(np.clip(pixels, -(1 << 24), 1 << 24)).astype(np.int32)


def _paint(color: FloatArray) -> tuple[int, int, int, int]:
    red, green, blue = encode_8bit(color).tolist()
    return red, green, blue, 255


def rgb(code: str) -> FloatArray:
    """Linear light float32 [3] of an sRGB color written as rrggbb."""
    return srgb_to_linear(np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], np.uint8))


def tint(light: FloatArray, color: FloatArray, base: FloatArray | float = 0.0) -> FloatArray:
    """`base` + `light` [H, W] times `color` [3], as [H, W, 3].

    Plane by plane, since NumPy broadcasts along a last axis of length 3 ten times more slowly.
    """
    planes = zip(color, np.broadcast_to(np.asarray(base, np.float32), 3), strict=True)
    return np.asarray(cv2.merge([light * c + b for c, b in planes]), np.float32)


def spread(weight: FloatArray) -> FloatArray:
    """A map [H, W] repeated for the three colors, [H, W, 3]."""
    return np.asarray(cv2.merge((weight, weight, weight)), np.float32)


def mix(first: FloatArray, second: FloatArray, share: FloatArray | float) -> FloatArray:
    """Linear blend, `share` = 0 gives `first`; a map [H, W] or [N] blends colors [3] (or pictures) into [..., 3]."""
    weight = np.asarray(share, dtype=np.float32)
    if weight.ndim == 0:
        return first + (second - first) * weight
    if weight.ndim == 1:
        return first + (second - first) * weight[:, None]
    if first.ndim == 1 and second.ndim == 1:
        return tint(weight, second - first, first)
    blank = np.zeros_like(weight)
    start = first if first.ndim == 3 else tint(blank, first, first)
    end = second if second.ndim == 3 else tint(blank, second, second)
    return start + (end - start) * spread(weight)


def smoothstep(low: float, high: float, value: FloatArray) -> FloatArray:
    """0 below `low`, 1 above `high`, smooth between; `low` > `high` turns it round."""
    t: FloatArray = np.clip((value - np.float32(low)) / np.float32(high - low), np.float32(0), np.float32(1))
    smooth: FloatArray = t * t * (np.float32(3) - np.float32(2) * t)
    return smooth


def blend(picture: FloatArray, color: FloatArray, alpha: FloatArray) -> None:
    """Lay `color` ([3] or [H, W, 3]) over `picture` [H, W, 3] in place with coverage `alpha` [H, W]."""
    if color.ndim == 1:
        color = tint(np.zeros_like(alpha), color, color)
    picture += spread(alpha) * (color - picture)


def distance_to(frame: Frame, point: tuple[float, float], stretch: float = 1.0) -> FloatArray:
    """Distance of every pixel to a point, unit lengths, [H, W]; `stretch` scales the horizontal part."""
    dx, dy = (frame.x - np.float32(point[0])) * np.float32(stretch), frame.y - np.float32(point[1])
    distance: FloatArray = np.sqrt(dx * dx + dy * dy)
    return distance


def finish(picture: FloatArray, brightest: float) -> FloatArray:
    """Clip to 0..brightest (at most 20 times white) and make contiguous."""
    return np.ascontiguousarray(np.clip(picture, np.float32(0), np.float32(brightest)), dtype=np.float32)
