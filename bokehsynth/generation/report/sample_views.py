"""One sample as a page shows it: its pictures made smaller, its maps as exact numbers at evenly spread pixels.

The pictures are lossy WebP, since a page is for eyes. The maps are the 16-bit counts that the shard holds, so that what
is read out under the pointer is the value of the data set.
"""

import base64
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.generation.report.markup import MAX_TEXT
from bokehsynth.imaging.contact_sheet import take_spread
from bokehsynth.schema import FIELDS, LAYER_FIELDS, VIEW_FIELDS, Sample, quantize_map

PICTURES = ("lq", "source", "aif", "hq")
"""Stops of the slider, in order; views and layers come behind them."""
MOST_VIEWS = 5
"""Views and layers that are shown, evenly spread."""
MAPS = ("defocus", "disparity", "mask")
SIDES = (512, 384, 320, 256, 208, 176, 144, 112, 80, 48)
"""Longer sides in pixels that are tried, the largest first."""
QUALITY = 84
ASSETS_NAMED = 6
"""Pictures of a sample that are named; of more their number is told."""

Picture = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class MapView:
    """A map at evenly spread pixels."""

    width: int
    height: int
    scale: float
    """Value of one count."""
    largest: float
    """Largest value of the whole map, not only of those pixels."""
    packed: str
    """Base64 of the zlib stream of `pack_counts`."""


@dataclass(frozen=True)
class SampleView:
    """What a page shows of one sample."""

    key: str
    meta: Mapping[str, Any]
    """The record but for its draw, with only the first ASSETS_NAMED assets."""
    assets: int
    """Assets in all."""
    width: int
    """Pixels of the pictures, which all have one size."""
    height: int
    pictures: dict[str, bytes] = field(default_factory=dict)
    """WebP by field."""
    maps: dict[str, MapView] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """About what it adds to a page: base64 takes four characters for three bytes."""
        return sum(len(data) * 4 // 3 for data in self.pictures.values()) + sum(
            len(view.packed) for view in self.maps.values()
        )


def view_sample(sample: Sample, budget: int) -> SampleView:
    """The sample as large as it is, or as SIDES allow, with at most `budget` bytes of a page; else at the smallest."""
    longest = max(sample.meta["height"], sample.meta["width"])
    for side in [min(longest, SIDES[0]), *(side for side in SIDES[1:] if side < longest)]:
        view = _at_side(sample, side)
        if view.bytes <= budget:
            break
    return view


def _at_side(sample: Sample, side: int) -> SampleView:
    height, width = sample.meta["height"], sample.meta["width"]
    factor = min(1.0, side / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    pictures = {name: _webp(_shrunk(sample.arrays[name], size)) for name in _shown(sample)}
    if not pictures and "hq16" in sample.arrays:
        pictures["hq"] = _webp(_shrunk((sample.arrays["hq16"] >> 8).astype(np.uint8), size))
    maps = {name: _map_view(name, sample, size) for name in MAPS if name in sample.arrays}
    meta = {name: value for name, value in sample.meta.items() if name != "draw"}
    meta |= {"assets": meta["assets"][:ASSETS_NAMED], "aperture": meta["aperture"][:MAX_TEXT]}
    return SampleView(sample.key, meta, len(sample.meta["assets"]), size[0], size[1], pictures, maps)


def _shown(sample: Sample) -> list[str]:
    views = [name for name in VIEW_FIELDS if name in sample.arrays]
    layers = [name for name in LAYER_FIELDS if name in sample.arrays and name.startswith("color")]
    shown = [name for name in PICTURES if name in sample.arrays]
    return shown + take_spread(views, MOST_VIEWS) + take_spread(layers, MOST_VIEWS)


def _shrunk(picture: Picture, size: tuple[int, int]) -> Picture:
    if picture.shape[1::-1] == size:
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _webp(picture: Picture) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()


def _map_view(name: str, sample: Sample, size: tuple[int, int]) -> MapView:
    values, scale = sample.arrays[name], FIELDS[name].scale(sample.meta)
    rows, columns = spread(values.shape[0], size[1]), spread(values.shape[1], size[0])
    counts = quantize_map(values[np.ix_(rows, columns)], scale, name)
    return MapView(size[0], size[1], scale, float(values.max()), pack_counts(counts))


def spread(whole: int, part: int) -> npt.NDArray[np.int64]:
    """Which of `whole` pixels stand for `part` evenly spread ones: the one in the middle of each. Int [part].

    The page does the same sum to say where a value stands.
    """
    return (2 * np.arange(part, dtype=np.int64) + 1) * whole // (2 * part)


def pack_counts(counts: Counts) -> str:
    """Base64 of a zlib stream: differences to the left (in the first column: upwards), high bytes, then low bytes."""
    differences = counts.copy()
    differences[:, 1:] = counts[:, 1:] - counts[:, :-1]
    differences[1:, 0] = counts[1:, 0] - counts[:-1, 0]
    planes = np.stack([differences >> 8, differences & 255]).astype(np.uint8)
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()


def unpack_counts(packed: str, height: int, width: int) -> Counts:
    """The inverse of `pack_counts`, as the page does it: uint16 [height, width]."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8).reshape(2, height, width)
    differences = planes[0].astype(np.uint16) << 8 | planes[1]
    differences[:, 0] = np.cumsum(differences[:, 0], dtype=np.uint16)
    return np.cumsum(differences, axis=1, dtype=np.uint16)
