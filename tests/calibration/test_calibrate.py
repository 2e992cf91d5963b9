"""A lens from a photograph: hidden lenses are found, the file is a lens, and pictures without lamps are told so."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from support.night_scenes import save_picture, small_night

import bokehsynth as bs
from benchmarks.calibrate import draw_spot, measure, night, score
from bokehsynth.calibration import calibrate, detection
from bokehsynth.calibration.detection import find_lamps
from bokehsynth.calibration.lens_file import lens_record
from bokehsynth.calibration.sheet import CELL, in_words, sheet
from bokehsynth.calibration.spot_model import Grid, Shape, both_shares, normal_share, spot
from bokehsynth.cli import cli
from bokehsynth.color import encode_8bit
from bokehsynth.scene import lens_fit, read_aperture
from bokehsynth.scene.depth_layers import depth_slices


class Result(NamedTuple):
    """What a render returns, as far as the search reads it."""

    bokeh: np.ndarray


@pytest.fixture(scope="module")
def found() -> tuple:
    """A photograph with a hidden lens, and what is found of it."""
    truth = small_night()
    return truth, calibrate(truth.photo)


def test_a_hidden_lens_is_found(found: tuple) -> None:
    truth, calibration = found
    result = score(truth, calibration, 0.0)
    assert result.blades == result.true_blades
    assert abs(result.radius_median) < 0.01
    assert result.rim < 0.03
    assert calibration.found >= len(calibration.lamps) + sum(calibration.dropped.values()) - 1


def test_the_file_is_a_lens(found: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a recipe, as a short text and in Python; a data set's own recipe needs the file no more."""
    calibration = found[1]
    record = lens_record(calibration, "mine")
    (tmp_path / "mine.json").write_text(json.dumps(record))
    (tmp_path / "set.yaml").write_text(
        "name: s\nsamples: {train: 1}\nsize: 32\nlens: {aperture: 'calibrated:mine.json'}\n"
    )
    recipe = bs.load_recipe(tmp_path / "set.yaml")
    opening = bs.CalibratedAperture.load(tmp_path / "mine.json")
    assert opening == calibration.aperture
    assert recipe.lens.names == ("calibrated:mine.json",)
    assert recipe.lens.apertures == (opening,)
    assert recipe.lens.aperture.data == json.loads(json.dumps(record["opening"]))
    monkeypatch.chdir(tmp_path)
    assert read_aperture("calibrated:mine.json") == opening
    page = sheet(calibration, "mine")
    assert page.shape[0] == CELL + 28 + -(-len(calibration.lamps) // 3) * (CELL + 22) + 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "has no 'opening'"),
        ('{"opening": [1]}', "opening is no mapping"),
        ('{"opening": {"blades": 1}}', "blades must be 0"),
        ('{"opening": {"blades": true}}', "blades must be a whole number"),
        ('{"opening": {"colors": [1, 1]}}', "colors must be a list of 3 numbers"),
        ('{"opening": {"rims": [[1, 1], [1, 1], [1, 1]]}}', "rims must be at most 2"),
        ('{"opening": {"edge": 1e999}}', "too large"),
        ('{"opening": {"edge": ' + "9" * 400 + "}}", r"edge must be a number, got 9{60}\.\.\. \(400 characters\)"),
        ('{"opening": {"blades": -' + "9" * 400 + "}}", "blades must be a whole number"),
        ('{"opening": {"rims": [[1, ' + "9" * 400 + "]]}}", "rims must be a number"),
        ('{"opening": {"color": 1}}', "unknown keys: color"),
        ("[" * 100_000, "is not JSON|nested|brackets|lists"),
    ],
)
def test_a_file_that_is_no_lens(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "lens.json").write_text(text)
    with pytest.raises(bs.UsageError, match=words):
        bs.CalibratedAperture.load(tmp_path / "lens.json")


def test_the_closed_form_is_the_opening() -> None:
    """Against the class, ray by ray: worst pixel 0.22 (where rim and blade meet), 0.0122 rms, light 4e-4."""
    shape = Shape(7, True, 0.3, 0.4, 0.8, 1.0, 1.4)
    picture = np.zeros((120, 180, 3))
    draw_spot(picture, shape.aperture(), (150.3, 30.6, 16.0), np.ones(3))
    y, x = np.mgrid[:120, :180].astype(np.float64)
    grid = Grid(x.ravel(), y.ravel(), (89.5, 59.5), math.hypot(120, 180) / 2)
    light = spot(shape, (150.3, 30.6, math.log(16.0), math.log(0.29)), grid).reshape(120, 180)
    left = np.abs(light - picture[..., 1])[10:52, 130:172]
    assert left.max() < 0.23
    assert np.sqrt(np.mean(left**2)) < 0.013
    assert light.sum() == pytest.approx(picture[..., 1].sum(), rel=5e-4)


def test_a_rim_along_the_boundary_takes_no_light_twice() -> None:
    """Where the rim is the boundary itself, or a corner of both, the spot is what two blurred edges let pass."""
    y, x = np.mgrid[:50, :50].astype(np.float64)
    grid = Grid(x.ravel(), y.ravel(), (24.5, 24.5), 40.0)
    place = (24.5, 24.5, math.log(16.0), math.log(0.9))
    same = spot(Shape(has_rim=True, exact=True), place, grid)
    np.testing.assert_allclose(same, spot(Shape(), place, grid), atol=1e-12)
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 200_000))
    for along in (-0.7, 0.0, 0.5, 0.9):
        both = along * a + math.sqrt(1 - along * along) * b
        for first, second, within in ((0.0, 0.0, 0.004), (0.8, -0.3, 0.03)):  # seen: 0.002 and 0.025
            share = ((a < first) & (both < second)).mean()
            each = [normal_share(np.array([z])) for z in (first, second)]
            assert both_shares(*each, np.array([along]))[0] == pytest.approx(share, abs=within)


def test_red_and_blue_are_smaller_or_beside() -> None:
    opening = bs.CalibratedAperture(colors=(0.9, 1.0, 1.0), lateral=(0.01, 0.0)).for_size(60, 80)
    s = np.array([[0.95, 0.0], [0.5, 0.0]])
    assert opening.weight(s)[0, 0] == 0
    assert opening.weight(s)[1, 0] == pytest.approx(1 / 0.81)
    assert opening.aberration(s, np.array([[1.0, 0.0]] * 2))[0, :, 0].tolist() == [-0.5, 0.0, 0.0]
    assert opening.for_size(60, 80) is opening.for_size(60, 80)


@pytest.mark.parametrize("kind", ["black", "grey", "deep", "alpha", "corrupt", "missing", "linear"])
def test_pictures_without_lamps_and_other_files(tmp_path: Path, kind: str) -> None:
    """Exit code 2 and one line that says what to do."""
    path = tmp_path / ("in.hdr" if kind == "linear" else "in.png")
    pictures = {
        "black": np.zeros((80, 90, 3), np.uint8), "grey": np.full((80, 90), 90, np.uint8),
        "deep": np.full((80, 90, 3), 30_000, np.uint16), "alpha": np.zeros((80, 90, 4), np.uint8),
        "linear": np.full((80, 90, 3), 7, np.float32),
    }  # fmt: skip
    if kind in pictures:
        save_picture(path, pictures[kind])
    elif kind == "corrupt":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 99)
    result = CliRunner().invoke(cli, ["calibrate", str(path), "--out", str(tmp_path / "lens.json")])
    assert isinstance(result.exception, bs.BokehsynthError)
    assert result.exception.exit_code == 2
    assert str(path) in str(result.exception)
    assert ("16 bits" in str(result.exception)) == (kind == "linear")
    assert ("street lights" in str(result.exception)) == (kind in {"black", "grey", "deep"})
    assert not (tmp_path / "lens.json").exists()


def test_the_command(tmp_path: Path, found: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes the lens and the sheet, says what it used, and refuses another ending and half a pair."""
    truth = found[0]
    monkeypatch.setattr("bokehsynth.calibration.calibrate", lambda *_: found[1])  # of this photograph, made above
    (tmp_path / "night.jpg").write_bytes(truth.jpeg)
    run = ["calibrate", str(tmp_path / "night.jpg"), "--out"]
    assert "JSON" in str(CliRunner().invoke(cli, [*run, str(tmp_path / "lens.png")]).exception)
    half = CliRunner().invoke(cli, [*run, str(tmp_path / "lens.json"), "--sharp", "x.png"])
    assert "belong together" in str(half.exception)
    result = CliRunner().invoke(cli, [*run, str(tmp_path / "lens.json")])
    assert result.exit_code == 0, result.exception
    assert f"{truth.aperture.blades} blades" in result.output
    record = json.loads((tmp_path / "lens.json").read_text())
    assert record["opening"]["blades"] == truth.aperture.blades
    assert set(record["standard_errors"]) >= {"rotation", "curvature", "edge"}
    assert cv2.imread(str(tmp_path / "lens.png")).shape[2] == 3
    assert CliRunner().invoke(cli, [*run, str(tmp_path / "lens.json")]).exit_code == 0  # its own sheet may go
    save_picture(tmp_path / "other.png", np.zeros((20, 30, 3), np.uint8))
    before = (tmp_path / "other.png").read_bytes()
    other = CliRunner().invoke(cli, [*run, str(tmp_path / "other.json")])
    assert isinstance(other.exception, bs.UsageError)
    assert "no sheet of calibrate" in str(other.exception)
    assert (tmp_path / "other.png").read_bytes() == before
    assert not (tmp_path / "other.json").exists()


@pytest.mark.parametrize("source", ["photo", "sharp", "disparity", "link", "json"])
def test_no_input_is_overwritten(tmp_path: Path, source: str) -> None:
    """The lens file or the sheet beside it would be the photograph, or another picture that is read."""
    for name in ("photo", "sharp", "disparity"):
        save_picture(tmp_path / f"{name}.png", np.zeros((20, 30, 3), np.uint8))
    photo, out = tmp_path / "photo.png", tmp_path / f"{source}.json"
    if source == "link":  # what is read is the same file by another name
        (tmp_path / "link.png").symlink_to(photo)
    if source == "json":
        out.symlink_to(photo)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    pair = ["--sharp", str(tmp_path / "sharp.png"), "--disparity", str(tmp_path / "disparity.png")]
    run = CliRunner().invoke(cli, ["calibrate", str(photo), *pair, "--out", str(out)])
    assert isinstance(run.exception, bs.UsageError)
    assert "would replace" in str(run.exception)
    assert f"{source}-lens.json" in str(run.exception)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_lateral_colour_where_k_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the size of the picture that is rendered, not of the photograph, and takes none of the range of K."""
    aperture = bs.CalibratedAperture(lateral=(0.05, -0.05), half_diagonal=2000.0)
    picture = np.full((40, 60, 3), 0.5, np.float32)
    disparity = np.repeat(np.linspace(0, 1, 6, dtype=np.float32), 10)[None].repeat(40, axis=0)
    seen = []
    monkeypatch.setattr(lens_fit, "render", lambda _, lens, *__: seen.append(lens.aperture) or Result(picture))
    search = lens_fit.SearchRange((2.0, 10.0), None)
    error = lens_fit.error_function(lens_fit.Pair(picture, picture, disparity, None), search.margin, aperture)
    assert error(10.0, 1.0) == 0
    assert seen == [aperture.for_size(40, 60)]


@pytest.mark.long
def test_the_command_finds_k(tmp_path: Path, found: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a pair with lateral colour, 0.75 px where it is searched and 3 px in the photograph."""
    aperture = bs.CalibratedAperture(7, 0.1, 0.3, lateral=(0.02, -0.02), half_diagonal=math.hypot(180, 240) / 2)
    known = replace(found[1], aperture=aperture)
    monkeypatch.setattr("bokehsynth.calibration.calibrate", lambda *_: known)
    monkeypatch.setattr(lens_fit, "SEARCH_SIDE", 45)
    rng = np.random.default_rng(3)
    sharp = np.kron(rng.uniform(0.02, 0.9, (15, 20, 3)), np.ones((12, 12, 1))).astype(np.float32)
    disparity = np.repeat(np.linspace(0, 1, 6, dtype=np.float32), 40)[None].repeat(180, axis=0)
    margin = 40
    layers = depth_slices(sharp, disparity, margin, 6)
    blurred = bs.render(layers, bs.Lens(24.0, 1.0, aperture), margin, "cpu").bokeh
    save_picture(tmp_path / "photo.png", encode_8bit(blurred)[..., ::-1])
    save_picture(tmp_path / "sharp.png", encode_8bit(sharp)[..., ::-1])
    save_picture(tmp_path / "disparity.png", np.rint(255 * disparity).astype(np.uint8))
    run = [str(tmp_path / "photo.png"), "--sharp", str(tmp_path / "sharp.png"), "--out", str(tmp_path / "lens.json")]
    result = CliRunner().invoke(cli, ["calibrate", *run, "--disparity", str(tmp_path / "disparity.png")])
    assert result.exit_code == 0, result.exception
    pair = json.loads((tmp_path / "lens.json").read_text())["pair"]
    assert pair["blur"] == pytest.approx(24.0, rel=0.1)
    assert pair["focus"] == pytest.approx(1.0, abs=0.1)
    assert pair["rms"] < 0.03


def test_the_glow_has_no_error_bar(found: tuple) -> None:
    """How well it is found is not measured; lamps fitted with it say nothing else."""
    calibration = found[1]
    errors = replace(calibration.fit, has_glow=True).errors()
    assert "glow" not in errors
    assert errors["edge"] > 0
    assert in_words(replace(calibration, errors=errors))[1].endswith("glow 0.000")


def test_many_bright_regions() -> None:
    """Each is looked at once per threshold, with progress; more than a photograph of lamps has are refused."""
    y, x = np.mgrid[:192, :320]
    spots = np.hypot(x % 16 - 7.5, y % 16 - 7.5) < 5.5
    photo = np.repeat(np.where(spots, 0.7, 0.02)[..., None], 3, axis=2).astype(np.float32)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cv2, "pointPolygonTest", None)  # each region against each outline took minutes
        found = find_lamps(photo, lambda items, name, count: seen.append((name, count)) or items)
        assert len(found.lamps) + sum(found.dropped.values()) == 20 * 12
        assert seen == [("thresholds", len(detection.LEVELS))]
        assert found.bright.max() == 1
        patch.setattr(detection, "MOST_REGIONS", 20 * 12)
        assert len(find_lamps(photo).lamps) == len(found.lamps)
        patch.setattr(detection, "MOST_REGIONS", 20 * 12 - 1)
        with pytest.raises(bs.UsageError, match="240 bright regions at one threshold, more than 239"):
            find_lamps(photo)


@pytest.mark.long
def test_the_command_is_deterministic(tmp_path: Path) -> None:
    """The same file from the same photograph, calculated twice."""
    (tmp_path / "night.jpg").write_bytes(small_night(8).jpeg)
    for name in ("a.json", "b.json"):
        run = CliRunner().invoke(cli, ["calibrate", str(tmp_path / "night.jpg"), "--out", str(tmp_path / name)])
        assert run.exit_code == 0
    first, second = (json.loads((tmp_path / name).read_text()) | {"name": ""} for name in ("a.json", "b.json"))
    assert first == second


@pytest.mark.long
def test_thirty_hidden_lenses() -> None:
    """Blades right and radii within 1 % in 95 %, rims within 3 %; benchmarks/calibrate.md has others.

    Seen: blades right in 30, radii within 1 % in 29 and 1.02 % off in one, rims within 2.45 %.
    """
    scores = [measure(seed) for seed in range(30)]
    assert sum(each.blades == each.true_blades for each in scores) >= 29
    assert sum(abs(each.radius_median) < 0.01 for each in scores) >= 29
    assert max(abs(each.radius_median) for each in scores) < 0.011
    assert max(each.rim for each in scores) < 0.03


@pytest.mark.long
def test_far_focus_turns_the_opening() -> None:
    """Lamps before the focus show it turned by 180 degrees."""
    truth = night(1)
    near, far = calibrate(truth.photo), calibrate(truth.photo, far_focus=True)
    assert near.aperture.blades == far.aperture.blades == 5
    turn = math.remainder(far.aperture.rotation - near.aperture.rotation - math.pi, 2 * math.pi / 5)
    assert abs(turn) < 0.02
