"""SIGKILL: of workers at random times, of the whole group, of the parent alone."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from harness import (
    assert_same,
    being_written,
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


def test_what_runs_that_were_taken_away_left_behind_convicts_no_sample(
    recipe: Path, clean: Path, tmp_path: Path
) -> None:
    """A node that vanishes takes the supervisor along: beginnings without a recorded death, however many."""
    out = tmp_path / "set"
    (out / ".bokehsynth/tmp").mkdir(parents=True)
    for name in ("train-000000", "train-000002", "val-000000"):
        first = 6 if name == "train-000002" else 0
        left = f"begin\n{first}\n" * 20 + f"isolated {first}\n" * 20 + "control\n" * 20
        (out / f".bokehsynth/tmp/{name}.crashes").write_text(left)
    (out / ".bokehsynth/tmp/train-000001.trail").write_text("begin\n3\n" * 9 + "alone 3\n" * 9)  # of 0.4.0
    done = run("generate", recipe, "--out", out, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert_same(out, clean)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_group_that_is_killed_over_one_slow_sample_convicts_nothing(
    recipe: Path, clean: Path, tmp_path: Path
) -> None:
    """Eight times, one second into its first sample of four."""
    out = tmp_path / "set"
    for _ in range(8):
        process = start("generate", recipe, "--out", out, "--workers", 1, FAULT="slow:4")
        lines = len(crash_logs(out).splitlines())
        until(lambda lines=lines: len(crash_logs(out).splitlines()) >= lines + 2, process)
        time.sleep(1)
        os.killpg(process.pid, signal.SIGKILL)
        ended(process)
        wait_for_end(process.pid)
        assert not markers(out)
    done = run("generate", recipe, "--out", out, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert_same(out, clean)


SLOW_KILLS = int(os.environ.get("SLOW_KILLS", "200"))


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_kills_over_slow_samples_end_in_the_bytes_of_a_clean_run(recipe: Path, clean: Path, tmp_path: Path) -> None:
    """Samples of one to four seconds; groups, parents, workers at random times, and the worker of one shard each time
    that it has got going. No sample is convicted, whatever was hit how often."""
    out, dice = tmp_path / "set", random.Random(SLOW_KILLS)
    struck: Counter[str] = Counter()
    runs = finished = 0
    while struck.total() < SLOW_KILLS:
        way = ("group", "worker", "parent", "same")[runs % 4]
        process = start(
            "generate", recipe, "--out", out, "--workers", 1 + runs // 4 % 3, "--quiet", FAULT="slow_between:1"
        )
        runs += 1
        hits = {"worker": 14, "same": 14}.get(way, 1)
        known: set[int] = set()
        while process.poll() is None and hits and struck.total() < SLOW_KILLS:
            _wait_for_work(process, out, known if way == "same" else set())
            pause = 1.0 if way == "same" else dice.uniform(0.2, 4)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(pause)
            victims = workers(process.pid)
            if process.poll() is not None or not victims:
                continue
            hits -= 1
            struck[way] += 1
            if way == "group":
                os.killpg(process.pid, signal.SIGKILL)
            elif way == "parent":
                kill(process.pid)
            else:
                known |= set(victims)
                kill(min(victims) if way == "same" else dice.choice(victims))
            assert torn_shards(out) == []
        words = ended(process)
        assert process.returncode in {0, -signal.SIGKILL}, words
        wait_for_end(process.pid)
        assert not list(out.glob(".bokehsynth/*/*.quarantine.jsonl"))
        if process.returncode == 0 and struck.total() < SLOW_KILLS:  # done: take some shards away and go on
            finished += 1
            for path in dice.sample(markers(out), 4):
                path.unlink()
    done = run("generate", recipe, "--out", out, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert_same(out, clean)
    died = events(out, "died")
    counted = sum(event["counted"] for event in died)
    print(f"{dict(struck)} kills, {runs} runs, {finished} of them finished; {len(died)} deaths seen, {counted} counted")


def _wait_for_work(process, out: Path, known: set[int]) -> None:
    """Until a worker that is not known yet has begun a sample, a trial or a control."""
    lines = len(crash_logs(out).splitlines())
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if set(workers(process.pid)) - known and len(crash_logs(out).splitlines()) != lines:
            return
        time.sleep(0.02)


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
