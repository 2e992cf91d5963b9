"""Zemax and CODE V files through optiland, and optiland as the oracle of what was converted."""

import builtins
import math
from pathlib import Path

import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.errors import UsageError
from bokehsynth.optics.prescription.surfaces import LensStack
from bokehsynth.optics.prescription.tracing import rays_from, trace

ZEMAX = """\
VERS 140730 195 26155
MODE SEQ
NAME made up
UNIT MM X W X CM MR CPMM
FNUM 5.0 0
GCAT SCHOTT
FTYP 0 0 1 3 0 0 0
XFLN 0 0 0 0 0 0 0 0 0 0 0 0
YFLN 0 0 0 0 0 0 0 0 0 0 0 0
WAVM 1 4.861327E-1 1
WAVM 2 5.875618E-1 1
WAVM 3 6.562725E-1 1
PWAV 2
SURF 0
  TYPE STANDARD
  CURV 0.0 0 0 0 0 ""
  DISZ INFINITY
SURF 1
  TYPE STANDARD
  CURV 1.6E-2 0 0 0 0 ""
  DISZ 6.0
  GLAS N-BK7 1 0 1.5168 64.17 0 1 1 1 0 0
  DIAM 12 1 0 0 1 ""
  FLAP 0 12 0
SURF 2
  TYPE STANDARD
  CURV -2.0E-2 0 0 0 0 ""
  DISZ 2.5
  GLAS N-SF2 1 0 1.64769 33.82 0 1 1 1 0 0
SURF 3
  TYPE STANDARD
  CURV -4.0E-3 0 0 0 0 ""
  CONI -0.5
  DISZ 4.0
SURF 4
  STOP
  TYPE STANDARD
  CURV 0.0 0 0 0 0 ""
  DISZ 90.0
SURF 5
  TYPE STANDARD
  CURV 0.0 0 0 0 0 ""
  DISZ 0
"""
CODE_V = """\
RDM N;LEN "VERSION: 10.7"
TITLE 'made up'
EPD   20.0
DIM   M
WL    656.3 587.6 486.1
REF   2
YAN   0.0
SO    0.0 1e13
S     0.016 6.0 NBK7_SCHOTT
S     -0.02 2.5 NSF2_SCHOTT
S     -0.004 4.0
S     0.0 90.0
  STO
SI    0.0 0.0
GO
"""


@pytest.fixture(scope="module")
def optiland():
    return pytest.importorskip("optiland", reason="optiland is not installed")


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_without_optiland_the_way_out_is_said(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "optiland":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"lens\.zmx: \.zmx files are converted by optiland.*bokehsynth\[lenses\]"):
        bs.load_prescription(write(tmp_path, "lens.zmx", ZEMAX))


@pytest.mark.parametrize(("name", "text"), [("lens.zmx", ZEMAX), ("lens.seq", CODE_V)])
def test_the_numbers_are_those_of_the_file(optiland, tmp_path, name, text):
    lens = bs.load_prescription(write(tmp_path, name, text))
    surfaces = lens.surfaces
    assert lens.name == "lens"
    assert lens.source.startswith(name)
    np.testing.assert_allclose([s.radius for s in surfaces], [62.5, -50, -250, 0], rtol=1e-12)
    np.testing.assert_allclose([s.thickness for s in surfaces], [6, 2.5, 4, 90], atol=1e-9)
    assert [s.stop for s in surfaces] == [False, False, False, True]
    assert [bool(s.sellmeier) for s in surfaces] == [True, True, False, False]
    assert surfaces[1].index_at(587.5618) == pytest.approx(1.64769, abs=1e-5)
    state = lens.state(lens.f_number, math.inf)
    assert state.properties.focal_length == pytest.approx(lens.focal_length_mm, rel=2e-3)  # of d there, of 540 nm here
    if name == "lens.zmx":
        assert surfaces[0].semi_diameter == 12
        assert surfaces[2].conic == -0.5
        assert lens.f_number == pytest.approx(5, rel=1e-6)


@pytest.mark.parametrize(("name", "text"), [("lens.zmx", ZEMAX), ("lens.seq", CODE_V)])
def test_rays_are_those_of_optiland(optiland, tmp_path, name, text):
    """Position and direction at the sensor, three colours: within 1e-9 mm."""
    from optiland import fileio
    from optiland.rays import RealRays

    path = write(tmp_path, name, text)
    optic = (fileio.load_zemax_file if name.endswith("zmx") else fileio.load_codev_file)(str(path))
    surfaces = bs.load_prescription(path).surfaces
    stack = LensStack(surfaces, LensStack(surfaces, 0.0).vertices[-1] + 90)
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(-9, 9, 5), np.linspace(-9, 9, 5)))
    slope = np.broadcast_to([0.03, 0.12], (25, 2))
    for line in (620.0, 540.0, 460.0):
        ours = trace(stack, line, rays_from(np.stack([x, y, np.full(25, -5.0)], axis=1), slope)).rays
        norm = np.sqrt(1 + (slope**2).sum(axis=1))
        ones = np.ones(25)
        rays = RealRays(x, y, -5 * ones, slope[:, 0] / norm, slope[:, 1] / norm, 1 / norm, ones, ones * line / 1000)
        for surface in list(optic.surfaces.surfaces)[1:]:
            surface.trace(rays)
        np.testing.assert_allclose(ours.at(stack.sensor), np.stack([rays.x, rays.y], axis=1), atol=1e-9)
        np.testing.assert_allclose(ours.direction[:, :2], np.stack([rays.L, rays.M], axis=1), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "lens.zmx",
            ZEMAX.replace("N-SF2 1 0 1.64769 33.82", "UNOBTAINIUM 0 0"),
            r"lens\.zmx, surface 2: the glass behind is in no catalogue",
        ),
        ("lens.seq", CODE_V.replace("NSF2_SCHOTT", "UNOBTAINIUM_SCHOTT"), r"lens\.seq: .*Glass 'UNOBTAINIUM_SCHOTT'"),
        ("lens.zmx", "no lens at all", r"lens\.zmx: (optiland cannot read it|holds no surfaces)"),
        ("lens.seq", "", r"lens\.seq: "),
        ("lens.zmx", ZEMAX.replace("1.6E-2", "-1.6E-2"), "finds a focal length of -"),
        ("lens.zmx", ZEMAX.replace("  STOP\n", ""), r"lens\.zmx: "),
        ("lens.zmx", ZEMAX.replace("TYPE STANDARD\n  CURV -2", "TYPE TOROIDAL\n  CURV -2"), r"lens\.zmx"),
    ],
    ids=["glass", "another glass", "text", "empty", "negative", "no stop", "toroid"],
)
def test_what_cannot_be_converted_is_refused_in_a_line(optiland, tmp_path, name, text, words):
    with pytest.raises(UsageError, match=words) as raised:
        bs.load_prescription(write(tmp_path, name, text))
    assert "\n" not in str(raised.value)


def test_a_recipe_keeps_the_converted_surfaces(optiland, tmp_path):
    write(tmp_path, "lens.zmx", ZEMAX)
    path = write(tmp_path, "r.yaml", "name: r\nsamples: {train: 1}\nlens: {prescription: lens.zmx, near_m: 1}\n")
    recipe = bs.load_recipe(path)
    (tmp_path / "lens.zmx").unlink()
    again = bs.load_recipe(write(tmp_path, "again.yaml", recipe.text()))
    assert again.lens.digest == recipe.lens.digest
    assert len(again.lens.real_lens.surfaces) == 4
