"""The generator as a whole: the same bytes however it runs, and nothing lost when it does not get to run."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from promised import PROMISED, promised_files, torn_shards

import bokehsynth as bs
from bokehsynth.generate import _range_of, all_plans, finalize
from bokehsynth.shards import verify_dataset

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


def test_ranges_in_any_order_make_the_same_set(tiny_dataset: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "ranges"
    outcomes = [bs.generate(tiny_recipe, out, workers=1, shards=f"{i}/3") for i in (2, 0, 1)]
    assert [outcome.complete for outcome in outcomes] == [False, False, True]
    assert sum(outcome.made for outcome in outcomes) == 23
    assert promised_files(out) == promised_files(tiny_dataset)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 20])
def test_ranges_share_out_every_shard_once(tiny_recipe: Path, n: int) -> None:
    plans = all_plans(bs.load_recipe(tiny_recipe))
    assert [plan for i in range(n) for plan in _range_of(plans, f"{i}/{n}")] == plans


def test_finished_set_is_left_alone(tiny_dataset: Path, tiny_recipe: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_dataset.rglob("*") if path.name != "run.lock"}
    outcome = bs.generate(tiny_recipe, tiny_dataset, workers=2)
    assert outcome.complete
    assert outcome.made == 0
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
    from bokehsynth.pipeline import develop, draw_from_meta
    from bokehsynth.replay import replay_sample

    _, _, differing = replay_sample(tiny_dataset, "val-000000003")
    assert differing == {}
    recipe = bs.load_recipe(tiny_dataset / "recipe.yaml")
    first, second = bs.open_dataset(tiny_dataset)[0], bs.open_dataset(tiny_dataset)[1]
    assert (develop(recipe, draw_from_meta(second.meta)).hq != first.hq).any()
    with pytest.raises(bs.UsageError, match="train-000000012"):
        replay_sample(tiny_dataset, "train-12")


def test_deleted_marker_remakes_just_that_shard(tiny_dataset: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "hole"
    shutil.copytree(tiny_dataset, out)
    (out / ".bokehsynth/train/train-000002.done.json").unlink()
    (out / "dataset.json").unlink()
    outcome = bs.generate(tiny_recipe, out, workers=1)
    assert outcome.made == 4
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


def _start(recipe: Path, out: Path, workers: int) -> "subprocess.Popen[bytes]":
    with open(out.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(
            [*COMMAND, str(recipe), "--out", str(out), "--workers", str(workers)],
            start_new_session=True, stdout=subprocess.DEVNULL, stderr=log,
        )  # fmt: skip


def _half_written(out: Path) -> list[Path]:
    return [path for path in (out / ".bokehsynth/tmp").glob("*.tmp-*") if path.stat().st_size > 0]


def _kill_when(run: "subprocess.Popen[bytes]", ready: "float | Path") -> None:
    """SIGKILL the whole process group after some seconds, or as soon as a half-written shard lies there."""
    deadline = time.monotonic() + (60 if isinstance(ready, Path) else ready)
    while time.monotonic() < deadline and run.poll() is None:
        if isinstance(ready, Path) and _half_written(ready):
            break
        time.sleep(0.005)
    if run.poll() is None:
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()


@pytest.mark.timeout(600)
def test_ten_kills_end_in_the_bytes_of_a_clean_run(tiny_dataset: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    out, dice = tmp_path / "killed", random.Random(5)
    leftovers = kills = runs = 0
    while kills < 10:
        run = _start(tiny_recipe, out, workers=1 + runs % 3)
        _kill_when(run, out if runs % 2 else dice.uniform(0.8, 3.0))
        runs += 1
        assert run.returncode in {0, -signal.SIGKILL}, out.with_suffix(".log").read_text()
        assert torn_shards(out) == []
        kills += run.returncode == -signal.SIGKILL
        leftovers += bool(_half_written(out)) if out.exists() else 0
        if run.returncode == 0:  # it was done before the signal came: take three shards away and go on
            (out / "dataset.json").unlink()
            for marker in sorted(out.glob(".bokehsynth/train/*.done.json"))[:3]:
                marker.unlink()
    assert leftovers >= 1, "no kill hit a shard half written"
    assert bs.generate(tiny_recipe, out, workers=2).complete
    assert promised_files(out) == promised_files(tiny_dataset)
    assert _half_written(out) == [], "the next run sweeps what dead writers left"


def test_ranges_started_at_once_share_the_set(tiny_dataset: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "together"
    command = [*COMMAND, str(tiny_recipe), "--out", str(out), "--workers", "1", "--shards"]
    runs = [subprocess.Popen([*command, f"{i}/3"], stderr=subprocess.PIPE, text=True) for i in range(3)]
    for run in runs:
        words = run.communicate()[1]
        assert run.returncode == 0, words
    assert promised_files(out) == promised_files(tiny_dataset)
    assert (out / "preview.png").is_file()


@pytest.mark.parametrize("stage", ["identity.json", "recipe.yaml", "assets.jsonl", "preview.png", "dataset.json"])
def test_stopped_at_any_file_beside_the_shards_it_goes_on(
    tiny_dataset: Path, tiny_recipe: Path, tmp_path: Path, stage: str
) -> None:
    """The disk says no while one of these files is written; the same line goes on once it has room again."""
    out = tmp_path / "full"
    script = (
        "import bokehsynth.root_files as r, bokehsynth.sheet as s, bokehsynth.shards.dataset as d\n"
        "from bokehsynth.errors import StorageError\n"
        "def full(path, data, write=r.atomic_write):\n"
        f"    if str(path).endswith({stage!r}): raise StorageError(f'{{path}}: no room')\n"
        "    write(path, data)\n"
        "r.atomic_write = s.atomic_write = d.atomic_write = full\n"
        "if __name__ == '__main__':\n"
        f"    import bokehsynth as bs; bs.generate({str(tiny_recipe)!r}, {str(out)!r}, workers=1)\n"
    )
    (tmp_path / "full_disk.py").write_text(script)
    run = subprocess.run([sys.executable, tmp_path / "full_disk.py"], capture_output=True, text=True, check=False)
    assert "no room" in run.stderr
    assert not (out / "dataset.json").exists()
    assert bs.generate(tiny_recipe, out, workers=1).complete
    assert promised_files(out) == promised_files(tiny_dataset)
    assert (out / "preview.png").is_file()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_with_its_own_code_and_says_how_to_go_on(
    tiny_recipe: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    command = [*COMMAND, str(tiny_recipe), "--out", str(tmp_path / "x"), "--workers", "1", "--samples", "4000"]
    run = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "x/.bokehsynth/train/train-000000.done.json").exists():
        assert run.poll() is None
        time.sleep(0.02)
    os.killpg(run.pid, number)
    assert run.stderr is not None
    words = run.stderr.read()
    assert run.wait() == code
    assert "To go on:" in words
    assert str(tmp_path / "x") in words
    assert torn_shards(tmp_path / "x") == []


@pytest.mark.parametrize("delay", [0.7, 0.9, 1.1, 1.3])
def test_a_signal_while_kernels_load_is_not_lost(tiny_recipe: Path, tmp_path: Path, delay: float) -> None:
    """The group gets it twice, as from an impatient Ctrl-C: it ends with the right code and leaves nobody behind."""
    command = [*COMMAND, str(tiny_recipe), "--out", str(tmp_path / "x"), "--workers", "2", "--samples", "4000"]
    run = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    time.sleep(delay)
    os.killpg(run.pid, signal.SIGINT)
    time.sleep(0.05)
    if run.poll() is None:
        os.killpg(run.pid, signal.SIGINT)
    words = run.communicate(timeout=30)[1]
    assert run.returncode in {130, -signal.SIGINT}, words  # minus: before Python had set up anything
    assert not _group_alive(run.pid)


def test_workers_die_with_their_parent(tiny_recipe: Path, tmp_path: Path) -> None:
    run = subprocess.Popen(
        [*COMMAND, str(tiny_recipe), "--out", str(tmp_path / "x"), "--workers", "2", "--samples", "4000"],
        start_new_session=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (tmp_path / "x/.bokehsynth/train/train-000000.done.json").exists():
        assert run.poll() is None
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)  # the parent alone
    run.wait()
    deadline = time.monotonic() + 5
    while _group_alive(run.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _group_alive(run.pid)


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


def test_a_worker_killed_once_is_replaced(tiny_dataset: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "x"
    run = _start(tiny_recipe, out, workers=2)
    while not _half_written(out):
        assert run.poll() is None
        time.sleep(0.005)
    victim = next(p for p in _children(run.pid))
    os.kill(victim, signal.SIGKILL)
    assert run.wait() == 0, out.with_suffix(".log").read_text()
    assert promised_files(out) == promised_files(tiny_dataset)
    assert any(json.loads(line)["attempts"] == 2 for line in (out / "logs/events.jsonl").read_text().splitlines())


def _children(parent: int) -> list[int]:
    """Worker processes of a run (multiprocessing's resource tracker is another child)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            words = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == parent and b"spawn_main" in words:
            found.append(int(stat.parent.name))
    return found
