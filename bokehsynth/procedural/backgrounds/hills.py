"""Hills and mountains in aerial perspective: sky, ridges, perhaps a lake, a meadow with grass and flowers."""

import cv2
import numpy as np

from bokehsynth.imaging.pictures import Landscape
from bokehsynth.procedural.backgrounds.noise import fractal_curve, fractal_tile, grain
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
from bokehsynth.procedural.backgrounds.palettes import PETALS, SEASONS, Season
from bokehsynth.procedural.backgrounds.plants import Foliage, Meadow, paint_crown, paint_flowers, paint_grass
from bokehsynth.procedural.backgrounds.ridges import View, paint_ridges
from bokehsynth.procedural.backgrounds.sky import Sky, paint_sky
from bokehsynth.procedural.backgrounds.strokes import Strokes
from bokehsynth.procedural.backgrounds.trunks import Bark, Haze, Trunk, paint_trunk
from bokehsynth.procedural.toolkit import FloatArray, rgb, smoothstep
from bokehsynth.rng import chance, draw_seed, from_seed, pick, uniform


def draw_hills(rng: np.random.Generator, size: int) -> Landscape:
    """Hills under a sky; linear [size, size * 4 // 3, 3]."""
    frame = Frame(size)
    tile = fractal_tile(rng, cells=4, gain=0.58)
    season = pick(rng, SEASONS)
    horizon = uniform(rng, 0.44, 0.56)
    sun = (uniform(rng, 0.12, 0.88) * ASPECT, uniform(rng, *season.sun_y) * horizon)
    scene = View(frame, season, tile, sun, horizon, _haze(frame, season, sun))
    picture = paint_sky(frame, _draw_sky(rng, scene), tile)
    has_lake = chance(rng, 0.5)
    shore = horizon + uniform(rng, 0.09, 0.13)
    paint_ridges(picture, rng, scene, shore if has_lake else horizon + 0.16)
    meadow_top = shore + uniform(rng, 0.10, 0.16) if has_lake else horizon + uniform(rng, 0.12, 0.17)
    wind = uniform(rng, -2.0, 2.0)
    if has_lake:
        _paint_lake(picture, scene, shore, wind)
    _paint_meadow(picture, rng, scene, meadow_top)
    speckle = grain(rng, frame.height, frame.width)
    picture *= np.float32(1) + np.float32(0.035) * gray_to_rgb(speckle)
    return Landscape(finish(picture, 14.0))


def _haze(frame: Frame, season: Season, sun: tuple[float, float]) -> FloatArray:
    glow = np.float32(0.45) * np.exp(-distance_to(frame, sun, 0.8) / np.float32(0.3))
    return tint(glow, rgb(season.glow), rgb(season.haze) * np.float32(0.95))


def _draw_sky(rng: np.random.Generator, scene: View) -> Sky:
    season = scene.season
    return Sky(
        zenith=rgb(season.zenith),
        horizon=rgb(season.horizon) * np.float32(1.15),
        glow=rgb(season.glow),
        cloud_lit=rgb(season.cloud_lit) * np.float32(1.2),
        cloud_shade=rgb(season.cloud_shade),
        cover=uniform(rng, 0.25, 0.75),
        sun=scene.sun,
        sun_peak=season.sun_peak,
        horizon_y=scene.horizon,
        drift=(uniform(rng, 0, 1), uniform(rng, 0, 1)),
    )


def _paint_lake(picture: FloatArray, scene: View, shore: float, wind: float) -> None:
    """Water mirrors what stands above the shore, pulled about by ripples that grow towards the viewer."""
    frame = scene.frame
    top = round(shore * frame.size)
    y = frame.y[top:]
    near = y - np.float32(shore)
    lift = np.float32(1) / (near + np.float32(0.03))
    ripple = scene.tile.sample(
        (frame.x - np.float32(0.66)) * lift * np.float32(0.10) + np.float32(wind), lift * np.float32(0.55)
    )
    bend = ripple * (np.float32(0.004) + np.float32(0.09) * near)
    rows = (np.float32(shore) - near * np.float32(1.25) - np.abs(bend)) * np.float32(frame.size) - np.float32(0.5)
    columns = frame.x * np.float32(frame.size) - np.float32(0.5) + bend * np.float32(0.3 * frame.size)
    mirror = np.asarray(
        cv2.remap(picture, columns, np.maximum(rows, np.float32(0)), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )
    deep = rgb(scene.season.zenith) * np.float32(0.25)
    clear = np.repeat(np.float32(0.80) - np.float32(0.4) * near, frame.width, axis=1)
    water = mix(deep, np.minimum(mirror, np.float32(4)).astype(np.float32), clear)
    across = np.exp(-(((frame.x - np.float32(scene.sun[0])) / (np.float32(0.05) + near * np.float32(0.3))) ** 2))
    glint = smoothstep(0.9, 2.2, ripple) * across * np.float32(3.0 + 0.5 * scene.season.sun_peak)
    water += tint(glint, rgb(scene.season.glow))
    paint_over(picture[top:], water, np.repeat(frame.cover(near), frame.width, axis=1))


def _paint_meadow(picture: FloatArray, rng: np.random.Generator, scene: View, top: float) -> None:
    frame, season = scene.frame, scene.season
    outline = fractal_curve(rng, cells=2, octaves=6, gain=0.4)
    line = np.float32(top) + np.float32(0.03) * outline(frame.x[0])
    start = max(int(line.min() * frame.size) - 2, 0)
    light = _meadow_light(scene, start)
    y = frame.y[start:]
    lift = np.float32(1) / (y - np.float32(scene.horizon))
    u, v = (frame.x - np.float32(0.66)) * lift * np.float32(0.22), lift * np.float32(0.4)
    tone = np.float32(0.36) + np.float32(0.14) * scene.tile.sample(u, v)
    tone += np.float32(0.14) * scene.tile.sample(u * 5, v * 5)
    color = mix(rgb(season.grass), rgb(season.grass_lit), np.clip(tone, 0, 1)) * np.float32(0.75)
    paint_over(picture[start:], color * light[start:], frame.cover(y - line[None, :]))
    tree_x, tree_span = uniform(rng, -0.02, 0.20), uniform(rng, 0.17, 0.26)
    tree_seed = draw_seed(rng)
    if chance(rng, 0.45):
        side = tree_x if scene.side > 0 else ASPECT - tree_x
        _paint_tree(picture, from_seed(tree_seed), scene, (side, top + 0.07), tree_span)
    meadow = Meadow(
        top=top + 0.012, horizon=scene.horizon, tall=uniform(rng, 0.05, 0.12), blades=6500,
        dark=rgb(season.grass) * np.float32(0.6), light=rgb(season.grass_lit), straw=rgb(season.straw),
        wind=uniform(rng, -0.35, 0.35),
    )  # fmt: skip
    petals = np.stack([rgb(code) for code in PETALS[pick(rng, sorted(PETALS))]])
    flowers = pick(rng, [110, 200, 340])
    sheet = Strokes(frame)
    paint_grass(sheet, rng, meadow)
    paint_flowers(sheet, rng, meadow, flowers, petals)
    sheet.over(picture, light)


def _meadow_light(scene: View, start: int) -> FloatArray:
    """Sunlight on the ground, float32 [H, W, 3]: shadows of clouds, warmer and brighter towards the sun."""
    frame, season = scene.frame, scene.season
    y = frame.y[start:]
    lift = np.float32(1) / (y - np.float32(scene.horizon - 0.02))
    u, v = (frame.x - np.float32(0.66)) * lift * np.float32(0.035), lift * np.float32(0.075)
    sunny = smoothstep(-0.9, 0.5, scene.tile.sample(u + np.float32(0.2), v + np.float32(scene.sun[0])))
    across = np.exp(-np.abs(frame.x - np.float32(scene.sun[0])) / np.float32(0.6))
    low = smoothstep(0.0, 1.0, np.float32(scene.sun[1] / scene.horizon) + np.zeros((1, 1), np.float32))
    strength = np.float32(0.75) * sunny * (np.float32(0.8) + np.float32(0.9) * low * across)
    near_dark = np.float32(1) - np.float32(0.30) * smoothstep(0.85, 1.05, y)
    light = np.ones((frame.height, frame.width, 3), np.float32)
    ambient = mix(rgb(season.haze), np.ones(3, np.float32), 0.5) * np.float32(0.42)
    warm = mix(np.ones(3, np.float32), rgb(season.glow), 0.6)
    light[start:] = tint(strength * near_dark, warm) + tint(near_dark + np.zeros_like(strength), ambient)
    return light


def _paint_tree(
    picture: FloatArray, rng: np.random.Generator, scene: View, foot: tuple[float, float], span: float
) -> None:
    """A broad tree at the side that frames the view."""
    season, (x, y) = scene.season, foot
    top = y - 2.0 * span
    trunk = Trunk(
        x=x, foot=y, radius=0.085 * span, lean=uniform(rng, -0.08, 0.08), bend=0.006, seed=uniform(rng, 0, 1),
        top=y - 1.7 * span,
    )  # fmt: skip
    bark = Bark(
        dark=rgb(season.rock) * np.float32(0.12), light=rgb(season.rock) * np.float32(0.5), moss=rgb(season.grass),
        rim=rgb(season.glow) * np.float32(0.25), birch=False,
    )  # fmt: skip
    sheet = Strokes(scene.frame)
    spread = rng.normal(0, 1, (30, 3))
    blobs = np.stack(
        [
            x + spread[:, 0] * 0.50 * span,
            top - np.abs(spread[:, 1]) * 0.55 * span + 0.45 * span,
            (0.22 + 0.08 * np.abs(spread[:, 2])) * span,
        ],
        1,
    ).astype(np.float32)
    crotch = np.array([x + trunk.lean * 1.2 * span, y - 1.2 * span])
    paint_trunk(picture, scene.tile, trunk, bark, Haze(scene.air, 0.05))
    boughs = np.stack([np.broadcast_to(crotch, (30, 2)), blobs[:, :2]], 1).astype(np.float32)
    sheet.lines(boughs[::3], 0.02 * span, rgb(season.rock) * np.float32(0.12))
    look = Foliage(
        dark=rgb(season.forest) * np.float32(0.45), light=rgb(season.forest_lit) * np.float32(1.15),
        sun=(0.9 * scene.side, -0.8),
    )  # fmt: skip
    paint_crown(sheet, rng, blobs, 6500, 0.0066, look)
    sheet.over(picture)
