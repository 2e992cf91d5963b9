"""Time, peak memory and operations of one call."""

import contextlib
import ctypes
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

Result = TypeVar("Result")
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Cost(Generic[Result]):
    """What a call returned and took."""

    result: Result
    seconds: float
    memory: float | None
    """Bytes at the peak above what was in use before; None where the system does not tell."""
    flops: float | None
    """Of torch's matrix products and convolutions, a multiplication and an addition counted as two; None uncounted."""


def measure(call: Callable[[], Result], on_cuda: bool, count_flops: bool) -> Cost[Result]:
    """Make a call and measure it. Counting slows it down: do not use the time of such a call."""
    from torch.utils.flop_counter import FlopCounterMode

    before = _memory_before(on_cuda)
    counter: Any = FlopCounterMode(display=False) if count_flops else None
    start = time.perf_counter()
    if counter is None:
        result = call()
    else:
        with counter:
            result = call()
    if on_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    flops = float(counter.get_total_flops()) if counter is not None else None
    return Cost(result, seconds, _peak_above(before, on_cuda), flops)


def _memory_before(on_cuda: bool) -> int | None:
    """Bytes in use, after the peak was reset to them."""
    if on_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    if not sys.platform.startswith("linux"):
        return None
    try:
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)  # what earlier calls freed would hide what this one takes
        _RESET.write_text("5")  # the peak becomes what is resident now: proc(5)
        return _resident("VmRSS")
    except OSError:
        return None


def _peak_above(before: int | None, on_cuda: bool) -> float | None:
    if before is None:
        return None
    peak = int(torch.cuda.max_memory_allocated()) if on_cuda else _resident("VmHWM")
    return float(max(0, peak - before))


def _resident(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
