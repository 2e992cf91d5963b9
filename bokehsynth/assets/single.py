"""Open one picture outside any data set, with the treatment of an indexed one."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth.assets.catalogue import Candidate
from bokehsynth.assets.decode.decoder import DEFAULT_LIMITS, Limits, decode_raster
from bokehsynth.assets.decode.matte import reject_transparency
from bokehsynth.assets.decode.raster import unit
from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.assets.decode.safe_read import read_file
from bokehsynth.assets.index.probe import probe
from bokehsynth.assets.load.highlights import recover_lamps
from bokehsynth.assets.load.store import cutout_from, landscape_from
from bokehsynth.color import FloatArray, linear_to_srgb
from bokehsynth.errors import UsageError
from bokehsynth.imaging.pictures import Cutout

WEIGHTS_LIMITS = Limits(max_pixels=4_194_304, min_side=2)
WEIGHTS_BYTES = 1 << 18
"""Largest file of weights: a recipe that names one carries it along."""


def open_weights(path: Path) -> FloatArray:
    """The numbers of a picture of weights, [H, W] or [H, W, 3]: as stored, without a tone curve, times its alpha.

    UsageError for a file that is no picture, too large, or neither grey nor RGB.
    """
    try:
        return weights_from(read_file(path, max_bytes=WEIGHTS_BYTES), str(path))
    except RejectedPicture as error:
        raise UsageError(f"a picture of an opening: {error}") from None


def weights_from(data: bytes, name: str) -> FloatArray:
    """The numbers of the bytes of a picture of weights, as `open_weights`; RejectedPicture names it."""
    raster = decode_raster(data, name, WEIGHTS_LIMITS)
    values = np.maximum(raster.values, 0) if raster.linear else unit(raster.values)
    if raster.alpha is not None:
        opacity = unit(raster.alpha)
        values = values * (opacity if values.ndim == 2 else opacity[..., None])
    return np.asarray(values, np.float32)


def open_cutout(path: Path, limits: Limits = DEFAULT_LIMITS) -> Cutout:
    """The cut-out in a file with transparency, straight colours under soft alpha; RejectedPicture if it is none."""
    real = path.resolve()
    facts = probe(Candidate(kind="foreground", image=real, root=real.parent), limits)
    return cutout_from(decode_raster(read_file(real), str(path), limits), facts.colors or "straight")


def open_encoded(path: Path, limits: Limits = DEFAULT_LIMITS) -> npt.NDArray[Any]:
    """The picture in a file, [H, W, 3] sRGB-encoded: uint8 or uint16 as stored, float32 where it has another profile.

    RejectedPicture for one with transparent parts.
    """
    raster = decode_raster(read_file(path), str(path), limits)
    reject_transparency(raster, path)
    if raster.linear:
        return linear_to_srgb(raster.light())
    if raster.profile is not None:
        return np.clip(linear_to_srgb(raster.light()), np.float32(0), np.float32(1))
    return raster.values if raster.values.ndim == 3 else np.repeat(raster.values[..., None], 3, axis=2)


def open_landscape(path: Path, boost: float = 1.0, limits: Limits = DEFAULT_LIMITS) -> FloatArray:
    """The picture in a file, [H, W, 3] linear; highlights that it clipped at white become `boost` times as bright.

    RejectedPicture for one with transparent parts.
    """
    raster = decode_raster(read_file(path), str(path), limits)
    reject_transparency(raster, path)
    landscape = landscape_from(raster)
    if landscape.highlights is None or boost == 1:
        return landscape.color
    return landscape.color + landscape.highlights * np.float32(boost - 1)


def open_exposed(path: Path, limits: Limits = DEFAULT_LIMITS) -> FloatArray:
    """The picture in a file that clips at white, [H, W, 3] linear, white 1.

    UsageError for a file of linear light, which has no white; RejectedPicture for one with transparent parts.
    """
    raster = decode_raster(read_file(path), str(path), limits)
    if raster.linear:
        raise UsageError(
            f"{path}: holds linear light without a white, so that lamps that clipped cannot be told from others: "
            "save it as a PNG or TIFF of 16 bits, so dark that its lamps are not white"
        )
    reject_transparency(raster, path)
    return raster.light()


def open_photograph(
    path: Path, boost: float = 1.0, limits: Limits = DEFAULT_LIMITS
) -> tuple[FloatArray, FloatArray | None]:
    """The picture in a file, [H, W, 3] linear, and what to add for lamps `boost` times as bright, or None for nothing.

    Lamps are what it clipped in all channels. A file of linear light is what was measured, and has clipped nothing.

    RejectedPicture for one with transparent parts.
    """
    raster = decode_raster(read_file(path), str(path), limits)
    reject_transparency(raster, path)
    photo = raster.light()
    lamps = None if boost == 1 or raster.linear else recover_lamps(photo)
    return photo, None if lamps is None else lamps * np.float32(boost - 1)
