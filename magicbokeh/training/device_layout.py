"""How the networks of a run lie in a device's memory."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from magicbokeh.training.phases import Models


def memory_format(device: torch.device) -> torch.memory_format:
    """The order of convolution weights: on CUDA channels last, as tensor cores read them; elsewhere torch's own."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def move_networks(models: Models, device: torch.device) -> None:
    """Bring the networks to a device, in its memory format; the values are the same to the bit."""
    wanted = memory_format(device)
    for module in models.parts().values():
        module.to(device)
        if wanted != torch.contiguous_format:
            module.to(memory_format=wanted)  # type: ignore[call-overload]  # torch's stub lacks it for keywords


@contextmanager
def contiguous_when_saved(models: Models) -> Iterator[None]:
    """Within, `state_dict` of each network gives every tensor contiguous, as files hold it.

    What lies otherwise on the device is copied to the host, for as long as that dictionary lives: at a checkpoint one
    network at a time, and nothing on the device. The networks themselves stay as they are.
    """
    with ExitStack() as hooks:
        for module in models.parts().values():
            # torch has the public name of it since 2.6 only.
            hooks.callback(module._register_state_dict_hook(_copy_to_host).remove)  # type: ignore[no-untyped-call]
        yield


def _copy_to_host(module: torch.nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
    for name, value in state.items():
        if isinstance(value, torch.Tensor) and not value.is_contiguous():
            state[name] = value.to("cpu").contiguous()
