"""Ends what is left of a Ray cluster that was started for a run, however the run ends.

Most of Ray's processes are killed by the kernel when the process goes that started them. The agents of its node are
not: each waits for the end of a pipe whose other end the other one holds. So a process of its own waits for the end of
the run, also by SIGKILL. It is this file as a script, and imports the standard library alone.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

WATCHED_SECONDS = 2.0
"""How long processes of a cluster are looked for once its run has gone: some may just be starting others."""

_TICK = 0.2
_DRIVER_LOG = "/python-core-driver-"
"""In the name of the log that the run itself has open, and whatever it has forked."""
_WRITABLE = 0o200
"""The bit of a link in /proc/PID/fd that says that the file may be written through it."""


@contextlib.contextmanager
def watched_cluster(folder: str) -> Iterator[None]:
    """Within the block, or once this process is gone: end the cluster whose temporary files are in `folder`."""
    watchdog = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a signal to the whole group of the run does not end it
    )
    try:
        yield
    finally:
        end_cluster(folder)
        assert watchdog.stdin is not None
        with contextlib.suppress(OSError):  # it may have been killed
            watchdog.stdin.write(b".")
            watchdog.stdin.close()
        watchdog.wait()


def end_cluster(folder: str) -> bool:
    """Kill all processes of a cluster but this one, and delete its folder; whether there was any process."""
    found, end = False, time.monotonic() + WATCHED_SECONDS
    while (left := processes_of(folder)) and time.monotonic() < end:  # what still runs may write to the folder
        found = True
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_TICK / 10)
    shutil.rmtree(folder, ignore_errors=True)
    return found


def processes_of(folder: str) -> list[int]:
    """The other processes of this user that have a file in the folder open to write, as all of Ray's have their log.

    Their names and variables do not tell: Ray writes other titles over both.
    """
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's, or gone
            if int(place.name) != os.getpid() and any(_writes(link, folder) for link in (place / "fd").iterdir()):
                found.append(int(place.name))
    return found


def _writes(link: Path, folder: str) -> bool:
    with contextlib.suppress(OSError):
        file = os.readlink(link)
        return file.startswith(f"{folder}/") and _DRIVER_LOG not in file and bool(link.lstat().st_mode & _WRITABLE)
    return False


def _watch(folder: str) -> None:
    """Wait for the end of the run that started this process, and end its cluster if it has not done so itself."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read(1):
        return
    end = time.monotonic() + WATCHED_SECONDS
    while time.monotonic() < end:
        if end_cluster(folder):
            end = time.monotonic() + WATCHED_SECONDS
        time.sleep(_TICK)


if __name__ == "__main__":
    _watch(sys.argv[1])
