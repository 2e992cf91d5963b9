"""Openings that change over the picture: kernels at the corners of tiles, and where a pupil's disc lies."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.optics import Aperture
from bokehsynth.rendering.aperture import footprint_kernel
from bokehsynth.rendering.aperture.footprint_kernel import UNVIGNETTED, FootprintKernels
from bokehsynth.rendering.aperture.lens_points import field_positions, refuse_unbaked
from bokehsynth.rendering.aperture.tables import LensTables, tables_of
from bokehsynth.rendering.tile_constants import RUNS_FROM, TILE_H, TILE_W
from bokehsynth.rendering.types import Float64Array, FloatArray, RenderInput

_LATTICE = 64
"""Points along the shorter side, at least and at most eight px apart, at which the light that passes is integrated."""


_RIM_STEP, _FOCUS_STEP = 0.42, 0.05
"""Pixels by which rims may move from corner to corner; less where a layer crosses the focus, since |r| has a kink."""

_CHOICES = ((TILE_W, TILE_W // 2, TILE_W // 4), (TILE_H, TILE_H // 2))


def has_pupil(aperture: Aperture) -> bool:
    """Whether an aperture has a `pupil` of its own."""
    return type(aperture).pupil is not Aperture.pupil


class Pupil(NamedTuple):
    """The disc that lens points must lie in at every pixel."""

    centres: FloatArray
    """x and y in lens units, float32 [2, H, W], with spare elements behind for whole tiles."""
    radius: float


NO_DISC = Pupil(np.zeros((2, 0, 0), np.float32), 0.0)
"""What `ray_tracer.trace_tiles` is given without a pupil."""


def pupil_of(scene: RenderInput) -> Pupil | None:
    """The pupil of a scene's lens at every pixel, None if it has none."""
    if not has_pupil(scene.lens.aperture):
        return None
    centre, radius = _asked(scene.lens.aperture, field_positions(scene))
    memory = np.zeros(2 * scene.height * scene.width + TILE_H * scene.width + 64, np.float32)
    centres = memory[: 2 * scene.height * scene.width].reshape(2, scene.height, scene.width)
    centres[:] = np.moveaxis(centre, 2, 0)
    return Pupil(centres, radius)


def _asked(aperture: Aperture, h: Float64Array) -> tuple[Float64Array, float]:
    ((centre, radius),) = aperture.pupil_discs(h)
    centre = np.asarray(centre, np.float64)
    if centre.shape != h.shape or not np.isfinite(centre).all() or not float(radius) > 0:
        raise UsageError(
            f"{type(aperture).__name__}.pupil must return finite centres of h's shape {h.shape} and a radius > 0, got "
            f"{centre.shape} and {radius}"
        )
    return centre, float(radius)


def _pupils_at(scene: RenderInput, x: Float64Array, y: Float64Array) -> Float64Array:
    """Rows (cx, cy, radius) [N, 3] at pixels (x, y) of the picture, which may lie a tile outside."""
    half = np.hypot(scene.width, scene.height) / 2
    h = np.stack([(x - (scene.width - 1) / 2) / half, (y - (scene.height - 1) / 2) / half], axis=-1)
    centre, radius = _asked(scene.lens.aperture, h)
    return np.concatenate([centre, np.full((len(h), 1), radius)], axis=1)


def steps(scene: RenderInput) -> "list[tuple[int, int] | None] | None":
    """Choose each layer's px between corners (across, down), None for one in focus; None altogether if none suffice.

    Between two corners the kernel's rim, and that of the pupil, move by at most _RIM_STEP.
    """
    x, y = np.meshgrid(np.linspace(0, scene.width - 1, 33), np.linspace(0, scene.height - 1, 33))
    pupils = _pupils_at(scene, x.ravel(), y.ravel())[:, :2].reshape(33, 33, 2)
    drift = [float(np.abs(np.diff(pupils, axis=axis)).max()) * 32 for axis in (1, 0)]  # over the width, the height
    found: list[tuple[int, int] | None] = []
    for layer in scene.layers:
        plane = layer.disparity
        largest = scene.lens.radius_max(plane, scene.width, scene.height)
        if largest == 0:
            found.append(None)
            continue
        slopes = [scene.lens.blur * abs(g) for g in (plane.gx, plane.gy)]  # type: ignore[union-attr]
        radii = [scene.lens.blur * (d - scene.lens.focus) for d in plane.extremes(scene.width, scene.height)]
        limit = _RIM_STEP if radii[0] * radii[1] > 0 else _FOCUS_STEP
        sides = (max(1, scene.width - 1), max(1, scene.height - 1))
        across, down = (
            next((step for step in choice if step * (largest * d / side + s) <= limit), None)
            for choice, d, s, side in zip(_CHOICES, drift, slopes, sides, strict=True)
        )
        if across is None or down is None:
            return None
        found.append((across, down))
    return found


def corner_kernels(
    scene: RenderInput, tables: LensTables, distances: "list[tuple[int, int] | None]", row: int
) -> "Iterator[CornerKernels | None]":
    """Make each layer's kernels at the corners in tile row `row`; None for a layer in focus."""
    stride, tiles = scene.layers[0].shape[1], -(-scene.width // TILE_W)
    for layer, step in zip(scene.layers, distances, strict=True):
        if step is None:
            yield None
            continue
        plane = layer.disparity
        ex, ey = scene.lens.blur * plane.gx, scene.lens.blur * plane.gy  # type: ignore[union-attr]
        x = np.arange(tiles * TILE_W // step[0] + 1, dtype=np.float64) * step[0]
        lines = [np.full_like(x, float(y)) for y in range(row * TILE_H, (row + 1) * TILE_H + 1, step[1])]
        radii = [
            scene.lens.blur * (plane.at(x - (scene.width - 1) / 2, y - (scene.height - 1) / 2) - scene.lens.focus)
            for y in lines
        ]
        both = np.concatenate(radii)
        runs = tables.transmission.shape == (1, 1, 1) and bool(both.min() >= RUNS_FROM or both.max() <= -RUNS_FROM)
        kernels = [
            footprint_kernel.footprint_kernels(tables.opening, _pupils_at(scene, x, y), r, ex, ey, runs, stride)
            for r, y in zip(radii, lines, strict=True)
        ]
        yield CornerKernels(runs, step, kernels, radii)


@dataclass(frozen=True, eq=False)
class CornerKernels:
    """Kernels of one layer along the lines of corners of a tile row."""

    runs: bool
    steps: tuple[int, int]  # pixels between corners, across and down
    lines: list[FootprintKernels]
    """For the corners of each line, from the picture's left to its right."""
    radii: list[Float64Array]


def transmission(scene: RenderInput) -> FloatArray:
    """Share of the opening's light that its pupil lets pass at each pixel, float32 [H, W]."""
    refuse_unbaked(scene)
    if not has_pupil(scene.lens.aperture):
        return np.ones((scene.height, scene.width), np.float32)
    opening = tables_of(scene.lens.aperture).opening
    step = min(8, max(1, min(scene.width, scene.height) // _LATTICE))
    x, y = (np.arange(-(-side // step) + 1, dtype=np.float64) * step for side in (scene.width, scene.height))
    pupils = _pupils_at(scene, *(a.ravel() for a in np.meshgrid(x, y)))
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
    (at,), radius = _asked(scene.lens.aperture, np.zeros((1, 2)))
    disc = np.array([[at[0], at[1], radius]])
    passed, everything = (footprint_kernel.passed_light(opening, each).mean() for each in (disc, UNVIGNETTED))
    if round(passed / everything, 6) == 1:
        return share
    return share * np.float32(everything / passed if passed > 0 else 0)
