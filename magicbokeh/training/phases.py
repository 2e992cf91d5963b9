"""Training phases: the tensors that a phase trains, its learning rates, samples and loss. `activate` alone changes
`requires_grad`; tensors that the active phase does not name keep their bits.

    from_scratch  UNet, ControlNet, bokeh LoRA        lq, defocus -> hq; some lq, zero defocus -> aif
    sr            VAE LoRA, UNet LoRA and conv_in     lq, no defocus -> aif         (first stage; no ControlNet yet)
    bokeh         ControlNet, bokeh LoRA              lq, defocus -> hq
    sr_turn       UNet LoRA                           lq, zero defocus -> aif       (turns with bokeh)
    joint         all of the two above                lq, defocus -> hq             (without turns; some as sr_turn)
    depth         the depth network                   lq -> disparity
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from magicbokeh.data.loader import Batch
from magicbokeh.model.bundle import Networks
from magicbokeh.model.lora import ADAPTER
from magicbokeh.recipe import DepthStage, FromScratchStage, SrStage, Stage
from magicbokeh.training.depth_distillation import DepthLoss
from magicbokeh.training.losses import PictureLoss

Terms = dict[str, Tensor]


@dataclass
class Models:
    """The networks that a run may train."""

    networks: Networks
    depth: nn.Module | None = None

    def parts(self) -> dict[str, nn.Module]:
        """The modules by the prefix of their tensors' names."""
        found: dict[str, nn.Module] = {
            "unet": self.networks.unet,
            "controlnet": self.networks.controlnet,
            "vae": self.networks.vae,
        }
        return found if self.depth is None else {**found, "depth": self.depth}

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter with its name, `part.name`."""
        for part, module in self.parts().items():
            for name, value in module.named_parameters():
                yield f"{part}.{name}", value


@dataclass(frozen=True)
class Phase:
    """The tensors that are trained together, their learning rates, samples and loss."""

    name: str
    trains: Callable[[str], bool]
    """Whether a parameter of that name is trained."""
    rates: Callable[[str], float]
    """The learning rate of a parameter by its name."""
    losses: Callable[[Models, Batch], Terms]
    """The weighted loss terms of one batch."""
    source: str = "main"
    """The source of its samples: main or sr."""


def activate(phase: Phase, models: Models) -> dict[str, nn.Parameter]:
    """Make the phase's parameters trainable and freeze all others; returns them by name."""
    active = {}
    for name, value in models.parameters():
        value.requires_grad_(phase.trains(name))
        if value.requires_grad:
            active[name] = value
        else:
            value.grad = None
    assert active, f"phase {phase.name} trains nothing"
    return active


# --- groups of tensors by name


def is_vae_lora(name: str) -> bool:
    """Whether a tensor belongs to the LoRA of the VAE's encoder."""
    return name.startswith("vae.") and f".{ADAPTER}." in name


def is_sr_lora(name: str) -> bool:
    """Whether a tensor belongs to the UNet's SR LoRA."""
    return name.startswith("unet.") and f".{ADAPTER}." in name


def is_conv_in(name: str) -> bool:
    """Whether a tensor belongs to the UNet's first convolution itself, which the first stage trains in full."""
    return name in {f"unet.conv_in.{middle}{leaf}" for middle in ("", "base_layer.") for leaf in ("weight", "bias")}


def is_bokeh_lora(name: str) -> bool:
    """Whether a tensor belongs to the bokeh LoRA of the focus-aware attention."""
    return name.startswith("unet.") and ".processor." in name


def is_unet_base(name: str) -> bool:
    """Whether a tensor belongs to the UNet but not to a LoRA."""
    return name.startswith("unet.") and not is_sr_lora(name) and not is_bokeh_lora(name)


def is_controlnet(name: str) -> bool:
    """Whether a tensor belongs to the ControlNet."""
    return name.startswith("controlnet.")


# --- the phases of a stage


def phases_of(stage: Stage, loss: PictureLoss | DepthLoss, has_sr_source: bool = False) -> list[Phase]:
    """The phases of the stage's steps, repeated cyclically."""
    if isinstance(stage, DepthStage):
        assert isinstance(loss, DepthLoss)
        is_pretrained = stage.teacher is not None or stage.encoder is not None
        return [
            Phase(
                "depth",
                lambda name: name.startswith("depth."),
                lambda name: stage.lr if name.startswith("depth.backbone.") and is_pretrained else stage.head_lr,
                lambda models, batch: loss(models.depth, batch),
            )
        ]
    assert isinstance(loss, PictureLoss)
    source = "sr" if has_sr_source else "main"
    if isinstance(stage, FromScratchStage):
        return [_from_scratch(stage, loss)]
    if isinstance(stage, SrStage):
        return [_sr(stage, loss, source)]
    if stage.joint:
        trains = _any_of(is_controlnet, is_bokeh_lora, is_sr_lora)
        return [Phase("joint", trains, _constant(stage.lr), _mixed_losses(loss, stage.sharp or 0.0))]
    bokeh = Phase("bokeh", _any_of(is_controlnet, is_bokeh_lora), _constant(stage.lr), _bokeh_losses(loss))
    sr_turn = Phase("sr_turn", is_sr_lora, _constant(stage.sr_lr), _sr_turn_losses(loss), source)
    return [bokeh] * stage.phase_steps.bokeh + [sr_turn] * stage.phase_steps.sr


def _from_scratch(stage: FromScratchStage, loss: PictureLoss) -> Phase:
    trains = _any_of(is_unet_base, is_controlnet, is_bokeh_lora)
    return Phase("from_scratch", trains, _constant(stage.lr), _mixed_losses(loss, stage.sharp))


def sharp_places(count: int, share: float) -> Tensor:
    """Mark `share` of the places of a batch, evenly spread: bool [count]."""
    ends = torch.arange(count + 1, dtype=torch.float64) * share
    return ends.floor().diff() > 0


def _sr(stage: SrStage, loss: PictureLoss, source: str) -> Phase:
    def losses(models: Models, batch: Batch) -> Terms:
        networks = models.networks
        latent = networks.vae.encode(batch.lq)
        # Neither ControlNet nor regions: both have no effect yet, so the second stage starts where this one ends.
        x0 = networks.step.x0(latent, networks.unet(latent))
        return loss(_decode(networks, x0), batch.aif)

    return Phase("sr", _any_of(is_vae_lora, is_sr_lora, is_conv_in), _constant(stage.lr), losses, source)


def _mixed_losses(loss: PictureLoss, share: float) -> Callable[[Models, Batch], Terms]:
    """Losses against `hq`, and for a `share` of the batch against `aif` without blur."""

    def losses(models: Models, batch: Batch) -> Terms:
        sharp = sharp_places(len(batch), share).to(batch.lq.device)[:, None, None, None]
        defocus = torch.where(sharp, torch.zeros_like(batch.defocus), batch.defocus)
        target = torch.where(sharp, batch.aif, batch.hq)
        return loss(_restored(models.networks, batch.lq, defocus), target)

    return losses


def _bokeh_losses(loss: PictureLoss) -> Callable[[Models, Batch], Terms]:
    def losses(models: Models, batch: Batch) -> Terms:
        return loss(_restored(models.networks, batch.lq, batch.defocus), batch.hq)

    return losses


def _sr_turn_losses(loss: PictureLoss) -> Callable[[Models, Batch], Terms]:
    def losses(models: Models, batch: Batch) -> Terms:
        return loss(_restored(models.networks, batch.lq, torch.zeros_like(batch.defocus)), batch.aif)

    return losses


def _restored(networks: Networks, lq: Tensor, defocus: Tensor) -> Tensor:
    return _decode(networks, networks.restore(lq, defocus).x0)


def _decode(networks: Networks, x0: Tensor) -> Tensor:
    """Decode without the clamping of inference: a clamped pixel would have no gradient."""
    return networks.vae.decode(x0.to(networks.vae.dtype))


def _any_of(*tests: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda name: any(test(name) for test in tests)


def _constant(rate: float) -> Callable[[str], float]:
    return lambda _: rate


def total(terms: Terms) -> Tensor:
    """Sum the terms to the loss, at least in float32."""
    values: Sequence[Any] = list(terms.values())
    return torch.stack([value.to(torch.promote_types(value.dtype, torch.float32)) for value in values]).sum()
