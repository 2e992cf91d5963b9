"""Focus specifications, blur and depth maps, each by its definition."""

import numpy as np
import pytest
import torch
from PIL import Image

from bokehsynth import AssetError, UsageError
from magicbokeh.inference.depth import read_map, stretch
from magicbokeh.model.conditioning import blur_in_pixels, defocus_map, find_focus

SIZE = (40, 60)
STEPS = np.repeat(np.linspace(0, 1, 60, dtype=np.float32)[None], 40, axis=0)


def focus_at(focus, disparity=STEPS, focus_range=0.0):
    found = find_focus(focus, disparity, SIZE, focus_range)
    return found.far, found.near


def test_a_point_is_exactly_in_focus():
    found = find_focus((21, 3), STEPS, SIZE)
    assert found.distance(STEPS)[3, 21] == 0
    assert found.distance(STEPS)[3, 22] > 0
    assert focus_at((21, 3)) == focus_at(np.array([21, 3])) == (STEPS[0, 21], STEPS[0, 21])


def test_several_points_are_all_sharp_and_what_lies_between():
    found = find_focus([(10, 5), (40, 30)], STEPS, SIZE)
    distance = found.distance(STEPS)
    assert not distance[:, 10:41].any()
    assert (distance[:, :10] > 0).all()
    assert (distance[:, 41:] > 0).all()
    assert distance[0, 59] == pytest.approx(1 - STEPS[0, 40])


def test_the_range_is_a_zone_of_sharp_disparities():
    assert focus_at(0.5, focus_range=0.1) == pytest.approx((0.4, 0.6))
    distance = find_focus(0.5, STEPS, SIZE, 0.1).distance(STEPS)
    assert np.abs(distance - np.maximum(np.abs(STEPS - 0.5) - 0.1, 0)).max() < 1e-6


def test_masks_and_boxes_take_the_lower_median():
    mask = np.zeros(SIZE, bool)
    mask[:, 20:24] = True
    assert focus_at(mask) == (STEPS[0, 21],) * 2
    for same in (mask.astype(np.uint8), mask.astype(np.uint8) * 255, mask.astype(np.float32), torch.from_numpy(mask)):
        assert focus_at(same) == (STEPS[0, 21],) * 2
    assert focus_at(torch.tensor([21, 3])) == (STEPS[0, 21],) * 2
    assert focus_at((20, 0, 24, 40)) == focus_at(mask)
    grey = mask.astype(np.uint8) * 255
    grey[:, 50:] = 127  # under one half: not of the mask, as soft edges and haze are not
    assert focus_at(grey) == focus_at(mask)
    assert focus_at(Image.fromarray(grey)) == focus_at(mask)
    assert focus_at(mask.astype(np.float32)) == focus_at(mask)


def test_auto_takes_the_largest_near_object():
    scene = np.full(SIZE, 0.1, np.float32)
    scene[8:30, 20:40] = 0.8
    scene[0:3, 0:3] = 1.0  # nearer, but a speck in the corner
    assert focus_at("auto", scene) == pytest.approx((0.8, 0.8))
    assert focus_at("auto", np.zeros(SIZE, np.float32)) == (0, 0)


def test_blur_scales_with_the_photo():
    assert blur_in_pixels(24, (512, 700)) == 24
    assert blur_in_pixels(24, (3024, 4032)) == pytest.approx(24 * 3024 / 512)
    assert blur_in_pixels(0, (10, 10)) == 0


def test_the_network_sees_fractions_of_its_reference():
    radius = np.array([[0, 3.2, 16, 32, 64]], np.float32)
    assert np.allclose(defocus_map(radius, 32), [[0, 0.1, 0.5, 1, 1]])


def test_maps_are_read_by_their_type(tmp_path):
    import cv2

    deep = np.rint(STEPS * 65535).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    cv2.imwrite(str(tmp_path / "grey.png"), np.rint(STEPS * 255).astype(np.uint8))
    np.save(tmp_path / "unit.npy", STEPS * 0.5)
    np.save(tmp_path / "raw.npy", STEPS * 17 - 3)
    assert np.abs(read_map(tmp_path / "deep.png", SIZE) - STEPS).max() < 1e-5
    assert np.abs(read_map(tmp_path / "grey.png", SIZE) - STEPS).max() < 2.1e-3
    assert np.array_equal(read_map(tmp_path / "unit.npy", SIZE), STEPS * 0.5)  # within 0..1: taken as it is
    assert np.abs(read_map(tmp_path / "raw.npy", SIZE) - STEPS).max() < 1e-6  # else stretched
    assert read_map(STEPS, (80, 120)).shape == (80, 120)
    assert read_map(Image.fromarray(deep), SIZE).max() == 1


def test_flat_maps_are_far():
    assert not stretch(np.full((3, 3), 7.0)).any()


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ("absent.png", UsageError, "no such file"),
        (np.zeros((60, 40)), UsageError, "do not match the photo"),
        (np.zeros((40, 60, 2)), UsageError, "H, W"),
        (np.full(SIZE, np.inf), UsageError, "NaN or infinity"),
        (np.zeros(SIZE, complex), UsageError, "numbers"),
        (np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8), UsageError, "has colours"),
    ],
)
def test_maps_that_are_none(source, error, says):
    with pytest.raises(error, match=says):
        read_map(source, SIZE)


def test_maps_that_cannot_be_read(tmp_path):
    (tmp_path / "x.npy").write_bytes(b"nothing")
    (tmp_path / "x.png").write_bytes(b"nothing")
    (tmp_path / "empty.png").write_bytes(b"")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    for name in ("x.npy", "x.png", "empty.png", "objects.npy"):
        with pytest.raises(AssetError):
            read_map(tmp_path / name, SIZE)
