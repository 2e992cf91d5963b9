"""The index of a folder: cached measurements of its files, and the split that each asset was assigned.

It is `.bokehsynth/assets.json` inside the folder, and moves, is copied and shared with it; where that cannot be
written, or is a link, it is kept in the user's cache under the folder's path. Measurements are valid while size, mtime
and inode of the files stay. Splits are kept by content: an asset that was once train or val (under a `val_fraction`)
stays that when others are added. Deleting the file starts over.
"""

import json
import os
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import PIL

from bokehsynth.assets.catalogue import Candidate
from bokehsynth.assets.decode.decoder import Limits
from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.assets.index.probe import PROBE_VERSION, Probe
from bokehsynth.assets.index.probe_pool import Answer, answer_from
from bokehsynth.errors import DataError, StorageError
from bokehsynth.files import atomic_write, canonical_json, sha256_bytes, user_cache
from bokehsynth.untrusted_files import read_json

NAME = Path(".bokehsynth", "assets.json")
FORMAT = 1
_BYTES, _BYTES_OF_PICTURE = 64 << 20, 8 << 10
"""Bytes of an index that are read: so many, and so many for each picture of the folder. An entry has some 1,500."""
_TRANSIENT = {"missing", "unreadable", "too_slow"}
"""Reasons that may not apply next time although the file is the same."""


@dataclass
class IndexCache:
    """The index of one folder."""

    folder: Path
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Fingerprint and measurements by kind and names."""
    sides: dict[str, dict[str, str]] = field(default_factory=dict)
    """Split by `kind val_fraction`, then by sha256."""
    pictures: int = 0
    """About how many pictures it is of: bounds what is read."""
    changed: bool = False

    @classmethod
    def open(cls, folder: Path, pictures: int = 0) -> "IndexCache":
        """The folder's index, of about so many pictures; an empty one where there is none that can be read."""
        for path in _places(folder):
            try:
                record = read_json(path, _BYTES + _BYTES_OF_PICTURE * pictures, pictures)
                if record["format"] == FORMAT:
                    sides = {key: _only_splits(kept) for key, kept in record["sides"].items()}
                    return cls(folder, dict(record["files"]), sides, pictures)
            except (OSError, DataError, ValueError, KeyError, TypeError, AttributeError):
                continue  # only a cache: a damaged one is rebuilt
        return cls(folder, pictures=pictures)

    def save(self) -> Path | None:
        """Write the index if anything changed; its path, or None where nothing can be written."""
        for path in _places(self.folder):
            if not self.changed and path.is_file():
                return path
            self._merge_stored()
            text = canonical_json({"format": FORMAT, "files": self.files, "sides": self.sides}) + "\n"
            if path.parent.parent == self.folder and not _writable(self.folder):
                continue
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                atomic_write(path, text)
            except (OSError, StorageError):
                continue
            self.changed = False
            return path
        return None

    def _merge_stored(self) -> None:
        """Add what another run, or another source in this folder, has written meanwhile."""
        stored = IndexCache.open(self.folder, self.pictures)
        self.files = stored.files | self.files
        for key, sides in stored.sides.items():
            self.sides[key] = sides | self.sides.get(key, {})

    def get(self, candidate: Candidate, limits: Limits) -> Answer | None:
        """The cached answer for a candidate, if the fingerprint of its files is unchanged."""
        known = self.files.get(self._key(candidate))
        if not isinstance(known, dict) or known.get("stamp") != fingerprint(candidate, limits):
            return None
        if "refused" in known and known.get("decoders") != _decoders():
            return None  # another version may read the file
        try:
            answer = answer_from(known.get("probe", known))
            if isinstance(answer, Probe) and (not answer.is_comparable or (limits.judged and answer.quality is None)):
                return None
            return answer
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def put(self, candidate: Candidate, before: list[Any] | None, answer: Answer) -> None:
        """Keep an answer that follows from bytes of files; `before` is their fingerprint before they were opened."""
        if before is None:
            return
        if isinstance(answer, RejectedPicture) and (answer.reason in _TRANSIENT or not answer.lasting):
            return
        if isinstance(answer, RejectedPicture):
            message = str(answer).replace(f"{self.folder}/", "")
            found: dict[str, Any] = {"refused": answer.reason, "message": message, "decoders": _decoders()}
        else:
            found = {"probe": answer.record}
        self.files[self._key(candidate)] = {"stamp": before, **found}
        self.changed = True

    def split_of(self, kind: str, val_fraction: float, sha256: str) -> str | None:
        """The split an asset was assigned before."""
        return self.sides.get(f"{kind} {val_fraction!r}", {}).get(sha256)

    def keep_split(self, kind: str, val_fraction: float, sha256: str, split: str) -> None:
        """Keep the split of an asset."""
        kept = self.sides.setdefault(f"{kind} {val_fraction!r}", {})
        if kept.get(sha256) != split:
            kept[sha256] = split
            self.changed = True

    def _key(self, candidate: Candidate) -> str:
        return f"{candidate.kind} {json.dumps([relative_name(path, self.folder) for path in candidate.files])}"


def relative_name(path: Path, folder: Path) -> str:
    """The name of a file below a folder, with forward slashes, whatever bytes it holds."""
    return Path(os.path.relpath(path, folder)).as_posix()


def fingerprint(candidate: Candidate, limits: Limits) -> list[Any] | None:
    """What a measurement depends on: probe version, limits, size, mtime and inode of each file; None if one is gone."""
    parts: list[Any] = [PROBE_VERSION, limits.max_pixels, limits.min_side]
    for path in candidate.files:
        try:
            status = os.stat(path)
        except (OSError, ValueError):  # or it has the name of no file
            return None
        parts += [status.st_size, status.st_mtime_ns, status.st_ino]
    return parts


def _places(folder: Path) -> list[Path]:
    """Where the index may be. The folder may be a stranger's: nothing is read or written through a link in it."""
    own = folder / NAME
    linked = own.is_symlink() or own.parent.is_symlink()
    elsewhere = _user_cache_path(folder)
    return ([] if linked else [own]) + ([] if elsewhere is None else [elsewhere])


def _only_splits(kept: dict[str, str]) -> dict[str, str]:
    return {sha256: split for sha256, split in kept.items() if split in ("train", "val")}


@cache
def _decoders() -> str:
    """The libraries that decode pictures, with their versions."""
    return f"Pillow {PIL.__version__}, OpenCV {cv2.__version__}, OpenEXR {version('OpenEXR')}"


def _writable(folder: Path) -> bool:
    """Whether the folder's own mode allows writing; root could write anyway."""
    return bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK)


def _user_cache_path(folder: Path) -> Path | None:
    name = sha256_bytes(os.path.realpath(folder).encode("utf-8", "surrogateescape").hex())[:24]
    return user_cache("bokehsynth", "assets", f"{name}.json")
