"""Classes named as `package.module:Class`: the only place that imports one, and only where its name is trusted.

A recipe that a user hands over is trusted and may run any code. What a data set names is not: it may come from anyone.
"""

import contextlib
import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from bokehsynth.errors import UsageError, user_error

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_BUILT_IN = re.compile(r"bokehsynth(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_TRUSTED: ContextVar[bool] = ContextVar("trusted", default=True)


class UntrustedCodeError(UsageError):
    """A class outside bokehsynth that something untrusted names."""


@contextlib.contextmanager
def user_code(trusted: bool) -> Iterator[None]:
    """Within the block, import classes outside bokehsynth or refuse to."""
    token = _TRUSTED.set(trusted)
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def is_refused(path: str) -> bool:
    """Whether `load_module` would refuse the module of this `package.module:Class` here."""
    return not (_TRUSTED.get() or _BUILT_IN.fullmatch(path))


def refuse(where: object, paths: list[str]) -> None:
    """UntrustedCodeError that names all of `paths` which are refused here, if any are."""
    refused = sorted({path for path in paths if is_refused(path)})
    if refused:
        raise UntrustedCodeError(
            f"{where}: names {', '.join(map(repr, refused))}, code outside bokehsynth that this needs and that is not "
            "imported because a data set names it; if you trust it, add --trust-code (from Python: trust_code=True)"
        )


def load_module(path: str) -> ModuleType:
    """Import the module of `package.module:Class`.

    Raises UntrustedCodeError where it is refused, and whatever the import raises.
    """
    refuse("data set", [path])
    return importlib.import_module(path.partition(":")[0])


def is_class_path(text: str) -> bool:
    """Whether a text is written as `package.module:Class`."""
    return _PATH.fullmatch(text) is not None


def check_class_path(path: str) -> str:
    """Return `path` if it is written as `package.module:Class`; a ValueError (for pydantic) otherwise."""
    if not is_class_path(path):
        raise ValueError(f"must be written as package.module:Class, got {path!r}")
    return path


def load_instance(path: str, what: str, methods: Sequence[str]) -> Any:
    """Make an instance of the class at `package.module:Class`, which has all of `methods`.

    `what` names its part in a data set. Raises UntrustedCodeError where the class is refused; a UsageError says what is
    missing.
    """
    try:
        module_name, class_name = check_class_path(path).split(":")
    except ValueError as error:
        raise UsageError(f"{what} {error}") from None
    try:
        module = load_module(path)
    except UntrustedCodeError:
        raise
    except BaseException as raised:  # an import runs the user's code, which may raise anything
        cause = user_error(raised)
        name = type(cause).__name__
        raise UsageError(f"{what} {path!r}: cannot import module {module_name!r} ({name}: {cause})") from raised
    cls = getattr(module, class_name, None)
    if not isinstance(cls, type):
        raise UsageError(f"{what} {path!r}: module {module_name!r} has no class {class_name!r}")
    missing = [name for name in methods if not callable(getattr(cls, name, None))]
    if missing:
        raise UsageError(f"{what} {path!r}: the class has no method {' and no method '.join(missing)}")
    try:
        return cls()
    except TypeError as error:
        raise UsageError(f"{what} {path!r}: cannot be made without arguments ({error})") from error
    except Exception:
        raise
    except BaseException as raised:
        raise UsageError(f"{what} {path!r}: when it was made, {user_error(raised)}") from raised


def source_of(instance: object, path: str) -> str:
    """The source of the module of an instance's class, its identity in a data set; `path` where there is none."""
    try:
        return inspect.getsource(sys.modules[type(instance).__module__])
    except (OSError, TypeError):  # built in C, or typed into a console
        return path
