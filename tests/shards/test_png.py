"""PNG members: valid by the letter of the specification, the same pixels in every decoder, whatever the picture."""

import io
import struct
import zlib
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bokehsynth.shards import png
from bokehsynth.shards.codec import decode_image
from bokehsynth.shards.picture_header import read_form


def chunks(data):
    """The chunks of a PNG, each with its checksum compared."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    found, place = [], 8
    while place < len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        body = data[place + 8 : place + 8 + size]
        assert len(body) == size
        assert struct.unpack_from(">I", data, place + 8 + size)[0] == zlib.crc32(kind + body)
        found.append((kind, body))
        place += 12 + size
    return found


def paeth(left, above, corner):
    """The predictor as the PNG specification (9.4) writes it."""
    p = left + above - corner
    to_left, to_above, to_corner = abs(p - left), abs(p - above), abs(p - corner)
    if to_left <= to_above and to_left <= to_corner:
        return left
    return above if to_above <= to_corner else corner


def unfiltered(lines, pixel):
    """Rows of bytes behind rows filtered by Paeth's rule, pixel by pixel in plain Python."""
    before = bytes(len(lines[0]) - 1)
    for line in lines:
        assert line[0] == 4
        row = bytearray(line[1:])
        for i, value in enumerate(row):
            left, corner = (row[i - pixel], before[i - pixel]) if i >= pixel else (0, 0)
            row[i] = (value + paeth(left, before[i], corner)) & 255
        yield bytes(row)
        before = bytes(row)


def check_strictly(data, values):
    """One IHDR, IDATs of one whole zlib stream with nothing behind it, IEND; the rows are those of `values`."""
    (head, header), *middle, (tail, nothing) = chunks(data)
    height, width, channels = *values.shape[:2], values.shape[2] if values.ndim == 3 else 1
    form = struct.pack(">IIBBBBB", width, height, 8 * values.dtype.itemsize, 2 if channels == 3 else 0, 0, 0, 0)
    assert (head, header, tail, nothing) == (b"IHDR", form, b"IEND", b"")
    assert {kind for kind, _ in middle} == {b"IDAT"}
    assert all(0 < len(body) <= 1 << 20 for _, body in middle)
    inflate = zlib.decompressobj()
    stream = inflate.decompress(b"".join(body for _, body in middle))
    assert (inflate.eof, inflate.unused_data, inflate.unconsumed_tail) == (True, b"", b"")
    pixel = channels * values.dtype.itemsize
    lines = [stream[at : at + 1 + pixel * width] for at in range(0, len(stream), 1 + pixel * width)]
    assert [*unfiltered(lines, pixel)] == [row.astype(row.dtype.newbyteorder(">")).tobytes() for row in values]


def check_decoders(data, values):
    """OpenCV, Pillow and the reader give the same array."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    read = decode_image(data, read_form(data, "png", "x"), "x")
    pillow = np.asarray(Image.open(io.BytesIO(data)))
    for found in (decoded[..., ::-1] if values.ndim == 3 else decoded, read):
        assert found.dtype == values.dtype
        assert np.array_equal(found, values)
    if values.dtype == np.uint16 and values.ndim == 3:  # Pillow brings these to 8 bits
        pillow, values = pillow.astype(np.uint16), values >> 8
    assert np.array_equal(pillow, values)


@st.composite
def pictures(draw):
    dtype, channels = draw(st.sampled_from([np.uint8, np.uint16])), draw(st.sampled_from([None, 3]))
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 12)), *([channels] if channels else []))
    top = np.iinfo(dtype).max
    values = draw(st.sampled_from([(0, 1), (0, 255), (0, top), (top - 1, top), (top // 2 - 2, top // 2 + 2)]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    picture = rng.integers(*values, shape, dtype, endpoint=True)
    kind = draw(st.sampled_from(["noise", "ramp", "flat", "mirrored", "sliced"]))
    if kind == "ramp":
        picture = (np.add.accumulate(picture, axis=1, dtype=dtype) // dtype(3)).astype(dtype)
    elif kind == "flat":
        picture[:] = picture.flat[0]
    elif kind == "mirrored":
        picture = picture[:, ::-1]
    elif kind == "sliced":
        picture = np.repeat(picture, 2, axis=0)[::2]
    return picture


@settings(max_examples=40, deadline=None)
@given(pictures())
def test_any_picture_is_a_strict_png_and_decodes_to_itself(picture):
    data = png.encode_png(picture)
    check_strictly(data, picture)
    check_decoders(data, picture)
    check_decoders(png.encode_png_opencv(picture), picture)


def test_pictures_of_sets_of_0_4_0_have_the_bytes_that_it_wrote():
    """Its call of OpenCV, number by number: compression 1, then strategy 2 (Huffman only) for colour, 3 (runs) for
    maps, and key 19, the filters, 128 (Paeth)."""
    rng = np.random.default_rng(0)
    wave = np.hypot(*np.mgrid[:61, :83]) * 3
    grey = (wave + rng.integers(0, 3, wave.shape)).astype(np.uint8)
    color = np.stack([grey, grey[::-1], np.full_like(grey, 7)], axis=2)
    for picture in (color, grey, grey * np.uint16(257)):
        strategy, bgr = (2, picture[..., ::-1]) if picture.ndim == 3 else (3, picture)
        keys = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, strategy, 19, 128]
        before = cv2.imencode(".png", np.ascontiguousarray(bgr), keys)[1].tobytes()
        assert png.encode_png_opencv(picture) == before


def test_every_meeting_of_three_bytes_is_predicted_as_the_specification_says():
    """Left, above and upper left through all 256 values of two of them and 18 of the third, extremes among them."""
    left, above = (side.astype(np.uint8).ravel() for side in np.mgrid[:256, :256])
    for corner in [0, 1, 2, 3, 63, 64, 65, 126, 127, 128, 129, 190, 191, 192, 252, 253, 254, 255]:
        pairs = np.zeros((2, 2 * left.size), np.uint8)  # columns: upper left over left, above over the byte itself
        pairs[0, 0::2], pairs[1, 0::2], pairs[0, 1::2] = corner, left, above
        out = np.empty((1, pairs.shape[1] - 1), np.uint8)
        spare = np.empty((7, *out.shape), np.uint8)
        png._subtract_prediction(pairs, 1, out, spare)
        got = np.negative(out[0, 0::2])
        a, b, c = left.astype(int), above.astype(int), corner
        to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
        wanted = np.where((to_a <= to_b) & (to_a <= to_c), a, np.where(to_b <= to_c, b, c))
        assert np.array_equal(got, wanted)


@pytest.mark.parametrize("strip", [1, 200, 1 << 20])
def test_strips_of_any_height_give_one_stream(strip, monkeypatch):
    picture = np.random.default_rng(2).integers(0, 65536, (23, 19, 3), np.uint16)
    whole = zlib.decompress(b"".join(body for kind, body in chunks(png.encode_png(picture)) if kind == b"IDAT"))
    monkeypatch.setattr(png, "_STRIP", strip)
    data = png.encode_png(picture)
    check_strictly(data, picture)
    assert zlib.decompress(b"".join(body for kind, body in chunks(data) if kind == b"IDAT")) == whole


def test_a_large_picture_has_chunks_of_one_size():
    """Noise of 2.4 MB does not grow by more than 0.2 %."""
    picture = np.random.default_rng(3).integers(0, 256, (900, 900, 3), np.uint8)
    data = png.encode_png(picture)
    bodies = [body for kind, body in chunks(data) if kind == b"IDAT"]
    assert len(bodies) == 3
    assert all(len(before) == 1 << 20 for before, _ in pairwise(bodies))
    assert len(data) < 1.002 * picture.nbytes
    check_decoders(data, picture)


@pytest.mark.parametrize("shape", [(1, 1 << 14), (1 << 14, 1), (1, 1, 3)])
def test_pictures_of_one_row_or_column(shape):
    picture = np.random.default_rng(4).integers(0, 65536, shape, np.uint16)
    check_strictly(png.encode_png(picture), picture)
    check_decoders(png.encode_png(picture), picture)
