"""Reads photographs of any mode, bit depth and profile upright, and writes results in the same form."""

import io
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from bokehsynth import AssetError, RgbProfile, UsageError, atomic_write, read_profile
from magicbokeh.inference.picture_header import decode_deep, open_picture, read_header

FloatArray = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | FloatArray

MIN_SIDE = 16
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Photo:
    """An upright picture, with what is needed to write a result in the same form."""

    pixels: Pixels
    """[H, W, 3] in the photo's own colours: uint8, uint16, or float32 in 0..1."""
    alpha: Pixels | None = None
    """[H, W], same type; passed through."""
    grey: bool = False
    icc: bytes | None = None
    exif: bytes | None = None
    """With the orientation reset."""
    profile: RgbProfile | None = None
    """Set where the colours are not sRGB."""
    name: str = "the picture"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def srgb(self, rows: slice = slice(None)) -> FloatArray:
        """float32 [rows, W, 3] sRGB in 0..1."""
        encoded = _to_float(self.pixels[rows])
        return encoded if self.profile is None else self.profile.to_srgb(encoded)

    def outside_srgb(self, rows: slice) -> FloatArray | None:
        """What conversion to sRGB and back removes from the photo's values, [rows, W, 3]; None where they are sRGB."""
        if self.profile is None:
            return None
        encoded = _to_float(self.pixels[rows])
        return encoded - self.profile.from_srgb(self.profile.to_srgb(encoded))

    def encode(self, srgb: FloatArray, outside: FloatArray | None = None) -> Pixels:
        """Convert sRGB [h, W, 3] in 0..1 to the photo's colour space and dtype; `outside` is added in that space."""
        encoded = srgb if self.profile is None else self.profile.from_srgb(srgb)
        if outside is not None:
            encoded = encoded + outside
        if self.grey:
            encoded = np.repeat(encoded @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, axis=-1)
        encoded = np.clip(encoded, 0, 1)
        if self.pixels.dtype == np.float32:
            return encoded
        full = np.iinfo(cast(Any, self.pixels.dtype)).max
        return cast(Pixels, np.rint(encoded * np.float32(full)).astype(self.pixels.dtype))

    def with_pixels(self, pixels: Pixels) -> "Photo":
        """Return a photo of other pixels in the same form."""
        return replace(self, pixels=pixels)

    def without_alpha(self) -> "Photo":
        """Return the photo without its alpha channel."""
        return replace(self, alpha=None)

    def to_pil(self) -> Any:
        """Convert to a PIL picture: L, LA, RGB or RGBA of 8 bits, with profile and EXIF in `info`."""
        from PIL import Image

        pixels = _to_8bit(self.pixels)
        image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if self.grey else pixels))
        if self.alpha is not None:
            image.putalpha(Image.fromarray(_to_8bit(self.alpha)))
        image.info.update({key: value for key, value in (("icc_profile", self.icc), ("exif", self.exif)) if value})
        return image

    def save(self, path: Path) -> None:
        """Write PNG (16 bit where the photo has it), JPEG, WebP or TIFF, with profile and EXIF, atomically."""
        suffix = path.suffix.lower()
        if suffix == ".png" and self.pixels.dtype != np.uint8:
            atomic_write(path, self._png16())
            return
        kinds = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
        if suffix not in kinds:
            raise UsageError(f"{path}: must end in one of {', '.join(kinds)}")
        image, buffer = self.to_pil(), io.BytesIO()
        if kinds[suffix] == "JPEG" and self.alpha is not None:
            raise UsageError(f"{path}: JPEG has no transparency, which {self.name} has; write a PNG")
        info = {key: value for key, value in (("icc_profile", self.icc), ("exif", self.exif)) if value}
        image.save(buffer, kinds[suffix], **({"quality": 95} if kinds[suffix] in ("JPEG", "WEBP") else {}), **info)
        atomic_write(path, buffer.getvalue())

    def _png16(self) -> bytes:
        import cv2

        pixels = _to_16bit(self.pixels)
        channels = pixels[..., :1] if self.grey and self.alpha is None else pixels[..., ::-1]
        if self.alpha is not None:
            channels = np.concatenate([channels, _to_16bit(self.alpha)[..., None]], axis=-1)
        data = cv2.imencode(".png", np.ascontiguousarray(channels))[1].tobytes()
        chunks = b""
        if self.icc:
            chunks += _chunk(b"iCCP", b"icc\0\0" + zlib.compress(self.icc))
        if self.exif:
            chunks += _chunk(b"eXIf", self.exif.removeprefix(b"Exif\0\0"))
        return data[:33] + chunks + data[33:]  # after the header, before the pixels


def open_photo(source: Any) -> Photo:
    """Open a path, a PIL picture, or an array [H, W], [H, W, 3] or [H, W, 4] (uint8, uint16, or float in 0..1 sRGB).

    UsageError for anything else, or a picture smaller than 16 px; AssetError for a file that cannot be decoded.
    """
    if isinstance(source, Photo):
        return source
    if isinstance(source, str | Path):
        photo = _from_file(Path(source))
    elif isinstance(source, np.ndarray):
        photo = _from_array(source)
    elif hasattr(source, "getexif") and hasattr(source, "mode"):
        photo = _from_pil(source, "the picture")
    else:
        raise UsageError(f"image: a path, a PIL picture or a NumPy array, not a {type(source).__name__}")
    if min(photo.size) < MIN_SIDE:
        height, width = photo.size
        raise UsageError(f"{photo.name}: must have at least {MIN_SIDE} px on each side, it is {width} x {height}")
    return photo


def _from_file(path: Path) -> Photo:
    header = read_header(path)
    photo = None
    if header.opens:
        try:
            with open_picture(path) as image:
                image.load()
                photo = _from_pil(image, str(path))
                orientation = _orientation(image)
        except MemoryError:
            raise AssetError(f"{path}: takes more memory to decode than there is", "too_large") from None
        except UsageError:
            raise
        except Exception as error:  # a damaged file may raise anything
            if not header.sixteen_bit or header.format != "TIFF":
                raise AssetError(
                    f"{path}: is not a picture that can be read ({error}); save it as PNG or JPEG"
                ) from None
    if not header.sixteen_bit:
        assert photo is not None
        return photo
    deep = _read_16bit(path)
    if photo is None:
        if deep is None:
            raise AssetError(f"{path}: is not a picture that can be read; save it as PNG or JPEG")
        return _from_array(deep, str(path))
    if deep is None:
        return photo
    found = _from_array(_apply_orientation(deep, orientation), str(path))
    return replace(found, icc=photo.icc, exif=photo.exif, profile=photo.profile)


def _read_16bit(path: Path) -> npt.NDArray[np.uint16] | None:
    """The stored values in RGB order if OpenCV finds 16 bits per channel, else None."""
    stored = decode_deep(path)
    if stored is None or stored.dtype != np.uint16:
        return None
    if stored.ndim == 3:
        stored = stored[..., [2, 1, 0, 3][: stored.shape[2]]]
    return cast("npt.NDArray[np.uint16]", stored)


def _from_pil(image: Any, name: str) -> Photo:
    orientation, exif = _orientation(image), _exif_without_orientation(image)
    icc = image.info.get("icc_profile")
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        grey = np.clip(np.asarray(image), 0, 65535).astype(np.uint16)
        return replace(_from_array(_apply_orientation(grey, orientation), name), exif=exif, icc=icc)
    if image.mode == "F":
        return _from_array(_apply_orientation(np.asarray(image), orientation), name)
    profile = read_profile(icc) if icc else None
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        clear = image.mode in ("PA", "RGBa") or (image.mode == "P" and "transparency" in image.info)
        image, icc = _convert_to_rgb(image, icc, clear)
    elif icc and image.mode.startswith("RGB") and profile is None:
        image, icc = _convert_by_lut_profile(image, icc)
    if "transparency" in image.info and image.mode in ("L", "RGB"):
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    photo = _from_array(_apply_orientation(np.asarray(image), orientation), name)
    return replace(photo, icc=icc, exif=exif, profile=None if profile is None or profile.is_srgb else profile)


def _convert_to_rgb(image: Any, icc: bytes | None, clear: bool) -> tuple[Any, bytes | None]:
    """Convert CMYK by its profile if it has one; palettes, bitmaps, YCbCr and Lab as PIL does."""
    if image.mode == "CMYK" and icc:
        return _convert_by_lut_profile(image, icc)
    if image.mode == "1":
        return image.convert("L"), None
    return image.convert("RGBA" if clear else "RGB"), icc if image.mode in ("P", "PA") else None


def _convert_by_lut_profile(image: Any, icc: bytes) -> tuple[Any, bytes | None]:
    """Convert a picture with a table profile, which cannot be inverted, to sRGB; it is saved as such."""
    from PIL import ImageCms

    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colours = image.convert("RGB") if alpha is not None else image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        done = ImageCms.profileToProfile(colours, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):  # a damaged profile, or one of other modes, is ignored
        done = colours.convert("RGB")
    assert done is not None
    if alpha is not None:
        done.putalpha(alpha)
    return done, None


def _from_array(array: npt.NDArray[Any], name: str = "the picture") -> Photo:
    if array.ndim == 3 and array.shape[2] in (1, 2):
        alpha2 = array[..., 1] if array.shape[2] == 2 else None
        return replace(_from_array(array[..., 0], name), alpha=alpha2)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise UsageError(f"{name}: an array must be [H, W], [H, W, 3] or [H, W, 4], not {list(array.shape)}")
    if array.dtype not in (np.uint8, np.uint16):
        if not np.issubdtype(array.dtype, np.floating):
            raise UsageError(f"{name}: an array must be uint8, uint16 or float in 0..1, not {array.dtype}")
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise UsageError(f"{name}: a float array must lie in 0..1, it has {array.min()}..{array.max()}")
        array = array.astype(np.float32)
    if array.ndim == 2:
        return Photo(np.repeat(array[..., None], 3, axis=-1), grey=True, name=name)
    alpha = array[..., 3] if array.shape[2] == 4 else None
    return Photo(np.ascontiguousarray(array[..., :3]), alpha=alpha, name=name)


def _orientation(image: Any) -> int:
    value = image.getexif().get(_ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def _exif_without_orientation(image: Any) -> bytes | None:
    """The EXIF block with the orientation reset, because the pixels are rotated already."""
    from PIL import Image

    if not len(image.getexif()):
        return None
    exif = Image.Exif()  # a copy: the caller's picture keeps its orientation
    exif.load(image.getexif().tobytes())
    if _ORIENTATION in exif:
        exif[_ORIENTATION] = 1
    return bytes(exif.tobytes())


def _apply_orientation(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Apply an EXIF orientation (1..8)."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def _to_float(pixels: Pixels) -> FloatArray:
    if pixels.dtype == np.float32:
        return cast(FloatArray, pixels)
    return cast(FloatArray, pixels.astype(np.float32) / np.float32(np.iinfo(cast(Any, pixels.dtype)).max))


def _to_8bit(pixels: Pixels) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return cast("npt.NDArray[np.uint8]", pixels)
    return np.rint(_to_float(pixels) * np.float32(255)).astype(np.uint8)


def _to_16bit(pixels: Pixels) -> npt.NDArray[np.uint16]:
    if pixels.dtype == np.uint16:
        return cast("npt.NDArray[np.uint16]", pixels)
    return np.rint(_to_float(pixels) * np.float32(65535)).astype(np.uint16)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
