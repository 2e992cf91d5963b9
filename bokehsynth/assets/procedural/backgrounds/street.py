"""A street along its axis: house fronts, shops, pavement, lamp posts, cars, people, under a sky."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.assets.pictures import Landscape
from bokehsynth.assets.procedural.backgrounds import houses, traffic
from bokehsynth.assets.procedural.backgrounds.canvas import Sketch, finished, grid, lamps, mix, paint, paints
from bokehsynth.assets.procedural.backgrounds.houses import Daylight, House
from bokehsynth.assets.procedural.backgrounds.noise import fractal, ramp
from bokehsynth.assets.procedural.backgrounds.perspective import Camera
from bokehsynth.assets.procedural.backgrounds.sky import Sky, painted
from bokehsynth.rng import chance, draw_seed, from_seed, pick, uniform

FloatArray = npt.NDArray[np.float32]

FAR = 80.0
TILE = 384


@dataclass(frozen=True)
class Weather:
    """Light of one hour; colours are linear [3]."""

    zenith: FloatArray
    horizon: FloatArray
    sunlight: FloatArray
    shade: FloatArray
    sun: FloatArray
    """Light on what faces the sun, as a factor of its colour."""
    ambient: FloatArray
    haze: FloatArray
    clouds: tuple[float, float]

    @property
    def softness(self) -> float:
        """Width of the edge of the houses' shadow, metres."""
        return 0.25 if float(self.sun.max()) > 0.5 else 4.0


def _weather(colors: str, sky: float, sun: float, ambient: float, clouds: tuple[float, float]) -> Weather:
    zenith, horizon, sunlight, shade = paints(colors)[:4] * np.float32(sky)
    direct, around, haze = paints(colors)[4:]
    return Weather(zenith, horizon, sunlight * 1.2, shade, direct * sun, around * ambient, haze, clouds)


SUNNY = _weather("4a88d0 c4dcf0 fffaf0 a8b4c4 fff0d4 9cb0d0 c0d0e0", 1.3, 1.15, 0.5, (0.25, 0.5))
EVENING = _weather("6a86b8 ffd8a8 ffd49c 98889c ffc888 9490b0 e8c8a8", 1.25, 1.2, 0.5, (0.3, 0.55))
OVERCAST = _weather("b0bac6 dfe3e6 f0f2f4 98a2ae e0e2e6 d4dae4 ccd2d8", 1.2, 0.28, 0.85, (0.6, 0.75))


@dataclass(frozen=True)
class Street:
    """One street: what all painting steps need."""

    camera: Camera
    light: Daylight
    rows: tuple[list[House], list[House]]
    kerb: float
    """Half the width of the carriageway, metres."""
    cobbles: bool
    sunny: float
    """The side whose fronts face the sun."""
    slant: float
    """Metres of shadow across the street per metre of height."""

    def shadow(self, z: FloatArray) -> FloatArray:
        """Height of the houses that stand between the sun and the place `z` metres down the street."""
        row = self.rows[0 if self.sunny > 0 else 1]
        edges = np.array([house.far for house in row])
        tall = np.array([house.height for house in row] + [row[-1].height], np.float32)
        return tall[np.searchsorted(edges, z + 2.0)]


def draw_street(rng: np.random.Generator, size: int) -> Landscape:
    """A street in one-point perspective by day; `size` rows."""
    weather = pick(rng, (SUNNY, EVENING, OVERCAST), (4, 3, 2))
    vanishing = (uniform(rng, 0.5, 0.83), uniform(rng, 0.52, 0.6))
    camera = Camera(vanishing, uniform(rng, 0.8, 0.95), uniform(rng, 1.9, 2.8), uniform(rng, 6.0, 8.0))
    sunny = -1.0 if chance(rng, 0.5) else 1.0
    side_light = weather.ambient + weather.sun
    sides = (side_light, weather.ambient) if sunny < 0 else (weather.ambient, side_light)
    light = Daylight(camera, sides[0], sides[1], weather.horizon, weather.haze)
    street = Street(
        camera=camera,
        light=light,
        rows=(
            houses.draw_row(rng, -1.0, uniform(rng, -4, 0), FAR),
            houses.draw_row(rng, 1.0, uniform(rng, -4, 0), FAR),
        ),
        kerb=camera.half - uniform(rng, 2.6, 3.2),
        cobbles=chance(rng, 0.4),
        sunny=sunny,
        slant=uniform(rng, 0.35, 0.85),
    )
    sun = (vanishing[0] - sunny * 0.7, 0.0)
    cover, seed, ground_seed, wall_seed = uniform(rng, *weather.clouds), draw_seed(rng), draw_seed(rng), draw_seed(rng)
    bulk = from_seed(draw_seed(rng))
    sky = Sky(weather.zenith, weather.horizon, weather.sunlight, weather.shade, sun, 0.4, cover, seed)
    picture = painted(sky, size, vanishing[1])
    blank = picture.copy()
    _ground(picture, street, weather, ground_seed)
    sketch = Sketch(picture)
    _far_end(sketch, street, bulk)
    row = sorted(street.rows[0] + street.rows[1], key=lambda house: -house.near)
    for house in row:
        houses.paint_body(sketch, house, light)
    picture = sketch.light()
    _weathered_walls(picture, street, weather, wall_seed)
    sketch = Sketch(picture)
    for house in row:
        houses.paint_front(sketch, house, light, from_seed(house.seed))
    traffic.populate(sketch, light, street.kerb, bulk)
    picture = _grained(sketch.light(), blank, wall_seed)
    _glints(picture, street, weather, bulk)
    return Landscape(finished(picture))


def _ground(picture: FloatArray, street: Street, weather: Weather, seed: int) -> None:
    """Carriageway, kerbs and pavement with the shadow of the houses."""
    size = picture.shape[0]
    x, z = street.camera.ground_map(size)
    tile = fractal(seed, (TILE, TILE), (12, 12), 7, 0.8)
    deep = np.broadcast_to(z, x.shape)
    rough = np.float32(1.3) * _tiled(tile, x * 60, deep * 60) + _tiled(tile, x * 5, deep * 5)
    rough += np.float32(1.5) * fractal(seed + 50, (size, x.shape[1]), (380, 500), 3, 1.0)[size - len(z) :]
    fade = np.exp(-z / 22)
    road = paint("6e6a66") * np.float32(0.85) if street.cobbles else paint("54555a")
    tone = 1 + np.float32(0.13) * rough * (0.3 + 0.7 * fade)
    pixel = z / np.float32(street.camera.focal * size)
    if street.cobbles:
        tone *= 1 - np.float32(0.55) * _joints(x, z, pixel, (0.32, 0.26), 0.045)
    slabs = 1 - np.float32(0.4) * _joints(x, z, pixel, (0.8, 0.8), 0.03)
    pavement = np.abs(x) > street.kerb
    base = np.where(pavement[..., None], paint("a8a298"), road)
    base = base * np.where(pavement, slabs * (1 + np.float32(0.08) * rough), tone)[..., None]
    kerb = np.clip(1 - np.abs(np.abs(x) - np.float32(street.kerb)) / np.maximum(0.13, pixel), 0, 1)
    base = mix(base, paint("bcb8ae"), kerb * np.float32(0.8))
    if not street.cobbles:
        dash = (np.mod(z, 6.0) < 2.6) & (z > 3)
        line = np.clip(1.2 - np.abs(x) / np.maximum(0.09, pixel), 0, 1) * dash
        base = mix(base, paint("e8e6e0"), line * np.float32(0.75))
    across = (x * np.float32(street.sunny) + np.float32(street.camera.half)) / np.float32(street.slant)
    edge = np.maximum(weather.softness, pixel / 2)
    shaded = np.clip((street.shadow(z) - across) / edge + 0.5, 0, 1)
    lit = mix(weather.ambient + weather.sun, weather.ambient, shaded)
    near_wall = 1 - 0.35 * np.exp(-np.abs(np.float32(street.camera.half) - np.abs(x)) / np.float32(0.7))
    veil = 1 - np.exp(-z / np.float32(street.light.reach))
    ground = mix(base * lit * near_wall[..., None], weather.haze, np.broadcast_to(veil, x.shape))
    picture[size - len(z) :] = ground


def _tiled(tile: FloatArray, u: FloatArray, v: FloatArray) -> FloatArray:
    """A square of noise repeated (mirrored) over coordinates in its knots."""
    maps = (np.ascontiguousarray(u, np.float32), np.ascontiguousarray(v, np.float32))
    return np.asarray(cv2.remap(tile, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32)


def _joints(x: FloatArray, z: FloatArray, pixel: FloatArray, stone: tuple[float, float], gap: float) -> FloatArray:
    """0..1: joints between stones laid in bond, fading out where a stone is smaller than a few pixels."""
    course = np.floor(z / np.float32(stone[1]))
    along = np.abs(np.mod(z / np.float32(stone[1]), 1) - 0.5) * np.float32(2 * stone[1])
    shifted = x / np.float32(stone[0]) + 0.5 * np.mod(course, 2)
    across = np.abs(np.mod(shifted, 1) - 0.5) * np.float32(2 * stone[0])
    soft = np.float32(gap) + pixel
    line = np.maximum(ramp(0, 1, (across - np.float32(stone[0]) + 2 * soft) / soft), 0)
    seam = ramp(0, 1, (along - np.float32(stone[1]) + 2 * soft) / soft)
    return np.maximum(line, seam) * np.clip(1.4 - 5 * pixel / np.float32(min(stone)) * np.maximum(z / 12, 1), 0, 1)


def _weathered_walls(picture: FloatArray, street: Street, weather: Weather, seed: int) -> None:
    """Bricks, stains and the shadow of the opposite row on the fronts that are painted so far."""
    size = picture.shape[0]
    z, y = street.camera.wall_map(size)
    x, _ = grid(size)
    side = np.where(x[0] < street.camera.vanishing[0], -1.0, 1.0)
    pixel = z / np.float32(street.camera.focal * size)
    tile = fractal(seed, (TILE, TILE), (10, 10), 7, 0.75)
    wide = np.broadcast_to(z, y.shape)
    stain = _tiled(tile, wide * 60, y * 60) * np.float32(0.11) + _tiled(tile, wide * 3, y * 1.6) * np.float32(0.09)
    factor = 1 + stain * np.exp(-z / 50)
    height = np.zeros_like(z[0])
    for row, sign in zip(street.rows, (-1.0, 1.0), strict=True):
        for house in row:
            columns = np.flatnonzero((side == sign) & (z[0] > house.near) & (z[0] <= house.far))
            height[columns] = house.height
            if house.brick and len(columns):
                part = slice(columns[0], columns[-1] + 1)
                factor[:, part] *= 1 - 0.42 * _joints(wide[:, part], y[:, part], pixel[:, part], (0.42, 0.15), 0.02)
    inside = (y > 0) & (y < height[None])
    reach = street.shadow(z) - np.float32(2 * street.camera.half / street.slant)
    shaded = np.clip((reach - y) / np.maximum(weather.softness, pixel) + 0.5, 0, 1) * (side == street.sunny)
    dim = mix(np.ones(3), weather.ambient / (weather.ambient + weather.sun), shaded)
    near_ground = 1 - 0.25 * np.exp(-np.maximum(y, 0) / 1.5)
    picture *= np.where(inside[..., None], dim * (factor * near_ground)[..., None], 1)


def _far_end(sketch: Sketch, street: Street, rng: np.random.Generator) -> None:
    """What closes the street: a church tower or a pale block between trees."""
    camera, light = street.camera, street.light
    stone = light.seen(paint("c8b89c") * (light.left + light.right) * np.float32(0.5), 170)
    z, x = FAR + 30, float(rng.uniform(-4, 4))
    tower = float(rng.uniform(24, 38))
    for width, low, high in ((22.0, 0.0, 12.0), (7.0, 0.0, tower)):
        box = [(x - width / 2, low), (x + width / 2, low), (x + width / 2, high), (x - width / 2, high)]
        corners = np.array(box)
        sketch.fill(camera.project(corners[:, 0], corners[:, 1], z), stone)
    spire = camera.project(np.array([x - 3.9, x, x + 3.9]), np.array([tower, tower + 17, tower]), z)
    sketch.fill(spire, stone * np.float32(0.55))
    dark = camera.project(x + np.array([-1, 1, 1, 0, -1]), tower - np.array([8, 8, 4, 2.5, 4]), z)
    sketch.fill(dark, stone * np.float32(0.4))


def _grained(picture: FloatArray, sky: FloatArray, seed: int) -> FloatArray:
    """The fine unevenness of cloth, paint, leaves and stone, on all that is not `sky`."""
    built = np.abs(picture - sky).max(axis=2) > 0.02
    grain = np.float32(0.055) * fractal(seed + 50, built.shape, (380, 500), 3, 1.0)
    return picture * np.maximum(1 + grain * built, 0.5)[..., None]


def _glints(picture: FloatArray, street: Street, weather: Weather, rng: np.random.Generator) -> None:
    """The sun in some panes of the upper floors of the sunny side, several times white."""
    places = []
    for house in street.rows[0 if street.sunny < 0 else 1]:
        bay = (house.far - house.near) / house.bays
        z = house.near + (np.arange(house.bays) + 0.5) * bay + rng.uniform(-0.3, 0.3, house.bays)
        y = np.full(house.bays, houses.GROUND_FLOOR + (house.floors - 1) * houses.STOREY + 1.3)
        places.append(np.stack([z, y], -1)[(rng.random(house.bays) < 0.4) & (z > 8)])
    spots = street.camera.wall(street.sunny, np.concatenate(places))
    strength = rng.uniform(2.5, 7.0, (len(spots), 1)).astype(np.float32)
    if float(weather.sun.max()) > 0.5:
        lamps(picture, spots, 0.0014, strength * weather.sunlight / weather.sunlight.max())
