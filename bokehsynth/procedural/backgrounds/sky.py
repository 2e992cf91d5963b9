"""Skies: by day a gradient, the glow round the sun and a deck of clouds in perspective; dusk and night over a city."""

from dataclasses import dataclass

import numpy as np

from bokehsynth.procedural.backgrounds.lights import lay_lamps
from bokehsynth.procedural.backgrounds.noise import Tile, soft_tile
from bokehsynth.procedural.backgrounds.painting import ASPECT, Frame, distance_to, mix, paint_over, palette, tint
from bokehsynth.procedural.toolkit import FloatArray, smoothstep
from bokehsynth.rng import pick, uniform

DUSKS = (
    palette("0a1028 283468 b06450"),
    palette("060a18 182444 805440"),
    palette("10204c 3c5490 e09468"),
    palette("0a0c12 20222e 5c4834"),
    palette("0e1430 30345c b06a5c"),
)
"""Zenith, middle and horizon of skies after sunset."""


@dataclass(frozen=True, kw_only=True)
class Sky:
    """What a sky looks like by day; colors are linear [3], lengths in unit coordinates."""

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
    picture = mix(sky.zenith, sky.horizon, frame.wide(t))
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
    paint_over(picture, color, alpha * smoothstep(0.02, 0.16, above) * np.float32(0.92))


def _cloud_density(tile: Tile, u: FloatArray, v: FloatArray) -> FloatArray:
    fine = tile.sample(u * np.float32(3.7), v * np.float32(3.7))
    return tile.sample(u, v) + np.float32(0.33) * fine


def paint_night_sky(rng: np.random.Generator, frame: Frame, horizon: float) -> FloatArray:
    """Dusk to deep night over the glow of a city, [H, W, 3], with clouds lit from below and a few stars."""
    zenith, middle, glow = pick(rng, DUSKS)
    cover, place = uniform(rng, -0.4, 0.9), uniform(rng, 0, 1)
    stars = rng.uniform((0, 0), (ASPECT, horizon * 0.75), (110, 2))
    magnitude = rng.uniform(0.1, 0.9, 110).astype(np.float32) ** 2
    share = np.clip(frame.y / np.float32(horizon), 0, 1)
    gradient = mix(mix(zenith, middle, share[:, 0]), glow, share[:, 0] ** 4)
    light = np.repeat(gradient[:, None], frame.width, axis=1)
    field = soft_tile().sample(frame.x * np.float32(0.56) + np.float32(place), frame.y * np.float32(1.25), frame.size)
    clouds = smoothstep(cover, cover + 1.6, field) * np.float32(0.8)
    paint_over(light, light * np.float32(1.5) + glow * np.float32(0.10), clouds)
    lay_lamps(light, stars, 0.0004, magnitude[:, None] * np.array([0.8, 0.9, 1.0], np.float32))
    return light
