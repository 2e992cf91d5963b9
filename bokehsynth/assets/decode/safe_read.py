"""Read a regular file safely: never block on a FIFO or device, never follow a link out of `root`."""

import errno
import os
from pathlib import Path

from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.errors import ChangedError
from bokehsynth.files import sha256_bytes
from bokehsynth.untrusted_files import irregular_kind

MAX_BYTES = 1 << 30
"""No picture file is larger than this: 64 million pixels of three 32-bit channels are three quarters of it."""


def read_file(path: Path, root: Path | None = None, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file; RejectedPicture for anything else.

    Links are followed and must end below `root`, if given. Opening never blocks: FIFOs and devices are rejected before
    and, in case one replaces the file in between, after opening.
    """
    target = _resolved(path, root)
    try:
        _check_regular(path, os.stat(target))
        handle = os.open(target, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(file.fileno())
            _check_regular(path, status)
            if status.st_size > max_bytes:
                raise RejectedPicture(f"{path}: {status.st_size:,} bytes; at most {max_bytes:,} are read", "too_large")
            return file.read(max_bytes)
    except OSError as error:
        raise _rejection(path, error) from None


def read_unchanged(path: Path, root: Path | None, sha256: str | None) -> bytes:
    """`read_file`, with ChangedError unless the content is still that of `sha256`, if given."""
    data = read_file(path, root)
    if sha256 is not None and sha256_bytes(data) != sha256:
        raise ChangedError(
            f"{path}: an asset changed under a running recipe: its content is no longer what was indexed. Put the old "
            "file back, or begin a new data set with another --out"
        )
    return data


def _resolved(path: Path, root: Path | None) -> Path:
    """Follow all links; RejectedPicture if the file is missing or lies outside `root`."""
    try:
        target = Path(os.path.realpath(path, strict=True))
        if root is None or target.is_relative_to(os.path.realpath(root)):
            return target
    except OSError as error:
        raise _rejection(path, error) from None
    except ValueError:  # a NUL in the name
        raise RejectedPicture(f"{path!r}: is no name of a file", "missing") from None
    raise RejectedPicture(f"{path}: is a link that leads out of its source's folder", "outside_root")


def _check_regular(path: Path, status: os.stat_result) -> None:
    if kind := irregular_kind(status):
        raise RejectedPicture(f"{path}: {kind}, not a file", "not_a_file")


def _rejection(path: Path, error: OSError) -> RejectedPicture:
    missing = error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
    return RejectedPicture(f"{path}: {error.strerror or error}", "missing" if missing else "unreadable")
