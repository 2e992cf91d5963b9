"""Files that are created and never written over."""

import contextlib
import os
import threading
from pathlib import Path

from bokehsynth.errors import ChangedError, DataError
from bokehsynth.files import TMP_MARK, storage_errors
from bokehsynth.untrusted_files import read_bytes


def create(path: Path, data: bytes) -> None:
    """Make `path` hold `data`, whole or not at all; ChangedError if it is there and holds anything else."""
    with storage_errors(path):
        if not os.path.lexists(path):
            with new_file(path) as tmp:
                tmp.write_bytes(data)
        if not _holds(path, data):
            raise ChangedError(f"{path}: is there and holds something else; delete it, or choose another --out")


class new_file(contextlib.AbstractContextManager[Path]):  # noqa: N801
    """The temporary name under which a file is written that then takes its own, unless that is taken by then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tmp = path.with_name(f".{path.name}{TMP_MARK}{os.getpid()}-{threading.get_ident()}")

    def __enter__(self) -> Path:
        return self.tmp

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if error is None:
                _take_name(self.tmp, self.path)
        finally:
            self.tmp.unlink(missing_ok=True)


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
        return path.stat().st_size == len(data) and read_bytes(path, len(data)) == data
    except DataError:
        return False
