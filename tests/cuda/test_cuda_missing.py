"""Asking for `cuda` where it is not: what is missing, the way out, and exit code 2; `auto` takes the CPU."""

import importlib
import logging
import os
import subprocess
import sys

import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.errors import DeviceError
from bokehsynth.rendering import resolve_device
from bokehsynth.rendering.cuda import device as cuda_device

render = importlib.import_module("bokehsynth.rendering")  # `bokehsynth.rendering` as an attribute is the function

STAND_IN = """\
class cuda:
    class runtime:
        class CUDARuntimeError(RuntimeError):
            pass

        @staticmethod
        def getDeviceCount():
            {count}

    class driver:
        class CUDADriverError(RuntimeError):
            pass

    class memory:
        OutOfMemoryError = MemoryError


class RawModule:
    def __init__(self, code, options):
        assert 'extern "C" __global__ void __launch_bounds__(TILE_W * WARPS, 2) composite_tiles(' in code

    def compile(self):
        {compile}
"""
"""A CuPy with as much of it as is asked before the first array."""

KINDS = {
    "no cupy": (None, r"needs CuPy.*pip install 'bokehsynth\[cuda12\]' or 'bokehsynth\[cuda13\]'.*--device cpu"),
    "broken cupy": ("raise ImportError('libnvrtc.so.12: no such file')", r"needs CuPy.*libnvrtc\.so\.12.*--device cpu"),
    "no driver": (
        STAND_IN.format(count="raise cuda.runtime.CUDARuntimeError('cudaErrorInsufficientDriver')", compile="pass"),
        r"no GPU can be used here \(cudaErrorInsufficientDriver\); use --device cpu \(or auto\)",
    ),
    "no gpu": (
        STAND_IN.format(count="return 0", compile="pass"),
        r"the driver sees no GPU; use --device cpu \(or auto\)",
    ),
    "no compiler": (
        STAND_IN.format(count="return 1", compile="raise RuntimeError('bokeh.cu(7): error: no such thing')"),
        r"could not be compiled \(RuntimeError: bokeh\.cu\(7\): error: no such thing\).*bokehsynth\[cuda12\]",
    ),
}


@pytest.fixture(params=KINDS)
def missing(request, tmp_path, monkeypatch):
    """The folder of a CuPy that is of no use, and what must be said of it."""
    text, words = KINDS[request.param]
    folder = tmp_path / "cupy_of_no_use"
    folder.mkdir()
    text = "raise ImportError('No module named cupy')" if text is None else text
    (folder / "cupy.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "cupy"]:
        monkeypatch.delitem(sys.modules, name)
    cuda_device.the_device.cache_clear()
    render._best_device.cache_clear()
    yield folder, words
    sys.modules.pop("cupy", None)
    cuda_device.the_device.cache_clear()
    render._best_device.cache_clear()


def picture(backend):
    canvas = np.ones((10, 12, 3), np.float32)
    return bs.render([bs.Layer(canvas, canvas[..., 0], bs.Plane(0.5))], bs.Lens(2.0, 0.5), 3, backend)


def test_asking_for_it_is_an_error_with_the_way_out(missing):
    for ask in (lambda: resolve_device("cuda"), lambda: picture("cuda"), cuda_device.visible_gpus):
        with pytest.raises(DeviceError, match=missing[1]) as raised:
            ask()
        assert raised.value.exit_code == 2
        assert "\n" not in str(raised.value)


def test_auto_takes_the_cpu_and_says_why_where_a_gpu_is_left_alone(missing, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(cuda_device, "has_gpu", lambda: False)
    assert resolve_device("auto") == "cpu"
    assert picture("auto").bokeh.shape == (4, 6, 3)
    assert caplog.records == []
    monkeypatch.setattr(cuda_device, "has_gpu", lambda: True)
    render._best_device.cache_clear()
    assert [resolve_device("auto") for _ in range(3)] == ["cpu"] * 3
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("a GPU is there and the CPU is used: device cuda")
    with pytest.raises(DeviceError, match=missing[1]):
        resolve_device("cuda")


@pytest.mark.parametrize("kind", ["no gpu", "no compiler"])
@pytest.mark.parametrize("command", ["generate", "render"])
def test_the_commands_end_with_2_and_leave_nothing(command, kind, tmp_path):
    text, _ = KINDS[kind]
    (tmp_path / "cupy.py").write_text(text, encoding="utf-8")
    (tmp_path / "wall.png").write_bytes(b"")
    given = {
        "generate": ("generate", "quickstart", "--out", "out", "--device", "cuda"),
        "render": ("render", "--background", "wall.png", "--out", "out.png", "--device", "cuda"),
    }[command]
    done = subprocess.run(
        [sys.executable, "-c", "from bokehsynth.cli import main; main()", *given],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "device cuda" in done.stderr
    assert "Traceback" not in done.stderr
    assert ("--device cpu" if kind == "no gpu" else "bokehsynth[cuda12]") in done.stderr
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]


@pytest.mark.parametrize(
    ("files", "there"),
    [((), False), (("/dev/nvidiactl",), True), (("/proc/driver/nvidia/version",), True), (("/dev/dxg",), True)],
)
def test_a_driver_is_known_by_its_files(monkeypatch, files, there):
    monkeypatch.setattr(cuda_device.Path, "exists", lambda path: str(path) in files)
    assert cuda_device.has_gpu() is there


def test_a_failure_is_not_remembered(monkeypatch):
    """A container may be given its GPU later; a long process asks again."""

    class Late:
        tries = 0

        def __init__(self):
            Late.tries += 1
            if Late.tries == 1:
                raise DeviceError("device cuda: not yet")

    monkeypatch.setattr(cuda_device, "Device", Late)
    cuda_device.the_device.cache_clear()
    try:
        with pytest.raises(DeviceError, match="not yet"):
            cuda_device.the_device()
        assert cuda_device.the_device() is cuda_device.the_device()
        assert Late.tries == 2
    finally:
        cuda_device.the_device.cache_clear()
