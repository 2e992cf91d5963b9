"""The networks: pruned Stable Diffusion UNet, ControlNet encoder of the defocus map, and the VAE around them.

All are diffusers models made of diffusers' blocks, under the official parameter names, each with a plain forward. Text
conditioning and the mid block do not exist, so that no loader can restore them.
"""

from typing import Any, cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import Decoder, Encoder
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn
from torch.nn.functional import silu

from bokehsynth import DataError
from magicbokeh.model import blocks
from magicbokeh.model.attention import FocusAttention, Regions
from magicbokeh.model.lora import add_lora, lora_targets, merge_lora

Sizes = tuple[int, ...]


class StrictModel(ModelMixin, ConfigMixin):
    """A diffusers model that loads only files with exactly its own tensors."""

    @classmethod
    def from_pretrained(cls, path: Any, **options: Any) -> Any:
        """Open a folder or hub repository as diffusers does; DataError where a tensor is missing or unknown."""
        with_info = options.pop("output_loading_info", False)
        options["use_safetensors"] = True  # diffusers would try a pickle where there are none
        model, info = super().from_pretrained(path, output_loading_info=True, **options)
        missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
        if missing or unexpected:
            raise DataError(
                f"{path}: the weights must be those of a {cls.__name__}: {len(missing)} missing "
                f"({', '.join(missing[:3]) or 'none'}), {len(unexpected)} unknown "
                f"({', '.join(unexpected[:3]) or 'none'}); make it with `magicbokeh convert` or `export`"
            )
        # Weights mapped from a file are unaligned, and kernels then sum in another order. Aligned copies give bit for
        # bit what the saved model gave.
        for value in model.parameters():
            value.data = value.data.clone()
        return (model, info) if with_info else model


class BokehUNet(StrictModel):
    """The pruned UNet: latents [B, C, h, w] to the step's prediction of the same shape.

    h and w must be divisible by two for every block but the last.
    """

    __module__ = "magicbokeh.model"  # the name that saved pipelines give for it
    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        sample_size: int = 64,
        latent_channels: int = 4,
        block_out_channels: Sizes = (320, 640, 1280, 1280),
        heads: Sizes = (5, 10, 20, 20),
        layers_per_block: int = 2,
        norm_groups: int = 32,
        norm_eps: float = 1e-5,
        use_linear_projection: bool = True,
        upcast_attention: bool = False,
        attention_in_last: bool = False,
        sr_rank: int = 0,
        sr_alpha: float = 8.0,
        bokeh_rank: int = 0,
        bokeh_alpha: float = 1.0,
        time_folded: bool = False,
    ) -> None:
        super().__init__()
        first = block_out_channels[0]
        shared = {
            "norm_groups": norm_groups,
            "norm_eps": norm_eps,
            "use_linear_projection": use_linear_projection,
            "upcast_attention": upcast_attention,
        }
        time_channels = None if time_folded else 4 * first
        used = blocks.heads_used(heads, attention_in_last)
        self.conv_in = nn.Conv2d(latent_channels, first, 3, padding=1)
        self.time_embedding = None if time_folded else blocks.time_mlp(first)
        self.down_blocks = blocks.down_blocks(block_out_channels, used, layers_per_block, time_channels, **shared)
        self.up_blocks = blocks.up_blocks(block_out_channels, used, layers_per_block, time_channels, **shared)
        self.conv_norm_out = nn.GroupNorm(norm_groups, first, norm_eps)
        self.conv_out = nn.Conv2d(first, latent_channels, 3, padding=1)
        if sr_rank:
            add_lora(self, unet_lora_targets(self), sr_rank, sr_alpha)
        if bokeh_rank:
            for attention in self.focus_layers():
                attention.set_processor(FocusAttention(attention.query_dim, bokeh_rank, bokeh_alpha))

    def focus_layers(self) -> list[Any]:
        """The self-attention layers that carry the bokeh LoRA: all of the decoder."""
        return [
            transformer.attn1
            for block in self.up_blocks
            for attention in getattr(block, "attentions", [])
            for transformer in attention.transformer_blocks
        ]

    def forward(
        self,
        latent: Tensor,
        residuals: list[Tensor] | None = None,
        regions: dict[tuple[int, int], Regions] | None = None,
    ) -> Tensor:
        """`residuals` are added to the skip connections, the first to conv_in's; `regions` by (height, width).

        Without `regions` all tokens attend to all.
        """
        time = None
        if self.time_embedding is not None:
            time = blocks.embed_time(self.time_embedding, self.config.block_out_channels[0], len(latent), latent)
        hidden = self.conv_in(latent)
        skips = [hidden]
        for block in self.down_blocks:
            hidden, new = block(hidden, time)
            skips += new
        if residuals is not None:
            skips = [skip + residual for skip, residual in zip(skips, residuals, strict=True)]
        for block in self.up_blocks:
            count = len(cast("nn.ModuleList", block.resnets))
            skips, own = skips[:-count], tuple(skips[-count:])
            if not getattr(block, "has_cross_attention", False):
                hidden = block(hidden, own, time)
                continue
            here = None if regions is None else regions[hidden.shape[2], hidden.shape[3]]
            hidden = block(hidden, own, time, cross_attention_kwargs={"regions": here} if self._masked else None)
        return self.conv_out(silu(self.conv_norm_out(hidden)))

    @property
    def _masked(self) -> bool:
        return self.config.bokeh_rank > 0

    def fuse(self) -> None:
        """Merge the SR LoRA and fold the time embedding into biases: the same function, fewer parameters."""
        _fuse(self)


class DefocusControlNet(StrictModel):
    """The encoder's copy that reads the defocus map: one residual per skip connection of the UNet."""

    __module__ = "magicbokeh.model"  # the name that saved pipelines give for it
    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        block_out_channels: Sizes = (320, 640, 1280, 1280),
        heads: Sizes = (5, 10, 20, 20),
        layers_per_block: int = 2,
        norm_groups: int = 32,
        norm_eps: float = 1e-5,
        use_linear_projection: bool = True,
        upcast_attention: bool = False,
        attention_in_last: bool = False,
        map_channels: Sizes = (16, 32, 96, 256),
        time_folded: bool = False,
    ) -> None:
        super().__init__()
        first = block_out_channels[0]
        shared = {
            "norm_groups": norm_groups,
            "norm_eps": norm_eps,
            "use_linear_projection": use_linear_projection,
            "upcast_attention": upcast_attention,
        }
        time_channels = None if time_folded else 4 * first
        used = blocks.heads_used(heads, attention_in_last)
        self.conv_in = nn.Conv2d(latent_channels, first, 3, padding=1)
        self.time_embedding = None if time_folded else blocks.time_mlp(first)
        self.controlnet_cond_embedding = ControlNetConditioningEmbedding(first, 3, tuple(map_channels))
        self.down_blocks = blocks.down_blocks(block_out_channels, used, layers_per_block, time_channels, **shared)
        self.controlnet_down_blocks = nn.ModuleList(_zero_convolution(channels) for channels in self._skip_channels())

    def _skip_channels(self) -> list[int]:
        """Channels of the skip connections: conv_in, then each block's resnets and its downsampler."""
        blocks_channels = list(self.config.block_out_channels)
        layers = self.config.layers_per_block
        skips = [blocks_channels[0]]
        for index, channels in enumerate(blocks_channels):
            skips += [channels] * (layers if index == len(blocks_channels) - 1 else layers + 1)
        return skips

    def forward(self, latent: Tensor, defocus: Tensor) -> list[Tensor]:
        """Residuals for the UNet's skips, from the UNet's input [B, C, h, w] and `defocus` [B, 1, H, W] in 0..1."""
        time = None
        if self.time_embedding is not None:
            time = blocks.embed_time(self.time_embedding, self.config.block_out_channels[0], len(latent), latent)
        condition = (2 * defocus - 1).to(latent.dtype).expand(-1, 3, -1, -1)
        hidden = self.conv_in(latent) + self.controlnet_cond_embedding(condition)
        skips = [hidden]
        for block in self.down_blocks:
            hidden, new = block(hidden, time)
            skips += new
        return [convolution(skip) for convolution, skip in zip(self.controlnet_down_blocks, skips, strict=True)]

    def fuse(self) -> None:
        """Fold the time embedding into biases."""
        _fuse(self)


class BokehVAE(StrictModel):
    """Stable Diffusion's autoencoder with a LoRA in its encoder. Works in *scaled* latents."""

    __module__ = "magicbokeh.model"  # the name that saved pipelines give for it
    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        block_out_channels: Sizes = (128, 256, 512, 512),
        layers_per_block: int = 2,
        norm_groups: int = 32,
        scaling_factor: float = 0.18215,
        vae_rank: int = 0,
        vae_alpha: float = 8.0,
    ) -> None:
        super().__init__()
        blocks_count = len(block_out_channels)
        shared: dict[str, Any] = {
            "block_out_channels": tuple(block_out_channels),
            "layers_per_block": layers_per_block,
            "norm_num_groups": norm_groups,
        }
        self.encoder = Encoder(3, latent_channels, ("DownEncoderBlock2D",) * blocks_count, double_z=True, **shared)
        self.decoder = Decoder(latent_channels, 3, ("UpDecoderBlock2D",) * blocks_count, **shared)
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)
        if vae_rank:
            add_lora(self, vae_lora_targets(self), vae_rank, vae_alpha)

    @property
    def scale(self) -> int:
        """Picture pixels per latent pixel."""
        return int(2 ** (len(self.config.block_out_channels) - 1))

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self.config.latent_channels)

    @apply_forward_hook
    def encode(self, image: Tensor, noise: Tensor | None = None) -> Tensor:
        """Encode `image` [B, 3, H, W] in -1..1 to latents [B, 4, H/8, W/8] (of `latent_channels`, at 1/`scale`).

        Without `noise` they are the distribution's mode, else mean + std·noise.
        """
        mean, log_variance = self.quant_conv(self.encoder(image)).chunk(2, dim=1)
        if noise is not None:
            mean = mean + torch.exp(0.5 * log_variance.clamp(-30, 20)) * noise.to(mean)
        return mean * self.config.scaling_factor

    @apply_forward_hook
    def decode(self, latent: Tensor) -> Tensor:
        """Decode latents [B, 4, h, w] to pictures [B, 3, 8h, 8w] (`scale` times), around -1..1, not clamped."""
        return self.decoder(self.post_quant_conv(latent / self.config.scaling_factor))

    def forward(self, image: Tensor) -> Tensor:
        """Encode and decode."""
        return self.decode(self.encode(image))

    def fuse(self) -> None:
        """Merge the LoRA into the encoder's weights."""
        merge_lora(self)
        self.register_to_config(vae_rank=0)


def unet_lora_targets(model: nn.Module) -> list[str]:
    """The layers under the SR LoRA: every convolution and projection but those of time and of the bokeh LoRA."""
    return lora_targets(model, without=("time_emb", "processor"))


def vae_lora_targets(model: nn.Module) -> list[str]:
    """The layers under the VAE's LoRA: the encoder and the convolution after it."""
    return lora_targets(model, inside=("encoder.", "quant_conv"))


def _zero_convolution(channels: int) -> nn.Conv2d:
    convolution = nn.Conv2d(channels, channels, 1)
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


@torch.no_grad()
def _fuse(model: Any) -> None:
    merge_lora(model)
    if model.time_embedding is not None:
        like = next(model.parameters())
        time = blocks.embed_time(model.time_embedding, model.config.block_out_channels[0], 1, like)
        blocks.fold_time(model, time)
        model.time_embedding = None
        model.register_to_config(time_folded=True)
    if "sr_rank" in model.config:
        model.register_to_config(sr_rank=0)
