"""Photographed cut-outs and landscapes on their way into a scene: own colours, lamps, the store."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from support.photographs import cutout, folders, landscape, save

from bokehsynth.assets.catalogue import Catalogue
from bokehsynth.assets.decode.downscale import averaged, in_strips, reduced, weighted
from bokehsynth.assets.decode.raster import Raster
from bokehsynth.assets.index.build import build_catalogue
from bokehsynth.assets.index.measure import colors_under_alpha
from bokehsynth.assets.load import foreground_colors, highlights
from bokehsynth.assets.load import store as store_module
from bokehsynth.assets.load.foreground_colors import estimate_foreground
from bokehsynth.assets.load.highlights import night_weight, recover_highlights
from bokehsynth.assets.load.store import AssetStore, LruCache, cutout_from, landscape_from, read_asset
from bokehsynth.assets.spec import AssetsSpec
from bokehsynth.color import srgb_to_linear
from bokehsynth.errors import ChangedError
from bokehsynth.imaging.inpaint import push_pull


def matte(size=200) -> np.ndarray:
    """Soft everywhere between a solid middle and nothing, float [H, W]."""
    y, x = np.mgrid[:size, :size] - size / 2
    return np.clip((0.42 * size - np.hypot(x, y)) / 40 + 0.5, 0, 1).astype(np.float32)


OWN, BEHIND = np.float32([0.75, 0.15, 0.1]), np.float32([0.1, 0.3, 0.9])
"""Encoded: a red subject that stood before blue."""


def files_by_state(alpha: np.ndarray) -> dict[str, np.ndarray]:
    """The same cut-out as files hold it, uint8 RGBA."""
    over = alpha[..., None]
    held = {
        "photographed": np.rint((OWN * over + BEHIND * (1 - over)) * 255),
        "straight": np.rint(np.where(over > 0, OWN, 0) * 255),
        "premultiplied": np.rint(OWN * over * 255),
    }
    return {name: np.dstack([color, np.rint(alpha * 255)]).astype(np.uint8) for name, color in held.items()}


@pytest.mark.parametrize("state", ["photographed", "straight", "premultiplied"])
def test_colors_under_soft_alpha_are_classified(state):
    rgba = files_by_state(matte())[state].astype(np.float32) / 255
    soft = (rgba[..., 3] > 0.02) & (rgba[..., 3] < 0.98)
    assert colors_under_alpha(rgba[..., :3], rgba[..., 3], soft) == state


@pytest.mark.parametrize("blank", [False, True])
@pytest.mark.parametrize("factor", [1, 4])
@pytest.mark.parametrize("state", ["photographed", "straight", "premultiplied"])
def test_the_old_background_is_removed(state, factor, blank):
    """From files of any kind, the subject is red up to its faintest rim, also where the file was blanked outside."""
    alpha = matte()
    rgba = files_by_state(alpha)[state]
    if blank:
        rgba[alpha == 0, :3] = 0
    found = cutout_from(Raster(rgba[..., :3], rgba[..., 3], "PNG", "RGBA"), state, factor)
    assert abs(max(found.alpha.shape) - 200 / factor) < 12  # its empty margins are taken off
    error = np.abs(found.color - srgb_to_linear(OWN)).max(axis=2)
    # Worst seen: 0.0109 as stored, 0.022 reduced, where light is averaged and the estimate is of encoded colours.
    bound = 0.012 if factor == 1 else 0.024
    assert error[found.alpha > 0.7].max() < bound
    assert (error * found.alpha).max() < bound
    assert np.isfinite(found.color).all()
    if state == "photographed":
        blue = srgb_to_linear(BEHIND)
        assert np.abs(found.color - blue).max(axis=2).min() > 0.4  # nowhere what was behind


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_clipped_light_of_bytes_is_looked_up_to_the_same_bits(factor):
    values = np.random.default_rng(factor).integers(0, 256, (611, 97, 3), np.uint8)
    values[factor * 60 : 550] //= 2  # strips without any
    raster = Raster(values, None, "JPEG", "RGB")
    assert (highlights._clipped_in_file(raster, factor) == in_strips(raster, factor, highlights._clipped)).all()


def test_estimation_is_repeatable_and_leaves_the_solid_alone():
    picture, alpha = srgb_to_linear(landscape(3, 120, 120)), matte(120)
    first = estimate_foreground(picture, alpha)
    np.testing.assert_array_equal(first, estimate_foreground(picture, alpha))
    np.testing.assert_array_equal(first[alpha == 1], picture[alpha == 1])


def test_light_above_white_stays_bright_when_estimated():
    picture = np.full((64, 64, 3), 5.0, np.float32)
    np.testing.assert_allclose(estimate_foreground(picture, matte(64)), 5.0, rtol=1e-3)


def test_push_pull_continues_nearby_colors():
    color = np.zeros((64, 64, 3), np.float32)
    color[:, :20], color[:, 44:] = (1, 0, 0), (0, 0, 1)
    weight = np.zeros((64, 64), np.float32)
    weight[:, :20] = weight[:, 44:] = 1
    full = push_pull(color, weight, trust=4, extent=min)
    np.testing.assert_allclose(full[weight > 0], color[weight > 0], atol=1e-5)
    assert full[32, 22, 0] > 0.7 > 0.3 > full[32, 22, 2]
    assert full[32, 41, 2] > 0.7 > 0.3 > full[32, 41, 0]


# --- size


@pytest.mark.parametrize("size", [(600, 800), (601, 799), (257, 300)])
def test_large_pictures_are_averaged_in_linear_light(size):
    stored = landscape(3, *size)
    raster = Raster(stored, None, "PNG", "RGB")
    factor = min(size) // 100
    small = reduced(raster, 100)
    h, w = size[0] // factor, size[1] // factor
    whole = srgb_to_linear(stored)[: h * factor, : w * factor].astype(np.float64)
    want = whole.reshape(h, factor, w, factor, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(small, want, rtol=1e-4)


def test_scene_referred_light_is_normalized_by_no_more_than_needed():
    def loaded(value: float) -> float:
        light = np.full((40, 40, 3), value, np.float32)
        light[0, 0] = 1e6
        return landscape_from(Raster(light, None, "EXR", "float")).color

    assert loaded(0.1)[5, 5, 0] == pytest.approx(0.1, rel=1e-5)
    assert loaded(10.0)[5, 5, 0] == pytest.approx(0.25, rel=0.02)
    assert loaded(1e-4)[5, 5, 0] == pytest.approx(0.03, rel=0.02)
    assert loaded(0.1).max() == pytest.approx(500)


# --- highlights


def night() -> np.ndarray:
    """uint8 [H, W, 3]: a dark sky, a few clipped lamps of two pixels in an orange glow."""
    picture = np.full((300, 400, 3), (18, 20, 30), np.uint8)
    for y, x in ((150, 60), (160, 200), (155, 340)):
        picture[y - 3 : y + 5, x - 3 : x + 5] = (150, 90, 30)
        picture[y : y + 2, x : x + 2] = 255
    return picture


def highlights_of(stored: np.ndarray, factor: int = 1) -> np.ndarray | None:
    raster = Raster(stored, None, "PNG", "RGB")
    return recover_highlights(raster, reduced(raster, min(stored.shape[:2]) // factor), factor)


def test_clipped_lamps_by_night_are_recovered_with_their_hue():
    stored = night()
    found = highlights_of(stored)
    np.testing.assert_array_equal(found.max(axis=2) > 0, (stored == 255).all(axis=2))
    red, _, blue = found[150, 60]
    assert red > 0.8
    assert blue < 0.6 * red  # clipped to white in the file, orange by its glow


def test_clipping_is_detected_before_a_large_picture_is_reduced():
    found = highlights_of(cv2.resize(night(), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST), factor=4)
    assert found.shape == (150, 200, 3)
    assert found.max() > 0.2  # reduced first, it would be darker than what counts as clipped


def test_large_bright_areas_are_no_highlights():
    sky = night()
    sky[:120] = 255
    found = highlights_of(sky)
    assert found is None or found[:125].max() < 0.02


def test_by_day_there_are_no_highlights():
    day = night()
    day[day[..., 0] == 18] = (120, 140, 150)
    assert night_weight(srgb_to_linear(day)) == 0
    assert highlights_of(day) is None
    assert highlights_of(np.full((50, 60, 3), 90, np.uint8)) is None


@pytest.mark.parametrize("factor", [1, 2, 3, 7])
def test_light_is_weighted_strip_by_strip_to_the_last_bit(factor):
    """The box means of a strip are those of the whole picture."""
    rgba = cutout(7, 700, 211)
    raster, weight = Raster(rgba[..., :3], rgba[..., 3], "PNG", "RGBA"), rgba[..., 3].astype(np.float32) / 255
    whole = averaged(raster.light() * weight[..., None], factor)
    assert weighted(raster, factor, weight).tobytes() == whole.tobytes()


# --- the store


@pytest.fixture
def catalogue(tmp_path, monkeypatch) -> Catalogue:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folders(tmp_path, 2, 2)
    spec = {"foregrounds": str(tmp_path / "cutouts"), "backgrounds": str(tmp_path / "landscapes"), "sharpness_floor": 0}
    return build_catalogue(AssetsSpec.model_validate(spec))


def test_the_store_decodes_once_and_never_less_than_asked(catalogue, monkeypatch):
    read = []
    monkeypatch.setattr(store_module, "read_asset", lambda files: read.append(files) or read_asset(files))
    store = AssetStore().of(catalogue)
    land = next(asset.id for asset in catalogue.pool("background", "train"))
    cut = next(asset.id for asset in catalogue.pool("foreground", "train"))
    for _ in range(3):
        assert min(store.landscape(land, 40).color.shape[:2]) >= 40
        assert max(store.cutout(cut, 60).alpha.shape) >= 60
        assert store.landscape(land, 10_000).color.shape == (96, 128, 3)  # its largest
    assert max(store.cutout(cut, 20).alpha.shape) < 60  # reduced further, of the file decoded already
    assert len(read) == 3


def test_the_cache_holds_no_more_than_its_bytes():
    class Item:
        def __init__(self) -> None:
            self.color = np.zeros(250_000, np.float32)

    cache = LruCache(3_500_000)
    items = [cache.get(i, Item) for i in range(10)]
    assert cache.get(9, Item) is items[9]
    assert cache.get(7, Item) is items[7]
    assert cache.get(0, Item) is not items[0]
    assert cache._held <= 3_500_000


def test_a_picture_that_changed_after_indexing_is_fatal(catalogue):
    asset = catalogue.pool("background", "train")[0]
    save(catalogue.files[asset.id].image, landscape(999))
    with pytest.raises(ChangedError, match="changed under a running recipe"):
        AssetStore().of(catalogue).landscape(asset.id, 50)


def test_touching_sides_hold_for_photographed_cutouts():
    """A subject cut off by the lower side of its photograph still touches it after decoding."""
    from bokehsynth.scene.place import touching_sides

    rgba = cutout(4, 160, 120)
    rgba[100:, 30:90, 3] = 255
    found = cutout_from(Raster(rgba[..., :3], rgba[..., 3], "PNG", "RGBA"), "photographed", 2)
    assert touching_sides(found.alpha) == {"bottom"}


def test_a_thread_that_needs_the_estimator_while_another_loads_it_waits_for_all_of_it(tmp_path, monkeypatch):
    """A module that is known to Python before it has been executed lacks its function still."""
    gate = threading.Barrier(2)
    monkeypatch.setattr(foreground_colors, "_gate", gate, raising=False)
    path = tmp_path / "late.py"
    path.write_text(
        "from bokehsynth.assets.load.foreground_colors import _gate\n"
        "import time\n_gate.wait(5)\ntime.sleep(0.1)\nestimate = len\n"
    )
    try:
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(foreground_colors._load, path)
            gate.wait(5)  # the module is being executed
            second = threads.submit(lambda: foreground_colors._load(path).estimate)
            assert second.result(5) is first.result(5).estimate is len
    finally:
        sys.modules.pop("pymatting.foreground.late", None)
