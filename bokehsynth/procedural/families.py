"""Embedded pictures, drawn rather than stored, so that a data set can be made without photographs."""

import numpy as np

from bokehsynth.files import sha256_bytes
from bokehsynth.imaging.pictures import Cutout, Landscape
from bokehsynth.rng import from_seed

PROCEDURAL_VERSION = 1
"""Part of every procedural asset's identity; raise it when a drawing changes."""


def families(kind: str) -> tuple[str, ...]:
    """Names of the families of one kind, foreground or background."""
    from bokehsynth.procedural.backgrounds import BACKGROUNDS  # here and below: many modules, for drawings alone
    from bokehsynth.procedural.foregrounds import FOREGROUNDS

    return tuple(FOREGROUNDS if kind == "foreground" else BACKGROUNDS)


def draw_foreground(asset_id: str, size: int) -> Cutout:
    """The cut-out `procedural/FAMILY/NN` with a longer side of `size` pixels; the same subject at every size."""
    from bokehsynth.procedural.foregrounds import FOREGROUNDS

    family = asset_id.split("/")[1]
    return FOREGROUNDS[family](from_seed(_seed(asset_id)), size)


def draw_background(asset_id: str, size: int) -> Landscape:
    """The landscape `procedural/FAMILY/NN` with a shorter side of `size` pixels; the same place at every size."""
    from bokehsynth.procedural.backgrounds import BACKGROUNDS

    family = asset_id.split("/")[1]
    return BACKGROUNDS[family](from_seed(_seed(asset_id)), size)


def generator_of(asset_id: str) -> np.random.Generator:
    """The generator from which a class of the user's draws the picture of this name; the same at every size."""
    return from_seed(_seed(asset_id))


def _seed(asset_id: str) -> int:
    return int(sha256_bytes(f"{asset_id}@{PROCEDURAL_VERSION}")[:15], 16)
