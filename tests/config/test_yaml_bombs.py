"""Recipes that are small as text and huge, endless or unreadable as values are refused like any faulty recipe."""

import time
from pathlib import Path

import pytest

import bokehsynth as bs
from bokehsynth.config import strict_yaml

START = "name: bomb\nsamples: {train: 1}\n"


def _anchors(levels: int, width: int) -> str:
    lines = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_anchors(9, 9), "holds more than 1,000,000 values"),
        ("a: &a {b: *a}\n", "unknown key"),
        ("a: " + "[" * 400 + "]" * 400 + "\n", "bomb.yaml"),
        ("seed: " + "9" * 6000 + "\n", "cannot be read"),
        ("seed: 0x" + "f" * 6000 + "\n", "cannot be read"),
        ("seed: 2020-99-99\n", "cannot be read"),
    ],
    ids=["anchors", "cycle", "nesting", "digits", "hexadecimal", "date"],
)
def test_bombs_are_faults_of_the_recipe(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(START + text)
    begun = time.monotonic()
    with pytest.raises(bs.RecipeError) as fault:
        bs.load_recipe(path)
    assert time.monotonic() - begun < 30
    assert words in str(fault.value)
    assert str(path) in str(fault.value)
    assert len(str(fault.value)) < 2000 + len(START) + len(str(path))


@pytest.mark.parametrize("value", ["[" * 400 + "]" * 400, "9" * 6000, "&a [*a]"])
def test_bombs_in_set_are_faults_too(value: str, tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(START)
    with pytest.raises(bs.RecipeError):
        bs.load_recipe(path, [f"seed={value}"])


def test_memory_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise MemoryError

    monkeypatch.setattr(strict_yaml, "_read", fail)
    with pytest.raises(bs.RecipeError, match="more memory"):
        bs.load_recipe("quickstart")


def test_anchors_below_the_bound_are_read(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text("name: good\nsamples: &n {train: 2, val: 1}\nscene: {foregrounds: &f 1}\nseed: *f\n")
    assert bs.load_recipe(path).seed == 1
