"""The lens in numbers: the camera's formula, planes, reach and margin, apertures and their baked tables."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bokehsynth as bs
from bokehsynth.errors import UsageError
from bokehsynth.rendering.aperture.lens_points import bake, table_digest, vogel_points
from bokehsynth.rendering.aperture.tables import tables_of
from bokehsynth.rendering.cpu.ray_tracer import grid_side

CAMERA = {
    "focal_length_mm": 50.0,
    "f_number": 1.8,
    "focus_distance_m": 2.0,
    "sensor_width_mm": 36.0,
    "image_width_px": 1024,
    "near_m": 0.5,
}


def circle_of_confusion_px(distance_m, *, focal_length_mm, f_number, focus_distance_m, sensor_width_mm, image_width_px):
    """Radius by similar triangles behind a thin lens: two image distances and the cone between them."""
    f = focal_length_mm / 1000
    sensor = 1 / (1 / f - 1 / focus_distance_m)
    sharp = 1 / (1 / f - 1 / distance_m)
    diameter_m = f / f_number * abs(sharp - sensor) / sharp
    return diameter_m / 2 / (sensor_width_mm / 1000) * image_width_px


# ------------------------------------------------------------------------------------------------------------- camera


@given(
    distance=st.floats(0.2, 1e4),
    focus=st.floats(0.3, 100),
    focal_length=st.floats(10, 200),
    f_number=st.floats(0.95, 22),
    near=st.floats(0.1, 3),
)
@settings(max_examples=200, deadline=None)
def test_a_camera_blurs_as_a_thin_lens_does(distance, focus, focal_length, f_number, near):
    camera = CAMERA | {"focal_length_mm": focal_length, "f_number": f_number, "focus_distance_m": focus}
    lens = bs.Lens.from_camera(**(camera | {"near_m": near}))
    camera.pop("near_m")
    expected = circle_of_confusion_px(distance, **camera)
    assert lens.radius(near / distance) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_portrait_lens_in_numbers():
    """50 mm at f/1.8 on full frame, focused at 2 m: a light at infinity is 0.71 mm or 20 px of 1,024 wide."""
    lens = bs.Lens.from_camera(**CAMERA)
    assert lens.focus == 0.25
    assert lens.radius(0.0) == pytest.approx(0.05**2 / 1.8 / (2.0 - 0.05) / 2 / 0.036 * 1024, rel=1e-12)
    assert lens.radius(lens.focus) == 0
    assert bs.Lens.from_camera(**CAMERA, aperture=bs.Ring(0.3)).aperture == bs.Ring(0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"focal_length_mm": 0}, "must be > 0"),
        ({"f_number": -1.8}, "must be > 0"),
        ({"sensor_width_mm": 0}, "must be > 0"),
        ({"near_m": 0}, "must be > 0"),
        ({"focus_distance_m": 0.05}, "must exceed the focal length of 0.05 m"),
        ({"focus_distance_m": math.nan}, "finite"),
    ],
)
def test_a_camera_that_cannot_be(change, message):
    with pytest.raises(UsageError, match=message):
        bs.Lens.from_camera(**(CAMERA | change))


@pytest.mark.parametrize("blur", [-0.1, math.nan, math.inf])
def test_blur_is_finite_and_not_negative(blur):
    with pytest.raises(UsageError, match=r"Lens\.blur"):
        bs.Lens(blur, 0.5)


def test_focus_is_finite():
    with pytest.raises(UsageError, match=r"Lens\.focus"):
        bs.Lens(1.0, math.nan)


# ------------------------------------------------------------------------------------------------------------- planes


def test_a_plane_is_linear_about_the_centre():
    plane = bs.Plane(0.5, 0.01, -0.02)
    assert plane.at(0, 0) == 0.5
    assert plane.at(3, 5) == pytest.approx(0.5 + 0.03 - 0.1)
    assert plane.slope == pytest.approx(math.hypot(0.01, 0.02))
    np.testing.assert_allclose(plane.at(np.array([[0, 1]]), np.array([[0], [1]])), [[0.5, 0.51], [0.48, 0.49]])


def test_the_corners_of_an_even_picture():
    """Width 4: pixel centres at -1.5 .. 1.5."""
    assert bs.Plane(0.5, 0.1, 0.01).corners(4, 3) == pytest.approx((0.34, 0.64, 0.36, 0.66))


@pytest.mark.parametrize("numbers", [(math.nan,), (0.5, math.inf), (0.5, 0.0, -math.inf)])
def test_a_plane_is_finite(numbers):
    with pytest.raises(UsageError, match=r"Plane\.g?[dxy] must be finite"):
        bs.Plane(*numbers)


def hits(lens, plane, width, height):
    """Largest distance from a pixel to its hits, by trying 720 points of the lens's rim at every pixel."""
    y, x = np.mgrid[:height, :width].astype(float)
    delta = plane.at(x - (width - 1) / 2, y - (height - 1) / 2) - lens.focus
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    stretch = 1 / (1 - lens.blur * (plane.gx * np.cos(angle) + plane.gy * np.sin(angle)))
    return lens.blur * np.abs(delta).max() * stretch.max()


@pytest.mark.parametrize(
    "plane", [bs.Plane(0.9), bs.Plane(0.2, 0.01, 0.0), bs.Plane(0.5, -0.004, 0.02), bs.Plane(0.7, 0.0, -0.03)]
)
@pytest.mark.parametrize("focus", [0.0, 0.5, 1.0])
def test_reach_is_how_far_rays_land(plane, focus):
    lens = bs.Lens(20.0, focus)
    farthest = hits(lens, plane, 40, 24)
    assert lens.reach(plane, 40, 24) == pytest.approx(farthest, rel=1e-4)
    assert lens.margin([plane], 40, 24) == math.ceil(lens.reach(plane, 40, 24)) + 2


def test_the_margin_serves_the_plane_that_reaches_farthest():
    lens, planes = bs.Lens(20.0, 0.5), [bs.Plane(0.5), bs.Plane(0.1), bs.Plane(0.6, 0.01)]
    assert lens.margin(planes, 30, 20) == max(lens.margin([plane], 30, 20) for plane in planes)
    assert lens.radius_max(planes[2], 30, 20) == pytest.approx(20 * (0.1 + 0.01 * 14.5))


def test_a_plane_too_steep_names_the_limits():
    with pytest.raises(UsageError, match=r"blur 20 px x slope 0\.05.*lower the blur below 20"):
        bs.Lens(20.0, 0.5).reach(bs.Plane(0.5, 0.03, 0.04), 10, 10)
    assert bs.Lens(19.9, 0.5).reach(bs.Plane(0.5, 0.03, 0.04), 10, 10) > 0


# ---------------------------------------------------------------------------------------------------------- apertures


def share(aperture):
    """Area over the unit disc's, from a fine square grid."""
    edge = (np.arange(1500) + 0.5) / 750 - 1
    s = np.stack(np.meshgrid(edge, edge), axis=-1).reshape(-1, 2)
    return aperture.inside(s).sum() * (1 / 750) ** 2 / math.pi


@pytest.mark.parametrize(
    ("aperture", "area"),
    [
        (bs.Disc(), 1.0),
        (bs.CatEye(0.7), 1.0),
        (bs.Ring(0.0), 1.0),
        (bs.Ring(0.6), 1 - 0.36),
        (bs.Polygon(3), 3 * math.sqrt(3) / 4 / math.pi),
        (bs.Polygon(4, 0.2), 2 / math.pi),
        (bs.Polygon(6, -1.0), 3 * math.sqrt(3) / 2 / math.pi),
        (bs.Polygon(9, 0.1, 1.0), 1.0),
    ],
    ids=repr,
)
def test_the_area_of_an_opening(aperture, area):
    assert share(aperture) == pytest.approx(area, abs=3e-4)  # squares of 1/750 at the rim: worst 1.3e-4


@pytest.mark.parametrize("rotation", [0.0, 0.3, -2.0, 7.0])
def test_a_polygon_has_a_vertex_at_its_rotation_and_flats_between(rotation):
    """Downwards is +y: the angle turns from +x towards +y."""
    iris, inner = bs.Polygon(5, rotation), math.cos(math.pi / 5)
    for k in range(5):
        vertex, side = rotation + 2 * math.pi * k / 5, rotation + 2 * math.pi * (k + 0.5) / 5
        for angle, radius in ((vertex, 1.0), (side, inner)):
            s = np.array([[math.cos(angle), math.sin(angle)]]) * radius
            assert iris.inside(s * 0.999)[0]
            assert not iris.inside(s * 1.001)[0]


def test_blades_are_rounded_between_the_polygon_and_the_disc():
    inner = math.cos(math.pi / 6)
    half = bs.Polygon(6, 0.0, 0.5)
    radius = (inner + 1) / 2
    s = np.array([[math.cos(math.pi / 6), math.sin(math.pi / 6)]])
    assert half.inside(s * (radius - 1e-6))[0]
    assert not half.inside(s * (radius + 1e-6))[0]
    shares = [share(bs.Polygon(6, 0.0, c)) for c in (0, 0.3, 0.6, 1)]
    assert shares == sorted(shares)


def test_a_ring_is_open_between_two_radii():
    s = np.array([[0.0, 0.59], [0.0, 0.61], [-0.999, 0.0], [0.0, -1.001]])
    assert bs.Ring(0.6).inside(s).tolist() == [False, True, True, False]


def test_the_rim_of_a_cats_eye_moves_with_the_field():
    centre, radius = bs.CatEye(0.8, 1.1).pupil(np.array([[0.5, -0.25], [0.0, 0.0]]))
    np.testing.assert_allclose(centre, [[0.4, -0.2], [0, 0]])
    assert radius == 1.1


def test_what_depends_on_the_field():
    class Coma(bs.Disc):
        def aberration(self, s, h):
            return s

    assert [a.depends_on_field for a in (bs.Disc(), bs.Ring(0.2), bs.CatEye(0.0), Coma())] == [False, False, True, True]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bs.Polygon(2), "at least 3"),
        (lambda: bs.Polygon(5, 0.0, 1.1), "curvature"),
        (lambda: bs.Polygon(5, 0.0, -0.1), "curvature"),
        (lambda: bs.Ring(1.0), "inner"),
        (lambda: bs.Ring(-0.1), "inner"),
        (lambda: bs.CatEye(-0.1), "strength"),
        (lambda: bs.CatEye(0.5, 0.0), "radius"),
    ],
)
def test_an_opening_that_cannot_be(make, message):
    with pytest.raises(UsageError, match=message):
        make()


# ------------------------------------------------------------------------------------------------------- baked tables


@pytest.mark.parametrize("side", [2, 8, 20, 46])
def test_a_table_is_even_and_symmetric(side):
    """Moments of the uniform disc: mean 0, square 1/4 per axis, no correlation; mirror images are in the table too."""
    table = bake(bs.Disc(), side)
    assert table.points.shape == (side * side, 2)
    assert np.hypot(*table.points.T).max() <= 1
    assert (table.weights == 1).all()
    np.testing.assert_allclose(table.points.mean(axis=0), 0, atol=1e-15)
    assert (table.points**2).mean(axis=0) == pytest.approx(
        [0.25, 0.25], abs=0.51 / side**2
    )  # midpoints: 0.5/side^2 less
    assert (table.points[:, 0] * table.points[:, 1]).mean() == pytest.approx(0, abs=1e-15)

    def rounded(points):
        return set(map(tuple, np.round(points, 9) + 0.0))

    for mirror in ([-1, 1], [1, -1]):
        assert rounded(table.points * mirror) == rounded(table.points)
    assert rounded(table.points[:, ::-1]) == rounded(table.points)


@pytest.mark.parametrize("points", [bake(bs.Disc(), 40).points, vogel_points(1600)], ids=["table", "vogel"])
def test_equal_areas_hold_equal_numbers_of_rays(points):
    """Rings and sectors of equal area; the table's 20 rings do not divide by three, which makes 144 and 112 of 133."""
    ring = np.minimum((np.square(points).sum(axis=1) * 3).astype(int), 2)
    sector = np.minimum(((np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi) + 0.5) * 4).astype(int), 3)
    counts = np.bincount(ring * 4 + sector, minlength=12)
    np.testing.assert_allclose(counts, len(points) / 12, rtol=0.17)


def test_a_table_keeps_what_the_opening_passes():
    table = bake(bs.Ring(0.5), 30)
    assert np.hypot(*table.points.T).min() >= 0.5
    assert len(table.points) == pytest.approx(0.75 * 900, rel=0.05)


def test_rays_grow_with_the_blur_and_are_even():
    sides = [grid_side(radius) for radius in np.linspace(0, 60, 200)]
    assert sides == sorted(sides)
    assert all(side % 2 == 0 for side in sides)


class Lens30(bs.Aperture):
    """The class of thirty lines that a lens researcher writes: no constructor, no decorator."""

    def inside(self, s):
        return np.abs(s).sum(axis=1) <= 1

    def weight(self, s):
        return 1 - 0.5 * np.hypot(s[:, 0], s[:, 1])


def test_a_class_of_ones_own_needs_nothing_but_its_methods():
    table = bake(Lens30(), 40)
    assert np.abs(table.points).sum(axis=1).max() <= 1
    np.testing.assert_allclose(table.weights[:, 1], 1 - 0.5 * np.hypot(*table.points.T), rtol=1e-6)
    canvas = np.full((40, 40, 3), 0.4, np.float32)
    layers = [bs.Layer(canvas, canvas[..., 0] / np.float32(0.4), bs.Plane(0.9))]
    for backend in ("cpu", "reference"):
        picture = bs.render(layers, bs.Lens(10.0, 0.5, Lens30()), 8, backend, 100).bokeh
        np.testing.assert_allclose(picture, 0.4, rtol=2e-6)


class Square(bs.Aperture):
    """An opening with a number to turn, written without a thought of hashing."""

    side = 1.0

    def inside(self, s):
        return np.abs(s).max(axis=1) <= self.side


@dataclass
class SquareData(Square):
    """The same as a plain dataclass, which Python gives no hash."""

    side: float = 1.0


@pytest.mark.parametrize("make", [Square, SquareData])
def test_an_opening_may_be_changed_until_it_is_first_rendered_with(make):
    """`bake` asks anew each time; what a renderer keeps is made once for each opening."""
    aperture = make()
    wide = len(bake(aperture, 40).points)
    aperture.side = 0.3
    assert len(bake(aperture, 40).points) < wide / 4
    assert np.abs(tables_of(aperture).outline).max() == pytest.approx(0.3, abs=1e-6)


@pytest.mark.parametrize("make", [Square, bs.Disc, lambda: bs.Polygon(5, 0.2), lambda: bs.Ring(0.4)])
def test_tables_are_kept_for_each_opening(make):
    aperture = make()
    tables = tables_of(aperture)
    assert tables_of(aperture) is tables
    assert tables.outline is tables_of(aperture).outline


def test_openings_that_are_equal_share_tables_and_others_do_not():
    assert tables_of(bs.Polygon(5, 0.2)) is tables_of(bs.Polygon(5, 0.2))
    assert tables_of(bs.Polygon(5, 0.2)) is not tables_of(bs.Polygon(5, 0.3))
    assert tables_of(Square()) is not tables_of(Square()), "no equality of its own: one object, one table"
    one, other = SquareData(0.5), SquareData(0.7)
    widths = [np.abs(tables_of(aperture).outline).max() for aperture in (one, other)]
    assert widths == pytest.approx([0.5, 0.7], abs=1e-6)


@dataclass(frozen=True)
class TintedDisc(bs.Disc):
    """Equal to every disc by the equality that it inherits, were that asked."""

    def weight(self, s):
        return 1 + 0.5 * s[:, 0]


class ShiftedSquare(SquareData):
    """Inherits an equality that does not see what it adds."""

    offset = 0.3

    def inside(self, s):
        return super().inside(s - [self.offset, 0])


def test_an_inherited_equality_does_not_make_two_openings_one():
    assert tables_of(TintedDisc()).transmission.shape != tables_of(bs.Disc()).transmission.shape
    plain, shifted = SquareData(0.5), ShiftedSquare(0.5)
    assert tables_of(plain).outline[:, 0].max() == pytest.approx(0.5, abs=1e-6)
    assert tables_of(shifted).outline[:, 0].max() == pytest.approx(0.8, abs=1e-6)


def wrong(**methods):
    body = {"inside": lambda self, s: np.ones(len(s), bool)} | methods
    return type("Wrong", (bs.Aperture,), body)()


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"inside": lambda self, s: np.ones(len(s))}, r"Wrong\.inside must return bool \[N\], got float64"),
        ({"inside": lambda self, s: np.ones((len(s), 1), bool)}, r"Wrong\.inside must return bool \[N\]"),
        ({"inside": lambda self, s: np.zeros(len(s), bool)}, "Wrong lets no light through"),
        ({"weight": lambda self, s: np.zeros(len(s))}, "Wrong lets no light through"),
        ({"weight": lambda self, s: np.full(len(s), np.nan)}, r"Wrong\.weight must return finite"),
        ({"weight": lambda self, s: s[:, 0]}, r"Wrong\.weight must return finite numbers >= 0"),
        ({"weight": lambda self, s: np.ones((len(s), 2))}, r"Wrong\.weight must return \[N\] or \[N, 3\]"),
    ],
)
def test_methods_that_return_nonsense_are_named(methods, message):
    with pytest.raises(UsageError, match=message):
        bake(wrong(**methods), 8)


def test_a_digest_names_an_aperture_by_its_table():
    digests = [table_digest(a) for a in (bs.Disc(), bs.Ring(0.3), bs.Ring(0.35), bs.Polygon(6), Lens30())]
    assert len(set(digests)) == 5
    assert table_digest(bs.Ring(0.3)) == digests[1]
    assert table_digest(Lens30()) == digests[4]
