"""Back to the photo's size, and to its colours: the network's picture, guided by the photo."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

ColorFix = Literal["focus", "wavelet", "adain", "none"]
COLOR_FIXES = ("focus", "wavelet", "adain", "none")

_SHARP, _SOFT = 0.5, 2.0
"""Blur radii in network pixels: up to the first a pixel keeps all the detail it shares with the photo, from the
second on none."""
_FLAT = 1e-4
"""Variance below which a neighbourhood counts as flat: what varies there is noise."""


@dataclass(frozen=True)
class GuidedUpsampler:
    """Enlarges a result by the photo it came from.

    The network's picture is interpolated; what the photo has beyond that grid is added where the result still follows
    the photo (their local covariance) and is in focus.
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
    def of(cls, low: FloatArray, photo_low: FloatArray, radius: FloatArray, size: tuple[int, int]) -> "GuidedUpsampler":
        """`radius` [h, w]: blur in network pixels."""
        result, guide = low.mean(axis=2), photo_low.mean(axis=2)

        def mean(values: FloatArray) -> FloatArray:
            return cv2.boxFilter(values, -1, (9, 9))  # type: ignore[return-value]

        m_result, m_guide = mean(result), mean(guide)
        covariance = mean(result * guide) - m_result * m_guide
        follows = np.clip(covariance / (mean(guide * guide) - m_guide**2 + _FLAT), 0, 1)
        return cls(low, photo_low, (follows * sharpness(radius)).astype(np.float32), size)

    def rows(self, top: int, photo: FloatArray) -> FloatArray:
        """The enlarged rows [n, W, 3] from `top` on, where `photo` [n, W, 3] holds the same rows of the photo."""
        bottom = top + photo.shape[0]
        detail = photo - self._enlarge(self.photo_low, top, bottom)
        gain = self._enlarge(self.gain, top, bottom)[..., None]
        return self._enlarge(self.low, top, bottom) + gain * detail

    def _enlarge(self, values: FloatArray, top: int, bottom: int) -> FloatArray:
        return enlarge_rows(values, self.size, top, bottom)


def sharpness(radius: FloatArray) -> FloatArray:
    """Blur radii in network pixels to the share, 0..1, of what comes from the photo alone."""
    return np.clip((_SOFT - radius) / (_SOFT - _SHARP), 0, 1)


def enlarge_rows(values: FloatArray, size: tuple[int, int], top: int, bottom: int) -> FloatArray:
    """Rows top..bottom of `values` [h, w(, C)] interpolated linearly to `size` (pixel areas aligned)."""
    height, width = values.shape[:2]
    x = (np.arange(size[1], dtype=np.float32) + 0.5) * (width / size[1]) - 0.5
    y = (np.arange(top, bottom, dtype=np.float32) + 0.5) * (height / size[0]) - 0.5
    grid_x, grid_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    done = cv2.remap(values, grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return done.astype(np.float32, copy=False)


def fix_color(result: FloatArray, photo: FloatArray, in_focus: npt.NDArray[np.bool_], method: ColorFix) -> FloatArray:
    """Take colour from the photo: both [h, w, 3] in 0..1, over the whole picture at once, never per tile. `result` may
    be changed in place.

    focus    mean and spread of each channel over the region in focus (over the whole picture the mean alone, where
             hardly anything is in focus: blur lowers the spread, and must)
    wavelet  the photo's lowest frequencies
    adain    mean and spread over the whole picture, as the official release does
    """
    if method == "none":
        return result
    if method == "wavelet":
        return result + _lowest(photo) - _lowest(result)
    if method == "adain":
        return _match(result, photo, np.ones(result.shape[:2], np.bool_), spread=True)
    enough = in_focus.mean() >= 0.01 and in_focus.sum() >= 64
    return _match(result, photo, in_focus if enough else np.ones_like(in_focus), spread=bool(enough))


def _match(result: FloatArray, photo: FloatArray, where: npt.NDArray[np.bool_], spread: bool) -> FloatArray:
    for channel in range(3):
        own, wanted = result[..., channel][where], photo[..., channel][where]
        mean, target = own.mean(dtype=np.float64), wanted.mean(dtype=np.float64)
        scale = _spread(wanted) / _spread(own) if spread else 1.0
        plane = result[..., channel]
        plane -= np.float32(mean)
        plane *= np.float32(scale)
        plane += np.float32(target)
    return result


def _spread(values: FloatArray) -> float:
    return float(np.sqrt(values.var(dtype=np.float64, ddof=1) + 1e-5))


def _lowest(image: FloatArray) -> FloatArray:
    """Five levels of the à-trous wavelet: what remains after blurring with holes of 1, 2, 4, 8 and 16 px."""
    for level in range(5):
        step = 2**level
        kernel = np.zeros(2 * step + 1, np.float32)
        kernel[[0, step, 2 * step]] = 0.25, 0.5, 0.25
        image = cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    return image
