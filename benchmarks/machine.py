"""What stands above every result table: machine, versions, command."""

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

PACKAGES = ("numpy", "numba", "opencv-python-headless", "pillow", "torch", "diffusers", "peft", "basicsr")


def machine_lines(command: str) -> list[str]:
    """Lines that name the processor, the cores this process may use, the versions, and how it was run."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES if _installed(name)]
    arguments = " ".join(sys.argv[1:])
    return [
        f"`{command}{' ' + arguments if arguments else ''}`",
        "",
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores; Python {platform.python_version()}, "
        f"{', '.join(versions)}",
    ]


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
