"""What a data set's bytes depend on besides its recipe: versions, CPU features, device."""

import importlib.metadata
import platform
from typing import Any

import bokehsynth
from bokehsynth.files import sha256_bytes

PIXEL_PACKAGES = ("numpy", "numba", "llvmlite", "pillow")
"""Packages, besides OpenCV in either of its wheels, whose version may change a pixel or a byte."""


DECISIVE = ("bokehsynth", "architecture", "cpu_features", "device", "opencv", *PIXEL_PACKAGES)
"""The keys that two machines must share to work on one data set; the others are for the record."""


def describe_machine(device: str) -> dict[str, Any]:
    """Versions, CPU class and device: flat, JSON-able, the same on every run of the same machine."""
    import cv2
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    flags = ",".join(sorted(name for name, on in features.items() if on))
    return {
        "bokehsynth": bokehsynth.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpu": binding.get_host_cpu_name(),
        "cpu_features": sha256_bytes(flags)[:16],
        "device": device,
        "opencv": cv2.__version__,
        **{name: importlib.metadata.version(name) for name in PIXEL_PACKAGES},
    }
