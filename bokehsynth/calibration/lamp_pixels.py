"""Cuts the pixels of each lamp out of a photograph, in the channel that tells most, without what other lights cover."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.calibration.detection import Found, Region
from bokehsynth.calibration.joint_fit import CLIPPED, Lamp
from bokehsynth.calibration.spot_model import Grid
from bokehsynth.color import FloatArray

FIT_RADIUS = 16.0
"""Median radius in pixels to which larger spots are reduced: it costs no accuracy, and noise and JPEG are averaged."""
REACH = 1.35
"""Half a side of the square that is cut out, over the radius, and 3 pixels more."""
MOST_COVERED = 0.3
"""Share of the ring around a lamp that other lights may cover."""
CLIPPED_SHARE = 0.25
"""Share of a spot's pixels from which it counts as clipped in a channel."""
ENOUGH_UNCLIPPED = 8
"""Lamps with a channel that is not clipped from which the clipped ones are left out."""


@dataclass(frozen=True, eq=False)
class FitPicture:
    """The photograph at the size at which it is fitted."""

    light: FloatArray
    factor: tuple[float, float]
    """Its width and its height over the photograph's."""
    centre: tuple[float, float]
    half_diagonal: float
    side: float
    """+1 where the lamps are behind the focus, -1 before it."""

    def grid(self, y: npt.NDArray[np.int64], x: npt.NDArray[np.int64]) -> Grid:
        """Some of its pixels."""
        return Grid(x.astype(np.float64), y.astype(np.float64), self.centre, self.half_diagonal, self.side)

    def place(self, at: tuple[float, float]) -> tuple[float, float]:
        """Where a place (x, y) of the photograph lies in it."""
        return (at[0] + 0.5) * self.factor[0] - 0.5, (at[1] + 0.5) * self.factor[1] - 0.5

    def in_photo(self, at: Any) -> tuple[float, float]:
        """Where its place (x, y) lies in the photograph."""
        return (float(at[0]) + 0.5) / self.factor[0] - 0.5, (float(at[1]) + 0.5) / self.factor[1] - 0.5


def fit_picture(photo: FloatArray, regions: list[Region], side: float) -> FitPicture:
    """Reduce a photograph until its spots have FIT_RADIUS in the median."""
    wanted = FIT_RADIUS / float(np.median([region.radius for region in regions]))
    light = photo
    if wanted < 0.95:
        size = (max(8, round(photo.shape[1] * wanted)), max(8, round(photo.shape[0] * wanted)))
        light = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.float32)
    height, width = light.shape[:2]
    factor = (width / photo.shape[1], height / photo.shape[0])
    return FitPicture(light, factor, ((width - 1) / 2, (height - 1) / 2), math.hypot(width, height) / 2, side)


def cut_lamps(picture: FitPicture, found: Found) -> tuple[list[Lamp], Counter[str]]:
    """The lamps to fit, with first guesses of their state, and how many were dropped for which reason."""
    dropped: Counter[str] = Counter()
    lamps = []
    for region in found.lamps:
        lamp = cut_lamp(picture, found, region)
        if isinstance(lamp, str):
            dropped[lamp] += 1
        else:
            lamps.append(lamp)
    open_lamps = [lamp for lamp in lamps if not lamp.clipped]
    if len(open_lamps) >= ENOUGH_UNCLIPPED:
        dropped["clipped in all channels"] += len(lamps) - len(open_lamps)
        lamps = open_lamps
    return lamps, +dropped


def cut_lamp(picture: FitPicture, found: Found, region: Region) -> Lamp | str:
    """One lamp, or why it cannot be used."""
    x, y = picture.place((region.x, region.y))
    radius = region.radius * picture.factor[0]
    reach = math.ceil(REACH * radius + 3)
    height, width = picture.light.shape[:2]
    left, top = round(x) - reach, round(y) - reach
    if left < 0 or top < 0 or left + 2 * reach >= width or top + 2 * reach >= height:
        return "cut by the picture's border"
    rows, columns = np.mgrid[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
    colors = picture.light[rows, columns]
    far = np.hypot(columns - x, rows - y) / radius
    others = _others(found, region, picture.factor[0], rows, columns)
    ring = (far > 1.1) & (far < REACH)
    if others[ring].mean() > MOST_COVERED:
        return "other lights too near"
    within, around = far < 0.75, ring & ~others
    clipped = [(colors[within][:, c] > CLIPPED).mean() for c in range(3)]
    light = [float(np.median(colors[within][:, c]) - np.median(colors[around][:, c])) for c in range(3)]
    usable = [c for c in range(3) if clipped[c] < CLIPPED_SHARE and light[c] > 0.25 * max(light)]
    # JPEG keeps luma, which is mostly green, at full resolution, and blurs the other colours
    channel = min(range(3), key=lambda c: (clipped[c], -light[c]))
    if usable:
        channel = max(usable, key=lambda c: light[c] * (2.5 if c == 1 else 1))
    background = float(np.median(colors[around][:, channel]))
    keep = ~others & (far < REACH + 3 / radius)
    place = [x, y, math.log(radius * 1.04), math.log(0.7)]
    state = np.array([*place, max(light[channel], 0.02), background, 0.0, 0.0, 0.0, 0.0])
    kept = colors[keep].astype(np.float64)
    return Lamp(
        picture.grid(rows[keep], columns[keep]), kept[:, channel], state, max(0.02 * light[channel], 2e-3),
        clipped=not usable, colors=kept, channel=channel,
    )  # fmt: skip


def _others(
    found: Found, region: Region, factor: float, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which pixels other bright regions cover, a little widened."""
    scale = found.factor / factor
    height, width = found.bright.shape
    at_y = np.clip(np.rint((rows + 0.5) * scale - 0.5), 0, height - 1).astype(np.int64)
    at_x = np.clip(np.rint((columns + 0.5) * scale - 0.5), 0, width - 1).astype(np.int64)
    top, left = int(at_y.min()), int(at_x.min())
    part = found.bright[top : at_y.max() + 1, left : at_x.max() + 1].astype(np.uint8)
    own = np.zeros_like(part)
    cv2.drawContours(own, [region.outline - np.array([left, top])], -1, 1, cv2.FILLED)
    rest = np.maximum(part.astype(np.int16) - own, 0).astype(np.uint8)
    wide = cv2.dilate((rest > 0).astype(np.uint8), np.ones((5, 5), np.uint8))
    return np.asarray(wide[at_y - top, at_x - left] > 0)
