"""Folders of photographed pairs: names and layouts, what two photographs have in common, and the search for a lens."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import photo_folders as folders
from support.hostile import npy
from support.small_set import make_small_set

import bokehsynth as bs
from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.assets.index import probe_pool
from bokehsynth.assets.index.build import build_catalogue
from bokehsynth.assets.index.realbokeh import realbokeh_pairs
from bokehsynth.assets.load.pairs import group_pairs, load_pair, pair_rejection, read_map
from bokehsynth.assets.spec import AssetsSpec, PairChecks, PairPatterns, PairSourceSpec
from bokehsynth.errors import ChangedError
from bokehsynth.files import sha256_bytes
from bokehsynth.generation.replay import replay_sample
from bokehsynth.generation.verify import verify
from bokehsynth.imaging.inpaint import push_pull
from bokehsynth.imaging.metrics import gain_between, psnr, squared_error, tone_curve
from bokehsynth.imaging.registration import compare_views, shift_between
from bokehsynth.scene.depth_layers import (
    depth_slices,
    height_field_layer,
    normalize_depth,
    quantize_depth,
    sharpen_depth_edges,
)
from bokehsynth.scene.lens_fit import Fit, Pair, SearchRange, fit_lens, golden_section, pattern_search
from bokehsynth.workers.line_children import ChildEnded


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("files", "roles"),
    [
        (["original/7.jpg", "bokeh/7.jpg", "disparity/7.png", "mask/7.png"], "aif bokeh disparity mask"),
        (["train/input/7.JPG", "train/target/7.jpg", "train/depth/7.npy"], "aif bokeh disparity"),
        (["Input/7.png", "GT/7.png"], "aif bokeh"),
        (["7_input.jpg", "7_bokeh.jpg", "7_disparity.png", "7_focalmask.jpg"], "aif bokeh disparity mask"),
        (["7-aif.png", "7-HQ.png", "7_focal-mask.png"], "aif bokeh mask"),
        (["All-in-Focus/7.png", "bokeh/7.png", "focal-mask/7.png"], "aif bokeh mask"),
    ],
)
def test_layouts(tmp_path: Path, files: list[str], roles: str) -> None:
    touch(tmp_path, *files, "readme.txt", ".hidden/7_input.jpg")
    groups, others = group_pairs(tmp_path)
    (name, found), *rest = groups.items()
    assert not rest
    assert name in {"7", "train/7"}
    assert " ".join(sorted(found)) == roles
    assert [path.name for path in others] == ["readme.txt"]


def test_names_may_hold_role_words_and_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a/my_input_3_input.jpg", "a/my_input_3_bokeh.jpg", "b/my_input_3_input.jpg")
    groups, _ = group_pairs(tmp_path)
    assert sorted(groups) == ["a/my_input_3", "b/my_input_3"]


def test_patterns(tmp_path: Path) -> None:
    touch(tmp_path, "v_1_f16.jpg", "v_1_f1_8.jpg", "v_1_f8.jpg", "v_1_disparity.png")
    names = PairPatterns(aif="{name}_f16.jpg", bokeh="{name}_f1_8.jpg", disparity="{name}_disparity.png")
    groups, others = group_pairs(tmp_path, names)
    assert {role: path.name for role, path in groups["v_1"].items()} == {
        "aif": "v_1_f16.jpg", "bokeh": "v_1_f1_8.jpg", "disparity": "v_1_disparity.png",
    }  # fmt: skip
    assert [path.name for path in others] == ["v_1_f8.jpg"]
    with pytest.raises(ValueError, match=r"\{name\} exactly once"):
        PairPatterns(aif="x.jpg", bokeh="{name}.jpg")


def test_folder_without_pairs_says_how_they_are_named(tmp_path: Path) -> None:
    folders.save(tmp_path / "photos/1.png", folders.photo(1, 40, 40))
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: r\nsamples: {train: 1}\nsize: own\nscene: {kind: pair}\nassets: {pairs: [photos]}\n")
    with pytest.raises(bs.RecipeError, match=r"holds no pairs.*original"):
        bs.draw_sample(bs.load_recipe(recipe), 0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("size: own", "size: own needs photographs"),
        ("samples: {train: each}", "`each` needs photographs"),
        ("scene: {kind: pair, search: [9, 2]}", "smallest, largest"),
        ("scene: {kind: foto}", "unknown kind 'foto'; did you mean 'photo'"),
        ("scene: {kind: photo, blur: 3}", "unknown key"),
        ("scene: {kind: pair}\nsize: own", "assets.pairs: names no folder"),
        ("scene: {kind: photo}\nsize: own", "embedded pictures are drawn"),
    ],
)
def test_recipe_faults(tmp_path: Path, line: str, words: str) -> None:
    recipe = tmp_path / "r.yaml"
    samples = "" if line.startswith("samples") else "samples: {train: 1}\n"
    recipe.write_text(f"name: r\n{samples}{line}\n")
    with pytest.raises(bs.UsageError, match=words.replace("[", r"\[")):
        bs.draw_sample(bs.load_recipe(recipe), 0)


def test_photos_without_a_folder_are_the_embedded_ones(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: r\nsamples: {train: 2}\nsize: 32\nscene: {kind: photo, take: fit}\n")
    sample = bs.make_sample(bs.load_recipe(recipe), 0)
    np.testing.assert_array_equal(sample.hq, sample.aif)
    assert sample.defocus.max() == sample.disparity.max() == 0


# --- what goes with a pair


def test_maps_of_every_kind_come_at_the_size_of_the_photos(tmp_path: Path) -> None:
    import OpenEXR

    ramp = np.linspace(0.25, 0.75, 32, dtype=np.float32)[None].repeat(16, axis=0)
    folders.save(tmp_path / "m.png", np.rint(ramp * 65535).astype(np.uint16))
    np.save(tmp_path / "m.npy", ramp[None] * 8)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"Y": ramp * 8}).write(str(tmp_path / "m.exr"))
    for name in ("m.png", "m.npy", "m.exr"):
        values = normalize_depth(read_map(tmp_path / name, (64, 32)))
        assert values.shape == (32, 64)
        np.testing.assert_allclose(
            values[7], np.interp(np.arange(64), np.arange(32) * 2 + 0.5, np.arange(32) / 31), atol=2e-4
        )
    np.save(tmp_path / "bad.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(RejectedPicture, match="plain NumPy"):
        read_map(tmp_path / "bad.npy", (4, 4))


@pytest.mark.parametrize("role", ["aif", "bokeh", "disparity", "mask"])
def test_a_file_of_a_pair_that_changes_ends_the_run(tmp_path: Path, role: str) -> None:
    paths = {name: tmp_path / f"{name}.png" for name in ("aif", "bokeh", "disparity", "mask")}
    for path in paths.values():
        folders.save(path, folders.photo(1, 40, 40))
    sums = {name: sha256_bytes(path.read_bytes()) for name, path in paths.items()}
    load_pair(paths, sha256=sums)
    folders.save(paths[role], folders.photo(2, 40, 40))
    with pytest.raises(ChangedError, match=f"{role}.*changed under a running recipe"):
        load_pair(paths, sha256=sums)


def test_photographs_of_different_sizes(tmp_path: Path) -> None:
    for name, width in (("a", 40), ("b", 42)):
        folders.save(tmp_path / f"{name}.png", folders.photo(1, 40, width))
    with pytest.raises(RejectedPicture, match="40 x 40 and 42 x 40") as caught:
        load_pair({"aif": tmp_path / "a.png", "bokeh": tmp_path / "b.png"})
    assert caught.value.reason == "pair_size"


# --- how alike two photographs are


@pytest.fixture(scope="module")
def view() -> dict[str, np.ndarray]:
    pair = folders.pair_of(5, 8.0)
    linear = {name: bs.srgb_to_linear(pair[name]) for name in ("aif", "bokeh")}
    return linear | {"mask": pair["mask"].astype(np.float32) / 255}


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("shift", [(0, 0), (3, 0), (-2, 4)])
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_shift_and_gain_are_measured(view: dict, masked: bool, shift: tuple[int, int], gain: float) -> None:
    """Worst seen: 0.2 px and 3 % with a mask; 0.7 px without, where the sharp part is found by itself."""
    moved = np.roll(view["bokeh"], shift[::-1], axis=(0, 1)) * np.float32(gain)
    views = compare_views(view["aif"], moved, view["mask"] if masked else None)
    np.testing.assert_allclose(views.shift, shift, atol=0.3 if masked else 0.8)
    np.testing.assert_allclose(views.gain, gain, rtol=0.06)
    assert views.correlation > 0.9
    assert views.stops == pytest.approx(-np.log2(gain), abs=0.1)


def test_checks_are_those_of_the_recipe(view: dict) -> None:
    views = compare_views(view["aif"], np.roll(view["bokeh"], 3, axis=1), view["mask"])
    assert pair_rejection(views, 128, PairChecks(), "x").reason == "misaligned"
    assert pair_rejection(views, 128, PairChecks(max_shift=0.05), "x") is None
    darker = compare_views(view["aif"], view["bokeh"] * np.float32(0.5), view["mask"])
    assert pair_rejection(darker, 128, PairChecks(), "x").reason == "exposure"
    assert pair_rejection(darker, 128, PairChecks(max_stops=1.5), "x") is None


def test_flat_pictures_correlate() -> None:
    wall = np.full((40, 50, 3), 0.3, np.float32)
    views = compare_views(wall, wall)
    assert views.correlation == 1
    assert views.gain == pytest.approx([1, 1, 1])


def test_gain_leaves_clipped_pixels_out() -> None:
    picture = np.random.default_rng(1).uniform(0.05, 0.4, (30, 30, 3)).astype(np.float32)
    brighter = np.minimum(picture * 3, 1)
    np.testing.assert_allclose(gain_between(picture, brighter), 3, rtol=0.02)
    assert gain_between(np.ones_like(picture), picture).tolist() == [1, 1, 1]


def test_shift_to_a_fraction_of_a_pixel() -> None:
    """Worst seen: 0.05 px."""
    wide = cv2.GaussianBlur(bs.srgb_to_linear(folders.photo(3, 240, 240)), (0, 0), 3)
    small = [cv2.resize(wide[:, x : x + 200], (50, 60), interpolation=cv2.INTER_AREA) for x in (20, 22)]
    x, y, _ = shift_between(small[0], small[1], np.ones((60, 50)))
    assert (x, y) == (pytest.approx(-0.5, abs=0.12), pytest.approx(0, abs=0.12))


def decibels(picture: np.ndarray, photo: np.ndarray) -> float:
    return psnr(float(squared_error(picture, photo).mean()))


def test_tone_curve_takes_one_exposure_to_the_other() -> None:
    picture = bs.srgb_to_linear(folders.photo(4, 120, 120))
    other = bs.srgb_to_linear(bs.linear_to_srgb(picture) ** 0.8)
    curve = tone_curve(picture, other, np.ones((120, 120), bool))
    assert decibels(curve(picture), other) > decibels(picture, other) + 8


def test_comparison_of_equals_and_of_noise() -> None:
    picture = bs.srgb_to_linear(folders.photo(6, 60, 60))
    assert decibels(picture, picture) == 100
    noisy = bs.linear_to_srgb(picture) + np.random.default_rng(0).normal(0, 0.1, picture.shape)
    assert decibels(bs.srgb_to_linear(noisy.astype(np.float32).clip(0, 1)), picture) == pytest.approx(20, abs=1)


# --- the search


@pytest.mark.parametrize("focus", [1.0, None])
def test_the_lens_is_found(view: dict, focus: float | None) -> None:
    """Worst seen: 1.3 % with the focus known; without, K times focus 4 % off."""
    disparity = view["mask"]
    pair = Pair(view["aif"], view["bokeh"], disparity, disparity > 0.5)
    fit = fit_lens(pair, SearchRange((0.5, 40.0), focus), bs.Disc())
    wanted = 8.0 * (folders.NEAR - folders.FAR)
    assert fit.blur * fit.focus == pytest.approx(wanted, rel=0.05 if focus else 0.1)
    assert fit.error < 4e-4  # what the map's grown edges leave: 1.8e-4


def test_an_unblurred_photo_gets_the_least_blur(view: dict) -> None:
    pair = Pair(view["aif"], view["aif"], view["mask"], None)
    assert fit_lens(pair, SearchRange((0.5, 40.0), 1.0), bs.Disc()).blur < 0.8


def test_searches_end_at_the_minimum() -> None:
    def bowl(blur: float, focus: float) -> float:
        return (np.log(blur) - 2) ** 2 + (focus - 0.3) ** 2

    assert golden_section([1.0, 4.0, 10.0, 40.0], 0.3, bowl).blur == pytest.approx(np.exp(2), rel=0.02)
    found = pattern_search(Fit(3.0, 0.8, bowl(3.0, 0.8)), bowl, 0.5, 0.01)
    assert (found.blur, found.focus) == (pytest.approx(np.exp(2), rel=0.03), pytest.approx(0.3, abs=0.02))
    held = pattern_search(Fit(3.0, 0.8, bowl(3.0, 0.8)), bowl, 0.5, 0.01, blurs=(1, 5), focuses=(0.5, 1))
    assert (held.blur, held.focus) == (5, 0.5)


# --- layers from a map


def test_depth_slices_and_a_height_field_show_the_photo_all_in_focus(view: dict) -> None:
    disparity = sharpen_depth_edges(np.linspace(0, 1, 176, dtype=np.float32)[None].repeat(128, axis=0))
    for layers in (depth_slices(view["aif"], disparity, 9), [height_field_layer(view["aif"], disparity, 9)]):
        shown = bs.render(layers, bs.Lens(0, 0.5), 9).all_in_focus
        np.testing.assert_allclose(shown, view["aif"], atol=1e-6)


def test_depth_levels_are_ordered_and_few() -> None:
    disparity = np.concatenate([np.full((5, 9), d, np.float32) for d in (0.1, 0.5, 0.9)])
    assert quantize_depth(disparity, 8)[[0, 7, 12], 4].tolist() == [2, 1, 0]
    assert quantize_depth(np.zeros((4, 4), np.float32), 8).max() == 0


def test_push_pull_keeps_known_pixels() -> None:
    color = np.random.default_rng(2).random((33, 20, 3), np.float32)
    known = np.zeros((33, 20), bool)
    known[10:20, 5:12] = True
    filled = push_pull(color, known.astype(np.float32))
    np.testing.assert_array_equal(filled[known], color[known])
    assert filled.min() >= color[known].min() - 1e-6
    assert filled.max() <= color[known].max() + 1e-6


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((200_000, 100_000), "more than 64 million pixels"),
        ((10**300, 10**300), "no plain NumPy array|million pixels"),
        ((100, 100), "holds 100 bytes of numbers where its header says"),
        ((100,), "must hold a map"),
        ((-4, 4), "must hold a map"),
        ((3, "x"), "no plain NumPy array"),
    ],
)
def test_the_header_of_a_map_is_checked_before_anything_is_allocated(tmp_path, shape, words):
    npy(tmp_path / "m.npy", shape)
    with pytest.raises(RejectedPicture, match=words):
        read_map(tmp_path / "m.npy", (4, 4))


@pytest.mark.parametrize(
    "data", [b"", b"\x93NUMPY\1\0\x28\x23" + b"(" * 8999 + b"\n", b"PK\3\4" + bytes(60), b"\x80\4."]
)
def test_what_is_no_map_is_named(tmp_path, data):
    (tmp_path / "m.npy").write_bytes(data)
    with pytest.raises(RejectedPicture, match="no plain NumPy array"):
        read_map(tmp_path / "m.npy", (4, 4))


# ---- RealBokeh's layout


def scene(root: Path, number: int, **other: object) -> dict[str, object]:
    """The files of a scene with three openings, whose targets are blurred by 8 px over their f-number."""
    sharp = folders.photo(number, 64, 80)
    folders.save(root / f"in/{number}_f22.png", sharp)
    record: dict[str, object] = {"id": number, "source_image": f"in/{number}_f22.png", "source_av": 22.0}
    names = [f"gt/{number}_f{av}.png" for av in (2.0, 4, 8)]
    for name, av in zip(names, (2.0, 4, 8), strict=True):
        folders.save(root / name, cv2.GaussianBlur(sharp, (0, 0), 4 / av))
    record |= {"target_images": names, "target_avs": [2.0, 4, 8]} | other
    (root / "metadata").mkdir(exist_ok=True)
    (root / f"metadata/{number}.json").write_text(json.dumps(record))
    return record


REALBOKEH = """\
name: r
samples: {train: each}
size: own
scene: {kind: pair, blur: 0, focus: 0.5}
degradation: none
assets: {pairs: {path: rb, layout: realbokeh}, val_fraction: 0, checks: {max_stops: 9, min_likeness: 0, max_shift: 0.5}}
shards: {samples: 4, fields: [lq, hq, aif]}
"""


def test_each_opening_of_realbokeh_is_a_sample_with_its_f_number(tmp_path: Path) -> None:
    openings = {3: [2.0, 4], 12: [8]}
    for number, avs in openings.items():
        scene(tmp_path / "rb/test", number, target_images=[f"gt/{number}_f{av}.png" for av in avs], target_avs=avs)
    layout = make_small_set(tmp_path / "set", REALBOKEH)
    samples = list(bs.open_dataset(layout.root))
    assert len(samples) == 3
    lines = [json.loads(line) for line in layout.assets.read_text().splitlines()]
    file_of, told = {line["id"]: line["file"] for line in lines}, {line["id"]: line["f_number"] for line in lines}
    seen = {}
    for sample in samples:
        (asset,) = sample.meta["assets"]
        assert sample.meta["f_number"] == told[asset]
        assert type(sample.meta["f_number"]) is float
        name = Path(file_of[asset])
        seen[name.as_posix()] = sample.meta["f_number"]
        assert np.array_equal(sample.hq, folders.load(tmp_path / "rb" / name))
        assert np.array_equal(sample.aif, folders.load(tmp_path / f"rb/test/in/{name.stem.split('_')[0]}_f22.png"))
    assert seen == {f"test/gt/{n}_f{av}.png": float(av) for n, avs in openings.items() for av in avs}
    assert verify(layout.root).ok
    stored, remade, differing = replay_sample(layout.root, "train-000000002", "cpu")
    assert not differing
    assert stored.meta == remade.meta


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"target_avs": [2.0, 4]}, "3 target_images and 2 target_avs"),
        ({"target_avs": [2.0, 4, 0]}, "an f-number is 0.1 to 1000, got 0"),
        ({"target_avs": [2.0, 4, True]}, "an f-number is 0.1 to 1000, got True"),
        ({"source_image": "../../elsewhere.png"}, "got '../../elsewhere.png'"),
        ({"target_images": ["/etc/passwd", "a", "b"]}, "got '/etc/passwd'"),
        ({"target_images": ["a", "b", "./a"]}, "names a picture twice"),
        ({"target_images": ["a", "b", "gt/\ud800.png"]}, r"the name of a file, got 'gt/\ud800.png'"),
        ({"source_image": "a\ud800"}, r"the name of a file, got 'a\ud800'"),
        ({"source_image": 7}, "no text source_image"),
        ({"target_images": []}, "0 target_images"),
    ],
)
def test_metadata_of_realbokeh_that_cannot_be_true_are_refused(tmp_path: Path, other: dict, words: str) -> None:
    scene(tmp_path, 1)
    scene(tmp_path, 2, **other)
    pairs, rejected = realbokeh_pairs(tmp_path, tmp_path)
    assert len(pairs) == 3
    ((path, fault),) = rejected
    assert path.name == "2.json"
    assert fault.reason == "corrupt"
    assert words in str(fault)


def test_metadata_of_realbokeh_are_files_below_the_folder(tmp_path: Path) -> None:
    scene(tmp_path / "rb", 1)
    scene(tmp_path / "other", 2)
    (tmp_path / "rb/metadata/2.json").symlink_to(tmp_path / "other/metadata/2.json")
    (tmp_path / "rb/metadata/3.json").write_bytes(b"\xff")
    (tmp_path / "rb/metadata/4.json").write_text("[1]")
    pairs, rejected = realbokeh_pairs(tmp_path / "rb", tmp_path / "rb")
    assert len(pairs) == 3
    assert [(path.name, fault.reason) for path, fault in rejected] == [
        ("2.json", "outside_root"), ("3.json", "corrupt"), ("4.json", "corrupt"),
    ]  # fmt: skip


def test_a_photograph_with_several_f_numbers_is_no_sample(tmp_path: Path) -> None:
    """Metadata that name a photograph of another scene, a copy with the same f-number, and one with another."""
    scene(tmp_path, 1)
    folders.save(tmp_path / "gt/same.png", folders.load(tmp_path / "gt/1_f4.png"))
    folders.save(tmp_path / "gt/other.png", folders.load(tmp_path / "gt/1_f8.png"))
    other = {"source_image": "in/1_f22.png", "target_images": ["gt/1_f2.0.png", "gt/same.png", "gt/other.png"]}
    (tmp_path / "metadata/2.json").write_text(json.dumps(other | {"target_avs": [2.8, 4, 11]}))
    spec = AssetsSpec.model_validate({
        "pairs": {"path": str(tmp_path), "layout": "realbokeh"}, "val_fraction": 0,
        "checks": {"max_stops": 9, "min_likeness": 0, "max_shift": 0.5},
    })  # fmt: skip
    found = build_catalogue(spec, ("train",), ("pair",))
    assert [(asset.f_number, found.files[asset.id].name) for asset in found.assets] == [(4, "gt/1_f4.png")]
    refused = {rejected.name: (rejected.reason, rejected.message) for rejected in found.quarantine}
    assert refused.keys() == {"gt/1_f2.0.png", "gt/1_f8.png", "gt/other.png"}
    assert {reason for reason, _ in refused.values()} == {"several_f_numbers"}
    assert refused["gt/1_f2.0.png"][1].endswith("several f-numbers: 2, 2.8")
    assert refused["gt/other.png"][1].endswith("several f-numbers: 8, 11")


def test_of_pairs_the_photograph_through_the_lens_is_named_when_a_decoder_ends(tmp_path: Path) -> None:
    scene(tmp_path, 1)
    pair = realbokeh_pairs(tmp_path, tmp_path)[0][1]
    for ended, words in ((ChildEnded(-11, timed_out=False), "crashed"), (ChildEnded(-9, timed_out=True), "more than")):
        fault = probe_pool._answer(pair, ended)
        assert isinstance(fault, RejectedPicture)
        assert str(fault).startswith(f"{tmp_path}/gt/1_f4.png (with {tmp_path}/in/1_f22.png): ")
        assert words in str(fault)


def test_recipes_do_not_mix_pairs_with_and_without_f_numbers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="all sources of pairs or of none"):
        AssetsSpec.model_validate({"pairs": ["a", {"path": "b", "layout": "realbokeh"}]})
    with pytest.raises(ValueError, match="leave one out"):
        PairSourceSpec(path="b", layout="realbokeh", names=PairPatterns(aif="{name}", bokeh="{name}_b"))
    with pytest.raises(bs.RecipeError, match=r"not of RealBokeh's layout.*metadata"):
        realbokeh_pairs(tmp_path, tmp_path)
    assert "layout" not in PairSourceSpec(path="b").model_dump()
