"""Real-ESRGAN's second-order degradation of any picture, drawn first and applied afterwards.

`degrade` does all of it for one picture; a pipeline uses the three steps behind it:

    degradation = resolve("real-esrgan")            # what a recipe says -> a checked chain of steps
    draw = draw_degradation(degradation, rng)       # every random choice, plain JSON
    degraded = apply_degradation(image, draw)       # deterministic; .lq and .lq_native
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bokehsynth.color import ByteArray, FloatArray
from bokehsynth.degradation.apply import Degraded, apply_degradation
from bokehsynth.degradation.draw import DegradationDraw, draw_degradation
from bokehsynth.degradation.spec import Degradation, DegradationSpec, resolve
from bokehsynth.errors import UsageError
from bokehsynth.rng import from_seed

__all__ = [
    "Degradation", "DegradationDraw", "DegradationSpec", "Degraded", "apply_degradation", "degrade",
    "draw_degradation", "resolve",
]  # fmt: skip

Backend = Literal["opencv", "basicsr"]


def degrade(
    image: npt.NDArray[Any],
    draw_or_preset: str | Sequence[Any] | Degradation | DegradationDraw | Mapping[str, Any] = "real-esrgan",
    seed: int = 0,
    *,
    backend: Backend = "opencv",
) -> ByteArray:
    """Degrade a picture at its own size: uint8 [H, W, 3] sRGB.

    `image` is sRGB-encoded: uint8, uint16 (white 65535) or float (0..1); grey [H, W] or RGB [H, W, 3].
    `draw_or_preset` is what a recipe may say (`real-esrgan`, `none`, a list of steps, `package.module:Class`), drawn
    with `seed` >= 0, or a finished draw, for which `seed` has no meaning.
    `backend` `basicsr` applies the same draw with basicsr's own functions on torch (an optional install, slower;
    same kernels and numbers, other noise fields).
    A UsageError names the argument, the rule and the value.
    """
    picture = _checked_picture(image)
    if backend not in {"opencv", "basicsr"}:
        raise UsageError(f"degrade: backend must be opencv or basicsr, got {backend!r}")
    if isinstance(draw_or_preset, Mapping):
        draw: Mapping[str, Any] = draw_or_preset
    else:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise UsageError(f"degrade: seed must be an integer >= 0, got {seed!r}")
        draw = draw_degradation(resolve(draw_or_preset), from_seed(int(seed)))
    if backend == "basicsr":
        from bokehsynth.degradation.basicsr_backend import apply_with_basicsr

        return apply_with_basicsr(picture, draw).lq
    return apply_degradation(picture, draw).lq


def _checked_picture(image: npt.NDArray[Any]) -> ByteArray | FloatArray:
    """Check a picture: uint8 stays, everything else becomes float32 in 0..1, grey three channels."""
    if not isinstance(image, np.ndarray):
        raise UsageError(f"degrade: image must be a NumPy array, got {type(image).__name__}")
    if image.ndim == 3 and image.shape[2] == 4:
        raise UsageError(f"degrade: image has an alpha channel {list(image.shape)}; composite it first, or drop it")
    if 0 in image.shape or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise UsageError(f"degrade: image must be [H, W] or [H, W, 3] with H, W >= 1, got {list(image.shape)}")
    if image.dtype == np.uint16:
        image = image.astype(np.float32) / np.float32(65535)
    elif np.issubdtype(image.dtype, np.floating):
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):  # also catches NaN
            raise UsageError(f"degrade: a float image must be in 0..1, got {low:.6g}..{high:.6g}")
        image = image.astype(np.float32)
    elif image.dtype != np.uint8:
        raise UsageError(f"degrade: image must be uint8, uint16 or float, got {image.dtype}")
    return np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2))
