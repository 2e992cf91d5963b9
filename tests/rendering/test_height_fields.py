"""Height fields: closed forms, a ray tracer by hand that searches densely, and the two backends against each other.

Scenes go to the tracers directly as well as through `bs.render`, so that the height-field tracer renders planes too.
"""

import hashlib
import os
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates, maximum_filter, minimum_filter
from support.compare import Tolerance, assert_alike
from support.height_fields import BATTERY, SIZE, battery_scene, broken, canvas, hills, rolling, rugged, step
from support.scenes import Scene, centred, disc_share, matte, moments, sheet, texture

import bokehsynth as bs
from bokehsynth.errors import UsageError
from bokehsynth.optics import HeightField
from bokehsynth.rendering import PATHS, reference
from bokehsynth.rendering.aperture.lens_points import bake, transmission_map, vogel_points
from bokehsynth.rendering.aperture.tables import RaySet
from bokehsynth.rendering.cpu.height_field import smooth_tiles, tracer
from bokehsynth.rendering.cpu.height_field.intersections import (
    Crossings,
    block_bounds,
    field_range,
    intersect_height_field,
    list_crossings,
    part_ranges,
)
from bokehsynth.rendering.cuda import renderer as cuda
from bokehsynth.rendering.cuda.batch import ray_set
from bokehsynth.rendering.frames import Frames
from bokehsynth.rendering.types import Backend, RenderInput

BACKENDS = {"cpu": tracer.render_scene, "cuda": cuda.render_scene, "reference": reference.render_scene}
pytestmark = pytest.mark.kernels
backends = pytest.mark.parametrize("backend", BACKENDS)


def render_with(scene, backend, samples=None):
    """`scene.render` by a tracer of this file's choice, whatever the layers are."""
    return Frames(
        RenderInput(scene.layers, scene.lens, scene.margin), Backend(BACKENDS[backend], transmission_map), samples
    )


def render_rays_with(scene, backend, samples):
    """`render_with` without kernels: cuda sends planes the height fields' way only by brute force."""

    def brute(given, rays):
        return cuda.brute_force(given, ray_set(given, rays)) if given.lens.blur > 0 else cuda.render_scene(given, rays)

    if backend != "cuda":
        return render_with(scene, backend, samples)
    return Frames(RenderInput(scene.layers, scene.lens, scene.margin), Backend(brute, transmission_map), samples)


def light(frames):
    """Light that arrives: colour times coverage. The colour alone is a quotient of noise where coverage is near 0."""
    return frames.bokeh * frames.coverage[..., None]


# ------------------------------------------------------------------ a ray tracer by hand


def search(height, y, x, u, focus):
    """First delta, from the nearest, with d(q(delta)) - d_f >= delta: steps of 1/40 px, then bisection.

    `height` is a canvas, y and x [N] are texels, u = K*s. SciPy looks up; nothing is known about texel lines.
    """

    def inside(delta):
        where = (y + u[1] * delta, x + u[0] * delta)
        return map_coordinates(height.astype(float), where, order=1, mode="nearest") - focus >= delta

    high, low = float(height.max()) - focus, float(height.min()) - focus
    steps = 2 + int(np.hypot(*u) * (high - low) * 40)
    before, after = np.full(len(x), high + 1e-9), np.full(len(x), low)
    waits = np.ones(len(x), bool)
    for delta in np.linspace(high + 1e-9, low, steps)[1:]:
        hit = waits & inside(np.full(len(x), delta))
        after[hit] = delta
        waits &= ~hit
        before[waits] = delta
    for _ in range(45):
        middle = (before + after) / 2
        hit = inside(middle)
        before, after = np.where(hit, before, middle), np.where(hit, middle, after)
    return after


def trace_by_hand(scene, points, weights):
    """Light [H, W, 3] and coverage [H, W] in float64, ray by ray."""
    height, width = scene.size
    y, x = (a.ravel() for a in np.mgrid[:height, :width].astype(float) + scene.margin)
    K, focus = scene.lens.blur, scene.lens.focus
    total, arrived = np.zeros((3, len(x))), np.zeros((3, len(x)))
    for s, weight in zip(points, np.asarray(weights, float), strict=True):
        depths, hits = [], []
        for layer in scene.layers:
            surface = layer.disparity
            if isinstance(surface, HeightField):
                delta = search(surface.values, y, x, K * s, focus)
            else:
                cy, cx = (layer.shape[0] - 1) / 2, (layer.shape[1] - 1) / 2
                slope = np.array([surface.gx, surface.gy])
                delta = (surface.at(x - cx, y - cy) - focus) / (1 - K * slope @ s)
            where = (y + K * s[1] * delta, x + K * s[0] * delta)
            straight = np.moveaxis(layer.color.astype(float), 2, 0)
            planes = [*(straight * layer.alpha), layer.alpha.astype(float)]
            hits.append([map_coordinates(p, where, order=1, mode="nearest") for p in planes])
            depths.append(delta)
        order = np.argsort(-np.stack(depths), axis=0, kind="stable")
        through = np.ones(len(x))
        for *color, alpha in np.take_along_axis(np.array(hits), order[:, None], axis=0):
            total += weight[:, None] * through * np.array(color)
            arrived += weight[:, None] * through * alpha
            through = through * (1 - alpha)
    mean = np.asarray(weights, float).sum(axis=0)[:, None]
    return (total / mean).T.reshape(height, width, 3), (arrived / mean).mean(axis=0).reshape(height, width)


SMALL = (13, 21)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", BATTERY)
def test_pictures_are_the_definition_ray_by_ray(name, backend):
    scene = battery_scene(name, SMALL)
    table = bake(bs.Disc(), 4)
    points, weights = (vogel_points(16), np.ones((16, 3))) if backend == "reference" else (table.points, table.weights)
    expected, coverage = trace_by_hand(scene, points, weights)
    frames = render_with(scene, backend, 16)
    difference = np.abs(light(frames) - expected) / np.maximum(1, expected)
    wrong = (difference.max(axis=-1) > 2e-6) | (np.abs(frames.coverage - coverage) > 1e-6)  # worst 1.1e-6, 6e-8
    assert wrong.sum() <= (1 if name == "broken" else 0), "a touch that the search steps over, once in 4,368 rays"


def kernel_hits(height, focus, rows, columns, u):
    """delta at every pixel of a rectangle of texels, from the kernels that the tiles use."""
    relative = height - np.float32(focus)
    low, high = float(relative.min()), float(relative.max())
    most = 10 + int(1.5 * np.hypot(*u) * (high - low))
    crossings = Crossings(np.empty((1, most, 4), np.float32), np.empty((1, most, 2), np.int64), np.zeros(1, np.int64))
    list_crossings(low, high, u[0], u[1], crossings, 0)
    assert crossings.filled[0] <= most
    found = np.empty((len(rows), 1, len(columns)), np.float32)
    scratch, field = np.empty(len(columns), np.float32), (relative[None], 0)
    for row, delta in zip(rows, found, strict=True):
        intersect_height_field(field, 0, crossings, np.float32(low), row, columns[0], scratch, delta)
    return found[:, 0]


@pytest.mark.parametrize("name", ["rolling", "rugged", "broken", "wall"])
def test_every_first_hit_is_found(name):
    """Against the dense search, which steps over the shallowest touches: there the kernel's hit must be nearer."""
    K, focus = 20.0, 0.5
    height = BATTERY[name]["layers"][0]((70, 90))
    rows, columns = range(22, 48), range(22, 68)
    y, x = (a.ravel().astype(float) for a in np.meshgrid(rows, columns, indexing="ij"))
    missed = total = 0
    for s in np.vstack([vogel_points(40), [[1, 0], [0, -1], [-1, 0], [0, 0], [0.6, 0.8], [-(0.5**0.5), 0.5**0.5]]]):
        u = K * s
        found = kernel_hits(height, focus, rows, columns, u).ravel().astype(float)
        expected = search(height, y, x, u, focus)
        where = (y + u[1] * found, x + u[0] * found)
        gap = map_coordinates(height.astype(float), where, order=1) - focus - found
        away = np.hypot(*u) * (found - expected)
        assert np.abs(gap).max() < 1.5e-6, "on the field"  # float32, steep walls: worst 9.0e-7
        assert away.min() > -1e-4, "never behind the first hit"
        missed += (away > 1e-4).sum()
        total += len(found)
    assert missed <= 1e-3 * total, "touches found by the kernel and stepped over by the search"  # worst 5.5e-4


def test_the_reference_finds_what_the_kernel_finds():
    K, focus = 20.0, 0.5
    height = broken((70, 90))
    rows, columns = range(22, 48), range(22, 68)
    y, x = (a.ravel().astype(float) for a in np.meshgrid(rows, columns, indexing="ij"))
    for s in vogel_points(60):
        found = kernel_hits(height, focus, rows, columns, K * s).ravel()
        exact = reference._first_hit(HeightField(height), x - 44.5, y - 34.5, K * s, focus)
        assert np.hypot(*s) * K * np.abs(found - exact).max() < 1e-4  # px


def test_bounds_of_a_part_are_made_of_what_its_rays_may_reach():
    """And of the extremes of the whole, taken once: no part looks at all blocks."""
    K, corner, size, reach = 20.0, (136, 136), (8, 16), 11
    heights = np.full((320, 320), 0.4, np.float32)
    part = heights[corner[0] - reach : corner[0] + size[0] + reach, corner[1] - reach : corner[1] + size[1] + reach]
    part[2, 3], part[-5, 4] = 0.25, 0.5
    blocks = block_bounds(heights)
    bounds = field_range((blocks, np.float32([-2, 3])), K, corner, size)
    assert bounds == (0.25, 0.5, 10.0)
    blocks[:, :8] = blocks[:, -8:] = blocks[:, :, :8] = blocks[:, :, -8:] = np.nan  # 64 texels from each border
    assert field_range((blocks, np.float32([-2, 3])), K, corner, size) == bounds
    ranges = part_ranges(block_bounds(heights), K, np.array([corner, (0, 0)]), np.array([size, (8, 5)]))
    assert ranges.tolist() == [[0.25, 0.5, 10.0], [np.float32(0.4), np.float32(0.4), K * np.float32(0.4)]]


# ------------------------------------------------------------------ fields that are planes


@backends
@pytest.mark.parametrize("K", [0.0, 0.3, 7.0, 18.0])
def test_a_constant_field_is_a_plane(backend, K):
    """To the bit: disparities that float32 holds exactly."""
    color, alpha = texture(SIZE, 12, 1, lights=3), matte(SIZE, 12, 2)
    levels = (0.8125, 0.25)

    def scene(surface):
        layers = tuple(bs.Layer(color, a, surface(d)) for a, d in zip((alpha, alpha * 0 + 1), levels, strict=True))
        return Scene(layers, bs.Lens(K, 0.5), 12)

    plane = render_rays_with(scene(bs.Plane), backend, 100)
    field = render_with(scene(lambda d: np.full(alpha.shape, d, np.float32)), backend, 100)
    for name in ("bokeh", "all_in_focus", "coverage", "disparity", "defocus"):
        assert getattr(plane, name).tobytes() == getattr(field, name).tobytes(), name


@backends
def test_a_linear_field_is_a_tilted_plane(backend):
    """Bilinear interpolation of a linear function is that function: equal hits."""
    gx, gy, margin, lens = 2.0**-9, -(2.0**-7), 22, bs.Lens(30.0, 0.5)  # float32 holds every texel exactly
    plane = bs.Plane(0.5, gx, gy)
    color = texture(SIZE, margin, 1, lights=3)
    y, x = np.mgrid[: color.shape[0], : color.shape[1]]
    field = plane.at(x - (color.shape[1] - 1) / 2, y - (color.shape[0] - 1) / 2).astype(np.float32)
    flat, bumpy = (
        render_rays_with(Scene((sheet(SIZE, margin, color, 1.0, surface),), lens, margin), backend, 64)
        if isinstance(surface, bs.Plane)
        else render_with(Scene((bs.Layer(color, np.ones_like(field), surface),), lens, margin), backend, 64)
        for surface in (plane, field)
    )
    tolerance = {"cpu": 2e-5, "cuda": 2e-5, "reference": 2e-6}[backend]  # of lights of 20
    np.testing.assert_allclose(bumpy.bokeh, flat.bokeh, rtol=0, atol=tolerance)
    assert bumpy.defocus.tobytes() == flat.defocus.tobytes()


# ------------------------------------------------------------------ closed forms


@backends
def test_maps_of_a_field_are_its_texels(backend):
    scene = battery_scene("rugged")
    frames = render_with(scene, backend, 4)
    texels = scene.layers[0].disparity.values[scene.margin : -scene.margin, scene.margin : -scene.margin]
    assert frames.disparity.tobytes() == texels.tobytes()
    np.testing.assert_allclose(frames.defocus, 14 * np.abs(texels - 0.5), rtol=1e-5, atol=1e-6)


def test_a_field_passes_behind_and_before_a_plane_in_the_maps():
    scene = battery_scene("standing on the ground")
    inner = np.s_[scene.margin : -scene.margin, scene.margin : -scene.margin]
    alpha, values = scene.layers[0].alpha[inner], scene.layers[1].disparity.values[inner]
    expected = np.where((alpha >= 0.5) & (values <= 0.5), 0.5, values)
    assert np.array_equal(render_with(scene, "cpu").disparity, expected.astype(np.float32))


@backends
@pytest.mark.parametrize("at", [(35, 14), *(pytest.param(at, marks=pytest.mark.long) for at in [(14, 10), (42, 18)])])
def test_a_point_light_on_a_smooth_hill_draws_a_disc(backend, at):
    """Radius K*abs(delta(q)) about q, brightness linear, sum 1, centroid shifted by g*R^2/(4*delta), as on a plane.

    The hits of p have density |ds/dq| = (1 - (q-p).g/delta) / (pi K^2 delta^2) at q, g the gradient there: the image
    of a point knows the field at this point only. A texel is a tent: squares grow by 1/6.
    """
    size, margin, lens = (30, 56), 16, bs.Lens(20.0, 0.2)
    y, x = np.mgrid[: size[0] + 2 * margin, : size[1] + 2 * margin] - float(margin)
    height = 0.6 + 0.15 * np.sin(x / 25) * np.cos(y / 30)
    color = np.zeros((*height.shape, 3), np.float32)
    color[at[1] + margin, at[0] + margin] = 100
    scene = Scene((bs.Layer(color, np.ones(height.shape), height),), lens, margin)
    image = render_with(scene, backend, {"cpu": 10_000, "cuda": 10_000, "reference": 1500}[backend]).bokeh[..., 0]
    delta = 0.6 + 0.15 * np.sin(at[0] / 25) * np.cos(at[1] / 30) - 0.2
    slope = 0.15 / 25 * np.cos(at[0] / 25) * np.cos(at[1] / 30), -0.15 / 30 * np.sin(at[0] / 25) * np.sin(at[1] / 30)
    radius = 20 * delta
    distance = np.hypot(*np.meshgrid(np.arange(size[1]) - at[0], np.arange(size[0]) - at[1]))
    assert (image[distance > radius + 1.5] == 0).all()
    assert (image[distance < radius - 1.5] > 0).all()
    total, mean, square = moments(image, at)
    assert total == pytest.approx(100, rel=4e-3)
    assert mean == pytest.approx([g * radius**2 / (4 * delta) for g in slope], abs=0.03)
    assert sum(square) == pytest.approx(radius**2 / 2 + 1 / 3, rel=0.02)


def over_the_disc(value, pieces=4000):
    """Mean of value(sx) over the unit disc, by the midpoint rule on its chords."""
    sx = (np.arange(pieces) + 0.5) / pieces * 2 - 1
    return (2 / np.pi * np.sqrt(1 - sx * sx) * value(sx)).sum() * 2 / pieces


@backends
def test_a_blurred_step_before_a_sharp_ground_is_a_wall_of_rubber(backend):
    """White from column `edge` on at delta = R/K, black before it in focus; between edge - 1 and edge both rise.

    A black pixel sees white where the ray passes the edge on the high side, sx*R > edge - x, and nothing of the wall,
    which it would meet later. From a white pixel, rays that start left of the edge meet the wall where
    x + sx*R*t = edge - 1 + t, and see its colour t.
    """
    edge, K, margin = 30, 16.0, 14
    shape = canvas((4, 60), margin)
    height = step(shape, edge + margin, 0.25, 0.875)
    color = np.broadcast_to(step(shape, edge + margin, 0, 1)[..., None], (*shape, 3))
    scene = Scene((bs.Layer(color, np.ones(shape), height),), bs.Lens(K, 0.25), margin)
    image = render_with(scene, backend, {"cpu": 12_000, "cuda": 12_000, "reference": 4000}[backend]).bokeh
    R = K * 0.625

    def seen(x):
        if x < edge:
            return 1 - disc_share((edge - x) / R)
        return over_the_disc(lambda sx: np.where(x + sx * R > edge, 1, (x - edge + 1) / (1 - np.minimum(sx, 0) * R)))

    expected = np.array([seen(x) for x in range(60)])
    np.testing.assert_allclose(image, np.broadcast_to(expected[None, :, None], image.shape), atol=4e-3)


def test_a_near_part_in_focus_keeps_its_edge():
    """The far part is blurred, but only to itself: nothing bleeds over the edge, to the bit."""
    edge, margin = 70, 12
    shape = canvas(SIZE, margin)
    height = step(shape, edge + margin, 0.1, 0.7)
    color = texture(SIZE, margin, 3, smooth=1.0, lights=4)
    frames = render_with(Scene((bs.Layer(color, np.ones(shape), height),), bs.Lens(15.0, 0.7), margin), "cpu", 900)
    assert frames.bokeh[:, edge:].tobytes() == frames.all_in_focus[:, edge:].tobytes()
    assert (frames.bokeh[:, :edge] != frames.all_in_focus[:, :edge]).any(axis=-1).all()
    flat = sheet(SIZE, margin, color, 1.0, bs.Plane(0.1))
    alone = render_with(Scene((flat,), bs.Lens(15.0, 0.7), margin), "cpu", 900)
    clear = edge - 1 - 10  # 9 px of blur and a texel: no ray comes to the wall
    np.testing.assert_allclose(frames.bokeh[:, :clear], alone.bokeh[:, :clear], rtol=2e-6, atol=2e-6)


# ------------------------------------------------------------------ order and focus


@backends
@pytest.mark.parametrize("first", ["plane", "field"])
def test_ties_on_level_ground_keep_the_order_given(backend, first):
    """A table-land as near as an opaque plane: whichever comes first is seen, by every ray."""
    margin, level = 14, 0.7  # not a float32: the plane is as near as the field, not the field as the plane
    shape = canvas(SIZE, margin)
    height = hills(shape, 4, 6, 0.2, 0.6)
    height[:, 40:140] = level
    plane = sheet(SIZE, margin, (1, 0, 0), 1.0, bs.Plane(float(np.float32(level))))
    field = bs.Layer(np.broadcast_to(np.float32([0, 1, 0]), (*shape, 3)), np.ones(shape), height)
    layers = (plane, field) if first == "plane" else (field, plane)
    image = render_with(Scene(layers, bs.Lens(20.0, 0.1), margin), backend, 100).bokeh
    level_only = image[:, 40 - margin + 13 : 140 - margin - 13]
    assert level_only.shape[1] > 70
    seen = np.broadcast_to([first == "plane", first == "field", 0], level_only.shape)
    # a kernel's weights and a hundred rays' each sum up to 1 in float32: worst 3.0e-7 (cuda)
    np.testing.assert_allclose(level_only, seen, rtol=4e-7 if backend == "cuda" else 1e-7)


@pytest.mark.parametrize("veiled", [False, True])
@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_what_is_in_focus_keeps_its_bits(backend, veiled):
    """A flat patch at the focus inside hills behind it, also under a soft layer in focus; a soft cut-out elsewhere."""
    margin, focus = 13, 0.6  # not a float32
    shape = canvas(SIZE, margin)
    veil = bs.Layer(texture(SIZE, margin, 7), texture(SIZE, margin, 8)[..., 0] * 0.7 + 0.1, bs.Plane(focus))
    in_front = (veil,) if veiled else ()
    height = hills(shape, 4, 6, 0.2, 0.55)
    height[:, 60:110] = focus
    cutout = matte(SIZE, margin, 2) * (np.arange(shape[1]) < 50)
    layers = (
        bs.Layer(texture(SIZE, margin, 5, lights=3), cutout, bs.Plane(0.9)),
        *in_front,
        bs.Layer(texture(SIZE, margin, 6, lights=3), np.ones(shape), height),
    )
    frames = render_with(Scene(layers, bs.Lens(20.0, focus), margin), backend)
    left, right = max(60, 50 + 7) - margin + 1, 110 - margin
    assert frames.bokeh[:, left:right].tobytes() == frames.all_in_focus[:, left:right].tobytes()
    assert (frames.bokeh[:, right + 1 :] != frames.all_in_focus[:, right + 1 :]).any(axis=-1).mean() > 0.95


@pytest.mark.parametrize("name", BATTERY)
def test_without_blur_both_pictures_are_one(name):
    scene = battery_scene(name)
    pinhole = Scene(scene.layers, bs.Lens(0.0, scene.lens.focus), scene.margin)
    frames = render_with(pinhole, "cpu")
    assert frames.bokeh.tobytes() == frames.all_in_focus.tobytes()
    assert frames.bokeh.tobytes() == render_with(scene, "cpu").all_in_focus.tobytes()
    expected = render_with(pinhole, "reference")
    np.testing.assert_allclose(light(frames), light(expected), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(frames.coverage, expected.coverage, atol=1e-6)


# ------------------------------------------------------------------ properties


class Warm(bs.Polygon):
    """A pentagon whose tint varies over the opening and that lets no blue through."""

    def __init__(self):
        super().__init__(5, 0.3)

    def weight(self, s):
        return np.stack([1 + 0.4 * s[:, 0], 0.5 + 0.3 * s[:, 1], 0 * s[:, 0]], axis=1)


@backends
@pytest.mark.parametrize("name", BATTERY)
def test_one_colour_stays_that_colour(name, backend):
    scene = battery_scene(name)
    color = np.broadcast_to(np.float32([0.37, 3.7, 0.0]), scene.layers[0].color.shape)
    layers = tuple(bs.Layer(color, layer.alpha, layer.disparity) for layer in scene.layers)
    frames = render_with(Scene(layers, scene.lens, scene.margin), backend, 9 if backend == "reference" else None)
    covered = frames.coverage > 0.1  # below, the quotient of two small numbers loses digits
    assert covered.mean() > 0.1
    expected = np.broadcast_to(np.float32([0.37, 3.7, 0.0]), frames.bokeh.shape)
    np.testing.assert_allclose(frames.bokeh[covered], expected[covered], rtol=3e-6)
    if name != "two fields":
        assert (frames.coverage == 1).all(), "an opaque bottom stops every ray, counted exactly"


def test_twice_the_light_is_twice_the_picture():
    scene = battery_scene("hills through planes")
    doubled = tuple(bs.Layer(2 * layer.color, layer.alpha, layer.disparity) for layer in scene.layers)
    once, twice = (render_with(Scene(s, scene.lens, scene.margin), "cpu").bokeh for s in (scene.layers, doubled))
    assert (2 * once).tobytes() == twice.tobytes()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_empty_layer_changes_nothing(place):
    scene = battery_scene("two fields")
    empty = bs.Layer(scene.layers[0].color, 0 * scene.layers[0].alpha, rugged(scene.layers[0].shape))
    layers = (*scene.layers[:place], empty, *scene.layers[place:])
    assert (
        render_with(Scene(layers, scene.lens, scene.margin), "cpu").bokeh.tobytes()
        == render_with(scene, "cpu").bokeh.tobytes()
    )


def test_a_mirrored_scene_gives_a_mirrored_picture():
    scene = battery_scene("rugged")
    (layer,) = scene.layers
    turned = bs.Layer(layer.color[:, ::-1], layer.alpha[:, ::-1], layer.disparity.values[:, ::-1])
    left, right = (render_with(Scene((a,), scene.lens, scene.margin), "cpu").bokeh for a in (layer, turned))
    difference = np.abs(left - right[:, ::-1]) / np.maximum(1, left)
    assert difference.max() < 1e-3  # rays that only touch the field: one of 1,296 goes the other way, in 18 pixels
    assert np.median(difference) < 1e-6  # worst 2e-7


@pytest.mark.parametrize("aperture", [bs.Ring(0.5), Warm()], ids=["ring", "warm pentagon"])
def test_apertures_are_those_of_the_reference(aperture):
    scene = battery_scene("cut-out over hills", SMALL, aperture)
    table = bake(aperture, 6)
    expected, coverage = trace_by_hand(scene, table.points, np.maximum(table.weights, 1e-30))
    frames = render_with(scene, "cpu", len(table.points))
    lit = table.weights.sum(axis=0) > 0
    assert (frames.bokeh[..., ~lit] == 0).all()
    difference = np.abs(light(frames) - expected) / np.maximum(1, expected)
    assert difference[..., lit].max() < 2e-6
    assert np.abs(frames.coverage - coverage).max() < 1e-6


def test_a_picture_of_one_pixel():
    height = broken((21, 21))
    layer = bs.Layer(texture((1, 1), 10, 1), np.ones((21, 21)), height)
    scene = Scene((layer,), bs.Lens(9.0, 0.5), 10)
    expected, _ = trace_by_hand(scene, bake(bs.Disc(), 8).points, np.ones((64, 3)))
    np.testing.assert_allclose(render_with(scene, "cpu", 64).bokeh, expected, rtol=2e-6)


# ------------------------------------------------------------------ two tracers, other rays


def band(scene):
    """Pixels [H, W] whose footprint sees an edge: of a matte, of the order of layers, or of a field that folds.

    Where K*|gradient| nears 1 a field hides parts of itself, and neighbouring rays land far apart.
    """
    K, m = scene.lens.blur, scene.margin
    side = 2 * int(np.ceil(max(scene.lens.reach(layer.disparity, *scene.size[::-1]) for layer in scene.layers)) + 1) + 1
    edges = np.zeros(scene.layers[0].shape, bool)
    y, x = np.indices(edges.shape)
    maps = []
    for layer in scene.layers:
        d = layer.disparity.at(x - (edges.shape[1] - 1) / 2, y - (edges.shape[0] - 1) / 2)
        edges |= maximum_filter(layer.alpha, 3) > minimum_filter(layer.alpha, 3)
        edges |= K * np.hypot(*np.gradient(d)) > 0.5
        maps.append((minimum_filter(d, side), maximum_filter(d, side), layer.alpha.max() > 0))
    result = maximum_filter(edges, side)
    for i, (low, high, _) in enumerate(maps):
        for other_low, other_high, _ in maps[:i]:
            result |= (low <= other_high) & (other_low <= high)
    return result[m : m + scene.size[0], m : m + scene.size[1]]


@cache
def smooth_scene(name):
    """A scene that two sets of rays can agree on, and its reference render."""
    scene = battery_scene(name, lights=0, smooth=5.0)
    return scene, light(render_with(scene, "reference", 500))


OTHER_RAYS = Tolerance(inside=6.5e-4, edge=3e-3, edge_share=0.2, sigmas=4.0)


@pytest.mark.parametrize(("backend", "samples"), [("cpu", 4000), ("cpu", None), ("cuda", None)])
@pytest.mark.parametrize("name", ["rolling", "wall", "cut-out over hills"])
def test_cpu_and_reference_agree_with_other_rays(name, backend, samples):
    scene, expected = smooth_scene(name)
    edges = band(scene)
    assert edges.mean() < 0.7
    assert_alike(light(render_with(scene, backend, samples)), expected, edges, OTHER_RAYS)


@pytest.mark.parametrize("name", BATTERY)
def test_cuda_is_cpu_with_the_same_rays(name):
    """Wherever it traces rays: only float32 sums differ, worst 2.3e-7."""
    scene = battery_scene(name)
    ours, theirs = (render_with(scene, backend, 100) for backend in ("cuda", "cpu"))
    traced = np.repeat(np.repeat(ours.paths == PATHS.index("rays"), 8, axis=0), 16, axis=1)[: SIZE[0], : SIZE[1]]
    assert traced.mean() > 0.25
    difference = np.abs(light(ours) - light(theirs)) / np.maximum(1, light(theirs))
    assert difference[traced].max() < 4e-7
    assert np.abs(ours.coverage - theirs.coverage)[traced].max() < 4e-7


@pytest.mark.parametrize("name", ["rolling", "wall", "hills through planes", "two fields"])
def test_cuda_renders_fields_through_a_pupil(name):
    """The cpu refuses these scenes. By the reference's own rays it is the reference; tiles leave nothing out."""
    scene = battery_scene(name, SMALL, bs.CatEye(0.7))
    render_input = RenderInput(scene.layers, scene.lens, scene.margin)
    points, _ = reference._lens_points(render_input, 40)
    made = cuda.brute_force(
        render_input, RaySet(points, np.ones((1, len(points)), np.float32), np.array([[0, len(points)]]))
    )
    expected = render_with(scene, "reference", 40)
    difference = np.abs(made.color * made.coverage[..., None] - light(expected)) / np.maximum(1, light(expected))
    assert difference.max() < 8e-7  # worst 6.6e-7
    assert np.abs(made.coverage - expected.coverage).max() < 4e-7
    frames, made = render_with(scene, "cuda", 100), cuda.brute_force(render_input, ray_set(render_input, 100))
    np.testing.assert_allclose(light(frames), made.color * made.coverage[..., None], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["rugged", "broken", "two fields", "standing on the ground"])
def test_the_error_shrinks_as_samples_grow(name):
    """Where the whole picture is edges there is no inside to compare: both tracers go to one limit."""
    scene = battery_scene(name, SMALL)
    limit = light(render_with(scene, "cpu", 20_000))

    def error(backend, samples):
        return np.sqrt(np.square(light(render_with(scene, backend, samples)) - limit).mean())

    errors = [error("cpu", n) for n in (16, 64, 256, 1024)]
    assert all(finer < 0.65 * coarser for coarser, finer in pairwise(errors)), errors
    assert error("reference", 1024) < error("reference", 64) / 2.5


def raised(shape):
    """Smooth hills, all of them far before the focus."""
    return hills(shape, 5, 14, 0.7, 1.0)


def mixed(shape):
    """Smooth hills out of focus, a wall in them, and a valley that comes to the focus."""
    height = hills(shape, 5, 14, 0.72, 1.0)
    height[:, 120:] -= 0.25
    return height


@pytest.mark.parametrize(("shape", "scattered"), [(raised, 0.9), (mixed, 0.3), (BATTERY["wall"]["layers"][0], 0)])
def test_texels_draw_discs_only_where_that_is_what_rays_see(shape, scattered):
    """Against 16,000 rays, lights of 20 included; steep parts and all that they may hide are left to rays."""
    margin, lens = 24, bs.Lens(20.0, 0.1)
    color, height = texture(SIZE, margin, 6, smooth=1.0, lights=6), np.ascontiguousarray(shape(canvas(SIZE, margin)))
    scene = Scene((bs.Layer(color, np.ones(height.shape), height),), lens, margin)
    rough = np.zeros((-(-SIZE[0] // 8), -(-SIZE[1] // 16)), bool)
    layer = scene.layers[0].packed, scene.layers[0].disparity.values - np.float32(0.1)
    smooth_tiles.mark_rough(layer, 20.0, margin, (8, 16), rough)
    assert scattered <= 1 - rough.mean() <= scattered + 0.5
    expected = light(render_with(scene, "cpu", 16_000))
    off = light(render_with(scene, "cpu")) - expected
    discs = off[~np.repeat(np.repeat(rough, 8, axis=0), 16, axis=1)[: SIZE[0], : SIZE[1]]]
    assert np.sqrt(np.square(off).mean()) < 9e-4  # worst 7.1e-4, of the rays; 2,116 rays everywhere: 7.8e-4
    assert np.sqrt(np.square(discs).mean()) < 2.2e-4  # worst 1.7e-4
    assert np.abs(discs).max() < 4e-3  # worst 3.2e-3


# (h(q-1) - 2h(q) + h(q+1)) K in px: 1.48, 1.48, up to 2; then 0.3, 0.24 (two levels of a map of 8 bits)
BENT = {
    "columns": lambda y, x: 0.74 * (x % 2),
    "rows": lambda y, x: 0.74 * (y % 2),
    "noise": lambda y, x: np.random.default_rng(2).uniform(0, 0.5, x.shape),
}
NEARLY_SMOOTH = {
    "stairs": lambda y, x: 0.29 * (x // 6),
    "levels": lambda y, x: 0.12 * np.random.default_rng(2).integers(0, 2, x.shape),
}


@pytest.mark.parametrize("name", [*BENT, *NEARLY_SMOOTH])
def test_texels_of_a_field_that_bends_from_texel_to_texel_draw_no_discs(name):
    """Their central slope is small or 0: discs of columns would be off by 5.6e-3 rms."""
    margin, K = 20, 20.0
    shape = canvas((16, 32), margin)
    heights = (0.5 + {**BENT, **NEARLY_SMOOTH}[name](*np.indices(shape)) / K).astype(np.float32)
    rough = np.zeros((2, 2), bool)
    smooth_tiles.mark_rough((np.ones((4, *shape), np.float32), heights), K, margin, (8, 16), rough)
    assert rough.all() if name in BENT else not rough.any()
    color = texture((16, 32), margin, 6)
    color[shape[0] // 2, shape[1] // 2] = 20
    scene = Scene((bs.Layer(color, np.ones(shape), heights),), bs.Lens(K, 0.0), margin)
    off = light(render_with(scene, "cpu")) - light(render_with(scene, "cpu", 8000))
    assert np.sqrt(np.square(off).mean()) < 2e-3  # worst 1.8e-3, of the rays; 1.0e-3 of the discs


@pytest.mark.parametrize(("radius", "limit"), [(4.0, 5e-4), (5.3, 7.5e-4), (8.0, 2e-4)])
def test_small_discs_of_a_level_field_are_those_of_rays(radius, limit):
    """As docs/optics.md says, with a lamp of 20: worst 4.1e-4, 6.2e-4, 1.5e-4."""
    margin, K = 14, 10.0
    color = texture((32, 32), margin, 1)
    color[margin + 16, margin + 16] = 20
    shape = color.shape[:2]
    layer = bs.Layer(color, np.ones(shape), np.full(shape, radius / K, np.float32))
    scene = Scene((layer,), bs.Lens(K, 0.0), margin)
    off = light(render_with(scene, "cpu")) - light(render_with(scene, "cpu", 16_000))
    assert np.sqrt(np.square(off).mean()) < limit


@pytest.mark.parametrize("lamp", [250, 6e4])
def test_the_light_of_a_lamp_ends_where_its_discs_end(lamp):
    """Sums along a row keep what the ends of discs leave: brighter lamps are rays."""
    size, margin, K = (16, 600), 22, 20.0
    shape = canvas(size, margin)
    color = np.full((*shape, 3), 0.02, np.float32)
    color[margin + 4 : margin + 10, margin + 40 : margin + 46] = lamp
    heights = np.broadcast_to(np.linspace(0.35, 0.95, shape[1], dtype=np.float32), shape)
    scene = Scene((bs.Layer(color, np.ones(shape), np.ascontiguousarray(heights)),), bs.Lens(K, 0.0), margin)
    found = render_with(scene, "cpu").bokeh
    assert found[:, 40:46].max() > lamp / 50
    assert np.abs(found[:, 80:] - np.float32(0.02)).max() < 1.5e-5  # worst 1.2e-5; 6e4 as discs: 3.6e-3


# ------------------------------------------------------------------ bytes


DIGEST = """
import hashlib, sys
sys.path[:0] = {tests!r}
from test_height_fields import digest
print(digest())
"""


def digest():
    """Of three pictures of several tiles."""
    found = hashlib.sha256()
    for name in ("rolling", "wall", "hills through planes"):
        found.update(render_with(battery_scene(name), "cpu", 200).bokeh.tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_does_not_show(threads):
    done = subprocess.run(
        [sys.executable, "-c", DIGEST.format(tests=[str(Path(__file__).parent), *sys.path])],
        env={**os.environ, "NUMBA_NUM_THREADS": str(threads)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest()


# ------------------------------------------------------------------ dispatch


def test_render_sends_height_fields_to_their_tracer():
    scene = battery_scene("hills through planes")
    assert scene.render("cpu", 100).bokeh.tobytes() == render_with(scene, "cpu", 100).bokeh.tobytes()
    assert scene.render("reference", 9).bokeh.tobytes() == render_with(scene, "reference", 9).bokeh.tobytes()


def test_a_layer_keeps_an_array_as_a_height_field():
    values = rolling((20, 24)).astype(np.float64)
    layer = bs.Layer(np.ones((20, 24, 3)), np.ones((20, 24)), values)
    assert isinstance(layer.disparity, HeightField)
    assert layer.disparity.values.dtype == np.float32
    assert bs.Layer(layer.color, layer.alpha, layer.disparity).disparity is layer.disparity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d[1:], r"canvas's shape \(20, 24\).*\(19, 24\)"),
        (lambda d: d[..., None], r"float array \[H, W\], got float32 \(20, 24, 1\)"),
        (lambda d: (d * 255).astype(np.uint8), r"float array \[H, W\], got uint8"),
        (lambda d: np.where(d > d.mean(), np.nan, d), "NaN or infinite"),
        (lambda d: np.where(d > d.mean(), np.inf, d), "NaN or infinite"),
        (lambda d: d[:0], r"\(0, 24\)"),
        (lambda d: d.tolist(), "Plane or a height field.*got list"),
    ],
)
def test_a_field_that_cannot_be_is_refused(change, message):
    with pytest.raises(UsageError, match=message):
        bs.Layer(np.ones((20, 24, 3)), np.ones((20, 24)), change(rolling((20, 24))))


def test_a_margin_that_rays_would_leave_is_refused():
    height = np.full((30, 40), 0.9, np.float32)
    layer = bs.Layer(np.ones((30, 40, 3)), np.ones((30, 40)), height)
    with pytest.raises(UsageError, match=r"margin 9 px is too small.*margin >= 10"):
        bs.render([layer], bs.Lens(20.0, 0.5), 9, "reference")
    assert bs.render([layer], bs.Lens(20.0, 0.5), 10, "reference", 1).bokeh.shape == (10, 20, 3)


def test_an_opening_that_changes_over_the_picture_needs_the_reference():
    scene = battery_scene("rolling", SMALL, bs.CatEye(0.5))
    with pytest.raises(UsageError, match=r"CatEye.*reference"):
        render_with(scene, "cpu", 9).bokeh  # noqa: B018
    assert render_with(scene, "reference", 9).bokeh.shape == (*SMALL, 3)


# ------------------------------------------------------------------ the lens and the field


def test_a_field_between_its_texels():
    field = HeightField(np.array([[0.0, 1.0], [0.5, 0.25]], np.float32))
    assert field.range == (0.0, 1.0)
    assert field.at(-0.5, -0.5) == 0
    assert field.at(0.0, 0.0) == pytest.approx(0.4375)
    assert field.at(0.25, -0.5) == pytest.approx(0.75)
    np.testing.assert_allclose(field.at(np.array([[-9.0, 9.0]]), np.array([[-9.0], [9.0]])), [[0, 1], [0.5, 0.25]])


def test_reach_and_margin_of_a_field():
    """The radius is asked over the picture, the reach over the canvas that rays may come to."""
    values = np.full((30, 40), 0.5, np.float32)
    values[0, 0], values[10, 10] = 1.0, 0.25
    field, lens = HeightField(values), bs.Lens(20.0, 0.5)
    assert lens.reach(field, 30, 20) == pytest.approx(10)
    assert lens.radius_max(field, 30, 20) == pytest.approx(5)
    assert lens.margin([field, bs.Plane(0.6)], 30, 20) == 12
    assert centred((30, 40), (0, 0)) == (-19.5, -14.5)
    assert field.extremes(30, 20) == (0.25, 0.5)
