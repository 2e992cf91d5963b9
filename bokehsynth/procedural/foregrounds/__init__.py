"""Matted foregrounds that are drawn, not stored: `FOREGROUNDS[family](rng, size)` is a cut-out.

The rng decides everything but the resolution: the same generator state gives the same subject at every size.
"""

from collections.abc import Callable

import numpy as np

from bokehsynth.imaging.pictures import Cutout
from bokehsynth.procedural.foregrounds.foliage import draw_foliage
from bokehsynth.procedural.foregrounds.fur import draw_fur
from bokehsynth.procedural.foregrounds.glass import draw_glass
from bokehsynth.procedural.foregrounds.mesh import draw_mesh
from bokehsynth.procedural.foregrounds.portrait import draw_portrait
from bokehsynth.procedural.foregrounds.things import draw_object

FOREGROUNDS: dict[str, Callable[[np.random.Generator, int], Cutout]] = {
    "fur": draw_fur,
    "foliage": draw_foliage,
    "mesh": draw_mesh,
    "glass": draw_glass,
    "object": draw_object,
    "portrait": draw_portrait,
}
"""Family name -> `draw(rng, size)`, size = longer side in pixels, 64..1024."""
