"""Every packaged recipe that needs photographs: its folders in miniature, `generate` as typed, and what it means."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import photo_folders as folders

import bokehsynth as bs
from bokehsynth.generation.replay import replay_sample
from bokehsynth.optics import Plane
from bokehsynth.shards import verify_dataset

NEED_PHOTOS = ("paper", "isr", "depth", "paired", "small", "small-depth")


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from bokehsynth.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def generate(name: str, out: Path, *arguments: object, code: int = 0) -> Path:
    done = run("generate", name, "--out", out, "--workers", 1, *arguments)
    assert done.returncode == code, done.stderr
    return out


def samples(out: Path) -> list[bs.Sample]:
    splits = json.loads((out / "dataset.json").read_text())["splits"]
    return [sample for split in splits for sample in bs.open_dataset(out, split)]


def assets(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "assets.jsonl").read_text().splitlines()]


def draw_of(sample: bs.Sample) -> dict:
    return json.loads(sample.meta["draw"])


@pytest.mark.parametrize("name", NEED_PHOTOS)
def test_without_a_folder_the_line_to_type(name: str) -> None:
    with pytest.raises(bs.RecipeError, match=rf"generate {name} .*--set assets\.root=") as caught:
        bs.load_recipe(name)
    assert caught.value.exit_code == 2


def test_without_a_folder_exit_2(tmp_path: Path) -> None:
    done = run("generate", "paper", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "--set assets.root=" in done.stderr
    assert not (tmp_path / "out").exists()


# --- paper


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = folders.paper_folder(tmp_path_factory.mktemp("paper") / "photos")
    out = root.with_name("out")
    return generate("paper", out, "--samples", 8, "--set", f"assets.root={root}", "--set", "size=96")


def test_paper_is_two_foregrounds_before_one_tilted_background(paper: Path) -> None:
    y, x = np.mgrid[:96, :96] - 47.5
    for sample in samples(paper):
        scene = draw_of(sample)["scene"]
        assert len(scene["foregrounds"]) == 2
        assert len(sample.meta["assets"]) == 3
        back = Plane(**scene["background"]["plane"])
        assert back.slope > 0, "every background is tilted"
        backdrop = back.at(x, y)
        front = [foreground["plane"]["d"] for foreground in scene["foregrounds"]]
        assert min(front) >= backdrop.max() + 0.05 - 1e-9
        assert sorted(front, reverse=True) == front, "near to far"
        assert np.ptp([*front, *backdrop.ravel()]) <= 1
        shown = sample.disparity
        seen = np.stack([np.abs(shown - backdrop), *(np.abs(shown - d) for d in front)]).min(axis=0)
        assert seen.max() < 1e-4, "every pixel's disparity is one layer's"
        assert (np.abs(shown - backdrop) < 1e-4).any(), "the background shows"
        assert (shown >= min(front) - 1e-4).any(), "a foreground does"


def test_paper_draws_blur_and_focus_as_the_paper_says(paper: Path) -> None:
    recipe = bs.load_recipe(paper / "recipe.yaml")
    drawn = [bs.draw_sample(recipe, index).scene for index in range(600)]
    blur = np.array([scene.blur for scene in drawn]) / (96 / 512)
    assert blur.min() >= 0
    assert blur.max() <= 32
    assert np.abs(np.histogram(blur, 4, (0, 32))[0] / 600 - 0.25).max() < 0.06  # uniform; 3.4 standard deviations
    on_front = [any(f.plane.d == scene.focus.disparity for f in scene.foregrounds) for scene in drawn]
    assert abs(np.mean(on_front) - 2 / 3) < 0.07  # one of the three layers; 3.6 standard deviations


def test_paper_blurs_and_degrades(paper: Path) -> None:
    for sample in samples(paper):
        assert (sample.lq != sample.aif).any()
        if sample.meta["radius_max"] > 1.5:
            assert (sample.hq != sample.aif).any()
        expected = sample.meta["blur"] * np.abs(sample.disparity - sample.meta["focus"])
        np.testing.assert_allclose(sample.defocus, expected, atol=3e-4)


def test_paper_counts_licences_and_kinds(paper: Path) -> None:
    listed = assets(paper)
    assert {asset["kind"] for asset in listed} == {"foreground", "background"}
    assert len(listed) == 9
    assert {asset["licence"] for asset in listed} == {"research only", "unknown"}


# --- isr


@pytest.fixture(scope="module")
def isr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = folders.isr_folder(tmp_path_factory.mktemp("isr") / "photos")
    limits = ("--set", "assets.photos.1.first=3", "--set", "size=64")  # 3 stands for 10,000
    return generate("isr", root.with_name("out"), "--samples", 24, "--set", f"assets.root={root}", *limits)


def test_isr_has_no_defocus_and_hq_is_aif(isr: Path) -> None:
    for sample in samples(isr):
        assert sample.defocus.max() == 0
        np.testing.assert_array_equal(sample.hq, sample.aif)
        assert (sample.lq != sample.hq).any()
        assert (sample.meta["blur"], sample.meta["radius_max"]) == (0.0, 0.0)


def test_isr_crops_the_originals_and_resamples_nothing(isr: Path) -> None:
    root = isr.with_name("photos")
    listed = {asset["id"]: asset for asset in assets(isr)}
    places = set()
    for sample in samples(isr):
        draw, asset = draw_of(sample), listed[sample.meta["assets"][0]]
        part, place = draw["composed"], draw["scene"]
        original = folders.load(next(p for p in root.rglob("*.png") if asset["file"].endswith(p.name)))
        if min(original.shape[:2]) < 64:
            assert part["scaled"] > 1, "smaller than the crop: enlarged, and the record says so"
            continue
        assert part["scaled"] == 1
        shown = original[:, ::-1] if place["flip"] else original
        crop = shown[part["top"] : part["top"] + 64, part["left"] : part["left"] + 64]
        np.testing.assert_array_equal(sample.hq, crop)
        places.add((part["top"], part["left"]))
    assert len(places) > 8, "crops are random"


def test_isr_takes_the_first_faces_by_name(isr: Path) -> None:
    faces = sorted(
        asset["file"] for asset in assets(isr) if asset["file"].startswith("000") and "/" not in asset["file"]
    )
    assert faces == ["00000.png", "00001.png", "00009.png"]


# --- depth


def test_depth_has_the_clean_picture_as_hq(tmp_path: Path) -> None:
    """One photo is as large as the crop on its shorter side, one twice as large: means of 2 x 2 in linear light."""
    same, double = folders.photo(1, 70, 100), folders.photo(2, 140, 180)
    folders.save(tmp_path / "photos/a/same.png", same)
    folders.save(tmp_path / "photos/b/double.png", double)
    halved = bs.srgb_to_linear(double).reshape(70, 2, 90, 2, 3).mean(axis=(1, 3))
    clean = {"a/same.png": same, "b/double.png": folders.encoded(halved)}
    where = ("--set", f"assets.root={tmp_path / 'photos'}", "--set", "samples={train: 8, val: 0}")
    out = generate("depth", tmp_path / "out", *where, "--set", "size=70")
    names = {asset["id"]: asset["file"] for asset in assets(out)}
    seen = set()
    for sample in samples(out):
        assert set(sample.arrays) == {"lq", "hq"}
        draw, name = draw_of(sample), names[sample.meta["assets"][0]]
        picture = clean[name][:, ::-1] if draw["scene"]["flip"] else clean[name]
        left = draw["composed"]["left"]
        difference = np.abs(sample.hq.astype(int) - picture[:, left : left + 70])
        assert difference.max() <= (0 if name == "a/same.png" else 1)
        assert (sample.lq != sample.hq).any()
        seen.add(name)
    assert seen == set(clean)


# --- paired


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    root = tmp_path_factory.mktemp("paired") / "ebb"
    good = folders.pairs_folder(root)
    return generate("paired", root.with_name("out"), "--set", f"assets.root={root}", code=3), good


def by_name(out: Path) -> dict[str, bs.Sample]:
    names = {asset["id"]: Path(asset["file"]).stem for asset in assets(out)}
    return {names[sample.meta["assets"][0]]: sample for sample in samples(out)}


def test_paired_has_the_given_photo_as_hq(paired: tuple[Path, dict]) -> None:
    out, good = paired
    made = by_name(out)
    assert list(made) == ["11", "12", "13"], "every pair once, in the order of its names"
    for name, sample in made.items():
        np.testing.assert_array_equal(sample.hq, good[name]["bokeh"])
        np.testing.assert_array_equal(sample.aif, good[name]["aif"])
        assert (sample.lq != sample.aif).any()
        np.testing.assert_array_equal(sample["mask"] > 0.5, good[name]["mask"] > 0)
        assert {asset["split"] for asset in assets(out)} == {"val"}


@pytest.mark.parametrize(("name", "blur"), [("11", 9.0), ("12", 14.0)])
def test_paired_finds_the_lens(paired: tuple[Path, dict], name: str, blur: float) -> None:
    """Its disparities are spread over 0..1, so K is that of the render times their difference.

    Worst seen: 1.4 % off.
    """
    sample = by_name(paired[0])[name]
    facts = draw_of(sample)["composed"]
    assert sample.meta["blur"] == pytest.approx(blur * (folders.NEAR - folders.FAR), rel=0.05)
    assert (sample.meta["focus"], facts["focus_by"], facts["depth"]) == (1.0, "mask", "map")
    assert facts["psnr_searched"] > facts["psnr_unblurred"] + 3
    assert facts["psnr_searched"] >= facts["psnr_fixed"]
    assert facts["blur_fixed"] == pytest.approx(20 * 128 / 512)
    assert np.abs(facts["shift"]).max() < 0.5
    np.testing.assert_allclose(facts["gain"], 1, atol=0.03)
    far = sample.meta["blur"] * np.abs(sample.disparity - 1)
    np.testing.assert_allclose(sample.defocus, far, atol=2e-3)


def test_paired_without_disparity_uses_the_mask_and_says_so(paired: tuple[Path, dict]) -> None:
    sample = by_name(paired[0])["13"]
    assert draw_of(sample)["composed"]["depth"] == "mask"
    np.testing.assert_array_equal(sample.disparity > 0.5, sample["mask"] > 0.5)
    assert sample.meta["blur"] == pytest.approx(6.0 * (folders.NEAR - folders.FAR), rel=0.05)


def test_paired_quarantines_what_does_not_fit(paired: tuple[Path, dict]) -> None:
    lines = (paired[0] / "quarantine.jsonl").read_text().splitlines()
    refused = {Path(line["name"]).stem: line for line in map(json.loads, lines)}
    reasons = {name: line["reason"] for name, line in refused.items()}
    assert reasons == {"dark": "exposure", "moved": "misaligned", "other": "unlike", "half": "half_pair"}
    assert "px from its place (+" in refused["moved"]["message"]  # 5 px to the right
    assert "1.5" in refused["dark"]["message"]  # a third of the light: log2(3) = 1.58 stops


def test_paired_bytes_do_not_hang_on_workers_and_replay(paired: tuple[Path, dict], tmp_path: Path) -> None:
    out = paired[0]
    recipe = bs.load_recipe(out / "recipe.yaml")
    again = bs.generate(recipe, tmp_path / "again", workers=2)
    assert again.complete
    for path in sorted(out.glob("val/*.tar")):
        assert path.read_bytes() == (again.out / "val" / path.name).read_bytes()
    assert replay_sample(out, "val-000000001")[2] == {}
    assert verify_dataset(out).ok


def test_paired_says_what_it_lacks_and_how_to_read_it(paired: tuple[Path, dict]) -> None:
    notes = bs.load_recipe(paired[0] / "recipe.yaml").catalogue.notes
    assert any("1 pairs have no disparity map" in note for note in notes)
    assert 'split="validation"' in (paired[0] / "README.md").read_text(), "it has no train split"


def test_finished_set_needs_no_photographs_to_be_verified(paired: tuple[Path, dict], tmp_path: Path) -> None:
    from bokehsynth.generation.verify import verify

    copy = tmp_path / "copy"
    shutil.copytree(paired[0], copy)
    root, gone = paired[0].with_name("ebb"), paired[0].with_name("moved")
    root.rename(gone)
    try:
        assert verify(copy).ok
        with pytest.raises(bs.RecipeError, match="there is no folder"):
            bs.make_sample(bs.load_recipe(copy / "recipe.yaml"), 0, "val")
    finally:
        gone.rename(root)


def test_paired_with_a_fixed_blur(paired: tuple[Path, dict]) -> None:
    recipe = bs.load_recipe(paired[0] / "recipe.yaml", ["scene.blur=12"])
    sample = bs.make_sample(recipe, 0, "val")
    assert sample.meta["blur"] == 12 * 128 / 512
    assert draw_of(sample)["composed"]["blur_searched"] != sample.meta["blur"]


# --- lens-gallery


def test_gallery_shows_each_aperture_as_it_is(tmp_path: Path) -> None:
    """A single lamp in the dark, behind the focus: its disc is its own opening's, better than any other's.

    Worst overlap seen: 0.886 (triangle; the lamp itself is two pixels wide).
    """
    import OpenEXR

    night = np.full((256, 384, 3), 0.04, np.float32)  # larger than the canvas: nothing rings
    night[127:129, 191:193] = 450
    (tmp_path / "night").mkdir()
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"RGB": night}).write(str(tmp_path / "night/lamp.exr"))
    settings = (f"assets.backgrounds=[{tmp_path / 'night'}]", "scene.foregrounds=0", "scene.focus=0.9")
    settings += ("size=[128, 192]", "scene.blur=100", "scene.disparity.background=0.1")
    out = generate("lens-gallery", tmp_path / "out", *(part for text in settings for part in ("--set", text)))
    recipe = bs.load_recipe(out / "recipe.yaml")
    made, apertures = samples(out), recipe.lens.apertures
    assert [sample.meta["aperture"] for sample in made] == list(recipe.lens.names)
    assert len({draw_of(sample)["scene"]["background"]["u"] for sample in made}) == 1, "one scene"
    for sample, aperture in zip(made, apertures, strict=True):
        lamp = np.argwhere(sample.aif.min(axis=2) > 2 * np.median(sample.aif)).mean(axis=0)
        openings = [opening(other, lamp, sample.meta["radius_max"], (128, 192)) for other in apertures]
        own = openings[apertures.index(aperture)]
        light = bs.srgb_to_linear(sample.hq).mean(axis=2) - np.median(bs.srgb_to_linear(sample.aif))
        even = type(aperture).weight is bs.Aperture.weight
        seen = light > (0.5 if even else 0.12) * np.percentile(light[own], 90)  # a bubble has a faint middle
        overlaps = [(shape & seen).sum() / (shape | seen).sum() for shape in openings]
        mine = overlaps[apertures.index(aperture)]
        assert mine > 0.87, (sample.meta["aperture"], overlaps)
        assert mine == max(overlaps), (sample.meta["aperture"], overlaps)


def opening(aperture: bs.Aperture, centre: np.ndarray, radius: float, size: tuple[int, int]) -> np.ndarray:
    """The pixels that a lamp at `centre` (row, column) must light, bool [H, W]: asked of the class itself."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    s = np.stack([x - centre[1], y - centre[0]], axis=-1) / radius
    h = np.stack([x - (size[1] - 1) / 2, y - (size[0] - 1) / 2], axis=-1) / (math.hypot(*size) / 2)
    middle, reach = aperture.pupil(h)
    open_there = aperture.inside(s.reshape(-1, 2)).reshape(size) & (np.hypot(s[..., 0], s[..., 1]) <= 1)
    return open_there & (np.hypot(*np.moveaxis(s - middle, -1, 0)) <= reach)


def test_gallery_picture_is_the_recipe(tmp_path: Path) -> None:
    """docs/gallery.png is what the documented line makes; another platform may round a pixel otherwise."""
    docs = Path(__file__).parents[2] / "docs"
    line = "preview lens-gallery --only hq --count 9 --cell 288 --out"
    assert f"bokehsynth {line} gallery.png" in (docs / "recipes.md").read_text()
    assert run(*line.split(), tmp_path / "gallery.png").returncode == 0
    made, kept = (cv2.imread(str(path)).astype(int) for path in (tmp_path / "gallery.png", docs / "gallery.png"))
    assert made.shape == kept.shape
    assert np.abs(made - kept).mean() < 0.05
