"""The super-resolution LoRA: peft layers in every convolution and projection, and merging them into the weights."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

ADAPTER = "sr"
"""peft's adapter name, part of the parameter names in the files."""


def lora_targets(model: nn.Module, inside: Sequence[str] = ("",), without: Iterable[str] = ()) -> list[str]:
    """Names of the convolutions and linear layers below the prefixes `inside`, without those whose name contains a word
    of `without`.
    """
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
        and any(name.startswith(prefix) for prefix in inside)
        and not any(word in name for word in without)
    ]


def add_lora(model: nn.Module, targets: list[str], rank: int, alpha: float) -> None:
    """Wrap the `targets` in peft layers of this rank, scaled by alpha/rank (A gaussian, B zero: no effect yet)."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, init_lora_weights="gaussian", lora_dropout=0)
    inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    found = sum(1 for _ in _lora_layers(model))
    assert found == len(targets), f"peft wrapped {found} of {len(targets)} layers"


def merge_lora(model: nn.Module) -> None:
    """Add every LoRA to its layer's weights and unwrap the layer; the function stays the same."""
    for name, layer in list(_lora_layers(model)):
        layer.merge()  # type: ignore[operator]  # peft's own method, untyped
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.base_layer)
    if hasattr(model, "peft_config"):
        del model.peft_config


def skip_idle_loras(model: nn.Module, trained: Callable[[str], bool]) -> None:
    """Leave out of the forward pass every LoRA that has no effect yet and is not trained: the same function, for up to
    a third less work. `trained` says of a parameter's name whether it is trained; the others take part again.
    """
    for name, layer in _lora_layers(model):
        effect: Any = layer.lora_B[ADAPTER].weight  # type: ignore[index, union-attr]
        idle = not trained(f"{name}.lora_B.{ADAPTER}.weight") and not effect.any()
        layer._disable_adapters = idle  # type: ignore[assignment]  # `enable_adapters` would change requires_grad too


def _lora_layers(model: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    from peft.tuners.lora import LoraLayer

    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer))
