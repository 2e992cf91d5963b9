"""Samples that go wrong while others are in the making around them: what is written is as if each were alone."""

import threading
from pathlib import Path

import pytest
from harness import events, quarantine
from support.promised import promised_files

import bokehsynth as bs
from bokehsynth.generation import shard_task
from bokehsynth.generation.batching import Flow
from bokehsynth.generation.crash_log import Trail
from bokehsynth.generation.generate import Run, carry_out
from bokehsynth.generation.plan import all_plans
from bokehsynth.generation.shard_task import ShardMaker
from bokehsynth.recipe import Recipe
from bokehsynth.shards import Layout, ShardPlan

WIDE = Flow(window=4, batch=3, threads=2)

Victim = tuple[str, int, float]


@pytest.fixture
def wide(recipe: Path) -> Recipe:
    """Shards of five samples, so that a window has room to move."""
    return bs.load_recipe(recipe, ["shards.samples=5"])


def plan_of(recipe: Recipe, victim: Victim) -> ShardPlan:
    return next(p for p in all_plans(recipe) if p.split == victim[0] and p.first <= victim[1] < p.first + p.count)


def shard_files(recipe: Recipe, root: Path, plan: ShardPlan, flow: Flow) -> tuple[dict[str, str], list[int]]:
    """Make one shard in this process; its files, and what it reported."""
    layout, reports = Layout(root), []
    layout.staging.mkdir(parents=True)
    ShardMaker(recipe, layout, "cpu", flow)(plan, reports.append)
    assert not list(layout.staging.iterdir())
    return promised_files(root), reports


@pytest.mark.parametrize("fault", ["raise", "black", "nothing"])
def test_a_sample_that_is_drawn_again_leaves_the_others_alone(
    fault: str, wide: Recipe, victim: Victim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", f"{fault}:{victim[2]}" if fault != "nothing" else "")
    plan = plan_of(wide, victim)
    plain, reports = shard_files(wide, tmp_path / "plain", plan, Flow())
    through, bursts = shard_files(wide, tmp_path / "wide", plan, WIDE)
    assert through == plain
    assert len(plain) == 3 + (fault != "nothing"), "tar, index, marker, and the list of what was given up"
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
            ShardMaker(wide, layout, "cpu", WIDE)(plan, lambda units: None)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("making")]
    suspects = set()
    while (case := Trail(layout.trail(plan)).case()) is not None:
        suspects.add(case.index)
        Trail(layout.trail(plan)).alone(case.index)
        Trail(layout.trail(plan)).passed()
    assert victim[1] in suspects
    assert len(suspects) <= WIDE.window


@pytest.mark.parametrize("flow", [Flow(), WIDE])
def test_a_draw_that_is_fatal_after_one_that_is_no_use_is_found(
    flow: Flow, wide: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, a suspect takes the way that it takes in its shard: from draw to draw, up to the bytes of its files."""
    layout, plan, index = Layout(tmp_path), all_plans(wide)[0], 2
    layout.staging.mkdir(parents=True)

    def pack_or_fail(sample: bs.Sample, spec: object) -> object:
        if (sample.meta["index"], sample.meta["attempt"]) == (index, 1):
            raise MemoryError
        return pack(sample, spec)

    def finish_or_fail(recipe: Recipe, draw: bs.SampleDraw, *what: object) -> object:
        if (draw.index, draw.attempt) == (index, 0):
            raise ValueError("no use")
        return finish(recipe, draw, *what)

    pack, finish = shard_task.pack, shard_task.finish
    monkeypatch.setattr(shard_task, "pack", pack_or_fail)
    monkeypatch.setattr(shard_task, "finish", finish_or_fail)
    for _ in range(6):
        with pytest.raises(MemoryError):
            ShardMaker(wide, layout, "cpu", flow)(plan, lambda units: None)
    made = ShardMaker(wide, layout, "cpu", flow)(plan, lambda units: None)
    assert [(draw.index, draw.attempt, draw.reason) for draw in made.given_up] == [
        (index, 0, "raised"),
        (index, 1, "killed"),
    ]


def run(recipe: Recipe, out: Path, **how: object) -> None:
    said: list[str] = []
    outcome = carry_out(recipe, Layout(out), Run(workers=1, say=said.append, **how))
    assert outcome.exit_code == 3, said


def test_a_sample_that_kills_in_company_is_found_among_the_suspects(
    wide: Recipe, victim: Victim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three deaths with all of a window under suspicion, the innocent cleared, three alone; then it is drawn again."""
    split, index, threshold = victim
    monkeypatch.setenv("FAULT", f"kill:{threshold}")
    run(wide, tmp_path / "set", flow=WIDE)
    assert [(e["split"], e["index"], e["attempt"], e["reason"]) for e in quarantine(tmp_path / "set")] == [
        (split, index, 0, "killed")
    ]
    assert len(events(tmp_path / "set", "died")) == 6
    monkeypatch.setenv("FAULT", "")
    run(wide, tmp_path / "plain", quarantine=tmp_path / "set/quarantine.jsonl")
    assert promised_files(tmp_path / "set") == promised_files(tmp_path / "plain")


@pytest.mark.long
def test_a_sample_that_hangs_in_company_is_found_among_the_suspects(
    wide: Recipe, victim: Victim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", f"hang:{victim[2]}")
    run(wide, tmp_path / "set", flow=WIDE, time_limit=3.0)
    assert [entry["reason"] for entry in quarantine(tmp_path / "set")] == ["hung"]
    monkeypatch.setenv("FAULT", "")
    run(wide, tmp_path / "plain", quarantine=tmp_path / "set/quarantine.jsonl")
    assert promised_files(tmp_path / "set") == promised_files(tmp_path / "plain")
