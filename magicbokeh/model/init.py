"""Initial weights of networks trained from scratch: signals keep their variance, residual branches start at zero.

A toy autoencoder is initialised as a Haar wavelet transform and its approximate inverse. It then reconstructs pictures
at 22 dB before its first step and at 26 dB after 250; from random convolutions 430 steps end at 20 dB.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from bokehsynth import UsageError
from magicbokeh.model.networks import BokehUNet, BokehVAE, DefocusControlNet

LINEAR_BIAS = 2.4
"""Where silu is most nearly linear: a norm with this bias makes the activation after it almost linear."""
SILU_GAIN = 1.7
"""Gain that compensates for the variance that silu removes from a signal around 0."""
NORM_GAIN = 0.5
"""The norm's weight: the standard deviation of signals around that point."""
GROUP_CONSTANT = 4.0
"""The constant value of one channel of each group, for signals around 1. It dominates the group's mean and variance, so
that the norm removes neither brightness nor contrast."""


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


# --- a UNet whose output starts at zero without a zero layer


@torch.no_grad()
def init_cancelling_unet(unet: BokehUNet) -> None:
    """Lead the latent to the last layer twice, with weights of opposite sign: the output is zero.

    A zero last layer would serve this network's own training as well. But later the ControlNet's residuals must reach
    the output while these weights are frozen, and a layer trained from zero passes only what it was trained on.
    """
    zero_init_residuals(unet)
    groups, width = int(unet.config.norm_groups), int(unet.config.block_out_channels[0])
    if groups > 1 and groups % 2:
        raise UsageError(f"norm_groups: {groups}; a UNet trained from nothing needs an even number, or one")
    half = width // 2
    last: Any = cast("Any", unet.up_blocks[-1]).resnets[-1]
    skip = _base_layer(last.conv_shortcut).weight.shape[1] - width  # the first channel of the skip connection
    _set_center_taps(last.conv_shortcut, range(width), range(skip, skip + width))
    into, out = _base_layer(unet.conv_in), _base_layer(unet.conv_out)
    into.weight[half:] = into.weight[:half]
    nn.init.orthogonal_(out.weight[:, :half])
    out.weight[:, half:] = -out.weight[:, :half]
    for transformer in getattr(unet.up_blocks[-1], "attentions", [])[-1:]:
        _init_last_transformer(transformer, half)


def _init_last_transformer(transformer: Any, half: int) -> None:
    """Pass the transformer's input to both halves alike, and what its attention adds with opposite signs."""
    nn.init.orthogonal_(_base_layer(transformer.proj_out).weight)
    _base_layer(transformer.proj_in).weight[half:] = 0
    _base_layer(transformer.proj_in).bias[half:] = 0
    weight = _base_layer(transformer.proj_out).weight
    weight[half:, :half] = weight[:half, :half]
    weight[half:, half:] = -weight[:half, half:]
    for block in transformer.transformer_blocks:
        _zero_layer(block.attn1.to_out[0])
        _zero_layer(block.ff.net[-1])


@torch.no_grad()
def init_map_embedding(controlnet: DefocusControlNet) -> None:
    """Let the embedding keep the defocus map's variance, of which torch's default weights would leave a thousandth.

    The ControlNet's outputs stay zero.
    """
    embedding: Any = controlnet.controlnet_cond_embedding
    for convolution in (embedding.conv_in, *embedding.blocks, embedding.conv_out):
        nn.init.orthogonal_(convolution.weight, 1.0 if convolution is embedding.conv_out else SILU_GAIN)
        nn.init.zeros_(convolution.bias)


# --- an autoencoder initialised as a wavelet transform

_COLOR_BASIS = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]])
"""Luminance and two colour differences; rows are normalised."""
_COLOR_POWER = (1.0, 0.1, 0.05)
_HAAR = ((1, 1, 1.0), (1, -1, 0.12), (-1, 1, 0.12), (-1, -1, 0.03))
"""Signs along y and x of the four Haar functions of 2 x 2 pixels, and their share of a picture's power."""
_SYNTHESIS_TAPS = {1: (0.0, 1.0, 0.0), -1: (-0.5, 0.0, 0.5)}
"""Taps on doubled pixels that synthesise a Haar function: the mean exactly, differences with half their power."""


@dataclass(frozen=True)
class _Band:
    """One output of a level: Haar function (`down`, `across`) of channel `source` of the finer level."""

    power: float
    source: int
    down: int
    across: int


@torch.no_grad()
def init_haar_vae(vae: BokehVAE) -> None:
    """Initialise the encoder as a Haar transform of luminance and colour differences (the strongest bands if channels
    are too few for all), the decoder as its inverse as far as doubled pixels and 3 x 3 taps allow, the rest as zero.

    UsageError where a norm's groups have one channel only: each needs one for its constant.
    """
    zero_init_residuals(vae)
    groups = int(vae.config.norm_groups)
    if min(vae.config.block_out_channels) < 2 * groups:
        raise UsageError(
            f"vae_norm_groups: {groups} groups leave {min(vae.config.block_out_channels)} channels fewer than two "
            "each; an autoencoder trained from nothing needs two: fewer groups or wider blocks"
        )
    encoder, decoder = vae.encoder, vae.decoder
    levels = _init_encoder(encoder, groups)
    _init_decoder(decoder, groups, levels)
    count = min(int(vae.config.latent_channels), len(levels[-1]))
    top = _signal_channels(_base_layer(decoder.conv_in).weight.shape[0], groups)[:count]
    _set_center_taps(decoder.conv_in, top, range(len(top)))
    even = _latent_scales(levels[-1], int(vae.config.latent_channels))
    channels = range(2 * len(even))
    _set_center_taps(vae.quant_conv, channels, channels, torch.diag(even.repeat(2)))
    _set_center_taps(vae.post_quant_conv, channels[: len(even)], channels[: len(even)], torch.diag(1 / even))
    coarse = GROUP_CONSTANT * 2 ** len(levels)  # each downsampling doubles the mean
    _linearize_norm(encoder.conv_norm_out, encoder.mid_block.resnets[-1], groups, coarse)
    _init_output_layer(encoder.conv_out, groups, coarse)
    _linearize_norm(decoder.conv_norm_out, decoder.up_blocks[-1].resnets[-1], groups)
    _init_output_layer(decoder.conv_out, groups, GROUP_CONSTANT, _color_matrix().T)


def _init_encoder(encoder: Any, groups: int) -> list[list[_Band]]:
    """Set the convolutions; returns the bands of each downsampling, finest first."""
    first = _signal_channels(_base_layer(encoder.conv_in).weight.shape[0], groups)[:3]
    _set_center_taps(encoder.conv_in, first, range(3), _color_matrix())
    powers: Sequence[float] = _COLOR_POWER[: len(first)]
    levels = []
    for block in encoder.down_blocks:
        _init_shortcuts(block, groups)
        for sampler in block.downsamplers or ():
            convolution = _base_layer(sampler.conv)
            signals = _signal_channels(convolution.weight.shape[0], groups)
            bands = _strongest_bands(powers, len(signals))
            nn.init.zeros_(convolution.weight)
            for out, band in zip(signals, bands, strict=False):
                taps = torch.tensor([[1.0, band.across], [band.down, band.down * band.across]]) / 2
                convolution.weight[out, signals[band.source], :2, :2] = taps
            levels.append(bands)
            powers = [band.power for band in bands]
    return levels


def _init_decoder(decoder: Any, groups: int, levels: list[list[_Band]]) -> None:
    for block, bands in zip(decoder.up_blocks, [*reversed(levels), []], strict=True):
        _init_shortcuts(block, groups)
        for sampler in block.upsamplers or ():
            convolution = _base_layer(sampler.conv)
            signals = _signal_channels(convolution.weight.shape[0], groups)
            nn.init.zeros_(convolution.weight)
            for place, band in zip(signals, bands, strict=False):
                if band.source < len(signals):
                    down, across = (torch.tensor(_SYNTHESIS_TAPS[sign]) for sign in (band.down, band.across))
                    taps = torch.outer(down, across) / 2
                    convolution.weight[signals[band.source], place] = taps


def _latent_scales(bands: Sequence[_Band], count: int) -> Tensor:
    """Scales that bring `count` latents halfway to equal variance. Unscaled, one learning rate cannot suit both means
    and the twenty times smaller details; fully equalised, an error of a mean would cost twenty times as much.
    """
    powers = [band.power for band in bands[:count]]
    powers += [powers[-1]] * (count - len(powers))
    return torch.tensor(powers) ** -0.25 / 2**1.5


def _color_matrix() -> Tensor:
    return _COLOR_BASIS / _COLOR_BASIS.norm(dim=1, keepdim=True)


def _strongest_bands(powers: Sequence[float], count: int) -> list[_Band]:
    """The `count` strongest bands of the next coarser level, strongest first."""
    found = [
        _Band(power * share, source, down, across)
        for source, power in enumerate(powers)
        for down, across, share in _HAAR
    ]
    return sorted(found, key=lambda band: -band.power)[:count]


def _signal_channels(channels: int, groups: int) -> list[int]:
    """The channels that carry signals: all but the last of each group, which is constant."""
    size = channels // groups
    return [channel for channel in range(channels) if channel % size != size - 1]


def _init_shortcuts(block: Any, groups: int) -> None:
    """Let the shortcut of a resnet that changes the number of channels keep the first signals."""
    for resnet in block.resnets:
        if resnet.conv_shortcut is not None:
            out, into = _base_layer(resnet.conv_shortcut).weight.shape[:2]
            _set_center_taps(resnet.conv_shortcut, _signal_channels(out, groups), _signal_channels(into, groups))


def _set_center_taps(layer: Any, outs: Sequence[int], ins: Sequence[int], matrix: Tensor | None = None) -> None:
    """Zero a convolution but for its centre tap, which maps `ins` to `outs` one to one or by a matrix [outs, ins]."""
    _zero_layer(layer)
    base = _base_layer(layer)
    middle = base.kernel_size[0] // 2
    for row, out in enumerate(outs):
        for column, into in enumerate(ins):
            value = float(row == column) if matrix is None else matrix[row, column]
            base.weight[out, into, middle, middle] = value


def _init_output_layer(layer: Any, groups: int, constant: float, matrix: Tensor | None = None) -> None:
    """Let the layer after a linearised norm return the signals, or a matrix [outputs, signals] times them."""
    outs, channels = _base_layer(layer).weight.shape[:2]
    signals = _signal_channels(channels, groups)
    if matrix is None:
        matrix = torch.eye(min(outs, len(signals)))
    gain, offset = _invert_linearized_norm(channels // groups, constant)
    _set_center_taps(layer, range(matrix.shape[0]), signals[: matrix.shape[1]], matrix * gain)
    _base_layer(layer).bias[: matrix.shape[0]] = matrix.sum(1) * offset


# --- norms with activations that are nearly linear


def _linearize_norm(norm: Any, before: Any, groups: int, constant: float = GROUP_CONSTANT) -> None:
    """Make the norm and the activation after it nearly linear.

    `before` is the zeroed resnet in front, whose bias sets the constant channels.
    """
    size = norm.weight.shape[0] // groups
    _base_layer(before.conv2).bias[size - 1 :: size] = constant
    nn.init.constant_(norm.weight, NORM_GAIN)
    nn.init.constant_(norm.bias, LINEAR_BIAS)


def _invert_linearized_norm(size: int, constant: float) -> tuple[float, float]:
    """Gain and offset that restore a signal after a linearised norm with groups of `size` channels."""
    mean, deviation = constant / size, constant * math.sqrt(1 / size - 1 / size**2)
    logistic = 1 / (1 + math.exp(-LINEAR_BIAS))
    value, slope = LINEAR_BIAS * logistic, logistic * (1 + LINEAR_BIAS * (1 - logistic))
    gain = deviation / (NORM_GAIN * slope)
    return gain, mean - gain * value
