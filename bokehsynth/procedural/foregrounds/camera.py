"""A rangefinder camera: leather, satin metal and a big coated lens."""

import numpy as np

from bokehsynth.procedural.foregrounds.brush import Canvas, linear, palette
from bokehsynth.procedural.foregrounds.curves import ellipse, lattice, lattice_noise, rounded_box
from bokehsynth.procedural.foregrounds.light import Light, draw_light, gloss, lit, normals, relief, rim, studio
from bokehsynth.procedural.foregrounds.patch import Patch
from bokehsynth.procedural.toolkit import FloatArray, Points, smoothstep
from bokehsynth.rng import chance, pick, uniform


def paint_camera(canvas: Canvas, rng: np.random.Generator) -> None:
    """A camera from the front, 3 units wide and about 2 high."""
    light = draw_light(rng)
    cells = lattice(rng)
    black = chance(rng, 0.3)
    metal = linear("2b2c30") if black else linear("c4c6c8")
    leather = pick(rng, palette("26221f", "6b3a1e", "1f3b35", "5a1f22", "2a3550"), (4, 3, 1, 1, 1))
    lens = (uniform(rng, -0.12, 0.16), 0.16, uniform(rng, 0.66, 0.76))
    _knobs(canvas, metal, light)
    body = canvas.fill(rounded_box((0, 0.05), (1.5, 0.88), 0.26))
    _brushed(canvas, body, metal, light, cells)
    wrap = canvas.fill(rounded_box((0, 0.13), (1.5, 0.56), 0.02)).within(body)
    _hide(canvas, wrap, leather, light, cells)
    for y in (-0.43, 0.69):
        canvas.atop(canvas.fill(rounded_box((0, y), (1.5, 0.012), 0.006)), metal * 0.2)
    _windows(canvas, light)
    canvas.darken(canvas.soft(ellipse((lens[0] - light.key[0] * 0.22, lens[1] + 0.16), (lens[2], lens[2])), 0.25), 0.75)
    _lens(canvas, lens, light, linear("1c1d20") if chance(rng, 0.7) else linear("b9bbbe"))


def _brushed(canvas: Canvas, patch: Patch, color: Points, light: Light, cells: FloatArray) -> None:
    form = relief(patch, 0.16)
    satin = 1 + 0.035 * lattice_noise(cells, patch.x, patch.y, (3.0, 60.0))
    paint = lit(form, color * 0.72, light) * satin[..., None]
    sheen = 0.35 * smoothstep(0.1, -0.7, form[..., 1]) + 0.12 * gloss(form, light, 10)
    paint += sheen[..., None] * (0.15 + 0.85 * color)
    canvas.over(patch, paint + 0.4 * rim(form, light, 2.0))


def _hide(canvas: Canvas, patch: Patch, color: Points, light: Light, cells: FloatArray) -> None:
    """Grained leather: noise as a height field."""
    bumps = lattice_noise(cells, patch.x, patch.y, (26.0, 26.0), 2)
    step = float(patch.x[0, -1] - patch.x[0, 0]) / (patch.x.size - 1)
    down, across = np.gradient(bumps, step)
    form = normals(np.float32(0.011) * np.asarray(across), np.float32(0.011) * np.asarray(down))
    form[..., 0] += np.float32(0.5) * (patch.x / np.float32(1.5)) ** 7
    paint = lit(form, color * 0.9, light) + 0.10 * gloss(form, light, 12)[..., None]
    canvas.over(patch, paint)


def _knobs(canvas: Canvas, color: Points, light: Light) -> None:
    """Dials, shutter button and hot shoe on the top plate."""
    for x, y, half, high in (
        (-1.02, -0.90, 0.26, 0.12),
        (0.62, -0.89, 0.21, 0.10),
        (1.10, -0.88, 0.24, 0.09),
        (0.0, -0.86, 0.26, 0.05),
    ):
        patch = canvas.fill(rounded_box((x, y), (half, high), 0.03))
        s = np.clip((patch.x - x) / half, -0.98, 0.98) * np.ones_like(patch.y)
        form = np.stack([s, np.zeros_like(s), np.sqrt(1 - s * s)], -1).astype(np.float32)
        knurl = 0.78 + 0.22 * np.sin(np.arcsin(s) * (46 if high > 0.06 else 0))
        paint = lit(form, color * 0.7, light) * knurl[..., None] + (0.3 * studio(form, light))[..., None] * (
            0.2 + 0.8 * color
        )
        canvas.over(patch, paint)
    canvas.over(canvas.fill(rounded_box((0.62, -1.02), (0.10, 0.06), 0.03)), color * 0.9)


def _windows(canvas: Canvas, light: Light) -> None:
    """Viewfinder windows on the top plate, coated glass."""
    for x, half in ((-1.05, (0.24, 0.13)), (-0.38, (0.12, 0.09)), (0.95, (0.17, 0.12))):
        canvas.atop(canvas.fill(rounded_box((x, -0.62), np.add(half, 0.035), 0.05)), linear("0c0c0e"))
        pane = canvas.fill(rounded_box((x, -0.62), half, 0.03))
        sweep = smoothstep(-0.35, 0.45, (pane.x - x) * -np.sign(light.key[0]) + (pane.y + 0.62) * 1.2)
        sky = linear("9fb6d8") * (1 - sweep)[..., None] + linear("1a2136") * sweep[..., None]
        canvas.atop(pane, sky)


def _lens(canvas: Canvas, place: tuple[float, float, float], light: Light, barrel: Points) -> None:
    """Rings of the barrel outside in, then the front element with its coloured reflections."""
    cx, cy, r = place
    for outer, inner, color, round_ in (
        (1.0, 0.80, barrel, 0.9), (0.97, 0.93, linear("d0d2d4"), 0.9), (0.86, 0.70, barrel * 0.6, 0.6),
        (0.74, 0.60, linear("17181a"), -0.8), (0.62, 0.50, linear("0d0d0f"), -0.8),
    ):  # fmt: skip
        ring = canvas.fill(ellipse((cx, cy), (r * outer, r * outer), count=150))
        x, y = (ring.x - cx) / r, (ring.y - cy) / r
        rho = np.sqrt(x * x + y * y) + np.float32(1e-6)
        s = np.clip((rho - (outer + inner) / 2) / ((outer - inner) / 2), -0.97, 0.97) * np.float32(round_)
        form = np.stack([s * x / rho, s * y / rho, np.sqrt(1 - s * s)], -1).astype(np.float32)
        canvas.over(
            ring, lit(form, color * 0.8, light) + (0.35 * studio(form, light) * (0.2 + color.mean()))[..., None]
        )
    glass = canvas.fill(ellipse((cx, cy), (0.52 * r, 0.52 * r), count=120))
    x, y = (glass.x - cx) / (0.52 * r), (glass.y - cy) / (0.52 * r)
    rho = np.clip(np.sqrt(x * x + y * y), 0, 1)
    depth = rho[..., None]
    canvas.over(glass, linear("101425") * (0.3 + 0.9 * depth**2) + linear("2a1440") * (1 - depth) * 0.6)
    side = float(np.sign(light.key[0]))
    for px, py, rx, tint, power in (
        (0.34, -0.36, 0.36, "b9a6ff", 0.9),
        (-0.30, 0.34, 0.30, "ff9a5a", 0.55),
        (-0.10, 0.12, 0.16, "6fe0b0", 0.5),
        (0.16, 0.48, 0.14, "5a8cff", 0.6),
    ):
        spot = ellipse((cx + side * px * 0.52 * r, cy + py * 0.52 * r), (rx * 0.52 * r, rx * 0.36 * r), -side * 0.75)
        canvas.add(canvas.soft(spot, 0.10 * r).within(glass), linear(tint), power)
    spark = ellipse(
        (cx + side * 0.36 * 0.52 * r, cy - 0.42 * 0.52 * r), (0.16 * r * 0.52, 0.09 * r * 0.52), -side * 0.75
    )
    canvas.over(canvas.fill(spark), (2.2, 2.2, 2.3), 0.9)
