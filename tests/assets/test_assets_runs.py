"""Photographs in a data set: exit codes, quarantine, the card, moved folders, and the command `assets`."""

import json
import shutil
import sys

import cv2
import pytest
from click.testing import CliRunner
from support.photographs import folders, landscape, save

import bokehsynth as bs
from bokehsynth.cli import cli, main

RECIPE = """\
name: photographed
seed: 3
samples: {train: 5, val: 2}
size: 48
assets:
  foregrounds: [{path: photos/cutouts, licence: CC0}]
  backgrounds: [{path: photos/landscapes, licence: CC-BY-4.0}, {path: procedural, limit: 4}]
  sharpness_floor: 0
  val_fraction: 0.3
scene: {foregrounds: 1, highlight_boost: 40}
shards: {samples: 4}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folders(tmp_path / "photos")
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["bokehsynth", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def test_generate_from_photographs_with_quarantine(recipe, tmp_path, monkeypatch, capsys):
    """Exit code 3, the reason on the screen and in quarantine.jsonl, samples by licence on the card, verify, replay."""
    (tmp_path / "photos" / "landscapes" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    out = tmp_path / "set"
    assert run(monkeypatch, "generate", recipe, "--out", out, "--workers", 1, "-q") == 3
    assert "cut.jpg" in capsys.readouterr().err
    (line,) = (out / "quarantine.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert (record["kind"], record["name"]) == ("background", "cut.jpg")
    assert record["reason"] in {"corrupt", "truncated"}

    listed = [json.loads(line) for line in (out / "assets.jsonl").read_text().splitlines()]
    licence = {asset["id"]: asset["licence"] for asset in listed}
    samples = [s for split in ("train", "val") for s in bs.open_dataset(out, split)]
    for name in ("CC0", "CC-BY-4.0", "Apache-2.0"):
        count = sum(name in {licence[asset] for asset in sample.meta["assets"]} for sample in samples)
        assert f"| {name} | {list(licence.values()).count(name)} | {count} |" in (out / "README.md").read_text()
    for sample in samples:  # no asset on both sides
        assert {a["split"] for a in listed if a["id"] in sample.meta["assets"]} == {sample.meta["split"]}
    assert all(name.isascii() and ".png" not in name for sample in samples for name in sample.meta["assets"])

    assert run(monkeypatch, "verify", out) == 0
    assert run(monkeypatch, "replay", out, samples[0].key) == 0
    assert (
        run(monkeypatch, "generate", recipe, "--out", out, "--workers", 1, "-q") == 3
    )  # finished, still in quarantine

    # Another place for the photographs is the same data set; other content is not.
    shutil.copytree(tmp_path / "photos", tmp_path / "moved" / "photos")
    moved = shutil.copy(recipe, tmp_path / "moved" / "recipe.yaml")
    shutil.rmtree(tmp_path / "photos")
    assert bs.load_recipe(moved).identity == json.loads((out / "dataset.json").read_text())["identity"]
    assert run(monkeypatch, "generate", moved, "--out", out, "--workers", 1, "-q") == 3
    again = tmp_path / "again"
    assert run(monkeypatch, "generate", moved, "--out", again, "--workers", 1, "-q") == 3
    for path in sorted((out / "train").iterdir()):
        assert path.read_bytes() == (again / "train" / path.name).read_bytes()
    assert run(monkeypatch, "verify", out) == 0  # which needs no photographs
    save(tmp_path / "moved" / "photos" / "landscapes" / "l9.png", landscape(99))
    assert run(monkeypatch, "generate", moved, "--out", out, "--workers", 1, "-q") == 2
    assert "l9.png" in capsys.readouterr().err


def test_relative_sources_lie_in_the_root_or_beside_the_recipe(recipe, tmp_path):
    shutil.move(tmp_path / "photos", tmp_path / "elsewhere" / "photos")
    with pytest.raises(bs.RecipeError, match="there is no"):
        bs.load_recipe(recipe).catalogue  # noqa: B018
    there = bs.load_recipe(recipe, [f"assets.root={tmp_path / 'elsewhere'}"])
    assert len(there.catalogue.files) == 8
    with pytest.raises(bs.RecipeError, match=r"assets\.root: there is no folder"):
        bs.load_recipe(recipe, ["assets.root=nowhere"]).catalogue  # noqa: B018


def test_packaged_recipes_that_need_photographs_say_how(tmp_path, monkeypatch):
    packaged = tmp_path / "packaged.yaml"
    packaged.write_text(RECIPE)
    monkeypatch.setattr("bokehsynth.recipe.packaged_recipes", lambda kind="data": {"packaged": packaged})
    with pytest.raises(bs.RecipeError, match=r"--set assets\.root=FOLDER") as caught:
        bs.load_recipe("packaged")
    assert "bokehsynth generate packaged --out DIR" in str(caught.value)
    assert "photos/cutouts" in str(caught.value)
    given = [f"assets.foregrounds=[{tmp_path}]", f"assets.backgrounds=[{tmp_path}, procedural]"]
    assert bs.load_recipe("packaged", given).name == "photographed"


def test_the_assets_command(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["assets", "photos/cutouts", "--list", "--val-fraction", "0.3"])
    assert result.exit_code == 0, result.output
    assert "4 usable cut-outs" in result.output
    assert "c3.png" in result.output
    assert cv2.imread("assets-cutouts.png").shape[0] > 200
    assert (tmp_path / "photos" / "cutouts" / ".bokehsynth" / "assets.json").is_file()

    (tmp_path / "photos" / "landscapes" / "bad\n.png").write_bytes(b"GIF89a")
    again = CliRunner().invoke(cli, ["assets", "photos/landscapes", "--sharpness-floor", "0", "--sheet", "l.png"])
    assert again.exit_code == 3
    assert "4 usable landscapes" in again.output
    assert "unsupported_format" in again.output
    assert "bad\\n.png" in again.output
    assert (tmp_path / "l.png").is_file()


@pytest.mark.parametrize("arguments", [["nowhere"], ["photos"], [".", "--sheet", "x.jpg"]])
def test_the_assets_command_refuses_what_makes_no_sense(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert run(monkeypatch, "assets", *arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")
