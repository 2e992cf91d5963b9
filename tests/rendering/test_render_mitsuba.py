"""Against thin-lens pictures of another program: Mitsuba 3.9.1, path traced, no line of code in common.

`fixtures/mitsuba_excerpt.npz` holds the numbers; `fixtures/make_mitsuba_excerpt.py` says where they come from. Their
own Monte-Carlo noise is 9.1e-4 (A, frontal) and 7.8e-4 (B, tilted) over the whole pictures.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support.scenes import Scene

import bokehsynth as bs

pytestmark = pytest.mark.kernels

EXCERPT = Path(__file__).parents[1] / "fixtures" / "mitsuba_excerpt.npz"
SCENES = ["A_front_f50", "B_tilt_f50"]
LIMITS = {
    ("A_front_f50", None): 1.07e-3,  # 51 x 51 rays reach 1.02e-3
    ("A_front_f50", 4000): 9.5e-4,  # 9.00e-4
    ("B_tilt_f50", None): 1.07e-3,  # 51 x 51 rays reach 1.02e-3
    ("B_tilt_f50", 4000): 8.2e-4,  # 7.80e-4
}
"""Largest RMSE by scene and number of rays; most of the value beside it is Mitsuba's noise. Training quality (None) has
to be no worse than a square grid of 51 x 51 rays."""

CROP = np.s_[66:114, 44:100]
"""The part of the excerpt that the reference traces: both soft mattes, seen over the background."""


@cache
def excerpt(name):
    """The scene, and Mitsuba's picture of it [128, 128, 3]."""
    with np.load(EXCERPT) as numbers:
        layers = [
            bs.Layer(color, alpha, bs.Plane(*plane))
            for color, alpha, plane in zip(
                numbers["colors"], numbers["alphas"], numbers[f"{name}_planes"].tolist(), strict=True
            )
        ]
        lens = bs.Lens(*numbers[f"{name}_lens"].tolist())
        return Scene(tuple(layers), lens, int(numbers["margin"])), numbers[f"{name}_point"]


def cut(scene, window):
    """The scene of a window of the picture, planes about its centre."""
    (top, bottom), (left, right) = ((part.start, part.stop) for part in window)
    height, width = scene.size
    dx, dy = (left + right - 1) / 2 - (width - 1) / 2, (top + bottom - 1) / 2 - (height - 1) / 2
    canvas = np.s_[top : bottom + 2 * scene.margin, left : right + 2 * scene.margin]
    layers = []
    for layer in scene.layers:
        p = layer.disparity
        layers.append(bs.Layer(layer.color[canvas], layer.alpha[canvas], bs.Plane(p.at(dx, dy), p.gx, p.gy)))
    return Scene(tuple(layers), scene.lens, scene.margin)


def rms(difference):
    return float(np.sqrt(np.square(difference, dtype=np.float64).mean()))


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize(("backend", "samples"), [("cpu", None), ("cpu", 4000), ("cuda", None), ("cuda", 4000)])
def test_the_fast_backends_agree_with_mitsuba(name, backend, samples):
    """cuda's errors are 9.64e-4 and 8.34e-4 at training quality, with 4,000 rays those of the cpu."""
    scene, expected = excerpt(name)
    difference = scene.render(backend, samples).bokeh - expected
    assert rms(difference) < LIMITS[name, samples]
    assert abs(difference.mean(dtype=np.float64)) < 3e-5  # of 0.4: worst 2.7e-5 (B), 2.2e-5 with 4,000 rays


@pytest.mark.parametrize("name", SCENES)
def test_reference_agrees_with_mitsuba(name):
    scene, expected = excerpt(name)
    difference = cut(scene, CROP).render("reference", 1000).bokeh - expected[CROP]
    assert rms(difference) < 1.1e-3  # 1.04e-3 (A), B less; 1.3e-3 is what a second NumPy tracer reached


@pytest.mark.parametrize("name", SCENES)
def test_a_window_of_the_picture_is_the_window_of_the_scene(name):
    """`cut` itself: planes moved to another centre give the same rays."""
    scene, _ = excerpt(name)
    np.testing.assert_allclose(
        cut(scene, CROP).render("cpu", 100).bokeh, scene.render("cpu", 100).bokeh[CROP], rtol=3e-6, atol=3e-6
    )


def test_the_comparison_can_fail():
    """The tilted scene, flattened or tilted the other way, is far outside the limits."""
    scene, expected = excerpt("B_tilt_f50")
    for sign in (0, -1):
        layers = [
            bs.Layer(a.color, a.alpha, bs.Plane(a.disparity.d, sign * a.disparity.gx, sign * a.disparity.gy))
            for a in scene.layers
        ]
        assert rms(Scene(tuple(layers), scene.lens, scene.margin).render("cpu", 400).bokeh - expected) > 5e-3
