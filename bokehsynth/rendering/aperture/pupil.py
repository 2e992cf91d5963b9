"""Openings that change over the picture: kernels at the corners of tiles, and where a pupil's disc lies."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.optics import Aperture
from bokehsynth.rendering.aperture.footprint_kernel import RUNS_FROM, collapse, passed_light
from bokehsynth.rendering.aperture.lens_points import field_positions
from bokehsynth.rendering.aperture.tables import LensTables
from bokehsynth.rendering.cpu.tile_bounds import TILE_H, TILE_W
from bokehsynth.rendering.types import Float64Array, FloatArray, IntArray, Shot

_LATTICE = 64
"""Points along the shorter side, at least and at most eight px apart, at which the light that passes is integrated."""


_RIM_STEP, _FOCUS_STEP = 0.42, 0.05
"""Pixels by which rims may move from corner to corner; less where a layer crosses the focus, since |r| has a kink."""

_CHOICES = ((TILE_W, TILE_W // 2, TILE_W // 4), (TILE_H, TILE_H // 2))


def has_pupil(aperture: Aperture) -> bool:
    """Whether a class vignettes."""
    return type(aperture).pupil is not Aperture.pupil


@dataclass(frozen=True, eq=False)
class Pupil:
    """The disc that lens points must lie in at every pixel."""

    centres: FloatArray
    """x and y in lens units, float32 [2, H, W], with room behind for whole tiles."""
    radius: float


def pupil_of(shot: Shot) -> Pupil | None:
    """The pupil of a shot's lens at every pixel, None if it has none."""
    if not has_pupil(shot.lens.aperture):
        return None
    centre, radius = _asked(shot.lens.aperture, field_positions(shot))
    room = np.zeros(2 * shot.height * shot.width + TILE_H * shot.width + 64, np.float32)
    centres = room[: 2 * shot.height * shot.width].reshape(2, shot.height, shot.width)
    centres[:] = np.moveaxis(centre, 2, 0)
    return Pupil(centres, radius)


def _asked(aperture: Aperture, h: Float64Array) -> tuple[Float64Array, float]:
    centre, radius = aperture.pupil(h)
    centre = np.asarray(centre, np.float64)
    if centre.shape != h.shape or not np.isfinite(centre).all() or not float(radius) > 0:
        raise UsageError(
            f"{type(aperture).__name__}.pupil must return finite centres of h's shape {h.shape} and a radius > 0, got "
            f"{centre.shape} and {radius}"
        )
    return centre, float(radius)


def _pupils_at(shot: Shot, x: Float64Array, y: Float64Array) -> Float64Array:
    """Rows (cx, cy, radius) [N, 3] at pixels (x, y) of the picture, which may lie a tile outside."""
    half = np.hypot(shot.width, shot.height) / 2
    h = np.stack([(x - (shot.width - 1) / 2) / half, (y - (shot.height - 1) / 2) / half], axis=-1)
    centre, radius = _asked(shot.lens.aperture, h)
    return np.concatenate([centre, np.full((len(h), 1), radius)], axis=1)


@dataclass(frozen=True)
class Steps:
    """Pixels between the corners at which kernels are made."""

    across: int
    down: int


def steps(shot: Shot) -> "list[Steps | None] | None":
    """For each layer how close corners must lie, None for one in focus; None altogether if none lie close enough.

    Between two corners the kernel's rim, and that of the pupil, move by at most _RIM_STEP.
    """
    x, y = np.meshgrid(np.linspace(0, shot.width - 1, 33), np.linspace(0, shot.height - 1, 33))
    pupils = _pupils_at(shot, x.ravel(), y.ravel())[:, :2].reshape(33, 33, 2)
    drift = [float(np.abs(np.diff(pupils, axis=axis)).max()) * 32 for axis in (1, 0)]  # over the width, the height
    found: list[Steps | None] = []
    for layer in shot.layers:
        plane = layer.disparity
        largest = shot.lens.radius_max(plane, shot.width, shot.height)
        if largest == 0:
            found.append(None)
            continue
        slopes = [shot.lens.blur * abs(g) for g in (plane.gx, plane.gy)]  # type: ignore[union-attr]
        radii = [shot.lens.blur * (d - shot.lens.focus) for d in plane.extremes(shot.width, shot.height)]
        limit = _RIM_STEP if radii[0] * radii[1] > 0 else _FOCUS_STEP
        sides = (max(1, shot.width - 1), max(1, shot.height - 1))
        across, down = (
            next((step for step in choice if step * (largest * d / side + s) <= limit), None)
            for choice, d, s, side in zip(_CHOICES, drift, slopes, sides, strict=True)
        )
        if across is None or down is None:
            return None
        found.append(Steps(across, down))
    return found


def corner_kernels(
    shot: Shot, tables: LensTables, distances: "list[Steps | None]", row: int
) -> "Iterator[CornerKernels | None]":
    """For each layer the kernels at the corners in tile row `row`; None for a layer in focus."""
    stride, tiles = shot.layers[0].shape[1], -(-shot.width // TILE_W)
    for layer, step in zip(shot.layers, distances, strict=True):
        if step is None:
            yield None
            continue
        plane = layer.disparity
        ex, ey = shot.lens.blur * plane.gx, shot.lens.blur * plane.gy  # type: ignore[union-attr]
        x = np.arange(tiles * TILE_W // step.across + 1, dtype=np.float64) * step.across
        lines = [np.full_like(x, float(y)) for y in range(row * TILE_H, (row + 1) * TILE_H + 1, step.down)]
        radii = [
            shot.lens.blur * (plane.at(x - (shot.width - 1) / 2, y - (shot.height - 1) / 2) - shot.lens.focus)
            for y in lines
        ]
        both = np.concatenate(radii)
        runs = tables.transmission.shape == (1, 1, 1) and bool(both.min() >= RUNS_FROM or both.max() <= -RUNS_FROM)
        kernels = [
            collapse(
                tables.outline, tables.detail, tables.transmission, _pupils_at(shot, x, y), r, ex, ey, runs, stride
            )
            for r, y in zip(radii, lines, strict=True)
        ]
        yield CornerKernels(runs, step, kernels, radii)


@dataclass(frozen=True, eq=False)
class CornerKernels:
    """Kernels of one layer along the lines of corners of a tile row."""

    runs: bool
    steps: Steps
    lines: "list[tuple[IntArray, FloatArray, IntArray, IntArray, IntArray, Float64Array]]"
    """Output of `collapse` for the corners of each line, from the picture's left to its right."""
    radii: list[Float64Array]


def transmission(shot: Shot, tables: LensTables) -> FloatArray:
    """Share of the opening's light that its pupil lets pass at each pixel, float32 [H, W]."""
    if not has_pupil(shot.lens.aperture):
        return np.ones((shot.height, shot.width), np.float32)
    step = min(8, max(1, min(shot.width, shot.height) // _LATTICE))
    x, y = (np.arange(-(-side // step) + 1, dtype=np.float64) * step for side in (shot.width, shot.height))
    pupils = _pupils_at(shot, *(a.ravel() for a in np.meshgrid(x, y)))
    everything = passed_light(tables.outline, tables.detail, tables.transmission, np.array([(0.0, 0.0, np.inf)]))
    share = passed_light(tables.outline, tables.detail, tables.transmission, pupils).mean(axis=1) / everything.mean()
    lattice = share.reshape(len(y), len(x))
    i, u = np.divmod(np.arange(shot.width), step)
    j, v = np.divmod(np.arange(shot.height), step)
    u, v = u[None, :] / step, v[:, None] / step
    upper = lattice[j][:, i] * (1 - u) + lattice[j][:, i + 1] * u
    lower = lattice[j + 1][:, i] * (1 - u) + lattice[j + 1][:, i + 1] * u
    result: FloatArray = np.clip(upper * (1 - v) + lower * v, 0, 1).astype(np.float32)
    return result
