"""The example of docs/recipes.md, "Pictures and layouts of your own", made by workers and made again."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.small_set import RECIPE, make_small_set

import bokehsynth as bs
from bokehsynth.config.user_code import UntrustedCodeError
from bokehsynth.errors import ChangedError, RecipeError
from bokehsynth.generation.audit import audit
from bokehsynth.generation.extend import extend
from bokehsynth.generation.generate import GenerateOptions
from bokehsynth.generation.replay import replay_sample
from bokehsynth.generation.verify import verify

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
FAILING = """

class Failing(Discs):
    def draw(self, rng, size):
        if rng.random() < 0.7:
            raise ValueError("no disc today")
        return super().draw(rng, size)
"""


def _example(language: str, name: str) -> str:
    (text,) = re.findall(rf"```{language}\n(# {name}\n.*?)```", PAGE, re.DOTALL)
    return str(text)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files of the example, on the path."""
    (tmp_path / "my_scenes.py").write_text(_example("python", "my_scenes.py"))
    (tmp_path / "my.yaml").write_text(_example("yaml", "my.yaml"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("my_scenes", None)


def test_the_example_is_a_data_set(folder: Path) -> None:
    """Two workers; draws in which a class raises are quarantined; replay, audit, verify, and code that changes."""
    code = folder / "my_scenes.py"
    assert len(code.read_text().splitlines()) <= 32
    code.write_text(code.read_text() + FAILING)
    recipe = folder / "my.yaml"
    recipe.write_text(recipe.read_text().replace("procedural]", '"my_scenes:Failing"]'))
    made = bs.generate(recipe, folder / "set", workers=2)
    assert made.complete
    assert {(draw.reason, draw.message) for draw in made.quarantined} == {("raised", "ValueError: no disc today")}

    loaded = bs.load_recipe(recipe)
    for index, sample in enumerate(bs.open_dataset(folder / "set")):
        assert {name.partition("/")[0] for name in sample.meta["assets"]} <= set(loaded.class_paths)
        if index % 3 == 0:
            remade = bs.make_sample(loaded, index, backend="cpu")
            assert remade.meta == sample.meta
            assert all((remade[name] == sample[name]).all() for name in sample.arrays)

    with pytest.raises(UntrustedCodeError, match=r"my_scenes:Discs.*my_scenes:Row"):
        replay_sample(folder / "set", "train-000000003")
    assert replay_sample(folder / "set", "train-000000003", trust_code=True)[2] == {}
    assert audit(folder / "set", 1, seed=1, trust_code=True).differing == {}
    assert set(verify(folder / "set").not_compared) == set(loaded.class_paths)
    assert verify(folder / "set", trust_code=True).ok

    code.write_text(code.read_text() + "# a change\n")
    del sys.modules["my_scenes"]
    faults = " ".join(fault.message for fault in verify(folder / "set", trust_code=True).faults)
    assert "the code of my_scenes:Waves is not the code it was made with" in faults
    assert "recipe_digest differs" in faults
    with pytest.raises(ChangedError, match="the code of my_scenes:Discs is another"):
        bs.generate(recipe, folder / "set", workers=1)
    code.write_text("class Row:\n    place = print\n")
    del sys.modules["my_scenes"]
    with pytest.raises(
        RecipeError, match=r"picture source 'my_scenes:Discs': module 'my_scenes' has no class 'Discs'$"
    ):
        replay_sample(folder / "set", "train-000000003", trust_code=True)


def test_a_layout_that_changes_is_told(folder: Path) -> None:
    make_small_set(folder / "set", RECIPE.replace("foregrounds: 1", "foregrounds: 1, layout: 'my_scenes:Row'"))
    code = folder / "my_scenes.py"
    code.write_text(code.read_text().replace("0.9 - 0.6", "0.8 - 0.5"))
    del sys.modules["my_scenes"]
    with pytest.raises(ChangedError, match="another recipe, or other code of my_scenes:Row"):
        extend(folder / "set", 2, GenerateOptions(workers=1), trust_code=True)
