"""Probe untrusted files in child processes bounded in memory and time: unknown files are decoded nowhere else.

A file may be crafted to break decoders. Each is decoded first in a child that runs this module, with its address space
limited for its whole life and a time limit per file; a crash, a hang or exhausted memory ends the child and puts the
file into quarantine. A limit set around decoding in a run's own processes would also hit what Numba, OpenCV or another
thread allocates meanwhile; it is not needed there, since a run decodes only bytes whose sha256 has been probed.

The children exchange one JSON line per file (`workers.line_children`).
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bokehsynth.assets.catalogue import Candidate
from bokehsynth.assets.decode.decoder import Limits
from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.assets.index.probe import Probe, probe
from bokehsynth.workers.line_children import READY, ChildEnded, ask_all, child_command
from bokehsynth.workers.pool import usable_cpus
from bokehsynth.workers.worker import keep_freed_memory, request_parent_death_signal

_PROBE = TypeAdapter(Probe)

SECONDS = 120.0
"""The time limit of one picture."""
BYTES_PER_PIXEL, BASE_BYTES = 40, 1 << 30
"""Memory limit of a child: for the largest picture allowed in all its forms (stored, linear, alpha), and for the
libraries."""
FILES_PER_CHILD = 16
"""Fewer files than this are not worth another process."""

Answer = Probe | RejectedPicture


def probe_all(
    candidates: Sequence[Candidate], limits: Limits, progress: Callable[[], None] = lambda: None
) -> list[Answer]:
    """A Probe or the rejection of each candidate, in their order; `progress` is called after each.

    A candidate whose child died is tried once more, alone, when the others are done.
    """
    answers: dict[int, Answer] = {}
    died: list[int] = []
    command = child_command(__name__, str(limits.max_pixels), str(limits.min_side), str(int(limits.judged)))
    requests = [json.dumps(asdict(candidate), default=str) for candidate in candidates]
    children = min(usable_cpus(), -(-len(candidates) // FILES_PER_CHILD))
    with contextlib.closing(ask_all(command, requests, children, SECONDS)) as replies:
        for number, reply in replies:
            if isinstance(reply, ChildEnded) and not reply.timed_out:
                died.append(number)
                continue
            answers[number] = _answer(candidates[number], reply)
            progress()
    for number in died:  # once more and alone: it may have been another's death, or the memory of all of them
        for _, reply in ask_all(command, [requests[number]], 1, SECONDS):
            answers[number] = _answer(candidates[number], reply)
        progress()
    return [answers[i] for i in range(len(candidates))]


def _answer(candidate: Candidate, reply: str | ChildEnded) -> Answer:
    """A child's answer, or the rejection of what ended it: SIGKILL means out of memory, all else a corrupt file.

    Such a rejection is the machine's as much as the file's (its speed, its memory, a signal): it does not last.
    """
    if not isinstance(reply, ChildEnded):
        return answer_from(json.loads(reply))
    message, reason = f"its decoder crashed (exit code {reply.code})", "corrupt"
    if reply.timed_out:
        message, reason = f"decoding took more than {SECONDS:g} s", "too_slow"
    elif reply.code == -signal.SIGKILL:
        message, reason = "takes more memory to decode than there is", "too_large"
    return RejectedPicture(f"{_named(candidate)}: {message}", reason, lasting=False)


def _named(candidate: Candidate) -> str:
    """The file after which a candidate is named, and its other photograph: either may be what ended a child."""
    named = candidate.named
    return str(named) if named == candidate.image else f"{named} (with {candidate.image})"


def answer_from(record: dict[str, Any]) -> Answer:
    """An answer back from its JSON record; KeyError, TypeError or ValueError if it is none."""
    if "refused" in record:
        return RejectedPicture(record["message"], record["refused"], record.get("lasting", True))
    return _PROBE.validate_python(record)


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
    bound = mapped + BASE_BYTES + BYTES_PER_PIXEL * max_pixels
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or bound < hard:
        resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _serve(limits: Limits) -> None:
    """Main loop of a child: read candidates and write records, one JSON line each, until the input ends."""
    request_parent_death_signal()
    keep_freed_memory()
    import cv2
    import OpenEXR  # noqa: F401  # decoders are loaded before the limit is set

    cv2.setNumThreads(1)
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # decoders in C print warnings
    _limit_memory(limits.max_pixels)
    print(READY, file=replies, flush=True)
    for line in sys.stdin:
        record = json.loads(line)
        plain = {key: record.pop(key) for key in ("kind", "f_number")}
        paths = {key: None if value is None else Path(value) for key, value in record.items()}
        candidate = Candidate(**plain, **paths)  # type: ignore[arg-type]
        try:
            answer = asdict(probe(candidate, limits))
        except RejectedPicture as error:
            answer = {"refused": error.reason, "message": str(error), "lasting": error.lasting}
        except MemoryError:
            message = f"{_named(candidate)}: takes more memory than a picture may"
            answer = {"refused": "too_large", "message": message, "lasting": False}
        print(json.dumps(answer), file=replies, flush=True)


def main() -> None:
    """Run a child: its arguments are the limits."""
    _serve(Limits(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1"))
