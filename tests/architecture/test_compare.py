"""The ruler measured: one case for every branch of `compare.complaints`."""

import numpy as np
import pytest
from support.compare import Tolerance, assert_alike, complaints, mean_and_error, occlusion_band
from support.scenes import Scene, half_plane, sheet

import bokehsynth as bs

TOLERANCE = Tolerance(inside=1e-3, edge=0.1, edge_share=0.5)
SIZE = (40, 64)


@pytest.fixture
def band():
    where = np.zeros(SIZE, bool)
    where[:, 24:40] = True
    return where


@pytest.fixture
def expected():
    return np.random.default_rng(0).random((*SIZE, 3))


def edge_noise(band, share, size, sign=None):
    """Differences of `size` on a share of the band's pixels, of random sign unless one is given."""
    rng = np.random.default_rng(1)
    hit = band & (rng.random(band.shape) < share)
    signs = rng.choice([-1, 1], band.shape) if sign is None else np.full(band.shape, sign)
    return (hit * signs * size)[..., None]


def test_equal_pictures_agree(expected, band):
    assert complaints(expected, expected, band, TOLERANCE) == []


def test_small_differences_anywhere_and_large_ones_of_both_signs_at_edges_agree(expected, band):
    noise = np.random.default_rng(2).uniform(-9e-4, 9e-4, expected.shape)
    assert complaints(expected + noise + edge_noise(band, 0.4, 0.05), expected, band, TOLERANCE) == []


def test_single_channel_maps_are_compared_too(expected, band):
    assert complaints(expected[..., 0], expected[..., 0], band, TOLERANCE) == []
    assert "inside" in complaints(expected[..., 0] + 0.01, expected[..., 0], band, TOLERANCE)[0]


def test_one_pixel_inside_is_found_and_named(expected, band):
    actual = expected.copy()
    actual[7, 11, 2] += 2e-3
    (found,) = complaints(actual, expected, band, TOLERANCE)
    assert found.startswith("inside: 0.002 at row 7, column 11")


def test_one_pixel_too_far_off_at_an_edge(expected, band):
    actual = expected.copy()
    actual[20, 30] += 0.2
    (found,) = complaints(actual, expected, band, TOLERANCE)
    assert found.startswith("edge: 0.2")


def test_too_many_edge_pixels(expected, band):
    (found,) = complaints(expected + edge_noise(band, 0.8, 0.01), expected, band, TOLERANCE)
    assert found.startswith("share: 0.")


def test_differences_of_one_sign_at_edges(expected, band):
    found = complaints(expected + edge_noise(band, 0.2, 0.01, sign=1), expected, band, TOLERANCE)
    assert [line.split(":")[0] for line in found] == ["bias"]


def test_a_constant_shift_below_every_other_limit_is_still_a_bias(expected, band):
    (found,) = complaints(expected + 5e-4 * band[..., None], expected, band, TOLERANCE)
    assert found.startswith("bias: mean 0.0005")


def test_several_faults_are_all_reported(expected, band):
    found = complaints(expected + 0.2, expected, band, TOLERANCE)
    assert [line.split(":")[0] for line in found] == ["inside", "edge", "share", "bias"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(expected, band, value):
    actual = expected.copy()
    actual[0, 0, 0] = value
    assert complaints(actual, expected, band, TOLERANCE) == ["not finite: NaN or infinity in a picture"]
    assert complaints(expected, actual, band, TOLERANCE) == ["not finite: NaN or infinity in a picture"]


def test_another_shape(expected, band):
    (found,) = complaints(expected[:, 1:], expected, band, TOLERANCE)
    assert found.startswith("shape (40, 63, 3)")


def test_a_band_that_covers_everything_is_no_comparison(expected):
    (found,) = complaints(expected, expected, np.ones(SIZE, bool), TOLERANCE)
    assert found.startswith("nothing to compare")


def test_an_empty_band_is_fine(expected):
    assert complaints(expected, expected, np.zeros(SIZE, bool), TOLERANCE) == []


def test_the_assertion_says_what_it_found(expected, band):
    with pytest.raises(AssertionError, match=r"inside: 0\.2.*bias"):
        assert_alike(expected + 0.2, expected, band, TOLERANCE)
    assert_alike(expected, expected, band, TOLERANCE)


def test_the_standard_error_counts_blocks_of_like_errors():
    """Noise that is constant over 8 x 8 blocks: counting pixels would claim an error 8 times smaller."""
    rng = np.random.default_rng(3)
    means, errors = [], []
    for _ in range(200):
        noise = np.kron(rng.standard_normal((10, 10)), np.ones((8, 8)))[..., None]
        mean, error = mean_and_error(noise, np.ones((80, 80), bool))
        means.append(mean)
        errors.append(error)
    assert np.std(means) == pytest.approx(0.1, rel=0.15)
    assert np.mean(errors) == pytest.approx(0.1, rel=0.05)


def edge_scene(plane, focus, behind=None):
    margin = 12
    front = sheet(SIZE, margin, 0.2, half_plane(SIZE, margin, 30), plane)
    return Scene((front, sheet(SIZE, margin, 0.7, 1.0, behind or bs.Plane(0.1))), bs.Lens(10.0, focus), margin)


def test_the_band_is_the_edge_grown_by_the_footprint():
    columns = np.flatnonzero(occlusion_band(edge_scene(bs.Plane(0.9), 0.5))[0])
    assert columns.tolist() == list(range(25, 35)), "radius 4 and one pixel of bilinear ramp round columns 29|30"


def test_an_edge_in_focus_has_no_band():
    assert not occlusion_band(edge_scene(bs.Plane(0.9), 0.9)).any()


def test_planes_that_cross_have_a_band_where_they_do():
    crossing = occlusion_band(edge_scene(bs.Plane(0.5, 5e-3), 0.3, behind=bs.Plane(0.45, -5e-3)))
    frontal = occlusion_band(edge_scene(bs.Plane(0.5, 5e-3), 0.3))
    assert crossing[:, 25:28].all(), "the planes meet at column 26.5"
    assert not frontal[:, :25].any()
    assert not crossing[:, :23].any()
