"""Tasks for the engine's tests: they must be importable in a spawned worker."""

import logging
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from bokehsynth.errors import DeviceError, StorageError
from bokehsynth.workers.events import Report


class AwkwardError(Exception):
    """An exception that cannot be unpickled: its arguments are not those of its class."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a}{b}")


@dataclass(frozen=True)
class Work:
    """Does what its spec says; `scratch` remembers attempts across processes."""

    scratch: Path

    def __call__(self, spec: tuple[str, int], report: Report) -> object:
        kind, number = spec
        report(2)
        if kind == "square":
            return number * number
        if kind == "threads":
            return {name: os.environ.get(name) for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")}
        if kind == "folder":
            return os.getcwd()
        if kind == "raise":
            raise StorageError(f"no room for {number}")
        if kind == "hang" and not self._seen(number):
            time.sleep(1000)
        if kind == "prepared":
            return (self.scratch / f"prepared-{os.getpid()}").read_text()
        if kind == "pid":
            return os.getpid()
        if kind == "place":
            (self.scratch / f"place{number}").touch()
            return os.environ.get("PLACE")
        if kind == "stay":  # until so many others have told their place
            while len(list(self.scratch.glob("place*"))) < number:
                time.sleep(0.01)
            return os.environ.get("PLACE")
        if kind == "warn":
            say = logging.getLogger("bokehsynth.somewhere").warning
            threads = [threading.Thread(target=say, args=("only %d left of %d", n, number)) for n in range(20)]
            for thread in threads:
                thread.start()
            for _ in range(200):
                report(1)
            for thread in threads:
                thread.join()
        if kind == "lost" and not self._seen(number):
            error = DeviceError(f"device {number} has gone")
            error.lost = True
            raise error
        if kind == "memory" and not self._seen(number):
            raise MemoryError
        if kind == "awkward":
            raise AwkwardError(1, 2)
        if kind == "together":
            self._meet(number)
        if kind == "poison" or (kind == "once" and not self._seen(number)):
            time.sleep(0.05)  # let the progress message out
            os.kill(os.getpid(), signal.SIGKILL)
        return "survived"

    def prepare(self) -> None:
        """Once in each worker."""
        with (self.scratch / f"prepared-{os.getpid()}").open("a") as marks:
            marks.write("x")
        if (self.scratch / "no memory").exists() and not self._seen(0):
            raise MemoryError
        if (self.scratch / "unusable").exists():
            error = DeviceError("the device fails before anything is asked of it")
            error.lost = True
            raise error

    def _meet(self, number: int) -> None:
        """Kill this process at the same time as that of the other spec, three times, and then once by itself."""
        mine = self.scratch / f"tries{number}"
        tries = len(mine.read_text()) if mine.exists() else 0
        mine.write_text("x" * (tries + 1))
        if tries < 3:
            other = self.scratch / f"tries{1 - number}"
            while not other.exists() or len(other.read_text()) <= tries:
                time.sleep(0.01)
        if tries < 4:
            os.kill(os.getpid(), signal.SIGKILL)

    def _seen(self, number: int) -> bool:
        mark = self.scratch / str(number)
        if mark.exists():
            return True
        mark.touch()
        return False
