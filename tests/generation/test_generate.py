"""The generator as a whole: the same bytes however it runs, and nothing lost when it does not get to run."""

import importlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.promised import PROMISED, promised_files

import bokehsynth as bs
from bokehsynth import untrusted_files
from bokehsynth.errors import StorageError
from bokehsynth.generation import disk_space, progress, shard_task
from bokehsynth.generation.batching import BatchOptions
from bokehsynth.generation.dataset_files import check_output_dir
from bokehsynth.generation.generate import GenerateOptions, finalize, run_generation
from bokehsynth.generation.kernels import left_to_worker
from bokehsynth.generation.plan import all_plans
from bokehsynth.generation.provenance import describe_machine
from bokehsynth.generation.shard_task import ShardTask
from bokehsynth.shards import Layout, shard_range, verify_dataset
from bokehsynth.workers.events import Event
from bokehsynth.workers.pool import LocalEngine
from bokehsynth.workers.timeouts import COMPILING, STARTING

runs = importlib.import_module("bokehsynth.generation.generate")

COMMAND = [sys.executable, "-c", "from bokehsynth.cli import main; main()", "generate"]


def test_layout_holds_what_is_promised_and_nothing_else(tiny_dataset: Path) -> None:
    top = {path.name for path in tiny_dataset.iterdir()}
    assert top == {*PROMISED, "preview.png", "train", "val", "logs", ".bokehsynth"}
    assert sorted(p.name for p in (tiny_dataset / "train").iterdir()) == [f"train-{i:06d}.tar" for i in range(5)]
    assert sorted(p.name for p in (tiny_dataset / "val").iterdir()) == [f"val-{i:06d}.tar" for i in range(2)]
    assert verify_dataset(tiny_dataset).ok


@pytest.mark.parametrize("workers", [1, 3])
def test_same_bytes_for_any_number_of_workers(
    tiny_dataset: Path, tiny_recipe: Path, tmp_path: Path, workers: int
) -> None:
    bs.generate(tiny_recipe, tmp_path / "again", workers=workers)
    assert promised_files(tmp_path / "again") == promised_files(tiny_dataset)


def test_same_bytes_with_many_samples_in_flight(tiny_dataset: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    options = GenerateOptions(workers=1, batching=BatchOptions(window=8, batch=4, threads=3))
    assert run_generation(bs.load_recipe(tiny_recipe), Layout(tmp_path / "set"), options).complete
    assert promised_files(tmp_path / "set") == promised_files(tiny_dataset)


@pytest.mark.long  # chaos/test_concurrent_runs makes ranges at once in every run
def test_ranges_in_any_order_make_the_same_set(tiny_dataset: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "ranges"
    results = [bs.generate(tiny_recipe, out, workers=1, shards=f"{i}/3") for i in (2, 0, 1)]
    assert [result.complete for result in results] == [False, False, True]
    assert sum(result.made for result in results) == 23
    assert promised_files(out) == promised_files(tiny_dataset)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 20])
def test_ranges_share_out_every_shard_once(tiny_recipe: Path, n: int) -> None:
    plans = all_plans(bs.load_recipe(tiny_recipe))
    assert [plan for i in range(n) for plan in shard_range(plans, f"{i}/{n}")] == plans


def test_finished_set_is_left_alone(tiny_dataset: Path, tiny_recipe: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_dataset.rglob("*") if path.name != "run.lock"}
    result = bs.generate(tiny_recipe, tiny_dataset, workers=2)
    assert result.complete
    assert result.made == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_stored_samples_are_those_of_make_sample(tiny_dataset: Path, tiny_recipe: Path) -> None:
    recipe = bs.load_recipe(tiny_recipe)
    for split in ("train", "val"):
        stored = bs.open_dataset(tiny_dataset, split)
        for index in (0, len(stored) - 1):
            made = bs.make_sample(recipe, index, split)
            assert dict(stored[index].meta) == dict(made.meta)
            for name in ("lq", "hq", "aif", "defocus", "disparity"):
                np.testing.assert_array_equal(stored[index][name], made[name])


def test_replay_remakes_every_pixel_and_notices_another(tiny_dataset: Path) -> None:
    from bokehsynth.generation.replay import replay_sample
    from bokehsynth.pipeline import sample_from_draw, scene_renderer
    from bokehsynth.sample_draw import draw_from_meta

    _, _, differing = replay_sample(tiny_dataset, "val-000000003")
    assert differing == {}
    recipe = bs.load_recipe(tiny_dataset / "recipe.yaml")
    first, second = bs.open_dataset(tiny_dataset)[0], bs.open_dataset(tiny_dataset)[1]
    assert (sample_from_draw(recipe, draw_from_meta(second.meta), scene_renderer()).hq != first.hq).any()
    with pytest.raises(bs.UsageError, match="train-000000012"):
        replay_sample(tiny_dataset, "train-12")


def test_deleted_marker_remakes_just_that_shard(tiny_dataset: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "hole"
    shutil.copytree(tiny_dataset, out)
    (out / ".bokehsynth/train/train-000002.done.json").unlink()
    (out / "dataset.json").unlink()
    result = bs.generate(tiny_recipe, out, workers=1)
    assert result.made == 4
    assert promised_files(out) == promised_files(tiny_dataset)


def test_finalize_writes_the_description_or_names_what_is_missing(tiny_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "late"
    shutil.copytree(tiny_dataset, out)
    (out / "dataset.json").unlink()
    assert finalize(out).complete
    assert promised_files(out) == promised_files(tiny_dataset)
    (out / ".bokehsynth/val/val-000001.done.json").unlink()
    with pytest.raises(bs.UsageError, match="val-000001"):
        finalize(out)


@pytest.mark.parametrize("delay", [0.7, 0.9, 1.1, 1.3])
def test_a_signal_while_kernels_load_is_not_lost(tiny_recipe: Path, tmp_path: Path, delay: float) -> None:
    """The group gets it twice, as from an impatient Ctrl-C: it ends with the right code and leaves no process."""
    command = [*COMMAND, str(tiny_recipe), "--out", str(tmp_path / "x"), "--workers", "2", "--samples", "4000"]
    run = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    time.sleep(delay)
    os.killpg(run.pid, signal.SIGINT)
    time.sleep(0.05)
    if run.poll() is None:
        os.killpg(run.pid, signal.SIGINT)
    words = run.communicate(timeout=30)[1]
    assert run.returncode in {130, -signal.SIGINT}, words  # minus: before Python had set up anything
    deadline = time.monotonic() + 20
    while _group_alive(run.pid):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.05)


def _group_alive(group: int) -> bool:
    """Whether any process of the group still runs (zombies do not)."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            return True
    return False


@pytest.mark.parametrize("terminal", [False, True])
def test_the_bar_of_a_log_file_is_lines(terminal: bool) -> None:
    """Carriage returns made one line of a night's log."""
    stream = io.StringIO()
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    quiet = progress._QuietStream(stream)
    for text in ("\r 0%|   | 0/2", "\r 50%|#  | 1/2", "\n"):
        assert quiet.write(text) == len(text)
    expected = "\r 0%|   | 0/2\r 50%|#  | 1/2\n" if terminal else "0%|   | 0/2\n50%|#  | 1/2\n"
    assert stream.getvalue() == expected


def test_a_folder_whose_disk_is_too_full_is_free_for_a_smaller_set(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_space, "_free", lambda path: 1e5)
    many, few = (bs.load_recipe("quickstart", [f"samples={{train: {n}}}", "size=32"]) for n in (40, 4))
    with pytest.raises(StorageError, match="or ask for fewer --samples"):
        bs.generate(many, tmp_path / "set")
    check_output_dir(Layout(tmp_path / "set"), few, describe_machine("cpu", few), allow_mixed=False)


def test_a_finished_set_is_found_finished_by_two_looks_at_each_marker(
    tiny_dataset: Path, tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a million samples in 3,907 shards each further look is 3,907 files of a shared file system."""
    opened: list[str] = []
    opens = untrusted_files.os.open
    monkeypatch.setattr(
        untrusted_files.os, "open", lambda path, *rest, **more: opened.append(str(path)) or opens(path, *rest, **more)
    )
    result = bs.generate(tiny_recipe, tiny_dataset, workers=1)
    assert result.complete
    assert result.made == 0
    markers = [path for path in opened if path.endswith(".done.json")]
    assert len(set(markers)) == 7
    assert max(markers.count(path) for path in markers) == 2  # their format, and what they promise
    assert not [path for path in opened if path.endswith(".quarantine.jsonl")]


SCRIPT = """
import sys
import bokehsynth as bs
from bokehsynth.assets.load import foreground_colors

if __name__ == "__main__":
    keys = ["size=64", "samples={train: 1, val: 0}"]
    bs.generate(bs.load_recipe("quickstart", keys), "set", workers=1, device="cpu")
    print([name for name in ("numba", "scipy") if name in sys.modules])
    foreground_colors.warm_up()
    foreground_colors.warm_up()
    print([name for name in sys.modules if name.startswith("pymatting")])
"""


def test_a_run_with_one_worker_leaves_the_kernels_to_it(tmp_path: Path) -> None:
    """Numba takes longer to load than all else its process does; a kernel of pymatting read from the cache imported
    the package, which loads and may compile thirty others."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["[]", "['pymatting.foreground.estimate_foreground_ml']"], done.stderr
    assert not left_to_worker(2, "cpu")
    assert not left_to_worker(1, "cuda")


def test_the_only_worker_compiles_before_its_first_shard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Within a sample it could be taken for one that hangs."""
    calls: list[Any] = []
    monkeypatch.setattr(shard_task, "compile_kernels", lambda *given: calls.append(given))
    recipe = bs.load_recipe("quickstart")
    ShardTask(recipe, Layout(tmp_path), "cpu").prepare()
    assert calls == []
    ShardTask(recipe, Layout(tmp_path), "cpu", compiles=True).prepare()
    assert calls == [(recipe, "cpu")]


@pytest.mark.parametrize(("compiles", "seconds"), [(True, COMPILING), (False, STARTING)])
def test_only_a_worker_that_compiles_has_long_to_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiles: bool, seconds: float
) -> None:
    """Any other one that takes so long hangs."""
    seen: list[float] = []

    def run(engine: LocalEngine, task: ShardTask, specs: object) -> Iterator[Event]:
        assert task.compiles == compiles
        seen.append(engine.policy.starting)
        raise RuntimeError("far enough")
        yield

    monkeypatch.setattr(LocalEngine, "run", run)
    monkeypatch.setattr(runs, "left_to_worker", lambda *_: compiles)
    monkeypatch.setattr(runs, "compile_kernels", lambda *_: None)
    with pytest.raises(RuntimeError, match="far enough"):
        bs.generate("quickstart", tmp_path / "set", workers=1)
    assert seen == [seconds]
