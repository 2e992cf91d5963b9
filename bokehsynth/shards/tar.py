"""Deterministic USTAR archives, a reader that refuses anything else, and the DALI index beside them.

The standard `tarfile` is not used on purpose: its header bytes changed between Python versions, and it takes a
truncated archive for a short one. Here one (name, size) has exactly one header, so that reading is comparing.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from bokehsynth.errors import DataError
from bokehsynth.untrusted_files import read_at, size_of

BLOCK = 512
RECORD = 10240
"""The archive is padded to a multiple of this, as every tar program writes it."""

END_BLOCKS = 2 * BLOCK
NAME_MAX = 100
SIZE_MAX = 8**11 - 1
MAX_MEMBERS = 32
"""Members of a sample; the format knows nine."""
MAX_INDEX_ENTRY = 160
"""Bytes that an index has for a member: two names of at most 100, an offset and a size."""

_ZERO_BLOCK = bytes(BLOCK)
_INDEX_VERSION = "v1.2"


@dataclass(frozen=True, slots=True)
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

    `where` names the archive in messages. Raises DataError for a cut or altered header and for a cut payload. The
    payload is read whatever its size: `parse_header` tells it beforehand.
    """
    entry = parse_header(read(BLOCK), offset, where)
    if entry is None:
        return None
    name, size = entry.name, entry.size
    payload = read(padded(size))
    if len(payload) < padded(size):
        raise DataError(f"{where}: truncated: {name} should hold {size} bytes, and the file ends within them")
    if payload.count(0, size) != len(payload) - size:
        raise DataError(f"{where}: the padding after {name} is not zero")
    return entry, payload[:size]


def parse_header(header: bytes, offset: int, where: str) -> TarEntry | None:
    """The member that a header at `offset` announces; None for a zero block, DataError for a cut or altered one.

    Only regular files with the one header of the format pass: no links, devices, sparse files or extensions.
    """
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
    return TarEntry(name, offset + BLOCK, size)


def iter_tar(read: Read, where: str) -> Iterator[tuple[TarEntry, bytes]]:
    """Every member of an archive with its payload, in file order.

    Raises DataError, naming `where`, unless the stream is exactly what `TarWriter` writes: whole members, two zero
    blocks, zero padding to a whole record, and nothing after it.
    """
    offset = 0
    while (found := read_entry(read, offset, where)) is not None:
        yield found
        offset = found[0].offset + padded(found[0].size)
    _read_padding(read, offset, where)


def read_end(read: Read, offset: int, where: str) -> None:
    """Read the end of an archive that begins at `offset`, where the stream stands; DataError unless it is whole."""
    if (entry := parse_header(read(BLOCK), offset, where)) is not None:
        raise DataError(f"{where}: {entry.name} stands at byte {offset}, where the archive should end")
    _read_padding(read, offset, where)


def _read_padding(read: Read, offset: int, where: str) -> None:
    """Read what follows the first zero block, at `offset`."""
    rest = -(offset + END_BLOCKS) % RECORD + BLOCK
    if read(rest) != bytes(rest):
        raise DataError(f"{where}: truncated or damaged after byte {offset}: the end of the archive is not whole")
    if read(1):
        raise DataError(f"{where}: something follows the end of the archive at byte {offset + BLOCK + rest}")


def iter_headers(file: BinaryIO, where: str) -> Iterator[list[TarEntry]]:
    """The members of each sample of an open archive, from its headers alone; the file's position stays.

    Raises DataError for a cut or altered header, a payload beyond the end and a sample of more than MAX_MEMBERS.
    """
    size, offset = size_of(file), 0
    entries: list[TarEntry] = []
    while (entry := parse_header(read_at(file, BLOCK, offset), offset, where)) is not None:
        offset = entry.offset + padded(entry.size)
        if offset > size:
            raise DataError(
                f"{where}: truncated: {entry.name} should hold {entry.size} bytes, and the file ends within them"
            )
        if entries and split_name(entries[0].name)[0] != split_name(entry.name)[0]:
            yield entries
            entries = []
        entries.append(entry)
        if len(entries) > MAX_MEMBERS:
            raise DataError(f"{where}: a sample of more than {MAX_MEMBERS} members before byte {offset}")
    if entries:
        yield entries


def index_line(entries: Iterable[TarEntry]) -> str:
    """The line of one sample in the index: `member offset size name` of every member."""
    return " ".join(f"{split_name(entry.name)[1]} {entry.offset} {entry.size} {entry.name}" for entry in entries)


def join_index(lines: Sequence[str]) -> str:
    """The text of an index with these lines of samples."""
    return "".join(f"{line}\n" for line in [f"{_INDEX_VERSION} {len(lines)}", *lines])


def index_text(entries: Iterable[TarEntry]) -> str:
    """The DALI index (v1.2) of an archive: a count, then a line per sample."""
    samples: dict[str, list[TarEntry]] = {}
    for entry in entries:
        samples.setdefault(split_name(entry.name)[0], []).append(entry)
    return join_index([index_line(found) for found in samples.values()])


def parse_index(text: str, where: str) -> list[list[TarEntry]]:
    """The entries of each sample from a DALI index; a DataError, naming `where`, if it is damaged or leaves gaps."""
    head, *lines = text.splitlines() or [""]
    samples: list[list[TarEntry]] = []
    end = 0
    try:
        for line in lines:
            words = line.split(" ", 4 * MAX_MEMBERS)
            quads = zip(words[0::4], words[1::4], words[2::4], words[3::4], strict=True)
            samples.append([TarEntry(name, int(offset), int(size)) for _, offset, size, name in quads])
            for entry in samples[-1]:
                if entry.offset != end + BLOCK or not 0 <= entry.size <= SIZE_MAX:
                    start = f"{entry.name:.120} cannot start at byte {entry.offset:.12g} with {entry.size:.12g} bytes"
                    raise DataError(f"{where}: {start}; the index is damaged")
                end = entry.offset + padded(entry.size)
    except (ValueError, OverflowError):
        samples = []
    if head != f"{_INDEX_VERSION} {len(samples)}" or not samples:
        raise DataError(
            f"{where}: not a DALI index of version {_INDEX_VERSION}; delete the shard's marker to remake it"
        )
    return samples
