"""A place for compiled kernels: Numba looks beside the module and in the user cache, and fails if both are closed."""

import os
import tempfile
from pathlib import Path

import numba


def ensure_cache_place() -> None:
    """Point Numba at the temporary directory where neither of its own places can be written (read-only installs)."""
    if numba.config.CACHE_DIR:  # type: ignore[attr-defined]
        return
    beside = Path(__file__).parent / "__pycache__"
    own = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba"
    if not any(_writable(place) for place in (beside, own)):
        user = os.getuid() if hasattr(os, "getuid") else "user"
        numba.config.CACHE_DIR = str(Path(tempfile.gettempdir()) / f"bokehsynth-kernels-{user}")  # type: ignore[attr-defined]


def _writable(place: Path) -> bool:
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            return True
    except OSError:
        return False
