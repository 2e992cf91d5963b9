"""Points of light of a city: splats far brighter than white, their colors, and the glare around them."""

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.procedural.backgrounds.painting import palette
from bokehsynth.procedural.toolkit import FloatArray, Points

WARM = palette("ffb45c ffc878 ff9c40 ffdca0 ffa850")
COOL = palette("d8e8ff b0d0ff f0f4ff")
NEON = palette("ff3068 30c8ff 50ff90 c050ff ff5030 ffe040 40ffe0")
TAIL = palette("ff1808 ff2c10")


@dataclass
class Lamps:
    """Lights collected while a city is painted, laid onto it at the end."""

    places: list[Points] = field(default_factory=list)
    radii: list[npt.NDArray[np.float64]] = field(default_factory=list)
    tones: list[FloatArray] = field(default_factory=list)

    def add(self, places: npt.ArrayLike, radius: npt.ArrayLike, tones: npt.ArrayLike) -> None:
        """Lights at `places` [N, 2] with `radius` [N] (unit length) and peaks `tones` [N, 3]."""
        points = np.atleast_2d(np.asarray(places, np.float64))
        self.places.append(points)
        self.radii.append(np.broadcast_to(np.asarray(radius, np.float64), len(points)))
        self.tones.append(np.broadcast_to(np.asarray(tones, np.float32), (len(points), 3)))

    def shine(self, picture: FloatArray) -> None:
        """Lay all lights onto a picture."""
        lay_lamps(picture, np.concatenate(self.places), np.concatenate(self.radii), np.concatenate(self.tones))


def lamp_tones(rng: np.random.Generator, count: int, low: float, high: float, colors: FloatArray = WARM) -> FloatArray:
    """Peaks [N, 3] of lamps whose brightest channel is `low` to `high` times white."""
    tones = colors[rng.integers(0, len(colors), count)]
    strength = rng.uniform(low, high, (count, 1)).astype(np.float32)
    return tones / tones.max(axis=1, keepdims=True) * strength


def lay_lamps(picture: FloatArray, places: Points, radius: npt.ArrayLike, tones: FloatArray) -> None:
    """Lay points of light onto `picture` [H, W, 3] in place: peaks [N, 3], `radius` [N] in unit lengths.

    A lamp smaller than a pixel still covers one. Lamps do not add up: the brighter one is seen.
    """
    height, width = picture.shape[:2]
    down, across = np.arange(height)[:, None], np.arange(width)[None, :]
    radii = np.maximum(np.broadcast_to(np.asarray(radius, np.float64), len(places)) * height, 0.6)
    for (x, y), r, tone in zip((places * height - 0.5).tolist(), radii.tolist(), tones, strict=True):
        reach = int(r + 2)
        top, bottom = max(int(y) - reach, 0), min(int(y) + reach + 2, height)
        left, right = max(int(x) - reach, 0), min(int(x) + reach + 2, width)
        if top < bottom and left < right:
            distance = np.hypot(down[top:bottom] - y, across[:, left:right] - x)
            cover = np.minimum(np.maximum(r + 0.5 - distance, 0), 1).astype(np.float32)
            window = picture[top:bottom, left:right]
            np.maximum(window, cover[..., None] * tone, out=window)


def add_glow(picture: FloatArray, radius: float, share: float, floor: float = 1.0) -> FloatArray:
    """Add glare around light above `floor`, `radius` (unit length) wide."""
    small_size = (max(picture.shape[1] // 4, 1), max(picture.shape[0] // 4, 1))
    small = cv2.resize(np.maximum(picture - np.float32(floor), 0), small_size, interpolation=cv2.INTER_AREA)
    veil = cv2.GaussianBlur(small, (0, 0), max(radius * small_size[1], 0.3))
    return picture + np.float32(share) * np.asarray(cv2.resize(veil, picture.shape[1::-1]), np.float32)
