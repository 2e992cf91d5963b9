"""Eyes, lids, lashes, brows and glasses of a portrait."""

import numpy as np

from bokehsynth.procedural.foregrounds.brush import Canvas, blend, linear
from bokehsynth.procedural.foregrounds.curves import closed, ellipse, opened, ribbon, rotate
from bokehsynth.procedural.foregrounds.light import lit
from bokehsynth.procedural.foregrounds.patch import Patch
from bokehsynth.procedural.foregrounds.person import EYE_HALF, EYE_X, EYE_Y, Face
from bokehsynth.procedural.toolkit import Points, smoothstep


def paint_eye(canvas: Canvas, face: Face, side: float) -> None:
    """Eyeball with its own shadow, iris, catchlight, lids and lashes."""
    center = face.at(side * EYE_X, EYE_Y)
    half = EYE_HALF
    high = 0.55 if not face.masculine else 0.47
    almond = [(-1.0, 0.10), (-0.62, -0.84 * high), (0.0, -1.15 * high), (0.62, -0.80 * high), (1.04, -0.06)]
    almond += [(0.62, 0.62 * high), (0.0, 0.80 * high), (-0.62, 0.52 * high)]
    lids = closed(almond) * (side * half, half) + center
    socket = canvas.soft(ellipse(center + (0, -0.05), (half * 1.15, half * 0.75)), 0.12)
    canvas.darken(socket, 0.22, face.blush)
    ball = canvas.fill(lids)
    canvas.over(ball, lit(np.array([0.0, -0.1, 0.99]), linear("f1ebe6"), face.light, 0.5) * 0.80)
    place = center + (0.10 * face.turn, -0.012)
    rho = np.sqrt((ball.x - place[0]) ** 2 + (ball.y - place[1]) ** 2) / np.float32(half * 0.63)
    iris = canvas.fill(ellipse(place, (half * 0.63, half * 0.63))).within(ball)
    rho = np.sqrt((iris.x - place[0]) ** 2 + (iris.y - place[1]) ** 2) / np.float32(half * 0.63)
    depth = (0.55 + 0.75 * smoothstep(-0.5, 0.9, (iris.y - place[1]) / half)) * smoothstep(1.12, 0.80, rho)
    canvas.over(iris, face.iris * (depth + 0.12)[..., None])
    canvas.over(canvas.fill(ellipse(place, (half * 0.27, half * 0.27))).within(ball), (0.006, 0.005, 0.005))
    upper = canvas.soft((lids - center) * (1.1, 0.5) + center - (0, 0.62 * half * high / 0.5), 0.07)
    canvas.darken(upper.within(ball), 0.55)
    toward = float(np.sign(face.light.key[0]))
    canvas.over(
        canvas.fill(ellipse(place + (toward * 0.20 * half, -0.22 * half), (0.13 * half, 0.13 * half))),
        (1.3, 1.3, 1.3),
        0.95,
    )
    _lids(canvas, face, lids, (center, side))


def _lids(canvas: Canvas, face: Face, lids: Points, where: tuple[Points, float]) -> None:
    center, side = where
    half = len(lids) // 2
    top, low = lids[: half + 1], np.concatenate([lids[half:], lids[:1]])
    dark = blend((face.hair * 0.35, linear("1a0f0b")), 0.6)
    weight = 0.016 if face.masculine else 0.024
    spine = np.stack([np.interp(np.linspace(0, half, 24), np.arange(half + 1), top[:, i]) for i in (0, 1)], -1)
    thick = weight * (0.45 + 0.75 * np.linspace(0, 1, 24))
    canvas.over(canvas.fill(ribbon(spine, thick * 0.6)), dark, 0.95)
    canvas.darken(canvas.fill(ribbon(low, 0.006)), 0.35, face.blush)
    crease = (spine - center) * (1.06, 1.25) + center - (0, 0.036)
    canvas.darken(canvas.fill(ribbon(crease, 0.011 * np.sin(np.linspace(0.3, 2.9, 24)))), 0.42, face.blush * 0.8)
    if face.masculine:
        return
    roots = spine[6::2]
    out = np.stack(
        [np.full(len(roots), side * 0.3) + side * np.linspace(-0.1, 0.75, len(roots)), np.full(len(roots), -0.8)], -1
    )
    t = np.linspace(0, 1, 5)[None, :, None]
    lashes = roots[:, None] + out[:, None] * t * 0.055 + np.array([0, -0.012]) * t**2
    canvas.strands(lashes, 0.011, np.broadcast_to(dark, (len(roots), 3)))


def paint_brow(canvas: Canvas, face: Face, side: float, rng: np.random.Generator) -> None:
    """An arch of short hairs over a soft shade of their colour."""
    count = 80
    u = rng.random(count)
    lift = 0.025 * face.brow
    arch = opened([(-0.17, 0.025), (-0.02, -0.045 - lift), (0.11, -0.045 - lift), (0.21, 0.02)], 8)
    at = u * (len(arch) - 1)
    line = np.stack([np.interp(at, np.arange(len(arch)), arch[:, i]) for i in (0, 1)], -1)
    thick = (0.034 if face.masculine else 0.022) * np.sin(np.clip(0.35 + 2.6 * u, 0, np.pi)) ** 0.5
    line[:, 1] += thick * rng.uniform(-1, 1, count)
    middle = face.at(side * EYE_X, EYE_Y - (0.215 if face.masculine else 0.245))
    out = np.stack([0.75 + 0.25 * u, -0.55 + 0.95 * u], -1) + rng.normal(0, 0.06, (count, 2))
    t = np.linspace(0, 1, 4)[None, :, None]
    hairs = (line[:, None] + out[:, None] * t * 0.055) * (side, 1.0) + middle
    shade = np.exp(rng.normal(-0.35, 0.2, count))[:, None]
    base = face.hair * min(0.75, 0.22 / float(face.hair.max())) + 0.004
    body = np.concatenate([arch + (0, -0.012), arch[::-1] + (0, 0.016)]) * (side, 1.0) + middle
    canvas.over(canvas.soft(body, 0.03), base, 0.6)
    canvas.strands(hairs, 0.011, base * shade)


def paint_glasses(canvas: Canvas, face: Face) -> None:
    """Round frames, their shadow, and a glint on each glass."""
    frame = linear("1a1614") if face.brow > 0 else linear("6b3a1c")
    toward = face.light.key[0]
    places = [face.at(side * EYE_X, EYE_Y + 0.03) for side in (-1.0, 1.0)]
    streak = rotate(np.array([[-0.10, -0.03], [0.12, -0.03], [0.12, 0.03], [-0.10, 0.03]]), -0.7)
    for side, place in zip((-1.0, 1.0), places, strict=True):
        canvas.darken(_rim(canvas, place + (0.0, 0.018), 0.018), 0.3)
        canvas.over(_rim(canvas, place, 0.018), frame)
        canvas.over(_rim(canvas, place + (0.005 * toward, -0.006), 0.005), frame * 3 + 0.12)
        canvas.atop(canvas.soft(streak + place + (0.12 * toward, -0.08), 0.03), (1.0, 1.0, 1.0), 0.16)
        temple = np.array([place + (side * 0.25, -0.03), [side * (face.width + 0.02), EYE_Y - 0.02]])
        canvas.over(canvas.fill(ribbon(temple, 0.015)), frame)
    left, right = places
    bridge = opened([left + (0.24, -0.02), (left + right) / 2 + (0, -0.055), right + (-0.24, -0.02)], 8)
    canvas.over(canvas.fill(ribbon(bridge, 0.015)), frame)


def _rim(canvas: Canvas, place: Points, thick: float) -> Patch:
    outer, inner = (ellipse(place, (0.245 + d, 0.225 + d)) for d in (thick, -thick))
    return canvas.fill(outer, inner)
