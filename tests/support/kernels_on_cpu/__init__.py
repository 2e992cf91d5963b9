"""The CUDA kernels, compiled for the host: the whole of `rendering.cuda` but the GPU."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from bokehsynth.errors import DeviceError
from bokehsynth.rendering.cuda.device import KERNELS, Device
from bokehsynth.rendering.cuda.pinned_buffer import PinnedBuffer

HERE = Path(__file__).parent
FLAGS = ["-std=c++17", "-O2", "-march=native", "-ffp-contract=off", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
FLAGS += ["-Wno-unknown-pragmas", f"-I{KERNELS}", f"-I{HERE}"]


class OutOfMemoryError(Exception):
    """What this device raises when it is full."""


class HostDevice:
    """A `rendering.cuda.device.Device` of NumPy arrays; `largest` bounds how many bytes one array may have."""

    out_of_memory = OutOfMemoryError
    broken = ()

    def __init__(self, library, largest=None):
        self.compiled, self.largest, self.launched = library, largest, []
        self.pinned = PinnedBuffer(lambda size: np.empty(size, np.uint8), (MemoryError,))

    def put(self, array):
        copy = self.empty(array.shape, array.dtype)
        copy[...] = array
        return copy

    def get(self, array):
        found = self.pinned.fetch(
            array.reshape(-1).view(np.uint8), array.nbytes, lambda part, out: np.copyto(out, part)
        )
        return found.view(array.dtype).reshape(array.shape)

    def empty(self, shape, dtype):
        array = self.zeros(shape, dtype)
        array.view(np.uint8).fill(0xA5)  # reads of memory that was never written show
        return array

    def zeros(self, shape, dtype):
        array = np.zeros(shape, dtype)
        if self.largest is not None and array.nbytes > self.largest:
            raise OutOfMemoryError(f"{array.nbytes} bytes asked for, {self.largest} there")
        return array

    def address(self, array):
        return array.ctypes.data

    def launch(self, kernel, grid, block, table):
        self.launched.append(kernel)
        getattr(self.compiled, f"launch_{kernel}")(
            ctypes.c_void_p(table.ctypes.data), (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block)
        )

    def new_stream(self):
        return None

    def on(self, stream):
        return nullcontext()

    def record(self, stream):
        return stream

    def wait(self, stream, event):
        pass

    def release(self):
        pass

    def description(self):
        return {"gpu": "host", "compute_capability": "0.0"}


@lru_cache
def library():
    """The kernels as a shared library, kept between runs by what it is made from."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    sources = sorted([*KERNELS.iterdir(), *HERE.glob("*.h"), *HERE.glob("*.cpp")])
    made_of = b"".join(path.read_bytes() for path in sources) + " ".join([compiler, *FLAGS]).encode()
    name = f"bokehsynth-kernels-{os.getuid()}-{hashlib.sha256(made_of).hexdigest()[:16]}.so"
    place = Path(tempfile.gettempdir()) / name
    if not place.is_file():
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            made = Path(folder) / place.name
            subprocess.run([compiler, *FLAGS, "-o", made, HERE / "kernels.cpp"], check=True)
            made.replace(place)
    return ctypes.CDLL(str(place))


@lru_cache
def the_device_or_kernels_on_cpu():
    """The GPU where there is one."""
    try:
        return Device()
    except DeviceError:
        return HostDevice(library())
