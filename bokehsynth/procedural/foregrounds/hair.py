"""Hair of a person: locks behind the head, strands combed from a parting, and a few loose ones."""

from dataclasses import dataclass

import numpy as np

from bokehsynth.procedural.foregrounds.brush import Canvas
from bokehsynth.procedural.foregrounds.curves import closed, mirrored
from bokehsynth.procedural.foregrounds.person import Face
from bokehsynth.procedural.toolkit import Points
from bokehsynth.rng import chance, uniform


def paint_back_hair(canvas: Canvas, face: Face, style: str, rng: np.random.Generator) -> None:
    """What hangs behind neck and shoulders."""
    end = {"long": uniform(rng, 1.75, 2.2), "bob": uniform(rng, 0.85, 1.15), "curly": 0.75}.get(style, 0.0)
    if style == "bun":
        _bun(canvas, face, rng)
    if end == 0.0 or (style == "curly" and face.masculine):
        return
    wide = face.width + 0.17
    shape = mirrored(
        [
            (0, -1.08),
            (0.5, -1.0),
            (wide * 0.94, -0.5),
            (wide, 0.2),
            (wide * 1.02, 0.75 * end),
            (wide * 0.92, end),
            (0, end * 0.98),
        ]
    )
    shape[:, 1] *= np.where(shape[:, 1] > 0.3, 0.93, 1.0)
    canvas.over(canvas.fill(shape * (0.93, 0.96)), face.hair * 0.25)
    if style == "curly":
        return
    count = 320
    u = rng.uniform(-1, 1, count)
    top = np.stack([u * wide * 0.9, np.full(count, -0.2)], -1)
    flip = uniform(rng, -0.12, 0.16)
    spines = _fall(top, u * wide, end * rng.uniform(0.86, 1.06, count), flip, rng)
    _lay(canvas, spines, face, rng, 0.7)


def paint_front_hair(canvas: Canvas, face: Face, style: str, rng: np.random.Generator) -> None:
    """What grows from the crown over the forehead and down the sides."""
    if style == "curly":
        _curls(canvas, face, rng)
    elif style in ("short", "crop"):
        _short(canvas, face, style, rng)
    elif style == "bun":
        _tied(canvas, face, rng)
    else:
        _parted(canvas, face, style, rng)


def _fall(start: Points, x_end: Points, y_end: Points, flip: float, rng: np.random.Generator) -> Points:
    """Strands [N, 9, 2] that hang from `start` to the given ends in a slight wave."""
    t = np.linspace(0, 1, 9)[None, :]
    phase = np.round(start[:, :1] * 5) * 1.7
    wave = 0.035 * np.sin(2 * np.pi * (1.2 * t + 0.1 * phase)) * t
    x = start[:, :1] + (x_end[:, None] - start[:, :1]) * np.sqrt(t) + wave + flip * np.sign(x_end)[:, None] * t**3
    x += rng.normal(0, 0.02, len(start))[:, None] * t
    y = start[:, 1:] + (y_end[:, None] - start[:, 1:]) * t
    return np.stack([x, y], -1)


def _lay(canvas: Canvas, spines: Points, face: Face, rng: np.random.Generator, dim: float = 1.0) -> None:
    """Paint strands with a bright band where they turn to the light (hair shines across its strands)."""
    count, steps = len(spines), len(spines[0])
    around = np.clip(spines[..., 0] / (face.width + 0.16), -1.1, 1.1)
    lock = np.round(spines[:, -1, 0] * 8 + spines[:, 0, 1] * 5)
    shift = 0.09 * np.sin(lock * 2.3) + rng.normal(0, 0.05, count)
    height = (spines[..., 1] + 0.80 - 0.35 * around**2 + shift[:, None]) / 0.17
    band = np.exp(-(height**2)) + 0.40 * np.exp(-(((spines[..., 1] - 0.75 + 2 * shift[:, None]) / 0.32) ** 2))
    side = np.clip(0.66 + 0.42 * around * float(np.sign(face.light.key[0])), 0.22, 1.1)
    edge = 2.4 * np.clip(np.abs(around) - 0.72, 0, 1) * np.equal(np.sign(around), np.sign(face.light.rim[0]))
    tone = (side + edge) * np.exp(rng.normal(0, 0.20, count) + 0.20 * np.sin(lock * 3.9))[:, None] * dim
    color = face.hair * tone[..., None] + (0.06 + 0.60 * face.hair) * np.asarray(band * side)[..., None] * 0.60 * dim
    widths = (
        0.024 * rng.uniform(0.6, 1.2, count)[:, None] * np.sqrt(np.clip(1.04 - np.linspace(0, 1, steps) ** 3, 0, 1))
    )
    canvas.strands(spines, widths, color[:, :-1])


def _cap(face: Face, lift: float) -> Points:
    """The crown of the hair: over the skull, down to the temples, hairline in front."""
    w = face.width + lift
    right = [(0.5, -0.95 - lift), (w * 0.94, -0.55), (w, -0.05), (w * 0.93, 0.05), (0.62, -0.35), (0.35, -0.62)]
    return mirrored([(0, -1.02 - lift), *right, (0, -0.66)])


@dataclass(frozen=True)
class Comb:
    """How hair is combed: where it parts, how far it stands off the skull, where it ends, how far ends turn in."""

    part: float
    lift: float
    end: float
    ragged: float
    turn_in: float


def _parted(canvas: Canvas, face: Face, style: str, rng: np.random.Generator) -> None:
    """Long hair or a bob, combed from a parting to both sides."""
    part = uniform(rng, 0.06, 0.30) * (1 if chance(rng, 0.5) else -1)
    long, short = uniform(rng, 1.45, 2.05), uniform(rng, 0.75, 1.05)
    _undercoat(canvas, face, 0.12)
    comb = Comb(
        part, 0.15, long if style == "long" else short, 0.16, 0.10 if style == "long" else uniform(rng, -0.06, 0.16)
    )
    _comb(canvas, face, comb, 380, rng)
    _flyaway(canvas, face, rng, 26)


def _short(canvas: Canvas, face: Face, style: str, rng: np.random.Generator) -> None:
    """Short hair: combed from the side with some volume, or cropped close."""
    part = uniform(rng, 0.20, 0.42) * (1 if chance(rng, 0.5) else -1)
    _undercoat(canvas, face, 0.05)
    _comb(canvas, face, Comb(part, 0.09 if style == "short" else 0.045, 0.02, 0.10, 0.02), 420, rng)
    _flyaway(canvas, face, rng, 22)


def _undercoat(canvas: Canvas, face: Face, lift: float) -> None:
    """A shadow on the forehead, then a dark cap that fills the gaps between strands."""
    canvas.darken(canvas.soft(_cap(face, lift) + (0, 0.07), 0.16), 0.35, face.blush * 0.5)
    canvas.over(canvas.fill(_cap(face, lift)), face.hair * 0.35)


def _comb(canvas: Canvas, face: Face, comb: Comb, count: int, rng: np.random.Generator) -> None:
    """Strands over the skull to either side of the parting and straight down from there; the front ones last."""
    for side in (-1.0, 1.0):
        v = np.sort(rng.random(count))[:, None]
        noise = rng.normal(0, 1, (3, count, 1))
        fall = rng.random((count, 1))
        t = np.linspace(0, 1, 12)[None, :]
        arc = np.clip(t / 0.55, 0, 1) * (np.pi / 2)
        start = np.concatenate([comb.part + 0.02 * noise[0], -1.03 - comb.lift + (0.38 + comb.lift) * v], 1)
        reach = np.abs(side * (face.width + comb.lift) * (1.03 - 0.09 * v) - start[:, :1])
        turn = -0.12 + 0.30 * v**2
        end = comb.end * (1 - comb.ragged * fall) if comb.end > 0.3 else comb.end + comb.ragged * (fall - 0.5)
        down = np.clip((t - 0.40) / 0.60, 0, 1) ** 1.25
        x = start[:, :1] + side * reach * np.sin(arc)
        y = (
            start[:, 1:]
            + (turn - start[:, 1:]) * (1 - np.cos(arc) + 0.34 * v * (np.sin(arc) - 1 + np.cos(arc)))
            + (end - turn) * down
        )
        wave = 0.05 * np.sin(5.0 * y + 3 * v) * np.clip(y - 0.1, 0, 1) + 0.02 * noise[1] * t
        x = x + side * wave - side * comb.turn_in * np.clip(down - 0.55, 0, 1) ** 2 * 4
        y = y + 0.018 * noise[2] * np.sin(arc)
        _lay(canvas, np.stack([x, y], -1), face, rng)


def _tied(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """Hair drawn back from the hairline to a knot on the crown."""
    _undercoat(canvas, face, 0.06)
    count = 720
    u = rng.uniform(-1, 1, count)
    order = np.argsort(-np.abs(u))
    u = u[order][:, None]
    depth = rng.random((count, 1)) ** 1.5
    t = np.linspace(0, 1, 10)[None, :]
    angle = u * 1.72 * (1 - 0.93 * t)
    hairline = 0.64 + 0.34 * np.abs(u) ** 1.6
    radius = hairline + (1.08 - hairline) * np.clip(depth + t * (1 - depth), 0, 1) ** 0.85
    x = np.sin(angle) * radius * (face.width + 0.05)
    y = -np.cos(angle) * radius * 1.06
    _lay(canvas, np.stack([x, y], -1), face, rng)
    _flyaway(canvas, face, rng, 26)


def _curls(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """A cloud of ringlets around the head."""
    _undercoat(canvas, face, 0.12 if face.masculine else 0.17)
    count = 380 if face.masculine else 500
    low = 0.1 if face.masculine else 0.85
    span = 1.75 if face.masculine else 2.45
    u = rng.uniform(-1, 1, count)
    v = rng.random(count)
    order = np.argsort(-v)
    u, v = u[order], v[order]
    angle = u * span
    inner = 0.68 + 0.17 * np.abs(u)
    radius = inner + ((1.24 if not face.masculine else 1.12) - inner) * v
    center = np.stack([np.sin(angle) * radius * (face.width + 0.12), -np.cos(angle) * radius * 1.05 + 0.10 * low], -1)
    t = np.linspace(0, 1, 13)[None, :]
    turns = rng.uniform(1.0, 1.8, count)[:, None]
    size = rng.uniform(0.05, 0.095, count)[:, None] * (1 - 0.25 * t)
    phase = rng.uniform(0, 2 * np.pi, count)[:, None]
    hand = np.where(rng.random(count) < 0.5, -1.0, 1.0)[:, None]
    x = center[:, :1] + size * np.cos(phase + hand * turns * 2 * np.pi * t) + 0.03 * np.sin(angle)[:, None] * t
    y = center[:, 1:] + size * np.sin(phase + hand * turns * 2 * np.pi * t) + 0.10 * t
    _lay(canvas, np.stack([x, y], -1), face, rng)
    _flyaway(canvas, face, rng, 20)


def _bun(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """A knot on top of the head."""
    count = 260
    angle = np.sort(rng.uniform(0, 2 * np.pi, count))
    t = np.linspace(0, 1, 10)[None, :]
    radius = 0.36 * np.sqrt(rng.uniform(0.05, 1.0, count))[:, None] * (1 + 0.03 * np.sin(6 * t))
    turn = angle[:, None] + 1.9 * t
    spine = np.stack([radius * np.cos(turn) * 1.05, -1.24 + radius * np.sin(turn) * 0.88], -1)
    canvas.over(canvas.fill(closed([(0.34, -1.24), (0, -1.54), (-0.34, -1.24), (0, -0.9)])), face.hair * 0.3)
    _lay(canvas, spine, face, rng)


def _flyaway(canvas: Canvas, face: Face, rng: np.random.Generator, count: int) -> None:
    """A few loose hairs around the outline."""
    angle = rng.uniform(-1.7, 1.7, count)
    w = face.width + 0.12
    root = np.stack([np.sin(angle) * w, -np.cos(angle) * 1.08], -1)
    t = np.linspace(0, 1, 10)[None, :, None]
    out = root / np.linalg.norm(root, axis=1, keepdims=True)
    along = np.stack([-out[:, 1], out[:, 0]], -1) * np.sign(angle)[:, None]
    length = rng.uniform(0.12, 0.32, count)[:, None, None]
    spine = root[:, None] + length * (0.26 * out[:, None] * np.sin(2.2 * t) + along[:, None] * t)
    canvas.strands(spine, 0.007, np.broadcast_to(face.hair * 0.9 + 0.01, (count, 3)))
