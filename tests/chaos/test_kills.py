"""SIGKILL: of workers at random times, of the whole group, of the parent alone."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from harness import (
    assert_same,
    being_written,
    ended,
    events,
    kill,
    markers,
    run,
    start,
    torn_shards,
    until,
    wait_for_end,
    workers,
    writing,
)


@pytest.mark.parametrize("kills", [4, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(7200)])])
def test_random_kills_end_in_the_bytes_of_a_clean_run(kills: int, recipe: Path, clean: Path, tmp_path: Path) -> None:
    """Workers and whole runs are killed at random; the next run has another number of workers.

    At every kill each marker belongs to a whole shard; a run that is not killed ends by itself.
    """
    size: tuple[object, ...] = () if kills < 100 else ("--samples", 120)
    if size:
        clean = tmp_path / "clean"
        assert run("generate", recipe, "--out", clean, "--workers", 2, *size).returncode == 0
    out, dice = tmp_path / "set", random.Random(kills)
    struck = runs = halves = 0
    while struck < kills:
        process = start(
            "generate", recipe, "--out", out, "--workers", 1 + runs % 3, "--quiet", *size, FAULT="slow:0.02"
        )
        runs += 1
        pause = dice.uniform(0.05, 0.4)
        while process.poll() is None and struck < kills:
            _wait(process, out, pause)
            victims = workers(process.pid)
            if not victims or process.poll() is not None:
                continue
            busy = writing(out, process.pid)
            victims = busy if busy and dice.random() < 0.8 else victims
            halves += bool(busy)
            struck += 1
            if dice.random() < 0.1:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                kill(dice.choice(victims))
            assert torn_shards(out) == []
        words = ended(process)
        assert process.returncode in {0, -signal.SIGKILL}, words
        wait_for_end(process.pid)
        assert torn_shards(out) == []
        if process.returncode == 0 and struck < kills:  # done too soon: take some shards away and go on
            for path in dice.sample(markers(out), 3):
                path.unlink()
    assert run("generate", recipe, "--out", out, "--workers", 2, *size).returncode == 0
    assert_same(out, clean)
    assert halves, "no kill hit a shard half written"
    print(f"{struck} kills in {runs} runs, {halves} over half-written shards; {len(events(out, 'died'))} deaths logged")


def _wait(process, out: Path, pause: float) -> None:
    """Until work is under way and a little longer: a kill before that hits nothing but imports."""
    deadline = time.monotonic() + 60
    while process.poll() is None and not writing(out, process.pid) and time.monotonic() < deadline:
        time.sleep(0.005)
    end = time.monotonic() + pause * 0.5
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)


@pytest.mark.long
def test_workers_die_with_their_parent_and_the_next_run_sweeps(recipe: Path, clean: Path, tmp_path: Path) -> None:
    """Also a worker that is stopped: it could not notice anything by itself."""
    out = tmp_path / "set"
    process = start("generate", recipe, "--out", out, "--workers", 2, FAULT="slow:0.3")
    until(lambda: being_written(out) and len(workers(process.pid)) == 2, process)
    group = process.pid
    kill(workers(group)[0], signal.SIGSTOP)
    kill(group)
    ended(process)
    wait_for_end(group, seconds=5)
    assert torn_shards(out) == []
    left = being_written(out)
    done = run("generate", recipe, "--out", out, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert left, "the kill hit no half-written shard"
    assert_same(out, clean)


@pytest.mark.long
def test_a_worker_that_is_stopped_is_replaced(recipe: Path, clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    process = start("generate", recipe, "--out", out, "--workers", 2, "--time-limit", 3, FAULT="slow:0.1")
    until(lambda: being_written(out) and len(workers(process.pid)) == 2, process)
    kill(workers(process.pid)[0], signal.SIGSTOP)
    words = ended(process)
    assert process.returncode == 0, words
    assert any("silence" in event["cause"] for event in events(out, "died"))
    assert_same(out, clean)
