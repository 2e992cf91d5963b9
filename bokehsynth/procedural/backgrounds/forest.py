"""A forest against the light: trunks in several depths, canopy with gaps, undergrowth, a path, sun flecks."""

from dataclasses import dataclass

import numpy as np

from bokehsynth.imaging.pictures import Landscape
from bokehsynth.procedural.backgrounds.noise import Tile, fractal_curve, fractal_tile, grain
from bokehsynth.procedural.backgrounds.painting import (
    ASPECT,
    Frame,
    distance_to,
    finish,
    gray_to_rgb,
    mix,
    paint_over,
    tint,
)
from bokehsynth.procedural.backgrounds.palettes import MOODS, Mood
from bokehsynth.procedural.backgrounds.plants import Foliage, paint_crown, paint_ferns, paint_litter, paint_sprays
from bokehsynth.procedural.backgrounds.strokes import Strokes
from bokehsynth.procedural.backgrounds.trunks import Bark, Haze, Trunk, paint_trunk, shadow_map
from bokehsynth.procedural.toolkit import FloatArray, rgb, smoothstep
from bokehsynth.rng import chance, pick, uniform


@dataclass(frozen=True)
class _Wood:
    frame: Frame
    mood: Mood
    tile: Tile
    leafy: Tile
    sun: tuple[float, float]
    horizon: float
    air: FloatArray
    """Light of the haze, [H, W, 3]: bright below the sun."""
    shine: FloatArray
    """0..1 round the sun, [H, W]."""


def draw_forest(rng: np.random.Generator, size: int) -> Landscape:
    """A forest against the light; linear [size, size * 4 // 3, 3]."""
    frame = Frame(size)
    mood = pick(rng, MOODS)
    tile = fractal_tile(rng, cells=4, gain=0.55)
    leafy = fractal_tile(rng, cells=8, gain=0.80)
    horizon = uniform(rng, 0.54, 0.64)
    sun = (uniform(rng, 0.28, 0.72) * ASPECT, horizon - uniform(rng, 0.26, 0.42))
    wood = _lit(frame, mood, tile, leafy, sun, horizon)
    picture = wood.air.copy()
    _paint_far_canopy(picture, rng, wood)
    trunks = _draw_trunks(rng, wood)
    _paint_ground(picture, rng, wood, [trunk for row in trunks[1:] for trunk in row])
    _paint_litter(picture, rng, wood)
    for k, row in enumerate(trunks):
        near = k / (len(trunks) - 1)
        _paint_row(picture, rng, wood, row, near)
        if k == len(trunks) - 3:
            _paint_rays(picture, rng, wood)
    _paint_near_leaves(picture, rng, wood)
    speckle = grain(rng, frame.height, frame.width)
    picture *= np.float32(1) + np.float32(0.05) * gray_to_rgb(speckle)
    return Landscape(finish(picture, 12.0))


def _lit(frame: Frame, mood: Mood, tile: Tile, leafy: Tile, sun: tuple[float, float], horizon: float) -> _Wood:
    distance = distance_to(frame, sun, 0.9)
    shine = np.exp(-distance / np.float32(0.22))
    height = smoothstep(horizon, 0.0, frame.y)
    air = mix(
        rgb(mood.haze) * np.float32(0.62),
        rgb(mood.sky) * np.float32(0.95),
        np.float32(0.55) * height + shine * np.float32(0.6),
    )
    blaze = np.float32(1.9) * shine**2 + np.float32(7) * np.exp(-((distance / np.float32(0.028)) ** 2))
    air += tint(blaze, rgb(mood.glow))
    return _Wood(frame, mood, tile, leafy, sun, horizon, air, shine)


def _paint_far_canopy(picture: FloatArray, rng: np.random.Generator, wood: _Wood) -> None:
    """Three veils of leaves, each nearer one darker, with ragged gaps through which the sky burns."""
    frame, mood = wood.frame, wood.mood
    rows = min(frame.height, int((wood.horizon + 0.10) * frame.size))
    x, y = frame.x, frame.y[:rows]
    for k, (scale, clear_veil) in enumerate([(1.5, 0.72), (1.1, 0.48), (0.8, 0.25)]):
        veil = min(1.0, clear_veil * (0.6 + 0.6 * mood.mist))
        shift = rng.random(4).astype(np.float32)
        clumps = wood.tile.sample(x * np.float32(scale) + shift[0], y * np.float32(scale) + shift[1])
        leaf_scale = scale * 2.4
        fine = wood.leafy.sample(
            x * np.float32(leaf_scale) + shift[2], y * np.float32(leaf_scale) + shift[3], frame.size / leaf_scale
        )
        # Leaves thin out between crown and ground, and where the sun stands.
        lower = wood.horizon - 0.12 - 0.06 * k
        amount = np.float32(0.55) - np.float32(0.5) * y - np.float32(1.7) * smoothstep(lower - 0.22, lower + 0.06, y)
        thin = amount - np.float32(0.9) * wood.shine[:rows]
        mask = smoothstep(-0.12, 0.22, np.float32(0.50) * clumps + np.float32(0.50) * fine + thin)
        tone = np.clip(np.float32(0.35) + np.float32(0.22) * fine + np.float32(0.9) * wood.shine[:rows], 0, 1.3)
        leaf = mix(rgb(mood.leaf), rgb(mood.leaf_lit), tone)
        leaf = mix(leaf, wood.air[:rows], veil)
        paint_over(picture[:rows], leaf, mask * np.float32(0.96))


def _draw_trunks(rng: np.random.Generator, wood: _Wood) -> list[list[Trunk]]:
    """Rows of trunks from far to near; near ones keep off the middle so that the view stays open."""
    rows = []
    counts = [26, 18, 12, 8, 5]
    for k, count in enumerate(counts):
        near = k / (len(counts) - 1)
        row = []
        for _ in range(count):
            x = uniform(rng, -0.03, ASPECT + 0.03)
            if near > 0.45:
                away = 0.10 + 0.20 * near
                x = (
                    x
                    if abs(x - wood.sun[0]) > away
                    else wood.sun[0] + (away + 0.12 * near) * (1 if x > wood.sun[0] else -1)
                )
            depth = near + uniform(rng, -0.09, 0.09)
            row.append(
                Trunk(
                    x=x,
                    foot=wood.horizon + 0.012 + 0.30 * max(depth, 0) ** 1.9,
                    radius=(0.0045 + 0.046 * max(depth, 0) ** 1.7) * uniform(rng, 0.7, 1.25),
                    lean=uniform(rng, -0.06, 0.06),
                    bend=uniform(rng, 0.0, 0.012) * (0.3 + near),
                    seed=uniform(rng, 0, 1),
                )
            )
        rows.append(sorted(row, key=lambda trunk: trunk.foot))
    return rows


def _paint_ground(picture: FloatArray, rng: np.random.Generator, wood: _Wood, trunks: list[Trunk]) -> None:
    frame, mood, tile = wood.frame, wood.mood, wood.tile
    edge = fractal_curve(rng, cells=5, octaves=5)(frame.x[0])
    line = np.float32(wood.horizon) + np.float32(0.012) * edge
    top = max(0, int(line.min() * frame.size) - 1)
    x, y = frame.x, frame.y[top:]
    lift = np.float32(1) / (y - np.float32(wood.horizon - 0.045))
    u, v = (x - np.float32(0.66)) * lift * np.float32(0.16), lift * np.float32(0.30)
    coarse, fine = tile.sample(u * 1.5, v * 1.5), wood.leafy.sample(u * 3.1, v * 3.1)
    tone = np.clip(np.float32(0.40) + np.float32(0.10) * coarse + np.float32(0.20) * fine, 0, 1)
    color = mix(rgb(mood.litter), rgb(mood.litter_lit), tone)
    green = smoothstep(-0.2, 0.9, coarse + np.float32(0.5) * tile.sample(u * 6 + 0.4, v * 6))
    color = mix(color, tint(np.float32(0.35) + tone, rgb(mood.moss)), green * np.float32(0.75))
    has_path = chance(rng, 0.6)
    swing = uniform(rng, -0.5, 0.5)
    if has_path:
        share = _path_share(wood, y, swing, fine)
        color = mix(color, tint(np.float32(0.45) + np.float32(0.75) * tone, rgb(mood.path)), share)
    fleck = smoothstep(0.25, 0.75, tile.sample(u * 2.3 + 0.7, v * 1.2 + 0.1) + np.float32(0.25) * fine)
    shade = shadow_map(frame, trunks, wood.sun[0], wood.horizon)[top:]
    sunny = (np.float32(0.18) + np.float32(1.5) * fleck) * (1 - np.float32(0.8) * shade)
    sunny *= np.float32(0.35) + np.float32(2.2) * wood.shine[top:]
    light = tint(np.float32(2.4) * sunny, rgb(mood.glow), 0.38)
    veil = np.exp(-(y - np.float32(wood.horizon)) / np.float32(0.05 + 0.06 * mood.mist)) * np.float32(0.8)
    color = mix(color * light, wood.air[top:], np.repeat(veil, frame.width, axis=1))
    paint_over(picture[top:], color, frame.cover(y - line[None, :]))


def _path_share(wood: _Wood, y: FloatArray, swing: float, rough: FloatArray) -> FloatArray:
    """How much of the ground is path, for rows y [h, 1] and a roughness [h, W] of its edges; [h, W]."""
    near = np.clip(y - np.float32(wood.horizon), 0, 1)
    bend = np.float32(0.05) * np.sin(np.float32(9) * np.sqrt(near) + np.float32(swing * 9))
    centre = np.float32(wood.sun[0]) + np.float32(swing) * near + bend
    wide = np.float32(0.012) + np.float32(0.30) * near
    inside = wide - np.abs(wood.frame.x - centre) + np.float32(0.048) * rough * near
    return smoothstep(0.0, 1.0, inside / (np.float32(0.35) * wide)) * np.float32(0.85)


def _paint_litter(picture: FloatArray, rng: np.random.Generator, wood: _Wood) -> None:
    mood = wood.mood
    tones = np.stack([rgb(code) for code in (mood.litter, mood.litter_lit, mood.moss, mood.litter_lit, mood.fern)])
    tones[3] *= np.float32(1.5)
    tones[[0, 4]] *= np.float32(0.6)
    sheet = Strokes(wood.frame)
    paint_litter(sheet, rng, (wood.horizon + 0.03, wood.horizon - 0.045), 2600, np.minimum(tones, 1))
    light = tint(np.float32(2.2) * wood.shine, rgb(mood.glow), 0.45)
    sheet.over(picture, light)


def _paint_row(picture: FloatArray, rng: np.random.Generator, wood: _Wood, row: list[Trunk], near: float) -> None:
    """One depth: trunks, then the bushes and ferns at their feet."""
    mood = wood.mood
    veil = (0.80 - 0.20 * (1 - mood.mist)) * (1 - near) ** 1.5 * (0.55 + 0.45 * mood.mist)
    bark = Bark(
        dark=rgb(mood.bark),
        light=rgb(mood.bark_lit),
        moss=rgb(mood.moss),
        rim=rgb(mood.glow) * np.float32(0.55),
        birch=mood.birch,
    )
    for trunk in row:
        paint_trunk(picture, wood.tile if mood.birch else wood.leafy, trunk, bark, Haze(wood.air, veil))
    haze = rgb(mood.haze) * np.float32(0.62)
    look = Foliage(dark=mix(rgb(mood.fern), haze, veil), light=mix(rgb(mood.fern_lit), haze, veil), sun=(0.0, -1.0))
    ground = wood.horizon + 0.02 + 0.34 * near**1.9
    places = rng.uniform(-0.05, ASPECT + 0.05, 31)
    low = ground + rng.uniform(-0.02, 0.05, 31) * (0.3 + near)
    size = rng.uniform(0.015, 0.035, 31) * (0.6 + 1.4 * near)
    bush = np.stack([places, low, size], 1)[:9].astype(np.float32)
    feet = np.stack([places, low], 1)[9:].astype(np.float32)
    # Keep the middle open where the path runs.
    feet = feet[np.abs(feet[:, 0] - wood.sun[0]) > 0.05 + 0.16 * near]
    bush = bush[np.abs(bush[:, 0] - wood.sun[0]) > 0.06 + 0.20 * near]
    sheet = Strokes(wood.frame)
    paint_crown(sheet, rng, bush, 900, 0.004 + 0.008 * near, look)
    paint_ferns(sheet, rng, feet, 0.03 + 0.11 * near, look)
    light = tint(np.float32(1.6) * wood.shine, rgb(mood.glow), 0.7)
    sheet.over(picture, light)


def _paint_rays(picture: FloatArray, rng: np.random.Generator, wood: _Wood) -> None:
    """Beams through gaps in the leaves: noise over the angle at the sun, stronger in mist."""
    frame = wood.frame
    shift = rng.random(2).astype(np.float32)
    dx, dy = frame.x - np.float32(wood.sun[0]), frame.y - np.float32(wood.sun[1])
    distance = np.sqrt(dx * dx + dy * dy)
    # Noise on a circle: the same along a beam, and without a seam.
    around = np.float32(0.55) / np.maximum(distance, np.float32(1e-4))
    beam = wood.tile.sample(dx * around + shift[0], dy * around + shift[1])
    falloff = np.exp(-distance / np.float32(0.45)) * smoothstep(0.0, 0.12, distance)
    strength = np.float32(0.18 + 0.20 * wood.mood.mist) * smoothstep(0.0, 1.6, beam) * falloff
    picture += tint(strength + np.float32(0.10) * wood.shine, rgb(wood.mood.glow))


def _paint_near_leaves(picture: FloatArray, rng: np.random.Generator, wood: _Wood) -> None:
    """Boughs that hang into the upper corners, leaf by leaf, lit through from behind."""
    mood = wood.mood
    tips = []
    for side, inward in ((0.0, 1.0), (ASPECT, -1.0)):
        reach, count = uniform(rng, 0.18, 0.42), 20
        place = rng.random((count, 4))
        x = side + inward * (reach * place[:, 0] ** 1.3 - 0.05)
        y = (0.20 * place[:, 1] - 0.05) * (1 - 0.8 * place[:, 0])
        length = 0.07 + 0.10 * place[:, 2]
        tips.append(np.stack([x, y, x + inward * length * 0.9, y + length * (0.1 + 0.5 * place[:, 3])], 1))
    sheet = Strokes(wood.frame)
    look = Foliage(dark=rgb(mood.leaf) * np.float32(0.6), light=rgb(mood.leaf_lit), sun=(0.0, -0.6))
    paint_sprays(sheet, rng, np.concatenate(tips), mood.leaf_length, look)
    light = tint(np.float32(1.8) * wood.shine, rgb(mood.glow), 0.75)
    sheet.over(picture, light)
