"""File systems that cannot sync a folder or have no locks: gone on with where that is safe, else said."""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from pathlib import Path

import pytest
from support.promised import promised_files

import bokehsynth as bs
from bokehsynth.errors import DataError, LockedError, StorageError, UsageError
from bokehsynth.files import atomic_write
from bokehsynth.generation import records, shard_lock
from bokehsynth.generation.extend import extend
from bokehsynth.generation.generate import finalize
from bokehsynth.generation.verify import verify


@pytest.fixture
def folder_sync(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Errors that fsync of a folder answers with, one after the other."""
    errors: list[int] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode) and errors:
            raise OSError(errors[0], os.strerror(errors.pop(0)))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return errors


def test_a_folder_that_cannot_be_synced_is_as_good_as_it_gets(folder_sync: list[int], tmp_path: Path) -> None:
    for number in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF):
        folder_sync.append(number)
        atomic_write(tmp_path / "a", str(number))
        assert (tmp_path / "a").read_text() == str(number)
        assert not folder_sync


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_folder_whose_disk_fails_is_an_error(number: int, folder_sync: list[int], tmp_path: Path) -> None:
    folder_sync.append(number)
    with pytest.raises(StorageError, match="a: "):
        atomic_write(tmp_path / "a", "x")


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The error that every lock answers with."""
    number = [errno.ENOLCK]

    def refuse(*arguments: object) -> bytes:
        raise OSError(number[0], os.strerror(number[0]))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    return number


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL])
def test_a_file_system_without_locks_is_said_with_the_way_out(number: int, no_locks: list[int], tmp_path: Path) -> None:
    no_locks[0] = number
    path = tmp_path / ".bokehsynth/run.lock"
    for lock in (shard_lock.shard_lock(path, {"train": (0, 3)}), shard_lock.set_up_lock(path)):
        with pytest.raises(StorageError, match=r"run\.lock: the file system has no file locks .*--no-lock"), lock:
            pass


def test_a_refused_permission_is_no_other_run(no_locks: list[int], tmp_path: Path) -> None:
    """POSIX has EACCES for a lock that is held as well; the file system is asked who holds it."""
    no_locks[0] = errno.EACCES
    lock = shard_lock.shard_lock(tmp_path / ".bokehsynth/run.lock", {"train": (0, 3)})
    with pytest.raises(StorageError, match=r"refuses to lock it .Permission denied."), lock:
        pass


@pytest.mark.skipif(not hasattr(fcntl, "F_OFD_SETLK"), reason="only Linux tells who holds a lock of an open file")
def test_a_lock_that_is_held_is_another_run_whatever_the_errno(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / ".bokehsynth/run.lock", fcntl.fcntl

    def as_elsewhere(file: object, command: int, argument: bytes) -> bytes:
        try:
            return real(file, command, argument)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    monkeypatch.setattr(fcntl, "fcntl", as_elsewhere)
    with shard_lock.shard_lock(path, {"train": (0, 3)}):
        again = shard_lock.shard_lock(path, {"train": (3, 5)})
        with pytest.raises(LockedError, match=f"process {os.getpid()}"), again:
            pass


def test_a_set_can_be_made_and_mended_without_locks(no_locks: list[int], tiny_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    with pytest.raises(StorageError, match="--no-lock"):
        bs.generate(tiny_recipe, out, workers=1)
    assert bs.generate(tiny_recipe, out, workers=1, shards="0/4", lock=False).made
    (marker, *_) = out.glob(".bokehsynth/*/*.done.json")
    marker.unlink()
    with pytest.raises(StorageError, match="--no-lock"):
        verify(out, fix=True)
    verify(out, fix=True, lock=False)


def test_a_record_of_machines_that_cannot_be_read_is_not_left_out(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the fault sweep: dataset.json said that no machine had made the set, with exit code 0."""
    out = tmp_path / "set"
    shutil.copytree(tiny_dataset, out)
    before = promised_files(out)
    real = records.read_json

    def refuse(path: Path, *bounds: int) -> object:
        if path.name == "machine.json":
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path, *bounds)

    monkeypatch.setattr(records, "read_json", refuse)
    with pytest.raises(DataError, match=r"machine\.json: cannot be read .*Stale file handle"):
        finalize(out)
    assert promised_files(out) == before


@pytest.mark.parametrize("owner", ['"pid": 1.5, "ranges": {}', '"pid": 1, "ranges": {"train": ["a", "b"]}'])
def test_lines_of_a_strangers_lock_are_no_owners(owner: str, tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    path.write_text(f'{{"host": "{os.uname().nodename}", {owner}}}\n')
    with path.open("rb") as file:
        assert shard_lock._lines(file) == []


@pytest.mark.parametrize("folder", ["train", ".bokehsynth", ".bokehsynth/train", ".bokehsynth/tmp", "logs"])
def test_nothing_is_written_through_a_link_out_of_a_set(
    folder: str, tiny_dataset: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    """The set may be a stranger's and lead to a set of one's own, whose shards or markers would be replaced."""
    own, strange = tmp_path / "own", tmp_path / "strange"
    for out in (own, strange):
        shutil.copytree(tiny_dataset, out)
    (own / folder).mkdir(exist_ok=True)
    if (strange / folder).exists():
        shutil.rmtree(strange / folder)
    (strange / folder).symlink_to(own / folder)
    if folder != "train":  # or it would be damage of one's own set
        (strange / "train" / "train-000001.tar").write_bytes(b"damaged")
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    for command in (
        lambda: bs.generate(tiny_recipe, strange, workers=1),
        lambda: bs.generate(tiny_recipe, strange, workers=1, lock=False),
        lambda: extend(strange, 40),
        lambda: finalize(strange),
        lambda: verify(strange, fix=True),
    ):
        with contextlib.suppress(UsageError, DataError):
            command()
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before
    with pytest.raises(UsageError, match="is a link to"):
        extend(strange, 40)


def test_a_link_within_a_set_and_a_set_behind_a_link_are_written(
    tiny_dataset: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "disk" / "set"
    shutil.copytree(tiny_dataset, out)
    (out / "train").rename(out / "shards")
    (out / "train").symlink_to("shards")
    (tmp_path / "set").symlink_to(out)
    next((out / ".bokehsynth" / "train").glob("*.done.json")).unlink()
    assert bs.generate(tiny_recipe, tmp_path / "set", workers=1).made
    assert promised_files(out) == promised_files(tiny_dataset)
