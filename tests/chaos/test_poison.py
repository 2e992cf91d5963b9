"""Samples that kill, hang, raise or are no use: quarantined, listed, drawn again, and all else unchanged."""

import json
import signal
from pathlib import Path

import pytest
from harness import assert_same, ended, events, kill, promised_files, quarantine, run, start, until, workers

import bokehsynth as bs

Victim = tuple[str, int, float]


def assert_only_the_victim_differs(out: Path, clean: Path, victim: Victim) -> None:
    """Its shard, and what speaks of it, has other bytes; its sample is the next draw."""
    split, index, _ = victim
    mine, theirs = promised_files(out), promised_files(clean)
    stem = f"{split}-{index // 3:06d}"
    speaking = {"dataset.json", "README.md", "quarantine.jsonl"}
    differing = {name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name)} - speaking
    assert differing
    assert all(stem in name for name in differing)
    assert bs.open_dataset(out, split)[index].meta["attempt"] == 1
    for other in set(range(index - index % 3, index - index % 3 + 3)) - {index}:
        assert bs.open_dataset(out, split)[other].meta == bs.open_dataset(clean, split)[other].meta
    done = run("verify", out)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("fault", "deaths"), [("exit", 3 + 3), pytest.param("kill", 3 + 5, marks=pytest.mark.long)])
def test_a_sample_that_kills_is_found_also_across_runs(
    fault: str, deaths: int, recipe: Path, clean: Path, victim: Victim, tmp_path: Path
) -> None:
    """The deaths are counted on disk: the first run is killed itself, the second goes on counting.

    Three in the shard, then alone three crashes, or five kills; and one that the first run may not have recorded.
    """
    split, index, threshold = victim
    out = tmp_path / "set"
    first = start("generate", recipe, "--out", out, "--workers", 1, FAULT=f"{fault}:{threshold}")
    until(lambda: len(events(out, "died")) >= 2 if (out / "logs/events.jsonl").exists() else False, first)
    kill(first.pid)
    ended(first)
    crash_log = next(iter(out.glob(".bokehsynth/tmp/*.crashes"))).read_text()
    assert crash_log.count("begin") >= 2
    done = run("generate", recipe, "--out", out, "--workers", 2, FAULT=f"{fault}:{threshold}")
    assert done.returncode == 3, done.stderr
    assert "1 samples in quarantine" in done.stderr
    assert deaths <= len(events(out, "died")) <= deaths + 1
    entry = quarantine(out)
    assert [(e["split"], e["index"], e["attempt"], e["reason"]) for e in entry] == [(split, index, 0, "killed")]
    assert_only_the_victim_differs(out, clean, victim)


@pytest.mark.long
def test_a_run_that_is_given_the_list_makes_the_same_bytes(
    recipe: Path, clean: Path, victim: Victim, tmp_path: Path
) -> None:
    """Also on a machine where nothing dies."""
    out = tmp_path / "set"
    assert run("generate", recipe, "--out", out, "--workers", 2, FAULT=f"kill:{victim[2]}").returncode == 3
    again = run("generate", recipe, "--out", out)
    assert again.returncode == 3, "nothing to do, and still not what was asked for"
    assert "nothing to do" in again.stdout
    elsewhere = tmp_path / "elsewhere"
    other = run("generate", recipe, "--out", elsewhere, "--quarantine", out / "quarantine.jsonl")
    assert other.returncode == 3, other.stderr
    assert_same(elsewhere, out)
    late = run("generate", recipe, "--out", clean, "--quarantine", out / "quarantine.jsonl")
    assert late.returncode == 2, "its shard is committed with the first draw"


@pytest.mark.long
def test_a_sample_that_hangs_is_given_up(recipe: Path, clean: Path, victim: Victim, tmp_path: Path) -> None:
    out = tmp_path / "set"
    done = run("generate", recipe, "--out", out, "--workers", 2, "--time-limit", 2, FAULT=f"hang:{victim[2]}")
    assert done.returncode == 3, done.stderr
    assert [entry["reason"] for entry in quarantine(out)] == ["hung"]
    assert sum("silence" in event["cause"] for event in events(out, "died")) >= 3
    assert_only_the_victim_differs(out, clean, victim)


@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        ("black", "black", "lq is black"),
        pytest.param("nan", "raised", "not finite", marks=pytest.mark.long),
        pytest.param("raise", "raised", "ZeroDivisionError: no light in ", marks=pytest.mark.long),
    ],
)
def test_a_sample_that_is_no_use_is_drawn_again(
    fault: str, reason: str, words: str, recipe: Path, clean: Path, victim: Victim, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    done = run("generate", recipe, "--out", out, "--workers", 2, FAULT=f"{fault}:{victim[2]}")
    assert done.returncode == 3, done.stderr
    (entry,) = quarantine(out)
    assert (entry["key"], entry["reason"]) == (f"{victim[0]}-{victim[1]:09d}", reason)
    assert words in entry["message"]
    assert not events(out, "died")
    assert_only_the_victim_differs(out, clean, victim)


@pytest.mark.long
def test_an_undegraded_sample_is_drawn_again(recipe: Path, victim: Victim, tmp_path: Path) -> None:
    """Without blur, lq would be hq, and nothing could be learnt from it."""
    out = tmp_path / "set"
    done = run("generate", recipe, "--out", out, "--set", "scene.blur=0", FAULT=f"same:{victim[2]}")
    assert done.returncode == 3, done.stderr
    assert [entry["reason"] for entry in quarantine(out)] == ["not_degraded"]


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("fault", ["raise", "kill"])
def test_a_step_that_always_fails_ends_the_run(fault: str, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    done = run("generate", recipe, "--out", out, "--workers", 2, FAULT=f"{fault}:1")
    assert done.returncode == 6, done.stderr
    assert "Traceback" not in done.stderr
    assert "What was committed stays valid" in done.stderr
    assert not (out / "dataset.json").exists()
    assert json.loads((out / "logs/events.jsonl").read_text().splitlines()[-1])["event"] == "stopped"


@pytest.mark.parametrize(("fault", "cause"), [("exit", "code 7"), ("abort", "SIGABRT"), ("memory", "out of memory")])
@pytest.mark.long
def test_every_kind_of_death_is_understood(
    fault: str, cause: str, recipe: Path, clean: Path, victim: Victim, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    done = run("generate", recipe, "--out", out, "--workers", 2, FAULT=f"{fault}:{victim[2]}")
    assert done.returncode == 3, done.stderr
    assert all(cause in event["cause"] for event in events(out, "died"))
    assert_only_the_victim_differs(out, clean, victim)


@pytest.mark.long
def test_kills_from_outside_quarantine_no_sample(recipe: Path, clean: Path, tmp_path: Path) -> None:
    """The same shard loses its worker five times; in isolation, its samples harm no worker."""
    out = tmp_path / "set"
    process = start("generate", recipe, "--out", out, "--workers", 1, FAULT="slow:0.4")
    seen: set[int] = set()
    while len(seen) < 5 and process.poll() is None:
        new = [pid for pid in workers(process.pid) if pid not in seen]
        shard = out / ".bokehsynth/tmp/train-000000.crashes"
        if new and shard.exists() and shard.read_text().count("begin") > len(seen):
            seen.add(new[0])
            kill(new[0], signal.SIGKILL)
    words = ended(process)
    assert process.returncode == 0, words
    assert len(events(out, "died")) >= 4
    assert_same(out, clean)
