"""Open one picture outside any data set, with the treatment of an indexed one."""

from pathlib import Path

import numpy as np

from bokehsynth.assets.catalogue import Candidate
from bokehsynth.assets.decode.decoder import DEFAULT_LIMITS, Limits, decode_raster
from bokehsynth.assets.decode.matte import reject_transparency
from bokehsynth.assets.decode.safe_read import read_file
from bokehsynth.assets.index.probe import probe
from bokehsynth.assets.load.store import cutout_from, landscape_from
from bokehsynth.color import FloatArray
from bokehsynth.imaging.pictures import Cutout


def open_cutout(path: Path, limits: Limits = DEFAULT_LIMITS) -> Cutout:
    """The cut-out in a file with transparency, straight colours under soft alpha; RejectedPicture if it is none."""
    real = path.resolve()
    facts = probe(Candidate(kind="foreground", image=real, root=real.parent), limits)
    return cutout_from(decode_raster(read_file(real), str(path), limits), facts.colors or "straight")


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
