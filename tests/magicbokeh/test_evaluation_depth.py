"""Depth sets of `magicbokeh evaluate`: layouts, errors in closed form, degraded beside clear photographs."""

import csv

import cv2
import numpy as np
import pytest

from bokehsynth import AssetError, UsageError
from magicbokeh.evaluation import depth as evaluated_depth
from magicbokeh.evaluation.depth import depth_errors
from magicbokeh.evaluation.depth_sets import DepthItem, crop_mask, open_depth
from magicbokeh.evaluation.evaluate import EvaluateOptions, evaluate


def _scene(size=(48, 64)):
    """A slope from 2 m on the left to 8 m on the right, and a photograph of it."""
    metres = np.linspace(2, 8, size[1], dtype=np.float32)[None].repeat(size[0], 0)
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return cv2.GaussianBlur(photo, (0, 0), 2), metres


def _write(photo_path, depth_path, counts):
    photo, metres = _scene()
    for path in (photo_path, depth_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(photo_path), photo)
    cv2.imwrite(str(depth_path), np.rint(metres * counts).astype(np.uint16))
    return metres


def _nyu(root):
    for scene, number in (("bath", "00045"), ("kitchen", "00045")):
        metres = _write(root / scene / f"rgb_{number}.png", root / scene / f"sync_depth_{number}.png", 1000)
    return metres


def test_the_layout_of_nyuv2(tmp_path):
    metres = _nyu(tmp_path)
    found = open_depth(tmp_path, None)
    assert (found.kind, [key for key, *_ in found.pairs]) == ("NYUv2", ["bath__rgb_00045", "kitchen__rgb_00045"])
    item = next(iter(found))
    assert np.abs(item.metres - metres).max() <= 0.0005 + 1e-6  # half a millimetre
    assert item.scored.all()
    assert len(open_depth(tmp_path, 1)) == 1


def test_the_layouts_of_kitti(tmp_path):
    name = "2011_09_26_drive_0002_sync_{}_0000000005_image_02.png"
    selection = tmp_path / "selection" / "val_selection_cropped"
    _write(
        selection / "image" / name.format("image"),
        selection / "groundtruth_depth" / name.format("groundtruth_depth"),
        256,
    )
    raw, drive = tmp_path / "raw", "2011_09_26_drive_0002_sync"
    photo = raw / "2011_09_26" / drive / "image_02" / "data" / "0000000005.png"
    metres = _write(photo, raw / "val" / drive / "proj_depth" / "groundtruth" / "image_02" / "0000000005.png", 256)
    found = open_depth(selection, None)
    assert (found.kind, [key for key, *_ in found.pairs]) == ("KITTI", [name.format("image")[:-4]])
    found = open_depth(raw, None)
    assert [key for key, *_ in found.pairs] == [f"{drive}__image_02__0000000005"]
    item = next(iter(found))
    assert np.abs(item.metres - metres).max() <= 1 / 512 + 1e-6
    assert (item.farthest, open_depth(tmp_path / "raw" / "val", None)) == (80, None)


def test_crops_are_those_of_the_protocols():
    assert crop_mask((480, 640), "NYUv2").sum() == (471 - 45) * (601 - 41)
    rows, columns = np.nonzero(crop_mask((375, 1242), "KITTI"))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (153, 370, 44, 1196)


def _item(metres, scored=None):
    metres = np.asarray(metres, np.float32)
    return DepthItem("a", np.zeros((*metres.shape, 3), np.uint8), metres, metres > 0 if scored is None else scored, 10)


def test_errors_are_blind_to_scale_and_shift_and_right_without():
    metres = _scene()[1]
    perfect = depth_errors((0.3 / metres + 0.2).astype(np.float32), _item(metres))
    assert perfect["AbsRel"] == pytest.approx(0, abs=1e-5)
    assert (perfect["delta1"], perfect["RMSE"]) == (1, pytest.approx(0, abs=1e-4))
    # A constant: the best one is the mean of 1/z, so every error follows by hand.
    flat = depth_errors(np.ones_like(metres), _item(metres))
    best = 1 / (1 / metres.astype(np.float64)).mean()
    assert flat["AbsRel"] == pytest.approx((np.abs(best - metres) / metres).mean(), rel=1e-6)
    assert flat["delta1"] == pytest.approx((np.maximum(best / metres, metres / best) < 1.25).mean())
    assert flat["RMSE"] == pytest.approx(np.sqrt(((best - metres) ** 2).mean()), rel=1e-6)


def test_what_is_not_scored_changes_nothing():
    metres = _scene()[1].copy()
    disparity = 1 / metres
    metres[:, :10] = 0
    disparity[:, :10] = 99
    assert depth_errors(disparity.astype(np.float32), _item(metres))["AbsRel"] == pytest.approx(0, abs=1e-5)
    assert depth_errors(disparity.astype(np.float32), _item(np.zeros_like(metres))) == {}


@pytest.fixture
def _network(monkeypatch):
    """In place of a network: a photograph's brightness, which degradation changes."""
    import torch

    monkeypatch.setattr(evaluated_depth, "load_depth_model", lambda source: torch.nn.Identity())
    monkeypatch.setattr(evaluated_depth, "estimate_disparity", lambda model, srgb, device: srgb.mean(axis=2))


@pytest.mark.usefixtures("_network")
def test_degraded_clear_and_average(tmp_path):
    metres = _nyu(tmp_path / "nyu")
    for split in ("degraded", "clear"):
        (tmp_path / "maps" / split).mkdir(parents=True)
        for key in ("bath__rgb_00045", "kitchen__rgb_00045"):
            values = 1 / metres if split == "clear" else np.ones_like(metres)
            np.save(tmp_path / "maps" / split / f"{key}.npy", values.astype(np.float32))
    out = tmp_path / "out"
    options = EvaluateOptions(methods=(f"flat,net,theirs={tmp_path / 'maps'}",), baseline="flat", progress=False)
    results = evaluate(tmp_path / "nyu", out, options)
    value = {split: results.cells["theirs", "AbsRel", split].value.mean for split in results.splits}
    assert value["clear"] == pytest.approx(0, abs=1e-3)  # millimetres
    assert value["degraded"] == pytest.approx(results.cells["flat", "AbsRel", "degraded"].value.mean, abs=1e-6)
    assert value["average"] == pytest.approx((value["clear"] + value["degraded"]) / 2)
    net = {split: results.cells["net", "AbsRel", split].value.mean for split in results.splits}
    assert net["degraded"] != net["clear"]
    with open(out / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 3 * 3
    picture = cv2.imread(str(out / "pictures" / "degraded" / "bath__rgb_00045.png"))
    assert picture.shape == (48, 64, 3)
    assert evaluate(tmp_path / "nyu", out, options).cells == results.cells  # again, from what is stored


def test_what_does_not_fit_is_one_line(tmp_path):
    _nyu(tmp_path / "nyu")
    out = tmp_path / "out"
    for methods, message in (
        ("classical", "classical makes pictures"),
        ("flat,flat", "each once"),
        ("nowhere", "nowhere"),
    ):
        with pytest.raises(UsageError, match=message):
            evaluate(tmp_path / "nyu", out, EvaluateOptions(methods=(methods,), progress=False))
    (tmp_path / "maps" / "degraded").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"holds no map of bath__rgb_00045: bath__rgb_00045\.npy"):
        evaluate(tmp_path / "nyu", out, EvaluateOptions(methods=(f"a={tmp_path / 'maps'}",), progress=False))
    cv2.imwrite(str(tmp_path / "nyu" / "bath" / "sync_depth_00045.png"), np.zeros((48, 64), np.uint8))
    with pytest.raises(AssetError, match="is not a grey PNG of 16 bits"):
        evaluate(tmp_path / "nyu", out, EvaluateOptions(methods=("flat",), progress=False))
