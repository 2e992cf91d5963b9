"""Drawn landscapes, sharp everywhere: `BACKGROUNDS[family](rng, size)` with the shorter side in pixels."""

from collections.abc import Callable

import numpy as np

from bokehsynth.imaging.pictures import Landscape
from bokehsynth.procedural.backgrounds.forest import draw_forest
from bokehsynth.procedural.backgrounds.hills import draw_hills
from bokehsynth.procedural.backgrounds.night import draw_night
from bokehsynth.procedural.backgrounds.street import draw_street

BACKGROUNDS: dict[str, Callable[[np.random.Generator, int], Landscape]] = {
    "hills": draw_hills,
    "forest": draw_forest,
    "street": draw_street,
    "night": draw_night,
}

__all__ = ["BACKGROUNDS", "draw_forest", "draw_hills", "draw_night", "draw_street"]
