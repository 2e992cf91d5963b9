"""Configuration of the MagicBokeh networks, from a toy that runs in milliseconds to Stable Diffusion 2.1."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from bokehsynth import UsageError

Prediction = Literal["eps", "residual"]

SD_ALPHA_BAR = 0.00466009508818388
"""Share of signal variance left at step 999 of Stable Diffusion's schedule (scaled linear, 0.00085 to 0.012)."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shapes of the networks and the meaning of their inputs and outputs; the defaults are SD2.1-base."""

    sample_size: int = 64
    """Side of a tile in latent pixels; the tile has eight times as many picture pixels."""
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    heads: tuple[int, ...] = (5, 10, 20, 20)
    """Attention heads per block (the last block has no attention and ignores its number)."""
    layers_per_block: int = 2
    norm_groups: int = 32
    norm_eps: float = 1e-5
    use_linear_projection: bool = True
    upcast_attention: bool = False
    map_channels: tuple[int, ...] = (16, 32, 96, 256)
    """Channels of the layers that downsample the defocus map to the latents' size."""
    latent_channels: int = 4
    vae_block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers_per_block: int = 2
    vae_norm_groups: int = 32
    scaling_factor: float = 0.18215
    """Factor from the VAE's latents to the UNet's."""
    sr_rank: int = 32
    """Rank of the super-resolution LoRA of the UNet; 0 for none (merged)."""
    sr_alpha: float = 8.0
    """The super-resolution LoRA is scaled by alpha/rank."""
    vae_rank: int = 16
    vae_alpha: float = 8.0
    bokeh_rank: int = 64
    bokeh_alpha: float = 64.0
    prediction: Prediction = "eps"
    """eps: the UNet predicts noise, x0 = (z - sqrt(1-a) eps)/sqrt(a). residual: x0 = z - output, for training from
    scratch: at the start x0 = z, where the eps form starts from 14.65 z."""
    alpha_bar: float = SD_ALPHA_BAR
    blur_reference: float = 32.0
    """Blur radius, in network pixels, at which the defocus map is 1: the largest of the training set."""
    focus_threshold: float = 0.1
    """Defocus (0..1) up to which a pixel belongs to the region in focus."""

    def __post_init__(self) -> None:
        if len(self.heads) != len(self.block_out_channels):
            raise UsageError(f"heads: one per block: {len(self.block_out_channels)} blocks, {len(self.heads)} numbers")
        if self.prediction not in ("eps", "residual"):
            raise UsageError(f"prediction: eps or residual, not {self.prediction!r}")
        for name in ("sr_rank", "vae_rank", "bokeh_rank"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name}: 0 or more, not {getattr(self, name)}")
        if not 0 < self.alpha_bar < 1:
            raise UsageError(f"alpha_bar: between 0 and 1, not {self.alpha_bar}")
        if self.blur_reference <= 0:
            raise UsageError(f"blur_reference: pixels, above 0, not {self.blur_reference}")

    @classmethod
    def sd21(cls, **changes: Any) -> "ModelConfig":
        """Stable Diffusion 2.1-base, pruned: 724 million parameters in the UNet, 247 million in the ControlNet."""
        return dataclasses.replace(cls(), **changes)

    @classmethod
    def toy(cls, **changes: Any) -> "ModelConfig":
        """The same architecture with some 300 thousand parameters and 64 px tiles: seconds on a CPU."""
        toy = cls(
            sample_size=8,
            block_out_channels=(16, 32, 48, 48),
            heads=(2, 4, 6, 6),
            norm_groups=8,
            vae_block_out_channels=(8, 8, 16, 16),
            vae_layers_per_block=1,
            vae_norm_groups=4,
            sr_rank=4,
            vae_rank=4,
            bokeh_rank=6,
            bokeh_alpha=6.0,
            prediction="residual",
            blur_reference=8.0,
        )
        return dataclasses.replace(toy, **changes)
