"""Each opening's own numbers, against the class (its outline) and against a light that it draws.

Extends `test_render_closed_forms` (disc, triangle, one ring, channels) by area, boundary, moments and orientation of
every family. Tolerances say the worst value seen here (x86-64, NumPy 2.4, Numba 0.68) and lie a little above it.
"""

import math

import numpy as np
import pytest
from support.apertures import Quarter
from support.scenes import Scene, centred, enough, moments, point_light

import bokehsynth as bs
from bokehsynth.rendering.aperture.lens_points import in_pupil
from bokehsynth.rendering.aperture.outline import trace_outline

SIZE, AT, RADIUS = (32, 48), (26, 17), 8.0
HALF_DIAGONAL = math.hypot(*SIZE) / 2
RAYS = {"cpu": 10_000, "cuda": 10_000, "reference": 1_200}

pytestmark = pytest.mark.kernels
backends = pytest.mark.parametrize("backend", ["cpu", "cuda", "reference"])
field_backends = backends  # all of them render a pupil
near_and_far = pytest.mark.parametrize(("disparity", "sign"), [(0.9, -1), (0.1, 1)], ids=["near", "far"])


class BrightRim(bs.Disc):
    """Weight |s|^2."""

    def weight(self, s):
        return np.square(s).sum(axis=1)


class DarkRim(bs.Disc):
    """Weight 1 - |s|^2."""

    def weight(self, s):
        return 1 - np.square(s).sum(axis=1)


class OffAxis(bs.Aperture):
    """What one field position sees of an aperture with a pupil."""

    def __init__(self, aperture, h):
        self.aperture, self.h = aperture, np.asarray(h, float)

    def inside(self, s):
        return self.aperture.inside(s) & np.array([in_pupil(self.aperture, point, self.h) for point in s], bool)


def polygon_radius(blades, curvature, angle):
    """Boundary radius at `angle` from a vertex."""
    half = math.pi / blades
    phi = np.mod(angle, 2 * half) - half
    return (1 - curvature) * math.cos(half) / np.cos(phi) + curvature


def polygon_area(blades, curvature=0.0):
    """n times the integral of R^2/2 over one side, R as in `Polygon`: sec^2 gives tan, sec gives asinh(tan)."""
    a, c = math.pi / blades, curvature
    straight, mixed = math.cos(a) * math.sin(a), math.cos(a) * math.asinh(math.tan(a))
    return blades * ((1 - c) ** 2 * straight + 2 * c * (1 - c) * mixed + c * c * a)


def two_discs(distance, first, second):
    """Common area of two discs of given radii; `distance` between their centres."""
    if distance >= first + second:
        return 0.0
    if distance <= abs(first - second):
        return math.pi * min(first, second) ** 2
    along = (distance**2 + first**2 - second**2) / (2 * distance)
    a, b = math.acos(along / first), math.acos((distance - along) / second)
    return first**2 * (a - math.sin(2 * a) / 2) + second**2 * (b - math.sin(2 * b) / 2)


def outline_moments(aperture):
    """Area, centroid [2] and mean square [2] of an opening, from its outline by Green's theorem."""
    segments = trace_outline(aperture)
    p, q = segments[:, :2], segments[:, 2:]
    cross = p[:, 0] * q[:, 1] - q[:, 0] * p[:, 1]
    area = cross.sum() / 2
    return area, (cross @ (p + q)) / (6 * area), (cross @ (p * p + p * q + q * q)) / (12 * area)


def draw(backend, aperture, disparity=0.9, at=AT, falloff=False):
    """Image [H, W, 3] of a light of power 1, `RADIUS` px out of focus."""
    lens, plane = bs.Lens(2.5 * RADIUS, 0.5, aperture, falloff), bs.Plane(disparity)
    margin = enough([plane], lens, SIZE)
    scene = Scene((point_light(SIZE, margin, at, plane, 1000.0),), lens, margin)
    return scene.render(backend, RAYS[backend]).bokeh / 1000


def offsets(at=AT):
    """x, y [H, W] of every pixel from pixel `at`."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    return x - at[0], y - at[1]


# ---------------------------------------------------------------------------------------------------------- the class


@pytest.mark.parametrize("curvature", [0.0, 0.25, 0.7, 1.0])
@pytest.mark.parametrize("blades", [3, 5, 6, 11])
def test_a_polygons_boundary_is_its_formula_at_every_angle(blades, curvature):
    """By bisection along 720 rays from the centre; the angle 0 is a vertex."""
    iris, angle = bs.Polygon(blades, 0.4, curvature), np.linspace(0, 2 * math.pi, 720, endpoint=False)
    direction = np.stack([np.cos(angle + 0.4), np.sin(angle + 0.4)], axis=1)
    low, high = np.zeros(720), np.full(720, 1.5)
    for _ in range(45):
        middle = (low + high) / 2
        inside = iris.inside(middle[:, None] * direction)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    np.testing.assert_allclose(low, polygon_radius(blades, curvature, angle), atol=2e-13)
    assert polygon_radius(blades, curvature, 0.0) == pytest.approx(1)
    assert low.min() == pytest.approx((1 - curvature) * math.cos(math.pi / blades) + curvature, abs=1e-4)


@pytest.mark.parametrize("curvature", [0.0, 0.25, 0.7, 1.0])
@pytest.mark.parametrize("blades", [3, 5, 6, 11])
def test_the_area_of_rounded_blades(blades, curvature):
    area, centroid, _ = outline_moments(bs.Polygon(blades, 0.4, curvature))
    assert area == pytest.approx(polygon_area(blades, curvature), rel=1.1e-5)  # worst 1.0e-5
    assert np.abs(centroid).max() < 5e-6  # worst 3.9e-6
    assert polygon_area(blades, 0.0) == pytest.approx(blades / 2 * math.sin(2 * math.pi / blades))
    assert polygon_area(blades, 1.0) == pytest.approx(math.pi)


@pytest.mark.parametrize("blades", [3, 4, 5, 6, 8])
def test_the_second_moment_of_a_polygon_does_not_depend_on_its_rotation(blades):
    expected = (2 + math.cos(2 * math.pi / blades)) / 12
    for rotation in (0.0, 0.3, 1.1):
        _, _, square = outline_moments(bs.Polygon(blades, rotation))
        np.testing.assert_allclose(square, expected, rtol=1e-4)  # worst 8.5e-5: corners that are cut off


@pytest.mark.parametrize("inner", [0.0, 0.2, 0.5, 0.8, 0.95])
def test_the_radii_area_and_second_moment_of_a_ring(inner):
    area, centroid, square = outline_moments(bs.Ring(inner))
    assert area == pytest.approx(math.pi * (1 - inner**2), rel=5e-6)
    np.testing.assert_allclose(centroid, 0, atol=1e-12)
    np.testing.assert_allclose(square, (1 + inner**2) / 4, rtol=1e-5)  # worst 9.1e-6
    radius = np.hypot(*trace_outline(bs.Ring(inner))[:, :2].T)
    assert np.minimum(np.abs(radius - 1), np.abs(radius - inner)).max() < 1e-9


def test_a_quarter_lies_at_the_lower_right():
    area, centroid, square = outline_moments(Quarter())
    assert area == pytest.approx(math.pi / 4, rel=5e-6)  # worst of the three 4.6e-6
    np.testing.assert_allclose(centroid, 4 / (3 * math.pi), rtol=5e-6)
    np.testing.assert_allclose(square, 1 / 4, rtol=5e-6)


@pytest.mark.parametrize("radius", [1.0, 0.7, 1.3])
@pytest.mark.parametrize("h", [(0.0, 0.0), (0.5, 0.0), (-0.3, 0.4), (0.8, 0.6)])
def test_a_cats_eye_is_the_common_part_of_two_discs(h, radius):
    aperture = bs.CatEye(0.9, radius)
    distance = 0.9 * math.hypot(*h)
    area, centroid, _ = outline_moments(OffAxis(aperture, h))
    assert area == pytest.approx(two_discs(distance, 1.0, radius), rel=2e-5)  # worst 1.6e-5
    if radius == 1.0:
        np.testing.assert_allclose(centroid, 0.9 * np.array(h) / 2, atol=3e-6)  # worst 2.5e-6
        assert area == pytest.approx(2 * math.acos(distance / 2) - distance / 2 * math.sqrt(4 - distance**2), rel=2e-5)


# ----------------------------------------------------------------------------------------------------- rendered lights


@backends
@near_and_far
@pytest.mark.parametrize(
    ("aperture", "square"),
    [
        *[(bs.Polygon(n, 0.3), (2 + math.cos(2 * math.pi / n)) / 12) for n in (4, 5, 8)],
        (bs.Ring(0.8), (1 + 0.8**2) / 4),
        (BrightRim(), 1 / 3),  # half of (1/6) / (1/4)
        (DarkRim(), 1 / 6),  # half of (1/12) / (1/4)
    ],
    ids=lambda value: value if isinstance(value, float) else repr(value).partition(" object")[0],
)
def test_moments_of_a_light(backend, disparity, sign, aperture, square):
    """1/6 is the bilinear tent's own."""
    total, mean, measured = moments(draw(backend, aperture, disparity)[..., 1], AT)
    assert total == pytest.approx(1, abs=3e-5)  # worst 1.8e-5 (cpu, weighted)
    assert np.abs(mean).max() < 0.03  # worst 0.026 (reference)
    np.testing.assert_allclose(measured, square * RADIUS**2 + 1 / 6, rtol=6e-3)  # worst 4.7e-3


@backends
@near_and_far
def test_a_quarter_is_upright_behind_the_focus_and_turned_before_it(backend, disparity, sign):
    image = draw(backend, Quarter(), disparity)[..., 0]
    total, mean, _ = moments(image, AT)
    assert total == pytest.approx(1, abs=2e-6)
    np.testing.assert_allclose(mean, sign * RADIUS * 4 / (3 * math.pi), atol=4e-3)  # worst 2.6e-3
    x, y = offsets()
    assert (image[(sign * x < -1) | (sign * y < -1)] == 0).all()


@backends
@near_and_far
@pytest.mark.parametrize("rotation", [0.0, -math.pi / 2, 0.3])
def test_the_vertices_of_a_pentagon_are_where_the_support_function_has_them(backend, disparity, sign, rotation):
    """Farthest lit pixel in 40 directions: r * max_k cos(angle - vertex_k), and up to a tent's corner beyond."""
    x, y = offsets()
    lit = draw(backend, bs.Polygon(5, rotation), disparity)[..., 0] > 0
    vertices = rotation + 2 * math.pi * np.arange(5) / 5
    for angle in np.linspace(0, 2 * math.pi, 40, endpoint=False):
        farthest = (sign * (x * math.cos(angle) + y * math.sin(angle)))[lit].max()
        expected = RADIUS * np.cos(angle - vertices).max()
        assert expected - 0.1 < farthest < expected + math.sqrt(2)  # beyond it by 1.2 at most, never short of it


@backends
@pytest.mark.parametrize("curvature", [0.0, 0.4, 0.8, 1.0])
def test_rounded_blades_spread_the_light_over_their_own_area(backend, curvature):
    image = draw(backend, bs.Polygon(6, 0.2, curvature))[..., 0]
    x, y = offsets()
    inner = np.hypot(x, y) < RADIUS * math.cos(math.pi / 6) - math.sqrt(2)
    assert (image[inner] * RADIUS**2).mean() == pytest.approx(1 / polygon_area(6, curvature), rel=6e-3)  # worst 4.6e-3


@backends
@pytest.mark.parametrize("inner", [0.3, 0.7, 0.85])
def test_a_ring_is_lit_between_its_radii_only(backend, inner):
    image = draw(backend, bs.Ring(inner))[..., 0]
    distance, tent = np.hypot(*offsets()), math.sqrt(2)
    assert (image[(distance < RADIUS * inner - tent) | (distance > RADIUS + tent)] == 0).all()
    middle = np.abs(distance - RADIUS * (1 + inner) / 2) < 0.35
    assert (image[middle] > 0).all()
    assert image.sum() == pytest.approx(1, abs=2e-6)


@field_backends
@near_and_far
@pytest.mark.parametrize("at", [(24, 16), (34, 12), (12, 9), (38, 22)])
def test_a_cats_eye_light_is_the_common_part_of_two_discs_in_pixels(backend, disparity, sign, at):
    """With falloff its brightness is 1/(pi r^2), so its sum is the common area's share of the disc.

    Pixel p sees the light at q through s = sign*(p - q)/r, and its pupil is at strength*p/half-diagonal: that is a
    disc about q/m of radius r/m with m = 1 - sign*r*strength/half-diagonal. Before the focus it lies inwards of q and
    is smaller, behind it outwards and larger. A ray's tent of a pixel is 1/m pixels for the second disc.
    """
    aperture = bs.CatEye(0.9)
    image = draw(backend, aperture, disparity, at, falloff=True)[..., 0]
    q = np.array(centred(SIZE, at))
    m = 1 - sign * RADIUS * 0.9 / HALF_DIAGONAL
    area = two_discs(float(np.hypot(*(q - q / m))), RADIUS, RADIUS / m)
    total, mean, _ = moments(image, at)
    assert total == pytest.approx(area / (math.pi * RADIUS**2), abs=2e-3)  # worst 1.3e-3
    x, y = offsets(at)
    outside = np.maximum(np.hypot(x, y) - RADIUS, np.hypot(x + q[0] - q[0] / m, y + q[1] - q[1] / m) - RADIUS / m)
    tent = math.sqrt(2) / min(1, m)
    assert (image[outside > tent] == 0).all()
    flat = image[outside < -tent] * math.pi * RADIUS**2
    assert flat.mean() == pytest.approx(1, abs=2e-3)  # worst 9.4e-4
    if area < 0.95 * math.pi * RADIUS**2:
        assert np.dot(mean, q) * sign > 0, "before the focus the outer side is cut, behind it the inner one"
