"""Pictures that a class of the user's draws: its contract, the names of its pictures, and checks of what it returns."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bokehsynth.assets.catalogue import Asset
from bokehsynth.assets.spec import PILLOW_GUARD
from bokehsynth.color import FloatArray
from bokehsynth.config.user_code import load_instance, source_of
from bokehsynth.errors import UsageError
from bokehsynth.files import sha256_bytes
from bokehsynth.imaging.pictures import Cutout, Landscape
from bokehsynth.procedural.families import generator_of

MOST_PICTURES = 10_000
"""Pictures of one class."""

SIZES = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
"""Pictures are drawn at one of these and scaled, so that the cache holds few sizes."""

BRIGHTEST = 1000.0
"""Largest colour of a picture, display white being 1: sums of light stay exact in 32 bits."""

LEAST_ALPHA = 0.1
"""A cut-out that is nowhere as solid shows nothing."""


class PictureSource(Protocol):
    """What a class named in `assets` offers. It is made without arguments; it needs no base class.

    class Discs:
        def draw(self, rng, size):
            y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
            alpha = np.clip((0.9 - np.hypot(x, y)) * size / 2, 0, 1)
            return np.dstack([np.ones((size, size, 3)) * rng.random(3), alpha])
    """

    def draw(self, rng: np.random.Generator, size: int) -> npt.NDArray[Any]:
        """One picture, by what `rng` draws: the same subject at every `size`, without memory of earlier calls.

        A foreground is float [h, w, 4], straight linear light and alpha in 0..1, with a longer side of about `size`
        pixels; a background or photo is float [h, w, 3], linear light, with a shorter side of about `size` pixels.
        Display white is 1; lights may be up to 1000.
        """
        ...


def picture_names(path: str, count: int) -> list[str]:
    """The ids of the pictures that a class draws; from each follows the generator that the class is given."""
    return [f"{path}/{number:04d}" for number in range(count)]


def class_of(asset_id: str) -> str | None:
    """The class that draws the picture of this id; None where none does."""
    path = asset_id.partition("/")[0]
    return path if ":" in path else None


def load_source(path: str) -> PictureSource:
    """Make an instance of the class; a UsageError says what is missing."""
    try:
        source: PictureSource = load_instance(path, "picture source", ("draw",))
    except UsageError as error:
        if "cannot import module" in str(error):
            raise UsageError(f"{error}; a file or folder of this name is written ./{path}") from error
        raise
    return source


def picture_sha256(name: str, code: str) -> str:
    """The identity of a picture: its name, and the source of the module of its class."""
    return sha256_bytes(f"{name}@{code}")


def code_of(path: str) -> str:
    """The source of the module of the class at `path`."""
    return source_of(load_source(path), path)


def changed_classes(assets: Sequence[Asset]) -> list[str]:
    """The classes of which the code here is another than the one that a list of assets was made with."""
    listed: dict[str, Asset] = {}
    for asset in assets:
        if (path := class_of(asset.id)) is not None:
            listed.setdefault(path, asset)
    return [path for path, asset in listed.items() if picture_sha256(asset.id, code_of(path)) != asset.sha256]


def class_size(pixels: int) -> int:
    """The size at which a picture is asked for, for one of so many pixels."""
    return next((size for size in SIZES if size >= pixels), SIZES[-1])


def draw_cutout(asset_id: str, size: int) -> Cutout:
    """The cut-out of this id; a UsageError unless the class returns one, or whatever the class raises."""
    picture = _drawn(asset_id, size, 4)
    alpha = picture[..., 3].copy()
    if not (alpha.max() <= 1 and alpha.max() >= LEAST_ALPHA):
        raise UsageError(
            f"picture source {class_of(asset_id)!r}: alpha must lie in 0..1 and reach {LEAST_ALPHA:g}, got up to "
            f"{alpha.max():.6g} in {asset_id}"
        )
    return Cutout(np.ascontiguousarray(picture[..., :3]), alpha)


def draw_landscape(asset_id: str, size: int) -> Landscape:
    """The landscape of this id; a UsageError unless the class returns one, or whatever the class raises."""
    return Landscape(_drawn(asset_id, size, 3))


def _drawn(asset_id: str, size: int, channels: int) -> FloatArray:
    """What the class returns, checked, in an array of its own."""
    path = class_of(asset_id) or ""
    values = np.asarray(load_source(path).draw(generator_of(asset_id), size))
    wanted = f"picture source {path!r}: draw() must return float [h, w, {channels}]"
    what = "a foreground's colour and alpha" if channels == 4 else "a landscape's colour"
    if values.ndim != 3 or values.shape[2] != channels or not np.issubdtype(values.dtype, np.floating):
        raise UsageError(f"{wanted}, {what}; got {values.dtype} {list(values.shape)} in {asset_id}")
    if min(values.shape[:2]) < 2 or values.shape[0] * values.shape[1] > PILLOW_GUARD:
        raise UsageError(
            f"{wanted} with sides of 2 px and more and at most {PILLOW_GUARD} px in all; got {list(values.shape)} in "
            f"{asset_id}"
        )
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= BRIGHTEST):  # also for NaN
        raise UsageError(f"{wanted} in 0..{BRIGHTEST:g}; got {low:.6g}..{high:.6g} in {asset_id}")
    return np.array(values, np.float32, order="C")
