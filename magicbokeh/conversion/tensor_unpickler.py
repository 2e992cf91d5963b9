"""The reduced unpickler: the few instructions and names of which tensors are made, and nothing else.

Nothing is imported or called on behalf of a file. Classes of network modules become empty stubs, and no object but a
stub or a dict has its state set: torch's own `__setstate__` would give a tensor memory that is not its storage's.
"""

import io
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

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

    state: dict[Any, Any] = {}  # noqa: RUF012  # of an object without state; never changed

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:  # a FrozenDict is filled item by item
        pass


class _PlainDict(OrderedDict[Any, Any]):
    """OrderedDict as pickled in state dicts; the attributes that torch sets on it are ignored."""


class _Storage:
    """Stands for a storage class such as torch.FloatStorage; holds its dtype."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


_KEYS = (str, int, float, bool, type(None))
"""Types of dict keys and set members. Hashing a tuple that is nested deeply enough ends the interpreter."""


def _is_plain_key(value: Any) -> bool:
    return type(value) in _KEYS


def _make_dict(*arguments: Any) -> _PlainDict:
    if arguments:
        raise pickle.UnpicklingError("an OrderedDict that is made of arguments")
    return _PlainDict()


def _make_set(members: Any = ()) -> set[Any]:
    if not isinstance(members, list) or not all(map(_is_plain_key, members)):
        raise pickle.UnpicklingError("a set of something else than numbers and strings")
    return set(members)


def _rebuild_tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """torch._utils._rebuild_tensor_v2 on a flat tensor, with its bounds checked."""
    if not isinstance(storage, Tensor) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise pickle.UnpicklingError("a tensor of something else than a storage")
    numbers = [offset, *size, *stride]
    if len(size) != len(stride) or len(size) > 8 or any(type(n) is not int or not 0 <= n < 2**62 for n in numbers):
        raise pickle.UnpicklingError("a tensor of impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > storage.numel() or (math.prod(size) and last >= storage.numel()):
        raise pickle.UnpicklingError(f"a tensor of shape {list(size)} reaches beyond its {storage.numel()} numbers")
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)


def _rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise pickle.UnpicklingError("a parameter that is no tensor")
    return data


_CALLED = {
    ("collections", "OrderedDict"): _make_dict,
    ("builtins", "set"): _make_set,
    ("__builtin__", "set"): _make_set,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}
"""Every name that a file may call, and what is called in its place."""

_INSTRUCTIONS = """
PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
BINUNICODE SHORT_BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS EMPTY_SET ADDITEMS BINPUT LONG_BINPUT MEMOIZE BINGET
LONG_BINGET GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD BINPERSID
"""
"""The instructions that torch.save writes, since protocol 2."""
_PYTHON: Any = pickle._Unpickler  # the one that is written in Python


class TensorUnpickler(_PYTHON):
    """Python's own unpickler, reduced to the instructions above; `storage(key, dtype, count)` gives flat tensors."""

    dispatch: ClassVar[dict[int, Any]] = {
        code: _PYTHON.dispatch[code] for code in (getattr(pickle, name)[0] for name in _INSTRUCTIONS.split())
    }

    def __init__(self, file: io.BytesIO, storage: Callable[[str, torch.dtype, int], Tensor]) -> None:
        super().__init__(file, encoding="utf-8")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Resolve a name of the file; these are all the names that are allowed."""
        if (module, name) in _CALLED:
            return _CALLED[module, name]
        if module == "torch" and name in _DTYPES:
            return _Storage(_DTYPES[name])
        if _STUB_MODULES.fullmatch(module) and _CLASS_NAME.fullmatch(name):
            return type(name, (ClassStub,), {})
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no tensor needs")

    def persistent_load(self, pid: Any) -> Tensor:
        """Resolve a storage, ('storage', type, key, device, count)."""
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise pickle.UnpicklingError("it refers to something that is no storage")
        _, kind, key, _device, count = pid
        if not isinstance(kind, _Storage) or not isinstance(key, str) or type(count) is not int or count < 0:
            raise pickle.UnpicklingError("it refers to something that is no storage")
        return self._storage(key, kind.dtype, count)

    # --- instructions that call, hash or set something

    def _call(self) -> None:
        arguments = self.stack.pop()
        called = self.stack[-1]
        allowed = called in _CALLED.values() if callable(called) and not isinstance(called, type) else _is_stub(called)
        if not allowed or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("it calls something that makes no tensor")
        self.stack[-1] = called(*arguments)

    def _build(self) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if isinstance(built, ClassStub):
            built.state = state if isinstance(state, dict) else {}
        elif not isinstance(built, _PlainDict):
            raise pickle.UnpicklingError(f"it sets the state of a {type(built).__name__}, which has none")

    def _set_items(self) -> None:
        self._set(self.pop_mark())

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict | ClassStub) or not all(map(_is_plain_key, items[::2])):
            raise pickle.UnpicklingError("a dict whose keys are neither strings nor numbers")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[key] = value

    def _append(self) -> None:
        value = self.stack.pop()
        self._extend([value])

    def _append_all(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise pickle.UnpicklingError("it appends to something that is no list")
        self.stack[-1].extend(values)

    def _add_items(self) -> None:
        members = self.pop_mark()
        if type(self.stack[-1]) is not set:
            raise pickle.UnpicklingError("it adds to something that is no set")
        self.stack[-1].update(_make_set(members))

    dispatch |= {
        pickle.REDUCE[0]: _call,
        pickle.NEWOBJ[0]: _call,
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.APPEND[0]: _append,
        pickle.APPENDS[0]: _append_all,
        pickle.ADDITEMS[0]: _add_items,
    }


def _is_stub(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, ClassStub)
