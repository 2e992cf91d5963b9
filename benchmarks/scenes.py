"""Scenes of `benchmarks.render`: two soft mattes with hair over a tilted background, with lights on all three.

Everything is drawn from a seed, in linear light; there is no photograph and nothing is read from disk. The two
foregrounds cover about 20 % and 37 % of the picture whatever the seed: scenes differ in shape, not in difficulty.
"""

import math

import cv2
import numpy as np

import bokehsynth as bs
from bokehsynth.rng import from_seed

FOCUS = ("near", "middle", "far")
"""The layer in focus, in the layers' order; `far` is the background's disparity at the centre."""

DISPARITY = (0.9, 0.55, 0.15)
TILT = (1.6e-4, 2.4e-4)
COVER = (0.18, 0.35)
"""Of the blobs; the hairs add two hundredths."""
LIGHTS = (15, 15, 60)
BRIGHTEST = 20.0


def planes(seed: int) -> list[bs.Plane]:
    """The three planes of a scene, near to far: two frontal ones and a tilted one, which never cross."""
    rng = from_seed(seed)
    near, middle, far = (d + float(rng.uniform(-0.03, 0.03)) for d in DISPARITY)
    gx, gy = (float(rng.choice((-1, 1)) * g) for g in TILT)
    return [bs.Plane(near), bs.Plane(middle), bs.Plane(far, gx, gy)]


def build(seed: int, size: int, margin: int) -> list[bs.Layer]:
    """The layers of a size x size picture on a canvas with `margin` px of overscan."""
    rng, layers = from_seed(seed + 1), []
    for i, plane in enumerate(planes(seed)):
        side = size + 2 * margin
        alpha = matte(rng, size, margin, COVER[i]) if i < len(COVER) else np.ones((side, side), np.float32)
        color = texture(rng, side)
        add_lights(rng, color, alpha, margin, LIGHTS[i])
        layers.append(bs.Layer(color, alpha, plane))
    return layers


def texture(rng: np.random.Generator, side: int) -> np.ndarray:
    """Structure at three sizes, down to single pixels, float32 [side, side, 3] in 0..1."""
    color = np.zeros((side, side, 3), np.float32)
    for cell, share in ((48, 0.5), (8, 0.3), (1, 0.2)):
        cells = max(2, side // cell)
        noise = rng.random((cells, cells, 3), np.float32)
        color += np.float32(share) * cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    return (color.clip(0, 1) * rng.uniform(0.3, 1.0, 3)).astype(np.float32)


def matte(rng: np.random.Generator, size: int, margin: int, cover: float) -> np.ndarray:
    """A blob whose edge is 2 to 8 px soft and that covers this share of the picture, with hairs round it.

    The blob is star-shaped: distance from a centre over a random outline. Its size is set by the quantile of that
    quotient over the picture, which gives the cover wherever the centre lies.
    """
    side = size + 2 * margin
    x0, y0 = margin + rng.uniform(0.25, 0.75, 2) * size
    y, x = np.mgrid[:side, :side]
    distance, angle = np.hypot(x - x0, y - y0), np.arctan2(y - y0, x - x0)
    waves = [(k, rng.uniform(0, 0.45 / k), rng.uniform(0, 2 * math.pi)) for k in (1, 2, 3, 5, 8)]

    def outline(at: np.ndarray) -> np.ndarray:
        return np.exp(sum(a * np.cos(k * at + phase) for k, a, phase in waves))

    relative = distance / outline(angle)
    scale = np.quantile(relative[margin : margin + size, margin : margin + size], cover)
    softness = rng.uniform(2, 8)
    alpha = np.clip(0.5 + (scale * outline(angle) - distance) / softness, 0, 1)
    alpha = alpha * alpha * (3 - 2 * alpha)
    roots = rng.uniform(0, 2 * math.pi, 60)
    radii = scale * outline(roots) - softness
    starts = np.stack([x0 + radii * np.cos(roots), y0 + radii * np.sin(roots)], axis=1)
    return np.maximum(alpha, hairs(rng, side, starts, roots, size / 8)).astype(np.float32)


def hairs(rng: np.random.Generator, side: int, starts: np.ndarray, angles: np.ndarray, length: float) -> np.ndarray:
    """Alpha of curved strands of 1 to 3 px, one from each start, [side, side]."""
    alpha = np.zeros((side, side), np.uint8)  # OpenCV draws smooth lines into bytes only
    for i, (start, angle) in enumerate(zip(starts, angles, strict=True)):
        steps = np.linspace(0, length * rng.uniform(0.4, 1.0), 16)
        heading = angle + rng.normal(0, 0.3) + rng.normal(0, 0.8) * steps / length
        path = start + np.cumsum(
            np.diff(steps, prepend=0)[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1), 0
        )
        opacity = int(rng.uniform(0.6, 1.0) * 255)
        strand = np.zeros_like(alpha)
        cv2.polylines(strand, [np.round(path * 16).astype(np.int32)], False, opacity, 1 + i % 3, cv2.LINE_AA, shift=4)
        alpha = np.maximum(alpha, strand)
    return alpha / 255


def add_lights(rng: np.random.Generator, color: np.ndarray, alpha: np.ndarray, margin: int, count: int) -> None:
    """Add round lights of up to 20 times white to `color` where the layer is there to be seen.

    They are smooth, as a lens or a resampled photograph leaves them. Single texels and hard discs would flatter
    whatever is compared with the brute force, whose grid is at its worst on them.
    """
    inner = alpha[margin : alpha.shape[0] - margin, margin : alpha.shape[1] - margin]
    places = np.argwhere(inner > 0.5) + margin
    for y, x in places[rng.integers(0, len(places), count)]:
        peak = BRIGHTEST ** rng.uniform(0.3, 1.0) * rng.uniform(0.6, 1.0, 3)
        sigma, (fy, fx) = rng.uniform(0.7, 2.0), rng.uniform(-0.5, 0.5, 2)
        top, left = max(y - 8, 0), max(x - 8, 0)
        patch = color[top : y + 9, left : x + 9]
        dy, dx = np.mgrid[top : top + patch.shape[0], left : left + patch.shape[1]]
        spot = np.exp(-((dy - y - fy) ** 2 + (dx - x - fx) ** 2) / (2 * sigma**2))
        patch += (spot[..., None] * peak).astype(np.float32)
