"""Every kind of exception in every command: the documented exit code, one line, no traceback on the terminal."""

import errno
import importlib
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.cli import cli, main

DOCUMENT = Path(__file__).parents[2] / "docs" / "cluster.md"

COMMANDS = {
    "generate": ("generation.generate:run_generation", ["quickstart", "--out", "set"]),
    "extend": ("generation.extend:extend", ["set", "--samples", "9"]),
    "verify": ("generation.verify:verify", ["set"]),
    "finalize": ("generation.generate:finalize", ["set"]),
    "merge": ("generation.merge:merge", ["set", "part"]),
    "audit": ("generation.audit:audit", ["set"]),
    "replay": ("generation.replay:replay_sample", ["set", "train-000000000"]),
    "report": ("generation.report.write:write_report", ["set"]),
    "export": ("generation.export.run:export_dataset", ["set", "--to", "folder", "--out", "set"]),
    "publish": ("generation.publish:publish", ["set", "me/set"]),
    "preview": ("pipeline:make_sample", ["quickstart", "--count", "1"]),
    "estimate": ("generation.estimate:estimate", ["quickstart"]),
    "assets": ("assets.index.report:FolderReport", ["."]),
    "render": ("rendering:render", ["--background", "in.png", "--focus", "0.5", "--blur", "0", "--out", "out.png"]),
    "calibrate": ("calibration:calibrate", ["in.png", "--out", "lens.json"]),
    "degrade": ("degradation:degrade", ["in.png", "out.png"]),
    "recipes": ("recipe:packaged_recipes", []),
    "schema": ("generation.recipe_schema:recipe_schema", []),
}
"""What each command calls, and a line that comes to it."""

ERRORS = {
    "usage": (bs.UsageError("no"), 2),
    "recipe": (bs.RecipeError("no"), 2),
    "device": (bs.DeviceError("no"), 2),
    "changed": (bs.ChangedError("no"), 2),
    "data": (bs.DataError("no"), 1),
    "no set": (bs.NoDatasetError("no"), 2),
    "asset": (bs.AssetError("no"), 3),
    "storage": (bs.StorageError("no"), 4),
    "locked": (bs.LockedError("no"), 5),
    "budget": (bs.FailureBudgetError("no"), 6),
    "disk full": (OSError(errno.ENOSPC, "No space left on device", "x"), 4),
    "permission": (PermissionError(errno.EACCES, "Permission denied", "x"), 4),
    "pipe": (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1),
    "interrupt": (KeyboardInterrupt(), 130),
    "exit with words": (SystemExit("gone"), 1),
    "exit 0": (SystemExit(0), 1),
    "memory": (MemoryError(), 1),
    "recursion": (RecursionError("maximum recursion depth exceeded"), 1),
    "value": (ValueError("several\nlines\nof words"), 1),
    "unicode": (UnicodeEncodeError("latin-1", "\u2581", 0, 1, "ordinal not in range"), 1),
    "key": (KeyError("k"), 1),
    "assertion": (AssertionError(), 1),
    "import": (ImportError("no module"), 1),
    "OpenCV": (cv2.error("assertion failed\n in function"), 1),
    "escapes": (bs.DataError("\x1b]0;owned\x07"), 1),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cv2.imwrite("in.png", np.zeros((20, 30, 3), np.uint8))
    return tmp_path


def test_every_command_is_tried() -> None:
    assert set(COMMANDS) == set(cli.commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_whatever_is_raised_in_a_command_has_its_code_and_one_line(
    command: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target, line = COMMANDS[command]
    module, _, name = target.partition(":")

    class Raises:
        """Raises when it is called or asked for anything."""

        error: BaseException

        def __call__(self, *arguments: object, **options: object) -> None:
            raise self.error

        def __getattr__(self, attribute: str) -> object:
            if attribute.startswith("__"):
                raise AttributeError(attribute)
            raise self.error

    raises = Raises()
    monkeypatch.setattr(importlib.import_module(f"bokehsynth.{module}"), name, raises)
    monkeypatch.setattr(sys, "argv", ["bokehsynth", command, *line])
    for kind, (error, code) in ERRORS.items():
        raises.error = error
        with pytest.raises(SystemExit) as end:
            main()
        said = [text for text in capsys.readouterr().err.splitlines() if text]
        assert (kind, end.value.code) == (kind, code)
        assert len(said) == 1, (kind, said)
        assert "Traceback" not in said[0]
        assert said[0].isprintable()
    assert not (place / "set").exists()
    assert not (place / "out.png").exists()


def test_the_document_has_every_code() -> None:
    table = DOCUMENT.read_text(encoding="utf-8").split("## Exit codes for schedulers")[1].split("\n\n")[2]
    documented = {int(code) for row in table.splitlines()[2:] for code in re.findall(r"\d+", row.split("|")[1])}
    assert documented == {0, 143} | {code for _, code in ERRORS.values()}
