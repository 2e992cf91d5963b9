"""Aberrations, weights over the field, several rims and wide openings: the cpu against the reference, in two tiers."""

import tracemalloc
from functools import cache

import numpy as np
import pytest
from support.apertures import Jagged
from support.compare import Tolerance, assert_alike, occlusion_band
from support.scenes import Scene, battery_scene, sheet, texture

import bokehsynth as bs
from bokehsynth.errors import UsageError
from bokehsynth.optics.prescription.aperture import PrescriptionAperture
from bokehsynth.rendering import PATHS
from bokehsynth.rendering.aperture.field_grid import AX, AY, DISTANCE, SIDE, WEIGHT
from bokehsynth.rendering.aperture.field_lookup import grids_at, look_up
from bokehsynth.rendering.aperture.field_moments import moments_of
from bokehsynth.rendering.aperture.field_motion import motion_of
from bokehsynth.rendering.aperture.field_reach import FieldReach
from bokehsynth.rendering.aperture.field_table import bake_field_table, channels_of
from bokehsynth.rendering.aperture.footprint_kernel import footprint_kernels, radius_nodes
from bokehsynth.rendering.aperture.lens_points import vogel_points
from bokehsynth.rendering.aperture.pupil import pupils_at
from bokehsynth.rendering.aperture.tables import tables_of
from bokehsynth.rendering.cpu import layer_lattices, node_rows
from bokehsynth.rendering.cpu.field_tracer import within
from bokehsynth.rendering.cpu.moment_splats import splat_moments
from bokehsynth.rendering.cpu.node_kernels import NodeGrids, grids_of_row, splat_grids
from bokehsynth.rendering.cpu.prepared_layers import concatenate_kernels
from bokehsynth.rendering.cpu.radius_kernels import RadiusCells, pupil_radii
from bokehsynth.rendering.tile_constants import RAY_TRACED
from bokehsynth.rendering.types import RenderInput


class Spherical(bs.Disc):
    """Spherical aberration and coma of 2 px, the same for all colours."""

    def aberration(self, s, h):
        square = np.einsum("ij,ij->i", s, s)[:, None]
        return 2.0 * s * square + 2.0 * (square * h + 2 * s * np.einsum("ij,ij->i", s, h)[:, None]) / 3


class Gentle(bs.Disc):
    """What a good lens does over a small part of its picture: spherical aberration, colours, a rim; little changes."""

    def aberration(self, s, h):
        square = np.einsum("ij,ij->i", s, s)[:, None]
        shift = 1.5 * s * square + 0.1 * (square * h + 2 * s * np.einsum("ij,ij->i", s, h)[:, None])
        return (
            shift[:, None]
            + np.array([0.8, 0.0, -0.5])[:, None] * s[:, None]
            + np.array([0.1, 0.0, -0.1])[:, None] * h[:, None]
        )

    def pupil(self, h):
        return 0.1 * h, 1.0


class Colours(bs.Polygon):
    """Seven blades; focus and magnification differ from colour to colour, astigmatism."""

    def __init__(self):
        super().__init__(7, 0.3)

    def aberration(self, s, h):
        lateral = np.array([1.5, 0.0, -1.0])[:, None] * h[:, None]
        axial = np.array([1.0, -0.5, 0.5])[:, None] * s[:, None]
        return lateral + axial + 1.5 * (s * h)[:, None] * [1.0, -1.0]


class Tinted(bs.Disc):
    """Colours that land so close together that rays of one serve all."""

    def aberration(self, s, h):
        shift = 1.5 * s * np.einsum("ij,ij->i", s, s)[:, None]
        return shift[:, None] + np.array([0.025, 0.0, -0.02])[:, None] * s[:, None]


class Fading(bs.Disc):
    """A weight over lens and field, per channel."""

    def weight(self, s, h):
        ones = np.ones(len(s))
        return np.stack([ones, 1 + 0.5 * s[:, 0] * h[:, 0], np.clip(1 - h[:, 0], 0, None)], axis=1)


class Barrel(bs.Polygon):
    """A hexagon and two rims that cut it from both sides."""

    def __init__(self):
        super().__init__(6, 0.2)

    def pupil(self, h):
        return [(0.5 * h, 1.0), (-0.6 * h, 0.95)]


class Wide(bs.Aperture):
    """An opening of radius 1.5 without its middle."""

    extent = 1.5

    def inside(self, s):
        radius = np.hypot(*s.T)
        return (radius <= 1.5) & (radius > 0.4)


class Runaway(bs.Disc):
    """Dark beyond h = (0.6, 0), where a formula goes on that was made for what is lit: to 1e9 px."""

    def weight(self, s, h):
        return (h[:, 0] < 0.6).astype(np.float64)

    def aberration(self, s, h):
        return s * (1 + np.where(h[:, :1] < 0.6, 0, 1e9))


LENSES = {
    "gentle": Gentle(),
    "spherical": Spherical(),
    "tinted": Tinted(),
    "colours": Colours(),
    "fading": Fading(),
    "barrel": Barrel(),
    "wide": Wide(),
}
SCENES = ["three frontal", "focus on the nearest", "tilted", "crossing", "nothing behind"]
RAYS = 1000

TOLERANCE = {
    "gentle": Tolerance(inside=1.5e-3, edge=2.2e-3, edge_share=0.09, sigmas=6),
    "spherical": Tolerance(inside=3.1e-3, edge=6e-3, edge_share=0.12, sigmas=6),
    "tinted": Tolerance(inside=8e-4, edge=1.3e-3, edge_share=0.06, sigmas=6),
    "colours": Tolerance(inside=3.9e-3, edge=5.1e-3, edge_share=0.12, sigmas=6),
    "fading": Tolerance(inside=7e-4, edge=1.5e-3, edge_share=0.09, sigmas=6),
    "barrel": Tolerance(inside=5e-3, edge=7e-3, edge_share=0.02, sigmas=6),
    "wide": Tolerance(inside=1.3e-3, edge=3.5e-3, edge_share=0.08, sigmas=6),
}
"""Of `fading`, `barrel` and `wide` the sampling error of the reference's spiral of rays, which rims and corners cut.

Of the others that of kernels between nodes 16 px apart, in a picture of 61 px over which all of the field changes.
Worst seen: gentle 1.43e-3 and 2.04e-3 (1.51e-3 where nodes have kernels that are too narrow by 0.07 px squared, which
hides what is too wide between them), spherical 2.95e-3 and 5.7e-3, tinted 7.6e-4 and 1.24e-3, colours
3.75e-3 and 4.94e-3, wide 1.24e-3 inside; by rays a fifth.
"""


def test_no_pixel_of_a_tile_has_rays_farther_astray_than_the_canvas_is_made_for():
    half, rng = (7.5, 3.5), np.random.default_rng(5)
    for value, right, down in rng.normal(0, (6.0, 0.6, 0.6), (200, 3)):
        kept = within(value, right, down, half, 4.0)
        assert abs(kept[0]) + half[0] * abs(kept[1]) + half[1] * abs(kept[2]) <= 4.0 + 1e-9
        if abs(value) + half[0] * abs(right) + half[1] * abs(down) <= 4.0:
            assert kept == (value, right, down)


def test_the_dark_leads_no_light_astray():
    """Between a lit node and a dark one stands what both say."""
    table = bake_field_table(Runaway(), 61, 41, 1)
    lit = (table.values[..., DISTANCE, :] > 0) & (table.values[..., WEIGHT, :] > 0)
    assert lit.any()
    assert not lit.all()
    points = vogel_points(50)
    for x in range(61):
        found = look_up(table, points, np.full(50, float(x)), np.full(50, 20.0))[:, 0]
        passes = (found[:, DISTANCE] > 0) & (found[:, WEIGHT] > 0)
        assert np.hypot(found[passes, AX], found[passes, AY]).max(initial=0) < 1.01
    layer = bs.Layer(np.ones((61, 81, 3)), np.ones((61, 81)), bs.Plane(0.5))
    assert np.isfinite(bs.render([layer], bs.Lens(4.0, 0.2, Runaway()), 10, "cpu").bokeh).all()


@cache
def pictures(lens, name):
    scene = battery_scene(name, lights=0, smooth=5.0, aperture=LENSES[lens])
    frames = scene.render("reference", RAYS)
    return scene, (frames.bokeh * frames.coverage[..., None]).astype(np.float64)


QUICK = [
    ("gentle", "three frontal"), ("colours", "nothing behind"), ("fading", "crossing"), ("barrel", "tilted"),
    ("wide", "three frontal"),
]  # fmt: skip


@pytest.mark.parametrize(("lens", "name"), QUICK)
def test_the_cpu_is_the_reference(lens, name):
    compare(lens, name)


@pytest.mark.long
@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("lens", LENSES)
def test_the_cpu_is_the_reference_in_every_scene(lens, name):
    compare(lens, name)


def compare(lens, name):
    scene, expected = pictures(lens, name)
    frames = scene.render("cpu")
    found = (frames.bokeh * frames.coverage[..., None]).astype(np.float64)
    assert_alike(found, expected, occlusion_band(scene), TOLERANCE[lens])


def test_the_table_is_the_class():
    aperture = Colours()
    table = bake_field_table(aperture, 60, 40, channels_of(aperture))
    rng = np.random.default_rng(2)
    s, place = rng.uniform(-0.7, 0.7, (500, 2)), rng.uniform(0, 1, (500, 2)) * [59, 39]
    h = (place - [29.5, 19.5]) / (np.hypot(60, 40) / 2)
    found = look_up(table, s, *place.T)
    assert np.abs(found[..., :2] - aperture.aberration(s, h)).max() < 1e-3  # bilinear where it is bilinear: worst 2e-5
    is_open = aperture.inside(s)
    away = np.abs(found[:, 0, 3]) > 0.01
    assert ((found[:, 0, 3] > 0) == is_open)[away].all()
    assert away.mean() > 0.8


def sheets(aperture, blur, slope, light=None):
    """A frontal layer over a tilted one, 96 x 160 px, in front of the focus and behind it."""
    size, lens = (96, 160), bs.Lens(blur, 0.5, aperture)
    planes = bs.Plane(0.8), bs.Plane(0.05, slope / blur, 0.4 * slope / blur)
    margin = lens.margin(planes, size[1], size[0])
    rng, layers = np.random.default_rng(5), []
    shape = size[0] + 2 * margin, size[1] + 2 * margin
    for m, plane in enumerate(planes):
        alpha = np.full(shape, 1.0 if m else 0.0, np.float32)
        alpha[: shape[0] // 2] = 1.0
        colour = np.full((*shape, 3), light, np.float32) if light else rng.random((*shape, 3), np.float32)
        layers.append(bs.Layer(colour, alpha, plane))
    return layers, lens, margin


def test_cells_of_several_sizes_meet(monkeypatch):
    """Nodes are far apart where little changes; beside them stand others."""
    scene = sheets(Gentle(), 32.0, 0.02)
    sizes, lattice = set(), layer_lattices._lattice

    def seen(*arguments):
        found = lattice(*arguments)
        sizes.update(found.sizes.ravel().tolist())
        return found

    monkeypatch.setattr(layer_lattices, "_lattice", seen)
    found = bs.render(*scene, backend="cpu").bokeh
    assert len(sizes) > 1
    monkeypatch.setattr(layer_lattices, "ASTRAY_MOVES", (1e-9, 0.5))
    monkeypatch.setattr(layer_lattices, "ASTRAY_SHARE", (0.0, 0.3))
    even = bs.render(*scene, backend="cpu").bokeh
    assert 0 < np.abs(found - even).max() < 8e-3  # 5.6e-3, of noise from texel to texel


class Whirl(bs.Disc):
    """A spot that grows and turns with the field ever faster, so that no two nodes see alike ones."""

    def aberration(self, s, h):
        square = np.square(h).sum(axis=-1, keepdims=True)
        turned = np.stack([-s[:, 1], s[:, 0]], axis=1)
        return 9 * square * s + 14 * square**2 * turned * s[:, :1] + 30 * square * h * np.square(s).sum(1)[:, None]


def test_kernels_that_change_too_fast_for_nodes_stand_at_columns(monkeypatch):
    """They are those of single pixels, nearly, and what rays say of them."""
    scene, ways = sheets(Whirl(), 6.0, 0.01), layer_lattices._ways

    def finer(*arguments):
        found, changes = ways(*arguments)
        return found, 1000 * changes

    found = bs.render(*scene, backend="cpu")
    assert not (found.paths == RAY_TRACED).any()
    monkeypatch.setattr(layer_lattices, "_ways", finer)
    of_each = bs.render(*scene, backend="cpu").bokeh
    monkeypatch.setattr(layer_lattices, "_ways", ways)
    monkeypatch.setattr(layer_lattices, "BY_COLUMNS", node_rows.BY_RAYS)
    by_rays = bs.render(*scene, backend="cpu", samples=1024)
    assert (by_rays.paths == RAY_TRACED).mean() > 0.3
    for right, rms in (of_each, 2.5e-3), (by_rays.bokeh, 1e-2):  # of noise from texel to texel
        off = found.bokeh - right
        assert np.sqrt(np.square(off).mean()) < rms, np.sqrt(np.square(off).mean())


def test_a_tilted_layer_through_a_pupil_is_summed_along_rows(monkeypatch):
    scene = sheets(bs.CatEye(0.5), 32.0, 0.04)
    found = bs.render(*scene, backend="cpu").bokeh
    monkeypatch.setattr(node_rows, "LEANING", 0.0)
    by_texel = bs.render(*scene, backend="cpu").bokeh
    assert 0 < np.abs(found - by_texel).max() < 1e-3


def test_white_stays_white_on_a_tilted_layer_through_a_pupil():
    frames = bs.render(*sheets(bs.CatEye(0.5), 32.0, 0.046, light=1.0), backend="cpu")
    np.testing.assert_allclose(frames.bokeh, 1, atol=5e-4)


def test_kernels_of_cells_near_the_focus_are_those_of_each():
    """All cells of a strip are made at once, more than the room that is there at first."""
    opening = tables_of(Barrel()).opening
    low, high = np.array([-1.0, 0.4, 7.0, 22.0]), np.array([0.5, 2.0, 8.0, 23.0])
    tilts = np.array([[0.01, 0.0], [0.0, 0.02], [0.01, 0.01], [0.0, 0.0]])
    rims = np.random.default_rng(3).uniform(0.1, 0.4, (4, 2, 3)) + [0, 0, 0.6]
    offsets, weights, first, radii, counts = pupil_radii(opening, RadiusCells(rims, low, high, tilts), 100)
    parts = []
    for k in range(4):
        nodes = radius_nodes(low[k], high[k])
        parts.append((nodes, footprint_kernels(opening, rims[k : k + 1], nodes, *tilts[k], False, 100)))
    expected = concatenate_kernels(parts)
    np.testing.assert_array_equal(counts, [len(nodes) for nodes, _ in parts])
    assert len(offsets) > 4096
    right = expected.offsets, expected.weights, expected.first_tap, expected.nodes
    for found, each in zip((offsets, weights, first, radii), right, strict=True):
        np.testing.assert_array_equal(found, each)


class Slowing(bs.Disc):
    """A rim that moves ever more slowly, and is nowhere beyond abs(h) = 1.1."""

    def pupil(self, h):
        return 0.3 * h * np.sqrt(1.21 - np.square(h).sum(axis=-1, keepdims=True)), 1.0


def test_a_pupil_is_asked_for_within_the_corners_alone():
    """Nodes lie up to a cell outside; there rims of small pictures go straight on."""
    layers, lens, margin = sheets(Slowing(), 16.0, 0.01, light=1.0)
    np.testing.assert_allclose(bs.render(layers, lens, margin, backend="cpu").bokeh, 1, atol=2e-5)  # 7e-6
    scene = RenderInput((sheet((9, 16), 12, 0.5, 1.0, bs.Plane(0.9)),), bs.Lens(8.0, 0.5, bs.CatEye(0.8)), 12)
    x, y = np.meshgrid([-3.0, 4.0, 15.0, 24.0], [-2.0, 8.0, 20.0])
    x, y = x.ravel(), y.ravel()
    expected = 0.8 * (np.stack([x, y], axis=1) - [7.5, 4.0]) / (np.hypot(16, 9) / 2)
    np.testing.assert_allclose(pupils_at(scene, x, y)[:, 0, :2], expected, atol=1e-12)


def test_rays_come_no_farther_than_the_reach_of_their_tile():
    aperture, (width, height) = Spherical(), (320, 200)
    table = bake_field_table(aperture, width, height, 1)
    reach = FieldReach(table, 32.0)
    rng = np.random.default_rng(1)
    s = vogel_points(3000)
    x, y = rng.integers(0, width, 3000), rng.integers(0, height, 3000)
    h = (np.stack([x, y], axis=1) - (np.array([width, height]) - 1) / 2) / (np.hypot(width, height) / 2)
    for r in (-31.0, -3.0, 0.0, 0.7, 9.0):
        bounds = reach.of_tiles(*2 * [np.full((height // 8, width // 16), r)])
        came = np.hypot(*(r * s + aperture.aberration(s, h)).T)
        assert (came <= bounds[y // 8, x // 16]).all()
        assert bounds.max() < came.max() + 4  # of any use: 3.2


class Zone(bs.Disc):
    """Everything is moved outwards by up to 10 px in a ring of the picture, most between two nodes."""

    def aberration(self, s, h):
        field = np.hypot(*h.T)
        ring = 10 * np.exp(-np.square((field - 0.5134) / 0.08))
        return (ring / np.maximum(field, 1e-9))[:, None] * h


def test_rays_between_nodes_come_no_farther_than_the_reach():
    """The cubic between nodes peaks above them: 0.1 px more than nodes say was too little by 0.21."""
    width, height = 36, 24
    table = bake_field_table(Zone(), width, height, 1)
    bounds = FieldReach(table, 1.0).of_tiles(*2 * [np.zeros((3, 3))])
    beyond, grids = [], np.empty((1, 4, SIDE**2), np.float32)
    for y, x in np.ndindex(height // 2, width // 2):
        grids_at(table, float(y), float(x), grids)
        came = np.hypot(grids[0, AX], grids[0, AY])[grids[0, DISTANCE] > 0].max()
        beyond.append(came - bounds[y // 8, x // 16])
    assert -0.1 < max(beyond) <= 0  # of use as well: -0.007


def test_an_aberration_too_rough_for_the_table_is_refused():
    scene = Scene((sheet((12, 16), 20, 0.5, 1.0, bs.Plane(0.9)),), bs.Lens(6.0, 0.5, Jagged()), 20)
    with pytest.raises(UsageError, match=r"Jagged\.aberration changes too fast for the tables of cpu: off by"):
        _ = scene.render("cpu").bokeh


def test_a_traced_lens_too_rough_for_the_table_cannot_be_smoothed(monkeypatch):
    """None of the packaged ones is."""
    monkeypatch.setattr("bokehsynth.rendering.aperture.field_table._GOOD_PX", 0.0)
    monkeypatch.setattr("bokehsynth.rendering.aperture.field_table._GOOD_SHARE", 0.0)
    lens = bs.load_prescription("tessar-1903-f5.5").at(size=(24, 36), near_m=1.0)
    with pytest.raises(UsageError, match="field positions per side; stop the lens down, make the pictures smaller, or"):
        bake_field_table(lens.aperture, 36, 24, 3)


class AskedPointByPoint(PrescriptionAperture):
    """A traced lens that tables are asked for as of any class."""


def test_a_traced_lens_has_the_table_of_its_class():
    """All points of a node at once are, to the bit, what the class answers when it is asked for them."""
    lens = bs.load_prescription("tessar-1903-f5.5").at(size=(24, 36), near_m=1.0)
    asked = AskedPointByPoint(lens.aperture.table, "asked")
    found, expected = (bake_field_table(each, 36, 24, 3) for each in (lens.aperture, asked))
    assert expected.round  # found by turning rays and fields, not taken for granted
    np.testing.assert_array_equal(found.values, expected.values)


@pytest.mark.long
def test_a_fast_lens_is_not_refused_for_single_rays():
    """Rays of a Petzval type at its rim are off by 0.65 px, all together by 0.05 px rms of 11 px."""
    lens = bs.load_prescription("petzval-f1.4").at(focus_m=2.0, near_m=1.0, size=(220, 330))
    assert bake_field_table(lens.aperture, 330, 220, 3).round


class Curved(bs.Disc):
    """Curvature of field and a rim, of a fast lens in a tiny picture: tiles are a third of it, and left to rays."""

    def aberration(self, s, h):
        return 14.0 * np.square(h).sum(axis=1)[:, None] * s

    def pupil(self, h):
        return 1.1 * h, 1.0


def test_a_tile_that_is_a_large_part_of_the_picture():
    """Rays land on the canvas and see what the field is at their pixels, not what it is along the tile's slopes."""
    lens, size = bs.Lens(8.0, 0.5, Curved()), (30, 46)
    margin = lens.margin([bs.Plane(0.9)], 46, 30)
    scene = Scene((sheet(size, margin, texture(size, margin, 3, 3.0), 1.0, bs.Plane(0.9)),), lens, margin)
    frames = scene.render("cpu")
    assert (frames.paths == PATHS.index("rays")).all()
    error = np.abs(frames.bokeh - scene.render("reference", 500).bokeh)
    assert error.max() < 9e-3  # 7.8e-3; with slopes over whole tiles 0.072, and in tinier ones what memory held


def test_auto_renders_what_cuda_does_not_know(monkeypatch):
    monkeypatch.setattr("bokehsynth.rendering._best_device", lambda: "cuda")
    scene = Scene((sheet((12, 16), 16, texture((12, 16), 16, 3), 1.0, bs.Plane(0.9)),), bs.Lens(6.0, 0.5, Wide()), 16)
    assert scene.render("auto").bokeh.tobytes() == scene.render("cpu").bokeh.tobytes()
    found = bs.render_batch([scene], "auto")[0].bokeh
    assert found.tobytes() == scene.render("cpu").bokeh.tobytes()


def test_falloff_is_that_of_the_reference():
    white = sheet((24, 32), 12, 0.5, 1.0, bs.Plane(0.9))
    for aperture in (Fading(), Wide()):
        scene = Scene((white,), bs.Lens(6.0, 0.5, aperture, falloff=True), 12)
        found, expected = scene.render("cpu"), scene.render("reference", 2000)
        np.testing.assert_allclose(found.bokeh, expected.bokeh, atol=2e-3)
        np.testing.assert_allclose(found.transmission, expected.transmission, atol=4e-3)


@pytest.mark.parametrize("aperture", [bs.CatEye(0.9), Spherical()])
def test_a_picture_that_is_all_in_focus(aperture):
    """No layer has a blur radius: nothing moves, and nothing is divided by it."""
    color = np.random.default_rng(4).random((40, 48, 3), np.float32)
    layer = bs.Layer(color, np.ones((40, 48), np.float32), bs.Plane(0.5))
    lens = bs.Lens(10.0, 0.5, aperture)
    margin = lens.margin([bs.Plane(0.5)], 48, 40)
    picture = bs.render([_padded(layer, margin)], lens, margin, "cpu").bokeh
    assert picture.shape == color.shape
    assert np.isfinite(picture).all()
    if isinstance(aperture, bs.CatEye):
        np.testing.assert_array_equal(picture, color)


def _padded(layer, margin):
    sides = ((margin, margin), (margin, margin))
    return bs.Layer(
        np.pad(layer.color, (*sides, (0, 0)), mode="edge"), np.pad(layer.alpha, sides, mode="edge"), layer.disparity
    )


class Opening(bs.Aperture):
    """A disc of a radius, with an aberration of c s abs(s)^2."""

    def __init__(self, extent=1.0, astray=0.0):
        self.extent, self.astray = extent, astray

    def inside(self, s):
        return np.einsum("ij,ij->i", s, s) <= self.extent**2

    def aberration(self, s, h):
        return self.astray * s * np.einsum("ij,ij->i", s, s)[:, None]


def kernel_at(aperture, radius, half, degrees=0.0):
    """The kernel in the middle of a picture, its grid turned, [2 half + 1, 2 half + 1]."""
    table = bake_field_table(aperture, 64, 64, 1)
    grids = NodeGrids(np.empty((1, 1, 4, SIDE * SIDE), np.float32), np.empty((1, 2)), table.half)
    grids_of_row(table, 31.5, np.array([31.5]), np.array([True]), grids)
    grids.turns[0] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    out, norms = np.empty((1, 2 * half + 1, 2 * half + 1), np.float32), np.empty(1)
    splat_grids(grids, 0, (radius, 0.0, 0.0), half, out, norms)
    np.testing.assert_allclose(norms, out.sum(), rtol=1e-4)
    return out[0]


def kernel_of_blocks(aperture, radius, half, degrees=0.0):
    """`kernel_at` from moments of blocks of cells."""
    moments = moments_of(bake_field_table(aperture, 64, 64, 1))
    turn = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    out, norms = np.empty((1, 2 * half + 1, 2 * half + 1), np.float32), np.empty(1)
    splat_moments(moments, (0, 0, 0.0, 0.0, *turn), (radius, 0.0, 0.0), half, out, norms)
    np.testing.assert_allclose(norms, out.sum(), rtol=1e-4)
    return out[0]


@pytest.mark.parametrize("radius", [-12.0, -6.0, -2.0, 0.0, 1.0, 3.0, 7.0])
def test_a_kernel_of_blocks_is_that_of_its_rays(radius):
    """A block sends one ray that is as bright, as far out and as wide as all of its light; caustics too."""
    half, points = 15, vogel_points(200_000)
    x, y = (radius + 2.0 * np.square(points).sum(axis=1)) * points.T + half
    expected = np.zeros((2 * half + 1, 2 * half + 1))
    i, j = x.astype(int), y.astype(int)
    for dj, di in np.ndindex(2, 2):
        share = np.abs(1 - di - (x - i)) * np.abs(1 - dj - (y - j))
        np.add.at(expected, (j + dj, i + di), share / len(points))
    found = kernel_of_blocks(Opening(astray=2.0), radius, half, degrees=20)
    found /= found.sum()
    square = distances_from_the_middle(half) ** 2
    assert (
        abs((square * (found - expected)).sum()) < 0.003 * (square * expected).sum()
    )  # worst 0.0027; cell by cell 0.0064
    assert np.abs(found - expected).sum() / 2 < 0.0055  # worst 0.0048 of the light; cell by cell 0.0057


def test_blocks_leave_a_kernel_where_a_rim_cuts_them():
    """What is left of a block has its own middle: a pupil moves the light as the rays that pass do."""
    table = bake_field_table(Gentle(), 64, 64, 3)
    last = table.values.shape[1] - 1
    found, grids = np.empty((3, 25, 25), np.float32), table.values[0, last].astype(np.float64)
    splat_moments(moments_of(table), (0, last - 1, 0.0, 1.0, 1.0, 0.0), (5.0, 0.0, 0.0), 12, found, np.empty(3))
    line = np.linspace(-table.half, table.half, SIDE)
    share = np.clip(grids[:, DISTANCE] / (line[1] - line[0]) + 0.5, 0, 1) * grids[:, WEIGHT]
    x = (grids[:, AX] + 5.0 * np.tile(line, SIDE)) * share
    middle = (found.sum(axis=1) * np.arange(-12, 13)).sum(axis=1) / found.sum(axis=(1, 2))
    np.testing.assert_allclose(middle, x.sum(axis=1) / share.sum(axis=1), atol=6e-4)  # 4.3e-4 of 0.54


def distances_from_the_middle(half):
    line = np.arange(-half, half + 1)
    return np.hypot(line[:, None], line)


@pytest.mark.parametrize(("extent", "radius"), [(1.0, 15.0), (2.0, 15.0), (1.0, 110.0)])
def test_a_kernel_of_a_disc_has_no_holes(extent, radius):
    """Rays lie close together however far the opening reaches."""
    half = int(extent * radius) + 3
    kernel = kernel_at(Opening(extent), radius, half)
    within = kernel[distances_from_the_middle(half) < extent * radius - 3]
    assert within.std() < 1e-5 * within.mean()  # worst 1.9e-6; with one ray for every cell 0.72 and 4.5


@pytest.mark.parametrize(("degrees", "most"), [(0, 1e-5), (12, 0.0035), (30, 0.009), (45, 0.015)])
def test_the_spot_of_a_light_has_no_mesh(degrees, most):
    """Rays rarely lie a whole part of a pixel apart: bare tents left a mesh of 4 px."""
    found = []
    for radius in (8.0, 11.0, 13.0, 15.0, 16.0, 23.0):
        half = int(radius) + 3
        within = kernel_at(Opening(), radius, half, degrees)[distances_from_the_middle(half) < radius - 3]
        found.append(within.std() / within.mean())
    assert max(found) < most  # 1e-6, 0.0030, 0.0082, 0.0134; with bare tents 0.096, 0.072, 0.065, 0.132


def test_a_kernel_of_an_aberration_has_no_holes():
    """In focus rays lie where the aberration leads them: R = c s^3 has the light 1 / (3 pi c s R) of all."""
    c, half = 20.0, 23
    kernel = kernel_at(Opening(astray=c), 0.0, half)
    R = distances_from_the_middle(half)
    ring = (R > 4) & (R < 18)
    expected = 1 / (3 * np.pi * c * np.cbrt(R[ring] / c) * R[ring])
    ratio = kernel[ring] / kernel.sum() / expected
    assert abs(ratio.mean() - 1) < 0.002  # 0.0014
    assert ratio.std() < 0.02  # 0.0151; with bare tents 0.030, with one ray for every cell 0.66


@pytest.mark.parametrize("astray", [6.0, 20.0])
def test_the_peak_of_an_aberration_is_not_flattened(astray):
    """Rays between the table's points land where they do, not on the chords of the aberration."""
    kernel = kernel_at(Opening(astray=astray), 0.0, int(astray) + 3)
    s = 1.0 * vogel_points(200_000)
    shift = np.abs(astray * s * np.einsum("ij,ij->i", s, s)[:, None])
    expected = np.maximum(1 - shift, 0).prod(axis=1).mean()
    found = kernel[len(kernel) // 2, len(kernel) // 2] / kernel.sum()
    assert abs(found / expected - 1) < 0.001  # 0.0006, 0.0005; on chords 0.015, 0.033


@pytest.mark.parametrize("radius", [16.0, 32.0, 48.0])
def test_a_kernel_has_the_same_sum_however_many_rays_make_it(radius):
    """Kernels of neighbouring nodes are mixed by their sums."""
    few, many = (kernel_at(Opening(), radius + more, 52).sum() for more in (-0.2, 0.2))
    assert abs(many / few - 1) < 4e-4  # worst 2.8e-4


def test_the_motion_of_a_table_takes_less_memory_than_the_table():
    table = bake_field_table(Fading(), 24, 36, 3)
    tracemalloc.start()
    try:
        motion = motion_of(table)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < table.values.nbytes  # 0.4; of all rows at once 6
    assert np.isinf(motion.colours).any()  # of channels that pass other light none serves the others
