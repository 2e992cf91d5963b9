"""ICC profiles of the matrix kind, and grey ones: parsed from their bytes and applied in float at any bit depth."""

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bokehsynth.color import FloatArray, linear_to_srgb, srgb_to_linear

_SRGB_TO_XYZ = np.array(
    [[0.436066, 0.385147, 0.143066], [0.222488, 0.716873, 0.060608], [0.013916, 0.097076, 0.714096]], np.float64
)
"""Linear sRGB to the profile connection space (XYZ under D50), as in the ICC's own sRGB profile."""

_GRID = np.linspace(0, 1, 4096)


@dataclass(frozen=True)
class RgbProfile:
    """An RGB profile made of three curves and a matrix: Display P3, Adobe RGB, Rec. 2020, ProPhoto, sRGB."""

    to_xyz: npt.NDArray[np.float64]
    """[3, 3]: linear device RGB to XYZ under D50."""
    curves: npt.NDArray[np.float64]
    """[3, 4096]: linear light of each channel over its encoded value 0..1."""

    @property
    def is_srgb(self) -> bool:
        """Close enough to sRGB to be left alone (within the rounding of the profiles themselves)."""
        reference = srgb_to_linear(_GRID.astype(np.float32))
        return bool(
            np.abs(self.to_xyz - _SRGB_TO_XYZ).max() < 2e-3 and np.abs(self.curves - reference[None]).max() < 2e-3
        )

    def to_linear(self, stored: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> FloatArray:
        """Integers [..., 3] over their full scale to linear sRGB light, clamped to 0..1."""
        linear = np.stack([_look_up(self.curves[c], stored[..., c]) for c in range(3)], axis=-1)
        matrix = (np.linalg.inv(_SRGB_TO_XYZ) @ self.to_xyz).astype(np.float32)
        return np.clip(linear @ matrix.T, np.float32(0), np.float32(1))

    def to_srgb(self, encoded: FloatArray) -> FloatArray:
        """[..., 3] in 0..1 to sRGB, clamped to 0..1: colours beyond sRGB become its most saturated ones."""
        linear = np.stack([np.interp(encoded[..., c], _GRID, self.curves[c]) for c in range(3)], axis=-1)
        matrix = np.linalg.inv(_SRGB_TO_XYZ) @ self.to_xyz
        return linear_to_srgb(np.clip(linear @ matrix.T, 0, 1).astype(np.float32))

    def from_srgb(self, encoded: FloatArray) -> FloatArray:
        """sRGB [..., 3] in 0..1 to this profile's encoded values, clamped to 0..1."""
        matrix = np.linalg.inv(self.to_xyz) @ _SRGB_TO_XYZ
        linear = np.clip(srgb_to_linear(encoded).astype(np.float64) @ matrix.T, 0, 1)
        found = np.stack([np.interp(linear[..., c], self.curves[c], _GRID) for c in range(3)], axis=-1)
        return found.astype(np.float32)


@dataclass(frozen=True)
class GreyProfile:
    """A grey profile: one tone curve."""

    curve: npt.NDArray[np.float64]
    """[4096]: linear light over the encoded value 0..1."""

    @property
    def is_srgb(self) -> bool:
        """Close enough to sRGB's own curve to be left alone."""
        return bool(np.abs(self.curve - srgb_to_linear(_GRID.astype(np.float32))).max() < 2e-3)

    def to_linear(self, stored: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> FloatArray:
        """Integers over their full scale to linear light in 0..1."""
        return np.clip(_look_up(self.curve, stored), np.float32(0), np.float32(1))


def power_profile(gamma: float, grey: bool) -> GreyProfile | RgbProfile:
    """sRGB's primaries with light as the encoded value to the power `gamma`."""
    curve = _GRID**gamma
    return GreyProfile(curve) if grey else RgbProfile(_SRGB_TO_XYZ, np.stack([curve] * 3))


def read_grey_profile(data: bytes) -> GreyProfile | None:
    """The curve in the ICC bytes of a grey picture; None where there is none or it is damaged."""
    try:
        curve = _curve(_tags(data)[b"kTRC"]) if data[16:20] == b"GRAY" else None
    except (struct.error, KeyError, ValueError, IndexError):
        return None
    return GreyProfile(curve) if curve is not None and np.isfinite(curve).all() else None


def read_profile(data: bytes) -> RgbProfile | None:
    """The profile in ICC bytes; None where it is not of the matrix kind (tables, CMYK, grey) or is damaged."""
    try:
        if data[16:20] != b"RGB " or data[20:24] != b"XYZ ":
            return None
        tags = _tags(data)
        columns = [np.array(struct.unpack_from(">3i", tags[f"{c}XYZ".encode()], 8)) / 65536 for c in "rgb"]
        curves = [_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")]
    except (struct.error, KeyError, ValueError, IndexError):
        return None
    profile = RgbProfile(np.stack(columns, axis=1), np.stack(curves))
    usable = np.isfinite(profile.curves).all() and abs(np.linalg.det(profile.to_xyz)) > 1e-6
    return profile if usable else None


def _tags(data: bytes) -> dict[bytes, bytes]:
    tags = {}
    for index in range(min(struct.unpack_from(">I", data, 128)[0], 200)):
        name, offset, size = struct.unpack_from(">4sII", data, 132 + 12 * index)
        tags[name] = data[offset : offset + size]
    return tags


def _look_up(curve: npt.NDArray[np.float64], stored: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> FloatArray:
    """A curve over integers of either width, by a table of every value there is."""
    steps = np.linspace(0, 1, np.iinfo(stored.dtype).max + 1)
    return np.interp(steps, _GRID, curve).astype(np.float32)[stored]


def _curve(tag: bytes) -> npt.NDArray[np.float64]:
    """A tone curve (types curv and para), sampled on the grid."""
    if tag[:4] == b"curv":
        count = struct.unpack_from(">I", tag, 8)[0]
        if count == 0:
            return _GRID.copy()
        values = np.array(struct.unpack_from(f">{count}H", tag, 12), np.float64)
        if count == 1:
            return _GRID ** (values[0] / 256)
        return np.interp(_GRID, np.linspace(0, 1, count), values / 65535)
    if tag[:4] == b"para":
        return _parametric(tag)
    raise ValueError("unknown curve type")


def _parametric(tag: bytes) -> npt.NDArray[np.float64]:
    """ICC.1:2010, 10.16: y = (ax + b)^g + e above d, cx + f below."""
    kind = struct.unpack_from(">H", tag, 8)[0]
    count = (1, 3, 4, 5, 7)[kind]
    p = [value / 65536 for value in struct.unpack_from(f">{count}i", tag, 12)]
    g = p[0]
    a, b = (p[1], p[2]) if kind else (1.0, 0.0)
    c, d, e, f = 0.0, -b / a if a else 0.0, 0.0, 0.0
    if kind == 2:
        e = f = p[3]
    elif kind == 3:
        c, d = p[3:5]
    elif kind == 4:
        c, d, e, f = p[3:7]
    above = np.maximum(a * _GRID + b, 0) ** g + e
    return np.clip(np.where(d <= _GRID, above, c * _GRID + f), 0, 1)
