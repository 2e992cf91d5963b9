"""What is done to a sample before the network sees it: window, mirror, fresh degradation, other focus, depth faults.

Drawn first, then done: `draw_changes` makes every choice as a function of (seed, split, index, epoch), `apply_changes`
acts upon it and is deterministic.
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
"""Far from the stages of a data recipe, so that no number is used twice."""


@dataclass(frozen=True)
class Corruption:
    """The faults of one disparity map; lengths in pixels at 512."""

    blur: float
    morph: float
    """Above 0 dilates, below erodes."""
    scale: float
    shift: float


@dataclass(frozen=True)
class Changes:
    """Every choice for one sample in one epoch."""

    flip: bool
    window: tuple[float, float]
    """Where the window lies between its first and last place, down and right, 0..1."""
    degrade_seed: int
    refocus: float | None
    """Disparity that the input picture is focused on; None leaves all in focus."""
    corruption: Corruption | None


@dataclass(frozen=True)
class Arrays:
    """One sample as the network's inputs and targets before they become tensors."""

    lq: ByteArray
    hq: ByteArray
    aif: ByteArray
    """uint8 [H, W, 3] sRGB."""
    defocus: FloatArray
    """[H, W]: blur radius in pixels, from the corrupted disparity if it is corrupted."""
    disparity: FloatArray
    """[H, W]: exact, 0..1."""


def draw_changes(spec: DataSpec, seed: int, split: str, index: int, epoch: int) -> Changes:
    """The choices for sample `index` in its `epoch`; always the same amount of randomness, whatever is turned on."""
    key = (_SPLITS[split], _STAGE, index, epoch)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
    u = rng.random(10)
    corrupt = spec.corruption
    return Changes(
        flip=bool(u[0] < spec.flip),
        window=(float(u[1]), float(u[2])),
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


def no_changes() -> Changes:
    """As the sample is stored; a window in the middle."""
    return Changes(flip=False, window=(0.5, 0.5), degrade_seed=0, refocus=None, corruption=None)


def apply_changes(sample: Sample, changes: Changes, spec: DataSpec, fresh: bool = True) -> Arrays:
    """The sample with its changes; `fresh` False keeps the stored LQ whatever the recipe says (validation)."""
    blur, focus = float(sample.meta["blur"]), float(sample.meta["focus"])
    disparity, defocus = sample.disparity, sample.defocus
    if changes.corruption is not None:
        faulty = corrupt_disparity(disparity, changes.corruption)
        defocus = np.abs(faulty - np.float32(focus)) * np.float32(blur)
    lq = _input_picture(sample, changes, spec) if fresh else sample.lq
    fields: list[npt.NDArray[Any]] = [lq, sample.hq, sample.aif, defocus, disparity]
    if spec.crop is not None:
        fields = [window(field, spec.crop, changes.window) for field in fields]
    if changes.flip:
        fields = [field[:, ::-1] for field in fields]
    return Arrays(*(np.ascontiguousarray(field) for field in fields))


def _input_picture(sample: Sample, changes: Changes, spec: DataSpec) -> ByteArray:
    if changes.refocus is not None:
        lens = Lens(blur=float(sample.meta["blur"]), focus=changes.refocus)
        seen = classical_bokeh(sample.aif, sample.disparity, lens)
        return degrade(seen, spec.fresh_lq or "real-esrgan", changes.degrade_seed)
    if spec.fresh_lq is not None:
        return degrade(sample.aif, spec.fresh_lq, changes.degrade_seed)
    return sample.lq


def corrupt_disparity(disparity: FloatArray, corruption: Corruption) -> FloatArray:
    """Disparity [H, W] with an estimator's faults: edges moved, softened, scale and shift wrong; kept in 0..1."""
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
    """The picture blurred by a renderer that knows this one layer alone: uint8 sRGB [H, W, 3].

    What lies behind an edge is not known to it; past the border the picture goes on as its mirror image.
    """
    radius = float(lens.blur) * float(np.abs(disparity - np.float32(lens.focus)).max())
    margin = math.ceil(radius) + 4
    around = ((margin, margin), (margin, margin))
    color = np.pad(srgb_to_linear(picture.astype(np.float32) / np.float32(255)), (*around, (0, 0)), "symmetric")
    layer = Layer(color.astype(np.float32), np.ones(color.shape[:2], np.float32), np.pad(disparity, around, "edge"))
    bokeh = linear_to_srgb(np.clip(render([layer], lens, margin, "cpu").bokeh, 0, 1))
    return np.rint(np.clip(bokeh, 0, 1) * 255).astype(np.uint8)


def window(field: npt.NDArray[Any], side: int, where: tuple[float, float]) -> npt.NDArray[Any]:
    """The `side` x `side` part of a field [H, W, ...], `where` in 0..1 between its first and last place."""
    spare = [length - side for length in field.shape[:2]]
    if min(spare) < 0:
        raise UsageError(f"data.crop: {side} px do not fit samples of {field.shape[1]} x {field.shape[0]} px")
    top, left = (min(int(place * (room + 1)), room) for place, room in zip(where, spare, strict=True))
    return field[top : top + side, left : left + side]
