"""What the CUDA kernels compute: brute force ray by ray, and the fast kernels against it, `cpu` and `reference`.

On a GPU where there is one, otherwise the very kernels compiled for the host (`kernels_on_cpu`). Worst values were
seen with the latter (x86-64, GCC 12).
"""

import numpy as np
import pytest
from support.apertures import APERTURES, PUPILS
from support.compare import Tolerance, assert_alike
from support.cuda_pictures import CONVERGED, TRAINING, arriving, light, smooth_scene
from support.scenes import BATTERY, Scene, battery_scene, fuzz_scene, trace_by_hand

import bokehsynth as bs
from bokehsynth.rendering import reference
from bokehsynth.rendering.aperture.lens_points import bake
from bokehsynth.rendering.aperture.pupil import relative_light
from bokehsynth.rendering.aperture.tables import RaySet
from bokehsynth.rendering.cuda import renderer as cuda
from bokehsynth.rendering.types import RenderInput

pytestmark = pytest.mark.kernels

SAME_RAYS = 8e-7
"""float32 against float64 sums over the same rays, relative to lights above 1: worst 7.4e-7 (tinted pentagon)."""


REFERENCE = Tolerance(inside=1.25e-3, edge=4e-3, edge_share=0.12)
"""The same against 200 rays of the reference, whose error it is: worst 1.20e-3, 3.8e-3 and 0.108."""


PUPIL = Tolerance(inside=1e-2, edge=3.2e-3, edge_share=0.0)


def input_of(scene):
    return RenderInput(scene.layers, scene.lens, scene.margin)


def brute_force(scene, points, weights):
    """Colour and coverage by the brute-force kernel from these rays: points [N, 2], weights [N, 3]."""
    table = RaySet(points, np.ascontiguousarray(weights.T, np.float32), np.array([(0, len(points))], np.int64))
    made = cuda.brute_force(input_of(scene), table)
    return made.color, made.coverage


def relative(actual, expected):
    return np.abs(actual - expected) / np.maximum(1, expected)


# ------------------------------------------------------------------ brute force, ray by ray


@pytest.mark.parametrize("aperture", ["disc", "tinted pentagon", "quarter"])
@pytest.mark.parametrize("name", BATTERY)
def test_brute_force_is_the_definition_ray_by_ray(name, aperture):
    scene = battery_scene(name, aperture=APERTURES[aperture])
    table = bake(scene.lens.aperture, 10)
    expected = arriving(*trace_by_hand(scene, table.points, table.weights))
    assert relative(arriving(*brute_force(scene, table.points, table.weights)), expected).max() < SAME_RAYS


@pytest.mark.parametrize("seed", range(20))
def test_brute_force_is_the_definition_on_random_scenes(seed):
    scene = fuzz_scene(seed)
    table = bake(scene.lens.aperture, 6)
    expected = arriving(*trace_by_hand(scene, table.points, table.weights))
    assert relative(arriving(*brute_force(scene, table.points, table.weights)), expected).max() < SAME_RAYS


def with_lens(scene, aperture, falloff=False):
    lens = bs.Lens(scene.lens.blur, scene.lens.focus, aperture, falloff)
    return Scene(scene.layers, lens, scene.margin)


@pytest.mark.parametrize("aperture", PUPILS)
@pytest.mark.parametrize("name", ["tilted", "crossing", "nothing behind", "far from the middle"])
def test_brute_force_is_the_reference_through_pupils(name, aperture):
    """The reference's own lens points. None of these lies on the rim of a pupil, where rounding would decide."""
    scene = with_lens(battery_scene(name), PUPILS[aperture])
    points, weights = reference._lens_points(input_of(scene), 60)
    expected = light(scene.render("reference", 60))
    assert relative(arriving(*brute_force(scene, points, weights)), expected).max() < SAME_RAYS


@pytest.mark.parametrize("aperture", PUPILS)
def test_falloff_multiplies_by_what_the_pupil_lets_pass(aperture):
    even, falling = (with_lens(battery_scene("tilted"), PUPILS[aperture], f).render("cuda", 100) for f in (False, True))
    passed = even.transmission
    assert 0.2 < passed.min() < passed.max() <= 1
    share = relative_light(input_of(with_lens(battery_scene("tilted"), PUPILS[aperture], True)))
    np.testing.assert_allclose(share, passed / passed[22, 30], rtol=1e-3)  # 1 at the centre of the picture
    assert np.array_equal(even.bokeh * share[..., None], falling.bokeh)
    assert np.array_equal(even.coverage, falling.coverage)
    assert np.array_equal(even.all_in_focus, falling.all_in_focus)
    assert passed.tobytes() == with_lens(battery_scene("tilted"), PUPILS[aperture]).render("cpu").transmission.tobytes()


# ------------------------------------------------------------------ the fast kernels


@pytest.mark.parametrize("name", BATTERY)
def test_they_converge_to_brute_force_and_to_the_reference(name):
    scene, band = smooth_scene(name)
    actual = light(scene.render("cuda", 3000))
    brute = cuda.brute_force(input_of(scene), 56)
    assert_alike(actual, arriving(brute.color, brute.coverage), band, CONVERGED)
    assert_alike(actual, light(scene.render("reference", 200)), band, REFERENCE)


@pytest.mark.parametrize("aperture", APERTURES)
@pytest.mark.parametrize("name", BATTERY)
def test_they_are_the_cpu_at_training_quality(name, aperture):
    scene, band = smooth_scene(name, aperture)
    assert_alike(light(scene.render("cuda")), light(scene.render("cpu")), band, TRAINING[aperture])


@pytest.mark.parametrize("aperture", PUPILS)
@pytest.mark.parametrize("name", ["tilted", "crossing", "nothing behind", "wider than a tile"])
def test_they_are_the_cpu_through_pupils(name, aperture):
    """The same rays on tiles that the cpu traces, elsewhere its kernels against 2000 rays: worst 9.6e-3, 3.1e-3.

    (`swirl`, wider than a tile: the cpu is within 4.6e-3 and these are within 5.8e-3 of 3,000 rays of the reference.)
    """
    scene, band = smooth_scene(name, aperture)
    scene = with_lens(scene, scene.lens.aperture, falloff=name == "tilted")
    assert_alike(light(scene.render("cuda", 2000)), light(scene.render("cpu", 2000)), band, PUPIL)


@pytest.mark.parametrize("seed", range(40))
def test_they_converge_to_brute_force_on_random_scenes(seed):
    """Lights of 20 among alpha that is noise. Tiles of rays take the same ones; elsewhere these are the rougher."""
    scene = fuzz_scene(seed)
    brute = cuda.brute_force(input_of(scene), 40)
    difference = light(scene.render("cuda", 1600)) - arriving(brute.color, brute.coverage)
    assert np.abs(difference).max() < 2.5e-3  # worst 2.4e-3
    assert np.sqrt(np.square(difference).mean()) < 2.4e-4  # worst 2.29e-4


# ------------------------------------------------------------------ which way tiles go


def per_pixel(frames):
    """The path of every pixel: cuda's tiles are two of the cpu's wide."""
    height, width = frames.bokeh.shape[:2]
    return np.repeat(np.repeat(frames.paths, 8, axis=0), 16, axis=1)[:height, :width]


@pytest.mark.parametrize("name", [name for name in BATTERY if name != "same disparity"])
def test_all_in_focus_pictures_have_the_bits_of_the_cpu(name):
    """The same products and sums in the same order, none fused. In `same disparity` planes cross: the cpu traces."""
    scene = battery_scene(name)
    ours, theirs = scene.render("cuda"), scene.render("cpu")
    assert ours.all_in_focus.tobytes() == theirs.all_in_focus.tobytes()


@pytest.mark.parametrize("name", BATTERY)
def test_paths_are_those_of_the_cpu_or_more_careful(name):
    """Tiles twice as wide see at least what theirs halves see; what is copied keeps its bits."""
    scene = battery_scene(name)
    ours, theirs = scene.render("cuda"), scene.render("cpu")
    assert ours.paths.dtype == np.uint8
    assert ours.paths.shape == theirs.paths.shape
    order = np.array([0, 1, 1, 2, 3])  # runs are taps
    assert (order[ours.paths] >= order[theirs.paths]).all()
    copied = per_pixel(ours) == 0
    assert ours.bokeh[copied].tobytes() == ours.all_in_focus[copied].tobytes()
    assert copied.any() == (name in {"focus on the farthest", "nothing behind"})


@pytest.mark.parametrize("name", BATTERY)
def test_an_empty_layer_changes_no_bit_and_no_path(name):
    scene = battery_scene(name)
    expected = scene.render("cuda")
    shape = scene.layers[0].shape
    empty = bs.Layer(np.full((*shape, 3), 9.0), np.zeros(shape), bs.Plane(0.45, 1e-3))
    for place in (0, len(scene.layers) - 1):
        layers = scene.layers[:place] + (empty,) + scene.layers[place:]
        frames = Scene(layers, scene.lens, scene.margin).render("cuda")
        for made in ("paths", "bokeh", "coverage", "all_in_focus"):
            assert getattr(frames, made).tobytes() == getattr(expected, made).tobytes(), made
