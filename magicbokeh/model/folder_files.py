"""The files that a model folder may hold: no code, no pickles, no links, and weights in safetensors alone.

A folder of the hub's cache consists of links into its `blobs/`; any other link is refused.
"""

import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from bokehsynth import DataError, StorageError, UsageError
from magicbokeh.given_files import check_regular, check_size, read_json

MAX_WEIGHTS = 64 << 30
"""Bytes of one file of weights; Stable Diffusion 2.1's UNet has 3.5 GB."""
_MAX_ENTRIES = 1000

_CODE = {".py", ".pyc", ".pyo", ".pyd", ".pyw", ".so", ".dll", ".dylib", ".pth"}
_OTHER_WEIGHTS = {".bin", ".pt", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".npz", ".onnx", ".pb", ".flashpack"}
_COMPONENT_JSON = {"config.json", "preprocessor_config.json"}
_UNREAD = {".git", ".cache"}
"""Folders of git and the hub's client, which no loader enters."""


def check_entries(folder: Path) -> None:
    """Refuse code, pickles, links and whatever is neither file nor folder, at any depth."""
    blobs = next((place.parent / "blobs" for place in folder.resolve().parents if place.name == "snapshots"), None)
    for count, (path, mode) in enumerate(_walk(folder)):
        if count == _MAX_ENTRIES:
            raise DataError(f"{folder}: holds more than {_MAX_ENTRIES} files; a model folder has some ten")
        if stat.S_ISLNK(mode):
            if blobs is None or path.resolve().parent != blobs:
                raise DataError(f"{path}: is a link; a model folder holds files only: copy there what it leads to")
            check_regular(path)
        elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise DataError(f"{path}: is a pipe, socket or device; a model folder holds files only")
        if path.suffix.lower() in _CODE:
            raise DataError(f"{path}: is code; a model folder holds numbers only, and no code of it is run: remove it")
        if path.suffix.lower() in _OTHER_WEIGHTS:
            raise DataError(f"{path}: weights are read from *.safetensors only: remove it")


def _walk(folder: Path) -> Iterator[tuple[Path, int]]:
    """Every entry below a folder with its mode, links not followed."""
    pending = [folder]
    while pending:
        try:
            entries = sorted(os.scandir(pending.pop()), key=lambda entry: entry.name)
            for entry in entries:
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode) and Path(entry.path).parent == folder and entry.name in _UNREAD:
                    continue
                yield Path(entry.path), mode
                if stat.S_ISDIR(mode):
                    pending.append(Path(entry.path))
        except OSError as error:
            raise StorageError(f"{folder}: {error.strerror} (check its permissions)") from None


def check_weights(folder: Path) -> None:
    """Refuse a component that lacks weights, or holds a file that could lead a loader elsewhere."""
    found = False
    for path in sorted(folder.iterdir()):
        if path.name.endswith(".safetensors.index.json"):
            shard_files(path)
        elif path.suffix == ".json" and path.name not in _COMPONENT_JSON and path.is_file():
            raise DataError(f"{path}: does not belong to a model folder: remove it")
        if path.suffix == ".safetensors":
            check_size(path, MAX_WEIGHTS)
            found = True
    if not found:
        raise UsageError(f"{folder}: holds no weights (*.safetensors); make the folder again")


def shard_files(index: Path) -> list[Path]:
    """The files of weights that an index names: beside it, nowhere else."""
    names = read_json(index, 64 << 20).get("weight_map")
    if not isinstance(names, dict) or not all(
        isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name for name in names.values()
    ):
        raise DataError(f"{index}: weight_map must name *.safetensors in the same folder")
    return sorted({index.parent / name for name in names.values()})


def count_weights(folder: Path) -> int:
    """Numbers in all files of weights of a component, by their headers; DataError where one is damaged."""
    from safetensors import SafetensorError, safe_open

    index = next(iter(sorted(folder.glob("*.safetensors.index.json"))), None)
    total = 0
    for path in sorted(folder.glob("*.safetensors")) if index is None else shard_files(index):
        try:
            with safe_open(path, framework="pt") as file:
                total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path}: damaged or incomplete ({error}); fetch it again") from None
    return total
