"""The crown of a street tree, leaf by leaf."""

import numpy as np

from bokehsynth.assets.procedural.backgrounds.canvas import FloatArray, Sketch, discs, leaves, mix


def crown(
    sketch: Sketch, rng: np.random.Generator, middle: tuple[float, float], radius: float, tones: FloatArray, side: float
) -> None:
    """A leafy crown: clumps of leaves, dark below and inside; `tones` [2, 3] are the shaded and the lit colour."""
    count, per_clump = 16, 56
    clumps = rng.normal(0, 0.42, (count, 2)) * (1.1, 0.9)
    clumps = clumps[np.argsort(-clumps[:, 1])]
    size = rng.uniform(0.25, 0.45, count)
    sketch.shapes(discs(np.array(middle) + clumps * radius, size * radius * 0.75, 9), tones[0] * np.float32(0.6))
    local = rng.normal(0, 0.5, (count, per_clump, 2)) * size[:, None, None]
    slope = (0.5 * side * local[..., 0] - local[..., 1]) / size[:, None]
    lit = np.clip(0.42 + 0.5 * slope + rng.normal(0, 0.2, slope.shape), 0, 1)
    lit *= np.clip(0.8 - 0.35 * clumps[:, 1:], 0.3, 1)
    # Clump by clump, in each the shaded leaves first.
    order = np.argsort(lit + 2.0 * np.arange(count)[:, None], axis=None)
    at = (np.array(middle) + (clumps[:, None] + local) * radius).reshape(-1, 2)[order]
    length = np.maximum(radius * rng.uniform(0.08, 0.15, len(at)), 0.003)
    outline = leaves(at, length, rng.uniform(0, np.pi, len(at)), 0.55)
    sketch.shapes(outline, mix(tones[0], tones[1], lit.ravel()[order, None]), together=4)
