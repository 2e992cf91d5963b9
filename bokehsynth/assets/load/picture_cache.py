"""Pictures as scenes need them, kept on disk: a photograph of 12 megapixels takes half a second to decode and reduce,
what is left of it milliseconds to read.

`~/.cache/bokehsynth/pictures`, or below XDG_CACHE_HOME, shared by all processes and commands of a user. Only a cache:
what cannot be read, is cut off or damaged is made again, and where nothing can be written nothing is kept. An entry is
named by all that its numbers follow from (`key`), so that a sample is the same with and without it. Files appear whole
by a rename and hold numbers alone. SETTING turns it off or bounds it; within the bound the least recently used go.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import threading
import zlib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import PIL.features

from bokehsynth.errors import UsageError
from bokehsynth.files import TMP_MARK, canonical_json, sha256_bytes, user_cache
from bokehsynth.imaging.dispatch import library_dispatch
from bokehsynth.imaging.pictures import Cutout, Landscape

SETTING = "BOKEHSYNTH_PICTURE_CACHE"
"""Environment variable, which workers inherit: `off`, or the most that is kept, such as `5GB`."""
USUAL_BYTES = 20_000_000_000
_SHARE_OF_DISK = 0.1
"""The cache takes at most this share of its disk, and leaves as much of it free: data sets come first."""

FORMAT = 1
"""Of the files."""
_GROUPS = 16
"""Folders by the first digit of the name, each bounded to its share, so that a write looks at few files."""
_HEADER_BYTES = 4096
_STALE_SECONDS = 3600.0
"""A temporary file as old as this belongs to a process that was killed."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}

Picture = TypeVar("Picture", Cutout, Landscape)


def size_setting(name: str, usual: int) -> int:
    """Bytes that an environment variable asks for, `off` being none; UsageError unless it is a size such as `5GB`."""
    text = os.environ.get(name, "").strip()
    if not text:
        return usual
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?) ?([kmgt]?)b?", text.lower())
    if text.lower() == "off":
        return 0
    if match is None:
        raise UsageError(f"{name} is {text!r:.60}: must be `off`, or bytes such as 500MB or 20GB")
    return int(float(match[1]) * _UNITS[match[2]])


class PictureCache(NamedTuple):
    """A folder of pictures that holds at most so many bytes."""

    folder: Path
    most: int

    def get(
        self, key: dict[str, Any], kind: type[Picture], make: Callable[[], Picture],
        worth: Callable[[Picture], bool] = lambda picture: True,
    ) -> Picture:  # fmt: skip
        """The picture of a key, made where it is missing, and kept if it is worth that."""
        whole = {"format": FORMAT, "made_by": made_by(), "kind": kind.__name__, **key}
        name = sha256_bytes(canonical_json(whole))
        path = self.folder / name[0] / f"{name[1:40]}.picture"
        found = _read(path, whole, kind)
        if found is None:
            found = make()
            if worth(found):
                self._keep(path, whole, found)
        return found

    def bound(self, disk: int) -> int:
        """Bytes that it holds at most on a disk of so many."""
        return min(self.most, int(_SHARE_OF_DISK * disk))

    def room(self) -> int:
        """Bytes that it holds at most where it lies: none where its disk is nearly full or nothing can be looked at."""
        try:
            place = next(path for path in (self.folder, *self.folder.parents) if path.exists())
            disk = shutil.disk_usage(place)
        except OSError:
            return 0
        return 0 if disk.free < _SHARE_OF_DISK * disk.total else self.bound(disk.total)

    def _keep(self, path: Path, key: dict[str, Any], picture: Cutout | Landscape) -> None:
        """Write an entry, if there is room for it."""
        arrays = _arrays(picture)
        size = sum(values.nbytes for values in arrays.values())
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            disk = shutil.disk_usage(path.parent)
            most = self.bound(disk.total) // _GROUPS
            if size > most // 2:
                return
            if disk.free - size < _SHARE_OF_DISK * disk.total:
                _evict(path.parent, 0)
                return
            _write(path, key, arrays)
            _evict(path.parent, most)
        except OSError:  # a full or closed disk: nothing is kept
            return


def picture_cache() -> PictureCache | None:
    """The user's cache as the environment has it now; None where it is off or the user has no home."""
    folder, most = user_cache("bokehsynth", "pictures"), size_setting(SETTING, USUAL_BYTES)
    return None if folder is None or most == 0 else PictureCache(folder, most)


@functools.cache
def made_by() -> str:
    """Digest of what turns bytes of a file, or a drawing, into numbers here: our source, libraries, code for this CPU.

    The source is part of it rather than a revision, which a change may forget to raise.
    """
    import numba
    from llvmlite import binding

    package = Path(__file__).parents[2]
    source = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] in {"assets", "procedural", "imaging", "color.py", "rng.py"}:
            source.update(path.read_bytes())
    names = ("bokehsynth", "numpy", "numba", "llvmlite", "pillow", "pymatting", "openexr")
    versions = [cv2.__version__, *(importlib.metadata.version(name) for name in names)]
    codecs = [PIL.features.version(name) for name in ("jpg", "libjpeg_turbo", "webp", "zlib", "libtiff", "littlecms2")]
    flags = ",".join(sorted(name for name, on in binding.get_host_cpu_features().items() if on))
    built: dict[str, Any] = np.show_config(mode="dicts") or {}  # type: ignore[assignment]
    builds = [
        cv2.getBuildInformation(), built.get("Build Dependencies", {}).get("blas", {}),
        os.environ.get("OPENBLAS_CORETYPE"), platform.libc_ver(), numba.config.DISABLE_JIT, str(numba.config.OPT),  # type: ignore[attr-defined]
    ]  # fmt: skip
    facts = [source.hexdigest(), versions, codecs, builds, platform.machine(), flags, library_dispatch(flags)]
    return sha256_bytes(canonical_json(facts))


def _arrays(picture: Cutout | Landscape) -> dict[str, Any]:
    values = {field.name: getattr(picture, field.name) for field in fields(picture)}
    return {name: np.ascontiguousarray(array, "<f4") for name, array in values.items() if array is not None}


def _write(path: Path, key: dict[str, Any], arrays: dict[str, Any]) -> None:
    """A line of JSON, then the numbers. Nothing is synced: a checksum tells what a crash has left."""
    checksum = 0
    for values in arrays.values():
        checksum = zlib.crc32(values, checksum)
    shapes = {name: values.shape for name, values in arrays.items()}
    header = canonical_json({"key": key, "shapes": shapes, "crc32": checksum}).encode() + b"\n"
    tmp = path.with_name(f".{path.name}{TMP_MARK}{os.getpid()}-{threading.get_ident()}")
    try:
        with open(tmp, "xb") as file:
            file.write(header)
            for values in arrays.values():
                file.write(values)
        os.replace(tmp, path)
    finally:
        with contextlib.suppress(OSError):
            tmp.unlink()


def _read(path: Path, key: dict[str, Any], kind: type[Picture]) -> Picture | None:
    """The picture in a file, or None unless the file is whole and is the key's."""
    try:
        with open(path, "rb") as file:
            record = json.loads(file.readline(_HEADER_BYTES))
            shapes = {field.name: record["shapes"].get(field.name) for field in fields(kind)}
            sizes = {name: 4 * int(np.prod(shape, dtype=object)) for name, shape in shapes.items() if shape is not None}
            left = os.fstat(file.fileno()).st_size - file.tell()
            if record["key"] != key or left != sum(sizes.values()) or min(sizes.values()) < 0:
                return None
            arrays: dict[str, Any] = dict.fromkeys(shapes)
            checksum = 0
            for name, size in sizes.items():
                arrays[name] = np.empty(shapes[name], np.dtype("<f4"))
                if file.readinto(arrays[name]) != size:
                    return None
                checksum = zlib.crc32(arrays[name], checksum)
        if checksum != record["crc32"]:
            return None
        with contextlib.suppress(OSError):  # a cache that can only be read is read
            os.utime(path)  # the least recently used go first
        return kind(**arrays)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _evict(folder: Path, most: int) -> None:
    """Remove the least recently used files of a folder beyond `most` bytes, and temporary ones of killed processes."""
    entries = []
    with os.scandir(folder) as listed:
        for entry in listed:
            if entry.name.endswith(".picture") or TMP_MARK in entry.name:  # other files are not the cache's
                with contextlib.suppress(OSError):  # another process removed it
                    status = entry.stat(follow_symlinks=False)
                    entries.append((status.st_mtime, status.st_size, entry.name))
    entries.sort()
    held = sum(size for _, size, _ in entries)
    for used, size, name in entries:
        stale = TMP_MARK in name and entries[-1][0] - used > _STALE_SECONDS  # the last one was written just now
        if stale or (held > most and TMP_MARK not in name):
            with contextlib.suppress(OSError):  # one that cannot be removed keeps no other
                (folder / name).unlink(missing_ok=True)
                held -= size
