"""Where layers vary together the CPU renderer adds what rays see to exact means: no sign, less error with more rays.

Measured against 80 x 80 plain rays (`rays_only`), on light that arrives.
"""

from functools import cache

import numpy as np
import pytest
from support.compare import mean_and_error
from support.rays_only import trace_grid, trace_points
from support.scenes import BATTERY, Scene, battery_scene, disc_share, enough, half_plane, matte, sheet, texture

import bokehsynth as bs


class TintedPentagon(bs.Polygon):
    """Rounded blades and a pass-band per channel that varies over the opening."""

    def __init__(self):
        super().__init__(5, 0.3, 0.4)

    def weight(self, s):
        return np.stack([1 + 0.5 * s[:, 0], 0.3 + s[:, 1] ** 2, 0.7 - 0.4 * s[:, 0] * s[:, 1]], axis=1)


APERTURES = {"disc": bs.Disc(), "ring": bs.Ring(0.5), "tinted pentagon": TintedPentagon()}
NAMES = ["three frontal", "tilted", "crossing", "same disparity", "nothing behind", "steep ground"]

SYSTEMATIC = 2.5e-6
"""A mean that rays leave however many blocks are averaged: few fixed rays see the light between them like their own."""


def light(frames):
    return (frames.bokeh * frames.coverage[..., None]).astype(np.float64)


@cache
def converged(name, aperture):
    scene = battery_scene(name, lights=0, smooth=5.0, aperture=APERTURES[aperture])
    color, coverage = trace_grid(scene, 80)
    return scene, (color * coverage[..., None]).astype(np.float64)


def rms(difference):
    return float(np.sqrt(np.square(difference).mean()))


@pytest.mark.parametrize("aperture", APERTURES)
@pytest.mark.parametrize("name", NAMES)
def test_the_error_has_no_sign(name, aperture):
    """Within three standard errors: worst 3.3 of them, 1.2e-5 (three frontal, disc, 64 rays)."""
    scene, expected = converged(name, aperture)
    everywhere = np.ones(scene.size, bool)
    for samples in (None, 64, 256, 1024):
        mean, error = mean_and_error(light(scene.render("cpu", samples)) - expected, everywhere)
        assert abs(mean) < 3 * error + SYSTEMATIC, samples


FALL = {"disc": (0.4, 2.1e-5), "ring": (0.57, 2e-5), "tinted pentagon": (0.66, 6.8e-5)}
"""Four times the rays: the error is at most this share of the last, or the floor, which is that of the plain rays.

Worst shares 0.36, 0.54 and 0.63. The grid of rays cuts a ring along its own rows, so that it falls more slowly there.
"""


@pytest.mark.parametrize("aperture", APERTURES)
@pytest.mark.parametrize("name", NAMES)
def test_the_error_falls_as_rays_are_added(name, aperture):
    scene, expected = converged(name, aperture)
    share, floor = FALL[aperture]
    last = np.inf
    for samples in (16, 64, 256, 1024):
        error = rms(light(scene.render("cpu", samples)) - expected)
        assert error < max(share * last, floor), samples
        last = error


def square_grid(side):
    """side x side lens points with the outermost on the rim of the disc."""
    edge = np.linspace(-1, 1, side)
    points = np.stack(np.meshgrid(edge, edge), axis=-1).reshape(-1, 2)
    return np.ascontiguousarray(points[np.hypot(*points.T) <= 1])


@pytest.mark.parametrize("name", BATTERY)
def test_training_quality_is_never_worse_than_51_by_51_rays(name):
    """The promise of `samples=None`, single texels of light 20: no larger RMSE, worst 0.68 times ("three frontal").

    The worst single pixel is less than theirs in nine scenes of ten; in that one it is 2.1 times theirs.
    """
    scene = battery_scene(name)
    color, coverage = trace_grid(scene, 120)
    expected = (color * coverage[..., None]).astype(np.float64)
    points = square_grid(51)
    color, coverage = trace_points(scene, points, np.ones((len(points), 3)))
    rays = color * coverage[..., None] - expected
    ours = light(scene.render()) - expected
    assert rms(ours) <= rms(rays)
    assert np.abs(ours).max() <= 2.2 * np.abs(rays).max()


# ------------------------------------------------------------------ what is known without rays

SIZE = (24, 48)


@pytest.mark.parametrize("samples", [None, 64, 256, 1024])
def test_complementary_mattes_at_one_depth_need_the_correction(samples):
    """Two halves of one sheet: "over" of their means would let light of 20 from behind shine through the seam."""
    plane, lens = bs.Plane(0.9), bs.Lens(20.0, 0.5)
    margin = enough([plane], lens, SIZE)
    left = half_plane(SIZE, margin, 24)
    layers = (
        sheet(SIZE, margin, 0.4, left, plane),
        sheet(SIZE, margin, 0.4, 1 - left, plane),
        sheet(SIZE, margin, 20.0, 1.0, bs.Plane(0.1)),
    )
    picture = Scene(layers, lens, margin).render(samples=samples).bokeh[..., 1]
    x = np.arange(SIZE[1])
    nodes, weights = np.polynomial.legendre.leggauss(48)
    t = (nodes + 1) / 2  # what shines through is a(1 - a) along the ramp, E = integral of (1 - 2 t) P(a > t)
    beyond = np.array([1 - disc_share((23 + node - x) / 8.0) for node in t])
    expected = 0.4 + 19.6 * ((weights / 2 * (1 - 2 * t))[:, None] * beyond).sum(axis=0)
    mean = ((weights / 2)[:, None] * beyond).sum(axis=0)
    assert np.abs(0.4 + 19.6 * mean * (1 - mean) - expected).max() > 4, "means alone are far off"
    limit = {None: 2.2e-2, 64: 0.236, 256: 4.8e-2, 1024: 1.18e-2}[samples]  # None: 51 x 51 rays err by 2.1e-2
    assert np.abs(picture - expected).max() < limit


def disjoint_mattes(margin):
    """Two soft discs that no texel shares, on the canvas."""
    shape = (SIZE[0] + 2 * margin, SIZE[1] + 2 * margin)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float) - margin
    return [np.clip((7 - np.hypot(x - cx, y - 12)) / 3 + 0.5, 0, 1) for cx in (13, 33)]


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (3e-3, -2e-3)])
def test_disjoint_layers_at_one_depth_are_one_layer_in_any_order(tilt):
    """No ray meets both, so nothing hides anything: the same as their sum, up to what the rays miss."""
    plane, behind, lens = bs.Plane(0.8, *tilt), bs.Plane(0.1, 1e-3), bs.Lens(14.0, 0.5)
    margin = enough([plane, behind], lens, SIZE)
    one, other = disjoint_mattes(margin)
    assert (one * other == 0).all()
    color, bottom = texture(SIZE, margin, 1), sheet(SIZE, margin, texture(SIZE, margin, 2), 1.0, behind)
    apart = [sheet(SIZE, margin, color, alpha, plane) for alpha in (one, other)]
    together = Scene((sheet(SIZE, margin, color, one + other, plane), bottom), lens, margin).render(samples=1024).bokeh
    for order in (apart, apart[::-1]):
        picture = Scene((*order, bottom), lens, margin).render(samples=1024).bokeh
        assert np.abs(picture - together).max() < 1.8e-5  # worst 1.7e-5
        assert rms(picture - together) < 1.5e-6  # worst 1.4e-6


@pytest.mark.parametrize("samples", [None, 64])
def test_light_is_added_up(samples):
    """Two pictures of one set of mattes in different colours, and the picture of the colours' sum."""
    lens, planes = bs.Lens(14.0, 0.4), [bs.Plane(0.9), bs.Plane(0.5, 2e-3), bs.Plane(0.1, 0, 1e-3)]
    margin = enough(planes, lens, SIZE)
    alphas = [matte(SIZE, margin, 3), matte(SIZE, margin, 8), 1.0]
    colors = [[texture(SIZE, margin, 10 * k + i, lights=2 * k) for i in range(3)] for k in range(2)]

    def picture(of):
        layers = [sheet(SIZE, margin, c, a, p) for c, a, p in zip(of, alphas, planes, strict=True)]
        return Scene(tuple(layers), lens, margin).render(samples=samples).bokeh

    both = picture([a + b for a, b in zip(*colors, strict=True)])
    apart = picture(colors[0]) + picture(colors[1])
    # with the same rays worst 1.1e-6; training quality takes fewer where nothing bright shows: 1.6e-3
    np.testing.assert_allclose(both, apart, rtol=0, atol=1.2e-6 if samples else 1.7e-3)
