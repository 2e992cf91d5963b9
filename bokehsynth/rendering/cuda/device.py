"""The GPU: asked for once, its kernels compiled once per process.

Everything the CUDA renderer wants of a GPU is the few methods of `Device`.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bokehsynth.errors import DeviceError
from bokehsynth.rendering.cuda.pinned_buffer import PinnedBuffer
from bokehsynth.rendering.types import ByteArray

KERNELS = Path(__file__).parent / "kernels"

DeviceArray = Any
"""An array in the device's memory: of CuPy on a GPU."""

Grid = tuple[int, int, int]


class Device:
    """The current CUDA device through CuPy. Raises DeviceError, with the way out, if it cannot be used."""

    def __init__(self) -> None:
        try:
            import cupy
        except ImportError as error:
            raise DeviceError(
                f"device cuda needs CuPy, which cannot be imported ({error}); install the extra that fits the driver, "
                "pip install 'bokehsynth[cuda12]' or 'bokehsynth[cuda13]', or use --device cpu"
            ) from None
        self._cupy = cupy
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise DeviceError(f"device cuda: no GPU can be used here ({error}); use --device cpu (or auto)") from None
        if count == 0:
            raise DeviceError("device cuda: the driver sees no GPU; use --device cpu (or auto)")
        self.out_of_memory: type[Exception] = cupy.cuda.memory.OutOfMemoryError
        """What `put`, `empty` and `zeros` raise where memory is short."""
        self.broken: tuple[Any, ...] = (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)
        """What any method may raise once the device has failed."""
        self._kernels: dict[str, Any] = {}
        self._pinned = PinnedBuffer(self._page_locked, (self.out_of_memory, *self.broken))
        self._module  # noqa: B018  # compiled here, so that a device without kernels is refused

    @cached_property
    def _module(self) -> Any:
        module = self._cupy.RawModule(code=(KERNELS / "bokeh.cu").read_text("utf-8"), options=compile_options())
        try:
            module.compile()
        except Exception as error:  # NVRTC missing, too old for the GPU, or a compiler's complaint: CuPy has many types
            raise DeviceError(
                f"device cuda: the kernels could not be compiled ({type(error).__name__}: {error}); CuPy needs NVRTC "
                "of its own CUDA version: the extras bokehsynth[cuda12] and bokehsynth[cuda13] bring it"
            ) from None
        return module

    def put(self, array: "np.ndarray[Any, Any]") -> DeviceArray:
        """A copy on the device, contiguous."""
        return self._cupy.asarray(np.ascontiguousarray(array))

    def get(self, array: DeviceArray) -> "np.ndarray[Any, Any]":
        """A copy on the host, once everything launched before is done."""
        found = self._pinned.fetch(array.reshape(-1).view(np.uint8), int(array.nbytes), self._read)
        result: np.ndarray[Any, Any] = found.view(array.dtype).reshape(array.shape)
        return result

    def _read(self, part: DeviceArray, out: ByteArray) -> None:
        self._cupy.asnumpy(part, out=out)

    def _page_locked(self, size: int) -> ByteArray:
        # CuPy's pool keeps freed blocks page-locked for requests of their size: the smaller buffer would stay.
        self._cupy.get_default_pinned_memory_pool().free_all_blocks()
        return np.frombuffer(self._cupy.cuda.alloc_pinned_memory(size), np.uint8, size)

    def empty(self, shape: Sequence[int], dtype: Any) -> DeviceArray:
        """Memory that holds anything."""
        return self._cupy.empty(tuple(shape), dtype)

    def zeros(self, shape: Sequence[int], dtype: Any) -> DeviceArray:
        """Memory that holds zeros."""
        return self._cupy.zeros(tuple(shape), dtype)

    def address(self, array: DeviceArray) -> int:
        """Return the address of the first element, as kernels see it."""
        return int(array.data.ptr)

    def launch(self, kernel: str, grid: Grid, block: Grid, table: DeviceArray) -> None:
        """Start a kernel of `kernels/bokeh.cu` on the only argument that ours take: a table of structs."""
        if kernel not in self._kernels:
            self._kernels[kernel] = self._module.get_function(kernel)
        self._kernels[kernel](grid, block, (table,))

    def new_stream(self) -> Any:
        """A queue of work beside the null stream; each of the two waits for what was asked of the other before."""
        return self._cupy.cuda.Stream()  # one that blocks, as CUDA calls it

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Within the block all that is asked of the device, memory included, is of this stream."""
        found: AbstractContextManager[Any] = stream
        return found

    def record(self, stream: Any) -> Any:
        """An event that follows what was asked of a stream so far."""
        return stream.record()

    def wait(self, stream: Any, event: Any) -> None:
        """What is asked of the stream from now on comes after an event; the host does not wait."""
        stream.wait_event(event)

    def release(self) -> None:
        """Give unused memory back."""
        self._cupy.get_default_memory_pool().free_all_blocks()

    def description(self) -> dict[str, str]:
        """Names, compute capabilities and versions of all visible GPUs: what the bytes of a picture depend on."""
        runtime = self._cupy.cuda.runtime
        found = [runtime.getDeviceProperties(number) for number in range(runtime.getDeviceCount())]
        return {
            "gpu": ", ".join(sorted({properties["name"].decode() for properties in found})),
            "compute_capability": ", ".join(sorted({f"{each['major']}.{each['minor']}" for each in found})),
            "cuda_driver": str(runtime.driverGetVersion()),
            "nvrtc": ".".join(str(part) for part in self._cupy.cuda.nvrtc.getVersion()),
            "cupy": self._cupy.__version__,
        }


def compile_options() -> tuple[str, ...]:
    """NVRTC options. FMA contraction is off; the source digest invalidates CuPy's cache when a kernel file changes.

    CuPy appends -ftz=true, which no option of ours undoes: float32 below 1e-38 is 0 in what a kernel computes.
    """
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(KERNELS.iterdir()))).hexdigest()
    return "--std=c++14", "--fmad=false", f"-I{KERNELS}", f"-DKERNELS_DIGEST=0x{digest[:8]}"


@lru_cache(maxsize=1)
def the_device() -> Device:
    """The device of this process; DeviceError where there is none. A failure is not remembered."""
    return Device()


def has_gpu() -> bool:
    """Whether a driver for one is installed, whatever else is missing."""
    return any(Path(name).exists() for name in ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg"))


class VisibleGpu(NamedTuple):
    """A GPU that this process may use."""

    name: str
    """The value of CUDA_VISIBLE_DEVICES that shows it alone."""
    memory: int
    """Bytes in all."""


def visible_gpus() -> list[VisibleGpu]:
    """The GPUs that this process may use; DeviceError where there is none."""
    the_device()
    import cupy

    runtime = cupy.cuda.runtime
    count = int(runtime.getDeviceCount())
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    names = named[:count] if len(named) >= count else [str(number) for number in range(count)]
    memory = [int(runtime.getDeviceProperties(number)["totalGlobalMem"]) for number in range(count)]
    return [VisibleGpu(*each) for each in zip(names, memory, strict=True)]
