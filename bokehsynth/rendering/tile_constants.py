"""Names for the numbers in the tables that tiles read, and where their scratch lies."""

from bokehsynth.rendering.cpu.ray_batches import CELL
from bokehsynth.rendering.jit import leaf

COPY, TAPS, RUNS, TOGETHER, RAYS = range(5)
"""Indices into `render.PATHS`. Tiles of the last kind are drawn by `render.rays`."""

PACKED, PACKED_STEP, SOURCE, SOURCE_STEP, SUMS, SUMS_STEP = range(6)
"""Columns of `addresses` [L, 6]: of canvas texel (0, 0) of the first plane, and from one plane to the next, in bytes:
premultiplied planes; what run kernels read; its prefix sums."""

NO_PUPIL, BY_CORNERS, BY_RAYS = range(3)
"""Whether the opening changes over the picture, and if so, whether kernels at corners of tiles follow it closely."""

DIRECT, AFTER, BEFORE = range(3)
"""Families of a layer's kernels (`spans` [L, 3, 2]): tap by tap; with prefix sums for r > 0; for r < 0."""

FLOAT = 4


@leaf
def cell(address, kinds, m, p):
    """Address of the CELL floats of plane p (of `kinds`) of layer m in scratch that begins at `address`."""
    return address + FLOAT * CELL * (m * kinds + p)
