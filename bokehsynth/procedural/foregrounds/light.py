"""Shading: normals from outlines, turned profiles and reliefs; diffuse, specular and rim light on them."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.procedural.foregrounds.patch import Patch
from bokehsynth.procedural.toolkit import FloatArray, Points, smoothstep
from bokehsynth.rng import chance, uniform

_EDGE_PIXELS = 8
"""Normals are smooth, so they are computed on a coarse grid that gives a rounded edge this many pixels."""


@dataclass(frozen=True)
class Light:
    """A key light, a sky above, a floor below and a rim light from behind; colours linear, directions point to it."""

    key: Points
    key_color: Points
    sky: Points
    floor: Points
    rim: Points
    """Unit direction [2] in the picture from which light grazes the outline."""
    rim_color: Points


def draw_light(rng: np.random.Generator) -> Light:
    """A pleasant light from above, left or right, warm or cool."""
    side = -1.0 if chance(rng, 0.6) else 1.0
    key = np.array([side * uniform(rng, 0.4, 0.7), -uniform(rng, 0.45, 0.7), 0.75])
    warm = uniform(rng, 0, 1)
    rim = np.array([-side * uniform(rng, 0.6, 1.0), -uniform(rng, 0.1, 0.7)])
    return Light(
        key=key / np.linalg.norm(key),
        key_color=(1 - warm) * np.array([0.95, 0.98, 1.05]) + warm * np.array([1.15, 0.98, 0.78]),
        sky=np.array([0.30, 0.34, 0.42]),
        floor=np.array([0.16, 0.12, 0.09]),
        rim=rim / np.linalg.norm(rim),
        rim_color=warm * np.array([0.6, 0.75, 1.0]) + (1 - warm) * np.array([1.0, 0.85, 0.6]),
    )


def relief(patch: Patch, radius: float, bulge: float = 1.0) -> FloatArray:
    """Unit normals [h, w, 3] of a body inflated out of the patch; its edge is round over `radius` units."""
    height, width = patch.coverage.shape
    extent = max(float(patch.x[0, -1] - patch.x[0, 0]), float(patch.y[-1, 0] - patch.y[0, 0]))
    shrink = min(1.0, float(np.clip(_EDGE_PIXELS * extent / radius, 100, 480)) / max(height, width))
    grid = (max(2, round(width * shrink)), max(2, round(height * shrink)))
    small = cv2.resize(patch.coverage, grid, interpolation=cv2.INTER_AREA).reshape(grid[1], grid[0])
    # An outline that the canvas cuts off goes on beyond it, so the margin repeats the edge.
    small = np.pad(small, 1, mode="edge")
    unit = float(patch.x[0, -1] - patch.x[0, 0]) / max(grid[0] - 1, 1) or 1.0
    inside = cv2.distanceTransform((small > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    depth = np.clip(1 - inside * np.float32(unit / radius), 0, 1)
    rise = np.sqrt(1 - depth * depth) * np.float32(radius * bulge)
    rise = cv2.GaussianBlur(rise, (0, 0), max(0.14 * radius / unit, 0.6))
    down, across = np.gradient(rise, unit)
    return upsample(normals(across[1:-1, 1:-1], down[1:-1, 1:-1]), patch)


def normals(across: npt.NDArray[np.floating], down: npt.NDArray[np.floating]) -> FloatArray:
    """Unit normals [h, w, 3] of a height field with the given slopes along x and y; z points to the viewer."""
    field = np.stack([-across, -down, np.ones_like(across)], -1).astype(np.float32)
    field /= np.linalg.norm(field, axis=-1, keepdims=True)
    return field


def upsample(field: FloatArray, patch: Patch) -> FloatArray:
    """A small field [h', w', ...] stretched over the patch."""
    height, width = patch.coverage.shape
    return np.asarray(cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def lit(normal: npt.NDArray[np.floating], albedo: npt.ArrayLike, light: Light, wrap: float = 0.25) -> FloatArray:
    """Diffuse light [..., 3] from normals [..., 3] and albedo [3] or [..., 3]; `wrap` softens the terminator."""
    n = np.asarray(normal, np.float32)
    facing = n @ light.key.astype(np.float32)
    key = np.maximum((facing + np.float32(wrap)) / np.float32(1 + wrap), 0)[..., None] * light.key_color.astype(
        np.float32
    )
    up = (np.float32(0.5) - np.float32(0.5) * n[..., 1])[..., None]
    around = up * light.sky.astype(np.float32) + (1 - up) * light.floor.astype(np.float32)
    return np.asarray(np.asarray(albedo, np.float32) * (key + around), np.float32)


def gloss(normal: npt.NDArray[np.floating], light: Light, sharpness: float) -> FloatArray:
    """Highlight [...] in 0..1 of the key light (Blinn)."""
    half = light.key + (0, 0, 1)
    half = (half / np.linalg.norm(half)).astype(np.float32)
    aligned = np.clip(np.asarray(normal, np.float32) @ half, 0, 1)
    return np.asarray(aligned ** np.float32(sharpness), np.float32)


def rim(normal: npt.NDArray[np.floating], light: Light, power: float = 3.0) -> FloatArray:
    """Light [..., 3] that grazes the outline on the side of the rim light."""
    n = np.asarray(normal, np.float32)
    grazing = np.clip(1 - n[..., 2], 0, 1) ** np.float32(power)
    side = np.clip(n[..., :2] @ light.rim.astype(np.float32), 0, 1)
    return np.asarray((grazing * side)[..., None] * light.rim_color.astype(np.float32), np.float32)


def studio(normal: FloatArray, light: Light) -> FloatArray:
    """Radiance [h, w] that a mirror would show: a dim room, a bright floor line, a window and a strip light."""
    rx = 2 * normal[..., 2] * normal[..., 0]
    ry = 2 * normal[..., 2] * normal[..., 1]
    side = np.float32(np.sign(light.key[0]))
    room = 0.10 + 0.35 * smoothstep(0.2, -0.9, ry) + 0.22 * smoothstep(0.25, 0.5, ry) * smoothstep(1.0, 0.6, ry)
    window = smoothstep(0.22, 0.30, side * rx) * smoothstep(0.72, 0.64, side * rx)
    window *= smoothstep(-0.85, -0.75, ry) * smoothstep(0.12, 0.02, ry)
    behind = smoothstep(0.1, -0.25, 2 * normal[..., 2] ** 2 - 1)
    strip = smoothstep(-0.45, -0.6, side * rx) * smoothstep(0.75, 0.5, np.abs(ry)) * behind
    return np.asarray(room + 3.2 * window + 0.9 * strip, np.float32)


def turned(patch: Patch, axis: float, levels: Points, radii: Points) -> FloatArray:
    """Unit normals [h, w, 3] of a body turned about x = `axis`, radius given at `levels` (y, ascending)."""
    y = patch.y[:, 0].astype(np.float64)
    radius = np.maximum(np.interp(y, levels, radii), 1e-4)
    slope = np.interp(y, levels, np.gradient(radii, levels))
    across = np.clip((patch.x - axis) / radius[:, None].astype(np.float32), -0.999, 0.999)
    toward = np.sqrt(1 - across * across)
    field = np.stack([across, np.broadcast_to(-slope[:, None], across.shape), toward], -1).astype(np.float32)
    field /= np.linalg.norm(field, axis=-1, keepdims=True)
    return field
