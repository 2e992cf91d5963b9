"""Views and sources: several pictures of one scene in a set, alone or together, stored, read and made again."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import bokehsynth as bs
from bokehsynth.color import linear_to_srgb, srgb_to_linear
from bokehsynth.errors import DataError, RecipeError
from bokehsynth.generation.replay import replay_sample
from bokehsynth.generation.verify import verify
from bokehsynth.imaging.contact_sheet import anaglyph, contact_sheet
from bokehsynth.sample_draw import check_draw, draw_from_meta
from bokehsynth.schema import check_meta, check_views_stored
from bokehsynth.shards import Layout
from bokehsynth.shards.codec import decode_meta
from bokehsynth.shards.verify import committed_plans, read_dataset
from bokehsynth.shards.verify_shard import verify_shard

SMALL = ["size=48", "samples={train: 3, val: 1}", "shards.samples=2", "scene.highlight_boost=1"]
KINDS = {
    "focal_stack": "{kind: focal_stack, count: 3}",
    "aperture_stack": "{kind: aperture_stack, stops: [0, 2]}",
    "dual_pixel": "{kind: dual_pixel}",
    "sub_apertures": "{kind: sub_apertures, count: 2}",
}
FIELDS_STORED = ["lq", "hq", "hq_00", "hq_01", "hq_02", "source"]
SOURCE = 'source={focus: pixel, lens: [disc, "polygon:5"]}'


def recipe(views, *more, name="quickstart"):
    return bs.load_recipe(name, [*SMALL, f"views={views}", *more])


def sample_of(views, *more, index=1):
    return bs.make_sample(recipe(views, *more), index, backend="cpu")


@pytest.fixture(scope="module")
def stack_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("views") / "set"
    bs.generate(recipe(KINDS["focal_stack"], SOURCE), root, workers=1, device="cpu")
    return root


@pytest.mark.parametrize("kind", KINDS)
def test_each_view_and_the_source_are_the_same_alone_and_with_the_others(kind):
    together = sample_of(KINDS[kind], SOURCE)
    names = together.meta["view_names"]
    assert set(names) | {"source"} < set(together.arrays)
    check_meta(together.meta)
    for name in (names[0], names[-1]):
        alone = sample_of(KINDS[kind], SOURCE, f"shards.fields=[lq, {name}]")
        assert alone.meta["view_names"] == [name]
        np.testing.assert_array_equal(alone[name], together[name])
        np.testing.assert_array_equal(alone.lq, together.lq)
    source = sample_of(KINDS[kind], SOURCE, f"shards.fields=[source, {names[0]}]")["source"]
    np.testing.assert_array_equal(source, together["source"])


def test_a_stack_holds_the_picture_at_its_own_focus():
    whole = sample_of("{kind: aperture_stack, stops: [0, 3]}")
    np.testing.assert_array_equal(whole["hq_00"], whole.hq)
    assert whole.meta["view_blur"] == pytest.approx([whole.meta["blur"], whole.meta["blur"] / 2**1.5])
    focus = whole.meta["focus"]
    again = sample_of(f"{{kind: focal_stack, focus: [{focus!r}, 1.0]}}")
    assert again.meta["view_focus"] == [focus, 1.0]
    assert (again["hq_00"] != again["hq_01"]).any()


def test_left_and_right_are_the_halves_of_hq():
    sample = sample_of(KINDS["dual_pixel"])
    left, right, whole = (srgb_to_linear(sample[name].astype(np.float32) / 255) for name in ("left", "right", "hq"))
    unclipped = (np.maximum(sample["left"], sample["right"]) < 255).all(axis=2)
    mean = linear_to_srgb((left + right) / 2) * 255
    assert unclipped.mean() > 0.8
    assert np.abs(mean - sample.hq)[unclipped].max() < 1.5  # each of the three was rounded to whole levels
    assert whole.max() > 0
    assert sample.meta["view_x"][0] == -sample.meta["view_x"][1] < -0.3
    np.testing.assert_array_equal(anaglyph(sample)[..., 0], sample["left"][..., 0])


def test_without_blur_all_views_are_the_sharp_picture():
    sample = sample_of(KINDS["dual_pixel"], "scene.blur=0", SOURCE)
    for name in ("left", "right", "hq", "source"):
        np.testing.assert_allclose(sample[name].astype(int), sample.aif, atol=0 if name != "left" else 1)


def test_the_source_has_k_of_the_lens_unless_it_is_drawn():
    same = sample_of(KINDS["dual_pixel"], "source={focus: 0.0}")
    assert same.meta["source_blur"] == same.meta["blur"]
    assert same.meta["source_focus"] == 0.0
    other = sample_of(KINDS["dual_pixel"], "source={blur: 3}", "scene.blur_is=K")
    assert other.meta["source_blur"] == pytest.approx(3 * 48 / 512)
    assert other.meta["source_focus"] == other.meta["focus"]
    clean = sample_of(KINDS["dual_pixel"], "source={blur: 0}", "degradation=none")
    np.testing.assert_array_equal(clean.lq, clean.aif)


@pytest.mark.long  # bakes the tables of two lenses
def test_real_lenses_as_source_and_target():
    near = "near_m: 1.0"
    lens = [f"lens={{prescription: sonnar-1932-f2, {near}}}", "scene.blur={kind: uniform, low: 0.0, high: 32.0}"]
    made = bs.load_recipe(
        "paper",
        [
            *SMALL, *lens, f"source={{lens: {{prescription: double-gauss-1950-f2, f_number: 4, {near}}}}}",
            "assets.foregrounds=[procedural]", "assets.backgrounds=[procedural]", "size=32",
        ],
    )  # fmt: skip
    sample = bs.make_sample(made, 0, backend="cpu")
    assert (sample.meta["aperture"], sample.meta["source_aperture"]) == ("sonnar-1932-f2", "double-gauss-1950-f2")
    assert 0 < sample.meta["source_blur"] < sample.meta["blur"]
    check_draw(made, draw_from_meta(sample.meta), sample.meta)


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        (["views={kind: focal_stack}"], "needs count"),
        (["views={kind: focal_stack, count: 40}"], "16"),
        (["views={kind: dual_pixel}", "shards.fields=[lq, hq]"], "none of the views"),
        (["views={kind: dual_pixel}", "shards.fields=[lq, hq_00]"], "hq_00 is no picture"),
        (["shards.fields=[lq, views]"], "no picture of this recipe"),
        (["source={}"], "needs lens, focus or blur"),
        (["source={lens: {prescription: sonnar-1932-f2, near_m: 1.0}}"], "or neither"),
        (["scene={kind: photo}", "views={kind: dual_pixel}", "assets={photos: [procedural]}"], "need layers"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_way_out(lines, word):
    with pytest.raises(RecipeError, match=word):
        bs.load_recipe("quickstart", lines)


def test_recipes_without_views_are_written_as_before():
    text = bs.load_recipe("quickstart").text()
    assert "views" not in text
    assert "source" not in text.replace("path", "")


def test_workers_change_no_byte_and_verify_and_replay_know_views(stack_set, tmp_path):
    bs.generate(recipe(KINDS["focal_stack"], SOURCE), tmp_path / "set", workers=2, device="cpu")
    for path in sorted(stack_set.glob("*/*.tar")):
        assert path.read_bytes() == (tmp_path / "set" / path.relative_to(stack_set)).read_bytes()
    assert verify(stack_set).ok
    stored, remade, differing = replay_sample(stack_set, "train-000000002")
    assert differing == {}
    assert set(remade.arrays) == set(stored.arrays) > {"hq_02", "source"}
    assert "view_focus" in (stack_set / "README.md").read_text()


def test_verify_compares_records_with_members_and_each_other(stack_set):
    layout = Layout(stack_set)
    record, plan = read_dataset(layout), next(iter(committed_plans(layout, "train")))
    whole = verify_shard(layout, plan, record)
    assert not whole.faults
    assert "view_names" in whole.keys

    def without(kept):
        def forged(key, members):
            meta = decode_meta(key, members)
            return {name: value for name, value in meta.items() if kept(key, name)}

        return forged

    for kept, word in (
        (lambda key, name: not name.startswith("view"), "view_names are none, stored are hq_00"),
        (lambda key, name: key.endswith("0") or not name.startswith("source"), "source is stored"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bokehsynth.shards.verify_shard.decode_meta", without(kept))
            messages = [fault.message for fault in verify_shard(layout, plan, record).faults]
        assert any(word in message for message in messages), messages


def test_readers_agree_on_views(stack_set):
    import webdataset as wds

    ours = bs.open_dataset(stack_set)
    rendered = bs.open_dataset(Layout(stack_set).recipe)
    tars = [str(path) for path in sorted(stack_set.glob("train/*.tar"))]
    for i, theirs in enumerate(wds.WebDataset(tars, shardshuffle=False).decode()):
        record = theirs["json"]
        for name in ("hq_00", "hq_02", "source", "lq"):
            picture = np.asarray(Image.open(io.BytesIO(theirs[f"{name}.png"])))
            np.testing.assert_array_equal(picture, ours[i][name])
            np.testing.assert_array_equal(picture, rendered[i][name])
        assert record["view_focus"] == ours[i].meta["view_focus"] == rendered[i].meta["view_focus"]
    sheet = contact_sheet([ours[0], ours[1]], cell=128)
    assert sheet.shape[1] == 8 + 9 * 136  # aif hq lq source hq_00 hq_01 hq_02 defocus disparity


def test_a_forged_source_or_list_is_refused(stack_set):
    meta = dict(bs.open_dataset(stack_set)[0].meta)
    with pytest.raises(DataError, match="list of floats"):
        check_meta(meta | {"view_focus": [0.5, "x", 0.1]})
    with pytest.raises(DataError, match="2 numbers for 3"):
        check_meta(meta | {"view_focus": [0.5, 0.1]})
    with pytest.raises(DataError, match="unknown keys"):
        check_meta(meta | {"views_blur": [1.0]})
    for key, value, word in (
        ("views", "nonsense <b>", "views must be one of"), ("views", "dual_pixel", "distinct fields of dual_pixel"),
        ("view_names", ["hq_00", "hq_00", "hq_02"], "distinct fields"), ("view_names", ["hq_00", {}, []], "distinct"),
        ("view_blur", [-1.0, 1.0, 1.0], "must be >= 0"), ("view_focus", [0.1, 1e300, 0.1], "must be a disparity"),
        ("source_blur", -1.0, "must be >= 0"), ("source_focus", -0.1, "must be a disparity"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=word):
            check_meta(meta | {key: value})
    other = meta | {"view_names": ["hq_00", "hq_01", "hq_03"]}
    check_meta(other)  # what is stored is another question
    with pytest.raises(DataError, match="hq_03, stored are hq_00, hq_01, hq_02"):
        check_views_stored(other, FIELDS_STORED)
    with pytest.raises(DataError, match="source is stored"):
        check_views_stored({key: meta[key] for key in meta if not key.startswith("source")}, FIELDS_STORED)
    check_views_stored(meta, FIELDS_STORED)
    drawn = json.loads(meta["draw"])
    drawn["source"]["aperture"] = 2
    forged = meta | {"draw": json.dumps(drawn)}
    with pytest.raises(DataError, match="aperture 2 of the source"):
        check_draw(bs.load_recipe(Layout(stack_set).recipe), draw_from_meta(forged), forged)
