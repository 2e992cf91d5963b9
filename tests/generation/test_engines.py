"""The check of a node on which an engine starts workers of a run."""

from dataclasses import replace
from pathlib import Path

import pytest

import bokehsynth as bs
from bokehsynth.errors import ChangedError, UsageError
from bokehsynth.generation.dataset_files import machines_of
from bokehsynth.generation.engines import NodeCheck
from bokehsynth.generation.provenance import describe_machine
from bokehsynth.shards import Layout


def test_a_node_that_does_not_see_the_set_ends_the_run(tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = bs.load_recipe(tiny_recipe)
    check = NodeCheck(describe_machine("cpu", recipe), allow_mixed=False, lock=True)
    with pytest.raises(UsageError, match="does not see the data set there; --out must be a folder that every node"):
        check(Layout(tmp_path), recipe, "cpu")
    bs.generate(tiny_recipe, tmp_path / "set", shards="0/9", workers=1)
    check(Layout(tmp_path / "set"), recipe, "cpu")
    other = replace(check, machine={**check.machine, "numpy": "1.0"})
    with pytest.raises(ChangedError, match=r'(?s)numpy: "1\.0" -> ".*--allow-mixed'):
        other(Layout(tmp_path / "set"), recipe, "cpu")
    replace(other, allow_mixed=True)(Layout(tmp_path / "set"), recipe, "cpu")
    assert machines_of(Layout(tmp_path / "set")) == [check.machine]  # of the run that began it, and the same here
