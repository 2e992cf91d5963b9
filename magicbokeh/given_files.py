"""Reading files that others made: regular files only, sizes before content, and names that cannot steer a terminal.

Every function refuses with an error that names the file. Nothing here imports, calls or follows what a file says.
"""

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bokehsynth import DataError, StorageError, UsageError

MAX_JSON = 1 << 20
"""Bytes of a configuration; those of the largest models have some thousand."""
MAX_DEPTH = 32
"""Levels of lists and objects in a JSON file."""
_SPARSE_FROM = 64 << 20
"""Bytes from which a file is asked for holes: a terabyte of them takes no room on a disk."""

_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"  # also what turns the direction of text
)


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""The start of a URL; one letter would be a drive."""


def local_path(text: str) -> Path:
    """The path that a user means, with `~` expanded; UsageError for a URL, which would become a folder of that name."""
    if _SCHEME.match(text):
        raise UsageError(
            f"{text}: is a URL, and only folders and files of this computer can be given here: mount the place, or "
            f"copy to and from it (a local path of that name is ./{text})"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageError(f"{text}: the home folder of ~ is not known here; write the whole path") from None


def printable(text: str, lines: bool = False) -> str:
    """Escape control characters, marks of direction and undecodable bytes; with `lines` line ends stay."""

    def escape(match: re.Match[str]) -> str:
        character = match[0]
        return character if lines and character in "\n\t" else character.encode("unicode_escape").decode("ascii")

    return _CONTROL.sub(escape, text)


def check_regular(path: Path) -> int:
    """The size of a regular file, links followed; UsageError where it is none, StorageError where that cannot be seen.

    A pipe would block its reader for ever, a device never end.
    """
    try:
        found = path.stat()
    except PermissionError as error:
        raise StorageError(f"{path}: {error.strerror} (change its permissions)") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None)
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise UsageError(f"{path}: {'no such file' if missing or not reason else reason}") from None
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{path}: is a folder, not a file")
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{path}: is a pipe, socket or device; only regular files are read")
    return found.st_size


def check_size(path: Path, most: int) -> int:
    """The size of a regular file of at most `most` bytes; DataError where it is larger or consists of holes."""
    size = check_regular(path)
    if size > most:
        raise DataError(f"{path}: {size:,} bytes; such a file has at most {most:,}")
    if size >= _SPARSE_FROM and _stored_bytes(path, size) < size // 2:
        raise DataError(f"{path}: more than half of its {size:,} bytes are holes that nothing was written to")
    return size


def _stored_bytes(path: Path, size: int) -> int:
    """Bytes outside of holes; `size` where the file system does not tell."""
    stored, place = 0, 0
    with open(path, "rb") as file:
        try:
            while place < size:
                start = os.lseek(file.fileno(), place, os.SEEK_DATA)
                place = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                stored += place - start
        except (OSError, AttributeError) as error:
            if getattr(error, "errno", None) != errno.ENXIO:  # ENXIO: no data from there to the end
                return size
    return stored


def read_json(path: Path, most: int = MAX_JSON) -> dict[str, Any]:
    """The object that a JSON file holds; DataError where it is too large, too deep or something else."""
    size = check_size(path, most)
    with open(path, "rb") as file:
        data = file.read(size + 1)
    try:
        found = json.loads(data.decode("utf-8"))
    except RecursionError:
        raise DataError(f"{path}: is nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:  # also bytes that are no UTF-8, and integers of thousands of digits
        raise DataError(f"{path}: is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: must hold a JSON object, not a {type(found).__name__}")
    level: list[Any] = [found]
    for _ in range(MAX_DEPTH):
        level = [child for value in level for child in _children(value)]
    if level:
        raise DataError(f"{path}: is nested more than {MAX_DEPTH} levels deep")
    return found


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Let an error that nothing expected tell which file was worked on, in its attribute `about`."""
    try:
        yield
    except Exception as error:
        if not hasattr(error, "about"):
            error.about = str(path)  # type: ignore[attr-defined]
        raise
