"""Who may write which shards: kernel locks on byte ranges, gone the moment their owner is."""

import json
import os
import socket
from pathlib import Path
from types import TracebackType

from bokehsynth.errors import LockedError
from bokehsynth.files import make_directory, storage_errors

SPLIT_OFFSET = {"train": 0, "val": 1 << 40}


class RangeLock:
    """Exclusive use of the shards `first` .. `last` of some splits, for as long as the block runs.

    POSIX record locks: a dead owner's lock vanishes with it, so there is nothing stale to sweep. The file's lines say
    who took what, for the message only.
    """

    def __init__(self, path: Path, ranges: dict[str, tuple[int, int]]) -> None:
        self.path, self.ranges = path, ranges

    def __enter__(self) -> "RangeLock":
        import fcntl

        make_directory(self.path.parent)
        with storage_errors(self.path):
            self._file = open(self.path, "a+b")  # open as long as the lock is held
        try:
            for split, (first, last) in self.ranges.items():
                try:
                    start = SPLIT_OFFSET[split] + first
                    fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, last - first + 1, start)
                except (BlockingIOError, PermissionError):
                    raise LockedError(self._explain(split, first, last)) from None
            owner = {"host": socket.gethostname(), "pid": os.getpid(), "ranges": self.ranges}
            with storage_errors(self.path):
                self._file.write(json.dumps(owner).encode() + b"\n")
                self._file.flush()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _explain(self, split: str, first: int, last: int) -> str:
        owner = "another run"
        self._file.seek(0)
        for line in reversed(self._file.read().splitlines()):
            record = json.loads(line)
            theirs = record["ranges"].get(split)
            if theirs and theirs[0] <= last and first <= theirs[1]:
                owner = f"process {record['pid']} on {record['host']}"
                break
        return (
            f"{self.path.parent.parent}: {split} shards {first} to {last} are being made by {owner}; wait for it, or "
            "end it and run the same line again (what it committed stays)"
        )
