"""What closes a street at its far end: a church, a gate, a row of trees, houses across, or nothing but haze."""

import numpy as np
import numpy.typing as npt

from bokehsynth.procedural.backgrounds.houses import Daylight
from bokehsynth.procedural.backgrounds.plants import paint_treetop
from bokehsynth.procedural.backgrounds.strokes import Strokes, boxes
from bokehsynth.procedural.toolkit import FloatArray, rgb
from bokehsynth.rng import pick, uniform

VEIL = 170.0
"""Metres of air in front of the far end: more than there are, so that it stays pale."""


def paint_far_end(sheet: Strokes, light: Daylight, z: float, rng: np.random.Generator) -> None:
    """One of five ends of the street, `z` metres away."""
    kind = pick(rng, ("church", "gate", "trees", "houses", "open"))
    x, tall = uniform(rng, -4, 4), uniform(rng, 24, 38)
    code = pick(rng, ("c8b89c", "b89880", "d0ccc0"))
    stone = light.seen(rgb(code) * (light.left + light.right) * np.float32(0.5), VEIL)
    if kind == "church":
        _church(sheet, light, (x, z), tall, stone)
    elif kind == "gate":
        _gate(sheet, light, (x / 2, z), 0.6 * tall, stone)
    elif kind == "trees":
        _trees(sheet, light, z, rng)
    elif kind == "houses":
        _houses(sheet, light, (x, z), 0.6 * tall, stone)


def _fill(sheet: Strokes, light: Daylight, at: tuple[float, float], points: npt.ArrayLike, tone: FloatArray) -> None:
    """A shape of `points` (right, up) in metres around the place (X, Z)."""
    p = np.asarray(points, np.float64)
    sheet.fill(light.camera.project(at[0] + p[:, 0], p[:, 1], at[1]), tone)


def _block(width: float, low: float, high: float) -> list[tuple[float, float]]:
    w = width / 2
    return [(-w, low), (w, low), (w, high), (-w, high)]


def _church(sheet: Strokes, light: Daylight, at: tuple[float, float], tall: float, stone: FloatArray) -> None:
    """A nave with a tower and its spire."""
    _fill(sheet, light, at, _block(22, 0, 12), stone)
    _fill(sheet, light, at, _block(7, 0, tall), stone)
    _fill(sheet, light, at, [(-3.9, tall), (0, tall + 17), (3.9, tall)], stone * np.float32(0.55))
    bell = [(-1, tall - 8), (1, tall - 8), (1, tall - 4), (0, tall - 2.5), (-1, tall - 4)]
    _fill(sheet, light, at, bell, stone * np.float32(0.4))


def _gate(sheet: Strokes, light: Daylight, at: tuple[float, float], tall: float, stone: FloatArray) -> None:
    """A gate through which the street goes on."""
    turn = np.linspace(0, np.pi, 11)
    arch = [(3.6 * float(np.cos(t)), 0.45 * tall + 3.6 * float(np.sin(t))) for t in turn]
    _fill(sheet, light, at, [(-11, 0), (-11, tall), (11, tall), (11, 0), (3.6, 0), *arch, (-3.6, 0)], stone)
    for side in (-1.0, 1.0):
        niche = (at[0] + 7.2 * side, at[1])
        _fill(sheet, light, niche, _block(2.2, 3, 0.55 * tall), stone * np.float32(0.7))
    for low, width, shade in ((0.72, 23.0, 0.75), (0.76, 22.0, 0.95), (0.97, 24.0, 0.8)):
        _fill(sheet, light, at, _block(width, low * tall, (low + 0.04) * tall), stone * np.float32(shade))


def _houses(sheet: Strokes, light: Daylight, at: tuple[float, float], tall: float, stone: FloatArray) -> None:
    """A square's far side: a row of fronts with windows under one roof."""
    _fill(sheet, light, at, _block(40, 0, tall), stone)
    _fill(sheet, light, at, [(-20.5, tall), (-17, tall + 5), (17, tall + 5), (20.5, tall)], stone * np.float32(0.5))
    columns, rows = (v.ravel() for v in np.meshgrid(np.arange(-17.0, 17.1, 3.1), np.arange(4.5, tall - 2.5, 3.6)))
    left, bottom = light.camera.project(at[0] + columns, rows, at[1]).T
    right, top = light.camera.project(at[0] + columns + 1.2, rows + 2.0, at[1]).T
    sheet.shapes(boxes(left, top, right, bottom), stone * np.float32(0.45))


def _trees(sheet: Strokes, light: Daylight, z: float, rng: np.random.Generator) -> None:
    """The trees of a park behind a hedge."""
    lit = (light.left + light.right) * np.float32(0.5)
    tones = np.stack([light.seen(rgb(code) * lit, 0.6 * VEIL) for code in ("2a4018", "86a838")])
    side = -1.0 if light.right.sum() < light.left.sum() else 1.0
    _fill(sheet, light, (0, z), _block(44, 0, 4.5), tones[0] * np.float32(0.8))
    for x in (-13.0, 12.0, -7.0, 6.5, 0.5):
        high, wide = uniform(rng, 5, 9), uniform(rng, 6, 8)
        middle = light.camera.project(x, high, z)
        paint_treetop(sheet, rng, (float(middle[0]), float(middle[1])), wide * light.camera.focal / z, tones, side)
