"""Openings that change over the picture: where the discs of their pupils lie, and the light that passes."""

import math
from typing import NamedTuple

import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.optics import Aperture
from bokehsynth.rendering.aperture import footprint_kernel
from bokehsynth.rendering.aperture.field_light import field_transmission
from bokehsynth.rendering.aperture.footprint_kernel import UNVIGNETTED
from bokehsynth.rendering.aperture.lens_points import field_positions
from bokehsynth.rendering.aperture.tables import FieldLensTables, tables_of
from bokehsynth.rendering.tile_constants import TILE_H
from bokehsynth.rendering.types import Float64Array, FloatArray, RenderInput

_LATTICE = 64
"""Points along the shorter side, at least and at most eight px apart, at which the light that passes is integrated."""

_FARTHEST = 3.0
"""abs(h) up to which rims move on beyond the picture's corners: what lies opposite is then the other corner."""


def has_pupil(aperture: Aperture) -> bool:
    """Whether an aperture has a `pupil` of its own."""
    return type(aperture).pupil is not Aperture.pupil


class Pupil(NamedTuple):
    """The discs that lens points must lie in at every pixel, one for each rim."""

    centres: FloatArray
    """x and y in lens units, float32 [rims, 2, H, W], with spare elements behind for whole tiles."""
    radii: Float64Array


NO_DISC = Pupil(np.zeros((0, 2, 0, 0), np.float32), np.zeros(0))
"""What `ray_tracer.trace_tiles` is given without a pupil."""


def pupil_of(scene: RenderInput) -> Pupil | None:
    """The pupil of a scene's lens at every pixel, None if it has none."""
    if not has_pupil(scene.lens.aperture):
        return None
    discs = _asked(scene.lens.aperture, field_positions(scene))
    shape = len(discs), 2, scene.height, scene.width
    size = math.prod(shape)
    centres = np.zeros(size + TILE_H * scene.width + 64, np.float32)[:size].reshape(shape)
    for out, (centre, _) in zip(centres, discs, strict=True):
        out[:] = np.moveaxis(centre, 2, 0)
    return Pupil(centres, np.array([radius for _, radius in discs]))


def _asked(aperture: Aperture, h: Float64Array) -> list[tuple[Float64Array, float]]:
    """Centre [..., 2] and radius of every rim at h; UsageError if they are none."""
    discs = []
    for centre, radius in aperture.pupil_discs(h) or [(np.zeros_like(h), math.inf)]:
        place = np.asarray(centre, np.float64)
        if place.shape != h.shape or not np.isfinite(place).all() or not float(radius) > 0:
            raise UsageError(
                f"{type(aperture).__name__}.pupil must return finite centres of h's shape {h.shape} and a radius > 0, "
                f"got {place.shape} and {radius}"
            )
        discs.append((place, float(radius)))
    return discs


def pupils_at(scene: RenderInput, x: Float64Array, y: Float64Array) -> Float64Array:
    """Centre and radius of every rim, [N, rims, 3], at pixels (x, y), which may lie outside the picture.

    An aperture is asked within abs(h) = 1 alone; beyond, centres go straight on, up to abs(h) = _FARTHEST.
    """
    half = np.hypot(scene.width, scene.height) / 2
    h = np.stack([(x - (scene.width - 1) / 2) / half, (y - (scene.height - 1) / 2) / half], axis=-1)
    field = np.hypot(h[:, 0], h[:, 1])
    beyond = field > 1
    outwards = h[beyond] / field[beyond, None]
    h[beyond] = outwards
    discs = _asked(scene.lens.aperture, h)
    if beyond.any():
        mirrored = outwards * (2 - np.minimum(field[beyond], _FARTHEST))[:, None]
        opposite = _asked(scene.lens.aperture, mirrored)
        discs = [(centre.copy(), radius) for centre, radius in discs]
        for (centre, _), (before, _) in zip(discs, opposite, strict=True):
            centre[beyond] = 2 * centre[beyond] - before
    return np.stack(
        [np.concatenate([centre, np.full((len(h), 1), radius)], axis=1) for centre, radius in discs], axis=1
    )


def drift(scene: RenderInput) -> float:
    """Lens units by which rims move per pixel of the picture, at most."""
    x, y = np.meshgrid(np.linspace(0, scene.width - 1, 33), np.linspace(0, scene.height - 1, 33))
    pupils = pupils_at(scene, x.ravel(), y.ravel())[..., :2].reshape(33, 33, -1)
    sides = (max(1, scene.height - 1), max(1, scene.width - 1))
    return max(float(np.abs(np.diff(pupils, axis=axis)).max()) * 32 / side for axis, side in enumerate(sides))


def lattice_step(scene: RenderInput) -> int:
    """Pixels between the points at which the light that passes is integrated."""
    return min(8, max(1, min(scene.width, scene.height) // _LATTICE))


def transmission(scene: RenderInput) -> FloatArray:
    """Share of the opening's light that its pupil lets pass at each pixel, float32 [H, W]."""
    tables = tables_of(scene.lens.aperture)
    if isinstance(tables, FieldLensTables):
        table = tables.field_table(scene.width, scene.height)
        return field_transmission(scene.lens.aperture, table, scene.width, scene.height)
    if not has_pupil(scene.lens.aperture):
        return np.ones((scene.height, scene.width), np.float32)
    opening = tables.opening
    step = lattice_step(scene)
    x, y = (np.arange(-(-side // step) + 1, dtype=np.float64) * step for side in (scene.width, scene.height))
    pupils = pupils_at(scene, *(a.ravel() for a in np.meshgrid(x, y)))
    everything = footprint_kernel.passed_light(opening, UNVIGNETTED)
    share = footprint_kernel.passed_light(opening, pupils).mean(axis=1) / everything.mean()
    lattice = share.reshape(len(y), len(x))
    i, u = np.divmod(np.arange(scene.width), step)
    j, v = np.divmod(np.arange(scene.height), step)
    u, v = u[None, :] / step, v[:, None] / step
    upper = lattice[j][:, i] * (1 - u) + lattice[j][:, i + 1] * u
    lower = lattice[j + 1][:, i] * (1 - u) + lattice[j + 1][:, i + 1] * u
    result: FloatArray = np.clip(upper * (1 - v) + lower * v, 0, 1).astype(np.float32)
    return result


def relative_light(scene: RenderInput) -> FloatArray:
    """Light that the pupil lets pass at each pixel relative to the picture's centre, float32 [H, W]: a falloff.

    0 where the centre is dark.
    """
    share = transmission(scene)
    if not has_pupil(scene.lens.aperture):
        return share
    opening = tables_of(scene.lens.aperture).opening
    disc = np.array([[(*at, radius) for (at,), radius in _asked(scene.lens.aperture, np.zeros((1, 2)))]])
    passed, everything = (footprint_kernel.passed_light(opening, each).mean() for each in (disc, UNVIGNETTED))
    if round(passed / everything, 6) == 1:
        return share
    return share * np.float32(everything / passed if passed > 0 else 0)
