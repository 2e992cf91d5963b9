"""Painting on a frame in unit coordinates: colours, mixing, coverage; all in linear light.

Unit coordinates: y runs 0..1 down the picture, x runs 0..4/3, so geometry is independent of the picture's size.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.procedural.toolkit import FloatArray, rgb

ASPECT = 4 / 3


@dataclass(frozen=True)
class Frame:
    """The picture's size and its pixel centres in unit coordinates."""

    size: int
    """Shorter side (height) in pixels."""

    @property
    def height(self) -> int:
        """The height in pixels."""
        return self.size

    @property
    def width(self) -> int:
        """The width in pixels."""
        return round(self.size * ASPECT)

    @cached_property
    def x(self) -> FloatArray:
        """float32 [1, W]."""
        return ((np.arange(self.width, dtype=np.float32) + np.float32(0.5)) / np.float32(self.size))[None, :]

    @cached_property
    def y(self) -> FloatArray:
        """float32 [H, 1]."""
        return ((np.arange(self.height, dtype=np.float32) + np.float32(0.5)) / np.float32(self.size))[:, None]

    def cover(self, distance: FloatArray) -> FloatArray:
        """Coverage 0..1 of a half space from the signed distance (unit lengths, positive inside)."""
        share: FloatArray = np.clip(distance * np.float32(self.size) + np.float32(0.5), np.float32(0), np.float32(1))
        return share

    def wide(self, column: FloatArray) -> FloatArray:
        """Values of the rows [h, 1] repeated over the width, [h, W]."""
        return np.repeat(column, self.width, axis=1)

    def resampled(self, picture: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
        """`picture` [H, W, 3] sampled at coordinates [h, W]; mirrored beyond its edges."""
        u, v = (np.ascontiguousarray(m * np.float32(self.size) - np.float32(0.5), np.float32) for m in (x, y))
        return np.asarray(cv2.remap(picture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101), np.float32)


def palette(codes: str) -> FloatArray:
    """Linear light float32 [N, 3] of sRGB colors written as "rrggbb rrggbb ..."."""
    return np.stack([rgb(code) for code in codes.split()])


def tint(light: FloatArray, color: FloatArray, base: FloatArray | float = 0.0) -> FloatArray:
    """`base` + `light` [H, W] times `color` [3], as [H, W, 3].

    Plane by plane, since NumPy broadcasts along a last axis of length 3 ten times more slowly.
    """
    planes = [light * c for c in color]
    if isinstance(base, np.ndarray):
        planes = [plane + b for plane, b in zip(planes, base, strict=True)]
    elif base:
        planes = [plane + np.float32(base) for plane in planes]
    return np.asarray(cv2.merge(planes), np.float32)


def gray_to_rgb(weight: FloatArray) -> FloatArray:
    """A map [H, W] repeated for the three colors, [H, W, 3]."""
    return np.asarray(cv2.cvtColor(np.asarray(weight, np.float32), cv2.COLOR_GRAY2BGR), np.float32)


def mix(first: FloatArray, second: FloatArray, share: npt.ArrayLike) -> FloatArray:
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
    return start + (end - start) * gray_to_rgb(weight)


def paint_over(picture: FloatArray, color: FloatArray, alpha: FloatArray) -> None:
    """Lay `color` ([3] or [H, W, 3]) over `picture` [H, W, 3] in place with coverage `alpha` [H, W]."""
    if color.ndim == 1:
        color = tint(np.zeros_like(alpha), color, color)
    picture += gray_to_rgb(alpha) * (color - picture)


def distance_to(frame: Frame, point: tuple[float, float], stretch: float = 1.0) -> FloatArray:
    """Distance of every pixel to a point, unit lengths, [H, W]; `stretch` scales the horizontal part."""
    dx, dy = (frame.x - np.float32(point[0])) * np.float32(stretch), frame.y - np.float32(point[1])
    distance: FloatArray = np.sqrt(dx * dx + dy * dy)
    return distance


def finish(picture: FloatArray, brightest: float) -> FloatArray:
    """Clip to 0..brightest (at most 20 times white) and make contiguous."""
    return np.ascontiguousarray(np.clip(picture, np.float32(0), np.float32(brightest)), dtype=np.float32)
