"""Translucent things: wine glasses, bottles and soap bubbles. Their alpha is partial nearly everywhere."""

import numpy as np
import numpy.typing as npt

from bokehsynth.imaging.pictures import Cutout
from bokehsynth.procedural.foregrounds.brush import Canvas, draw, linear, palette
from bokehsynth.procedural.foregrounds.curves import ellipse, lattice, lattice_noise, opened, ribbon
from bokehsynth.procedural.foregrounds.light import Light, draw_light, turned
from bokehsynth.procedural.toolkit import FloatArray, Points, smoothstep
from bokehsynth.rng import pick, uniform

SQUASH = 0.16
"""Height of a horizontal circle over its width: the camera looks slightly down."""


def draw_glass(rng: np.random.Generator, size: int) -> Cutout:
    """A wine glass, a bottle or a cluster of soap bubbles; `size` pixels on its longer side."""
    return draw(pick(rng, (_wine_glass, _bottle, _bubbles)), rng, size)


def _profile(knots: npt.ArrayLike) -> tuple[Points, Points]:
    """Levels (ascending) and radii of a smooth profile through (radius, y) knots from top to bottom."""
    curve = opened(knots, 40)
    levels = np.linspace(curve[0, 1], curve[-1, 1], 400)
    rising = np.maximum.accumulate(curve[:, 1])
    radii = np.pad(np.interp(levels, rising, curve[:, 0]), 5, mode="edge")
    # Reflections show the slope, so the profile must be smooth in its slope too.
    return levels, np.maximum(np.convolve(radii, np.hanning(13)[1:-1] / 6, mode="valid"), 0.004)


def _outline(levels: Points, radii: Points, squash: float = SQUASH) -> Points:
    """The silhouette of a turned body with an elliptic top and foot."""
    arc = np.linspace(0, np.pi, 24)[1:-1]
    foot = np.stack([radii[-1] * np.cos(arc), levels[-1] + squash * radii[-1] * np.sin(arc)], -1)
    lid = np.stack([-radii[0] * np.cos(arc), levels[0] - squash * radii[0] * np.sin(arc)], -1)
    right, left = np.stack([radii, levels], -1), np.stack([-radii, levels], -1)[::-1]
    return np.concatenate([right, foot, left, lid])


def _wine_glass(canvas: Canvas, rng: np.random.Generator) -> None:
    light = draw_light(rng)
    mouth, belly, depth = uniform(rng, 0.15, 0.21), uniform(rng, 0.23, 0.30), uniform(rng, 0.44, 0.56)
    foot = uniform(rng, 0.20, 0.25)
    knots = [
        (mouth, 0.0), (0.5 * (mouth + belly) + 0.02, 0.22 * depth), (belly, 0.52 * depth), (belly * 0.80, 0.80 * depth),
        (belly * 0.30, 0.97 * depth), (0.022, depth + 0.06), (0.017, 0.75), (0.022, 0.90), (0.07, 0.945), (foot, 0.975),
    ]  # fmt: skip
    levels, radii = _profile(knots)
    level, wine = uniform(rng, 0.42, 0.62) * depth, pick(rng, ("red", "white", "rose", "empty"), (5, 3, 3, 1))
    base = canvas.fill(ellipse((0, 0.975), (foot, SQUASH * foot)))
    canvas.over(base, (0.55, 0.58, 0.6), 0.34)
    _rings(canvas, (0, 0.975), foot, 0.008, 0.75)
    _shell(canvas, levels, radii, light, linear("dfe8ea"), 0.17)
    if wine != "empty":
        _liquid(canvas, (levels, radii * 0.955), (level, depth), wine, light)
    _rings(canvas, (0, 0.0), mouth, 0.006, 0.7)
    _highlights(canvas, levels, radii, light, (0.10 * depth, 0.86 * depth))
    spark = ellipse((np.sign(light.key[0]) * foot * 0.55, 0.975 + 0.55 * SQUASH * foot), (foot * 0.22, 0.006), -0.2)
    canvas.over(canvas.soft(spark, 0.008), (2.4, 2.4, 2.4), 0.8)


def _bottle(canvas: Canvas, rng: np.random.Generator) -> None:
    light = draw_light(rng)
    wide, neck = uniform(rng, 0.145, 0.19), uniform(rng, 0.05, 0.062)
    shoulder = uniform(rng, 0.36, 0.48)
    knots = [
        (neck * 1.18, 0.0), (neck * 1.20, 0.035), (neck * 1.02, 0.048), (neck, 0.10), (neck * 1.05, shoulder - 0.14),
        (wide * 0.62, shoulder - 0.045), (wide * 0.95, shoulder + 0.03), (wide, shoulder + 0.10), (wide, 0.72),
        (wide, 0.94), (wide * 0.94, 0.985), (wide * 0.90, 0.99),
    ]  # fmt: skip
    levels, radii = _profile(knots)
    tint = pick(rng, palette("2f8a45", "a8561a", "cfe6e4", "2a66c0", "7d9a2c"), (4, 3, 2, 2, 2))
    body = 0.46 if tint.max() < 0.7 else 0.14
    _shell(canvas, levels, radii, light, tint, body)
    fill = uniform(rng, shoulder - 0.06, 0.62)
    _fluid(canvas, (levels, radii * 0.93), fill, tint * 0.45, 0.30)
    _rings(canvas, (0, 0.975), wide * 0.92, 0.011, 0.55)
    for y, share in ((0.035, 1.2), (0.0, 1.18)):
        _rings(canvas, (0, y), neck * share, 0.007, 0.6)
    _highlights(canvas, levels, radii, light, (shoulder + 0.06, 0.93))
    _highlights(canvas, levels, radii, light, (0.07, shoulder - 0.13))


def _shell(canvas: Canvas, levels: Points, radii: Points, light: Light, tint: Points, body: float) -> None:
    """A glass wall: nearly clear in the middle, dark and bright bands where one looks along it."""
    patch = canvas.fill(_outline(levels, radii))
    normal = turned(patch, 0.0, levels, radii)
    across = np.abs(normal[..., 0])
    edge = np.clip(1 - normal[..., 2], 0, 1)
    thick = body + (0.72 - body) * smoothstep(0.62, 0.99, across) + 0.25 * edge**2
    dark = smoothstep(0.70, 0.86, across) * smoothstep(0.985, 0.92, across)
    bright = smoothstep(0.93, 0.99, across)
    sky = 0.55 + 0.25 * smoothstep(0.6, -0.6, normal[..., 1])
    tone = sky * (1 - 0.75 * dark) + 0.55 * bright
    side = smoothstep(-0.2, 0.9, normal[..., 0] * np.float32(np.sign(light.key[0])))
    color = tint.astype(np.float32) * (tone * (0.75 + 0.5 * side))[..., None]
    canvas.over(patch, color, np.clip(thick, 0, 0.93))


def _liquid(canvas: Canvas, form: tuple[Points, Points], span: tuple[float, float], wine: str, light: Light) -> None:
    """Wine in a bowl from its surface down to the bowl's bottom."""
    color = {"red": linear("5e0614"), "white": linear("e8c650"), "rose": linear("f0807c")}[wine]
    strength = {"red": 0.93, "white": 0.50, "rose": 0.58}[wine]
    levels, radii = form
    level, bottom = span
    keep = (levels >= level) & (levels <= bottom * 0.985)
    patch = canvas.fill(_outline(levels[keep], radii[keep]))
    normal = turned(patch, 0.0, levels, radii)
    glow = 0.45 + 0.9 * smoothstep(0.35, -0.9, normal[..., 0] * np.float32(np.sign(light.key[0])))
    glow *= 0.65 + 0.6 * smoothstep(level, bottom, patch.y)
    deep = strength * (0.80 + 0.20 * normal[..., 2])
    canvas.over(patch, color * glow[..., None], np.clip(deep, 0, 0.95))
    r = float(np.interp(level, levels, radii))
    surface = canvas.fill(ellipse((0, level), (r, SQUASH * r)))
    sheen = smoothstep(level - SQUASH * r, level + SQUASH * r, surface.y) * np.ones_like(surface.x)
    canvas.over(surface, color * 0.9 + 0.25 * sheen[..., None], 0.6 * strength + 0.1)
    _rings(canvas, (0, level), r, 0.005, 0.5)


def _fluid(canvas: Canvas, form: tuple[Points, Points], level: float, color: Points, strength: float) -> None:
    levels, radii = form
    keep = levels >= level
    patch = canvas.fill(_outline(levels[keep], radii[keep]))
    canvas.over(patch, color, strength)
    r = float(np.interp(level, levels, radii))
    _rings(canvas, (0, level), r, 0.006, 0.45)


def _rings(canvas: Canvas, center: tuple[float, float], radius: float, width: float, opacity: float) -> None:
    """A horizontal glass rim: an ellipse line, brighter in front."""
    outer = ellipse(center, (radius, SQUASH * radius))
    inner = ellipse(center, (radius - width, max(SQUASH * radius - width, 1e-3)))
    patch = canvas.fill(outer, inner)
    front = smoothstep(center[1] - SQUASH * radius, center[1] + SQUASH * radius, patch.y)
    side = np.abs(patch.x - center[0]) / radius
    tone = 0.30 + 0.55 * front + 0.8 * smoothstep(0.72, 0.95, side) + 0.35 * smoothstep(0.35, 0.1, np.abs(side - 0.4))
    strong = np.clip(0.35 + 0.65 * front + 0.4 * smoothstep(0.6, 0.95, side), 0, 1)
    canvas.over(patch, np.repeat(tone[..., None], 3, 2), opacity * strong)


def _highlights(canvas: Canvas, levels: Points, radii: Points, light: Light, span: tuple[float, float]) -> None:
    """A window mirrored on the side of the light and a dim strip on the other: far brighter than white."""
    toward = float(np.sign(light.key[0]))
    y = np.linspace(span[0], span[1], 40)
    r = np.interp(y, levels, radii)
    t = (y - span[0]) / (span[1] - span[0])
    ends = np.sqrt(np.clip(1 - (2 * t - 1) ** 8, 0, 1))
    for place, width, power, opacity in ((0.62, 0.10, 3.6, 0.85), (0.79, 0.025, 2.6, 0.6), (-0.80, 0.05, 1.3, 0.55)):
        spine = np.stack([toward * place * r, y], -1)
        patch = canvas.fill(ribbon(spine, np.maximum(width * r * ends, 1e-4)))
        fade = 0.35 + 0.65 * smoothstep(span[1], span[0], patch.y)
        color = light.key_color * power
        canvas.over(patch, color * (fade * np.ones_like(patch.x))[..., None], opacity)


def _bubbles(canvas: Canvas, rng: np.random.Generator) -> None:
    """Five to nine soap bubbles that do not touch, the largest first."""
    light = draw_light(rng)
    cells = lattice(rng)
    count = 5 + int(rng.integers(5))
    radii = np.sort(0.07 + 0.22 * rng.random(9) ** 1.8)[::-1]
    radii[0] = uniform(rng, 0.27, 0.34)
    tries = rng.random((9, 60, 2))
    film = rng.random((9, 2))
    placed: list[tuple[float, float, float]] = []
    for i in range(count):
        r = float(radii[i])
        for px, py in tries[i]:
            x, y = r + px * (1.1 - 2 * r), r + py * (1.1 - 2 * r)
            if all(np.hypot(x - a, y - b) > r + c + 0.012 for a, b, c in placed):
                placed.append((x, y, r))
                _bubble(canvas, placed[-1], (cells, film[i]), light)
                break


def _bubble(
    canvas: Canvas, ball: tuple[float, float, float], film: tuple[FloatArray, npt.NDArray[np.float64]], light: Light
) -> None:
    """A thin film: interference colours that run with its thickness, strongest where one looks along it."""
    cx, cy, r = ball
    patch = canvas.fill(ellipse((cx, cy), (r, r), count=120))
    u, v = (patch.x - cx) / r, (patch.y - cy) / r
    rho2 = np.clip(u * u + v * v, 0, 1)
    toward = np.sqrt(np.clip(1 - rho2, 0.003, 1))
    cells, phase = film
    swirl = lattice_noise(cells, patch.x / np.float32(r), patch.y / np.float32(r), (0.9, 1.6), 2)
    thickness = 1.1 + 0.8 * v + 0.35 * swirl + 1.3 * rho2**3 + float(phase[0])
    bands = 0.5 + 0.5 * np.cos(2 * np.pi * (thickness[..., None] * np.array([0.80, 1.0, 1.22], np.float32)))
    color = 0.25 + 1.15 * bands
    edge = 1 - toward
    canvas.over(patch, color, np.clip(0.09 + 0.22 * rho2 + 0.50 * edge**2.2, 0, 0.9))
    side = float(np.sign(light.key[0]))
    for sx, sy, size, power, opacity in ((0.48, -0.52, 0.15, 3.6, 0.85), (-0.50, 0.52, 0.12, 1.5, 0.5)):
        _window(canvas, ball, (side * sx, sy, size), light.key_color * power, opacity)


def _window(
    canvas: Canvas,
    ball: tuple[float, float, float],
    place: tuple[float, float, float],
    color: Points,
    opacity: float,
) -> None:
    """Four panes of a window, mirrored and bent along the ball; place and size in its radii."""
    cx, cy, r = ball
    x, y, size = place
    angle, radius = float(np.arctan2(y, x)), float(np.hypot(x, y))
    pane = np.array([-0.42, 0.42])
    for along in (-0.5, 0.5):
        for out in (-0.5, 0.5):
            start, end = angle + (along + pane) * 1.35 * size / radius
            arc = np.linspace(start, end, 8)
            inner, outer = (d * np.stack([np.cos(arc), np.sin(arc)], -1) for d in radius + (out + pane) * size)
            canvas.over(canvas.fill(np.concatenate([inner, outer[::-1]]) * r + (cx, cy)), color, opacity)
