"""Disparity from degraded pictures: a student on LQ is distilled, by features and output, from a teacher on the clean
picture; or, for toys, a small network learns the recipe's exact disparity.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cosine_similarity, interpolate, l1_loss

from magicbokeh.data.loader import Batch
from magicbokeh.inference.depth import depth_input
from magicbokeh.model.lite_depth import LiteDepthNetwork
from magicbokeh.recipe import DepthStage


class DepthLoss(nn.Module):
    """The terms of the depth stage. `teacher` None: the target is the exact disparity of the sample."""

    def __init__(self, stage: DepthStage, teacher: Any = None) -> None:
        super().__init__()
        self.stage = stage
        self.teacher = teacher if teacher is None else teacher.eval().requires_grad_(False)

    def forward(self, student: Any, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms by name."""
        # Which inputs stay clean follows from the samples' keys alone, so that a resumed run agrees.
        clean = torch.tensor([_hash_share(key) < self.stage.clean for key in batch.keys], device=batch.lq.device)
        lq = torch.where(clean[:, None, None, None], batch.aif, batch.lq)
        found = student(network_input(lq, student), output_hidden_states=self.teacher is not None)
        disparity = found.predicted_depth
        if self.teacher is None:
            target = resize_like(batch.disparity[:, 0], disparity)
            return self._output_terms(disparity, target, aligned=False)
        with torch.no_grad():
            taught = self.teacher(network_input(batch.aif, self.teacher), output_hidden_states=True)
        terms = self._output_terms(disparity, taught.predicted_depth, aligned=True)
        features = [
            feature_distance(*pair) for pair in zip(found.hidden_states[1:], taught.hidden_states[1:], strict=True)
        ]
        terms["features"] = self.stage.feature_weight * torch.stack(features).mean()
        return terms

    def _output_terms(self, found: Tensor, target: Tensor, aligned: bool) -> dict[str, Tensor]:
        found, target = found.float(), target.float()
        if aligned:
            found, target = normalised(found), normalised(target)
        return {
            "output": l1_loss(found, target),
            "gradient": self.stage.gradient_weight * gradient_distance(found, target),
        }


def network_input(picture: Tensor, model: Any) -> Tensor:
    """Prepare pictures [B, 3, H, W] in -1..1 for a depth network: multiples of its patch, its normalisation; for the
    small one, which is made of convolutions, also its size."""
    side, patch, *normalisation = depth_input(model)
    lite = isinstance(model, LiteDepthNetwork)
    scale = side / min(picture.shape[2:]) if lite else 1
    size = [max(patch, round(length * scale / patch) * patch) for length in picture.shape[2:]]
    if tuple(size) != tuple(picture.shape[2:]):
        picture = interpolate(picture, size=size, mode="bicubic", align_corners=False, antialias=lite)
    mean, std = (picture.new_tensor(values)[:, None, None] for values in normalisation)
    return (picture / 2 + 0.5 - mean) / std


def feature_distance(one: Tensor, other: Tensor) -> Tensor:
    """1 - cosine + 0.1 L1 between two layers' tokens [B, N, C]."""
    one, other = one.float(), other.float()
    return 1 - cosine_similarity(one, other, dim=-1).mean() + 0.1 * l1_loss(one, other)


def normalised(disparity: Tensor) -> Tensor:
    """Remove shift and scale of [B, H, W]: median 0, mean absolute deviation 1 (MiDaS' alignment)."""
    flat = disparity.flatten(1)
    middle = (flat.shape[1] - 1) // 2
    flat = flat - flat.sort(dim=1).values[:, middle, None]  # `median` has no deterministic kernel on CUDA
    return (flat / flat.abs().mean(dim=1, keepdim=True).clamp_min(1e-6)).view_as(disparity)


def gradient_distance(found: Tensor, target: Tensor) -> Tensor:
    """Mean absolute gradient of the difference at four scales, [B, H, W]."""
    difference = (found - target)[:, None]
    terms = []
    for _ in range(4):
        terms += [difference.diff(dim=dim).abs().mean() for dim in (2, 3) if difference.shape[dim] > 1]
        difference = avg_pool2d(difference, 2, ceil_mode=True)
    return torch.stack(terms).sum() / 4


def small_depth_network(width: int, side: int) -> Any:
    """Build Depth Anything's architecture at toy size: `width` channels, 4 layers, 8 px patches, `side` px pictures."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=width,
        num_hidden_layers=4,
        num_attention_heads=max(1, width // 16),
        mlp_ratio=2,
        image_size=side,
        patch_size=8,
        out_features=[f"stage{stage}" for stage in (1, 2, 3, 4)],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=8,
        reassemble_hidden_size=width,
        neck_hidden_sizes=[16, 24, 32, 32],
        fusion_hidden_size=24,
        head_hidden_size=16,
    )
    model = DepthAnythingForDepthEstimation(config)
    nn.init.constant_(model.head.conv3.bias, 0.5)  # the last ReLU must start active, in the middle of 0..1
    return model


def resize_like(disparity: Tensor, like: Tensor) -> Tensor:
    """Resize disparity [B, H, W] bilinearly to the size of `like`."""
    if disparity.shape == like.shape:
        return disparity
    return interpolate(disparity[:, None], size=like.shape[1:], mode="bilinear", align_corners=False)[:, 0]


def _hash_share(key: str) -> float:
    """Hash a sample's key to a number in 0..1."""
    return (int(key.rpartition("-")[2]) * 2654435761 % 2**32) / 2**32
