"""Evenly placed tiles over a picture, blended with weights that sum to one."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bokehsynth import UsageError

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class TileOptions:
    """Options for pictures larger than the network's tile."""

    overlap: int | None = None
    """Least overlap of neighbouring tiles, network pixels; None: a quarter of the tile (128 of 512)."""
    batch: int = 1
    """Tiles per call of the networks. Halved when the device runs out of memory, with a warning."""

    def __post_init__(self) -> None:
        if self.overlap is not None and self.overlap < 0:
            raise UsageError(f"overlap: 0 px or more, not {self.overlap}")
        if self.batch < 1:
            raise UsageError(f"batch: 1 tile or more, not {self.batch}")


@dataclass(frozen=True)
class TileAxis:
    """Tiles along one side of a picture."""

    length: int
    size: int
    starts: tuple[int, ...]
    weights: FloatArray
    """[tiles, size]: over every position the weights of the tiles that cover it sum to 1."""

    def finer(self, scale: int) -> "TileAxis":
        """The same tiles in units that are `scale` times finer."""
        starts = tuple(start * scale for start in self.starts)
        length, size = self.length * scale, self.size * scale
        return TileAxis(length, size, starts, _weights(length, size, starts))


def place_tiles(length: int, size: int, overlap: int) -> TileAxis:
    """Place the fewest tiles of `size` that overlap by at least `overlap`, evenly; a shorter `length` gets one tile.

    All arguments are in one unit, pixels or latent pixels.
    """
    if length <= size:
        return TileAxis(length, length, (0,), np.ones((1, length), np.float32))
    if overlap >= size:
        raise UsageError(f"overlap: less than the tile ({size}), not {overlap}")
    count = -(-(length - overlap) // (size - overlap))
    starts = tuple(round(index * (length - size) / (count - 1)) for index in range(count))
    return TileAxis(length, size, starts, _weights(length, size, starts))


def place_tiles_flexibly(length: int, largest: int, overlap: int) -> TileAxis:
    """Place the fewest tiles of at most `largest`, then shrink them as far as their number allows."""
    if length <= largest:
        return place_tiles(length, length, 0)
    count = -(-(length - overlap) // (largest - overlap))
    return place_tiles(length, -(-(length + (count - 1) * overlap) // count), overlap)


def _weights(length: int, size: int, starts: tuple[int, ...]) -> FloatArray:
    """Raised-cosine weights over the overlaps, divided by their sum (three tiles may meet at a large overlap)."""
    raw = np.ones((len(starts), size))
    for index, (left, right) in enumerate(itertools.pairwise(starts)):
        shared = left + size - right
        if shared > 0:
            ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(shared) + 0.5) / shared)
            raw[index + 1, :shared] *= ramp
            raw[index, size - shared :] *= ramp[::-1]
    total = np.zeros(length)
    for start, row in zip(starts, raw, strict=True):
        total[start : start + size] += row
    return np.stack([row / total[s : s + size] for s, row in zip(starts, raw, strict=True)]).astype(np.float32)


@dataclass(frozen=True)
class Tile:
    """Position and blending weight [size_y, size_x] of one tile."""

    top: int
    left: int
    weight: FloatArray

    def slices(self, scale: int = 1) -> tuple[slice, slice]:
        """Its rows and columns, in units that are `scale` times finer."""
        height, width = self.weight.shape
        return (
            slice(self.top * scale, (self.top + height) * scale),
            slice(self.left * scale, (self.left + width) * scale),
        )


@dataclass(frozen=True)
class TileGrid:
    """Tiles over a picture, row by row."""

    rows: TileAxis
    columns: TileAxis

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    def __iter__(self) -> Iterator[Tile]:
        for index in range(len(self.rows.starts)):
            yield from self.row(index)

    def row(self, index: int) -> Iterator[Tile]:
        """The tiles of one row, from the left."""
        for column, left in enumerate(self.columns.starts):
            weight = self.rows.weights[index][:, None] * self.columns.weights[column][None]
            yield Tile(self.rows.starts[index], left, weight)


class BandMerger:
    """Adds rows of tiles up to finished rows of the picture, keeping only the unfinished band in memory."""

    def __init__(self, grid: TileGrid, channels: int) -> None:
        self._grid, self._top = grid, 0
        self._pending = np.zeros((channels, 0, grid.columns.length), np.float32)

    def add(self, index: int, values: FloatArray) -> tuple[int, FloatArray]:
        """Add row `index` of tiles, already summed along it and weighted, [C, size, W]; in order, from the top.

        Returns the rows that are now finished: the first one's index and their values [C, n, W].
        """
        axis = self._grid.rows
        start = axis.starts[index]
        end = start + axis.size
        band = np.zeros((self._pending.shape[0], end - self._top, self._pending.shape[2]), np.float32)
        band[:, : self._pending.shape[1]] = self._pending
        band[:, start - self._top :] += values
        last = index == len(axis.starts) - 1
        finished = (end if last else axis.starts[index + 1]) - self._top
        first, self._pending, self._top = self._top, band[:, finished:], self._top + finished
        return first, band[:, :finished]
