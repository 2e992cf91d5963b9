"""Points of light of a city and the dark sky above it."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bokehsynth.assets.procedural.backgrounds.canvas import FloatArray, Points, grid, lamps, mix, paints, shape_of
from bokehsynth.assets.procedural.backgrounds.noise import fractal, ramp
from bokehsynth.rng import draw_seed, pick, uniform

WARM = paints("ffb45c ffc878 ff9c40 ffdca0 ffa850")
COOL = paints("d8e8ff b0d0ff f0f4ff")
NEON = paints("ff3068 30c8ff 50ff90 c050ff ff5030 ffe040 40ffe0")
TAIL = paints("ff1808 ff2c10")

_DUSKS = (
    paints("0a1028 283468 b06450"),
    paints("060a18 182444 805440"),
    paints("10204c 3c5490 e09468"),
    paints("0a0c12 20222e 5c4834"),
    paints("0e1430 30345c b06a5c"),
)


@dataclass
class Lamps:
    """Lights collected while a city is painted, laid onto it at the end."""

    places: list[Points] = field(default_factory=list)
    radii: list[npt.NDArray[np.float64]] = field(default_factory=list)
    tones: list[FloatArray] = field(default_factory=list)

    def add(self, places: npt.ArrayLike, radius: npt.ArrayLike, tones: npt.ArrayLike) -> None:
        """Lights at `places` [N, 2] with `radius` [N] (picture heights) and peaks `tones` [N, 3]."""
        points = np.atleast_2d(np.asarray(places, np.float64))
        self.places.append(points)
        self.radii.append(np.broadcast_to(np.asarray(radius, np.float64), len(points)))
        self.tones.append(np.broadcast_to(np.asarray(tones, np.float32), (len(points), 3)))

    def shine(self, picture: FloatArray) -> None:
        """Lay all lights onto a picture."""
        lamps(picture, np.concatenate(self.places), np.concatenate(self.radii), np.concatenate(self.tones))


def lamp_tones(rng: np.random.Generator, count: int, low: float, high: float, palette: FloatArray = WARM) -> FloatArray:
    """Peaks [N, 3] of lamps whose brightest channel is `low` to `high` times white."""
    tones = palette[rng.integers(0, len(palette), count)]
    strength = rng.uniform(low, high, (count, 1)).astype(np.float32)
    return tones / tones.max(axis=1, keepdims=True) * strength


def night_sky(rng: np.random.Generator, size: int, horizon: float) -> FloatArray:
    """Dusk to deep night over the glow of the city, with clouds lit from below and a few stars."""
    zenith, middle, glow = pick(rng, _DUSKS)
    cover, seed = uniform(rng, -0.4, 0.9), draw_seed(rng)
    stars = rng.uniform((0, 0), (1.34, horizon * 0.75), (110, 2))
    magnitude = rng.uniform(0.1, 0.9, 110) ** 2
    _, y = grid(size)
    share = np.clip(y / np.float32(horizon), 0, 1)
    light = mix(mix(zenith, middle, share[..., None]), glow, (share[..., None]) ** 4)
    light = np.repeat(light, shape_of(size)[1], 1)
    clouds = ramp(cover, cover + 1.6, fractal(seed, shape_of(size), (5, 3), 7, 0.55))
    light = mix(light, light * np.float32(1.5) + glow * np.float32(0.10), clouds * np.float32(0.8))
    lamps(light, stars, 0.0004, magnitude[:, None].astype(np.float32) * np.array([0.8, 0.9, 1.0], np.float32))
    return light
