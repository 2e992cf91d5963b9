"""Bodies turned on a lathe, seen slightly from above: chess pieces, mugs, knobs."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.procedural.foregrounds.brush import Canvas
from bokehsynth.procedural.foregrounds.patch import Patch
from bokehsynth.procedural.toolkit import FloatArray, Points


@dataclass(frozen=True)
class Body:
    """What a lathe made, as seen: coverage, unit normals [h, w, 3] and the height [h, w] that each pixel shows."""

    patch: Patch
    normal: FloatArray
    height: FloatArray


def profile(parts: Sequence[tuple[float, float, float, float]], top: float, bottom: float) -> tuple[Points, Points]:
    """Levels (y, ascending) and radii of a stack of parts.

    A part (y, radius, half height, roundness) is a disk around y whose rim bulges by `roundness`; a sphere has
    radius 0 and roundness = half height. The body is the widest part at each level.
    """
    levels = np.linspace(top, bottom, 1200)
    radii = np.full(levels.shape, 1e-3)
    for center, radius, half, roundness in parts:
        away = (levels - center) / half
        bulge = radius + roundness * np.sqrt(np.clip(1 - away**2, 0, 1))
        radii = np.where(np.abs(away) <= 1 + 1e-6, np.maximum(radii, bulge), radii)
    return levels, radii


def turn(canvas: Canvas, axis: float, levels: Points, radii: Points, tilt: float) -> Body:
    """A body turned about x = `axis`, seen from above so that circles become ellipses `tilt` times as high.

    It is painted as a stack of disks from the bottom up, each with its number: a pixel keeps the number of the
    highest disk that covers it, and that tells height and radius of what one sees there.
    """
    patch = canvas.fill(_silhouette(levels, radii, tilt) + (axis, 0.0))
    height, width = patch.coverage.shape
    fine = 2 if height * width < 700_000 else 1
    scale = fine * canvas.scale
    left, top = float(patch.x[0, 0]) - 0.5 / canvas.scale, float(patch.y[0, 0]) - 0.5 / canvas.scale
    count = max(2, int((levels[-1] - levels[0]) * scale * 1.2)) if width > 2 else 2
    heights = np.linspace(levels[-1], levels[0], count)
    reach = np.interp(heights, levels, radii)
    index = np.zeros((fine * height, fine * width), np.uint16)
    centers = np.rint(((heights - top) * scale - 0.5) * 16).astype(int).tolist()
    middle = round(((axis - left) * scale - 0.5) * 16)
    for i, (center, r) in enumerate(zip(centers, (reach * scale * 16).tolist(), strict=True)):
        axes = (max(round(r), 1), max(round(tilt * r), 1))
        cv2.ellipse(index, (middle, center), axes, 0, 0, 360, i + 1, -1, 8, 4)
    # Pixels of the outline need a neighbour's number, or they would show no surface at all.
    index = np.where(index == 0, cv2.dilate(index, np.ones((5, 5), np.uint8)), index).astype(np.uint16)
    return _seen(patch, index, heights, reach, (axis, tilt), (left, top, scale))


def _seen(
    patch: Patch,
    index: npt.NDArray[np.uint16],
    heights: Points,
    reach: Points,
    view: tuple[float, float],
    grid: tuple[float, float, float],
) -> Body:
    axis, tilt = view
    left, top, scale = grid
    size = (patch.coverage.shape[1], patch.coverage.shape[0])
    shown = np.maximum(index, 1) - 1
    level = heights.astype(np.float32)[shown]
    radius = np.maximum(reach, 1e-4).astype(np.float32)[shown]
    slope = np.clip(np.gradient(reach, heights), -3, 3).astype(np.float32)[shown]
    x = ((np.arange(index.shape[1]) + 0.5) / scale + left - axis).astype(np.float32)[None, :]
    y = ((np.arange(index.shape[0]) + 0.5) / scale + top).astype(np.float32)[:, None]
    across = np.clip(x / radius, -1, 1)
    toward = np.sqrt(1 - across * across)
    drop = np.abs(y - level) / (np.float32(tilt) * radius)
    cap = drop < toward * np.float32(0.93) - np.float32(2.0 / scale) / (np.float32(tilt) * radius)
    lift = np.float32(np.sqrt(1 - tilt**2))
    facing = np.empty(index.shape + (3,), np.float32)
    facing[..., 0] = np.where(cap, 0, across)
    facing[..., 1] = np.where(cap, -lift, toward * np.float32(tilt) - slope * lift)
    facing[..., 2] = np.where(cap, np.float32(tilt), np.maximum(toward * lift + slope * np.float32(tilt), 0.02))
    normal = np.asarray(cv2.resize(facing, size, interpolation=cv2.INTER_AREA), np.float32)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return Body(patch, normal, cv2.resize(level, size, interpolation=cv2.INTER_AREA))


def _silhouette(levels: Points, radii: Points, tilt: float) -> Points:
    """Outline [N, 2] around x = 0: on each line of the picture the widest of all disks."""
    disks, reach = levels[::2], radii[::2]
    lines = np.linspace((levels - tilt * radii).min(), (levels + tilt * radii).max(), 1000)
    across = ((lines[:, None] - disks) / (tilt * reach)).astype(np.float32)
    wide = np.sqrt(np.max(reach.astype(np.float32) ** 2 * (1 - across * across), axis=1, initial=0))
    return np.concatenate([np.stack([wide, lines], -1), np.stack([-wide, lines], -1)[::-1]])
