"""Write pictures and maps: PNG of 8 or 16 bits, OpenEXR, NumPy."""

import io
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.color import encode_8bit, encode_16bit
from bokehsynth.errors import StorageError, UsageError
from bokehsynth.files import atomic_write

SUFFIXES = (".png", ".exr", ".npy")

Array = npt.NDArray[Any]


def check_name(path: Path) -> None:
    """UsageError unless a picture can be stored under this name: a known suffix, in an existing folder."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: must end in {', '.join(SUFFIXES)}: pictures are stored without further loss")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.absolute().parent}")


def save_color(path: Path, linear: Array, bits: int = 8) -> None:
    """Write a linear picture [H, W, 3]: sRGB in PNG of 8 or 16 `bits`, clipped at white; unchanged in EXR and NPY."""
    if path.suffix.lower() == ".png":
        encoded = encode_8bit(linear) if bits == 8 else encode_16bit(linear)
        _save_png(path, encoded[..., ::-1])
    else:
        _save_floats(path, linear, "RGB")


def check_map(path: Path, values: Array, per_unit: float) -> None:
    """UsageError unless `save_map` can store the values under this name."""
    most = float(values.max())
    if path.suffix.lower() == ".png" and round(most * per_unit) > 65535:
        raise UsageError(f"{path}: {most:g} does not fit 16 bits at {per_unit:g} a unit; use .exr or .npy")


def save_map(path: Path, values: Array, per_unit: float) -> None:
    """Write a map [H, W] of numbers >= 0: 16-bit grey PNG of `values * per_unit`, rounded; as it is in EXR and NPY."""
    check_map(path, values, per_unit)
    if path.suffix.lower() == ".png":
        _save_png(path, np.rint(values.astype(np.float64) * per_unit).astype(np.uint16))
    else:
        _save_floats(path, values, "Y")


def _save_png(path: Path, values: Array) -> None:
    atomic_write(path, cv2.imencode(".png", values)[1].tobytes())


def _save_floats(path: Path, values: Array, channels: str) -> None:
    """float32 as NPY, or as the `channels` of an EXR."""
    floats = np.ascontiguousarray(values, np.float32)
    if path.suffix.lower() == ".exr":
        return _save_exr(path, {channels: floats})
    buffer = io.BytesIO()
    np.save(buffer, floats, allow_pickle=False)
    atomic_write(path, buffer.getvalue())


def _save_exr(path: Path, channels: dict[str, Array]) -> None:
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "picture.exr"
        try:
            OpenEXR.File(header, channels).write(str(draft))
        except Exception as error:  # the library has no exception type of its own
            raise StorageError(f"{path}: OpenEXR cannot write it: {error}") from error
        atomic_write(path, draft.read_bytes())
