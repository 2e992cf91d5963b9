"""Any picture file to linear light, or a reason: modes, depths, orientations, profiles, and files built to hurt."""

import ctypes
import io
import os
import re
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cv2
import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps
from PIL import _imaging as pillow_library
from support.icc_profiles import p3_profile
from support.photographs import cutout, encoded, landscape

from bokehsynth.assets.decode.decoder import DEFAULT_LIMITS, Limits, decode_raster
from bokehsynth.assets.decode.rejection import REASONS, RejectedPicture
from bokehsynth.assets.decode.safe_read import read_unchanged
from bokehsynth.color import encode_8bit, srgb_to_linear
from bokehsynth.errors import AssetError, ChangedError
from bokehsynth.files import sha256_bytes

RGB = landscape(1, 40, 56)
RNG = np.random.RandomState(5)


def picture(data: bytes, name: str = "x"):
    raster = decode_raster(data, name)
    return SimpleNamespace(
        color=raster.light(), alpha=raster.opacity(), mode=raster.mode, depth=raster.depth, bright=raster.linear,
        notes=raster.notes,
    )  # fmt: skip


def read_picture(path, root=None, sha256=None):
    return picture(read_unchanged(path, root, sha256), str(path))


def reason(data: bytes, limits: Limits = DEFAULT_LIMITS) -> str:
    with pytest.raises(RejectedPicture) as caught:
        decode_raster(data, "x", limits)
    assert caught.value.reason in REASONS
    return caught.value.reason


# --- what an 8-bit sRGB picture says comes back bit for bit


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
    ],
)
def test_eight_bits_survive(form, options):
    found = picture(encoded(RGB, form, **options))
    np.testing.assert_array_equal(encode_8bit(found.color), RGB)
    assert (found.alpha, found.depth, found.bright, found.mode) == (None, 8, False, "RGB")
    assert found.color.dtype == np.float32


def test_every_level_survives():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    np.testing.assert_array_equal(encode_8bit(picture(encoded(ramp)).color), ramp)


def test_jpeg_equals_its_decoder():
    data = encoded(RGB, "JPEG", quality=92)
    np.testing.assert_array_equal(encode_8bit(picture(data).color), np.asarray(Image.open(io.BytesIO(data))))


# --- every colour mode

GREY = RGB[..., 1]
ALPHA = cutout(3, 40, 56)[..., 3]


def _palette() -> Image.Image:
    return Image.fromarray(RGB).quantize(32)


def _palette_with_hole() -> tuple[bytes, np.ndarray]:
    image = _palette()
    data = encoded(image, transparency=3)
    return data, np.asarray(image) == 3


OLD_PILLOW = pytest.mark.xfail(
    int(PIL.__version__.partition(".")[0]) < 13,
    reason="Pillow before 13 takes such TIFFs of its own for cut",
    strict=True,
)


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        *((mode, form) for mode in ("1", "L", "P", "RGB") for form in ("PNG", "TIFF")),
        ("CMYK", "TIFF"),
        pytest.param("YCbCr", "TIFF", marks=OLD_PILLOW),
    ],
)
def test_color_modes(mode, form):
    image = _palette() if mode == "P" else Image.fromarray(RGB).convert(mode)
    found = picture(encoded(image, form))
    np.testing.assert_array_equal(encode_8bit(found.color), np.asarray(image.convert("RGB")))
    assert found.alpha is None
    assert found.mode == mode
    assert bool(found.notes) == (mode == "CMYK")


@pytest.mark.parametrize(("mode", "form"), [("LA", "PNG"), ("RGBA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF")])
def test_modes_with_alpha(mode, form):
    image = Image.fromarray(np.dstack([RGB, np.maximum(ALPHA, 1)])).convert(mode)
    found = picture(encoded(image, form, **({"lossless": True, "exact": True} if form == "WEBP" else {})))
    np.testing.assert_array_equal(encode_8bit(found.color), np.asarray(image.convert("RGBA"))[..., :3])
    np.testing.assert_array_equal(np.rint(found.alpha * 255), np.maximum(ALPHA, 1))


def test_transparent_colors_are_alpha():
    data, hole = _palette_with_hole()
    np.testing.assert_array_equal(picture(data).alpha, np.where(hole, 0, 1))
    grey = picture(encoded(Image.fromarray(GREY), transparency=int(GREY[0, 0])))
    np.testing.assert_array_equal(grey.alpha, np.where(GREY[0, 0] == GREY, 0, 1))
    color = picture(encoded(Image.fromarray(RGB), transparency=tuple(int(v) for v in RGB[2, 3])))
    np.testing.assert_array_equal(color.alpha, np.where((RGB[2, 3] == RGB).all(axis=2), 0, 1))


@pytest.mark.parametrize("extension", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_kept(extension, channels):
    values = RNG.randint(0, 65536, (40, 56, channels)).astype(np.uint16)
    found = picture(cv2.imencode(extension, values)[1].tobytes())
    shown = (
        values[..., ::-1] if channels == 3 else values[..., [2, 1, 0]] if channels == 4 else values.repeat(3, axis=2)
    )
    np.testing.assert_array_equal(found.color, srgb_to_linear(shown))
    assert found.depth == 16
    assert found.mode.endswith(";16")
    if channels == 4:
        np.testing.assert_array_equal(np.rint(found.alpha * 65535), values[..., 3])


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    return png[:33] + _png_chunk(kind, content) + png[33:]


def test_sixteen_bits_with_a_transparent_color():
    values = RNG.randint(0, 65536, (20, 30)).astype(np.uint16)
    png = cv2.imencode(".png", values)[1].tobytes()
    found = picture(_with_chunk(png, b"tRNS", struct.pack(">H", int(values[4, 5]))))
    np.testing.assert_array_equal(found.alpha, np.where(values == values[4, 5], 0, 1))


def test_lab_tiff():
    lab = ImageCms.profileToProfile(
        Image.fromarray(RGB), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    difference = encode_8bit(picture(encoded(lab, "TIFF")).color).astype(int) - RGB
    assert np.abs(difference).mean() < 3


# --- orientation: colour and alpha turn together, whatever the format


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "PNG;16", "TIFF;16"])
def test_every_orientation(form, orientation):
    name, _, deep = form.partition(";")
    rgba = cutout(3, 40, 56)
    exif = Image.Exif()
    exif[0x0112] = orientation
    mode = "RGB" if name == "JPEG" else "RGBA"
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(rgba, exif=exif)))))
    if deep:
        stored = rgba[..., [2, 1, 0, 3]].astype(np.uint16) * 257
        data = cv2.imencode(f".{name.lower()}", stored)[1].tobytes()
        data = (
            _with_chunk(data, b"eXIf", exif.tobytes()) if name == "PNG" else _tiff_with_orientation(data, orientation)
        )
    else:
        options = {"lossless": True, "exact": True} if name == "WEBP" else {"quality": 95} if name == "JPEG" else {}
        data = encoded(Image.fromarray(rgba).convert(mode), name, exif=exif, **options)
    found = picture(data)
    got = encode_8bit(found.color).astype(int)
    assert got.shape == upright[..., :3].shape
    if name == "JPEG":
        assert np.abs(got - upright[..., :3]).mean() < 12
    else:
        np.testing.assert_array_equal(got, upright[..., :3])
        np.testing.assert_array_equal(np.rint(found.alpha * 255), upright[..., 3])


def _tiff_with_orientation(data: bytes, orientation: int) -> bytes:
    """The same TIFF with an orientation among its tags: its directory is written anew behind the pixels."""
    order = "<" if data[:2] == b"II" else ">"
    (place,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, place)
    entries = [data[place + 2 + 12 * i : place + 14 + 12 * i] for i in range(count)]
    entries = [entry for entry in entries if struct.unpack_from(order + "H", entry)[0] != 274]
    entries.append(struct.pack(order + "HHIHH", 274, 3, 1, orientation, 0))
    entries.sort(key=lambda entry: struct.unpack_from(order + "H", entry)[0])
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    pad = bytes(len(data) % 2)
    return data[:4] + struct.pack(order + "I", len(data) + len(pad)) + data[8:] + pad + directory


# --- profiles


def test_display_p3_becomes_srgb_in_both_depths():
    icc = p3_profile()
    want = ImageCms.profileToProfile(
        Image.fromarray(RGB), ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
    )
    found = picture(encoded(RGB, icc_profile=icc))
    assert np.abs(encode_8bit(found.color).astype(int) - np.asarray(want)).max() <= 2
    assert np.abs(encode_8bit(found.color).astype(int) - RGB).max() > 4
    deep = cv2.imencode(".png", RGB[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    deep = _with_chunk(deep, b"iCCP", b"x\0\0" + zlib.compress(icc))
    np.testing.assert_allclose(picture(deep).color, found.color, atol=2e-4)


def test_the_srgb_profile_changes_nothing():
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(encode_8bit(picture(encoded(RGB, icc_profile=icc)).color), RGB)


def test_a_damaged_profile_is_ignored():
    np.testing.assert_array_equal(encode_8bit(picture(encoded(RGB, icc_profile=b"garbage")).color), RGB)


def test_png_gamma():
    linear = _with_chunk(encoded(GREY), b"gAMA", struct.pack(">I", 100000))
    np.testing.assert_allclose(picture(linear).color[..., 0], GREY / 255, atol=1e-6)
    usual = _with_chunk(encoded(GREY), b"gAMA", struct.pack(">I", 45455))
    np.testing.assert_array_equal(encode_8bit(picture(usual).color)[..., 0], GREY)


def test_png_in_pq_is_not_guessed_at():
    assert reason(_with_chunk(encoded(RGB), b"cICP", bytes([9, 16, 0, 1]))) == "unsupported_format"


# --- real light

LIGHT = (RNG.rand(24, 32, 3) ** 4 * 300).astype(np.float32)


def exr(channels: dict, tmp_path) -> bytes:
    import OpenEXR

    path = tmp_path / "x.exr"
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(str(path))
    return path.read_bytes()


def test_hdr_keeps_highlights():
    found = picture(cv2.imencode(".hdr", LIGHT[..., ::-1])[1].tobytes())
    assert np.abs(found.color - LIGHT).max() <= LIGHT.max() / 128  # a shared exponent and eight bits
    assert found.bright
    assert found.color.max() > 100


def test_exr_keeps_highlights(tmp_path):
    np.testing.assert_array_equal(picture(exr({"RGB": LIGHT}, tmp_path)).color, LIGHT)
    half = picture(exr({"RGB": LIGHT.astype(np.float16)}, tmp_path))
    np.testing.assert_allclose(half.color, LIGHT, rtol=1e-3, atol=1e-4)
    grey = picture(exr({"Y": LIGHT[..., 0].copy()}, tmp_path))
    np.testing.assert_array_equal(grey.color[..., 2], LIGHT[..., 0])


def test_exr_channels_of_different_types_and_kinds(tmp_path):
    planes = {"R": LIGHT[..., 0].copy(), "G": LIGHT[..., 1].astype(np.float16), "B": LIGHT[..., 2].copy()}
    found = picture(exr(planes | {"Z": LIGHT[..., 0].copy()}, tmp_path))
    np.testing.assert_allclose(found.color, LIGHT, rtol=1e-3, atol=1e-4)
    assert reason(exr({"Z": LIGHT[..., 0].copy()}, tmp_path)) == "unsupported_format"


def test_hdr_of_xyz_is_not_taken_for_a_cut_file():
    data = cv2.imencode(".hdr", LIGHT[..., ::-1])[1].tobytes()
    assert reason(data.replace(b"32-bit_rle_rgbe", b"32-bit_rle_xyze")) == "unsupported_format"


def test_exr_alpha_is_unpremultiplied(tmp_path):
    alpha = np.linspace(0, 1, 24 * 32, dtype=np.float32).reshape(24, 32)
    found = picture(exr({"RGBA": np.dstack([LIGHT * alpha[..., None], alpha])}, tmp_path))
    np.testing.assert_allclose(found.color[alpha > 0], LIGHT[alpha > 0], rtol=1e-4)
    np.testing.assert_array_equal(found.alpha, alpha)


def test_float_tiff_is_linear():
    found = picture(cv2.imencode(".tiff", LIGHT[..., ::-1])[1].tobytes())
    np.testing.assert_array_equal(found.color, LIGHT)
    assert found.bright


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_numbers(bad, tmp_path):
    light = LIGHT.copy()
    light[3, 4, 1] = bad
    assert reason(exr({"RGB": light}, tmp_path)) == "not_finite"


# --- rejections and their reasons

BIG = Limits(max_pixels=10_000)


def _bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of a few bytes that says it is enormous."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", body) + _png_chunk(b"IEND", b"")


def test_bombs_are_rejected_by_their_header(tmp_path):
    assert reason(_bomb()) == "too_large"
    assert reason(_bomb(10_000, 10_000)) == "too_large"  # where Pillow only warns
    for data in (encoded(landscape(1, 120, 120), form) for form in ("PNG", "JPEG", "WEBP", "TIFF")):
        assert reason(data, BIG) == "too_large"
    big = np.ones((120, 120, 3), np.float32)
    assert reason(cv2.imencode(".hdr", big)[1].tobytes(), BIG) == "too_large"
    assert reason(cv2.imencode(".tiff", big)[1].tobytes(), BIG) == "too_large"
    assert reason(exr({"RGB": big}, tmp_path), BIG) == "too_large"


def test_small_pictures_and_strips():
    assert reason(encoded(RGB[:1, :1])) == "too_small"
    assert reason(encoded(RGB[:8])) == "too_small"
    assert reason(encoded(np.zeros((16, 1000, 3), np.uint8))) == "too_small"
    assert decode_raster(encoded(RGB[:8]), "x", Limits(min_side=8)).size == (8, 56)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_animations(form):
    frames = [Image.fromarray(landscape(i, 40, 40)) for i in range(3)]
    assert reason(encoded(frames[0], form, save_all=True, append_images=frames[1:])) == "animated"


def test_the_first_of_several_pages_is_taken_and_noted():
    frames = [Image.fromarray(landscape(i, 40, 40)) for i in range(2)]
    found = picture(encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]))
    np.testing.assert_array_equal(encode_8bit(found.color), np.asarray(frames[0]))
    assert "first" in found.notes[0]


@pytest.mark.parametrize("form", ["GIF", "BMP", "PPM", "ICO"])
def test_other_formats_are_never_tried(form):
    assert reason(encoded(Image.fromarray(RGB), form)) == "unsupported_format"


def test_text_and_nothing():
    assert reason(b"hello") == "unsupported_format"
    assert reason(b"version https://git-lfs.github.com/spec/v1\n") == "unsupported_format"
    assert reason(b"") == "truncated"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_cut_files(form, kept):
    data = encoded(RGB, form, **({"compression": "tiff_lzw"} if form == "TIFF" else {}))
    assert reason(data[: int(kept * len(data))]) in {"truncated", "corrupt"}


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7])
def test_a_flipped_bit_in_a_png(place):
    data = bytearray(encoded(RGB))
    data[int(place * len(data))] ^= 4
    assert reason(bytes(data)) == "corrupt"


FUZZED = {
    "PNG": encoded(cutout(3, 40, 56)),
    "WEBP": encoded(cutout(3, 40, 56), "WEBP"),
    "JPEG": encoded(RGB, "JPEG"),
    "TIFF": encoded(RGB, "TIFF"),
    "HDR": cv2.imencode(".hdr", LIGHT)[1].tobytes(),
    "PNG;16": cv2.imencode(".png", RGB.astype(np.uint16) * 257)[1].tobytes(),
    "TIFF;16": cv2.imencode(".tiff", RGB.astype(np.uint16) * 257)[1].tobytes(),
}


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(FUZZED)),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6),
    st.floats(0.05, 1),
)
def test_a_damaged_file_is_decoded_or_rejected(form, changes, kept):
    """Several bytes overwritten, mostly in the header, and the end cut off: never another exception."""
    data = bytearray(FUZZED[form])
    for place, value in changes:
        data[int(place**2 * len(data))] = value
    try:
        found = picture(bytes(data[: int(kept * len(data)) + 1]))
    except RejectedPicture:  # its reason is one of the vocabulary, or it could not have been made
        return
    assert np.isfinite(found.color).all()
    assert found.color.min() >= 0


# --- files


@pytest.mark.parametrize("form", ["EXR", "JPEG", "PNG", "TIFF", "WEBP"])
def test_messages_are_the_same_in_every_run(form, tmp_path, monkeypatch):
    """No temporary names, no addresses of objects: quarantine.jsonl is the same on two machines."""
    whole = exr({"RGB": LIGHT}, tmp_path) if form == "EXR" else encoded(RGB, form)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for data in (whole[:20] + b"garbage " * 9, whole[: len(whole) // 2], whole[:12]):
        messages = set()
        for _ in range(2):
            with pytest.raises(RejectedPicture) as caught:
                decode_raster(data, "x")
            messages.add(str(caught.value))
        assert len(messages) == 1
        assert not re.search(rf"{tmp_path}|bokehsynth-|0x", messages.pop())


def test_content_decides_not_the_name(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(encoded(RGB))
    np.testing.assert_array_equal(encode_8bit(read_picture(path).color), RGB)


def _rejection(path, **options) -> str:
    with pytest.raises(AssetError) as caught:
        read_picture(path, **options)
    return caught.value.reason


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "x.png").mkdir()
    os.mkfifo(tmp_path / "fifo.png")  # opening it would wait for a writer
    (tmp_path / "away.png").symlink_to("nowhere")
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert _rejection(tmp_path / "x.png") == "not_a_file"
    assert _rejection(tmp_path / "fifo.png") == "not_a_file"
    assert _rejection("/dev/zero") == "not_a_file"
    assert _rejection(tmp_path / "away.png") == "missing"
    assert _rejection(tmp_path / "loop.png") == "missing"
    assert _rejection(tmp_path / "none.png") == "missing"


def test_links_stay_below_the_root(tmp_path):
    inside, outside = tmp_path / "root", tmp_path / "secret"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "x.png").write_bytes(encoded(RGB))
    (inside / "good.png").symlink_to("x.png")
    (inside / "bad.png").symlink_to(outside / "x.png")
    assert read_picture(inside / "good.png", root=inside).color.shape == (40, 56, 3)
    assert _rejection(inside / "bad.png", root=inside) == "outside_root"
    assert _rejection(inside / ".." / "secret" / "x.png", root=inside) == "outside_root"


def test_files_that_may_not_be_read(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(encoded(RGB))
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may: then there is nothing to refuse
        assert read_picture(path).depth == 8
    else:
        assert _rejection(path) == "unreadable"


def test_content_that_changed_is_fatal(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(encoded(RGB))
    digest = sha256_bytes(path.read_bytes())
    assert read_picture(path, sha256=digest).depth == 8
    path.write_bytes(encoded(RGB[::-1]))
    with pytest.raises(ChangedError, match="changed under a running recipe"):
        read_picture(path, sha256=digest)


def test_reasons_are_a_fixed_vocabulary():
    with pytest.raises(ValueError, match="vocabulary"):
        RejectedPicture("x", "because")


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "jpeg", "packbits"])
def test_libtiff_says_nothing_of_its_own(compression, capfd):
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "TIFF", compression=compression)
    whole = file.getvalue()
    refused = []
    for place in range(8, len(whole), max(1, len(whole) // 40)):
        damaged = whole[:place] + bytes(byte ^ 0x55 for byte in whole[place : place + 9]) + whole[place + 9 :]
        for data in (damaged, whole[:place]):
            try:
                decode_raster(data, "holiday.tif")
            except RejectedPicture as error:
                refused.append(str(error))
    assert len(refused) > 20
    assert all("holiday.tif" in words for words in refused)
    assert capfd.readouterr() == ("", "")


def test_the_error_handler_of_libtiff_is_put_back():
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "TIFF", compression="tiff_lzw")
    whole, heard = file.getvalue(), []
    set_handler = ctypes.CDLL(pillow_library.__file__).TIFFSetErrorHandler
    set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
    own = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)(lambda *words: heard.append(words))
    address = ctypes.cast(own, ctypes.c_void_p).value
    before = set_handler(address)
    try:
        decode_raster(whole, "x.tif")
        with pytest.raises(RejectedPicture):
            decode_raster(whole[: len(whole) // 2], "x.tif")
        assert set_handler(address) == address
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(decode_raster, [whole] * 8, ["x.tif"] * 8))
        assert set_handler(address) == address
        assert not heard
        with pytest.raises(OSError, match="decoder error"):  # by others: the handler is in use
            Image.open(io.BytesIO(whole[:8] + b"\xff" * 40 + whole[48:])).load()
        assert heard
    finally:
        set_handler(before)
