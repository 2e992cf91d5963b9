"""Probing in processes of their own, with bounds on memory and time: the only place where unknown files are decoded.

A file that nobody has looked at may be built to break decoders. So each is decoded first in a child that runs this
module, whose address space is limited for its whole life and whose silence is timed; what makes it crash, hang or run
out of memory ends the child and puts the file into quarantine. A limit set around decoding in a run's own processes
would hit whatever Numba, OpenCV or another thread allocates in the meantime; there it is not needed, for a run decodes
only bytes whose sha256 has been through here.

The children talk JSON over their pipes and are started by name, not by `multiprocessing`, which would import the
user's script again.
"""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bokehsynth.assets.decode.decoder import Limits
from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.assets.index.probe import Candidate, Probe, probe

SECONDS = 120.0
"""What one picture may take."""
BYTES_PER_PIXEL, BYTES_BESIDE = 40, 1 << 30
"""Memory of a child: what the largest picture allowed needs in all its forms (stored, as light, its alpha), and the
libraries' own."""
FILES_PER_CHILD = 16
"""Fewer files than this are not worth another process."""

Answer = Probe | RejectedPicture


def probe_all(
    candidates: Sequence[Candidate], limits: Limits, progress: Callable[[], None] = lambda: None
) -> list[Answer]:
    """A Probe or the refusal of each candidate, in their order; `seen` is called after each."""
    answers: dict[int, Answer] = {}
    waiting = deque(range(len(candidates)))
    count = min(_cpus(), -(-len(candidates) // FILES_PER_CHILD))
    children = [_Child(limits) for _ in range(count)]
    try:
        for number, answer in _share_out(children, candidates, waiting, limits):
            answers[number] = answer
            progress()
    finally:
        for child in children:
            child.end()
    return [answers[i] for i in range(len(candidates))]


def _share_out(
    children: list["_Child"], candidates: Sequence[Candidate], waiting: deque[int], limits: Limits
) -> Iterator[tuple[int, Answer]]:
    with selectors.DefaultSelector() as selector:
        for child in children:
            selector.register(child.output, selectors.EVENT_READ, child)
            child.give_next(waiting, candidates)
        while any(child.holds is not None for child in children):
            ready = {key.data for key, _ in selector.select(timeout=0.5)}
            for place, child in enumerate(children):
                number = child.holds
                if number is None:
                    continue
                answer: Answer | None = None
                if child.overdue():
                    text = f"{candidates[number].image}: decoding took more than {SECONDS:g} s"
                    answer = RejectedPicture(text, "too_slow")
                elif child in ready:
                    answer = child.answer() or child.why_it_died(candidates[number])
                if answer is None:
                    continue
                yield number, answer
                child.holds = None
                if not child.alive():
                    selector.unregister(child.output)
                    child.end()
                    child = children[place] = _Child(limits)  # noqa: PLW2901  # its successor
                    selector.register(child.output, selectors.EVENT_READ, child)
                child.give_next(waiting, candidates)


class _Child:
    """A probing process and the number of the candidate it holds."""

    def __init__(self, limits: Limits) -> None:
        environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bokehsynth.assets.index.probe_pool", str(limits.max_pixels), str(limits.min_side)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
            encoding="ascii",
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self.output = self._process.stdin, self._process.stdout
        self.holds: int | None = None
        self._timer: threading.Timer | None = None
        self._late = threading.Event()

    def give_next(self, waiting: deque[int], candidates: Sequence[Candidate]) -> None:
        """Hand over the next candidate, if there is one."""
        if not waiting:
            return
        self.holds = waiting.popleft()
        self._timer = threading.Timer(SECONDS, self._late.set)
        self._timer.daemon = True
        self._timer.start()
        try:
            self._input.write(json.dumps(_candidate_record(candidates[self.holds])) + "\n")
            self._input.flush()
        except OSError:
            pass  # it died idle; that is noticed when its answer is read

    def overdue(self) -> bool:
        """Whether it has held its candidate for too long; it is killed then."""
        if self._late.is_set():
            self._process.kill()
        return self._late.is_set()

    def answer(self) -> Answer | None:
        """The answer that is waiting; None if the process ended instead."""
        line = self.output.readline()
        if self._timer is not None:
            self._timer.cancel()
        if not line.endswith("\n"):
            self._process.wait()
            return None
        record = json.loads(line)
        return RejectedPicture(record["message"], record["refused"]) if "refused" in record else probe_from(record)

    def why_it_died(self, candidate: Candidate) -> RejectedPicture:
        """A decoder that crashed is the picture's doing; one that the system killed ran out of memory."""
        code = self._process.returncode
        if code == -9:
            return RejectedPicture(f"{candidate.image}: takes more memory to decode than there is", "too_large")
        return RejectedPicture(f"{candidate.image}: its decoder crashed (exit code {code})", "corrupt")

    def alive(self) -> bool:
        """Whether the process still runs."""
        return not self._late.is_set() and self._process.poll() is None

    def end(self) -> None:
        """Close its input, which ends it when idle, and make sure."""
        if self._timer is not None:
            self._timer.cancel()
        self._process.kill()
        for stream in (self._input, self.output):
            with contextlib.suppress(OSError):
                stream.close()
        self._process.wait()


def _candidate_record(candidate: Candidate) -> dict[str, Any]:
    record = asdict(candidate)
    return {key: value if value is None or isinstance(value, str) else str(value) for key, value in record.items()}


def probe_from(record: dict[str, Any]) -> Probe:
    """A Probe back from its JSON record; KeyError or TypeError if it is not one."""
    lists = {name: tuple(value) for name, value in record.items() if isinstance(value, list)}
    return Probe(**record | lists)


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _limit_memory(max_pixels: int) -> None:
    """Bound this process's address space, beyond what its libraries have mapped already (a no-op on Windows)."""
    try:
        import resource
    except ImportError:
        return
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # no /proc, as on macOS, which does not enforce the limit either
        mapped = 1 << 32
    bound = mapped + BYTES_BESIDE + BYTES_PER_PIXEL * max_pixels
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or bound < hard:
        resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _serve(limits: Limits) -> None:
    """A child's life: candidates in, records out, one JSON line each, until the input ends."""
    import cv2
    import OpenEXR  # noqa: F401  # all that decodes is loaded before the limit is set

    cv2.setNumThreads(1)
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # decoders in C print what they think of a file
    _limit_memory(limits.max_pixels)
    for line in sys.stdin:
        record = json.loads(line)
        paths = {key: None if value is None else Path(value) for key, value in record.items() if key != "kind"}
        try:
            found = probe(Candidate(kind=record["kind"], **paths), limits)  # type: ignore[arg-type]
            answer = asdict(found)
        except RejectedPicture as error:
            answer = {"refused": error.reason, "message": str(error)}
        except MemoryError:
            answer = {"refused": "too_large", "message": f"{record['image']}: takes more memory than a picture may"}
        print(json.dumps(answer), file=replies, flush=True)


if __name__ == "__main__":
    _serve(Limits(int(sys.argv[1]), int(sys.argv[2])))
