"""A plugin for pytest, `-p support.gpu_stand_in`: tests that need a GPU take kernels compiled for the host as one."""

from bokehsynth.rendering.cuda import device as cuda_device
from support.kernels_on_cpu import HostDevice, library


def pytest_configure() -> None:
    cuda_device.Device = lambda: HostDevice(library())  # type: ignore[misc, assignment]
