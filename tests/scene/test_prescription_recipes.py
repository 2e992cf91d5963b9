"""Real lenses in recipes: what is drawn, K and metres, what a data set keeps, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.errors import DataError, RecipeError, UsageError
from bokehsynth.pipeline import sample_from_draw
from bokehsynth.sample_draw import draw_from_meta
from bokehsynth.scene.compose import lens_of, possible_focus

HEAD = "name: r\nsamples: {train: 8}\nsize: [24, 36]\nshards: {samples: 4, fields: [hq, defocus, disparity]}\n"
LENS = Path(bs.__file__).parent / "optics" / "prescription" / "lenses" / "tessar-1903-f5.5.json"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache of traced tables for the module, away from the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "lens-cache"))


def recipe(tmp_path: Path, lens: str, scene: str = "{foregrounds: 1}") -> bs.Recipe:
    path = tmp_path / "r.yaml"
    path.write_text(HEAD + f"lens: {lens}\nscene: {scene}\n")
    return bs.load_recipe(path)


def few_rays(scene):
    return bs.render(scene.layers, scene.lens, scene.margin, "reference", 30)


def test_k_is_that_of_the_traced_lens_at_what_is_in_focus(tmp_path: Path) -> None:
    drawn = recipe(
        tmp_path,
        "{prescription: tessar-1903-f5.5, f_number: {kind: loguniform, low: 5.5, high: 7.7}, "
        "near_m: {kind: uniform, low: 1, high: 2}}",
    )
    tessar = bs.load_prescription("tessar-1903-f5.5")
    for index in range(2):
        draw = bs.draw_sample(drawn, index)
        assert draw.camera.focal_length_mm is None
        (focus,) = possible_focus(draw.scene, draw.scene.planes)
        lens = lens_of(draw.scene, focus, drawn.lens.scene_lens(0, draw.camera, (24, 36)), draw.scene.planes)
        near = draw.camera.near_m
        traced = tessar.at(f_number=draw.camera.f_number, focus_m=near / focus, near_m=near, size=(24, 36))
        assert lens.blur == pytest.approx(traced.blur, rel=1e-12)
        assert lens.focus == focus
        assert lens.blur <= drawn.radius_bound
        assert drawn.radius_bound < 1.5 * tessar.at(f_number=5.5, focus_m=1, near_m=1, size=(24, 36)).blur
        s = np.array([(0.0, 0.0), (0.7, 0.1), (-0.4, 0.6)])
        h = np.array([(0.1, 0.0), (0.5, 0.4), (-0.7, 0.2)])
        np.testing.assert_allclose(lens.aperture.aberration(s, h), traced.aperture.aberration(s, h), atol=0.01)


def test_metres_and_the_name_in_the_record(tmp_path: Path) -> None:
    drawn = recipe(tmp_path, "{prescription: tessar-1903-f5.5, near_m: 1.5, focus_m: 2}")
    sample = sample_from_draw(drawn, bs.draw_sample(drawn, 1), few_rays)
    assert sample.meta["aperture"] == "tessar-1903-f5.5"
    assert sample.meta["near_m"] == 1.5
    assert sample.meta["focus"] == 0.75
    np.testing.assert_allclose(
        sample.defocus, sample.meta["blur"] * np.abs(sample.disparity - 0.75), atol=2 * sample.meta["defocus_scale"]
    )
    assert draw_from_meta(json.loads(json.dumps(dict(sample.meta)))) == bs.draw_sample(drawn, 1)


def test_draws_are_those_that_the_recipe_can_make(tmp_path: Path) -> None:
    """What `replay` checks before it makes a sample of a data set of strangers."""
    from dataclasses import replace

    from bokehsynth.generation.replay import check_size
    from bokehsynth.sample_draw import check_draw

    for lens in (
        "{prescription: tessar-1903-f5.5, near_m: 1.5, focus_m: 2}",
        "{prescription: tessar-1903-f5.5, near_m: 1.5}",
        "{camera: {focal_length_mm: 50, f_number: 2, near_m: 1.5, focus_m: {kind: uniform, low: 2, high: 5}}}",
    ):
        drawn = recipe(tmp_path, lens)
        draw = bs.draw_sample(drawn, 1)
        meta = {"split": "train", "index": 1, "attempt": 0, "width": 36, "height": 24}
        check_draw(drawn, draw, meta)
        check_size(drawn, draw, "train-000000001")
        with pytest.raises(DataError, match=r"camera\.f_number"):
            check_draw(drawn, replace(draw, camera=replace(draw.camera, f_number=1.0)), meta)


def test_a_file_travels_in_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(LENS.read_text())
    mine = recipe(tmp_path, "{prescription: mine.json, near_m: 1}")
    packaged = recipe(tmp_path, "{prescription: tessar-1903-f5.5, near_m: 1}")
    assert mine.lens.digest == packaged.lens.digest
    assert packaged.model_dump(mode="json")["lens"]["prescription"] == "tessar-1903-f5.5"
    (tmp_path / "mine.json").unlink()
    (tmp_path / "again.yaml").write_text(mine.text())
    again = bs.load_recipe(tmp_path / "again.yaml")
    assert again.text() == mine.text()
    assert again.identity == mine.identity
    assert again.lens.real_lens == bs.load_prescription("tessar-1903-f5.5")
    changed = json.loads(LENS.read_text())
    changed["surfaces"][0]["radius"] += 0.001
    (tmp_path / "mine.json").write_text(json.dumps(changed))
    assert recipe(tmp_path, "{prescription: mine.json, near_m: 1}").lens.digest != mine.lens.digest


def test_every_packaged_lens_is_its_record() -> None:
    from bokehsynth.optics.prescription import packaged_lenses, read_prescription

    for name in packaged_lenses():
        lens = bs.load_prescription(name)
        assert read_prescription(json.loads(json.dumps(lens.record)), "record") == lens


def test_a_device_that_does_not_render_it_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bokehsynth.scene import lens_spec

    monkeypatch.setattr(lens_spec, "RENDERS_ALL", frozenset({"reference"}))
    drawn = recipe(tmp_path, "{prescription: tessar-1903-f5.5, near_m: 1}")
    with pytest.raises(UsageError, match=r"tessar-1903-f5\.5 is traced .* cpu does not render yet; reference can"):
        bs.generate(drawn, tmp_path / "set", workers=1, device="cpu")
    assert not (tmp_path / "set").exists()
    field = recipe(tmp_path, "{aperture: {kind: anamorphic, squeeze: 2, corner: 1.2}}")
    with pytest.raises(UsageError, match=r"anamorphic:2,corner=1\.2 has a weight that .*, which cuda"):
        field.lens.check_device("cuda")
    recipe(tmp_path, "{aperture: 'ring:0.4'}").lens.check_device("cuda")


@pytest.mark.parametrize(
    ("lens", "scene", "words"),
    [
        ("{prescription: tesar-1903-f5.5, near_m: 1}", None, r"no lens is named .*did you mean 'tessar-1903-f5\.5'"),
        ("{prescription: none.json, near_m: 1}", None, r"none\.json cannot be read: No such file"),
        ("{prescription: bad.json, near_m: 1}", None, r"bad\.json, surface 2: unknown key 'raduis' .*'radius'"),
        ("{prescription: tessar-1903-f5.5}", None, "needs near_m"),
        ("{prescription: tessar-1903-f5.5, near_m: 1, f_number: 4}", None, r"opens to f/5\.5, got f_number 4"),
        ("{prescription: tessar-1903-f5.5, near_m: 0.03}", None, r"focus_m must be beyond"),
        ("{prescription: tessar-1903-f5.5, near_m: 1, aperture: ring:0.4}", None, "has its own opening"),
        ("{prescription: tessar-1903-f5.5, near_m: 2, focus_m: 1}", None, "at least near_m"),
        ("{f_number: 4}", None, "f_number: belong to a prescription"),
        (
            "{prescription: tessar-1903-f5.5, near_m: 1, camera: {focal_length_mm: 50, f_number: 2, near_m: 1}}",
            None,
            "give one of them",
        ),
        ("{prescription: tessar-1903-f5.5, near_m: 1}", "{blur: 3}", r"leave scene\.blur out"),
        ("{prescription: {name: x}, near_m: 1}", None, "'focal_length_mm' is missing"),
        ("{prescription: tessar-1903-f5.5, near_m: 1}", "{kind: photo}", "needs layers"),
    ],
)
def test_lenses_that_cannot_be(tmp_path: Path, lens: str, scene: "str | None", words: str) -> None:
    (tmp_path / "bad.json").write_text(LENS.read_text().replace('"radius": 0.0', '"raduis": 0.0', 1))
    with pytest.raises(RecipeError, match=words):
        recipe(tmp_path, lens, scene or "{foregrounds: 1}")


def test_an_untrusted_set_reads_no_file(tmp_path: Path) -> None:
    """Validation alone, as `verify` does it, opens nothing that the recipe names."""
    from bokehsynth.config.strict_yaml import load_yaml
    from bokehsynth.recipe import Recipe

    (tmp_path / "r.yaml").write_text(HEAD + "lens: {prescription: /etc/hostname, near_m: 1}\n")
    spec = load_yaml(tmp_path / "r.yaml", Recipe).lens
    with pytest.raises(UsageError, match="its file was not read"):
        _ = spec.digest
    assert spec.portable["prescription"] == "/etc/hostname"
