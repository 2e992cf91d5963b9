"""Large footprints of the CUDA kernels: even discs without holes, the weights that the CPU integrates."""

import ctypes

import numpy as np
import pytest
from support.apertures import APERTURES
from support.kernels_on_cpu import HostDevice, library

import bokehsynth as bs
from bokehsynth.rendering.aperture.footprint_kernel import UNVIGNETTED, density_kernel
from bokehsynth.rendering.aperture.scanlines import scan
from bokehsynth.rendering.aperture.tables import tables_of
from bokehsynth.rendering.cuda import device as cuda_device
from bokehsynth.rendering.cuda import renderer as cuda
from bokehsynth.rendering.cuda.chords import CHORDS_FROM, chords_of
from bokehsynth.rendering.types import RenderInput


@pytest.fixture(autouse=True)
def device(monkeypatch):
    """Weights are read where they lie, which a GPU does not let."""
    made = HostDevice(library())
    monkeypatch.setattr(cuda_device, "the_device", lambda: made)
    return made


def even_scene(aperture, radius, gx=0.0, gy=0.0, side=4):
    lens, plane = bs.Lens(2 * abs(radius), 0.5, aperture), bs.Plane(1.0 if radius > 0 else 0.0, gx, gy)
    margin = lens.margin([plane], side, side)
    canvas = np.ones((side + 2 * margin, side + 2 * margin, 3), np.float32)
    return RenderInput((bs.Layer(canvas, canvas[..., 0], plane),), lens, margin)


def footprints(scene):
    """Each node of a scene's layers with its weights, float32 [sets, rows, columns]."""
    batch = cuda.prepare([scene])
    batch.make_footprints()
    for node in batch.footprints:
        sets, side = int(node["sets"]), 2 * int(node["half"]) + 1
        there = (ctypes.c_float * (sets * side * side)).from_address(int(node["sums"]))
        yield node, np.ctypeslib.as_array(there).reshape(sets, side, side).transpose(0, 2, 1).copy()


def integrated(node, aperture):
    """What the CPU makes of the same radius and tilt."""
    tables, tilt = tables_of(aperture), (float(node["ex"]), float(node["ey"]))
    lines = scan(tables.outline, float(node["r"]), *tilt, tables.detail)
    return density_kernel(lines, tables.opening, float(node["r"]), *tilt, UNVIGNETTED[0], int(node["half"]))


def inside(node, share):
    """Texels within a share of a node's radius."""
    line = np.arange(-node["half"], node["half"] + 1)
    return np.hypot(*np.meshgrid(line, line)) < share * abs(node["r"])


@pytest.mark.parametrize("aperture", ["disc", "pentagon"])
@pytest.mark.parametrize("radius", [80, 160, 300, *(pytest.param(r, marks=pytest.mark.long) for r in (500, 760))])
def test_the_disc_of_one_light_is_even(aperture, radius):
    """Folded from 512 x 512 lens points its standard deviation was 0.5 % at 80 px, 60 % at 500. Now worst 3.0e-5."""
    ((node, (weights,)),) = footprints(even_scene(APERTURES[aperture], radius))
    of_disc = weights[inside(node, 0.78)]  # inside a pentagon too
    assert of_disc.min() > 0
    assert of_disc.std() / of_disc.mean() < 3.5e-5
    assert abs(weights.sum(dtype=np.float64) - 1) < 2e-6


@pytest.mark.parametrize(
    ("aperture", "largest"),
    [
        ("disc", 4e-6),  # worst 2.6e-6
        ("pentagon", 4e-6),  # 2.5e-6
        ("tinted pentagon", 4e-6),  # 1.3e-6
        # at the tips of its hole, which is scanned 4 times closer, not 16: 1.1e-2; at one tip of a heart 1.26e-2
        *(pytest.param(name, 1.5e-2, marks=pytest.mark.long) for name in ("ring", "heart")),
    ],
)
def test_weights_are_those_that_the_cpu_integrates(aperture, largest):
    """Of the largest one, at both signs and through a tilted plane, where lens points stretch the image."""
    scenes = [even_scene(APERTURES[aperture], radius) for radius in (70.0, -97.3)]
    scenes.append(even_scene(APERTURES[aperture], 90.0, 6e-4, -3e-4))
    for scene in scenes:
        for node, weights in list(footprints(scene))[:2]:
            expected = integrated(node, APERTURES[aperture])
            assert node["chords"]
            assert np.abs(weights - expected).max() < largest * expected.max()


def test_a_light_far_from_its_pixel_has_the_brightness_of_the_cpu():
    """A picture, not a table: one texel of 1e4 over black, seen 100 px beside it through a disc of 160."""
    lens, plane = bs.Lens(320.0, 0.5), bs.Plane(1.0)
    margin = lens.margin([plane], 32, 8)
    canvas = np.zeros((8 + 2 * margin, 32 + 2 * margin, 3), np.float32)
    canvas[margin + 4, margin + 100] = 1e4
    layers = (bs.Layer(canvas, np.ones(canvas.shape[:2], np.float32), plane),)
    ours, theirs = (bs.render(layers, lens, margin, backend).bokeh for backend in ("cuda", "cpu"))
    assert ours.std() / ours.mean() < 5e-5
    np.testing.assert_allclose(ours, theirs, rtol=2e-4)


def test_planes_that_reach_both_kinds_of_footprint(device):
    """Radii about 64 px over one picture: small nodes are folded, large ones integrated, constants stay 1."""
    scene = even_scene(bs.Disc(), 65.0, 1e-3, 0.0, 24)
    kinds = {bool(node["chords"]) for node, _ in footprints(scene)}
    assert kinds == {True, False}
    assert {"fold_rays", "integrate_chords", "normalise_chords"} <= set(device.launched)
    np.testing.assert_allclose(cuda.render_scene(scene, None).color, 1, atol=8e-6)  # worst 6.1e-6


def test_chords_are_sorted_into_rows_of_texels():
    made = chords_of(tables_of(APERTURES["ring"]), -CHORDS_FROM, 0.1, 0.05, 75)
    assert made.rows[0] == 0
    assert made.rows[-1] == len(made.chords)
    for row in range(2 * 75 + 1):
        y = made.chords[made.rows[row] : made.rows[row + 1], 0]
        assert ((y >= row - 75) & (y <= row - 74)).all()
    assert (made.chords[:, 3] >= made.chords[:, 2]).all()
    middle = made.rows[75]
    assert len({float(y) for y in made.chords[middle : middle + 2, 0]}) == 1, "a ring has two chords on a line"
