"""Layers as fields: what they say of a scene, how sets of them are stored, read, exported and rendered again."""

import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.color import encode_8bit, srgb_to_linear
from bokehsynth.errors import DataError, RecipeError
from bokehsynth.generation.export.run import export_dataset
from bokehsynth.generation.extend import extend
from bokehsynth.generation.replay import replay_sample
from bokehsynth.generation.verify import verify
from bokehsynth.imaging.contact_sheet import contact_sheet, gallery
from bokehsynth.schema import check_layers_stored, check_meta
from bokehsynth.shards import Layout

SIZE = 96
# nothing above white: the stored colours end there
DARK = ["scene.highlight_boost=1", "scene.exposure=-6", "scene.light_match=0"]
LAYERS = "shards.fields=[lq, hq, aif, defocus, disparity, layers]"
SMALL = ["size=48", "samples={train: 3, val: 1}", "shards.samples=2", LAYERS]
NAMES = [f"{part}_{i:02d}" for i in range(3) for part in ("matte", "color")]


@pytest.fixture(scope="module")
def layer_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("layers") / "set"
    bs.generate(bs.load_recipe("quickstart", SMALL), root, workers=1, device="cpu")
    return root


def rendered_again(sample, lens):
    height, width = sample.hq.shape[:2]
    margin = lens.margin([layer.disparity for layer in bs.layers_of(sample)], width, height)
    return bs.render(bs.layers_of(sample, margin), lens, margin, "cpu"), margin


def levels(linear, picture):
    return np.abs(encode_8bit(linear).astype(int) - picture)


@pytest.mark.parametrize("index", [1, 2])  # 1 lacks a layer
def test_layers_are_the_scene(index):
    recipe = bs.load_recipe("quickstart", [f"size={SIZE}", *DARK, LAYERS])
    sample = bs.make_sample(recipe, index, backend="cpu")
    check_meta(sample.meta)
    assert all((sample[f"color_{i:02d}"] < 255).all() for i in range(3))
    behind = np.zeros((SIZE, SIZE, 3))
    for i in (2, 1, 0):  # from the last to the first, also one that is not there
        alpha = sample[f"matte_{i:02d}"][..., None].astype(np.float64)
        behind = srgb_to_linear(sample[f"color_{i:02d}"]) * alpha + behind * (1 - alpha)
    assert (sample["matte_02"] == 1).all()
    assert len(sample.meta["layer_names"]) == (2 if index == 1 else 3)
    assert sample["matte_01"].any() == (index != 1)
    lens = bs.Lens(sample.meta["blur"], sample.meta["focus"], recipe.lens.apertures[0])
    frames, margin = rendered_again(sample, lens)
    inner = np.s_[margin:-margin, margin:-margin]
    assert levels(behind, sample.aif).max() <= 1  # seen: 1
    assert levels(frames.all_in_focus, sample.aif).max() <= 1  # seen: 1
    assert levels(frames.bokeh, sample.hq)[inner].max() <= 1  # seen: 1, of 12 samples
    np.testing.assert_allclose(frames.defocus, sample.defocus, atol=sample.meta["defocus_scale"])


def test_layers_on_tilted_planes_keep_their_gradients():
    recipe = bs.load_recipe("quickstart", [f"size={SIZE}", LAYERS, "scene.foreground_tilt=0.1"])
    composed = bs.compose_sample(recipe, 1)
    sample = bs.render_samples(recipe, [composed], "cpu")[0]
    assert [layer.disparity for layer in bs.layers_of(sample, 7)] == [each.disparity for each in composed.scene.layers]
    assert bs.layers_of(sample, 7)[0].shape == (SIZE + 14, SIZE + 14)
    margin = composed.scene.margin
    whole = composed.scene.layers[0].alpha[margin:-margin, margin:-margin]
    np.testing.assert_allclose(sample["matte_00"], whole, atol=0.5 / 65535 + 1e-7)
    assert not sample["color_00"][sample["matte_00"] == 0].any()
    assert any(sample.meta["layer_gx"][:1])


def test_a_set_with_layers_is_stored_read_and_made_again(layer_set):
    layout = Layout(layer_set)
    assert not list(verify(layout.root).faults)
    stored, rendered = bs.open_dataset(layer_set, fields=["hq", "layers"]), bs.open_dataset(layout.recipe)
    assert stored.fields == ["hq", *NAMES]
    for name in NAMES:
        np.testing.assert_array_equal(stored[1][name], rendered[1][name])
    assert bs.open_dataset(layout.recipe, fields=["layers"]).fields == NAMES
    assert replay_sample(layer_set, "train-000000002")[2] == {}
    pytest.importorskip("torch")
    from torch.utils.data import DataLoader

    batch = next(iter(DataLoader(stored.as_torch(), batch_size=3)))
    assert (batch["matte_02"].shape, batch["color_00"].shape) == ((3, 1, 48, 48), (3, 3, 48, 48))
    with pytest.raises(DataError, match="does not store views"):
        bs.open_dataset(layer_set, fields=["views"])


@pytest.mark.parametrize("form", ["folder", "parquet", "mds"])
def test_layers_are_exported(layer_set, tmp_path, form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    assert export_dataset(layer_set, tmp_path / "out", form) == 4
    if form == "folder":
        made = (tmp_path / "out/train/matte_01/train-000000000.png").read_bytes()
        assert made == bs.open_dataset(layer_set).members(0)["matte_01.png"]
    if form == "parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(next((tmp_path / "out").rglob("train-00000-*.parquet")))
        assert table["layer_names"].to_pylist()[0] == bs.open_dataset(layer_set).meta(0)["layer_names"]


def test_layers_are_shown(layer_set):
    samples = list(bs.open_dataset(layer_set))
    assert contact_sheet(samples, cell=128).shape[1] == 8 + 8 * 136  # aif hq lq color_00 to 02 defocus disparity
    assert gallery(samples, field="matte_00").std() > 0


@pytest.mark.long  # a run of its own, and another
def test_a_set_with_layers_is_extended(layer_set, tmp_path):
    grown = tmp_path / "grown"
    bs.generate(bs.load_recipe("quickstart", SMALL), grown, workers=1, device="cpu")
    extend(grown, 6)
    assert not list(verify(grown).faults)
    assert len(bs.open_dataset(grown)) > len(bs.open_dataset(layer_set))


def test_records_that_do_not_fit_are_refused(layer_set):
    sample = bs.open_dataset(layer_set)[0]
    meta = dict(sample.meta)
    for wrong, word in (
        ({"layer_names": ["02", "00"]}, "must be rising"), ({"layer_names": ["00", "07"]}, "must be rising"),
        ({"layer_names": [0]}, "must be rising"), ({"layer_gx": [0.0]}, "1 numbers for"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=word):
            check_meta(meta | wrong)
    with pytest.raises(DataError, match="stored are none"):
        check_layers_stored(meta, ["hq"])
    with pytest.raises(DataError, match="has no field 'color_00'"):
        bs.layers_of(bs.open_dataset(layer_set, fields=["hq"])[0])
    with pytest.raises(DataError, match="with `layers`"):
        bs.layers_of(bs.make_sample(bs.load_recipe("quickstart", ["size=48"]), 0, backend="cpu"))
    with pytest.raises(bs.UsageError, match="at least 0"):
        bs.layers_of(sample, -1)


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        (["scene={kind: photo}", "assets={photos: [procedural]}", "shards.fields=[lq, layers]"], "has no layers for"),
        (["shards.fields=[lq, matte_03]"], "matte_03 is no layer of this recipe; it has matte_00 to color_02"),
        (["shards.fields=[lq, layers, matte_00]"], "names a layer twice"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_way_out(lines, word):
    with pytest.raises(RecipeError, match=word):
        bs.load_recipe("quickstart", lines)
