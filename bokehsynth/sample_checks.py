"""Validity checks of a sample, and the redraws of one that fails them.

The checks look at the numbers alone, so every machine that makes the same sample decides the same.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from bokehsynth.errors import (
    AssetError,
    ChangedError,
    DeviceError,
    StorageError,
    UnsoundError,
    user_error,
)
from bokehsynth.schema import MAP_MAX, Sample

T = TypeVar("T")

MAX_ATTEMPTS = 8
"""Draws of one sample before its error is raised."""

BLACK = 4
"""A picture without a single value as large as this (of 255) shows nothing."""

BLURRED = 0.5
"""Blur radius in pixels from which a blurred picture cannot equal the degraded sharp one."""

NOT_RETRYABLE = (StorageError, AssetError, ChangedError, DeviceError, MemoryError, OSError)
"""Errors of the disk, of an asset that changed, of a device, of memory: another draw does not help."""


def check_sample(sample: Sample) -> None:
    """Raise UnsoundError unless the stored arrays of a sample show something and agree with its record."""
    for name in ("hq", "aif", "lq", "source"):
        if name in sample.arrays and int(sample.arrays[name].max()) < BLACK:
            raise UnsoundError(f"{name} is black: no value reaches {BLACK} of 255", "black")
    for name, scale_key in (("defocus", "defocus_scale"), ("disparity", "disparity_scale")):
        if name not in sample.arrays:
            continue
        values, bound = sample.arrays[name], MAP_MAX * sample.meta[scale_key] * (1 + 1e-6)
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(values).all() and low >= 0 and high <= bound):
            raise UnsoundError(f"{name} holds {low:.6g}..{high:.6g}, outside 0..{bound:.6g}", "out_of_range")
    if {"lq", "hq"} <= sample.arrays.keys() and np.array_equal(sample.arrays["lq"], sample.arrays["hq"]):
        focused_elsewhere = "source_blur" in sample.meta  # lq is such a picture, too, and may have the lens of hq
        if sample.meta["radius_max"] >= BLURRED and not focused_elsewhere:
            raise UnsoundError(f"lq equals hq although the blur radius reaches {sample.meta['radius_max']:.3g} px",
                               "not_degraded")  # fmt: skip
        if _degrades(json.loads(sample.meta["draw"])["degradation"]):
            raise UnsoundError("lq equals hq although the sample is to be degraded", "not_degraded")


def _degrades(degradation: dict[str, Any]) -> bool:
    """Whether any step of a degradation draw acts: each is skipped with its own probability."""
    return any(
        step.get("kernel") is not None
        or step.get("family") is not None
        or step.get("quality") is not None
        or step.get("factor", 1.0) != 1.0
        or step["kind"] == "custom"
        for step in degradation["steps"]
    )


def raise_unless_retryable(raised: BaseException) -> None:
    """Raise on what no other draw helps against: NOT_RETRYABLE errors, and an interrupt from the keyboard."""
    if isinstance(raised, NOT_RETRYABLE):
        raise raised
    user_error(raised)


def retry_until_valid(
    make: Callable[[int], T],
    attempt: int = 0,
    on_rejected: Callable[[int, Exception], None] = lambda attempt, error: None,
    check: Callable[[T], None] = check_sample,  # type: ignore[assignment]  # T is Sample where it is not given
) -> T:
    """Return `make(attempt)` of the first attempt, from `attempt` on, that neither fails nor is refused by `check`.

    `on_rejected(attempt, error)` is called for each attempt before that. If all of the first MAX_ATTEMPTS fail, the
    error of the last is raised; NOT_RETRYABLE errors are raised at once.
    """
    while True:
        try:
            made = make(attempt)
            check(made)
            return made
        except NOT_RETRYABLE:
            raise
        except BaseException as raised:  # a user's own classes may raise anything
            error = user_error(raised)
            on_rejected(attempt, error)
            attempt += 1
            if attempt >= MAX_ATTEMPTS and error is raised:
                raise
            if attempt >= MAX_ATTEMPTS:
                raise error from raised
