"""Data sets of strangers: nothing that they name is imported or called unless it is trusted."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = """\
name: stranger
samples: {train: 2}
size: 32
assets: {foregrounds: 'stranger_code:Source'}
scene: {foregrounds: 1, layout: 'stranger_code:Layout'}
lens: {aperture: 'stranger_code:Lens'}
degradation: ['stranger_code:Step']
shards: {samples: 2}
"""
MODULE = """\
import os
import numpy as np
import bokehsynth as bs

def mark(what):
    with open(os.environ["MARKS"], "a") as file:
        file.write(what + "\\n")

mark("import")

class Lens(bs.Disc):
    def __init__(self):
        mark("lens")

class Source:
    def draw(self, rng, size):
        mark("source")
        return np.ones((size, size, 4))

class Layout:
    def place(self, rng, scene):
        mark("layout")
        return {"background": {"disparity": 0.1}, "foregrounds": [{"disparity": 0.8}]}

class Step:
    def __init__(self):
        mark("step")

    def draw(self, rng):
        return {}

    def apply(self, image, params):
        return image * 0.5
"""
AUDITED = """\
import json, sys
seen = []

def watch(event, arguments):
    if event == "import" and arguments[0] == "stranger_code":
        seen.append("import")  # of a statement; importlib's own shows as the exec of the module
    if event == "exec" and "stranger_code" in str(getattr(arguments[0], "co_filename", "")):
        seen.append("exec")

sys.addaudithook(watch)
import bokehsynth as bs
import bokehsynth.cli

if sys.argv[1] == "open":
    code = 0 if len([sample.arrays for sample in bs.open_dataset(sys.argv[2])]) == 2 else 1
else:
    try:
        bokehsynth.cli.main()
    except SystemExit as end:
        code = end.code
print("AUDIT", json.dumps([code, seen]))
"""


def _environment(folder: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(folder), "MARKS": str(folder / "marks.txt")}


def _run(folder: Path, *arguments: object) -> "tuple[int, list[str], str]":
    """Exit code, audit events of the hostile module, and all words of one command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", AUDITED, *map(str, arguments)],
        env=_environment(folder), capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("AUDIT ")]
    assert lines, done.stderr
    code, seen = json.loads(lines[0].removeprefix("AUDIT "))
    return code, seen, done.stdout + done.stderr


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole data set `set`, made by a lens and a step of `stranger_code` beside it."""
    folder = tmp_path_factory.mktemp("strange")
    (folder / "stranger_code.py").write_text(MODULE)
    (folder / "recipe.yaml").write_text(RECIPE)
    code, seen, words = _run(folder, "generate", folder / "recipe.yaml", "--out", folder / "set", "--workers", "1")
    assert code == 0, words
    assert seen
    (folder / "marks.txt").unlink()
    return folder


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["open"], 0),
        (["verify"], 0),
        (["report", "--out", "PAGE"], 0),
        (["export", "--to", "folder", "--out", "PAGE.folder"], 0),
        (["audit"], 2),
        (["replay", "train-000000001"], 2),
        (["finalize"], 2),
        (["extend", "--samples", "4", "--workers", "1"], 2),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_nothing_that_a_set_names_is_imported(strange: Path, command: list[str], expected: int) -> None:
    name, *rest = [word.replace("PAGE", str(strange / "page.html")) for word in command]
    code, seen, words = _run(strange, name, strange / "set", *rest)
    assert code == expected, words
    assert seen == []
    assert not (strange / "marks.txt").exists()
    if name == "report":
        assert "stranger_code:Lens" in (strange / "page.html").read_text()
    elif name not in {"open", "export"}:
        for kind in ("Lens", "Step", "Source", "Layout"):
            assert f"stranger_code:{kind}" in words
        assert "--trust-code" in words
    if expected == 2:
        assert len([line for line in words.splitlines() if "error" in line]) == 1
        assert "Traceback" not in words


def test_trusted_code_is_imported(strange: Path, tmp_path: Path) -> None:
    shutil.copytree(strange / "set", tmp_path / "set")
    shutil.copy(strange / "stranger_code.py", tmp_path)
    for command in (
        ["verify"],
        ["audit", "--samples", "1"],
        ["replay", "train-000000001"],
        ["finalize"],
        ["extend", "--samples", "4", "--workers", "1"],
    ):
        name, *rest = command
        code, seen, words = _run(tmp_path, name, tmp_path / "set", *rest, "--trust-code")
        assert code == 0, words
        assert seen


def test_generate_does_not_import_what_the_set_there_names(strange: Path, tmp_path: Path) -> None:
    shutil.copytree(strange / "set", tmp_path / "set")
    shutil.copy(strange / "stranger_code.py", tmp_path)
    mine = RECIPE.replace("'stranger_code:Lens'", "disc").replace("['stranger_code:Step']", "none")
    mine = mine.replace("'stranger_code:Source'", "procedural").replace(", layout: 'stranger_code:Layout'", "")
    (tmp_path / "mine.yaml").write_text(mine)
    code, seen, words = _run(tmp_path, "generate", tmp_path / "mine.yaml", "--out", tmp_path / "set", "--workers", "1")
    assert code == 2
    assert "was begun with another recipe" in words
    assert seen == []


def test_a_record_of_a_sample_names_nothing_that_is_imported(strange: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bokehsynth.config.user_code import UntrustedCodeError, user_code
    from bokehsynth.degradation.custom import apply_custom

    monkeypatch.syspath_prepend(strange)
    with user_code(trusted=False), pytest.raises(UntrustedCodeError, match=r"'stranger_code:Step'.*--trust-code"):
        apply_custom("stranger_code:Step", None, {})  # type: ignore[arg-type]
    assert "stranger_code" not in sys.modules


@pytest.mark.parametrize("name", ["os:abort", "sys:exit", "bokehsynth.cli:main", "builtins:dict"])
def test_what_is_no_aperture_is_not_called(name: str) -> None:
    from bokehsynth.errors import UsageError
    from bokehsynth.scene.aperture_spec import build_aperture

    with pytest.raises(UsageError, match=r"not a subclass of bokehsynth\.Aperture"):
        build_aperture(name)


@pytest.mark.parametrize("name", ["bokehsynth.lenses:Heart", "bokehsynth.optics:Disc"])
def test_built_in_classes_need_no_trust(name: str) -> None:
    from bokehsynth.config.user_code import user_code
    from bokehsynth.scene.aperture_spec import build_aperture

    with user_code(trusted=False):
        assert type(build_aperture(name)).__name__ == name.partition(":")[2]
