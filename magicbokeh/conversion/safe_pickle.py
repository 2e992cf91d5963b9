"""Read the tensors of a torch checkpoint without executing its pickle program.

Storages are read here, so that sizes are checked before memory is allocated; `tensor_unpickler` follows the program.
"""

import io
import pickle
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bokehsynth import BokehsynthError, DataError, UsageError
from magicbokeh.conversion.tensor_unpickler import ClassStub, TensorUnpickler
from magicbokeh.given_files import check_size

MAX_FILE = 8 << 30
"""Bytes; the official file has about 1.2 GB, the largest depth model 5."""
MAX_PROGRAM = 64 << 20
"""Bytes of the pickle itself; the official one has less than one million."""
MAX_TENSORS = 100_000
"""In one network; the official ones have a thousand."""


def read_checkpoint(path: str | Path) -> Any:
    """The object that `torch.save` wrote to `path`: dicts, lists, numbers, tensors (on the CPU) and ClassStubs.

    UsageError where there is no such file or it is in the old format; DataError, with the reason, where it is damaged
    or refers to anything but tensors.
    """
    path = Path(path)
    size = check_size(path, MAX_FILE)
    with open(path, "rb") as file:
        magic = file.read(4)
    if magic != b"PK\x03\x04":
        raise UsageError(
            f"{path}: not a zip archive; files of torch before 1.6, and bare pickles, are not read. If you trust it, "
            "load it there and save it again with torch.save"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return _Reader(path, archive, size).read()
    except (BokehsynthError, MemoryError):
        raise
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: the archive is damaged or cut short ({error}); fetch the file again") from None
    except Exception as error:  # a malformed archive or pickle may raise anything, all of it harmless
        raise DataError(f"{path}: refused: it cannot be followed ({type(error).__name__}: {error!s:.200})") from error


class _Reader:
    def __init__(self, path: Path, archive: zipfile.ZipFile, size: int) -> None:
        self.path, self.archive = path, archive
        self.records = {entry.filename: entry for entry in archive.infolist()}
        self.storages: dict[str, Tensor] = {}
        total = 0
        for entry in self.records.values():
            # torch does not compress its records; compression could hide their size.
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > size:
                raise self._refuse(f"record {entry.filename!r} is compressed ({entry.file_size} bytes when unpacked)")
            total += entry.file_size
        if total > size:
            raise self._refuse(f"its records overlap: {total} bytes in a file of {size}")
        programs = [name for name in self.records if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(programs) != 1:
            raise self._refuse("it must hold one NAME/data.pkl, as torch.save writes it")
        self.program = programs[0]
        self.root = self.program.removesuffix("data.pkl")

    def read(self) -> Any:
        if self.records[self.program].file_size > MAX_PROGRAM:
            raise self._refuse(f"its pickle is larger than {MAX_PROGRAM >> 20} MiB")
        order = self.records.get(f"{self.root}byteorder")
        if order is not None and self._bytes(order.filename) != b"little":
            raise self._refuse("its numbers are big-endian")
        try:
            return TensorUnpickler(io.BytesIO(self._bytes(self.program)), self.storage).load()
        except (BokehsynthError, MemoryError):
            raise
        except (pickle.UnpicklingError, zipfile.BadZipFile) as error:
            raise self._refuse(str(error)) from None
        except Exception as error:  # a malformed pickle may raise anything, all of it harmless
            raise self._refuse(f"its pickle cannot be followed ({type(error).__name__}: {error!s:.200})") from None

    def storage(self, key: str, dtype: torch.dtype, count: int) -> Tensor:
        """Read record data/KEY as a flat tensor of `count` numbers."""
        if key not in self.storages:
            name = f"{self.root}data/{key}"
            if name not in self.records:
                raise self._refuse(f"record {name!r} is missing")
            held, wanted = self.records[name].file_size, count * dtype.itemsize
            if held != wanted:
                raise self._refuse(f"record {name!r} has {held} bytes, its tensor needs {wanted}")
            data = bytearray(self._bytes(name))
            self.storages[key] = torch.frombuffer(data, dtype=dtype) if count else torch.empty(0, dtype=dtype)
        stored = self.storages[key]
        if stored.dtype != dtype or stored.numel() != count:
            raise self._refuse(f"record data/{key} is used as two different types")
        return stored

    def _bytes(self, name: str) -> bytes:
        return self.archive.read(name)

    def _refuse(self, reason: str) -> DataError:
        return DataError(f"{self.path}: refused: {reason}; nothing of it was run. Get the file from its authors again")


# --- what was read


def module_tensors(stub: ClassStub, path: Path) -> dict[str, Tensor]:
    """Parameters and buffers of a pickled torch module, under the names its state_dict would have.

    DataError where it holds itself, or more than a network does; `path` is the file's, for that message.
    """
    found: dict[str, Tensor] = {}
    pending, visits = [("", stub, 0)], 0
    while pending:
        prefix, module, depth = pending.pop()
        visits += 1
        if visits > MAX_TENSORS or depth > 64 or len(found) > MAX_TENSORS:
            raise DataError(f"{path}: its network holds itself, or more modules than any network")
        for group in ("_parameters", "_buffers"):
            for name, value in _items(module, group):
                if isinstance(value, Tensor):
                    found[f"{prefix}{name}"] = value
        for name, child in _items(module, "_modules"):
            if isinstance(child, ClassStub):
                pending.append((f"{prefix}{name}.", child, depth + 1))
    return found


def _items(module: ClassStub, group: str) -> Iterable[tuple[Any, Any]]:
    content = module.state.get(group)
    return content.items() if isinstance(content, dict) else ()


def float_tensors(tensors: dict[Any, Any], path: Path, key: str) -> dict[str, Tensor]:
    """Remove the wrappers' name prefixes and convert to float32; DataError unless all numbers are finite."""
    found: dict[str, Tensor] = {}
    total, most = 0, 4 * path.stat().st_size  # many names may share one storage; each may become a copy
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or not value.is_floating_point():
            raise DataError(f"{path}: {key}: {name!r} must be a tensor of floats, it is {type(value).__name__}")
        total += 4 * value.numel()
        if total > most or len(found) > MAX_TENSORS:
            raise DataError(f"{path}: {key}: its tensors are more than such a file has numbers for")
        if not torch.isfinite(value).all():
            raise DataError(f"{path}: {key}: {name} holds NaN or infinity; the training that made it failed")
        found[name.replace("module.", "").replace("_orig_mod.", "")] = value.float()
    return found
