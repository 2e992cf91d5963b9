"""One AdamW per phase over the tensors it trains, with its moments saved by name and learning rates by step."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bokehsynth import DataError
from magicbokeh.recipe import Stage
from magicbokeh.training.phases import Phase


class PhaseOptimizer:
    """AdamW of one phase. Its learning rates are functions of the step, so that no scheduler state is saved."""

    def __init__(self, phase: Phase, active: Mapping[str, nn.Parameter], stage: Stage) -> None:
        self.name, self.stage, self.active = phase.name, stage, dict(active)
        rates = {name: phase.rates(name) for name in active}
        self.base = sorted(set(rates.values()))
        groups = [
            {"params": [value for name, value in active.items() if rates[name] == rate], "lr": rate}
            for rate in self.base
        ]
        first, second = stage.betas
        fused = {"fused": True} if all(value.is_cuda for value in active.values()) else {}
        self.adamw = torch.optim.AdamW(
            groups, betas=(first, second), eps=1e-8, weight_decay=stage.weight_decay, **fused
        )

    def set_rate(self, step: int) -> float:
        """The learning rates of a step of the stage, counted from 0; returns the highest."""
        factor = rate_factor(step, self.stage)
        for group, base in zip(self.adamw.param_groups, self.base, strict=True):
            group["lr"] = base * factor
        return max(self.base) * factor

    def clip(self, largest: float, scaler: torch.amp.GradScaler | None) -> Tensor:
        """Scale the gradients to a norm of at most `largest`; returns the norm that they had.

        A scaler's factor is taken out of them before, once and of this phase's tensors alone: accelerate's
        `clip_grad_norm_` does so for every optimiser that it ever saw, those of earlier stages too, and so twice where
        a tensor was trained before.
        """
        if scaler is not None:
            scaler.unscale_(self.adamw)
        return torch.nn.utils.clip_grad_norm_(list(self.active.values()), largest)

    def step(self, scaler: torch.amp.GradScaler | None) -> None:
        """Take the step, unless the scaler found an overflow; gradients are gone afterwards."""
        if scaler is None:
            self.adamw.step()
        else:
            scaler.step(self.adamw)
            scaler.update()
        self.adamw.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """The moments by `phase/parameter/moment`."""
        found = {}
        for name, value in self.active.items():
            for moment, tensor in sorted(self.adamw.state.get(value, {}).items()):
                found[f"{self.name}/{name}/{moment}"] = tensor.detach().cpu().contiguous()
        return found

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the moments that `tensors` returned; DataError where they belong to other parameters."""
        for key, tensor in tensors.items():
            phase, name, moment = key.split("/")
            if phase != self.name:
                continue
            if name not in self.active or (tensor.ndim and tensor.shape != self.active[name].shape):
                raise DataError(f"optimizer.safetensors: {key} belongs to no parameter of this run")
            value = self.active[name]
            if moment == "step":  # counted on the CPU, unless AdamW is fused
                restored = tensor.to(value.device if self.adamw.defaults["fused"] else "cpu").clone()
            else:  # in the parameter's memory format, as a fused AdamW expects
                restored = torch.empty_like(value, dtype=tensor.dtype).copy_(tensor)
            self.adamw.state[value][moment] = restored


def rate_factor(step: int, stage: Stage) -> float:
    """The factor of the learning rate at a step, counted from 0."""
    warm = min(1.0, (step + 1) / stage.warmup) if stage.warmup else 1.0
    if stage.schedule == "constant":
        return warm
    decay = stage.steps if stage.decay is None else stage.decay
    fallen = max(0, step - (stage.steps - decay))
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fallen / decay)))
