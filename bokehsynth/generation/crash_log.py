"""Crash log of one uncommitted shard, and the search for the sample that ends its workers.

A killed worker cannot say why. It therefore appends a line before every sample, and the supervisor, which saw it die
and lived on, appends how: `crashed`, `killed` or `timed_out`. Only such a record counts, for what was being made then;
a beginning without one is the end of a whole run (pre-emption, a node that is taken away) and says nothing of a sample.
Deaths beside which another worker of the run died are recorded as `not_at_fault`.

A sample in flight at three recorded deaths, or one timeout, is a suspect and is retried in isolation. There, crashes,
kills and timeouts are counted by themselves, each up to its limit in LIMITS; one that reaches it quarantines the
sample, success clears it. A kill may have come from outside, also in isolation: after each one a worker only waits, for
longer than the sample had lived. If that one dies, too, somewhere kills strike whatever is made, and all kills counted
so far are void. Where several samples are in flight at a time, all of them are suspects, one after the other.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bokehsynth.files import append_line, storage_errors
from bokehsynth.untrusted_files import MAX_LIST, read_bytes
from bokehsynth.workers.events import DeathKind

SUSPECT = 3
"""Recorded deaths in the shard that make a suspect."""

LIMITS: dict[DeathKind, int] = {"crashed": 3, "killed": 5, "timed_out": 2}
"""Recorded deaths of each kind in isolation that quarantine a sample."""

CONTROL_FACTOR, CONTROL_LEAST, CONTROL_MOST = 3.0, 1.0, 600.0
"""How long a worker only waits after a kill in isolation: times the seconds that the killed one lived, and bounds.

Kills from outside at a constant rate pass for a sample's in under a quarter of the pairs of trial and wait (a trial
that dies after t, and a wait that survives 3 t), hence in (1/4)^5, one in a thousand, of the searches."""

_TIMEOUT_IN_SHARD = SUSPECT
_MAX_IN_FLIGHT = 10_000
"""Samples in one line; a damaged one may say anything."""

_BEGIN, _COMMIT, _ISOLATED, _ISOLATED_OK, _CONTROL, _CONTROL_OK, _QUARANTINED, _NOT_AT_FAULT = (
    "begin", "commit", "isolated", "isolated_ok", "control", "control_ok", "quarantined", "not_at_fault",
)  # fmt: skip


@dataclass(frozen=True)
class Suspect:
    """A sample that may be what ends its workers."""

    index: int
    verdict: Literal["killed", "hung"] | None = None
    """Why it is to be quarantined; None while it has not ended its worker often enough in isolation."""
    control_s: float = 0.0
    """Seconds for which a worker has to wait, doing nothing, before the next trial; 0 where none is due."""


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

    def control_start(self) -> None:
        """A worker only waits, to see whether it is killed all the same."""
        self._append(_CONTROL)

    def control_ok(self) -> None:
        """The worker that only waited was not killed."""
        self._append(_CONTROL_OK)

    def quarantined(self, index: int) -> None:
        """The sample's draw is in quarantine; what follows concerns its next draw."""
        self._append(f"{_QUARANTINED} {index}")

    def committing(self) -> None:
        """All samples are made: a crash from here on is no sample's fault."""
        self._append(_COMMIT)

    def died(self, kind: DeathKind, seconds: float) -> None:
        """The supervisor saw the worker die, `seconds` after its last sign of life, and nothing else died then."""
        if self.path.exists():  # else it made nothing yet
            self._append(f"{kind} {seconds:.1f}")

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
        with storage_errors(self.path):
            try:
                return read_bytes(self.path, MAX_LIST).decode("ascii", "replace").splitlines()
            except FileNotFoundError:
                return []


class _History:
    """Counts recorded deaths per sample from the lines of a crash log."""

    def __init__(self) -> None:
        self.in_shard: dict[str, Counter[int]] = {kind: Counter() for kind in LIMITS}
        self.isolated: dict[str, Counter[int]] = {kind: Counter() for kind in LIMITS}
        self.any_quarantined = False
        self.mode = _BEGIN
        """What the worker that wrote last is about: _BEGIN (the shard), _ISOLATED or _CONTROL."""
        self.making: Sequence[int] = ()
        """What it is making; empty where its end would be no sample's fault."""
        self.last: Sequence[int] = ()
        """What was in flight at the last recorded death, as far as it is not cleared."""
        self.control_s = 0.0

    def read(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word in LIMITS:
            self._count(word, _seconds(rest))
        elif word == _NOT_AT_FAULT:
            self.making, self.mode = (), _BEGIN
        elif word == _ISOLATED_OK:
            self._clear(self.making)
            self.making = ()
        elif word == _QUARANTINED and rest.isdecimal() and len(rest) < 20:
            self.any_quarantined = True
            self._clear([int(rest)])
            self.making = self.last = ()
        elif word == _CONTROL_OK:
            self.control_s, self.mode = 0.0, _BEGIN
        elif word in {_BEGIN, _ISOLATED, _CONTROL}:
            self.mode, self.making = word, _samples(rest)
        else:
            self.making = _samples(word)

    def suspect(self) -> Suspect | None:
        for index in self.last:
            reached = [kind for kind, limit in LIMITS.items() if self.isolated[kind][index] >= limit]
            if reached and not self.control_s:
                return Suspect(index, "hung" if reached == ["timed_out"] else "killed")
            tried = self.any_quarantined or any(counter[index] for counter in self.isolated.values())
            if reached or self._weight(index) >= (1 if tried else SUSPECT):
                return Suspect(index, control_s=self.control_s)
        return None

    def _weight(self, index: int) -> int:
        timeouts = self.in_shard["timed_out"][index]
        return self.in_shard["crashed"][index] + self.in_shard["killed"][index] + _TIMEOUT_IN_SHARD * timeouts

    def _count(self, kind: str, seconds: float) -> None:
        if self.mode == _CONTROL:  # it made nothing, so kills come from outside
            self.in_shard["killed"].clear()
            self.isolated["killed"].clear()
            self.control_s = 0.0
        counters = self.isolated if self.mode == _ISOLATED else self.in_shard
        for index in self.making:
            counters[kind][index] += 1
        if self.making:
            self.last = self.making
            if self.mode == _ISOLATED and kind == "killed":
                self.control_s = min(max(CONTROL_FACTOR * seconds, CONTROL_LEAST), CONTROL_MOST)
        self.making, self.mode = (), _BEGIN

    def _clear(self, indexes: Sequence[int]) -> None:
        for index in indexes:
            for counter in (*self.in_shard.values(), *self.isolated.values()):
                del counter[index]
        self.last = [index for index in self.last if index not in indexes]
        self.control_s = 0.0


def _seconds(word: str) -> float:
    """Parse `2.5`; 0 for any other word."""
    whole, _, tenths = word.partition(".")
    return float(word) if whole.isdecimal() and tenths.isdecimal() and len(word) < 16 else 0.0


def _samples(word: str) -> Sequence[int]:
    """Parse `7` or `3-9`; empty for any other word, or more samples than can be in flight."""
    first, dash, last = word.partition("-")
    if len(word) > 40 or not first.isdecimal() or (dash and not last.isdecimal()):
        return ()
    start, end = int(first), int(last if dash else first)
    return range(start, end + 1) if end - start < _MAX_IN_FLIGHT else ()
