"""The camera in a recipe: numbers in millimetres and metres, K from them, metric depth out."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.errors import RecipeError
from bokehsynth.sample_draw import draw_from_meta
from bokehsynth.scene.camera import SceneLens
from bokehsynth.scene.compose import lens_of, possible_focus

HEAD = "name: r\nsamples: {train: 40}\nsize: [48, 64]\nshards: {samples: 4, fields: [hq, defocus, disparity]}\n"
CAMERA = "{camera: {focal_length_mm: 50, f_number: 1.8, near_m: 1.5}}"


def recipe(tmp_path: Path, lens: str, scene: str = "{foregrounds: 1}") -> bs.Recipe:
    path = tmp_path / "r.yaml"
    path.write_text(HEAD + f"lens: {lens}\nscene: {scene}\n")
    return bs.load_recipe(path)


def test_k_is_the_camera_formula_at_what_is_in_focus(tmp_path: Path) -> None:
    """K = W/w f^2 S1 / (2 N (S1 - f)) / near, S1 = near / d_f, with numbers drawn for every sample."""
    drawn = recipe(
        tmp_path,
        "{aperture: [disc, 'polygon:6'], camera: {focal_length_mm: {kind: uniform, low: 35, high: 85}, "
        "f_number: {kind: choice, values: [1.4, 2, 4]}, near_m: {kind: loguniform, low: 0.5, high: 4}, "
        "sensor_width_mm: 24}}",
    )
    seen = set()
    for index in range(40):
        draw = bs.draw_sample(drawn, index)
        camera = draw.camera
        assert 35 <= camera.focal_length_mm < 85
        assert camera.f_number in {1.4, 2, 4}
        assert draw.scene.blur is None
        seen.add((camera.f_number, camera.focal_length_mm, camera.near_m))
        (focus,) = possible_focus(draw.scene, draw.scene.planes)
        lens = lens_of(draw.scene, focus, drawn.lens.scene_lens(draw.aperture, camera), draw.scene.planes)
        f, s1 = camera.focal_length_mm / 1000, camera.near_m / focus if focus else math.inf
        stretch = s1 / (s1 - f) if focus else 1
        expected = 64 / 0.024 * f * f * stretch / (2 * camera.f_number) / camera.near_m
        assert lens.blur == pytest.approx(expected, rel=1e-12)
        assert lens.focus == focus
        assert lens.blur <= drawn.radius_bound * (1 + 1e-12)
        assert lens.aperture == drawn.lens.apertures[draw.aperture]
    assert len(seen) == 40
    assert drawn.scales["defocus_scale"] * 65535 == pytest.approx(64 / 0.024 * 0.085**2 / 2.8 / 0.5 * 0.5 / 0.415)


def test_the_scene_is_that_of_the_same_recipe_without_a_camera(tmp_path: Path) -> None:
    with_camera, without = recipe(tmp_path, CAMERA), recipe(tmp_path, "{aperture: disc}")
    one, other = bs.draw_sample(with_camera, 7), bs.draw_sample(without, 7)
    assert one.scene.focus == other.scene.focus
    assert one.scene.assets == other.scene.assets
    assert other.camera is None
    assert other.scene.blur is not None


def test_metres_in_the_record(tmp_path: Path) -> None:
    """near_m / disparity is the distance, radius that of the thin lens at it; the draw is read back as it was."""
    drawn = recipe(tmp_path, "{camera: {focal_length_mm: 85, f_number: 1.4, near_m: 2, focus_m: 3}}")
    sample = bs.make_sample(drawn, 3, backend="cpu")
    meta = sample.meta
    assert meta["near_m"] == 2.0
    assert meta["focus"] == pytest.approx(2 / 3)
    distance = meta["near_m"] / np.maximum(sample.disparity, 1e-9)
    f = 0.085
    radius = 64 / 0.036 * f * f / 2.8 * np.abs(1 / distance - 1 / 3) / (1 - f / 3)
    np.testing.assert_allclose(sample.defocus, radius, atol=2 * meta["blur"] / 65535 + 2 * meta["defocus_scale"])
    assert draw_from_meta(json.loads(json.dumps(dict(meta)))) == bs.draw_sample(drawn, 3)


def test_recipes_without_a_camera_keep_their_bytes(tmp_path: Path) -> None:
    plain = recipe(tmp_path, "{aperture: disc}")
    assert set(plain.model_dump(mode="json")["lens"]) == {"aperture", "order"}
    sample = bs.make_sample(plain, 0, backend="cpu")
    assert "near_m" not in sample.meta
    assert "camera" not in json.loads(sample.meta["draw"])


def test_the_resolved_recipe_is_read_back(tmp_path: Path) -> None:
    first = recipe(tmp_path, CAMERA)
    (tmp_path / "again.yaml").write_text(first.text())
    again = bs.load_recipe(tmp_path / "again.yaml")
    assert again.text() == first.text()
    assert again.digest == first.digest
    assert first.digest != recipe(tmp_path, CAMERA.replace("1.8", "2")).digest


def test_planes_are_tilted_less_where_a_camera_would_make_them_too_steep(tmp_path: Path) -> None:
    """K of about 2,700 px at 64 px: every margin stays that of K * slope <= 0.5."""
    drawn = recipe(
        tmp_path,
        "{camera: {focal_length_mm: 400, f_number: 1, near_m: 1, sensor_width_mm: 36}}",
        "{foregrounds: 1, background_tilt: 0.2, foreground_tilt: 0.1, disparity: {background: 0.3}}",
    )
    for index in range(8):
        draw = bs.draw_sample(drawn, index)
        slopes = [plane.slope for plane in draw.scene.planes]
        assert max(slopes) > 0
        assert max(slopes) * drawn.radius_bound <= 0.5 * (1 + 1e-12)


def test_a_data_set_with_metres(tmp_path: Path) -> None:
    from bokehsynth.generation.estimate import estimate
    from bokehsynth.generation.replay import replay_sample
    from bokehsynth.generation.verify import verify

    drawn = recipe(tmp_path, CAMERA).model_copy(update={})
    drawn = bs.load_recipe(tmp_path / "r.yaml", total=4)
    assert {d.name for d in estimate(drawn).distributions} >= {"K", "focus"}
    bs.generate(drawn, tmp_path / "set", workers=1, device="cpu")
    assert verify(tmp_path / "set").ok
    data = bs.open_dataset(tmp_path / "set")
    assert {sample.meta["near_m"] for sample in data} == {1.5}
    assert replay_sample(tmp_path / "set", "train-000000002", "cpu")[2] == {}


@pytest.mark.parametrize(
    ("lens", "scene", "words"),
    [
        ("{camera: {focal_length_mm: 50, f_number: 2}}", None, r"lens\.camera\.near_m: this key is required"),
        ("{camera: {focal_lenght_mm: 50, f_number: 2, near_m: 1}}", None, "did you mean 'focal_length_mm'"),
        ("{camera: {focal_length_mm: 50, f_number: 0.2, near_m: 1}}", None, r"must stay within 0\.5..128"),
        ("{camera: {focal_length_mm: 500, f_number: 4, near_m: 0.5}}", None, "near_m .* beyond the focal length"),
        ("{camera: {focal_length_mm: 50, f_number: 2, near_m: 2, focus_m: 1}}", None, "focus_m .* at least near_m"),
        (CAMERA, "{foregrounds: 1, blur: 16}", r"scene\.blur: K follows from the lens's camera; leave scene\.blur out"),
        (CAMERA.replace("}}", ", focus_m: 3}}"), "{foregrounds: 1, focus: 0.5}", r"scene\.focus: .*focus_m"),
        (CAMERA, "{kind: photo}", "a camera needs layers"),
    ],
)
def test_cameras_that_cannot_be(tmp_path: Path, lens: str, scene: "str | None", words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        recipe(tmp_path, lens, scene or "{foregrounds: 1}")


def test_an_ideal_lens_focused_at_infinity() -> None:
    near, far = (
        bs.Lens.from_camera(
            focal_length_mm=50, f_number=2, focus_distance_m=s1, sensor_width_mm=36, image_width_px=360, near_m=1
        )
        for s1 in (1e9, math.inf)
    )
    assert far.focus == 0
    assert far.blur == pytest.approx(near.blur, rel=1e-6)
    assert SceneLens().aperture == bs.Disc()
