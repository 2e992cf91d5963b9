"""Atomic checkpoints, with everything a run needs to resume as if it had not been interrupted.

    RUN/checkpoints/last/        the newest; a real folder
                    best/        the best score of the current stage
                    step-000120/ the last few
        pipeline/                what `magicbokeh infer --model` opens
        optimizer.safetensors    AdamW's moments, by phase and parameter
        state.json               the run's progress, and the digest of every other file

A checkpoint is written under a hidden name, flushed to the disk, and renamed. `last` and `best` are exchanged with
their successors in one system call where the system has it (Linux), so that they are never missing.
"""

import contextlib
import ctypes
import ctypes.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from magicbokeh.model.checkpoint_files import FORMAT, STATE, SavedCheckpoint, check_files, digests, read_state
from magicbokeh.model.safetensors_io import storage_errors

_AT_CWD, _EXCHANGE = -100, 2


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, run: Path, keep: int) -> None:
        self.folder, self.keep = run / "checkpoints", keep

    def save(self, step: int, record: dict[str, Any], write: Callable[[Path], None], best: bool) -> None:
        """Commit a checkpoint: `write` fills a folder, `record` is added; then `step-N`, `last` and perhaps `best`."""
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.sweep()
            try:
                self._commit(step, record, write, best)
            except Exception:  # a full disk: what was written so far only takes room
                with contextlib.suppress(OSError):
                    self.sweep()
                raise

    def _commit(self, step: int, record: dict[str, Any], write: Callable[[Path], None], best: bool) -> None:
        tmp = self.folder / f".tmp-{step:06d}"
        tmp.mkdir()
        write(tmp)
        content = {"format": FORMAT, **record, "is_best": best, "files": digests(tmp)}
        (tmp / STATE).write_text(json.dumps(content, sort_keys=True, indent=1) + "\n")
        _flush(tmp)
        target = self.folder / f"step-{step:06d}"
        if target.is_dir():  # the same step again, after the end of a stage or a resume
            exchange(tmp, target)
        else:
            tmp.rename(target)
        _flush_folder(self.folder)
        for name in ("last", "best") if best else ("last",):
            self._install(target, name)
        self._remove_old()

    def _remove_old(self) -> None:
        for old in self.steps()[: -self.keep]:
            old.rename(self.folder / f".tmp-{old.name}")  # a crash during removal leaves no partial checkpoint
        self.sweep()

    def settle(self, newest: SavedCheckpoint) -> None:
        """Do what a crash after writing `newest` left undone: its names `last` and perhaps `best`, and cleaning up."""
        with storage_errors(self.folder):
            self.sweep()
            for name in self._uninstalled(newest):
                self._install(newest.path, name)
            self._remove_old()

    def is_settled(self, newest: SavedCheckpoint) -> bool:
        """Whether nothing is left undone after writing `newest`."""
        left = [*self.steps()[: -self.keep], *self.folder.glob(".tmp-*")]
        return not left and not self._uninstalled(newest)

    def _uninstalled(self, newest: SavedCheckpoint) -> list[str]:
        """The names under which `newest` should stand and does not."""
        state = (newest.path / STATE).read_bytes()
        places = {name: self.folder / name / STATE for name in ("last", "best")}
        wanted = ["last", "best"] if newest.record.get("is_best") else ["last"]
        return [name for name in wanted if not places[name].is_file() or places[name].read_bytes() != state]

    def _install(self, source: Path, name: str) -> None:
        """Replace checkpoint `name` by a copy of `source`, hard-linked where the file system can do that."""
        new, target = self.folder / f".tmp-{name}", self.folder / name
        shutil.copytree(source, new, copy_function=_link)
        _flush(new, files=False)
        if target.is_dir():
            exchange(new, target)
        else:
            new.rename(target)
        _flush_folder(self.folder)

    def steps(self) -> list[Path]:
        """The numbered checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*"), key=lambda path: int(path.name[5:]))

    def sweep(self) -> None:
        """Remove the temporary folders of interrupted writers."""
        for folder in self.folder.glob(".tmp-*"):
            shutil.rmtree(folder)

    def newest(self) -> SavedCheckpoint | None:
        """The checkpoint of the highest step, with its digests verified; None where there is none."""
        paths = [path for path in [self.folder / "last", *self.steps()] if path.is_dir()]
        found = [SavedCheckpoint(path, read_state(path)) for path in paths]
        if not found:
            return None
        newest = max(found, key=lambda one: int(one.record["global_step"]))
        check_files(newest)
        return newest


# --- the file system


def exchange(one: Path, other: Path) -> None:
    """Exchange two folders: atomically on Linux, else in three renames (a crash between leaves a `.tmp-` name)."""
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
