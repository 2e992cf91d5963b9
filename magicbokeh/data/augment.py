"""Augmentation of samples: random crop, mirror, fresh degradation, refocused input, depth faults.

`draw_augmentation` makes every choice as a function of (seed, split, index, epoch); `apply_augmentation` is
deterministic.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth import Layer, Lens, Sample, UsageError, degrade, linear_to_srgb, render, srgb_to_linear
from magicbokeh.recipe import CorruptionSpec, DataSpec

ByteArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

_SPLITS = {"train": 0, "val": 1}
_STAGE = 1 << 16
"""This module's part of the spawn key, apart from the stages of a data recipe."""


@dataclass(frozen=True)
class Corruption:
    """The faults of one disparity map; lengths in pixels at 512."""

    blur: float
    morph: float
    """Above 0 dilates, below erodes."""
    scale: float
    shift: float


@dataclass(frozen=True)
class Augmentation:
    """Every choice for one sample in one epoch."""

    flip: bool
    crop_position: tuple[float, float]
    """Top and left of the crop, as a share 0..1 of its free range."""
    degrade_seed: int
    refocus: float | None
    """Disparity on which the input picture is focused; None leaves all in focus."""
    corruption: Corruption | None


@dataclass(frozen=True)
class SampleArrays:
    """Inputs and targets of one sample as arrays."""

    lq: ByteArray
    hq: ByteArray
    aif: ByteArray
    """uint8 [H, W, 3] sRGB."""
    defocus: FloatArray
    """[H, W]: blur radius in pixels; of the corrupted disparity if there is a corruption."""
    disparity: FloatArray
    """[H, W]: exact, 0..1."""


def draw_augmentation(spec: DataSpec, seed: int, split: str, index: int, epoch: int) -> Augmentation:
    """The choices for sample `index` in its `epoch`; the number of random draws does not depend on the options."""
    key = (_SPLITS[split], _STAGE, index, epoch)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
    u = rng.random(10)
    corrupt = spec.corruption
    return Augmentation(
        flip=bool(u[0] < spec.flip),
        crop_position=(float(u[1]), float(u[2])),
        degrade_seed=int(rng.integers(1 << 62)),
        refocus=float(u[4]) if u[3] < spec.refocus else None,
        corruption=_draw_corruption(corrupt, u[6:]) if corrupt and u[5] < corrupt.probability else None,
    )


def _draw_corruption(spec: CorruptionSpec, u: npt.NDArray[np.float64]) -> Corruption:
    return Corruption(
        blur=float(spec.blur * u[0]),
        morph=float(spec.morph * (2 * u[1] - 1)),
        scale=float(1 + spec.scale * (2 * u[2] - 1)),
        shift=float(spec.shift * (2 * u[3] - 1)),
    )


def window_position(seed: int, split: str, index: int, epoch: int, window: int) -> tuple[float, float]:
    """The crop position of a further window (1, 2, ...) of a sample; the first one's is the augmentation's."""
    key = (_SPLITS[split], _STAGE, index, epoch, window)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
    top, left = rng.random(2)
    return float(top), float(left)


def no_augmentation() -> Augmentation:
    """The augmentation that leaves a sample as it is stored; a crop is centred."""
    return Augmentation(flip=False, crop_position=(0.5, 0.5), degrade_seed=0, refocus=None, corruption=None)


def apply_augmentation(sample: Sample, augmentation: Augmentation, spec: DataSpec, fresh: bool = True) -> SampleArrays:
    """Apply an augmentation; `fresh` False keeps the stored LQ even where the recipe makes another (validation)."""
    return cut_window(whole_fields(sample, augmentation, spec, fresh), augmentation, spec)


def whole_fields(sample: Sample, augmentation: Augmentation, spec: DataSpec, fresh: bool) -> SampleArrays:
    """The input, targets and maps of a whole sample, before a window is cut out."""
    blur, focus = float(sample.meta["blur"]), float(sample.meta["focus"])
    disparity, defocus = sample.disparity, sample.defocus
    if augmentation.corruption is not None:
        faulty = corrupt_disparity(disparity, augmentation.corruption)
        defocus = np.abs(faulty - np.float32(focus)) * np.float32(blur)
    lq = _input_picture(sample, augmentation, spec) if fresh else sample.lq
    return SampleArrays(lq, sample.hq, sample.aif, defocus, disparity)


def cut_window(whole: SampleArrays, augmentation: Augmentation, spec: DataSpec) -> SampleArrays:
    """Cut the augmentation's window out of all fields alike, and mirror it."""
    fields: list[npt.NDArray[Any]] = [whole.lq, whole.hq, whole.aif, whole.defocus, whole.disparity]
    if spec.crop is not None:
        fields = [crop(field, spec.crop, augmentation.crop_position) for field in fields]
    if augmentation.flip:
        fields = [field[:, ::-1] for field in fields]
    return SampleArrays(*(np.ascontiguousarray(field) for field in fields))


def _input_picture(sample: Sample, augmentation: Augmentation, spec: DataSpec) -> ByteArray:
    if "source_blur" in sample.meta:
        return _from_source(sample, augmentation, spec)
    if augmentation.refocus is not None:
        lens = Lens(blur=float(sample.meta["blur"]), focus=augmentation.refocus)
        refocused = classical_bokeh(sample.aif, sample.disparity, lens)
        return degrade(refocused, spec.fresh_lq or "real-esrgan", augmentation.degrade_seed)
    if spec.fresh_lq is not None:
        return degrade(sample.aif, spec.fresh_lq, augmentation.degrade_seed)
    return sample.lq


def _from_source(sample: Sample, augmentation: Augmentation, spec: DataSpec) -> ByteArray:
    """LQ of a data set whose LQ starts from another focus or lens: its own, or made afresh from that picture.

    Where the recipe asks for `refocus`, the other samples start from `aif`.
    """
    if spec.refocus == 0 and spec.fresh_lq is None:
        return sample.lq
    if "source" not in sample.arrays:
        raise UsageError(
            "data.fresh_lq, data.refocus: the data set starts LQ from a picture that it does not store; name `source` "
            "in its shards.fields, or train on its own LQ"
        )
    from_source = spec.refocus == 0 or augmentation.refocus is not None
    picture = sample["source"] if from_source else sample.aif
    return degrade(picture, spec.fresh_lq or "real-esrgan", augmentation.degrade_seed)


def corrupt_disparity(disparity: FloatArray, corruption: Corruption) -> FloatArray:
    """Disparity [H, W] in 0..1 with the faults of an estimator: edges moved and softened, wrong scale and shift."""
    unit = min(disparity.shape) / 512
    found: npt.NDArray[Any] = disparity
    radius = round(abs(corruption.morph) * unit)
    if radius:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        found = (cv2.dilate if corruption.morph > 0 else cv2.erode)(found, kernel)
    sigma = corruption.blur * unit
    if sigma > 0.1:
        found = cv2.GaussianBlur(found, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    middle = np.float32(0.5)
    found = (found - middle) * np.float32(corruption.scale) + middle + np.float32(corruption.shift)
    return np.clip(found, np.float32(0), np.float32(1)).astype(np.float32)


def classical_bokeh(picture: ByteArray, disparity: FloatArray, lens: Lens) -> ByteArray:
    """Render the picture as a single layer with this disparity: uint8 sRGB [H, W, 3].

    What an edge hides is unknown to the renderer; past the border the picture continues mirrored.
    """
    radius = float(lens.blur) * float(np.abs(disparity - np.float32(lens.focus)).max())
    margin = math.ceil(radius) + 4
    around = ((margin, margin), (margin, margin))
    color = np.pad(srgb_to_linear(picture.astype(np.float32) / np.float32(255)), (*around, (0, 0)), "symmetric")
    layer = Layer(color.astype(np.float32), np.ones(color.shape[:2], np.float32), np.pad(disparity, around, "edge"))
    bokeh = linear_to_srgb(np.clip(render([layer], lens, margin, "cpu").bokeh, 0, 1))
    return np.rint(np.clip(bokeh, 0, 1) * 255).astype(np.uint8)


def crop(field: npt.NDArray[Any], side: int, position: tuple[float, float]) -> npt.NDArray[Any]:
    """Cut `side` x `side` pixels out of a field [H, W, ...]; `position`: top and left as shares 0..1 of their range."""
    largest = [length - side for length in field.shape[:2]]
    if min(largest) < 0:
        raise UsageError(f"data.crop: {side} px do not fit samples of {field.shape[1]} x {field.shape[0]} px")
    top, left = (min(int(share * (most + 1)), most) for share, most in zip(position, largest, strict=True))
    return field[top : top + side, left : left + side]
