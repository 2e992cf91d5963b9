"""Apertures that no symmetry hides a mistake of: tints, holes, quarters, pupils."""

import numpy as np

import bokehsynth as bs
from bokehsynth import lenses


class TintedPentagon(bs.Polygon):
    """Rounded blades and a pass-band per channel that varies over the opening."""

    def __init__(self):
        super().__init__(5, 0.3, 0.4)

    def weight(self, s):
        return np.stack([1 + 0.5 * s[:, 0], 0.3 + s[:, 1] ** 2, 0.7 - 0.4 * s[:, 0] * s[:, 1]], axis=1)


class Quarter(bs.Aperture):
    """Lower right quarter of the disc: any mirroring or turning shows."""

    def inside(self, s):
        return (s[:, 0] >= 0) & (s[:, 1] >= 0) & (np.hypot(s[:, 0], s[:, 1]) <= 1)


class NoBlue(TintedPentagon):
    """A pentagon that lets no blue through."""

    def weight(self, s):
        return super().weight(s) * [1, 1, 0]


class Swirl(bs.CatEye):
    """A cat's eye whose opening has a side, and glass of three tints: pupil, outline and sets at once."""

    def inside(self, s):
        return s[:, 0] > -0.3

    def weight(self, s):
        return np.stack([1 + 0.5 * s[:, 0], 0.3 + s[:, 1] ** 2, 0.7 - 0.4 * s[:, 0] * s[:, 1]], axis=1)


APERTURES = {
    "disc": bs.Disc(),
    "pentagon": bs.Polygon(5, 0.3),
    "rounded": bs.Polygon(7, 0.1, 0.5),
    "ring": bs.Ring(0.6),
    "tinted pentagon": TintedPentagon(),
    "no blue": NoBlue(),
    "quarter": Quarter(),
    "heart": lenses.Heart(),
    "bubble": lenses.Bubble(),
}


PUPILS = {"cat's eye": bs.CatEye(0.9), "small pupil": bs.CatEye(0.5, 0.7), "swirl": Swirl(0.8)}


class Jagged(bs.Disc):
    """Its aberration jumps from lens point to lens point: no table holds it."""

    def aberration(self, s, h):
        return 4.0 * np.sign(np.sin(40 * s))
