"""--json: one object at stdout at every end of a command, text at stderr."""

import errno
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from support.small_set import make_small_set

from bokehsynth import cli
from bokehsynth.assets.load.picture_cache import SETTING


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set `set` and its recipe."""
    return make_small_set(tmp_path_factory.mktemp("json") / "set").root.parent


@pytest.fixture
def end_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The object that a command line prints, and what it says at stderr."""

    def run(*words: object) -> tuple[dict[str, Any], str]:
        monkeypatch.setattr(sys, "argv", ["bokehsynth", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        found = json.loads(out)
        assert out.count("\n") == 1
        assert (found["command"], found["exit_code"]) == (str(words[0]), left.value.code or 0)
        assert found.keys() == {"command", "exit_code", "error", "result"}
        return found, err

    return run


def test_ends_of_commands_that_went_well(made: Path, tmp_path: Path, end_of: Any) -> None:
    data, recipe = made / "set", made / "set.yaml"
    for words, said, facts in (
        (("verify", data), "whole", {"samples": 4, "decoded": 4, "faults": [], "mended": False}),
        (("generate", recipe, "--out", data), "nothing to do", {"made": 0, "complete": True, "quarantined_files": 0}),
        (("finalize", data), "complete", {"samples": 4, "complete": True}),
        (("replay", data, "train-000000001"), "every pixel", {"key": "train-000000001", "differing": {}}),
        (("export", data, "--to", "folder", "--out", tmp_path / "e"), "4 samples", {"samples": 4, "form": "folder"}),
        (
            ("estimate", recipe, "--workers", 3),
            "distributions",
            {"counts": {"train": 3, "val": 1}, "workers": 3},
        ),
        (("preview", recipe, "--count", 1, "--out", tmp_path / "p.png"), "wrote", {"out": str(tmp_path / "p.png")}),
        (("recipes", "quickstart"), "samples:", {"name": "quickstart"}),
        (("schema",), "$defs", {}),
    ):
        found, err = end_of(*words, "--json")
        assert (found["exit_code"], found["error"]) == (0, None)
        assert said in err
        assert facts.items() <= found["result"].items(), words


def test_ends_of_commands_that_did_not(made: Path, tmp_path: Path, end_of: Any) -> None:
    found, err = end_of("verify", tmp_path / "nowhere", "--json")
    assert found["exit_code"] != 0
    assert str(tmp_path / "nowhere") in found["error"]
    assert f"error: {found['error']}" in err
    found, err = end_of("generate", made / "set.yaml", "--out", tmp_path / "s", "--set", "scene.blurr=1", "--json")
    assert found["exit_code"] == 2
    assert "did you mean 'blur'" in found["error"]
    for words in (("verify", made / "set", "--decode", "7", "--json"), ("verify", "--json", "--no-such-option")):
        found, err = end_of(*words)  # faults that click finds, some before it knows of --json
        assert (found["exit_code"], found["result"]) == (2, {})
        assert found["error"] in err


def test_faults_are_listed_one_by_one(made: Path, tmp_path: Path, end_of: Any) -> None:
    shutil.copytree(made / "set", tmp_path / "set")
    (tmp_path / "set/train/stray.tar").write_bytes(b"")
    found, _ = end_of("verify", tmp_path / "set", "--json")
    assert found["exit_code"] == 1
    assert [fault["kind"] for fault in found["result"]["faults"]] == ["stray"]
    assert "1 faults" in found["error"]


def test_without_it_nothing_changes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], made: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["bokehsynth", "verify", str(made / "set")])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().out.startswith(f"{made / 'set'}: whole.")


class FullDisk(io.StringIO):
    """A stream that takes nothing."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def _exit_code(monkeypatch: pytest.MonkeyPatch, does: Callable[[], None], *words: str) -> int | str | None:
    """How `recipes` leaves where it does that."""
    monkeypatch.setattr(cli.cli.commands["recipes"], "callback", lambda **_: does())
    monkeypatch.setattr(sys, "argv", ["bokehsynth", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


def test_what_is_cut_short_is_no_success(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def broken_pipe() -> None:
        raise BrokenPipeError

    monkeypatch.setattr(cli, "_reader_has_gone", lambda: True)
    assert _exit_code(monkeypatch, broken_pipe, "recipes") == 0, "as with | head"
    assert _exit_code(monkeypatch, broken_pipe, "recipes", "--json") == 4
    found = json.loads(capfd.readouterr().out)
    assert (found["exit_code"], found["error"]) == (4, "the reader of the text has gone")
    monkeypatch.setattr(sys, "stdout", FullDisk())
    assert _exit_code(monkeypatch, lambda: None, "recipes", "--json") == 4
    assert "error: stdout: No space left on device" in capfd.readouterr().err


@pytest.mark.parametrize("code", [130, 143])
def test_an_interrupted_run_says_so(
    code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise click.exceptions.Exit(code)

    assert _exit_code(monkeypatch, interrupted, "recipes", "--json") == code
    found = json.loads(capfd.readouterr().out)
    assert (found["exit_code"], found["error"]) == (code, "interrupted")


def test_nothing_but_the_object_reaches_stdout(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A worker's or a library's text goes to stderr, and the command's name is found after options of the group."""
    monkeypatch.setenv(SETTING, "off")  # which the option changes

    def does() -> None:
        os.write(1, b"stray\n")

    assert not _exit_code(monkeypatch, does, "--picture-cache", "5GB", "recipes", "--json")
    out, err = capfd.readouterr()
    assert json.loads(out)["command"] == "recipes"
    assert "stray" in err
    assert not _exit_code(monkeypatch, does, "recipes")
    assert capfd.readouterr().out == "stray\n"
