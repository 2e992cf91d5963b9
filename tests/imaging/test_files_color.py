"""Atomic files, canonical JSON, and sRGB."""

import json
import math
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bokehsynth.color import LUMINANCE, encode_8bit, linear_to_srgb, srgb_to_linear
from bokehsynth.errors import StorageError
from bokehsynth.files import (
    atomic_file,
    atomic_write,
    canonical_json,
    make_directory,
    pretty_json,
    sha256_bytes,
)

# --- atomic files


def test_atomic_write_makes_and_replaces(tmp_path):
    path = tmp_path / "a.txt"
    atomic_write(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    atomic_write(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [None, b"old"])
def test_failed_block_leaves_what_was_there(tmp_path, error, before):
    path = tmp_path / "a.bin"
    if before is not None:
        path.write_bytes(before)

    def write_half():
        with atomic_file(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert (path.read_bytes() if path.exists() else None) == before
    assert len(os.listdir(tmp_path)) == (before is not None)


def test_nothing_is_visible_before_the_end(tmp_path):
    path = tmp_path / "a.bin"
    with atomic_file(path) as file:
        file.write(b"all")
        file.flush()
        assert not path.exists()
        (temporary,) = os.listdir(tmp_path)
        # Hidden and marked: a reader that globs *.tar never sees it, a sweep finds it.
        assert temporary.startswith(".a.bin")
        assert ".tmp-" in temporary
    assert path.read_bytes() == b"all"


def test_content_is_on_disk_before_the_name_is(tmp_path, monkeypatch):
    """fsync of the file, rename, fsync of the directory: in this order, or a power cut leaves an empty file."""
    path, calls = tmp_path / "a.bin", []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(handle):
        calls.append("directory" if Path(f"/proc/self/fd/{handle}").resolve() == tmp_path else "file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", lambda *a: (calls.append("rename"), replace(*a)))
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to tell a directory's handle from a file's")
    atomic_write(path, b"data")
    assert calls == ["file", "rename", "directory"]


def test_threads_that_write_one_file_leave_a_whole_one(tmp_path):
    path = tmp_path / "a.bin"
    contents = [bytes([i]) * 200_000 for i in range(6)]
    threads = [threading.Thread(target=atomic_write, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert os.listdir(tmp_path) == ["a.bin"]


def test_missing_folder_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="no/where") as caught:
        atomic_write(tmp_path / "no" / "where" / "a.txt", "x")
    assert caught.value.exit_code == 4


def test_folder_in_the_way_is_a_storage_error_and_leaves_nothing(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(StorageError, match=r"a\.txt"):
        atomic_write(tmp_path / "a.txt", "x")
    assert os.listdir(tmp_path) == ["a.txt"]


def test_full_disk_says_so(fresh_python, tmp_path):
    """A file size limit stands for the full disk: the same kind of errno, and it needs no mount."""
    pytest.importorskip("resource")
    printed = fresh_python(
        """
import os, resource, signal, sys
from pathlib import Path
from bokehsynth.errors import StorageError
from bokehsynth.files import atomic_write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
path = Path(sys.argv[1])
path.write_bytes(b"old")
try:
    atomic_write(path, b"x" * 5000)
except StorageError as error:
    print(error, path.read_bytes(), len(os.listdir(path.parent)))
""",
        str(tmp_path / "a.bin"),
    )
    assert "full" in printed
    assert "a.bin" in printed
    assert printed.endswith("b'old' 1")


def test_make_directory(tmp_path):
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        make_directory(tmp_path / "file" / "c")


# --- JSON and digests

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60)
@given(JSON)
def test_canonical_json_round_trip_and_order(value):
    text = canonical_json(value)
    assert text.isascii()
    assert json.loads(text) == value == json.loads(pretty_json(value))
    assert canonical_json(json.loads(text)) == text
    if isinstance(value, dict):
        assert canonical_json(dict(reversed(value.items()))) == text


def test_canonical_json_is_pinned():
    assert canonical_json({"b": [1.5, 0.1, 1e-7, None], "a": "é"}) == '{"a":"\\u00e9","b":[1.5,0.1,1e-07,null]}'
    assert pretty_json({"b": 1, "a": []}) == '{\n  "a": [],\n  "b": 1\n}\n'


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("write", [canonical_json, pretty_json])
def test_json_has_no_nan(write, number):
    with pytest.raises(ValueError, match="JSON"):
        write({"x": number})


def test_digests():
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # FIPS 180-4
    assert sha256_bytes(b"") == sha256_bytes("") == empty
    assert sha256_bytes("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # the same


# --- colour


def reference_decode(value: float) -> float:
    """IEC 61966-2-1, in words of its own."""
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def test_decode_equals_the_standard():
    levels = np.arange(256, dtype=np.uint8)
    expected = np.array([reference_decode(level / 255) for level in range(256)])
    # float32 has 24 bits: a relative 6e-8.
    np.testing.assert_allclose(srgb_to_linear(levels), expected, rtol=1e-7)
    np.testing.assert_allclose(srgb_to_linear((levels / 255).astype(np.float64)), expected, rtol=1e-7)
    np.testing.assert_allclose(srgb_to_linear(levels.astype(np.uint16) * 257), expected, rtol=1e-7)
    assert srgb_to_linear(levels).dtype == np.float32


def test_eight_bit_round_trip_is_exact():
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(encode_8bit(srgb_to_linear(levels)), levels)


def test_sixteen_bit_round_trip():
    levels = np.arange(65536, dtype=np.uint16)
    back = linear_to_srgb(srgb_to_linear(levels)) * 65535
    assert np.abs(back - levels).max() < 0.05  # float32 rounding of two power functions, in 16-bit steps


@settings(deadline=None)
@given(st.floats(0, 50, width=32))
def test_encode_inverts_decode_beyond_white(value):
    assert float(srgb_to_linear(linear_to_srgb(np.float32(value)))) == pytest.approx(value, rel=1e-5, abs=1e-7)


def test_encode_is_monotonic_and_continuous():
    encoded = linear_to_srgb(np.linspace(0, 2, 200_001))
    assert (np.diff(encoded) >= 0).all()
    # The steepest part has slope 12.92; a jump where the two pieces meet would stand out.
    assert np.diff(encoded).max() <= 12.92 * 1e-5 * 1.02


def test_dark_pictures_are_encoded_as_bright_ones() -> None:
    """Where much is dark only the rest is raised to a power, to the same bits."""
    bright = np.random.default_rng(3).uniform(0.004, 2, (40, 7, 3)).astype(np.float32)
    mixed = np.concatenate([bright, np.linspace(-0.1, 0.0031308, 60, dtype=np.float32).reshape(-1, 1, 3).repeat(7, 1)])
    assert (linear_to_srgb(mixed)[:40] == linear_to_srgb(bright)).all()
    assert (linear_to_srgb(mixed)[40:] == mixed[40:] * np.float32(12.92)).all()


def test_floats_are_not_clamped_and_keep_their_shape():
    array = np.array([[-0.5, 0.0, 4.0]])
    assert linear_to_srgb(array).shape == (1, 3)
    assert linear_to_srgb(array)[0, 0] == pytest.approx(-0.5 * 12.92)
    assert linear_to_srgb(array)[0, 2] > 1
    assert srgb_to_linear(array)[0, 0] == pytest.approx(-0.5 / 12.92)


def test_encode_8bit_clamps_and_rounds_to_nearest():
    edges = [reference_decode((level + 0.5) / 255) for level in range(255)]
    below = encode_8bit(np.array(edges) * (1 - 1e-5))
    above = encode_8bit(np.array(edges) * (1 + 1e-5))
    assert np.array_equal(below, np.arange(255))
    assert np.array_equal(above, np.arange(1, 256))
    assert encode_8bit(np.array([-3.0, 0.0, 1.0, 20.0, 1e30])).tolist() == [0, 0, 255, 255, 255]


def test_luminance_of_white_is_one():
    assert float(LUMINANCE.sum()) == pytest.approx(1, abs=1e-6)


def test_8_bits_by_look_up_are_those_of_the_formula() -> None:
    """At every step of the code and one float to either side, over all magnitudes, and in any layout."""
    rng = np.random.default_rng(3)
    some = rng.integers(0, np.float32(1).view(np.uint32), 1 << 20, dtype=np.uint32, endpoint=True).view(np.float32)
    want = np.floor(linear_to_srgb(some) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    np.testing.assert_array_equal(encode_8bit(some), want)
    order = np.argsort(some)
    steps = some[order][1:][np.diff(want[order].astype(int)) > 0]
    assert len(steps) == 255
    near = np.concatenate([np.nextafter(steps, np.float32(toward)) for toward in (-1, 2)] + [np.linspace(-1, 2, 3001)])
    clipped = np.clip(near.astype(np.float32), 0, 1)
    want = np.floor(linear_to_srgb(clipped) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    np.testing.assert_array_equal(encode_8bit(near), want)
    assert encode_8bit(np.float32([-0.0, 1.0])).tolist() == [0, 255]
    picture = some[: 64 * 48 * 3].reshape(64, 48, 3)
    np.testing.assert_array_equal(encode_8bit(picture[::2, ::-1].transpose(1, 0, 2)),
                                  encode_8bit(picture)[::2, ::-1].transpose(1, 0, 2))  # fmt: skip
