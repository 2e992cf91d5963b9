"""How far rays of a lens with aberrations land from their pixels: bounds by field position and blur radius."""

import numpy as np
import numpy.typing as npt

from bokehsynth.rendering.aperture.field_grid import AX, AY, DISTANCE, SIDE
from bokehsynth.rendering.aperture.field_table import FieldTable
from bokehsynth.rendering.tile_constants import TILE_H, TILE_W
from bokehsynth.rendering.types import Float64Array, FloatArray

BoolArray = npt.NDArray[np.bool_]

_RADII = np.array([-1, -0.5, -0.25, -0.125, 0, 0.125, 0.25, 0.5, 1])
"""Blur radii of a table, of the largest. The reach is convex in them: linear between two it is a bound."""

_SLACK = 0.1
"""Pixels added at least."""


class FieldReach:
    """Bounds for lenses that look the same from all sides."""

    def __init__(self, table: FieldTable, largest: float) -> None:
        """Make the bounds of blur radii -largest .. largest, in px."""
        line = np.linspace(-table.half, table.half, SIDE, dtype=np.float32)
        x, y = (each.ravel() for each in np.meshgrid(line, line))
        values = table.values[0]
        shut = values[..., DISTANCE, :] <= -1.5 * (line[1] - line[0])  # no corner of a cell that the opening enters
        ends = np.pad(shut, ((1, 1), (0, 0), (0, 0)), constant_values=True)
        shut = shut & ends[:-2] & ends[2:]  # between two nodes it enters what one of them stops
        self.radii, reaches = largest * _RADII, []
        for r in self.radii.astype(np.float32):
            square = np.square(values[..., AX, :] + r * x) + np.square(values[..., AY, :] + r * y)
            square[shut] = 0
            reaches.append(np.sqrt(square.max(axis=(1, 2))))
        more = int(np.ceil(np.hypot(TILE_H, TILE_W) / 2 / table.step)) + 1  # nodes that a tile touches on either side
        padded = np.pad(np.stack(reaches), ((0, 0), (more, more + 1)), mode="edge")
        slack = np.pad(_slack(values, shut), (more, more + 1), mode="edge")
        reached, added = (
            np.lib.stride_tricks.sliding_window_view(each, 2 * more + 2, axis=-1).max(axis=-1)
            for each in (padded, slack)
        )
        self.reaches: Float64Array = reached + added
        self.step, self.centre = table.step, table.centre

    def of_tiles(self, low: Float64Array, high: Float64Array) -> Float64Array:
        """Pixels that rays of tiles come to, [rows, columns], from the least and largest signed blur radii of each."""
        rows, columns = low.shape
        y, x = (np.arange(rows) + 0.5) * TILE_H - 0.5, (np.arange(columns) + 0.5) * TILE_W - 0.5
        field = np.hypot(x[None, :] - self.centre[0], y[:, None] - self.centre[1]) / self.step
        node = np.minimum(field.astype(np.int64), self.reaches.shape[1] - 1)
        return np.maximum(*(self._at(radius, node) for radius in (low, high)))

    def _at(self, radius: Float64Array, node: "np.ndarray[tuple[int, int], np.dtype[np.int64]]") -> Float64Array:
        k = np.clip(np.searchsorted(self.radii, radius) - 1, 0, len(_RADII) - 2)
        share = (radius - self.radii[k]) / (self.radii[k + 1] - self.radii[k])
        result: Float64Array = self.reaches[k, node] + share * (self.reaches[k + 1, node] - self.reaches[k, node])
        return result


def _slack(values: FloatArray, shut: BoolArray) -> Float64Array:
    """Pixels by which a cubic leaves the line between two nodes, at most, beside each node: [nodes].

    Lagrange's through four nodes does by t (1 - t) / 2 of a mean of the second differences at the inner two
    (`field_lookup._cubic`): by an eighth of the larger one.
    """
    second = np.zeros(shut.shape)
    bent = values[2:] - 2 * values[1:-1] + values[:-2]
    second[1:-1] = np.hypot(bent[..., AX, :], bent[..., AY, :])
    second[shut] = 0
    result: Float64Array = np.maximum(_SLACK, second.max(axis=(1, 2)) / 8)
    return result
