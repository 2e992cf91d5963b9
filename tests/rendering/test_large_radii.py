"""Pictures blurred beyond COARSE_FROM px: layers on coarser cells, rays only where finer ones lie behind them."""

import numpy as np
import pytest
from support.scenes import TINTS, Scene, enough, matte, point_light, sheet, texture

import bokehsynth as bs
from bokehsynth.rendering import tile_constants
from bokehsynth.rendering.aperture.tables import tables_of
from bokehsynth.rendering.cpu import reduced_layers, reduced_means, reduced_pass, renderer, threads
from bokehsynth.rendering.cpu.prepared_layers import prepare_layer
from bokehsynth.rendering.tile_constants import COARSE_FROM
from bokehsynth.rendering.types import RenderInput, far_blurred_scene

SIZE = 72, 90
PLANES = {
    "all large": [(0.95,), (0.1, 3e-4, -2e-4)],
    "three large": [(0.98,), (0.9,), (0.1, 3e-4, 0.0)],
    "in focus between": [(0.98,), (0.5,), (0.02,)],
    "fine behind": [(0.98,), (0.92,), (0.5, 5e-4, 2e-4)],
    "fine before": [(0.55, 2e-4, 0.0), (0.05,), (0.0, 1e-5, 0.0)],
    "nothing behind": [(0.98,), (0.9,)],
}


def scene_of(name, aperture=None, K=140.0):
    """Textured layers with soft mattes; the last one closes the view unless it is `nothing behind`."""
    planes, lens = [bs.Plane(*numbers) for numbers in PLANES[name]], bs.Lens(K, 0.5, aperture or bs.Disc())
    margin, layers = enough(planes, lens, SIZE), []
    for i, plane in enumerate(planes):
        closed = i == len(planes) - 1 and name != "nothing behind"
        color = TINTS[i % 4] * texture(SIZE, margin, i, 3.0, 40)
        layers.append(sheet(SIZE, margin, color, 1.0 if closed else matte(SIZE, margin, 50 + i), plane))
    return Scene(tuple(layers), lens, margin)


@pytest.mark.parametrize("name", PLANES)
def test_coarse_layers_give_the_picture_of_all_texels(name, monkeypatch):
    """With lights of 20, seen: 1.6e-3 rms and 3e-2 at most (2.6e-3, 4.5e-2 with nothing behind), 5e-4 of coverage.

    51 x 51 rays are 2e-3 to 7e-3 rms off (1.7e-2), 128 x 128 rays 1e-3 from either way.
    """
    scene = scene_of(name)
    frames = scene.render()
    color, coverage = frames.bokeh, frames.coverage
    monkeypatch.setattr(reduced_layers, "COARSE_FROM", np.inf)
    exact = scene.render()
    scale = 2.5 if name == "nothing behind" else 1.0
    assert not np.array_equal(color, exact.bokeh)  # the coarse way was gone
    assert rms(color - exact.bokeh) < 2e-3 * scale
    assert np.abs(color - exact.bokeh).max() < 0.04 * scale
    assert np.abs(coverage - exact.coverage).max() < 1e-3
    assert coverage.max() <= 1
    assert color.min() >= 0


@pytest.mark.parametrize("behind", [0, 1])
def test_colours_of_little_coverage_are_those_of_the_layers(behind, monkeypatch):
    """A cut-out, half white and half black, over nothing or over a white one: no colour can be beyond white.

    Seen: 1.04, and 0.073 from all texels where half a hundredth is covered, at the edge from white to black.
    """
    size, lens = (136, 128), bs.Lens(110.0, 0.0)
    margin = enough([bs.Plane(0.5)], lens, size)
    y, x = np.mgrid[: size[0] + 2 * margin, : size[1] + 2 * margin] - margin
    color = np.repeat((x < 64)[..., None], 3, axis=2)
    cutouts = [sheet(size, margin, color, (abs(y - 68) < 6) & (abs(x - 63.5) < 6), bs.Plane(0.5))]
    cutouts += [sheet(size, margin, 1.0, (abs(y - 40) < 6) & (abs(x - 90) < 6), bs.Plane(0.49))] * behind
    scene = Scene(tuple(cutouts), lens, margin)
    frames = scene.render()
    color = frames.bokeh
    monkeypatch.setattr(reduced_layers, "COARSE_FROM", np.inf)
    exact = scene.render()
    assert not np.array_equal(color, exact.bokeh)
    assert color[exact.coverage > 1e-5].max() < 1.05  # below that, float32 sums of all texels reach 1.4 too
    assert np.abs(color - exact.bokeh)[exact.coverage > 0.005].max() < 0.1


@pytest.mark.parametrize("planes", [4, 6])
def test_limits_are_the_straight_colours_around(planes):
    """Of the 4 x 4 pixels that a cubic reads, without those of little alpha beside their neighbours."""
    rng = np.random.default_rng(planes)
    means = rng.random((planes, 9, 11)).astype(np.float32)
    means[3:] *= rng.choice(np.float32([0, 1e-4, 1]), means[3:].shape)
    found = reduced_means.straight_limits(means)
    color, alpha = np.moveaxis(means[:3], 0, 2), np.broadcast_to(np.moveaxis(means[3:], 0, 2), (9, 11, 3))
    around = [(np.clip(np.arange(n)[:, None] + np.arange(-1, 3), 0, n - 1)) for n in (9, 11)]
    for y, x, c in np.ndindex(9, 11, 3):
        window = np.ix_(around[0][y], around[1][x])
        most = [alpha[np.ix_(around[0][j], around[1][i])][..., c].max() for j in around[0][y] for i in around[1][x]]
        solid = alpha[window][..., c] > np.float32(reduced_means.FAINT) * np.reshape(most, (4, 4))
        straight = (color[window][..., c] / np.where(solid, alpha[window][..., c], 1))[solid]
        want = (straight.min(), straight.max()) if straight.size else (0, 0)
        assert (found[c, y, x], found[3 + c, y, x]) == want


def test_light_is_kept():
    """A constant stays one to what float32 sums of 2,000 texels lose: 2e-6 seen."""
    planes = [bs.Plane(0.9), bs.Plane(0.05, 3e-4, 1e-4)]
    margin = enough(planes, bs.Lens(140.0, 0.5), SIZE)
    scene = Scene(tuple(sheet(SIZE, margin, 0.5, 0.5, plane) for plane in planes), bs.Lens(140.0, 0.5), margin)
    frames = scene.render()
    assert np.abs(frames.bokeh - 0.5).max() < 5e-6
    assert np.abs(frames.coverage - 0.75).max() < 5e-6


def test_any_number_of_threads_gives_the_same_bytes(monkeypatch):
    scene = scene_of("fine behind")
    alone = scene.render().bokeh
    monkeypatch.setattr(threads, "THREADS", 3)
    scene = scene_of("fine behind")  # whose coarse layers are made anew
    assert np.array_equal(scene.render().bokeh, alone)


@pytest.mark.parametrize(("K", "sides"), [(COARSE_FROM / 0.5, [1, 1]), (101.0, [3, 1]), (400.0, [8, 1])])
def test_only_pictures_blurred_far_are_reduced(K, sides):
    layers = [bs.Layer(np.ones((8, 8, 3)), np.ones((8, 8)), bs.Plane(d)) for d in (1.0, 0.5)]
    scene = RenderInput(tuple(layers), bs.Lens(K, 0.5), 0)
    tables = tables_of(bs.Disc())
    assert reduced_layers.cell_sides([prepare_layer(layer, scene, tables) for layer in layers], tables) == sides


def test_small_openings_see_what_discs_of_their_radius_see(monkeypatch):
    """A sixth of the opening draws a sixth of the radius: nothing may be coarser than through a whole disc."""
    scene = scene_of("all large", Pinhole())
    picture = scene.render().bokeh
    monkeypatch.setattr(reduced_layers, "COARSE_FROM", np.inf)
    assert np.array_equal(picture, scene.render().bokeh)


@pytest.mark.parametrize(
    ("aperture", "cell"),
    [(bs.OnionRings(20, 0.5), 1), (bs.OnionRings(4, 0.5), 1), (bs.Apodized(0.2), 4), (bs.Disc(), 8)],
    ids=["20 rings", "4 rings", "smooth", "disc"],
)
def test_openings_with_fine_transmission_keep_all_texels(aperture, cell):
    """Cells of the layer would blur rings out: of 20 rings a disc kept a third of the contrast."""
    layer = bs.Layer(np.ones((8, 8, 3)), np.ones((8, 8)), bs.Plane(1.0))
    scene, tables = RenderInput((layer,), bs.Lens(290.0, 0.5, aperture), 0), tables_of(aperture)
    assert reduced_layers.cell_sides([prepare_layer(layer, scene, tables)], tables) == [cell]


@pytest.mark.parametrize(("power", "cell"), [(20.0, 3), (500.0, 1)])
def test_lamps_stay_where_they_are(power, cell):
    """A cell's disc is centred on the cell: a bright lamp at its edge would move by a pixel."""
    plane, lens = bs.Plane(1.0), bs.Lens(60.0, 0.0)
    layer = point_light((20, 20), 10, (7, 8), plane, power)
    assert _cells(layer, lens) == [cell]
    assert _cells(sheet((20, 20), 10, power, 1.0, plane), lens) == [3]  # light that is no lamp


def test_discs_of_bright_lamps_are_centred_on_them():
    """The margin puts this lamp at the corner of its cell of 3 x 3: its disc lay 1 px off both ways."""
    size, plane, lens, at = (136, 136), bs.Plane(1.0), bs.Lens(56.0, 0.0), (70, 68)
    margin = enough([plane], lens, size)
    assert (at[0] + margin) % 3 != 1
    assert (at[1] + margin) % 3 != 1
    disc = Scene((point_light(size, margin, at, plane, 500.0),), lens, margin).render().bokeh[..., 0].astype(float)
    y, x = np.mgrid[: size[0], : size[1]]
    centre = (disc * x).sum() / disc.sum(), (disc * y).sum() / disc.sum()
    assert np.abs(np.subtract(centre, at)).max() < 0.1


def _cells(layer, lens):
    tables = tables_of(lens.aperture)
    return reduced_layers.cell_sides([prepare_layer(layer, RenderInput((layer,), lens, 0), tables)], tables)


def test_warming_up_takes_all_ways_of_coarse_layers(monkeypatch):
    """Workers load what this compiles: means, what two layers do together, and rays for a finer one behind."""
    seen, run = [], reduced_pass.render_rows
    monkeypatch.setattr(
        reduced_pass, "render_rows", lambda *a: (seen.append((a[1].paths, a[4].modes, a[4].together)), run(*a))
    )
    renderer.warm_up_coarse()
    ((paths, modes, together),) = seen
    assert (paths == tile_constants.CONTROL_VARIATE).all()
    assert (modes == reduced_pass.BEHIND).all()
    assert (together >= 0).tolist() == [True, True, False]
    scene = far_blurred_scene()
    assert scene.lens.margin([layer.disparity for layer in scene.layers], scene.width, scene.height) <= scene.margin


class Pinhole(bs.Aperture):
    """A disc of radius 1/6."""

    def inside(self, s):
        return np.einsum("ij,ij->i", s, s) <= 1 / 36


def rms(values):
    """Root mean square."""
    return float(np.sqrt(np.square(values).mean()))
