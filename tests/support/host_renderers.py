"""The process that renders for all workers, with the CUDA kernels compiled for the host in the place of a GPU."""

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bokehsynth.generation import engines, render_server
from bokehsynth.generation.render_server import RenderServer
from bokehsynth.rendering.cuda import device as cuda_device
from bokehsynth.rendering.cuda.device import VisibleGpu
from support.kernels_on_cpu import HostDevice, library

GPU = {"gpu": "host", "compute_capability": "0.0", "driver": "0", "nvrtc": "0", "cupy": "0"}


@dataclass(frozen=True)
class HostRenderServer(RenderServer):
    """Renders on the host; `marks` is a folder in which it leaves its number, and finds what is to happen to it."""

    marks: Path = Path()
    poison: float | None = None
    """A blur: whatever scene has it ends, or hangs, the process."""
    hangs: bool = False

    def __call__(self, listener: socket.socket, ready: Callable[[], None]) -> None:
        cuda_device.Device = lambda: HostDevice(library())  # type: ignore[misc, assignment]
        (self.marks / f"renderer-{os.getpid()}").touch()
        rendered, begin_batch = 0, render_server.begin_batch

        def watched(scenes: list, *rest: object, **options: object) -> object:
            nonlocal rendered
            rendered += len(scenes)
            with (self.marks / "batches").open("a") as log:
                log.write(f"{os.getpid()} {len(scenes)} {time.time() % 1000:.1f}\n")
            if self.poison in [scene.lens.blur for scene in scenes]:
                if self.hangs:
                    time.sleep(1000)
                os.kill(os.getpid(), signal.SIGKILL)
            if (self.marks / "fragile").exists() and rendered > 6:
                (self.marks / "fragile").unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            return begin_batch(scenes, *rest, **options)

        render_server.begin_batch = watched  # type: ignore[assignment]
        super().__call__(listener, ready)


@pytest.fixture
def host_renderers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with one GPU and three CPUs, whose renderers are those above; returns their folder of marks."""
    marks = tmp_path / "marks"
    marks.mkdir()
    compiled = library()
    monkeypatch.setattr(cuda_device, "Device", lambda: HostDevice(compiled))
    cuda_device.the_device.cache_clear()
    monkeypatch.setattr("bokehsynth.generation.provenance.describe_device", lambda device: GPU)
    monkeypatch.setattr("bokehsynth.generation.devices.visible_gpus", lambda: [VisibleGpu("0", 24 << 30)])
    monkeypatch.setattr("bokehsynth.generation.devices.usable_cpus", lambda: 3)
    use(monkeypatch, marks)
    yield marks
    cuda_device.the_device.cache_clear()


def use(monkeypatch: pytest.MonkeyPatch, marks: Path, **more: object) -> None:
    """Have runs start such renderers, with other settings than usual."""

    def make(*settings: object) -> HostRenderServer:
        names = ("device", "codes", "batch", "seconds")
        return HostRenderServer(**{**dict(zip(names, settings, strict=True)), "marks": marks, **more})  # type: ignore

    monkeypatch.setattr(engines, "RenderServer", make)


def renderers_of(marks: Path) -> list[int]:
    """Process numbers of the renderers that were started."""
    return [int(path.name.partition("-")[2]) for path in marks.glob("renderer-*")]
