"""The three networks as one: built from a configuration, and the single step from a degraded picture to a clean one."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bokehsynth import UsageError
from magicbokeh.model.attention import Regions, focus_mask, regions_by_size
from magicbokeh.model.config import ModelConfig, Prediction
from magicbokeh.model.haar import HaarCodec
from magicbokeh.model.networks import BokehUNet, BokehVAE, DefocusControlNet


@dataclass(frozen=True)
class StepOutput:
    """Output of the network's single step, with its intermediate values.

    `image` is decoded when first read: decoding takes three quarters of the work, and tiles that are merged as latents
    are never decoded one by one.
    """

    latent: Tensor
    """[B, C, h, w]: the degraded picture, scaled latents."""
    residuals: list[Tensor]
    """The ControlNet's, one per skip connection."""
    eps: Tensor
    """[B, C, h, w]: the UNet's output."""
    x0: Tensor
    """[B, C, h, w]: the clean picture, scaled latents, float32."""
    decode: Callable[[Tensor], Tensor] = field(repr=False)

    @cached_property
    def image(self) -> Tensor:
        """[B, 3, H, W] in -1..1, clamped."""
        return self.decode(self.x0)

    def __getitem__(self, name: str) -> Any:
        """Read a value by name; in 0.4.0 the output was a dict."""
        return getattr(self, name)


@dataclass(frozen=True)
class OneStep:
    """The step from timestep 999 to the clean latent, in closed form, without a scheduler."""

    prediction: Prediction
    alpha_bar: float

    def x0(self, latent: Tensor, output: Tensor) -> Tensor:
        """The clean latent, at least in float32: the eps form multiplies every error of `output` by 14.6."""
        dtype = torch.promote_types(latent.dtype, torch.float32)
        latent, output = latent.to(dtype), output.to(dtype)
        if self.prediction == "residual":
            return latent - output
        return (latent - math.sqrt(1 - self.alpha_bar) * output) / math.sqrt(self.alpha_bar)


@dataclass(frozen=True)
class Networks:
    """UNet, ControlNet and codec with the parameters of their use."""

    unet: BokehUNet
    controlnet: DefocusControlNet
    vae: BokehVAE | HaarCodec
    step: OneStep
    focus_threshold: float

    def restore(
        self,
        lq: Tensor,
        defocus: Tensor,
        noise: Tensor | None = None,
        decode: Callable[[Tensor], Tensor] | None = None,
    ) -> StepOutput:
        """Restore pictures [B, 3, H, W] in -1..1 with defocus maps [B, 1, H, W] in 0..1; H, W multiples of `multiple`.

        `noise` [B, C, h, w] samples the latents; None takes their mode. `decode` replaces `self.decode`.
        """
        check_tile(lq, defocus, self.multiple)
        latent = self.vae.encode(lq, noise)
        residuals = self.controlnet(latent, defocus)
        eps = self.unet(latent, residuals, self.regions(defocus, latent))
        x0 = self.step.x0(latent, eps)
        return StepOutput(latent, residuals, eps, x0, decode or self.decode)

    @property
    def multiple(self) -> int:
        """What the sides of pictures must be multiples of: 64 for Stable Diffusion."""
        return int(self.vae.scale * 2 ** (len(self.unet.config.block_out_channels) - 1))

    def decode(self, x0: Tensor) -> Tensor:
        """Decode clean latents [B, C, h, w] to pictures [B, 3, H, W] in -1..1, clamped."""
        return self.vae.decode(x0.to(self.vae.dtype)).clamp(-1, 1)

    def regions(self, defocus: Tensor, latent: Tensor) -> dict[tuple[int, int], Regions]:
        """The regions in and out of focus at every resolution of the decoder that has attention."""
        size = (latent.shape[2], latent.shape[3])
        mask = focus_mask(defocus, self.focus_threshold)
        blocks = len(self.unet.config.block_out_channels)
        return regions_by_size(mask, size, blocks if self.unet.config.attention_in_last else blocks - 1)

    def fuse(self) -> None:
        """Merge the LoRAs and fold the time embedding, in place; the pictures stay the same up to rounding."""
        self.unet.fuse()
        self.controlnet.fuse()
        self.vae.fuse()


def check_tile(lq: Tensor, defocus: Tensor, multiple: int) -> None:
    """UsageError unless the shapes are [B, 3, H, W] and [B, 1, H, W], with sides that are multiples of `multiple`."""
    if lq.ndim != 4 or lq.shape[1] != 3:
        raise UsageError(f"lq: must be [B, 3, H, W], not {list(lq.shape)}")
    if defocus.shape != (lq.shape[0], 1, *lq.shape[2:]):
        raise UsageError(f"defocus: must be {[lq.shape[0], 1, *lq.shape[2:]]} to go with lq, not {list(defocus.shape)}")
    if lq.shape[2] % multiple or lq.shape[3] % multiple or not lq.numel():
        raise UsageError(
            f"lq: sides must be multiples of {multiple}, not {lq.shape[2]} x {lq.shape[3]}; tile or pad it"
        )


def build_networks(config: ModelConfig, seed: int | None = None) -> Networks:
    """Build newly initialised networks: the ControlNet, the LoRAs and, for `residual`, the output have zero effect.

    `seed` determines the weights without touching torch's global generator; None uses that generator.
    """
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_networks(config)
    unet = BokehUNet(
        sample_size=config.sample_size,
        heads=config.heads,
        sr_rank=config.sr_rank,
        sr_alpha=config.sr_alpha,
        bokeh_rank=config.bokeh_rank,
        bokeh_alpha=config.bokeh_alpha,
        **_shared(config),
    )
    controlnet = DefocusControlNet(heads=config.heads, map_channels=config.map_channels, **_shared(config))
    vae = build_codec(config)
    if config.prediction == "residual":
        out = getattr(unet.conv_out, "base_layer", unet.conv_out)
        torch.nn.init.zeros_(out.weight)
        torch.nn.init.zeros_(out.bias)
    return Networks(unet, controlnet, vae, OneStep(config.prediction, config.alpha_bar), config.focus_threshold)


def build_codec(config: ModelConfig) -> BokehVAE | HaarCodec:
    """Build the autoencoder, newly initialised, or the Haar codec."""
    if config.codec == "haar":
        return HaarCodec(levels=config.haar_levels, scaling_factor=config.scaling_factor)
    return BokehVAE(
        latent_channels=config.latent_channels,
        block_out_channels=config.vae_block_out_channels,
        layers_per_block=config.vae_layers_per_block,
        norm_groups=config.vae_norm_groups,
        scaling_factor=config.scaling_factor,
        vae_rank=config.vae_rank,
        vae_alpha=config.vae_alpha,
    )


def _shared(config: ModelConfig) -> dict[str, Any]:
    """The sizes that UNet and ControlNet share."""
    return {
        "latent_channels": config.latent_channels,
        "block_out_channels": config.block_out_channels,
        "layers_per_block": config.layers_per_block,
        "norm_groups": config.norm_groups,
        "norm_eps": config.norm_eps,
        "use_linear_projection": config.use_linear_projection,
        "upcast_attention": config.upcast_attention,
        "attention_in_last": config.attention_in_last,
    }
