"""A URL where a folder or file belongs ends every command of both packages with exit code 2; `~` is the home folder.

Data sets lie in folders and in buckets: there only URLs of other kinds are refused.
"""

import sys
from pathlib import Path

import pytest

import bokehsynth as bs
from bokehsynth.cli import main
from bokehsynth.files import local_path
from magicbokeh.cli import main as magic

URL = "s3://bucket/set"
OTHER = "https://host/set"
LINES = [
    ["generate", "quickstart", "--out", OTHER],
    ["generate", "quickstart", "--out", "file://b/x"],
    ["extend", OTHER, "--samples", "9"],
    ["verify", OTHER],
    ["verify", OTHER, "--fix"],
    ["finalize", OTHER],
    ["merge", OTHER, "part"],
    ["publish", URL, "me/set"],
    ["merge", "set", OTHER],
    ["export", OTHER, "--to", "folder", "--out", "x"],
    ["export", "set", "--to", "parquet", "--out", URL],
    ["report", OTHER],
    ["report", "set", "--out", f"{URL}.html"],
    ["replay", OTHER, "train-000000000"],
    ["replay", "set", "train-000000000", "--out", f"{URL}.png"],
    ["assets", URL],
    ["assets", ".", "--sheet", f"{URL}.png"],
    ["preview", "quickstart", "--out", f"{URL}.png"],
    ["estimate", "quickstart", "--plot", f"{URL}.png"],
    ["degrade", URL, "x.png"],
    ["degrade", "x.png", f"{URL}.png"],
    ["calibrate", URL, "--out", "x.json"],
    ["calibrate", "x.png", "--out", f"{URL}.json"],
    ["calibrate", "x.png", "--out", "x.json", "--sharp", URL, "--disparity", "x.png"],
    ["render", "--background", URL, "--out", "x.png"],
    ["render", "--photo", "x.png", "--disparity", URL, "--out", "x.png"],
    ["render", "--background", "x.png", "--out", f"{URL}.png"],
    ["generate", "quickstart", "--out", "x", "--quarantine", URL],
]
MAGIC_LINES = [
    ["infer", URL, "--model", "m", "--out", "x"],
    ["infer", "x.png", "--model", URL, "--out", "x"],
    ["infer", "x.png", "--model", "m", "--out", URL],
    ["infer", "x.png", "--model", "m", "--out", "x", "--depth", URL],
    ["infer", "x.png", "--model", "m", "--out", "x", "--depth-model", URL],
    ["train", "tiny", "--out", URL],
    ["train", "tiny", "--out", "x", "--init", URL],
    ["convert", "--base", URL, "--lora", "x", "--out", "y"],
    ["convert", "--base", "x", "--lora", "x", "--out", URL],
    ["export", URL, "x"],
    ["export", "x", URL],
    ["export", "--model", URL, "--out", "x"],
]


@pytest.mark.parametrize(
    ("entry", "name", "line"),
    [(main, "bokehsynth", line) for line in LINES] + [(magic, "magicbokeh", line) for line in MAGIC_LINES],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_url_is_refused_in_one_line(entry, name, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *line])
    with pytest.raises(SystemExit) as end:
        entry()
    said = capsys.readouterr().err.strip()
    assert end.value.code == 2
    assert "is a URL" in said
    assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda: bs.open_dataset(OTHER),
        lambda: bs.generate("quickstart", OTHER),
        lambda: bs.generate("quickstart", Path(URL)),
    ],
)
def test_a_url_is_refused_by_functions(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(bs.UsageError, match="is a URL"):
        call()
    assert list(tmp_path.iterdir()) == []


def test_home_is_expanded_and_other_names_stay(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/set") == tmp_path / "set"
    for name in ("set", "a:b/c", "C:/x", "x~", "/a/b:/c", "-x"):
        assert local_path(name) == Path(name)
    monkeypatch.chdir(tmp_path)
    here = local_path("./s3://x")  # what the refusal of s3://x advises
    assert here == tmp_path / "s3:/x" == local_path(here)
    with pytest.raises(bs.UsageError, match="home folder"):
        local_path("~no-such-user-here/x")
