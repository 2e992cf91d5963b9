"""Which of a library's codes for one function runs here: the last bits of a pixel depend on it."""

from typing import Any

from bokehsynth.files import sha256_bytes


def library_dispatch(host_flags: str) -> str:
    """Return `numba=host opencv=SSE,...,AVX2 numpy=X86_V2,X86_V3`, as these libraries run in this process."""
    import cv2
    import numba
    import numpy as np

    override = (numba.config.CPU_NAME, numba.config.CPU_FEATURES)  # type: ignore[attr-defined]
    features = override[1] if override[1] is not None else host_flags
    compiled = "host" if override == (None, None) else f"{override[0] or 'host'}:{sha256_bytes(features)[:8]}"
    opencv = [word.strip("*") for word in cv2.getCPUFeaturesLine().split() if not word.endswith("?")]
    simd: dict[str, Any] = np.show_config(mode="dicts") or {}  # type: ignore[assignment]
    found = simd.get("SIMD Extensions", {})
    numpy = [*found.get("baseline", []), *found.get("found", [])]
    return f"numba={compiled} opencv={','.join(opencv)} numpy={','.join(numpy)}"
