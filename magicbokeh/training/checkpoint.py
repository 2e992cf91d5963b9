"""Checkpoints: folders that are whole or not there, with all that a run needs to go on as if it had never stopped.

    RUN/checkpoints/last/        the newest; a real folder
                    best/        the best score of the current stage
                    step-000120/ the last few
        pipeline/                what `magicbokeh infer --model` opens
        optimizer.safetensors    AdamW's moments, by phase and parameter
        state.json               where the run stands, and the digest of every other file

A checkpoint is written under a hidden name, flushed to the disk, and renamed. `last` and `best` change places with
their successors in one system call where the system has it (Linux), so that no moment lacks them.
"""

import ctypes
import ctypes.util
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bokehsynth import DataError, StorageError

FORMAT = 1
STATE = "state.json"
_AT_CWD, _EXCHANGE = -100, 2


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, run: Path, keep: int) -> None:
        self.folder, self.keep = run / "checkpoints", keep

    def save(self, step: int, state: dict[str, Any], write: Callable[[Path], None], best: bool) -> None:
        """Commit a checkpoint: `write` fills a folder, `state` joins it; then `step-N`, `last` and perhaps `best`."""
        with _storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.sweep()
            tmp = self.folder / f".tmp-{step:06d}"
            tmp.mkdir()
            write(tmp)
            record = {"format": FORMAT, **state, "files": digests(tmp)}
            (tmp / STATE).write_text(json.dumps(record, sort_keys=True, indent=1) + "\n")
            _flush(tmp)
            target = self.folder / f"step-{step:06d}"
            if target.is_dir():  # the same step again, after the end of a stage or a resume
                exchange(tmp, target)
            else:
                tmp.rename(target)
            _flush_folder(self.folder)
            for name in ("last", "best") if best else ("last",):
                self._install(target, name)
            for old in self.steps()[: -self.keep]:
                old.rename(self.folder / f".tmp-{old.name}")  # whoever dies while removing leaves no half checkpoint
            self.sweep()

    def settle(self, newest: Path) -> None:
        """Make `newest` the last, which a run that died between the two had no time for."""
        if newest.name != "last":
            with _storage_errors(self.folder):
                self.sweep()
                self._install(newest, "last")

    def _install(self, source: Path, name: str) -> None:
        """Put a copy of `source` in the place of `name`; its files are shared with it where the disk can do that."""
        new, place = self.folder / f".tmp-{name}", self.folder / name
        shutil.copytree(source, new, copy_function=_link)
        _flush(new, files=False)
        if place.is_dir():
            exchange(new, place)
        else:
            new.rename(place)
        _flush_folder(self.folder)

    def steps(self) -> list[Path]:
        """The numbered checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*"), key=lambda path: int(path.name[5:]))

    def sweep(self) -> None:
        """Remove what interrupted writers left."""
        for left in self.folder.glob(".tmp-*"):
            shutil.rmtree(left)

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The checkpoint that stands furthest, and its state; None where there is none."""
        found = [(path, read_state(path)) for path in [self.folder / "last", *self.steps()] if path.is_dir()]
        if not found:
            return None
        path, state = max(found, key=lambda item: int(item[1]["global_step"]))
        check_files(path, state)
        return path, state


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The state of a checkpoint; DataError where it is damaged."""
    path = checkpoint / STATE
    try:
        state: dict[str, Any] = json.loads(path.read_text())
        if state["format"] != FORMAT:
            raise DataError(f"{path}: format {state['format']}; this magicbokeh reads {FORMAT}")
        int(state["global_step"]), dict(state["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {_remedy(checkpoint)}") from None
    return state


def check_files(checkpoint: Path, state: dict[str, Any]) -> None:
    """DataError unless every file is what it was when it was written."""
    found = digests(checkpoint)
    wrong = [name for name, digest in state["files"].items() if found.get(name) != digest]
    if wrong:
        raise DataError(f"{checkpoint}: damaged or missing: {', '.join(wrong[:3])}; {_remedy(checkpoint)}")


def _remedy(checkpoint: Path) -> str:
    return f"remove {checkpoint.name}/ and run the same line again: it goes on from the newest that is left"


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file below `folder` but its state, by relative name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != STATE:
            digest = hashlib.sha256()
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            found[name] = digest.hexdigest()
    return found


# --- the file system


def exchange(one: Path, other: Path) -> None:
    """Let two folders change places: in one step on Linux, else in three (a crash between leaves a `.tmp-` name)."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
        rename = getattr(libc, "renameat2", None)
        if rename is not None and rename(_AT_CWD, os.fsencode(one), _AT_CWD, os.fsencode(other), _EXCHANGE) == 0:
            return
    aside = one.with_name(f"{one.name}-old")
    other.rename(aside)
    one.rename(other)
    aside.rename(one)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
        _flush_file(Path(target))


def _flush(folder: Path, files: bool = True) -> None:
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            _flush_folder(path)
        elif files:
            _flush_file(path)


def _flush_file(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise StorageError(f"{path}: {why} (free some room or check permissions, then run it again)") from error
