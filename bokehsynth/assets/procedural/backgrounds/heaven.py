"""Skies by day: a gradient, the glow round the sun, and a deck of clouds in perspective."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bokehsynth.assets.procedural.backgrounds.painting import Frame, blend, distance_to, mix, smoothstep, tint
from bokehsynth.assets.procedural.backgrounds.texture import Tile

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Sky:
    """What a sky looks like; colors are linear [3], lengths in unit coordinates."""

    zenith: FloatArray
    horizon: FloatArray
    glow: FloatArray
    """Light scattered round the sun, added."""
    cloud_lit: FloatArray
    cloud_shade: FloatArray
    cover: float
    """Share of the sky under clouds, about 0..1."""
    sun: tuple[float, float]
    """Position (x, y); may lie outside the picture."""
    sun_peak: float
    """Brightness of the sun's disc, times white; 0 hides it."""
    horizon_y: float
    drift: tuple[float, float]
    """Offset of the cloud pattern in periods: another day."""


def paint_sky(frame: Frame, sky: Sky, tile: Tile) -> FloatArray:
    """The whole frame filled with sky, linear float32 [H, W, 3]; below the horizon the horizon's color goes on."""
    x, y = frame.x, frame.y
    rows = min(frame.height, int(sky.horizon_y * frame.size) + 2)
    t = np.clip(y / np.float32(sky.horizon_y), 0, 1) ** np.float32(1.5)
    picture = mix(sky.zenith, sky.horizon, np.repeat(t, frame.width, axis=1))
    above = picture[:rows]
    distance = distance_to(frame, sky.sun)[:rows]
    above += tint(np.float32(0.55) * np.exp(-distance / np.float32(0.38)), sky.glow)
    _paint_clouds(sky, tile, above, (x, y[:rows]), distance)
    near = np.float32(0.9) * np.exp(-distance / np.float32(0.07))
    disc = np.float32(sky.sun_peak) * smoothstep(0.030, 0.022, distance)
    above += tint(near + disc, sky.glow)
    return picture


def _paint_clouds(
    sky: Sky, tile: Tile, picture: FloatArray, grid: tuple[FloatArray, FloatArray], distance: FloatArray
) -> None:
    x, y = grid
    above = np.maximum(np.float32(sky.horizon_y) - y, np.float32(0))
    lift = above + np.float32(0.07)
    u = (x - np.float32(0.66)) / lift * np.float32(0.13) + np.float32(sky.drift[0])
    v = np.float32(0.16) / lift + np.float32(sky.drift[1])
    density = _cloud_density(tile, u, v)
    # Light reaches a cloud from the sun's side: compare with the density a step towards it.
    side = np.float32(0.018) * np.sign(np.float32(sky.sun[0] - 0.66))
    lit = np.clip(0.55 + 0.8 * (density - _cloud_density(tile, u + side, v + np.float32(0.012))), 0, 1)
    low = 0.9 - 1.9 * sky.cover
    alpha = smoothstep(low, low + 1.1, density)
    thick = smoothstep(low + 0.5, low + 2.2, density)
    color = mix(sky.cloud_lit, sky.cloud_shade, np.clip(thick * 0.9 + 0.45 - 0.8 * lit, 0, 1))
    color += tint(np.float32(0.5) * np.exp(-distance / np.float32(0.25)), sky.glow)
    blend(picture, color, alpha * smoothstep(0.02, 0.16, above) * np.float32(0.92))


def _cloud_density(tile: Tile, u: FloatArray, v: FloatArray) -> FloatArray:
    fine = tile.sample(u * np.float32(3.7), v * np.float32(3.7))
    return tile.sample(u, v) + np.float32(0.33) * fine
