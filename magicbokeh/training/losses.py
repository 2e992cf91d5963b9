"""Distance of a picture from its target. The recipe names the loss; none silently replaces another."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, mse_loss

from bokehsynth import UsageError
from magicbokeh.recipe import LossSpec

SCALES = 4
EPSILON = 1e-3


class PictureLoss(nn.Module):
    """The weighted l1, l2 and perceptual terms of a recipe; pictures [B, 3, H, W] around -1..1."""

    def __init__(self, spec: LossSpec) -> None:
        super().__init__()
        self.spec = spec
        self.lpips = load_lpips() if spec.perceptual == "lpips" else None

    def forward(self, picture: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The weighted terms by name, at least float32; their sum is the loss."""
        kind = torch.promote_types(picture.dtype, torch.float32)
        # Meta tensors (benchmarks) are on a device that autocast does not know.
        device = "cpu" if picture.is_meta else picture.device.type
        with torch.autocast(device, enabled=False):
            picture, target = picture.to(kind), target.to(kind)
            terms = {"l2": self.spec.l2 * mse_loss(picture, target)}
            if self.spec.l1 is not None:
                terms["l1"] = self.spec.l1 * charbonnier(picture - target)
            if self.spec.perceptual == "edges":
                terms["edges"] = self.spec.weight * edge_loss(picture, target)
            elif self.lpips is not None:
                terms["lpips"] = self.spec.weight * self.lpips(picture.float(), target.float()).mean()
        return terms


def edge_loss(picture: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the horizontal and vertical gradients at four scales, [B, C, H, W] to a number.

    Like LPIPS it weighs edges and texture above level; unlike it, it is not learned from photographs.
    """
    total = picture.new_zeros(())
    for _ in range(SCALES):
        for dim in (2, 3):
            if picture.shape[dim] > 1:
                total = total + charbonnier(picture.diff(dim=dim) - target.diff(dim=dim))
        picture, target = avg_pool2d(picture, 2, ceil_mode=True), avg_pool2d(target, 2, ceil_mode=True)
    return total / SCALES


def charbonnier(difference: Tensor) -> Tensor:
    """Mean of |x| with a continuous gradient, so that rounding errors stay small in the weights."""
    return (difference.square() + EPSILON**2).sqrt().mean() - EPSILON


def load_lpips() -> Any:
    """LPIPS with VGG from the lpips package, frozen; UsageError says what is missing and how to get it."""
    advice = (
        "it needs `pip install lpips` (which installs torchvision: take the one that belongs to this torch) and, once, "
        "a connection or torch's hub cache with vgg16-397923af.pth. Without them choose loss.perceptual: edges"
    )
    try:
        import lpips
    except (ImportError, RuntimeError) as error:
        raise UsageError(f"loss.perceptual: lpips cannot be loaded ({error}); {advice}") from None
    try:
        loss = lpips.LPIPS(net="vgg", verbose=False)
    except OSError as error:  # the download of the backbone failed
        raise UsageError(f"loss.perceptual: lpips has no backbone ({error}); {advice}") from None
    return loss.eval().requires_grad_(False)
