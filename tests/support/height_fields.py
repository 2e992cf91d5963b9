"""Scenes with height fields, shared by the tests of both backends that trace them."""

import numpy as np
from scipy.ndimage import gaussian_filter

import bokehsynth as bs
from support.scenes import Scene, matte, texture

SIZE = (26, 150)
"""Two tiles wide, four high."""


def canvas(size, margin):
    return size[0] + 2 * margin, size[1] + 2 * margin


def hills(shape, seed, smooth, low, high):
    """Smooth noise between two disparities, float32."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), smooth, mode="nearest")
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    return (low + (high - low) * noise).astype(np.float32)


def step(shape, at, left, right):
    """One disparity up to column at - 1, another from column `at` on; a wall between the two."""
    return np.broadcast_to(np.where(np.arange(shape[1]) < at, left, right).astype(np.float32), shape)


def rolling(shape):
    return hills(shape, 1, 8, 0.1, 0.6)


def rugged(shape):
    return hills(shape, 2, 2.5, 0.0, 1.0)


def broken(shape):
    return hills(shape, 3, 0.7, 0.1, 0.9)


def wall(shape):
    return step(shape, shape[1] // 2, 0.8, 0.15)


def ground(shape):
    return np.broadcast_to(np.linspace(0.1, 0.9, shape[0], dtype=np.float32)[:, None], shape)


BATTERY = {
    "rolling": {"layers": [rolling], "K": 9.0, "focus": 0.3},
    "rugged": {"layers": [rugged], "K": 14.0, "focus": 0.5},
    "broken": {"layers": [broken], "K": 8.0, "focus": 0.9},
    "wall": {"layers": [wall], "K": 12.0, "focus": 0.4},
    "cut-out over hills": {"layers": [bs.Plane(0.9), rolling], "K": 9.0, "focus": 0.35},
    "hills through planes": {"layers": [bs.Plane(0.6), rugged, bs.Plane(0.4, 1e-3)], "K": 10.0, "focus": 0.45},
    "two fields": {"layers": [rugged, rolling], "K": 9.0, "focus": 0.5, "open_bottom": True},
    "standing on the ground": {"layers": [bs.Plane(0.5), ground], "K": 13.0, "focus": 0.5},
}
"""Scenes by name: smooth and torn fields, alone, crossed by planes, crossing each other, over nothing."""


def battery_scene(name, size=SIZE, aperture=None, lights=2, smooth=2.0):
    recipe = BATTERY[name]
    lens = bs.Lens(recipe["K"], recipe["focus"], aperture or bs.Disc())
    margin = int(np.ceil(recipe["K"])) + 3
    layers = []
    for i, shape in enumerate(recipe["layers"]):
        surface = shape if isinstance(shape, bs.Plane) else shape(canvas(size, margin))
        closed = i == len(recipe["layers"]) - 1 and not recipe.get("open_bottom")
        alpha = 1.0 if closed else matte(size, margin, 7 + i)
        color = texture(size, margin, 20 + i, smooth, lights)
        layers.append(bs.Layer(color, np.broadcast_to(np.float32(alpha), color.shape[:2]), surface))
    return Scene(tuple(layers), lens, margin)
