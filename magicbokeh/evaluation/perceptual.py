"""Perceptual metrics that need no download: distances of ImageNet features, and FLIP."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize, pad

from magicbokeh.evaluation.imagenet import Features
from magicbokeh.evaluation.items import BoolArray, ByteArray, FloatArray
from magicbokeh.evaluation.pixel_metrics import Parts, mean


@dataclass
class FeatureDistance:
    """Distances in the features of EfficientNet-Lite0; those of the newest target are kept."""

    network: Features
    _newest: tuple[str, list[Tensor]] | None = field(default=None, init=False)

    def compare(
        self, key: str, found: ByteArray, target: ByteArray, parts: Parts
    ) -> tuple[dict[str, float], dict[str, FloatArray], dict[str, FloatArray]]:
        """The distance of each part, and the pooled features of both pictures for `frechet_distance`.

        The distance is LPIPS's (Zhang et al. 2018, eq. 1) without learned weights: at each of five scales the features
        of every place are divided by their length, squared differences summed over channels; the mean over the places
        of the part and over the scales. 0 for equal pictures, at most 4.
        """
        ours, truth = self._features(found), self._target(key, target)
        maps = [
            (normalize(one, dim=1, eps=1e-10) - normalize(two, dim=1, eps=1e-10)).square().sum(1, keepdim=True)
            for one, two in zip(ours, truth, strict=True)
        ]
        distance, pooled, target_pooled = {}, {}, {}
        for name, mask in parts.items():
            weights = [_share(mask, one, level) for level, one in enumerate(maps, start=1)]
            distance[name] = float(
                np.mean([float((one * share).sum()) for one, share in zip(maps, weights, strict=True)])
            )
            pooled[name], target_pooled[name] = _pool(ours[-1], weights[-1]), _pool(truth[-1], weights[-1])
        return distance, pooled, target_pooled

    def _target(self, key: str, target: ByteArray) -> list[Tensor]:
        if self._newest is None or self._newest[0] != key:
            self._newest = key, self._features(target)
        return self._newest[1]

    def _features(self, picture: ByteArray) -> list[Tensor]:
        tensor = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float().div_(255)[None]
        return self.network(tensor)


def _share(mask: BoolArray | None, like: Tensor, level: int) -> Tensor:
    """The share of each place of a feature map in a part, [1, 1, h, w], summing to 1.

    A place is for the 2^level pixels of both directions from its own on, of which the last ones may lie outside.
    """
    if mask is None:
        return torch.full_like(like, 1 / like.numel())
    rows, columns = (side * 2**level for side in like.shape[-2:])
    pixels = pad(torch.from_numpy(mask).float()[None, None], (0, columns - mask.shape[1], 0, rows - mask.shape[0]))
    share = avg_pool2d(pixels, 2**level)
    return share / share.sum().clamp_min(1e-12)


def _pool(features: Tensor, share: Tensor) -> FloatArray:
    return np.asarray((features * share).sum(dim=(0, 2, 3)).numpy(), np.float32)


def frechet_distance(found: npt.NDArray[Any], target: npt.NDArray[Any]) -> float:
    """Fréchet distance of two sets of features [N, C], both taken as Gaussian (Heusel et al. 2017, as FID).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). With S = A A^T of the centred features A = X^T / sqrt(N - 1), the last
    trace is the sum of the singular values of A1^T A2: exact, also where N is below C. At least two pictures.
    """
    one, two = np.asarray(found, np.float64), np.asarray(target, np.float64)
    means = one.mean(axis=0), two.mean(axis=0)
    a, b = (one - means[0]) / np.sqrt(len(one) - 1), (two - means[1]) / np.sqrt(len(two) - 1)
    joint = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    distance = ((means[0] - means[1]) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * joint
    return max(0.0, float(distance))


def flip(found: ByteArray, target: ByteArray, parts: Parts) -> dict[str, float]:
    """FLIP (Andersson et al. 2020): mean of the error map of each part, 0 for equal pictures, at most 1.

    By NVIDIA's flip-evaluator, low dynamic range, at its default of 67 pixels per degree of view.
    """
    from flip_evaluator import evaluate

    pictures = [picture.astype(np.float32) / np.float32(255) for picture in (target, found)]
    error = evaluate(*pictures, "LDR", applyMagma=False, computeMeanError=False)[0]
    plane = np.asarray(error, np.float64).reshape(*found.shape[:2], -1)[..., 0]
    return {name: mean(plane, mask) for name, mask in parts.items()}
