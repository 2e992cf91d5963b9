"""Child commands that answer a line of text with a line: for work that may crash, hang or use up memory.

Other than the workers of `pool`, they are started by name, not by `multiprocessing`, which would import the user's
script again; and nothing that a child sends is unpickled here.
"""

import contextlib
import os
import subprocess
import threading
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from bokehsynth.workers.worker import SINGLE_THREAD


@dataclass(frozen=True)
class ChildEnded:
    """A child that ended instead of replying."""

    code: int
    """Its exit code; negative: a signal."""
    timed_out: bool
    """Whether it was killed because it took too long."""


class LineChild:
    """One child process; it is killed and is no use any more when it takes too long."""

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="ascii",
            env=os.environ | SINGLE_THREAD,
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._input, self._output = self.process.stdin, self.process.stdout
        self._timed_out = False

    def ask(self, request: str, seconds: float) -> str | ChildEnded:
        """Send a line and return the reply."""
        timer = threading.Timer(seconds, self._time_out)
        timer.daemon = True
        timer.start()
        with contextlib.suppress(OSError):  # it died idle, and has no reply
            self._input.write(f"{request}\n")
            self._input.flush()
        reply = self._output.readline()
        timer.cancel()
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
