"""SIGTERM and SIGINT: once, to finish what is in flight; twice, at once. Never exit code 0."""

import os
import shlex
import signal
import time
from pathlib import Path

import pytest
from harness import (
    TIMEOUT,
    assert_same,
    crash_logs,
    ended,
    events,
    kill,
    markers,
    run,
    start,
    torn_shards,
    until,
    wait_for_end,
)


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "code", "to_group"),
    [(signal.SIGTERM, 143, True), (signal.SIGINT, 130, False)],
)
def test_one_signal_finishes_what_is_in_flight_and_says_how_to_go_on(
    number: signal.Signals, code: int, to_group: bool, recipe: Path, clean: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a set"
    process = start("generate", recipe, "--out", out, "--workers", 1, FAULT="slow:0.2")
    until((out / ".bokehsynth/tmp/train-000001.crashes").exists, process)
    before = len(markers(out))
    (os.killpg if to_group else os.kill)(process.pid, number)
    words = ended(process)
    assert process.returncode == code, words
    line = words.rpartition("To go on: ")[2].splitlines()[0]
    arguments = shlex.split(line)
    assert arguments[0] == "bokehsynth"
    assert str(out) in arguments
    assert before + 1 <= len(markers(out)) < 5, "the shard in flight is finished, and no other begun"
    assert torn_shards(out) == []
    assert events(out, "stopped")[-1]["message"] == number.name
    wait_for_end(process.pid)
    again = run(*arguments[1:])
    assert again.returncode == 0, again.stderr
    assert_same(out, clean)


@pytest.mark.long
def test_what_cannot_finish_in_time_is_given_up_and_not_quarantined(recipe: Path, clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    process = start("generate", recipe, "--out", out, "--workers", 1, "--grace", 0.3, FAULT="slow:2")
    until(lambda: list(out.glob(".bokehsynth/tmp/*.crashes")), process)
    kill(process.pid, signal.SIGTERM)
    words = ended(process)
    assert process.returncode == 143, words
    assert not markers(out)
    assert "not_at_fault" in next(iter(out.glob(".bokehsynth/tmp/*.crashes"))).read_text()
    assert run("generate", recipe, "--out", out).returncode == 0
    assert_same(out, clean)


def test_a_second_signal_ends_everything_at_once(recipe: Path, victim: tuple[str, int, float], tmp_path: Path) -> None:
    """The shard in flight hangs and would use all of its grace."""
    out = tmp_path / "set"
    process = start("generate", recipe, "--out", out, "--workers", 1, "--grace", 100000, "--time-limit", 100000,
                    FAULT=f"hang:{victim[2]}")  # fmt: skip
    until(lambda: str(victim[1]) in crash_logs(out).split(), process)
    kill(process.pid, signal.SIGTERM)
    time.sleep(1)
    assert process.poll() is None
    kill(process.pid, signal.SIGTERM)
    words = ended(process)
    assert process.returncode == 143
    assert "To go on: bokehsynth generate" in words
    wait_for_end(process.pid, TIMEOUT)
    assert torn_shards(out) == []
