"""An object as a file that is open for reading: ranged gets, with some read ahead where it is read in order."""

import io
from collections import OrderedDict

from bokehsynth.stores.bucket import Bucket

BLOCK = 1 << 20
"""Bytes that are fetched at a time for small reads."""
AHEAD = 4
"""Blocks fetched in one request where reads follow each other."""
KEPT = 24
"""Blocks that are kept."""


class RangedFile(io.RawIOBase):
    """An object, read by ranges. All of them are of one version: DataError where it changes meanwhile."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        super().__init__()
        self._bucket, self._key = bucket, key
        self._size = -1
        self._version = ""
        self._place = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    @property
    def size(self) -> int:
        """Bytes of the object; FileNotFoundError where it is not there."""
        if self._size < 0:
            held = self._bucket.head(self._key)
            if held is None:
                raise FileNotFoundError(f"{self._bucket.url}/{self._key}: not there")
            self._size, self._version = held.size, held.version
        return self._size

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, as in any file."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place}.get(whence)
        self._place = max(0, offset + (self.size if start is None else start))
        return self._place

    def tell(self) -> int:
        """Where the next read begins."""
        return self._place

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, fewer than `size` only at the end."""
        data = self.read_at(self.size - self._place if size < 0 else size, self._place)
        self._place += len(data)
        return data

    def readinto(self, buffer: "memoryview | bytearray", /) -> int:  # type: ignore[override]
        """Fill a buffer with the next bytes; how many."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read_at(self, size: int, offset: int) -> bytes:
        """Bytes at a place, fewer only at the end; the file's position stays."""
        first, last = offset // BLOCK, (offset + size - 1) // BLOCK
        in_order = offset == 0 or not self._blocks.keys().isdisjoint({first - 1, first})
        if size > BLOCK or not in_order:
            return self._fetch(offset, offset + size) if size > 0 else b""
        data = b"".join(self._block(number) for number in range(first, last + 1)) if size > 0 else b""
        return data[offset - first * BLOCK :][:size]

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            count = AHEAD if number - 1 in self._blocks else 1
            data = self._fetch(number * BLOCK, (number + count) * BLOCK)
            for i in range(count):
                self._blocks[number + i] = data[i * BLOCK : (i + 1) * BLOCK]
            while len(self._blocks) > KEPT:
                self._blocks.popitem(last=False)
        return self._blocks[number]

    def _fetch(self, start: int, end: int) -> bytes:
        if self._size >= 0 and start >= self._size:
            return b""
        data, held = self._bucket.read_range(self._key, start, end, self._version)
        self._size, self._version = held.size, held.version
        return data
