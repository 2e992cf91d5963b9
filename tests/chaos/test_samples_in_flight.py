"""Samples that fail while others are in flight: what is written is the same as one at a time."""

import threading
from pathlib import Path

import pytest
from harness import events, quarantine
from support.promised import promised_files

import bokehsynth as bs
from bokehsynth.generation import shard_task
from bokehsynth.generation.batching import BatchOptions
from bokehsynth.generation.crash_log import CrashLog
from bokehsynth.generation.generate import GenerateOptions, run_generation
from bokehsynth.generation.plan import all_plans
from bokehsynth.generation.shard_task import ShardTask
from bokehsynth.recipe import Recipe
from bokehsynth.shards import Layout, ShardPlan

WIDE = BatchOptions(window=4, batch=3, threads=2)

Victim = tuple[str, int, float]


@pytest.fixture
def wide(recipe: Path) -> Recipe:
    """Shards of five samples, so that a window has room to move."""
    return bs.load_recipe(recipe, ["shards.samples=5"])


def plan_of(recipe: Recipe, victim: Victim) -> ShardPlan:
    return next(p for p in all_plans(recipe) if p.split == victim[0] and p.first <= victim[1] < p.first + p.count)


def shard_files(recipe: Recipe, root: Path, plan: ShardPlan, options: BatchOptions) -> tuple[dict[str, str], list[int]]:
    """Make one shard in this process; its files, and what it reported."""
    layout, reports = Layout(root), []
    layout.staging.mkdir(parents=True)
    ShardTask(recipe, layout, "cpu", options)(plan, reports.append)
    assert not list(layout.staging.iterdir())
    return promised_files(root), reports


@pytest.mark.parametrize("fault", ["raise", "black", "nothing"])
def test_a_sample_that_is_drawn_again_leaves_the_others_alone(
    fault: str, wide: Recipe, victim: Victim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", f"{fault}:{victim[2]}" if fault != "nothing" else "")
    plan = plan_of(wide, victim)
    plain, reports = shard_files(wide, tmp_path / "plain", plan, BatchOptions())
    through, bursts = shard_files(wide, tmp_path / "wide", plan, WIDE)
    assert through == plain
    assert len(plain) == 3 + (fault != "nothing"), "tar, index, marker, and the list of what was quarantined"
    assert reports == [1] * plan.count
    assert sum(bursts) == plan.count
    assert min(bursts) > 0


def test_memory_that_runs_out_ends_the_worker_and_all_in_the_making_are_suspects(
    wide: Recipe, victim: Victim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", f"memory:{victim[2]}")
    plan, layout = plan_of(wide, victim), Layout(tmp_path)
    layout.staging.mkdir(parents=True)
    for _ in range(3):
        with pytest.raises(MemoryError):
            ShardTask(wide, layout, "cpu", WIDE)(plan, lambda units: None)
        CrashLog(layout.crash_log(plan)).died("killed", 0.1)  # as the supervisor records it
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("samples")]
    suspects = set()
    while (suspect := CrashLog(layout.crash_log(plan)).suspect()) is not None:
        suspects.add(suspect.index)
        CrashLog(layout.crash_log(plan)).isolated_start(suspect.index)
        CrashLog(layout.crash_log(plan)).isolated_ok()
    assert victim[1] in suspects
    assert len(suspects) <= WIDE.window


@pytest.mark.parametrize("options", [BatchOptions(), WIDE])
def test_a_draw_that_is_fatal_after_one_that_is_no_use_is_found(
    options: BatchOptions, wide: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In isolation, a suspect is made as in its shard: from draw to draw, up to the bytes of its files."""
    layout, plan, index = Layout(tmp_path), all_plans(wide)[0], 2
    layout.staging.mkdir(parents=True)

    def pack_or_fail(sample: bs.Sample, *how: object) -> object:
        if (sample.meta["index"], sample.meta["attempt"]) == (index, 1):
            raise MemoryError
        return pack(sample, *how)

    def sample_or_fail(recipe: Recipe, draw: bs.SampleDraw, *how: object) -> object:
        sample = sample_from_draw(recipe, draw, *how)
        if (draw.index, draw.attempt) == (index, 0):
            raise ValueError("no use")
        return sample

    pack, sample_from_draw = shard_task.pack, shard_task.sample_from_draw
    monkeypatch.setattr(shard_task, "pack", pack_or_fail)
    monkeypatch.setattr(shard_task, "sample_from_draw", sample_or_fail)
    for _ in range(6):
        with pytest.raises(MemoryError):
            ShardTask(wide, layout, "cpu", options)(plan, lambda units: None)
        CrashLog(layout.crash_log(plan)).died("crashed", 0.1)
    made = ShardTask(wide, layout, "cpu", options)(plan, lambda units: None)
    assert [(draw.index, draw.attempt, draw.reason) for draw in made.quarantined] == [
        (index, 0, "raised"),
        (index, 1, "killed"),
    ]


def run(recipe: Recipe, out: Path, **options: object) -> None:
    said: list[str] = []
    result = run_generation(recipe, Layout(out), GenerateOptions(workers=1, say=said.append, **options))
    assert result.exit_code == 3, said


@pytest.mark.long  # in every run: `test_poison` finds one that is made alone in flight
def test_a_sample_that_crashes_among_others_is_found_among_the_suspects(
    wide: Recipe, victim: Victim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three crashes with all of a window suspected, the others cleared, three in isolation; then it is drawn again."""
    split, index, threshold = victim
    monkeypatch.setenv("FAULT", f"exit:{threshold}")
    run(wide, tmp_path / "set", batching=WIDE)
    assert [(e["split"], e["index"], e["attempt"], e["reason"]) for e in quarantine(tmp_path / "set")] == [
        (split, index, 0, "killed")
    ]
    assert len(events(tmp_path / "set", "died")) == 6
    monkeypatch.setenv("FAULT", "")
    run(wide, tmp_path / "plain", quarantine=tmp_path / "set/quarantine.jsonl")
    assert promised_files(tmp_path / "set") == promised_files(tmp_path / "plain")


@pytest.mark.long
def test_a_sample_that_hangs_among_others_is_found_among_the_suspects(
    wide: Recipe, victim: Victim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", f"hang:{victim[2]}")
    run(wide, tmp_path / "set", batching=WIDE, time_limit=3.0)
    assert [entry["reason"] for entry in quarantine(tmp_path / "set")] == ["hung"]
    monkeypatch.setenv("FAULT", "")
    run(wide, tmp_path / "plain", quarantine=tmp_path / "set/quarantine.jsonl")
    assert promised_files(tmp_path / "set") == promised_files(tmp_path / "plain")
