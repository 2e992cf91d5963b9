"""The choice of an engine and its shares, and the check of a node on which it starts workers of a run."""

import importlib
import json
import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import bokehsynth as bs
from bokehsynth.errors import ChangedError, UsageError
from bokehsynth.generation.devices import WorkerAllocation
from bokehsynth.generation.engines import NodeCheck, allocate, make_engine
from bokehsynth.generation.event_log import EventLog
from bokehsynth.generation.extend import extend
from bokehsynth.generation.generate import GenerateOptions
from bokehsynth.generation.machine_record import machines_of
from bokehsynth.generation.progress import RunMonitor
from bokehsynth.generation.provenance import describe_machine
from bokehsynth.recipe import Recipe
from bokehsynth.shards import Layout, ShardPlan
from bokehsynth.workers.events import Failed
from bokehsynth.workers.ray_engine import SHARES, SILENCE, STARTING, RayEngine, gpu_share
from bokehsynth.workers.supervisor import RunPolicy
from bokehsynth.workers.timeouts import TimeoutPolicy


def check_of(recipe: Recipe) -> NodeCheck:
    return NodeCheck(describe_machine("cpu", recipe), recipe.identity, allow_mixed=False, lock=True)


def test_a_node_that_does_not_see_the_set_or_makes_other_pixels_ends_the_run(tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = bs.load_recipe(tiny_recipe)
    check = check_of(recipe)
    with pytest.raises(
        ChangedError, match="does not see the data set there; --out must be a folder that every node"
    ) as e:
        check(Layout(tmp_path), recipe, "cpu")
    layout = Layout(tmp_path / "set")
    bs.generate(tiny_recipe, layout.root, shards="0/9", workers=1)
    monitor = RunMonitor(recipe, layout, [], EventLog(layout, print))
    with pytest.raises(ChangedError, match="does not see"):  # by one shard already, as exit code 2
        monitor.handle(Failed(ShardPlan("train", 0, 0, 1), e.value, "", 1))
    check(layout, recipe, "cpu")
    other = replace(check, machine={**check.machine, "numpy": "1.0"})
    with pytest.raises(ChangedError, match=r'(?s)numpy: "1\.0" -> ".*--allow-mixed'):
        other(layout, recipe, "cpu")
    layout.machines.write_text(json.dumps([other.machine]))
    replace(other, allow_mixed=True)(layout, recipe, "cpu")
    assert machines_of(layout) == [other.machine, check.machine]


APERTURE = """import bokehsynth as bs
class Half(bs.Aperture):
    def inside(self, s):
        return s[:, 0] > {edge}
"""
STEP = """class Dim:
    def draw(self, rng):
        return {{}}
    def apply(self, image, params):
        return image * {gain}
"""
SOURCE = """import numpy as np
class Dots:
    def draw(self, rng, size):
        return np.full((size, size, 4), {light})
"""
LAYOUT = """class Row:
    def place(self, rng, scene):
        near = [{{"disparity": 0.9}} for _ in scene.foregrounds]
        return {{"background": {{"disparity": {far}}}, "foregrounds": near}}
"""


@pytest.fixture
def own_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path with a lens, a step, a source and a layout of one's own."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "own_lens.py").write_text(APERTURE.format(edge=0))
    (folder / "own_step.py").write_text(STEP.format(gain=0.5))
    (folder / "own_source.py").write_text(SOURCE.format(light=0.5))
    (folder / "own_layout.py").write_text(LAYOUT.format(far=0.1))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield folder
    for name in ("own_lens", "own_step", "own_source", "own_layout"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("module", "other"), [
    ("own_lens", APERTURE.format(edge=0.5)), ("own_lens", None),
    ("own_step", STEP.format(gain=0.25)), ("own_step", None),
    ("own_source", SOURCE.format(light=0.25)), ("own_source", None),
    ("own_layout", LAYOUT.format(far=0.2)), ("own_layout", None),
])  # fmt: skip
def test_classes_of_ones_own_must_be_the_same_on_a_node(
    module: str, other: str | None, own_classes: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    own = ["lens.aperture=own_lens:Half", "degradation=own_step:Dim"]
    own += ["assets.foregrounds=own_source:Dots", "scene.layout=own_layout:Row"]
    recipe = bs.load_recipe(tiny_recipe, own)
    check, sent = check_of(recipe), pickle.dumps(recipe.without_derived())
    assert b"Half\x94" not in sent.replace(b"own_lens:Half\x94", b""), "no class comes with it"
    on_node = pickle.loads(sent)
    check._check_classes(on_node, "here")
    file = own_classes / f"{module}.py"
    if other is None:
        file.unlink()
    else:
        file.write_text(other)
    sys.modules.pop(module)
    importlib.invalidate_caches()
    with pytest.raises(ChangedError, match=r"node \S+.* PYTHONPATH of every node") as error:
        check(Layout(tmp_path / "set"), pickle.loads(sent), "cpu")
    assert module in str(error.value)


@pytest.mark.parametrize(("address", "workers"), [(None, 4), ("auto", None)])
def test_what_a_worker_in_a_cluster_asks_for(
    address: str | None, workers: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two GPUs here, two workers for each: half a GPU, assigned by Ray, and half of its memory."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    places = tuple({"CUDA_VISIBLE_DEVICES": name, "CUPY_GPU_MEMORY_LIMIT": "7"} for name in "01")
    engine = make_engine("ray", address, None, WorkerAllocation(4, 2, places), RunPolicy(grace=3))
    policy = RunPolicy(TimeoutPolicy(minimum=SILENCE), grace=3, starting=STARTING)
    assert engine == RayEngine(workers, policy, address, 2, 2, {"CUPY_GPU_MEMORY_LIMIT": "7"})
    engine = make_engine("ray", address, 9, WorkerAllocation(9, 1), RunPolicy(grace=3))
    assert engine == RayEngine(9, policy, address, 1, 0, {})
    with pytest.raises(UsageError, match="engine must be one of local, ray, got 'spark'"):
        make_engine("spark", None, None, WorkerAllocation(1, 1), RunPolicy())


# --- shares of GPUs


@pytest.fixture
def ray_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def engine_of(address: str | None, workers: int, gpus: int) -> object:
    environments = tuple({"CUDA_VISIBLE_DEVICES": f"{n}", "CUPY_GPU_MEMORY_LIMIT": "7"} for n in range(gpus))
    return make_engine("ray", address, workers, WorkerAllocation(workers, 1, environments), RunPolicy())


@pytest.mark.parametrize(
    ("workers", "gpus", "sharing"), [(3, 2, 2), (1, 2, 1), (4, 2, 2), (5, 1, 5), (8, 8, 1), (2, 0, 0)]
)
def test_workers_share_gpus_so_that_all_find_room(workers: int, gpus: int, sharing: int, ray_there: None) -> None:
    engine = engine_of(None, workers, gpus)
    assert isinstance(engine, RayEngine)
    assert engine.sharing == sharing
    assert engine.environment == ({"CUPY_GPU_MEMORY_LIMIT": "7"} if gpus else {})
    if sharing:
        assert round(gpu_share(sharing) * SHARES) * sharing <= SHARES, "as Ray counts"


def test_workers_of_a_whole_cluster_are_not_shared_out_over_this_machine(
    ray_there: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("bokehsynth.generation.engines.allocate_workers", lambda *numbers: asked.append(numbers))
    allocate("ray", "auto", "cuda", 64, None)
    allocate("ray", None, "cuda", 64, None)
    allocate("ray", "auto", "cuda", 0, None)  # which refuses it
    assert asked == [("cuda", None, None), ("cuda", 64, None), ("cuda", 0, None)]
    with pytest.raises(UsageError, match="--gpus 2: in a Ray cluster that is there already"):
        allocate("ray", "10.0.0.1:6379", "cuda", 4, 2)


def test_ray_gets_time_to_notice_that_a_machine_vanished_unless_a_limit_was_given(ray_there: None) -> None:
    def timeouts(**options: float) -> TimeoutPolicy:
        return GenerateOptions(engine="ray", **options).make_engine(WorkerAllocation(1, 1)).policy.timeouts  # type: ignore

    assert timeouts() == TimeoutPolicy(minimum=90.0)
    assert timeouts(time_limit=9) == TimeoutPolicy.constant(9)


def test_an_engine_that_cannot_be_leaves_a_finished_set_as_it_is(tiny_dataset: Path) -> None:
    layout = Layout(tiny_dataset)
    before = (layout.recipe.read_bytes(), layout.extensions.exists())
    with pytest.raises(UsageError, match="is for --engine ray"):
        extend(tiny_dataset, 99, GenerateOptions(ray_address="auto"))
    with pytest.raises(UsageError, match="is an address of Ray's client"):
        extend(tiny_dataset, 99, GenerateOptions(engine="ray", ray_address="ray://10.0.0.1:10001"))
    assert (layout.recipe.read_bytes(), layout.extensions.exists()) == before
