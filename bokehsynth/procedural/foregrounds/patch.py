"""Where on a canvas something is painted: boxes in units, patches in pixels."""

from dataclasses import dataclass, replace

import numpy as np

from bokehsynth.procedural.toolkit import FloatArray


@dataclass(frozen=True)
class Box:
    """Sides of a rectangle in the units of a family; infinite where nothing is cut off."""

    left: float = -np.inf
    top: float = -np.inf
    right: float = np.inf
    bottom: float = np.inf

    def clip(self, other: "Box") -> "Box":
        """The part of `other` inside this box."""
        return Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )


@dataclass(frozen=True)
class Patch:
    """A window of the canvas with a coverage: what was outlined, ready to be shaded and painted.

    `coverage` is [h, w] in 0..1; `x` [1, w] and `y` [h, 1] are the units at the pixel centres, for broadcasting.
    """

    rows: slice
    cols: slice
    coverage: FloatArray
    x: FloatArray
    y: FloatArray

    def within(self, other: "Patch") -> "Patch":
        """The same window, covered only where `other` is covered too."""
        top, left = max(self.rows.start, other.rows.start), max(self.cols.start, other.cols.start)
        bottom, right = min(self.rows.stop, other.rows.stop), min(self.cols.stop, other.cols.stop)
        both = np.zeros_like(self.coverage)
        if bottom > top and right > left:
            mine = (
                slice(top - self.rows.start, bottom - self.rows.start),
                slice(left - self.cols.start, right - self.cols.start),
            )
            theirs = (
                slice(top - other.rows.start, bottom - other.rows.start),
                slice(left - other.cols.start, right - other.cols.start),
            )
            both[mine] = self.coverage[mine] * other.coverage[theirs]
        return replace(self, coverage=both)
