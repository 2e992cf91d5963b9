"""Branches that reach into the picture: maple, beech, fern. Leaves overlap, and the background shows between them."""

from dataclasses import dataclass

import numpy as np

from bokehsynth.imaging.pictures import Cutout
from bokehsynth.procedural.foregrounds.brush import Canvas, blend, draw, linear, palette
from bokehsynth.procedural.foregrounds.curves import lattice, lattice_noise, opened, ribbon, rotate
from bokehsynth.procedural.foregrounds.light import Light, draw_light
from bokehsynth.procedural.foregrounds.patch import Box, Patch
from bokehsynth.procedural.toolkit import FloatArray, Points, smoothstep
from bokehsynth.rng import chance, pick, uniform

CUT = -0.62
"""The branch comes in over this side (left; mirrored for half of the pictures)."""

PALETTES = (
    ("2f6b22", "4f8f2c", "86b23a", "1f4f22"),
    ("3d7a3a", "6fa545", "a7c957", "2a5a30"),
    ("c2371a", "e0701f", "f0b22e", "8f1f16"),
    ("d98a1c", "f0c23a", "b5471a", "93a238"),
    ("7f1d2b", "b0303a", "d9603a", "54142a"),
)
"""Summer, spring, and three autumns; hex sRGB."""


@dataclass(frozen=True)
class Leaf:
    """One leaf: where its stalk joins, which way it points, its length, how far it is turned away, its colours."""

    base: Points
    angle: float
    length: float
    narrow: float
    color: Points
    edge: Points
    shade: float
    lobed: bool


def draw_foliage(rng: np.random.Generator, size: int) -> Cutout:
    """A maple or beech branch or a fern, cut off at the left or right side; `size` pixels on its longer side."""
    kind = pick(rng, (_maple, _beech, _fern), (3, 3, 2))
    mirror = chance(rng, 0.5)
    cut = draw(kind, rng, size, Box(left=CUT))
    if not mirror:
        return cut
    return Cutout(np.ascontiguousarray(cut.color[:, ::-1]), np.ascontiguousarray(cut.alpha[:, ::-1]))


def _maple(canvas: Canvas, rng: np.random.Generator) -> None:
    _branch(canvas, rng, _maple_outline(), (0.34, 0.50, 17))


def _beech(canvas: Canvas, rng: np.random.Generator) -> None:
    _branch(canvas, rng, _beech_outline(), (0.26, 0.40, 34))


def _maple_outline() -> Points:
    """Five pointed lobes with teeth; the stalk at the origin, the tip at (0, -1)."""
    half = [
        (0.02, 0.02), (0.14, 0.05), (0.30, 0.08), (0.33, 0.02), (0.46, -0.02), (0.40, -0.10), (0.28, -0.20),
        (0.40, -0.26), (0.50, -0.25), (0.56, -0.33), (0.70, -0.38), (0.60, -0.44), (0.62, -0.52), (0.50, -0.52),
        (0.42, -0.54), (0.24, -0.46), (0.18, -0.50), (0.20, -0.62), (0.28, -0.68), (0.20, -0.76), (0.16, -0.76),
        (0.10, -0.88),
    ]  # fmt: skip
    right = np.array(half)
    corners = np.concatenate([right, [[0.0, -1.0]], right[::-1] * (-1, 1)])
    return np.concatenate([np.linspace(a, b, 3)[:-1] for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)])


def _beech_outline() -> Points:
    """A pointed oval with a slightly toothed edge."""
    t = np.linspace(0.0, 1.0, 30)
    width = 0.34 * np.sin(np.pi * t**0.85) ** 0.9 * (1 - 0.25 * t) + 0.008 * (np.arange(30) % 2) * np.sin(np.pi * t)
    right = np.stack([width, -t], -1)
    return np.concatenate([right, right[-2:0:-1] * (-1, 1)])


def _branch(canvas: Canvas, rng: np.random.Generator, outline: Points, leaves: tuple[float, float, int]) -> None:
    """A bent twig with side twigs and leaves along them, the far ones first and darker."""
    light = draw_light(rng)
    cells = lattice(rng)
    colors = palette(*pick(rng, PALETTES))
    rise, droop = uniform(rng, -0.35, 0.25), uniform(rng, -0.1, 0.25)
    spine = opened([(CUT - 0.1, 0.0), (-0.15, rise * 0.4), (0.35, rise), (0.85, rise + droop)], 14)
    twigs = [spine]
    for k in range(4):
        start = spine[10 + 7 * k]
        side = 1.0 if k % 2 else -1.0
        reach, lift = uniform(rng, 0.34, 0.52), uniform(rng, 0.30, 0.60)
        twigs.append(opened([start, start + (0.4 * reach, side * lift * 0.3), start + (reach, side * lift)], 10))
    count = leaves[2]
    plan = _leaves(rng, twigs, leaves, colors)
    bark = linear("5a4030")
    back, front = plan[: count // 3], plan[count // 3 :]
    for leaf in back:
        _leaf(canvas, leaf, outline, light, cells)
    for i, twig in enumerate(twigs):
        _twig(canvas, twig, 0.020 if i == 0 else 0.010, bark, light)
    for leaf in front:
        _leaf(canvas, leaf, outline, light, cells)


def _leaves(
    rng: np.random.Generator, twigs: list[Points], leaves: tuple[float, float, int], colors: list[Points]
) -> list[Leaf]:
    low, high, count = leaves
    plan = []
    for i in range(count):
        twig = twigs[i % len(twigs)]
        numbers = rng.random(8)
        place = 1.0 if i // len(twigs) == count // len(twigs) - 1 else 0.25 + 0.7 * numbers[0]
        at = min(int(place * (len(twig) - 1)), len(twig) - 2)
        along = twig[at + 1] - twig[at]
        side = 1.0 if numbers[1] < 0.5 else -1.0
        heading = np.arctan2(along[1], along[0]) + np.pi / 2 + side * (0.35 + 0.75 * numbers[2]) * (place < 1)
        base_color = colors[int(numbers[3] * 3)]
        color = blend((base_color, colors[int(numbers[4] * 4)]), 0.3 * numbers[5])
        depth = i / count
        plan.append(
            Leaf(
                base=twig[at],
                angle=float(heading + 0.25 * (numbers[6] - 0.5)),
                length=low + (high - low) * float(numbers[7]),
                narrow=0.55 + 0.45 * float(numbers[2]),
                color=color,
                edge=colors[int(numbers[6] * 4)],
                shade=0.50 + 0.5 * min(1.0, 1.6 * depth),
                lobed=high > 0.45,
            )
        )
    return plan


def _twig(canvas: Canvas, spine: Points, width: float, bark: Points, light: Light) -> None:
    half = np.linspace(width, 0.35 * width, len(spine))
    canvas.over(canvas.fill(ribbon(spine, half)), bark * 0.45)
    lit_side = spine + light.key[:2] * width * 0.45
    canvas.atop(canvas.fill(ribbon(lit_side, half * 0.55)), bark * 1.1)


def _leaf(canvas: Canvas, leaf: Leaf, outline: Points, light: Light, cells: FloatArray) -> None:
    """Stalk, shadow on what lies behind, blade with folded halves, veins and light that shines through."""
    stalk = 0.16 * leaf.length
    toward = rotate(np.array([[0.0, -1.0]]), leaf.angle)[0]
    foot = leaf.base + toward * stalk
    canvas.over(canvas.fill(ribbon(np.stack([leaf.base, foot]), 0.006)), leaf.edge * 0.5)
    flat = outline * (leaf.narrow, 1.0)
    curl = 0.10 * np.sin(leaf.angle * 3.0)
    flat[:, 0] += curl * flat[:, 1] ** 2
    shape = rotate(flat * leaf.length, leaf.angle) + foot
    canvas.darken(canvas.soft(shape + (-light.key[0] * 0.05, 0.05), 0.06), 0.45)
    patch = canvas.fill(shape)
    u, v = _blade(patch, leaf, foot, curl)
    canvas.over(patch, _blade_color(patch, (u, v), leaf, light, cells))


def _blade(patch: Patch, leaf: Leaf, foot: Points, curl: float) -> tuple[FloatArray, FloatArray]:
    """Leaf coordinates of each pixel: u across (0 on the midrib), v from stalk (0) to tip (1)."""
    c, s = np.float32(np.cos(leaf.angle) / leaf.length), np.float32(np.sin(leaf.angle) / leaf.length)
    dx, dy = patch.x - np.float32(foot[0]), patch.y - np.float32(foot[1])
    v = -(dy * c - dx * s)
    u = (dx * c + dy * s - np.float32(curl) * v * v) / np.float32(leaf.narrow)
    return np.asarray(u, np.float32), np.asarray(v, np.float32)


def _blade_color(
    patch: Patch, place: tuple[FloatArray, FloatArray], leaf: Leaf, light: Light, cells: FloatArray
) -> FloatArray:
    u, v = place
    across = np.abs(u)
    mottle = lattice_noise(cells, patch.x, patch.y, (14.0, 14.0), 2)
    tinge = smoothstep(0.1, 0.9, 0.9 * across + 0.55 * v + 0.22 * mottle - 0.25)
    albedo = leaf.color.astype(np.float32) + (leaf.edge - leaf.color).astype(np.float32) * tinge[..., None]
    # The halves are folded along the midrib, so one of them turns to the light.
    right = rotate(np.array([[1.0, 0.0]]), leaf.angle)[0]
    turn = np.float32(0.42 * np.sign(right @ light.key[:2])) * np.tanh(u * 14) * np.float32(abs(right @ light.key[:2]))
    ripple, fade = _palmate(across, v) if leaf.lobed else _pinnate(across, v)
    tone = 0.80 + turn + 0.07 * ripple + 0.25 * (0.5 - v) * np.float32(-light.key[1])
    veins = np.maximum(smoothstep(0.024, 0.006, across + 0.012 * v), 0.55 * smoothstep(0.86, 0.98, ripple) * fade)
    tone = tone * (1 + 0.55 * veins)
    shine = 0.10 * smoothstep(0.55, 1.0, tone + 0.1 * mottle)
    paint = albedo * (np.float32(1.35 * leaf.shade) * tone)[..., None] + np.float32(leaf.shade) * shine[..., None]
    return np.asarray(np.maximum(paint, 0.004), np.float32)


def _pinnate(across: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Side veins of an oval leaf: a wave that crests on them, and how strongly they show."""
    ripple = np.sin((v - across * np.float32(0.75)) * np.float32(2 * np.pi * 7))
    return ripple, smoothstep(0.42, 0.05, across)


def _palmate(across: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Main veins of a maple leaf, which fan out from the stalk into the lobes."""
    distance = np.full(across.shape, 9.0, np.float32)
    for angle in (0.0, 0.98, 1.75):
        along = np.maximum(v * np.float32(np.cos(angle)) + across * np.float32(np.sin(angle)), 0)
        aside = np.abs(v * np.float32(np.sin(angle)) - across * np.float32(np.cos(angle)))
        distance = np.minimum(distance, np.where(along > 0, aside + np.float32(0.010) * along, np.float32(9)))
    return np.cos(np.minimum(distance * 34, np.float32(np.pi))), smoothstep(1.1, 0.3, across)


def _fern(canvas: Canvas, rng: np.random.Generator) -> None:
    """Three fronds that arch out of one side, each with many small leaflets on both sides of its rib."""
    light = draw_light(rng)
    colors = palette(*pick(rng, PALETTES[:2] + PALETTES[3:4], (3, 3, 1)))
    fronds = 4
    for k in range(fronds):
        lift = (-0.62, 0.50, -0.10, 0.20)[k] + uniform(rng, -0.10, 0.10)
        reach = (1.15, 1.05, 1.45, 1.20)[k] * uniform(rng, 0.9, 1.05)
        sag = uniform(rng, 0.05, 0.30)
        start = (CUT - 0.12, 0.1 * lift)
        rib = opened(
            [start, (CUT + 0.35 * reach, 0.55 * lift), (CUT + 0.75 * reach, lift), (CUT + reach, lift + sag)], 24
        )
        _frond(canvas, rib, colors, (light, 0.55 + 0.15 * k), rng)


def _frond(
    canvas: Canvas, rib: Points, colors: list[Points], look: tuple[Light, float], rng: np.random.Generator
) -> None:
    """Pinnae along a rib; each is a row of leaflets, painted as two-tone strands."""
    light, shade = look
    pairs = 24
    for side in (-1.0, 1.0):
        spines, widths, tints = [], [], []
        numbers = rng.random((pairs, 4))
        for i in range(pairs):
            t = 0.16 + 0.83 * i / (pairs - 1)
            at = min(int(t * (len(rib) - 1)), len(rib) - 2)
            tangent = rib[at + 1] - rib[at]
            heading = np.arctan2(tangent[1], tangent[0]) + side * (1.12 - 0.35 * t + 0.12 * (numbers[i, 0] - 0.5))
            length = 0.34 * np.sin(np.pi * (0.10 + 0.88 * t)) ** 0.8 * (0.9 + 0.2 * numbers[i, 1]) + 0.02
            pinna = _pinna(rib[at], heading, length, side)
            tone = shade * (0.75 + 0.35 * numbers[i, 2]) * (1.25 if side * light.key[1] > 0 else 0.85)
            color = blend((colors[1], colors[int(numbers[i, 3] * 3)]), 0.7) * tone
            spines.append(pinna[0])
            widths.append(pinna[1])
            tints.append(color * np.linspace(0.75, 1.25, len(pinna[0]))[:, None])
        canvas.strands(np.concatenate(spines), np.concatenate(widths), np.concatenate(tints))
    canvas.over(canvas.fill(ribbon(rib, np.linspace(0.012, 0.003, len(rib)))), linear("5a5a24") * shade)
    canvas.atop(canvas.fill(ribbon(rib - (0, 0.003), np.linspace(0.005, 0.001, len(rib)))), linear("b9b86a") * shade)


def _pinna(base: Points, heading: float, length: float, side: float) -> tuple[Points, Points]:
    """Leaflets on both sides of a small rib: spines [N, 5, 2] and full widths [N, 5]."""
    count = 11
    t = np.linspace(0.08, 0.97, count)
    bend = heading - side * 0.35 * t
    roots = base + np.cumsum(np.stack([np.cos(bend), np.sin(bend)], -1), 0) * (length / count)
    size = 0.105 * length * (1 - t) ** 0.7 + 0.010
    steps = np.linspace(0, 1, 5)
    spines, widths = [], []
    for hand in (-1.0, 1.0):
        angle = bend + hand * 1.0
        out = np.stack([np.cos(angle), np.sin(angle)], -1)
        spines.append(roots[:, None] + out[:, None] * (size[:, None] * steps)[..., None])
        widths.append(size[:, None] * np.array([0.30, 0.46, 0.44, 0.30, 0.06]))
    mid = np.concatenate([base[None], roots])[np.linspace(0, count, 5).astype(int)]
    spines.append(mid[None])
    widths.append(np.full((1, 5), 0.035 * length + 0.002))
    return np.concatenate(spines), np.concatenate(widths)
