"""Axial and lateral colour: how red and blue spots differ from green ones in size, and in place towards the corners."""

import copy
import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.calibration.joint_fit import CLIPPED, FINE, Lamp, joint_fit
from bokehsynth.calibration.spot_model import Shape
from bokehsynth.color import FloatArray, linear_to_srgb

LEAST_LAMPS = 4
"""Lamps that must show green and another colour."""
LEAST_LIGHT = 0.15
"""Of the brightest channel's, from which a channel is measured."""
BLUR = 1.6
"""Standard deviation in pixels to which the picture is blurred: twice that of colours at half resolution."""
SURE = 4.0
"""Standard errors from which a difference of colours is taken for one."""
LEAST_AXIAL = 0.002
"""Of the radius; below it a difference is left out."""
LEAST_LATERAL = 0.1
"""Pixels in the corner of the fitted picture, likewise."""


@dataclass(frozen=True)
class Colors:
    """Radii for R, G, B, the largest 1, and the lateral colour of red and blue, with their errors (None: not seen)."""

    radii: tuple[float, float, float]
    radii_errors: tuple[float | None, float, float | None]
    lateral: tuple[float, float]
    lateral_errors: tuple[float | None, float | None]
    lamps: tuple[int, int]
    """How many were used for red and for blue."""


def fit_colors(lamps: list[Lamp], shape: Shape, light: FloatArray) -> Colors:
    """Fit each lamp's place and radius in every colour it has, the opening given; compare red and blue with green.

    `light` is the picture [H, W, 3] that the lamps were cut out of. JPEG blurs colours more than luma, after encoding:
    so the picture is compared encoded, and blurred until its channels are equally soft.
    """
    encoded = np.asarray(cv2.GaussianBlur(linear_to_srgb(np.clip(light, 0, 1)), (0, 0), BLUR), np.float32)
    alone = [[_in_channel(lamp, shape, encoded, channel) for channel in range(3)] for lamp in lamps]
    radii, axial_errors = [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]
    lateral: list[float] = []
    lateral_errors: list[float | None] = []
    counts: list[int] = []
    missing: list[int] = []
    for channel in (0, 2):
        pairs = [(own[channel], own[1]) for own in alone]
        both = [(a, b) for a, b in pairs if a is not None and b is not None]
        counts.append(len(both))
        if len(both) < LEAST_LAMPS:
            missing.append(channel)
            lateral.append(0.0)
            lateral_errors.append(None)
            continue
        ratio, error = _middle(np.array([a.radius / b.radius for a, b in both]))
        axial_errors[channel] = error
        if abs(ratio - 1) > max(SURE * error, LEAST_AXIAL):
            radii[channel] = ratio
        move, error = _lateral(both)
        lateral_errors.append(error)
        significant = abs(move) > max(SURE * error, LEAST_LATERAL / lamps[0].grid.half_diagonal)
        lateral.append(min(max(move, -0.05), 0.05) if significant else 0.0)
    largest = max(radii)
    red, green, blue = (max(0.5, radius / largest) for radius in radii)
    return Colors(
        (red, green, blue),
        (None if 0 in missing else axial_errors[0], 0.0, None if 2 in missing else axial_errors[2]),
        (lateral[0], lateral[1]),
        (lateral_errors[0], lateral_errors[1]),
        (counts[0], counts[1]),
    )


def _in_channel(lamp: Lamp, shape: Shape, encoded: FloatArray, channel: int) -> Lamp | None:
    """The lamp fitted in one channel of a blurred picture; None where that is clipped or too dark."""
    within = np.hypot(lamp.grid.x - lamp.state[0], lamp.grid.y - lamp.state[1]) < 0.7 * lamp.radius
    light = [float(np.median(lamp.colors[within, c])) - float(np.quantile(lamp.colors[:, c], 0.1)) for c in range(3)]
    if (lamp.colors[within, channel] > CLIPPED).mean() > 0.02 or light[channel] < LEAST_LIGHT * max(light):
        return None
    own = copy.copy(lamp)
    rows, columns = lamp.grid.y.astype(np.int64), lamp.grid.x.astype(np.int64)
    own.values, own.state = encoded[rows, columns, channel].astype(np.float64), lamp.state.copy()
    background = float(np.quantile(own.values, 0.1))
    own.state[3] = math.log(1.2 * BLUR)
    own.state[4:] = [float(np.median(own.values[within])) - background, background, 0.0, 0.0, 0.0, 0.0]
    own.scale = 0.02 * own.light
    joint_fit([own], shape, [], 12, FINE)
    return own


def _middle(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The median, and its standard error from the spread."""
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    return middle, max(1e-5, 1.25 * spread / len(values) ** 0.5)


def _lateral(both: list[tuple[Lamp, Lamp]]) -> tuple[float, float]:
    """The slope of the difference in place over the place, and its standard error."""
    away = np.array([b.state[:2] - b.grid.centre for _, b in both]).ravel()
    moved = np.array([a.state[:2] - b.state[:2] for a, b in both]).ravel()
    slope = float(away @ moved / (away @ away))
    for _ in range(5):  # robustly: lamps whose colours are disturbed count less
        left = moved - slope * away
        scale = max(1e-4, 1.4826 * float(np.median(np.abs(left))))
        weight = 1 / (1 + (left / (2.5 * scale)) ** 2)
        slope = float((weight * away) @ moved / ((weight * away) @ away))
    return slope, scale / float(np.sqrt((weight * away) @ away))
