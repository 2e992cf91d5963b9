"""Weights into models, strictly, and folders that are whole or not there."""

import shutil
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from bokehsynth import DataError, StorageError

Tensors = dict[str, Tensor]


def under_base_layers(model: nn.Module, tensors: Tensors) -> Tensors:
    """Plain names to those they have under a LoRA: conv.weight -> conv.base_layer.weight."""
    own = set(model.state_dict())
    found = {}
    for name, value in tensors.items():
        module, _, leaf = name.rpartition(".")
        wrapped = f"{module}.base_layer.{leaf}"
        found[wrapped if wrapped in own else name] = value
    return found


def load_strictly(model: nn.Module, tensors: Tensors, what: str) -> None:
    """Give a model on the meta device its weights; every name and every shape must fit, both ways."""
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
    # Clones: tensors of a file may share memory, and safetensors stores none twice.
    model.load_state_dict({name: value.clone().contiguous() for name, value in tensors.items()}, assign=True)


def write_folder(out: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside `out` and rename it: `out` is whole or not there."""
    tmp = out.with_name(f".{out.name}.tmp")
    try:
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir(parents=True)
        write(tmp)
        if out.is_dir():
            out.rmdir()
        tmp.rename(out)
    except OSError as error:
        why = error.strerror or error
        raise StorageError(f"{out}: {why} (check room and permissions, then run it again)") from error
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
