"""The CPU renderer: exact means of every layer by collapsed kernels, rays only where layers vary together.

Per tile (`develop`): a layer in focus is copied; a blurred one is filtered by the table of weights that all rays of a
pixel collapse to (`collapse`, `marginal`); the means are composited; where an edge varies in front of something that
varies too, a set of rays adds what means miss (`covary`); tiles in which layers change order are traced ray by ray
(`rays`). Nothing is reordered between threads and no fast-math is used: the same bytes for any number of threads.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numba
import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.layers import Layer, spacious
from bokehsynth.optics import HeightField, Plane
from bokehsynth.render import develop, relief
from bokehsynth.render.collapse import NO_PUPIL, RUNS_FROM, collapse, nodes_between
from bokehsynth.render.covary import CELL
from bokehsynth.render.lanes import LANES, address_of
from bokehsynth.render.lens_tables import LensTables, RayTable, tables_of
from bokehsynth.render.marginal import GROUP, preweigh
from bokehsynth.render.rays import grid_side, trace_tile
from bokehsynth.render.shot import Exposure, Float64Array, FloatArray, IntArray, Shot
from bokehsynth.render.tiles import TILE_H, TILE_W, pyramid, pyramid_levels

THREADS = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
"""Set by the environment variable of that name, like every Numba program; workers of a generator run with 1."""


def trace(shot: Shot, samples: int | None) -> Exposure:
    """Render; rays, where they are needed, number at least `samples`, None chooses by the local blur radius.

    Raises UsageError for an aperture that changes over the field.
    """
    aperture = shot.lens.aperture
    if aperture.depends_on_field:
        raise UsageError(
            f"{type(aperture).__name__} changes over the picture (pupil or aberration), which the cpu backend does "
            "not render; use backend='reference'"
        )
    if any(isinstance(layer.disparity, HeightField) for layer in shot.layers):
        return relief.trace(shot, samples)
    tables = tables_of(aperture)
    plates = [_plate(layer, shot, tables) for layer in shot.layers]
    scene = _scene(shot, plates)
    book = _book(plates)
    table = _ray_table(shot, tables, samples)
    rays = (table.points, table.weights, table.spans)
    color = np.empty((shot.height, shot.width, 3), np.float32)
    coverage = np.empty((shot.height, shot.width), np.float32)
    paths = np.zeros((-(-shot.height // TILE_H), -(-shot.width // TILE_W)), np.uint8)
    rows = develop.room_rows(len(plates), len(table.weights))

    def develop_rows(start: int, stop: int) -> None:
        room = np.zeros((rows, CELL), np.float32)
        develop.develop_rows(scene, book, rays, start, stop, color, coverage, paths, room)

    _each(len(paths), develop_rows)
    crossing = np.argwhere(paths == develop.RAYS)
    if len(crossing):
        packed = np.stack([layer.packed for layer in shot.layers])
        _, planes, extremes, levels, _, _, view, margin, _ = scene

        def trace_tiles(start: int, stop: int) -> None:
            for row, column in crossing[start:stop].tolist():
                corner = row * TILE_H, column * TILE_W
                trace_tile(packed, planes, extremes, levels, view, margin, rays, *corner, color, coverage)

        _each(len(crossing), trace_tiles)
    return Exposure(color, coverage, paths)


def _each(count: int, work: Any) -> None:
    """Run work(start, stop) over 0..count in one piece, or in pieces on as many threads as Numba may use."""
    if THREADS == 1:
        work(0, count)
        return
    piece = max(1, -(-count // (8 * THREADS)))
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda start: work(start, min(count, start + piece)), range(0, count, piece)))


@dataclass(frozen=True, eq=False)
class Plate:
    """One layer prepared for one lens."""

    packed: FloatArray
    plane: tuple[float, float, float]
    extremes: FloatArray
    opaque: bool
    reference: float
    """Radius in px at which the weights of its run kernels are 1."""
    families: tuple[Any, Any, Any]
    """Nodes and output of `collapse` for DIRECT, AFTER and BEFORE, None where the layer needs none."""
    weighed: FloatArray | None
    sums: FloatArray | None


_extremes: "WeakKeyDictionary[Layer, FloatArray]" = WeakKeyDictionary()
"""Part of a layer's packed form that only this backend reads."""


def _plate(layer: Layer, shot: Shot, tables: LensTables) -> Plate:
    levels = pyramid_levels(*layer.shape)
    if layer not in _extremes:
        _extremes[layer] = pyramid(layer.packed, levels)
    extremes = _extremes[layer]
    opaque = bool(extremes[0, -1] == 1)
    plane = layer.disparity
    assert isinstance(plane, Plane), "height fields are traced by `relief`"
    radii = [shot.lens.blur * (d - shot.lens.focus) for d in plane.corners(shot.width, shot.height)]
    low, high = min(radii), max(radii)
    families = _families(plane, low, high, shot, tables)
    reference = max(abs(low), abs(high))
    weighed = sums = None
    if families[develop.AFTER] or families[develop.BEFORE]:
        planes = layer.packed[:3] if opaque else layer.packed
        weighed, sums = spacious(planes.shape), spacious(planes.shape)
        view = _view(shot)
        preweigh(planes, (plane.d, plane.gx, plane.gy), view, reference, 0, weighed, sums)
    return Plate(layer.packed, (plane.d, plane.gx, plane.gy), extremes, opaque, reference, families, weighed, sums)


def _families(plane: Plane, low: float, high: float, shot: Shot, tables: LensTables) -> tuple[Any, Any, Any]:
    ex, ey = shot.lens.blur * plane.gx, shot.lens.blur * plane.gy
    uniform = tables.transmission.shape == (1, 1, 1)
    if low == high == 0:
        return None, None, None

    def made(nodes: Float64Array, runs: bool) -> Any:
        stride = shot.width + 2 * shot.margin
        return nodes, collapse(
            tables.outline, tables.detail, tables.transmission, NO_PUPIL, nodes, ex, ey, runs, stride
        )

    if plane.slope == 0:
        node, runs = np.array([low]), uniform and abs(low) >= RUNS_FROM
        family = made(node, runs)
        return (
            (None if runs else family),
            (family if runs and low > 0 else None),
            (family if runs and low < 0 else None),
        )
    if not uniform:
        return made(nodes_between(low, high), False), None, None
    spread = RUNS_FROM + abs(ex) * (LANES - 1) + abs(ey) * (GROUP - 1)
    direct = after = before = None
    if low < RUNS_FROM and high > -RUNS_FROM:
        direct = made(nodes_between(max(low, -spread), min(high, spread)), False)
    if high >= RUNS_FROM:
        after = made(nodes_between(max(low, RUNS_FROM), high), True)
    if low <= -RUNS_FROM:
        before = made(nodes_between(low, min(high, -RUNS_FROM)), True)
    return direct, after, before


def _view(shot: Shot) -> tuple[float, float, float, float]:
    height, width = shot.layers[0].shape
    return shot.lens.blur, shot.lens.focus, (height - 1) / 2, (width - 1) / 2


def _scene(shot: Shot, plates: list[Plate]) -> Any:
    """What `develop.develop_rows` reads of the layers."""
    addresses = np.zeros((len(plates), 6), np.int64)
    for row, plate in zip(addresses, plates, strict=True):
        step = plate.packed[0].nbytes
        row[:] = address_of(plate.packed), step, address_of(plate.packed), step, 0, step
        if plate.weighed is not None and plate.sums is not None:
            row[develop.SOURCE], row[develop.SUMS] = address_of(plate.weighed), address_of(plate.sums)
    planes = np.array([plate.plane for plate in plates])
    extremes = np.stack([plate.extremes for plate in plates])
    opaque = np.array([plate.opaque for plate in plates], np.int64)
    spans, at = np.zeros((len(plates), 3, 2), np.int64), 0
    for m, plate in enumerate(plates):
        for family, made in enumerate(plate.families):
            if made is not None:
                spans[m, family] = at, at + len(made[0])
                at += len(made[0])
    levels = pyramid_levels(*shot.layers[0].shape)
    return addresses, planes, extremes, levels, opaque, spans, _view(shot), shot.margin, shot.layers[0].shape[1]


def _book(plates: list[Plate]) -> Any:
    """The kernels of all layers end to end: (taps, nodes, norms, reference)."""
    families = [made for plate in plates for made in plate.families if made is not None]
    reference = np.array([plate.reference for plate in plates])
    if not families:
        empty = np.zeros(0, np.int64)
        taps = (
            empty,
            np.zeros((2, 0), np.float32),
            np.zeros(1, np.int64),
            np.zeros((2, 0), np.int64),
            np.zeros(1, np.int64),
        )
        return taps, np.zeros(0), np.zeros((0, 4)), reference
    nodes = np.concatenate([made[0] for made in families])
    offsets, weights, _, edges, _, norms = (
        np.concatenate([made[1][k] for made in families], axis=-1 if k != 5 else 0) for k in range(6)
    )
    first_tap = _end_to_end([made[1][2] for made in families])
    first_run = _end_to_end([made[1][4] for made in families])
    return (offsets, weights, first_tap, edges, first_run), nodes, norms, reference


def _end_to_end(firsts: list[IntArray]) -> IntArray:
    """Tables of first indices of lists that are put end to end; each ends where the next begins."""
    joined, at = [np.zeros(1, np.int64)], 0
    for first in firsts:
        joined.append(first[1:] + at)
        at += int(first[-1])
    return np.concatenate(joined)


def _ray_table(shot: Shot, tables: LensTables, samples: int | None) -> RayTable:
    """The sets of rays that tiles of this shot may ask for."""
    if samples is not None:
        side = max(2, 2 * int(np.sqrt(samples) / 2))
        while len(tables.grid(side).points) < samples:
            side += 2
        return tables.rays(side)
    reach = max(shot.lens.reach(layer.disparity, shot.width, shot.height) for layer in shot.layers)
    return tables.ladder(grid_side(reach))


def warm_up() -> None:
    """Compile (or load from the cache) every kernel, so that spawned workers only load it."""
    from bokehsynth.optics import Lens

    canvas = np.ones((24, 24, 3), np.float32)
    layers = (Layer(canvas, canvas[..., 0] * 0.5, Plane(0.9)), Layer(canvas, canvas[..., 0], Plane(0.1, 1e-3)))
    trace(Shot(layers, Lens(4.0, 0.5), 4), None)
