"""Tiles: evenly placed, weights that sum to one, bands that give the same as the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bokehsynth import UsageError
from magicbokeh.inference.tile_grid import BandMerger, TileGrid, TileOptions, place_tiles, place_tiles_flexibly

lengths = st.integers(1, 600)


@given(lengths, st.integers(2, 64), st.data())
def test_partition_of_unity(length, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    for axis in (place_tiles(length, size, overlap), place_tiles_flexibly(length, size, overlap)):
        total = np.zeros(length)
        for start, row in zip(axis.starts, axis.weights, strict=True):
            total[start : start + axis.size] += row
        assert np.abs(total - 1).max() <= 1e-6
        assert axis.starts[0] == 0
        assert axis.starts[-1] + axis.size == length
        assert (axis.weights >= 0).all()
        for left, right in zip(axis.starts[:-1], axis.starts[1:], strict=True):
            assert left + axis.size - right >= overlap - 1  # positions are whole
        fine = axis.finer(8)
        assert (fine.length, fine.size) == (8 * axis.length, 8 * axis.size)
        assert fine.starts == tuple(8 * start for start in axis.starts)


@given(st.integers(65, 600))
def test_tiles_are_even(length):
    starts = place_tiles(length, 64, 16).starts
    gaps = np.diff(starts)
    assert gaps.max() - gaps.min() <= 1


def test_the_numbers_of_a_phone_photo():
    """4032 x 3024 in tiles of 512 that overlap by 128: 11 x 8, where the official release has 15 x 11."""
    assert len(TileGrid(place_tiles(3024 // 8, 64, 16), place_tiles(4032 // 8, 64, 16))) == 88


@given(st.integers(1, 200), st.integers(1, 90), st.integers(4, 40))
def test_bands_equal_the_whole(height, width, size):
    grid = TileGrid(place_tiles(height, size, size // 3), place_tiles(width, size, size // 3))
    values = np.random.default_rng(height).random((2, height, width)).astype(np.float32)
    bands, found, held = BandMerger(grid, 2), [], 0
    for index in range(len(grid.rows.starts)):
        row = np.zeros((2, grid.rows.size, width), np.float32)
        for tile in grid.row(index):
            rows, columns = tile.slices()
            row[:, :, columns] += values[:, rows, columns] * tile.weight
        top, done = bands.add(index, row)
        assert top == sum(part.shape[1] for part in found)
        found.append(done)
        held = max(held, bands._pending.shape[1])
    assert np.abs(np.concatenate(found, axis=1) - values).max() <= 1e-5
    assert held <= grid.rows.size


def test_wrong_options():
    with pytest.raises(UsageError, match="overlap"):
        TileOptions(overlap=-1)
    with pytest.raises(UsageError, match="batch"):
        TileOptions(batch=0)
    with pytest.raises(UsageError, match="less than the tile"):
        place_tiles(100, 64, 64)
