"""Blind preferences: which methods there are, the votes in a CSV file, and shares with intervals."""

import contextlib
import csv
import errno
import io
import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bokehsynth import StorageError, UsageError
from magicbokeh.inference.photo import MIN_SIDE
from magicbokeh.inference.picture_header import read_header

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
_HEADER = ("time", "voter", "photo", "shown", "chosen")
_Z = 1.959964
"""Of a normal distribution, 95 % lie within this many deviations."""


class Vote(NamedTuple):
    """One line of the file."""

    time: str
    """UTC, ISO 8601."""
    voter: str
    """A random word, another for each visit."""
    photo: str
    shown: str
    """The methods in the order of their pictures, with | between them."""
    chosen: str


class Share(NamedTuple):
    """How often a method was chosen."""

    method: str
    votes: int
    share: float
    low: float
    high: float
    """Wilson's interval at 95 %."""


def read_methods(words: Sequence[str]) -> dict[str, Path]:
    """Parse `NAME=FOLDER`, two or more; UsageError for anything else."""
    found: dict[str, Path] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not equals or not name or "|" in name or "\n" in name:
            raise UsageError(f"--compare: NAME=FOLDER, the name without |, not {word!r:.200}")
        if name in found:
            raise UsageError(f"--compare: {name} is given twice")
        if not Path(folder).is_dir():
            raise UsageError(f"--compare: {folder}: no such folder")
        found[name] = Path(folder)
    if len(found) == 1:
        raise UsageError("--compare: give at least two methods, each with a folder of pictures")
    return found


def common_photos(methods: dict[str, Path]) -> dict[str, dict[str, Path]]:
    """The pictures that every method has: by name without extension, then by method; UsageError where there is none."""
    by_method = {
        name: {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURES}
        for name, folder in methods.items()
    }
    names = sorted(set.intersection(*(set(pictures) for pictures in by_method.values())))
    if not names:
        raise UsageError(
            "--compare: no picture lies in every folder under the same name: "
            + ", ".join(f"{name} has {len(pictures)}" for name, pictures in by_method.items())
        )
    return {photo: {name: by_method[name][photo] for name in methods} for photo in names}


def check_pictures(photos: dict[str, dict[str, Path]]) -> None:
    """AssetError or UsageError for the first picture whose header tells that it cannot be shown."""
    for by_method in photos.values():
        for path in by_method.values():
            height, width = read_header(path).size
            if min(height, width) < MIN_SIDE:
                raise UsageError(f"{path}: must have at least {MIN_SIDE} px on each side, it is {width} x {height}")


class VoteFile:
    """Votes in a CSV file that only ever grows; it is begun, and so found to be writable, before the first vote."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        self.read()
        self._append((), "choose another --votes")

    def add(self, vote: Vote) -> None:
        """Append a vote; StorageError where it cannot be kept, and nothing of it stays in the file."""
        self._append((vote,), "the vote was not kept")

    def _append(self, votes: Sequence[Vote], consequence: str) -> None:
        with self._lock:
            try:
                with open(self.path, "a+b", buffering=0) as file:
                    size = file.seek(0, os.SEEK_END)
                    file.seek(max(0, size - 1))
                    unended = file.read(1) not in (b"", b"\n")  # a line that a kill has torn, or that was typed
                    _write_whole(file, size, unended, votes)
            except OSError as error:
                raise StorageError(f"{self.path}: {error.strerror} ({consequence})") from None

    def read(self) -> list[Vote]:
        """All votes; UsageError where the file holds something else."""
        if not self.path.exists():
            return []
        votes: list[Vote] = []
        try:
            with open(self.path, newline="", encoding="utf-8") as file:
                rows = csv.reader(file)
                for number, row in enumerate(rows):
                    if number == 0 and tuple(row) != _HEADER:
                        raise UsageError(
                            f"{self.path}: is no file of votes, its head is {row!s:.100}; choose another --votes"
                        )
                    if len(row) != len(_HEADER):
                        raise UsageError(
                            f"{self.path}: line {rows.line_num} has {len(row)} values, a vote has {len(_HEADER)}; "
                            "remove the line, or choose another --votes"
                        )
                    if number:
                        votes.append(Vote(*row))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{self.path}: cannot be read as CSV ({error}); choose another --votes") from None
        return votes


def _write_whole(file: io.FileIO, size: int, unended: bool, votes: Sequence[Vote]) -> None:
    """Append the votes in one piece to a file of `size` bytes, or nothing; OSError where that fails."""
    text = io.StringIO()
    csv.writer(text).writerows([*([] if size else [_HEADER]), *votes])
    data = (b"\n" if unended and votes else b"") + text.getvalue().encode()
    try:
        if data and file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(size)
        raise


def shares(votes: Sequence[Vote], methods: Sequence[str]) -> list[Share]:
    """Each method's share of the votes that chose between exactly these methods, the most chosen first."""
    counted = [vote.chosen for vote in votes if sorted(vote.shown.split("|")) == sorted(methods)]
    found = []
    for method in methods:
        chosen = counted.count(method)
        found.append(Share(method, chosen, chosen / len(counted) if counted else 0.0, *wilson(chosen, len(counted))))
    return sorted(found, key=lambda one: -one.votes)


def wilson(chosen: int, count: int) -> tuple[float, float]:
    """Wilson's score interval (1927) at 95 % of a share `chosen` / `count`; 0 to 1 where nothing was counted."""
    if count == 0:
        return 0.0, 1.0
    share, extra = chosen / count, _Z * _Z / count
    middle = (share + extra / 2) / (1 + extra)
    half = _Z / (1 + extra) * math.sqrt(share * (1 - share) / count + extra / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)
