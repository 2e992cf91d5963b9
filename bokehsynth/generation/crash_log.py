"""Crash log of one uncommitted shard, and the search for the sample that ends its workers.

A killed worker cannot say why. It therefore appends a line before every sample, and the worker that takes the shard
next, in this run or in a later one, reads what the ones before it were making. A sample in flight during three crashes,
or one timeout, is a suspect and is retried in isolation; three crashes in isolation (two timeouts) quarantine it. If it
succeeds in isolation its counters are reset: the crashes may have come from outside (OOM killer, pre-emption). Where
several samples are in flight at a time, all of them are suspects, one after the other.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bokehsynth.files import append_line, storage_errors

CRASHES = 3
"""Weight of the crashes that make a suspect, and of those in isolation that quarantine it."""

_TIMEOUT_IN_SHARD, _TIMEOUT_ISOLATED = CRASHES, 2

_MAX_IN_FLIGHT = 10_000
"""Samples in one line; a damaged one may say anything."""

_BEGIN, _COMMIT, _ISOLATED, _ISOLATED_OK, _QUARANTINED, _TIMED_OUT, _NOT_AT_FAULT = (
    "begin", "commit", "isolated", "isolated_ok", "quarantined", "timed_out", "not_at_fault",
)  # fmt: skip


@dataclass(frozen=True)
class Suspect:
    """A sample that may be what ends its workers."""

    index: int
    confirmed: bool
    """Whether it has ended its worker often enough in isolation."""
    timed_out: bool
    """Whether the last worker was ended for its silence, rather than crashed."""


class CrashLog:
    """The history of one shard that is not committed yet; each line is one word, with a sample where it has one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def suspect(self) -> Suspect | None:
        """The sample to retry in isolation, or to quarantine, before the shard is tried again."""
        history = _History()
        for line in self._lines():
            history.read(line)
        return history.suspect()

    def begin(self) -> None:
        """A worker starts on the shard from its first sample."""
        self._append(_BEGIN)

    def in_flight(self, indexes: range) -> None:
        """A worker is making just these samples now, of which one or more are new."""
        self._append(str(indexes[0]) if len(indexes) == 1 else f"{indexes[0]}-{indexes[-1]}")

    def isolated_start(self, index: int) -> None:
        """A worker makes a suspect, and nothing else."""
        self._append(f"{_ISOLATED} {index}")

    def isolated_ok(self) -> None:
        """The worker survived the suspect."""
        self._append(_ISOLATED_OK)

    def has_isolated_ok(self) -> bool:
        """Whether a suspect has succeeded in isolation: then a window of one tells which sample it is."""
        return _ISOLATED_OK in self._lines()

    def quarantined(self, index: int) -> None:
        """The sample's draw is in quarantine; what follows concerns its next draw."""
        self._append(f"{_QUARANTINED} {index}")

    def committing(self) -> None:
        """All samples are made: a crash from here on is no sample's fault."""
        self._append(_COMMIT)

    def timed_out(self) -> None:
        """The supervisor ended the worker for its silence."""
        self._append(_TIMED_OUT)

    def not_at_fault(self) -> None:
        """The worker was ended for a reason outside the shard, or left it in good order."""
        if self.path.exists():
            self._append(_NOT_AT_FAULT)

    def delete(self) -> None:
        """Remove the file: the shard is committed."""
        with storage_errors(self.path):
            self.path.unlink(missing_ok=True)

    def _append(self, line: str) -> None:
        with storage_errors(self.path):
            append_line(self.path, line)

    def _lines(self) -> list[str]:
        try:
            return self.path.read_text(encoding="ascii", errors="replace").splitlines()
        except FileNotFoundError:
            return []


class _History:
    """Counts crashes per sample from the lines of a crash log."""

    def __init__(self) -> None:
        self.crashes: Counter[int] = Counter()
        self.isolated_crashes: Counter[int] = Counter()
        self.any_quarantined = False
        self.making: Sequence[int] = ()
        """What the worker that wrote last is making; empty where its end would be no sample's fault."""
        self.isolated = self.timeout = False
        self.last: Sequence[int] = ()
        """What was in flight at the last crash, as far as it is not cleared."""
        self.last_timed_out = False

    def read(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == _TIMED_OUT:
            self.timeout = True
        elif word == _NOT_AT_FAULT:
            self.making = ()
        elif word == _ISOLATED_OK:
            self._clear(self.making)
            self.making = ()
        elif word == _QUARANTINED and rest.isdecimal():
            self.any_quarantined = True
            self._clear([int(rest)])
            self.making = self.last = ()
        elif word in {_BEGIN, _ISOLATED}:
            self._count_crash()
            self.isolated = word == _ISOLATED
            self.making = _samples(rest)
        else:
            self.making = _samples(word)

    def suspect(self) -> Suspect | None:
        self._count_crash()
        for index in self.last:
            confirmed = self.isolated_crashes[index] >= CRASHES
            enough = 1 if self.any_quarantined or self.isolated_crashes[index] else CRASHES
            if confirmed or self.crashes[index] >= enough:
                return Suspect(index, confirmed, self.last_timed_out)
        return None

    def _count_crash(self) -> None:
        """The worker that wrote the lines so far is dead, since another one goes on."""
        for index in self.making:
            if self.isolated:
                self.isolated_crashes[index] += _TIMEOUT_ISOLATED if self.timeout else 1
            else:
                self.crashes[index] += _TIMEOUT_IN_SHARD if self.timeout else 1
        if self.making:
            self.last, self.last_timed_out = self.making, self.timeout
        self.making, self.isolated, self.timeout = (), False, False

    def _clear(self, indexes: Sequence[int]) -> None:
        for index in indexes:
            del self.crashes[index], self.isolated_crashes[index]
        self.last = [index for index in self.last if index not in indexes]


def _samples(word: str) -> Sequence[int]:
    """Parse `7` or `3-9`; empty for any other word, or more samples than can be in flight."""
    first, dash, last = word.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        return ()
    found = range(int(first), int(last if dash else first) + 1)
    return found if len(found) <= _MAX_IN_FLIGHT else ()
