"""A shopping avenue at night after rain: lit windows and shops, lamps, head and tail lights, mirrored in the road."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.assets.procedural.backgrounds import houses, traffic
from bokehsynth.assets.procedural.backgrounds.canvas import Sketch, grid, mix, paint, shape_of
from bokehsynth.assets.procedural.backgrounds.houses import Daylight
from bokehsynth.assets.procedural.backgrounds.lights import COOL, NEON, TAIL, WARM, Lamps, lamp_tones, night_sky
from bokehsynth.assets.procedural.backgrounds.noise import fractal
from bokehsynth.assets.procedural.backgrounds.perspective import Camera
from bokehsynth.rng import draw_seed, from_seed, uniform

FloatArray = npt.NDArray[np.float32]

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


def paint_avenue(rng: np.random.Generator, size: int) -> FloatArray:
    """The picture [H, W, 3], linear light."""
    vanishing = (uniform(rng, 0.5, 0.83), uniform(rng, 0.5, 0.58))
    camera = Camera(vanishing, uniform(rng, 0.8, 0.95), uniform(rng, 1.8, 2.6), uniform(rng, 7.0, 9.0))
    kerb = camera.half - uniform(rng, 2.6, 3.2)
    rows = [houses.draw_row(rng, side, -4 * float(rng.random()), FAR) for side in (-1.0, 1.0)]
    picture = night_sky(rng, size, vanishing[1])
    bulk, seed = from_seed(draw_seed(rng)), draw_seed(rng)
    glow = STREET_LIGHT * np.float32(0.16)
    light = Daylight(camera, glow, glow, paint("0c1020"), paint("4a3424"), 150.0, night=True)
    sketch = Sketch(picture, ceiling=1.0)
    row = sorted(rows[0] + rows[1], key=lambda house: -house.near)
    for house in row:
        houses.paint_body(sketch, house, light)
    sketch = Sketch(_lit_walls(sketch.light(), picture, camera, seed), ceiling=1.0)
    for house in row:
        houses.paint_front(sketch, house, light, from_seed(house.seed))
    bulbs = _bulbs(bulk, camera, kerb)
    picture = _wet_road(sketch.light(), camera, seed + 77, bulbs)
    sketch = Sketch(picture, ceiling=1.0)
    _posts(sketch, camera, kerb)
    _car_bodies(sketch, bulbs, camera)
    traffic.walkers(sketch, light, kerb, bulk)
    painted = sketch.light()
    bulbs.seen(camera).shine(painted)
    return painted


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


def _lit_walls(picture: FloatArray, sky: FloatArray, camera: Camera, seed: int) -> FloatArray:
    """Pools of lamp light on the fronts, stains and grain, on all that is not `sky`."""
    size = picture.shape[0]
    z, y = camera.wall_map(size)
    built = np.abs(picture - sky).max(axis=2) > 0.008
    pool = 0.45 + 0.9 * np.cos(np.pi * (z - POSTS[0]) / (POSTS[1] - POSTS[0])) ** 4
    lit = 0.35 + pool * np.exp(-(((y - 3.5) / 5.0) ** 2)) * 1.6
    grain = np.maximum(1 + np.float32(0.2) * fractal(seed, shape_of(size), (45, 60), 6, 0.9), 0.3)
    return picture * np.where(built, lit * grain, 1)[..., None].astype(np.float32)


def _wet_road(picture: FloatArray, camera: Camera, seed: int, bulbs: Bulbs) -> FloatArray:
    """Asphalt under the lamps, with the fronts and the lights mirrored in its wet patches."""
    size = picture.shape[0]
    x, y = grid(size)
    shape = shape_of(size)
    foot = np.float32(camera.vanishing[1]) + np.abs(x - np.float32(camera.vanishing[0])) * np.float32(
        camera.eye / camera.half
    )
    below = np.maximum(y - foot, 0)
    rough = fractal(seed, shape, (80, 16), 5, 0.8)
    puddles = np.clip(0.55 + 0.35 * fractal(seed + 9, shape, (16, 5), 5, 0.6), 0.12, 1)
    spread = np.asarray(cv2.blur(picture, (1, max(3, round(0.02 * size)))), np.float32)
    streaks = np.zeros_like(picture)
    bulbs.seen(camera, mirrored=True).shine(streaks)
    drawn = np.asarray(cv2.blur(streaks, (1, max(3, round(0.06 * size)))), np.float32)
    drawn = drawn + np.asarray(cv2.blur(streaks, (max(1, round(0.004 * size)), max(3, round(0.16 * size)))), np.float32)
    sideways = x + rough * np.float32(0.004)
    mirror = _taken(spread, sideways, foot - below * np.float32(0.95) + rough * np.float32(0.012))
    drawn = _taken(drawn, sideways, y + rough * np.float32(0.012))
    asphalt = (0.022 + 0.010 * rough)[..., None] * STREET_LIGHT
    wet = puddles[..., None] * np.clip(1 + 0.35 * rough, 0.2, 2)[..., None]
    road = np.maximum(asphalt, 0.002) + mirror * wet * np.float32(0.42) + drawn * wet * np.float32(1.1)
    return mix(picture, road, np.clip((y - foot) * size + 0.5, 0, 1))


def _taken(picture: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """The picture at other places [H, W] (picture heights)."""
    size = picture.shape[0]
    u, v = (np.ascontiguousarray(m * size - 0.5, np.float32) for m in (x, y))
    return np.asarray(cv2.remap(picture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101), np.float32)


def _posts(sketch: Sketch, camera: Camera, kerb: float) -> None:
    """The posts of the street lamps, far to near."""
    iron = paint("08080a")
    for z in POSTS[::-1]:
        for side in (-1.0, 1.0):
            x = side * (kerb + 0.3)
            for left, right, low, high in ((-0.06, 0.06, 0.0, 5.4), (-0.6, 0.6, 5.35, 5.45), (-0.14, 0.14, 0, 0.8)):
                corners = np.array([(left, low), (right, low), (right, high), (left, high)])
                sketch.fill(camera.project(x + corners[:, 0], corners[:, 1], z), iron)


def _car_bodies(sketch: Sketch, bulbs: Bulbs, camera: Camera) -> None:
    """Dark cars around the pairs of lights in the lanes, far to near."""
    body = np.array([(-0.85, 0.25), (0.85, 0.25), (0.88, 0.9), (0.6, 1.45), (-0.6, 1.45), (-0.88, 0.9)])
    window = np.array([(-0.62, 0.95), (0.62, 0.95), (0.5, 1.36), (-0.5, 1.36)])
    for x, z in bulbs.cars[np.argsort(-bulbs.cars[:, 1])]:
        sketch.fill(camera.project(x + body[:, 0], body[:, 1], z + 0.05), paint("18181e"))
        sketch.fill(camera.project(x + window[:, 0], window[:, 1], z + 0.05), paint("3a3430"))
