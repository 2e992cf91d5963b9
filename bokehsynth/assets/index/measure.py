"""Measures of a picture, taken once when it is indexed: sharpness, perceptual hash, kind of matte."""

import base64
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.assets.decode.downscale import shrunk
from bokehsynth.assets.decode.matte import SOLID, VISIBLE, visible_bounds
from bokehsynth.color import LUMINANCE, FloatArray, brightest, linear_to_srgb

SHARPNESS_SIDE = 512
"""Shorter side in pixels at which sharpness is measured: about the size of a landscape in a scene."""
THUMB = 24
"""Side of the thumbnail that two pictures are compared by."""


def grey_of(color: FloatArray) -> FloatArray:
    """sRGB-encoded luminance [H, W], clipped at white, of linear light [H, W, 3]."""
    return linear_to_srgb(np.minimum(color @ LUMINANCE, np.float32(1)))


def sharpness(color: FloatArray) -> float:
    """How much of a landscape's contrast is finer than a pixel or two, 0..1, at a shorter side of 512 px.

    In the quarter of its tiles that have most contrast: what a blur of 1 px takes away, over what one of 4 px does.
    The quietest tiles stand for noise and are subtracted. Photographs that are sharp all over have 0.34 and more, a
    sharp edge drawn by hand 0.25, the same photographs behind a blur of 1.5 px (sigma) 0.20 at most.
    """
    grey = grey_of(shrunk(color, SHARPNESS_SIDE))
    tile = int(np.clip(min(grey.shape) // 8, 4, 32))
    fine = _tile_means(np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1.0)), tile)
    broad = _tile_means(np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 4.0)), tile)
    fine, broad = fine - np.percentile(fine, 5), broad - np.percentile(broad, 5)
    chosen = broad >= np.percentile(broad, 75)
    return float(np.clip(np.median(fine[chosen] / np.maximum(broad[chosen], 1e-4)), 0, 1))


def _tile_means(values: npt.NDArray[Any], tile: int) -> npt.NDArray[Any]:
    h, w = (side // tile * tile for side in values.shape)
    return values[:h, :w].reshape(h // tile, tile, w // tile, tile).mean(axis=(1, 3)).ravel()


@dataclass(frozen=True)
class PerceptualHash:
    """Features by which near duplicates are found, robust to mirroring, scaling and compression."""

    dhash: str
    """128 bits in hex: whether each of 8 x 8 cells is brighter than its right, and than its lower neighbour."""
    thumb: str
    """24 x 24 levels of grey, base64."""
    aspect: float
    """Width over height."""


def perceptual_hash(grey: FloatArray) -> PerceptualHash:
    """The perceptual hash of sRGB-encoded grey [H, W] in 0..1."""
    height, width = grey.shape
    across = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    down = cv2.resize(grey, (8, 9), interpolation=cv2.INTER_AREA)
    bits = np.concatenate([(across[:, :-1] > across[:, 1:]).ravel(), (down[:-1] > down[1:]).ravel()])
    small = cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    levels = np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8)
    return PerceptualHash(
        np.packbits(bits).tobytes().hex(), base64.b64encode(levels.tobytes()).decode(), width / height
    )


@dataclass(frozen=True)
class MatteFacts:
    """Measures of a matte; the fields are those of `Probe`."""

    coverage: float
    """Mean alpha."""
    soft: float
    """Share of pixels between 0.02 and 0.98: 0 is a hard matte, as cut with scissors."""
    box: tuple[int, int, int, int]
    """Bounding box of visible pixels: top, left, height, width."""
    colors: str
    """What the file holds under soft alpha: photographed, straight or premultiplied colour."""


def matte_facts(encoded: FloatArray, alpha: FloatArray) -> MatteFacts | None:
    """Measure a matte from sRGB-encoded colour and alpha as stored; None for one that shows nothing."""
    bounds = visible_bounds(alpha)
    if bounds is None or float(alpha.max()) < 0.1:
        return None
    top, bottom, left, right = bounds
    box = (top, left, bottom - top + 1, right - left + 1)
    soft = (alpha > VISIBLE) & (alpha < SOLID)
    coverage, share = round(float(alpha.mean(dtype=np.float64)), 5), round(float(soft.mean()), 5)
    return MatteFacts(coverage, share, box, colors_under_alpha(encoded, alpha, soft))


def colors_under_alpha(encoded: FloatArray, alpha: FloatArray, soft: npt.NDArray[np.bool_]) -> str:
    """Classify colour under soft alpha by comparing it with the solid colours and the surroundings nearby.

    Premultiplied colour never exceeds alpha, and fades with it. Photographed colour runs from the solid colour to
    that of the old background in proportion to 1 - alpha. All else is straight.
    """
    if np.count_nonzero(soft) < 50:
        return "straight"  # a hard matte: the three do not differ
    solid, near = _nearby(encoded, alpha >= 0.95)
    low = soft & (alpha < 0.5) & near
    if np.count_nonzero(low) < 20:
        return "straight"
    most = brightest(encoded)
    fades = float((encoded[low] * solid[low]).sum() / max(float((solid[low] ** 2).sum()), 1e-6))
    within = float((most[soft] <= alpha[soft] + 2 / 255).mean())
    if within > 0.995 and fades < 0.5 + 0.5 * float(alpha[low].mean()):
        return "premultiplied"
    outside, known = _nearby(encoded, (alpha <= VISIBLE) & (most > 0))
    both = low & known
    if np.count_nonzero(both) < 20:
        return "straight"
    way = outside[both] - solid[both]
    distance = float(np.sqrt((way**2).sum(axis=1).mean()))
    moved = float(((encoded[both] - solid[both]) * way).sum() / max(float((way**2).sum()), 1e-6))
    # Seen on cut-outs with old backgrounds: distance 0.55 to 0.87, moved within 0.05 of 1 - alpha; on estimated and
    # generated ones: distance up to 0.36 (their colour ends with alpha, and what lies outside it is an echo).
    expected = float((1 - alpha[both]).mean())
    return "photographed" if distance > 0.4 and abs(moved - expected) < 0.25 else "straight"


def _nearby(color: FloatArray, where: npt.NDArray[np.bool_]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Mean colour of the chosen pixels within 20 px, and whether there are enough of them."""
    weight = where.astype(np.float32)  # three equal channels: NumPy takes four times as long to spread one over three
    total = cv2.boxFilter(color * cv2.merge([weight] * 3), -1, (41, 41), normalize=False)
    count = cv2.boxFilter(weight, -1, (41, 41), normalize=False)
    mean = total / cv2.merge([np.maximum(count, np.float32(1))] * 3)
    return np.asarray(mean, np.float32), np.asarray(count > 3)
