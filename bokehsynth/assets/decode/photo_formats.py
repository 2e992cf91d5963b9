"""Decode PNG, JPEG, WebP and TIFF: by Pillow at 8 bits, by OpenCV at 16 bits per channel and for float TIFF."""

import ctypes
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms
from PIL import _imaging as pillow_library

from bokehsynth.assets.decode.hdr_formats import CheckSize, decode_opencv
from bokehsynth.assets.decode.headers import PngHeader, TiffHeader, read_png, read_tiff
from bokehsynth.assets.decode.raster import Raster, unpremultiplied, upright
from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.imaging.icc import GreyProfile, RgbProfile, power_profile, read_grey_profile, read_profile

_ORIENTATION = 0x0112
_PNG_MODES = {0: "I;16", 2: "RGB;16", 4: "LA;16", 6: "RGBA;16"}
_PQ_AND_HLG = {16: "PQ", 18: "HLG"}


class _ByThreads:
    """A context for what belongs to the process: the first thread to enter sets it, the last one to leave restores it.

    (A context of each thread would restore what another thread has set.)
    """

    def __init__(self, make: Callable[[], AbstractContextManager[None]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._inside = 0
        self._before = make()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = self._make()
                self._before.__enter__()
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._before.__exit__(None, None, None)


@contextmanager
def _strict_bombs() -> Iterator[None]:
    """Pillow's warnings about metadata are ignored, and a decompression bomb is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextmanager
def _silent_libtiff() -> Iterator[None]:
    """libtiff writes nothing to stderr: what it says there names no file, and Pillow raises all the same.

    The handler is one of Pillow's copy of the library, found through the module that is linked with it.
    """
    try:
        set_handler = ctypes.CDLL(pillow_library.__file__).TIFFSetErrorHandler
    except (OSError, AttributeError):  # linked in another way: its words stay
        yield
        return
    set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
    before = set_handler(None)
    try:
        yield
    finally:
        set_handler(before)


_STRICT_BOMBS, _SILENT_LIBTIFF = _ByThreads(_strict_bombs), _ByThreads(_silent_libtiff)


def read_photo(data: bytes, kind: str, name: str, check: CheckSize) -> Raster:
    """The picture in PNG, JPEG, WebP or TIFF bytes."""
    png = read_png(data, name) if kind == "PNG" else None
    tiff = read_tiff(data, name) if kind == "TIFF" else None
    if png is not None:
        check(png.width, png.height, name)
        if png.frames > 1:
            raise RejectedPicture(f"{name}: an animation of {png.frames} frames", "animated")
        if png.transfer in _PQ_AND_HLG:
            kind = _PQ_AND_HLG[png.transfer]
            raise RejectedPicture(f"{name}: encoded as {kind}; store such light as .exr", "unsupported_format")
    if tiff is not None:
        check(tiff.width, tiff.height, name)
        if tiff.floating or max(tiff.bits) > 8:
            return _tiff_16bit_or_float(tiff, name)
    with _STRICT_BOMBS, nullcontext() if tiff is None else _SILENT_LIBTIFF:
        try:
            image = Image.open(io.BytesIO(data), formats=[kind])
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise RejectedPicture(f"{name}: more pixels than can be trusted", "too_large") from None
        with image:
            check(*image.size, name)
            if kind in {"PNG", "WEBP"} and getattr(image, "is_animated", False):
                raise RejectedPicture(f"{name}: an animation of {getattr(image, 'n_frames', '?')} frames", "animated")
            image.load()
            orientation = _orientation(image)
            if png is not None and png.depth == 16:
                raster = _png_16bit(data, png, image.info.get("icc_profile"), name)
            else:
                raster = _from_pillow(image, kind, name)
    if tiff is not None and tiff.pages > 1:
        raster = _with_note(raster, "the first of several pages")
    if png is not None and png.gamma is not None and abs(png.gamma * 2.2 - 1) > 0.05:
        raster = replace(raster, profile=power_profile(1 / png.gamma, grey=raster.values.ndim == 2))
    return _oriented(raster, orientation)


def _from_pillow(image: Image.Image, kind: str, name: str) -> Raster:
    """Eight bits per channel or fewer, in any of Pillow's modes."""
    mode, icc = image.mode, image.info.get("icc_profile")
    transparent = "transparency" in image.info
    if mode == "1" or (mode == "L" and not transparent):
        return _make_raster(_pixels(image, "L"), kind, mode, icc)
    if mode in {"L", "LA", "La"}:
        return _make_raster(_pixels(image, "LA"), kind, mode, icc)
    alpha_palette = mode == "P" and image.palette is not None and image.palette.mode == "RGBA"
    if mode in {"RGB", "P", "RGBX"} and not transparent and not alpha_palette:
        return _make_raster(_pixels(image, "RGB"), kind, mode, icc)
    if mode in {"RGB", "P", "PA", "RGBA", "RGBa"}:
        return _make_raster(_pixels(image, "RGBA"), kind, mode, icc)
    if mode in {"CMYK", "YCbCr", "LAB"}:
        color, note = _convert_by_lut(image, icc)
        return _with_note(_make_raster(color, kind, mode, None), note)
    raise RejectedPicture(f"{name}: Pillow's mode {mode} is not read", "unsupported_format")


def _pixels(image: Image.Image, mode: str) -> npt.NDArray[np.uint8]:
    """A picture's numbers in a mode; `convert` copies also what is in it already."""
    return np.asarray(image if image.mode == mode else image.convert(mode))


def _make_raster(values: npt.NDArray[Any], kind: str, mode: str, icc: bytes | None) -> Raster:
    """Split [H, W], [H, W, 2..4] into colour and alpha, and attach or apply the ICC profile."""
    alpha = None
    if values.ndim == 3 and values.shape[2] in {2, 4}:
        alpha = values[..., -1]
        values = values[..., 0] if values.shape[2] == 2 else values[..., :3]
    raster = Raster(values, alpha, kind, mode)
    if not icc or values.dtype == np.float32:
        return raster
    profile: GreyProfile | RgbProfile | None = read_grey_profile(icc) if values.ndim == 2 else read_profile(icc)
    if profile is not None:
        return raster if profile.is_srgb else replace(raster, profile=profile)
    if values.ndim == 2:
        return _with_note(raster, "a profile that is not one of grey, taken for sRGB")
    note = ""
    if values.dtype == np.uint16:
        values, note = (values >> 8).astype(np.uint8), "16 bits cut to 8 for a profile of tables; "
    color, more = _convert_by_lut(Image.fromarray(np.ascontiguousarray(values)), icc)
    return _with_note(replace(raster, values=color), note + more)


def _convert_by_lut(image: Image.Image, icc: bytes | None) -> tuple[npt.NDArray[np.uint8], str]:
    """Convert to 8-bit sRGB by the embedded profile if it fits such pixels, else by Pillow's default; and a note."""
    lab = image.mode == "LAB"
    if icc or lab:
        try:
            source = ImageCms.createProfile("LAB") if lab else ImageCms.ImageCmsProfile(io.BytesIO(icc or b""))
            done = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if done is not None:
                return np.asarray(done), f"{image.mode} through its profile"
        except (ImageCms.PyCMSError, OSError, TypeError):
            pass  # a damaged profile, or one for other pixels: ignored
    note = "CMYK without a usable profile, as if printed in plain inks" if image.mode == "CMYK" else ""
    return np.asarray(image.convert("RGB")), note


def _png_16bit(data: bytes, png: PngHeader, icc: bytes | None, name: str) -> Raster:
    stored = _decode_deep(data, name)
    raster = _make_raster(_from_bgr(stored, grey=png.color_type in {0, 4}), "PNG", _PNG_MODES[png.color_type], icc)
    if png.transparent is not None and raster.alpha is None:  # one colour is transparent
        key = np.frombuffer(png.transparent, ">u2")
        shown = raster.values != key[0] if raster.values.ndim == 2 else (raster.values != key[:3]).any(axis=2)
        raster = replace(raster, alpha=np.where(shown, np.uint16(65535), np.uint16(0)))
    return raster


def _tiff_16bit_or_float(tiff: TiffHeader, name: str) -> Raster:
    """16-bit or float TIFF of grey or RGB."""
    if tiff.photometric not in {1, 2} or set(tiff.bits) not in ({16}, {32}) or tiff.floating != (tiff.bits[0] == 32):
        kind = "float" if tiff.floating else "integer"
        raise RejectedPicture(
            f"{name}: a TIFF of {tiff.bits} bits ({kind}), photometric {tiff.photometric}; 16-bit integers and 32-bit "
            "floats of grey or RGB are read",
            "unsupported_format",
        )
    stored = _decode_deep(tiff.upright_data, name)
    values = _from_bgr(stored, grey=tiff.photometric == 1)
    mode = "float" if tiff.floating else {1: "I;16", 2: "LA;16", 3: "RGB;16", 4: "RGBA;16"}[len(tiff.bits)]
    raster = _make_raster(values, "TIFF", mode, tiff.icc)
    if raster.alpha is not None and tiff.extra[:1] == (1,):
        full = 1.0 if raster.linear else float(np.iinfo(raster.values.dtype).max)
        raster = unpremultiplied(raster, raster.alpha.astype(np.float32) / np.float32(full))
    if tiff.pages > 1:
        raster = _with_note(raster, "the first of several pages")
    return _oriented(raster, tiff.orientation if tiff.orientation in range(1, 9) else 1)


def _decode_deep(data: bytes, name: str) -> npt.NDArray[Any]:
    stored = decode_opencv(data)
    if stored is None or stored.dtype not in (np.uint16, np.float32):
        raise RejectedPicture(f"{name}: its 16-bit or float channels cannot be decoded, or end too early", "truncated")
    return stored


def _from_bgr(stored: npt.NDArray[Any], grey: bool) -> npt.NDArray[Any]:
    """Reorder BGR(A) to RGB(A); reduce grey in several equal channels to one, or one and alpha."""
    if stored.ndim == 2:
        return stored
    if grey:
        return stored[..., [0, -1]] if stored.shape[2] in {2, 4} else stored[..., 0]
    return np.ascontiguousarray(stored[..., [2, 1, 0, 3][: stored.shape[2]]])


def _orientation(image: Image.Image) -> int:
    """The orientation 1 to 8 from EXIF, or XMP where there is no EXIF; 1 if absent or damaged."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata is ignored
        return 1
    return value if value in range(1, 9) else 1


def _oriented(raster: Raster, orientation: int) -> Raster:
    alpha = None if raster.alpha is None else upright(raster.alpha, orientation)
    return replace(raster, values=upright(raster.values, orientation), alpha=alpha)


def _with_note(raster: Raster, note: str) -> Raster:
    return replace(raster, notes=(*raster.notes, note)) if note else raster
