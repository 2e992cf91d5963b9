"""Bad input and good: each with its message, its exit code, and nothing half-written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.cli import main
from bokehsynth.generation.plan import all_plans
from bokehsynth.generation.shard_lock import shard_lock
from bokehsynth.recipe import load_recipe
from bokehsynth.shards import Layout, verify_dataset

GOOD = "name: ok\nsamples: {train: 2}\nsize: 32\n"


def run(*arguments: object, **options: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from bokehsynth.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (GOOD + "scene:\n  blurr: 3\n", 5, ["scene.blurr", "unknown key", "did you mean 'blur'"]),
        (GOOD.replace("size: 32", 'size: "32"'), 3, ["size", "'32'"]),
        (GOOD + "seed: 1\nseed: 2\n", 5, ["duplicate key", "seed"]),
        (GOOD + "scene: {scale: {kind: unifrom, low: 1, high: 2}}\n", 4, ["scene.scale", "did you mean 'uniform'"]),
        (GOOD + "degradation: realesrgan\n", 4, ["did you mean 'real-esrgan'?"]),
        (GOOD + "lens: {aperture: hexagon}\n", 4, ["did you mean 'polygon:6'?"]),
        (GOOD + "lens: {aperture: 'polygon:2'}\n", 4, ["lens.aperture: Input should be greater than or equal to 3"]),
        (GOOD.replace("size: 32", "size: wide"), 3, ["size: must be a whole number or a list or 'own', got 'wide'"]),
        (GOOD.replace("train: 2", "train: many"), 2, ["train: must be a whole number or 'each', got 'many'"]),
        (GOOD + "scene: {blur: -1}\n", 4, ["blur", "0..4096", "-1"]),
        (GOOD + "lens: {aperture: 'nowhere.at:All'}\n", 4, ["nowhere.at:All", "cannot be loaded"]),
        (GOOD + "assets: {foregrounds: [photos/cutouts]}\n", None, ["photos/cutouts", "procedural/"]),
        ("name: [", 1, ["not valid YAML"]),
        ("- 1\n", None, ["must be a mapping"]),
    ],
)
def test_recipe_faults_name_file_line_and_way_out(
    tmp_path: Path, text: str, line: "int | None", words: list[str]
) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text(text)
    result = run("generate", recipe, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    for word in [*words] + ([f"{recipe}:{line}:"] if line else []):
        assert word in result.stderr
    assert not (tmp_path / "out").exists()


def test_all_faults_come_in_one_pass(tmp_path: Path) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text('name: Bad Name\nsamples: {train: -1}\nsize: "a"\nscene: {foo: 1}\n')
    result = run("generate", recipe, "--out", tmp_path / "out")
    for line in (1, 2, 3, 4):
        assert f"{recipe}:{line}:" in result.stderr


@pytest.mark.parametrize("device", ["cuda", "tpu"])
def test_device_that_is_not_there(tmp_path: Path, device: str) -> None:
    result = run("generate", "quickstart", "--out", tmp_path / "out", "--device", device)
    assert result.returncode == 2
    assert device in result.stderr
    assert not (tmp_path / "out").exists()


def test_output_that_cannot_be_written(tmp_path: Path, tiny_recipe: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    result = run("generate", tiny_recipe, "--out", file)
    assert result.returncode == 4
    assert str(file) in result.stderr
    assert file.read_text() == "mine"
    result = run("generate", tiny_recipe, "--out", "/proc/nowhere/set")
    assert result.returncode == 4
    assert "/proc/nowhere" in result.stderr


def test_output_without_permission(tmp_path: Path) -> None:
    """As root permissions mean nothing, so the command becomes another user, once all it imports is imported."""
    recipe = tmp_path / "ok.yaml"
    recipe.write_text(GOOD)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    for folder in [tmp_path, *tmp_path.parents]:
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid() and len(folder.parts) > 2:
            folder.chmod(folder.stat().st_mode | 0o055)
    script = (
        "import os, sys\n"
        "import bokehsynth.cli, bokehsynth.generation.generate, bokehsynth.generation.provenance\n"
        "bokehsynth.generation.provenance.describe_machine('cpu')\n"
        "os.getuid() or (os.setgid(65534), os.setuid(65534))\n"
        f"sys.argv = ['bokehsynth', 'generate', {str(recipe)!r}, '--out', {str(closed / 'set')!r}]\n"
        "bokehsynth.cli.main()\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 4, result.stderr
    assert "no permission" in result.stderr
    assert list(closed.iterdir()) == []


def test_a_directory_that_is_no_data_set_is_refused(tmp_path: Path, tiny_recipe: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    result = run("generate", tiny_recipe, "--out", tmp_path)
    assert result.returncode == 2
    assert "thesis.tex" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.long  # chaos/test_concurrent_runs has ranges at once in every run
def test_another_run_in_the_same_range(tiny_recipe: Path, tmp_path: Path) -> None:
    """The lock is held by this process; the command is another one. Disjoint ranges do not disturb each other."""
    layout, recipe = Layout(tmp_path / "out"), load_recipe(tiny_recipe)
    last = sum(plan.split == "train" for plan in all_plans(recipe)) - 1
    with shard_lock(layout.hidden / "run.lock", {"train": (0, last)}):
        result = run("generate", tiny_recipe, "--out", layout.root, "--workers", 1)
        assert result.returncode == 5
        assert str(os.getpid()) in result.stderr
        assert not layout.recipe.exists()
        free = run("generate", tiny_recipe, "--out", layout.root, "--workers", 1, "--shards", "6/7")  # val's last
        assert free.returncode == 0, free.stderr
    assert run("generate", tiny_recipe, "--out", layout.root, "--workers", 2).returncode == 0


def test_finished_set_does_nothing_and_says_so(tiny_dataset: Path, tiny_recipe: Path) -> None:
    result = run("generate", tiny_recipe, "--out", tiny_dataset)
    assert result.returncode == 0
    assert "already complete" in result.stdout


def test_changed_recipe_is_refused_with_a_field_diff(tiny_dataset: Path, tiny_recipe: Path) -> None:
    result = run("generate", tiny_recipe, "--out", tiny_dataset, "--set", "seed=12", "--set", "scene.flip=0.0")
    assert result.returncode == 2
    assert "seed: 11 -> 12" in result.stderr
    assert "scene.flip: 0.5 -> 0.0" in result.stderr


def test_another_machine_is_refused_unless_allowed(tiny_dataset: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    import shutil

    out = tmp_path / "moved"
    shutil.copytree(tiny_dataset, out)
    record = out / ".bokehsynth/machine.json"
    record.write_text(record.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    result = run("generate", tiny_recipe, "--out", out)
    assert result.returncode == 2
    assert 'device: "cuda" -> "cpu"' in result.stderr
    (out / ".bokehsynth/train/train-000001.done.json").unlink()  # something is left to be made
    assert run("generate", tiny_recipe, "--out", out, "--allow-mixed").returncode == 0
    made_with = json.loads((out / "dataset.json").read_text())["made_with"]
    assert [machine["device"] for machine in made_with["mixed"]] == ["cuda", "cpu"]


def test_an_edited_class_is_refused_and_nothing_is_replaced(tmp_path: Path) -> None:
    module, recipe, out = tmp_path / "mine.py", tmp_path / "r.yaml", tmp_path / "set"
    module.write_text(
        "K = 0.5\n"
        "class Dim:\n"
        "    def draw(self, rng): return {'k': rng.random()}\n"
        "    def apply(self, image, params): return image * K * params['k']\n"
    )
    recipe.write_text(GOOD + "degradation: mine:Dim\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    assert run("generate", recipe, "--out", out, "--workers", 1, env=environment).returncode == 0
    before = (out / "train/train-000000.tar").read_bytes()
    module.write_text(module.read_text().replace("K = 0.5", "K = 0.25"))
    result = run("generate", recipe, "--out", out, "--workers", 1, env=environment)
    assert result.returncode == 2
    assert "degradation_digest" in result.stderr
    assert (out / "train/train-000000.tar").read_bytes() == before


def test_when_every_shard_fails_the_exit_code_is_six(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "class Step:\n"
        "    def draw(self, rng): return {}\n"
        "    def apply(self, image, params): raise RuntimeError('out of film')\n"
    )
    recipe, out = tmp_path / "r.yaml", tmp_path / "set"
    recipe.write_text(GOOD + "degradation: broken:Step\n")
    result = run("generate", recipe, "--out", out, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert result.returncode == 6
    assert "out of film" in result.stderr
    assert list((out / "train").glob("*")) == []


def test_ones_own_folder_with_a_recipe_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("# my notes\n" + GOOD)
    result = run("generate", "recipe.yaml", "--out", ".", cwd=tmp_path)
    assert result.returncode == 2
    assert "recipe.yaml" in result.stderr
    assert (tmp_path / "recipe.yaml").read_text().startswith("# my notes")
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_preview_shows_what_generate_stores(tiny_recipe: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    import bokehsynth as bs

    sheet = tmp_path / "sheet.png"
    result = run("preview", tiny_recipe, "--out", sheet, "--count", 2, "--cell", 128)
    assert result.returncode == 0, result.stderr
    stored = bs.open_dataset(tiny_dataset)
    expected = bs.contact_sheet([stored[0], stored[1]], cell=128)
    np.testing.assert_array_equal(cv2.imread(str(sheet))[..., ::-1], expected)


def test_verify_and_replay_report_by_exit_code(tiny_dataset: Path, tmp_path: Path) -> None:
    assert run("verify", tiny_dataset).returncode == 0
    good = run("replay", tiny_dataset, "train-000000005", "--out", tmp_path / "pair.png")
    assert good.returncode == 0
    assert (tmp_path / "pair.png").stat().st_size > 1000
    out = tmp_path / "bad"
    shutil.copytree(tiny_dataset, out)
    tar = out / "train/train-000001.tar"
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 1
    tar.write_bytes(data)
    result = run("verify", out, "--shards", "0/1")
    assert result.returncode == 1
    assert "train shard 1" in result.stdout
    assert "whole in range 1/2" in run("verify", out, "--shards", "1/2").stdout
    assert run("verify", out, "--shards", "0/2", "--fix").returncode == 2, "--fix needs the whole set"
    assert "--fix" in result.stderr
    assert run("verify", out, "--fix").returncode == 1
    assert run("generate", out / "recipe.yaml", "--out", out).returncode == 0, "remakes what was damaged"
    assert run("verify", out).returncode == 0


@pytest.mark.parametrize(
    "line",
    [
        ["verify"], ["verify", "--fix"], ["replay", "train-000000000"], ["report"], ["audit"],
        ["export", "--to", "folder", "--out", "../other"], ["publish", "me/set"], ["extend", "--samples", "9"],
        ["finalize"],
    ],
)  # fmt: skip
@pytest.mark.parametrize(("folder", "words"), [("nowhere", "no such data set"), (".", "not a bokehsynth data set")])
def test_what_is_no_data_set_is_a_wrong_call(
    line: list[str], folder: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bokehsynth", line[0], folder, *line[1:]])
    with pytest.raises(SystemExit) as exit_code:
        main()
    assert exit_code.value.code == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "set.tar").write_bytes(b"")
    for read in (verify_dataset, bs.open_dataset):
        with pytest.raises(bs.NoDatasetError, match=r"set\.tar: is a file, and a data set is a folder"):
            read(tmp_path / "set.tar")


def test_tars_that_lost_all_else_are_a_damaged_set(tiny_dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_dataset / "train", tmp_path / "train")
    report = verify_dataset(tmp_path)
    assert ["only tars" in fault.message for fault in report.faults].count(True) == 1


def test_degrade_command(tmp_path: Path) -> None:
    source, target = tmp_path / "in.png", tmp_path / "out.png"
    picture = (np.indices((60, 90)).sum(axis=0)[..., None] * [1, 1, 1]).astype(np.uint8)
    cv2.imwrite(str(source), picture)
    assert run("degrade", source, target, "--seed", 3).returncode == 0
    result = cv2.imread(str(target))
    assert result.shape == (60, 90, 3)
    assert (result != picture).any()
    for bad in (("missing.png", target), (source, tmp_path / "out.jpg")):
        failed = run("degrade", *bad)
        assert failed.returncode == 2
        assert "error:" in failed.stderr


def test_every_command_has_a_manual_page() -> None:
    from click.testing import CliRunner

    from bokehsynth.cli import cli

    for name, command in cli.commands.items():
        result = CliRunner().invoke(cli, [name, "--help"])
        assert result.exit_code == 0
        assert len(result.output) > 200, name
        assert command.help
    assert "quickstart" in run("recipes").stdout
    assert run("recipes", "quickstart").stdout.startswith("# ")
    assert '"properties"' in run("schema").stdout
