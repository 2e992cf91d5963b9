"""Decode scene-referred formats: Radiance .hdr and OpenEXR."""

import tempfile
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.assets.decode.headers import read_hdr
from bokehsynth.assets.decode.raster import Raster, straight
from bokehsynth.assets.decode.rejection import RejectedPicture

CheckSize = Callable[[int, int, str], None]

_REC709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
"""x, y of red, green, blue and white: what an OpenEXR file without `chromaticities` means."""

_SILENT = 0
"""OpenCV's LOG_LEVEL_SILENT."""


def decode_opencv(data: bytes) -> npt.NDArray[Any] | None:
    """The stored numbers, channels as BGR(A), or None; OpenCV's own messages are silenced."""
    set_level = cv2.utils.logging.setLogLevel
    level = set_level(_SILENT)
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        set_level(level)


def read_hdr_raster(data: bytes, name: str, check: CheckSize) -> Raster:
    """Decode a Radiance picture by OpenCV: imageio needs FreeImage, which it downloads at run time."""
    check(*read_hdr(data, name), name)
    stored = decode_opencv(data)
    if stored is None:  # OpenCV gives no cause
        if b"FORMAT=32-bit_rle_xyze" in data[:65536]:
            raise RejectedPicture(f"{name}: an .hdr file of XYZ; convert it to RGB first", "unsupported_format")
        raise RejectedPicture(
            f"{name}: the .hdr file ends before its last row, or its rows are packed in the way of before 1991",
            "truncated",
        )
    return Raster(np.ascontiguousarray(stored[..., ::-1], np.float32), None, "HDR", "float")


def read_exr(data: bytes, name: str, check: CheckSize) -> Raster:
    """Decode an OpenEXR picture: R, G, B (A) or Y of its first part."""
    import OpenEXR

    with tempfile.NamedTemporaryFile(prefix="bokehsynth-", suffix=".exr") as file:  # the library reads named files only
        file.write(data)
        file.flush()
        header = OpenEXR.File(file.name, header_only=True).header()
        (left, top), (right, bottom) = header["dataWindow"]
        check(int(right - left) + 1, int(bottom - top) + 1, name)
        primaries = header.get("chromaticities")
        if primaries is not None and np.abs(np.array(primaries, float).ravel() - _REC709).max() > 0.01:
            raise RejectedPicture(f"{name}: its primaries are not Rec. 709; convert it first", "unsupported_format")
        with OpenEXR.File(file.name, separate_channels=True) as opened:  # channels may differ in their type
            channels = {key: channel.pixels for key, channel in opened.channels().items()}
    names = next((names for names in ("RGB", "Y") if channels.keys() >= set(names)), None)
    if names is None:
        raise RejectedPicture(
            f"{name}: has channels {', '.join(sorted(channels))}, not R, G, B or Y", "unsupported_format"
        )
    planes = [np.asarray(channels[key], np.float32) for key in names]
    if len({plane.shape for plane in planes}) > 1:
        raise RejectedPicture(f"{name}: its channels have different sizes (subsampled)", "unsupported_format")
    color = planes[0] if len(planes) == 1 else np.stack(planes, axis=2)
    alpha = channels.get("A")
    if alpha is None:
        return Raster(color, None, "EXR", "float")
    alpha = np.clip(np.asarray(alpha, np.float32), np.float32(0), np.float32(1))
    return Raster(straight(color, alpha), alpha, "EXR", "float", notes=("premultiplied, as OpenEXR has it",))
