"""NVIDIA's run-time compiler without a GPU: the wheel's library through ctypes, as CuPy calls it."""

import ctypes
import ctypes.util
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

WHEELS = ("nvidia.cuda_nvrtc", "nvidia.cu13")
"""Packages that hold libnvrtc: of CUDA 12 (in the extra `test`) and 13."""


FROM_CUPY = ("-ftz=true",)
"""What CuPy 13 and 14 append to the options of a module (`cupy/cuda/compiler.py`); the last one of a kind counts."""


@dataclass(frozen=True)
class Compiled:
    """What came of a program: the cubin is empty where the log says why."""

    succeeded: bool
    log: str
    cubin: bytes


@lru_cache
def library():
    """libnvrtc of a wheel, or of the system."""
    for wheel in WHEELS:
        try:
            found = find_spec(wheel)
        except ModuleNotFoundError:  # no package `nvidia` at all
            continue
        for folder in found.submodule_search_locations if found else ():
            for path in sorted(Path(folder).glob("lib/libnvrtc.so.*")):
                return ctypes.CDLL(str(path))
    name = ctypes.util.find_library("nvrtc")
    assert name, "libnvrtc is missing; pip install -e '.[test]' brings it"
    return ctypes.CDLL(name)


def call(function, *arguments):
    """Of NVRTC; its enum nvrtcResult where that is not 0."""
    return getattr(library(), function)(*arguments)


def supported():
    """Compute capabilities as two-digit numbers, ascending: 90 is sm_90."""
    count = ctypes.c_int()
    assert call("nvrtcGetNumSupportedArchs", ctypes.byref(count)) == 0
    numbers = (ctypes.c_int * count.value)()
    assert call("nvrtcGetSupportedArchs", numbers) == 0
    return sorted(numbers)


def compile_to_cubin(source, options):
    """Compile CUDA C++ `source` with these options."""
    program = ctypes.c_void_p()
    made = call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"bokeh.cu", 0, None, None)
    assert made == 0
    try:
        given = [option.encode() for option in options]
        result = call("nvrtcCompileProgram", program, len(given), (ctypes.c_char_p * len(given))(*given))
        log = _bytes_of("ProgramLog", program).rstrip(b"\0").decode()
        return Compiled(result == 0, log, _bytes_of("CUBIN", program) if result == 0 else b"")
    finally:
        call("nvrtcDestroyProgram", ctypes.byref(program))


def _bytes_of(what, program):
    size = ctypes.c_size_t()
    assert call(f"nvrtcGet{what}Size", program, ctypes.byref(size)) == 0
    buffer = ctypes.create_string_buffer(size.value)
    assert call(f"nvrtcGet{what}", program, buffer) == 0
    return buffer.raw
