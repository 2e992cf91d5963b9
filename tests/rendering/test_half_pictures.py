"""Halves of an opening: both pictures add up to that through the whole, on every backend, made alone or together."""

import cv2
import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.optics.apertures import Disc
from bokehsynth.rendering import half_pictures
from bokehsynth.rendering.aperture.pupil import transmission
from bokehsynth.rendering.cpu import renderer
from bokehsynth.rendering.frames import Frames
from bokehsynth.rendering.types import Backend, RenderInput

pytestmark = pytest.mark.kernels

K, FOCUS, MARGIN, SIDE = 24.0, 0.5, 16, 24
CANVAS = SIDE + 2 * MARGIN


def _disc(radius):
    y, x = np.mgrid[:CANVAS, :CANVAS] - (CANVAS - 1) / 2
    return np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)


def _edges():
    """A disc before a tilted ground, both with a texture of about 1 px, the disc with a light of 30."""
    rng = np.random.default_rng(3)
    colors = [cv2.GaussianBlur(rng.random((CANVAS, CANVAS, 3)).astype(np.float32), (0, 0), 1) for _ in range(2)]
    colors[1][22:25, 32:35] = 30
    ground = bs.Layer(colors[1], np.ones((CANVAS, CANVAS), np.float32), bs.Plane(0.2, 1e-3))
    return [bs.Layer(colors[0], _disc(12), bs.Plane(0.9)), ground]


def _lenses(aperture, falloff=False):
    return [bs.Lens(K, FOCUS, each, falloff) for each in (aperture, *bs.halves_of(aperture))]


@pytest.mark.parametrize("backend", ["reference", "cpu", "cuda"])
@pytest.mark.parametrize(
    "lens", [(bs.Disc(),), (bs.Polygon(5, 0.3),), (bs.CatEye(0.9),), (bs.CatEye(0.9), True)],
    ids=["disc", "polygon", "cat-eye", "falloff"],
)  # fmt: skip
def test_left_and_right_add_up_to_the_whole(lens, backend):
    rays = 40 if backend == "reference" else None
    whole, left, right = bs.render_views(_edges(), _lenses(*lens), MARGIN, backend, rays)
    parts = left.bokeh * left.part_light + right.bokeh * right.part_light
    for both in (parts, (left.of_half + right.of_half) / 2):
        assert np.abs(both - whole.bokeh).max() < 5e-6  # seen: 1e-6 on a light of 30, from rounding to float32
    assert min(left.bokeh.min(), right.bokeh.min()) >= 0
    assert np.abs(left.bokeh - right.bokeh).max() > 0.1


@pytest.mark.parametrize(
    "aperture", [bs.Disc(), bs.Polygon(5, 0.3), bs.CatEye(0.9)], ids=["disc", "polygon", "cat-eye"]
)
def test_a_half_is_what_its_own_opening_renders(aperture):
    """The share changes no more than what rays at edges are off by."""
    layers = _edges()
    layers[1].color[22:25, 32:35] = 1
    for lens in _lenses(aperture)[1:]:
        own = renderer.render_scene(RenderInput(tuple(layers), lens, MARGIN), None).color
        made = bs.render(layers, lens, MARGIN, "cpu").bokeh
        assert np.abs(made - own).max() < 2e-3  # seen: 1.3e-3 (polygon)


def test_a_half_is_normalised_where_the_layers_let_light_through():
    """At the edge of a lone disc one half may see twice as much of it as the other: the colour is the disc's."""
    layers = [bs.Layer(np.full((CANVAS, CANVAS, 3), 0.5, np.float32), _disc(12), bs.Plane(0.9))]
    for lens in _lenses(bs.Disc())[1:]:
        made = bs.render(layers, lens, MARGIN, "cpu")
        assert np.ptp(made.coverage) > 0.9
        np.testing.assert_allclose(made.bokeh[made.coverage > 0.01], 0.5, atol=1e-3)


def test_three_renderings_serve_a_pair_and_its_whole_and_each_is_the_same_alone():
    calls = []

    def counted(scene, samples):
        calls.append(scene)
        return renderer.render_scene(scene, samples)

    layers = tuple(_edges())
    scenes = [RenderInput(layers, lens, MARGIN) for lens in _lenses(bs.Disc())]
    backend = Backend(counted, transmission)
    together = [Frames(scene, backend, None) for scene in (scenes[1], scenes[2], scenes[0])]
    colors = [frames.bokeh for frames in together]
    assert len(calls) == 3
    for frames, scene in zip(colors, (scenes[1], scenes[2], scenes[0]), strict=True):
        again = tuple(_edges())
        alone = Frames(RenderInput(again, scene.lens, MARGIN), backend, None)
        np.testing.assert_array_equal(alone.bokeh, frames)
    assert len(calls) == 3 + 3 + 3 + 1
    del again, alone


def test_another_lens_or_backend_takes_nothing_that_was_kept():
    layers = tuple(_edges())
    left, right = bs.halves_of(Disc())
    backend = Backend(renderer.render_scene, transmission)
    first = RenderInput(layers, bs.Lens(K, FOCUS, left), MARGIN)
    half_pictures.render_scene(first, backend, None)
    kept = half_pictures._MADE[layers[0]]
    assert len(kept.outputs) == 2
    for lens in (bs.Lens(K, 0.4, right), bs.Lens(20.0, FOCUS, right), bs.Lens(K, FOCUS, right, True)):
        assert half_pictures._taken(RenderInput(layers, lens, MARGIN), backend, None) is None
    other = RenderInput(layers, bs.Lens(K, FOCUS, right), MARGIN)
    assert half_pictures._taken(other, backend, 16) is None
    assert half_pictures._taken(RenderInput(layers[1:], other.lens, MARGIN), backend, None) is None
    assert half_pictures._taken(other, backend, None) is not None
    assert half_pictures._taken(other, backend, None) is None
