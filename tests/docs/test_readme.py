"""What the README says must run as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

import bokehsynth as bs

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_snippets_run_in_order(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "demo").symlink_to(tiny_dataset)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for snippet in blocks("python"):
        exec(snippet, names)
    frames = names["frames"]
    assert isinstance(frames, bs.Frames)
    assert frames.bokeh.shape == (120, 220, 3)
    assert np.abs(frames.bokeh - frames.all_in_focus).max() > 0.1


def test_the_recipe_shown_is_a_recipe(tmp_path: Path) -> None:
    (snippet,) = blocks("yaml")
    (tmp_path / "my.yaml").write_text(snippet)
    assert bs.load_recipe(tmp_path / "my.yaml").name == "my-set"


def test_the_two_commands_and_every_linked_file_are_there() -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert commands[:2] == [
        "pip install . && bokehsynth generate quickstart --out demo",
        'pip install -e ".[train,test]" && pytest',
    ]
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_commands_shown_exist() -> None:
    from bokehsynth.cli import cli

    shown = set(re.findall(r"^bokehsynth (\w+)", "\n".join(blocks("sh")), re.MULTILINE))
    assert shown <= set(cli.commands)
    assert {"generate", "preview", "verify", "replay", "recipes"} <= shown
