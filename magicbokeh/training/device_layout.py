"""How the networks of a run lie in a device's memory."""

from collections.abc import Iterator
from contextlib import contextmanager

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
def contiguous_networks(models: Models) -> Iterator[None]:
    """Within, every parameter is contiguous, as files hold it; afterwards it lies where and as it did."""
    moved = [(value, value.data) for _, value in models.parameters() if not value.is_contiguous()]
    try:
        for value, data in moved:
            value.data = data.contiguous()
        yield
    finally:
        for value, data in moved:
            value.data = data
