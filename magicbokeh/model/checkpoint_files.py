"""The files of a checkpoint and the digests that its state.json holds of them."""

from pathlib import Path
from typing import Any, NamedTuple

from bokehsynth import DataError, UsageError
from magicbokeh.given_files import read_json
from magicbokeh.model.safetensors_io import sha256_of

FORMAT = 1
STATE = "state.json"
_MAX_STATE = 256 << 20
"""Bytes of state.json: it holds the losses of a whole run."""


class SavedCheckpoint(NamedTuple):
    """A checkpoint on disk."""

    path: Path
    record: dict[str, Any]
    """The content of its state.json."""


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The state.json of a checkpoint; DataError where it is damaged."""
    path = checkpoint / STATE
    try:
        record = read_json(path, _MAX_STATE)
        if record["format"] != FORMAT:
            raise DataError(f"{path}: format {record['format']}; this magicbokeh reads {FORMAT}")
        if type(record["global_step"]) is not int or not isinstance(record["files"], dict):
            raise TypeError("global_step must be an integer, files an object")
    except (UsageError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {_remedy(checkpoint)}") from None
    return record


def check_files(checkpoint: SavedCheckpoint) -> None:
    """DataError unless every file has the digest that was recorded when it was written."""
    path, found = checkpoint.path, digests(checkpoint.path)
    wrong = [name for name, digest in checkpoint.record["files"].items() if found.get(name) != digest]
    if wrong:
        raise DataError(f"{path}: damaged or missing: {', '.join(wrong[:3])}; {_remedy(path)}")


def _remedy(checkpoint: Path) -> str:
    return f"remove {checkpoint.name}/ and run the same line again: it goes on from the newest that is left"


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file below `folder` but state.json, by relative name."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: sha256_of(path) for name, path in files.items() if name != STATE}
