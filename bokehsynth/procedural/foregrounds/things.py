"""Hard-edged things: a chess piece, a mug, an alarm clock or a camera. The family is called `object`."""

import numpy as np
import numpy.typing as npt

from bokehsynth.imaging.pictures import Cutout
from bokehsynth.procedural.foregrounds.brush import Canvas, blend, draw, linear, palette
from bokehsynth.procedural.foregrounds.camera import paint_camera
from bokehsynth.procedural.foregrounds.clock import paint_clock
from bokehsynth.procedural.foregrounds.curves import ellipse, lattice, lattice_noise, opened, ribbon
from bokehsynth.procedural.foregrounds.lathe import Body, profile, turn
from bokehsynth.procedural.foregrounds.light import Light, draw_light, gloss, lit, relief, rim, studio
from bokehsynth.procedural.toolkit import FloatArray, Points, smoothstep
from bokehsynth.rng import pick, uniform

PAWN = (
    (0.16, 0.0, 0.155, 0.155), (0.325, 0.115, 0.022, 0.04), (0.36, 0.085, 0.02, 0.025),
    (0.80, 0.20, 0.028, 0.03), (0.865, 0.235, 0.045, 0.04), (0.955, 0.265, 0.055, 0.02),
)  # fmt: skip
BISHOP = (
    (-0.285, 0.0, 0.04, 0.04), (-0.08, 0.0, 0.18, 0.125), (0.13, 0.125, 0.020, 0.035),
    (0.175, 0.095, 0.02, 0.03), (0.215, 0.075, 0.02, 0.02),
    (0.80, 0.195, 0.026, 0.03), (0.865, 0.235, 0.045, 0.04), (0.955, 0.265, 0.055, 0.02),
)  # fmt: skip
QUEEN = (
    (-0.49, 0.0, 0.045, 0.045), (-0.43, 0.08, 0.03, 0.03), (-0.02, 0.13, 0.022, 0.035),
    (0.03, 0.10, 0.022, 0.03), (0.08, 0.085, 0.02, 0.02),
    (0.80, 0.20, 0.026, 0.03), (0.865, 0.24, 0.045, 0.04), (0.955, 0.275, 0.055, 0.02),
)  # fmt: skip
"""Disks and balls (y, radius, half height, roundness) that make the pieces; the stem is a cone between them."""


def draw_object(rng: np.random.Generator, size: int) -> Cutout:
    """A chess piece, a mug, an alarm clock or a camera; `size` pixels on its longer side."""
    return draw(pick(rng, (_chess, _mug, paint_clock, paint_camera), (4, 3, 3, 3)), rng, size)


def _chess(canvas: Canvas, rng: np.random.Generator) -> None:
    light = draw_light(rng)
    parts, top, neck = pick(rng, ((PAWN, 0.005, 0.30), (BISHOP, -0.325, 0.20), (QUEEN, -0.535, 0.05)))
    levels, radii = profile(parts, top, 1.01)
    stem = 0.072 + 0.118 * np.clip((levels - neck) / (0.8 - neck), 0, 1) ** 1.9
    radii = np.where((levels > neck) & (levels < 0.9), np.maximum(radii, stem), radii)
    if parts is QUEEN:
        crown = np.interp(levels, [-0.40, -0.02], [0.165, 0.085])
        radii = np.where((levels > -0.42) & (levels < 0.0), np.maximum(radii, crown), radii)
    body = turn(canvas, 0.0, levels, radii * uniform(rng, 0.96, 1.12), 0.20)
    cells = lattice(rng)
    wood, shine = pick(rng, ((0, 0.5), (1, 0.5), (2, 0.9), (3, 0.9)))
    color = palette("c9925a", "4a2413", "e9e0cc", "1b1a1c")[wood]
    if wood < 2:
        rings = lattice_noise(cells, body.patch.x, body.patch.y, (26.0, 3.2), 2)
        color = color * (1 + 0.22 * np.sin(rings * 2.2))[..., None]
    _polish(canvas, body, color, light, shine)
    if parts is BISHOP:
        slit = canvas.fill(ribbon(np.array([[0.015, -0.02], [0.10, -0.20]]), 0.012))
        canvas.atop(slit, (0.01, 0.008, 0.006))


def _polish(canvas: Canvas, body: Body, color: npt.ArrayLike, light: Light, shine: float) -> None:
    """Lacquer: diffuse form, a mirrored studio that grows towards the edges, darkness between the rings."""
    normal = body.normal
    fresnel = 0.05 + 0.24 * np.clip(1 - normal[..., 2], 0, 1) ** 3
    paint = lit(normal, color, light) * (0.72 + 0.28 * normal[..., 2:3])
    paint += (shine * fresnel * studio(normal, light))[..., None] * light.key_color.astype(np.float32)
    paint += (
        0.5 * shine * rim(normal, light, 1.5) * (0.12 + 0.6 * np.asarray(color, np.float32))
        + 0.8 * shine * gloss(normal, light, 90)[..., None]
    )
    canvas.over(body.patch, paint)


def _mug(canvas: Canvas, rng: np.random.Generator) -> None:
    """An earthenware mug with a drink in it: a glaze over bare clay, or stripes."""
    light = draw_light(rng)
    side = -1.0 if uniform(rng, 0, 1) < 0.5 else 1.0
    tall, taper, belly = uniform(rng, 0.80, 1.05), uniform(rng, 0.86, 1.0), uniform(rng, 0.0, 0.05)
    glaze, second = pick(rng, (("2f6f8f", "e9dfcf"), ("c8452f", "f0e6d6"), ("e8e2d4", "35506b"), ("56795a", "e4d9c0"),
                               ("e0a52f", "5a3a26"), ("32363c", "c9a27a")))  # fmt: skip
    spine = opened(
        [(0.33, 0.22 * tall), (0.54, 0.19 * tall), (0.64, 0.42 * tall), (0.52, 0.68 * tall), (0.32, 0.74 * tall)], 14
    )
    handle = ribbon(spine * (side, 1), np.linspace(0.055, 0.046, len(spine)))
    patch = canvas.fill(handle)
    form = relief(patch, 0.05)
    canvas.over(
        patch, lit(form, linear(glaze) * 0.9, light) + 0.7 * gloss(form, light, 40)[..., None] + 0.4 * rim(form, light)
    )
    levels = np.linspace(0.0, tall, 400)
    t = levels / tall
    radii = 0.40 * (1 - (1 - taper) * t) + belly * np.sin(np.pi * t)
    radii *= np.where(t > 0.95, np.sqrt(np.clip(1 - ((t - 0.95) / 0.05) ** 2 * 0.12, 0, 1)), 1.0)
    tilt = 0.24
    body = turn(canvas, 0.0, levels, radii, tilt)
    canvas.darken(canvas.soft(ellipse((0, 0.5 * tall), (0.40, 0.45 * tall)), 0.15), 0.35)
    pattern = pick(rng, ("dip", "stripes", "plain"), (3, 2, 1))
    color = _glaze(body, (linear(glaze), linear(second)), (pattern, tall), lattice(rng))
    _polish(canvas, body, color, light, 0.75)
    _mouth(canvas, float(radii[0]), tilt, (linear(second if pattern == "dip" else glaze), light), rng)


def _glaze(body: Body, colors: tuple[Points, Points], look: tuple[str, float], cells: FloatArray) -> Points:
    """Albedo [h, w, 3] of the mug's wall."""
    pattern, tall = look
    around = np.arcsin(np.clip(body.normal[..., 0], -1, 1))
    t = body.height / np.float32(tall)
    wobble = 0.03 * np.sin(3.1 * around + 1) + 0.02 * np.sin(7.3 * around)
    speck = lattice_noise(cells, body.patch.x, body.patch.y, (60.0, 60.0), 1)
    if pattern == "dip":
        share = smoothstep(0.60, 0.615, t + wobble)
    elif pattern == "stripes":
        share = smoothstep(0.1, 0.25, np.sin(t * 34)) * smoothstep(0.18, 0.19, t) * smoothstep(0.80, 0.79, t)
    else:
        share = np.zeros_like(t)
    color = blend(colors, share)
    return np.asarray(color * (1 - 0.55 * smoothstep(1.5, 1.9, speck))[..., None])


def _mouth(canvas: Canvas, r: float, tilt: float, look: tuple[Points, Light], rng: np.random.Generator) -> None:
    """The rim, the inner wall in shadow and the drink."""
    color, light = look
    lip = canvas.fill(ellipse((0, 0), (r, tilt * r), count=120))
    canvas.over(lip, lit(np.array([0.0, -0.97, 0.24]), color, light) * 1.1 + 0.1)
    inner = canvas.fill(ellipse((0, 0.004), (r * 0.93, tilt * r * 0.91), count=120))
    shade = 0.28 + 0.6 * smoothstep(-0.9 * r, 0.9 * r, -inner.x * np.sign(light.key[0])) * np.ones_like(inner.y)
    shade *= 0.55 + 0.45 * smoothstep(-tilt * r, tilt * r, -inner.y)
    canvas.over(inner, color * shade[..., None])
    drink = canvas.fill(ellipse((0, 0.055), (r * 0.90, tilt * r * 0.86), count=120)).within(inner)
    brew = pick(rng, palette("2a1208", "7a4a22", "8a3a12"))
    glow = 0.35 + 1.0 * smoothstep(0.2 * tilt * r, tilt * r, drink.y - 0.03) * np.ones_like(drink.x)
    canvas.over(drink, brew * glow[..., None] + 0.05)
    spark = canvas.soft(ellipse((np.sign(light.key[0]) * 0.4 * r, 0.045), (0.16 * r, 0.10 * tilt * r)), 0.02)
    canvas.over(spark.within(drink), (0.9, 0.9, 0.9), 0.7)
