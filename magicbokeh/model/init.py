"""Weights for networks that start from nothing: signals keep their size, residual branches begin silent.

A toy autoencoder begins as a wavelet transform and its approximate inverse. It then gives pictures back before its
first step, at 22 dB; 250 steps bring it to 26, where 430 steps from random convolutions end at 20.
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

STRAIGHT = 2.4
"""Where silu bends least: a norm's bias there makes the activation behind it a straight line, nearly."""
THROUGH_SILU = 1.7
"""What makes up for the part of a signal around 0 that silu takes away."""
SWING = 0.5
"""The norm's weight: how far around that point signals go, in standard deviations."""
ANCHOR = 4.0
"""The constant that one channel of each group holds, for signals around 1. It outweighs the picture in the group's mean
and variance, so that the norm takes away neither brightness nor contrast."""


@torch.no_grad()
def begin_silent(model: nn.Module) -> None:
    """Orthogonal convolutions, and zeros in the last layer of every resnet, attention and transformer; LoRAs are left
    alone.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and "lora_" not in name and module.weight.any():
            nn.init.orthogonal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, ResnetBlock2D):
            _silence(module.conv2)
        elif isinstance(module, Transformer2DModel):
            _silence(module.proj_out)
        elif isinstance(module, Attention) and not _in_transformer(model, module):
            _silence(module.to_out[0])


def _in_transformer(model: nn.Module, attention: nn.Module) -> bool:
    """Whether a transformer's own last layer silences it: two zeros in a row would never learn."""
    return any(attention in one.modules() for one in model.modules() if isinstance(one, Transformer2DModel))


def _silence(layer: nn.Module) -> None:
    own = _own(layer)
    nn.init.zeros_(own.weight)
    nn.init.zeros_(own.bias)


def _own(layer: nn.Module) -> Any:
    return getattr(layer, "base_layer", layer)  # under a LoRA lies the layer


# --- a UNet whose output begins at zero, without a layer that is


@torch.no_grad()
def begin_cancelled(unet: BokehUNet) -> None:
    """The latent goes to the last layer twice, and that layer takes one from the other: nothing comes out.

    A last layer of zeros would do as well for this network's own training. But what the ControlNet adds to the skip
    connections has to come out too while these weights rest, and a layer that has grown from zero lets nothing through
    but what it was trained on.
    """
    begin_silent(unet)
    groups, width = int(unet.config.norm_groups), int(unet.config.block_out_channels[0])
    if groups > 1 and groups % 2:
        raise UsageError(f"norm_groups: {groups}; a UNet trained from nothing needs an even number, or one")
    half = width // 2
    last: Any = cast("Any", unet.up_blocks[-1]).resnets[-1]
    skip = _own(last.conv_shortcut).weight.shape[1] - width  # behind what comes from below
    _connect(last.conv_shortcut, range(width), range(skip, skip + width))
    into, out = _own(unet.conv_in), _own(unet.conv_out)
    into.weight[half:] = into.weight[:half]
    nn.init.orthogonal_(out.weight[:, :half])
    out.weight[:, half:] = -out.weight[:, :half]
    for transformer in getattr(unet.up_blocks[-1], "attentions", [])[-1:]:
        _let_attention_out(transformer, half)


def _let_attention_out(transformer: Any, half: int) -> None:
    """What the transformer gets goes to both halves alike; what its attention will add goes to them with two signs."""
    nn.init.orthogonal_(_own(transformer.proj_out).weight)
    _own(transformer.proj_in).weight[half:] = 0
    _own(transformer.proj_in).bias[half:] = 0
    way = _own(transformer.proj_out).weight
    way[half:, :half] = way[:half, :half]
    way[half:, half:] = -way[:half, half:]
    for block in transformer.transformer_blocks:
        _silence(block.attn1.to_out[0])
        _silence(block.ff.net[-1])


@torch.no_grad()
def begin_attentive(controlnet: DefocusControlNet) -> None:
    """The defocus map arrives at the size it came in with: torch's own weights would leave a thousandth of it.

    The ControlNet still adds nothing: its outputs are zero.
    """
    embedding: Any = controlnet.controlnet_cond_embedding
    for convolution in (embedding.conv_in, *embedding.blocks, embedding.conv_out):
        nn.init.orthogonal_(convolution.weight, 1.0 if convolution is embedding.conv_out else THROUGH_SILU)
        nn.init.zeros_(convolution.bias)


# --- an autoencoder that begins as a wavelet transform

_COLOURS = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]])
"""Light and two colour differences; rows are made unit vectors."""
_COLOUR_POWER = (1.0, 0.1, 0.05)
_HAAR = ((1, 1, 1.0), (1, -1, 0.12), (-1, 1, 0.12), (-1, -1, 0.03))
"""Signs along y and x of the four Haar functions of 2 x 2 pixels, and what share of a picture's power they take."""
_SPREAD = {1: (0.0, 1.0, 0.0), -1: (-0.5, 0.0, 0.5)}
"""Taps on doubled pixels that give a Haar function back: the mean exactly, differences with half their power."""


@dataclass(frozen=True)
class _Band:
    """One output of a level: Haar function (`down`, `across`) of channel `source` of the finer level."""

    power: float
    source: int
    down: int
    across: int


@torch.no_grad()
def begin_as_wavelets(vae: BokehVAE) -> None:
    """Encoder: Haar wavelets of light and colour differences, the strongest where channels are too few for all.
    Decoder: their inverse, as far as doubled pixels and 3 x 3 taps can be it. Everything else begins silent.

    UsageError where a norm's groups have but one channel: they need one for their anchor.
    """
    begin_silent(vae)
    groups = int(vae.config.norm_groups)
    if min(vae.config.block_out_channels) < 2 * groups:
        raise UsageError(
            f"vae_norm_groups: {groups} groups leave {min(vae.config.block_out_channels)} channels fewer than two "
            "each; an autoencoder trained from nothing needs two: fewer groups or wider blocks"
        )
    encoder, decoder = vae.encoder, vae.decoder
    levels = _begin_encoder(encoder, groups)
    _begin_decoder(decoder, groups, levels)
    count = min(int(vae.config.latent_channels), len(levels[-1]))
    top = _slots(_own(decoder.conv_in).weight.shape[0], groups)[:count]
    _connect(decoder.conv_in, top, range(len(top)))
    even = _evening(levels[-1], int(vae.config.latent_channels))
    channels = range(2 * len(even))
    _connect(vae.quant_conv, channels, channels, torch.diag(even.repeat(2)))
    _connect(vae.post_quant_conv, channels[: len(even)], channels[: len(even)], torch.diag(1 / even))
    coarse = ANCHOR * 2 ** len(levels)  # each halving doubles the mean
    _straighten(encoder.conv_norm_out, encoder.mid_block.resnets[-1], groups, coarse)
    _read_out(encoder.conv_out, groups, coarse)
    _straighten(decoder.conv_norm_out, decoder.up_blocks[-1].resnets[-1], groups)
    _read_out(decoder.conv_out, groups, ANCHOR, _unit_rows().T)


def _begin_encoder(encoder: Any, groups: int) -> list[list[_Band]]:
    """Sets the convolutions; returns the bands of each halving, finest first."""
    first = _slots(_own(encoder.conv_in).weight.shape[0], groups)[:3]
    _connect(encoder.conv_in, first, range(3), _unit_rows())
    powers: Sequence[float] = _COLOUR_POWER[: len(first)]
    levels = []
    for block in encoder.down_blocks:
        _pass_on(block, groups)
        for sampler in block.downsamplers or ():
            convolution = _own(sampler.conv)
            slots = _slots(convolution.weight.shape[0], groups)
            bands = _strongest(powers, len(slots))
            nn.init.zeros_(convolution.weight)
            for out, band in zip(slots, bands, strict=False):
                taps = torch.tensor([[1.0, band.across], [band.down, band.down * band.across]]) / 2
                convolution.weight[out, slots[band.source], :2, :2] = taps
            levels.append(bands)
            powers = [band.power for band in bands]
    return levels


def _begin_decoder(decoder: Any, groups: int, levels: list[list[_Band]]) -> None:
    for block, bands in zip(decoder.up_blocks, [*reversed(levels), []], strict=True):
        _pass_on(block, groups)
        for sampler in block.upsamplers or ():
            convolution = _own(sampler.conv)
            slots = _slots(convolution.weight.shape[0], groups)
            nn.init.zeros_(convolution.weight)
            for place, band in zip(slots, bands, strict=False):
                if band.source < len(slots):
                    taps = torch.outer(torch.tensor(_SPREAD[band.down]), torch.tensor(_SPREAD[band.across])) / 2
                    convolution.weight[slots[band.source], place] = taps


def _evening(bands: Sequence[_Band], count: int) -> Tensor:
    """What brings `count` latents halfway to one size: where a mean is twenty times a detail, a step that is right for
    one is wrong for the other; all alike, an error of the mean would be twenty times as dear.
    """
    powers = [band.power for band in bands[:count]]
    powers += [powers[-1]] * (count - len(powers))
    return torch.tensor(powers) ** -0.25 / 2**1.5


def _unit_rows() -> Tensor:
    return _COLOURS / _COLOURS.norm(dim=1, keepdim=True)


def _strongest(powers: Sequence[float], room: int) -> list[_Band]:
    """The bands of the next coarser level, strongest first, as many as there is room for."""
    found = [
        _Band(power * share, source, down, across)
        for source, power in enumerate(powers)
        for down, across, share in _HAAR
    ]
    return sorted(found, key=lambda band: -band.power)[:room]


def _slots(channels: int, groups: int) -> list[int]:
    """The channels that carry signals: all but the last of each group."""
    size = channels // groups
    return [channel for channel in range(channels) if channel % size != size - 1]


def _pass_on(block: Any, groups: int) -> None:
    """Where a resnet changes the number of channels, its shortcut keeps the first signals."""
    for resnet in block.resnets:
        if resnet.conv_shortcut is not None:
            out, into = _own(resnet.conv_shortcut).weight.shape[:2]
            _connect(resnet.conv_shortcut, _slots(out, groups), _slots(into, groups))


def _connect(layer: Any, outs: Sequence[int], ins: Sequence[int], matrix: Tensor | None = None) -> None:
    """Zero but for the middle tap, which takes `ins` to `outs`: one to one, or by a matrix [outs, ins]."""
    _silence(layer)
    own = _own(layer)
    middle = own.kernel_size[0] // 2
    for row, out in enumerate(outs):
        for column, into in enumerate(ins):
            value = float(row == column) if matrix is None else matrix[row, column]
            own.weight[out, into, middle, middle] = value


def _read_out(layer: Any, groups: int, anchor: float, matrix: Tensor | None = None) -> None:
    """The layer behind a straightened norm gives the signals as they are, or by a matrix [outputs, signals]."""
    outs, channels = _own(layer).weight.shape[:2]
    slots = _slots(channels, groups)
    if matrix is None:
        matrix = torch.eye(min(outs, len(slots)))
    gain, offset = _straight_line(channels // groups, anchor)
    _connect(layer, range(matrix.shape[0]), slots[: matrix.shape[1]], matrix * gain)
    _own(layer).bias[: matrix.shape[0]] = matrix.sum(1) * offset


# --- norms and activations that are a straight line


def _straighten(norm: Any, before: Any, groups: int, anchor: float = ANCHOR) -> None:
    """Let the norm and the activation behind it be one straight line.

    `before` is the silent resnet in front, whose bias puts the anchors in.
    """
    size = norm.weight.shape[0] // groups
    _own(before.conv2).bias[size - 1 :: size] = anchor
    nn.init.constant_(norm.weight, SWING)
    nn.init.constant_(norm.bias, STRAIGHT)


def _straight_line(size: int, anchor: float) -> tuple[float, float]:
    """Gain and offset that give a signal back from behind a straightened norm with groups of `size` channels."""
    mean, deviation = anchor / size, anchor * math.sqrt(1 / size - 1 / size**2)
    logistic = 1 / (1 + math.exp(-STRAIGHT))
    value, slope = STRAIGHT * logistic, logistic * (1 + STRAIGHT * (1 - logistic))
    gain = deviation / (SWING * slope)
    return gain, mean - gain * value
