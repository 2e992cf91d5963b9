"""The backends against one another, and each against a ray tracer written apart from both (`scenes.trace_by_hand`).

The CPU renderer averages layers by kernels and composites the averages; `rays_only` drives its plain-ray kernels alone.
Those are pinned here ray by ray, and what the whole renderer makes is compared to what they converge to.
"""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from support.apertures import TintedPentagon
from support.compare import Tolerance, assert_alike, occlusion_band
from support.rays_only import trace_grid, trace_points
from support.scenes import BATTERY, battery_scene, fuzz_scene, trace_by_hand

import bokehsynth as bs
from bokehsynth.rendering.aperture.lens_points import bake, vogel_points

SAME_RAYS = 1.2e-6
"""Same lens points, so only float32 sums differ, relative to lights above 1: worst 9.3e-7 (battery), 7e-7 (fuzz)."""

CONVERGED = {
    "disc": Tolerance(inside=9e-5, edge=1.6e-4, edge_share=0.03),  # worst 8.5e-5, 1.5e-4, 0.027
    # worst 2.07e-4, 5.3e-4, 0.110; a mean of 7.6e-6: 4000 rays miss what varies together between them
    "tinted pentagon": Tolerance(inside=2.2e-4, edge=5.5e-4, edge_share=0.116, sigmas=5.2),
}
"""4000 rays, on tiles that need any, against 100 x 100 plain ones; most of it is the sampling error of these."""

OTHER_RAYS = Tolerance(inside=6.5e-4, edge=1.4e-3, edge_share=0.09)
"""cpu at 4000 rays or training quality against 500 rays of the reference: worst 6.0e-4, 1.3e-3 and 0.085."""


def assert_same_rays(traced, color, coverage):
    """Equal but for the rounding of float32 sums."""
    expected = color * coverage[..., None]
    assert (np.abs(arriving(*traced) - expected) / np.maximum(1, expected)).max() < SAME_RAYS
    assert np.abs(traced[1] - coverage).max() < 1e-6  # worst 6e-7


APERTURES = {"disc": bs.Disc(), "tinted pentagon": TintedPentagon()}


def arriving(color, coverage):
    """Light that arrives: colour times coverage. The colour alone is a quotient of noise where coverage is near 0."""
    return color * coverage[..., None]


def light(frames):
    return arriving(frames.bokeh, frames.coverage)


@pytest.mark.parametrize("aperture", APERTURES)
@pytest.mark.parametrize("name", BATTERY)
def test_plain_rays_are_the_definition_ray_by_ray(name, aperture):
    scene = battery_scene(name, aperture=APERTURES[aperture])
    table = bake(scene.lens.aperture, 10)
    color, coverage = trace_by_hand(scene, table.points, table.weights)
    assert_same_rays(trace_points(scene, table.points, table.weights), color, coverage)


@pytest.mark.parametrize("name", BATTERY)
def test_reference_is_the_definition_ray_by_ray(name):
    scene = battery_scene(name)
    points = vogel_points(50)
    color, coverage = trace_by_hand(scene, points, np.ones((50, 3)))
    frames = scene.render("reference", samples=50)
    assert np.abs(frames.bokeh - color).max() < 1e-6  # float32 of 20: worst 9.4e-7
    assert np.abs(frames.coverage - coverage).max() < 6e-8  # half a float32 step below 1


@pytest.mark.parametrize("seed", range(40))
def test_plain_rays_are_the_definition_on_random_scenes(seed):
    scene = fuzz_scene(seed)
    table = bake(scene.lens.aperture, 6)
    color, coverage = trace_by_hand(scene, table.points, table.weights)
    assert_same_rays(trace_points(scene, table.points, table.weights), color, coverage)


@pytest.mark.parametrize("seed", range(40))
def test_cpu_is_what_plain_rays_converge_to_on_random_scenes(seed):
    """Lights of 20 among alpha that is noise: what is left is the sampling error of 1,600 rays (a third at 3,600)."""
    scene = fuzz_scene(seed)
    difference = light(scene.render("cpu", samples=1600)) - arriving(*trace_grid(scene, 40))
    assert np.abs(difference).max() < 3.2e-3  # worst 3.0e-3
    assert np.sqrt(np.square(difference).mean()) < 3.5e-4  # worst 3.3e-4


@pytest.mark.parametrize("aperture", APERTURES)
@pytest.mark.parametrize("name", BATTERY)
def test_cpu_is_what_plain_rays_converge_to(name, aperture):
    scene = battery_scene(name, lights=0, smooth=5.0, aperture=APERTURES[aperture])
    expected = arriving(*trace_grid(scene, 100))
    actual = light(scene.render("cpu", samples=4000))
    assert_alike(actual, expected, occlusion_band(scene), CONVERGED[aperture])


@cache
def smooth_scene(name):
    """A battery scene that two sets of rays can agree on, its reference render, and its occlusion band."""
    scene = battery_scene(name, lights=0, smooth=5.0)
    return scene, light(scene.render("reference", samples=500)), occlusion_band(scene)


@pytest.mark.parametrize("name", BATTERY)
def test_cpu_and_reference_agree_with_other_rays(name):
    scene, expected, band = smooth_scene(name)
    assert 0.05 < band.mean() < 0.7, "both tiers are exercised"
    assert_alike(light(scene.render("cpu", samples=4000)), expected, band, OTHER_RAYS)


@pytest.mark.parametrize("name", BATTERY)
def test_training_quality_agrees_with_the_reference(name):
    scene, expected, band = smooth_scene(name)
    # few fixed rays leave a pattern wider than the comparator's blocks: worst 3.4 standard errors, a mean of 1.2e-5
    loose = Tolerance(OTHER_RAYS.inside, OTHER_RAYS.edge, OTHER_RAYS.edge_share, sigmas=4.0)
    assert_alike(light(scene.render("cpu")), expected, band, loose)


@pytest.mark.parametrize("name", ["three frontal", "tilted", "crossing"])
def test_the_error_shrinks_as_samples_grow(name):
    """Towards a limit that both backends share: 16 times the rays, less than an eighth (cpu) or third of the error."""
    scene = battery_scene(name)
    limit = scene.render("cpu", samples=20_000).bokeh

    def error(backend, samples):
        return np.sqrt(np.square(scene.render(backend, samples).bokeh - limit).mean())

    errors = [error("cpu", n) for n in (64, 256, 1024, 4096)]
    assert all(finer < 0.55 * coarser for coarser, finer in pairwise(errors)), errors
    assert errors[3] < errors[1] / 8
    assert error("reference", 256) < error("reference", 16) / 3


def test_asking_again_gives_the_same_bits():
    scene = battery_scene("crossing")
    first, second = scene.render(), battery_scene("crossing").render()
    assert first.bokeh is first.bokeh, "computed once"
    for name in ("bokeh", "all_in_focus", "disparity", "defocus", "coverage", "transmission"):
        assert getattr(first, name).dtype == np.float32
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name
