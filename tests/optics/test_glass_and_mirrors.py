"""Glasses by name and by Sellmeier's formula, mirrors, holes: closed forms and catalogue values."""

import json
import math

import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.errors import UsageError
from bokehsynth.optics.prescription import packaged_lenses, read_prescription
from bokehsynth.optics.prescription.surfaces import LensStack, Surface
from bokehsynth.optics.prescription.tracing import rays_from, trace

BK7 = [1.03961212, 0.231792344, 1.01046945, 0.00600069867, 0.0200179144, 103.560653]


def doublet(**changes):
    surface = {"radius": 60, "thickness": 5, "semi_diameter": 14} | changes
    return {
        "name": "d", "focal_length_mm": 60, "f_number": 5,
        "surfaces": [surface, {"radius": -60, "thickness": 3}, {"radius": 0, "stop": True}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "nd", "vd"),
    [("N-BK7", 1.51680, 64.17), ("F2", 1.62004, 36.37), ("N-SK16", 1.62041, 60.32), ("N-SF11", 1.78472, 25.68)],
)
def test_catalogue_glasses_have_the_numbers_of_their_data_sheets(name, nd, vd):
    glass = read_prescription(doublet(glass=name) | {"focal_length_mm": 1 / (2 * (nd - 1) / 60)}, "x").surfaces[0]
    n = [glass.index_at(line) for line in (587.5618, 486.1327, 656.2725)]
    assert n[0] == pytest.approx(nd, abs=6e-6)
    assert (n[0] - 1) / (n[1] - n[2]) == pytest.approx(vd, abs=6e-3)


def test_sellmeier_replaces_nd_and_vd_and_differs_from_them_where_it_should():
    """Between F and C two constants do as well; in the blue, 460 nm, BK7 lies 8e-5 below."""
    full = read_prescription(doublet(index=1.5168, abbe=64.17, sellmeier=BK7), "x").surfaces[0]
    two = read_prescription(doublet(index=1.5168, abbe=64.17), "x").surfaces[0]
    assert full.index_at(587.56) == pytest.approx(1.5168, abs=2e-6)
    assert full.index_at(404.6561) == pytest.approx(1.53024, abs=6e-6)  # nh of the data sheet
    assert full.index_at(460) - two.index_at(460) == pytest.approx(-8.1e-5, abs=2e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"glass": "BK7-N"}, r"x, surface 1: glass 'BK7-N' is not in the catalogue .* give index and abbe"),
        ({"glass": "N-BK8"}, r"did you mean 'N-BK\d+'"),
        ({"glass": "N-BK7", "index": 1.5}, "glass and index both say"),
        ({"glass": 7}, "glass 7 is not in the catalogue"),
        ({"index": 1.6, "sellmeier": BK7}, r"surface 1: index 1\.6 is not that of its sellmeier, 1\.51680"),
        ({"sellmeier": BK7[:4]}, "'sellmeier' must be"),
        ({"sellmeier": [1, 1, 1, 0.25, 1, 1]}, "gives no index of a glass"),
        ({"sellmeier": [math.nan] * 6}, "sellmeier must be a finite number"),
        ({"mirror": True, "index": 1.5}, "a mirror has no glass behind it"),
        ({"mirror": 1}, "'mirror' must be true or false"),
        ({"mirror": True}, r"surface 1: thickness must be <= 0 behind a mirror"),
        ({"mirror": True, "thickness": -5}, r"surface 2: thickness must be <= 0"),
        ({"inner_semi_diameter": 20}, "inner_semi_diameter must be > 0 and below the semi_diameter"),
        ({"inner_semi_diameter": 2, "semi_diameter": None}, "below the semi_diameter that it needs"),
    ],
)
def test_what_is_no_glass_mirror_or_hole(changes, words):
    with pytest.raises(UsageError, match=words):
        read_prescription(doublet(**changes), "x")


def test_light_must_leave_to_the_back():
    one = doublet(mirror=True, thickness=-5)
    one["surfaces"][1]["thickness"] = -3
    with pytest.raises(UsageError, match="mirrors come in pairs"):
        read_prescription(one, "x")


def test_a_paraboloid_brings_every_parallel_ray_to_its_focus():
    """Radius -200, conic -1: focus at z = -100, whatever the height."""
    mirror = LensStack((Surface(-200.0, mirror=True, conic=-1.0, stop=True),), 0.0)
    height = np.linspace(1, 90, 40)
    start = np.stack([height, 0.3 * height, np.full(40, -300.0)], axis=1)
    rays = trace(mirror, 540.0, rays_from(start, np.zeros((40, 2)))).rays
    assert (rays.direction[:, 2] < 0).all()
    np.testing.assert_allclose(rays.at(-100.0), 0, atol=1e-12)


def test_the_mirror_lens_is_its_formulas():
    """Ritchey-Chretien: f = m f1, focus 40 mm behind the primary, no spherical aberration, a dark middle."""
    lens = bs.load_prescription("mirror-500-f8")
    state = lens.state(8.0, math.inf)
    vertices = state.stack.vertices
    assert state.properties.focal_length == pytest.approx(500, rel=1e-7)
    assert state.properties.back_focus - vertices[1] == pytest.approx(40, abs=1e-5)
    assert state.properties.entrance_pupil == vertices[1]
    assert state.radius == pytest.approx(500 / 16, rel=1e-6)
    aperture = lens.at(focus_m=math.inf, near_m=5, size=(342, 512)).aperture
    s = np.stack([np.linspace(-1.05, 1.05, 211), np.zeros(211)], axis=1)
    passes = aperture.weight(s, np.zeros_like(s))[:, 1] > 0
    inside = (np.abs(s[:, 0]) < 0.997) & (np.abs(s[:, 0]) > 14 / 31.25 + 0.01)
    outside = (np.abs(s[:, 0]) > 1.003) | (np.abs(s[:, 0]) < 14 / 31.25 - 0.01)
    assert passes[inside].all()
    assert not passes[outside].any()
    assert np.abs(aperture.aberration(s[passes], 0 * s[passes])).max() < 1e-3


def test_stopped_down_the_middle_stays_as_large():
    aperture = bs.load_prescription("mirror-500-f8").at(f_number=11.3, focus_m=50, near_m=5, size=(30, 45)).aperture
    line = np.stack([np.linspace(-1, 1, 401), np.zeros(401)], axis=1)
    dark = np.abs(line[aperture.weight(line, 0 * line)[:, 1] == 0, 0])
    assert dark[dark < 0.9].max() == pytest.approx(14 / 31.25 * 11.3 / 8, abs=0.01)


@pytest.mark.parametrize("name", packaged_lenses())
def test_focal_lengths_and_back_foci_are_the_sources(name):
    """Sources state the focal length, some also where the film is: at best focus, 0.5 % of f from the paraxial one."""
    lens = bs.load_prescription(name)
    state = lens.state(lens.f_number, math.inf)
    assert state.properties.focal_length == pytest.approx(lens.focal_length_mm, rel=1.5e-3)  # worst 1.4e-3
    assert any(word in lens.source for word in ("US ", "Laikin", "Sasian", "Schroeder", "Cooke", "SIGGRAPH"))
    if stated := lens.surfaces[-1].thickness:
        behind = state.properties.back_focus - state.stack.vertices[-1]
        assert abs(behind - stated) < 0.005 * lens.focal_length_mm  # worst 0.0042: the Petzval type
    assert json.loads(json.dumps(lens.record))["name"] == name
