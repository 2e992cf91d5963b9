"""Who died where: a few bytes on disk before every sample, so that the next worker knows what ended the last one.

A worker that is killed can tell nobody why. It therefore writes down what it is about to do, and whoever tries the
shard next, in this run or in a later one, reads how the ones before it ended. Three deaths over one sample make it a
suspect, a hang does so at once; a suspect is made alone, and is convicted when that ends its worker again and again. A
kill from outside may strike anywhere, so what came out alone is innocent. Where several samples are in the making at a
time, all of them are suspects, one after the other.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bokehsynth.files import storage_errors

ENOUGH = 3
"""Weight of the deaths that make a suspect, and of those alone that convict it."""

_HANG_IN_SHARD, _HANG_ALONE = ENOUGH, 2

_MOST = 10_000
"""Samples in one line; a damaged one may say anything."""

_BEGIN, _COMMIT, _ALONE, _PASSED, _CONVICTED, _HUNG, _PARDONED = (
    "begin", "commit", "alone", "passed", "convicted", "hung", "pardoned",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A sample under suspicion."""

    index: int
    proven: bool
    """Whether it has ended its worker often enough while it was made alone."""
    hung: bool
    """Whether the last worker hung over it, rather than died."""


class Trail:
    """The history of one shard that is not committed yet; each line is one word, with a sample where it has one.

    Lines are appended in one write, so that a kill cannot tear them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def case(self) -> Case | None:
        """The sample that the last worker died over, if there is reason to examine it."""
        history = _History()
        for line in self._lines():
            history.read(line)
        return history.case()

    def begin(self) -> None:
        """A worker starts on the shard from its first sample."""
        self._append(_BEGIN)

    def making(self, indexes: range) -> None:
        """A worker has just these samples in the making, of which one or more are new."""
        self._append(str(indexes[0]) if len(indexes) == 1 else f"{indexes[0]}-{indexes[-1]}")

    def alone(self, index: int) -> None:
        """A worker makes a suspect, and nothing else."""
        self._append(f"{_ALONE} {index}")

    def passed(self) -> None:
        """The suspect ended nobody."""
        self._append(_PASSED)

    def examined(self) -> bool:
        """Whether a suspect has come out innocent: then it is time to see which sample it is, one after the other."""
        return _PASSED in self._lines()

    def convicted(self, index: int) -> None:
        """The sample is in quarantine; what follows concerns its next draw."""
        self._append(f"{_CONVICTED} {index}")

    def committing(self) -> None:
        """All samples are made: what happens now is no sample's fault."""
        self._append(_COMMIT)

    def hung(self) -> None:
        """The supervisor ended the worker for its silence."""
        self._append(_HUNG)

    def pardoned(self) -> None:
        """The worker was ended for no fault of the shard's, or left it in good order."""
        if self.path.exists():
            self._append(_PARDONED)

    def forget(self) -> None:
        """The shard is committed."""
        with storage_errors(self.path):
            self.path.unlink(missing_ok=True)

    def _append(self, line: str) -> None:
        with storage_errors(self.path):
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(handle, f"{line}\n".encode())
            finally:
                os.close(handle)

    def _lines(self) -> list[str]:
        try:
            return self.path.read_text(encoding="ascii", errors="replace").splitlines()
        except FileNotFoundError:
            return []


class _History:
    """What the lines of a trail amount to."""

    def __init__(self) -> None:
        self.deaths: Counter[int] = Counter()
        self.alone: Counter[int] = Counter()
        self.convicts = 0
        self.at: Sequence[int] = ()
        """What the worker that wrote last is making; nothing where its end would be nobody's fault."""
        self.by_itself = self.stuck = False
        self.last: Sequence[int] = ()
        """What was in the making when the last one died, as far as it is not cleared."""
        self.hung = False
        """Whether that one hung."""

    def read(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == _HUNG:
            self.stuck = True
        elif word == _PARDONED:
            self.at = ()
        elif word == _PASSED:
            for index in self.at:
                self._clear(index)
            self.at = ()
        elif word == _CONVICTED and rest.isdecimal():
            self.convicts += 1
            self._clear(int(rest))
            self.at = self.last = ()
        elif word in {_BEGIN, _ALONE}:
            self._count_death()
            self.by_itself = word == _ALONE
            self.at = _samples(rest)
        else:
            self.at = _samples(word)

    def case(self) -> Case | None:
        self._count_death()
        for index in self.last:
            if self.alone[index] >= ENOUGH:
                return Case(index, proven=True, hung=self.hung)
            enough = 1 if self.convicts or self.alone[index] else ENOUGH
            if self.deaths[index] >= enough:
                return Case(index, proven=False, hung=self.hung)
        return None

    def _count_death(self) -> None:
        """Whoever wrote the lines so far is dead, since somebody else goes on."""
        for index in self.at:
            if self.by_itself:
                self.alone[index] += _HANG_ALONE if self.stuck else 1
            else:
                self.deaths[index] += _HANG_IN_SHARD if self.stuck else 1
        if self.at:
            self.last, self.hung = self.at, self.stuck
        self.at, self.by_itself, self.stuck = (), False, False

    def _clear(self, index: int) -> None:
        self.deaths.pop(index, None)
        self.alone.pop(index, None)
        self.last = [other for other in self.last if other != index]


def _samples(word: str) -> Sequence[int]:
    """`7` or `3-9`; nothing for any other word, or more than anybody has in the making."""
    first, dash, last = word.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        return ()
    found = range(int(first), int(last if dash else first) + 1)
    return found if len(found) <= _MOST else ()
