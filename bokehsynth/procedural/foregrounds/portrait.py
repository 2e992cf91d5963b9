"""People: head and shoulders, softly sculpted, with hair strand by strand."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bokehsynth.imaging.pictures import Cutout
from bokehsynth.procedural.foregrounds.brush import Canvas, blend, draw, linear, palette
from bokehsynth.procedural.foregrounds.curves import ellipse, lattice, lattice_noise, mirrored, opened, ribbon
from bokehsynth.procedural.foregrounds.face import paint_face
from bokehsynth.procedural.foregrounds.hair import paint_back_hair, paint_front_hair
from bokehsynth.procedural.foregrounds.light import draw_light, lit, relief, rim
from bokehsynth.procedural.foregrounds.patch import Box, Patch
from bokehsynth.procedural.foregrounds.person import Face
from bokehsynth.procedural.toolkit import Points, smoothstep
from bokehsynth.rng import pick, uniform

CUT = 2.55
"""Where the picture ends below; a face is about one unit in half height around the origin."""

SKINS = (("f0c4a8", "d98b78"), ("e6b08c", "d98468"), ("c98a5e", "b8664c"), ("8d5a3b", "7a3a2c"), ("5f3b28", "5a2820"))
"""Skin and the blush under it."""

HAIRS = ("1c1512", "3b2417", "6a4224", "a8743a", "d9b06a", "8a3a1c", "8f8f92")

CLOTHES = ("b23a3a", "2f5d7c", "e0d8c8", "3e5c45", "d9a441", "4a3b5c", "2b2d33", "c9788a")


def draw_portrait(rng: np.random.Generator, size: int) -> Cutout:
    """A person, head and shoulders, cut off below; `size` pixels on the longer side."""
    return draw(_paint, rng, size, Box(bottom=CUT))


@dataclass(frozen=True)
class Outfit:
    """Colours and cut of the clothes."""

    color: Points
    second: Points
    kind: str
    shoulders: float


def _paint(canvas: Canvas, rng: np.random.Generator) -> None:
    light = draw_light(rng)
    tone = pick(rng, SKINS, (4, 4, 3, 2, 2))
    masculine = uniform(rng, 0, 1) < 0.45
    dark_hair = tone[0] in ("8d5a3b", "5f3b28")
    face = Face(
        skin=linear(tone[0]),
        blush=linear(tone[1]),
        iris=linear("4a2c16") if dark_hair else pick(rng, palette("4a7a9c", "5c7a3a", "6b4420", "3a2a1c", "6f8f8a")),
        hair=linear(pick(rng, HAIRS[:3] if dark_hair else HAIRS)),
        masculine=masculine,
        turn=uniform(rng, -0.16, 0.16),
        width=uniform(rng, 0.70, 0.76) + 0.03 * masculine,
        jaw=uniform(rng, 0.0, 1.0),
        smile=uniform(rng, 0.5, 1.0),
        brow=uniform(rng, -0.5, 0.5),
        glasses=uniform(rng, 0, 1) < 0.25,
        beard=masculine and uniform(rng, 0, 1) < 0.5,
        light=light,
    )
    style = pick(rng, ("short", "crop", "curly") if masculine else ("long", "bob", "bun", "curly"))
    outfit = Outfit(
        color=linear(pick(rng, CLOTHES)),
        second=linear(pick(rng, CLOTHES)),
        kind=pick(rng, ("sweater", "shirt", "scarf")),
        shoulders=uniform(rng, 1.42, 1.58) + 0.16 * masculine,
    )
    cells = lattice(rng)
    paint_back_hair(canvas, face, style, rng)
    _neck(canvas, face)
    _clothes(canvas, face, outfit, cells)
    paint_face(canvas, face, cells, rng)
    paint_front_hair(canvas, face, style, rng)


def _neck(canvas: Canvas, face: Face) -> None:
    half = 0.36 if face.masculine else 0.29
    right = [(half, 0.5), (half * 0.98, 1.2), (half * 1.9, 1.62)]
    neck = canvas.fill(mirrored([(0.0, 0.4), *right, (0.0, 2.1)]))
    form = relief(neck, 0.32)
    canvas.over(neck, lit(form, blend((face.skin, face.blush), 0.22), face.light, 0.35))
    shadow = ellipse((-face.light.key[0] * 0.12, 0.92), (0.55, 0.40))
    canvas.darken(canvas.soft(shadow, 0.28).within(neck), 0.62, face.blush * 0.5)


def _clothes(canvas: Canvas, face: Face, outfit: Outfit, cells: npt.NDArray[np.float32]) -> None:
    """Shoulders and chest with folds; then a collar, a crew neck or a scarf."""
    wide = outfit.shoulders
    drop = 1.30
    knots = [(0.0, drop + 0.36), (0.26, drop + 0.22), (0.44, drop - 0.02), (0.75, drop + 0.10)]
    knots += [(wide * 0.80, drop + 0.26), (wide, drop + 0.62), (wide * 1.08, drop + 1.1), (wide * 1.10, drop + 1.9)]
    knots += [(0.0, drop + 2.2)]
    patch = canvas.fill(mirrored(knots))
    form = relief(patch, 0.55, 0.9)
    folds = lattice_noise(cells, patch.x + 0.7, patch.y, (1.6, 0.9), 2)
    if outfit.kind == "sweater":
        weave = np.sin(patch.x * 115.0) * np.sin(patch.y * 70.0 + 2.0 * np.abs(np.sin(patch.x * 57.0)))
    else:
        weave = 0.25 * lattice_noise(cells, patch.x, patch.y, (40.0, 40.0))
    paint = lit(form, outfit.color, face.light, 0.3) * (1 + 0.14 * folds + 0.10 * weave)[..., None]
    canvas.over(patch, np.maximum(paint + rim(form, face.light, 2.5) * (0.04 + 0.7 * outfit.color), 0.003))
    canvas.darken(canvas.soft(ellipse((-0.2 * face.light.key[0], drop + 0.02), (0.62, 0.26)), 0.3).within(patch), 0.45)
    if outfit.kind == "shirt":
        _collar(canvas, face, outfit, drop)
    elif outfit.kind == "scarf":
        _scarf(canvas, face, outfit, cells, drop)
    else:
        half = [(-0.46, drop - 0.06), (-0.28, drop + 0.24)]
        line = opened([*half, (0.0, drop + 0.36), *((-x, y) for x, y in half[::-1])], 10)
        _cloth(canvas, canvas.fill(ribbon(line, 0.075)), outfit.color, face, 0.07)


def _cloth(canvas: Canvas, patch: Patch, color: npt.ArrayLike, face: Face, radius: float) -> None:
    form = relief(patch, radius)
    canvas.over(patch, lit(form, color, face.light, 0.3) + 0.25 * rim(form, face.light, 2.0))


def _collar(canvas: Canvas, face: Face, outfit: Outfit, drop: float) -> None:
    """Two flaps, a placket and buttons."""
    canvas.darken(canvas.soft(np.array([[0.0, drop + 0.2], [0.03, drop + 2], [-0.03, drop + 2]]), 0.06), 0.4)
    for side in (-1.0, 1.0):
        flap = np.array([(0.40, -0.16), (0.50, 0.02), (0.42, 0.42), (0.06, 0.40), (0.20, 0.22), (0.34, -0.02)]) * (
            side,
            1.0,
        )
        shape = flap + (0, drop)
        canvas.darken(canvas.soft(shape + (0, 0.05), 0.10), 0.45)
        _cloth(canvas, canvas.fill(shape), blend((outfit.color, outfit.color**0.7), 0.6), face, 0.10)
    for i in range(3):
        button = canvas.fill(ellipse((0.02, drop + 0.58 + 0.32 * i), (0.028, 0.028)))
        canvas.atop(button, np.clip(outfit.color * 2.2 + 0.1, 0, 0.9))


def _scarf(canvas: Canvas, face: Face, outfit: Outfit, cells: npt.NDArray[np.float32], drop: float) -> None:
    """Two soft rolls round the neck."""
    for low, high, half in ((0.30, 0.34, 0.16), (0.10, 0.20, 0.17)):
        line = opened(
            [
                (-0.36, drop - 0.26),
                (-0.45, drop + low * 0.30),
                (0.0, drop + high),
                (0.45, drop + low * 0.30),
                (0.36, drop - 0.26),
            ],
            12,
        )
        shape = ribbon(line, half * np.sin(np.linspace(0.12, np.pi - 0.12, len(line))) ** 0.6)
        canvas.darken(canvas.soft(shape + (0, 0.08), 0.16), 0.5)
        patch = canvas.fill(shape)
        weave = lattice_noise(cells, patch.x, patch.y, (12.0, 30.0), 2)
        plaid = smoothstep(0.2, 0.6, np.sin(patch.x * 16.0 + patch.y * 9.0)) * np.float32(0.5)
        color = blend((outfit.second, outfit.color), plaid) * (1 + 0.12 * weave)[..., None]
        _cloth(canvas, patch, np.maximum(color, 0.003), face, 0.16)
