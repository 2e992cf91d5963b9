"""A place for compiled kernels: Numba looks beside the module and in the user cache, and fails if both are closed."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any


def ensure_cache_place(beside: Path) -> None:
    """Point Numba at a temporary folder where it can write neither `beside` the kernels nor in the user's cache."""
    import numba

    if numba.config.CACHE_DIR:  # type: ignore[attr-defined]
        return
    if not is_kept(beside):
        # A directory of this process's own: compiled kernels are code, and others must not be able to plant theirs.
        numba.config.CACHE_DIR = tempfile.mkdtemp(prefix="bokehsynth-kernels-")  # type: ignore[attr-defined]
        os.environ["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR  # type: ignore[attr-defined]  # for spawned workers
        atexit.register(shutil.rmtree, numba.config.CACHE_DIR, ignore_errors=True)  # type: ignore[attr-defined]


def is_kept(beside: Path) -> bool:
    """Whether what is compiled of modules in the folder `beside` can be kept for other processes."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return True
    places = [beside / "__pycache__"]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not home.startswith("~"):  # a user without a home has no cache there
        places.append(Path(home) / "numba")
    return any(_writable(place) for place in places)


def discard_unreadable(dispatcher: Any) -> None:
    """Discard the cache of a compiled function where its index names classes that no longer exist.

    Numba unpickles a cache's index before it compares the source's date with it, so that an index from before a named
    tuple was renamed or moved would end the first call.
    """
    cache = getattr(dispatcher, "_cache", None)
    if cache is None:  # NUMBA_DISABLE_JIT
        return
    load = cache.load_overload

    def load_or_discard(signature: Any, target: Any) -> Any:
        try:
            return load(signature, target)
        except (AttributeError, ImportError):
            cache.flush()
            return None

    cache.load_overload = load_or_discard


def _writable(place: Path) -> bool:
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            return True
    except OSError:
        return False
