"""Parts that UNet and ControlNet share: diffusers' blocks without cross-attention, and the constant time embedding."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import (
    CrossAttnDownBlock2D,
    CrossAttnUpBlock2D,
    DownBlock2D,
    UpBlock2D,
)
from torch import Tensor, nn

TIMESTEP = 999
"""The only step that is taken."""


def down_blocks(
    channels: Sequence[int], heads: Sequence[int], layers: int, time_channels: int | None, **shared: Any
) -> nn.ModuleList:
    """Build the encoder: self-attention where `heads` is not 0; the last block does not downsample.

    `time_channels` None builds resnets without a time projection. `shared`: norm_groups, norm_eps,
    use_linear_projection, upcast_attention.
    """
    blocks = nn.ModuleList()
    previous = channels[0]
    for index, width in enumerate(channels):
        last = index == len(channels) - 1
        common: dict[str, Any] = {
            "in_channels": previous,
            "out_channels": width,
            "temb_channels": time_channels,
            "num_layers": layers,
            "add_downsample": not last,
            "downsample_padding": 1,
            **_resnet(shared),
        }
        blocks.append(
            DownBlock2D(**common)
            if not heads[index]
            else CrossAttnDownBlock2D(**common, num_attention_heads=heads[index], **_attention(shared))
        )
        previous = width
    return blocks


def up_blocks(
    channels: Sequence[int], heads: Sequence[int], layers: int, time_channels: int | None, **shared: Any
) -> nn.ModuleList:
    """Build the decoder, which mirrors the encoder."""
    blocks = nn.ModuleList()
    widths, reversed_heads = list(reversed(channels)), list(reversed(heads))
    previous = widths[0]
    for index, width in enumerate(widths):
        common: dict[str, Any] = {
            "in_channels": widths[min(index + 1, len(widths) - 1)],
            "prev_output_channel": previous,
            "out_channels": width,
            "temb_channels": time_channels,
            "num_layers": layers + 1,
            "add_upsample": index < len(widths) - 1,
            **_resnet(shared),
        }
        blocks.append(
            UpBlock2D(**common)
            if not reversed_heads[index]
            else CrossAttnUpBlock2D(**common, num_attention_heads=reversed_heads[index], **_attention(shared))
        )
        previous = width
    return blocks


def heads_used(heads: Sequence[int], in_last: bool) -> list[int]:
    """Attention heads per block, 0 for none: that of the last block counts only if it has attention."""
    return [*heads[:-1], heads[-1] if in_last else 0]


def _resnet(shared: dict[str, Any]) -> dict[str, Any]:
    return {"resnet_eps": shared["norm_eps"], "resnet_groups": shared["norm_groups"], "resnet_act_fn": "silu"}


def _attention(shared: dict[str, Any]) -> dict[str, Any]:
    # Without a cross-attention width diffusers builds neither attn2 nor norm2: nothing needs pruning after a load.
    return {
        "cross_attention_dim": None,
        "use_linear_projection": shared["use_linear_projection"],
        "upcast_attention": shared["upcast_attention"],
    }


def time_mlp(channels: int) -> TimestepEmbedding:
    """Build the two layers between the sinusoids and the resnets' time projections."""
    return TimestepEmbedding(channels, 4 * channels)


def embed_time(mlp: nn.Module, channels: int, batch: int, like: Tensor) -> Tensor:
    """Embed TIMESTEP for every sample: [B, 4·channels] with the device and dtype of `like`."""
    steps = torch.full((batch,), TIMESTEP, device=like.device)
    sinusoids = get_timestep_embedding(steps, channels, flip_sin_to_cos=True, downscale_freq_shift=0)
    return mlp(sinusoids.to(like.dtype))


def resnets(model: nn.Module) -> Iterator[ResnetBlock2D]:
    """Iterate over the resnets of the model."""
    return (module for module in model.modules() if isinstance(module, ResnetBlock2D))


@torch.no_grad()
def fold_time(model: nn.Module, embedding: Tensor) -> None:
    """Add each resnet's projection of the constant `embedding` [1, C] to its first convolution's bias, and remove the
    projection. The function stays the same.
    """
    for resnet in resnets(model):
        assert resnet.time_emb_proj is not None
        shift = resnet.time_emb_proj(torch.nn.functional.silu(embedding))[0]
        convolution = getattr(resnet.conv1, "base_layer", resnet.conv1)  # a LoRA wraps the convolution
        convolution.bias.add_(shift)
        resnet.time_emb_proj = None
