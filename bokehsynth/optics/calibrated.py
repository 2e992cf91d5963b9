"""The opening of a lens that was measured in photographs: blades, rims, uneven light, colour."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bokehsynth.errors import DataError, UsageError
from bokehsynth.files import local_path
from bokehsynth.optics.apertures import Aperture, Array, BoolArray, Float64Array, PupilDisc
from bokehsynth.untrusted_files import read_json

GLOW_WIDTH = 0.08
"""Width of the bright outline of a soap bubble, in radii of the opening."""

MOST_RIMS = 2

LARGEST = 1e9
"""Largest number that a lens file may hold; whole numbers of JSON have up to a thousand digits."""

_BOUNDS = {
    "rotation": (-100.0, 100.0), "curvature": (0.0, 1.0), "edge": (0.0, 20.0), "glow": (0.0, 20.0),
}  # fmt: skip


@dataclass(frozen=True)
class CalibratedAperture(Aperture):
    """An opening as `bokehsynth calibrate` finds it: `CalibratedAperture.load("my-lens.json")`.

    `blades` (0: round), `rotation` and `curvature` are those of `Polygon`; `rims` are pairs (strength, radius), each a
    disc of that radius with its centre at strength*h that light must pass as well. The transmission is
    1 + (edge - 1)*|s|^2 + glow*exp(-((1 - |s|/R)/0.08)^2), R the boundary's radius in the direction of s. `colors`
    are the radii of the opening for R, G, B, the largest 1 (axial colour, on the side of the focus on which it was
    seen); `lateral` moves red and blue against green by lateral*(p - centre) pixels.

    Raises UsageError for numbers out of range.
    """

    blades: int = 0
    rotation: float = 0.0
    curvature: float = 0.0
    rims: tuple[tuple[float, float], ...] = ()
    edge: float = 1.0
    glow: float = 0.0
    colors: tuple[float, float, float] = (1.0, 1.0, 1.0)
    lateral: tuple[float, float] = (0.0, 0.0)
    half_diagonal: float = 0.0
    """Of the picture, in pixels, which only `lateral` needs: the photograph's, until `for_size` sets another."""

    def __post_init__(self) -> None:
        if isinstance(self.blades, bool) or not (self.blades == 0 or 3 <= self.blades <= 64):
            raise UsageError(f"CalibratedAperture.blades must be 0 (round) or 3..64, got {self.blades}")
        for name, (low, high) in _BOUNDS.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"CalibratedAperture.{name} must be in {low:g}..{high:g}, got {getattr(self, name)}")
        if len(self.rims) > MOST_RIMS or not all(-5 <= move <= 5 and 0.1 <= radius <= 10 for move, radius in self.rims):
            raise UsageError(
                f"CalibratedAperture.rims must be at most {MOST_RIMS} pairs (strength in -5..5, radius in 0.1..10), "
                f"got {self.rims}"
            )
        if not (all(0.5 <= color <= 1 for color in self.colors) and max(self.colors) == 1):
            raise UsageError(
                f"CalibratedAperture.colors must be three radii in 0.5..1, the largest 1, got {self.colors}"
            )
        if not 0 <= self.half_diagonal <= 1e6:
            raise UsageError(f"CalibratedAperture.half_diagonal must be in 0..1e6, got {self.half_diagonal}")
        if not all(abs(move) <= 0.05 for move in self.lateral):
            raise UsageError(f"CalibratedAperture.lateral must be in -0.05..0.05, got {self.lateral}")

    @classmethod
    def load(cls, path: str | Path) -> "CalibratedAperture":
        """The opening in a file that `bokehsynth calibrate` wrote; UsageError for another file."""
        return cls.from_record(read_calibration(local_path(path)), str(path))

    @classmethod
    def from_record(cls, record: Any, source: str) -> "CalibratedAperture":
        """The opening that the mapping `opening` of such a file describes; UsageError names `source`."""
        names = [each.name for each in fields(cls)]
        if not isinstance(record, dict) or (unknown := sorted(set(record) - set(names))):
            wrong = f"has unknown keys: {', '.join(map(str, unknown))}" if isinstance(record, dict) else "is no mapping"
            raise UsageError(f"{source}: opening {wrong}; known are {', '.join(names)}")
        shapes = {"blades": int, "rims": ("pairs", 2), "colors": ("numbers", 3), "lateral": ("numbers", 2)}
        return cls(
            **{name: _read(value, shapes.get(name, float), f"{source}: {name}") for name, value in record.items()}
        )

    @property
    def record(self) -> dict[str, Any]:
        """It as plain data, for `from_record`."""
        return {
            "blades": self.blades, "rotation": self.rotation, "curvature": self.curvature,
            "rims": [list(rim) for rim in self.rims], "edge": self.edge, "glow": self.glow,
            "colors": list(self.colors), "lateral": list(self.lateral),
            "half_diagonal": self.half_diagonal,
        }  # fmt: skip

    def for_size(self, height: int, width: int) -> "CalibratedAperture":
        """It for pictures of this size, which lateral colour needs."""
        return _sized(self, math.hypot(height, width) / 2) if self.has_aberration else self

    def inside(self, s: Float64Array) -> BoolArray:
        """|s| within the boundary radius at its angle."""
        result: BoolArray = np.hypot(s[:, 0], s[:, 1]) <= self._boundary(s)
        return result

    def _boundary(self, s: Float64Array) -> Any:
        if self.blades == 0:
            return 1.0
        half_angle = math.pi / self.blades
        phi = np.mod(np.arctan2(s[:, 1], s[:, 0]) - self.rotation, 2 * half_angle) - half_angle
        return (1 - self.curvature) * math.cos(half_angle) / np.cos(phi) + self.curvature

    def weight(self, s: Float64Array) -> Array:
        """The transmission, [N], or [N, 3] where the colours differ in radius."""
        share = np.hypot(s[:, 0], s[:, 1]) / self._boundary(s)
        if min(self.colors) == 1:
            return self._light(s, share)
        lights = [
            np.where(share <= color, self._light(s / color, share / color), 0.0) / color**2 for color in self.colors
        ]
        return np.stack(lights, axis=-1)

    def _light(self, s: Float64Array, share: Array) -> Array:
        light = 1 + (self.edge - 1) * np.einsum("ij,ij->i", s, s)
        result: Array = light + self.glow * np.exp(-(((1 - share) / GLOW_WIDTH) ** 2))
        return result

    def pupil(self, h: Array) -> PupilDisc | list[PupilDisc]:
        """The rims' discs."""
        discs = [(strength * np.asarray(h), radius) for strength, radius in self.rims]
        return discs[0] if len(discs) == 1 else discs or (np.zeros_like(h), math.inf)

    def aberration(self, s: Float64Array, h: Array) -> Array:
        """Lateral colour: red and blue come from beside the pixel."""
        red, blue = self.lateral
        shift: Array = np.asarray(h)[:, None] * (-self.half_diagonal * np.array([red, 0.0, blue]))[:, None]
        return shift

    @property
    def has_aberration(self) -> bool:
        """Whether there is lateral colour."""
        return self.lateral != (0.0, 0.0)

    @property
    def depends_on_field(self) -> bool:
        """Whether rims or lateral colour change it over the picture."""
        return bool(self.rims) or self.has_aberration


@lru_cache(maxsize=16)
def _sized(aperture: CalibratedAperture, half_diagonal: float) -> CalibratedAperture:
    """The same object each time: backends keep the tables of an object."""
    return replace(aperture, half_diagonal=half_diagonal)


def sized_aperture(aperture: Aperture, size: tuple[int, int]) -> Aperture:
    """An aperture for pictures of `size` (height, width): only lateral colour of a calibrated one depends on it."""
    return aperture.for_size(*size) if isinstance(aperture, CalibratedAperture) else aperture


def read_calibration(path: Path) -> Any:
    """The mapping `opening` of a file that `bokehsynth calibrate` wrote; UsageError names the file and the way out."""
    try:
        content = read_json(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except DataError as error:
        raise UsageError(str(error)) from None
    if not isinstance(content, dict) or "opening" not in content:
        raise UsageError(f"{path}: has no 'opening': a lens of this kind is written by `bokehsynth calibrate`")
    return content["opening"]


def _read(value: Any, shape: Any, where: str) -> Any:
    """A number, numbers or pairs of numbers of parsed JSON; UsageError for something else."""
    if shape is int or shape is float:
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
        if not number or (shape is int and value != int(value)):
            raise UsageError(f"{where} must be a {'whole ' if shape is int else ''}number, got {_short(value)}")
        return shape(value)
    kind, count = shape
    if not isinstance(value, Sequence) or isinstance(value, str) or (kind == "numbers" and len(value) != count):
        raise UsageError(
            f"{where} must be a list of {f'{count} numbers' if kind == 'numbers' else 'pairs'}, got {_short(value)}"
        )
    inner: Any = float if kind == "numbers" else ("numbers", count)
    return tuple(_read(each, inner, where) for each in value)


def _short(value: Any) -> str:
    """What is wrong in a file, short enough for one line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"
