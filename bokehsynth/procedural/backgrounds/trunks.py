"""Tree trunks pixel by pixel: round, rooted, with bark; and the shadows they throw towards the viewer."""

from dataclasses import dataclass

import cv2
import numpy as np

from bokehsynth.procedural.backgrounds.noise import Tile
from bokehsynth.procedural.backgrounds.painting import Frame, gray_to_rgb, mix, paint_over, tint
from bokehsynth.procedural.toolkit import FloatArray, smoothstep


@dataclass(frozen=True, kw_only=True)
class Trunk:
    """Where a trunk stands and how it leans, unit lengths."""

    x: float
    foot: float
    """y of the ground line."""
    radius: float
    lean: float
    bend: float
    seed: float
    """Place on the noise tile: a bark of its own."""
    top: float = -1.0
    """y at which the trunk ends in its crown."""


@dataclass(frozen=True, kw_only=True)
class Bark:
    """Linear colors [3] and the kind of bark."""

    dark: FloatArray
    light: FloatArray
    moss: FloatArray
    rim: FloatArray
    """Light that grazes the sides from behind."""
    birch: bool


@dataclass(frozen=True)
class Haze:
    """The air between the viewer and a tree."""

    light: FloatArray
    """[H, W, 3]."""
    share: float
    """0 clear, 1 nothing but air."""


def paint_trunk(picture: FloatArray, tile: Tile, trunk: Trunk, bark: Bark, haze: Haze) -> None:
    """Paint one trunk over `picture` [H, W, 3] in place."""
    frame = Frame(len(picture))
    bottom = min(frame.height, round((trunk.foot + 0.25 * trunk.radius) * frame.size))
    top = min(bottom, max(0, round(trunk.top * frame.size)))
    y = frame.y[top:bottom]
    up = np.float32(trunk.foot) - y
    centre = trunk.x + trunk.lean * up + trunk.bend * np.sin(up * np.float32(5) + np.float32(trunk.seed * 6))
    flare = np.float32(0.55) * np.exp(-np.abs(up) / np.float32(1.6 * trunk.radius))
    half = np.float32(trunk.radius) * (np.float32(1) + flare - np.float32(0.35) * np.clip(up, 0, 1))
    left = int(max(0, np.floor((centre - half).min() * frame.size) - 1))
    right = int(min(frame.width, np.ceil((centre + half).max() * frame.size) + 1))
    if right <= left or bottom <= top:
        return
    offset = frame.x[:, left:right] - centre
    round_foot = half - np.float32(0.35) * np.clip(-up, 0, None) / np.float32(trunk.radius) * half
    alpha = frame.cover(round_foot - np.abs(offset))
    across = np.clip(offset / half, -1, 1)
    color = _bark(tile, across, up, trunk, bark, frame.size)
    region = picture[top:bottom, left:right]
    color += np.float32(haze.share) * (haze.light[top:bottom, left:right] - color)
    paint_over(region, color, alpha)


def _bark(tile: Tile, across: FloatArray, up: FloatArray, trunk: Trunk, bark: Bark, size: int) -> FloatArray:
    """Color of a trunk at `across` [H, W] (-1..1 from side to side) and `up` [H, 1] (above the foot), [H, W, 3]."""
    wrap = np.arcsin(across) * np.float32(trunk.radius) + np.float32(trunk.seed * 0.9)
    far = trunk.radius < 0.009
    squared = across * across
    if bark.birch:
        tone = _birch_tone(tile, wrap, up, size, 0.6 + 0.9 * (trunk.seed * 7 % 1))
    elif far:
        tone = np.float32(0.42) + np.float32(0.16) * tile.sample(wrap * np.float32(9), up * np.float32(3), size / 6)
    else:
        tone = _cracked_tone(tile, wrap, up, size)
    tone = np.clip(tone, 0, np.float32(1.15))
    color = mix(bark.dark, bark.light, tone)
    if not far:
        moss = tile.sample(wrap * np.float32(5), up * np.float32(4.0) + np.float32(0.2), size / 4)
        reach = np.float32(14.0 if bark.birch else 5.0)
        green = smoothstep(0.1, 1.1, np.float32(0.7) * moss + np.float32(0.9) - reach * up) * np.float32(0.8)
        paint_over(color, tint(np.float32(0.2) + tone, bark.moss), green)
    body = np.float32(0.30) + np.float32(0.45) * np.sqrt(1 - squared)
    edge = squared * squared * squared * np.minimum(tone + np.float32(0.3), np.float32(1))
    return color * gray_to_rgb(body) + tint(edge, bark.rim)


def _birch_tone(tile: Tile, wrap: FloatArray, up: FloatArray, size: int, pace: float) -> FloatArray:
    """White with black scars and fine dashes that run across; `pace` scales how many there are."""
    bands = tile.sample(wrap * np.float32(2.2), up * np.float32(11.0 * pace), size / 4)
    dashes = tile.sample(wrap * np.float32(5.0), up * np.float32(26.0) + np.float32(0.5), size / 12)
    scars = smoothstep(0.9, 1.7, bands + np.float32(0.35) * dashes)
    tone: FloatArray = np.float32(0.88) + np.float32(0.10) * dashes - np.float32(0.85) * scars
    return tone - np.float32(0.45) * smoothstep(1.3, 1.8, dashes)


def _cracked_tone(tile: Tile, wrap: FloatArray, up: FloatArray, size: int) -> FloatArray:
    """Long cracks that run up the trunk: folded noise is dark along lines."""
    cracks = np.abs(tile.sample(wrap * np.float32(8.0), up * np.float32(1.3), size / 4))
    plates = np.abs(tile.sample(wrap * np.float32(15.0), up * np.float32(4.5) + np.float32(0.3), size / 6))
    fine = tile.sample(wrap * np.float32(9.0), up * np.float32(9.0) + np.float32(0.6), size / 5)
    depth: FloatArray = 1 - np.exp(-(cracks + np.float32(0.5) * plates) / np.float32(0.8))
    return (np.float32(0.95) * depth - np.float32(0.04)) * (np.float32(1) + np.float32(0.30) * fine)


def shadow_map(frame: Frame, trunks: list[Trunk], sun_x: float, horizon: float) -> FloatArray:
    """Share of sunlight that trunk shadows take away on the ground, float32 [H, W] in 0..1.

    The sun stands low behind the trees, so that shadows fan out from the point below it on the horizon.
    """
    scale = frame.size
    mask = np.zeros((frame.height, frame.width), np.uint8)
    for trunk in trunks:
        reach = 1.5 / max(trunk.foot - horizon, 0.01)
        dx, dy = (trunk.x - sun_x) * reach, (trunk.foot - horizon) * reach
        r, wide = trunk.radius, trunk.radius * (1 + reach * 0.55)
        corners = [
            (trunk.x - r, trunk.foot), (trunk.x + r, trunk.foot),
            (trunk.x + dx + wide, trunk.foot + dy), (trunk.x + dx - wide, trunk.foot + dy),
        ]  # fmt: skip
        fixed = np.rint((np.clip(np.array(corners), -4, 5) * scale - 0.5) * 16).astype(np.int32)
        cv2.fillConvexPoly(mask, fixed, 255, cv2.LINE_AA, 4)
    soft = cv2.blur(mask, (2 * (scale // 128) + 1, 2 * (scale // 256) + 1))
    return soft.astype(np.float32) / np.float32(255)
