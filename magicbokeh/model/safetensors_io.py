"""Strict loading of weights, and model folders that are written atomically."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from bokehsynth import DataError, StorageError, UsageError

Tensors = dict[str, Tensor]


def under_base_layers(model: nn.Module, tensors: Tensors) -> Tensors:
    """Rename plain tensors to their names under a LoRA: conv.weight -> conv.base_layer.weight."""
    own = set(model.state_dict())
    found = {}
    for name, value in tensors.items():
        module, _, leaf = name.rpartition(".")
        wrapped = f"{module}.base_layer.{leaf}"
        found[wrapped if wrapped in own else name] = value
    return found


def load_strictly(model: nn.Module, tensors: Tensors, what: str) -> None:
    """Load the weights of a model on the meta device; names and shapes must match exactly."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in tensors.items()}
    faults = [f"{name} is missing" for name in sorted(own.keys() - given.keys())]
    faults += [f"{name} is unknown" for name in sorted(given.keys() - own.keys())]
    faults += [
        f"{name} must be {list(own[name])}, not {list(given[name])}"
        for name in sorted(own.keys() & given.keys())
        if own[name] != given[name]
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise DataError(f"{what}: the weights do not fit the network: {'; '.join(faults[:5])}{more}")
    # Clones: tensors of a file may share memory, which safetensors refuses to save.
    model.load_state_dict({name: value.clone().contiguous() for name, value in tensors.items()}, assign=True)


def check_new_folder(out: Path) -> None:
    """UsageError unless `out` is free to be written: not there, or an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: is there already; choose another --out or remove it")


def write_folder(out: Path, write: Callable[[Path], None]) -> None:
    """Create `out` atomically: `write` fills a temporary folder beside it, which is then renamed."""
    tmp = out.with_name(f".{out.name}.tmp")
    try:
        with storage_errors(out):
            shutil.rmtree(tmp, ignore_errors=True)
            tmp.mkdir(parents=True)
            write(tmp)
            if out.is_dir():
                out.rmdir()
            tmp.rename(out)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an error of writing inside the block into a StorageError that names `path`, also one of safetensors, which
    tells those of the system in words.
    """
    from safetensors import SafetensorError

    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise StorageError(f"{path}: {why} (free some room or check permissions, then run it again)") from error
    except SafetensorError as error:
        raise StorageError(
            f"{path}: the weights cannot be written ({error}; free some room or check permissions, then run it again)"
        ) from error


def sha256_of(path: Path) -> str:
    """Hexadecimal digest of a file, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
