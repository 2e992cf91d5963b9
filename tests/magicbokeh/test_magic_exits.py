"""Whatever a command raises ends in one line and in the right exit code; output that fails ends nothing."""

import errno
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import click
import numpy as np
import pytest
from PIL import Image
from support.magic_toys import TOY, toy_networks

from bokehsynth import AssetError, DataError, DeviceError, LockedError, RecipeError, StorageError, UsageError
from magicbokeh import MagicBokehPipeline
from magicbokeh.cli import cli, main
from magicbokeh.given_files import printable

COMMANDS = {
    "infer": (["infer", "PHOTO", "--model", "m", "--out", "o"], "magicbokeh.inference.infer.infer_photos"),
    "convert": (
        ["convert", "--base", "b", "--lora", "l", "--out", "o"],
        "magicbokeh.conversion.official.convert_official",
    ),
    "export": (["export", "--model", "m", "--out", "o"], "magicbokeh.inference.infer.export_model"),
    "train": (["train", "tiny", "--out", "o"], "magicbokeh.training.run.train"),
    "evaluate": (["evaluate", ".", "--methods", "lq", "--out", "o"], "magicbokeh.evaluation.evaluate.evaluate"),
    "demo": (["demo"], "magicbokeh.demo.server.run_demo"),
}  # fmt: skip


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


def worker_error():
    """An error in a process of the loader, as torch hands it on."""
    return DataError(
        "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "x.py", line 1, in f\nbokehsynth.errors.DataError: train-000000003: damaged\n'
    )


# what is raised, exit code, what the line says, whether a traceback is kept
CASES = {
    "OSError": (OSError(errno.ENOSPC, "No space left on device", "/data/x"), 4, "/data/x: No space left", True),
    "EMFILE": (OSError(errno.EMFILE, "Too many open files"), 4, "ulimit -n", True),
    "PermissionError": (PermissionError(errno.EACCES, "Permission denied", b"/\xff"), 4, "Permission denied", True),
    "OSError without number": (OSError("odd"), 1, "OSError: odd", True),
    "BrokenPipeError": (BrokenPipeError(errno.EPIPE, "Broken pipe"), 4, "Broken pipe", True),
    "MemoryError": (MemoryError(), 1, "not enough memory", True),
    "torch's memory": (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "not enough memory", True),
    "CUDA's memory": (OutOfMemoryError("CUDA out of memory"), 1, "not enough memory", True),
    "RecursionError": (RecursionError("maximum recursion depth exceeded"), 1, "nested too deeply", True),
    "UnicodeEncodeError": (UnicodeEncodeError("ascii", "ä", 0, 1, "no"), 1, "UnicodeEncodeError", True),
    "EOFError": (EOFError(), 1, "EOFError", True),
    "KeyError": (KeyError("seed"), 1, "KeyError: 'seed'", True),
    "AssertionError": (AssertionError(), 1, "AssertionError", True),
    "SystemExit(0)": (SystemExit(0), 1, "SystemExit(0)", True),
    "SystemExit(None)": (SystemExit(), 1, "SystemExit(None)", True),
    "SystemExit(3)": (SystemExit(3), 1, "SystemExit(3)", True),
    "SystemExit(text)": (SystemExit("no licence found"), 1, "no licence found", True),
    "GeneratorExit": (GeneratorExit(), 1, "GeneratorExit", True),
    "KeyboardInterrupt": (KeyboardInterrupt(), 130, "interrupted", False),
    "Abort": (click.Abort(), 130, "interrupted", False),
    "UsageError": (UsageError("blur: no"), 2, "error: blur: no", False),
    "RecipeError": (RecipeError("a.yaml:\n  line 1"), 2, "error: a.yaml:\n  line 1", False),
    "DeviceError": (DeviceError("cuda: none"), 2, "error: cuda: none", False),
    "DataError": (DataError("x: damaged"), 1, "error: x: damaged", False),
    "worker": (worker_error(), 1, "error: bokehsynth.errors.DataError: train-000000003: damaged", False),
    "AssetError": (AssetError("x: none"), 3, "error: x: none", False),
    "StorageError": (StorageError("x: full"), 4, "error: x: full", False),
    "LockedError": (LockedError("x: taken"), 5, "error: x: taken", False),
    "click": (click.UsageError("no such option \x1b[2K"), 2, r"no such option \x1b[2K", False),
    "torch is missing": (ModuleNotFoundError("No module named 'torch'", name="torch"), 2, "bokehsynth[train]", False),
    "another is missing": (ModuleNotFoundError("No module named 'lens'", name="lens"), 1, "'lens'", True),
    "names": (DataError("a\x1b]0;owned\x07\r\nerror: b\u202e"), 1, r"a\x1b]0;owned\x07\r\nerror: b\u202e", False),
}  # fmt: skip


def raises(error):
    def call(*_, **__):
        raise error

    return call


def run(monkeypatch, capfd, *arguments):
    """The console script: (exit code, standard output, standard error)."""
    monkeypatch.setattr(sys, "argv", ["magicbokeh", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_info:
        main()
    out, err = capfd.readouterr()
    return exit_info.value.code, out, err


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a photo, and a folder for temporary files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 112, 3), np.uint8)).save("photo.png")
    return tmp_path


def test_every_command_is_tried():
    assert COMMANDS.keys() == cli.commands.keys()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", CASES)
def test_every_exception_in_every_command(monkeypatch, capfd, place, command, case):
    line, inner = COMMANDS[command]
    error, code, says, kept = CASES[case]
    monkeypatch.setattr(inner, raises(error))
    monkeypatch.setattr("magicbokeh.recipe.load_train_recipe", lambda *_: None)  # a second each
    found, out, err = run(monkeypatch, capfd, *(word.replace("PHOTO", "photo.png") for word in line))
    assert (found, out) == (code, "")
    assert says in err
    assert "Traceback" not in err
    assert case in ("RecipeError", "click") or err.count("\n") == 1
    logs = list(place.glob("magicbokeh-*.log"))
    assert len(logs) == kept
    if kept:
        assert str(logs[0]) in err
        assert type(error).__name__ in logs[0].read_text()


def test_the_photo_that_was_worked_on_is_named(monkeypatch, capfd, place):
    monkeypatch.setattr("magicbokeh.inference.infer.open_pipeline", lambda *_: SimplePipe())
    monkeypatch.setattr("magicbokeh.inference.infer._infer_photo", raises(RecursionError()))
    code, _, err = run(monkeypatch, capfd, "infer", "photo.png", "--model", "m", "--out", "o")
    assert code == 1
    assert err.startswith("error: photo.png: ")


class SimplePipe:
    device = SimpleNamespace(type="cpu")

    def fuse(self):
        return self


def test_no_place_for_a_traceback(monkeypatch, capfd, place):
    monkeypatch.setattr("tempfile.mkstemp", raises(OSError(errno.EROFS, "Read-only file system")))
    monkeypatch.setattr(COMMANDS["export"][1], raises(KeyError("x")))
    code, _, err = run(monkeypatch, capfd, *COMMANDS["export"][0])
    assert code == 1
    assert "could not be kept" in err


@pytest.mark.parametrize("text", ["plain ä 文", "\x1b[2K", "a\nb", "\x9b31m", "\u202eabc", "\udcff"])
def test_printable(text):
    found = printable(text)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", found)
    assert (found == text) == text.startswith("plain")
    assert printable("a\nb", lines=True) == "a\nb"


# --- streams, from outside


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "toy"
    MagicBokehPipeline.from_networks(toy_networks(), TOY).save_pretrained(path)
    return path


SCRIPT = [sys.executable, "-c", "from magicbokeh.cli import main; main()"]


def test_a_reader_that_leaves_ends_nothing(place, model):
    """`infer a b c | head -0`: every photo is done, and the exit code says so."""
    names = ["a\x1b[2K.png", "b\n.png", "c.png"]
    for name in names:
        (place / name).write_bytes((place / "photo.png").read_bytes())
    read, write = os.pipe()
    os.close(read)
    line = [*SCRIPT, "infer", *names, "--model", str(model), "--blur", "0", "--out", "out", "--device", "cpu"]
    done = subprocess.run(line, stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=250)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (place / "out").iterdir()) == sorted(names)


def test_a_full_stdout_is_told(place, model):
    line = [*SCRIPT, "infer", "photo.png", "--model", str(model), "--blur", "0", "--out", "out", "--device", "cpu"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=250)
        assert done.returncode == 0
        assert done.stderr == "warning: stdout: No space left on device; files are not affected\n"
        assert (place / "out" / "photo.png").is_file()
        helped = subprocess.run([*SCRIPT, "--help"], stdout=full, stderr=subprocess.PIPE, check=False, timeout=250)
        assert helped.returncode == 4  # the words were all that was asked for


@pytest.mark.long
def test_names_on_the_terminal_and_an_ascii_stdout(place, model):
    name = "\x1b]0;owned\x07\x1b[2K\rdone ä.png"
    (place / name).write_bytes((place / "photo.png").read_bytes())
    line = [*SCRIPT, "infer", name, "--model", str(model), "--blur", "0", "--out", "out", "--device", "cpu"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(line, capture_output=True, env=environment, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout
    assert b"\r" not in done.stdout
    assert rb"\x1b]0;owned\x07\x1b[2K\rdone \xe4.png ->" in done.stdout


@pytest.mark.long
def test_closed_streams(place, model):
    line = [*SCRIPT, "infer", "photo.png", "--model", str(model), "--blur", "0", "--out", "out", "--device", "cpu"]
    done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *line], check=False, timeout=250)
    assert done.returncode == 0
    with Image.open("out/photo.png") as picture:
        assert picture.size == (112, 80)
