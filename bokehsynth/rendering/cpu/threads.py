"""The threads that share the tiles of a picture."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba

THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
"""Set by the environment variable of that name, like every Numba program; workers of a generator run with 1."""


def in_pieces(start: int, stop: int, work: Callable[[int, int], Any]) -> None:
    """Run work(first, last + 1) over start .. stop - 1 at once, or in pieces on as many threads as Numba may use."""
    if THREADS == 1:
        work(start, stop)
        return
    piece = max(1, -(-(stop - start) // (8 * THREADS)))
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda first: work(first, min(stop, first + piece)), range(start, stop, piece)))
