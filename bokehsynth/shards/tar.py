"""Deterministic USTAR archives, a reader that refuses anything else, and the DALI index beside them.

The standard `tarfile` is not used on purpose: its header bytes changed between Python versions, and it takes a
truncated archive for a short one. Here one (name, size) has exactly one header, so that reading is comparing.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from bokehsynth.errors import DataError

BLOCK = 512
RECORD = 10240
"""The archive is padded to a multiple of this, as every tar program writes it."""

END_BLOCKS = 2 * BLOCK
NAME_MAX = 100
SIZE_MAX = 8**11 - 1

_ZERO_BLOCK = bytes(BLOCK)
_INDEX_VERSION = "v1.2"


@dataclass(frozen=True)
class TarEntry:
    """One member of an archive: its name, where its payload starts, and how long the payload is, in bytes."""

    name: str
    offset: int
    size: int


def split_name(name: str) -> tuple[str, str]:
    """`train-000000000.lq.png` -> (`train-000000000`, `lq.png`): the rule of webdataset, HF datasets and DALI."""
    key, _, member = name.partition(".")
    return key, member


def padded(size: int) -> int:
    """The bytes a payload of `size` bytes takes in the archive."""
    return -(-size // BLOCK) * BLOCK


def tar_header(name: str, size: int) -> bytes:
    """The 512-byte USTAR header of a regular file: mode 0444, owner 0, no names, time 0.

    Raises DataError for a name that is not 1 to 100 ASCII characters and for a payload of 8 GiB and more.
    """
    if not (name.isascii() and 0 < len(name) <= NAME_MAX):
        raise DataError(f"tar member names are 1 to {NAME_MAX} ASCII characters, got {name!r}")
    if not 0 <= size <= SIZE_MAX:
        raise DataError(f"tar member {name} holds {size} bytes; the format ends at {SIZE_MAX}")
    fields = [
        name.encode().ljust(NAME_MAX, b"\0"),
        b"0000444\0",  # mode
        b"0000000\0" * 2,  # uid, gid
        b"%011o\0" % size,
        b"00000000000\0",  # mtime
        b" " * 8,  # the checksum counts itself as spaces
        b"0",  # a regular file
        bytes(100),  # link name
        b"ustar\00000",
        bytes(64),  # user and group name
        b"0000000\0" * 2,  # device numbers
        bytes(155 + 12),  # prefix and padding
    ]
    header = b"".join(fields)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


class TarWriter:
    """Writes one archive to a binary stream and remembers what it wrote.

    After `close`: `entries` in file order, `size` in bytes, `sha256` of the whole archive.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.size = 0
        self.entries: list[TarEntry] = []

    @property
    def sha256(self) -> str:
        """Hex digest of everything written so far."""
        return self._digest.hexdigest()

    def add(self, name: str, payload: bytes) -> None:
        """Append one member."""
        self._write(tar_header(name, len(payload)))
        self.entries.append(TarEntry(name, self.size, len(payload)))
        self._write(payload)
        self._write(bytes(padded(len(payload)) - len(payload)))

    def close(self) -> None:
        """Write the two zero blocks of the end and the padding to a whole record; the stream stays open."""
        self._write(bytes(END_BLOCKS))
        self._write(bytes(-self.size % RECORD))

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._digest.update(data)
        self.size += len(data)


Read = Callable[[int], bytes]
"""`read(n)` of a stream: at most n bytes, fewer only at the end."""


def read_entry(read: Read, offset: int, where: str) -> tuple[TarEntry, bytes] | None:
    """The member whose header starts at `offset` of the archive, where the stream stands; None at a zero block.

    `where` names the archive in messages. Raises DataError for a cut or altered header and for a cut payload.
    """
    header = read(BLOCK)
    if header == _ZERO_BLOCK:
        return None
    if len(header) < BLOCK:
        raise DataError(f"{where}: truncated: it ends at byte {offset + len(header)} without the two zero blocks")
    try:
        name = header[:NAME_MAX].rstrip(b"\0").decode("ascii")
        size = int(header[124:135], 8)
        intact = header == tar_header(name, size)
    except (ValueError, DataError):
        intact = False
    if not intact:
        raise DataError(f"{where}: the tar header at byte {offset} is damaged or was not written by bokehsynth")
    payload = read(padded(size))
    if len(payload) < padded(size):
        raise DataError(f"{where}: truncated: {name} should hold {size} bytes, and the file ends within them")
    if payload.count(0, size) != len(payload) - size:
        raise DataError(f"{where}: the padding after {name} is not zero")
    return TarEntry(name, offset + BLOCK, size), payload[:size]


def iter_tar(read: Read, where: str) -> Iterator[tuple[TarEntry, bytes]]:
    """Every member of an archive with its payload, in file order.

    Raises DataError, naming `where`, unless the stream is exactly what `TarWriter` writes: whole members, two zero
    blocks, zero padding to a whole record, and nothing after it.
    """
    offset = 0
    while (found := read_entry(read, offset, where)) is not None:
        yield found
        offset = found[0].offset + padded(found[0].size)
    rest = -(offset + END_BLOCKS) % RECORD + BLOCK
    if read(rest) != bytes(rest):
        raise DataError(f"{where}: truncated or damaged after byte {offset}: the end of the archive is not whole")
    if read(1):
        raise DataError(f"{where}: something follows the end of the archive at byte {offset + BLOCK + rest}")


def index_text(entries: Iterable[TarEntry]) -> str:
    """The DALI index (v1.2) of an archive: a count, then per sample `member offset size name` of every member."""
    lines: dict[str, list[str]] = {}
    for entry in entries:
        key, member = split_name(entry.name)
        lines.setdefault(key, []).append(f"{member} {entry.offset} {entry.size} {entry.name}")
    return "".join(f"{line}\n" for line in [f"{_INDEX_VERSION} {len(lines)}", *map(" ".join, lines.values())])


def parse_index(text: str, where: str) -> list[list[TarEntry]]:
    """The entries of each sample from a DALI index; a DataError, naming `where`, if it is damaged or leaves gaps."""
    head, *lines = text.splitlines() or [""]
    samples: list[list[TarEntry]] = []
    try:
        for line in lines:
            words = line.split(" ")
            quads = zip(words[0::4], words[1::4], words[2::4], words[3::4], strict=True)
            samples.append([TarEntry(name, int(offset), int(size)) for _, offset, size, name in quads])
    except ValueError:
        samples = []
    end = 0
    for entry in (entry for sample in samples for entry in sample):
        if entry.offset != end + BLOCK or entry.size < 0:
            raise DataError(f"{where}: {entry.name} cannot start at byte {entry.offset}; the index is damaged")
        end = entry.offset + padded(entry.size)
    if head != f"{_INDEX_VERSION} {len(samples)}" or not samples:
        raise DataError(
            f"{where}: not a DALI index of version {_INDEX_VERSION}; delete the shard's marker to remake it"
        )
    return samples
