"""Light that passes at every pixel, from a `FieldTable`."""

import math

import numpy as np

from bokehsynth.optics import Aperture
from bokehsynth.rendering.aperture.field_grid import DISTANCE, SIDE, WEIGHT
from bokehsynth.rendering.aperture.field_table import FieldTable
from bokehsynth.rendering.aperture.lens_points import check_inside, check_weights, vogel_points
from bokehsynth.rendering.types import Float64Array, FloatArray

_LIGHT_POINTS = 16_384
"""Lens points for the light of the whole opening."""


def light_at(table: FieldTable, width: int, height: int) -> FloatArray:
    """Light that passes at each pixel, per channel, relative to the picture's centre: float32 [H, W, C].

    0 where the centre is dark.
    """
    lattice = light_integral(table)
    x, y = (np.arange(side, dtype=np.float64) for side in (width, height))
    light, centre = light_on_lattice(table, lattice, x, y), light_on_lattice(table, lattice, *_centre(table))
    result: FloatArray = np.divide(light, centre, out=np.zeros_like(light), where=centre > 0).astype(np.float32)
    return result


def _centre(table: FieldTable) -> tuple[Float64Array, Float64Array]:
    x, y = table.centre
    return np.array([x]), np.array([y])


def light_integral(table: FieldTable) -> Float64Array:
    """Integral of the weight over the opening at every node, [ny, nx, C]."""
    cell = 2 * table.half / (SIDE - 1)
    share = np.clip(table.values[..., DISTANCE, :] / cell + 0.5, 0, 1)
    result: Float64Array = (table.values[..., WEIGHT, :] * share).sum(axis=-1, dtype=np.float64) * cell**2
    return result


def light_on_lattice(table: FieldTable, lattice: Float64Array, x: Float64Array, y: Float64Array) -> Float64Array:
    """Values [ny, nx, C] of the nodes at pixels of columns x and rows y, linear between: [H, W, C]."""
    ny, nx = lattice.shape[:2]
    if table.round:
        place = np.hypot(x[None, :] - table.centre[0], y[:, None] - table.centre[1]) / table.step
        low = np.minimum(place.astype(int), nx - 2)
        row: Float64Array = lattice[0, low] + (place - low)[..., None] * (lattice[0, low + 1] - lattice[0, low])
        return row
    px, py = x / table.step, y / table.step
    i, j = np.clip(px.astype(int), 0, nx - 2), np.clip(py.astype(int), 0, ny - 2)
    u, v = (px - i)[None, :, None], (py - j)[:, None, None]
    upper = lattice[j][:, i] * (1 - u) + lattice[j][:, i + 1] * u
    lower = lattice[j + 1][:, i] * (1 - u) + lattice[j + 1][:, i + 1] * u
    result: Float64Array = upper * (1 - v) + lower * v
    return result


def field_transmission(aperture: Aperture, table: FieldTable, width: int, height: int) -> FloatArray:
    """Share of the light that passes at each pixel, float32 [H, W].

    Of a `weight(s, h)`: the mean of the channels, relative to the picture's centre.
    """
    x, y = (np.arange(side, dtype=np.float64) for side in (width, height))
    lattice = light_integral(table)
    light = light_on_lattice(table, lattice, x, y).mean(axis=-1)
    if aperture.weight_depends_on_field:
        whole = float(light_on_lattice(table, lattice, *_centre(table)).mean())
    else:
        points = aperture.extent * vogel_points(_LIGHT_POINTS)
        inside = points[check_inside(aperture, points)]
        whole = float(check_weights(aperture, inside).mean(axis=1).sum()) * math.pi * aperture.extent**2 / len(points)
    return (light / whole).astype(np.float32) if whole > 0 else np.zeros((height, width), np.float32)
