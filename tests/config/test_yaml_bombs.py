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
        ("a: " + "[" * 400 + "]" * 400 + "\n", "more than 64 levels"),
        ("a: " + "[" * 20_000 + "\n", "more than 64 levels"),
        ("a: " + "{x: " * 20_000 + "\n", "more than 64 levels"),
        ("a:\n  " + "- " * 20_000 + "x\n", "more than 64 levels"),
        ("# " + "x" * (1 << 20) + "\n", "such a file has at most 1,048,576"),
        ("seed: " + "9" * 6000 + "\n", "cannot be read"),
        ("seed: !!bool x\n", "a value of it cannot be built"),
        ("<<: &x {<<: *x}\n", "a value of it cannot be built"),
        ("assets: {root: ~no-such-user-here}\n", "home folder of ~ is not known"),
        ('lens: {prescription: "\\0.json", near_m: 1}\n', "is no name of a file"),
        ('lens: {aperture: {kind: image, file: "\\0.png"}}\n', "is no name of a file"),
        ("seed: 0x" + "f" * 6000 + "\n", "cannot be read"),
        ("seed: 2020-99-99\n", "cannot be read"),
    ],
    ids=[
        "anchors",
        "cycle",
        "nesting",
        "brackets",
        "braces",
        "dashes",
        "bytes",
        "digits",
        "bool",
        "merge",
        "home",
        "prescription",
        "opening",
        "hexadecimal",
        "date",
    ],
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


def test_a_file_of_too_many_tokens_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(START + "a: [" + "x," * 1500 + "]\n")
    monkeypatch.setattr(strict_yaml, "MAX_TOKENS", 4000)
    with pytest.raises(bs.RecipeError, match="unknown key"):
        bs.load_recipe(path)
    monkeypatch.setattr(strict_yaml, "MAX_TOKENS", 2000)
    with pytest.raises(bs.RecipeError, match="more than 2,000 tokens"):
        bs.load_recipe(path)


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
