"""What is drawn for a scene, over many draws: only numbers, no pixels."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from bokehsynth.assets.catalogue import Asset, Catalogue
from bokehsynth.config.distributions import bounds
from bokehsynth.files import canonical_json
from bokehsynth.optics import Plane
from bokehsynth.recipe import load_recipe
from bokehsynth.rng import Stage, stream
from bokehsynth.sample_draw import draw_from_meta, draw_sample
from bokehsynth.scene import SceneLens, SceneSpec, draw_scene
from bokehsynth.scene.compose import lens_of
from bokehsynth.schema import dequantize_map, quantize_map

DRAWS = 500

PAPER = {
    "foregrounds": 2,
    "blur": {"kind": "uniform", "low": 0, "high": 32},
    "background_tilt": {"kind": "uniform", "low": 0, "high": 0.2},
    "foreground_tilt": {"kind": "uniform", "low": 0, "high": 0.1},
}
CROWDED = {
    "foregrounds": {"kind": "choice", "values": [0, 1, 2, 3, 4, 5, 6]},
    "disparity": {"background": {"kind": "uniform", "low": 0, "high": 0.5}, "gap": 0.05, "nearest": 0.9},
    "background_tilt": {"kind": "uniform", "low": 0, "high": 1},
    "foreground_tilt": {"kind": "uniform", "low": 0, "high": 1},
}
LARGEST = {
    "foregrounds": {"kind": "choice", "values": [0, 1, 2], "weights": [1, 2, 2]},
    "blur": {"kind": "uniform", "low": 10, "high": 32},
    "blur_is": "largest_radius",
    "foreground_tilt": {"kind": "sometimes", "probability": 0.5, "value": 0.1, "otherwise": 0},
}
EMPTY = {
    "foregrounds": 0,
    "disparity": {"background": {"kind": "uniform", "low": 0, "high": 1}},
    "background_tilt": {"kind": "uniform", "low": 0, "high": 1},
}
ANYWHERE = PAPER | {"focus": {"kind": "uniform", "low": 0, "high": 1}, "unit": "px"}
PIXEL = PAPER | {"focus": "pixel"}
FRONTAL = PAPER | {"background_tilt": 0, "foreground_tilt": 0}
SPECS = {
    "paper": (PAPER, (512, 512)),
    "wide": (PAPER, (256, 640)),
    "crowded": (CROWDED, (300, 200)),
    "largest": (LARGEST, (256, 256)),
    "empty": (EMPTY, (128, 128)),
    "anywhere": (ANYWHERE, (200, 300)),
    "pixel": (PIXEL, (128, 192)),
    "frontal": (FRONTAL, (512, 512)),
}
EVERY_SPEC = pytest.mark.parametrize("name", SPECS)


def asset(kind, split, number, weight=1.0):
    name = f"{kind}-{split}-{number}"
    return Asset(id=name, kind=kind, split=split, sha256=name, licence="CC0", weight=weight)


CATALOGUE = Catalogue(
    tuple(
        asset(kind, split, number)
        for kind in ("foreground", "background")
        for split, count in (("train", 12), ("val", 7))
        for number in range(count)
    )
)


def draws(name, count=DRAWS, split="train", seed=3):
    values, size = SPECS[name]
    spec = SceneSpec.model_validate(values)
    return spec, [draw_scene(spec, size, CATALOGUE, seed, split, index) for index in range(count)]


def planes_of(scene):
    """Near to far, the background last."""
    return [foreground.plane for foreground in scene.foregrounds] + [scene.background.plane]


def farthest_radius(lens, scene):
    return max(lens.radius_max(plane, scene.width, scene.height) for plane in planes_of(scene))


def focus_candidates(scene):
    """What the focus may turn out to be: for a pixel that depends on the pictures."""
    if scene.focus.on == "disparity":
        return [scene.focus.disparity]
    x, y = scene.focus.x - (scene.width - 1) / 2, scene.focus.y - (scene.height - 1) / 2
    return [plane.at(x, y) for plane in planes_of(scene)]


def lenses_of(scene):
    return [lens_of(scene, focus, SceneLens(), planes_of(scene)) for focus in focus_candidates(scene)]


def canvas_corners(plane, scene, margin):
    return plane.corners(scene.width + 2 * margin, scene.height + 2 * margin)


# --- planes


@EVERY_SPEC
def test_disparities_stay_within_zero_and_one(name):
    for index, scene in enumerate(draws(name)[1]):
        for plane in planes_of(scene):
            corners = plane.corners(scene.width, scene.height)
            assert min(corners) >= -1e-12, (index, plane)
            assert max(corners) <= 1 + 1e-12, (index, plane)


@EVERY_SPEC
def test_foregrounds_stay_behind_nearest(name):
    spec, scenes = draws(name)
    for scene in scenes:
        for foreground in scene.foregrounds:
            assert max(foreground.plane.corners(scene.width, scene.height)) <= spec.disparity.nearest + 1e-12


def gap_over_canvas(scene, spec):
    """Least distance between neighbouring planes over the canvas that composing will make, less the spec's gap."""
    planes = planes_of(scene)
    margin = max(lens.margin(planes, scene.width, scene.height) for lens in lenses_of(scene))
    slack = [1.0]
    for near, far in itertools.pairwise(planes):
        apart = Plane(near.d - far.d, near.gx - far.gx, near.gy - far.gy)
        slack.append(min(canvas_corners(apart, scene, margin)) - spec.disparity.gap)
    return min(slack)


@EVERY_SPEC
def test_planes_never_come_closer_than_the_gap(name):
    spec, scenes = draws(name)
    assert min(gap_over_canvas(scene, spec) for scene in scenes) >= -1e-12  # rounding of sums of disparities


@pytest.mark.parametrize("blur_is", ["K", "largest_radius"])
@pytest.mark.parametrize("blur", [64, 128, 200])
def test_gap_holds_for_strong_blur(blur, blur_is):
    """The stronger the blur on a tilted plane, the farther its rays reach: r / (1 - K |g|)."""
    values = PAPER | {
        "blur": blur,
        "blur_is": blur_is,
        "foregrounds": 1,
        "background_tilt": 0.2,
        "foreground_tilt": 0.2,
    }
    spec = SceneSpec.model_validate(values)
    scenes = [draw_scene(spec, (512, 512), CATALOGUE, 1, "train", index) for index in range(200)]
    assert min(gap_over_canvas(scene, spec) for scene in scenes) >= -1e-12


@pytest.mark.parametrize(
    "values",
    [
        {"blur": 600, "foregrounds": 1, "background_tilt": 1, "disparity": {"background": 0.45}},
        {"blur": 300, "blur_is": "largest_radius", "foregrounds": 0, "background_tilt": 0.2},
        {"blur": 32, "unit": "px", "blur_is": "largest_radius", "foregrounds": 0, "background_tilt": 0.2, "size": 48},
    ],
    ids=["strong", "largest", "small picture"],
)
def test_what_a_recipe_allows_can_be_photographed(values):
    """No draw may hold a plane too steep for its lens: a run would stop in its middle with a recipe that was fine."""
    size = values.get("size", 512)
    spec = SceneSpec.model_validate({key: value for key, value in values.items() if key != "size"})
    for index in range(100):
        scene = draw_scene(spec, (size, size), CATALOGUE, 1, "train", index)
        for lens in lenses_of(scene):
            # A UsageError where rays would run along the plane; K * slope <= 0.5 at most doubles the radius.
            radius = max(lens.radius_max(plane, size, size) for plane in planes_of(scene))
            assert lens.margin(planes_of(scene), size, size) <= 2 * radius + 3 + 1e-6


def test_tilt_is_the_difference_across_the_picture():
    values = PAPER | {
        "foregrounds": 0,
        "background_tilt": 0.1,
        "background_tilt_angle": 90,
        "disparity": {"background": 0.5},
    }
    spec = SceneSpec.model_validate(values)
    plane = draw_scene(spec, (101, 301), CATALOGUE, 0, "train", 0).background.plane
    top, bottom = plane.at(0, -50), plane.at(0, 50)
    assert bottom - top == pytest.approx(0.1)  # 90 degrees: nearer downwards
    assert plane.gx == pytest.approx(0, abs=1e-12)


def test_tilts_are_as_drawn_where_there_is_room():
    """The paper's ranges leave room nearly always: gentler tilts are the exception."""
    spec, scenes = draws("paper")
    spans = np.array([np.ptp(scene.background.plane.corners(512, 512)) for scene in scenes])
    assert spans.max() <= 0.2 + 1e-9
    assert np.mean(spans) > 0.04
    assert bounds(spec.background_tilt) == (0, 0.2)


def test_background_is_where_the_recipe_says():
    for name in ("paper", "crowded", "largest"):
        spec, scenes = draws(name)
        low, high = bounds(spec.disparity.background)
        centers = np.array([scene.background.plane.d for scene in scenes])
        assert low <= centers.min() <= centers.max() <= high
        # Even over its range: mean within 4.5 standard errors.
        assert abs(centers.mean() - (low + high) / 2) < 4.5 * (high - low) / np.sqrt(12 * DRAWS)


def test_foregrounds_use_the_depth_there_is():
    _, scenes = draws("frontal")
    near, far = (np.array([scene.foregrounds[i].plane.d for scene in scenes]) for i in (0, 1))
    assert (near > far).all()
    # Two sorted uniforms over what is left above the background: means at 2/3 and 1/3 of it.
    back = np.array([scene.background.plane.d for scene in scenes])
    free = 1 - back - 2 * 0.05
    assert np.mean((near - back - 0.10) / free) == pytest.approx(2 / 3, abs=0.05)
    assert np.mean((far - back - 0.05) / free) == pytest.approx(1 / 3, abs=0.05)


# --- blur and focus


@EVERY_SPEC
def test_radius_stays_within_the_bound_of_the_recipe(name):
    spec, scenes = draws(name)
    bound = spec.radius_bound(min(SPECS[name][1]))
    scale = bound / 65535
    largest = [farthest_radius(lens, scene) for scene in scenes for lens in lenses_of(scene)]
    assert max(largest) <= bound * (1 + 1e-12)
    assert max(largest) > 0.4 * bound  # the 16-bit scale is not wasted
    counts = quantize_map(np.array(largest, np.float32), scale, "defocus")  # an overflow would raise
    assert np.abs(dequantize_map(counts, scale) - largest).max() <= 0.51 * scale


def test_blur_scales_with_the_shorter_side():
    spec = SceneSpec.model_validate(PAPER)
    for size, factor in (((512, 512), 1), ((256, 900), 0.5), ((1024, 1024), 2)):
        scene = draw_scene(spec, size, CATALOGUE, 3, "train", 5)
        assert scene.blur == pytest.approx(factor * draw_scene(spec, (512, 512), CATALOGUE, 3, "train", 5).blur)
    absolute = SceneSpec.model_validate(PAPER | {"unit": "px"})
    assert draw_scene(absolute, (64, 64), CATALOGUE, 3, "train", 5).blur == pytest.approx(
        draw_scene(spec, (512, 512), CATALOGUE, 3, "train", 5).blur
    )


def test_largest_radius_is_the_largest_radius():
    for scene in draws("largest")[1]:
        (lens,) = lenses_of(scene)
        assert farthest_radius(lens, scene) == pytest.approx(scene.blur, rel=1e-12)
        assert 5 <= scene.blur <= 16  # 10..32 at 512 px


def test_largest_radius_of_a_scene_that_lies_in_its_focus_is_zero():
    spec = SceneSpec.model_validate({"foregrounds": 0, "background_tilt": 0, "blur": 16, "blur_is": "largest_radius"})
    (lens,) = lenses_of(draw_scene(spec, (64, 64), CATALOGUE, 0, "train", 0))
    assert lens.blur == 0


def test_focus_is_exactly_a_layers_disparity():
    """Frontal layers: bit for bit, or the layer in focus is not left as it is."""
    _, scenes = draws("frontal")
    hits = [[plane.d for plane in planes_of(scene)].count(scene.focus.disparity) for scene in scenes]
    assert hits == [1] * DRAWS


def test_focus_is_on_each_layer_equally_often():
    _, scenes = draws("frontal")
    which = [[plane.d for plane in planes_of(scene)].index(scene.focus.disparity) for scene in scenes]
    assert np.abs(np.bincount(which, minlength=3) - DRAWS / 3).max() < 4.5 * np.sqrt(DRAWS * 2 / 9)


@pytest.mark.parametrize("mode", ["foreground", "background"])
def test_focus_on_one_kind(mode):
    spec = SceneSpec.model_validate(FRONTAL | {"focus": mode})
    for index in range(100):
        scene = draw_scene(spec, (128, 128), CATALOGUE, 0, "train", index)
        on_background = scene.focus.disparity == scene.background.plane.d
        assert on_background == (mode == "background")


def test_focus_on_a_tilted_layer_is_seen_in_the_picture():
    """The focal line crosses the picture: some pixel of the chosen layer is sharp."""
    for scene in draws("paper")[1]:
        ranges = [plane.corners(scene.width, scene.height) for plane in planes_of(scene)]
        assert any(min(r) - 1e-12 <= scene.focus.disparity <= max(r) + 1e-12 for r in ranges)


def test_focus_pixel_lies_in_the_picture():
    _, scenes = draws("pixel")
    x, y = (np.array([getattr(scene.focus, axis) for scene in scenes]) for axis in "xy")
    assert {scene.focus.on for scene in scenes} == {"pixel"}
    assert (x.min(), y.min()) >= (0, 0)
    assert x.max() <= 191
    assert y.max() <= 127
    assert np.ptp(x) > 180
    assert np.ptp(y) > 120


def test_share_of_sharp_samples_with_the_papers_ranges():
    """K ~ U(0, 32) alone leaves many samples nearly sharp: why the quickstart draws the largest radius instead."""
    _, scenes = draws("paper", 2000)
    radii = np.array([farthest_radius(lenses_of(scene)[0], scene) for scene in scenes])
    share = float(np.mean(radii <= 3))
    # Measured 0.178 over three seeds of 4000 (0.056 even within 1 px); the standard error here is 0.0086.
    assert share == pytest.approx(0.178, abs=4.5 * 0.0086)
    _, scenes = draws("largest")
    assert all(farthest_radius(lenses_of(scene)[0], scene) > 3 for scene in scenes)


# --- assets


@pytest.mark.parametrize("split", ["train", "val"])
def test_splits_use_their_own_assets(split):
    for name in ("paper", "crowded"):
        _, scenes = draws(name, 200, split)
        used = {scene.background.asset for scene in scenes}
        used |= {foreground.asset for scene in scenes for foreground in scene.foregrounds}
        assert {asset_id.split("-")[1] for asset_id in used} == {split}
        # 200 scenes reach each of 12 + 12 assets: the chance to miss one of them is below 1e-6.
        assert len(used) == (24 if split == "train" else 14)


@EVERY_SPEC
def test_foregrounds_of_a_scene_differ(name):
    for scene in draws(name)[1]:
        ids = [foreground.asset for foreground in scene.foregrounds]
        assert len(set(ids)) == len(ids)


def test_more_foregrounds_than_assets_repeat_them():
    few = Catalogue((asset("foreground", "train", 0), asset("foreground", "train", 1), asset("background", "train", 0)))
    spec = SceneSpec.model_validate({"foregrounds": 5, "disparity": {"background": 0.1}})
    scene = draw_scene(spec, (64, 64), few, 0, "train", 0)
    ids = [foreground.asset for foreground in scene.foregrounds]
    assert len(ids) == 5
    assert len(set(ids)) == 2


def test_assets_are_drawn_by_weight():
    heavy = [asset("foreground", "train", 0, weight=3.0), asset("foreground", "train", 1, weight=1.0)]
    catalogue = Catalogue((*heavy, asset("background", "train", 0)))
    spec = SceneSpec.model_validate({"foregrounds": 1})
    picked = [draw_scene(spec, (64, 64), catalogue, 0, "train", i).foregrounds[0].asset[-1] for i in range(800)]
    assert abs(picked.count("0") - 600) < 4.5 * np.sqrt(800 * 3 / 16)


def test_number_of_foregrounds():
    _, scenes = draws("crowded", 700)
    counts = np.bincount([len(scene.foregrounds) for scene in scenes], minlength=7)
    assert len(counts) == 7
    assert np.abs(counts - 100).max() < 4.5 * np.sqrt(700 * 6 / 49)


# --- places


@EVERY_SPEC
def test_numbers_are_in_their_ranges(name):
    spec, scenes = draws(name)
    for scene in scenes:
        assert (scene.height, scene.width) == SPECS[name][1]
        back = scene.background
        assert back.zoom >= 1
        assert 0 <= back.u <= 1
        assert 0 <= back.v <= 1
        for one in scene.foregrounds:
            assert 0 <= one.x <= 1
            for value, distribution in ((one.scale, spec.scale), (one.rotation, spec.rotation)):
                low, high = bounds(distribution)
                assert low <= value <= high


def test_cutouts_share_the_picture_out():
    """Two cut-outs stand in different halves, either of them the nearer one, equally often."""
    _, scenes = draws("frontal")
    left = [min(one.x for one in scene.foregrounds) for scene in scenes]
    right = [max(one.x for one in scene.foregrounds) for scene in scenes]
    assert max(left) < 0.5 < min(right)
    nearer_left = sum(scene.foregrounds[0].x < 0.5 for scene in scenes)
    assert abs(nearer_left - DRAWS / 2) < 4.5 * np.sqrt(DRAWS) / 2


def test_flips_happen_half_of_the_time():
    _, scenes = draws("frontal")
    flips = sum(scene.background.flip for scene in scenes)
    assert abs(flips - DRAWS / 2) < 4.5 * np.sqrt(DRAWS) / 2
    never = SceneSpec.model_validate(PAPER | {"flip": 0})
    assert not any(draw_scene(never, (64, 64), CATALOGUE, 0, "train", i).background.flip for i in range(50))


# --- addresses


def test_a_draw_depends_on_nothing_but_its_address():
    spec = SceneSpec.model_validate(CROWDED)
    forward = [draw_scene(spec, (64, 64), CATALOGUE, 5, "train", index) for index in range(20)]
    backward = [draw_scene(spec, (64, 64), CATALOGUE, 5, "train", index) for index in reversed(range(20))]
    assert forward == backward[::-1]
    assert draw_scene(spec, (64, 64), CATALOGUE, 5, "train", 7) == forward[7]


def test_every_address_gives_another_scene():
    spec = SceneSpec.model_validate(PAPER)
    addresses = itertools.product([0, 1], ["train", "val"], range(40), range(2))
    scenes = {
        canonical_json(dataclasses.asdict(draw_scene(spec, (64, 64), CATALOGUE, seed, split, index, attempt)))
        for seed, split, index, attempt in addresses
    }
    assert len(scenes) == 2 * 2 * 40 * 2


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        ({"blur": {"kind": "loguniform", "low": 1, "high": 5}}, ("background", "foregrounds", "focus")),
        ({"focus": "background"}, ("background", "foregrounds", "blur")),
        ({"highlight_boost": 4.0}, ("background", "foregrounds", "focus", "blur")),
        ({"light_match": 0.0}, ("background", "foregrounds", "focus", "blur")),
    ],
)
def test_a_changed_key_leaves_other_choices_alone(change, stays):
    """Also within a stage a distribution of another kind consumes the same, so a study of one key compares pairs.

    Blur is kept small enough that neither the reach of the rays nor the room for tilts decides.
    """
    base = FRONTAL | {"unit": "px"}
    left, right = (SceneSpec.model_validate(values) for values in (base, base | change))
    for index in range(20):
        one, other = (draw_scene(spec, (64, 64), CATALOGUE, 0, "train", index) for spec in (left, right))
        for name in stays:
            assert getattr(one, name) == getattr(other, name), name


def test_stages_have_streams_of_their_own():
    """The lens does not depend on how much the scene consumed, nor the scene on the number of assets tried."""
    spec = SceneSpec.model_validate(PAPER)
    more = SceneSpec.model_validate(PAPER | {"foregrounds": 4})
    for index in range(20):
        one, other = (draw_scene(s, (512, 512), CATALOGUE, 0, "train", index) for s in (spec, more))
        assert one.blur == other.blur
        assert one.background.asset == other.background.asset
        assert one.blur == 32 * stream(0, "train", Stage.LENS, index).random()


# --- samples


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "r.yaml"
    path.write_text(
        "name: r\nsamples: {train: 40, val: 9}\nsize: 64\n"
        "scene: {foregrounds: {kind: choice, values: [0, 1, 2]}, foreground_tilt: 0.1, focus: pixel}\n"
    )
    return load_recipe(path)


@pytest.mark.parametrize("split", ["train", "val"])
def test_sample_draw_survives_json(recipe, split):
    for index in range(60):
        drawn = draw_sample(recipe, index, split)
        text = canonical_json(dataclasses.asdict(drawn) | {"composed": {"light_gains": [1.0]}})
        back = draw_from_meta({"draw": text})
        assert back == drawn
        again = canonical_json(dataclasses.asdict(back) | {"composed": {"light_gains": [1.0]}})
        assert again == text  # the same types too: 1 and 1.0 are equal and not the same bytes


def test_sample_draw_holds_plain_values_only(recipe):
    def check(value, place):
        assert type(value) in {dict, list, tuple, str, int, float, bool, type(None)}, (place, type(value))
        for key, item in (
            value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list | tuple) else ())
        ):
            check(item, f"{place}.{key}")

    for index in range(30):
        record = dataclasses.asdict(draw_sample(recipe, index))
        check(record, "draw")
        assert json.loads(canonical_json(record)) == json.loads(json.dumps(record))


def test_sample_seven_alone_is_sample_seven_of_a_run(recipe):
    run = [draw_sample(recipe, index) for index in range(10)]
    assert draw_sample(recipe, 7) == run[7]
    assert draw_sample(recipe, 7, "val") != run[7]
    assert draw_sample(recipe, 7, attempt=1) != run[7]


def test_indices_beyond_the_data_set_can_be_drawn(recipe):
    assert draw_sample(recipe, 10**9).index == 10**9


def test_splits_share_no_asset(recipe):
    pools = {
        split: {a.id for kind in ("foreground", "background") for a in recipe.catalogue.pool(kind, split)}
        for split in ("train", "val")
    }
    assert pools["train"]
    assert pools["val"]
    assert not pools["train"] & pools["val"]
    for split, pool in pools.items():
        for index in range(30):
            scene = draw_sample(recipe, index, split).scene
            assert {scene.background.asset, *(one.asset for one in scene.foregrounds)} <= pool


def test_bad_addresses(recipe):
    with pytest.raises(ValueError, match="index must be >= 0"):
        draw_sample(recipe, -1)
    with pytest.raises(ValueError, match="choose train or val"):
        draw_sample(recipe, 0, "test")
