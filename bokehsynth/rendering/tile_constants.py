"""Constants that renderers, lens tables and kernels share: sizes of tiles, and names for numbers in tables."""

LANES = 16
"""Neighbouring pixels in one SIMD value."""

TILE_H, TILE_W = 8, LANES
"""Size in pixels of a tile on the CPU."""

FINEST = TILE_W
"""Pixels between nodes at least, where the opening changes over the picture: the width of a tile."""

GROUP = 4
"""Rows of a tile that share the taps of a kernel."""

CELL = GROUP * LANES
"""Pixels of a group: what scratch holds of each plane."""

FLOAT_BYTES = 4

COPY, DIRECT, PREFIX_SUM, CONTROL_VARIATE, RAY_TRACED = range(5)
"""Indices into `rendering.PATHS`: all-in-focus pixels are copied; kernels are applied texel by texel; with prefix sums
along rows; either, plus rays as a control variate; rays alone."""

RUNS_FROM = 6.0
"""Blur radius in px from which sums along a row pay: below, the rim has as many texels as the disc."""

COARSE_FROM = 48.0
"""Largest blur radius in px of pictures all of whose layers are filtered texel by texel on the CPU; in others those
with large radii are reduced (`cpu.reduced_layers`). No packaged recipe at 512 px goes beyond it."""

PACKED, PACKED_STEP, SOURCE, SOURCE_STEP, SUMS, SUMS_STEP = range(6)
"""Columns of `addresses` [L, 6]: of canvas texel (0, 0) of the first plane, and from one plane to the next, in bytes:
premultiplied planes; what run kernels read; its prefix sums."""

TAP_KERNELS, NEAR_KERNELS, FAR_KERNELS = range(3)
"""Families of a layer's kernels (`spans` [L, 3, 2]): texel by texel; with prefix sums for r > 0; for r < 0."""
