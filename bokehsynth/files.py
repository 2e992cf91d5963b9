"""Atomic files, and JSON text that is the same on every run."""

import contextlib
import errno
import hashlib
import json
import os
import re
import socket
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from bokehsynth.errors import ChangedError, DataError, StorageError, UsageError
from bokehsynth.stores import MAX_CHANGED, Change, ObjectPath, StoredPath, TakenError, is_object_url

TMP_MARK = ".tmp-"
"""Part of every temporary name; such a file is never data and may be deleted when its writer is dead."""

_NO_DIRECTORY_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
"""What file systems answer that cannot sync a directory (FUSE, SMB, 9p); an error of the disk (EIO) is another one."""

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""The start of a URL, also once a Path has made one slash of two; one letter would be a drive."""


def local_path(path: str | os.PathLike[str]) -> Path:
    """The path that a user means, with `~` expanded; UsageError for a URL, which would become a folder of that name."""
    text = os.fspath(path)
    if "\0" in text:
        raise UsageError(f"{text!r}: is no name of a file")
    if _SCHEME.match(text):
        raise UsageError(
            f"{text}: is a URL, and only folders and files of this computer can be given here: mount the place, or "
            f"copy to and from it (a local path of that name is ./{text})"
        )
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise UsageError(f"{text}: the home folder of ~ is not known here; write the whole path") from None
    return path.absolute() if _SCHEME.match(str(path)) else path


def data_path(path: str | os.PathLike[str] | ObjectPath) -> StoredPath:
    """Where a data set lies: a local path, or the place in a bucket that a URL names. UsageError for other URLs."""
    if isinstance(path, ObjectPath):
        return path
    text = os.fspath(path)
    if is_object_url(text):
        return ObjectPath.from_url(text)
    if _SCHEME.match(text):
        raise UsageError(
            f"{text}: is a URL of another kind than data sets have: a folder, s3://bucket/folder, gs://bucket/folder "
            f"or az://container/folder (a local path of that name is ./{text})"
        )
    return local_path(text)


def files_in(folder: StoredPath, pattern: str = "*") -> list[StoredPath]:
    """The files and folders of a folder whose names are of a pattern, sorted; none where the folder is not there."""
    found: Iterable[StoredPath] = folder.glob(pattern)
    return sorted(found, key=lambda path: path.name)


def user_cache(*parts: str) -> Path | None:
    """A path in the user's cache, `~/.cache` or XDG_CACHE_HOME; None where that is no absolute path."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home, *parts) if os.path.isabs(home) else None


@contextlib.contextmanager
def storage_errors(path: StoredPath) -> Iterator[None]:
    """Turn an OSError inside the block into a StorageError that names `path` and the way out."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            advice = "the disk or quota is full: free some room, then run the same line again"
        elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            advice = "no permission to write there: choose another --out or change its permissions"
        else:
            advice = "check the path, then run the same line again"
        refusal = StorageError(f"{path}: {error.strerror or error} ({advice})")
        refusal.full = error.errno in _DISK_FULL
        raise refusal from error


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` only when the block ends well: tmp, fsync, rename, fsync directory.

    On any exception the temporary file is removed and `path` keeps what it held before.
    """
    tmp = path.with_name(f".{path.name}{TMP_MARK}{os.getpid()}-{threading.get_ident()}")
    with storage_errors(path):
        try:
            with open(tmp, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(tmp, path)
            fsync_directory(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                tmp.unlink()
            raise


def atomic_write(path: str | StoredPath, data: bytes | str) -> None:
    """Write `data` (text as UTF-8) so that `path` holds either the old or the new content, never a part."""
    content = data.encode() if isinstance(data, str) else data
    if isinstance(path, ObjectPath):
        path.change(lambda old: content)
        return
    with atomic_file(Path(path)) as file:
        file.write(content)


def change_file(path: StoredPath, change: Change) -> None:
    """Write what `change` makes of a file, None where there is none; what it raises passes through.

    On a file system the caller holds a lock. In a bucket the object is written over the very version that was read, and
    where another machine was faster, what that one wrote is read and changed in turn. DataError for what is no regular
    file or larger than MAX_CHANGED: a set may be a stranger's.
    """
    if isinstance(path, ObjectPath):
        path.change(change)
        return
    try:
        with storage_errors(path):
            status = path.stat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_CHANGED:
                raise DataError(f"{path}: is no regular file of at most {MAX_CHANGED:,} bytes")
            old = path.read_bytes()
    except StorageError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        atomic_write(path, change(None))
    else:
        atomic_write(path, change(old))


def commit_file(path: StoredPath, data: "bytes | str | memoryview") -> None:
    """Write a file whose bytes follow from the data set, so that every machine makes the same.

    In a bucket it is put only where there is none, and one that holds these bytes is as good. ChangedError, which names
    both machines, where it holds others.
    """
    if not isinstance(path, ObjectPath):
        atomic_write(path, bytes(data) if isinstance(data, memoryview) else data)
        return
    content, here = data.encode() if isinstance(data, str) else data, socket.gethostname()
    try:
        path.create(content, here)
    except TakenError:
        maker = path.maker()
        there = f"machine {maker}" if maker else "another machine"
        raise ChangedError(
            f"{path}: {there} put other bytes there than this machine, {here}, makes (sha256 "
            f"{hashlib.sha256(content).hexdigest()}): machines of another kind or other versions worked on one set, or "
            "the object was altered. What is there stays; `bokehsynth verify` tells whether it is whole, and `verify "
            "--fix` deletes it where it is not"
        ) from None


def open_own(path: Path, flags: int) -> int:
    """A handle of a file that is written in place, made if it is not there; OSError for a link or another kind of file.

    What lies in a folder may be a stranger's: a link would have some other file of the user's written to.
    """
    handle = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return handle


def append_line(path: Path, line: str) -> None:
    """Append a line in one write, so that no kill tears it and writers of one file take turns; raises OSError."""
    handle = open_own(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(handle, f"{line}\n".encode())
    finally:
        os.close(handle)


def make_directory(path: StoredPath) -> None:
    """Create `path` with its parents; a StorageError says why it cannot be. Buckets have no folders to create."""
    if isinstance(path, ObjectPath):
        return
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def fsync_directory(path: Path) -> None:
    """Make a rename in `path` durable, where the file system can: where it cannot, its renames are as durable as they
    are, and nothing better can be asked of it (SQLite goes on, too). A no-op where directories cannot be opened."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in _NO_DIRECTORY_SYNC:
                raise
        finally:
            os.close(handle)


def canonical_json(value: Any) -> str:
    """JSON that depends on the value alone: sorted keys, ASCII, no spaces, shortest exact floats, no NaN."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)


def pretty_json(value: Any) -> str:
    """As deterministic as `canonical_json`, but readable: two spaces of indent and a final newline."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, indent=2, allow_nan=False) + "\n"


def sha256_bytes(data: bytes | str) -> str:
    """Hex digest of bytes, or of text as UTF-8."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
