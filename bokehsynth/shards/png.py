"""Encodes pictures as PNG: rows filtered by Paeth's rule with NumPy and OpenCV, deflated by ISA-L.

It takes less than half the time of OpenCV's encoder. Sets begun by versions that had none other go on with that one
(`encode_png_opencv`), so that a set has the bytes of one encoder. Readers need nothing of this module.
"""

import struct
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""uint8 or uint16 [H, W, 3] RGB, or [H, W] grey."""
PngEncoder = Callable[[Picture], bytes]

_Bytes = npt.NDArray[np.uint8]

_MAGIC = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2
"""Colour types."""
_PAETH = 4
"""Number of the filter that stands before each row."""

_STRIP = 1 << 17
"""Bytes that are filtered and deflated at a time, ten arrays of them; measured: 2^16 to 2^17 are fastest."""
_IDAT_MAX = 1 << 20
"""Bytes of an IDAT chunk at most: the format allows 2^31 - 1, but readers may hold a chunk as a whole."""

# ISA-L's own levels, 0 to 3, on filtered photographs: 2 takes a twentieth more time than 1 and 0.7 % fewer bytes; 0
# takes a fourth more bytes, and 3 a fourth more time for as many.
_LEVEL = 2
_WINDOW_BITS, _MEMORY_LEVEL = 15, 8

_NUMBERS = np.zeros(64, np.float32)
"""ISA-L leaves the upper halves of the vector registers in use, and code without AVX runs at less than half its speed
(OpenCV's resize by area 9.4 ms instead of 3.6) until other code clears them, as NumPy does where it adds numbers."""

# OpenCV 4.12 gave this parameter its name; before that it is ignored: same pixels, other bytes.
_CV2_FILTER = 19
_CV2_PAETH = 128
_CV2_COLOR, _CV2_MAP = (
    [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, strategy, _CV2_FILTER, _CV2_PAETH]
    for strategy in (cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY, cv2.IMWRITE_PNG_STRATEGY_RLE)
)


def encode_png(values: Picture) -> bytes:
    """PNG of a picture of at least one pixel, not interlaced."""
    from isal import isal_zlib  # writers alone

    height, width = values.shape[:2]
    color = _RGB if values.ndim == 3 else _GREY
    header = struct.pack(">IIBBBBB", width, height, 8 * values.dtype.itemsize, color, 0, 0, 0)
    deflate = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL)
    parts = [deflate.compress(strip.data) for strip in _filtered(values)]
    data = memoryview(b"".join([*parts, deflate.flush()]))
    chunks = [_chunk(b"IDAT", data[at : at + _IDAT_MAX]) for at in range(0, len(data), _IDAT_MAX)]
    encoded = b"".join([_MAGIC, _chunk(b"IHDR", header), *chunks, _chunk(b"IEND", b"")])
    np.add(_NUMBERS, _NUMBERS)
    return encoded


def encode_png_opencv(values: Picture) -> bytes:
    """PNG of a picture as version 0.4.0 encoded it, with the zlib in OpenCV's wheel."""
    if values.ndim == 3:
        return bytes(cv2.imencode(".png", cv2.cvtColor(values, cv2.COLOR_RGB2BGR), _CV2_COLOR)[1])
    return bytes(cv2.imencode(".png", values, _CV2_MAP)[1])


def _chunk(kind: bytes, data: bytes | memoryview) -> bytes:
    from isal import isal_zlib

    crc = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return b"".join([struct.pack(">I", len(data)), kind, data, struct.pack(">I", crc)])


def _filtered(values: Picture) -> Iterator[_Bytes]:
    """The rows of a picture as PNG filters them, each behind the number of its filter, some at a time.

    The array that is yielded is written over by the next one.
    """
    height, pixel = len(values), values.dtype.itemsize * (values.shape[2] if values.ndim == 3 else 1)
    size = pixel * values.shape[1]
    rows = min(height, max(1, _STRIP // size))
    # One row above and one pixel before the strip: zeros at the borders of the picture, as PNG has it.
    padded = np.zeros((rows + 1, pixel + size), np.uint8)
    filtered = np.empty((rows, 1 + size), np.uint8)
    filtered[:, 0] = _PAETH
    spare = np.empty((7, rows, size), np.uint8)
    for top in range(0, height, rows):
        strip = np.ascontiguousarray(values[top : top + rows], dtype=values.dtype.newbyteorder(">"))
        count = len(strip)
        padded[1 : count + 1, pixel:] = strip.view(np.uint8).reshape(count, size)
        _subtract_prediction(padded[: count + 1], pixel, filtered[:count, 1:], spare[:, :count])
        yield filtered[:count]
        padded[0] = padded[count]


def _subtract_prediction(padded: _Bytes, pixel: int, out: _Bytes, spare: _Bytes) -> None:
    """Write into `out` [h, n] the bytes of a strip minus Paeth's prediction; `padded` is uint8 [h + 1, pixel + n].

    The prediction is what of left, above and upper left is closest to left + above - upper left, the first of them
    that is (PNG specification, 9.4). The distances are |above - upper left|, |left - upper left| and, if upper left
    lies between the others, the difference of these two; else it is their sum, which is never the least alone: 255
    stands for it, as nothing is farther. So no number has more than 8 bits, and each step is an instruction for 16 or
    32 bytes.
    """
    left, above, corner = padded[1:, :-pixel], padded[:-1, pixel:], padded[:-1, :-pixel]
    to_left, to_above, to_corner, low, high, mask, best = spare
    cv2.absdiff(above, corner, to_left)
    cv2.absdiff(left, corner, to_above)
    cv2.absdiff(to_left, to_above, to_corner)
    cv2.min(left, above, low)
    cv2.max(left, above, high)
    cv2.compare(corner, low, cv2.CMP_LE, mask)
    np.bitwise_or(to_corner, mask, out=to_corner)
    cv2.compare(corner, high, cv2.CMP_GE, mask)
    np.bitwise_or(to_corner, mask, out=to_corner)
    cv2.compare(to_above, to_corner, cv2.CMP_LE, mask)
    _choose(above, corner, mask, best)
    cv2.min(to_above, to_corner, to_above)
    cv2.compare(to_left, to_above, cv2.CMP_LE, mask)
    _choose(left, best, mask, best)
    np.subtract(padded[1:, pixel:], best, out=out)


def _choose(first: _Bytes, second: _Bytes, mask: _Bytes, out: _Bytes) -> None:
    """`first` where the mask is 255 and `second` where it is 0; `out` may be `second`, and `mask` is used up."""
    np.bitwise_and(np.bitwise_xor(first, second), mask, out=mask)
    np.bitwise_xor(second, mask, out=out)
