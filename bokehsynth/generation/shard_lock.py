"""Locks on ranges of shards: kernel locks on byte ranges of one file, released the moment their owner dies."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from bokehsynth.errors import DataError, LockedError, StorageError
from bokehsynth.files import make_directory, open_own, storage_errors
from bokehsynth.shards.layout import refuse_linked_folders
from bokehsynth.untrusted_files import MAX_JSON, parse_json

SPLIT_OFFSET = {"train": 0, "val": 1 << 40}
SET_UP_BYTE = 1 << 60
"""Held while the files beside the shards are checked or written."""

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
"""What file systems answer that have no locks, or whose lock server is not there."""

Ranges = dict[str, tuple[int, int]]
"""First and last shard of each split."""


@contextlib.contextmanager
def shard_lock(path: Path, ranges: Ranges, lock: bool = True) -> Iterator[None]:
    """Hold some shards exclusively for as long as the block runs; LockedError if another run has any of them.

    Without `lock` nothing is held: the caller knows that no other run is working on the set. StorageError where the
    file system has no locks.

    A dead owner's lock vanishes with it, so there is nothing stale to sweep. The file's lines name the owners, for the
    message only. Every writer of a set takes a lock first: here links that lead out of the set are refused.
    """
    refuse_linked_folders(path.parent.parent)
    if not lock:
        make_directory(path.parent)
        yield
        return
    with _opened(path) as file:
        for split, (first, last) in ranges.items():
            with _lock_errors(path):
                free = _lock(file, SPLIT_OFFSET[split] + first, last - first + 1, wait=False)
            if not free:
                raise LockedError(_explain(path, file, split, first, last))
        with set_up_lock(path), storage_errors(path):
            others = [line for line in _lines(file) if _alive(line)]
            own = {"host": socket.gethostname(), "pid": os.getpid(), "ranges": ranges}
            file.truncate(0)
            file.write("".join(json.dumps(line) + "\n" for line in [*others, own]).encode())
            file.flush()
        yield


@contextlib.contextmanager
def set_up_lock(path: Path, lock: bool = True) -> Iterator[None]:
    """Wait for, then hold, the files beside the shards exclusively; for moments only. `lock` as in `shard_lock`."""
    refuse_linked_folders(path.parent.parent)
    if not lock:
        make_directory(path.parent)
        yield
        return
    with _opened(path) as file:
        with _lock_errors(path):
            _lock(file, SET_UP_BYTE, 1, wait=True)
        yield


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    make_directory(path.parent)
    with storage_errors(path):
        file = os.fdopen(open_own(path, os.O_RDWR | os.O_APPEND), "a+b")  # closing it releases the locks
    with file:
        yield file


@contextlib.contextmanager
def _lock_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of a lock into a StorageError; none of them means that another run has it."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EPERM}:
            why, advice = "refuses to lock it", "mount it so that its files may be locked, or choose another folder"
        elif error.errno in _NO_LOCKS:
            why, advice = "has no file locks", "mount it with locks, or choose another folder"
        else:
            why, advice = "cannot lock it", "check the path, then run the same line again"
        raise StorageError(
            f"{path}: the file system {why} ({error.strerror}), and locks keep two runs from making the same shards: "
            f"{advice}. Where no other run works on this set until this one ends, --no-lock goes on without"
        ) from error


def _lock(file: BinaryIO, start: int, length: int, wait: bool) -> bool:
    """Lock bytes of an open file; False if another owner has one of them.

    Linux's locks of the open file itself, not of the process: two threads exclude each other, and closing another
    handle of the same file loses nothing. Elsewhere, the process's.
    """
    try:
        if hasattr(fcntl, "F_OFD_SETLK"):
            request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
            fcntl.fcntl(file, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, request)
        else:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), length, start)
    except BlockingIOError:
        return False
    except PermissionError:  # POSIX lets it mean either
        if _is_held(file, start, length):
            return False
        raise
    return True


def _is_held(file: BinaryIO, start: int, length: int) -> bool:
    """Whether another owner has one of these bytes; False where the file system does not say."""
    ask = getattr(fcntl, "F_OFD_GETLK", None)
    if ask is None:
        return True  # elsewhere than on Linux it is what a lock that is held answers
    request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    with contextlib.suppress(OSError):
        kind: int = struct.unpack_from("h", fcntl.fcntl(file, ask, request))[0]
        return kind != fcntl.F_UNLCK
    return False


def _lines(file: BinaryIO) -> list[dict[str, Any]]:
    """The owners that the file names, as far as its lines are those of owners: one may be torn by a kill."""
    file.seek(0)
    found = []
    for line in file.read(MAX_JSON).splitlines():
        with contextlib.suppress(DataError, ValueError, TypeError, KeyError, AttributeError):
            owner = parse_json(line.decode(), "a line")
            if (
                isinstance(owner["host"], str)
                and type(owner["pid"]) is int
                and 0 < owner["pid"] < 1 << 31
                and all(type(first) is type(last) is int for first, last in owner["ranges"].values())
            ):
                found.append(owner)
    return found


def _alive(line: dict[str, Any]) -> bool:
    """Whether the owner may still live: processes of other hosts cannot be asked."""
    if line["host"] != socket.gethostname():
        return True
    try:
        os.kill(line["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _explain(path: Path, file: BinaryIO, split: str, first: int, last: int) -> str:
    owner = "another run"
    for line in reversed(_lines(file)):
        theirs = line["ranges"].get(split)
        if theirs and theirs[0] <= last and first <= theirs[1] and _alive(line):
            owner = f"process {line['pid']} on {line['host']}"
            break
    return (
        f"{path.parent.parent}: {split} shards {first} to {last} are being made by {owner}; wait for it, or end it and "
        "run the same line again (what it committed stays)"
    )
