"""Decode the bytes of any supported picture file: `decode_raster`.

A file that cannot be used raises RejectedPicture, whose `reason` is one word of `rejection.REASONS`. Bytes are read
once; the header's size is checked before any decoder runs, and only decoders of the six formats are ever called.
"""

import re
import tempfile
from dataclasses import dataclass

import numpy as np

from bokehsynth.assets.decode.hdr_formats import read_exr, read_hdr_raster
from bokehsynth.assets.decode.headers import detect_format
from bokehsynth.assets.decode.photo_formats import read_photo
from bokehsynth.assets.decode.raster import Raster
from bokehsynth.assets.decode.rejection import RejectedPicture

MAX_PIXELS = 64_000_000
MIN_SIDE = 16
MAX_ASPECT = 32


@dataclass(frozen=True)
class Limits:
    """Bounds on a picture's size, checked against its header before it is decoded."""

    max_pixels: int = MAX_PIXELS
    """Width times height; at most 89,478,485, where Pillow's own guard begins."""
    min_side: int = MIN_SIDE
    """Shorter side in pixels."""
    judged: bool = False
    """Whether the quality of the picture is measured as well; no bound."""

    def check(self, width: int, height: int, name: str) -> None:
        """RejectedPicture for a size outside the limits."""
        if width * height > self.max_pixels:
            raise RejectedPicture(
                f"{name}: {width} x {height} is more than {self.max_pixels / 1e6:g} million pixels", "too_large"
            )
        if min(width, height) < self.min_side:
            raise RejectedPicture(f"{name}: {width} x {height} is below {self.min_side} px a side", "too_small")
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise RejectedPicture(f"{name}: {width} x {height} is a strip, longer than {MAX_ASPECT} : 1", "too_small")


DEFAULT_LIMITS = Limits()
_FAULTS_OF_CODE = (AttributeError, TypeError, NameError, ImportError)
"""What is raised where this code and a library's version do not fit, perhaps over a good file."""


def _same_everywhere(text: str) -> str:
    """A decoder's words without addresses of objects and temporary names, which differ from run to run."""
    temporary = re.escape(tempfile.gettempdir()) + r"[/\\]bokehsynth-\w+\.exr"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", re.sub(temporary, "the file", text))


def decode_raster(data: bytes, name: str, limits: Limits = DEFAULT_LIMITS) -> Raster:
    """The stored numbers of a picture file's bytes; `name` is for messages. Raises RejectedPicture."""
    kind = detect_format(data, name)
    try:
        if kind == "EXR":
            raster = read_exr(data, name, limits.check)
        elif kind == "HDR":
            raster = read_hdr_raster(data, name, limits.check)
        else:
            raster = read_photo(data, kind, name, limits.check)
    except RejectedPicture:
        raise
    except Exception as error:  # decoders raise anything on malformed bytes
        text = _same_everywhere(f"{type(error).__name__}: {error}")
        if any(word in text.lower() for word in ("insufficient memory", "bad_alloc", "out of memory", "memoryerror")):
            message = f"{name}: takes more memory to decode than a picture may"
            raise RejectedPicture(message, "too_large", lasting=False) from None
        if isinstance(error, OSError) and error.errno is not None:  # of the file system; Pillow's own have none
            raise RejectedPicture(f"{name}: {error.strerror}", "unreadable", lasting=False) from None
        cut = any(word in text.lower() for word in ("truncated", "unexpected end", "eof", "not enough", "incomplete"))
        reason, lasting = "truncated" if cut else "corrupt", not isinstance(error, _FAULTS_OF_CODE)
        raise RejectedPicture(f"{name}: cannot be decoded ({text})", reason, lasting) from None
    for values in (raster.values, raster.alpha):
        if values is not None and values.dtype == np.float32 and not np.isfinite(values).all():
            raise RejectedPicture(f"{name}: holds NaN or infinite values", "not_finite")
    return raster
