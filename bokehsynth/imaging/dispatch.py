"""Which of a library's codes for one function runs here: the last bits of a pixel depend on it."""

import os
import sys
from pathlib import Path
from typing import Any

from bokehsynth.files import sha256_bytes


def library_dispatch(host_flags: str) -> str:
    """Return `numba=host opencv=SSE,...,AVX2 numpy=X86_V2,X86_V3`, as these libraries run in this process."""
    import cv2
    import numpy as np

    override = _numba_override()
    features = override[1] if override[1] is not None else host_flags
    compiled = "host" if override == (None, None) else f"{override[0] or 'host'}:{sha256_bytes(features)[:8]}"
    opencv = [word.strip("*") for word in cv2.getCPUFeaturesLine().split() if not word.endswith("?")]
    simd: dict[str, Any] = np.show_config(mode="dicts") or {}  # type: ignore[assignment]
    found = simd.get("SIMD Extensions", {})
    numpy = [*found.get("baseline", []), *found.get("found", [])]
    return f"numba={compiled} opencv={','.join(opencv)} numpy={','.join(numpy)}"


def _numba_override() -> tuple[str | None, str | None]:
    """The CPU's name and features that Numba is told to compile for, rather than those of the host.

    Numba is imported only where something can have told it: that takes longer than all else a run looks up.
    """
    told = any(name in os.environ for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"))
    if not (told or "numba" in sys.modules or Path(".numba_config.yaml").exists()):
        return None, None
    import numba

    return numba.config.CPU_NAME, numba.config.CPU_FEATURES  # type: ignore[attr-defined]
