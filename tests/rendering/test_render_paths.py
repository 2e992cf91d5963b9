"""The path of every tile (`Frames.paths`): rays only where layers vary together, and no path shows in the picture."""

import numpy as np
import pytest
from support.rays_only import trace_grid
from support.scenes import BATTERY, TINTS, Scene, battery_scene, enough, matte, sheet, texture

import bokehsynth as bs
from bokehsynth.rendering import PATHS
from bokehsynth.rendering.tile_constants import CONTROL_VARIATE, COPY, DIRECT, PREFIX_SUM, RAY_TRACED, TILE_H, TILE_W


def per_pixel(paths, size):
    """The path of every pixel, [H, W]."""
    return np.repeat(np.repeat(paths, TILE_H, axis=0), TILE_W, axis=1)[: size[0], : size[1]]


def large_scene(name, scale=6, lights=0):
    """A scene of the battery `scale` times as large with twice its blur: planes keep their range of disparity."""
    recipe = BATTERY[name]
    size = tuple(scale * n for n in recipe.get("size", (45, 61)))
    planes = [bs.Plane(d, *(g / scale for g in tilt)) for d, *tilt in recipe["planes"]]
    lens = bs.Lens(2 * recipe["K"], recipe["focus"])
    margin = enough(planes, lens, size)
    layers = []
    for i, plane in enumerate(planes):
        closed = i == len(planes) - 1 and not recipe.get("open_bottom")
        color = TINTS[i % 4] * texture(size, margin, i, 4.0, lights)
        layers.append(sheet(size, margin, color, 1.0 if closed else matte(size, margin, 50 + i), plane))
    return Scene(tuple(layers), lens, margin)


def test_names_and_shape():
    assert tuple(range(5)) == (COPY, DIRECT, PREFIX_SUM, CONTROL_VARIATE, RAY_TRACED)
    frames = battery_scene("crossing").render()
    assert PATHS == ("copy", "taps", "runs", "together", "rays")
    assert frames.paths.dtype == np.uint8
    assert frames.paths.shape == (-(-45 // TILE_H), -(-61 // TILE_W)) == (6, 4)
    assert frames.paths.max() < len(PATHS)
    assert battery_scene("crossing").render("reference", 4).paths is None


# ------------------------------------------------------------------ pure tiles

LARGE = (512, 512)
PURE = {
    "one layer across the focus": [(0.5, 8e-4, 3e-4)],
    "one layer before": [(0.9, 5e-4, -2e-4)],
    "one layer behind": [(0.1, -1e-4, 2e-4)],
    "one frontal layer": [(0.9,)],
    "a subject in focus": [(0.5,), (0.15, 1.6e-4, 2.4e-4)],
    "two subjects in focus": [(0.5,), (0.5,), (0.15, 2.4e-4, 0.0)],
    "in front of a backdrop in focus": [(0.9, 2e-4, 1e-4), (0.5,)],
}


@pytest.mark.parametrize("K", [2.0, 32.0])
@pytest.mark.parametrize("name", PURE)
def test_single_blurred_layers_need_no_rays(name, K):
    planes, lens = [bs.Plane(*numbers) for numbers in PURE[name]], bs.Lens(K, 0.5)
    margin = enough(planes, lens, LARGE)
    layers = []
    for i, plane in enumerate(planes):
        alpha = matte(LARGE, margin, i) if i < len(planes) - 1 else 1.0
        layers.append(sheet(LARGE, margin, TINTS[i], alpha, plane))
    paths = Scene(tuple(layers), lens, margin).render().paths
    assert set(np.unique(paths)) <= {COPY, DIRECT, PREFIX_SUM}
    assert (paths != COPY).any()


@pytest.mark.parametrize("name", BATTERY)
def test_most_tiles_of_the_battery_need_no_rays(name):
    paths = large_scene(name).render().paths
    assert (paths >= CONTROL_VARIATE).mean() < 0.6  # largest 0.29, "same disparity"


@pytest.mark.parametrize("focus", [0.9, 0.55, 0.15])
@pytest.mark.parametrize("K", [8.0, 32.0])
def test_most_tiles_of_soft_mattes_before_a_tilted_background_need_no_rays(K, focus):
    size, planes = (384, 384), [bs.Plane(0.9), bs.Plane(0.55), bs.Plane(0.15, 2.1e-4, 3.2e-4)]
    lens = bs.Lens(K, focus)
    margin = enough(planes, lens, size)
    alphas = [matte(size, margin, 3), matte(size, margin, 4), 1.0]
    layers = [sheet(size, margin, TINTS[i], alphas[i], plane) for i, plane in enumerate(planes)]
    paths = Scene(tuple(layers), lens, margin).render().paths
    assert (paths >= CONTROL_VARIATE).mean() < 0.6  # largest 0.30, blur 32 and focus on the background
    assert not (paths == RAY_TRACED).any(), "these planes never change order"


# ------------------------------------------------------------------ no path shows


@pytest.mark.parametrize("name", ["three frontal", "focus on the nearest", "focus on the farthest", "nothing behind"])
def test_copied_tiles_keep_their_bits(name):
    scene = large_scene(name, scale=4, lights=30)
    frames = scene.render()
    copied = per_pixel(frames.paths, scene.size) == COPY
    assert copied.any() == (name != "three frontal"), "of which no layer is in focus"
    assert frames.bokeh[copied].tobytes() == frames.all_in_focus[copied].tobytes()


WORST = {"copy": 0.0, "taps": 1.45e-3, "runs": 8.5e-4, "together": 1.56e-3, "rays": 1.45e-4}
"""Largest difference by path: what 100 x 100 plain rays, and kernels between two nodes, miss of lights of 20.

Worst 1.38e-3, 8.1e-4, 1.48e-3 and 1.38e-4.
"""


@pytest.mark.parametrize("name", BATTERY)
def test_the_same_picture_by_rays_alone(name):
    """Whatever path a tile takes, plain rays converge to the same: no seam, no tile of another kind."""
    scene = battery_scene(name)
    color, coverage = trace_grid(scene, 100)
    frames = scene.render(samples=4000)
    worst = np.abs(frames.bokeh * frames.coverage[..., None] - color * coverage[..., None]).max(axis=-1)
    paths = per_pixel(frames.paths, scene.size)
    for index, limit in enumerate(WORST.values()):
        assert worst[paths == index].max(initial=0) <= limit, PATHS[index]


@pytest.mark.parametrize("name", BATTERY)
def test_an_empty_layer_changes_no_bit_and_no_path(name):
    scene = battery_scene(name)
    expected = scene.render()
    shape = scene.layers[0].shape
    empty = bs.Layer(np.full((*shape, 3), 9.0), np.zeros(shape), bs.Plane(0.45, 1e-3))
    for place in (0, len(scene.layers) - 1):
        layers = scene.layers[:place] + (empty,) + scene.layers[place:]
        frames = Scene(layers, scene.lens, scene.margin).render()
        assert frames.paths.tobytes() == expected.paths.tobytes()
        assert frames.bokeh.tobytes() == expected.bokeh.tobytes()
        assert frames.coverage.tobytes() == expected.coverage.tobytes()


def test_rays_go_where_planes_change_order_and_nowhere_else():
    """Two opaque sheets that cross: some ray of a pixel changes its order where the crossing cuts the lens disc.

    Red is nearer where delta_r - delta_g > K s.(g_g delta_r - g_r delta_g).
    """
    size, lens = (128, 160), bs.Lens(14.0, 0.1)
    red, green = bs.Plane(0.5, 2e-3, 3e-4), bs.Plane(0.5, -2e-3, 5e-4)
    margin = enough([red, green], lens, size)
    layers = (sheet(size, margin, TINTS[0], 1.0, red), sheet(size, margin, TINTS[1], 1.0, green))
    frames = Scene(layers, lens, margin).render()
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    x, y = x - (size[1] - 1) / 2, y - (size[0] - 1) / 2
    r, g = red.at(x, y) - lens.focus, green.at(x, y) - lens.focus
    changes = np.abs(r - g) < lens.blur * np.hypot(green.gx * r - red.gx * g, green.gy * r - red.gy * g)
    rays = per_pixel(frames.paths, size) == RAY_TRACED
    assert changes.any()
    assert rays[changes].all()
    tiles = np.array([[changes[t : t + TILE_H, u : u + TILE_W].any() for u in range(0, size[1], TILE_W)]
                      for t in range(0, size[0], TILE_H)])  # fmt: skip
    beyond = frames.paths[~tiles] == RAY_TRACED
    reach = max(lens.reach(plane, size[1], size[0]) for plane in (red, green))
    columns = np.flatnonzero(changes.any(axis=0))
    far = (x[0] < x[0, columns[0]] - reach - TILE_W) | (x[0] > x[0, columns[-1]] + reach + TILE_W)
    assert far.sum() > 20
    assert not rays[:, far].any()
    assert beyond.mean() < 0.2
    assert set(np.unique(frames.paths)) <= {DIRECT, PREFIX_SUM, RAY_TRACED}
