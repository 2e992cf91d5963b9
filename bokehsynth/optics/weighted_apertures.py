"""Openings whose light is uneven or that are no disc cut by rims: apodised, onion rings, anamorphic, a picture."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.optics.apertures import Aperture, Array, BoolArray, Float64Array

MOST_TEXELS = 256
"""Longer side of the grid that a picture becomes: the tables of the fast backends hold no finer details."""

_HALF_A_LEVEL = 0.5 / 255
"""Share of the brightest texel that is dark: half a level of an 8-bit picture."""


@dataclass(frozen=True)
class Apodized(Aperture):
    """A filter that darkens towards the rim (smooth trans focus): blurred edges run out softly.

    `edge`, 0 < edge <= 1, is the transmission at the rim relative to the middle: edge ** |s|^2, a Gaussian.
    """

    edge: float

    def __post_init__(self) -> None:
        if not 0 < self.edge <= 1:
            raise UsageError(f"Apodized.edge must be in 0..1 (0 excluded), got {self.edge}")

    def inside(self, s: Float64Array) -> BoolArray:
        """|s| <= 1."""
        return np.einsum("ij,ij->i", s, s) <= 1.0

    def weight(self, s: Float64Array) -> Array:
        """edge ** |s|^2."""
        result: Array = self.edge ** np.einsum("ij,ij->i", s, s)
        return result


@dataclass(frozen=True)
class OnionRings(Aperture):
    """Rings in blurred lights, as moulded and turned aspheres draw them.

    `rings` in 0.5..40 is their number from the middle to the rim, `contrast` in 0..1 their depth: the transmission is
    1 + contrast * cos(2 pi rings |s|).
    """

    rings: float
    contrast: float = 0.2

    def __post_init__(self) -> None:
        if not 0.5 <= self.rings <= 40:
            raise UsageError(f"OnionRings.rings must be in 0.5..40, which the tables can hold; got {self.rings}")
        if not 0 <= self.contrast <= 1:
            raise UsageError(f"OnionRings.contrast must be in 0..1, got {self.contrast}")

    def inside(self, s: Float64Array) -> BoolArray:
        """|s| <= 1."""
        return np.einsum("ij,ij->i", s, s) <= 1.0

    def weight(self, s: Float64Array) -> Array:
        """1 + contrast * cos(2 pi rings |s|)."""
        result: Array = 1 + self.contrast * np.cos(2 * math.pi * self.rings * np.hypot(s[:, 0], s[:, 1]))
        return result


@dataclass(frozen=True)
class Anamorphic(Aperture):
    """A front anamorphot: an upright oval, `squeeze` >= 1 times as high as wide, its height that of the disc.

    `corner`, if given, is the squeeze in the picture's corners; it changes with |h|^2 between. `rotation` (radians)
    turns the oval clockwise.
    """

    squeeze: float = 2.0
    corner: float | None = None
    rotation: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("squeeze", self.squeeze), ("corner", self.corner)):
            if value is not None and not 1 <= value <= 20:
                raise UsageError(f"Anamorphic.{name} must be in 1..20, got {value}")
        if not math.isfinite(self.rotation):
            raise UsageError(f"Anamorphic.rotation must be finite radians, got {self.rotation}")

    @property
    def weight_depends_on_field(self) -> bool:
        """Whether the squeeze changes over the picture."""
        return self.corner is not None and self.corner != self.squeeze

    def inside(self, s: Float64Array) -> BoolArray:
        """Within the widest oval of the picture."""
        return self._within(s, np.float64(min(self.squeeze, self.corner or self.squeeze)))

    def weight(self, s: Float64Array, h: Array | None = None) -> Array:
        """1 within the oval at h, 0 outside."""
        if h is None or not self.weight_depends_on_field:
            return np.ones(len(s))
        square = np.einsum("ij,ij->i", h, h)
        return self._within(s, self.squeeze + ((self.corner or 0.0) - self.squeeze) * square).astype(np.float64)

    def _within(self, s: Float64Array, squeeze: Any) -> BoolArray:
        cos, sin = math.cos(self.rotation), math.sin(self.rotation)
        across, along = cos * s[:, 0] + sin * s[:, 1], cos * s[:, 1] - sin * s[:, 0]
        result: BoolArray = np.square(squeeze * across) + np.square(along) <= 1.0
        return result


class ImageAperture(Aperture):
    """An opening drawn or photographed: the numbers of a picture are its transmission, grey or per channel.

    `picture` is a file, or an array [H, W] or [H, W, 3]: floats >= 0 of any scale, or integers. Numbers are taken as
    they stand, without a tone curve. The longer side spans the diameter of the disc, and what lies outside the disc is
    dark; lights behind the focus show the picture upright. Between texels it is bilinear; longer sides than
    MOST_TEXELS are reduced by means. Raises UsageError for what is no such picture.
    """

    def __init__(self, picture: str | Path | Array) -> None:
        name = str(picture) if isinstance(picture, str | Path) else "the array"
        weights = _read(picture) if isinstance(picture, str | Path) else np.asarray(picture)
        if weights.ndim not in {2, 3} or 0 in weights.shape or (weights.ndim == 3 and weights.shape[2] != 3):
            raise UsageError(f"ImageAperture: {name} must be [H, W] or [H, W, 3], got shape {weights.shape}")
        if weights.dtype.kind not in "fiub":
            raise UsageError(f"ImageAperture: {name} must hold numbers, got {weights.dtype}")
        weights = weights.astype(np.float64)
        if not (np.isfinite(weights).all() and weights.min() >= 0 and weights.max() > 0):
            raise UsageError(f"ImageAperture: {name} must be finite, >= 0, and bright somewhere")
        weights = _reduced(weights / weights.max())
        self.weights: Float64Array = np.ascontiguousarray(weights if weights.ndim == 3 else weights[..., None])
        """Transmission [H, W, 1 or 3], 1 at the brightest texel before reduction."""
        self.weights.flags.writeable = False
        self._key = hashlib.sha256(repr(self.weights.shape).encode() + self.weights.tobytes()).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageAperture) and type(other) is type(self) and other._key == self._key

    def __hash__(self) -> int:
        return int.from_bytes(self._key[:8], "little")

    def __repr__(self) -> str:
        height, width, channels = self.weights.shape
        return f"ImageAperture({width} x {height}, {'RGB' if channels == 3 else 'grey'})"

    def inside(self, s: Float64Array) -> BoolArray:
        """|s| <= 1, and not dark there."""
        bright = self._at(s).max(axis=1) > _HALF_A_LEVEL * self.weights.max()
        result: BoolArray = (np.einsum("ij,ij->i", s, s) <= 1.0) & bright
        return result

    def weight(self, s: Float64Array) -> Array:
        """The picture's numbers, [N] or [N, 3]."""
        values = self._at(s)
        return values[:, 0] if values.shape[1] == 1 else values

    def _at(self, s: Float64Array) -> Float64Array:
        """Bilinear values [N, channels]; 0 beyond the picture's sides."""
        height, width, _ = self.weights.shape
        texels = max(height, width) / 2
        x, y = s[:, 0] * texels + width / 2 - 0.5, s[:, 1] * texels + height / 2 - 0.5
        outside = (np.abs(x + 0.5 - width / 2) > width / 2) | (np.abs(y + 0.5 - height / 2) > height / 2)
        x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
        left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        right, below = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
        fx, fy = (x - left)[:, None], (y - top)[:, None]
        upper = self.weights[top, left] * (1 - fx) + self.weights[top, right] * fx
        lower = self.weights[below, left] * (1 - fx) + self.weights[below, right] * fx
        return np.where(outside[:, None], 0.0, upper * (1 - fy) + lower * fy)


def _read(path: str | Path) -> Array:
    from bokehsynth.assets.single import open_weights  # needs OpenCV

    return open_weights(Path(path))


def _reduced(weights: Float64Array) -> Float64Array:
    """Means of square blocks, so that no side is longer than MOST_TEXELS; what a block lacks at a side is dark."""
    factor = math.ceil(max(weights.shape[:2]) / MOST_TEXELS)
    if factor == 1:
        return weights
    height, width = (-(-side // factor) for side in weights.shape[:2])
    missing = [height * factor - weights.shape[0], width * factor - weights.shape[1]]
    padding = [(m // 2, m - m // 2) for m in missing] + [(0, 0)] * (weights.ndim - 2)
    padded = np.pad(weights, padding)
    blocks = padded.reshape(height, factor, width, factor, *weights.shape[2:])
    result: Float64Array = blocks.mean(axis=(1, 3))
    return result
