"""How the networks of a run lie in a device's memory, and which of them torch compiles."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bokehsynth import UsageError
from magicbokeh.model.networks import BokehVAE
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


def check_compile(device: str) -> None:
    """UsageError, with what is missing, where torch cannot compile networks for this device."""
    compilers = (os.environ.get("CXX"), "g++", "clang++") if device == "cpu" else (os.environ.get("CC"), "gcc", "clang")
    if not any(shutil.which(name) for name in compilers if name):
        language, variable = ("C++", "CXX") if device == "cpu" else ("C", "CC")
        raise UsageError(
            f"compute.compile: torch needs a {language} compiler to compile networks, and there is no "
            f"{compilers[1]} or {compilers[2]} on PATH; install one, name it in {variable}, or leave compile off"
        )
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        raise UsageError(
            "compute.compile: torch needs Triton to compile networks for a GPU, and it is not installed (torch's CUDA "
            "wheels for Linux bring it; pip install triton); install it, or leave compile off"
        )
    if device == "cuda" and torch.cuda.get_device_capability() < (7, 0):
        raise UsageError(
            "compute.compile: Triton compiles for GPUs from compute capability 7.0 (Volta) on; leave compile off"
        )


def compile_networks(models: Models) -> None:
    """Have torch compile UNet, ControlNet and autoencoder when they are first used; the tensors keep their names.

    The attention that carries the bokeh LoRA is left out: its segments differ from mask to mask, and each would be
    compiled anew. So is the depth network.
    """
    unet, vae = models.networks.unet, models.networks.vae
    for layer in unet.focus_layers():
        layer.forward = torch.compiler.disable(layer.forward)  # type: ignore[no-untyped-call]
    for module in (
        unet,
        models.networks.controlnet,
        *((vae.encoder, vae.decoder) if isinstance(vae, BokehVAE) else ()),
    ):
        module.compile()


@contextmanager
def explained_compilation(compiled: bool) -> Iterator[None]:
    """UsageError where a network that `compile_networks` took turns out, at its first use, not to be compilable."""
    try:
        yield
    except Exception as error:
        if not compiled or not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        first = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"compute.compile: torch could not compile the networks ({type(error).__name__}: {first}); leave it off, "
            "or go on with another version of torch, in a new run that begins with --init from this one's folder"
        ) from error
