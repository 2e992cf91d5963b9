"""Child commands that answer a line of text with a line: for work that may crash, hang or use up memory.

Other than the workers of `pool`, they are started by name, not by `multiprocessing`, which would import the user's
script again; and nothing that a child sends is unpickled here.
"""

import contextlib
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from bokehsynth.errors import BokehsynthError
from bokehsynth.workers.worker import SINGLE_THREAD

READY = "ready"
"""The line that a child writes before it takes its first request."""
START_SECONDS = 300.0
"""The time limit of a start: imports, on a loaded machine."""
_START = """\
import sys
sys.path[:] = [entry for entry in sys.path if entry]
import os
sys.path[:] = [entry for entry in sys.path if not (os.path.exists(entry) and os.path.samefile(entry, os.curdir))]
sys.path.append(sys.argv.pop(1))
try:
    import importlib
    main = importlib.import_module(sys.argv.pop(1)).main
except BaseException as error:
    print(ascii(f"{type(error).__name__}: {error}"), flush=True)
    sys.exit(1)
main()
"""
"""A child's first lines. `python -m` and `python -c` put the working directory first on sys.path, so that a file there
replaces a module of the same name; it is removed here before anything is imported from a file. (`-P` is not in Python
3.10, `-I` ignores PYTHONPATH.) Where the package itself lies comes last, in case it lies in the working directory."""


def child_command(module: str, *arguments: str) -> list[str]:
    """The command of a child that runs `module.main()`, without imports from the working directory."""
    package_parent = str(Path(__file__).resolve().parents[2])
    return [sys.executable, "-c", _START, package_parent, module, *arguments]


class ChildStartError(BokehsynthError):
    """A child process that ended before it took its first request: the installation's or the machine's failure."""


@dataclass(frozen=True)
class ChildEnded:
    """A child that ended instead of replying."""

    code: int
    """Its exit code; negative: a signal."""
    timed_out: bool
    """Whether it was killed because it took too long."""


class LineChild:
    """One child process, ready for requests; killed, and unusable from then on, when it takes too long.

    Raises ChildStartError where the process ends before it has written READY.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="ascii",
            env=os.environ | SINGLE_THREAD,
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._input, self._output = self.process.stdin, self.process.stdout
        self._timed_out = False
        with self._time_limit(START_SECONDS):
            last = self._wait_until_ready()
        if last is not None:
            self.end()
            raise ChildStartError(
                f"a child process could not be started ({last or f'exit code {self.process.returncode}'}); no file was "
                "judged. Check the installation and the memory that is free, and run the same line again"
            )

    def ask(self, request: str, seconds: float) -> str | ChildEnded:
        """Send a line and return the reply."""
        with self._time_limit(seconds):
            with contextlib.suppress(OSError):  # it ended between requests, and has no reply
                self._input.write(f"{request}\n")
                self._input.flush()
            reply = self._output.readline()
        if reply.endswith("\n") and not self._timed_out:
            return reply
        return ChildEnded(self.process.wait(), self._timed_out)

    def end(self) -> None:
        """Kill the process and wait for it."""
        self.process.kill()
        for stream in (self._input, self._output):
            with contextlib.suppress(OSError):
                stream.close()
        self.process.wait()

    def _wait_until_ready(self) -> str | None:
        """None when the child is ready, or the last line it wrote before it ended."""
        last = ""
        for line in self._output:
            if line.strip() == READY:
                return None
            last = line.strip()
        return f"not ready within {START_SECONDS:g} s" if self._timed_out else last

    @contextlib.contextmanager
    def _time_limit(self, seconds: float) -> Generator[None, None, None]:
        timer = threading.Timer(seconds, self._time_out)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _time_out(self) -> None:
        self._timed_out = True
        self.process.kill()


def ask_all(
    command: Sequence[str], requests: Sequence[str], children: int, seconds: float
) -> Generator[tuple[int, str | ChildEnded], None, None]:
    """Yield the number of each request and its reply, as they come, from `children` processes of `command`.

    A child holds one request at a time, for `seconds` at most; one that ended is replaced.
    """
    waiting = deque(enumerate(requests))
    results: SimpleQueue[tuple[int, str | ChildEnded] | BaseException] = SimpleQueue()
    running: list[LineChild] = []

    def serve() -> None:
        child: LineChild | None = None
        try:
            while waiting:
                number, request = waiting.popleft()
                if child is None:
                    child = LineChild(command)
                    running.append(child)
                reply = child.ask(request, seconds)
                results.put((number, reply))
                if isinstance(reply, ChildEnded):
                    child.end()
                    child = None
        except IndexError:
            pass  # another thread took the last one
        except BaseException as error:
            results.put(error)
        finally:
            if child is not None:
                child.end()

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(children)]
    try:
        for thread in threads:
            thread.start()
        for _ in requests:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        waiting.clear()
        for child in list(running):
            child.process.kill()
        for thread in threads:
            thread.join()
