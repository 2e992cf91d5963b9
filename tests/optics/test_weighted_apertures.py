"""Apodised, onion-ring, anamorphic and picture openings: their own numbers, and what is refused."""

import math

import cv2
import numpy as np
import pytest
from support.scenes import Scene, enough, moments, point_light

import bokehsynth as bs
from bokehsynth.errors import UsageError
from bokehsynth.rendering.aperture.lens_points import vogel_points
from bokehsynth.rendering.aperture.outline import trace_outline

POINTS = vogel_points(200_000)
SIZE, RADIUS = (32, 48), 8.0
TENT = 1 / 6
"""Variance in px^2 that the bilinear look-up of a one-texel light adds."""


def mean(values):
    return np.asarray(values).mean(axis=0)


def spot(aperture, disparity=0.1, h=(0.0, 0.0), rays=1500):
    """Image [H, W, 3] of a light of power 1, RADIUS px behind the focus, by the reference."""
    lens, plane = bs.Lens(2.5 * RADIUS, 0.5, aperture), bs.Plane(disparity)
    margin = enough([plane], lens, SIZE)
    at = (round(24 + h[0] * 20), round(16 + h[1] * 12))
    scene = Scene((point_light(SIZE, margin, at, plane, 1000.0),), lens, margin)
    return scene.render("reference", rays).bokeh / 1000, at


# ------------------------------------------------------------------------------------------------------------- closed


@pytest.mark.parametrize("edge", [0.01, 0.2, 0.7])
def test_the_light_of_an_apodised_disc_and_its_second_moment(edge):
    """With u = |s|^2 and L = ln(edge): mean (e^L - 1)/L, mean of u (e^L (L - 1) + 1) / (L (e^L - 1))."""
    weight, power = bs.Apodized(edge).weight(POINTS), math.log(edge)
    assert mean(weight) == pytest.approx((edge - 1) / power, rel=1e-5)
    square = np.square(POINTS).sum(axis=1)
    expected = (edge * (power - 1) + 1) / (power * (edge - 1))
    assert (weight @ square) / weight.sum() == pytest.approx(expected, rel=1e-5)
    assert bs.Apodized(edge).weight(np.array([[0.6, 0.8], [0, 0]])) == pytest.approx([edge, 1])
    image, at = spot(bs.Apodized(edge))
    energy, centre, variance = moments(image[..., 1], at)
    assert energy == pytest.approx(1, rel=1e-3)
    np.testing.assert_allclose(centre, 0, atol=0.02)
    np.testing.assert_allclose(np.array(variance) - TENT, RADIUS**2 * expected / 2, rtol=1e-3)


@pytest.mark.parametrize("rings", [1, 7, 30])
def test_whole_onion_rings_leave_the_light_and_add_to_the_second_moment(rings):
    """Integral of r cos(2 pi n r) is 0 over 0..1; of r^3 cos(2 pi n r) it is 3 / (2 pi n)^2."""
    weight = bs.OnionRings(rings, 0.4).weight(POINTS)
    assert mean(weight) == pytest.approx(1, abs=2e-4)
    square = np.square(POINTS).sum(axis=1)
    assert mean(weight * square) == pytest.approx(0.5 + 2 * 0.4 * 3 / (2 * math.pi * rings) ** 2, abs=3e-4)
    at = np.stack([np.arange(2 * rings + 1) / (2 * rings), np.zeros(2 * rings + 1)], axis=1)
    expected = [1.4 if i % 2 == 0 else 0.6 for i in range(2 * rings + 1)]
    np.testing.assert_allclose(bs.OnionRings(rings, 0.4).weight(at), expected, atol=1e-9)


@pytest.mark.parametrize("squeeze", [1.0, 1.33, 2.0])
def test_an_oval_has_its_area_and_moments(squeeze):
    segments = trace_outline(bs.Anamorphic(squeeze))
    p, q = segments[:, :2], segments[:, 2:]
    cross = p[:, 0] * q[:, 1] - q[:, 0] * p[:, 1]
    area = cross.sum() / 2
    assert area == pytest.approx(math.pi / squeeze, rel=2e-5)
    square = (cross @ (p * p + p * q + q * q)) / (12 * area)
    np.testing.assert_allclose(square, [0.25 / squeeze**2, 0.25], rtol=4e-5)
    turned = bs.Anamorphic(squeeze, rotation=math.pi / 2)
    np.testing.assert_array_equal(turned.inside(POINTS), bs.Anamorphic(squeeze).inside(POINTS[:, ::-1] * [1, -1]))


def test_the_squeeze_changes_over_the_field():
    """Area pi / (2 + (1.25 - 2) |h|^2)."""
    aperture = bs.Anamorphic(2.0, corner=1.25)
    assert aperture.depends_on_field
    assert not bs.Anamorphic(2.0, corner=2.0).depends_on_field
    inside = aperture.inside(POINTS)
    assert mean(inside) == pytest.approx(1 / 1.25, abs=1e-4)
    for h in ((0.0, 0.0), (0.6, 0.0), (-0.6, 0.8)):
        passed = aperture.weight(POINTS, np.broadcast_to(h, POINTS.shape)) * inside
        assert mean(passed) == pytest.approx(1 / (2 - 0.75 * (h[0] ** 2 + h[1] ** 2)), abs=2e-4)
    y, x = np.mgrid[0:32:0.1, 0:48:0.1]
    for place in ((0.0, 0.0), (0.7, 0.2)):
        image, at = spot(aperture, h=place)
        _, _, variance = moments(image[..., 1], at)
        field = np.stack([x - 23.5, y - 15.5], axis=-1).reshape(-1, 2) / (math.hypot(*SIZE) / 2)
        s = np.stack([x - at[0], y - at[1]], axis=-1).reshape(-1, 2) / RADIUS
        squeeze = 2 - 0.75 * np.square(field).sum(axis=1)
        light = aperture.weight(s, field) * aperture.inside(s) * squeeze  # each pixel is divided by its own opening
        expected = (light @ np.square(s)) / light.sum() * RADIUS**2
        np.testing.assert_allclose(np.array(variance) - TENT, expected, rtol=0.01)
    assert expected[1] / expected[0] < 1.8**2  # at the centre it is 4


# ------------------------------------------------------------------------------------------------------------ pictures


def test_a_picture_is_its_numbers_upright():
    """An L: texel centres give its numbers; behind the focus the light is upright, x right and y down."""
    picture = np.zeros((5, 4))
    picture[1:4, 1], picture[3, 1:3] = 1, 0.5
    aperture = bs.ImageAperture(picture)
    y, x = np.mgrid[:5, :4]
    centres = np.stack([(x.ravel() + 0.5 - 2) / 2.5, (y.ravel() + 0.5 - 2.5) / 2.5], axis=1)
    within = np.hypot(*centres.T) <= 1
    np.testing.assert_allclose(aperture.weight(centres), picture.ravel(), atol=1e-15)
    np.testing.assert_array_equal(aperture.inside(centres), (picture.ravel() > 0) & within)
    image, at = spot(bs.ImageAperture(np.kron(picture, np.ones((4, 4)))))
    _, centre, _ = moments(image[..., 0], at)
    light = picture / picture.sum()
    expected = [(light * (x + 0.5 - 2) / 2.5).sum(), (light * (y + 0.5 - 2.5) / 2.5).sum()]
    np.testing.assert_allclose(np.array(centre) / RADIUS, expected, atol=0.02)


def test_a_ramp_has_its_closed_form():
    """Weight (1 + x)/2 over the disc: mean 1/2 (the picture holds it linearly), centroid 1/4."""
    ramp = np.broadcast_to((np.arange(200) + 0.5) / 200, (200, 200))
    aperture = bs.ImageAperture(ramp)
    weight = aperture.weight(POINTS) * aperture.inside(POINTS) * ramp.max()
    assert mean(weight) == pytest.approx(0.5, abs=1e-4)
    assert (weight @ POINTS) / weight.sum() == pytest.approx([0.25, 0], abs=2e-4)


def test_colours_are_weights_per_channel():
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4, 0], picture[:, 4:, 2], picture[:, :, 1] = 200, 100, 100
    weight = bs.ImageAperture(picture).weight(np.array([[-0.5, 0.1], [0.5, 0.1]]))
    np.testing.assert_allclose(weight, [[1, 0.5, 0], [0, 0.5, 0.5]])


def test_a_large_picture_is_reduced_by_means():
    picture = np.random.default_rng(3).random((700, 1000))
    aperture = bs.ImageAperture(picture)
    assert aperture.weights.shape == (175, 250, 1)
    assert aperture.weights.mean() == pytest.approx((picture / picture.max()).mean())


@pytest.mark.parametrize(
    ("name", "stored", "expected"),
    [
        ("grey.png", np.array([[0, 128], [255, 64]], np.uint8), [[0, 128 / 255], [1, 64 / 255]]),
        ("deep.png", np.array([[0, 1000], [65535, 30000]], np.uint16), [[0, 1000 / 65535], [1, 30000 / 65535]]),
        ("float.exr", np.array([[0, 2], [8, 4]], np.float32), [[0, 0.25], [1, 0.5]]),
    ],
)
def test_files_hold_numbers_without_a_curve(tmp_path, name, stored, expected):
    path, big = tmp_path / name, np.kron(stored, np.ones((4, 4), stored.dtype))
    if name.endswith("exr"):
        from bokehsynth.imaging.write_image import save_map

        save_map(path, big, 1.0)
    else:
        cv2.imwrite(str(path), big)
    np.testing.assert_allclose(
        bs.ImageAperture(path).weights[::4, ::4, 0], np.array(expected) / np.max(expected), atol=1e-6
    )


def test_transparent_parts_are_dark(tmp_path):
    picture = np.full((8, 8, 4), 255, np.uint8)
    picture[:, :4, 3] = 0
    cv2.imwrite(str(tmp_path / "half.png"), picture)
    aperture = bs.ImageAperture(tmp_path / "half.png")
    assert list(aperture.inside(np.array([[-0.5, 0.0], [0.5, 0.0]]))) == [False, True]


def test_equal_pictures_are_equal_apertures():
    a, b = bs.ImageAperture(np.eye(4)), bs.ImageAperture(3 * np.eye(4))
    assert a == b
    assert hash(a) == hash(b)
    assert a != bs.ImageAperture(np.eye(5))
    assert "4 x 4, grey" in repr(a)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.zeros((4, 4)), "bright somewhere"),
        (-np.ones((4, 4)), ">= 0"),
        (np.full((4, 4), np.nan), "finite"),
        (np.ones(4), r"\[H, W\] or \[H, W, 3\]"),
        (np.ones((4, 4, 2)), "got shape"),
        (np.array([["a"]]), "must hold numbers"),
        (np.ones((0, 4)), "got shape"),
    ],
)
def test_arrays_that_are_no_opening(picture, words):
    with pytest.raises(UsageError, match=words):
        bs.ImageAperture(picture)


def test_files_that_are_no_opening(tmp_path):
    with pytest.raises(UsageError, match=r"nothing\.png: No such file"):
        bs.ImageAperture(tmp_path / "nothing.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UsageError, match=r"text\.png"):
        bs.ImageAperture(tmp_path / "text.png")
    (tmp_path / "large.png").write_bytes(bytes(300_000))
    with pytest.raises(UsageError, match="at most 262,144 are read"):
        bs.ImageAperture(tmp_path / "large.png")
    cv2.imwrite(str(tmp_path / "vast.png"), np.zeros((2100, 2100), np.uint8))
    with pytest.raises(UsageError, match="more than 4"):
        bs.ImageAperture(tmp_path / "vast.png")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bs.Apodized(0), "edge must be in 0..1"),
        (lambda: bs.OnionRings(50), "rings must be in 0.5..40"),
        (lambda: bs.OnionRings(5, 2), "contrast must be in 0..1"),
        (lambda: bs.Anamorphic(0.5), "squeeze must be in 1..20"),
        (lambda: bs.Anamorphic(2, corner=math.nan), "corner must be in 1..20"),
        (lambda: bs.Anamorphic(2, rotation=math.inf), "rotation must be finite"),
    ],
)
def test_numbers_out_of_range(make, words):
    with pytest.raises(UsageError, match=words):
        make()


@pytest.mark.parametrize(
    "aperture",
    [
        pytest.param(bs.Apodized(0.05), id="apodised", marks=pytest.mark.long),
        pytest.param(bs.OnionRings(12, 0.5), id="onion"),
        pytest.param(bs.Anamorphic(2.0), id="anamorphic", marks=pytest.mark.long),
        pytest.param(bs.ImageAperture(np.tri(9)), id="image"),
    ],
)
def test_they_keep_the_contract(aperture):
    assert bs.check_aperture(aperture).cpu.startswith("as the reference")
