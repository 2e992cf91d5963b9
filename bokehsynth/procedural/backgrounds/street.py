"""A street along its axis: house fronts, shops, pavement, lamp posts, cars, people, under a sky."""

from dataclasses import dataclass

import numpy as np

from bokehsynth.imaging.pictures import Landscape
from bokehsynth.procedural.backgrounds import houses, traffic
from bokehsynth.procedural.backgrounds.houses import Daylight, House
from bokehsynth.procedural.backgrounds.lights import lay_lamps
from bokehsynth.procedural.backgrounds.noise import fractal_tile, grain, rough_tile
from bokehsynth.procedural.backgrounds.painting import Frame, finish, gray_to_rgb, mix, paint_over, palette, tint
from bokehsynth.procedural.backgrounds.perspective import Camera
from bokehsynth.procedural.backgrounds.sky import Sky, paint_sky
from bokehsynth.procedural.backgrounds.strokes import Strokes
from bokehsynth.procedural.backgrounds.vista import paint_far_end
from bokehsynth.procedural.toolkit import FloatArray, rgb, smoothstep
from bokehsynth.rng import chance, draw_seed, from_seed, pick, uniform

FAR = 80.0


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
    zenith, horizon, sunlight, shade = palette(colors)[:4] * np.float32(sky)
    direct, around, haze = palette(colors)[4:]
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
    frame = Frame(size)
    weather = pick(rng, (SUNNY, EVENING, OVERCAST), (4, 3, 2))
    vanishing = (uniform(rng, 0.34, 0.99), uniform(rng, 0.47, 0.63))
    camera = Camera(vanishing, uniform(rng, 0.75, 1.1), uniform(rng, 1.7, 3.4), uniform(rng, 5.5, 9.5))
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
    cover, sky_seed = uniform(rng, *weather.clouds), draw_seed(rng)
    ground_place, grain_seed = uniform(rng, 0, 1), draw_seed(rng)
    wall_place = 1 - ground_place
    bulk = from_seed(draw_seed(rng))
    picture = _paint_street_sky(frame, weather, (vanishing[0] - sunny * 0.7, 0.0), vanishing[1], (cover, sky_seed))
    speckle = grain(from_seed(grain_seed), frame.height, frame.width)
    _paint_ground(picture, street, weather, (ground_place, 2 * speckle))
    sheet = Strokes(frame, ceiling=2.0)
    paint_far_end(sheet, light, FAR + 30, bulk)
    row = sorted(street.rows[0] + street.rows[1], key=lambda house: -house.near)
    for house in row:
        houses.paint_body(sheet, house, light)
    built = sheet.over(picture)
    _weather_walls(picture, street, weather, wall_place)
    sheet = Strokes(frame, ceiling=2.0)
    for house in row:
        houses.paint_front(sheet, house, light, from_seed(house.seed))
    traffic.populate(sheet, light, street.kerb, bulk)
    built = np.maximum(built, sheet.over(picture))
    # The fine unevenness of cloth, paint, leaves and stone, on all that is not sky.
    built[int(vanishing[1] * size) :] = 1
    picture *= gray_to_rgb(1 + np.float32(0.08) * speckle * built)
    _add_glints(picture, street, weather, bulk)
    return Landscape(finish(picture, 20.0))


def _paint_street_sky(
    frame: Frame, weather: Weather, sun: tuple[float, float], horizon: float, clouds: tuple[float, int]
) -> FloatArray:
    """The sky over the street; `clouds` are their share and the seed of their forms."""
    sky = Sky(
        zenith=weather.zenith,
        horizon=weather.horizon,
        glow=weather.sunlight * np.float32(0.4),
        cloud_lit=weather.sunlight * np.float32(0.8),
        cloud_shade=weather.shade,
        cover=clouds[0],
        sun=sun,
        sun_peak=0.0,
        horizon_y=horizon,
        drift=(0.0, 0.0),
    )
    return paint_sky(frame, sky, fractal_tile(from_seed(clouds[1]), cells=4, gain=0.56))


def _paint_ground(picture: FloatArray, street: Street, weather: Weather, rough: tuple[float, FloatArray]) -> None:
    """Carriageway, kerbs and pavement with the shadow of the houses; `rough` is a place on the tile, and a grain."""
    frame = Frame(len(picture))
    x, z = street.camera.ground_map(frame)
    place, speckle = np.float32(rough[0]), rough[1][frame.size - len(z) :]
    tile = rough_tile()
    uneven = np.float32(1.3) * tile.sample(x * np.float32(0.117) + place, z * np.float32(0.117))
    uneven += tile.sample(x * np.float32(0.01) + place, z * np.float32(0.01)) + speckle
    pixel = z / np.float32(street.camera.focal * frame.size)
    tone = 1 + np.float32(0.13) * uneven * (np.float32(0.3) + np.float32(0.7) * np.exp(-z / 22))
    if street.cobbles:
        tone *= 1 - np.float32(0.55) * _joints(x, z, pixel, (0.32, 0.26), 0.045)
    slabs = 1 - np.float32(0.4) * _joints(x, z, pixel, (0.8, 0.8), 0.03)
    pavement, aside = (np.abs(x) > street.kerb).astype(np.float32), np.abs(x)
    road = rgb("6e6a66") * np.float32(0.85) if street.cobbles else rgb("54555a")
    base = tint(pavement * slabs * (1 + np.float32(0.08) * uneven), rgb("a8a298")) + tint((1 - pavement) * tone, road)
    kerb = np.clip(1 - np.abs(aside - np.float32(street.kerb)) / np.maximum(0.13, pixel), 0, 1)
    paint_over(base, rgb("bcb8ae"), kerb * np.float32(0.8))
    if not street.cobbles:
        dash = (np.mod(z, 6.0) < 2.6) & (z > 3)
        paint_over(base, rgb("e8e6e0"), np.clip(1.2 - aside / np.maximum(0.09, pixel), 0, 1) * dash * np.float32(0.75))
    across = (x * np.float32(street.sunny) + np.float32(street.camera.half)) / np.float32(street.slant)
    edge = np.maximum(np.float32(weather.softness), pixel / 2)
    shaded = np.clip((street.shadow(z) - across) / edge + np.float32(0.5), 0, 1)
    near_wall = 1 - np.float32(0.35) * np.exp(-np.abs(np.float32(street.camera.half) - aside) / np.float32(0.7))
    base *= mix(weather.ambient + weather.sun, weather.ambient, shaded) * gray_to_rgb(near_wall)
    paint_over(base, weather.haze, frame.wide(1 - np.exp(-z / np.float32(street.light.reach))))
    picture[frame.size - len(z) :] = base


def _joints(x: FloatArray, z: FloatArray, pixel: FloatArray, stone: tuple[float, float], gap: float) -> FloatArray:
    """0..1: joints between stones laid in bond, fading out where a stone is smaller than a few pixels."""
    course = np.floor(z / np.float32(stone[1]))
    along = np.abs(np.mod(z / np.float32(stone[1]), 1) - 0.5) * np.float32(2 * stone[1])
    shifted = x / np.float32(stone[0]) + 0.5 * np.mod(course, 2)
    across = np.abs(np.mod(shifted, 1) - 0.5) * np.float32(2 * stone[0])
    soft = np.float32(gap) + pixel
    line = np.maximum(smoothstep(0, 1, (across - np.float32(stone[0]) + 2 * soft) / soft), 0)
    seam = smoothstep(0, 1, (along - np.float32(stone[1]) + 2 * soft) / soft)
    return np.maximum(line, seam) * np.clip(1.4 - 5 * pixel / np.float32(min(stone)) * np.maximum(z / 12, 1), 0, 1)


def _weather_walls(picture: FloatArray, street: Street, weather: Weather, place: float) -> None:
    """Bricks, stains and the shadow of the opposite row on the fronts that are painted so far."""
    frame, camera = Frame(len(picture)), street.camera
    z, y = camera.wall_map(frame)
    side = np.where(frame.x[0] < camera.vanishing[0], -1.0, 1.0)
    pixel = z / np.float32(camera.focal * frame.size)
    tile = rough_tile()
    stain = np.float32(0.11) * tile.sample(z * np.float32(0.098) + np.float32(place), y * np.float32(0.098))
    stain += np.float32(0.09) * tile.sample(z * np.float32(0.0049) + np.float32(place), y * np.float32(0.0026))
    factor = 1 + stain * np.exp(-z / 50)
    height = np.zeros_like(z[0])
    for row, sign in zip(street.rows, (-1.0, 1.0), strict=True):
        for house in row:
            columns = np.flatnonzero((side == sign) & (z[0] > house.near) & (z[0] <= house.far))
            height[columns] = house.height
            if house.brick and len(columns):
                part = slice(columns[0], columns[-1] + 1)
                joints = _joints(z[:, part], y[:, part], pixel[:, part], (0.42, 0.15), 0.02)
                factor[:, part] *= 1 - np.float32(0.42) * joints
    inside = (y > 0) & (y < height)
    reach = street.shadow(z) - np.float32(2 * camera.half / street.slant)
    edge = np.maximum(np.float32(weather.softness), pixel)
    shaded = np.clip((reach - y) / edge + np.float32(0.5), 0, 1) * (inside & (side == street.sunny))
    factor *= 1 - np.float32(0.25) * np.exp(-np.maximum(y, 0) / np.float32(1.5))
    ratio = np.asarray(weather.ambient / (weather.ambient + weather.sun), np.float32)
    picture *= mix(np.ones(3, np.float32), ratio, shaded) * gray_to_rgb(np.where(inside, factor, np.float32(1)))


def _add_glints(picture: FloatArray, street: Street, weather: Weather, rng: np.random.Generator) -> None:
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
        lay_lamps(picture, spots, 0.0014, strength * weather.sunlight / weather.sunlight.max())
