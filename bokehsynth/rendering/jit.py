"""How kernels are compiled: strict IEEE arithmetic, cached, without Python's lock."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba as nb

from bokehsynth.numba_cache import discard_unreadable, ensure_cache_place

ensure_cache_place(Path(__file__).parent)

F = TypeVar("F", bound=Callable[..., Any])
_STRICT: Any = {"nogil": True, "cache": True, "error_model": "numpy", "boundscheck": False}
_WITHOUT_COUNTS: Any = {**_STRICT, "_nrt": False}


def kernel(function: F) -> F:
    """Compile a function by Numba.

    No fast-math: sums keep their order, products and sums are never fused, so every processor gives the same bits.
    """
    return _compiled(function, _STRICT)


def inline_kernel(function: F) -> F:
    """Compile a kernel that neither allocates nor slices arrays.

    Numba then leaves out counting references to its arguments, atomic operations that take as long as the work where a
    function is called for every few pixels.
    """
    return _compiled(function, _WITHOUT_COUNTS)


def always_inline_kernel(function: F) -> F:
    """Compile an `inline_kernel` whose code is put where it is called: for functions called for every few pixels.

    Otherwise each call copies all numbers of all tuples among its arguments, seven or more of every array.
    """
    return _compiled(function, {**_WITHOUT_COUNTS, "forceinline": True})


def _compiled(function: F, options: Any) -> F:
    compiled: F = nb.njit(function, **options)
    discard_unreadable(compiled)
    return compiled
