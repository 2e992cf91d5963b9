"""The networks over a picture of any size: tiles in, latents merged, and decoded in bands."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bokehsynth import DeviceError, UsageError
from magicbokeh.inference.tile_grid import Bands, Grid, Tile, TileOptions, place, place_flexible

FloatArray = npt.NDArray[np.float32]

SCALE = 8
"""Picture pixels per latent pixel."""


@dataclass(frozen=True)
class Canvas:
    """The network's picture, mirrored outwards to what tiles need."""

    image: FloatArray
    """[H, W, 3] sRGB in 0..1, sides multiples of 8 and at least one tile."""
    defocus: FloatArray
    """[H, W] in 0..1."""
    size: tuple[int, int]
    """(height, width) of the picture within, from the top left."""

    @classmethod
    def of(cls, image: FloatArray, defocus: FloatArray, tile: int) -> "Canvas":
        """`tile` in picture pixels."""
        height, width = image.shape[:2]
        extra = [max(tile, -(-length // SCALE) * SCALE) - length for length in (height, width)]
        if not any(extra):
            return cls(image, defocus, (height, width))
        margin = [(0, extra[0]), (0, extra[1])]
        return cls(np.pad(image, [*margin, (0, 0)], "symmetric"), np.pad(defocus, margin, "symmetric"), (height, width))

    @property
    def latent_size(self) -> tuple[int, int]:
        """(height, width) in latent pixels."""
        return self.image.shape[0] // SCALE, self.image.shape[1] // SCALE

    def tensors(self, tiles: list[Tile]) -> tuple[Tensor, Tensor]:
        """The tiles' pictures [B, 3, H, W] in -1..1 and maps [B, 1, H, W]."""
        pictures = [self.image[tile.within(SCALE)].transpose(2, 0, 1) for tile in tiles]
        maps = [self.defocus[tile.within(SCALE)][None] for tile in tiles]
        return torch.from_numpy(np.stack(pictures) * np.float32(2) - np.float32(1)), torch.from_numpy(np.stack(maps))


@dataclass(frozen=True)
class TiledRun:
    """How a canvas is restored: the step for a batch of tiles, the decoder, and where they live."""

    forward: Callable[..., Any]
    """(lq, defocus, latent_noise) -> what `Networks.restore` returns."""
    decode: Callable[[Tensor], Tensor]
    """Latents to pictures in -1..1."""
    device: torch.device
    sample_size: int
    """Side of a tile in latent pixels."""
    options: TileOptions
    progress: Callable[[int], Any]
    """Total -> a context manager with `update`."""

    def grid(self, canvas: Canvas) -> Grid:
        """The tiles of the step."""
        overlap, tile = self.options.overlap, self.sample_size * SCALE
        if overlap is not None and overlap > tile - SCALE:
            raise UsageError(f"overlap: at most {tile - SCALE} px of this model's tiles of {tile}, not {overlap}")
        in_latents = self.sample_size // 4 if overlap is None else -(-overlap // SCALE)
        return Grid(*(place(length, self.sample_size, in_latents) for length in canvas.latent_size))

    def decode_grid(self, canvas: Canvas) -> Grid:
        """The tiles of the decoder: a quarter larger and barely overlapping, as most of the work is here."""
        overlap, largest = max(1, self.sample_size // 8), self.sample_size * 5 // 4
        return Grid(*(place_flexible(length, largest, overlap) for length in canvas.latent_size))

    def latents(self, canvas: Canvas, noise: Tensor | None) -> Tensor:
        """The clean latents of the whole canvas, [1, 4, h, w] float32 on the CPU.

        `noise` [1, 4, h, w] belongs to places, not to tiles: where tiles overlap they see the same.
        """
        tiles = list(self.grid(canvas))
        merged: Tensor | None = None
        with self.progress(len(tiles)) as bar:
            for some, x0 in self._batches(canvas, tiles, noise):
                if merged is None:
                    merged = torch.zeros((1, x0.shape[1], *canvas.latent_size))
                for tile, values in zip(some, x0, strict=True):
                    rows, columns = tile.within()
                    merged[0, :, rows, columns] += values * torch.from_numpy(tile.weight)
                bar.update(len(some))
        assert merged is not None
        return merged

    def _batches(self, canvas: Canvas, tiles: list[Tile], noise: Tensor | None) -> Iterator[tuple[list[Tile], Tensor]]:
        """Run the step on batches of tiles; smaller batches once the device has run out of memory."""
        many, first = self.options.batch, 0
        while first < len(tiles):
            some = tiles[first : first + many]
            lq, defocus = (part.to(self.device) for part in canvas.tensors(some))
            own = None
            if noise is not None:
                own = torch.cat([_cut(noise, tile) for tile in some]).to(self.device)
            try:
                x0 = self.forward(lq, defocus, own)["x0"].float().cpu()
            except torch.cuda.OutOfMemoryError:
                many = self._fewer(many)
                continue
            yield some, x0
            first += many

    def _fewer(self, many: int) -> int:
        if many == 1:
            raise DeviceError(
                f"{self.device}: not enough memory for one tile of {self.sample_size * SCALE} px; "
                "use float16 (--dtype float16), enable_model_cpu_offload() or the CPU"
            ) from None
        warnings.warn(f"{self.device}: no memory for {many} tiles at once; going on with {many // 2}", stacklevel=2)
        return many // 2

    def bands(self, canvas: Canvas, latent: Tensor) -> Iterator[tuple[int, FloatArray]]:
        """Decode: (first row, rows [n, W, 3] in 0..1) from the top down, without the mirrored margins."""
        height, width = canvas.size
        grid = self.decode_grid(canvas)
        fine = Grid(grid.rows.finer(SCALE), grid.columns.finer(SCALE))
        bands = Bands(fine, 3)
        for index in range(len(grid.rows.starts)):
            row = np.zeros((3, fine.rows.size, fine.columns.length), np.float32)
            for tile, spot in zip(grid.row(index), fine.row(index), strict=True):
                values = self.decode(_cut(latent, tile).to(self.device))[0].float().cpu().numpy()
                row[:, :, spot.within()[1]] += values * spot.weight
            top, done = bands.add(index, row)
            rows = done[:, : max(0, height - top), :width].transpose(1, 2, 0)
            if rows.shape[0]:
                yield top, (rows + np.float32(1)) * np.float32(0.5)

    def picture(self, canvas: Canvas, noise: Tensor | None) -> FloatArray:
        """The restored picture [H, W, 3], around 0..1."""
        latent = self.latents(canvas, noise)
        picture = np.empty((*canvas.size, 3), np.float32)
        for top, rows in self.bands(canvas, latent):
            picture[top : top + rows.shape[0]] = rows
        return picture


def _cut(latent: Tensor, tile: Tile) -> Tensor:
    rows, columns = tile.within()
    return latent[:, :, rows, columns]
