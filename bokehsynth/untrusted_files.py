"""Reads files that others made: regular files only, sizes before content, and JSON within bounds.

Whatever a data set holds may come from a stranger. What is wrong with such a file is a DataError that names it; that it
is missing or cannot be read stays the OSError that it is. Nothing here imports or calls what a file says.
"""

import errno
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

from bokehsynth.errors import DataError
from bokehsynth.stores import ObjectPath, RangedFile, StoredPath

MAX_JSON = 1 << 20
"""Bytes of a small record: a marker, an identity."""
MAX_LIST = 256 << 20
"""Bytes of a list with a line per picture or draw."""
MAX_LINES = 1_000_000
"""Lines of such a list."""
MAX_VALUES = 500_000
"""Commas in a JSON text: `dataset.json` has one for each shard."""
MAX_CONTAINERS = 100_000
"""Opening brackets in a JSON text."""
MAX_DEPTH = 64
"""Levels of lists and objects in JSON."""
MAX_DIGITS = 1000
"""Digits of an integer: reading one takes the square of their number."""

_SPARSE_FROM = 64 << 20
"""Bytes from which a file is asked for holes: a terabyte of them takes no room on a disk."""

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


def irregular_kind(status: os.stat_result) -> str:
    """What a path leads to, if it is no regular file: `a folder`, `a FIFO`, `a socket`, `a device`; otherwise empty."""
    return "" if stat.S_ISREG(status.st_mode) else _KINDS.get(stat.S_IFMT(status.st_mode), "a device")


def open_regular(path: str | StoredPath) -> BinaryIO:
    """Open a regular file for reading, without a buffer; DataError for anything else. Links are followed.

    Opening never blocks: FIFOs and devices are refused before and, in case one replaces the file in between, after.
    An object of a bucket is first asked for when it is read; FileNotFoundError then where it is not there.
    """
    if isinstance(path, ObjectPath):
        return cast(BinaryIO, path.open_read())
    _refuse_irregular(path, os.stat(path))
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        _refuse_irregular(path, os.fstat(handle))
    except DataError:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb", buffering=0)


def _refuse_irregular(path: str | Path, status: os.stat_result) -> None:
    if kind := irregular_kind(status):
        raise DataError(f"{path}: is {kind}, not a file")


def size_of(file: BinaryIO) -> int:
    """Bytes of a file that `open_regular` opened."""
    return file.size if isinstance(file, RangedFile) else os.fstat(file.fileno()).st_size


def read_at(file: BinaryIO, size: int, offset: int) -> bytes:
    """Bytes at a place of a file that `open_regular` opened, fewer only at its end; its position stays."""
    return file.read_at(size, offset) if isinstance(file, RangedFile) else os.pread(file.fileno(), size, offset)


def refuse_holes(file: BinaryIO, path: str | StoredPath) -> None:
    """DataError if most of a large file are holes that nothing was written to: reading it would take for ever."""
    if isinstance(file, RangedFile):
        return
    size = os.fstat(file.fileno()).st_size
    if size >= _SPARSE_FROM and _stored_bytes(file.fileno(), size) < size // 2:
        raise DataError(f"{path}: more than half of its {size:,} bytes are holes that nothing was written to")


def _stored_bytes(handle: int, size: int) -> int:
    """Bytes outside of holes; `size` where the file system does not tell."""
    stored, place = 0, 0
    try:
        while place < size:
            start = os.lseek(handle, place, os.SEEK_DATA)
            place = os.lseek(handle, start, os.SEEK_HOLE)
            stored += place - start
    except (OSError, AttributeError) as error:
        if getattr(error, "errno", None) != errno.ENXIO:  # ENXIO: no data from there to the end
            stored = size
    os.lseek(handle, 0, os.SEEK_SET)
    return stored


def read_bytes(path: str | StoredPath, most: int = MAX_JSON) -> bytes:
    """The content of a regular file of at most `most` bytes."""
    if isinstance(path, ObjectPath):
        return path.read_bytes(most)
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise DataError(f"{path}: {size:,} bytes; such a file has at most {most:,}")
        refuse_holes(file, path)
        data = b"".join(iter(lambda: file.read(size + 1), b"")) if size else b""
    if len(data) > most:
        raise DataError(f"{path}: grew beyond {most:,} bytes while it was read")
    return data


def read_text(path: str | StoredPath, most: int = MAX_JSON) -> str:
    """The text of a regular file of at most `most` bytes of UTF-8."""
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no UTF-8 text ({error.reason} at byte {error.start})") from None


def read_json(path: str | StoredPath, most: int = MAX_JSON, pictures: int = 0) -> Any:
    """What a JSON file of at most `most` bytes holds, within the bounds of `parse_json`."""
    return parse_json(read_text(path, most), str(path), pictures)


def read_lines(path: str | StoredPath, most: int = MAX_LIST) -> list[str]:
    """The lines of a text file of at most `most` bytes and MAX_LINES lines, without their ends."""
    text = read_text(path, most)
    if text.count("\n") > MAX_LINES:
        raise DataError(f"{path}: has more than {MAX_LINES:,} lines")
    return text.split("\n")[: -1 if text.endswith("\n") else None]


def parse_json(text: str, where: str, pictures: int = 0) -> Any:
    """What JSON text holds; DataError, naming `where`, unless it is JSON within the bounds above.

    A text about so many `pictures` may hold some more for each. Stricter than `json.loads`: no key twice, no NaN and no
    number that is infinite as a float.
    """
    containers, values = MAX_CONTAINERS + 10 * pictures, MAX_VALUES + 60 * pictures
    if text.count("{") + text.count("[") > containers or text.count(",") > values:
        raise DataError(f"{where}: holds more than {containers:,} lists and objects or {values:,} values")
    try:
        found = _DECODER.decode(text)
    except RecursionError:
        raise DataError(f"{where}: is nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:
        raise DataError(f"{where}: is not JSON ({error})") from None
    level = list(_containers([found]))
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _containers(outer)]
    if level:
        raise DataError(f"{where}: is nested more than {MAX_DEPTH} levels deep")
    return found


def _containers(value: Any) -> Iterator[Any]:
    """The lists and objects directly inside a list or object."""
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            yield item


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has one key twice")
    return found


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits):,} digits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number too large for a float")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_finite, parse_constant=_no_constant
)
