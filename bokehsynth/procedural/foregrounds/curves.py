"""Outlines and noise: the geometry under the paint. All points are [N, 2] in the units of a family, y down."""

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.procedural.toolkit import FloatArray, Points


def closed(points: npt.ArrayLike, per: int = 8) -> Points:
    """A smooth closed curve (Catmull-Rom) through the points, `per` steps between two of them: [N * per, 2]."""
    knots = np.asarray(points, np.float64)
    return _catmull(np.roll(knots, 1, 0), knots, np.roll(knots, -1, 0), np.roll(knots, -2, 0), per)


def opened(points: npt.ArrayLike, per: int = 8) -> Points:
    """A smooth open curve through the points: [(N - 1) * per + 1, 2]."""
    knots = np.asarray(points, np.float64)
    padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    return np.concatenate([_catmull(padded[:-3], padded[1:-2], padded[2:-1], padded[3:], per), knots[-1:]])


def ellipse(center: npt.ArrayLike, radii: npt.ArrayLike, angle: float = 0.0, count: int = 72) -> Points:
    """An ellipse outline; `angle` in radians, clockwise on screen."""
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    flat = np.stack([np.cos(turn), np.sin(turn)], -1) * np.asarray(radii, np.float64)
    return rotate(flat, angle) + np.asarray(center, np.float64)


def rounded_box(center: npt.ArrayLike, half: npt.ArrayLike, radius: float, count: int = 8) -> Points:
    """A rectangle with round corners; `half` its half sides."""
    cx, cy = np.asarray(center, np.float64)
    hx, hy = np.asarray(half, np.float64) - radius
    turn = np.linspace(0, np.pi / 2, count)
    corners = [(hx, hy, 0.0), (-hx, hy, np.pi / 2), (-hx, -hy, np.pi), (hx, -hy, 1.5 * np.pi)]
    arcs = [np.stack([x + radius * np.cos(turn + a), y + radius * np.sin(turn + a)], -1) for x, y, a in corners]
    return np.concatenate(arcs) + (cx, cy)


def mirrored(half: npt.ArrayLike, per: int = 8) -> Points:
    """A smooth closed outline from its right half, listed from the top of the axis x = 0 to its bottom."""
    right = np.asarray(half, np.float64)
    left = right[::-1] * (-1, 1)
    left = left[np.abs(left[:, 0]) > 1e-9]
    return closed(np.concatenate([right, left]), per)


def rotate(points: Points, angle: float) -> Points:
    """Points turned about the origin, radians, clockwise on screen."""
    c, s = np.cos(angle), np.sin(angle)
    turned: Points = points @ np.array([[c, s], [-s, c]])
    return turned


def ribbons(spines: Points, half_widths: Points) -> Points:
    """Outlines [N, 2P, 2] of strips along spines [N, P, 2] with half widths [N, P]."""
    tangent = np.gradient(spines, axis=1)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=-1, keepdims=True), 1e-12)
    side = np.stack([-tangent[..., 1], tangent[..., 0]], -1) * half_widths[..., None]
    return np.concatenate([spines + side, (spines - side)[:, ::-1]], axis=1)


def ribbon(spine: Points, half_width: npt.ArrayLike) -> Points:
    """The outline [2P, 2] of one strip along a spine [P, 2]; half width a number or [P]."""
    widths = np.broadcast_to(np.asarray(half_width, np.float64), spine.shape[:1])
    return ribbons(spine[None], widths[None])[0]


def sunflower(count: int) -> tuple[Points, Points]:
    """Evenly spread points of the unit disk, centre first: radius [count], angle [count]."""
    i = np.arange(count, dtype=np.float64)
    radius: Points = np.sqrt((i + 0.5) / count)
    return radius, i * 2.399963229728653


def lattice(rng: np.random.Generator, cells: int = 64) -> FloatArray:
    """Normal noise on a periodic lattice, the same whatever the picture's size: [cells, cells]."""
    return rng.standard_normal((cells, cells)).astype(np.float32)


def lattice_noise(
    cells: FloatArray, x: FloatArray, y: FloatArray, frequency: tuple[float, float], octaves: int = 1
) -> FloatArray:
    """Smooth noise [h, w] on evenly spaced coordinates x [1, w], y [h, 1]; frequency in lattice cells per unit."""
    total = np.zeros((y.size, x.size), np.float32)
    weight = 1.0
    for octave in range(octaves):
        fx, fy = frequency[0] * 2**octave, frequency[1] * 2**octave
        step_x = float(x[0, 1] - x[0, 0]) if x.size > 1 else 0.0
        step_y = float(y[1, 0] - y[0, 0]) if y.size > 1 else 0.0
        start_x, start_y = float(x[0, 0]) * fx + 17.3 * octave, float(y[0, 0]) * fy + 5.1 * octave
        place = np.array([[step_x * fx, 0, start_x], [0, step_y * fy, start_y]])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        total += np.float32(weight) * cv2.warpAffine(
            cells, place, (x.size, y.size), flags=flags, borderMode=cv2.BORDER_WRAP
        )
        weight *= 0.5
    return total


def _catmull(a: Points, b: Points, c: Points, d: Points, per: int) -> Points:
    t = (np.arange(per) / per)[None, :, None]
    a, b, c, d = (p[:, None] for p in (a, b, c, d))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.asarray(curve.reshape(-1, 2))
