"""Filters of a source by quality: closed forms of what is measured, what is rejected and why, and the index."""

import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from support.photo_folders import cutout, photo, save

from bokehsynth.assets.catalogue import Catalogue
from bokehsynth.assets.index import source as index_source_module
from bokehsynth.assets.index.build import build_catalogue
from bokehsynth.assets.index.cache import NAME
from bokehsynth.assets.index.quality import cutout_quality, picture_quality
from bokehsynth.assets.spec import AssetsSpec
from bokehsynth.color import srgb_to_linear


def light(encoded: np.ndarray) -> np.ndarray:
    return srgb_to_linear(np.repeat(encoded.astype(np.float32)[..., None] / 255, 3, axis=2))


def test_the_laplacian_of_a_checkerboard_and_of_nothing() -> None:
    y, x = np.indices((64, 96))
    measured = picture_quality(light(np.where((x + y) % 2, 140.0, 120.0)))
    # Each pixel differs from its four neighbours by 20: the Laplacian is +-80 everywhere.
    assert measured["laplacian"] == pytest.approx(6400, rel=1e-3)
    assert picture_quality(light(np.full((64, 96), 99.0)))["laplacian"] < 1e-3


def test_clipped_pixels_are_counted_in_all_channels() -> None:
    encoded = np.full((40, 40, 3), 128.0)
    encoded[:10] = 254  # a quarter is white
    encoded[10:14] = 1  # a tenth is black
    encoded[20:, :, 0] = 255  # a red that is clipped alone is a colour
    measured = picture_quality(srgb_to_linear((encoded / 255).astype(np.float32)))
    assert (measured["white"], measured["black"]) == (0.25, 0.1)
    encoded[:10], encoded[10:14] = 253, 2
    measured = picture_quality(srgb_to_linear((encoded / 255).astype(np.float32)))
    assert (measured["white"], measured["black"]) == (0, 0)


def test_mattes_are_measured_by_soft_share_holes_and_area() -> None:
    alpha = np.zeros((60, 60), np.float32)
    alpha[10:50, 10:50] = 1
    alpha[20:30, 20:30] = 0  # a hole of 100 of 1,600 pixels
    alpha[10:50, 45:50] = 0.6  # 200 soft pixels of 1,500 that are visible
    alpha[40:50, 20:24] = 0  # a bay is no hole
    color = np.full((60, 60, 3), 0.5, np.float32)
    measured = cutout_quality(color, alpha, (10, 10, 40, 40))
    assert measured["holes"] == round(100 / 1560, 5)
    assert measured["soft"] == round(200 / 1460, 5)
    assert measured["area"] == round(1460 / 3600, 5)
    assert measured["laplacian"] < 1e-3


def test_cutouts_are_judged_where_they_are_solid() -> None:
    rng = np.random.default_rng(1)
    color = rng.uniform(0, 1, (50, 50, 3)).astype(np.float32)
    alpha = np.zeros((50, 50), np.float32)
    alpha[10:40, 10:40] = 1
    color[10:40, 10:40] = 0.25
    assert cutout_quality(color, alpha, (10, 10, 30, 30))["laplacian"] < 1e-3


class Runs(NamedTuple):
    """Lists of one folder, indexed one after the other."""

    without: Catalogue
    """Without quality."""
    index: str
    """The index of landscapes after that."""
    judged: Catalogue
    strict: Catalogue
    """With other thresholds."""
    probed: list[int]
    """How many pictures were probed for cut-outs and landscapes of each, and of one more without quality."""
    index_after: str


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Of four landscapes, one of them small, one blurred, one half white; and three cut-outs, one with a hole."""
    tmp_path = tmp_path_factory.mktemp("quality")
    sharp = photo(1, 160, 200)
    white = photo(2, 160, 200)
    white[:90] = 255
    save(tmp_path / "land/sharp.png", sharp)
    save(tmp_path / "land/small.png", photo(3, 100, 140))
    save(tmp_path / "land/blurred.png", cv2.GaussianBlur(photo(4, 160, 200), (0, 0), 4))
    save(tmp_path / "land/white.png", white)
    pierced = cutout(11, 120, 100)
    pierced[40:70, 35:65, 3] = 0
    save(tmp_path / "cut/whole.png", cutout(10, 120, 100))
    save(tmp_path / "cut/pierced.png", pierced)
    save(tmp_path / "cut/little.png", cutout(12, 40, 40))
    probed: list[int] = []
    probe_all = index_source_module.probe_all
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            index_source_module, "probe_all", lambda new, *rest: probed.append(len(new)) or probe_all(new, *rest)
        )
        without = catalogue(tmp_path, None, None)
        index = (tmp_path / "land" / NAME).read_text()
        judged = catalogue(tmp_path)
        strict = catalogue(tmp_path, LANDSCAPES | {"max_white": 0.6}, None)
        catalogue(tmp_path, None, None)
    return Runs(without, index, judged, strict, probed, (tmp_path / "land" / NAME).read_text())


LANDSCAPES = {"min_side": 120, "min_laplacian": 50, "max_white": 0.2, "max_black": 0.5}
CUTOUTS = {"min_side": 60, "max_holes": 0.05, "max_soft": 0.5, "min_area": 0.1}


def catalogue(folder: Path, landscapes: dict | None = LANDSCAPES, cutouts: dict | None = CUTOUTS) -> Catalogue:
    spec = AssetsSpec.model_validate({
        "foregrounds": {"path": str(folder / "cut"), "quality": cutouts},
        "backgrounds": {"path": str(folder / "land"), "quality": landscapes},
        "sharpness_floor": 0, "val_fraction": 0,
    })  # fmt: skip
    return build_catalogue(spec, ("train",))


def test_what_misses_a_threshold_is_quarantined_with_what_was_measured(runs: Runs) -> None:
    found = runs.judged
    assert sorted(found.files[asset.id].name for asset in found.assets) == ["sharp.png", "whole.png"]
    reasons = {rejected.name: (rejected.reason, rejected.message) for rejected in found.quarantine}
    assert {name: reason for name, (reason, _) in reasons.items()} == {
        "small.png": "too_small", "blurred.png": "blurred", "white.png": "clipped", "pierced.png": "poor_matte",
        "little.png": "too_small",
    }  # fmt: skip
    assert reasons["small.png"][1] == "small.png: 140 x 100 px; quality.min_side asks for 120"
    assert "quality.min_laplacian asks for at least 50" in reasons["blurred.png"][1]
    assert "its share of pixels at white is 0.5625; quality.max_white asks for at most 0.2" in reasons["white.png"][1]
    assert "quality.max_holes asks for at most 0.05" in reasons["pierced.png"][1]


def test_without_thresholds_all_are_taken_and_the_index_says_nothing_of_quality(runs: Runs) -> None:
    assert len(runs.without.assets) == 7
    assert not runs.without.quarantine
    assert "quality" not in runs.index


def test_measures_are_taken_once_and_kept(runs: Runs) -> None:
    """What was measured without quality is measured once more; other thresholds need the same measures."""
    assert runs.probed == [3, 4, 3, 4, 0, 0, 0, 0]
    assert "white.png" in {runs.strict.files[asset.id].name for asset in runs.strict.assets}
    files = json.loads(runs.index_after)["files"]
    assert all("laplacian" in entry["probe"]["quality"] for entry in files.values())


@pytest.mark.parametrize(
    ("assets", "words"),
    [
        ({"backgrounds": {"path": "x", "quality": {"max_holes": 0.1}}}, "judges the mattes of cut-outs"),
        ({"foregrounds": {"path": "procedural", "quality": {"min_side": 9}}}, "embedded pictures have no files"),
        ({"foregrounds": {"path": "x", "quality": {"max_hole": 0.1}}}, "max_hole"),
        ({"foregrounds": {"path": "x", "quality": {"max_soft": 1.5}}}, "less than or equal to 1"),
    ],
)
def test_thresholds_that_cannot_work_are_named(assets: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AssetsSpec.model_validate(assets)
