"""Unlikely recipes, drawn from the schema: a valid one makes a sample, another is told what is wrong.

Exit code 0 or 2, with the file, the key's path and the nearest valid name; never a traceback.
"""

import contextlib
import io
import json
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest
from harness import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bokehsynth.cli import main
from bokehsynth.recipe import Recipe

SCHEMA = Recipe.model_json_schema()

# Kept small, so that an example takes milliseconds; everything else is as the schema has it.
TAME = {
    "name": st.just("fuzz"),
    "size": st.sampled_from([16, 24, [16, 32], [40, 20]]),
    "samples": st.fixed_dictionaries({"train": st.integers(0, 3), "val": st.integers(0, 2)}),
    "path": st.sampled_from(["procedural", "procedural/fur", "chaos_faults:Fault"]),
    "blur": st.one_of(
        st.floats(0, 80), st.builds(lambda low: {"kind": "uniform", "low": low, "high": 90}, st.floats(0, 80))
    ),
    "foregrounds": st.one_of(st.integers(0, 3), st.just(["procedural"])),
    "backgrounds": st.just(["procedural"]),
    "aperture": st.sampled_from(["disc", {"kind": "polygon", "blades": 6}, {"kind": "ring", "inner": 0.5}]),
}


@cache
def definition(name: str) -> st.SearchStrategy:
    return st.deferred(lambda: values(SCHEMA["$defs"][name]))


def values(node: dict, key: str = "") -> st.SearchStrategy:
    """What the schema allows at a place, and now and then a little more: bounds between keys are not in a schema."""
    if key in TAME:
        return TAME[key]
    if "$ref" in node:
        return definition(node["$ref"].rpartition("/")[2])
    for several in ("anyOf", "oneOf"):
        if several in node:
            return st.one_of([values(option) for option in node[several]])
    if "const" in node:
        return st.just(node["const"])
    if "enum" in node:
        return st.sampled_from(node["enum"])
    kind = node.get("type")
    if kind == "object":
        required = {name: values(part, name) for name, part in node.get("properties", {}).items()
                    if name in node.get("required", ()) or name == "kind"}  # fmt: skip
        optional = {
            name: values(part, name) for name, part in node.get("properties", {}).items() if name not in required
        }
        return st.fixed_dictionaries(required, optional=optional)
    if kind == "array":
        if "prefixItems" in node:
            parts = st.tuples(*[values(part) for part in node["prefixItems"]])
            return parts.map(lambda pair: sorted(pair, key=float) if all(map(_number, pair)) else list(pair))
        return st.lists(values(node.get("items", {})), min_size=node.get("minItems", 0), max_size=3)
    if kind in {"integer", "number"}:
        low = node.get("minimum", node.get("exclusiveMinimum", -4))
        high = node.get("maximum", node.get("exclusiveMaximum", low + 40))
        if kind == "integer":
            return st.integers(low, min(high, low + 60))
        return st.floats(low, high, allow_nan=False).map(lambda value: round(value, 4))
    return {"boolean": st.booleans(), "null": st.none()}.get(kind, st.text(max_size=8))


def _number(value: object) -> bool:
    return isinstance(value, int | float)


def places(value: object, path: tuple = ()) -> list[tuple]:
    """The path of every table and leaf."""
    found = [path]
    if isinstance(value, dict):
        for key, part in value.items():
            found += places(part, (*path, key))
    return found


@st.composite
def recipes(draw: st.DrawFn) -> dict:
    """A recipe by the schema, now and then with one thing in it that does not belong."""
    recipe = {"name": "fuzz", "samples": {"train": 1}, "size": 24} | draw(values(SCHEMA))
    if draw(st.integers(0, 2)) == 0:
        path = draw(st.sampled_from([path for path in places(recipe) if path]))
        table = recipe
        for key in path[:-1]:
            table = table[key]
        junk = [None, "?", -1, 1e300, float("nan"), float("inf"), True, [], {}, [[]], "1e-4", 10**30, "\u202e\x00"]
        if draw(st.booleans()):
            table[path[-1]] = draw(st.sampled_from(junk))
        else:
            table[f"{path[-1]}s"] = table.pop(path[-1])
    return recipe


def try_out(recipe: dict, folder: Path) -> tuple[int, str]:
    """The command's exit code and words for a recipe, as `bokehsynth preview RECIPE --count 1` gives them."""
    path = folder / "fuzz.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    before, sys.argv = sys.argv, ["bokehsynth", "preview", str(path), "--count", "1", "--out", str(folder / "x.png")]
    words = io.StringIO()
    try:
        with (
            contextlib.redirect_stderr(words),
            contextlib.redirect_stdout(io.StringIO()),
            pytest.raises(SystemExit) as end,
        ):
            main()
    finally:
        sys.argv = before
    return end.value.code, words.getvalue()


def check(recipe: dict) -> None:
    with tempfile.TemporaryDirectory() as folder:
        code, words = try_out(recipe, Path(folder))
        assert code in {0, 2}, words
        assert "Traceback" not in words
        if code == 2:
            assert f"{folder}/fuzz.yaml" in words or "assets" in words, words
            assert any(key in words for key in (*SCHEMA["properties"], "unknown key", "YAML")), words
        else:
            assert (Path(folder) / "x.png").stat().st_size > 0


quietly = settings(suppress_health_check=list(HealthCheck), deadline=None)


@settings(quietly, max_examples=30)
@given(recipes())
def test_a_recipe_works_or_says_what_is_wrong(recipe: dict) -> None:
    check(recipe)


@pytest.mark.long
@pytest.mark.timeout(7200)
@settings(quietly, max_examples=2000, derandomize=False)
@given(recipes())
def test_thousands_of_recipes(recipe: dict) -> None:
    check(recipe)


@given(st.binary(max_size=200))
@settings(quietly, max_examples=60)
def test_a_file_of_rubbish_is_no_recipe(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzz.yaml"
        path.write_bytes(data)
        before, sys.argv = sys.argv, ["bokehsynth", "generate", str(path), "--out", f"{folder}/out"]
        words = io.StringIO()
        try:
            with contextlib.redirect_stderr(words), pytest.raises(SystemExit) as end:
                main()
        finally:
            sys.argv = before
        assert end.value.code == 2, words.getvalue()
        assert str(path) in words.getvalue()
        assert not (Path(folder) / "out").exists()


def test_a_typo_is_told_with_its_path_and_the_nearest_name(tmp_path: Path) -> None:
    path = tmp_path / "typo.yaml"
    path.write_text("name: x\nsamples: {train: 1}\nscene:\n  disparity: {nearst: 1}\n")
    done = run("generate", path, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert f"{path}:4:" in done.stderr
    assert "scene.disparity.nearst" in done.stderr
    assert "did you mean 'nearest'" in done.stderr
