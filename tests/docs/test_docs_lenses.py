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
    files = {"my_lenses.py": "python", "my_triplet.py": "python", "my.yaml": "yaml", "doublet.yaml": "yaml"}
    for name, language in files.items():
        text = next(block for block in blocks(language) if block.startswith(f"# {name}\n"))
        (tmp_path / name).write_text(text, encoding="utf-8")
    (lens,) = blocks("json")
    (tmp_path / "doublet.json").write_text(lens, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("my_lenses", "my_triplet"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    yield tmp_path
    for module in ("my_lenses", "my_triplet"):
        sys.modules.pop(module, None)


@pytest.mark.long
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
    for name in ("my_lenses.py", "my_triplet.py"):
        assert len((desk / name).read_text(encoding="utf-8").splitlines()) <= 30


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


def test_a_lens_file_becomes_shards_in_five_commands(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page's lines as they stand."""
    from click.testing import CliRunner

    from bokehsynth.cli import cli

    lines = next(block for block in blocks("sh") if "doublet" in block).splitlines()
    assert len(lines) == 5
    for line in lines:
        found = CliRunner().invoke(cli, line.split()[1:], catch_exceptions=False)
        assert found.exit_code == 0, found.output
    sample = bs.open_dataset(desk / "doublet-set")[1]
    assert sample.meta["aperture"] == "doublet"
    assert sample.meta["near_m"] == 1.5
