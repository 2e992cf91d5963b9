"""What docs/lenses.md says must run as it stands, and its picture must be the one that its code draws."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bokehsynth as bs

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "lenses.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the page tells the reader to save, as current directory and importable."""
    module = next(block for block in blocks("python") if block.startswith("# my_lenses.py\n"))
    (tmp_path / "my_lenses.py").write_text(module, encoding="utf-8")
    (recipe,) = blocks("yaml")
    (tmp_path / "my.yaml").write_text(recipe, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_lenses", raising=False)
    yield tmp_path
    sys.modules.pop("my_lenses", None)


def test_python_snippets_run_in_order(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for snippet in blocks("python"):
        exec(snippet, names)
    frames, sample = names["frames"], names["sample"]
    assert isinstance(frames, bs.Frames)
    assert isinstance(sample, bs.Sample)
    assert sample.hq.shape == (96, 96, 3)

    (shown,) = blocks("text")  # the report, but for the numbers that depend on how cpu and reference choose their rays
    printed = capsys.readouterr().out
    assert printed.splitlines()[:5] == shown.splitlines()[:5]
    assert re.sub(r"[\d.e-]+", "#", printed) == re.sub(r"[\d.e-]+", "#", shown)

    drawn, kept = (np.asarray(Image.open(folder / "lenses.png").convert("RGB"), int) for folder in (desk, DOCS))
    assert drawn.shape == kept.shape
    assert np.abs(drawn - kept).mean() < 2, "docs/lenses.png is not what the page draws: run its last snippet again"


def test_a_lens_of_ones_own_is_thirty_lines(desk: Path) -> None:
    assert len((desk / "my_lenses.py").read_text(encoding="utf-8").splitlines()) <= 30


def test_the_picture_is_small_and_every_link_is_there() -> None:
    assert (DOCS / "lenses.png").stat().st_size <= 400_000
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert link.startswith("https://") or (DOCS / link).exists(), link
    for path in re.findall(r"`(tests/[\w/]+\.py)`", PAGE):
        assert (DOCS.parent / path).exists(), path


def test_commands_shown_exist() -> None:
    from bokehsynth.cli import cli

    commands = "\n".join(blocks("sh"))
    assert set(re.findall(r"bokehsynth (\w+)", commands)) <= set(cli.commands)
    assert "python -m bokehsynth.aperture_check my_lenses:Bubble" in commands
