"""Small scenes shared by the renderer's tests, and a ray tracer that shares no line with the package's.

Sizes are (height, width) of the picture. Colours are linear light.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

import bokehsynth as bs


@dataclass(frozen=True)
class Scene:
    """What `bokehsynth.rendering` takes, in one hand."""

    layers: tuple[bs.Layer, ...]
    lens: bs.Lens
    margin: int

    def render(self, backend="cpu", samples=None):
        return bs.render(self.layers, self.lens, self.margin, backend, samples)

    @property
    def size(self):
        height, width = self.layers[0].shape
        return height - 2 * self.margin, width - 2 * self.margin


def sheet(size, margin, color, alpha=1.0, plane=None):
    """A layer from anything that broadcasts to its canvas."""
    shape = (size[0] + 2 * margin, size[1] + 2 * margin)
    color = np.broadcast_to(np.asarray(color, np.float32), (*shape, 3))
    return bs.Layer(color, np.broadcast_to(np.asarray(alpha, np.float32), shape), plane or bs.Plane(0.5))


def texture(size, margin, seed, smooth=2.0, lights=0):
    """Smooth coloured noise in about 0.1..0.9 and `lights` texels of 20 times white, [Hc, Wc, 3]."""
    rng = np.random.default_rng(seed)
    shape = (size[0] + 2 * margin, size[1] + 2 * margin)
    noise = gaussian_filter(rng.standard_normal((*shape, 3)), (smooth, smooth, 0), mode="nearest")
    picture = 0.5 + 0.4 * np.tanh(noise / noise.std())
    for _ in range(lights):
        picture[margin + rng.integers(size[0]), margin + rng.integers(size[1])] = 20.0
    return picture.astype(np.float32)


def matte(size, margin, seed):
    """A soft blob near a corner of the picture, flat in the middle, with a hair 1 px wide, [Hc, Wc]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0] + 2 * margin, : size[1] + 2 * margin].astype(float) - margin
    cx, cy = rng.choice([0.15, 0.85]) * size[1], rng.choice([0.15, 0.85]) * size[0]
    radius = rng.uniform(0.2, 0.3) * min(size)
    alpha = np.clip((radius - np.hypot(x - cx, y - cy)) / rng.uniform(1, 5) + 0.5, 0, 1)
    along = np.arange(0, radius + 5, 0.5)
    angle = rng.uniform(0, 2 * math.pi)
    hair_x = np.rint(cx + along * math.cos(angle)).astype(int) + margin
    hair_y = np.rint(cy + along * math.sin(angle)).astype(int) + margin
    inside = (hair_x >= 0) & (hair_x < x.shape[1]) & (hair_y >= 0) & (hair_y < x.shape[0])
    alpha[hair_y[inside], hair_x[inside]] = 0.9
    return alpha.astype(np.float32)


def half_plane(size, margin, edge, axis=1):
    """Alpha 1 from picture column (axis 1) or row (axis 0) `edge` on, 0 before; [Hc, Wc].

    Bilinear lookup ramps from 0 at edge - 1 to 1 at edge.
    """
    shape = (size[0] + 2 * margin, size[1] + 2 * margin)
    index = np.arange(shape[axis]) - margin
    ramp = (index >= edge).astype(np.float32)
    return np.broadcast_to(ramp[None, :] if axis == 1 else ramp[:, None], shape)


def point_light(size, margin, at, plane, power=1.0):
    """An opaque black layer with one bright texel at picture pixel `at` = (x, y)."""
    shape = (size[0] + 2 * margin, size[1] + 2 * margin)
    color = np.zeros((*shape, 3), np.float32)
    color[at[1] + margin, at[0] + margin] = power
    return bs.Layer(color, np.ones(shape, np.float32), plane)


def centred(size, at):
    """Offset of picture pixel (x, y) from the centre."""
    return at[0] - (size[1] - 1) / 2, at[1] - (size[0] - 1) / 2


def enough(layers_planes, lens, size):
    """The margin that the lens asks for."""
    return lens.margin(list(layers_planes), size[1], size[0])


BATTERY = {
    "three frontal": {"planes": [(0.9,), (0.5,), (0.1,)], "K": 11.0, "focus": 0.52},
    "focus on the nearest": {"planes": [(0.9,), (0.6,), (0.2,)], "K": 10.0, "focus": 0.9},
    "focus on the farthest": {"planes": [(0.8,), (0.55,), (0.1,)], "K": 10.0, "focus": 0.1},
    "tilted": {"planes": [(0.85, 1e-3, -2e-3), (0.5, -1e-3, 5e-4), (0.15, 5e-4, 1.5e-3)], "K": 13.0, "focus": 0.4},
    "steep ground": {"planes": [(0.9,), (0.3, 0.0, 1.2e-2)], "K": 25.0, "focus": 0.35},
    "crossing": {"planes": [(0.55, 6e-3, 1e-3), (0.5, -5e-3, 2e-3), (0.05,)], "K": 12.0, "focus": 0.3},
    "same disparity": {"planes": [(0.7,), (0.7,), (0.7, 1e-3), (0.2,)], "K": 14.0, "focus": 0.3},
    "nothing behind": {"planes": [(0.8,), (0.3, 1e-3, 1e-3)], "K": 12.0, "focus": 0.6, "open_bottom": True},
    "wider than a tile": {"planes": [(0.9, 5e-4), (0.2, -4e-4, 1e-3)], "K": 9.0, "focus": 0.6, "size": (11, 283)},
    "far from the middle": {
        "planes": [(0.1,), (0.9, 0, 1e-3), (0.4, -2e-3)],
        "K": 10.0,
        "focus": 0.0,
        "size": (67, 41),
    },
}
"""Scenes by name: frontal, tilted, crossing and tied planes, odd sizes, more than one tile."""


TINTS = np.array([(1.0, 0.3, 0.2), (0.2, 0.9, 0.4), (0.3, 0.4, 1.0), (0.9, 0.9, 0.2)], np.float32)


def battery_scene(name, lights=3, aperture=None, smooth=2.0):
    """One scene of the battery: soft mattes with hairs over an opaque bottom, highlights of 20 times white."""
    recipe = BATTERY[name]
    size = recipe.get("size", (45, 61))
    planes = [bs.Plane(*numbers) for numbers in recipe["planes"]]
    lens = bs.Lens(recipe["K"], recipe["focus"], aperture or bs.Disc())
    margin = enough(planes, lens, size)
    seed = 100 * list(BATTERY).index(name)
    layers = []
    for i, plane in enumerate(planes):
        closed = i == len(planes) - 1 and not recipe.get("open_bottom")
        alpha = 1.0 if closed else matte(size, margin, seed + 2 * i)
        color = TINTS[i % 4] * texture(size, margin, seed + 2 * i + 1, smooth, lights)
        layers.append(sheet(size, margin, color, alpha, plane))
    return Scene(tuple(layers), lens, margin)


def trace_by_hand(scene, points, weights):
    """The ray tracer of `docs/optics.md` once more, in float64: colour [H, W, 3] and coverage [H, W].

    Each hit is the solution q of q = p + s*K*(d(q) - d_f), found as a 2 x 2 linear system, and the layers of each ray
    are sorted by d(q); lookup by SciPy.
    """
    height, width = scene.size
    y, x = (a.ravel() for a in np.mgrid[:height, :width].astype(float))
    cx, cy = (width - 1) / 2, (height - 1) / 2
    K, focus = scene.lens.blur, scene.lens.focus
    light, arrived = np.zeros((3, height * width)), np.zeros((3, height * width))
    for s, weight in zip(points, np.asarray(weights, float), strict=True):
        depths, hits = [], []
        for layer in scene.layers:
            plane = layer.disparity
            system = np.eye(2) - K * np.outer(s, (plane.gx, plane.gy))
            here = plane.d + plane.gx * (x - cx) + plane.gy * (y - cy)
            qx, qy = np.stack([x, y]) + np.linalg.solve(system, np.outer(s, K * (here - focus)))
            depths.append(plane.d + plane.gx * (qx - cx) + plane.gy * (qy - cy))
            straight = np.moveaxis(layer.color.astype(float), 2, 0)
            planes = [*(straight * layer.alpha), layer.alpha.astype(float)]
            where = (qy + scene.margin, qx + scene.margin)
            hits.append([map_coordinates(p, where, order=1, mode="nearest") for p in planes])
        order = np.argsort(-np.stack(depths), axis=0, kind="stable")
        hits = np.take_along_axis(np.array(hits), order[:, None], axis=0)
        through = np.ones(height * width)
        for *color, alpha in hits:
            light += weight[:, None] * through * np.array(color)
            arrived += weight[:, None] * through * alpha
            through = through * (1 - alpha)
    with np.errstate(invalid="ignore", divide="ignore"):
        picture = np.where(arrived > 0, light / arrived, 0)
    coverage = (arrived / np.asarray(weights, float).sum(axis=0)[:, None]).mean(axis=0)
    return picture.T.reshape(height, width, 3), coverage.reshape(height, width)


def disc_share(u):
    """Area of the unit disc's part with x < u, as a share of the disc."""
    u = np.clip(u, -1, 1)
    return 0.5 + (u * np.sqrt(1 - u * u) + np.arcsin(u)) / math.pi


def knife_edge(size, lens, plane, edge, axis=1, power=1):
    """Expected alpha**power [H, W] of `half_plane` on any plane: the edge cuts the lens disc along a straight line.

    n.p' > c with p' = p + s*K*delta/(1 - K g.s) is s.(K*delta*n + K*(c - n.p)*g) > c - n.p: linear in s also on a
    tilted plane. Averaged over the bilinear ramp edge - 1 < c < edge by Gauss-Legendre.
    """
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    delta = plane.at(x - (size[1] - 1) / 2, y - (size[0] - 1) / 2) - lens.focus
    normal = np.array([1.0, 0.0]) if axis == 1 else np.array([0.0, 1.0])
    nodes, weights = np.polynomial.legendre.leggauss(48)
    share = np.zeros(size)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        gap = edge - 1 + node - (x if axis == 1 else y)
        toward = [lens.blur * (delta * n + gap * g) for n, g in zip(normal, (plane.gx, plane.gy), strict=True)]
        height = power * node ** (power - 1)  # E[a^n] = integral of n t^(n-1) P(a > t)
        share += weight * height * (1 - disc_share(gap / np.hypot(*toward)))
    return share


def moments(picture, about):
    """Sum, mean offset (x, y) from pixel `about`, and mean square offset per axis of a single-channel picture."""
    picture = np.asarray(picture, np.float64)
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(float)
    x, y = x - about[0], y - about[1]
    total = picture.sum()
    mean = (picture * x).sum() / total, (picture * y).sum() / total
    square = (picture * x * x).sum() / total, (picture * y * y).sum() / total
    return total, mean, square


def fuzz_scene(seed):
    """Any number of layers and tilts, mattes of noise and of flat blocks that hide what lies behind."""
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(5, 30)), int(rng.integers(5, 40)))
    K = float(rng.choice([0.3, 3.0, 8.0]))
    planes = []
    for _ in range(rng.integers(1, 6)):
        slope = rng.choice([0, 0.03, 0.3, 0.6], p=[0.4, 0.2, 0.2, 0.2]) / K
        angle = rng.uniform(0, 2 * np.pi)
        slope = min(slope, 0.05)
        planes.append(bs.Plane(rng.uniform(0, 1), slope * np.cos(angle), slope * np.sin(angle)))
    lens = bs.Lens(K, float(rng.choice([p.d for p in planes])) if rng.random() < 0.5 else rng.uniform(0, 1))
    margin = enough(planes, lens, size)
    layers = []
    for plane in planes:
        shape = (size[0] + 2 * margin, size[1] + 2 * margin)
        blocks = np.kron(rng.choice([0, 1, 2], (8, 8)), np.ones((24, 24)))[: shape[0], : shape[1]]
        alpha = np.where(blocks == 2, rng.random(shape), blocks)
        layers.append(sheet(size, margin, texture(size, margin, seed, lights=1), alpha, plane))
    return Scene(tuple(layers), lens, margin)
