"""The CPU renderer: exact means of every layer by collapsed kernels, rays only where layers vary together.

Per tile (`develop`): a layer in focus is copied; a blurred one is filtered by the table of weights that all rays of a
pixel collapse to (`collapse`, `marginal`); the means are composited; where an edge varies in front of something that
varies too, a set of rays adds what means miss (`covary`); tiles in which layers change order are traced ray by ray
(`rays`), scenes with height fields too (`relief`). Nothing is reordered between threads and no fast-math is used: the
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
from bokehsynth.rendering.cpu.ray_tracer import grid_side, trace_tile
from bokehsynth.rendering.cpu.simd import address_of
from bokehsynth.rendering.cpu.tile_bounds import pyramid_levels
from bokehsynth.rendering.cpu.tile_plan import Survey, blank_survey, survey_rows, typical_light
from bokehsynth.rendering.tile_constants import CELL, TILE_H, TILE_W
from bokehsynth.rendering.types import FloatArray, RenderInput, RenderOutput

PupilForTiles = tuple[int, tuple[int, int], float]
"""How tiles deal with a pupil, addresses of the planes of its centre, its radius."""

NO_PUPIL: PupilForTiles = (tile_constants.NO_PUPIL, (0, 0), 0.0)

THREADS = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
"""Set by the environment variable of that name, like every Numba program; workers of a generator run with 1."""


def render_scene(scene: RenderInput, samples: int | None) -> RenderOutput:
    """Render; rays, where they are needed, number at least `samples`, None chooses by the local blur radii.

    Raises UsageError for an aperture with `aberration`, and for height fields seen through one with a `pupil`.
    """
    aperture = scene.lens.aperture
    if type(aperture).aberration is not Aperture.aberration and scene.lens.blur > 0:
        raise UsageError(
            f"{type(aperture).__name__} has an aberration, which only backend='reference' renders: its rays land "
            "elsewhere at every pixel, and no table of texels stands for them"
        )
    if any(isinstance(layer.disparity, HeightField) for layer in scene.layers):
        return tracer.render_scene(scene, samples)
    tables = tables_of(aperture)
    output = empty_output(scene)
    if scene.lens.blur == 0 and pinhole.planes_in_order(scene) is not None:
        pinhole.see(scene, output)
        return output
    table = ray_table(scene, tables, samples)
    pupil = pupils.pupil_of(scene)
    _develop(scene, tables, table, pupil, output)
    _trace_crossings(scene, table, pupil, output)
    if scene.lens.falloff:
        output.color[:] *= pupils.transmission(scene, tables)[..., None]
    return output


def empty_output(scene: RenderInput) -> RenderOutput:
    """Room for the picture."""
    tiles = -(-scene.height // TILE_H), -(-scene.width // TILE_W)
    color, coverage = (
        np.empty((scene.height, scene.width, 3), np.float32),
        np.empty((scene.height, scene.width), np.float32),
    )
    return RenderOutput(color, coverage, np.zeros(tiles, np.uint8))


def _develop(
    scene: RenderInput, tables: LensTables, table: RayTable, pupil: pupils.Pupil | None, output: RenderOutput
) -> None:
    """All tiles but those in which layers change order."""
    layers = [prepared_layers.plate(layer, scene, tables) for layer in scene.layers]
    aims = prepared_layers.aims(scene, layers, table.points)
    distances = None if pupil is None else pupils.steps(scene)
    turns = _pupil_for_tiles(pupil, distances)
    survey = look_round(scene, layers, turns[0], output)
    if distances is None:  # one book for the whole picture
        book, spans = prepared_layers.book_of_planes(scene, layers, tables)

    def develop_rows(start: int, stop: int) -> None:
        layer_planes = prepared_layers.layer_planes(scene, layers, weighed, spans)
        develop_tiles(layer_planes, survey, book, table, aims, turns, start, stop, output)

    def develop_by_corners(start: int, stop: int) -> None:
        assert distances is not None
        for row in range(start, stop):
            corners = list(pupils.corner_kernels(scene, tables, distances, row))
            own_book, own_spans = prepared_layers.book_of_corners(corners, layers)
            layer_planes = prepared_layers.layer_planes(scene, layers, weighed, own_spans)
            develop_tiles(layer_planes, survey, own_book, table, aims, turns, row, row + 1, output)

    for band in prepared_layers.bands(scene, layers):
        weighed: list[prepared_layers.Weighed | None] = []  # lets go of the last band's before this one's are made
        weighed = prepared_layers.weigh(layers, scene, band)
        _each(*band, develop_rows if distances is None else develop_by_corners)


def look_round(scene: RenderInput, layers: Sequence[prepared_layers.Plate], mode: int, output: RenderOutput) -> Survey:
    """Look at every tile: the survey, and the output's paths."""
    paths = output.paths
    assert paths is not None
    survey = blank_survey(paths.shape[0], paths.shape[1], len(layers))
    planes, levels = prepared_layers.plane_rows(layers), pyramid_levels(*scene.layers[0].shape)
    extremes, size = np.stack([each.extremes for each in layers]), (scene.height, scene.width)

    def look(start: int, stop: int) -> None:
        survey_rows(
            planes, extremes, levels, prepared_layers.view(scene), scene.margin, size, mode, start, stop,
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
    layer_planes: Any, survey: Survey, book: Any, table: RayTable, aims: prepared_layers.Aims, pupil: PupilForTiles,
    start: int, stop: int, output: RenderOutput,
) -> None:  # fmt: skip
    """`tile_pass.develop_rows` with scratch of its own."""
    room = np.zeros((tile_pass.room_rows(survey.orders.shape[2], len(table.weights)), CELL), np.float32)
    rays = (table.points, table.weights, table.spans, table.lit, aims.stretches, aims.steps, aims.places)
    known = (survey.states, survey.orders, survey.lights, typical_light(survey.lights), output.paths)
    tile_pass.develop_rows(layer_planes, known, book, rays, pupil, start, stop, output.color, output.coverage, room)


def _trace_crossings(scene: RenderInput, table: RayTable, pupil: pupils.Pupil | None, output: RenderOutput) -> None:
    """Tiles in which layers change order from ray to ray."""
    assert output.paths is not None
    crossing = np.argwhere(output.paths == tile_constants.RAY_TRACED)
    if len(crossing) == 0:
        return
    packed = np.stack([layer.packed for layer in scene.layers])
    layers = [prepared_layers.plate(layer, scene, tables_of(scene.lens.aperture)) for layer in scene.layers]
    planes, levels = prepared_layers.plane_rows(layers), pyramid_levels(*scene.layers[0].shape)
    extremes, view = np.stack([each.extremes for each in layers]), prepared_layers.view(scene)
    centres, radius = np.zeros((2, 0, 0), np.float32), 0.0
    if pupil is not None:
        centres, radius = pupil.centres, pupil.radius
    rays = (table.points, table.weights, table.spans)

    def trace_tiles(start: int, stop: int) -> None:
        for row, column in crossing[start:stop].tolist():
            trace_tile(
                packed, planes, extremes, levels, view, scene.margin, rays, centres, radius,
                row * TILE_H, column * TILE_W, output.color, output.coverage,
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


def ray_table(scene: RenderInput, tables: LensTables, samples: int | None) -> RayTable:
    """The sets of rays that tiles of this scene may ask for."""
    if samples is not None:
        side = max(2, 2 * int(np.sqrt(samples) / 2))
        while len(tables.grid(side).points) < samples:
            side += 2
        return tables.rays(side)
    reach = max(scene.lens.reach(layer.disparity, scene.width, scene.height) for layer in scene.layers)
    return tables.ladder(grid_side(reach))


def transmission(scene: RenderInput) -> FloatArray:
    """Share of the opening's light that its pupil lets pass at each pixel, float32 [H, W]."""
    return pupils.transmission(scene, tables_of(scene.lens.aperture))


def warm_up() -> None:
    """Compile (or load from the cache) every kernel, so that spawned workers only load it."""
    from bokehsynth.optics import Lens

    canvas = np.ones((24, 24, 3), np.float32)
    layers = (Layer(canvas, canvas[..., 0] * 0.5, Plane(0.9)), Layer(canvas, canvas[..., 0], Plane(0.1, 1e-3)))
    render_scene(RenderInput(layers, Lens(4.0, 0.5), 4), None)
