"""A city at night: a skyline across a river, or an avenue of shops in the rain, with lights far brighter than white."""

import numpy as np

from bokehsynth.assets.pictures import Landscape
from bokehsynth.assets.procedural.backgrounds.avenue import paint_avenue
from bokehsynth.assets.procedural.backgrounds.canvas import finished, glow
from bokehsynth.assets.procedural.backgrounds.riverside import paint_riverside
from bokehsynth.rng import chance


def draw_night(rng: np.random.Generator, size: int) -> Landscape:
    """A city at night with at least forty points of light, the brightest 10 to 20 times white; `size` rows."""
    paint = paint_riverside if chance(rng, 0.6) else paint_avenue
    light = paint(rng, size)
    return Landscape(finished(glow(light, 0.012, 0.10)))
