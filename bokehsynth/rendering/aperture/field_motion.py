"""How fast an opening and its rays change over the picture: what decides how far apart kernels may stand."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bokehsynth.rendering.aperture.field_grid import AX, AY, DISTANCE, SIDE, WEIGHT
from bokehsynth.rendering.aperture.field_table import FieldTable
from bokehsynth.rendering.types import Float64Array, FloatArray

_RIM = 0.2
"""Lens units on both sides of a rim where its motion is looked at."""

_ALIKE = 0.03
"""The largest difference of light, as a share of the brightest, and the root mean square one of rims, in lens units, up
to which channels have one opening."""


class FieldMotion(NamedTuple):
    """Change per pixel of the picture between the nodes of a table, [ny, nx]; root mean square over the opening.

    One value for all of the picture where there is no table.
    """

    rims: Float64Array
    """Lens units by which rims move."""
    rays: Float64Array
    """Pixels by which aberrations change."""
    fading: Float64Array
    """Change of the light of a lens point, as a share of the brightest."""
    spread: Float64Array
    """[3, ny, nx]: mean squares of a, of a.s and of s about their means: r^2 s.s + 2 r a.s + a.a is a spot's width."""
    colours: Float64Array
    """Pixels by which rays of other channels land beside those of the second, the most at the nodes around; infinite
    where their openings differ."""

    def pixels(self, radius: Any) -> Any:
        """Pixels per pixel by which a kernel of a signed blur radius moves."""
        return self.rays + self.rims * abs(radius)

    def width(self, radius: Any) -> Any:
        """Root mean square distance in pixels of a spot's rays from their middle."""
        return np.sqrt(np.maximum(self.spread[0] + radius * (2 * self.spread[1] + radius * self.spread[2]), 0))

    def at(self, nodes: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]) -> "FieldMotion":
        """The motion between nodes of these rows and columns and the next."""
        spread = self.spread[(slice(None), *nodes)]
        return FieldMotion(self.rims[nodes], self.rays[nodes], self.fading[nodes], spread, self.colours[nodes])


def constant_motion(rims: float) -> FieldMotion:
    """Rims that move alike all over the picture."""
    one = np.ones((1, 1))
    return FieldMotion(rims * one, 0 * one, 0 * one, np.zeros((3, 1, 1)), 0 * one)


def nodes_at(table: FieldTable | None, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> tuple[Any, Any]:
    """Rows and columns of the nodes before pixels x [nx] and y [ny], [ny, nx] each; of `FieldMotion`."""
    shape = len(y), len(x)
    if table is None:
        return np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    rows, columns = table.values.shape[:2]
    if table.round:
        radius = np.hypot(x[None, :] - table.centre[0], y[:, None] - table.centre[1])
        return np.zeros(shape, np.int64), np.minimum((radius / table.step).astype(np.int64), columns - 2)
    i, j = (np.clip((p / table.step).astype(np.int64), 0, n - 2) for p, n in ((x, columns), (y, rows)))
    return np.broadcast_to(j[:, None], shape), np.broadcast_to(i[None, :], shape)


def motion_of(table: FieldTable) -> FieldMotion:
    """The motion that a table describes."""
    line = np.linspace(-table.half, table.half, SIDE)
    s = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    brightest = max(float(table.values[..., WEIGHT, :].max()), 1e-9)
    if table.round:
        values = table.values.astype(np.float64)
        along = _change(np.diff(values, axis=1) / table.step, values[:, :-1])
        radii = table.step * np.arange(1, values.shape[1])
        about = _change(_turning(values[0], table.half)[None] / radii[:, None, None, None], values[:, 1:])
        parts, spread = (along, about), _spread(values[:, :-1], s)
        colours = _colours(values, brightest)
        colours = np.maximum(colours[:, :-1], colours[:, 1:])
    else:
        count = len(table.values) - 1
        rows = [_motion_of_rows(table.values[j : j + 2], table.step, s) for j in range(count)]
        colours = np.concatenate([_colours(table.values[j : j + 1], brightest) for j in range(count + 1)])
        colours = np.maximum(colours[:-1], colours[1:])
        colours = np.maximum(colours[:, :-1], colours[:, 1:])
        down, across, spread = (np.concatenate(each, axis=1) for each in zip(*rows, strict=True))
        parts = down, across
    rims, rays, fading = np.maximum(*parts)
    return FieldMotion(rims, rays, fading / brightest, spread, colours)


def _motion_of_rows(
    values: FloatArray, step: float, s: Float64Array
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Changes down and across, and spread, [3, 1, nx - 1] each, of the first of two rows of nodes.

    All rows at once would take six times the memory of the table.
    """
    rows = values.astype(np.float64)
    down = _change(np.diff(rows, axis=0) / step, rows[:-1])
    across = _change(np.diff(rows[:1], axis=1) / step, rows[:1, :-1])
    return down[:, :, :-1], across, _spread(rows[:1, :-1], s)


def _turning(rows: Float64Array, half: float) -> Float64Array:
    """Change per radian about the centre of what stands at a lens point of the picture: rows 1 on [F - 1, C, 4, K]."""
    grids = rows[1:].reshape(len(rows) - 1, rows.shape[1], 4, SIDE, SIDE)
    line = np.linspace(-half, half, SIDE)
    by_y, by_x = np.gradient(grids, line[1] - line[0], axis=(3, 4))
    change = line[:, None] * by_x - line[None, :] * by_y
    change[:, :, AX] -= grids[:, :, AY]
    change[:, :, AY] += grids[:, :, AX]
    return np.asarray(change.reshape(rows[1:].shape), np.float64)


def _change(change: Float64Array, here: Float64Array) -> Float64Array:
    """Root mean squares over nodes [ny, nx, C, 4, K], the largest of the channels: rims, rays, light, [3, ny, nx].

    0 where the opening is closed or closes: there its distance jumps.
    """
    distance = here[..., DISTANCE, :]
    near, inside = np.abs(distance) < _RIM, distance > 0
    lit = inside.any(axis=-1) & (distance + change[..., DISTANCE, :] > -1).any(axis=-1)
    rays = np.square(change[..., :WEIGHT, :]).sum(axis=-2)
    parts = (np.square(change[..., DISTANCE, :]), near), (rays, inside), (np.square(change[..., WEIGHT, :]), inside)
    means = [np.where(where, square, 0).sum(axis=-1) / np.maximum(where.sum(axis=-1), 1) for square, where in parts]
    return np.asarray(np.sqrt(np.where(lit, means, 0).max(axis=-1)))


def _spread(values: Float64Array, s: Float64Array) -> Float64Array:
    """`FieldMotion.spread` at nodes [ny, nx, C, 4, K], of the mean channel."""
    inside = values[..., DISTANCE, :] > 0
    count = np.maximum(inside.sum(axis=-1), 1)

    def covariance(a: Float64Array, b: Float64Array) -> Float64Array:
        means = [np.where(inside, each, 0).sum(axis=-1) / count for each in (a * b, a, b)]
        return np.asarray(means[0] - means[1] * means[2])

    pairs = [(values[..., AX, :], s[:, 0]), (values[..., AY, :], s[:, 1])]
    kinds = ([(a, a) for a, _ in pairs], pairs, [(0 * a + place, place) for a, place in pairs])
    return np.stack([np.sum([covariance(*each) for each in kind], axis=0).mean(axis=-1) for kind in kinds])


def _colours(values: Any, brightest: float) -> Float64Array:
    """`FieldMotion.colours` at nodes [ny, nx, C, 4, K]."""
    grids = np.asarray(values, np.float64)
    if grids.shape[2] == 1:
        return np.zeros(grids.shape[:2])
    apart = grids - grids[:, :, 1:2]
    inside = (grids[..., DISTANCE, :] > 0).any(axis=2, keepdims=True)
    near = (np.abs(grids[..., DISTANCE, :]) < _RIM).any(axis=2, keepdims=True) & inside
    rays = np.square(apart[..., :WEIGHT, :]).sum(axis=-2)
    parts = (rays, inside), (np.square(apart[..., DISTANCE, :]), near)
    means = [np.where(where, square, 0).sum(axis=-1) / np.maximum(where.sum(axis=-1), 1) for square, where in parts]
    pixels, rims = (np.sqrt(each.max(axis=-1)) for each in means)
    light = np.where(inside, np.abs(apart[..., WEIGHT, :]), 0).max(axis=(-2, -1))  # a narrow coloured rim counts
    return np.where((light > _ALIKE * brightest) | (rims > _ALIKE), np.inf, pixels)
