"""Applies a degradation draw to a picture; nothing here is random.

Everything between the two ends is float32, sRGB-encoded (Real-ESRGAN degrades encoded values, not light), clamped
where Real-ESRGAN clamps: after noise, before JPEG, at the end. OpenCV does the convolutions, sizes and JPEG. Where the
sizes of Real-ESRGAN's resizes do not divide evenly, ours keep both pictures centred on each other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np

from bokehsynth.color import ByteArray, FloatArray
from bokehsynth.degradation.custom import apply_custom
from bokehsynth.degradation.draw import DegradationDraw, Record
from bokehsynth.degradation.kernels import make_kernel, separate, trim
from bokehsynth.degradation.noise import gaussian_noise, poisson_noise
from bokehsynth.errors import UsageError
from bokehsynth.rng import from_seed

KINDS = ("blur", "resize", "noise", "jpeg", "final")
INTERPOLATION = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
MAX_SIDE = 65500
"""libjpeg's limit, which also bounds every size between the steps."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Degraded:
    """The degraded picture, the input of a restoring network."""

    lq: ByteArray
    """uint8 [H, W, 3] at the size of the input: `lq_native` brought back by the drawn mode."""
    lq_native: ByteArray
    """uint8 [h, w, 3] as the chain left it; [H // scale, W // scale] after a `final` step."""


def apply_degradation(image: ByteArray | FloatArray, draw: DegradationDraw | Mapping[str, Any]) -> Degraded:
    """Degrade `image`, uint8 or float32 [H, W, 3] sRGB (float: 0..1), by `draw`; any size from 1x1.

    The same picture and draw give the same bytes. UsageError for another dtype or shape, for a draw that is not one,
    and for a picture that a drawn size would carry beyond 65500 pixels.
    """
    native = run_steps(as_float(image), draw, OPENCV)
    lq_native = to_bytes(native)
    size = (image.shape[0], image.shape[1])
    if lq_native.shape[:2] == size:
        return Degraded(lq=lq_native, lq_native=lq_native)
    # From the rounded picture, as a reader of the 8-bit file would enlarge it.
    return Degraded(lq=to_bytes(resize(as_float(lq_native), size, draw["upscale"])), lq_native=lq_native)


class Operations(NamedTuple):
    """What steps are made of; pictures are float32 [h, w, 3]."""

    make_kernel: Callable[[Record], FloatArray]
    convolve: Callable[[FloatArray, FloatArray], FloatArray]
    """(image, kernel)"""
    resize: Callable[[FloatArray, Size, str], FloatArray]
    """(image, (height, width), mode)"""
    add_noise: Callable[[FloatArray, Record], FloatArray]
    """(image, step), clamped to 0..1"""
    compress: Callable[[FloatArray, int], FloatArray]
    """(image, JPEG quality)"""


def run_steps(image: FloatArray, draw: DegradationDraw | Mapping[str, Any], operations: Operations) -> FloatArray:
    """Run all steps of `draw` by some `operations`; the result is not clamped at the end."""
    if not {"scale", "upscale", "steps"} <= draw.keys() or draw["upscale"] not in INTERPOLATION:
        raise UsageError(f"degradation draw: needs scale, upscale (area, bilinear, bicubic) and steps, got {draw!r}")
    native = (max(1, image.shape[0] // draw["scale"]), max(1, image.shape[1] // draw["scale"]))
    for place, step in enumerate(draw["steps"]):
        kind = step.get("kind")
        if kind == "custom":
            image = apply_custom(step["path"], np.clip(image, np.float32(0), np.float32(1)), step["params"])
            continue
        if kind not in KINDS:
            raise UsageError(f"degradation draw: step {place} has unknown kind {kind!r}")
        try:
            image = run_step(image, step, native, operations)
        except KeyError as error:
            raise UsageError(f"degradation draw: step {place} ({kind}) has no or a wrong {error}") from error
    return image


def run_step(image: FloatArray, step: Record, native: Size, operations: Operations) -> FloatArray:
    """Run one recorded step of KINDS; `native` is the size that the last step and some resizes refer to."""
    make_kernel, convolve, resize, add_noise, compress = operations
    match step["kind"]:
        case "blur":
            return image if step["kernel"] is None else convolve(image, make_kernel(step["kernel"]))
        case "resize":
            return resize(image, target_size(image, step, native), step["mode"])
        case "noise":
            return image if step["family"] is None else add_noise(image, step)
        case "jpeg":
            return image if step["quality"] is None else compress(image, step["quality"])
        case _:  # Real-ESRGAN's final step: to the native size, a sinc, and JPEG before or after
            if step["jpeg_first"]:
                image = compress(image, step["quality"])
            image = resize(image, native, step["mode"])
            if step["kernel"] is not None:
                image = convolve(image, make_kernel(step["kernel"]))
            return image if step["jpeg_first"] else compress(image, step["quality"])


def as_float(image: ByteArray | FloatArray) -> FloatArray:
    """Convert uint8 or float32 [H, W, 3] to float32 in 0..1; a UsageError for anything else."""
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UsageError(f"degrade: image must be [H, W, 3] with H, W >= 1, got {list(image.shape)}")
    if image.dtype == np.uint8:
        return image.astype(np.float32) * np.float32(1 / 255)
    if image.dtype == np.float32:
        return image.astype(np.float32, order="C", copy=False)
    raise UsageError(f"degrade: image must be uint8 or float32, got {image.dtype}")


def to_bytes(image: FloatArray) -> ByteArray:
    """Clamp to 0..1 and round to nearest, uint8."""
    return (np.clip(image, np.float32(0), np.float32(1)) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def target_size(image: FloatArray, step: Record, native: Size) -> Size:
    """Return the (height, width) that a recorded resize asks for: rounded down, at least 1 pixel."""
    base = native if step["relative_to"] == "native" else image.shape[:2]
    height, width = (max(1, int(side * step["factor"])) for side in base)
    if max(height, width) > MAX_SIDE:
        raise UsageError(f"degrade: a drawn resize asks for {width}x{height} pixels, the limit is {MAX_SIDE} a side")
    return height, width


def add_noise(image: FloatArray, step: Record) -> FloatArray:
    """Add the recorded noise, then clamp to 0..1."""
    rng = from_seed(step["seed"])
    if step["family"] == "gaussian":
        field = gaussian_noise(image, step["sigma"], step["gray"], rng)
    else:
        field = poisson_noise(image, step["scale"], step["gray"], rng)
    total = image + field
    return np.clip(total, np.float32(0), np.float32(1), out=total)


def convolve(image: FloatArray, kernel: FloatArray) -> FloatArray:
    """Filter by an odd, point-symmetric kernel; the picture is mirrored at its borders as often as needed."""
    kernel = trim(kernel)
    border = cv2.BORDER_REFLECT_101
    factors = separate(kernel)
    if factors is None:
        filtered = cv2.filter2D(image, cv2.CV_32F, kernel, borderType=border)
    else:
        filtered = cv2.sepFilter2D(image, cv2.CV_32F, *factors, borderType=border)
    return np.asarray(filtered, dtype=np.float32)


def resize(image: FloatArray, size: Size, mode: str) -> FloatArray:
    """Resize to `size` (height, width), the pictures' centres aligned; bicubic may leave 0..1."""
    if image.shape[:2] == size:
        return image
    return np.asarray(cv2.resize(image, size[::-1], interpolation=INTERPOLATION[mode]), dtype=np.float32)


def compress(image: FloatArray, quality: int) -> FloatArray:
    """Encode as 8-bit 4:2:0 JPEG and decode again, float32 in 0..1."""
    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, int(quality)),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
    ]
    if max(image.shape[:2]) > MAX_SIDE:
        raise UsageError(f"degrade: JPEG holds {MAX_SIDE} pixels a side, got {image.shape[1]}x{image.shape[0]}")
    _, data = cv2.imencode(".jpg", cv2.cvtColor(to_bytes(image), cv2.COLOR_RGB2BGR), options)
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
    return as_float(np.ascontiguousarray(decoded[..., ::-1]))


OPENCV = Operations(make_kernel, convolve, resize, add_noise, compress)
