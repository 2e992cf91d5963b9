"""Where rays of green serve all colours of a lens, and where each colour has its own."""

import warnings

import numpy as np
import pytest
from support.scenes import Scene, half_plane, sheet, texture

import bokehsynth as bs
from bokehsynth.rendering.aperture.field_motion import motion_of
from bokehsynth.rendering.aperture.field_table import bake_field_table
from bokehsynth.rendering.aperture.tables import FieldLensTables
from bokehsynth.rendering.cpu import field_renderer
from bokehsynth.rendering.tile_constants import CONTROL_VARIATE

SIZE = (16, 48)


class Axial(bs.Disc):
    """Red lands `pixels` outside green, blue inside it; root mean square over the opening."""

    def __init__(self, pixels):
        self.pixels = pixels

    def aberration(self, s, h):
        return np.sqrt(2) * self.pixels * np.array([1.0, 0.0, -1.0])[:, None] * s[:, None]


class Lateral(bs.Disc):
    """Red and blue have other sizes than green, by 2 px in the corners."""

    def aberration(self, s, h):
        return 2.0 * np.array([1.0, 0.0, -1.0])[:, None] * h[:, None]


class Rim(bs.Disc):
    """Glass that is tinted in a narrow zone at its rim: 0.05 of the light, less than 0.03 rms."""

    def weight(self, s):
        tinted = np.hypot(*s.T) > 0.98
        return np.stack([np.ones(len(s)), np.ones(len(s)), 1 - 0.05 * tinted], axis=1)

    def aberration(self, s, h):
        return 0.5 * s


class Spherical(bs.Disc):
    """One channel: no colour lands apart."""

    def aberration(self, s, h):
        return 2.0 * s * np.einsum("ij,ij->i", s, s)[:, None]


def edge(aperture, light=1.0, behind=1.0, blur=12.0):
    """An edge between two blurs of 0.4 `blur`; `light` lies behind all of it."""
    lens, planes = bs.Lens(blur, 0.5, aperture), (bs.Plane(0.9), bs.Plane(0.1))
    margin = lens.margin(planes, SIZE[1], SIZE[0])
    lamps = texture(SIZE, margin, 3, 1.0) * 0.9
    lamps[::7, ::7] = light
    front = sheet(SIZE, margin, 0.3, half_plane(SIZE, margin, 24), planes[0])
    return Scene((front, sheet(SIZE, margin, lamps, behind, planes[1])), lens, margin)


@pytest.fixture
def together(monkeypatch):
    """Lists, for every render, which of the tiles with rays green serves."""
    seen, kinds = [], field_renderer._kinds

    def noted(prepared, plan):
        found = kinds(prepared, plan)
        seen.append((found[1] == 1)[plan.paths == CONTROL_VARIATE])
        assert seen[-1].size > 0
        return found

    monkeypatch.setattr(field_renderer, "_kinds", noted)
    return seen


def own_rays(monkeypatch):
    """Give each colour rays of its own."""
    monkeypatch.setattr(field_renderer, "TOGETHER", -1.0)


def test_green_serves_colours_that_land_together(together, monkeypatch):
    scene = edge(Axial(0.015))
    found = scene.render("cpu").bokeh
    assert together[-1].all()
    own_rays(monkeypatch)
    difference = found - scene.render("cpu").bokeh
    assert not together[-1].any()
    assert 0 < np.sqrt(np.square(difference).mean()) < 1.2e-4  # 1.02e-4; at 0.1 px 6.8e-4


def test_no_colour_is_left_to_green_before_lamps(together):
    """Lamps behind every edge are the picture's own light; what green gets wrong is large all the same."""
    _ = edge(Axial(0.015), light=200.0).render("cpu").bokeh
    assert not together[-1].any()


def test_colours_a_pixel_apart_have_rays_of_their_own_at_any_blur(together):
    """4 % of the blur on both sides of a sharp edge: too much for green, wide as it is."""
    _ = edge(Axial(1.0), blur=70.0).render("cpu").bokeh
    assert not together[-1].any()


def test_lights_without_a_bound_are_no_warning(together):
    """An open background has light from outside as well, and colours of one channel are 0 px apart."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = edge(Spherical(), behind=half_plane(SIZE, 0, 0)[:1, :1] * 0.5).render("cpu")
    assert np.isfinite(found.bokeh).all()
    assert not together[-1].any()


def test_colours_that_land_apart_are_seen():
    colours = motion_of(bake_field_table(Axial(0.1), 64, 48, 3)).colours
    np.testing.assert_allclose(colours, 0.1, rtol=0.03)
    assert (motion_of(bake_field_table(Spherical(), 64, 48, 1)).colours == 0).all()


def test_colours_are_as_far_apart_as_at_the_outer_node():
    """Lateral colour grows outwards: at the node before a pixel it is less than at the pixel."""
    table = bake_field_table(Lateral(), 64, 48, 3)
    step_h = table.step / (np.hypot(64, 48) / 2)
    assert table.round
    outer = 2.0 * step_h * np.arange(1, table.values.shape[1])
    np.testing.assert_allclose(motion_of(table).colours[0], outer, rtol=1e-3)


def test_a_narrow_coloured_rim_is_another_opening():
    assert np.isinf(motion_of(bake_field_table(Rim(), 64, 48, 3)).colours).all()


def test_what_a_lens_keeps_for_sizes_of_pictures_has_a_bound():
    tables = FieldLensTables(Spherical())
    for width in (24, 32, 40):
        tables.motion(width, 16)
    assert len(tables._motions) == len(tables._field_tables) == 2
    assert tables.motion(40, 16) is tables.motion(40, 16)
