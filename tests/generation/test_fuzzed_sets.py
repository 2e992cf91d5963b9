"""Bytes of a finished set mutated at random: documented exit codes, one line, no traceback, whatever is changed."""

import contextlib
import io
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.hostile_sets import JSON_FILES, OTHER_FILES
from support.small_set import make_small_set

import bokehsynth as bs
from bokehsynth.cli import main

FILES = sorted({*JSON_FILES, *OTHER_FILES} - {"README.md", "preview.png"})
PIECES = [
    b"\0", b"\xff", b"\n", b'"', b"{", b"}", b"[", b"]", b",", b":", b"-", b"9" * 30, b"null", b"NaN", b"1e999",
    b"true", b"../", b"/", b"\\ud800", b"\\u0000", b"\x1b[2K", b"train", b"val", b"&a ", b"*a",
    b"!!python/object:os.system ", b"512 ", b"png", b"[" * 200,
]  # fmt: skip
"""What may be put into a file."""


@st.composite
def changes(draw: st.DrawFn) -> list[tuple]:
    """Some changes: (file, kind, place as a share of the file, piece or length)."""
    one = st.tuples(
        st.sampled_from(FILES), st.sampled_from(["flip", "put", "cut", "drop", "double", "empty"]), st.floats(0, 1),
        st.sampled_from(PIECES), st.integers(1, 600),
    )  # fmt: skip
    return draw(st.lists(one, min_size=1, max_size=3))


def apply(out: Path, change: tuple) -> None:
    name, kind, share, piece, length = change
    path = out / name
    data = path.read_bytes() if path.exists() else b""
    at = int(share * len(data))
    match kind:
        case "flip":
            data = data[:at] + bytes([(data[at] if at < len(data) else 0) ^ (1 << length % 8)]) + data[at + 1 :]
        case "put":
            data = data[:at] + piece + data[at:]
        case "cut":
            data = data[:at]
        case "drop":
            data = data[:at] + data[at + length :]
        case "double":
            data = data[: at + length] + data[at:]
        case _:
            data = b""
    path.write_bytes(data)


def end_of(*arguments: str) -> tuple[int, str]:
    """Exit code and words of a command in this process."""
    before, sys.argv = sys.argv, ["bokehsynth", *arguments]
    words = io.StringIO()
    try:
        with (
            contextlib.redirect_stderr(words), contextlib.redirect_stdout(io.StringIO()),
            pytest.raises(SystemExit) as end,
        ):  # fmt: skip
            main()
    finally:
        sys.argv = before
    return end.value.code, words.getvalue()


def read(out: Path) -> None:
    with contextlib.suppress(bs.BokehsynthError):
        for split in ("train", "val"):
            for sample in bs.open_dataset(out, split):
                assert sample.lq.shape == (32, 32, 3)


def check(good: Path, changed: list[tuple]) -> None:
    """Read a changed copy in every way."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        shutil.copytree(good, out)
        for change in changed:
            apply(out, change)
        read(out)
        for line in (
            ["verify", str(out)],
            ["replay", str(out), "train-000000000"],
            ["report", str(out), "--out", f"{folder}/page.html"],
            ["verify", str(out), "--fix"],
            ["finalize", str(out)],
        ):
            code, words = end_of(*line)
            assert code in {0, 1, 2, 4}, (line, words)
            assert "Traceback" not in words
            assert "error: unexpected" not in words, (line, words)
            assert len([text for text in words.splitlines() if text.startswith("error:")]) == (code != 0), (line, words)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small_set(tmp_path_factory.mktemp("good") / "set").root


quietly = settings(
    suppress_health_check=list(HealthCheck), deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)


@settings(quietly, max_examples=8)
@given(changes())
def test_a_changed_set_ends_every_command_in_one_line(good: Path, changed: list[tuple]) -> None:
    check(good, changed)


@pytest.mark.long
@pytest.mark.timeout(7200)
@settings(quietly, max_examples=1000, derandomize=False)
@given(changes())
def test_hundreds_of_changed_sets(good: Path, changed: list[tuple]) -> None:
    check(good, changed)
