"""Ridges of mountains and hills from far to near: relief, snow, woods, and the veil of air in front of them."""

from dataclasses import dataclass

import numpy as np

from bokehsynth.procedural.backgrounds.noise import Tile, fractal_curve
from bokehsynth.procedural.backgrounds.painting import ASPECT, Frame, mix, paint_over, tint
from bokehsynth.procedural.backgrounds.palettes import Season
from bokehsynth.procedural.backgrounds.plants import Foliage, paint_conifers, paint_crown
from bokehsynth.procedural.backgrounds.strokes import Strokes
from bokehsynth.procedural.toolkit import FloatArray, rgb, smoothstep
from bokehsynth.rng import uniform


@dataclass(frozen=True)
class View:
    """What all parts of a view of hills share; lengths in unit coordinates."""

    frame: Frame
    season: Season
    tile: Tile
    sun: tuple[float, float]
    horizon: float
    """y of the true horizon."""
    air: FloatArray
    """Light of the haze, brighter below the sun, [H, W, 3]."""

    @property
    def side(self) -> float:
        """-1 with the sun on the left, +1 on the right."""
        return -1.0 if self.sun[0] < ASPECT / 2 else 1.0


@dataclass(frozen=True)
class _Ridge:
    line: FloatArray
    """y of the crest for each column, [W]."""
    near: float
    """0 the farthest ridge, 1 the nearest."""
    veil: float
    """Share of air light in front of it."""


def paint_ridges(picture: FloatArray, rng: np.random.Generator, scene: View, foot: float) -> None:
    """Far mountains first; each nearer ridge lower, darker, greener, less veiled."""
    count = 5
    rugged = uniform(rng, 0.10, 0.27)
    for k in range(count):
        near = k / (count - 1)
        crest = scene.horizon - 0.015 + (foot - scene.horizon - 0.035) * near
        height = rugged * (1 - near) ** 1.2 + uniform(rng, 0.018, 0.045)
        outline = fractal_curve(rng, cells=4 + k, octaves=7, gain=0.48 if near < 0.5 else 0.36)
        line = np.float32(crest) - np.float32(height) * (np.float32(0.35) + outline(scene.frame.x[0]))
        ridge = _Ridge(line, near, veil=0.72 * (1 - near) ** 1.2 + 0.03)
        _paint_slope(picture, scene, ridge)
        if near >= 0.5:
            _paint_woods(picture, rng, scene, ridge)


def _paint_slope(picture: FloatArray, scene: View, ridge: _Ridge) -> None:
    near, line = ridge.near, ridge.line
    frame, season, tile = scene.frame, scene.season, scene.tile
    top = max(int(line.min() * frame.size) - 2, 0)
    x, y = frame.x, frame.y[top:]
    below = y - line[None, :]
    u = x * np.float32(1.1 + near) + np.float32(0.37 * near) + below * np.float32(0.5)
    v = below * np.float32(1.7) + np.float32(0.61 * near)
    step = np.float32(0.006)
    period = frame.size / (1.1 + near)
    here = tile.sample(u, v, period)
    relief = (here - tile.sample(u + step * np.float32(scene.side), v - step, period)) * np.float32(2.4)
    # Rock and woods have detail down to the pixel, the more visible the nearer.
    fine = tile.sample(u * np.float32(11) + np.float32(0.6), v * np.float32(13), period / 11)
    relief += np.float32(0.10 + 0.10 * near) * fine
    if near > 0.2:
        crowns = tile.sample(u * np.float32(5) + np.float32(0.3), v * np.float32(7), period / 5)
        relief = relief * np.float32(0.8) + np.float32(0.22 * min(1.0, near * 1.5)) * crowns
    light = np.clip(0.55 + relief, 0.06, 1.7)
    ground = mix(rgb(season.rock), mix(rgb(season.forest), rgb(season.forest_lit), 0.45), min(1.0, near * 1.6))
    color = tint(light, ground)
    if near < 0.3:
        # Snow keeps to the heights and to the flatter, sunlit faces.
        height = (scene.horizon - y) * np.float32(7) - np.float32(0.75 - 0.5 * season.snow + 2.0 * near)
        snow = smoothstep(0.0, 0.35, height + np.float32(0.35) * here + np.float32(0.25) * relief)
        paint_over(color, np.array([0.95, 0.93, 0.92], np.float32), snow * np.clip(light, 0.35, 1.1))
    valley = np.clip(below / np.float32(0.16), 0, 1) * np.float32(0.32 * (1 - near))
    color = mix(color, scene.air[top:], np.minimum(np.float32(ridge.veil) + valley, np.float32(1)))
    paint_over(picture[top:], color, frame.cover(below))


def _paint_woods(picture: FloatArray, rng: np.random.Generator, scene: View, ridge: _Ridge) -> None:
    """Groves of broad crowns with conifers among them, on the crest and down the flank."""
    season, near, veil = scene.season, ridge.near, ridge.veil
    places = rng.random((420, 3), dtype=np.float32)
    x = places[:, 0] * np.float32(ASPECT + 0.04) - np.float32(0.02)
    crest = np.interp(x, scene.frame.x[0], ridge.line)
    stand = scene.tile.sample(x * np.float32(0.9), np.float32(0.3 + near)) > -0.35
    tall = (0.020 + 0.026 * (near - 0.4)) * (0.6 + 0.8 * places[:, 2])
    feet = np.stack([x, crest + 0.004 + places[:, 1] ** 1.5 * 0.05], 1).astype(np.float32)
    haze = rgb(season.haze) * np.float32(0.9)
    sun = (scene.side, -0.7)
    broad = Foliage(dark=mix(rgb(season.forest), haze, veil), light=mix(rgb(season.forest_lit), haze, veil), sun=sun)
    conifer = Foliage(
        dark=mix(rgb(season.conifer), haze, veil), light=mix(rgb(season.conifer_lit), haze, veil), sun=sun
    )
    sheet = Strokes(scene.frame)
    paint_crown(sheet, rng, _groves(rng, scene, ridge), int(2500 + 3500 * near), 0.0036, broad)
    paint_conifers(sheet, rng, feet[stand], tall[stand].astype(np.float32), conifer)
    sheet.over(picture)


def _groves(rng: np.random.Generator, scene: View, ridge: _Ridge) -> FloatArray:
    """Round tree tops in groups along a ridge and down its flank, [N, 3] x, y, radius."""
    count = 190
    x = np.sort(rng.uniform(-0.02, ASPECT + 0.02, count))
    down = rng.random(count) ** 1.4
    radius = (0.010 + 0.008 * ridge.near) * rng.uniform(0.6, 1.3, count)
    crest = np.interp(x, scene.frame.x[0], ridge.line)
    group = scene.tile.sample(x * 1.3, 0.8 - 0.5 * ridge.near)
    found = np.stack([x, crest + down * 0.055, radius], 1)[group > -0.5]
    return found.astype(np.float32)
