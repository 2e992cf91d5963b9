"""A shopping avenue at night after rain: lit windows and shops, lamps, head and tail lights, mirrored in the road."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.procedural.backgrounds import houses, traffic
from bokehsynth.procedural.backgrounds.houses import Daylight
from bokehsynth.procedural.backgrounds.lights import COOL, NEON, TAIL, WARM, Lamps, lamp_tones
from bokehsynth.procedural.backgrounds.noise import rough_tile, soft_tile
from bokehsynth.procedural.backgrounds.painting import Frame, gray_to_rgb, paint_over, tint
from bokehsynth.procedural.backgrounds.perspective import Camera
from bokehsynth.procedural.backgrounds.sky import paint_night_sky
from bokehsynth.procedural.backgrounds.strokes import Strokes
from bokehsynth.procedural.toolkit import FloatArray, rgb
from bokehsynth.rng import draw_seed, from_seed, uniform

FAR = 80.0
STREET_LIGHT = np.array([1.0, 0.57, 0.30], np.float32)


@dataclass
class Bulbs:
    """Lights in the street: places [N, 3] in metres (X, Y, Z), radii [N] in metres, peaks [N, 3]."""

    places: npt.NDArray[np.float64]
    radii: npt.NDArray[np.float64]
    tones: FloatArray
    cars: npt.NDArray[np.float64]
    """Where cars are, [M, 2] = (X, Z)."""

    def seen(self, camera: Camera, mirrored: bool = False) -> Lamps:
        """The lights, or their mirror images in the ground, in the picture."""
        x, y, z = self.places.T
        lamps = Lamps()
        radii = np.minimum(camera.focal * self.radii / z, 0.008)
        lamps.add(camera.project(x, -y if mirrored else y, z), radii, self.tones)
        return lamps


def paint_avenue(rng: np.random.Generator, frame: Frame) -> FloatArray:
    """The picture [H, W, 3], linear light."""
    vanishing = (uniform(rng, 0.4, 0.93), uniform(rng, 0.48, 0.6))
    camera = Camera(vanishing, uniform(rng, 0.8, 0.95), uniform(rng, 1.8, 2.6), uniform(rng, 7.0, 9.0))
    kerb = camera.half - uniform(rng, 2.6, 3.2)
    rows = [houses.draw_row(rng, side, -4 * float(rng.random()), FAR) for side in (-1.0, 1.0)]
    picture = paint_night_sky(rng, frame, vanishing[1])
    bulk, place = from_seed(draw_seed(rng)), uniform(rng, 0, 1)
    glow = STREET_LIGHT * np.float32(0.16)
    light = Daylight(camera, glow, glow, rgb("0c1020"), rgb("4a3424"), 150.0, night=True)
    sheet = Strokes(frame)
    row = sorted(rows[0] + rows[1], key=lambda house: -house.near)
    for house in row:
        houses.paint_body(sheet, house, light)
    _light_walls(picture, sheet.over(picture), camera, place)
    sheet = Strokes(frame)
    for house in row:
        houses.paint_front(sheet, house, light, from_seed(house.seed))
    bulbs = _bulbs(bulk, camera, kerb)
    sheet.over(picture)
    _wet_road(picture, camera, place, bulbs)
    sheet = Strokes(frame)
    _posts(sheet, camera, kerb)
    _car_bodies(sheet, bulbs, camera)
    traffic.walkers(sheet, light, kerb, bulk)
    sheet.over(picture)
    bulbs.seen(camera).shine(picture)
    return picture


POSTS = np.arange(11.0, 90.0, 11.0)
"""Metres down the street at which lamp posts stand on both sides."""


def _bulbs(rng: np.random.Generator, camera: Camera, kerb: float) -> Bulbs:
    """Street lamps, cars, neon signs, strings of bulbs across the street."""
    parts: list[tuple[npt.NDArray[np.float64], float, FloatArray]] = []
    traffic_lanes = []
    for side in (-1.0, 1.0):
        for arm in (-0.55, 0.55):
            z = POSTS
            at = np.stack([np.full_like(z, side * (kerb + 0.3) + arm), np.full_like(z, 5.3), z], -1)
            parts.append((at, 0.11, lamp_tones(rng, len(z), 11, 18, WARM[[0, 1, 3]])))
        lane = 0.5 * kerb * side
        cars = 10 * rng.random() + np.cumsum(rng.uniform(6.0, 12.0, 9))
        traffic_lanes.append(np.stack([np.full(9, lane), cars], -1))
        tone = TAIL[rng.integers(0, 2, 9)] * np.float32(9) if side > 0 else lamp_tones(rng, 9, 10, 17, COOL)
        for offset in (-0.62, 0.62):
            at = np.stack([np.full(9, lane + offset), np.full(9, 0.72), cars], -1)
            clear = _unhidden(camera, at, lane, cars)
            parts.append((at[clear], 0.085 if side > 0 else 0.10, tone[clear]))
        for depth in rng.uniform(9, 60, 5):
            sign = np.stack([np.full(6, side * (camera.half - 0.9)), np.linspace(4.2, 6.4, 6), np.full(6, depth)], -1)
            parts.append((sign, 0.07, np.repeat(lamp_tones(rng, 1, 5, 9, NEON), 6, 0)))
    strings = rng.random() < 0.6
    for depth in (9.0, 14.0, 21.0, 30.0, 42.0):
        t = np.linspace(-1, 1, 19)
        at = np.stack([t * camera.half, 7.4 - 1.5 * (1 - t**2), np.full(19, depth)], -1)
        tone = lamp_tones(rng, 19, 5, 11, WARM)
        if strings:
            parts.append((at, 0.05, tone))
    radii = np.concatenate([np.full(len(at), radius) for at, radius, _ in parts])
    tones = np.concatenate([tones for _, _, tones in parts]).astype(np.float32)
    return Bulbs(np.concatenate([at for at, _, _ in parts]), radii, tones, np.concatenate(traffic_lanes))


def _unhidden(
    camera: Camera, lamps: npt.NDArray[np.float64], lane: float, cars: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Which lamps [N, 3] are not behind one of the `cars` (metres down the street) in the same `lane`."""
    x, y, z = lamps.T[:, :, None]
    share = np.minimum(cars[None, :] / z, 1)
    above = camera.eye + (y - camera.eye) * share > 1.45
    beside = np.abs(x * share - lane) > 0.85
    return np.all(above | beside | (cars[None, :] > z - 0.5), axis=1)


def _light_walls(picture: FloatArray, walls: FloatArray, camera: Camera, place: float) -> None:
    """Pools of lamp light on the fronts, stains and grain, where `walls` [H, W] are."""
    frame = Frame(len(picture))
    z, y = camera.wall_map(frame)
    pool = 0.45 + 0.9 * np.cos(np.pi * (z / float(POSTS[0]) - 1)) ** 4
    lit = np.float32(0.35) + pool * np.exp(-(((y - np.float32(3.5)) / np.float32(5.0)) ** 2)) * np.float32(1.6)
    rough = rough_tile().sample(frame.x * np.float32(2.8) + np.float32(place), frame.y * np.float32(2.8))
    factor = lit * np.maximum(1 + np.float32(0.2) * rough, np.float32(0.3))
    picture *= gray_to_rgb(1 + walls * (factor - 1))


def _wet_road(picture: FloatArray, camera: Camera, place: float, bulbs: Bulbs) -> None:
    """Asphalt under the lamps, with the fronts and the lights mirrored in its wet patches."""
    frame = Frame(len(picture))
    x, y, size = frame.x, frame.y, frame.size
    slope = np.float32(camera.eye / camera.half)
    foot = np.float32(camera.vanishing[1]) + np.abs(x - np.float32(camera.vanishing[0])) * slope
    below = np.maximum(y - foot, 0)
    rough = rough_tile().sample(x * np.float32(0.75), y * np.float32(5) + np.float32(place))
    pools = soft_tile().sample(x * np.float32(0.94) + np.float32(place), y * np.float32(4), size / 4)
    wet = np.clip(np.float32(0.55) + np.float32(0.35) * pools, 0.12, 1) * np.clip(1 + np.float32(0.35) * rough, 0.2, 2)
    blurred = cv2.blur(picture, (1, max(3, round(0.02 * size))))
    streaks = np.zeros_like(picture)
    bulbs.seen(camera, mirrored=True).shine(streaks)
    drawn = np.asarray(cv2.blur(streaks, (1, max(3, round(0.06 * size)))), np.float32)
    drawn += np.asarray(cv2.blur(streaks, (max(1, round(0.004 * size)), max(3, round(0.16 * size)))), np.float32)
    sideways = x + rough * np.float32(0.004)
    stir = rough * np.float32(0.012)
    road = frame.resampled(np.asarray(blurred, np.float32), sideways, foot - below * np.float32(0.95) + stir)
    road *= np.float32(0.42)
    road += frame.resampled(drawn, sideways, y + stir) * np.float32(1.1)
    road *= gray_to_rgb(wet)
    road += np.maximum(tint(np.float32(0.022) + np.float32(0.010) * rough, STREET_LIGHT), np.float32(0.002))
    paint_over(picture, road, frame.cover(y - foot))


def _posts(sheet: Strokes, camera: Camera, kerb: float) -> None:
    """The posts of the street lamps, far to near."""
    iron = rgb("08080a")
    for z in POSTS[::-1]:
        for side in (-1.0, 1.0):
            x = side * (kerb + 0.3)
            for left, right, low, high in ((-0.06, 0.06, 0.0, 5.4), (-0.6, 0.6, 5.35, 5.45), (-0.14, 0.14, 0, 0.8)):
                corners = np.array([(left, low), (right, low), (right, high), (left, high)])
                sheet.fill(camera.project(x + corners[:, 0], corners[:, 1], z), iron)


def _car_bodies(sheet: Strokes, bulbs: Bulbs, camera: Camera) -> None:
    """Dark cars around the pairs of lights in the lanes, far to near."""
    body = np.array([(-0.85, 0.25), (0.85, 0.25), (0.88, 0.9), (0.6, 1.45), (-0.6, 1.45), (-0.88, 0.9)])
    window = np.array([(-0.62, 0.95), (0.62, 0.95), (0.5, 1.36), (-0.5, 1.36)])
    for x, z in bulbs.cars[np.argsort(-bulbs.cars[:, 1])]:
        sheet.fill(camera.project(x + body[:, 0], body[:, 1], z + 0.05), rgb("18181e"))
        sheet.fill(camera.project(x + window[:, 0], window[:, 1], z + 0.05), rgb("3a3430"))
