"""Tiles laid evenly over a picture, and their values merged with weights that sum to one."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bokehsynth import UsageError

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class TileOptions:
    """How a picture larger than the network's tile is cut."""

    overlap: int | None = None
    """Least overlap of two neighbours, network pixels; None: a quarter of the tile (128 of 512)."""
    batch: int = 1
    """Tiles per call of the networks. Halved when the device runs out of memory, with a warning."""

    def __post_init__(self) -> None:
        if self.overlap is not None and self.overlap < 0:
            raise UsageError(f"overlap: 0 px or more, not {self.overlap}")
        if self.batch < 1:
            raise UsageError(f"batch: 1 tile or more, not {self.batch}")


@dataclass(frozen=True)
class Axis:
    """Tiles along one side of a picture."""

    length: int
    size: int
    starts: tuple[int, ...]
    weights: FloatArray
    """[tiles, size]: over every position the weights of the tiles that cover it sum to 1."""

    def finer(self, scale: int) -> "Axis":
        """The same tiles in units `scale` times finer."""
        starts = tuple(start * scale for start in self.starts)
        length, size = self.length * scale, self.size * scale
        return Axis(length, size, starts, _weights(length, size, starts))


def place(length: int, size: int, overlap: int) -> Axis:
    """The fewest tiles of `size` that overlap by at least `overlap`, evenly spaced; a shorter `length` gets one tile.

    The unit (pixels or latent pixels) is the caller's.
    """
    if length <= size:
        return Axis(length, length, (0,), np.ones((1, length), np.float32))
    if overlap >= size:
        raise UsageError(f"overlap: less than the tile ({size}), not {overlap}")
    count = -(-(length - overlap) // (size - overlap))
    starts = tuple(round(index * (length - size) / (count - 1)) for index in range(count))
    return Axis(length, size, starts, _weights(length, size, starts))


def place_flexible(length: int, largest: int, overlap: int) -> Axis:
    """As `place`, with the tile as small as its count allows (for a network that takes any size)."""
    if length <= largest:
        return place(length, length, 0)
    count = -(-(length - overlap) // (largest - overlap))
    return place(length, -(-(length + (count - 1) * overlap) // count), overlap)


def _weights(length: int, size: int, starts: tuple[int, ...]) -> FloatArray:
    """Raised cosines over the overlaps, divided by their sum (three tiles may meet where the overlap is large)."""
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
    """One tile: where it lies, and its weight [size_y, size_x]."""

    top: int
    left: int
    weight: FloatArray

    def within(self, scale: int = 1) -> tuple[slice, slice]:
        """Rows and columns, in units `scale` times finer."""
        height, width = self.weight.shape
        return (
            slice(self.top * scale, (self.top + height) * scale),
            slice(self.left * scale, (self.left + width) * scale),
        )


@dataclass(frozen=True)
class Grid:
    """Tiles over a picture, row by row."""

    rows: Axis
    columns: Axis

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


class Bands:
    """Merges rows of tiles into finished rows of the picture, holding no more than one band of them."""

    def __init__(self, grid: Grid, channels: int) -> None:
        self._grid, self._top = grid, 0
        self._held = np.zeros((channels, 0, grid.columns.length), np.float32)

    def add(self, index: int, values: FloatArray) -> tuple[int, FloatArray]:
        """Add row `index` of tiles, already merged along it and weighted [C, size, W]; in order, from the top.

        Returns what is finished now: the first picture row and the rows [C, n, W].
        """
        axis = self._grid.rows
        start = axis.starts[index]
        end = start + axis.size
        grown = np.zeros((self._held.shape[0], end - self._top, self._held.shape[2]), np.float32)
        grown[:, : self._held.shape[1]] = self._held
        grown[:, start - self._top :] += values
        last = index == len(axis.starts) - 1
        done = (end if last else axis.starts[index + 1]) - self._top
        first, self._held, self._top = self._top, grown[:, done:], self._top + done
        return first, grown[:, :done]
