"""Which device a run renders on, how workers are spread over GPUs, and that no set mixes devices unasked.

No GPU is needed: what the machine would say is put in its place.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import bokehsynth as bs
from bokehsynth.cli import cli
from bokehsynth.errors import DeviceError
from bokehsynth.generation.devices import WorkerAllocation, allocate_workers, resolve_dataset_device
from bokehsynth.generation.event_log import EventLog
from bokehsynth.generation.generate import GenerateOptions
from bokehsynth.generation.machine_record import devices_of
from bokehsynth.generation.progress import RunMonitor
from bokehsynth.generation.provenance import describe_machine
from bokehsynth.generation.replay import replay_sample
from bokehsynth.rendering.cuda.device import VisibleGpu
from bokehsynth.shards import Layout
from bokehsynth.workers.events import WorkerWarning
from bokehsynth.workers.timeouts import TimeoutPolicy

RECIPE = """\
name: two
seed: 5
samples: {train: 2}
size: [48, 64]
scene: {foregrounds: 1}
"""
GPU = {"gpu": "H200", "compute_capability": "9.0", "driver": "570", "nvrtc": "12.8", "cupy": "14.0"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("two") / "two.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def made(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two") / "set"
    assert bs.generate(recipe, out, workers=1, device="cpu").complete
    return out


@pytest.fixture
def with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where CUDA works."""
    for module in ("devices", "replay"):
        monkeypatch.setattr(
            f"bokehsynth.generation.{module}.resolve_device", lambda name: "cuda" if name == "auto" else name
        )
    monkeypatch.setattr(
        "bokehsynth.generation.provenance.describe_device", lambda device: GPU if device == "cuda" else {}
    )
    monkeypatch.setattr(
        "bokehsynth.generation.devices.visible_gpus", lambda: [VisibleGpu(f"GPU-{name}", 24 << 30) for name in "abc"]
    )
    monkeypatch.setattr("bokehsynth.generation.devices.usable_cpus", lambda: 16)


@pytest.fixture
def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(name: str) -> str:
        if name == "cuda":
            raise DeviceError("no CUDA device is visible")
        return "cpu"

    for module in ("devices", "replay"):
        monkeypatch.setattr(f"bokehsynth.generation.{module}.resolve_device", resolve)


def made_on(device: str, made: Path, out: Path, **facts: str) -> Path:
    """A copy of the set whose record says so."""
    shutil.copytree(made, out)
    record = out / ".bokehsynth/machine.json"
    (machine,) = json.loads(record.read_text())
    record.write_text(json.dumps([machine | {"device": device} | facts]))
    return out


# --- workers and GPUs


@pytest.mark.parametrize(
    ("workers", "gpus", "allocation"),
    [
        (None, None, (6, 2, "abc", (24576 - 3 * 800) // 2)),
        (None, 2, (8, 2, "ab", (24576 - 5 * 800) // 4)),
        (3, None, (3, 5, "abc", 24576 - 2 * 800)),
        (4, 2, (4, 4, "ab", (24576 - 3 * 800) // 2)),
        (1, None, (1, 16, "abc", 24576 - 2 * 800)),
        (40, None, (40, 1, "abc", (24576 - 15 * 800) // 14)),
    ],
)
def test_workers_are_dealt_out_to_the_gpus(with_cuda: None, workers: int, gpus: int, allocation: tuple) -> None:
    """Of 24 GiB each has what is left beside its own context, those of the others, and that of the run itself."""
    total, threads, names, mebibytes = allocation
    made = allocate_workers("cuda", workers, gpus)
    assert (made.workers, made.threads) == (total, threads)
    assert [each["CUDA_VISIBLE_DEVICES"] for each in made.environments] == [f"GPU-{name}" for name in names]
    assert {int(each["CUPY_GPU_MEMORY_LIMIT"]) >> 20 for each in made.environments} == {mebibytes}


@pytest.mark.parametrize(
    ("workers", "gpus", "allocation"),
    [(None, None, (13, "abc")), (None, 2, (14, "ab")), (2, None, (2, "ab")), (40, 1, (40, "a"))],
)
def test_one_process_per_gpu_renders_for_all_workers_and_has_its_memory(
    with_cuda: None, workers: int, gpus: int, allocation: tuple
) -> None:
    made = allocate_workers("cuda", workers, gpus, shared=True)
    assert (made.workers, made.threads, made.served, made.note) == (allocation[0], 1, True, "")
    assert [each["CUDA_VISIBLE_DEVICES"] for each in made.environments] == [f"GPU-{name}" for name in allocation[1]]
    assert {int(each["CUPY_GPU_MEMORY_LIMIT"]) >> 20 for each in made.environments} == {24576 - 2 * 800}


def test_workers_render_by_themselves_where_cpus_are_few_or_memory_cannot_be_shared_and_it_is_said(
    with_cuda: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = allocate_workers("cuda", None, None)
    monkeypatch.setattr("bokehsynth.generation.devices.why_not_shared", lambda: "no memfd_create")
    refused = allocate_workers("cuda", None, None, shared=True)
    assert refused == replace(alone, note=refused.note)
    assert refused.note == "each worker renders on a GPU by itself, with less memory each: no memfd_create"
    monkeypatch.setattr("bokehsynth.generation.devices.usable_cpus", lambda: 3)
    few = allocate_workers("cuda", None, None, shared=True)
    assert (few.workers, few.served, few.note) == (3, False, "")


def test_contexts_alone_never_take_all(with_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bokehsynth.generation.devices.visible_gpus", lambda: [VisibleGpu("0", 4 << 30)])
    (only,) = allocate_workers("cuda", 8, None).environments
    assert int(only["CUPY_GPU_MEMORY_LIMIT"]) == (4 << 30) // 32


def test_on_the_cpu_there_is_a_worker_per_cpu(with_cuda: None) -> None:
    assert allocate_workers("cpu", None, None) == WorkerAllocation(16, 1)
    assert allocate_workers("cpu", 3, None) == WorkerAllocation(3, 1)


def test_every_gpu_has_a_worker_however_few_cpus_there_are(with_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bokehsynth.generation.devices.usable_cpus", lambda: 1)
    allocation = allocate_workers("cuda", None, None)
    assert (allocation.workers, allocation.threads) == (3, 1)


@pytest.mark.parametrize(
    ("device", "workers", "gpus", "words"),
    [
        ("cpu", None, 1, "leave --gpus out, or ask for --device cuda"),
        ("cuda", None, 4, "3 visible .GPU-a, GPU-b, GPU-c."),
        ("cuda", 1, 2, "leave --workers out"),
        ("cuda", None, 0, "at least 1"),
        ("cpu", 0, None, "at least 1"),
    ],
)
def test_numbers_that_cannot_be(with_cuda: None, device: str, workers: int, gpus: int, words: str) -> None:
    with pytest.raises(bs.UsageError, match=words) as error:
        allocate_workers(device, workers, gpus)
    assert error.value.exit_code == 2


def test_gpus_on_a_machine_without_are_refused_before_anything_is_written(recipe: Path, tmp_path: Path) -> None:
    line = ["generate", str(recipe), "--out", str(tmp_path / "x"), "--device", "cpu", "--gpus", "1"]
    result = CliRunner().invoke(cli, line)
    assert isinstance(result.exception, bs.UsageError)
    assert "--gpus 1" in str(result.exception)
    assert not (tmp_path / "x").exists()


def test_a_worker_of_many_threads_may_be_silent_for_as_many_times_longer() -> None:
    """While a sample of it takes long, the others come at the pace of all threads together."""

    def limits(threads: int, **options: float) -> TimeoutPolicy:
        return GenerateOptions(**options).make_engine(WorkerAllocation(3, threads)).policy.timeouts

    assert limits(1) == TimeoutPolicy()
    assert limits(4) == TimeoutPolicy(factor=4 * TimeoutPolicy.factor)
    assert limits(4, time_limit=9) == TimeoutPolicy.constant(9)


# --- auto is resolved once per data set


def test_auto_keeps_to_what_the_set_was_begun_on(with_cuda: None) -> None:
    assert resolve_dataset_device("auto", [], Path("x"), allow_mixed=False) == "cuda"
    assert resolve_dataset_device("auto", ["cpu"], Path("x"), allow_mixed=False) == "cpu"
    assert resolve_dataset_device("cuda", ["cpu"], Path("x"), allow_mixed=False) == "cuda", "check_output_dir decides"


def test_a_set_begun_on_the_cpu_goes_on_there_where_cuda_works(
    with_cuda: None, recipe: Path, made: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    shutil.copytree(made, out)
    assert bs.generate(recipe, out).complete
    with pytest.raises(bs.ChangedError, match='device: "cpu" -> "cuda"'):
        bs.generate(recipe, out, device="cuda")
    assert devices_of(Layout(out)) == ["cpu"]


def test_a_set_begun_on_cuda_cannot_go_on_without(without_cuda: None, recipe: Path, made: Path, tmp_path: Path) -> None:
    out = made_on("cuda", made, tmp_path / "set")
    with pytest.raises(DeviceError, match=r'device: "cuda" -> "cpu"\n.*: no CUDA device is visible') as error:
        bs.generate(recipe, out)
    assert error.value.exit_code == 2
    with pytest.raises(bs.ChangedError, match='device: "cuda" -> "cpu"'):
        bs.generate(recipe, out, device="cpu")
    assert bs.generate(recipe, out, allow_mixed=True).complete


def test_gpus_must_be_alike_in_what_makes_pixels(with_cuda: None, recipe: Path, made: Path, tmp_path: Path) -> None:
    """Name and driver are for the record."""
    assert GPU.items() <= describe_machine("cuda").items()
    other = made_on("cuda", made, tmp_path / "alike", **GPU | {"gpu": "H100", "driver": "550"})
    assert bs.generate(recipe, other).complete
    for key in ("compute_capability", "nvrtc", "cupy"):
        older = made_on("cuda", made, tmp_path / key, **GPU | {key: "8.0"})
        with pytest.raises(bs.ChangedError, match=f'{key}: "8.0" -> "{GPU[key]}"'):
            bs.generate(recipe, older)


def test_gpus_of_one_machine_must_be_alike_too(
    with_cuda: None, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of them makes a sample is chance."""
    two = GPU | {"gpu": "A100, H100", "compute_capability": "8.0, 9.0"}
    monkeypatch.setattr(
        "bokehsynth.generation.provenance.describe_device", lambda device: two if device == "cuda" else {}
    )
    with pytest.raises(DeviceError, match=r"compute capability \(8.0, 9.0\).*CUDA_VISIBLE_DEVICES") as error:
        bs.generate(recipe, tmp_path / "set", device="cuda")
    assert error.value.exit_code == 2
    assert not (tmp_path / "set").exists()
    assert bs.generate(recipe, tmp_path / "set", device="cpu").complete


# --- replay


def test_a_sample_made_on_cuda_is_not_compared_with_the_cpu_unasked(
    without_cuda: None, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = made_on("cuda", made, tmp_path / "set")
    with pytest.raises(DeviceError, match=r"was made on cuda.*--device cpu"):
        replay_sample(out, "train-000000001")
    stored, remade, _ = replay_sample(out, "train-000000001", "cpu")
    monkeypatch.setattr("bokehsynth.generation.replay.replay_sample", lambda *_: (stored, remade, {"hq": 3}))
    result = CliRunner().invoke(cli, ["replay", str(out), "train-000000001", "--device", "cpu"])
    assert isinstance(result.exception, bs.DataError)
    assert "on cpu (hq: 3 pixels): the set was made on cuda" in str(result.exception)


def test_a_sample_made_on_the_cpu_is_replayed_there(with_cuda: None, made: Path) -> None:
    assert replay_sample(made, "train-000000000")[2] == {}


# --- messages


def test_a_warning_of_the_workers_is_shown_once_and_logged(recipe: Path, tmp_path: Path) -> None:
    said: list[str] = []
    layout = Layout(tmp_path)
    layout.logs.mkdir()
    monitor = RunMonitor(bs.load_recipe(recipe), layout, [], EventLog(layout, said.append))
    for text in ("batch halved to 8", "batch halved to 8", "batch halved to 4"):
        monitor.handle(WorkerWarning(text))
    assert said == ["note: batch halved to 8"], "once, whatever its numbers"
    lines = (layout.logs / "events.jsonl").read_text().splitlines()
    assert [(json.loads(line)["event"], json.loads(line)["message"]) for line in lines] == [
        ("remark", "batch halved to 8"),
        ("remark", "batch halved to 4"),
    ]
