"""Animals: head and shoulders of a cat, fox, bear or dog, grown hair by hair."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bokehsynth.imaging.pictures import Cutout
from bokehsynth.procedural.foregrounds.animals import BEAR, CAT, DOG, FOX, Animal, Coat
from bokehsynth.procedural.foregrounds.brush import Canvas, blend, draw, linear, palette
from bokehsynth.procedural.foregrounds.curves import closed, ellipse, opened, rotate, sunflower
from bokehsynth.procedural.foregrounds.light import Light, draw_light, gloss, lit, relief
from bokehsynth.procedural.foregrounds.patch import Box
from bokehsynth.procedural.foregrounds.pelt import Hair, comb, tone
from bokehsynth.procedural.toolkit import Points
from bokehsynth.rng import chance, pick, uniform

CUT = 1.75
"""Where the picture ends below; the head is about one unit in radius around the origin."""


@dataclass(frozen=True)
class Pose:
    """One individual: what all painting steps need."""

    animal: Animal
    coat: Coat
    light: Light
    tilt: float
    width: float
    stripe_phase: float
    pupil: float

    def place(self, points: npt.ArrayLike) -> Points:
        """Head units to picture units."""
        return rotate(np.asarray(points, np.float64) * (self.width, 1.0), self.tilt)


def draw_fur(rng: np.random.Generator, size: int) -> Cutout:
    """A furry animal, head and shoulders, cut off below; `size` pixels on its longer side."""
    return draw(_paint, rng, size, Box(bottom=CUT))


def _paint(canvas: Canvas, rng: np.random.Generator) -> None:
    animal = pick(rng, (CAT, FOX, BEAR, DOG), (3, 2, 2, 2))
    pose = Pose(
        animal=animal,
        coat=pick(rng, animal.coats),
        light=draw_light(rng),
        tilt=uniform(rng, -0.14, 0.14),
        width=uniform(rng, 0.95, 1.08),
        stripe_phase=uniform(rng, 0, 1),
        pupil=uniform(rng, 0.32, 0.75),
    )
    _body(canvas, pose, rng)
    floppy = animal is DOG
    if not floppy:
        for side in (-1.0, 1.0):
            _ear(canvas, pose, side, rng)
    _head(canvas, pose, rng)
    if floppy:
        for side in (-1.0, 1.0):
            _ear(canvas, pose, side, rng)
    _muzzle(canvas, pose, rng)
    for side in (-1.0, 1.0):
        _eye(canvas, pose, side)
    _nose(canvas, pose)
    _whiskers(canvas, pose, rng)


def _body(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """Shoulders and chest under a ruff that hangs down."""
    outline = closed(
        [(-0.72, 0.3), (0.72, 0.3), (1.02, 0.95), (1.22, 1.6), (1.3, 2.3), (-1.3, 2.3), (-1.22, 1.6), (-1.02, 0.95)]
    )
    dark = linear(pose.coat.back) * 0.30
    canvas.over(canvas.fill(outline), dark)
    count = 1400
    u, v = rng.random(count), np.sort(rng.random(count))[::-1]
    y = 0.45 + 1.35 * v
    half = np.interp(y, [0.3, 0.95, 1.6, 2.3], [0.78, 1.02, 1.22, 1.3])
    across = 2 * u - 1
    roots = np.stack([across * half, y], -1)
    normal = np.stack([0.85 * across, np.full(count, -0.15), np.sqrt(1 - 0.72 * across**2)], -1)
    chest = np.clip(1.25 - np.abs(across) * 2.3 + rng.normal(0, 0.12, count), 0, 1) * (0.35 + 0.65 * pose.animal.mask)
    color = blend((blend(palette(pose.coat.back, pose.coat.mark), 0.25), linear(pose.coat.face)), chest)
    under = 0.45 + 0.55 * np.clip((y - 0.75) / 0.5, 0, 1)
    shade = tone(normal, pose.light) * under
    flow = np.stack([across * 0.7, np.full(count, 1.0)], -1)
    comb(canvas, Hair(roots, flow, rng.uniform(0.26, 0.42, count), shade, color), rng, 0.021)


def _head(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    animal = pose.animal
    outline = closed([*animal.half, *[(-x, y) for x, y in animal.half[-2:0:-1]]])
    canvas.darken(canvas.soft(pose.place(outline) + (0.0, 0.16), 0.4), 0.7, linear(pose.coat.back) * 0.4)
    canvas.over(canvas.fill(pose.place(outline * 0.95)), blend(palette(pose.coat.back, pose.coat.face), 0.3) * 0.40)
    count = 3100
    radius, turn = sunflower(count)
    order = np.argsort(-radius)
    radius, turn = radius[order], turn[order] + rng.normal(0, 0.03, count)
    angles = np.arctan2(outline[:, 1], outline[:, 0])
    reach = np.interp(turn, np.sort(angles), np.linalg.norm(outline, axis=1)[np.argsort(angles)], period=2 * np.pi)
    spot = np.stack([np.cos(turn), np.sin(turn)], -1) * (radius * reach)[:, None]
    flow = spot - (0.0, animal.nose[0] - 0.06)
    flow /= np.linalg.norm(flow, axis=1, keepdims=True) + 1e-6
    flow[:, 1] += 0.45 * np.abs(spot[:, 0])
    bulge = spot / reach[:, None] * 0.92
    normal = np.concatenate([bulge, np.sqrt(1 - (bulge**2).sum(1, keepdims=True))], 1)
    length = animal.length * (0.45 + 0.75 * radius) * rng.uniform(0.75, 1.25, count)
    shade = tone(normal, pose.light) * (0.9 + 0.1 * radius)
    hair = Hair(pose.place(spot), rotate(flow, pose.tilt), length, shade, _pattern(pose, spot, rng))
    comb(canvas, hair, rng)


def _pattern(pose: Pose, spot: Points, rng: np.random.Generator) -> Points:
    """Coat colour [N, 3] at head positions [N, 2]: pale face, dark forehead, tabby stripes."""
    x, y = np.abs(spot[:, 0]), spot[:, 1]
    fuzz = rng.normal(0, 0.06, len(spot))
    color = np.broadcast_to(linear(pose.coat.back), (len(spot), 3))
    crown = np.clip((-0.25 - y + fuzz) * 1.3, 0, 1) * 0.5
    color = blend((color, linear(pose.coat.mark)), crown)
    phase = np.where(y < -0.1, x * 3.6 + 0.35 * y, (y * 2.4 - x * 1.3)) + pose.stripe_phase + fuzz
    stripe = np.clip(np.sin(2 * np.pi * phase) * 2.2 - 0.3, 0, 1) * np.clip(np.hypot(x, y - 0.3) * 2 - 0.75, 0, 1)
    color = blend((color, linear(pose.coat.mark) * 0.7), stripe * pose.coat.stripes)
    cheek = np.clip((y - 0.30 + 0.28 * x + fuzz) * 5, 0, 1) * pose.animal.mask
    around_eye = np.clip(1.6 - np.hypot((x - pose.animal.eye[0]) / 0.34, (y - pose.animal.eye[1]) / 0.26) + fuzz, 0, 1)
    blaze = np.clip(1.3 - x / (0.10 + 0.16 * np.clip(y + 0.6, 0, 1)) + fuzz, 0, 1) * np.clip((y + 0.55) * 4, 0, 1)
    pale = np.maximum(cheek, np.maximum(0.45 * around_eye * (pose.animal.mask > 0), 0.7 * blaze * pose.animal.mask))
    return blend((color, linear(pose.coat.face)), pale)


def _ear(canvas: Canvas, pose: Pose, side: float, rng: np.random.Generator) -> None:
    """A cup of fur with a pink inside, or a hanging flap."""
    knots = np.array(pose.animal.ear) * (side, 1.0)
    outline = closed(knots)
    middle = knots[[0, 4]].mean(0)
    patch = canvas.fill(pose.place(outline))
    color = blend(palette(pose.coat.back, pose.coat.mark), 0.6)
    if pose.animal is DOG:
        canvas.darken(canvas.soft(pose.place(outline) + (0.0, 0.08), 0.25), 0.6)
    canvas.over(patch, lit(relief(patch, 0.3), color * 0.75, pose.light))
    hanging = pose.animal is DOG
    if not hanging:
        inner = canvas.fill(pose.place((outline - middle) * 0.70 + middle + (0.0, 0.02)))
        depth = np.clip((inner.y + 1.35) / 0.9, 0, 1) * np.ones_like(inner.x)
        pink = blend(palette("d98f80", "4a2822"), depth * 0.8)
        canvas.over(inner, pink * 0.75)
    count = 340
    edge = outline[rng.integers(0, len(outline), count)]
    share = rng.random(count)[:, None] ** (0.5 if hanging else 0.12)
    roots = edge * share + middle * (1 - share)
    away = knots[2] - middle
    flow = (roots - middle) * 0.7 + away / np.linalg.norm(away) * (0.8 if hanging else 0.45)
    normal = np.stack([roots[:, 0] * 0.5, np.full(count, -0.3), np.full(count, 0.7)], -1)
    length = rng.uniform(0.08, 0.17, count) * (1.7 if hanging else 1.0)
    order = np.argsort(-share[:, 0])
    shade = tone(normal, pose.light) * 0.95
    hair = Hair(pose.place(roots), rotate(flow, pose.tilt), length, shade, np.broadcast_to(color, (count, 3)))
    hair = Hair(*(np.asarray(v)[order] for v in (hair.roots, hair.flow, hair.length, hair.shade, hair.color)))
    comb(canvas, hair, rng)
    tuft = 70
    roots = middle + rng.normal(0, 1, (tuft, 2)) * (0.10, 0.06) + (-0.06 * side, -0.02)
    flow = np.stack([np.full(tuft, 0.5 * side) + rng.normal(0, 0.3, tuft), np.full(tuft, -1.0)], -1)
    if not hanging:
        pale = np.broadcast_to(linear(pose.coat.face), (tuft, 3))
        shade = rng.uniform(0.6, 0.95, tuft)
        comb(canvas, Hair(pose.place(roots), flow, rng.uniform(0.2, 0.42, tuft), shade, pale), rng, 0.014)


def _muzzle(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """Two pads (or one snout) of short hair under the nose, and the mouth line."""
    animal = pose.animal
    half_width, half_height = animal.muzzle
    nose_y = animal.nose[0]
    single = animal in (BEAR, DOG)
    centers = (
        [(0.0, nose_y + 0.16)] if single else [(-0.55 * half_width, nose_y + 0.18), (0.55 * half_width, nose_y + 0.18)]
    )
    for center in centers:
        canvas.darken(canvas.soft(pose.place(ellipse(center, (half_width * 0.9, half_height)) + (0, 0.08)), 0.2), 0.35)
        count = 330
        radius, turn = sunflower(count)
        order = np.argsort(-radius)
        bulge = np.stack([np.cos(turn), np.sin(turn)], -1)[order] * radius[order, None]
        spot = np.asarray(center) + bulge * (half_width if single else 0.8 * half_width, half_height)
        flow = bulge + (0.0, 0.35)
        normal = np.concatenate([bulge * 0.9, np.sqrt(1 - 0.81 * (bulge**2).sum(1, keepdims=True))], 1)
        color = np.broadcast_to(linear(pose.coat.face), (count, 3))
        color = blend((color, linear(pose.coat.back)), np.clip(0.55 - spot[:, 1] + nose_y - 0.35, 0, 1) * 0.6)
        length = animal.length * 0.55 * rng.uniform(0.7, 1.3, count)
        comb(
            canvas,
            Hair(pose.place(spot), rotate(flow, pose.tilt), length, tone(normal, pose.light), color),
            rng,
            0.016,
        )
    dark = np.broadcast_to(linear("2a1714"), (3, 3)).copy()
    drop = nose_y + 0.13
    low = nose_y + 0.05 + half_height * (1.0 if single else 0.85)
    curve = half_width * 0.62
    stem = np.linspace((0, drop), (0, low), 9)
    smile = opened([(0, low), (curve * 0.5, low + 0.055), (curve, low - 0.02)], 4)
    canvas.strands(np.stack([pose.place(s) for s in (stem, smile, smile * (-1, 1))]), 0.035, dark, 0.85)


def _eye(canvas: Canvas, pose: Pose, side: float) -> None:
    x, y, half = pose.animal.eye
    slant = pose.animal.slant * side
    shape = [
        (-1, 0.10),
        (-0.62, -0.52),
        (0, -0.80),
        (0.62, -0.58),
        (1.0, -0.02),
        (0.60, 0.52),
        (0, 0.70),
        (-0.60, 0.50),
    ]
    lids = rotate(closed(np.array(shape) * (side * half, half)), slant) + (side * x, y)
    center = np.array([side * x, y])
    outline = pose.place((lids - center) * 1.17 + center)
    canvas.over(canvas.fill(outline), linear("17100d"))
    ball = canvas.fill(pose.place(lids))
    middle = pose.place(center[None])[0]
    dx, dy = (ball.x - middle[0]) / half, (ball.y - middle[1]) / half
    rho = np.hypot(dx, dy)
    iris = linear(pose.coat.iris)
    fibre = 0.85 + 0.15 * np.sin(np.arctan2(dy, dx) * 23)
    glow = (0.35 + 0.9 * np.clip(0.5 + 0.75 * dy, 0, 1)) * fibre * np.clip(1.75 - 1.2 * rho, 0.15, 1)
    canvas.over(ball, iris * glow[..., None])
    wide = 0.62 if pose.animal.round_pupil else pose.pupil * 0.62
    pupil = canvas.fill(pose.place(ellipse(center, (half * wide, half * 0.66))))
    canvas.over(pupil.within(ball), linear("060505"))
    lid = canvas.soft(pose.place((lids - center) * (1.1, 0.55) + center - (0, 0.75 * half)), half * 0.5)
    canvas.darken(lid.within(ball), 0.75)
    toward = np.sign(pose.light.key[0])
    spark = canvas.fill(pose.place(ellipse(center + (toward * 0.30 * half, -0.34 * half), (0.20 * half, 0.17 * half))))
    canvas.over(spark, (1.6, 1.6, 1.65))
    low = canvas.soft(
        pose.place(ellipse(center + (-toward * 0.25 * half, 0.34 * half), (0.24 * half, 0.13 * half))), 0.12 * half
    )
    canvas.over(low.within(ball), (0.7, 0.75, 0.8), 0.35)


def _nose(canvas: Canvas, pose: Pose) -> None:
    y, half = pose.animal.nose
    shape = [(0, -0.55), (0.62, -0.62), (1.0, -0.30), (0.72, 0.30), (0.22, 0.72), (0, 0.80)]
    outline = closed([*shape, *[(-a, b) for a, b in shape[-2:0:-1]]]) * half + (0, y)
    pink = pose.animal is CAT and pose.stripe_phase < 0.6
    color = linear("c9746a") if pink else linear("241a18")
    patch = canvas.fill(pose.place(outline))
    form = relief(patch, half * 0.6)
    paint = lit(form, color, pose.light) + gloss(form, pose.light, 18)[..., None] * (0.25 if pink else 0.5)
    canvas.over(patch, paint)
    for side in (-1.0, 1.0):
        hole = pose.place(ellipse((side * half * 0.48, y + half * 0.18), (half * 0.24, half * 0.15), side * 0.5))
        canvas.over(canvas.soft(hole, half * 0.18), color * 0.06)


def _whiskers(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    count = 7
    reach = uniform(rng, 0.75, 1.0) * (0.35 if pose.animal in (BEAR, DOG) else 1.0)
    pale = np.broadcast_to(np.array([0.95, 0.93, 0.9]) * (0.5 if chance(rng, 0.1) else 1.0), (count, 3))
    for side in (-1.0, 1.0):
        roots = np.stack(
            [side * rng.uniform(0.12, 0.34, count), pose.animal.nose[0] + rng.uniform(0.06, 0.26, count)], -1
        )
        angle = rng.uniform(-0.28, 0.38, count)
        length = reach * rng.uniform(0.75, 1.15, count)
        t = np.linspace(0, 1, 8)[None, :]
        x = roots[:, :1] + side * np.cos(angle)[:, None] * length[:, None] * t
        y = roots[:, 1:] + np.sin(angle)[:, None] * length[:, None] * t + 0.16 * length[:, None] * t**2
        spine = np.stack([x, y], -1)
        canvas.strands(np.stack([pose.place(s) for s in spine]), 0.014, pale, 0.85)
