"""What stands and moves in a street: lamp posts, trees, cars and people."""

import numpy as np
import numpy.typing as npt

from bokehsynth.procedural.backgrounds.houses import Daylight
from bokehsynth.procedural.backgrounds.painting import palette
from bokehsynth.procedural.backgrounds.plants import paint_treetop
from bokehsynth.procedural.backgrounds.strokes import Strokes, discs
from bokehsynth.procedural.toolkit import FloatArray, Points, rgb

CARS = palette("b02020 e0e0e0 28406a 1c1e22 8a9098 c8b890 2c5a4a d8a020")
CLOTHES = palette("7a2a2a 2a3a5a d8d0c0 1c1c20 4a5a3a b8862c 5a3a5a 8aa0b0")
SKIN = palette("e0b090 b07a54 7a4c34")

PROFILE = np.array(
    [(0, 0.35), (0, 0.85), (0.15, 0.95), (1.0, 1.0), (1.7, 1.48), (3.1, 1.5), (3.9, 1.0), (4.3, 0.9), (4.35, 0.35)]
)
"""A car from the side: metres from its near end, and height."""


def populate(sheet: Strokes, light: Daylight, kerb: float, rng: np.random.Generator) -> None:
    """Everything on the pavements and along the kerbs, far to near."""
    trees = bool(rng.random() < 0.45)
    things: list[tuple[float, str, float, float]] = []
    for side in (-1.0, 1.0):
        for z in np.arange(9 + 4 * rng.random(), 90, 15):
            things.append((float(z), "lamp", side, 0.0))
        for z in np.arange(14 + 4 * rng.random(), 90, 9.5):
            things.append((float(z), "tree" if trees else "none", side, 0.0))
        # In a narrow street cars stand on one side only.
        parked = rng.random(12) < (0.6 if kerb > 3.4 or side > 0 else 0.0)
        for z in 10.5 + 6.2 * np.flatnonzero(parked) + 2 * rng.random():
            things.append((float(z), "car", side, 0.0))
    for z, place in zip(9 + 50 * rng.random(18) ** 1.4, rng.uniform(-1, 1, 18), strict=True):
        things.append((float(z), "person", float(np.sign(place)), abs(float(place))))
    for z, kind, side, place in sorted(things, reverse=True):
        if kind == "lamp":
            _lamp_post(sheet, light, side, z, kerb)
        elif kind == "tree":
            _tree(sheet, light, (side * (kerb + 0.9), z), rng)
        elif kind == "car":
            _car(sheet, light, (side * (kerb - 0.25), z), rng)
        elif kind == "person":
            _person(sheet, light, (side * (kerb + 0.5 + 1.6 * place), z), rng)


def walkers(sheet: Strokes, light: Daylight, kerb: float, rng: np.random.Generator) -> None:
    """People on the pavements only, far to near."""
    z = np.sort(8 + 50 * rng.random(16) ** 1.4)[::-1]
    for depth, place in zip(z, rng.uniform(-1, 1, 16), strict=True):
        x = float(np.sign(place)) * (kerb + 0.5 + 1.6 * abs(float(place)))
        _person(sheet, light, (x, float(depth)), rng)


def _shadow(sheet: Strokes, light: Daylight, x: float, z: float, reach: tuple[float, float]) -> None:
    """A dark patch on the ground around (x, z)."""
    t = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    spot = np.stack([x + reach[0] * np.cos(t), z + reach[1] * np.sin(t)], -1)
    sheet.fill(light.camera.ground(spot), light.seen(rgb("26262a"), z))


def _lamp_post(sheet: Strokes, light: Daylight, side: float, z: float, kerb: float) -> None:
    """An iron post with a lantern."""
    x = side * (kerb + 0.35)
    iron = light.seen(rgb("1c2422"), z)

    def put(points: npt.ArrayLike, tone: npt.ArrayLike) -> None:
        p = np.asarray(points, np.float64)
        sheet.fill(light.camera.project(x + p[:, 0], p[:, 1], z), tone)

    put([(-0.16, 0), (0.16, 0), (0.1, 0.9), (-0.1, 0.9)], iron)
    put([(-0.07, 0.9), (0.07, 0.9), (0.05, 4.2), (-0.05, 4.2)], iron)
    put([(-0.01, 0.9), (0.04, 0.9), (0.03, 4.2), (0.0, 4.2)], iron * np.float32(3))
    put([(-0.16, 4.2), (0.16, 4.2), (0.27, 4.85), (-0.27, 4.85)], light.seen(rgb("f0ecd8") * np.float32(1.1), z))
    put([(-0.34, 4.85), (0.34, 4.85), (0.08, 5.25), (-0.08, 5.25)], iron)
    put([(-0.02, 4.2), (0.02, 4.2), (0.02, 4.85), (-0.02, 4.85)], iron)


def _tree(sheet: Strokes, light: Daylight, at: tuple[float, float], rng: np.random.Generator) -> None:
    """A street tree."""
    x, z = at
    tall = float(rng.uniform(3.6, 4.6))
    _shadow(sheet, light, x, z, (1.2, 1.2))
    stem = light.camera.project(x + np.array([-0.14, 0.14, 0.09, -0.09]), np.array([0, 0, tall, tall]), z)
    sheet.fill(stem, light.seen(rgb("4a3c30"), z))
    middle = light.camera.project(x, tall + 0.9, z)
    lit = (light.left + light.right) * np.float32(0.5)
    tones = np.stack([light.seen(rgb(code) * lit, z) for code in ("2a4018", "86a838")])
    side = -1.0 if light.right.sum() < light.left.sum() else 1.0
    paint_treetop(sheet, rng, (float(middle[0]), float(middle[1])), 1.9 * light.camera.focal / z, tones, side)


def _car(sheet: Strokes, light: Daylight, at: tuple[float, float], rng: np.random.Generator) -> None:
    """A parked car: `at` is the corner of its near end towards the middle of the street."""
    x, z = at
    inner, outer = x - np.sign(x) * 1.75, x
    paintwork = CARS[int(rng.integers(len(CARS)))]
    lit = (light.left + light.right) * np.float32(0.5)
    camera = light.camera

    def put(xs: npt.ArrayLike, ys: npt.ArrayLike, zs: npt.ArrayLike, tone: FloatArray) -> None:
        sheet.fill(camera.project(xs, ys, z + np.asarray(zs)), light.seen(tone, z))

    mid = (inner + outer) / 2
    put([inner - 0.1, outer + 0.1, outer + 0.1, inner - 0.1], [0.02] * 4, [-0.3, -0.3, 4.5, 4.5], rgb("18181a"))
    put([inner] * len(PROFILE), PROFILE[:, 1], PROFILE[:, 0], paintwork * lit * np.float32(0.7))
    put([inner] * 4, [1.02, 1.42, 1.42, 1.02], [1.15, 1.75, 3.05, 3.7], rgb("20262e"))
    for wheel in (0.85, 3.45):
        ring = discs(np.array([[wheel, 0.34]]), 0.34, 14)[0]
        put([inner] * 14, ring[:, 1], ring[:, 0], rgb("101012"))
        hub = discs(np.array([[wheel, 0.34]]), 0.19, 10)[0]
        put([inner] * 10, hub[:, 1], hub[:, 0], rgb("9a9ca0"))
    body = np.array([inner, outer, outer, inner])
    put(body, [0.35, 0.35, 0.85, 0.85], [0.0] * 4, paintwork * lit)
    put(body, [0.85, 0.85, 1.0, 1.0], [0, 0, 1.0, 1.0], paintwork * lit * np.float32(1.3))
    glass = mid + (body - mid) * np.array([0.92, 0.92, 0.78, 0.78])
    put(glass, [1.0, 1.0, 1.46, 1.46], [1.0, 1.0, 1.7, 1.7], light.sky * np.float32(0.3))
    roof = mid + (body - mid) * 0.8
    put(roof, [1.48, 1.48, 1.5, 1.5], [1.7, 1.7, 3.1, 3.1], paintwork * lit * np.float32(1.2))
    for sign in (-1.0, 1.0):
        lamp = mid + sign * np.array([0.55, 0.8, 0.8, 0.55])
        put(lamp, [0.62, 0.62, 0.78, 0.78], [-0.01] * 4, rgb("a01818") if x > 0 else rgb("f0eee0"))
    put(mid + np.array([-0.26, 0.26, 0.26, -0.26]), [0.45, 0.45, 0.57, 0.57], [-0.01] * 4, rgb("e8e8e0"))
    put(body, [0.3, 0.3, 0.42, 0.42], [-0.01] * 4, rgb("1a1a1c"))


def _person(sheet: Strokes, light: Daylight, at: tuple[float, float], rng: np.random.Generator) -> None:
    """Paint a pedestrian."""
    x, z = at
    coat, trousers = CLOTHES[rng.integers(0, len(CLOTHES), 2)]
    skin = SKIN[int(rng.integers(3))]
    stride, tall = float(rng.uniform(-0.22, 0.22)), float(rng.uniform(0.92, 1.06))
    lit = (light.left + light.right) * np.float32(0.55)
    _shadow(sheet, light, x, z, (0.35, 0.3))

    def put(points: Points | list[tuple[float, float]], tone: FloatArray) -> None:
        p = np.asarray(points, np.float64) * tall
        sheet.fill(light.camera.project(x + p[:, 0], p[:, 1], z), light.seen(tone * lit, z))

    for leg in (stride, -stride):
        put([(leg - 0.07, 0), (leg + 0.1, 0), (0.12, 0.9), (-0.12, 0.9)], trousers)
    put([(-0.19, 0.8), (0.19, 0.8), (0.23, 1.25), (0.17, 1.48), (-0.17, 1.48), (-0.23, 1.25)], coat)
    put([(-0.23, 1.4), (-0.16, 1.42), (-0.2, 0.9), (-0.29, 0.9)], coat * np.float32(0.6))
    put([(0.23, 1.4), (0.16, 1.42), (0.2, 0.9), (0.29, 0.9)], coat * np.float32(1.2))
    put(discs(np.array([[0, 1.62]]), 0.125, 12)[0], skin)
    put([(-0.13, 1.62), (-0.1, 1.74), (0, 1.78), (0.1, 1.74), (0.13, 1.62), (0.06, 1.7), (-0.06, 1.7)], rgb("2a2018"))
