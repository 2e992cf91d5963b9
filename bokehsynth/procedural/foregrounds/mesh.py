"""Thin metal in front of everything: a chain-link fence, a bird cage, a bicycle wheel."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bokehsynth.imaging.pictures import Cutout
from bokehsynth.procedural.foregrounds.brush import Canvas, blend, draw, linear, palette
from bokehsynth.procedural.foregrounds.curves import ellipse, lattice, lattice_noise, ribbon
from bokehsynth.procedural.foregrounds.light import Light, draw_light, gloss, lit, relief, rim
from bokehsynth.procedural.foregrounds.patch import Box
from bokehsynth.procedural.toolkit import FloatArray, Points, smoothstep
from bokehsynth.rng import chance, pick, uniform

ROUND = 0.985
"""How sharp the bends of the fence are: 1 is a corner."""


def draw_mesh(rng: np.random.Generator, size: int) -> Cutout:
    """A chain-link panel (touches all four sides), a bird cage or a bicycle wheel; `size` = longer side in pixels."""
    aspect = uniform(rng, 0.66, 1.0)
    wide = chance(rng, 0.7)
    kind = pick(rng, ("fence", "cage", "wheel"), (4, 3, 2))
    if kind == "fence":
        panel = Box(0.0, 0.0, 1.0 if wide else aspect, aspect if wide else 1.0)
        return draw(lambda canvas, own: _fence(canvas, own, panel), rng, size, panel)
    return draw(_cage if kind == "cage" else _wheel, rng, size)


@dataclass(frozen=True)
class Wire:
    """Looks of the fence's wire and the slant of its weave."""

    pitch: float
    """Distance of neighbouring wires."""
    radius: float
    reach: float
    """How far a wire swings to each side: a little more than half the pitch, so that neighbours hook."""
    rise: float
    """Height of a full swing."""


@dataclass(frozen=True)
class Strand:
    """One wire of the weave as seen from each pixel [h, w]: offset in radii (signed), and height towards the viewer."""

    offset: FloatArray
    height: FloatArray
    slope: FloatArray


def _fence(canvas: Canvas, rng: np.random.Generator, panel: Box) -> None:
    light = draw_light(rng)
    cells = lattice(rng)
    pitch = uniform(rng, 0.11, 0.17)
    wire = Wire(pitch, pitch * uniform(rng, 0.046, 0.064), pitch * 0.535, pitch * uniform(rng, 1.7, 2.1))
    angle, lean, phase = uniform(rng, -0.07, 0.07), uniform(rng, -0.10, 0.10), rng.random(2)
    metal = pick(rng, palette("b9bec4", "8f959b", "4f7a58", "35383b", "c9ccd0"), (4, 2, 2, 1, 2))
    rust = uniform(rng, 0.0, 1.0) ** 2
    patch = canvas.whole(panel)
    bulge = lattice_noise(cells, patch.x, patch.y, (2.2, 2.2)) * np.float32(0.010)
    sag = lattice_noise(cells, patch.x + 9, patch.y + 4, (2.0, 2.0)) * np.float32(0.010)
    x = patch.x * np.cos(angle) + patch.y * np.sin(angle + lean) + bulge + pitch * phase[0]
    y = patch.y * np.cos(angle) - patch.x * np.sin(angle) + sag + pitch * phase[1]
    column = np.floor(x / pitch)
    near = [_weave(x, y, column + k, wire) for k in (0, 1)]
    front = near[0].height > near[1].height
    for first in (False, True):
        for k in (0, 1):
            mine = (front == (k == 0)) == first
            _wire(canvas, (panel, mine), near[k], (wire, light), (metal, rust, cells))


def _weave(x: FloatArray, y: FloatArray, column: FloatArray, wire: Wire) -> Strand:
    """Wire number `column` winds as a flattened helix: a zigzag with round bends, in front on its way back."""
    odd = column - 2 * np.floor(column / 2)
    turn = y / np.float32(wire.rise) + np.float32(0.5) * odd
    run = np.sin(2 * np.pi * turn)
    # The arc sine of a slightly shrunk cosine is a triangle wave with round tips.
    wave = np.float32(ROUND) * np.cos(2 * np.pi * turn)
    swing = np.float32(wire.reach / np.arcsin(ROUND))
    slope = -swing * np.float32(2 * np.pi * ROUND / wire.rise) * run / np.sqrt(1 - wave * wave)
    center = column * np.float32(wire.pitch) + swing * np.arcsin(wave)
    offset = (x - center) / np.sqrt(1 + slope * slope) / np.float32(wire.radius)
    return Strand(offset.astype(np.float32), run.astype(np.float32), slope.astype(np.float32))


def _wire(
    canvas: Canvas,
    where: tuple[Box, npt.NDArray[np.bool_]],
    strand: Strand,
    form: tuple[Wire, Light],
    metal: tuple[Points, float, FloatArray],
) -> None:
    """Paint one wire where it is (or is not) the nearer one, shaded as a cylinder."""
    panel, mine = where
    wire, light = form
    color, rust, cells = metal
    patch = canvas.whole(panel)
    edge = (1 - np.abs(strand.offset)) * np.float32(wire.radius * canvas.scale) + np.float32(0.5)
    cover = np.clip(edge, 0, 1)
    rows, cols = np.nonzero((cover > 0) & mine)
    if len(rows) == 0:
        return
    s = np.clip(strand.offset[rows, cols], -1, 1)
    slope = strand.slope[rows, cols]
    across = 1 / np.sqrt(1 + slope * slope)
    normal = np.stack([s * across, -s * slope * across, np.sqrt(1 - s * s * np.float32(0.96))], -1)
    stain = lattice_noise(cells, patch.x + 3, patch.y, (34.0, 34.0), 2)[rows, cols]
    spots = smoothstep(0.9 - 1.2 * rust, 1.8 - 1.2 * rust, stain) * min(1.0, 2 * rust)
    albedo = blend((color, linear("7a3d1c")), spots)
    shade = lit(normal, albedo, light, 0.1) + gloss(normal, light, 26)[:, None] * (1.5 - 1.2 * spots[:, None])
    grazing = (1 - normal[:, 2:]) ** 2
    shade += (0.5 * grazing + 1.5 * rim(normal, light, 1.5)) * albedo
    behind = 0.62 + 0.38 * smoothstep(-0.6, 0.5, strand.height[rows, cols])
    cover, alpha = cover[rows, cols], canvas.alpha[rows, cols]
    canvas.rgb[rows, cols] = canvas.rgb[rows, cols] * (1 - cover)[:, None] + (shade * behind[:, None]) * cover[:, None]
    canvas.alpha[rows, cols] = alpha + cover * (1 - alpha)


def _tube(canvas: Canvas, spine: Points, radius: float, metal: tuple[Points, Light], dim: float = 1.0) -> None:
    """A thin rod along a spine [P, 2]: dark body, a lit flank and a sharp line of light."""
    color, light = metal
    canvas.over(canvas.fill(ribbon(spine, radius)), color * 0.50 * dim)
    toward = light.key[:2] / np.linalg.norm(light.key[:2])
    for share, width, tone in ((0.22, 0.72, 0.75), (0.38, 0.40, 1.35), (0.46, 0.16, 3.2)):
        canvas.atop(canvas.fill(ribbon(spine + toward * share * radius, radius * width)), color * tone * dim)


def _cage(canvas: Canvas, rng: np.random.Generator) -> None:
    """A domed cage: bars behind, a swing, rings, bars in front, a hook on top."""
    light = draw_light(rng)
    metal = pick(rng, palette("d9b25a", "c8ccd2", "ece7dc", "b8723c", "8fa7a0"), (4, 3, 2, 2, 1))
    half, dome, floor = uniform(rng, 0.33, 0.40), uniform(rng, 0.34, 0.46), 1.06
    bars = 9 + int(rng.integers(4))
    wire = uniform(rng, 0.0058, 0.0078)
    look = (metal, light)
    turn = (np.arange(2 * bars) + 0.37) * np.pi / bars
    for back in (True, False):
        for angle in turn[(np.sin(turn) < 0) == back]:
            _tube(
                canvas, _bar(half * np.cos(angle), half * np.sin(angle), dome, floor), wire, look, 0.5 if back else 1.0
            )
        arc = np.linspace(np.pi, 2 * np.pi, 40) if back else np.linspace(0, np.pi, 40)
        for y, thick in ((dome, 1.3), (0.5 * (dome + floor), 1.0), (floor, 2.2)):
            ring = np.stack([half * np.cos(arc), y + 0.13 * half * np.sin(arc)], -1)
            _tube(canvas, ring, wire * thick, look, 0.5 if back else 1.0)
        if back:
            _swing(canvas, (dome, half, floor), wire, look)
    tray = np.concatenate([np.stack([half * 1.03 * np.cos(a), 1.06 + 0.13 * half * np.sin(a) + d], -1) for a, d in
                           ((np.linspace(0, np.pi, 30), 0.05), (np.linspace(np.pi, 0, 30), 0.0))])  # fmt: skip
    patch = canvas.fill(tray)
    form = np.stack(
        [
            patch.x / half * np.ones_like(patch.y),
            0 * patch.x * patch.y,
            np.sqrt(np.clip(1.07 - (patch.x / half) ** 2, 0.02, 1)) * np.ones_like(patch.y),
        ],
        -1,
    )
    canvas.over(patch, lit(form, metal * 0.8, light, 0.0) + 0.9 * gloss(form, light, 12)[..., None] * metal)
    hook = ellipse((0, -0.055), (0.045, 0.055), count=40)
    _tube(canvas, np.concatenate([hook, hook[:2]]), wire * 1.2, look)
    knob = canvas.fill(ellipse((0, 0.01), (0.04, 0.028)))
    canvas.over(knob, lit(relief(knob, 0.025), metal, light) + gloss(relief(knob, 0.025), light, 20)[..., None])


def _bar(x: float, depth: float, dome: float, floor: float) -> Points:
    """A bar that stands at (x, depth) on the floor and runs over the dome to the top."""
    t = np.linspace(0, np.pi / 2, 22)
    bend = np.stack([x * np.sin(t), dome - dome * np.cos(t) + 0.13 * depth * np.sin(t)], -1)
    return np.concatenate([bend, [[x, floor + 0.13 * depth]]])


def _swing(canvas: Canvas, cage: tuple[float, float, float], wire: float, look: tuple[Points, Light]) -> None:
    dome, half, floor = cage
    seat = dome + 0.55 * (floor - dome) * 0.5
    for side in (-1, 1):
        _tube(canvas, np.array([[side * 0.02, 0.06], [side * 0.3 * half, seat]]), wire * 0.7, look, 0.8)
    _tube(canvas, np.array([[-0.36 * half, seat], [0.36 * half, seat]]), wire * 2.2, (linear("a5713e"), look[1]))


def _wheel(canvas: Canvas, rng: np.random.Generator) -> None:
    """A bicycle wheel nearly from the side: tyre, rim, crossed spokes, hub."""
    light = draw_light(rng)
    turn, narrow = uniform(rng, 0, 1), uniform(rng, 0.72, 1.0)
    wall = pick(rng, palette("26262a", "b98a58", "3a2a22", "7a2a24"), (4, 2, 1, 1))
    count = 28 if chance(rng, 0.5) else 36
    squeeze = np.array([narrow, 1.0])
    _annulus(canvas, (1.0, 0.915), squeeze, wall * 0.75, (light, 6.0, 0.25))
    _annulus(canvas, (0.925, 0.862), squeeze, linear("c6cad0"), (light, 24.0, 1.3))
    steel = linear("c9cdd3")
    spokes = []
    for i in range(count):
        at = 2 * np.pi * (i + turn) / count
        hub = at + (0.95 if i % 4 < 2 else -0.95) + (0.1 if i % 2 else 0.0)
        ends = [0.10 * np.array([np.cos(hub), np.sin(hub)]), 0.872 * np.array([np.cos(at), np.sin(at)])]
        spokes.append(np.array(ends) * squeeze)
    for i, spoke in enumerate(spokes):
        _tube(canvas, spoke, 0.0062, (steel, light), 0.55 if i % 2 else 1.0)
    _annulus(canvas, (0.125, 0.085), squeeze, steel, (light, 20.0, 1.2))
    hub_patch = canvas.fill(ellipse((0, 0), squeeze * 0.09))
    form = relief(hub_patch, 0.07)
    canvas.over(hub_patch, lit(form, linear("3b3e44"), light) + gloss(form, light, 25)[..., None])


def _annulus(
    canvas: Canvas, radii: tuple[float, float], squeeze: Points, color: Points, look: tuple[Light, float, float]
) -> None:
    """A ring with a round cross-section (tyre, rim, flange)."""
    light, sharpness, shine = look
    outer, inner = radii
    patch = canvas.fill(ellipse((0, 0), squeeze * outer, count=160), ellipse((0, 0), squeeze * inner, count=160))
    x, y = patch.x / np.float32(squeeze[0]), patch.y
    rho = np.sqrt(x * x + y * y) + np.float32(1e-6)
    s = np.clip((rho - (outer + inner) / 2) / ((outer - inner) / 2), -1, 1)
    normal = np.stack([s * x / rho, s * y / rho, np.sqrt(1.02 - s * s)], -1).astype(np.float32)
    canvas.over(patch, lit(normal, color, light, 0.1) + shine * gloss(normal, light, sharpness)[..., None])
