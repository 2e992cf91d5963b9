"""How kernels are compiled: strict IEEE arithmetic, cached, without Python's lock."""

from pathlib import Path
from typing import Any

import numba as nb

from bokehsynth.numba_cache import ensure_cache_place

ensure_cache_place(Path(__file__).parent)

_STRICT: Any = {"nogil": True, "cache": True, "error_model": "numpy", "boundscheck": False}

kernel = nb.njit(**_STRICT)
"""No fast-math: sums keep their order, products and sums are never fused, so every processor gives the same bits."""

inline_kernel = nb.njit(**{**_STRICT, "_nrt": False})
"""A kernel that neither allocates nor slices arrays. Numba then leaves out counting references to its arguments, atomic
operations that take as long as the work where a function is called for every few pixels."""
