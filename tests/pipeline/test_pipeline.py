"""What a sample promises: exact maps, pictures that agree with them, and a record from which it can be made again."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.degradation import draw_degradation
from bokehsynth.rng import Stage, stream
from bokehsynth.sample_draw import draw_from_meta

PAPER = """\
name: paper-like
seed: 4
samples: {train: 100, val: 10}
size: 320
scene:
  foregrounds: 2
  blur: {kind: uniform, low: 0, high: 32}
  background_tilt: {kind: uniform, low: 0, high: 0.2}
  foreground_tilt: {kind: sometimes, probability: 0.5, value: {kind: uniform, low: 0, high: 0.1}, otherwise: 0}
degradation: none
"""


@pytest.fixture(scope="module")
def paper_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "paper.yaml"
    path.write_text(PAPER)
    return path


@pytest.fixture(scope="module")
def paper(paper_file: Path) -> bs.Recipe:
    return bs.load_recipe(paper_file)


@pytest.mark.parametrize("index", range(6))
def test_defocus_is_that_of_the_layer_the_disparity_shows(paper: bs.Recipe, index: int) -> None:
    """Every pixel's disparity is one layer's, to half a count; its defocus is K*|d - d_f| of that very layer."""
    sample = bs.make_sample(paper, index)
    scene = bs.draw_sample(paper, index).scene
    x = np.arange(scene.width) - (scene.width - 1) / 2
    y = (np.arange(scene.height) - (scene.height - 1) / 2)[:, None]
    planes = [foreground.plane for foreground in scene.foregrounds] + [scene.background.plane]
    disparity = np.stack([plane.d + plane.gx * x + plane.gy * y for plane in planes])
    radius = sample.meta["blur"] * np.abs(disparity - sample.meta["focus"])
    nearest = np.argmin(np.abs(disparity - sample.disparity), axis=0)[None]
    for stored, exact, scale in (
        (sample.disparity, disparity, sample.meta["disparity_scale"]),
        (sample.defocus, radius, sample.meta["defocus_scale"]),
    ):
        error = np.abs(np.take_along_axis(exact, nearest, axis=0)[0] - stored)
        assert error.max() <= 0.505 * scale  # half a count, and float32's share of it


def test_signed_defocus_tells_front_from_back(paper: bs.Recipe) -> None:
    sample = bs.make_sample(paper, 1)
    front = sample.disparity > sample.meta["focus"]
    assert (sample.signed_defocus[front] >= 0).all()
    assert (sample.signed_defocus[~front] <= 0).all()
    np.testing.assert_array_equal(np.abs(sample.signed_defocus), sample.defocus)


def test_where_all_is_in_focus_hq_is_aif(paper_file: Path) -> None:
    """Pixels at 0 defocus all round to 40 px differ only where thin blurred alpha crosses them: under 2 %.

    Frontal planes, so that whole layers are in focus. Seen: 0 of 53,970 (soft mattes reach alpha 0.5 within a few
    pixels, fences and rims show in the defocus map themselves).
    """
    recipe = bs.load_recipe(paper_file, ["scene.background_tilt=0", "scene.foreground_tilt=0"])
    crossed = seen = 0
    for index in range(16):
        sample = bs.make_sample(recipe, index)
        sharp = (sample.defocus == 0).astype(np.uint8)
        inside = cv2.erode(sharp, np.ones((81, 81), np.uint8), borderValue=0).astype(bool)
        seen += int(inside.sum())
        crossed += int((sample.hq[inside] != sample.aif[inside]).any(axis=-1).sum())
    assert seen > 50_000, "the draws hold too little in focus to say anything"
    assert crossed < 0.02 * seen, f"{crossed} of {seen}"


def test_zero_blur_makes_hq_aif_bit_for_bit(paper_file: Path) -> None:
    still = bs.load_recipe(paper_file, ["scene.blur=0"])
    sample = bs.make_sample(still, 0)
    np.testing.assert_array_equal(sample.hq, sample.aif)
    np.testing.assert_array_equal(sample.lq, sample.aif)  # degradation: none
    assert sample.defocus.max() == 0


def test_record_rebuilds_the_draw_and_holds_all_keys(paper: bs.Recipe) -> None:
    for index in (0, 3):
        draw = bs.draw_sample(paper, index, "val")
        sample = bs.make_sample(paper, index, "val")
        assert draw_from_meta(json.loads(json.dumps(dict(sample.meta)))) == draw
        assert sample.meta["assets"] == [draw.scene.background.asset, *(f.asset for f in draw.scene.foregrounds)]
    with pytest.raises(bs.DataError, match="draw"):
        draw_from_meta({"draw": "{}"})


def test_degradation_and_aperture_are_drawn_from_stages_of_their_own(paper_file: Path) -> None:
    """The addresses of docs/dataset-format.md: another stage's stream would correlate them with the scene."""
    apertures = "lens.aperture=[disc, 'polygon:6', 'ring:0.4', 'cat_eye:0.8']"
    recipe = bs.load_recipe(paper_file, ["degradation=real-esrgan", apertures])
    picked = set()
    for index, attempt in ((0, 0), (1, 0), (5, 0), (5, 2), (9, 1)):
        draw = bs.draw_sample(recipe, index, "val", attempt)
        rng = stream(recipe.seed, "val", Stage.DEGRADE, index, attempt)
        assert draw.degradation == draw_degradation(recipe.resolved_degradation, rng)
        rng = stream(recipe.seed, "val", Stage.APERTURE, index, attempt)
        assert (index, draw.aperture) == recipe.lens.pick_aperture(index, rng)
        picked.add(draw.aperture)
    assert len(picked) > 1


def test_an_invalid_sample_is_replaced_by_its_next_draw(
    paper_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's step blackens about every other draw: attempt 1 follows such a one, on every way to a sample."""
    (tmp_path / "coin_step.py").write_text(
        "class Coin:\n"
        "    def draw(self, rng):\n"
        "        return {'coin': float(rng.random())}\n"
        "    def apply(self, image, params):\n"
        "        return image * (0.9 if params['coin'] > 0.5 else 0.0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    recipe = bs.load_recipe(paper_file, ["degradation=coin_step:Coin", "scene.blur=8", "size=64"])

    def is_black(index: int, attempt: int) -> bool:
        step = bs.draw_sample(recipe, index, "train", attempt).degradation["steps"][0]
        return step["params"]["coin"] <= 0.5

    index = next(i for i in range(100) if is_black(i, 0) and not is_black(i, 1))
    made = bs.make_sample(recipe, index)
    assert made.meta["attempt"] == 1
    assert draw_from_meta(made.meta) == bs.draw_sample(recipe, index, "train", 1)
    (in_two_steps,) = bs.render_samples(recipe, [bs.compose_sample(recipe, index)])
    assert dict(in_two_steps.meta) == dict(made.meta)
    for name in made.arrays:
        np.testing.assert_array_equal(in_two_steps[name], made[name])


def test_samples_do_not_depend_on_what_was_made_before(paper: bs.Recipe) -> None:
    alone = bs.make_sample(paper, 5)
    for index in (9, 2):
        bs.make_sample(paper, index)
    again = bs.make_sample(paper, 5)
    assert dict(alone.meta) == dict(again.meta)
    for name in alone.arrays:
        np.testing.assert_array_equal(alone[name], again[name])


def test_train_and_val_share_no_asset(paper: bs.Recipe) -> None:
    shown = {
        split: {asset for i in range(150) for asset in _assets(bs.draw_sample(paper, i, split))}
        for split in ("train", "val")
    }
    assert not shown["train"] & shown["val"]
    assert len(shown["train"]) > len(shown["val"]) > 3


def _assets(draw: bs.SampleDraw) -> list[str]:
    return [draw.scene.background.asset, *(foreground.asset for foreground in draw.scene.foregrounds)]


def test_fields_not_asked_for_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "few.yaml"
    path.write_text("name: few\nsamples: {train: 1}\nsize: 48\nshards: {fields: [lq, hq]}\n")
    sample = bs.make_sample(bs.load_recipe(path), 0)
    assert list(sample.arrays) == ["lq", "hq"]
    with pytest.raises(bs.DataError, match="no field 'aif'"):
        sample.aif  # noqa: B018


def test_optional_fields_survive_a_shard(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    fields = "[lq, hq, defocus, mask, hq16, lq_native]"
    path.write_text(f"name: all\nsamples: {{train: 3}}\nsize: [48, 64]\nshards: {{fields: {fields}}}\n")
    recipe = bs.load_recipe(path)
    out = bs.generate(recipe, tmp_path / "out", workers=1).out
    for index, stored in enumerate(bs.open_dataset(out)):
        made = bs.make_sample(recipe, index)
        assert set(stored.arrays) == set(made.arrays) == {"lq", "hq", "defocus", "mask", "hq16", "lq_native"}
        for name, values in made.arrays.items():
            np.testing.assert_array_equal(stored[name], values)
        assert stored["hq16"].dtype == np.uint16
        assert np.abs(stored["hq16"] / 65535 - stored.hq / 255).max() <= 0.5 / 255 + 1e-4
        assert stored["lq_native"].shape == (12, 16, 3)
        np.testing.assert_array_equal(stored["mask"] > 0.5, made.defocus <= 1)
    card = (out / "README.md").read_text()
    assert "# hq16: Pillow would bring it to 8 bits" in card


def test_unknown_split_and_negative_index(paper: bs.Recipe) -> None:
    with pytest.raises(bs.UsageError, match="test"):
        bs.draw_sample(paper, 0, "test")
    with pytest.raises(bs.UsageError, match=">= 0"):
        bs.draw_sample(paper, -1)
