"""Sources of pictures that a class of the user's draws."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.assets.load.class_pictures import MOST_PICTURES, class_size, draw_cutout, draw_landscape
from bokehsynth.assets.load.store import AssetStore
from bokehsynth.assets.spec import AssetsSpec
from bokehsynth.config.user_code import UntrustedCodeError, user_code
from bokehsynth.errors import RecipeError, UsageError
from bokehsynth.generation.picture_cost import _sides, picture_seconds
from bokehsynth.recipe import Recipe

MODULE = """
import numpy as np

class Solid:
    def draw(self, rng, size):
        return np.concatenate([np.full((size, size // 2, 3), rng.random()), np.ones((size, size // 2, 1))], axis=2)

class Sky:
    calls = 0
    def draw(self, rng, size):
        Sky.calls += 1
        self.__class__.kept = np.full((size, 2 * size, 3), rng.random())
        return self.kept

class NoDraw:
    pass

class Grey:
    def draw(self, rng, size):
        return np.ones((size, size))

class Bytes:
    def draw(self, rng, size):
        return np.ones((size, size, 4), np.uint8)

class Opaque:
    def draw(self, rng, size):
        return np.ones((size, size, 3))

class Clear:
    def draw(self, rng, size):
        return np.zeros((size, size, 4))

class Dense:
    def draw(self, rng, size):
        return np.full((size, size, 4), 1.5)

class Holes:
    def draw(self, rng, size):
        return np.full((size, size, 4), np.nan)

class Sun:
    def draw(self, rng, size):
        return np.full((size, size, 4), 1e9)

class Line:
    def draw(self, rng, size):
        return np.ones((1, size, 4))

class Nothing:
    def draw(self, rng, size):
        return None
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The module `drawn` on the path."""
    path = tmp_path / "drawn.py"
    path.write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield path
    sys.modules.pop("drawn", None)


def recipe_of(**assets: object) -> Recipe:
    return Recipe.model_validate({"name": "own", "samples": {"train": 2, "val": 1}, "size": 32, "assets": assets})


def test_the_list_has_as_many_pictures_as_it_says_beside_others() -> None:
    recipe = recipe_of(
        foregrounds=["procedural/fur", {"path": "drawn:Solid", "limit": 30, "licence": "CC0", "weight": 3.0}],
        backgrounds="drawn:Sky",
    )
    own = [asset for asset in recipe.catalogue.assets if ":" in asset.id]
    assert [asset.id for asset in own if asset.kind == "foreground"] == [f"drawn:Solid/{i:04d}" for i in range(30)]
    assert len(own) == 54
    assert {(asset.licence, asset.weight) for asset in own} == {("CC0", 3.0), ("unknown", 1.0)}
    assert {asset.split for asset in own} == {"train", "val"}
    assert sorted(recipe.class_paths) == ["drawn:Sky", "drawn:Solid"]
    assert "drawn:Solid" in json.dumps(recipe.portable_dict), "a class is no place on this machine"


def test_a_picture_is_the_same_subject_at_every_size_and_kept_in_memory_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe = recipe_of(foregrounds="drawn:Solid", backgrounds="drawn:Sky")
    store = AssetStore(recipe.catalogue)
    one, two = store.cutout("drawn:Solid/0001", 60), store.cutout("drawn:Solid/0001", 100)
    assert (one.alpha.shape, two.alpha.shape) == ((64, 32), (128, 64))
    assert one.color[0, 0, 0] == two.color[0, 0, 0] != store.cutout("drawn:Solid/0002", 60).color[0, 0, 0]
    sky = store.landscape("drawn:Sky/0003", 60)
    assert store.landscape("drawn:Sky/0003", 60) is sky
    import drawn

    assert drawn.Sky.calls == 1
    drawn.Sky.kept[:] = 7
    assert sky.color.max() <= 1, "the class has no hold of what is cached"
    assert not (tmp_path / "cache").exists()
    assert store.photo("drawn:Sky/0003", 1 << 30).shape[0] == 1024
    assert class_size(1 << 30) == 4096


def test_photographs_may_be_drawn(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({
        "name": "own", "samples": {"train": 2}, "size": 32, "assets": {"photos": "drawn:Sky"},
        "scene": {"kind": "photo"}, "degradation": "none", "shards": {"fields": ["lq", "hq"]},
    })  # fmt: skip
    sample = bs.make_sample(recipe, 0, backend="cpu")
    assert sample.meta["assets"][0].startswith("drawn:Sky/")
    assert sample.hq.shape == (32, 32, 3)


def test_an_estimate_draws_one_picture_of_each_size_and_survives_what_a_class_raises() -> None:
    recipe = recipe_of(foregrounds="drawn:Grey", backgrounds="drawn:Sky")
    draws = [bs.draw_sample(recipe, index) for index in range(3)]
    assert picture_seconds(recipe, draws) > 0
    sizes = {class_size(side) for draw in draws for kind, side in _sides(recipe, draw) if kind == "background"}
    assert sys.modules["drawn"].Sky.calls == len(sizes)


def test_the_code_is_part_of_the_identity(module: Path) -> None:
    before = recipe_of(foregrounds="drawn:Solid")
    digests = before.identity
    module.write_text(MODULE + "# changed\n")
    sys.modules.pop("drawn")
    after = recipe_of(foregrounds="drawn:Solid").identity
    assert {name for name in after if after[name] != digests[name]} == {"assets_digest"}


def test_nothing_is_imported_where_it_is_not_trusted() -> None:
    with user_code(trusted=False):
        recipe = recipe_of(foregrounds="drawn:Solid")
        with pytest.raises(UntrustedCodeError, match="drawn:Solid"):
            _ = recipe.catalogue
        with pytest.raises(UntrustedCodeError, match="drawn:Solid"):
            draw_cutout("drawn:Solid/0000", 64)
    assert "drawn" not in sys.modules


@pytest.mark.parametrize(
    ("assets", "words"),
    [
        ({"foregrounds": {"path": "drawn:Solid", "credits": "c.csv"}}, "credits: drawn:Solid is a class"),
        ({"foregrounds": {"path": "drawn:Solid", "first": 3}}, "first: drawn:Solid is a class"),
        ({"foregrounds": {"path": "drawn:Solid", "quality": {"min_side": 9}}}, "quality: drawn:Solid is a class"),
        ({"foregrounds": {"path": "drawn:Solid", "colors": "straight"}}, "draws straight colour"),
        ({"foregrounds": "drawn:Solid", "backgrounds": "drawn:Solid"}, "write a second class"),
        ({"pairs": "drawn:Solid"}, "pairs are photographed"),
    ],
)
def test_keys_that_a_class_has_no_use_for(assets: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AssetsSpec.model_validate(assets)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere.at:All", "cannot import module 'nowhere.at'.*is written ./nowhere.at:All"),
        ("drawn:Missing", "has no class 'Missing'"),
        ("drawn:NoDraw", "has no method draw"),
    ],
)
def test_a_class_that_is_none_ends_the_run_before_it_begins(path: str, words: str) -> None:
    with pytest.raises(RecipeError, match=f"assets.foregrounds: picture source .*{words}"):
        _ = recipe_of(foregrounds=path).catalogue


def test_a_class_draws_a_bounded_number() -> None:
    with pytest.raises(RecipeError, match=f"limit is {MOST_PICTURES + 1}, and a class draws at most {MOST_PICTURES}"):
        _ = recipe_of(foregrounds={"path": "drawn:Solid", "limit": MOST_PICTURES + 1}).catalogue


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Grey", r"float \[h, w, 4\].*got float64 \[64, 64\]"),
        ("Bytes", r"got uint8 \[64, 64, 4\]"),
        ("Opaque", r"got float64 \[64, 64, 3\]"),
        ("Nothing", r"got object \[\]"),
        ("Clear", r"alpha must lie in 0..1 and reach 0.1, got up to 0"),
        ("Dense", r"alpha must lie in 0..1 and reach 0.1, got up to 1.5"),
        ("Holes", r"in 0..1000; got nan..nan"),
        ("Sun", r"in 0..1000; got 1e\+09..1e\+09"),
        ("Line", r"with sides of 2 px and more.*got \[1, 64, 4\]"),
    ],
)
def test_what_is_no_cutout_is_named(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=f"picture source 'drawn:{name}'.*{words}.* in drawn:{name}/0007"):
        draw_cutout(f"drawn:{name}/0007", 64)


def test_what_is_no_landscape_is_named() -> None:
    with pytest.raises(UsageError, match=r"float \[h, w, 3\], a landscape's colour; got float64 \[64, 32, 4\]"):
        draw_landscape("drawn:Solid/0000", 64)
    assert np.isfinite(draw_landscape("drawn:Sky/0000", 64).color).all()
