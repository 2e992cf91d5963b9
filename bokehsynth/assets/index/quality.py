"""Filters of a source by quality: what is measured of a picture, and which thresholds of a recipe it misses."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.assets.decode.downscale import shrunk
from bokehsynth.assets.decode.matte import SOLID, VISIBLE
from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.assets.index.measure import grey_of
from bokehsynth.assets.spec import QualitySpec
from bokehsynth.color import FloatArray, brightest

JUDGED_AT = 512
"""Shorter side in pixels at which sharpness and exposure are measured; of a cut-out, of its subject's box."""
WHITE, BLACK = 254 / 255, 1 / 255
"""Encoded values from which, and up to which, all channels of a pixel are clipped."""
_INNER = np.ones((5, 5), np.uint8)
"""Pixels beside the edge of a cut-out say nothing about its sharpness."""


def picture_quality(color: FloatArray) -> dict[str, float]:
    """Measures of linear light [H, W, 3] of a photograph: `laplacian`, `white` and `black` (see `QualitySpec`)."""
    return _light_measures(color, None)


def cutout_quality(color: FloatArray, alpha: FloatArray, box: tuple[int, int, int, int]) -> dict[str, float]:
    """Measures of a cut-out in linear light [H, W, 3] with alpha [H, W], whose subject lies in `box`.

    Those of `picture_quality` where it is solid, and `soft`, `holes` and `area`.
    """
    top, left, height, width = box
    part = slice(top, top + height), slice(left, left + width)
    visible = alpha > VISIBLE
    soft = float((visible & (alpha < SOLID)).sum() / max(int(visible.sum()), 1))
    shares = {"soft": soft, "holes": _holes(alpha[part] < 0.5), "area": float((alpha >= 0.5).mean())}
    return _light_measures(color[part], alpha[part]) | {name: round(share, 5) for name, share in shares.items()}


def _light_measures(color: FloatArray, alpha: FloatArray | None) -> dict[str, float]:
    color = shrunk(color, JUDGED_AT)
    grey = grey_of(color)
    inside = np.ones(grey.shape, bool)
    if alpha is not None:
        solid = (shrunk(alpha, JUDGED_AT) >= SOLID).astype(np.uint8)
        inside = cv2.erode(solid, _INNER) > 0
        inside = inside if inside.any() else solid > 0
    if not inside.any():
        return {"laplacian": 0.0, "white": 0.0, "black": 0.0}
    fine = cv2.Laplacian(grey * np.float32(255), cv2.CV_32F)[inside]
    # Encoded 254/255 is 0.991 and 1/255 is 0.000304 of linear light: the curve is monotonous.
    white, black = np.float32(((WHITE + 0.055) / 1.055) ** 2.4), np.float32(BLACK / 12.92)
    return {
        "laplacian": round(float(fine.var(dtype=np.float64)), 3),
        "white": round(float((color.min(axis=2) >= white)[inside].mean()), 5),
        "black": round(float((brightest(color) <= black)[inside].mean()), 5),
    }


def _holes(transparent: npt.NDArray[np.bool_]) -> float:
    """Share of the subject, holes included, that is transparent and shut in by it."""
    outside = np.pad(transparent, 1, constant_values=True).astype(np.uint8)
    labels = cv2.connectedComponents(outside, connectivity=4)[1]
    holes = int(np.count_nonzero((labels > 0) & (labels != labels[0, 0])))
    return holes / max(int(np.count_nonzero(~transparent)) + holes, 1)


def quality_rejection(
    measured: Mapping[str, float], sides: tuple[int, int], wanted: QualitySpec, name: Path
) -> RejectedPicture | None:
    """The rejection of a picture that misses a threshold; None if it misses none.

    `sides` are height and width in pixels, of a cut-out those of its subject's box. What was not measured (sharpness
    and exposure of scene-referred pictures) is not judged.
    """
    if wanted.min_side is not None and min(sides) < wanted.min_side:
        words = f"{sides[1]} x {sides[0]} px; quality.min_side asks for {wanted.min_side}"
        return RejectedPicture(f"{name}: {words}", "too_small")
    for key, measure, at_least, reason, words in _thresholds(wanted):
        value = measured.get(measure)
        bound = getattr(wanted, key)
        if value is not None and (value < bound if at_least else value > bound):
            asked = "at least" if at_least else "at most"
            return RejectedPicture(f"{name}: {words} {value:g}; quality.{key} asks for {asked} {bound:g}", reason)
    return None


_THRESHOLDS = (
    ("min_laplacian", "laplacian", True, "blurred", "the variance of its Laplacian is"),
    ("max_white", "white", False, "clipped", "its share of pixels at white is"),
    ("max_black", "black", False, "clipped", "its share of pixels at black is"),
    ("min_soft", "soft", True, "poor_matte", "the soft share of its matte is"),
    ("max_soft", "soft", False, "poor_matte", "the soft share of its matte is"),
    ("max_holes", "holes", False, "poor_matte", "the share of holes in its subject is"),
    ("min_area", "area", True, "poor_matte", "the share of the picture that its subject covers is"),
)


def _thresholds(wanted: QualitySpec) -> Iterator[tuple[str, str, bool, str, str]]:
    """Those that the recipe gives: key, measure, whether it is a least value, reason, words."""
    return (each for each in _THRESHOLDS if getattr(wanted, each[0]) is not None)
