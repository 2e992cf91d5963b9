"""Aberrations, field-dependent weights and several rims on the reference, against closed forms."""

import math

import numpy as np
import pytest
from support.scenes import Scene, sheet, texture

import bokehsynth as bs
from bokehsynth.errors import UsageError

SIZE = (24, 32)
RAYS = 80


class Astray(bs.Disc):
    """An aberration given as a function of s and h."""

    def __init__(self, shift):
        self.shift = shift

    def aberration(self, s, h):
        return self.shift(s, h)


def constant(*pixels):
    """The same aberration everywhere, (x, y) or three of them."""
    return Astray(lambda s, h: np.broadcast_to(np.asarray(pixels, float), (len(s), *np.shape(pixels))))


def tilted_sheet(margin, plane, seed=3):
    return sheet(SIZE, margin, texture(SIZE, margin, seed, lights=3), 1.0, plane)


def render(layers, lens, margin, rays=RAYS):
    return Scene(tuple(layers), lens, margin).render("reference", rays).bokeh


def moved(layer, x, y):
    """What the layer looks like from a pixel that is (x, y) further right and down; its border is of no interest."""
    plane = layer.disparity
    color, alpha = (np.roll(a, (-y, -x), (0, 1)) for a in (layer.color, layer.alpha))
    return bs.Layer(color, alpha, bs.Plane(plane.at(x, y), plane.gx, plane.gy))


def test_a_constant_aberration_moves_a_tilted_plane_with_its_disparity():
    """p' = p + a + s K d'/(1 - K g.s) with d at p + a: the picture of the plane seen (3, -2) px further on."""
    layer = tilted_sheet(16, bs.Plane(0.9, 0.012, -0.008))
    lens = bs.Lens(10.0, 0.5)
    expected = render([moved(layer, 3, -2)], lens, 16)
    found = render([layer], bs.Lens(10.0, 0.5, constant(3.0, -2.0)), 16)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(found[2:, :-3], render([layer], lens, 16)[:-2, 3:], rtol=1e-5)
    assert np.abs(found - render([bs.Layer(layer.color, layer.alpha, bs.Plane(0.9))], lens, 16)).max() > 0.05


def test_a_constant_aberration_moves_a_height_field_with_its_disparity():
    """Whole and broken pixels: the field's walk starts at p + a."""
    margin = 14
    y, x = np.mgrid[: SIZE[0] + 2 * margin, : SIZE[1] + 2 * margin]
    field = (0.6 + 0.1 * np.sin(0.4 * x) * np.cos(0.3 * y)).astype(np.float32)
    color = texture(SIZE, margin, 5)
    lens, alpha = bs.Lens(20.0, 0.5), np.ones(field.shape, np.float32)
    there = bs.Layer(np.roll(color, (2, -3), (0, 1)), alpha, np.roll(field, (2, -3), (0, 1)))
    found = render([bs.Layer(color, alpha, field)], bs.Lens(20.0, 0.5, constant(3.0, -2.0)), margin)
    np.testing.assert_allclose(found, render([there], lens, margin), rtol=1e-5)


def test_a_height_field_that_is_a_plane_is_that_plane_for_every_aberration():
    margin, plane = 14, bs.Plane(0.7, 0.004, -0.006)
    y, x = np.mgrid[: SIZE[0] + 2 * margin, : SIZE[1] + 2 * margin].astype(float)
    field = plane.at(x - x.mean(), y - y.mean()).astype(np.float32)
    color = texture(SIZE, margin, 5)
    coma = Astray(lambda s, h: 2.3 * s * np.einsum("ij,ij->i", s, h)[:, None] + 0.7 * h + 0.31)
    lens = bs.Lens(15.0, 0.5, coma)
    flat = render([sheet(SIZE, margin, color, 1.0, plane)], lens, margin)
    tall = render([bs.Layer(color, np.ones(field.shape, np.float32), field)], lens, margin)
    np.testing.assert_allclose(tall, flat, atol=2e-5)  # worst 6e-6: the field is float32


def test_an_aberration_along_s_is_another_focus():
    """a = c s adds to s K (d - d_f): on frontal layers the focus moves by -c/K."""
    layers = [tilted_sheet(14, bs.Plane(0.8)), tilted_sheet(14, bs.Plane(0.3), 7)]
    found = render(layers, bs.Lens(10.0, 0.5, Astray(lambda s, h: 1.7 * s)), 14)
    np.testing.assert_allclose(found, render(layers, bs.Lens(10.0, 0.5 - 0.17), 14), rtol=1e-5, atol=1e-6)


def test_an_aberration_along_s_rescales_the_blur_of_one_plane():
    """a = c s at depth d is K' = K + c/(d - d_f)."""
    layer = tilted_sheet(14, bs.Plane(0.8))
    found = render([layer], bs.Lens(10.0, 0.5, Astray(lambda s, h: 1.5 * s)), 14)
    np.testing.assert_allclose(found, render([layer], bs.Lens(15.0, 0.5), 14), rtol=1e-5, atol=1e-6)


def test_lateral_colour_moves_the_channels_apart():
    layer = tilted_sheet(12, bs.Plane(0.8, 0.004))
    shifts = [(2.0, 0.0), (0.0, 0.0), (-1.0, 3.0)]
    found = render([layer], bs.Lens(10.0, 0.5, constant(*shifts)), 12)
    for channel, (x, y) in enumerate(shifts):
        alone = render([moved(layer, int(x), int(y))], bs.Lens(10.0, 0.5), 12)
        np.testing.assert_allclose(found[..., channel], alone[..., channel], rtol=1e-5)


def test_channels_with_one_aberration_are_that_aberration():
    layers = [tilted_sheet(12, bs.Plane(0.8, 0.004)), tilted_sheet(12, bs.Plane(0.2), 9)]
    one = Astray(lambda s, h: 0.8 * s * np.einsum("ij,ij->i", s, s)[:, None])
    three = Astray(lambda s, h: np.repeat(one.shift(s, h)[:, None], 3, axis=1))
    found = render(layers, bs.Lens(10.0, 0.5, three), 12)
    assert found.tobytes() == render(layers, bs.Lens(10.0, 0.5, one), 12).tobytes()


def test_layers_are_sorted_where_the_rays_are():
    """Two planes that cross: the order at p + a decides."""
    near = sheet(SIZE, 14, (0.9, 0.1, 0.1), 1.0, bs.Plane(0.5, 0.01))
    flat = sheet(SIZE, 14, (0.1, 0.1, 0.9), 1.0, bs.Plane(0.5))
    found = render([near, flat], bs.Lens(1e-6, 0.5, constant(4.0, 0.0)), 14, 3)
    expected = render([moved(near, 4, 0), flat], bs.Lens(1e-6, 0.5), 14, 3)
    np.testing.assert_array_equal(found, expected)


class Fading(bs.Disc):
    """Blue light fades away towards the right."""

    def weight(self, s, h):
        ones = np.ones(len(s))
        return np.stack([ones, ones, np.clip(1 - h[:, 0], 0, None)], axis=1)


def test_a_weight_over_the_field_darkens_with_falloff_only():
    white = sheet(SIZE, 8, 0.5, 1.0, bs.Plane(0.9))
    assert np.abs(render([white], bs.Lens(6.0, 0.5, Fading()), 8) - 0.5).max() < 1e-6
    dark = render([white], bs.Lens(6.0, 0.5, Fading(), falloff=True), 8)
    h = (np.arange(SIZE[1]) - (SIZE[1] - 1) / 2) / (math.hypot(*SIZE) / 2)
    np.testing.assert_allclose(dark[..., 2], np.broadcast_to(0.5 * (1 - h), SIZE), rtol=1e-5)
    np.testing.assert_allclose(dark[..., :2], 0.5, rtol=1e-6)


def test_falloff_is_relative_to_the_centre():
    """A rim that stops light at the centre too: what is left there counts as 1."""
    white = sheet((25, 33), 8, 0.5, 1.0, bs.Plane(0.9))
    for backend in ("reference", "cpu"):
        lens = bs.Lens(6.0, 0.5, bs.CatEye(1.0, 0.7), falloff=True)
        picture = Scene((white,), lens, 8).render(backend, 2000).bokeh
        assert picture[12, 16] == pytest.approx(0.5, abs=5e-3)
        assert picture[0, 0, 0] < 0.45


class Barrel(bs.Disc):
    """Two rims that move against each other: what is left in the corners is a lemon cut from both sides."""

    def __init__(self, *rims):
        self.rims = rims

    def pupil(self, h):
        return [(shift * h, radius) for shift, radius in self.rims]


def test_one_rim_in_a_list_is_that_rim():
    layers = [tilted_sheet(12, bs.Plane(0.8)), tilted_sheet(12, bs.Plane(0.2), 9)]
    alone, listed = (render(layers, bs.Lens(10.0, 0.5, a), 12) for a in (bs.CatEye(0.8, 1.1), Barrel((0.8, 1.1))))
    assert listed.tobytes() == alone.tobytes()


def test_two_rims_cut_from_both_sides():
    """Discs of radius 1 at +-t: the light that all three pass is what the outer two have in common."""
    white = sheet(SIZE, 8, 0.5, 1.0, bs.Plane(0.9))
    frames = Scene((white,), bs.Lens(6.0, 0.5, Barrel((0.6, 1.0), (-0.6, 1.0))), 8).render("reference", 200)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    distance = 1.2 * np.hypot(x - 15.5, y - 11.5) / (math.hypot(*SIZE) / 2)
    expected = (2 * np.arccos(distance / 2) - distance / 2 * np.sqrt(4 - distance**2)) / math.pi
    np.testing.assert_allclose(frames.transmission, expected, atol=0.01)


class Wide(bs.Aperture):
    """An opening of radius 1.5."""

    extent = 1.5

    def inside(self, s):
        return np.hypot(*s.T) <= 1.5


def test_an_opening_beyond_the_unit_disc_is_a_larger_blur():
    layer = tilted_sheet(16, bs.Plane(0.8, 0.004))
    found = render([layer], bs.Lens(10.0, 0.5, Wide()), 16, 4000)
    np.testing.assert_allclose(found, render([layer], bs.Lens(15.0, 0.5), 16, 4000), rtol=1e-5, atol=1e-6)


def test_the_margin_holds_the_largest_aberration():
    plane = bs.Plane(0.9, 0.01)
    plain, lens = bs.Lens(10.0, 0.5), bs.Lens(10.0, 0.5, constant(6.0, 8.0))
    e, largest = 0.1, 1.05 * 10
    expected = (plain.radius_max(plane, 32, 24) + e * largest) / (1 - e) + largest
    assert lens.reach(plane, 32, 24) == pytest.approx(expected)
    field = bs.Layer(np.ones((44, 52, 3)), np.ones((44, 52)), np.full((44, 52), 0.7, np.float32)).disparity
    assert lens.reach(field, 32, 24) == pytest.approx(2 + largest, rel=1e-6)
    assert bs.Lens(10.0, 0.5, Wide()).reach(bs.Plane(0.9), 32, 24) == pytest.approx(6.0)
    with pytest.raises(UsageError, match=r"must be below 0\.666667"):
        bs.Lens(10.0, 0.5, Wide()).reach(bs.Plane(0.9, 0.07), 32, 24)
    with pytest.raises(UsageError, match="margin 10 px is too small: rays of this lens reach 17 px"):
        render([tilted_sheet(10, bs.Plane(0.9))], lens, 10)


def test_rays_that_do_not_pass_need_no_margin():
    class Blocked(Barrel):
        def aberration(self, s, h):
            return 50.0 * np.maximum(np.hypot(*s.T) - 0.5, 0)[:, None] * h

    assert bs.Lens(1.0, 0.5, Blocked((0.0, 0.5))).reach(bs.Plane(0.5), 32, 24) == 0
    assert bs.Lens(1.0, 0.5, Blocked((0.0, 1.0))).reach(bs.Plane(0.5), 32, 24) == pytest.approx(26.25)


@pytest.mark.parametrize(
    "aperture", [constant((1.0, 0.0), (0.0, 0.0), (0.0, 0.0)), Fading(), Barrel((0.5, 1.0), (-0.6, 1)), Wide()]
)
def test_the_contract_takes_the_new_forms(aperture):
    report = bs.check_aperture(aperture)
    assert report.cpu.startswith("as the reference: ")
    assert report.area == pytest.approx(2.25 if isinstance(aperture, Wide) else 1, abs=2e-3)
    if isinstance(aperture, Fading):
        assert report.transmission[2] == pytest.approx((2 + 1 - 3 / math.hypot(3, 2)) / 3)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"weight": lambda self, s, h: -h[:, 0]}, "weight must return finite numbers >= 0"),
        ({"weight": lambda self, s, h: h}, r"weight must return \[N\] or \[N, 3\]"),
        ({"pupil": lambda self, h: [(h, 1.0), (h, -1.0)]}, "one radius > 0, got -1.0"),
        ({"pupil": lambda self, h: []}, r"must return \(centre, radius\), got list"),
        ({"aberration": lambda self, s, h: np.zeros((len(s), 2, 3))}, r"must return \[N, 2\] or \[N, 3, 2\]"),
        ({"extent": math.nan}, r"Broken\.extent must be a finite number > 0"),
    ],
)
def test_the_contract_names_what_is_wrong_with_them(methods, message):
    with pytest.raises(UsageError, match=message):
        bs.check_aperture(type("Broken", (bs.Disc,), methods)())
