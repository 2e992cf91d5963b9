"""The three networks together: built from a configuration, and the one step from a degraded picture to a clean one."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bokehsynth import UsageError
from magicbokeh.model.attention import Regions, regions_by_size
from magicbokeh.model.config import ModelConfig, Prediction
from magicbokeh.model.networks import BokehUNet, BokehVAE, DefocusControlNet


class Restored(dict[str, Any]):
    """What one step gives; all that is needed to check it.

    latent      [B, 4, h, w]   the degraded picture, scaled latents
    residuals   list           the ControlNet's, one per skip connection
    eps         [B, 4, h, w]   the UNet's output
    x0          [B, 4, h, w]   the clean picture, scaled latents, float32
    image       [B, 3, H, W]   in -1..1, clamped; decoded when first asked for: three quarters of the work, which a
                               tile that is merged with others never needs
    """

    def __init__(self, decode: Callable[[Tensor], Tensor], **tensors: Any) -> None:
        super().__init__(tensors, image=None)
        self._decode = decode

    def __getitem__(self, key: str) -> Any:
        if key == "image" and super().__getitem__("image") is None:
            self["image"] = self._decode(self["x0"])
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[str]:  # with this `dict(result)` and `**result` ask for each value by name
        return super().__iter__()

    def get(self, key: str, default: Any = None) -> Any:
        """As of any dict."""
        return self[key] if key in self else default  # noqa: SIM401  # super().get would not decode

    def items(self) -> Any:
        """As of any dict; decodes."""
        return [(key, self[key]) for key in self]

    def values(self) -> Any:
        """As of any dict; decodes."""
        return [self[key] for key in self]


@dataclass(frozen=True)
class OneStep:
    """The step from pure noise level to the clean latent, in closed form; no scheduler."""

    prediction: Prediction
    alpha_bar: float

    def x0(self, latent: Tensor, output: Tensor) -> Tensor:
        """The clean latent, never in half precision: the eps form multiplies every error of `output` by 14.6."""
        kind = torch.promote_types(latent.dtype, torch.float32)
        latent, output = latent.to(kind), output.to(kind)
        if self.prediction == "residual":
            return latent - output
        return (latent - math.sqrt(1 - self.alpha_bar) * output) / math.sqrt(self.alpha_bar)


@dataclass(frozen=True)
class Networks:
    """UNet, ControlNet and VAE with the numbers that say how they are used."""

    unet: BokehUNet
    controlnet: DefocusControlNet
    vae: BokehVAE
    step: OneStep
    focus_threshold: float

    def restore(
        self,
        lq: Tensor,
        defocus: Tensor,
        noise: Tensor | None = None,
        decode: Callable[[Tensor], Tensor] | None = None,
    ) -> Restored:
        """Pictures [B, 3, H, W] in -1..1 and maps [B, 1, H, W] in 0..1 to clean pictures; H, W multiples of 64.

        `noise` [B, 4, H/8, W/8] draws the latents; None takes their mode. `decode` takes the place of `self.decode`.
        """
        check_tile(lq, defocus)
        latent = self.vae.encode(lq, noise)
        residuals = self.controlnet(latent, defocus)
        eps = self.unet(latent, residuals, self.regions(defocus, latent))
        x0 = self.step.x0(latent, eps)
        return Restored(decode or self.decode, latent=latent, residuals=residuals, eps=eps, x0=x0)

    def decode(self, x0: Tensor) -> Tensor:
        """Clean latents [B, 4, h, w] to pictures [B, 3, 8h, 8w] in -1..1, clamped."""
        return self.vae.decode(x0.to(self.vae.dtype)).clamp(-1, 1)

    def regions(self, defocus: Tensor, latent: Tensor) -> dict[tuple[int, int], Regions]:
        """In and out of focus at every resolution of the decoder that attends."""
        size = (latent.shape[2], latent.shape[3])
        return regions_by_size(defocus <= self.focus_threshold, size, len(self.unet.config.block_out_channels) - 1)

    def fuse(self) -> None:
        """Melt LoRAs and the time step into plain weights, in place; the pictures stay the same to rounding."""
        self.unet.fuse()
        self.controlnet.fuse()
        self.vae.fuse()


def check_tile(lq: Tensor, defocus: Tensor) -> None:
    """UsageError unless the two are [B, 3, H, W] and [B, 1, H, W] with sides that the network can halve six times."""
    if lq.ndim != 4 or lq.shape[1] != 3:
        raise UsageError(f"lq: must be [B, 3, H, W], not {list(lq.shape)}")
    if defocus.shape != (lq.shape[0], 1, *lq.shape[2:]):
        raise UsageError(f"defocus: must be {[lq.shape[0], 1, *lq.shape[2:]]} to go with lq, not {list(defocus.shape)}")
    if lq.shape[2] % 64 or lq.shape[3] % 64 or not lq.numel():
        raise UsageError(f"lq: sides must be multiples of 64, not {lq.shape[2]} x {lq.shape[3]}; tile or pad it")


def build_networks(config: ModelConfig, seed: int | None = None) -> Networks:
    """Networks with fresh weights: the ControlNet, the LoRAs and, for `residual`, the output start at zero effect.

    `seed` decides the weights without touching torch's global generator; None uses that generator.
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
    vae = BokehVAE(
        latent_channels=config.latent_channels,
        block_out_channels=config.vae_block_out_channels,
        layers_per_block=config.vae_layers_per_block,
        norm_groups=config.vae_norm_groups,
        scaling_factor=config.scaling_factor,
        vae_rank=config.vae_rank,
        vae_alpha=config.vae_alpha,
    )
    if config.prediction == "residual":
        out = getattr(unet.conv_out, "base_layer", unet.conv_out)
        torch.nn.init.zeros_(out.weight)
        torch.nn.init.zeros_(out.bias)
    return Networks(unet, controlnet, vae, OneStep(config.prediction, config.alpha_bar), config.focus_threshold)


def _shared(config: ModelConfig) -> dict[str, Any]:
    """What UNet and ControlNet must have in common."""
    return {
        "latent_channels": config.latent_channels,
        "block_out_channels": config.block_out_channels,
        "layers_per_block": config.layers_per_block,
        "norm_groups": config.norm_groups,
        "norm_eps": config.norm_eps,
        "use_linear_projection": config.use_linear_projection,
        "upcast_attention": config.upcast_attention,
    }
