"""Planes up to the steepest that rays meet, K abs(g) < 1: constants stay, textures are those of the reference."""

import math

import numpy as np
import pytest
from support.scenes import Scene, enough, sheet, texture

import bokehsynth as bs
from bokehsynth.errors import UsageError

SIZE = (24, 40)


def steep_scene(K, e, angle, d, focus, color=None, size=SIZE):
    """One opaque layer tilted by K abs(g) = e towards an angle."""
    plane = bs.Plane(d, e / K * math.cos(angle), e / K * math.sin(angle))
    lens = bs.Lens(K, focus)
    margin = enough([plane], lens, size)
    picture = 0.5 if color is None else texture(size, margin, color, smooth=3.0)
    return Scene((sheet(size, margin, picture, 1.0, plane),), lens, margin)


CONSTANT = {
    "the line in focus in the table": (8.0, 0.4, 0.3, 0.6, 0.1),
    "half": (12.0, 0.5, 0.0, 0.5, 0.5),
    "along a row, behind the focus": (32.0, 0.753, 0.0, 0.5, 0.601),
    "against a row": (32.0, 0.798, math.pi, 0.5, 0.797),
    "along a column": (8.0, 0.826, -math.pi / 2, 0.5, 0.7),
    "oblique": (16.0, 0.88, 5.9, 0.5, 0.55),
    "nearly along the rays": (8.0, 0.95, 2.4, 0.5, 0.3),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_a_constant_colour_stays(name):
    """Worst 1.55e-4: norms are interpolated between kernels."""
    assert np.abs(steep_scene(*CONSTANT[name]).render().bokeh - 0.5).max() < 1.7e-4


def test_a_tall_picture_stays_too():
    assert np.abs(steep_scene(64.0, 0.3, math.pi / 2, 0.5, 0.5, size=(256, 24)).render().bokeh - 0.5).max() < 1e-4


@pytest.mark.parametrize(
    ("e", "angle", "focus"),
    [(0.45, 0.2, 0.6), (0.6, math.pi, 0.4), (0.75, 0.0, 0.6), (0.85, 4.0, 0.5), (0.93, 1.4, 0.5)],
)
def test_textures_are_those_of_the_reference(e, angle, focus):
    """Worst rms 3.6e-4 and 2.5e-3 (e = 0.93): the reference's sampling, which falls as its rays grow."""
    scene = steep_scene(16.0, e, angle, 0.5, focus, color=5)
    difference = scene.render().bokeh.astype(float) - scene.render("reference", 2400).bokeh
    assert np.sqrt(np.square(difference).mean()) < 4e-4
    assert np.abs(difference).max() < 2.7e-3


@pytest.mark.long
@pytest.mark.parametrize("seed", range(60))
def test_any_steep_plane(seed):
    rng = np.random.default_rng(seed)
    angle = rng.integers(4) * math.pi / 2 if seed % 2 else rng.uniform(0, 2 * math.pi)
    scene = steep_scene(rng.choice([8.0, 16.0, 32.0]), rng.uniform(0.2, 0.95), angle, *rng.uniform(0.2, 0.8, 2))
    assert np.abs(scene.render().bokeh - 0.5).max() < 2.2e-4  # worst 2.05e-4


def test_a_plane_along_the_rays_is_refused():
    with pytest.raises(UsageError, match="the plane is too steep for this lens: blur 16 px"):
        enough([bs.Plane(0.5, 1 / 16)], bs.Lens(16.0, 0.5), SIZE)
