"""The index of a folder: what was measured of its files, so that a second look is fast, and the side each was given.

It is `.bokehsynth/assets.json` inside the folder, and moves, is copied and shared with it; where that cannot be
written, it is kept in the user's cache under the folder's path. Measurements are valid while size, mtime and inode of
the files stay. Sides are kept by content: an asset that was once train or val (under a `val_fraction`) stays that,
whatever is added later. Delete the file to begin anew.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bokehsynth.assets.decode.decoder import Limits
from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.assets.index.probe import PROBE_VERSION, Candidate
from bokehsynth.assets.index.probe_pool import Answer, probe_from
from bokehsynth.errors import StorageError
from bokehsynth.files import atomic_write, canonical_json, sha256_bytes

NAME = Path(".bokehsynth", "assets.json")
FORMAT = 1
_PASSING = {"missing", "unreadable", "too_slow"}
"""Reasons that may be gone next time although the file is the same."""


@dataclass
class IndexCache:
    """The index of one folder."""

    folder: Path
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Measurements by kind and names."""
    sides: dict[str, dict[str, str]] = field(default_factory=dict)
    """Side by `kind val_fraction`, then by sha256."""
    changed: bool = False

    @classmethod
    def open(cls, folder: Path) -> "IndexCache":
        """The folder's index; an empty one where there is none that can be read."""
        for place in (folder / NAME, _cache_place(folder)):
            try:
                record = json.loads(place.read_text(encoding="ascii"))
                if record["format"] == FORMAT:
                    return cls(folder, dict(record["files"]), dict(record["sides"]))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # an index is a convenience: one that is damaged is made anew
        return cls(folder)

    def save(self) -> Path | None:
        """Write the index where it belongs, if anything changed; the place, or None where nothing can be written."""
        for place in (self.folder / NAME, _cache_place(self.folder)):
            if not self.changed and place.is_file():
                return place
            self._take_in_others()
            text = canonical_json({"format": FORMAT, "files": self.files, "sides": self.sides}) + "\n"
            if place.parent.parent == self.folder and not _writable(self.folder):
                continue
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                atomic_write(place, text)
            except (OSError, StorageError):
                continue
            self.changed = False
            return place
        return None

    def _take_in_others(self) -> None:
        """What another run, or another source in this folder, has written meanwhile."""
        there = IndexCache.open(self.folder)
        self.files = there.files | self.files
        for key, sides in there.sides.items():
            self.sides[key] = sides | self.sides.get(key, {})

    def get(self, candidate: Candidate, limits: Limits) -> Answer | None:
        """What is known of a candidate, if its files are what they were."""
        known = self.files.get(self._key(candidate))
        if known is None or known["stamp"] != fingerprint(candidate, limits):
            return None
        try:
            if "refused" in known:
                return RejectedPicture(known["message"], known["refused"])
            return probe_from(known["probe"])
        except (KeyError, TypeError, ValueError):
            return None

    def put(self, candidate: Candidate, stamp: list[Any] | None, answer: Answer) -> None:
        """Keep what was found of files whose `stamp` was taken before they were opened."""
        if stamp is None or (isinstance(answer, RejectedPicture) and answer.reason in _PASSING):
            return
        if isinstance(answer, RejectedPicture):
            found: dict[str, Any] = {"refused": answer.reason, "message": str(answer).replace(f"{self.folder}/", "")}
        else:
            found = {"probe": asdict(answer)}
        self.files[self._key(candidate)] = {"stamp": stamp, **found}
        self.changed = True

    def split_of(self, kind: str, val_fraction: float, sha256: str) -> str | None:
        """The side an asset was given before."""
        return self.sides.get(f"{kind} {val_fraction!r}", {}).get(sha256)

    def keep_split(self, kind: str, val_fraction: float, sha256: str, side: str) -> None:
        """Remember the side of an asset."""
        kept = self.sides.setdefault(f"{kind} {val_fraction!r}", {})
        if kept.get(sha256) != side:
            kept[sha256] = side
            self.changed = True

    def _key(self, candidate: Candidate) -> str:
        return f"{candidate.kind} {json.dumps([relative_name(path, self.folder) for path in candidate.files])}"


def relative_name(path: Path, folder: Path) -> str:
    """The name of a file below a folder, with forward slashes, whatever bytes it holds."""
    return Path(os.path.relpath(path, folder)).as_posix()


def fingerprint(candidate: Candidate, limits: Limits) -> list[Any] | None:
    """What has to stay for a measurement to stay valid; None for files that are not there."""
    parts: list[Any] = [PROBE_VERSION, limits.max_pixels, limits.min_side]
    for path in candidate.files:
        try:
            status = os.stat(path)
        except OSError:
            return None
        parts += [status.st_size, status.st_mtime_ns, status.st_ino]
    return parts


def _writable(folder: Path) -> bool:
    """Also for root, whom the system lets write where the owner has said no."""
    return bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK)


def _cache_place(folder: Path) -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = sha256_bytes(os.path.realpath(folder).encode("utf-8", "surrogateescape").hex())[:24]
    return Path(home, "bokehsynth", "assets", f"{name}.json")
