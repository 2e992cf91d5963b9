"""Classes named as `package.module:Class`: the only place that imports one, and only where its name is trusted.

A recipe that a user hands over is trusted and may run any code. What a data set names is not: it may come from anyone.
"""

import contextlib
import importlib
import re
from collections.abc import Iterator
from contextvars import ContextVar
from types import ModuleType

from bokehsynth.errors import UsageError

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
