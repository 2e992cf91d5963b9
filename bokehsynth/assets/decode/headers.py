"""Parse headers before anything is decoded: format, size, depth, orientation, frames.

The libraries report only what they can decode (a 16-bit RGB picture is `RGB` to Pillow), and the size must be known
before a decoder runs.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from bokehsynth.assets.decode.rejection import RejectedPicture

_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"#?RADIANCE": "HDR",
    b"#?RGBE": "HDR",
    b"\x76\x2f\x31\x01": "EXR",
}
_UNSUPPORTED_MAGIC = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"8BPS": "Photoshop",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xml": "XML",
    b"version https://git-lfs": "a Git LFS pointer: `git lfs pull` gets the file",
}
"""First bytes of formats that are named in the message though they are not read."""


def detect_format(data: bytes, name: str) -> str:
    """PNG, JPEG, WEBP, TIFF, HDR or EXR by the first bytes, not by the name; RejectedPicture for all else."""
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if not data:
        raise RejectedPicture(f"{name}: is empty", "truncated")
    known = [kind for magic, kind in _UNSUPPORTED_MAGIC.items() if data.startswith(magic)]
    if data[4:8] == b"ftyp":
        known = ["HEIC or AVIF"]
    what = f"is {known[0]}" if known else "is no picture"
    raise RejectedPicture(f"{name}: {what}; PNG, JPEG, WebP, TIFF, .hdr and .exr can be read", "unsupported_format")


@dataclass(frozen=True)
class PngHeader:
    """IHDR and the other chunks that decide how a PNG is read."""

    width: int
    height: int
    depth: int
    color_type: int
    """0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA."""
    frames: int
    transparent: bytes | None
    """Content of tRNS: the transparent colour."""
    gamma: float | None
    """Encoding exponent of gAMA, where neither sRGB nor iCCP say more."""
    transfer: int | None
    """Transfer function of cICP (H.273): 13 is sRGB, 16 PQ, 18 HLG."""


def read_png(data: bytes, name: str) -> PngHeader:
    """Walk the chunks of a PNG; RejectedPicture if one is cut off, its checksum is wrong, or the last is missing."""
    found: dict[bytes, bytes] = {}
    for kind, content in _png_chunks(data, name):
        if kind != b"IDAT":
            found.setdefault(kind, content)
    if len(found.get(b"IHDR", b"")) != 13:
        raise RejectedPicture(f"{name}: a PNG without its header", "corrupt")
    width, height, depth, color_type = struct.unpack_from(">IIBB", found[b"IHDR"])
    gamma = found.get(b"gAMA") if b"sRGB" not in found and b"iCCP" not in found else None
    return PngHeader(
        width=width, height=height, depth=depth, color_type=color_type,
        frames=struct.unpack_from(">I", found[b"acTL"])[0] if len(found.get(b"acTL", b"")) >= 4 else 1,
        transparent=found.get(b"tRNS"),
        gamma=struct.unpack(">I", gamma)[0] / 100000 if gamma is not None and len(gamma) == 4 else None,
        transfer=found[b"cICP"][1] if len(found.get(b"cICP", b"")) == 4 else None,
    )  # fmt: skip


def _png_chunks(data: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while True:
        if place + 12 > len(data):
            raise RejectedPicture(f"{name}: the PNG ends before its last chunk", "truncated")
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        if end + 4 > len(data):
            raise RejectedPicture(f"{name}: the PNG ends inside its chunk {kind!r}", "truncated")
        content = data[place + 8 : end]
        if zlib.crc32(content, zlib.crc32(kind)) != struct.unpack_from(">I", data, end)[0]:
            raise RejectedPicture(f"{name}: the checksum of the PNG's chunk {kind!r} is wrong", "corrupt")
        yield kind, content
        if kind == b"IEND":
            return
        place = end + 4


@dataclass(frozen=True)
class TiffHeader:
    """The tags of a TIFF's first page that decide how it is read."""

    width: int
    height: int
    bits: tuple[int, ...]
    """Bits of each sample."""
    floating: bool
    photometric: int
    """0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr, 8 Lab."""
    extra: tuple[int, ...]
    """Meaning of samples beyond the colours: 1 associated (premultiplied) alpha, 2 straight alpha."""
    orientation: int
    icc: bytes | None
    pages: int
    upright_data: bytes
    """The file with its orientation tag set to 1: some decoders apply the tag, and some do not."""


_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 11: 4, 12: 8, 13: 4, 16: 8}
_TIFF_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}


def read_tiff(data: bytes, name: str) -> TiffHeader:
    """The first directory of a TIFF or BigTIFF; RejectedPicture where it points beyond the file."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    offset_code, count_code, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    try:
        (place,) = struct.unpack_from(order + offset_code, data, 8 if big else 4)
        (count,) = struct.unpack_from(order + count_code, data, place)
        first = place + struct.calcsize(count_code)
        entries = [first + entry * i for i in range(min(count, 4096))]
        tags = {struct.unpack_from(order + "H", data, at)[0]: at for at in entries}
        (following,) = struct.unpack_from(order + offset_code, data, first + entry * count)

        def values(tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
            if tag not in tags:
                return default
            kind, number = struct.unpack_from(order + "H" + offset_code, data, tags[tag] + 2)
            inline, size = tags[tag] + (12 if big else 8), _TIFF_SIZES.get(kind, 0) * number
            fits = size <= (8 if big else 4)
            at = inline if fits else struct.unpack_from(order + offset_code, data, inline)[0]
            if tag == 34675:  # the profile: bytes
                return tuple(data[at : at + size])
            return struct.unpack_from(f"{order}{min(number, 8)}{_TIFF_CODES[kind]}", data, at)

        samples = values(277, (1,))[0]
        bits = values(258, (1,))
        patched = data
        if 274 in tags and values(274) != (1,):
            at = tags[274] + (12 if big else 8)
            patched = data[:at] + struct.pack(order + "H", 1) + data[at + 2 :]
        return TiffHeader(
            width=values(256)[0], height=values(257)[0], bits=bits if len(bits) > 1 else bits * min(samples, 8),
            floating=values(339, (1,))[0] == 3, photometric=values(262, (1,))[0], extra=values(338),
            orientation=values(274, (1,))[0], icc=bytes(values(34675)) or None, pages=1 + (following != 0),
            upright_data=patched,
        )  # fmt: skip
    except (struct.error, IndexError, KeyError, OverflowError, MemoryError):
        raise RejectedPicture(
            f"{name}: the TIFF's directory points beyond the file or is malformed", "truncated"
        ) from None


_HDR_SIZE = re.compile(rb"\n\n?([-+][XY]) +(\d{1,9}) +([-+][XY]) +(\d{1,9})\n")


def read_hdr(data: bytes, name: str) -> tuple[int, int]:
    """Width and height of a Radiance picture, stored in the usual order."""
    found = _HDR_SIZE.search(data[:65536])
    if found is None:
        raise RejectedPicture(
            f"{name}: the .hdr file has no line of size", "truncated" if len(data) < 256 else "corrupt"
        )
    if (found[1], found[3]) != (b"-Y", b"+X"):
        raise RejectedPicture(f"{name}: the .hdr file's rows do not run from the top left", "unsupported_format")
    return int(found[4]), int(found[2])
