"""Skies: a gradient, the glow of the sun, and clouds on a ceiling in perspective, in linear light."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.assets.procedural.backgrounds.canvas import WIDTH, grid, mix
from bokehsynth.assets.procedural.backgrounds.noise import fractal, ramp

FloatArray = npt.NDArray[np.float32]

_CEILING = 448
"""Knots of the finest cloud lattice along one side."""


@dataclass(frozen=True)
class Sky:
    """One weather; colours are linear light [3]."""

    zenith: FloatArray
    horizon: FloatArray
    sunlight: FloatArray
    """Colour of the sun, of its glow and of lit cloud edges."""
    shade: FloatArray
    """Colour of cloud bottoms."""
    sun: tuple[float, float]
    """Where the sun stands, in picture heights; it may be outside the picture."""
    glow: float = 0.6
    clouds: float = 0.5
    """Share of the ceiling that is clouded, 0..1."""
    seed: int = 0


def painted(sky: Sky, size: int, horizon: float) -> FloatArray:
    """The sky [H, W, 3] above `horizon` (picture heights); rows below it repeat the horizon's colour."""
    x, rows = grid(size)
    y = rows[: max(8, min(size, int(size * (horizon + 0.08))))]
    share = np.clip(y / np.float32(horizon), 0, 1)
    light = mix(sky.zenith, sky.horizon, np.broadcast_to(share**1.3, (len(y), x.shape[1])))
    distance = np.sqrt((x - np.float32(sky.sun[0])) ** 2 + (1.25 * (y - np.float32(sky.sun[1]))) ** 2)
    halo = 0.55 * np.exp(distance * np.float32(-2.6)) + 0.7 * np.exp(distance * np.float32(-9.0))
    light += (np.float32(sky.glow) * halo)[..., None].astype(np.float32) * sky.sunlight
    light = _clouded(sky, light, x, y, horizon)
    rest = size - len(y)
    return np.concatenate([light, np.repeat(light[-1:], rest, 0)]) if rest else light


def _clouded(sky: Sky, light: FloatArray, x: FloatArray, y: FloatArray, horizon: float) -> FloatArray:
    """Clouds over a sky: bright where they thin out towards the sun, grey where they are thick."""
    tile = fractal(sky.seed, (_CEILING, _CEILING), (3.5, 3.5), 8, 0.56)
    away = 1 / np.maximum(np.float32(horizon) - y + np.float32(0.16), 0.05)
    u = np.asarray((x - np.float32(WIDTH / 2)) * away * 49 + _CEILING / 2, np.float32)
    v = np.asarray(np.broadcast_to(away * 43, u.shape), np.float32)
    field = _sampled(tile, u, v)
    pull = np.float32(0.012) * (np.sign(sky.sun[0] - WIDTH / 2) or 1)
    towards = _sampled(tile, (x + pull - np.float32(WIDTH / 2)) * away * 49 + _CEILING / 2, v - 3.5)
    start = 1.1 - 2.0 * sky.clouds
    body = ramp(start, start + 0.75, field)
    thick = ramp(start + 0.2, start + 1.8, field)
    lit = np.clip(0.62 + 0.75 * (field - towards) - 0.55 * thick, 0, 1)
    tone = mix(sky.shade, sky.sunlight, lit)
    far = np.clip((np.float32(horizon) - y) * 6, 0.15, 1)
    return mix(light, tone, body * far * np.float32(0.92))


def _sampled(tile: FloatArray, u: FloatArray, v: FloatArray) -> FloatArray:
    return np.asarray(
        cv2.remap(
            tile,
            np.ascontiguousarray(u, np.float32),
            np.ascontiguousarray(v, np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        ),
        np.float32,
    )
