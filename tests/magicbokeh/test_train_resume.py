"""A run that was killed at any moment, any number of times, ends in the bytes of an uninterrupted one."""

import json
import math
import os
import shutil
import signal
import subprocess
import time

import pytest
import torch
from support.train_toys import command, mini, same_files, weights, write_mini

import magicbokeh.training.checkpoint as checkpoint_module
from bokehsynth import ChangedError, DataError, LockedError, UsageError
from magicbokeh import MagicBokehPipeline
from magicbokeh.training.checkpoint import Checkpoints
from magicbokeh.training.run import train
from magicbokeh.training.run_folder import RunFolder
from magicbokeh.training.trainer import DivergedError, StageTrainer, StoppedError

STEPS = 11


@pytest.fixture(scope="module")
def whole(tmp_path_factory, mini_shards):
    """An uninterrupted run; tests must not change it."""
    folder = tmp_path_factory.mktemp("whole")
    result = train(mini(folder / "mini.yaml", mini_shards), folder / "run")
    assert result.steps == STEPS
    return folder / "run"


@pytest.fixture
def recipe(tmp_path, mini_shards):
    return mini(tmp_path / "mini.yaml", mini_shards)


class Crash(BaseException):
    """Stands for a power failure."""


def crash_at_file_operations(monkeypatch, gaps):
    """Every operation on checkpoint files is counted; the run dies after the first gap, the second, and so on."""
    left = [next(gaps)]

    def mine(name):
        real = getattr(checkpoint_module, name)

        def call(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                left[0] = next(gaps)
                raise Crash
            return real(*arguments, **options)

        monkeypatch.setattr(checkpoint_module, name, call)

    for name in ("exchange", "_link", "_flush_file", "_flush_folder", "digests"):
        mine(name)


def test_crash_while_a_checkpoint_is_written(tmp_path, whole, recipe, monkeypatch):
    """Between any two operations on the disk there is a checkpoint to go on from, or none was there before."""
    gaps = iter([7, 23, 31, 12, 60, 95, 33, 150, 14, 77, 140, 10**9])
    crash_at_file_operations(monkeypatch, gaps)
    crashes, had = 0, False
    for _ in range(30):
        try:
            train(recipe, tmp_path / "run", resume=True)
            break
        except Crash:
            crashes += 1
            there = (tmp_path / "run" / "checkpoints" / "last" / "state.json").is_file()
            assert there or not had  # never missing again once it was there
            had = there
    assert crashes >= 8
    same_files(whole / "checkpoints" / "last", tmp_path / "run" / "checkpoints" / "last")
    assert not list((tmp_path / "run" / "checkpoints").glob(".tmp*"))


def test_crash_between_the_last_checkpoint_and_its_name(tmp_path, whole, recipe):
    """The run is finished, but `last` is not: going on makes it so, and the summary with it."""
    shutil.copytree(whole, tmp_path / "run")
    places = tmp_path / "run" / "checkpoints"
    shutil.rmtree(places / "last")
    shutil.copytree(places / "step-000010", places / "last")
    (tmp_path / "run" / "summary.json").unlink()
    assert train(recipe, tmp_path / "run", resume=True).steps == STEPS
    same_files(whole / "checkpoints" / "last", places / "last")
    assert (tmp_path / "run" / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()


def start(folder, *more):
    line = command("train", folder / "mini.yaml", "--out", folder / "run", "--resume", "--quiet", *more)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def step_of(run):
    try:
        return json.loads((run / "checkpoints" / "last" / "state.json").read_text())["global_step"]
    except (OSError, ValueError):
        return 0


def wait_for_step(process, run, step):
    end = time.monotonic() + 100
    while step_of(run) < step and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.parametrize(
    "signals",
    [[(3, signal.SIGKILL)], [(3, signal.SIGTERM), (7, signal.SIGKILL)]],
)
@pytest.mark.long
def test_killed_from_outside_with_a_worker(tmp_path, whole, mini_shards, signals):
    """SIGKILL in the second stage; a worker, two micro-batches a step. `whole` had no workers."""
    write_mini(tmp_path / "mini.yaml", mini_shards, workers=1)
    for step, signum in signals:
        process = start(tmp_path)
        wait_for_step(process, tmp_path / "run", step)
        if signum == signal.SIGTERM:  # as batch systems send it
            os.killpg(process.pid, signum)
        else:
            process.send_signal(signum)
        out = process.communicate(timeout=60)[0]
        assert process.returncode == (-9 if signum == signal.SIGKILL else 143), out
        if signum == signal.SIGTERM:
            assert "the same line with --resume goes on" in out
    process = start(tmp_path)
    out = process.communicate(timeout=120)[0]
    assert process.returncode == 0, out
    assert "going on after step" in out
    same_files(whole / "checkpoints" / "last", tmp_path / "run" / "checkpoints" / "last")


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_killed_at_random_times(tmp_path, whole, mini_shards):
    """Kill the run at random moments until it is done."""
    write_mini(tmp_path / "mini.yaml", mini_shards, workers=2)
    random = torch.Generator().manual_seed(0)
    kills = 0
    for _ in range(60):
        process = start(tmp_path)
        before = step_of(tmp_path / "run")
        wait_for_step(process, tmp_path / "run", before + 1)
        time.sleep(0.4 * float(torch.rand((), generator=random)))
        if process.poll() is None:
            process.kill()
            kills += 1
        process.wait()
        if process.returncode == 0:
            break
    assert kills >= 3
    same_files(whole / "checkpoints" / "last", tmp_path / "run" / "checkpoints" / "last")


# --- what --resume means


def test_resume_without_a_checkpoint_starts_at_0_and_says_so(whole, tmp_path, recipe, monkeypatch):
    said = []

    def stop(self, *_):
        raise StoppedError("enough", signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(StageTrainer, "step", stop)
        with pytest.raises(StoppedError) as stopped:
            train(recipe, tmp_path / "run", resume=True, report=said.append)
    assert stopped.value.exit_code == 130
    assert said == [f"{tmp_path / 'run'}: no checkpoint yet: starting at step 0"]
    with pytest.raises(UsageError, match="a run was begun here; --resume goes on"):
        train(recipe, tmp_path / "run")


def listing(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


def test_a_finished_run_is_left_alone(whole, recipe):
    before, said = listing(whole), []
    result = train(recipe, whole, resume=True, report=said.append)
    assert result.steps == STEPS
    assert "finished already" in said[0]
    assert listing(whole) == before
    with pytest.raises(ChangedError, match=r"recipe.stages.1.lr was 0.001, is 0.5"):
        train(recipe.model_copy(update={"stages": changed_rate(recipe)}), whole, resume=True)
    assert listing(whole) == before


def test_a_run_that_0_4_began_says_what_there_is_no_choice_about_any_more(tmp_path, recipe):
    """Its stage `sr` had a key `unet`, which by default was what is always done now."""
    folder = RunFolder(tmp_path / "run")
    folder.make()
    folder.begin(recipe, {})
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    (stage,) = (stage for stage in record["recipe"]["stages"] if stage["stage"] == "sr")
    for unet in ("lora", "full"):
        stage["unet"] = unet
        path.write_text(json.dumps(record))
        if unet == "lora":
            folder.check_same(recipe, {})
    with pytest.raises(ChangedError, match=r"unet was full"):
        folder.check_same(recipe, {})


def changed_rate(recipe):
    return [stage.model_copy(update={"lr": 0.5}) if stage.stage == "sr" else stage for stage in recipe.stages]


def test_other_data_are_refused(tmp_path, whole, recipe):
    shutil.copytree(whole, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["data"]["main"]["assets_digest"] = "0"
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    for name in ("last", "step-000011", "best"):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / name, ignore_errors=True)
    with pytest.raises(ChangedError, match=r"data.main.assets_digest was 0"):
        train(recipe, tmp_path / "run", resume=True)


def test_two_runs_in_one_folder(tmp_path, recipe):
    folder = RunFolder(tmp_path / "run")
    folder.make()
    with folder.lock(), pytest.raises(LockedError, match="another training is at work here"):
        train(recipe, tmp_path / "run", resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="is there already and is no run"):
        train(recipe, tmp_path / "other")


def test_damaged_checkpoints_are_named(tmp_path, whole):
    shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints")
    checkpoints = Checkpoints(tmp_path, 2)
    path = tmp_path / "checkpoints" / "last" / "optimizer.safetensors"
    path.unlink()  # the file itself may be shared with step-N
    path.write_bytes(b"no tensors")
    with pytest.raises(DataError, match=r"last: damaged or missing: optimizer.safetensors; remove last/"):
        checkpoints.newest()
    shutil.rmtree(tmp_path / "checkpoints" / "last")
    assert checkpoints.newest()[0].name == "step-000011"


# --- what a run leaves


def test_checkpoints_hold_neither_paths_nor_hosts(whole):
    last = whole / "checkpoints" / "last"
    assert not last.is_symlink()
    assert sorted(path.name for path in (whole / "checkpoints").iterdir()) == [
        "best", "last", "step-000010", "step-000011",
    ]  # fmt: skip
    for path in last.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if path.suffix == ".safetensors":  # the names and notes in front of the numbers
                data = data[8 : 8 + int.from_bytes(data[:8], "little")]
                assert b"__metadata__" not in data or b'"__metadata__":{"format":"pt"}' in data
            for word in (str(whole.parent), os.uname().nodename, f"{time.gmtime().tm_year}-"):
                assert len(word) < 4 or word.encode() not in data, path


def test_two_runs_give_the_same_bytes(tmp_path, whole, recipe):
    train(recipe, tmp_path / "run")
    same_files(whole / "checkpoints" / "last", tmp_path / "run" / "checkpoints" / "last")


def test_lq_stands_beside_every_score_and_no_learning_is_said(whole):
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["scores"].keys() == {"sr", "bokeh", "depth"}
    assert summary["losses"].keys() == {"from_scratch", "sr", "bokeh", "sr_turn", "depth"}
    bokeh = summary["scores"]["bokeh"]
    assert 10 < bokeh["lq"] < 40
    assert 10 < bokeh["classical"] < 40
    assert not bokeh["beats_lq"]  # eleven steps teach nothing
    sheets = sorted(path.name for path in (whole / "sheets").iterdir())
    assert sheets == ["000002-from_scratch.png", "000005-sr.png", "000009-alternate.png", "000011-depth.png"]


def test_export_gives_a_model_that_infers(tmp_path, whole):
    done = subprocess.run(
        command("export", whole, tmp_path / "model"), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    pipe = MagicBokehPipeline.from_pretrained(tmp_path / "model")
    assert pipe.unet.config.sr_rank == 0
    assert pipe.config.blur_reference == pytest.approx(4.0)  # 32 px at 512, at 64
    lq = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(0)) * 2 - 1
    trained = MagicBokehPipeline.from_pretrained(whole / "checkpoints" / "last" / "pipeline")
    pictures = [one.forward_tensors(lq, torch.full((1, 1, 64, 64), 0.5))["image"] for one in (pipe, trained)]
    assert torch.allclose(*pictures, atol=1e-4)
    assert pipe.depth_estimator is not None


def test_init_takes_a_run_with_its_ranks_and_begins_with_its_pictures(tmp_path, whole, recipe):
    one = recipe.model_copy(
        update={"stages": [recipe.stages[2].model_copy(update={"steps": 1, "lr": 1e-12, "sr_lr": 1e-12})]}
    )
    train(one, tmp_path / "run", init=whole)
    before, after = weights(whole), weights(tmp_path / "run")
    assert before.keys() == after.keys()
    assert all(torch.allclose(value, after[name], atol=1e-9) for name, value in before.items())
    wrong = recipe.model_copy(update={"model": recipe.model.model_copy(update={"sr_rank": 7})})
    with pytest.raises(UsageError, match="sr_rank is 2, not 7"):
        train(wrong, tmp_path / "other", init=whole)
    with pytest.raises(UsageError, match="--init takes a run's folder"):
        train(recipe, tmp_path / "third", init=tmp_path)


def test_a_loss_that_is_not_finite_stops_before_the_step(tmp_path, recipe, monkeypatch):
    import magicbokeh.training.trainer as trainer

    seen = []
    real = trainer.total

    def total(terms):
        seen.extend([1] * torch.is_grad_enabled())  # the val split is measured without
        return real(terms) * (math.nan if len(seen) > 6 else 1)  # two micro-batches a step: step 4 is the first

    monkeypatch.setattr(trainer, "total", total)
    with pytest.raises(
        DivergedError, match=r"the loss of phase sr is nan at step 1 of stage sr; the step was not taken"
    ):
        train(recipe, tmp_path / "run")
    assert step_of(tmp_path / "run") == 3
    assert DivergedError("").exit_code == 1
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())
