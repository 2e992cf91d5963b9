"""A lens from one photograph: lamps found, the opening fitted, colours compared, everything with error bars."""

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bokehsynth.calibration.color_fit import Colors, fit_colors
from bokehsynth.calibration.detection import LEAST_RADIUS, Progress, find_lamps
from bokehsynth.calibration.joint_fit import Lamp, radius_error
from bokehsynth.calibration.lamp_pixels import FitPicture, cut_lamps, fit_picture
from bokehsynth.calibration.shape_fit import ShapeFit, fit_shape, misfit
from bokehsynth.color import FloatArray
from bokehsynth.errors import UsageError
from bokehsynth.optics.calibrated import CalibratedAperture

LEAST_LAMPS = 3
"""Lamps from which an opening is fitted."""
LARGE_MISFIT = 0.05
"""Median misfit from which a fit is no fit: 0.01 to 0.04 where benchmarks/calibrate.py finds the lens."""
FEW = 6
"""Lamps below which the blades are a guess."""


@dataclass(frozen=True)
class FittedLamp:
    """One lamp that was used, in pixels of the photograph."""

    x: float
    y: float
    radius: float
    """Blur radius."""
    radius_error: float
    """Its standard error, in pixels."""
    misfit: float
    """Root mean square of what the fitted spot leaves, over the lamp's light."""
    clipped: bool
    """Whether all its channels are."""

    @property
    def record(self) -> dict[str, Any]:
        """It as plain data."""
        numbers = {"x": self.x, "y": self.y, "radius_px": self.radius, "radius_error_px": self.radius_error}
        return {name: round(value, 3) for name, value in numbers.items()} | {
            "misfit": round(self.misfit, 4), "clipped": self.clipped
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Calibration:
    """A fitted lens with what it was fitted to."""

    aperture: CalibratedAperture
    errors: dict[str, float]
    """Standard errors of rotation, curvature, strength and radius of the rim, and edge; the glow's is not known."""
    colors: Colors
    size: tuple[int, int]
    """Of the photograph, (height, width)."""
    sigma: float
    """Blur of the spots' edges besides defocus, in pixels of the photograph: the median."""
    lamps: list[FittedLamp]
    found: int
    """Bright regions that were looked at."""
    dropped: Counter[str]
    """Why others were not used."""
    fitted: list[Lamp] = field(repr=False)
    picture: FitPicture = field(repr=False)
    fit: ShapeFit = field(repr=False)

    @property
    def radii(self) -> tuple[float, float, float]:
        """Smallest, median and largest blur radius of the lamps."""
        radii = [lamp.radius for lamp in self.lamps]
        return min(radii), float(np.median(radii)), max(radii)

    @property
    def warnings(self) -> list[str]:
        """What makes it less sure than its error bars say."""
        found = []
        if len(self.lamps) < FEW:
            found.append(f"{len(self.lamps)} lamps only: blades and error bars are a guess below {FEW}")
        if all(lamp.clipped for lamp in self.lamps):
            found.append(
                "all lamps are clipped: radii may be 5 % too large, the curvature is less sure than its error bar, and "
                "uneven light is not seen"
            )
        left = float(np.median([lamp.misfit for lamp in self.lamps]))
        if left > LARGE_MISFIT:
            found.append(f"the fit leaves {left:.0%} of the lamps' light: the lens is not one of those that are fitted")
        reach = max(lamp.distance for lamp in self.fitted)
        if reach < 0.6:
            found.append(f"no lamp lies farther out than {reach:.0%} of the half-diagonal: rims are not seen there")
        return found


def calibrate(
    photo: FloatArray, far_focus: bool = False, show: Progress = lambda items, _name, _count: items
) -> Calibration:
    """Fit the lens to the lamps in a photograph [H, W, 3] of linear light.

    With `far_focus` the lamps lie before the focus, where they show the opening turned by 180 degrees; else behind it.
    `show(items, name, count)` may show progress. Deterministic. Raises UsageError for too few lamps.
    """
    found = find_lamps(photo, show)
    dropped = Counter(found.dropped)
    if not found.lamps:
        raise UsageError(_too_few(0, dropped))
    picture = fit_picture(photo, found.lamps, -1.0 if far_focus else 1.0)
    lamps, more = cut_lamps(picture, found)
    dropped += more
    if len(lamps) < LEAST_LAMPS:
        raise UsageError(_too_few(len(lamps), dropped))
    fit, spare = fit_shape(lamps, show)
    dropped["does not follow the fitted lens"] += len(lamps) - spare - len(fit.lamps)
    dropped["enough others"] += spare
    if len(fit.lamps) < LEAST_LAMPS:
        raise UsageError(_too_few(len(fit.lamps), +dropped))
    colors = fit_colors(fit.lamps, fit.shape, picture.light)
    aperture = replace(
        fit.shape.aperture(),
        colors=colors.radii,
        lateral=colors.lateral,
        half_diagonal=math.hypot(*photo.shape[:2]) / 2,
    )
    scale = picture.factor[0]
    errors = fit.errors()
    sigma = float(np.median([math.exp(lamp.state[3]) for lamp in fit.lamps])) / scale
    return Calibration(
        aperture, errors, colors, (photo.shape[0], photo.shape[1]), sigma,
        [_fitted(lamp, fit, picture, colors) for lamp in fit.lamps],
        found=len(found.lamps) + sum(found.dropped.values()), dropped=+dropped, fitted=fit.lamps, picture=picture,
        fit=fit,
    )  # fmt: skip


def _fitted(lamp: Lamp, fit: ShapeFit, picture: FitPicture, colors: Colors) -> FittedLamp:
    x, y = picture.in_photo(lamp.state)
    radius = lamp.radius / picture.factor[0] / colors.radii[lamp.channel]
    return FittedLamp(x, y, radius, radius * radius_error(lamp, fit.shape), misfit(lamp, fit.shape), lamp.clipped)


def reasons(dropped: Counter[str]) -> str:
    """Why regions were not used, the most frequent reason first."""
    return ", ".join(
        f"{count} {reason}" for reason, count in sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    )


def _too_few(count: int, dropped: Counter[str]) -> str:
    """What was found instead of lamps, and the way out."""
    others = f" (not used: {reasons(dropped)})" if dropped else ""
    return (
        f"the photograph shows {count} usable lamps out of focus{others}; {LEAST_LAMPS} are needed and 15 are good. "
        f"Photograph distant street lights at night, focused as near as the lens goes, so that each is a separate disc "
        f"of {LEAST_RADIUS:g} px radius or more, short enough exposed that not all of them are white"
    )
