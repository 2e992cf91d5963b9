"""Scenes whose picture is known by theory, through the public API, on every backend that needs no GPU.

Tolerances say the worst value seen here (x86-64, NumPy 2.4, Numba 0.68) and lie a little above it. The CPU renderer
averages a layer exactly, so that its limits are those of float32 and, on tilted planes, of kernels kept for some radii
only; the reference samples.
"""

import math

import numpy as np
import pytest
from support.scenes import (
    Scene,
    battery_scene,
    centred,
    disc_share,
    enough,
    half_plane,
    knife_edge,
    matte,
    moments,
    point_light,
    sheet,
    texture,
    trace_by_hand,
)

import bokehsynth as bs
from bokehsynth.errors import UsageError

SIZE = (32, 48)
BACKENDS = ["cpu", "cuda", "reference"]
pytestmark = pytest.mark.kernels
MANY = {"cpu": 10_000, "cuda": 10_000, "reference": 700}
"""Rays enough for a closed form in about half a second."""

backends = pytest.mark.parametrize("backend", BACKENDS)


class RimDark(bs.Aperture):
    """Apodised: no light at all through the outer rim, where a table's first point lies."""

    def inside(self, s):
        return np.hypot(s[:, 0], s[:, 1]) <= 1

    def weight(self, s):
        return np.maximum(0, 0.8 - np.hypot(s[:, 0], s[:, 1]))


class Tilted(bs.Aperture):
    """Red passes mostly on the right, green evenly, blue mostly on the left."""

    def inside(self, s):
        return np.hypot(s[:, 0], s[:, 1]) <= 1

    def weight(self, s):
        return np.stack([0.3 * (1 + s[:, 0]), np.full(len(s), 0.7), 0.2 * (1 - s[:, 0])], axis=1)


class NoBlue(Tilted):
    """A yellow filter."""

    def weight(self, s):
        return super().weight(s) * [1, 1, 0]


class Shifted(bs.Disc):
    """Every ray lands 3 px further right and 2 px further up."""

    def aberration(self, s, h):
        return np.broadcast_to([3.0, -2.0], s.shape)


class Defocused(bs.Disc):
    """4 px of blur at every depth, whatever the lens's own."""

    def aberration(self, s, h):
        return 4.0 * s


class Magnifying(bs.Disc):
    """Lateral aberration: 5 px outwards at the picture's corner."""

    def aberration(self, s, h):
        return 5.0 * h


def centred_grid():
    """Offsets x, y [H, W] from the centre of a picture of SIZE."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    return x - (SIZE[1] - 1) / 2, y - (SIZE[0] - 1) / 2


def distance_from(at):
    """Distance [H, W] of every pixel from pixel (x, y)."""
    x, y = centred_grid()
    return np.hypot(x - centred(SIZE, at)[0], y - centred(SIZE, at)[1])


def soft_layers(lens, bottom_alpha=1.0, size=SIZE, color=None, planes=((0.9,), (0.5, 1e-3), (0.1, 0, -1e-3))):
    planes = [bs.Plane(*numbers) for numbers in planes]
    margin = enough(planes, lens, size)
    layers = []
    for i, plane in enumerate(planes):
        alpha = bottom_alpha if i == len(planes) - 1 else matte(size, margin, 40 + i)
        layers.append(sheet(size, margin, texture(size, margin, 50 + i) if color is None else color, alpha, plane))
    return Scene(tuple(layers), lens, margin)


# ------------------------------------------------------------------ constant and in focus


@backends
@pytest.mark.parametrize("K", [0.0, 0.4, 5.0, 25.0])
@pytest.mark.parametrize("bottom_alpha", [1.0, 0.6])
def test_one_colour_stays_that_colour_through_any_mattes(backend, K, bottom_alpha):
    scene = soft_layers(bs.Lens(K, 0.55), bottom_alpha, color=(0.37, 3.7, 0.0))
    frames = scene.render(backend, None if backend == "cpu" else 100)
    expected = np.float32([0.37, 3.7, 0.0])
    # float32 sums over up to 1,300 rays: worst 1.6e-5 of the value; the reference adds in float64
    rtol = {"cpu": 1.8e-5, "cuda": 2.2e-6, "reference": 2e-7}[backend]
    np.testing.assert_allclose(frames.bokeh, np.broadcast_to(expected, frames.bokeh.shape), rtol=rtol, atol=0)
    np.testing.assert_allclose(frames.all_in_focus, np.broadcast_to(expected, frames.bokeh.shape), rtol=5e-7, atol=0)


@backends
@pytest.mark.parametrize("alpha", [1e-2, 1e-4])
def test_a_thin_veil_over_nothing_keeps_its_colour(backend, alpha):
    lens = bs.Lens(5.0, 0.5)
    scene = Scene((sheet(SIZE, 4, 0.5, alpha, bs.Plane(0.9)),), lens, 4)
    frames = scene.render(backend, 100)
    np.testing.assert_allclose(frames.bokeh, 0.5, rtol=1e-3)
    np.testing.assert_allclose(frames.coverage, alpha, rtol=1e-3)


APERTURES = [bs.Disc(), bs.Ring(0.5), bs.Polygon(6), Tilted(), RimDark()]
FIELD_APERTURES = [bs.CatEye(0.8), bs.CatEye(1.5, 0.8), Shifted(), Magnifying()]


def aperture_name(aperture):
    return repr(aperture) if isinstance(aperture, (bs.Ring, bs.Polygon, bs.CatEye)) else type(aperture).__name__


@pytest.mark.parametrize(
    ("backend", "aperture"),
    [(backend, aperture) for backend in BACKENDS for aperture in APERTURES + FIELD_APERTURES],
    ids=lambda value: value if isinstance(value, str) else aperture_name(value),
)
def test_without_blur_the_picture_is_the_all_in_focus_one_bit_for_bit(backend, aperture):
    scene = soft_layers(bs.Lens(0.0, 0.5, aperture))
    frames = scene.render(backend)
    assert frames.bokeh.tobytes() == frames.all_in_focus.tobytes()
    assert frames.coverage.min() == frames.coverage.max() == 1


def test_all_in_focus_is_the_over_composite():
    scene = battery_scene("three frontal")
    expected, _ = trace_by_hand(scene, np.zeros((1, 2)), np.ones((1, 3)))
    for backend in BACKENDS:
        np.testing.assert_allclose(scene.render(backend).all_in_focus, expected, rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
@pytest.mark.parametrize("aperture", APERTURES, ids=aperture_name)
def test_in_focus_pixels_that_nothing_blurred_crosses_keep_their_bits(backend, aperture):
    lens = bs.Lens(10.0, 0.4, aperture)
    front = half_plane(SIZE, 7, 30)
    scene = Scene(
        (
            sheet(SIZE, 7, texture(SIZE, 7, 1), front, bs.Plane(0.8)),
            sheet(SIZE, 7, texture(SIZE, 7, 2, lights=5), matte(SIZE, 7, 3) >= 0.5, bs.Plane(0.4)),
            sheet(SIZE, 7, texture(SIZE, 7, 4, lights=5), 1.0, bs.Plane(0.4)),
        ),
        lens,
        7,
    )
    frames = scene.render(backend)
    clear = np.s_[:, :25]  # blur radius 4: rays of columns 0..25 stay before column 29, the last with alpha 0
    assert frames.bokeh[clear].tobytes() == frames.all_in_focus[clear].tobytes()
    assert (frames.bokeh[:, 27:] != frames.all_in_focus[:, 27:]).mean() > 0.9
    exact = scene.render("reference", 50)
    np.testing.assert_allclose(exact.bokeh[clear], exact.all_in_focus[clear], rtol=1.2e-7)


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_an_opaque_layer_in_focus_hides_a_blurred_one_bit_for_bit(backend):
    lens = bs.Lens(10.0, 0.8)
    subject = sheet(SIZE, 10, texture(SIZE, 10, 1, lights=5), half_plane(SIZE, 10, 20), bs.Plane(0.8))
    scene = Scene((subject, sheet(SIZE, 10, texture(SIZE, 10, 2), 1.0, bs.Plane(0.1))), lens, 10)
    frames = scene.render(backend)
    assert frames.bokeh[:, 20:].tobytes() == frames.all_in_focus[:, 20:].tobytes()
    assert (frames.bokeh[:, :20] != frames.all_in_focus[:, :20]).mean() > 0.9


@backends
@pytest.mark.parametrize("focus", [0.9, 0.5, 0.2])
def test_a_half_transparent_veil_is_exactly_half_and_half(backend, focus):
    lens = bs.Lens(9.0, focus)
    veil = sheet(SIZE, 9, (0.2, 4.0, 0.6), 0.5, bs.Plane(0.9))
    behind = sheet(SIZE, 9, texture(SIZE, 9, 7), 1.0, bs.Plane(0.2))
    both = Scene((veil, behind), lens, 9).render(backend, 400).bokeh
    alone = Scene((behind,), lens, 9).render(backend, 400).bokeh
    # the same rays meet `behind`; float32 sums: worst 5.5e-6
    np.testing.assert_allclose(both, 0.5 * np.float32([0.2, 4.0, 0.6]) + 0.5 * alone, rtol=6e-6)


# ------------------------------------------------------------------ knife edges

PLANES = {
    "frontal": bs.Plane(0.9),
    "tilted along x": bs.Plane(0.9, 6e-3, 0.0),
    "tilted along y": bs.Plane(0.9, 0.0, -8e-3),
    "tilted both": bs.Plane(0.85, -7e-3, 5e-3),
    "behind the focus": bs.Plane(0.1, 3e-3, 3e-3),
}


def assert_knife(backend, plane, actual, expected):
    """A knife edge to the error of the backend: the largest, and the mean, which has no reason to have a sign.

    cpu: float32 on a frontal plane (worst 2.6e-6), kernels between two nodes of the radius on a tilted one (worst
    2.7e-4 where the edge touches the rim, mean 5.1e-6). reference: the sampling error of its rays (1.26e-3).
    """
    largest, mean = {
        "cpu": (2.8e-6 if plane.slope == 0 else 2.9e-4, 7e-6),
        "cuda": (5e-4, 1e-4),
        "reference": (1.35e-3, 1.35e-4),
    }[backend]
    difference = actual.astype(np.float64) - expected
    assert np.abs(difference).max() < largest
    assert abs(difference.mean()) < mean


@backends
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", PLANES)
def test_a_blurred_knife_edge_over_a_sharp_background(backend, name, axis):
    plane, lens = PLANES[name], bs.Lens(16.0, 0.5)
    margin = enough([plane], lens, SIZE)
    edge = 22 + 8 * axis
    front = sheet(SIZE, margin, 0.0, half_plane(SIZE, margin, edge, axis), plane)
    white = sheet(SIZE, margin, 1.0, 1.0, bs.Plane(0.5))
    picture = Scene((front, white), lens, margin).render(backend, MANY[backend]).bokeh[..., 1]
    expected = 1 - knife_edge(SIZE, lens, plane, edge, axis)
    if name == "behind the focus":
        expected = np.ones(SIZE)  # hidden by the white sheet
    assert_knife(backend, plane, picture, expected)


@backends
@pytest.mark.parametrize("name", PLANES)
def test_coverage_of_a_knife_edge_over_nothing(backend, name):
    """One opaque half plane and nothing behind: coverage is the lens's share, the colour stays the sheet's."""
    plane, lens = PLANES[name], bs.Lens(16.0, 0.5)
    margin = enough([plane], lens, SIZE)
    scene = Scene((sheet(SIZE, margin, (0.8, 2.0, 0.1), half_plane(SIZE, margin, 30), plane),), lens, margin)
    frames = scene.render(backend, MANY[backend])
    expected = knife_edge(SIZE, lens, plane, 30)
    assert_knife(backend, plane, frames.coverage, expected)
    seen = frames.coverage > 0
    assert np.isfinite(frames.bokeh).all()
    assert np.abs(frames.bokeh[frames.coverage > 1e-3] / np.float32([0.8, 2.0, 0.1]) - 1).max() < 1e-4
    assert (frames.bokeh[~seen] == 0).all(), "no light, no colour"
    assert (~seen).mean() > 0.1


def test_the_edge_profile_is_the_circle_segment():
    """`scenes.knife_edge` itself against the textbook form, for a sharp edge: r^2 acos(h/r) - h sqrt(r^2 - h^2)."""
    u = np.linspace(-0.99, 0.99, 41)
    segment = (np.arccos(u) - u * np.sqrt(1 - u * u)) / math.pi
    np.testing.assert_allclose(1 - disc_share(u), segment, atol=1e-12)


@backends
def test_a_sharp_edge_before_a_blurred_background(backend):
    """No bleeding: the background shows up to the edge, with the light that enters from behind the subject."""
    lens = bs.Lens(16.0, 0.9)
    hidden = sheet(SIZE, 13, 1.0, half_plane(SIZE, 13, 30), bs.Plane(0.3))  # white, from under the subject's edge on
    black = sheet(SIZE, 13, 0.0, 1.0, bs.Plane(0.3))
    subject = sheet(SIZE, 13, (0.4, 0.5, 0.6), half_plane(SIZE, 13, 30), bs.Plane(0.9))
    frames = Scene((subject, hidden, black), lens, 13).render(backend, MANY[backend])
    expected = knife_edge(SIZE, lens, bs.Plane(0.3), 30)
    assert_knife(backend, bs.Plane(0.3), frames.bokeh[:, :30, 0], expected[:, :30])
    assert frames.bokeh[:, 29, 0].min() > 0.4
    np.testing.assert_allclose(frames.bokeh[:, 30:] / np.float32([0.4, 0.5, 0.6]), 1, rtol=1e-6)


@backends
def test_complementary_mattes_at_one_depth_are_one_sheet(backend):
    """Two halves of one sheet: their rays are correlated, and "over" of the blurred layers would be wrong by 0.19.

    With the ramp's alpha a along a ray, light is a*c0 + (1-a)^2*c1 + a(1-a)*c2; E[a] and E[a^2] are closed forms.
    """
    plane, lens = bs.Plane(0.9, 2e-3), bs.Lens(20.0, 0.5)
    margin = enough([plane], lens, SIZE)
    left = half_plane(SIZE, margin, 30)
    colors = [np.float32(c) for c in [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]]
    layers = (
        sheet(SIZE, margin, colors[0], left, plane),
        sheet(SIZE, margin, colors[1], 1 - left, plane),
        sheet(SIZE, margin, colors[2], 1.0, bs.Plane(0.1)),
    )
    picture = Scene(layers, lens, margin).render(backend, MANY[backend]).bokeh
    mean, square = knife_edge(SIZE, lens, plane, 30), knife_edge(SIZE, lens, plane, 30, power=2)
    expected = np.stack([mean, 1 - 2 * mean + square, mean - square], axis=-1)
    limit = {"cpu": 1.5e-4, "cuda": 1.5e-4, "reference": 1.35e-3}[backend]  # worst 1.43e-4 and 1.2e-3
    assert np.abs(picture - expected).max() < limit
    marginals = np.stack([mean, (1 - mean) ** 2, mean * (1 - mean)], axis=-1)
    assert np.abs(marginals - expected).max() > 0.19, "the scene tells the two apart"


# ------------------------------------------------------------------ point lights


def shoot_light(backend, lens, plane, at, size=SIZE, samples=None):
    margin = enough([plane], lens, size)
    scene = Scene((point_light(size, margin, at, plane, 1000.0),), lens, margin)
    return scene.render(backend, samples or MANY[backend]).bokeh / 1000


@backends
@pytest.mark.parametrize("disparity", [0.9, 0.1])
def test_a_frontal_point_light_is_a_flat_disc(backend, disparity):
    lens, at = bs.Lens(20.0, 0.5), (26, 17)
    radius = 8.0
    image = shoot_light(backend, lens, bs.Plane(disparity), at)[..., 0]
    total, mean, square = moments(image, at)
    exact = backend == "cpu"
    assert total == pytest.approx(1, abs=1e-7 if exact else 2e-6)  # all light arrives: worst 3.4e-8 and 3e-7
    assert np.abs(mean).max() < (1e-6 if exact else 0.02)  # worst 0 and 0.012
    # 1/6: the bilinear tent; worst 3.2e-5 and 1.3e-3
    np.testing.assert_allclose(square, radius**2 / 4 + 1 / 6, rtol=3.4e-5 if exact else 3e-3)
    distance = distance_from(at)
    assert (image[distance > radius + math.sqrt(2)] == 0).all()
    assert (image[distance < radius - math.sqrt(2)] > 0).all()
    flat = image[distance < radius - math.sqrt(2)] * math.pi * radius**2
    assert flat.mean() == pytest.approx(1, abs=4e-3)
    assert np.abs(flat - 1).max() < (3e-7 if exact else 0.15)  # worst 1.8e-7, two steps of float32


@backends
@pytest.mark.parametrize("gradient", [(8e-3, 0.0), (0.0, -8e-3), (-6e-3, 5e-3)])
@pytest.mark.parametrize("focus", [0.3, 0.9])
def test_a_point_light_on_a_tilted_plane(backend, gradient, focus):
    """Its image is a disc about the light, of radius K|delta| at the light, whose brightness is linear.

    A pixel p that sees q has p = q - s*K*delta(q). Its share of the lens is the Jacobian
    delta(p) / (pi K^2 delta(q)^3): linear in p, 1/(pi r^2) at q. So the light's sum is 1, its centroid is shifted by
    g*r^2 / (4 delta(q)) and its mean square per axis is r^2/4 + 1/6. That is for an image without pixels: the sum over
    pixel centres differs by up to 5.0e-4 (cpu), the centroid by 2.9e-3 px, the square by 1.6e-3.

    A kernel between two nodes has a little of the larger one's rim: 2.3e-6 of a disc's brightness.
    """
    lens, plane, at = bs.Lens(20.0, focus), bs.Plane(0.6, *gradient), (30, 18)
    delta = plane.at(*centred(SIZE, at)) - focus
    radius = 20.0 * abs(delta)
    image = shoot_light(backend, lens, plane, at)[..., 0]
    total, mean, square = moments(image, at)
    exact = backend != "reference"
    assert total == pytest.approx(1, abs=5.3e-4 if exact else 4e-3)
    np.testing.assert_allclose(mean, np.array(gradient) * radius**2 / 4 / delta, atol=3e-3 if exact else 0.03)
    np.testing.assert_allclose(square, radius**2 / 4 + 1 / 6, rtol=1.7e-3 if exact else 0.02)
    beyond = image[distance_from(at) > radius + 1.6] * math.pi * radius**2
    assert beyond.max() <= (2.5e-6 if exact else 0)


@backends
def test_the_blur_radius_is_linear_along_a_tilted_plane(backend):
    """Radii measured from the second moment of five lights along the slope, on both sides of the focus."""
    plane, lens, size = bs.Plane(0.5, 8e-3), bs.Lens(12.0, 0.5), (32, 120)
    measured = []
    for x in (10, 35, 60, 85, 110):
        _, _, square = moments(shoot_light(backend, lens, plane, (x, 16), size, MANY[backend] // 4)[..., 0], (x, 16))
        measured.append(math.sqrt(max(0, 4 * (sum(square) / 2 - 1 / 6))))
    expected = [12.0 * abs(plane.at(x - 59.5, 0) - 0.5) for x in (10, 35, 60, 85, 110)]
    # worst, at the light in focus (radius 0.05): 0.048; elsewhere 1.2e-3 (cpu) and 0.1
    np.testing.assert_allclose(measured, expected, atol=0.15)
    if backend == "cpu":
        np.testing.assert_allclose(measured[:2] + measured[3:], expected[:2] + expected[3:], atol=1.3e-3)


@backends
def test_a_triangular_iris_points_the_right_way(backend):
    """A vertex of the lens at +x; p = q - s*r, so behind the focus the image points right, before it left."""
    lens = bs.Lens(20.0, 0.5, bs.Polygon(3))
    share = 3 * math.sqrt(3) / (4 * math.pi)  # the triangle's area over the disc's
    for disparity, sign in ((0.1, 1), (0.9, -1)):
        image = shoot_light(backend, lens, bs.Plane(disparity), (28, 20))[..., 0]
        total, mean, square = moments(image, (28, 20))
        columns = np.flatnonzero(image.sum(axis=0)) - 28
        exact = backend == "cpu"
        assert total == pytest.approx(1, abs=1e-7 if exact else 2e-6)
        assert np.abs(mean).max() < (1.1e-5 if exact else 0.06)  # worst 9.7e-6
        assert (-sign * columns).max() == pytest.approx(4, abs=1)  # the side at -r/2
        assert (sign * columns).max() == pytest.approx(8, abs=1)  # the vertex at +r
        assert image[20, 28] == pytest.approx(1 / (share * math.pi * 64), rel=3e-6 if exact else 0.15)  # worst 2.4e-6
        # second moment of the triangle: R^2/8; worst 1.4e-5 (cpu)
        np.testing.assert_allclose(square, 64 / 8 + 1 / 6, rtol=1.5e-5 if exact else 0.03)


@backends
def test_a_mirror_lens_has_a_hole(backend):
    image = shoot_light(backend, bs.Lens(20.0, 0.5, bs.Ring(0.5)), bs.Plane(0.9), (28, 20))[..., 0]
    distance = distance_from((28, 20))
    assert (image[distance < 4 - math.sqrt(2)] == 0).all()
    ring = image[(distance > 4 + math.sqrt(2)) & (distance < 8 - math.sqrt(2))] * math.pi * (64 - 16)
    assert ring.mean() == pytest.approx(1, abs=0.02)
    total, _, square = moments(image, (28, 20))
    exact = backend == "cpu"
    assert total == pytest.approx(1, abs=1e-7 if exact else 2e-6)
    np.testing.assert_allclose(square, (64 + 16) / 4 + 1 / 6, rtol=3e-7 if exact else 5e-3)  # worst 1.3e-7 (cpu)
    if exact:
        np.testing.assert_allclose(ring, 1, rtol=3e-7)


@backends
@pytest.mark.parametrize(("disparity", "side"), [(0.9, -1), (0.1, 1)])
def test_weights_per_channel_move_the_channels_apart(backend, disparity, side):
    """Weight 1 + s_x has its centroid at s_x = 1/4; the image of a near light is flipped."""
    image = shoot_light(backend, bs.Lens(20.0, 0.5, Tilted()), bs.Plane(disparity), (28, 20))
    shifts = [moments(image[..., c], (28, 20))[1][0] for c in range(3)]
    totals = [moments(image[..., c], (28, 20))[0] for c in range(3)]
    np.testing.assert_allclose(totals, 1, rtol=1e-6)
    atol = {"cpu": 2.8e-5, "cuda": 2.1e-4, "reference": 0.02}[backend]  # worst 2.7e-5 (cpu), 1.9e-4 (cuda)
    np.testing.assert_allclose(shifts, np.array([side, 0, -side]) * 8.0 / 4, atol=atol)


@backends
@pytest.mark.parametrize("aperture", [RimDark(), NoBlue(), Tilted()], ids=aperture_name)
@pytest.mark.parametrize("K", [0.0, 8.0])
def test_lens_points_and_channels_without_light_leave_no_nan(backend, aperture, K):
    scene = soft_layers(bs.Lens(K, 0.5, aperture), color=0.5)
    frames = scene.render(backend, 200)
    channels = [0, 1] if isinstance(aperture, NoBlue) and K > 0 else [0, 1, 2]
    np.testing.assert_allclose(frames.bokeh[..., channels], 0.5, rtol=4e-6)  # worst 3.6e-6
    assert np.isfinite(frames.bokeh).all()
    assert np.isfinite(frames.coverage).all()


@pytest.mark.parametrize("aperture", APERTURES, ids=aperture_name)
def test_a_focused_frame_is_sharp_through_any_aperture(aperture):
    """Nothing moves with the lens point, so one ray must do, whichever ray of the table that is."""
    picture = texture(SIZE, 4, 11)
    scene = Scene((sheet(SIZE, 4, picture, 1.0, bs.Plane(0.5)),), bs.Lens(9.0, 0.5, aperture), 4)
    frames = scene.render("cpu")
    assert frames.bokeh.tobytes() == np.ascontiguousarray(picture[4:-4, 4:-4]).tobytes()
    assert (frames.coverage == 1).all()


# ------------------------------------------------------------------ cat's eye, aberration


def lens_shaped_area(distance, radius):
    """Area common to the unit disc and a disc of `radius` whose centre is `distance` away."""
    if distance >= 1 + radius:
        return 0.0
    if distance <= abs(1 - radius):
        return math.pi * min(1, radius) ** 2
    a = math.acos((distance**2 + 1 - radius**2) / (2 * distance))
    b = math.acos((distance**2 + radius**2 - 1) / (2 * distance * radius))
    return a - math.sin(2 * a) / 2 + radius**2 * (b - math.sin(2 * b) / 2)


@pytest.mark.parametrize(("strength", "radius"), [(0.0, 1.0), (0.6, 1.0), (1.3, 0.9), (0.8, 1.4)])
def test_transmission_of_a_cats_eye_is_the_area_of_two_discs(strength, radius):
    lens = bs.Lens(6.0, 0.5, bs.CatEye(strength, radius))
    frames = Scene((sheet(SIZE, 6, 0.5, 1.0, bs.Plane(0.9)),), lens, 6).render("reference", 300)
    x, y = centred_grid()
    distance = strength * np.hypot(x, y) / (math.hypot(*SIZE) / 2)
    expected = np.vectorize(lens_shaped_area)(distance, radius) / math.pi
    assert np.abs(frames.transmission - expected).max() < 9.9e-3  # 4,096 points in rings: worst 9.4e-3


def test_a_cats_eye_darkens_only_when_asked():
    aperture = bs.CatEye(0.9)
    white = sheet(SIZE, 6, 0.8, 1.0, bs.Plane(0.9))
    even = Scene((white,), bs.Lens(6.0, 0.5, aperture), 6).render("reference", 500)
    fall = Scene((white,), bs.Lens(6.0, 0.5, aperture, falloff=True), 6).render("reference", 500)
    np.testing.assert_allclose(even.bokeh, 0.8, rtol=1e-6)
    assert fall.transmission.min() < 0.5
    np.testing.assert_allclose(fall.bokeh[..., 0], 0.8 * fall.transmission, atol=9e-3)  # worst 7.6e-3


def test_a_light_in_the_corner_draws_a_cats_eye():
    """Pixel p sees the light at q where s = (q - p)/r lies in both discs; its brightness there is 1/(passed r^2)."""
    aperture, at, radius = bs.CatEye(1.0), (40, 7), 6.0
    image = shoot_light("reference", bs.Lens(15.0, 0.5, aperture), bs.Plane(0.9), at, samples=4000)[..., 0]
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    s = np.stack([at[0] - x, at[1] - y]) / radius
    h = np.stack(centred_grid()) / (math.hypot(*SIZE) / 2)
    inner = 1 - math.sqrt(2) / radius
    both = np.maximum(np.hypot(*s), np.hypot(*(s - h)))
    assert (image[both > 2 - inner] == 0).all()
    lit = both < inner
    passed = np.vectorize(lens_shaped_area)(np.hypot(*h), 1.0)
    assert lit.sum() > 15
    np.testing.assert_allclose(image[lit] * passed[lit] * radius**2, 1, atol=0.12)
    assert ((np.hypot(*s) < inner) & (image == 0)).sum() > 10, "and part of the disc is cut away"


def test_no_pupil_no_darkening():
    frames = soft_layers(bs.Lens(5.0, 0.5, bs.Ring(0.4), falloff=True)).render("cpu")
    assert (frames.transmission == 1).all()


def test_aberration_adds_pixels_to_every_ray():
    """p' moves by the aberration, so the image of a point moves the other way; whole pixels keep the bits."""
    lens = bs.Lens(5.0, 0.5)
    scene = Scene((sheet(SIZE, 8, texture(SIZE, 8, 3, lights=4), 1.0, bs.Plane(0.9)),), lens, 8)
    moved = Scene(scene.layers, bs.Lens(5.0, 0.5, Shifted()), 8)
    plain, shifted = scene.render("reference", 60).bokeh, moved.render("reference", 60).bokeh
    np.testing.assert_allclose(shifted[2:, :-3], plain[:-2, 3:], rtol=2e-7)


def test_aberration_may_depend_on_the_lens_point():
    """4 px times s in focus is a disc of radius 4."""
    margin = 8
    light = point_light(SIZE, margin, (28, 20), bs.Plane(0.5), 1000.0)
    image = Scene((light,), bs.Lens(1.0, 0.5, Defocused()), margin).render("reference", 1500).bokeh[..., 0] / 1000
    total, _, square = moments(image, (28, 20))
    assert total == pytest.approx(1, abs=2e-6)
    np.testing.assert_allclose(square, 16 / 4 + 1 / 6, rtol=5e-3)


def test_aberration_may_depend_on_the_field():
    """p' = p + 5 h: a magnified picture, linear in the offset from the centre."""
    half = math.hypot(*SIZE) / 2
    margin = 8
    ramp = np.broadcast_to(np.arange(64, dtype=np.float32)[None, :, None], (48, 64, 3))
    scene = Scene((sheet(SIZE, margin, ramp, 1.0, bs.Plane(0.5)),), bs.Lens(1.0, 0.5, Magnifying()), margin)
    x = centred_grid()[0][0]
    expected = x * (1 + 5 / half) + 23.5 + margin
    np.testing.assert_allclose(scene.render("reference", 3).bokeh[5, :, 1], expected, rtol=1e-6)


# ------------------------------------------------------------------ symmetry, order, scale


@backends
@pytest.mark.parametrize("factor", [8.0, 0.3])
def test_twice_the_light_is_twice_the_picture(backend, factor):
    scene = battery_scene("tilted")
    scaled = [bs.Layer(layer.color * np.float32(factor), layer.alpha, layer.disparity) for layer in scene.layers]
    plain = scene.render(backend, 64).bokeh
    brighter = Scene(tuple(scaled), scene.lens, scene.margin).render(backend, 64).bokeh
    rtol = 0 if factor == 8.0 else 2e-6  # a power of two is exact in every sum
    np.testing.assert_allclose(brighter, plain * np.float32(factor), rtol=rtol)


def turned(scene, how):
    """The scene mirrored left to right ("mirror"), top to bottom ("flip") or turned by a quarter ("turn")."""
    layers = []
    for layer in scene.layers:
        p = layer.disparity
        if how == "mirror":
            image, plane = lambda a: a[:, ::-1], bs.Plane(p.d, -p.gx, p.gy)
        elif how == "flip":
            image, plane = lambda a: a[::-1], bs.Plane(p.d, p.gx, -p.gy)
        else:
            image, plane = np.rot90, bs.Plane(p.d, p.gy, -p.gx)  # counter-clockwise: old right is new up
        layers.append(bs.Layer(image(layer.color), image(layer.alpha), plane))
    return Scene(tuple(layers), scene.lens, scene.margin), image


@pytest.mark.parametrize("how", ["mirror", "flip", "turn"])
@pytest.mark.parametrize("name", ["tilted", "crossing", "steep ground"])
def test_a_mirrored_or_turned_scene_gives_a_mirrored_or_turned_picture(name, how):
    scene = battery_scene(name)
    other, image = turned(scene, how)
    expected = image(scene.render("cpu", 256).bokeh)
    # Sixteen columns by four rows share a choice of kernels, from whichever end they are counted: lights of 20 show it.
    # Worst 1.1e-6, 3.4e-4 and 6.0e-4.
    limit = {"mirror": 1.2e-6, "flip": 3.6e-4, "turn": 6.3e-4}[how]
    assert np.abs(other.render("cpu", 256).bokeh - expected).max() < limit
    np.testing.assert_allclose(other.render().defocus, image(scene.render().defocus), atol=1e-5)


@pytest.mark.parametrize("how", ["mirror", "turn"])
def test_the_reference_has_no_preferred_direction(how):
    """Its spiral of rays has no symmetry, so only up to the sampling error of 400 rays: worst 1.6e-3."""
    scene = battery_scene("tilted", lights=0, smooth=5.0)
    other, image = turned(scene, how)
    difference = other.render("reference", 400).bokeh - image(scene.render("reference", 400).bokeh)
    assert np.abs(difference).max() < 2e-3
    assert np.abs(difference.mean()) < 2e-5


@backends
def test_an_empty_layer_changes_no_bit(backend):
    scene = battery_scene("tilted")
    plain = scene.render(backend, 64)
    shape = scene.layers[0].shape
    empty = bs.Layer(np.full((*shape, 3), 9.0), np.zeros(shape), bs.Plane(0.45, 1e-3))
    for place in range(4):
        layers = scene.layers[:place] + (empty,) + scene.layers[place:]
        frames = Scene(layers, scene.lens, scene.margin).render(backend, 64)
        for name in ("bokeh", "coverage", "all_in_focus", "disparity", "defocus"):
            if place == 3 and name in {"disparity", "defocus"}:
                continue  # behind everything it is the farthest layer, but alpha has reached 0.5 before it
            assert getattr(frames, name).tobytes() == getattr(plain, name).tobytes(), (place, name)


@backends
def test_the_order_given_is_irrelevant_when_depths_differ(backend):
    scene = battery_scene("three frontal")
    expected = scene.render(backend, 64)
    for order in ((2, 1, 0), (1, 2, 0), (0, 2, 1)):
        frames = Scene(tuple(scene.layers[i] for i in order), scene.lens, scene.margin).render(backend, 64)
        for name in ("bokeh", "all_in_focus", "coverage", "disparity"):
            assert getattr(frames, name).tobytes() == getattr(expected, name).tobytes(), (order, name)


RED, GREEN = np.float32([1, 0, 0]), np.float32([0, 1, 0])


@backends
@pytest.mark.parametrize("plane", [(0.7,), (0.7, 4e-3, -2e-3)])
@pytest.mark.parametrize("K", [0.0, 12.0])
def test_at_equal_depth_the_first_layer_given_wins(backend, plane, K):
    plane, lens = bs.Plane(*plane), bs.Lens(K, 0.3)
    margin = enough([plane], lens, SIZE)
    red, green = sheet(SIZE, margin, RED, 1.0, plane), sheet(SIZE, margin, GREEN, 1.0, plane)
    for layers, color in (((red, green), RED), ((green, red), GREEN)):
        frames = Scene(layers, lens, margin).render(backend, 64)
        np.testing.assert_allclose(frames.bokeh, np.broadcast_to(color, frames.bokeh.shape), rtol=2e-6)


@backends
@pytest.mark.parametrize("axis", ["gx", "gy"])
@pytest.mark.parametrize("sign", [1, -1])
def test_where_planes_meet_in_a_pixel_the_first_layer_given_wins(backend, axis, sign):
    """An X whose crossing runs through the middle column or row of an odd picture, through a pinhole."""
    size, margin = (9, 13), 2
    near, far = bs.Plane(0.5, **{axis: 0.01 * sign}), bs.Plane(0.5, **{axis: -0.01 * sign})
    layers = (sheet(size, margin, RED, 1.0, near), sheet(size, margin, GREEN, 1.0, far))
    red = Scene(layers, bs.Lens(0.0, 0.5), margin).render(backend).all_in_focus[..., 0]
    offset = np.mgrid[:9, :13][0] - 4 if axis == "gy" else np.mgrid[:9, :13][1] - 6
    np.testing.assert_array_equal(red, (offset * sign >= 0).astype(np.float32))


@backends
def test_an_x_of_two_sheets_is_an_x(backend):
    """Crossing opaque planes of red and green: the share of red is a knife edge that the lens itself draws.

    Red is nearer where d_red(p') > d_green(p'): with delta/(1 - K g.s) and opposite gradients that is
    delta_r - delta_g > K s.(g_g delta_r - g_r delta_g), a straight cut of the lens disc at u.
    """
    lens, red, green = bs.Lens(14.0, 0.1), bs.Plane(0.5, 8e-3, 1e-3), bs.Plane(0.5, -8e-3, 2e-3)
    margin = enough([red, green], lens, SIZE)
    layers = (sheet(SIZE, margin, RED, 1.0, red), sheet(SIZE, margin, GREEN, 1.0, green))
    picture = Scene(layers, lens, margin).render(backend, MANY[backend]).bokeh
    x, y = centred_grid()
    r, g = red.at(x, y) - 0.1, green.at(x, y) - 0.1
    cut = 14.0 * np.hypot(green.gx * r - red.gx * g, green.gy * r - red.gy * g)
    expected = disc_share((r - g) / cut)
    # yes or no per ray, no ramp to soften it: 7.1e-4, 5.9e-3
    limit = {"cpu": 7.5e-4, "cuda": 7.5e-4, "reference": 6.2e-3}[backend]
    assert np.abs(picture[..., 0] - expected).max() < limit
    np.testing.assert_allclose(picture.sum(axis=-1), 1, rtol=5.1e-6)  # float32 sums over 10,000 rays: worst 4.9e-6
    assert ((expected > 0) & (expected < 1)).mean() > 0.1


# ------------------------------------------------------------------ borders


@backends
@pytest.mark.parametrize("name", ["three frontal", "tilted", "crossing", "steep ground"])
def test_more_overscan_changes_nothing(backend, name):
    """The same scene cut smaller: nothing beyond the margin that the lens asks for is ever looked at.

    Blocks of alpha that the canvas cuts see more of it, which may send a tile another way on cuda: hence many rays.
    """
    big = battery_scene(name)
    wide = big.margin + 11
    layers = []
    for i, layer in enumerate(big.layers):
        color, alpha = (
            np.pad(layer.color, ((11, 11), (11, 11), (0, 0)), constant_values=50.0),
            np.pad(layer.alpha, 11, constant_values=float(i % 2)),
        )
        layers.append(bs.Layer(color, alpha, layer.disparity))
    grown = Scene(tuple(layers), big.lens, wide)
    for attribute in ("bokeh", "coverage", "all_in_focus", "disparity"):
        samples, limit = (8000, 4e-4) if backend == "cuda" else (36, 3e-6)  # blocks of the canvas fall elsewhere
        expected, actual = (getattr(s.render(backend, samples), attribute) for s in (big, grown))
        np.testing.assert_allclose(actual, expected, rtol=limit, atol=limit)


@pytest.mark.parametrize("name", ["three frontal", "steep ground"])
def test_the_margin_asked_for_is_enforced(name):
    scene = battery_scene(name)
    cut = [bs.Layer(a.color[1:-1, 1:-1], a.alpha[1:-1, 1:-1], a.disparity) for a in scene.layers]
    with pytest.raises(UsageError, match=rf"margin {scene.margin - 1} px is too small.*{scene.margin}"):
        bs.render(cut, scene.lens, scene.margin - 1)


def test_no_blur_needs_no_margin():
    frames = bs.render([sheet(SIZE, 0, 0.5, 1.0, bs.Plane(0.9))], bs.Lens(0.0, 0.5), 0)
    assert (frames.bokeh == np.float32(0.5)).all()


@backends
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (8, 256), (17, 257)])
def test_any_picture_size(backend, size):
    """One pixel, one row, and sizes at and one beyond the tiles' edges."""
    lens = bs.Lens(5.0, 0.5)
    scene = soft_layers(lens, size=size, color=(0.2, 0.4, 0.8), planes=((0.9,), (0.1, 1e-3, 1e-3)))
    frames = scene.render(backend, 36)
    assert frames.bokeh.shape == (*size, 3)
    assert frames.disparity.shape == frames.defocus.shape == frames.coverage.shape == frames.transmission.shape == size
    np.testing.assert_allclose(frames.bokeh, np.broadcast_to(np.float32([0.2, 0.4, 0.8]), (*size, 3)), rtol=3e-6)


# ------------------------------------------------------------------ errors

GOOD = (np.full((20, 24, 3), 0.5, np.float32), np.ones((20, 24), np.float32), bs.Plane(0.9))


def spoiled(index, change):
    parts = [np.copy(part) if isinstance(part, np.ndarray) else part for part in GOOD]
    parts[index] = change(parts[index])
    return bs.Layer(*parts)


def put(value):
    def change(array):
        array.flat[7] = value
        return array

    return change


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (0, put(np.nan), "color must be finite"),
        (0, put(np.inf), "color must be finite"),
        (0, put(-0.1), "color must be finite linear light >= 0"),
        (0, lambda a: a[..., 0], r"color must be \[H, W, 3\]"),
        (0, lambda a: np.concatenate([a, a], axis=2), r"color must be \[H, W, 3\]"),
        (0, lambda a: a.astype(np.uint8), "float array.*uint8"),
        (0, lambda a: a[:0], "empty"),
        (1, put(np.nan), "alpha must lie in 0..1"),
        (1, put(1.0001), "alpha must lie in 0..1"),
        (1, put(-1e-6), "alpha must lie in 0..1"),
        (1, lambda a: a[1:], "alpha must have the color's shape"),
        (1, lambda a: a[..., None], "alpha must have the color's shape"),
        (1, lambda a: a > 0, "float array.*bool"),
        (2, lambda _: 0.5, "must be a Plane or a height field .*, got float"),
        (2, lambda _: np.zeros((20, 23), np.float32), "must have the canvas's shape"),
    ],
)
def test_a_layer_that_cannot_be_is_refused(index, change, message):
    with pytest.raises(UsageError, match=message):
        spoiled(index, change)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"layers": []}, UsageError, "at least one layer"),
        ({"layers": [bs.Layer(*GOOD), sheet((4, 4), 2, 0.5)]}, UsageError, "share one canvas size"),
        ({"margin": -1}, UsageError, "margin must be a whole number"),
        ({"margin": 3.5}, UsageError, "margin must be a whole number"),
        ({"margin": 10}, UsageError, "leaves no picture"),
        ({"margin": 3}, UsageError, "margin 3 px is too small.* 4 px"),
        ({"lens": bs.Lens(30.0, 0.5)}, UsageError, "too small"),
        ({"layers": [bs.Layer(*GOOD[:2], bs.Plane(0.9, 0.3))]}, UsageError, "too steep"),
        ({"samples": 0}, UsageError, "samples must be at least 1"),
        ({"backend": "gpu"}, UsageError, "unknown backend 'gpu'.*auto, cpu, cuda, reference"),
    ],
)
def test_arguments_that_cannot_be_rendered_are_refused(change, error, message):
    arguments = {"layers": [bs.Layer(*GOOD)], "lens": bs.Lens(5.0, 0.5), "margin": 4, "backend": "cpu", "samples": None}
    assert bs.render(**arguments).bokeh.shape == (12, 16, 3)
    with pytest.raises(error, match=message):
        bs.render(**{**arguments, **change})


# ------------------------------------------------------------------ maps


def test_the_defocus_map_is_that_of_the_layer_where_alpha_reaches_one_half():
    """Never a blend: a blend of 0.9 and 0.1 would cross the focus at 0.5 and draw a sharp rim round the cut-out."""
    lens = bs.Lens(20.0, 0.5)
    ramp = np.linspace(0, 1, 48)  # over the picture's columns
    front, back = bs.Plane(0.9), bs.Plane(0.1, 1e-3, 1e-3)
    margin = enough([front, back], lens, SIZE)
    sheets = (sheet(SIZE, margin, 0.5, np.pad(ramp, margin), front), sheet(SIZE, margin, 0.5, 1.0, back))
    frames = Scene(sheets, lens, margin).render()
    x, y = centred_grid()
    disparity = np.where(ramp >= 0.5, 0.9, back.at(x, y))
    np.testing.assert_allclose(frames.disparity, disparity, rtol=1e-6)
    np.testing.assert_allclose(frames.defocus, 20 * np.abs(disparity - 0.5), rtol=1e-5)
    assert frames.defocus.min() > 7, "no false rim in focus"


@pytest.mark.parametrize(
    ("alphas", "expected"),
    [
        ((0.5, 1.0, 1.0), 0.9),  # reaches one half: exactly counts
        ((0.49, 1.0, 1.0), 0.6),
        ((0.3, 0.3, 1.0), 0.6),  # 1 - 0.7 * 0.7 = 0.51, together
        ((0.2, 0.2, 1.0), 0.2),
        ((0.1, 0.1, 0.1), 0.2),  # nothing reaches it: the farthest
        ((0.0, 0.0, 0.0), 0.2),
    ],
)
def test_alpha_accumulates_from_near_to_far(alphas, expected):
    planes = [bs.Plane(d) for d in (0.9, 0.6, 0.2)]
    layers = [sheet((3, 4), 0, 0.5, alpha, plane) for alpha, plane in zip(alphas, planes, strict=True)]
    for order in (layers, layers[::-1]):
        frames = bs.render(order, bs.Lens(0.0, 0.5), 0)
        np.testing.assert_allclose(frames.disparity, expected, rtol=1e-6)
        assert (frames.defocus == 0).all()


def test_disparity_does_not_know_the_lens():
    """The same cut-out photographed with other blur and focus."""
    scene = soft_layers(bs.Lens(20.0, 0.75))
    pinhole = bs.render(scene.layers, bs.Lens(0.0, 0.1), scene.margin)
    assert scene.render().disparity.tobytes() == pinhole.disparity.tobytes()
    np.testing.assert_allclose(scene.render().defocus, 20 * np.abs(pinhole.disparity - 0.75), rtol=2e-5, atol=1e-6)


def test_maps_of_crossing_planes_are_sorted_pixel_by_pixel():
    red, green = bs.Plane(0.5, 8e-3, 1e-3), bs.Plane(0.45, -8e-3, 2e-3)
    layers = (sheet(SIZE, 0, RED, 1.0, red), sheet(SIZE, 0, GREEN, 1.0, green))
    frames = bs.render(layers, bs.Lens(0.0, 0.5), 0)
    x, y = centred_grid()
    np.testing.assert_allclose(frames.disparity, np.maximum(red.at(x, y), green.at(x, y)), rtol=1e-6)
    np.testing.assert_array_equal(frames.all_in_focus[..., 0] == 1, red.at(x, y) >= green.at(x, y))


def test_maps_are_the_same_on_every_backend_and_never_trace_a_ray():
    scene = battery_scene("crossing")
    frames = [scene.render(backend) for backend in BACKENDS]
    for name in ("disparity", "defocus", "transmission"):
        assert getattr(frames[0], name).tobytes() == getattr(frames[1], name).tobytes()
    assert "_blurred" not in vars(frames[0])


@pytest.mark.parametrize("radius", [0.5, 8.0, 20.0])
def test_one_blurred_layer_needs_no_rays(radius):
    """However many are asked for, the mean over the opening is the same table of weights."""
    lens, size = bs.Lens(radius * 2, 0.5), (9, 12)
    margin = enough([bs.Plane(1.0)], lens, size)
    scene = Scene((sheet(size, margin, texture(size, margin, 5, lights=3), 1.0, bs.Plane(1.0)),), lens, margin)
    pictures = {scene.render(samples=samples).bokeh.tobytes() for samples in (None, 1, 50, 3000)}
    assert len(pictures) == 1


@pytest.mark.parametrize("radius", [2.0, 8.0, 20.0])
def test_training_quality_is_a_choice_of_rays_only(radius):
    """Where two layers vary together: there is a number of rays that gives the same bits where the blur is even."""
    lens, size = bs.Lens(radius * 2, 0.5), (8, 16)
    margin = enough([bs.Plane(1.0)], lens, size)
    front = sheet(size, margin, texture(size, margin, 5), matte(size, margin, 3), bs.Plane(1.0))
    scene = Scene((front, sheet(size, margin, texture(size, margin, 6), 1.0, bs.Plane(0.0))), lens, margin)
    pictures = [scene.render(samples=side * side).bokeh.tobytes() for side in range(2, 42, 2)]
    assert len(set(pictures)) > 15, "rays matter here"
    assert scene.render().bokeh.tobytes() in pictures


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_two_soft_layers_in_focus_stay_bit_identical_beside_a_blurred_one(backend):
    """The sum over rays of a soft layer's light is not exact; where nothing blurred crosses it must not be used."""
    margin, soft = 20, texture(SIZE, 20, 5)[..., 0] * 0.7 + 0.1
    plane, near = bs.Plane(0.4), np.zeros_like(soft)
    near[:, : soft.shape[1] // 3] = 1
    layers = (
        sheet(SIZE, margin, RED, near, bs.Plane(0.9)),
        sheet(SIZE, margin, texture(SIZE, margin, 6), soft, plane),
        sheet(SIZE, margin, texture(SIZE, margin, 7), 1.0, plane),
    )
    frames = Scene(layers, bs.Lens(20.0, 0.4), margin).render(backend)
    clear = soft.shape[1] // 3 - margin + 11  # the red sheet's edge, its radius of 10 px and a texel
    assert frames.bokeh[:, clear:].tobytes() == frames.all_in_focus[:, clear:].tobytes()
    assert (frames.bokeh[:, : clear - 2] != frames.all_in_focus[:, : clear - 2]).any(axis=-1).all()


@backends
def test_black_blurred_layers_cover_though_they_send_no_light(backend):
    layers = (sheet(SIZE, 12, np.float32([0, 0, 0]), 0.25, bs.Plane(0.8)),)
    frames = Scene(layers, bs.Lens(20.0, 0.4), 12).render(backend, 100)
    np.testing.assert_allclose(frames.coverage, 0.25, rtol=1e-5)
    assert frames.bokeh.max() == 0
