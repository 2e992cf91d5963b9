"""Exit codes and words of what goes wrong unexpectedly: never 0, one line, the traceback in a file."""

import contextlib
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

import bokehsynth as bs
from bokehsynth.cli import cli, main
from bokehsynth.errors import printable

RECIPE = """\
name: exits
samples: {train: 1}
size: 32
scene: {foregrounds: 1}
shards: {samples: 1}
"""
STEP = """\
import sys
{head}
class Step:
    def draw(self, rng):
        return {{}}

    def apply(self, image, params):
        {apply}
"""
EXIT = 'sys.exit("license server unreachable")'
COMMAND = [sys.executable, "-c", "from bokehsynth.cli import main; main()"]


def _run(folder: Path, module: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    (folder / "exits_step.py").write_text(module)
    (folder / "recipe.yaml").write_text(RECIPE + "degradation: ['exits_step:Step']\n")
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_an_exit_of_a_step_is_the_error_of_preview(tmp_path: Path) -> None:
    done = _run(
        tmp_path, STEP.format(head="", apply=EXIT), "preview", "recipe.yaml", "--count", 1, "--out", "sheet.png"
    )
    assert done.returncode == 1
    assert "license server unreachable" in done.stderr
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(
    ("apply", "words"),
    [
        (EXIT, "license server unreachable"),
        pytest.param('raise GeneratorExit("late")', "GeneratorExit: late", marks=pytest.mark.long),
        # workers ignore SIGINT: it is the step's own
        pytest.param('raise KeyboardInterrupt("late")', "KeyboardInterrupt: late", marks=pytest.mark.long),
        ('raise type("Panic", (BaseException,), {})("late")', "Panic: late"),
    ],
)
def test_what_a_step_lets_pass_fails_its_shard_and_ends_no_worker(apply: str, words: str, tmp_path: Path) -> None:
    module = STEP.format(head="", apply=apply)
    done = _run(tmp_path, module, "generate", "recipe.yaml", "--out", "set", "--workers", 1)
    assert done.returncode not in (0, 3)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    events = (tmp_path / "set" / "logs" / "events.jsonl").read_text()
    assert '"died"' not in events


def test_workers_import_nothing_from_the_working_directory(tmp_path: Path) -> None:
    """Where a data set of others is extended, the folder may hold anything."""
    (tmp_path / "recipe.yaml").write_text(RECIPE + "degradation: none\n")
    work = tmp_path / "work"
    work.mkdir()
    for name in sorted(sys.stdlib_module_names | {"numpy", "cv2", "numba", "bokehsynth", "sitecustomize"}):
        if name.isidentifier():
            (work / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r} + ' ')\n")
    command = [Path(sys.executable).with_name("bokehsynth"), "generate", "../recipe.yaml", "--out", "../set", "--quiet"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [*command, "--workers", "1"],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()


def test_an_exit_while_a_module_is_imported_is_named(tmp_path: Path) -> None:
    module = STEP.format(head='sys.exit("no licence file found")', apply=EXIT)
    done = _run(tmp_path, module, "generate", "recipe.yaml", "--out", "set", "--workers", 1)
    assert done.returncode == 2
    assert "no licence file found" in done.stderr


def _main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bokehsynth", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert type(end.value.code) is int
    return end.value.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SystemExit("gone"), 1), (SystemExit(0), 1), (SystemExit(None), 1), (RecursionError("deep"), 1),
        (MemoryError(), 1), (ValueError("Exceeds the limit\nof digits"), 1), (click.exceptions.Exit(3), 3),
        (bs.UsageError("no"), 2), (KeyboardInterrupt(), 130),
    ],
)  # fmt: skip
def test_whatever_a_command_raises_has_its_code_and_one_line(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(**options: object) -> None:
        raise error

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(cli.commands["recipes"], "callback", fail)
    assert _main(monkeypatch, "recipes") == code
    words = capsys.readouterr().err.strip()
    assert len(words.splitlines()) == (0 if code == 3 else 1)
    if isinstance(error, (RecursionError, MemoryError, ValueError)) and not isinstance(error, bs.BokehsynthError):
        assert f"unexpected {type(error).__name__} in test_exits.py:" in words
        log = re.search(r"\(traceback: (.*)\)", words)
        assert log is not None
        assert "Traceback" in Path(log[1]).read_text()


@pytest.mark.parametrize(
    "error",
    [
        "ModuleNotFoundError(\"No module named 'cv2'\", name='cv2')",  # opencv-python was removed
        "ImportError('libGL.so.1: cannot open shared object file')",  # opencv-python replaced the headless one
    ],
)
def test_an_opencv_that_another_one_destroyed_says_how_to_mend_it(error: str, tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text(f"raise {error}\n")
    done = subprocess.run(
        [*COMMAND, "recipes"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "pip install --force-reinstall --no-deps opencv-python-headless" in line


def test_help_and_version_are_no_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _main(monkeypatch, "--version") == 0
    assert _main(monkeypatch, "verify", "--help") == 0
    assert _main(monkeypatch, "no-such-command") == 2


def test_names_are_printed_escaped() -> None:
    assert printable("\x1b]0;owned\x07\x1b[2K\rdone\n.png") == r"\x1b]0;owned\x07\x1b[2K\rdone\n.png"
    assert printable("a\u202egnp.\udcff\tb\n", keep="\n\t") == "a\\u202egnp.\\udcff\tb\n"
    assert printable("café 写真 ✓.png") == "café 写真 ✓.png"


def test_generate_prints_names_of_files_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    from bokehsynth.assets.catalogue import Catalogue, RejectedFile

    generation = importlib.import_module("bokehsynth.generation.generate")
    for name in ("check_output_dir", "check_shard_boundaries", "write_root_files", "sweep_temporaries", "is_complete"):
        monkeypatch.setattr(generation, name, lambda *_, **__: False)
    monkeypatch.setattr(generation, "uncommitted", lambda *_: [None])
    monkeypatch.setattr(generation, "set_up_lock", lambda *_: contextlib.nullcontext())
    said: list[str] = []
    rejected = RejectedFile(kind="background", name="a", reason="corrupt", message="/pics/\x1b[2K\r.png: is no picture")
    recipe = SimpleNamespace(
        catalogue=Catalogue((), quarantine=(rejected,), notes=("\x1b]0;owned\x07",)), frame=None,
        lenses=[],
    )  # fmt: skip
    options = SimpleNamespace(quarantine=None, allow_mixed=False, lock=True, say=said.append)
    layout = SimpleNamespace(lock=None, remote=False, identity=None)
    run = SimpleNamespace(
        layout=layout, options=options, recipe=recipe, machine=None, everything=[], identity={}, shards=[], begun=False
    )
    assert generation._claim(run) == []
    assert said == [r"note: \x1b]0;owned\x07", r"quarantined (corrupt): /pics/\x1b[2K\r.png: is no picture"]
