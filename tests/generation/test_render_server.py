"""Workers that compose, and one process that renders for them all: the same bytes, whoever ends."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from support.host_renderers import host_renderers, renderers_of, use
from support.promised import promised_files

import bokehsynth as bs
from bokehsynth import pipeline
from bokehsynth.generation import shard_task
from bokehsynth.generation.batching import BatchOptions
from bokehsynth.generation.plan import all_plans
from bokehsynth.shards import Layout

pytestmark = [pytest.mark.kernels, pytest.mark.long]
__all__ = ["host_renderers"]

RECIPE = """\
name: served
seed: 8
samples: {train: 12, val: 0}
size: [40, 56]
scene: {foregrounds: {kind: choice, values: [1, 2]}, blur: {kind: uniform, low: 0, high: 20}}
lens: {aperture: [disc, "polygon:6", "cat_eye:0.8"]}
views: {kind: focal_stack, count: 2}
shards: {samples: 6}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> bs.Recipe:
    path = tmp_path_factory.mktemp("served") / "served.yaml"
    path.write_text(RECIPE)
    return bs.load_recipe(path)


def shards_by_one_process(root: Path, recipe: bs.Recipe) -> dict[str, str]:
    layout = Layout(root)
    layout.staging.mkdir(parents=True)
    for plan in all_plans(recipe):
        shard_task.ShardTask(recipe, layout, "cuda", BatchOptions())(plan, lambda units: None)
    return promised_files(root)


def named_memory() -> list[str]:
    """What lies in /dev/shm, but for semaphores, which other programs make all the time."""
    return sorted(name for name in os.listdir("/dev/shm") if not name.startswith("sem."))


def test_a_served_set_has_the_bytes_of_one_process_also_if_the_one_that_renders_is_killed(
    host_renderers: Path, recipe: bs.Recipe, tmp_path: Path
) -> None:
    (host_renderers / "fragile").touch()
    before = named_memory()
    result = bs.generate(recipe, tmp_path / "served", device="cuda")
    assert result.complete
    assert result.exit_code == 0
    assert len(renderers_of(host_renderers)) == 2
    assert named_memory() == before
    expected = shards_by_one_process(tmp_path / "plain", recipe)
    made = promised_files(tmp_path / "served")
    assert len(expected) == 6
    assert expected.items() <= made.items()
    batches = [line.split() for line in (host_renderers / "batches").read_text().splitlines()]
    assert {pid for pid, *_ in batches} == {str(pid) for pid in renderers_of(host_renderers)}


def blur_of(recipe: bs.Recipe, index: int) -> float:
    """K of a sample's scene, by which its renderer knows it."""
    draw = bs.draw_sample(recipe, index)
    return pipeline.compose_draw(recipe, draw).lens.blur


@pytest.mark.timeout(900)  # a process that hangs is waited for, again and again
@pytest.mark.parametrize("hangs", [False, True])
def test_a_scene_that_ends_or_hangs_whatever_renders_it_is_quarantined(
    host_renderers: Path, recipe: bs.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """All other samples have the bytes they would have had."""
    # The worker's limit is reached three times, 5, 10 and 20 s, before that of the one that renders is: three hangs are
    # found, while ends by the latter's limit would each be followed by a wait of three times as long (`crash_log`).
    use(monkeypatch, host_renderers, poison=blur_of(recipe, 7), hangs=hangs, seconds=24.0)
    options = {"time_limit": 5.0} if hangs else {}
    result = bs.generate(recipe, tmp_path / "served", device="cuda", **options)
    assert result.exit_code == 3
    (draw,) = result.quarantined
    assert (draw.index, draw.attempt) == (7, 0)
    # Whichever limit is reached first, the worker's or that of what hangs: the former doubles with each time.
    assert draw.reason in ({"hung", "killed"} if hangs else {"killed"})
    assert result.complete
    expected = shards_by_one_process(tmp_path / "plain", recipe)
    made = promised_files(tmp_path / "served")
    assert {name for name in expected if expected[name] != made[name]} == {
        name for name in expected if "000001" in name
    }


def test_workers_that_are_killed_change_nothing_either(host_renderers: Path, recipe: bs.Recipe, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 200
        while len(killed) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
            if (host_renderers / "batches").exists():
                workers = [
                    child.pid for child in multiprocessing.active_children() if child.name == "bokehsynth-worker"
                ]
                for pid in workers[:1]:
                    if pid is not None and pid not in killed:
                        killed.append(pid)
                        os.kill(pid, signal.SIGKILL)
                        time.sleep(1.5)

    killer = threading.Thread(target=kill)
    killer.start()
    result = bs.generate(recipe, tmp_path / "served", device="cuda")
    killer.join()
    assert result.exit_code == 0
    assert killed
    assert len(renderers_of(host_renderers)) == 1, "the one that renders lives on"
    expected = shards_by_one_process(tmp_path / "plain", recipe)
    assert expected.items() <= promised_files(tmp_path / "served").items()
