"""K from a sharp and a blurred photograph of one view: the calibrated opening, and a search over K and focus."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bokehsynth.assets.load.pairs import read_map
from bokehsynth.assets.single import open_photograph
from bokehsynth.color import FloatArray
from bokehsynth.errors import UsageError
from bokehsynth.optics.calibrated import CalibratedAperture
from bokehsynth.scene.depth_layers import normalize_depth
from bokehsynth.scene.lens_fit import Pair, SearchRange, fit_lens

LEAST_K, LARGEST_SHARE = 2.0, 0.25
"""Range of K that is searched: pixels, and a share of the shorter side."""


@dataclass(frozen=True)
class PairFit:
    """K and focus of the blurred photograph, in its own pixels."""

    blur: float
    """K, pixels of blur radius per unit of disparity."""
    focus: float
    """Disparity in focus, 0..1 of the map."""
    rms: float
    """What the best render leaves, in sRGB, 0..1."""

    @property
    def record(self) -> dict[str, float]:
        """It as plain data; the largest blur radius is that of disparity 0 or 1."""
        return {
            "blur": round(self.blur, 3), "focus": round(self.focus, 4), "rms": round(self.rms, 5),
            "largest_radius_px": round(self.blur * max(self.focus, 1 - self.focus), 3),
        }  # fmt: skip


def fit_pair(photo: FloatArray, sharp: Path, disparity: Path, aperture: CalibratedAperture) -> PairFit:
    """Find K and focus that bring the sharp photograph nearest to `photo` [H, W, 3], linear light.

    `disparity` is the map of the view, bright = near, of any scale. UsageError for photographs of two sizes.
    """
    in_focus = open_photograph(sharp)[0]
    size: Any = photo.shape[:2]
    if in_focus.shape[:2] != size:
        raise UsageError(
            f"{sharp} has {in_focus.shape[1]} x {in_focus.shape[0]} px and the blurred photograph {size[1]} x {size[0]}"
            ": both must show one view at one size"
        )
    depth = normalize_depth(read_map(disparity, (size[1], size[0])))
    search = SearchRange((LEAST_K, max(2 * LEAST_K, LARGEST_SHARE * min(size))), None)
    fit = fit_lens(Pair(in_focus, photo, depth, None), search, aperture)
    return PairFit(fit.blur, fit.focus, fit.error**0.5)
