"""Exports a finished data set, shard by shard. Nothing that is there is written over; an export can go on."""

import contextlib
import fcntl
import importlib.util
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, Literal

from bokehsynth.errors import ChangedError, DataError, StorageError, UsageError
from bokehsynth.files import (
    TMP_MARK,
    canonical_json,
    data_path,
    local_path,
    make_directory,
    sha256_bytes,
    storage_errors,
)
from bokehsynth.generation.export.create import create
from bokehsynth.generation.export.folders import export_shard_to_folders
from bokehsynth.generation.export.mds import export_mds_index, export_shard_to_mds
from bokehsynth.shards import Layout, ShardDataset, ShardPlan, read_dataset
from bokehsynth.stores import StoredPath

Form = Literal["folder", "parquet", "mds"]
RECORD = "export.json"
"""Written first: what the folder is an export of."""
DESCRIPTION = "dataset.json"
"""Written next: the description of the set."""
FOLDERS = ("train", "val", "data")
"""All that an export makes beside these two."""
VERSION = 1

Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Shows how far a loop over shards is: what it goes over, its name, and how many there are."""


def export_dataset(dataset: str | StoredPath, out: str | Path, form: Form, progress: Progress | None = None) -> int:
    """Export every split of a finished data set to the folder `out`, and return the number of samples.

    Each shard is compared with its sha256 before its samples are taken. The same call goes on after an interruption: a
    file that is there has to hold what belongs there. Raises ChangedError for a folder or file that is something else,
    DataError for damage in the data set, UsageError for `parquet` without pyarrow and for an `out` in the data set.
    """
    layout, target = Layout(data_path(dataset)), local_path(out)
    if form == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UsageError("--to parquet needs pyarrow: pip install 'bokehsynth[parquet]'")
    if isinstance(layout.root, Path) and layout.root.resolve() in target.resolve().parents:
        raise UsageError(f"{target}: lies in the data set, which an export leaves as it is; choose another --out")
    record = read_dataset(layout)
    splits = {split: ShardDataset(layout, split, record=record) for split in sorted(record["splits"])}
    if not splits:
        raise DataError(f"{layout.dataset}: has no split")
    _claim(target, form, record)
    write = _writer(form, target)
    total = 0
    with storage_errors(target):
        claim = (target / RECORD).open("rb")
    with claim:
        with contextlib.suppress(OSError):  # without locks in the file system nothing is swept either
            fcntl.flock(claim, fcntl.LOCK_SH)
        for split, data in splits.items():
            shards = progress(data.plans, split, len(data.plans)) if progress else data.plans
            for plan in shards:
                write(data, plan)
                total += plan.count
            if form == "mds":
                export_mds_index(data, target)
        _sweep(target, claim)
    return total


def _sweep(target: Path, claim: BinaryIO) -> None:
    """Remove what exports left that were killed, unless another one runs: it will do so at its end."""
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    with storage_errors(target):
        folders = [path for name in FOLDERS if (path := target / name).is_dir() and not path.is_symlink()]
        leftovers = [path for folder in folders for path in folder.rglob(f".*{TMP_MARK}*")]
        for path in [*leftovers, *filter(_is_leftover, target.iterdir())]:
            path.unlink(missing_ok=True)


def _is_leftover(path: Path) -> bool:
    """Whether a name in the target is a temporary one of the files that are made first."""
    return path.name.startswith((f".{RECORD}{TMP_MARK}", f".{DESCRIPTION}{TMP_MARK}"))


def _writer(form: Form, target: Path) -> Callable[[ShardDataset, ShardPlan], None]:
    if form == "folder":
        return lambda data, plan: export_shard_to_folders(data, plan, target)
    if form == "mds":
        return lambda data, plan: export_shard_to_mds(data, plan, target)
    from bokehsynth.generation.export.parquet import export_shard_to_parquet

    return lambda data, plan: export_shard_to_parquet(data, plan, target)


def _claim(target: Path, form: Form, record: dict[str, Any]) -> None:
    """Make the folder this set's export, or see that it is; ChangedError if it is anything else."""
    with storage_errors(target):
        if target.exists() and not target.is_dir():
            raise StorageError(f"{target}: exists and is not a directory; choose another --out")
        paths = sorted(target.iterdir()) if target.is_dir() else []
    text = canonical_json({"export": VERSION, "form": form, "set": sha256_bytes(canonical_json(record))}) + "\n"
    others = [path.name for path in paths if not _is_leftover(path)]
    if others and RECORD not in others:
        raise ChangedError(f"{target}: is not empty and no export (found {others[0]}); choose another --out")
    make_directory(target)
    try:
        create(target / RECORD, text.encode())
    except ChangedError:
        raise ChangedError(f"{target}: is the export of another data set or form; choose another --out") from None
    create(target / DESCRIPTION, (json.dumps(record, indent=2, sort_keys=True) + "\n").encode())
