"""The CPU renderer: exact means of every layer by collapsed kernels, rays only where layers vary together.

Per tile (`develop`): a layer in focus is copied; a blurred one is filtered by the table of weights that all rays of a
pixel collapse to (`collapse`, `marginal`); the means are composited; where an edge varies in front of something that
varies too, a set of rays adds what means miss (`covary`); tiles in which layers change order are traced ray by ray
(`rays`), shots with height fields too (`relief`). Nothing is reordered between threads and no fast-math is used: the
same bytes for any number of threads.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.optics import Aperture, HeightField, Plane
from bokehsynth.optics.layer import Layer
from bokehsynth.rendering import tile_constants
from bokehsynth.rendering.aperture import pupil as pupils
from bokehsynth.rendering.aperture.tables import LensTables, RayTable, tables_of
from bokehsynth.rendering.cpu import pinhole, prepared_layers, tile_pass
from bokehsynth.rendering.cpu.height_field import tracer
from bokehsynth.rendering.cpu.ray_batches import CELL
from bokehsynth.rendering.cpu.ray_tracer import grid_side, trace_tile
from bokehsynth.rendering.cpu.simd import address_of
from bokehsynth.rendering.cpu.tile_bounds import TILE_H, TILE_W, pyramid_levels
from bokehsynth.rendering.cpu.tile_plan import Survey, blank_survey, survey_rows, typical_light
from bokehsynth.rendering.types import Exposure, FloatArray, Shot

PupilForTiles = tuple[int, tuple[int, int], float]
"""How tiles deal with a pupil, addresses of the planes of its centre, its radius."""

NO_PUPIL: PupilForTiles = (tile_constants.NO_PUPIL, (0, 0), 0.0)

THREADS = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
"""Set by the environment variable of that name, like every Numba program; workers of a generator run with 1."""


def trace(shot: Shot, samples: int | None) -> Exposure:
    """Render; rays, where they are needed, number at least `samples`, None chooses by the local blur radii.

    Raises UsageError for an aperture with `aberration`, and for height fields seen through one with a `pupil`.
    """
    aperture = shot.lens.aperture
    if type(aperture).aberration is not Aperture.aberration and shot.lens.blur > 0:
        raise UsageError(
            f"{type(aperture).__name__} has an aberration, which only backend='reference' renders: its rays land "
            "elsewhere at every pixel, and no table of texels stands for them"
        )
    if any(isinstance(layer.disparity, HeightField) for layer in shot.layers):
        return tracer.trace(shot, samples)
    tables = tables_of(aperture)
    exposure = unexposed(shot)
    if shot.lens.blur == 0 and pinhole.planes_in_order(shot) is not None:
        pinhole.see(shot, exposure)
        return exposure
    table = ray_table(shot, tables, samples)
    pupil = pupils.pupil_of(shot)
    _develop(shot, tables, table, pupil, exposure)
    _trace_crossings(shot, table, pupil, exposure)
    if shot.lens.falloff:
        exposure.color[:] *= pupils.transmission(shot, tables)[..., None]
    return exposure


def unexposed(shot: Shot) -> Exposure:
    """Room for the picture."""
    tiles = -(-shot.height // TILE_H), -(-shot.width // TILE_W)
    color, coverage = (
        np.empty((shot.height, shot.width, 3), np.float32),
        np.empty((shot.height, shot.width), np.float32),
    )
    return Exposure(color, coverage, np.zeros(tiles, np.uint8))


def _develop(shot: Shot, tables: LensTables, table: RayTable, pupil: pupils.Pupil | None, exposure: Exposure) -> None:
    """All tiles but those in which layers change order."""
    layers = [prepared_layers.plate(layer, shot, tables) for layer in shot.layers]
    aims = prepared_layers.aims(shot, layers, table.points)
    distances = None if pupil is None else pupils.steps(shot)
    turns = _pupil_for_tiles(pupil, distances)
    survey = look_round(shot, layers, turns[0], exposure)
    if distances is None:  # one book for the whole picture
        book, spans = prepared_layers.book_of_planes(shot, layers, tables)

    def develop_rows(start: int, stop: int) -> None:
        scene = prepared_layers.scene(shot, layers, weighed, spans)
        develop_tiles(scene, survey, book, table, aims, turns, start, stop, exposure)

    def develop_by_corners(start: int, stop: int) -> None:
        assert distances is not None
        for row in range(start, stop):
            corners = list(pupils.corner_kernels(shot, tables, distances, row))
            own_book, own_spans = prepared_layers.book_of_corners(corners, layers)
            scene = prepared_layers.scene(shot, layers, weighed, own_spans)
            develop_tiles(scene, survey, own_book, table, aims, turns, row, row + 1, exposure)

    for band in prepared_layers.bands(shot, layers):
        weighed: list[prepared_layers.Weighed | None] = []  # lets go of the last band's before this one's are made
        weighed = prepared_layers.weigh(layers, shot, band)
        _each(*band, develop_rows if distances is None else develop_by_corners)


def look_round(shot: Shot, layers: Sequence[prepared_layers.Plate], mode: int, exposure: Exposure) -> Survey:
    """Look at every tile: the survey, and the exposure's paths."""
    paths = exposure.paths
    assert paths is not None
    survey = blank_survey(paths.shape[0], paths.shape[1], len(layers))
    planes, levels = prepared_layers.plane_rows(layers), pyramid_levels(*shot.layers[0].shape)
    extremes, size = np.stack([each.extremes for each in layers]), (shot.height, shot.width)

    def look(start: int, stop: int) -> None:
        survey_rows(
            planes, extremes, levels, prepared_layers.view(shot), shot.margin, size, mode, start, stop,
            survey.states, survey.orders, survey.lights, paths,
        )  # fmt: skip

    _each(0, len(paths), look)
    return survey


def _pupil_for_tiles(pupil: "pupils.Pupil | None", distances: Any) -> PupilForTiles:
    if pupil is None:
        return NO_PUPIL
    x, y = pupil.centres
    way = tile_constants.BY_RAYS if distances is None else tile_constants.BY_CORNERS
    return way, (address_of(x), address_of(y)), pupil.radius


def develop_tiles(
    scene: Any, survey: Survey, book: Any, table: RayTable, aims: prepared_layers.Aims, pupil: PupilForTiles,
    start: int, stop: int, exposure: Exposure,
) -> None:  # fmt: skip
    """`tile_pass.develop_rows` with scratch of its own."""
    room = np.zeros((tile_pass.room_rows(survey.orders.shape[2], len(table.weights)), CELL), np.float32)
    rays = (table.points, table.weights, table.spans, table.lit, aims.stretches, aims.steps, aims.places)
    known = (survey.states, survey.orders, survey.lights, typical_light(survey.lights), exposure.paths)
    tile_pass.develop_rows(scene, known, book, rays, pupil, start, stop, exposure.color, exposure.coverage, room)


def _trace_crossings(shot: Shot, table: RayTable, pupil: pupils.Pupil | None, exposure: Exposure) -> None:
    """Tiles in which layers change order from ray to ray."""
    assert exposure.paths is not None
    crossing = np.argwhere(exposure.paths == tile_constants.RAYS)
    if len(crossing) == 0:
        return
    packed = np.stack([layer.packed for layer in shot.layers])
    layers = [prepared_layers.plate(layer, shot, tables_of(shot.lens.aperture)) for layer in shot.layers]
    planes, levels = prepared_layers.plane_rows(layers), pyramid_levels(*shot.layers[0].shape)
    extremes, view = np.stack([each.extremes for each in layers]), prepared_layers.view(shot)
    centres, radius = np.zeros((2, 0, 0), np.float32), 0.0
    if pupil is not None:
        centres, radius = pupil.centres, pupil.radius
    rays = (table.points, table.weights, table.spans)

    def trace_tiles(start: int, stop: int) -> None:
        for row, column in crossing[start:stop].tolist():
            trace_tile(
                packed, planes, extremes, levels, view, shot.margin, rays, centres, radius,
                row * TILE_H, column * TILE_W, exposure.color, exposure.coverage,
            )  # fmt: skip

    _each(0, len(crossing), trace_tiles)


def _each(start: int, stop: int, work: Callable[[int, int], Any]) -> None:
    """Run work(first, last + 1) over start .. stop - 1 at once, or in pieces on as many threads as Numba may use."""
    if THREADS == 1:
        work(start, stop)
        return
    piece = max(1, -(-(stop - start) // (8 * THREADS)))
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda first: work(first, min(stop, first + piece)), range(start, stop, piece)))


def ray_table(shot: Shot, tables: LensTables, samples: int | None) -> RayTable:
    """The sets of rays that tiles of this shot may ask for."""
    if samples is not None:
        side = max(2, 2 * int(np.sqrt(samples) / 2))
        while len(tables.grid(side).points) < samples:
            side += 2
        return tables.rays(side)
    reach = max(shot.lens.reach(layer.disparity, shot.width, shot.height) for layer in shot.layers)
    return tables.ladder(grid_side(reach))


def transmission(shot: Shot) -> FloatArray:
    """Share of the opening's light that its pupil lets pass at each pixel, float32 [H, W]."""
    return pupils.transmission(shot, tables_of(shot.lens.aperture))


def warm_up() -> None:
    """Compile (or load from the cache) every kernel, so that spawned workers only load it."""
    from bokehsynth.optics import Lens

    canvas = np.ones((24, 24, 3), np.float32)
    layers = (Layer(canvas, canvas[..., 0] * 0.5, Plane(0.9)), Layer(canvas, canvas[..., 0], Plane(0.1, 1e-3)))
    trace(Shot(layers, Lens(4.0, 0.5), 4), None)
