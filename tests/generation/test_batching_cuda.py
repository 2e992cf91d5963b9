"""A worker on `cuda`: the batches that its threads happen to fill decide about no byte."""

import logging
import threading
from pathlib import Path

import pytest
from support.promised import promised_files

import bokehsynth as bs
from benchmarks.batching import Setting, check_bytes, measure
from bokehsynth import pipeline
from bokehsynth.generation import shard_task
from bokehsynth.generation.batching import BatchOptions
from bokehsynth.generation.plan import all_plans
from bokehsynth.rendering.cuda import device as cuda_device
from bokehsynth.rendering.cuda import renderer as cuda
from bokehsynth.shards import Layout

pytestmark = pytest.mark.kernels

WIDE = BatchOptions(window=8, batch=4, threads=2)

RECIPE = """\
name: batches
seed: 8
samples: {train: 9}
size: [40, 56]
scene: {foregrounds: {kind: choice, values: [1, 2]}, blur: {kind: uniform, low: 0, high: 60}}
lens: {aperture: [disc, "polygon:6", "cat_eye:0.8"]}
shards: {samples: 9, fields: [lq, hq, aif, defocus]}
"""


def shard(root: Path, options: BatchOptions, recipe: bs.Recipe) -> dict[str, str]:
    layout = Layout(root)
    layout.staging.mkdir(parents=True)
    shard_task.ShardTask(recipe, layout, "cuda", options)(all_plans(recipe)[0], lambda units: None)
    return promised_files(root)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> bs.Recipe:
    path = tmp_path_factory.mktemp("batches") / "batches.yaml"
    path.write_text(RECIPE)
    return bs.load_recipe(path)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of what is rendered together. The device is slow to start: four scenes are there by then, if they can."""
    sizes: list[int] = []
    composed = threading.Semaphore(0)
    compose, render_batch = pipeline.compose_draw, cuda._render_batch

    def compose_draw(*what: object) -> object:
        scene = compose(*what)
        composed.release()
        return scene

    def slowly(inputs: list[object], samples: int | None) -> object:
        if not sizes:
            all(composed.acquire(timeout=2) for _ in range(4))
        sizes.append(len(inputs))
        return render_batch(inputs, samples)

    monkeypatch.setattr(pipeline, "compose_draw", compose_draw)
    monkeypatch.setattr(cuda, "_render_batch", slowly)
    return sizes


def test_the_bytes_of_a_shard_do_not_depend_on_its_batches(
    recipe: bs.Recipe, tmp_path: Path, batches: list[int]
) -> None:
    wide = shard(tmp_path / "wide", WIDE, recipe)
    assert sum(batches) == 18, "each sample through its lens, and through a pinhole"
    assert 1 < max(batches) <= WIDE.batch
    batches.clear()
    assert shard(tmp_path / "plain", BatchOptions(), recipe) == wide
    assert batches == [1] * 18


def test_a_batch_that_does_not_fit_is_halved_and_it_is_said(
    recipe: bs.Recipe, tmp_path: Path, batches: list[int], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    class FullError(Exception):
        pass

    render_batch = cuda._render_batch

    def cramped(inputs: list[object], samples: int | None) -> object:
        if len(inputs) > 1:
            raise FullError("no room")
        return render_batch(inputs, samples)

    monkeypatch.setattr(cuda_device.the_device(), "out_of_memory", FullError)
    monkeypatch.setattr(cuda, "_render_batch", cramped)
    with caplog.at_level(logging.WARNING, "bokehsynth"):
        wide = shard(tmp_path / "wide", WIDE, recipe)
    assert "halved to 1" in caplog.text
    assert shard(tmp_path / "plain", BatchOptions(), recipe) == wide


def test_the_benchmark_measures_pictures_that_the_device_encodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def linear(*what: object) -> object:
        raise AssertionError("a linear picture came back from the device")

    (tmp_path / "batches.yaml").write_text(RECIPE.replace("high: 60", "high: 4").replace("[40, 56]", "[32, 32]"))
    setting = Setting(tmp_path / "batches.yaml", "cuda", samples=1, threads=1, batch=1)
    monkeypatch.setattr(cuda, "render_pictures", linear)
    check_bytes(setting)
    monkeypatch.setattr(cuda, "render_scene", linear)
    assert measure(setting).totals["write", "samples"] == 1
