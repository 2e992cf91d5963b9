"""What a picture file says about itself, read and bounded before anything is decoded."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bokehsynth import AssetError
from magicbokeh.given_files import check_size

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "PPM", "GIF", "AVIF")
"""Pillow's names of the formats that are read."""
MAX_PIXELS = 178_956_970
"""Largest picture; Pillow's own limit."""
MAX_FILE = 2 << 30
"""Bytes; a picture of that many pixels without compression has less."""
MAX_SCANS = 1 << 31
"""Pixels times scans of a progressive JPEG: each scan goes through all of them, whatever its few bytes."""

_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PLAIN_TIFF = (1, 5, 8, 32773, 32946)
"""Compressions that OpenCV is given: none, LZW, deflate, PackBits."""
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 258, 259, 277, 322, 323


class PictureHeader(NamedTuple):
    """The properties that decide how a file is decoded."""

    format: str
    size: tuple[int, int]
    """(height, width)."""
    opens: bool
    """Whether Pillow can decode it; it cannot where TIFF has 16 bits per colour."""
    sixteen_bit: bool
    """PNG or TIFF of 16 bits per channel."""


def read_header(path: Path) -> PictureHeader:
    """Read the header of a picture file; AssetError where it is none, or of impossible size."""
    check_size(path, MAX_FILE)
    try:
        with open(path, "rb") as file:
            start = file.read(32)
        deep_tiff = _deep_tiff_size(path) if start[:4] in _TIFF_MARKS else None
        try:
            with open_picture(path) as image:
                (width, height), kind = image.size, str(image.format)
        except Exception:
            if deep_tiff is None:
                raise
            return _checked(path, PictureHeader("TIFF", deep_tiff, False, True))
        deep_png = kind == "PNG" and start[24:25] == b"\x10"
        found = _checked(path, PictureHeader(kind, (height, width), True, deep_png or deep_tiff is not None))
        if kind in ("JPEG", "MPO"):
            _check_scans(path, found.size)
        return found
    except (AssetError, MemoryError):
        raise
    except OSError as error:
        reason = error.strerror if error.errno else str(error)
        raise AssetError(f"{path}: is not a picture that can be read ({reason}); save it as PNG or JPEG") from None
    except Exception as error:  # a damaged header may raise anything
        raise AssetError(
            f"{path}: is not a picture that can be read ({type(error).__name__}: {error!s:.200}); "
            "save it as PNG or JPEG"
        ) from None


def open_picture(path: Path) -> Any:
    """Open a file with Pillow, the header only, in one of the formats that are read."""
    import warnings

    from PIL import Image

    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked here
        return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])


def decode_deep(path: Path) -> npt.NDArray[Any] | None:
    """Decode a file whose header was checked by OpenCV, values as stored; None where it cannot be decoded."""
    import cv2

    data = np.fromfile(path, np.uint8)
    try:
        return cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error:
        return None


def _checked(path: Path, header: PictureHeader) -> PictureHeader:
    height, width = header.size
    if not 0 < height * width <= MAX_PIXELS:
        raise AssetError(f"{path}: {width} x {height} px; a picture has at most {MAX_PIXELS:,}", "too_large")
    return header


def _check_scans(path: Path, size: tuple[int, int]) -> None:
    scans = path.read_bytes().count(b"\xff\xda")
    if scans * size[0] * size[1] > MAX_SCANS:
        raise AssetError(f"{path}: {scans} scans of {size[1]} x {size[0]} px; save it as a baseline JPEG", "too_large")


def _deep_tiff_size(path: Path) -> tuple[int, int] | None:
    """(height, width) of a TIFF of 16 bits per channel that is safe to give to OpenCV; None for any other."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    with open(path, "rb") as file:
        head = file.read(8)
        if head[2:3] == b"+" or head[3:4] == b"+":  # BigTIFF: 8 more
            head += file.read(8)
        tags: Any = ImageFileDirectory_v2(head)
        file.seek(tags.next)
        tags.load(file)
    bits = tags.get(_BITS, (1,))
    width, height, samples = int(tags[_WIDTH]), int(tags[_HEIGHT]), int(tags.get(_SAMPLES, 1))
    bits = bits if isinstance(bits, tuple) else (bits,)
    if set(bits) != {16} or tags.get(_COMPRESSION, 1) not in _PLAIN_TIFF or samples not in (1, 2, 3, 4):
        return None
    tile = [int(tags.get(tag, 1)) for tag in (_TILE_WIDTH, _TILE_HEIGHT)]
    if tile[0] * tile[1] > MAX_PIXELS:
        return None
    return height, width
