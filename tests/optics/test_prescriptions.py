"""Prescriptions: rays against optiland's, a thin lens against its formula, tables against rays traced directly."""

import json
import math
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.lens_files import DOUBLET as GOOD

import bokehsynth as bs
from bokehsynth.errors import UsageError
from bokehsynth.optics.prescription import bundles, packaged_lenses
from bokehsynth.optics.prescription.bake import farthest
from bokehsynth.optics.prescription.polynomials import exponents
from bokehsynth.optics.prescription.surfaces import LensStack
from bokehsynth.optics.prescription.tracing import rays_from, trace
from bokehsynth.rendering.aperture import field_light
from bokehsynth.rendering.aperture.field_table import bake_field_table

FIXTURES = Path(__file__).parents[1] / "fixtures"
SIZE = (342, 512)
LINES = (620.0, 540.0, 460.0)


def camera(name):
    """Sensor width of the tests: the one the lens was made for."""
    return 5.0 if name.startswith("phone") else 36.0


@lru_cache(maxsize=4)
def focused(name):
    lens = bs.load_prescription(name).at(focus_m=2.0, near_m=1.0, sensor_width_mm=camera(name), size=SIZE)
    stack, properties = bs.load_prescription(name).focused(bs.load_prescription(name).f_number, 2.0)
    return lens, stack, properties


def test_the_box_holds_lenses_with_their_sources():
    names = packaged_lenses()
    assert len(names) >= 10
    for name in names:
        prescription = bs.load_prescription(name)
        assert prescription.name == name
        assert len(prescription.source) > 20
        _, properties = prescription.focused(prescription.f_number, math.inf)
        assert properties.focal_length == pytest.approx(prescription.focal_length_mm, rel=2e-3)  # worst 1.4e-3


@pytest.mark.parametrize("name", packaged_lenses())
def test_rays_equal_those_of_optiland(name):
    """Positions and direction cosines at the sensor; worst 9e-14."""
    with np.load(FIXTURES / "lens_rays.npz") as kept:
        tables, behind = kept[name], float(kept[f"{name}/last"])
    surfaces = bs.load_prescription(name).surfaces
    stack = LensStack(surfaces, LensStack(surfaces, 0.0).vertices[-1] + behind)
    assert tables.shape[1] > 25
    for wavelength, table in zip(LINES, tables, strict=True):
        start = np.concatenate([table[:, :2], np.zeros((len(table), 1))], axis=1)
        rays = trace(stack, wavelength, rays_from(start, table[:, 2:4])).rays
        np.testing.assert_allclose(rays.at(stack.sensor), table[:, 4:6], rtol=0, atol=1e-9)
        np.testing.assert_allclose(rays.direction[:, :2], table[:, 6:8], rtol=0, atol=1e-12)


def test_rays_go_back_the_way_they_came():
    _, stack, _ = focused("phone-4-f1.8")
    start = rays_from(np.array([0.3, -0.2, -1.0]), np.array([[0.1, 0.2], [-0.2, 0.3], [0.0, -0.1]]))
    there = trace(stack, 460.0, start).rays
    back = trace(stack, 460.0, there, backwards=True).rays
    np.testing.assert_allclose(back.at(-1.0), start.point[:, :2], atol=1e-12)
    np.testing.assert_allclose(back.slope, start.slope, atol=1e-12)


def meridional(stack, wavelength, z, height, slope):
    """Height and slope before the lens of one backward ray, by angles and scalars (spheres only)."""
    indices, angle = stack.indices(wavelength), math.atan(slope)
    for i in reversed(range(len(stack.surfaces))):
        height += math.tan(angle) * (stack.vertices[i] - z)
        z, c = stack.vertices[i], stack.surfaces[i].curvature
        if c:
            # Distance t along the ray from the vertex plane to the sphere of curvature c.
            b = math.cos(angle) - c * height * math.sin(angle)
            t = -c * height**2 / (-b - math.sqrt(b * b - c * c * height**2))
            z, height = z + t * math.cos(angle), height + t * math.sin(angle)
        limit = stack.surfaces[i].semi_diameter
        if limit and abs(height) > limit:
            return None
        normal = math.asin(-c * height)
        angle = normal + math.asin(indices[i + 1] / indices[i] * math.sin(angle - normal))
    return height - math.tan(angle) * z, math.tan(angle)


@pytest.mark.parametrize("name", ["double-gauss-1950-f2", "biotar-1927-f1.4", "petzval-f1.4", "cooke-triplet-f5"])
def test_blur_is_the_traced_scale_times_the_traced_pupil(name):
    """K = f_px R / near, both by a second tracer, to 0.1 %."""
    lens, stack, properties = focused(name)
    heights = []
    for slope in np.linspace(0, 0.6, 6001):
        try:
            ray = meridional(stack, 540.0, stack.sensor, 0.0, slope)
        except ValueError:
            break
        if ray is not None:
            heights.append(abs(ray[0] + ray[1] * properties.entrance_pupil))
    near_axis = meridional(
        stack, 540.0, stack.sensor, 1e-4, -1e-4 * properties.sensor_to_stop[0] / properties.sensor_to_stop[1]
    )
    f_px = 1e-4 / abs(near_axis[1]) / (36.0 / 512)
    assert lens.blur == pytest.approx(f_px * max(heights) / 1000, rel=1e-3)


def test_a_thin_lens_is_the_camera_formula():
    surfaces = [{"radius": 50, "thickness": 0.001, "index": 1.5, "stop": True}, {"radius": -50}]
    from bokehsynth.optics.prescription.files import read_prescription

    thin = read_prescription({"name": "thin", "focal_length_mm": 50, "f_number": 16, "surfaces": surfaces}, "thin")
    lens = thin.at(f_number=22, focus_m=1.5, near_m=0.5, size=(240, 360))
    same = bs.Lens.from_camera(
        focal_length_mm=50, f_number=22, focus_distance_m=1.5, sensor_width_mm=36, image_width_px=360, near_m=0.5
    )
    assert lens.focus == same.focus
    assert lens.blur == pytest.approx(same.blur, rel=2e-3)


POINTS = np.array(
    [(0, 0), (0.4, 0), (-0.4, 0), (0, 0.5), (0.2, -0.3), (-0.1, 0.35), (0.7, 0.1), (-0.6, -0.5), (0.1, 0.9)]
)


IN_EVERY_RUN = {"tessar-1903-f5.5", "petzval-f1.4", "mirror-500-f8"}


@pytest.mark.parametrize(
    "name",
    [name if name in IN_EVERY_RUN else pytest.param(name, marks=pytest.mark.long) for name in packaged_lenses()],
)
def test_the_table_sends_rays_where_the_glass_does(name):
    """A ray with the table's aberration, traced forwards, meets the sensor where its pixel's green chief ray does."""
    lens, stack, properties = focused(name)
    f_px = lens.blur * 1000 / (radius := pupil_radius_mm(lens, name))
    half, pitch = math.hypot(*SIZE) / 2, camera(name) / SIZE[1]
    worst = 0.0
    for h in ((0.0, 0.0), (0.31, 0.0), (-0.2, 0.45), (0.55, -0.47)):
        pixel = np.array(h) * half
        fields = np.broadcast_to(h, POINTS.shape)
        passes, shift = lens.aperture.weight(POINTS, fields) > 0, lens.aperture.aberration(POINTS, fields)
        pupil = np.array([0.0, 0.0, properties.entrance_pupil])
        chief = trace(stack, 540.0, rays_from(pupil, -pixel[None] / f_px)).rays.at(stack.sensor)
        for channel, line in enumerate(LINES):
            target = pixel + shift[:, channel] - POINTS * lens.blur * lens.focus
            start = np.concatenate([POINTS * radius, np.full((len(POINTS), 1), properties.entrance_pupil)], axis=1)
            traced = trace(stack, line, rays_from(start, -target / f_px))
            off = np.hypot(*(traced.rays.at(stack.sensor) - chief).T) / pitch
            worst = max(worst, off[passes[:, channel]].max(initial=0))
            clear = np.abs(margin_of(traced, stack)) > 0.01  # within 1 % of a rim either answer will do
            assert (passes[:, channel] == traced.passed(stack))[clear].all()
    assert worst < (0.5 if name in {"petzval-f1.4", "phone-4-f1.8"} else 0.05)


def pupil_radius_mm(lens, name):
    """R from the lens itself: the point s = 1 of the axis is the marginal ray, so K / f_px."""
    from bokehsynth.optics.prescription.bake import pixels_per_tangent

    _, stack, properties = focused(name)
    pitch = camera(name) / SIZE[1]
    return lens.blur * 1000 / pixels_per_tangent(stack, 540.0, properties.entrance_pupil, pitch)


def margin_of(traced, stack):
    """By how much of its semi-diameter each ray misses the nearest rim, < 0 outside one."""
    clear = [
        1 - np.hypot(*hit.T) / surface.semi_diameter
        for surface, hit in zip(stack.surfaces, traced.hits, strict=True)
        if surface.semi_diameter
    ]
    return np.nan_to_num(np.min(clear, axis=0), nan=-1)


def test_light_falls_as_the_solid_angle_that_the_rims_leave():
    """Sum of the weights over s against a count of rays even in direction cosines at the sensor."""
    name = "double-gauss-1950-f2"
    lens, stack, properties = focused(name)
    f_px = lens.blur * 1000 / pupil_radius_mm(lens, name)
    line = np.linspace(-1.1, 1.1, 221)
    s = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    cosines = np.linspace(-0.45, 0.45, 501)
    grid = np.stack(np.meshgrid(cosines, cosines), axis=-1).reshape(-1, 2)
    slopes = grid / np.sqrt(1 - np.einsum("ij,ij->i", grid, grid))[:, None]
    weights, counts = [], []
    for h in (0.0, 0.3, 0.6, 0.9):
        weights.append(lens.aperture.weight(s, np.broadcast_to([h, 0.0], s.shape))[:, 1].sum())
        tangent = h * math.hypot(*SIZE) / 2 / f_px
        pupil = np.array([0.0, 0.0, properties.entrance_pupil])
        at = trace(stack, 540.0, rays_from(pupil, np.array([[-tangent, 0.0]]))).rays.at(stack.sensor)[0, 0]
        rays = rays_from(np.array([at, 0.0, stack.sensor]), slopes)
        counts.append(trace(stack, 540.0, rays, backwards=True).passed(stack).sum())
    np.testing.assert_allclose(np.array(weights) / weights[0], np.array(counts) / counts[0], atol=8e-3)
    assert weights[-1] < 0.3 * weights[0]


def test_the_corner_of_a_picture_that_is_not_square_is_as_light_as_the_class_says():
    """Table of the cpu at pixel (0, 0), whose abs(h) is 0.997; it was dark beyond 0.985 (0.120, not 0.191)."""
    lens, _, _ = focused("double-gauss-1950-f2")
    height, width = SIZE
    table = bake_field_table(lens.aperture, width, height, 3)
    corner = math.hypot(width - 1, height - 1) / math.hypot(width, height)
    found = field_light.light_at(table, width, height)[0, 0, 1]
    np.testing.assert_allclose(found, light_at(lens, (corner,)), atol=3e-4)  # 9e-5
    np.testing.assert_array_equal(*(lens.aperture.weight(POINTS, 0 * POINTS + [h, 0]) for h in (1.0, 1.02)))


def test_rays_of_one_field_position_are_those_of_many():
    """Runs of rays are evaluated field position by field position, others ray by ray: 4e-13 px, 6e-15 of the light."""
    lens, _, _ = focused("double-gauss-1950-f2")
    fields = np.array([[0.0, 0.0], [0.3, -0.4], [-0.83, 0.55], [0.1, 0.0]])
    s, h = np.tile(POINTS, (len(fields), 1)), np.repeat(fields, len(POINTS), axis=0)
    mixed = np.random.default_rng(3).permutation(len(s))
    for ask, most in ((lens.aperture.aberration, 1e-11), (lens.aperture.weight, 1e-12)):
        runs, single = ask(s, h), np.empty_like(ask(s, h))
        single[mixed] = ask(s[mixed], h[mixed])
        np.testing.assert_allclose(runs, single, atol=most, rtol=0)


def test_the_farthest_ray_of_an_opening():
    """A round rim at 0.73: the last ring of points within, and what lies between rings."""
    rims = np.zeros((21, 1, 2))
    rims[exponents(5).index((1, 0)), 0, 0] = rims[exponents(5).index((0, 1)), 0, 1] = 1 / 0.731
    wide = np.array([-2.0, 2.0, -2.0, 2.0, 2.0])
    assert farthest(rims, wide) == pytest.approx(0.73 + 0.006, abs=1e-12)
    assert farthest(rims, np.array([-0.1, 0.5, -0.1, 0.1, 0.6])) == pytest.approx(np.hypot(0.5, 0.1) + 0.006, abs=0.006)
    assert farthest(rims, np.array([0.8, 0.9, -2.0, 2.0, 2.0])) == pytest.approx(0.006)


def test_stopped_down_it_is_a_smaller_rounder_lens():
    prescription = bs.load_prescription("double-gauss-1950-f2")
    open_, closed = (prescription.at(f_number=n, focus_m=2.0, size=SIZE) for n in (2.0, 8.0))
    assert closed.blur == pytest.approx(open_.blur / 4, rel=0.02)
    ring = 0.9 * np.stack([np.cos(a := np.linspace(0, 2 * np.pi, 60)), np.sin(a)], axis=1)
    corner = np.broadcast_to([0.83, 0.55], ring.shape)
    assert (closed.aperture.weight(ring, corner) > 0).mean() > (open_.aperture.weight(ring, corner) > 0).mean()
    assert (
        np.abs(closed.aperture.aberration(ring, corner)).max() < np.abs(open_.aperture.aberration(ring, corner)).max()
    )


def light_at(lens, fields):
    """Green light at field positions (h, 0), relative to the centre."""
    line = lens.aperture.extent * ((np.arange(150) + 0.5) / 75 - 1)
    s = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    light = [lens.aperture.weight(s, np.broadcast_to([h, 0.0], s.shape))[:, 1].sum() for h in (0.0, *fields)]
    return np.array(light[1:]) / light[0]


def test_a_pupil_that_wanders_by_more_than_its_diameter_is_found():
    """A wide angle at a small stop; light as `support.traced_spots` counts it, 2.6 radii from the axis."""
    lens = bs.load_prescription("retrofocus-24-f2.8").at(f_number=32, focus_m=1.0, size=SIZE)
    assert lens.aperture.extent > 2.6
    np.testing.assert_allclose(light_at(lens, (0.5, 0.85, 0.9)), [0.916, 0.769, 0.742], atol=4e-3)  # worst 2.2e-3


def test_beyond_the_edge_of_the_image_it_is_dark(monkeypatch):
    """On a sensor of 80 mm: light falls to nothing where chief rays end, at 0.58 of the way to the corner.

    The edge is found first: 48 bundles of rays are traced, and few for the edge.
    """
    opening, asked = bundles._opening, []
    monkeypatch.setattr(bundles, "_opening", lambda *given: asked.append(given) or opening(*given))
    lens = bs.load_prescription("biotar-1927-f1.4").at(focus_m=2.0, sensor_width_mm=80, size=(36, 54))
    light = light_at(lens, (0.3, 0.5, 0.6, 0.8, 1.0))
    np.testing.assert_allclose(light[:2], [0.537, 0.169], atol=0.02)
    assert (light[2:] == 0).all()  # without an edge 0.14 at 0.6
    assert len(asked) < 70  # 60; it was 86
    assert np.isfinite(lens.aperture.aberration(POINTS, 0 * POINTS + 0.7)).all()


def test_a_field_without_light_spoils_none_that_has_some():
    """The last field of a phone's lens is dark; what was fitted there led rays of fields before it 1,000 px astray.

    Of 2 to 3 px by fields of their own at 512 px; here pictures are small, and it was 0.15 to 0.2 px of 0.08.
    """
    size = (36, 36)
    prescription = bs.load_prescription("phone-4-f1.8")
    lens = prescription.at(near_m=0.0674, focus_m=0.0736, sensor_width_mm=4.8, size=size)
    state = prescription.state(prescription.f_number, 0.0736)
    f_px, half = state.mm_per_tangent * size[1] / 4.8, math.hypot(*size) / 2
    defocus = f_px * state.radius / 1000 / 0.0736
    made = bundles.Camera(state.stack, state.properties, LINES, f_px, state.radius, defocus, half)
    for h in (0.88, 0.92, 0.96):
        traced = bundles.trace_bundle(made, h, LINES[1])
        fields = np.broadcast_to((h, 0.0), traced.s.shape)
        passes = lens.aperture.weight(traced.s, fields)[:, 1] > 0
        both = passes & traced.passes
        off = lens.aperture.aberration(traced.s, fields)[both, 1] - traced.aberration[both]
        assert np.abs(off).max() < 0.06  # worst 0.058, it was 0.197
        assert (passes != traced.passes).mean() < 0.015  # worst 0.012


def test_focus_at_infinity_works():
    lens = bs.load_prescription("tessar-1903-f5.5").at(size=SIZE, near_m=2.0)
    assert lens.focus == 0
    assert np.abs(lens.aperture.aberration(POINTS, 0 * POINTS)).max() < 2


@pytest.mark.long
def test_reference_and_cpu_keep_a_constant_colour_through_it():
    small = bs.load_prescription("double-gauss-1950-f2").at(focus_m=2.0, size=(12, 18))
    margin = small.margin([bs.Plane(0.0)], 18, 12)
    shape = (12 + 2 * margin, 18 + 2 * margin)
    layer = bs.Layer(np.full((*shape, 3), 0.5), np.ones(shape), bs.Plane(0.0))
    frames = bs.render([layer], small, margin, "reference", 60)
    np.testing.assert_allclose(frames.bokeh, 0.5, rtol=1e-5)
    np.testing.assert_allclose(bs.render([layer], small, margin, "cpu").bokeh, 0.5, rtol=1e-5)


@pytest.mark.long  # rendering/test_lens_spots has lights through the glass in every run
def test_the_cpu_is_the_reference_through_it():
    """A texture through a fast lens, off by what 1,500 rays leave; a disc of the same K is another picture."""
    size = height, width = 18, 27
    lens = bs.load_prescription("petzval-f1.4").at(near_m=0.7, focus_m=0.8, sensor_width_mm=12, size=size)
    plane = bs.Plane(0.2)
    margin = lens.margin([plane], width, height)
    shape = (height + 2 * margin, width + 2 * margin)
    texture = cv2.GaussianBlur(np.random.default_rng(1).random((*shape, 3)), (0, 0), 2.0)
    layer = bs.Layer((texture - texture.min()) / np.ptp(texture), np.ones(shape), plane)
    expected = bs.render([layer], lens, margin, "reference", 1500).bokeh
    disc = bs.Lens(lens.blur, lens.focus)
    found, other = (np.abs(bs.render([layer], each, margin, "cpu").bokeh - expected) for each in (lens, disc))
    assert lens.blur > 9
    assert np.sqrt(np.square(found).mean()) < 7e-4  # seen: 6.6e-4
    assert found.max() < 4e-3  # seen: 3.8e-3
    assert np.sqrt(np.square(other).mean()) > 6e-3  # seen: 6.4e-3


# The file, and what is said of a wrong one.


def changed(surface=None, drop=None, **changes):
    data = json.loads(json.dumps(GOOD))
    target = data if surface is None else data["surfaces"][surface - 1]
    for key in [drop] if drop else []:
        del target[key]
    target.update(changes)
    return data


def load(tmp_path, data):
    path = tmp_path / "mine.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return bs.load_prescription(path)


def test_a_file_of_ones_own(tmp_path):
    lens = load(tmp_path, GOOD).at(f_number=5.6, focus_m=3.0, near_m=1.0, size=(100, 150))
    assert isinstance(lens, bs.Lens)
    assert lens.focus == pytest.approx(1 / 3)
    assert repr(lens.aperture) == "PrescriptionAperture('doublet f/5.6')"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", r"mine\.json is no JSON"),
        ([], "a prescription is a JSON object"),
        (changed(drop="surfaces"), "'surfaces' is missing"),
        (changed(surfaces=[]), "at least one surface"),
        (changed(focal_lenght_mm=50), r"unknown key 'focal_lenght_mm' \(did you mean 'focal_length_mm'\?\)"),
        (changed(2, raduis=1), r"mine\.json, surface 2: unknown key 'raduis' \(did you mean 'radius'\?\)"),
        (changed(3, drop="radius"), r"mine\.json, surface 3: 'radius' is missing"),
        (changed(1, drop="thickness"), r"surface 1: 'thickness' \(mm to the next surface\) is missing"),
        (changed(1, drop="index"), "surface 1: 'abbe' needs an 'index'"),
        (changed(1, index="N-BK7"), r"surface 1: index must be a finite number, got 'N-BK7'"),
        (changed(1, index=0.9), "surface 1: index must be at least 1"),
        (changed(1, abbe=-3), "surface 1: abbe must be > 0"),
        (changed(2, thickness=-1), "surface 2: thickness must be >= 0"),
        (changed(2, semi_diameter=60), r"surface 2: semi_diameter 60 is larger than the surface, which ends 50 mm"),
        (changed(4, stop=1), "surface 4: 'stop' must be true or false"),
        (changed(4, stop=False), 'no surface is the stop; mark exactly one with "stop": true'),
        (changed(1, stop=True), "surfaces 1, 4 are the stop"),
        (changed(2, asphere=1e-5), "surface 2: 'asphere' must be a list"),
        (changed(f_number=0), "f_number must be a number > 0"),
        (
            changed(surfaces=GOOD["surfaces"][1:]),
            r"the surfaces form no image \(focal length -111\.473 mm\); a surface is missing, or a radius has the",
        ),
        (
            changed(4, semi_diameter=30),
            r"mine\.json: .*surface 4: the stop \(semi-diameter 30\) is larger than",
        ),
        (
            changed(1, semi_diameter=3),
            "see the semi_diameter of surface 1, or give the stop a smaller one",
        ),
        (changed(focal_length_mm=50), r"focal length of 100\.6 mm, focal_length_mm says 50; a surface is missing, or"),
        (changed(wavelengths_nm=[500]), "'wavelengths_nm' must be three numbers"),
    ],
)
def test_a_wrong_file_is_named_with_the_surface(tmp_path, data, message):
    with pytest.raises(UsageError, match=message):
        load(tmp_path, data)


def test_close_up_another_rim_than_the_stop_may_bound_the_axis():
    """The rear of a fast Petzval type, at 0.2 m: a smaller pupil, and no fault of the file."""
    prescription = bs.load_prescription("petzval-f1.4")
    far, close = (prescription.state(1.4, focus) for focus in (np.inf, 0.2))
    assert close.radius < 0.8 * far.radius


def test_names_that_are_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"no lens is named 'biotar-1927-f1' \(did you mean 'biotar-1927-f1\.4'\?\)"):
        bs.load_prescription("biotar-1927-f1")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        bs.load_prescription(tmp_path / "nothing.json")
    (tmp_path / "lens.txt").write_text("x")
    with pytest.raises(UsageError, match=r"a prescription is a \.json, \.zmx or \.seq file"):
        bs.load_prescription(tmp_path / "lens.txt")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"f_number": 3.5}, r"doublet opens to f/4, got f_number 3\.5; stop it down"),
        ({"focus_m": 0.05}, r"doublet: focus_m must be beyond 0\.\d+ m from the entrance pupil"),
        ({"near_m": 0}, "near_m must be > 0"),
        ({"sensor_width_mm": -1}, "sensor_width_mm must be > 0"),
        ({"size": (0, 5)}, "height and width must be > 0"),
    ],
)
def test_a_camera_that_cannot_be(tmp_path, how, message):
    with pytest.raises(UsageError, match=message):
        load(tmp_path, GOOD).at(**({"focus_m": 2.0, "size": (20, 30)} | how))


def test_a_stop_larger_than_the_rims(tmp_path):
    with pytest.raises(
        UsageError, match=r"mine\.json.*surface 4: the stop \(semi-diameter 12\) is larger .* surface 1"
    ):
        load(tmp_path, changed(1, semi_diameter=8))
