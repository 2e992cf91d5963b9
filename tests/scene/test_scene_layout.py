"""Layouts of one's own: where a class puts the layers of a scene."""

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bokehsynth as bs
from bokehsynth.config.user_code import UntrustedCodeError, user_code
from bokehsynth.errors import DataError, UsageError
from bokehsynth.recipe import Recipe
from bokehsynth.scene.check_draw import check_scene_draw
from bokehsynth.scene.draw import disparity_gradient

MODULE = """
import numpy as np

ANSWER = None

class Fixed:
    def place(self, rng, scene):
        return ANSWER

class Ladder:
    def place(self, rng, scene):
        assert scene.height == 32 and scene.width == 48 and scene.background.id
        count = len(scene.foregrounds)
        steps = [{"disparity": np.float32(0.25 * (i + 1)), "x": i / 4, "flip": True} for i in range(count)]
        return {"background": {"disparity": 0.5 * rng.random(), "zoom": 2, "tilt": 0.0}, "foregrounds": steps}

class Tilted:
    def place(self, rng, scene):
        layer = {"disparity": 0.5, "tilt": 1, "tilt_angle": 30.0}
        return {"background": layer, "foregrounds": [layer for _ in scene.foregrounds]}

class NoPlace:
    pass
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The module `placed` on the path."""
    path = tmp_path / "placed.py"
    path.write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield path
    sys.modules.pop("placed", None)


def recipe_of(layout: str | None, **more: Any) -> Recipe:
    scene = {"foregrounds": 3} | ({} if layout is None else {"layout": layout}) | more.pop("scene", {})
    whole = {"name": "own", "samples": {"train": 2}, "size": [32, 48], "scene": scene, "degradation": "none"}
    return Recipe.model_validate(whole | more)


def check(recipe: Recipe, draw: Any) -> None:
    check_scene_draw(recipe.scene, draw, recipe.frame, recipe.catalogue, "train")


def test_layers_stand_where_it_says_and_the_rest_is_drawn_as_ever() -> None:
    usual, recipe = bs.draw_sample(recipe_of(None), 1).scene, recipe_of("placed:Ladder")
    draw = bs.draw_sample(recipe, 1).scene
    assert [f.plane.d for f in draw.foregrounds] == [0.75, 0.5, 0.25], "near to far"
    assert [(f.x, f.flip) for f in draw.foregrounds] == [(0.5, True), (0.25, True), (0.0, True)]
    assert draw.background.zoom == 2.0
    by_asset = {f.asset: f for f in usual.foregrounds}
    for foreground in draw.foregrounds:
        there = by_asset[foreground.asset]
        assert (foreground.scale, foreground.bottom, foreground.rotation) == (there.scale, there.bottom, there.rotation)
    assert (draw.blur, draw.background.u) == (usual.blur, usual.background.u)
    assert draw.focus.disparity in {*(f.plane.d for f in draw.foregrounds), draw.background.plane.d}
    assert bs.draw_sample(recipe, 1).scene == draw
    assert bs.draw_sample(recipe, 0).scene.background.plane.d != draw.background.plane.d
    check(recipe, draw)


def test_a_record_must_stay_within_what_a_layout_may_say() -> None:
    recipe = recipe_of("placed:Ladder")
    draw = bs.draw_sample(recipe, 0).scene
    check(recipe, replace(draw, foregrounds=[replace(f, x=-0.9, bottom=2.5, rotation=170.0) for f in draw.foregrounds]))
    for name, value in {"x": 2.5, "bottom": -2.0, "scale": 5.0, "rotation": 200.0, "exposure": 7.0}.items():
        with pytest.raises(DataError, match=f"{name} must lie in"):
            check(recipe, replace(draw, foregrounds=[replace(f, **{name: value}) for f in draw.foregrounds]))
    with pytest.raises(DataError, match=r"zoom must lie in 1..1\.25"):
        check(recipe_of(None), draw)


def test_planes_that_cross_are_rendered_and_steep_ones_keep_to_a_camera() -> None:
    sample = bs.make_sample(recipe_of("placed:Tilted"), 0, backend="cpu")
    assert sample.disparity.max() > 0.9
    assert sample.disparity.min() < 0.1
    camera = {"focal_length_mm": 200.0, "f_number": 1.2, "near_m": 0.8, "sensor_width_mm": 36.0}
    recipe = recipe_of("placed:Tilted", lens={"camera": camera}, size=[64, 96])
    (slope,) = {layer.plane.slope for layer in bs.draw_sample(recipe, 0).scene.foregrounds}
    assert slope == pytest.approx(0.5 / recipe.radius_bound)
    assert slope < 0.9 * math.hypot(*disparity_gradient(1, 30.0, 64, 96)), "it is eased"
    assert len(bs.compose_sample(recipe, 0).scene.layers) == 4


def test_what_is_seen_at_a_pixel_is_the_nearest_there_also_where_planes_cross() -> None:
    """The background comes nearer downwards and hides the lower half of every cut-out."""
    recipe = recipe_of("placed:Fixed", scene={"focus": "pixel"})
    answer = {"background": {"disparity": 0.4, "tilt": 0.8, "tilt_angle": 90}, "foregrounds": [{"disparity": 0.5}] * 3}
    sys.modules["placed"].ANSWER = answer
    hidden = 0
    for index in range(4):
        composed = bs.compose_sample(recipe, index)
        focus, background = composed.draw.scene.focus, composed.draw.scene.background
        there = background.plane.at(focus.x - 23.5, focus.y - 15.5)
        if there > 0.5:
            assert composed.scene.lens.focus == there
        hidden += there > 0.5
    assert hidden > 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, r"returned no such dict: .*\(got None\)"),
        ({"background": {"disparity": 0.1}}, "returned foregrounds: Field required"),
        ({"background": {"disparity": 0.1}, "foregrounds": []}, "must return 3 foregrounds.*got 0"),
        ({"background": {}, "foregrounds": []}, "returned background.disparity: Field required"),
        ({"background": {"disparity": 2.0}, "foregrounds": []}, "background.disparity: .*less than or equal to 1"),
        ({"background": {"disparity": float("nan")}, "foregrounds": []}, r"background.disparity: .*\(got nan\)"),
        ({"background": {"disparity": 0.1, "tilt": 0.3}, "foregrounds": []}, r"this is -0.05..0.25"),
        ({"background": {"disparity": 0.1, "depth": 1}, "foregrounds": []}, "background.depth: Extra inputs"),
        ({"background": {"disparity": 0.1, "zoom": 1e9}, "foregrounds": []}, "background.zoom: .*equal to 2"),
        ({"background": {"disparity": 0.1}, "foregrounds": [{"disparity": 0.5, "x": "left"}]}, "foregrounds.0.x: "),
    ],
)
def test_an_answer_that_is_none_is_named(answer: Any, words: str) -> None:
    recipe = recipe_of("placed:Fixed")
    sys.modules["placed"].ANSWER = answer
    with pytest.raises(UsageError, match=f"scene layout 'placed:Fixed': place\\(\\) .*{words}"):
        bs.draw_sample(recipe, 0)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("ladder", "must be written as package.module:Class, got 'ladder'"),
        ("nowhere:Row", "scene layout 'nowhere:Row': cannot import module 'nowhere'"),
        ("placed:Missing", "has no class 'Missing'"),
        ("placed:NoPlace", "has no method place"),
    ],
)
def test_a_class_that_is_none_is_a_fault_of_the_recipe(path: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        recipe_of(path)


def test_its_code_is_part_of_the_recipes_digest_and_needs_trust(module: Path) -> None:
    recipe = recipe_of("placed:Ladder")
    digest, plain = recipe.digest, recipe_of(None)
    assert recipe.class_paths == ["placed:Ladder"]
    assert "layout" not in plain.text(), "sets without a layout keep their bytes"
    module.write_text(MODULE + "# changed\n")
    sys.modules.pop("placed")
    assert recipe_of("placed:Ladder").digest != digest
    sys.modules.pop("placed")
    with user_code(trusted=False):
        there = recipe_of("placed:Ladder")
        with pytest.raises(UntrustedCodeError, match="placed:Ladder"):
            _ = there.digest
        assert there.portable_dict == recipe.portable_dict
    assert "placed" not in sys.modules
