"""Size and depth of a stored picture by its header, so that nothing else than what the record says is ever decoded.

A member is the one kind of file that its name says, in the one form that a writer of the format gives it: a PNG of
IHDR, IDAT and IEND, or a WebP of one lossless picture. OpenCV takes the decoder by the first bytes, so none but that of
PNG or WebP is reached.
"""

import struct
import zlib
from typing import NamedTuple

from bokehsynth.errors import DataError

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3}
"""Channels by colour type: grey and RGB."""
_VP8L = 0x2F
"""First byte of a lossless picture's bits."""
_SIDE_BITS = (1 << 14) - 1


class StoredForm(NamedTuple):
    """What a picture decodes to."""

    shape: tuple[int, ...]
    """[H, W] or [H, W, 3]."""
    dtype: str
    """uint8 or uint16."""

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.shape[0] * self.shape[1]

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def read_form(data: bytes, suffix: str, where: str) -> StoredForm:
    """What a member with the suffix `png` or `webp` decodes to; DataError, naming `where`, if it is no such file."""
    return _webp_form(data, where) if suffix == "webp" else _png_form(data, where)


def _png_form(data: bytes, where: str) -> StoredForm:
    if data[:8] != _PNG_MAGIC:
        raise DataError(f"{where} is no PNG: {len(data)} bytes that begin with {data[:8]!r}")
    if data[8:16] != b"\0\0\0\rIHDR" or len(data) < 33:
        raise DataError(f"{where} cannot be decoded: a PNG without its header")
    width, height, depth, color_type, compression, filtering, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    channels = _PNG_CHANNELS.get(color_type)
    if channels is None or depth not in {8, 16} or compression or filtering or interlace or not width or not height:
        raise DataError(
            f"{where} cannot be decoded: a PNG of {width} x {height} px, colour type {color_type}, {depth} bits, "
            f"interlace {interlace}; 8 or 16 bits of grey or RGB, not interlaced, belong there"
        )
    place = 33
    while data[place + 4 : place + 8] == b"IDAT":
        place = _checked_chunk(data, place, where)
    if data[place : place + 8] != b"\0\0\0\0IEND" or place + 12 != len(data):
        raise DataError(f"{where} cannot be decoded: after byte {place} something else than IDAT and IEND, or nothing")
    for start in (8, place):
        _checked_chunk(data, start, where)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return StoredForm(shape, f"uint{depth}")


def _checked_chunk(data: bytes, start: int, where: str) -> int:
    """The end of a chunk of a PNG whose checksum is right: libpng would tell stderr of others, without a name.

    A stream that is damaged under right checksums is left to it, words on stderr included: to inflate the stream twice
    would take half as long again as decoding.
    """
    end = start + 8 + int.from_bytes(data[start : start + 4], "big")
    if zlib.crc32(memoryview(data)[start + 4 : end]).to_bytes(4, "big") != data[end : end + 4]:
        raise DataError(f"{where} cannot be decoded: the checksum of its chunk at byte {start} is wrong")
    return end + 4


def _webp_form(data: bytes, where: str) -> StoredForm:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise DataError(f"{where} is no WebP: {len(data)} bytes that begin with {data[:12]!r}")
    size, length = (int.from_bytes(data[at : at + 4], "little") for at in (4, 16))
    whole = size + 8 == len(data) and 20 + length + length % 2 == len(data)
    if data[12:16] != b"VP8L" or not whole or len(data) < 25 or data[20] != _VP8L:
        raise DataError(f"{where} cannot be decoded: something else than one whole lossless WebP picture")
    bits = int.from_bytes(data[21:25], "little")
    if bits >> 28:  # three bits of version; the one before them says that alpha is used
        raise DataError(f"{where} cannot be decoded: a WebP with transparency, or of a later version")
    return StoredForm(((bits >> 14 & _SIDE_BITS) + 1, (bits & _SIDE_BITS) + 1, 3), "uint8")
