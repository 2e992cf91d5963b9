"""The peer of `benchmarks.render`, today's brute force, and the judge of both: a converged float64 ray tracer.

`brute` walks pixel by pixel and ray by ray as the published CUDA generators do (MPIB): a regular 51 x 51 grid of lens
points, the layers in their given order, one bilinear lookup per hit. `converged` is the same integral in float64 over
a dense spiral of rays. `hand_trace` is neither: plain Python that finds hits by iteration instead of a formula, slow
and obviously right; it and `backend="reference"` are what the two are checked against. None of them shares code
with `bokehsynth.rendering`. `score` compares pictures.
"""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numba
import numpy as np

import bokehsynth as bs
from bokehsynth.rng import from_seed

GRID = 51
SKIP, STOP = 0.01, 0.99
"""MPIB's thresholds: a hit with less alpha is skipped, a hit with more ends the ray."""

NO_SKIP, NO_STOP = -1.0, 2.0
"""Thresholds that no alpha passes: exact "over"."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Layers as both tracers read them: premultiplied planar texels and planes, without the lens."""

    texels: np.ndarray
    """float32 [L, 4, Hc, Wc], nearest first."""
    planes: np.ndarray
    """float64 [L, 3]: disparity at the centre and its gradient per px."""
    margin: int

    @classmethod
    def of(cls, layers: Sequence[bs.Layer], margin: int) -> "Stack":
        """Premultiply; the layers must lie in front of one another, since no ray here sorts its hits."""
        texels = [np.concatenate([(x.color * x.alpha[..., None]), x.alpha[..., None]], axis=2) for x in layers]
        planes = [(x.disparity.d, x.disparity.gx, x.disparity.gy) for x in layers]
        height, width = layers[0].shape
        for near, far in pairwise(layers):
            in_front = min(near.disparity.corners(width, height)) > max(far.disparity.corners(width, height))
            assert in_front, "planes cross"
        return cls(np.ascontiguousarray(np.moveaxis(np.stack(texels), 3, 1)), np.array(planes), margin)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the picture."""
        height, width = self.texels.shape[2:]
        return height - 2 * self.margin, width - 2 * self.margin


class Score(NamedTuple):
    """Distance from the converged picture."""

    rmse: float
    largest: float
    psnr: float


def grid_points() -> np.ndarray:
    """The regular 51 x 51 grid over [-1, 1]^2 inside the unit disc, float64 [1957, 2].

    Exact arithmetic would accept 1,961; rounding puts four of the twenty points on the rim outside.
    """
    x, y = np.meshgrid(np.linspace(-1, 1, GRID), np.linspace(-1, 1, GRID))
    inside = x * x + y * y <= 1
    return np.stack([x[inside], y[inside]], axis=1)


def spiral_points(count: int) -> np.ndarray:
    """Vogel's golden-angle spiral over the unit disc, float64 [count, 2]."""
    index = np.arange(count)
    radius, angle = np.sqrt((index + 0.5) / count), index * math.pi * (3 - math.sqrt(5))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def brute(stack: Stack, lens: bs.Lens, pixels: np.ndarray, skip: float = SKIP, stop: float = STOP) -> np.ndarray:
    """Trace the 1,957 grid rays of each pixel (y, x) [M, 2] in float32 -> linear light float32 [M, 3]."""
    color = np.empty((len(pixels), 3), np.float32)
    pixels = np.ascontiguousarray(pixels)  # another memory order would be another compilation, inside someone's clock
    f = np.float32
    _trace_float32(
        stack.texels, stack.planes.astype(f), grid_points().astype(f), f(lens.blur), f(lens.focus), stack.margin,
        pixels, f(skip), f(stop), color,
    )  # fmt: skip
    return color


def converged(stack: Stack, lens: bs.Lens, pixels: np.ndarray, rays: int) -> np.ndarray:
    """Trace `rays` spiral rays of each pixel (y, x) [M, 2] in float64, without thresholds -> float64 [M, 3]."""
    color = np.empty((len(pixels), 3))
    points, pixels = spiral_points(rays), np.ascontiguousarray(pixels)

    def part(rows: slice) -> None:
        _trace_float64(
            stack.texels, stack.planes, points, lens.blur, lens.focus, stack.margin, pixels[rows], color[rows]
        )

    threads = len(os.sched_getaffinity(0))  # Python's, since Numba's own are set to one for the timing
    ends = np.linspace(0, len(pixels), 4 * threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, [slice(a, b) for a, b in pairwise(ends)]))
    return color


def hand_trace(
    stack: Stack, lens: bs.Lens, pixel: tuple[int, int], points: np.ndarray, skip: float, stop: float
) -> np.ndarray:
    """One pixel in plain Python floats: each hit is found by iterating p' = p + s K (d(p') - d_f) -> [3]."""
    (height, width), m = stack.shape, stack.margin
    x, y = pixel[1] - (width - 1) / 2, pixel[0] - (height - 1) / 2
    light, arrived = np.zeros(3), 0.0
    for sx, sy in points:
        through = 1.0
        for texels, (d, gx, gy) in zip(stack.texels.astype(np.float64), stack.planes, strict=True):
            hx, hy = x, y
            for _ in range(12):
                radius = lens.blur * (d + gx * hx + gy * hy - lens.focus)
                hx, hy = x + sx * radius, y + sy * radius
            px, py = hx + (width - 1) / 2 + m, hy + (height - 1) / 2 + m
            ix, iy = math.floor(px), math.floor(py)
            taps = np.outer([1 - (py - iy), py - iy], [1 - (px - ix), px - ix])
            *color, alpha = (texels[:, iy : iy + 2, ix : ix + 2] * taps).sum(axis=(1, 2))
            if alpha < skip:
                continue
            light += through * np.array(color)
            through *= 1 - alpha
            if alpha > stop:
                break
        arrived += 1 - through
    return light / arrived if arrived > 0 else light


def score(picture: np.ndarray, truth: np.ndarray) -> Score:
    """RMSE and largest error in linear light (lights of 20), PSNR of the unquantised sRGB pictures in 0..1."""
    error = picture.astype(np.float64) - truth
    encoded = [bs.linear_to_srgb(np.clip(x, 0, 1)).astype(np.float64) for x in (picture, truth)]
    noise = max(float(np.square(encoded[0] - encoded[1]).mean()), 1e-20)
    return Score(float(np.sqrt(np.square(error).mean())), float(np.abs(error).max()), -10 * float(np.log10(noise)))


def random_pixels(seed: int, shape: tuple[int, int], count: int) -> np.ndarray:
    """Pixels (y, x) without repetition, [count, 2]."""
    index = from_seed(seed).permutation(shape[0] * shape[1])[:count]
    return np.stack(np.unravel_index(index, shape), axis=1)


def rays_of(blur: float) -> int:
    """Rays of the converged picture: 16k and 65k differ by 7e-6 rms at K = 32."""
    return 24_576 if blur > 8 else 8_192


@numba.njit(nogil=True, fastmath=True, error_model="numpy")
def _trace_float32(texels, planes, points, blur, focus, margin, pixels, skip, stop, color):
    """Pixel-outer, ray-inner. Every scalar is float32: one stray Python number would make the loop float64.

    Unsigned offsets into flat planes spare Numba's test for negative indices, which C has not either.
    """
    one, zero = np.float32(1), np.float32(0)
    count, _, height, width = texels.shape
    flat = texels.reshape(count, 4, height * width)
    cx, cy = np.float32((width - 1) / 2), np.float32((height - 1) / 2)
    right, below = np.uintp(1), np.uintp(width)
    for i in range(len(pixels)):
        x = np.float32(pixels[i, 1] + margin) - cx
        y = np.float32(pixels[i, 0] + margin) - cy
        red, green, blue, arrived = zero, zero, zero, zero
        for k in range(len(points)):
            u, v = blur * points[k, 0], blur * points[k, 1]
            through = one
            for n in range(count):
                d, gx, gy = planes[n, 0], planes[n, 1], planes[n, 2]
                stretch = (d + gx * x + gy * y - focus) / (one - gx * u - gy * v)
                px, py = x + u * stretch + cx, y + v * stretch + cy
                if not (px >= zero and py >= zero):
                    continue
                ix, iy = np.int32(px), np.int32(py)
                if ix >= width - 1 or iy >= height - 1:  # outside the canvas: the hit is dropped
                    continue
                fx, fy = px - np.float32(ix), py - np.float32(iy)
                w11 = fx * fy
                w01, w10 = fx - w11, fy - w11
                w00 = one - fx - w10
                a = np.uintp(iy * width + ix)
                b, c = a + right, a + below
                e = c + right
                plane = flat[n, 3]
                alpha = w00 * plane[a] + w01 * plane[b] + w10 * plane[c] + w11 * plane[e]
                if alpha < skip:
                    continue
                plane = flat[n, 0]
                red += through * (w00 * plane[a] + w01 * plane[b] + w10 * plane[c] + w11 * plane[e])
                plane = flat[n, 1]
                green += through * (w00 * plane[a] + w01 * plane[b] + w10 * plane[c] + w11 * plane[e])
                plane = flat[n, 2]
                blue += through * (w00 * plane[a] + w01 * plane[b] + w10 * plane[c] + w11 * plane[e])
                through *= one - alpha
                if alpha > stop:
                    break
            arrived += one - through
        scale = one / arrived if arrived > zero else zero
        color[i, 0], color[i, 1], color[i, 2] = red * scale, green * scale, blue * scale


@numba.njit(nogil=True, error_model="numpy")
def _trace_float64(texels, planes, points, blur, focus, margin, pixels, color):
    """The definition, pixel by pixel; the caller's canvas is wide enough for every hit."""
    count, _, height, width = texels.shape
    cx, cy = (width - 1) / 2, (height - 1) / 2
    hit = np.empty(4)
    for i in range(len(pixels)):
        x, y = pixels[i, 1] + margin - cx, pixels[i, 0] + margin - cy
        light, arrived = np.zeros(3), 0.0
        for k in range(len(points)):
            u, v = blur * points[k, 0], blur * points[k, 1]
            through = 1.0
            for n in range(count):
                d, gx, gy = planes[n, 0], planes[n, 1], planes[n, 2]
                stretch = (d + gx * x + gy * y - focus) / (1 - gx * u - gy * v)
                px, py = x + u * stretch + cx, y + v * stretch + cy
                ix, iy = int(px), int(py)
                fx, fy = px - ix, py - iy
                for c in range(4):
                    plane = texels[n, c]
                    top = (1 - fx) * plane[iy, ix] + fx * plane[iy, ix + 1]
                    bottom = (1 - fx) * plane[iy + 1, ix] + fx * plane[iy + 1, ix + 1]
                    hit[c] = (1 - fy) * top + fy * bottom
                for c in range(3):
                    light[c] += through * hit[c]
                through *= 1 - hit[3]
            arrived += 1 - through
        for c in range(3):
            color[i, c] = light[c] / arrived if arrived > 0 else 0.0
