"""Fractal noise on lattices of fixed resolution, so that a seed means the same place at every picture size."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.procedural.toolkit import FloatArray
from bokehsynth.rng import from_seed

TILE = 512
"""Lattice points along one period of a noise tile."""

GRAIN_HEIGHT, GRAIN_WIDTH = 1024, 1366


@dataclass(frozen=True)
class Tile:
    """Periodic fractal noise of mean 0 and deviation 1, with coarser copies for small pictures."""

    levels: tuple[FloatArray, ...]
    """[n + 1, n + 1] for n = TILE, TILE / 2, ...; the last row and column repeat the first."""

    def sample(self, u: npt.ArrayLike, v: npt.ArrayLike, period_px: float = TILE) -> FloatArray:
        """Noise at (u, v), in periods, broadcast against each other (at most two axes); float32.

        `period_px` is how many picture pixels one period covers: it selects the copy without sub-pixel detail.
        """
        level = int(np.clip(np.ceil(np.log2(TILE / max(period_px, 1.0)) - 0.25), 0, len(self.levels) - 1))
        table = self.levels[level]
        n = np.float32(len(table) - 1)
        columns, rows = np.asarray(u, np.float32), np.asarray(v, np.float32)
        place = np.empty((2, *np.broadcast(columns, rows).shape), np.float32)
        place[0] = (columns - np.floor(columns)) * n
        place[1] = (rows - np.floor(rows)) * n
        found = cv2.remap(table, place[0], place[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(found, np.float32).reshape(place.shape[1:])


def fractal_tile(rng: np.random.Generator, cells: int = 4, gain: float = 0.5) -> Tile:
    """A tile whose coarsest octave has `cells` (a power of 2) per period; each finer one is `gain` times as strong."""
    total = np.zeros((cells, cells), np.float32)
    strength = 1.0
    while True:
        count = len(total)
        octave = rng.standard_normal((count, count), dtype=np.float32)
        octave *= np.float32(strength)
        total += octave
        if count == TILE:
            break
        total, strength = _doubled(total), strength * gain
    total -= total.mean()
    total /= total.std()
    levels = [total]
    while levels[-1].shape[0] > 32:
        half = levels[-1].shape[0] // 2
        levels.append(np.asarray(cv2.resize(levels[-1], (half, half), interpolation=cv2.INTER_AREA), np.float32))
    return Tile(tuple(np.ascontiguousarray(np.pad(level, ((0, 1), (0, 1)), mode="wrap")) for level in levels))


@cache
def soft_tile() -> Tile:
    """The tile of clouds, stains and puddles, the same in every picture: places on it are drawn."""
    return fractal_tile(from_seed(1), cells=4, gain=0.56)


@cache
def rough_tile() -> Tile:
    """The tile of plaster, asphalt and waves, the same in every picture: places on it are drawn."""
    return fractal_tile(from_seed(2), cells=16, gain=0.8)


def _doubled(lattice: FloatArray) -> FloatArray:
    """A periodic lattice at twice the resolution."""
    count = len(lattice)
    padded = np.pad(lattice, 2, mode="wrap")
    large = cv2.resize(padded, (2 * count + 8, 2 * count + 8), interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, np.float32)[4:-4, 4:-4]


def fractal_curve(
    rng: np.random.Generator, cells: int, octaves: int, gain: float = 0.5
) -> Callable[[npt.ArrayLike], FloatArray]:
    """A random function of x in -0.5..1.9, values about -1..1: outlines of hills, bends of trunks."""
    grid = np.linspace(-0.5, 1.9, 2048)
    total = np.zeros_like(grid)
    norm = 0.0
    for octave in range(octaves):
        knots = rng.uniform(-1.0, 1.0, cells * 2**octave + 3)
        place = (grid + 0.5) / 2.4 * (len(knots) - 3)
        index = place.astype(np.int64).clip(0, len(knots) - 3)
        total += gain**octave * _quadratic_spline(knots, index, place - index)
        norm += gain**octave
    total /= norm * 0.6

    def curve(x: npt.ArrayLike) -> FloatArray:
        return np.interp(np.asarray(x, np.float64), grid, total).astype(np.float32)

    return curve


def _quadratic_spline(
    knots: npt.NDArray[np.float64], index: npt.NDArray[np.int64], t: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    left, middle, right = knots[index], knots[index + 1], knots[index + 2]
    return np.asarray(0.5 * (left * (1 - t) ** 2 + middle * (1 + 2 * t - 2 * t * t) + right * t * t))


def grain(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    """White noise in -1..1 drawn at the largest size and averaged down; float32 [height, width], finest detail."""
    field = rng.integers(0, 256, (GRAIN_HEIGHT, GRAIN_WIDTH), dtype=np.uint8)
    gain = np.float32(1 / 127.5)
    if height < GRAIN_HEIGHT:
        # Averaging n pixels divides the deviation by sqrt(n); real texture is less white, hence the square root back.
        gain *= np.float32((GRAIN_HEIGHT / height) ** 0.5)
        field = np.asarray(cv2.resize(field, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return (field[:height, :width].astype(np.float32) - np.float32(127.5)) * gain
