"""Is a sample fit to learn from? What is not is drawn again, with the next attempt, and counted.

These are properties of the numbers alone, so every machine that makes the same sample comes to the same verdict.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from bokehsynth.errors import AssetError, ChangedError, DeviceError, StorageError, UnsoundError
from bokehsynth.schema import MAP_MAX, Sample

T = TypeVar("T")

MAX_ATTEMPTS = 8
"""Draws of one sample before it is said to be impossible."""

BLACK = 4
"""A picture without a single value as large as this (of 255) shows nothing."""

BLURRED = 0.5
"""Pixels of radius from which on a blurred picture cannot be equal to the degraded sharp one."""

NotTheSample = (StorageError, AssetError, ChangedError, DeviceError, MemoryError, OSError)
"""Errors of the disk, of a picture that changed, of a device, of memory: another draw is no answer to them."""


def first_sound(
    make: Callable[[int], Sample],
    attempt: int = 0,
    give_up: Callable[[int, Exception], None] = lambda attempt, error: None,
) -> Sample:
    """`make(attempt)` for the first attempt, from `attempt` on, that gives a sound sample.

    `give_up(attempt, error)` hears of each one before that. If none of the first MAX_ATTEMPTS does, the error of the
    last is raised; errors that are not the sample's (disk, device, memory, a changed asset) pass through at once.
    """

    def checked(attempt: int) -> Sample:
        sample = make(attempt)
        check_sample(sample)
        return sample

    return first_good(checked, attempt, give_up)


def first_good(
    make: Callable[[int], T],
    attempt: int = 0,
    give_up: Callable[[int, Exception], None] = lambda attempt, error: None,
) -> T:
    """`first_sound` of anything that is made from a draw, without a look at what was made."""
    while True:
        try:
            return make(attempt)
        except NotTheSample:
            raise
        except Exception as error:  # classes of the user's may raise anything
            give_up(attempt, error)
            attempt += 1
            if attempt >= MAX_ATTEMPTS:
                raise


def check_sample(sample: Sample) -> None:
    """Raise UnsoundError unless the stored arrays of a sample show something and agree with its record."""
    for name in ("hq", "aif", "lq"):
        if name in sample.arrays and int(sample.arrays[name].max()) < BLACK:
            raise UnsoundError(f"{name} is black: no value reaches {BLACK} of 255", "black")
    _check_maps(sample)
    if {"lq", "hq"} <= sample.arrays.keys() and np.array_equal(sample.arrays["lq"], sample.arrays["hq"]):
        if sample.meta["radius_max"] >= BLURRED:
            raise UnsoundError(f"lq equals hq although the blur radius reaches {sample.meta['radius_max']:.3g} px",
                               "not_degraded")  # fmt: skip
        if _degrades(json.loads(sample.meta["draw"])["degradation"]):
            raise UnsoundError("lq equals hq although the sample is to be degraded", "not_degraded")


def _check_maps(sample: Sample) -> None:
    for name, scale_key in (("defocus", "defocus_scale"), ("disparity", "disparity_scale")):
        if name not in sample.arrays:
            continue
        values, bound = sample.arrays[name], MAP_MAX * sample.meta[scale_key] * (1 + 1e-6)
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(values).all() and low >= 0 and high <= bound):
            raise UnsoundError(f"{name} holds {low:.6g}..{high:.6g}, outside 0..{bound:.6g}", "out_of_range")


def _degrades(degradation: dict[str, Any]) -> bool:
    """Whether any step of a degradation draw acts: the dice may have skipped some."""
    return any(
        step.get("kernel") is not None
        or step.get("family") is not None
        or step.get("quality") is not None
        or step.get("factor", 1.0) != 1.0
        or step["kind"] == "custom"
        for step in degradation["steps"]
    )
