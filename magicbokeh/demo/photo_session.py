"""A photograph on the page: opened once, looked at in a small size, made in full on request. Knows no web server."""

import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth import UsageError
from magicbokeh.inference.photo import Photo, open_photo
from magicbokeh.inference.pipeline import MagicBokehPipeline

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

PREVIEW_SIDE = 512
"""Shorter side of what the page shows, pixels; a photo's own where that is smaller."""
_LONGEST = 2048
_AROUND = 3
"""A click means the median disparity this many pixels around it: a single pixel of an estimate may be off."""


@dataclass(frozen=True)
class Settings:
    """What the page's controls say."""

    point: tuple[float, float] | None = None
    """The click, as shares 0..1 of width and height; None lets the model choose the focus."""
    blur: float = 16.0
    focus_range: float = 0.0


@dataclass(frozen=True)
class OpenedPhoto:
    """A photograph and what is needed to work on it again."""

    path: Path
    size: tuple[int, int]
    """(height, width) of the upright photo."""
    preview: FloatArray
    """[h, w, 3] sRGB in 0..1."""
    disparity: FloatArray
    """[h, w] in 0..1, 1 = near."""


@dataclass(frozen=True)
class Preview:
    """What the page shows of a result."""

    picture: ByteArray
    """[h, w, 3] sRGB."""
    defocus: FloatArray
    """[h, w]: blur radius, pixels of the preview."""
    focus: tuple[float, float] | None
    """Disparities in focus, far and near end; None where nothing is blurred."""


class PhotoDesk:
    """A model, and the photographs that it is used on; one request after another."""

    def __init__(self, pipe: MagicBokehPipeline) -> None:
        self.pipe, self._lock = pipe, threading.Lock()

    def open(self, path: Path) -> OpenedPhoto:
        """Open a photograph and estimate its disparity; AssetError or UsageError where it cannot be used."""
        photo = open_photo(path)
        with self._lock:
            preview = shrunk(photo)
            return OpenedPhoto(path, photo.size, preview, self.pipe.disparity(preview))

    def preview(self, opened: OpenedPhoto, settings: Settings) -> Preview:
        """The result at the preview's size."""
        with self._lock:
            result = self.pipe(
                opened.preview,
                focus=focus_of(opened, settings),
                blur=settings.blur,
                depth=opened.disparity,
                focus_range=settings.focus_range,
                output_type="np",
            )
        return Preview(to_bytes(result.images[0]), result.defocus[0], result.focus[0])

    def write_full(self, opened: OpenedPhoto, settings: Settings, folder: Path) -> Path:
        """Write the result at the photo's own size into `folder`, a PNG with its profile and EXIF; returns its path."""
        target = folder / f"{opened.path.stem}-bokeh.png"
        with self._lock:
            result = self.pipe(
                open_photo(opened.path),
                focus=focus_of(opened, settings),
                blur=settings.blur,
                depth=opened.disparity,
                focus_range=settings.focus_range,
                output_type="photo",
            )
            result.images[0].save(target)
        return target


def focus_of(opened: OpenedPhoto, settings: Settings) -> float | str:
    """The disparity at the click, the same for every size of the result; "auto" without one."""
    if settings.point is None:
        return "auto"
    if not all(0 <= share <= 1 for share in settings.point):
        raise UsageError(f"focus: a point of the photo has shares 0 to 1, not {settings.point}")
    height, width = opened.disparity.shape
    x, y = (min(int(share * length), length - 1) for share, length in zip(settings.point, (width, height), strict=True))
    around = opened.disparity[max(0, y - _AROUND) : y + _AROUND + 1, max(0, x - _AROUND) : x + _AROUND + 1]
    return float(np.median(around))


def shrunk(photo: Photo) -> FloatArray:
    """The photo as sRGB [h, w, 3] in 0..1, small enough for a page."""
    height, width = photo.size
    scale = min(1.0, PREVIEW_SIDE / min(height, width), _LONGEST / max(height, width))
    picture = photo.srgb()
    if scale == 1:
        return picture
    size = max(16, round(width * scale)), max(16, round(height * scale))
    return np.clip(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), 0, 1).astype(np.float32)


def to_bytes(picture: FloatArray) -> ByteArray:
    """Round sRGB in 0..1 to 8 bits."""
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def marked(picture: FloatArray, point: tuple[float, float] | None) -> ByteArray:
    """The preview as bytes, with a ring where the focus was set."""
    found = np.ascontiguousarray(to_bytes(picture))
    if point is None:
        return found
    height, width = found.shape[:2]
    center, radius = (round(point[0] * (width - 1)), round(point[1] * (height - 1))), max(8, min(height, width) // 28)
    for color, thickness in (((0, 0, 0), max(4, radius // 4)), ((255, 255, 255), max(2, radius // 8))):
        cv2.circle(found, center, radius, color, thickness, cv2.LINE_AA)
    return found


def colored(values: FloatArray, largest: float) -> ByteArray:
    """A map [h, w] as a picture, yellow at `largest`."""
    levels = np.rint(np.clip(values / max(largest, 1e-6), 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)[..., ::-1], np.uint8)
