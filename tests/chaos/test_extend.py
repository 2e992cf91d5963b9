"""A finished set made larger: what is there keeps its bytes, whatever happens on the way."""

import json
import shutil
from pathlib import Path

import pytest
from harness import assert_same, ended, events, kill, markers, promised_files, run, start, until


@pytest.fixture(scope="module")
def extended(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("extended") / "set"
    assert run("generate", recipe, "--out", out).returncode == 0
    done = run("extend", out, "--trust-code", "--samples", 24)
    assert done.returncode == 0, done.stderr
    return out


def test_old_shards_keep_their_bytes_and_short_ones_stay_short(extended: Path, clean: Path) -> None:
    before, after = promised_files(clean), promised_files(extended)
    old = [name for name in before if name.startswith(("train/", "val/", ".bokehsynth/"))]
    assert {name: after[name] for name in old} == {name: before[name] for name in old}
    counts = {
        split: part["counts"] for split, part in json.loads((extended / "dataset.json").read_text())["splits"].items()
    }
    assert counts == {"train": [3, 3, 3, 1, 3, 3, 3, 1], "val": [2, 2]}
    assert run("verify", extended).returncode == 0


@pytest.mark.long
def test_an_extension_that_is_killed_goes_on(extended: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert run("generate", recipe, "--out", out).returncode == 0
    process = start("extend", out, "--trust-code", "--samples", 24, "--workers", 1, FAULT="slow:0.2")
    until(lambda: len(markers(out)) > 6, process)
    kill(process.pid)
    ended(process)
    assert json.loads((out / "dataset.json").read_text())["splits"]["train"]["samples"] == 10, "readers see the old set"
    other = run("extend", out, "--trust-code", "--samples", 36)
    assert other.returncode == 2
    assert "is not finished" in other.stderr
    done = run("extend", out, "--trust-code", "--samples", 24, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert_same(out, extended)
    again = run("extend", out, "--trust-code", "--samples", 24)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout
    smaller = run("extend", out, "--trust-code", "--samples", 20)
    assert smaller.returncode == 2
    assert "never shrink" in smaller.stderr
    assert_same(out, extended)


@pytest.mark.long
@pytest.mark.parametrize("text", [None, "[]", "{", '[{"train": 900, "val": 90}]', '[{"train": 5, "val": 1}]'])
def test_a_record_of_extensions_that_is_lost_or_altered_cuts_nothing_anew(
    text: str | None, extended: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    shutil.copytree(extended, out)
    record = out / ".bokehsynth/extensions.json"
    if text is None:
        record.unlink()
    else:
        record.write_text(text)
    before = len(events(out, "committed"))
    for line in (("verify", out), ("extend", out, "--trust-code", "--samples", 24), ("finalize", out, "--trust-code")):
        done = run(*line)
        assert done.returncode in {1, 2}, done.stdout
        assert "extensions.json" in done.stdout + done.stderr
        assert "verify --fix" in done.stdout + done.stderr
    assert_same(out, extended)
    assert run("verify", out, "--fix").returncode == 1
    assert run("extend", out, "--trust-code", "--samples", 24).returncode == 0
    assert len(events(out, "committed")) == before
    assert_same(out, extended)
    assert run("verify", out).returncode == 0
