"""Rules for alpha: a matte that fits its picture, and pictures that must not have one."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from bokehsynth.assets.decode.raster import Raster
from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.color import FloatArray

VISIBLE, SOLID = 0.02, 0.98
"""Alpha from which a pixel shows, and from which it counts as opaque."""


def visible_bounds(alpha: FloatArray) -> tuple[int, int, int, int] | None:
    """First row, last row, first column and last column that hold a visible pixel; None where none is visible."""
    visible = alpha >= VISIBLE
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    return (int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])) if len(rows) else None


def with_matte(raster: Raster, matte: Raster, path: Path) -> Raster:
    """The picture with another file's matte in place of its own alpha; RejectedPicture if they do not fit."""
    if matte.size != raster.size:
        (h, w), (mh, mw) = raster.size, matte.size
        raise RejectedPicture(f"{path}: the matte is {mw} x {mh}, its picture {w} x {h} (both upright)", "matte_size")
    own = matte.alpha
    if own is not None and own.min() < own.max():  # a matte kept as transparency
        return replace(raster, alpha=own)
    values = matte.values
    if values.ndim == 3:
        spread = values.max(axis=2).astype(np.float32) - values.min(axis=2)
        full = 1.0 if values.dtype == np.float32 else float(np.iinfo(values.dtype).max)
        if float((spread > 0.1 * full).mean()) > 0.01:
            raise RejectedPicture(f"{path}: a matte is grey; its red, green and blue differ", "matte_in_color")
        values = values[..., 1]
    return replace(raster, alpha=values)


def reject_transparency(raster: Raster, path: Path) -> None:
    """RejectedPicture for a landscape with transparent parts."""
    opacity = raster.opacity()
    if opacity is not None and float(opacity.min()) < 0.99:
        raise RejectedPicture(f"{path}: has transparent parts; a landscape fills its frame", "has_alpha")
