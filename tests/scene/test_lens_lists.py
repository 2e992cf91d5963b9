"""Apertures by short texts, and lists of them: drawn, or swept through scene by scene."""

import json
from pathlib import Path

import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.lenses import Bubble, Heart
from bokehsynth.scene.lens_spec import LensSpec, read_aperture

HEAD = "name: r\nsamples: {train: 40}\nsize: 32\nscene: {foregrounds: 1}\nshards: {fields: [hq, aif]}\n"


def recipe(tmp_path: Path, lens: str) -> bs.Recipe:
    path = tmp_path / "r.yaml"
    path.write_text(HEAD + f"lens: {lens}\n")
    return bs.load_recipe(path)


@pytest.mark.parametrize(
    ("text", "aperture", "name"),
    [
        ("disc", bs.Disc(), "disc"),
        ("polygon:7", bs.Polygon(7), "polygon:7"),
        ("polygon:6,curvature=0.25,rotation=0.5", bs.Polygon(6, 0.5, 0.25), "polygon:6,rotation=0.5,curvature=0.25"),
        ("polygon: blades=5", bs.Polygon(5), "polygon:5"),
        ("ring:0.4", bs.Ring(0.4), "ring:0.4"),
        ("cat_eye:0.9,radius=1.1", bs.CatEye(0.9, 1.1), "cat_eye:0.9,radius=1.1"),
    ],
)
def test_short_texts(text: str, aperture: bs.Aperture, name: str) -> None:
    assert read_aperture(text) == aperture
    assert LensSpec(aperture=text).names == (name,)
    assert read_aperture(name) == aperture


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("polygon:2", "blades.*greater than or equal to 3"),
        ("polygon:", "polygon:.*blades.*required"),
        ("polygon:7,0.3", "needs its name, as in polygon:7,curvature=0.3"),
        ("ring:half", "inner must be a number, got 'half'"),
        ("ring:1", "inner.*less than 1"),
        ("hexagon", "use disc, polygon:BLADES"),
        ("nowhere.at:All", "cannot be loaded"),
        ("polygn:6", "did you mean 'polygon'"),
    ],
)
def test_wrong_texts(text: str, words: str) -> None:
    with pytest.raises(bs.UsageError, match=words):
        read_aperture(text)


def test_sweep_shows_every_scene_through_all(tmp_path: Path) -> None:
    swept = recipe(tmp_path, "{order: sweep, aperture: [disc, 'ring:0.5', 'polygon:3']}")
    draws = [bs.draw_sample(swept, index) for index in range(7)]
    assert [draw.aperture for draw in draws] == [0, 1, 2, 0, 1, 2, 0]
    assert draws[0].scene == draws[1].scene == draws[2].scene != draws[3].scene == draws[5].scene
    assert draws[0].degradation != draws[1].degradation
    made = [bs.make_sample(swept, index) for index in range(3)]
    assert [sample.meta["aperture"] for sample in made] == ["disc", "ring:0.5", "polygon:3"]
    np.testing.assert_array_equal(made[0].aif, made[2].aif)
    assert (made[0].hq != made[1].hq).any()


def test_random_draws_each_about_as_often(tmp_path: Path) -> None:
    drawn = recipe(tmp_path, "{aperture: [disc, 'ring:0.5', 'polygon:3', 'cat_eye:1']}")
    counts = np.bincount([bs.draw_sample(drawn, index).aperture for index in range(400)])
    assert counts.min() > 60  # of 100; 4.6 standard deviations
    single = recipe(tmp_path, "{aperture: disc}")
    assert bs.draw_sample(single, 5).scene == bs.draw_sample(drawn, 5).scene, "the scene does not hang on the lens"


def test_lists_have_an_identity(tmp_path: Path) -> None:
    digests = {
        recipe(tmp_path, lens).identity["lens_digest"]
        for lens in ("{aperture: disc}", "{aperture: [disc, 'ring:0.5']}", "{aperture: ['ring:0.5', disc]}")
    }
    assert len(digests) == 3
    assert recipe(tmp_path, "{aperture: [disc]}").identity["lens_digest"] in digests


def test_faults_in_a_list_are_placed(tmp_path: Path) -> None:
    with pytest.raises(bs.RecipeError, match=r"lens\.aperture\.1.*blades.*greater"):
        recipe(tmp_path, "{aperture: [disc, {kind: polygon, blades: 2}]}")


def test_replay_knows_the_aperture(tmp_path: Path) -> None:
    from bokehsynth.pipeline import sample_from_draw, scene_renderer
    from bokehsynth.sample_draw import draw_from_meta

    swept = recipe(tmp_path, "{order: sweep, aperture: [disc, 'ring:0.5']}")
    sample = bs.make_sample(swept, 3)
    again = sample_from_draw(swept, draw_from_meta(json.loads(json.dumps(dict(sample.meta)))), scene_renderer())
    np.testing.assert_array_equal(sample.hq, again.hq)


@pytest.mark.parametrize("aperture", [Heart(), Bubble()])
def test_lenses_that_come_with_the_package_keep_the_contract(aperture: bs.Aperture) -> None:
    assert bs.check_aperture(aperture).area > 0.5


def test_a_heart_stands_on_its_tip() -> None:
    """Behind the focus an opening is seen as drawn, y down: the widest part is above the middle."""
    y, x = np.mgrid[-1:1:101j, -1:1:101j]
    inside = Heart().inside(np.stack([x, y], axis=-1).reshape(-1, 2)).reshape(101, 101)
    widths = inside.sum(axis=1)
    assert widths[:50].sum() > widths[51:].sum()
    np.testing.assert_array_equal(inside, inside[:, ::-1])
    assert np.flatnonzero(widths)[-1] > 85
