"""The Haar codec: pictures to latents and back by an orthonormal wavelet transform, without weights and without loss.

Stable Diffusion's autoencoder has learned what to keep of a picture. A small one would keep too little, and a small
model would spend its training on it; here all that is learned is the task.
"""

import os
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle


class HaarCodec(ModelMixin, ConfigMixin):
    """An orthonormal Haar transform in place of the autoencoder, under the same methods. Works in *scaled* latents.

    Each level turns 2 x 2 pixels into their mean, doubled, and three differences; the next one transforms the means.
    Finer differences are moved into channels, so that all latents have one size: 3·4^levels channels at 1/2^levels.
    """

    __module__ = "magicbokeh.model"  # the name that saved pipelines give for it

    @register_to_config
    def __init__(self, levels: int = 2, scaling_factor: float = 0.25) -> None:
        super().__init__()
        # Holds device and dtype, which a module without parameters would not know.
        self.register_buffer("_place", torch.zeros(()), persistent=False)

    @property
    def scale(self) -> int:
        """Picture pixels per latent pixel."""
        return int(2**self.config.levels)

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(3 * 4**self.config.levels)

    @apply_forward_hook
    def encode(self, image: Tensor, noise: Tensor | None = None) -> Tensor:
        """Transform `image` [B, 3, H, W] to latents [B, 3·4^levels, H/2^levels, W/2^levels]; sides divide by 2^levels.

        `noise` has no effect: there is no distribution to sample.
        """
        return _analyse(image, self.config.levels) * self.config.scaling_factor

    @apply_forward_hook
    def decode(self, latent: Tensor) -> Tensor:
        """Transform latents [B, C, h, w] back to pictures [B, 3, H, W], not clamped."""
        return _synthesise(latent / self.config.scaling_factor, self.config.levels)

    def forward(self, image: Tensor) -> Tensor:
        """Encode and decode."""
        return self.decode(self.encode(image))

    def fuse(self) -> None:
        """Do nothing: there is no LoRA to merge."""

    def save_pretrained(self, save_directory: str | os.PathLike[str], *_: Any, **__: Any) -> None:
        """Write config.json, which is all there is."""
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        self.save_config(save_directory)

    @classmethod
    def from_pretrained(cls, path: Any, **options: Any) -> Any:
        """Build the codec of a folder's config.json; of diffusers' options the dtype alone has an effect."""
        codec = cls.from_config(cls.load_config(path))
        dtype = options.get("torch_dtype", options.get("dtype"))
        return codec.to(dtype) if isinstance(dtype, torch.dtype) else codec


def _analyse(picture: Tensor, levels: int) -> Tensor:
    """The coefficients of [B, C, H, W]: [B, C·4^levels, H/2^levels, W/2^levels], means first, finest last."""
    if levels == 0:
        return picture
    a, b, c, d = (picture[..., row::2, column::2] for row in (0, 1) for column in (0, 1))
    top, bottom, left, right = a + b, c + d, a - b, c - d
    means, details = (top + bottom) / 2, torch.cat([top - bottom, left + right, left - right], dim=1) / 2
    return torch.cat([_analyse(means, levels - 1), pixel_unshuffle(details, 2 ** (levels - 1))], dim=1)


def _synthesise(coefficients: Tensor, levels: int) -> Tensor:
    """The inverse of `_analyse`."""
    if levels == 0:
        return coefficients
    count = coefficients.shape[1] // 4
    coarse, fine = coefficients[:, :count], coefficients[:, count:]
    means = _synthesise(coarse, levels - 1)
    rows, columns, both = pixel_shuffle(fine, 2 ** (levels - 1)).chunk(3, dim=1)
    top, bottom, left, right = means + rows, means - rows, columns + both, columns - both
    corners = torch.cat([top + left, top - left, bottom + right, bottom - right], dim=1) / 2
    batch, _, height, width = means.shape
    corners = corners.view(batch, 2, 2, -1, height, width).permute(0, 3, 4, 1, 5, 2)
    return corners.reshape(batch, -1, 2 * height, 2 * width)
