"""Read the tensors of a torch checkpoint without executing its pickle program.

The unpickler allows the few names of which tensors are made; classes of network modules become empty stubs whose state
can be inspected; every other name is an error. Nothing is imported or called on behalf of the file. Storages are read
here too, so that sizes are checked before memory is allocated.
"""

import io
import math
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bokehsynth import DataError, UsageError

MAX_FILE = 16 << 30
"""Bytes; the official file has about 1.2 GB."""
MAX_PROGRAM = 64 << 20
"""Bytes of the pickle itself; the official one has less than one million."""

_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

_STUB_MODULES = re.compile(r"(models|diffusers(\.models)?|torch\.nn\.modules)(\.[a-z0-9_]+)+")
"""Modules whose classes may appear in a pickled network. They are not imported: a stub takes their place."""
_CLASS_NAME = re.compile(r"[A-Z][A-Za-z0-9_]*")


class ClassStub:
    """Stands for an object of a class that is not imported; holds its pickled state and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}

    def __setitem__(self, key: Any, value: Any) -> None:  # a FrozenDict is filled item by item
        pass


class _PlainDict(OrderedDict[Any, Any]):
    """OrderedDict as pickled in state dicts, ignoring the attributes that torch sets on it."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Storage:
    """Stands for a storage class such as torch.FloatStorage; holds its dtype."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, *_: Any) -> Any:
        raise pickle.UnpicklingError("a storage that is not one of the file's records")


def read_checkpoint(path: str | Path) -> Any:
    """The object that `torch.save` wrote to `path`: dicts, lists, numbers, tensors (on the CPU) and ClassStubs.

    UsageError where there is no such file or it is in the old format; DataError, with the reason, where it is damaged
    or refers to anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    size = path.stat().st_size
    if size > MAX_FILE:
        raise DataError(f"{path}: {size >> 20} MiB, more than the {MAX_FILE >> 20} MiB that such a file can have")
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
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: the archive is damaged or cut short ({error}); fetch the file again") from None


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
            return _Unpickler(io.BytesIO(self._bytes(self.program)), self).load()
        except DataError:
            raise
        except (pickle.UnpicklingError, zipfile.BadZipFile) as error:
            raise self._refuse(str(error)) from None
        except Exception as error:  # a malformed pickle may raise anything, all of it harmless
            raise self._refuse(f"its pickle cannot be followed ({type(error).__name__}: {error})") from None

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


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, reader: _Reader) -> None:
        super().__init__(file, encoding="utf-8")
        self._reader = reader

    def find_class(self, module: str, name: str) -> Any:
        """Resolve a name of the file; these are all the names that are allowed."""
        exact = {
            ("collections", "OrderedDict"): _PlainDict,
            ("builtins", "set"): set,
            ("__builtin__", "set"): set,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        }
        if (module, name) in exact:
            return exact[module, name]
        if module == "torch" and name in _DTYPES:
            return _Storage(_DTYPES[name])
        if _STUB_MODULES.fullmatch(module) and _CLASS_NAME.fullmatch(name):
            return type(name, (ClassStub,), {})
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no tensor needs")

    def persistent_load(self, pid: Any) -> Tensor:
        """Resolve a storage, ('storage', type, key, device, count)."""
        tag, kind, key, _device, count = pid
        if tag != "storage" or not isinstance(kind, _Storage) or not isinstance(key, str) or type(count) is not int:
            raise pickle.UnpicklingError(f"it refers to something that is no storage: {tag!r}")
        return self._reader.storage(key, kind.dtype, count)


def _rebuild_tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """torch._utils._rebuild_tensor_v2 on a flat tensor, with its bounds checked."""
    numbers = [offset, *size, *stride]
    if not isinstance(storage, Tensor) or len(size) != len(stride) or any(type(n) is not int or n < 0 for n in numbers):
        raise pickle.UnpicklingError("a tensor of impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > storage.numel() or (math.prod(size) and last >= storage.numel()):
        raise pickle.UnpicklingError(f"a tensor of shape {list(size)} reaches beyond its {storage.numel()} numbers")
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)


def _rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def module_tensors(stub: ClassStub, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of a pickled torch module, under the names its state_dict would have."""
    state = getattr(stub, "state", {})
    for group in ("_parameters", "_buffers"):
        for name, value in (state.get(group) or {}).items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
    for name, child in (state.get("_modules") or {}).items():
        if isinstance(child, ClassStub):
            yield from module_tensors(child, f"{prefix}{name}.")
