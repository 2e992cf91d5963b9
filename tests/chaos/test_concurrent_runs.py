"""Several runs on one folder, other machines, other clocks, other versions."""

import itertools
import json
import shutil
from pathlib import Path

import pytest
from harness import assert_same, ended, events, kill, markers, promised_files, run, start, until


@pytest.mark.long
def test_the_second_run_on_a_folder_is_turned_away_with_the_owner_named(
    recipe: Path, clean: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    first = start("generate", recipe, "--out", out, "--workers", 1, FAULT="slow:0.5")
    until(lambda: list(out.glob(".bokehsynth/tmp/*.crashes")), first)
    second = run("generate", recipe, "--out", out)
    assert second.returncode == 5, second.stderr
    assert f"process {first.pid} on " in second.stderr
    third = run("generate", recipe, "--out", out, "--shards", "1/2")
    assert third.returncode == 5, "a range of it is the first one's as well"
    assert run("verify", out, "--fix").returncode in {1, 5}
    assert not (out / "dataset.json").exists()
    kill(first.pid)  # its lock goes with it, at once
    ended(first)
    assert run("generate", recipe, "--out", out).returncode == 0
    assert_same(out, clean)


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 7])
def test_any_number_of_workers(workers: int, recipe: Path, clean: Path, tmp_path: Path) -> None:
    assert run("generate", recipe, "--out", tmp_path / "set", "--workers", workers).returncode == 0
    assert_same(tmp_path / "set", clean)


@pytest.mark.long
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_ranges_in_any_order(order: tuple[int, ...], recipe: Path, clean: Path, tmp_path: Path) -> None:
    for i in order:
        assert run("generate", recipe, "--out", tmp_path / "set", "--shards", f"{i}/3").returncode == 0
    assert_same(tmp_path / "set", clean)


def test_ranges_at_once(recipe: Path, clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    runs = [start("generate", recipe, "--out", out, "--shards", f"{i}/3", "--workers", 1) for i in (1, 2, 0)]
    for one in runs:
        words = ended(one)
        assert one.returncode == 0, words
    assert_same(out, clean)


OLDER_CPU = [
    {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
    {"OPENCV_CPU_DISABLE": "AVX2,SSE4.2"},
]


@pytest.mark.parametrize("switches", OLDER_CPU, ids=["numba", "opencv"])
def test_another_class_of_cpu_stops_unless_allowed(
    switches: dict[str, str], recipe: Path, clean: Path, tmp_path: Path
) -> None:
    """The libraries' own switches limit their dispatch to what an older CPU has."""
    out = tmp_path / "set"
    shutil.copytree(clean, out)
    (out / "dataset.json").unlink()
    for marker in markers(out)[:1]:
        marker.unlink()
    before = promised_files(out)
    done = run("generate", recipe, "--out", out, **switches)
    assert done.returncode == 2, done.stderr
    assert "another kind of machine" in done.stderr
    assert "dispatch: " in done.stderr
    assert "--allow-mixed" in done.stderr
    assert promised_files(out) == before


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("switches", OLDER_CPU, ids=["numba", "opencv"])
def test_another_class_of_cpu_goes_on_if_allowed_and_is_recorded(
    switches: dict[str, str], recipe: Path, clean: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    shutil.copytree(clean, out)
    (out / "dataset.json").unlink()
    markers(out)[0].unlink()
    done = run("generate", recipe, "--out", out, "--allow-mixed", NUMBA_CACHE_DIR=tmp_path / "kernels", **switches)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((out / "dataset.json").read_text())["made_with"]["mixed"]) == 2


@pytest.mark.long
def test_another_device_stops(recipe: Path, clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    shutil.copytree(clean, out)
    (out / "dataset.json").unlink()
    record = out / ".bokehsynth/machine.json"
    record.write_text(record.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    done = run("generate", recipe, "--out", out)
    assert done.returncode == 2, done.stderr
    assert 'device: "cuda" -> "cpu"' in done.stderr


@pytest.mark.long
def test_clocks_that_jump_by_a_day_do_nothing(shim: Path, recipe: Path, clean: Path, tmp_path: Path) -> None:
    """Back and forth, once a second: no worker is taken for hung, no lock for stale, no time is in any file."""
    out = tmp_path / "set"
    done = run("generate", recipe, "--out", out, "--time-limit", 20, LD_PRELOAD=shim, JUMP=86400, FAULT="slow:0.2")
    assert done.returncode == 0, done.stderr
    days = {event["time"][:10] for event in events(out, "committed")}
    assert len(days) > 1, "the clock did not jump"
    assert not events(out, "died")
    assert_same(out, clean)


@pytest.mark.parametrize("version", [0, pytest.param(2, marks=pytest.mark.long)])
def test_a_folder_of_another_format_is_left_alone(version: int, recipe: Path, clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    shutil.copytree(clean, out)
    (out / "dataset.json").unlink()
    for marker in markers(out)[:2]:
        marker.write_text(marker.read_text().replace('"format": 1', f'"format": {version}'))
    before = promised_files(out)
    for command in (("generate", recipe, "--out", out), ("verify", out, "--fix")):
        done = run(*command)
        assert done.returncode == 2, done.stdout + done.stderr
        assert f"of format {version}; this bokehsynth writes format 1" in done.stderr
    assert promised_files(out) == before
