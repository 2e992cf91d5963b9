"""Phases own what trains. A phase says which tensors move and what its loss is; `activate` is the only place that
touches `requires_grad`, and everything the phase does not name stays as it is, to the bit.

    autoencoder   the whole VAE but its LoRA          aif, hq -> themselves
    sr            VAE LoRA, UNet LoRA and conv_in     lq, no defocus -> aif         (first stage; no ControlNet yet)
    bokeh         ControlNet, bokeh LoRA              lq, defocus -> hq
    sr_turn       UNet LoRA                           lq, zero defocus -> aif       (turns with bokeh)
    joint         all of the two above                lq, defocus -> hq             (the ablation without turns)
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
from magicbokeh.recipe import AutoencoderStage, DepthStage, SrStage, Stage
from magicbokeh.training.depth_distillation import DepthLoss
from magicbokeh.training.losses import PictureLoss

Terms = dict[str, Tensor]


@dataclass
class Models:
    """All that a run may train."""

    networks: Networks
    depth: nn.Module | None = None

    def parts(self) -> dict[str, nn.Module]:
        """The modules under the names that stand before their tensors' names."""
        found: dict[str, nn.Module] = {
            "unet": self.networks.unet,
            "controlnet": self.networks.controlnet,
            "vae": self.networks.vae,
        }
        return found if self.depth is None else {**found, "depth": self.depth}

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter, `part.name`."""
        for part, module in self.parts().items():
            for name, value in module.named_parameters():
                yield f"{part}.{name}", value


@dataclass(frozen=True)
class Phase:
    """What moves, how fast, on which samples, towards what."""

    name: str
    trains: Callable[[str], bool]
    """Whether a parameter of that name moves."""
    rates: Callable[[str], float]
    """Its learning rate."""
    losses: Callable[[Models, Batch], Terms]
    """The weighted terms of the loss of one batch."""
    source: str = "main"
    """Which samples: main or sr."""


def activate(phase: Phase, models: Models) -> dict[str, nn.Parameter]:
    """Let the phase's parameters move and no others; returns them by name."""
    active = {}
    for name, value in models.parameters():
        value.requires_grad_(phase.trains(name))
        if value.requires_grad:
            active[name] = value
        else:
            value.grad = None
    assert active, f"phase {phase.name} trains nothing"
    return active


# --- which tensors are which


def is_vae_lora(name: str) -> bool:
    """Of the VAE's encoder."""
    return name.startswith("vae.") and f".{ADAPTER}." in name


def is_sr_lora(name: str) -> bool:
    """Of the UNet, without conv_in's own weights."""
    return name.startswith("unet.") and f".{ADAPTER}." in name


def is_conv_in(name: str) -> bool:
    """The UNet's first convolution itself, which the first stage trains whole."""
    return name in {f"unet.conv_in.{middle}{leaf}" for middle in ("", "base_layer.") for leaf in ("weight", "bias")}


def is_bokeh_lora(name: str) -> bool:
    """Of the focus-aware attention."""
    return name.startswith("unet.") and ".processor." in name


def is_unet_base(name: str) -> bool:
    """The UNet without any LoRA."""
    return name.startswith("unet.") and not is_sr_lora(name) and not is_bokeh_lora(name)


def is_controlnet(name: str) -> bool:
    """All of the ControlNet."""
    return name.startswith("controlnet.")


# --- the turns of a stage


def phases_of(stage: Stage, loss: PictureLoss | DepthLoss, has_sr_source: bool = False) -> list[Phase]:
    """The phases of a cycle of the stage's steps, in turn."""
    if isinstance(stage, DepthStage):
        assert isinstance(loss, DepthLoss)
        return [
            Phase(
                "depth",
                lambda name: name.startswith("depth."),
                lambda name: stage.lr if name.startswith("depth.backbone.") and stage.teacher else stage.head_lr,
                lambda models, batch: loss(models.depth, batch),
            )
        ]
    assert isinstance(loss, PictureLoss)
    source = "sr" if has_sr_source else "main"
    if isinstance(stage, AutoencoderStage):
        return [_autoencoder(stage, loss)]
    if isinstance(stage, SrStage):
        return [_sr(stage, loss, source)]
    if stage.joint:
        moves = _any(is_controlnet, is_bokeh_lora, is_sr_lora)
        return [Phase("joint", moves, _fixed(stage.lr), _bokeh_losses(loss))]
    bokeh = Phase("bokeh", _any(is_controlnet, is_bokeh_lora), _fixed(stage.lr), _bokeh_losses(loss))
    turn = Phase("sr_turn", is_sr_lora, _fixed(stage.sr_lr), _sr_turn_losses(loss), source)
    return [bokeh] * stage.phase_steps.bokeh + [turn] * stage.phase_steps.sr


def _autoencoder(stage: AutoencoderStage, loss: PictureLoss) -> Phase:
    def losses(models: Models, batch: Batch) -> Terms:
        # Clean pictures only: a code for noise would be room lost. The SR stage teaches the encoder what to ignore.
        pictures = torch.cat([batch.aif, batch.hq])
        return loss(models.networks.vae(pictures), pictures)

    def moves(name: str) -> bool:
        return name.startswith("vae.") and not is_vae_lora(name)

    return Phase("autoencoder", moves, _fixed(stage.lr), losses)


def _sr(stage: SrStage, loss: PictureLoss, source: str) -> Phase:
    def losses(models: Models, batch: Batch) -> Terms:
        networks = models.networks
        latent = networks.vae.encode(batch.lq)
        # Neither ControlNet nor regions: both do nothing yet, so the second stage starts where this one ends.
        x0 = networks.step.x0(latent, networks.unet(latent))
        return loss(_decode(networks, x0), batch.aif)

    weights = is_unet_base if stage.unet == "full" else _any(is_sr_lora, is_conv_in)
    return Phase("sr", _any(is_vae_lora, weights), _fixed(stage.lr), losses, source)


def _bokeh_losses(loss: PictureLoss) -> Callable[[Models, Batch], Terms]:
    def losses(models: Models, batch: Batch) -> Terms:
        return loss(_restored(models.networks, batch.lq, batch.defocus), batch.hq)

    return losses


def _sr_turn_losses(loss: PictureLoss) -> Callable[[Models, Batch], Terms]:
    def losses(models: Models, batch: Batch) -> Terms:
        return loss(_restored(models.networks, batch.lq, torch.zeros_like(batch.defocus)), batch.aif)

    return losses


def _restored(networks: Networks, lq: Tensor, defocus: Tensor) -> Tensor:
    return _decode(networks, networks.restore(lq, defocus)["x0"])


def _decode(networks: Networks, x0: Tensor) -> Tensor:
    """Not clamped, as inference does it: a clamped pixel has no gradient that could bring it back."""
    return networks.vae.decode(x0.to(networks.vae.dtype))


def _any(*tests: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda name: any(test(name) for test in tests)


def _fixed(rate: float) -> Callable[[str], float]:
    return lambda _: rate


def total(terms: Terms) -> Tensor:
    """The loss itself."""
    values: Sequence[Any] = list(terms.values())
    return torch.stack([value.to(torch.promote_types(value.dtype, torch.float32)) for value in values]).sum()
