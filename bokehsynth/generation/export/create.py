"""Files that are created and never written over, in folders that are no links."""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bokehsynth.errors import ChangedError, DataError
from bokehsynth.files import TMP_MARK, storage_errors
from bokehsynth.untrusted_files import read_bytes


def create(path: Path, data: bytes) -> None:
    """Make `path` hold `data`, whole or not at all; ChangedError if it is there and holds anything else."""
    with storage_errors(path):
        if not os.path.lexists(path):
            with new_file(path) as file:
                file.write(data)
        if not _holds(path, data):
            raise ChangedError(f"{path}: is there and holds something else; delete it, or choose another --out")


def create_folder(folder: Path, target: Path) -> None:
    """Make a folder below `target`, with its parents; ChangedError if a link or a file stands at one of them.

    A link would have the export written to some other place. `target` itself may be one: it was asked for.
    """
    for place in [*(parent for parent in reversed(folder.parents) if target in parent.parents), folder]:
        with storage_errors(place):
            with contextlib.suppress(FileExistsError):
                place.mkdir()
            if not stat.S_ISDIR(place.lstat().st_mode):
                raise ChangedError(f"{place}: is there and is no folder (or a link to one); choose another --out")


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name when the block ends well and its bytes are on the disk, unless that is taken by then.

    What has the name by then stays. The name itself is on the disk once the folder is synced.
    """
    tmp = path.with_name(f".{path.name}{TMP_MARK}{os.getpid()}-{secrets.token_hex(8)}")
    try:
        with open(tmp, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _take_name(tmp, path)
    finally:
        tmp.unlink(missing_ok=True)


def is_file(path: Path) -> bool:
    """Whether a path is a regular file, and no link to one."""
    return stat.S_ISREG(path.lstat().st_mode)


def _take_name(tmp: Path, path: Path) -> None:
    """Give a file its name if nothing has it: by a link; by a rename where the file system has no links."""
    try:
        os.link(tmp, path)
    except FileExistsError:
        pass  # another export was faster; what it wrote is compared
    except OSError:
        if not os.path.lexists(path):
            os.rename(tmp, path)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return is_file(path) and path.stat().st_size == len(data) and read_bytes(path, len(data)) == data
    except DataError:
        return False
