"""The networks on a picture of any size: the step runs on tiles, latents are blended, and decoded in bands."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bokehsynth import DataError, DeviceError, UsageError
from magicbokeh.inference.tile_grid import BandMerger, Tile, TileGrid, TileOptions, place_tiles, place_tiles_flexibly

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Canvas:
    """The network's input, padded by mirroring to whole latent pixels and at least one tile."""

    image: FloatArray
    """[H, W, 3] sRGB in 0..1, sides multiples of `scale` and at least one tile."""
    defocus: FloatArray
    """[H, W] in 0..1."""
    size: tuple[int, int]
    """(height, width) of the picture without padding, from the top left."""
    scale: int
    """Picture pixels per latent pixel."""

    @classmethod
    def pad(cls, image: FloatArray, defocus: FloatArray, tile: int, scale: int) -> "Canvas":
        """Pad a picture; `tile` is the tile's side in latent pixels, `scale` the picture pixels in each of them."""
        height, width = image.shape[:2]
        extra = [max(tile, -(-length // scale)) * scale - length for length in (height, width)]
        if not any(extra):
            return cls(image, defocus, (height, width), scale)
        margin = [(0, extra[0]), (0, extra[1])]
        padded = np.pad(image, [*margin, (0, 0)], "symmetric"), np.pad(defocus, margin, "symmetric")
        return cls(*padded, (height, width), scale)

    @property
    def latent_size(self) -> tuple[int, int]:
        """(height, width) in latent pixels."""
        return self.image.shape[0] // self.scale, self.image.shape[1] // self.scale

    def tensors(self, tiles: list[Tile]) -> tuple[Tensor, Tensor]:
        """The tiles' pictures [B, 3, H, W] in -1..1 and maps [B, 1, H, W]."""
        pictures = [self.image[tile.slices(self.scale)].transpose(2, 0, 1) for tile in tiles]
        maps = [self.defocus[tile.slices(self.scale)][None] for tile in tiles]
        return torch.from_numpy(np.stack(pictures) * np.float32(2) - np.float32(1)), torch.from_numpy(np.stack(maps))


@dataclass(frozen=True)
class TiledForward:
    """Restores a canvas tile by tile: the step for a batch of tiles, the decoder, and their device."""

    forward: Callable[..., Any]
    """(lq, defocus, latent_noise) -> StepOutput, as `Networks.restore`."""
    decode: Callable[[Tensor], Tensor]
    """Decodes latents to pictures in -1..1."""
    device: torch.device
    sample_size: int
    """Side of a tile in latent pixels."""
    scale: int
    """Picture pixels per latent pixel."""
    options: TileOptions
    progress: Callable[[int], Any]
    """Takes the number of tiles and returns a context manager with `update`, as tqdm."""

    def grid(self, canvas: Canvas) -> TileGrid:
        """The tiles of the step, in latent pixels."""
        overlap, tile = self.options.overlap, self.sample_size * self.scale
        if overlap is not None and overlap > tile - self.scale:
            raise UsageError(f"overlap: at most {tile - self.scale} px of this model's tiles of {tile}, not {overlap}")
        in_latents = self.sample_size // 4 if overlap is None else -(-overlap // self.scale)
        return TileGrid(*(place_tiles(length, self.sample_size, in_latents) for length in canvas.latent_size))

    def decode_grid(self, canvas: Canvas) -> TileGrid:
        """The tiles of the decoder: a quarter larger with little overlap, because decoding is most of the work."""
        overlap, largest = max(1, self.sample_size // 8), self.sample_size * 5 // 4
        return TileGrid(*(place_tiles_flexibly(length, largest, overlap) for length in canvas.latent_size))

    def latents(self, canvas: Canvas, noise: Tensor | None) -> Tensor:
        """The blended clean latents of the whole canvas, [1, C, h, w] float32 on the CPU.

        `noise` [1, C, h, w] is that of the whole canvas: overlapping tiles share it.
        """
        tiles = list(self.grid(canvas))
        merged: Tensor | None = None
        with self.progress(len(tiles)) as bar:
            for batch, x0 in self._batches(canvas, tiles, noise):
                if merged is None:
                    merged = torch.zeros((1, x0.shape[1], *canvas.latent_size))
                for tile, values in zip(batch, x0, strict=True):
                    rows, columns = tile.slices()
                    merged[0, :, rows, columns] += values * torch.from_numpy(tile.weight)
                bar.update(len(batch))
        assert merged is not None
        return merged

    def _batches(self, canvas: Canvas, tiles: list[Tile], noise: Tensor | None) -> Iterator[tuple[list[Tile], Tensor]]:
        """Run the step on batches of tiles; halve the batch when the device runs out of memory."""
        size, first = self.options.batch, 0
        while first < len(tiles):
            batch = tiles[first : first + size]
            lq, defocus = (part.to(self.device) for part in canvas.tensors(batch))
            tile_noise = None
            if noise is not None:
                tile_noise = torch.cat([_cut(noise, tile) for tile in batch]).to(self.device)
            try:
                x0 = self.finite(self.forward(lq, defocus, tile_noise).x0)
            except torch.cuda.OutOfMemoryError:
                size = self._halve(size)
                continue
            yield batch, x0
            first += size

    def finite(self, values: Tensor) -> Tensor:
        """The network's output as float32 on the CPU; DataError where it holds NaN or infinity, which no picture is."""
        found = values.float().cpu()
        if not torch.isfinite(found).all():
            half = values.dtype == torch.float16
            raise DataError(
                "model: the network gives NaN or infinity; "
                + ("use float32 (--dtype float32), or " if half else "")
                + "fetch or export the model again: its weights are damaged, or its training failed"
            )
        return found

    def out_of_memory(self, side: int) -> DeviceError:
        """The error where the device's memory does not hold one tile of a side, in latent pixels."""
        return DeviceError(
            f"{self.device}: not enough memory for one tile of {side * self.scale} px; "
            "use float16 (--dtype float16), enable_model_cpu_offload() or the CPU"
        )

    def _halve(self, size: int) -> int:
        if size == 1:
            raise self.out_of_memory(self.sample_size) from None
        warnings.warn(f"{self.device}: no memory for {size} tiles at once; going on with {size // 2}", stacklevel=2)
        return size // 2

    def bands(self, canvas: Canvas, latent: Tensor) -> Iterator[tuple[int, FloatArray]]:
        """Decode from the top down: yields (first row, rows [n, W, 3] in 0..1), without the padding."""
        height, width = canvas.size
        grid = self.decode_grid(canvas)
        fine = TileGrid(grid.rows.finer(self.scale), grid.columns.finer(self.scale))
        merger, decode = BandMerger(fine, 3), _TileDecoder(self, max(grid.rows.size, grid.columns.size))
        for index in range(len(grid.rows.starts)):
            row = np.zeros((3, fine.rows.size, fine.columns.length), np.float32)
            for tile, fine_tile in zip(grid.row(index), fine.row(index), strict=True):
                row[:, :, fine_tile.slices()[1]] += decode(_cut(latent, tile)) * fine_tile.weight
            top, finished = merger.add(index, row)
            rows = finished[:, : max(0, height - top), :width].transpose(1, 2, 0)
            if rows.shape[0]:
                yield top, (rows + np.float32(1)) * np.float32(0.5)

    def picture(self, canvas: Canvas, noise: Tensor | None) -> FloatArray:
        """The restored picture [H, W, 3], around 0..1."""
        latent = self.latents(canvas, noise)
        picture = np.empty((*canvas.size, 3), np.float32)
        for top, rows in self.bands(canvas, latent):
            picture[top : top + rows.shape[0]] = rows
        return picture


SMALLEST_DECODED = 8
"""Side in latent pixels below which a tile is not cut further: its overlaps would be all of it."""


class _TileDecoder:
    """Decodes latents whole, or, once the device's memory did not hold one, in tiles of half the side."""

    def __init__(self, tiled: TiledForward, largest: int) -> None:
        """`largest`: side in latent pixels of what is decoded at a time."""
        self.tiled, self.largest = tiled, largest

    def __call__(self, latent: Tensor) -> FloatArray:
        """Decode [1, C, h, w] to [3, H, W] in -1..1."""
        if max(latent.shape[2:]) <= self.largest:
            with contextlib.suppress(torch.cuda.OutOfMemoryError):
                picture: FloatArray = self.tiled.finite(self.tiled.decode(latent.to(self.tiled.device)))[0].numpy()
                return picture
            self._halve()
        overlap = max(1, min(self.tiled.sample_size // 8, self.largest // 4))
        grid = TileGrid(*(place_tiles_flexibly(length, self.largest, overlap) for length in latent.shape[2:]))
        fine = TileGrid(grid.rows.finer(self.tiled.scale), grid.columns.finer(self.tiled.scale))
        merged = np.zeros((3, fine.rows.length, fine.columns.length), np.float32)
        for tile, fine_tile in zip(grid, fine, strict=True):
            rows, columns = fine_tile.slices()
            merged[:, rows, columns] += self(_cut(latent, tile)) * fine_tile.weight
        return merged

    def _halve(self) -> None:
        if self.largest // 2 < SMALLEST_DECODED:
            raise self.tiled.out_of_memory(self.largest)
        side = self.largest * self.tiled.scale
        warnings.warn(
            f"{self.tiled.device}: no memory to decode {side} px at once; going on with half the side", stacklevel=2
        )
        self.largest //= 2


def _cut(latent: Tensor, tile: Tile) -> Tensor:
    rows, columns = tile.slices()
    return latent[:, :, rows, columns]
