"""Initial weights of networks trained from scratch: signals keep their variance, residual branches start at zero."""

from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

from magicbokeh.model.networks import DefocusControlNet

SILU_GAIN = 1.7
"""Gain that compensates for the variance that silu removes from a signal around 0."""


@torch.no_grad()
def zero_init_residuals(model: nn.Module) -> None:
    """Make convolutions orthogonal and zero the last layer of every resnet, attention and transformer; keep LoRAs."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and "lora_" not in name and module.weight.any():
            nn.init.orthogonal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, ResnetBlock2D):
            _zero_layer(module.conv2)
        elif isinstance(module, Transformer2DModel):
            _zero_layer(module.proj_out)
        elif isinstance(module, Attention) and not _in_transformer(model, module):
            _zero_layer(module.to_out[0])


def _in_transformer(model: nn.Module, attention: nn.Module) -> bool:
    """Whether a transformer's zeroed last layer follows: two zero layers in a row would never learn."""
    return any(attention in one.modules() for one in model.modules() if isinstance(one, Transformer2DModel))


def _zero_layer(layer: nn.Module) -> None:
    base = _base_layer(layer)
    nn.init.zeros_(base.weight)
    nn.init.zeros_(base.bias)


def _base_layer(layer: nn.Module) -> Any:
    return getattr(layer, "base_layer", layer)  # a LoRA wraps the layer


@torch.no_grad()
def init_map_embedding(controlnet: DefocusControlNet) -> None:
    """Let the embedding keep the defocus map's variance, of which torch's default weights would leave a thousandth.

    The ControlNet's outputs stay zero.
    """
    embedding: Any = controlnet.controlnet_cond_embedding
    for convolution in (embedding.conv_in, *embedding.blocks, embedding.conv_out):
        nn.init.orthogonal_(convolution.weight, 1.0 if convolution is embedding.conv_out else SILU_GAIN)
        nn.init.zeros_(convolution.bias)
