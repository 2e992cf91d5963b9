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
    x, y = np.arange(width) / table.step, np.arange(height) / table.step
    centre = _between(lattice, np.array([(width - 1) / 2 / table.step]), np.array([(height - 1) / 2 / table.step]))
    light = _between(lattice, x, y)
    result: FloatArray = np.divide(light, centre, out=np.zeros_like(light), where=centre > 0).astype(np.float32)
    return result


def light_integral(table: FieldTable) -> Float64Array:
    """Integral of the weight over the opening at every node, [ny, nx, C]."""
    cell = 2 * table.half / (SIDE - 1)
    share = np.clip(table.values[..., DISTANCE] / cell + 0.5, 0, 1)
    result: Float64Array = (table.values[..., WEIGHT] * share).sum(axis=-1, dtype=np.float64) * cell**2
    return result


def _between(lattice: Float64Array, x: Float64Array, y: Float64Array) -> Float64Array:
    """Values [ny, nx, C] at columns x and rows y, in nodes, bilinear: [H, W, C]."""
    ny, nx = lattice.shape[:2]
    i, j = np.clip(x.astype(int), 0, nx - 2), np.clip(y.astype(int), 0, ny - 2)
    u, v = (x - i)[None, :, None], (y - j)[:, None, None]
    upper = lattice[j][:, i] * (1 - u) + lattice[j][:, i + 1] * u
    lower = lattice[j + 1][:, i] * (1 - u) + lattice[j + 1][:, i + 1] * u
    result: Float64Array = upper * (1 - v) + lower * v
    return result


def field_transmission(aperture: Aperture, table: FieldTable, width: int, height: int) -> FloatArray:
    """Share of the light that passes at each pixel, float32 [H, W].

    Of a `weight(s, h)`: the mean of the channels, relative to the picture's centre.
    """
    x, y = np.arange(width) / table.step, np.arange(height) / table.step
    lattice = light_integral(table)
    light = _between(lattice, x, y).mean(axis=-1)
    if aperture.weight_depends_on_field:
        at = np.array([(width - 1) / 2 / table.step]), np.array([(height - 1) / 2 / table.step])
        whole = float(_between(lattice, *at).mean())
    else:
        points = aperture.extent * vogel_points(_LIGHT_POINTS)
        inside = points[check_inside(aperture, points)]
        whole = float(check_weights(aperture, inside).mean(axis=1).sum()) * math.pi * aperture.extent**2 / len(points)
    return (light / whole).astype(np.float32) if whole > 0 else np.zeros((height, width), np.float32)
