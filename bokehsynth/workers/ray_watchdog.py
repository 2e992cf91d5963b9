"""Ends what is left of a Ray cluster that was started for a run, however the run ends.

Most of Ray's processes are killed by the kernel when the process goes that started them. The agents of its node are
not: each waits for the end of a pipe whose other end the other one holds. So a process of its own waits for the end of
the run, also by SIGKILL. It is this file as a script, and imports the standard library alone.

What the run has forked is no part of the cluster: it inherits the files that the run's own side of Ray has open.
"""

import contextlib
import errno
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

WATCHED_SECONDS = 2.0
"""How long processes of a cluster are looked for once its run has gone: some may just be starting others."""

_TICK = 0.2
_DRIVER_LOG = "/python-core-driver-"
"""In the name of a log that a program has open which has joined the cluster."""
_DELETED = " (deleted)"
"""After the name of a file in /proc/PID/fd that has been deleted since it was opened."""
_WRITABLE = 0o200
"""The bit of a link in /proc/PID/fd that says that the file may be written through it."""


@contextlib.contextmanager
def watched_cluster(folder: str) -> Iterator[None]:
    """Within the block, or once this process is gone: end the cluster whose temporary files are in `folder`.

    A fork of this process that leaves the block ends nothing.
    """
    driver = os.getpid()
    watchdog = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, folder, str(driver)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a signal to the whole group of the run does not end it
    )
    try:
        yield
    finally:
        if os.getpid() == driver:
            end_cluster(folder, driver)
            assert watchdog.stdin is not None
            with contextlib.suppress(OSError):  # it may have been killed
                watchdog.stdin.write(b".")
                watchdog.stdin.close()
            watchdog.wait()


def end_cluster(folder: str, driver: int) -> bool:
    """Kill the processes of the cluster that `driver` started, and delete its folder; whether there was any process."""
    found, end = False, time.monotonic() + WATCHED_SECONDS
    while _kill_processes(folder, driver) and time.monotonic() < end:  # what still runs may write to the folder
        found = True
        time.sleep(_TICK / 10)
    shutil.rmtree(folder, ignore_errors=True)
    return found


def processes_of(folder: str, driver: int) -> list[int]:
    """The processes of the cluster that `driver` started with this folder, as far as they are this user's."""
    return [pid for pid in _processes() if _is_of(pid, folder, driver)]


def _kill_processes(folder: str, driver: int) -> int:
    """Kill what `processes_of` would name; how many these were."""
    found = 0
    for pid in _processes():
        with contextlib.suppress(OSError), _killer(pid) as kill:  # another user's, or gone
            if _is_of(pid, folder, driver):
                kill()
                found += 1
    return found


@contextlib.contextmanager
def _killer(pid: int) -> Iterator[Callable[[], None]]:
    """What kills just the process that has this number now; OSError where there is none.

    Without pidfds (Linux before 5.3, some sandboxes and builds of Python) the number is all there is: call it at once.
    """
    try:
        handle = os.pidfd_open(pid)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in {errno.ENOSYS, errno.EPERM}:
            raise
        yield lambda: os.kill(pid, signal.SIGKILL)
        return
    try:
        yield lambda: signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)


def _processes() -> list[int]:
    return [int(place.name) for place in Path("/proc").glob("[0-9]*") if place.name != str(os.getpid())]


def _is_of(pid: int, folder: str, driver: int) -> bool:
    """Whether a process is one of the cluster: all of Ray's have a file in the folder open to write, as their log.

    Their names and variables do not tell: Ray writes other titles over both. What has a log open of a program that uses
    the cluster is such a program, or a fork of one; those of the driver have its number in their names.
    """
    found = False
    with contextlib.suppress(OSError):  # another user's, or gone
        for link in Path(f"/proc/{pid}/fd").iterdir():
            file = _written(link)
            if file.startswith(f"{folder}/"):
                if _DRIVER_LOG in file or file.endswith(f"_{driver}.log"):
                    return False
                found = True
    return found


def _written(link: Path) -> str:
    """The file that a link in /proc/PID/fd leads to, if it is open to write; else nothing."""
    with contextlib.suppress(OSError):  # closed
        if link.lstat().st_mode & _WRITABLE:
            return os.readlink(link).removesuffix(_DELETED)
    return ""


def _watch(folder: str, driver: int) -> None:
    """Wait for the end of the run that started this process, and end its cluster if it has not done so itself."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # The pipe alone does not tell: what the run has forked holds its other end, too.
    while not (spoken := select.select([sys.stdin], [], [], _TICK)[0]) and os.getppid() == driver:
        pass
    if spoken and sys.stdin.buffer.read(1):
        return
    end = time.monotonic() + WATCHED_SECONDS
    while time.monotonic() < end:
        if end_cluster(folder, driver):
            end = time.monotonic() + WATCHED_SECONDS
        time.sleep(_TICK)


if __name__ == "__main__":
    _watch(sys.argv[1], int(sys.argv[2]))
