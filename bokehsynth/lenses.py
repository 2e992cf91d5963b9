"""Two example apertures, written as any class of one's own: `aperture: bokehsynth.lenses:Heart`.

A blurred light *behind* the focus shows an opening as it is drawn here, x right and y down.
"""

import numpy as np

from bokehsynth.optics.apertures import Aperture, Array, BoolArray, Float64Array


class Heart(Aperture):
    """A heart cut out of black paper and held before the lens."""

    def inside(self, s: Float64Array) -> BoolArray:
        """(x^2 + y^2 - 1)^3 <= x^2 y^3, scaled to lie on the unit disc, its tip downwards."""
        x, y = 1.27 * s[:, 0], 0.1 - 1.27 * s[:, 1]
        result: BoolArray = (x * x + y * y - 1) ** 3 <= x * x * y**3
        return result


class Bubble(Aperture):
    """An old triplet: blurred lights are soap bubbles, with a bright thin rim."""

    def inside(self, s: Float64Array) -> BoolArray:
        """Round."""
        result: BoolArray = np.hypot(s[:, 0], s[:, 1]) <= 1
        return result

    def weight(self, s: Float64Array) -> Array:
        """A faint middle, and a rim 8 % wide that is four times as bright."""
        result: Array = 0.25 + np.exp(-(((1 - np.hypot(s[:, 0], s[:, 1])) / 0.08) ** 2))
        return result
