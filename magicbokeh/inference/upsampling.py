"""Brings the network's picture to the photo's size and colours, guided by the photo."""

from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import cv2
import numpy as np
import numpy.typing as npt

from magicbokeh.inference.photo import Photo

FloatArray = npt.NDArray[np.float32]

ColorFix = Literal["auto", "focus", "wavelet", "adain", "none"]
COLOR_FIXES = ("auto", "focus", "wavelet", "adain", "none")
OutputType = Literal["pil", "np", "photo"]

_SHARP_RADIUS, _SOFT_RADIUS = 0.5, 2.0
"""Blur radii in network pixels: up to the first a pixel keeps all the detail it shares with the photo, from the
second on none."""
_NOISE_VARIANCE = 1e-4
"""Variance below which a neighbourhood counts as flat, with noise only."""
_BAND = 512
"""Rows of the photo that are processed at once."""


@dataclass(frozen=True)
class GuidedUpsampler:
    """Enlarges the network's picture, guided by the photo.

    The picture is interpolated; the photo's detail above that resolution is added where the picture still correlates
    with the photo (by their local covariance) and is in focus.
    """

    low: FloatArray
    """[h, w, 3]: the network's picture."""
    photo_low: FloatArray
    """[h, w, 3]: the photo at that size, the network's input."""
    gain: FloatArray
    """[h, w]: share of the photo's detail to add, 0..1."""
    size: tuple[int, int]
    """(height, width) of the photo."""

    @classmethod
    def fit(
        cls, low: FloatArray, photo_low: FloatArray, radius: FloatArray, size: tuple[int, int]
    ) -> "GuidedUpsampler":
        """Compute the gain from local statistics; `radius` [h, w] is the blur in network pixels."""
        result, guide = low.mean(axis=2), photo_low.mean(axis=2)

        def mean(values: FloatArray) -> FloatArray:
            return cv2.boxFilter(values, -1, (9, 9))  # type: ignore[return-value]

        m_result, m_guide = mean(result), mean(guide)
        covariance = mean(result * guide) - m_result * m_guide
        correlated = np.clip(covariance / (mean(guide * guide) - m_guide**2 + _NOISE_VARIANCE), 0, 1)
        return cls(low, photo_low, (correlated * sharpness(radius)).astype(np.float32), size)

    def rows(self, top: int, photo: FloatArray) -> FloatArray:
        """The enlarged rows [n, W, 3] from `top` on, where `photo` [n, W, 3] holds the same rows of the photo."""
        bottom = top + photo.shape[0]
        detail = photo - self._enlarge(self.photo_low, top, bottom)
        gain = self._enlarge(self.gain, top, bottom)[..., None]
        return self._enlarge(self.low, top, bottom) + gain * detail

    def _enlarge(self, values: FloatArray, top: int, bottom: int) -> FloatArray:
        return enlarge_rows(values, self.size, top, bottom)


def sharpness(radius: FloatArray) -> FloatArray:
    """Weight 0..1 of the photo's own detail and colours at blur radii in network pixels."""
    return np.clip((_SOFT_RADIUS - radius) / (_SOFT_RADIUS - _SHARP_RADIUS), 0, 1)


def enlarge_rows(values: FloatArray, size: tuple[int, int], top: int, bottom: int) -> FloatArray:
    """Interpolate `values` [h, w(, C)] linearly to `size` (pixel areas aligned); returns the rows top..bottom."""
    height, width = values.shape[:2]
    x = (np.arange(size[1], dtype=np.float32) + 0.5) * (width / size[1]) - 0.5
    y = (np.arange(top, bottom, dtype=np.float32) + 0.5) * (height / size[0]) - 0.5
    grid_x, grid_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    done = cv2.remap(values, grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return done.astype(np.float32, copy=False)


def to_photo_size(
    photo: Photo, picture: FloatArray, photo_low: FloatArray, radius: FloatArray, output_type: OutputType
) -> Any:
    """Bring the network's picture to the photo's size and form, band by band.

    `photo_low` is the photo at the network's size, `radius` [h, w] the blur there.
    """
    upsampler = None
    if picture.shape[:2] != photo.size:
        upsampler = GuidedUpsampler.fit(picture, photo_low, radius, photo.size)
    height, width = photo.size
    dtype = np.float32 if output_type == "np" else photo.pixels.dtype
    out = np.empty((height, width, 3), dtype)
    for top in range(0, height, _BAND):
        rows = slice(top, min(top + _BAND, height))
        band = picture[rows] if upsampler is None else upsampler.rows(top, photo.srgb(rows))
        band = np.clip(band, 0, 1)
        if output_type == "np":
            out[rows] = band
            continue
        outside = photo.outside_srgb(rows)
        if outside is not None:  # the network gives sRGB only; where the picture is sharp the photo's colours are kept
            outside *= enlarge_rows(sharpness(radius), photo.size, top, rows.stop)[..., None]
        out[rows] = photo.encode(band, outside)
    if output_type == "np":
        return out
    result = replace(photo, pixels=cast(Any, out))
    return result if output_type == "photo" else result.to_pil()


def shrink(values: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Reduce a field [H, W, ...] to (height, width) by area averaging."""
    if values.shape[:2] == size:
        return values
    return cv2.resize(values, (size[1], size[0]), interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)


def fix_color(result: FloatArray, photo: FloatArray, in_focus: npt.NDArray[np.bool_], method: ColorFix) -> FloatArray:
    """Match the colour of `result` to the photo's: both [h, w, 3] in 0..1, over the whole picture, never per tile. May
    change `result` in place.

    focus    mean and standard deviation of each channel over the region in focus; where hardly anything is in focus
             the mean alone, over the whole picture (blur must lower the deviation)
    wavelet  the photo's lowest frequencies
    adain    mean and standard deviation over the whole picture, as the official release does
    """
    if method == "none":
        return result
    if method == "wavelet":
        return result + _lowest(photo) - _lowest(result)
    if method == "adain":
        return _match(result, photo, np.ones(result.shape[:2], np.bool_), match_deviation=True)
    enough = in_focus.mean() >= 0.01 and in_focus.sum() >= 64
    return _match(result, photo, in_focus if enough else np.ones_like(in_focus), match_deviation=bool(enough))


def _match(result: FloatArray, photo: FloatArray, where: npt.NDArray[np.bool_], match_deviation: bool) -> FloatArray:
    for channel in range(3):
        own, wanted = result[..., channel][where], photo[..., channel][where]
        mean, target = own.mean(dtype=np.float64), wanted.mean(dtype=np.float64)
        scale = _deviation(wanted) / _deviation(own) if match_deviation else 1.0
        plane = result[..., channel]
        plane -= np.float32(mean)
        plane *= np.float32(scale)
        plane += np.float32(target)
    return result


def _deviation(values: FloatArray) -> float:
    return float(np.sqrt(values.var(dtype=np.float64, ddof=1) + 1e-5))


def _lowest(image: FloatArray) -> FloatArray:
    """The residual of five levels of the à-trous wavelet: blurred with holes of 1, 2, 4, 8 and 16 px."""
    for level in range(5):
        step = 2**level
        kernel = np.zeros(2 * step + 1, np.float32)
        kernel[[0, step, 2 * step]] = 0.25, 0.5, 0.25
        image = cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    return image
