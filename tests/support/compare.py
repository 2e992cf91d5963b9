"""Two pictures of one scene, made from different rays: tight inside, bounded and unbiased at occlusion edges.

Where a footprint sees no edge of a matte, two sets of rays average the same smooth texture and agree closely. Where
it does, each ray is a yes or no, the pictures differ by the sampling error of their rays, and what must hold is that
the difference is bounded, that few pixels show it, and that it has no sign.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

BLOCK = 8
"""Neighbours share their rays, so their errors are alike: the standard error counts blocks of this side, not pixels."""

ROUNDING = 1e-6
"""Bias that float32 sums may leave however many pixels are averaged."""


@dataclass(frozen=True)
class Tolerance:
    """`inside`: largest difference away from edges. At edges: `edge` the largest, `edge_share` of the edge pixels may
    exceed `inside`, and the mean signed difference stays within `sigmas` standard errors of 0."""

    inside: float
    edge: float
    edge_share: float
    sigmas: float = 3.0


def occlusion_band(scene):
    """Pixels [H, W] whose footprint sees a blurred layer's alpha vary, or two layers change order."""
    height, width = scene.size
    y, x = np.mgrid[:height, :width].astype(float)
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    K, focus, m = scene.lens.blur, scene.lens.focus, scene.margin
    band = np.zeros(scene.size, bool)
    ranges = []
    for layer in scene.layers:
        e = K * layer.disparity.slope
        delta = layer.disparity.at(x, y) - focus
        reach = scene.lens.reach(layer.disparity, width, height)
        ranges.append(np.sort(np.stack(np.broadcast_arrays(delta / (1 + e), delta / (1 - e))), axis=0))
        if reach > 0:
            side = 2 * int(np.ceil(reach - 1e-9) + 1) + 1
            varies = maximum_filter(layer.alpha, side) > minimum_filter(layer.alpha, side)
            band |= varies[m : m + height, m : m + width]
    for i, (low, high) in enumerate(ranges):
        for other_low, other_high in ranges[:i]:
            same = np.array_equal(low, other_low) and np.array_equal(high, other_high)
            band |= (low <= other_high) & (other_low <= high) & (not same)
    return band


def mean_and_error(difference, where):
    """Mean of `difference` [H, W, C] over the pixels `where` [H, W] and its standard error from block means."""
    sums, counts = [], []
    for top in range(0, where.shape[0], BLOCK):
        for left in range(0, where.shape[1], BLOCK):
            block = np.s_[top : top + BLOCK, left : left + BLOCK]
            if where[block].any():
                sums.append(difference[block][where[block]].mean(axis=-1).sum())
                counts.append(where[block].sum())
    sums, counts = np.array(sums), np.array(counts)
    mean = sums.sum() / counts.sum()
    if len(sums) < 2:
        return mean, np.inf
    spread = ((sums - mean * counts) ** 2).sum() * len(sums) / (len(sums) - 1)
    return mean, np.sqrt(spread) / counts.sum()


def complaints(actual, expected, band, tolerance):
    """Everything wrong with `actual`, one line each; an empty list if the pictures agree."""
    if actual.shape != expected.shape:
        return [f"shape {actual.shape}, expected {expected.shape}"]
    if not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        return ["not finite: NaN or infinity in a picture"]
    difference = actual.astype(np.float64) - expected.astype(np.float64)
    difference = difference.reshape(*band.shape, -1)
    worst = np.abs(difference).max(axis=-1)
    found = []
    if not (~band).any():
        found.append("nothing to compare inside: every pixel is in the band")
    elif worst[~band].max() > tolerance.inside:
        at = np.unravel_index(np.argmax(np.where(band, -1, worst)), band.shape)
        found.append(f"inside: {worst[at]:.3g} at row {at[0]}, column {at[1]}, allowed {tolerance.inside:g}")
    if band.any():
        if worst[band].max() > tolerance.edge:
            found.append(f"edge: {worst[band].max():.3g}, allowed {tolerance.edge:g}")
        share = (worst[band] > tolerance.inside).mean()
        if share > tolerance.edge_share:
            found.append(f"share: {share:.3f} of the edge pixels differ, allowed {tolerance.edge_share:g}")
        mean, error = mean_and_error(difference, band)
        if abs(mean) > tolerance.sigmas * error + ROUNDING:
            found.append(f"bias: mean {mean:.3g} at edges, standard error {error:.3g}")
    return found


def assert_alike(actual, expected, band, tolerance):
    """Fail with every complaint at once."""
    found = complaints(actual, expected, band, tolerance)
    assert not found, "; ".join(found)
