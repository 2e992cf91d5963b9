"""Highlight recovery: find the lamps of a night landscape that its file has clipped at white.

A display-referred picture stops at 1.0 while a lamp is tens to hundreds of times as bright, and bokeh discs come from
lamps. Large clipped areas are sky, wall or paper, and about as bright as they look; small ones in the dark are lamps.
By day small clipped spots are glints and gaps between leaves, and are left unchanged.
"""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.assets.decode.downscale import in_strips, reduced_rows, shrunk
from bokehsynth.assets.decode.raster import ALL_BYTES, Raster, looked_up
from bokehsynth.color import LUMINANCE, FloatArray, brightest, srgb_to_linear

CLIPPED = 0.8
"""Linear value of the largest channel from which a pixel may be clipped."""
NEAR, FAR = 0.025, 0.1
"""Radii of neighbourhoods over the shorter side: lamps are small within NEAR and isolated within FAR."""
DAY, NIGHT = 0.10, 0.04
"""Geometric mean of luminance above which it is day, and below which it is night."""
ANALYSIS_SIDE = 256
"""Shorter side in pixels at which neighbourhoods are analysed."""


class _Limits(NamedTuple):
    """Values at which lamps begin to be doubted, and from which nothing is one."""

    near: tuple[float, float]
    """Share of clipped pixels within NEAR."""
    far: tuple[float, float]
    """Within FAR."""
    luminance: tuple[float, float]
    """Mean within NEAR."""


HIGHLIGHTS = _Limits((0.08, 0.25), (0.03, 0.08), (0.15, 0.4))
WHITE_LAMPS = _Limits((0.25, 0.6), (0.06, 0.15), (0.4, 0.8))
"""For what all channels clip, which is hardly anything else: a lamp may fill a fortieth of the shorter side."""


def recover_highlights(raster: Raster, color: FloatArray, factor: int) -> FloatArray | None:
    """Light [H, W, 3] of the lamps, already part of `color`, for a boost to multiply; None if there are none.

    `color` is the picture reduced by `factor`. Clipping is detected in the file's own pixels, since reduction dims a
    lamp of two pixels below white; size and surroundings are analysed at a small scale.
    """
    night = night_weight(color)
    if night == 0:
        return None
    light = _clipped(color) if factor == 1 else _clipped_in_file(raster, factor)
    return _of_lamps(light, color, night, HIGHLIGHTS)


def recover_lamps(photo: FloatArray) -> FloatArray | None:
    """Light [H, W, 3] of lamps that a photograph clips in all channels, for a boost to multiply; None without any.

    Stricter than `recover_highlights`: a blue lake or a red sign that one channel clips is about as bright as it looks.
    """
    night = night_weight(photo)
    least = np.minimum(np.minimum(photo[..., 0], photo[..., 1]), photo[..., 2])
    rise = _fall(least, 1, CLIPPED)
    return _of_lamps(photo * (rise * rise)[..., None], photo, night, WHITE_LAMPS) if night > 0 and rise.any() else None


def _of_lamps(light: FloatArray, color: FloatArray, night: float, limits: "_Limits") -> FloatArray | None:
    """The part of clipped light [H, W, 3] that is small, isolated and in the dark, in the hue of its glow, or None."""
    share = brightest(light)
    found = share > 0
    if not found.any():
        return None
    small_share = shrunk(share, ANALYSIS_SIDE)
    luminance = np.minimum(shrunk(color, ANALYSIS_SIDE) @ LUMINANCE, 1)
    near_share, far_share = _local_mean(small_share, NEAR), _local_mean(small_share, FAR)
    # On a photographed city by night the clipped share near a lamp is 0.03 and 0.01 (medians at the two distances); on
    # a forest with gaps of sky 0.12 and 0.05, along the edge of a sky 0.5.
    bright = small_share > 0.1
    isolated = _fall(np.array([np.median(far_share[bright])]), 0.018, 0.035)[0] if bright.any() else 1.0
    weight = (
        _fall(near_share, *limits.near)
        * _fall(far_share, *limits.far)
        * _fall(_local_mean(luminance, NEAR), *limits.luminance)
    )
    weight = cv2.resize(weight, share.shape[::-1], interpolation=cv2.INTER_LINEAR) * np.float32(night * isolated)
    found &= weight > 0
    if not found.any():
        return None
    highlights = np.zeros_like(light)
    highlights[found] = light[found] * _hue(light, color, found) * weight[found][:, None]
    return highlights if float(highlights.max()) > 1e-3 else None


def night_weight(color: FloatArray) -> float:
    """1 for a picture taken at night, 0 by day, between them in the dusk."""
    small = np.maximum(np.minimum(shrunk(color, 128) @ LUMINANCE, 1), np.float32(1e-4))
    stops = float(np.log2(small).mean(dtype=np.float64))
    day, night = float(np.log2(DAY)), float(np.log2(NIGHT))
    return float(np.clip((day - stops) / (day - night), 0, 1))


def _hue(light: FloatArray, color: FloatArray, where: npt.NDArray[np.bool_]) -> FloatArray:
    """Hue [n, 3] of the glow round each lamp, since the clipped lamp itself is white in the file."""
    glow = cv2.blur(np.maximum(color - light, 0), (9, 9), borderType=cv2.BORDER_REFLECT_101)[where]
    hue = glow / np.maximum(glow.max(axis=1, keepdims=True), np.float32(1e-4))
    return np.asarray(np.float32(0.3) + np.float32(0.7) * hue, np.float32)


def _clipped_in_file(raster: Raster, factor: int) -> FloatArray:
    """`_clipped` of all light of a file, reduced by a factor."""
    if raster.values.ndim == 2 or not raster.is_srgb_of_8_bits:
        return in_strips(raster, factor, _clipped)
    light = srgb_to_linear(ALL_BYTES)
    rise = np.where(light > CLIPPED, _fall(light, 1, CLIPPED), np.float32(0))

    def clipped(rows: slice) -> FloatArray:
        part = raster.values[rows]
        red, green, blue = cv2.split(part)
        most = cv2.max(cv2.max(red, green), blue)
        if light[most.max()] <= CLIPPED:
            return np.zeros(part.shape, np.float32)
        return looked_up(part, light) * cv2.merge([looked_up(most, rise * rise)] * 3)

    return reduced_rows(raster, factor, clipped)


def _clipped(light: FloatArray) -> FloatArray:
    """The light of values near white, rising smoothly from none at CLIPPED."""
    most = brightest(light)
    near = most > CLIPPED
    result = np.zeros_like(light)
    rise = _fall(most[near], 1, CLIPPED)
    result[near] = light[near] * (rise * rise)[:, None]
    return result


def _local_mean(values: FloatArray, reach: float) -> FloatArray:
    """Box mean of radius `reach` times the shorter side."""
    side = 2 * max(1, round(reach * min(values.shape))) + 1
    return np.asarray(cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT_101), np.float32)


def _fall(values: FloatArray, start: float, end: float) -> FloatArray:
    """Smoothstep from 1 at `start` to 0 at `end`; the other way round if `start` > `end`."""
    t = np.clip((np.float32(end) - values) / np.float32(end - start), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
