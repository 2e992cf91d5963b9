"""The check of a node on which an engine starts workers of a run."""

from dataclasses import replace
from pathlib import Path

import pytest

import bokehsynth as bs
from bokehsynth.errors import ChangedError, UsageError
from bokehsynth.generation.dataset_files import machines_of
from bokehsynth.generation.devices import WorkerAllocation
from bokehsynth.generation.engines import NodeCheck, make_engine
from bokehsynth.generation.provenance import describe_machine
from bokehsynth.shards import Layout
from bokehsynth.workers.ray_engine import STARTING, RayEngine
from bokehsynth.workers.supervisor import RunPolicy


def test_a_node_that_does_not_see_the_set_ends_the_run(tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = bs.load_recipe(tiny_recipe)
    check = NodeCheck(describe_machine("cpu", recipe), allow_mixed=False, lock=True)
    with pytest.raises(UsageError, match="does not see the data set there; --out must be a folder that every node"):
        check(Layout(tmp_path), recipe, "cpu")
    bs.generate(tiny_recipe, tmp_path / "set", shards="0/9", workers=1)
    check(Layout(tmp_path / "set"), recipe, "cpu")
    other = replace(check, machine={**check.machine, "numpy": "1.0"})
    with pytest.raises(ChangedError, match=r'(?s)numpy: "1\.0" -> ".*--allow-mixed'):
        other(Layout(tmp_path / "set"), recipe, "cpu")
    replace(other, allow_mixed=True)(Layout(tmp_path / "set"), recipe, "cpu")
    assert machines_of(Layout(tmp_path / "set")) == [check.machine]  # of the run that began it, and the same here


@pytest.mark.parametrize(("address", "workers"), [(None, 4), ("auto", None)])
def test_what_a_worker_in_a_cluster_asks_for(
    address: str | None, workers: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two GPUs here, two workers for each: half a GPU, assigned by Ray, and half of its memory."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    places = tuple({"CUDA_VISIBLE_DEVICES": name, "CUPY_GPU_MEMORY_LIMIT": "7"} for name in "01")
    engine = make_engine("ray", address, None, WorkerAllocation(4, 2, places), RunPolicy(grace=3))
    policy = RunPolicy(grace=3, starting=STARTING)
    assert engine == RayEngine(workers, policy, address, 2, 0.5, {"CUPY_GPU_MEMORY_LIMIT": "7"})
    engine = make_engine("ray", address, 9, WorkerAllocation(9, 1), RunPolicy(grace=3))
    assert engine == RayEngine(9, policy, address, 1, 0.0, {})
    with pytest.raises(UsageError, match="engine must be one of local, ray, got 'spark'"):
        make_engine("spark", None, None, WorkerAllocation(1, 1), RunPolicy())
