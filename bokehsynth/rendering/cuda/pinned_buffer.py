"""What comes from the device comes through one page-locked buffer, which a copy reaches at the bus's full rate."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from bokehsynth.rendering.types import ByteArray

LOG = logging.getLogger(__name__)

LARGEST = 64 << 20
"""Bytes that the buffer grows to: page-locked memory is taken from the whole machine. More comes in several pieces."""


class PinnedBuffer:
    """Page-locked memory of one renderer: grown when needed, to `LARGEST` bytes.

    Where the system grants none, pieces go through ordinary memory, with one warning in the log.
    """

    def __init__(self, allocate: Callable[[int], ByteArray], refused: tuple[type[Exception], ...]) -> None:
        """`allocate(bytes)` gives page-locked memory, or raises one of `refused`."""
        self._allocate, self._refused = allocate, refused
        self._memory: ByteArray = np.empty(0, np.uint8)
        self._turn = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes that it has."""
        return len(self._memory)

    def fetch(self, source: Any, size: int, read: Callable[[Any, ByteArray], None]) -> ByteArray:
        """The `size` bytes of `source`, uint8 on the device: `read(part, out)` copies a part of it to the buffer."""
        found = np.empty(size, np.uint8)
        with self._turn:
            if self.size < min(size, LARGEST):
                self._grow(min(size, LARGEST))
            for start in range(0, size, max(1, self.size)):
                piece = self._memory[: size - start]
                read(source[start : start + len(piece)], piece)
                found[start : start + len(piece)] = piece
        return found

    def _grow(self, size: int) -> None:
        self._memory = np.empty(0, np.uint8)  # let go of first
        try:
            self._memory = self._allocate(size)
        except self._refused as error:
            LOG.warning("no page-locked memory of %d MB (%s): pictures are fetched more slowly", size >> 20, error)
            self._memory = np.empty(LARGEST, np.uint8)  # never asked for again
