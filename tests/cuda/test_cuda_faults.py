"""What the CUDA renderer makes of a device that is full or broken, and of odd questions."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.errors import DeviceError
from bokehsynth.rendering.cuda import device as cuda_device
from bokehsynth.rendering.cuda import renderer as cuda
from bokehsynth.rendering.types import RenderInput
from bokehsynth.scene.composed_scene import ComposedScene

pytestmark = pytest.mark.kernels


class CudaError(Exception):
    """As CuPy raises them: with the status of the call that failed."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def scenes(count: int) -> list[ComposedScene]:
    canvas = np.full((40, 48, 3), 0.5, np.float32)
    return [
        ComposedScene(layers=[bs.Layer(canvas, canvas[..., 0] * 2, bs.Plane(0.2))], lens=bs.Lens(4.0, 0.5), margin=12)
        for _ in range(count)
    ]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[CudaError]:
    """Errors that the next batches of more than one scene end with."""
    errors: list[CudaError] = []
    render_batch = cuda._render_batch

    def render_or_fail(inputs: list[object], samples: int | None) -> object:
        if errors and len(inputs) > 1:
            raise errors[0]
        return render_batch(inputs, samples)

    monkeypatch.setattr(cuda, "_render_batch", render_or_fail)
    monkeypatch.setattr(cuda_device.the_device(), "broken", (CudaError,))
    return errors


def test_no_memory_for_something_that_is_no_array_is_no_broken_device(
    failing: list[CudaError], caplog: pytest.LogCaptureFixture
) -> None:
    failing.append(CudaError(cuda.CUDA_ERROR_OUT_OF_MEMORY))
    with caplog.at_level(logging.WARNING, "bokehsynth"):
        made = bs.render_batch(scenes(3), "cuda")
    assert len(made) == 3
    assert "halved" in caplog.text


@pytest.mark.parametrize(
    ("status", "lost"), [(700, True), (719, True), (46, True), (999, True), (9, False), (701, False)]
)
def test_only_errors_that_stay_make_a_device_lost(failing: list[CudaError], status: int, lost: bool) -> None:
    failing.append(CudaError(status))
    words = "cannot use it any more" if lost else "refused a call .*report this line"
    with pytest.raises(DeviceError, match=rf"status {status}.*{words}" if lost else words) as refusal:
        bs.render_batch(scenes(2), "cuda")
    assert refusal.value.lost is lost


def test_room_is_made_while_no_other_thread_uses_what_is_there(
    failing: list[CudaError], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []
    monkeypatch.setattr(cuda_device.the_device(), "release", lambda: held.append(cuda._TURN.locked()))
    failing.append(CudaError(cuda.CUDA_ERROR_OUT_OF_MEMORY))
    bs.render_batch(scenes(2), "cuda")
    assert held
    assert all(held)


def test_odd_questions_get_the_answers_of_the_cpu() -> None:
    for backend in ("cpu", "cuda"):
        assert bs.render_batch([], backend) == []
        with pytest.raises(bs.UsageError, match="samples must be at least 1"):
            bs.render_batch(scenes(1), backend, samples=0)


def test_a_scene_that_cannot_be_rendered_is_drawn_again_and_the_others_are_as_ever(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = bs.load_recipe(tiny_recipe)
    composed = [bs.compose_sample(recipe, index) for index in range(3)]
    lens = composed[1].scene.lens
    render_batch = cuda._render_batch

    def refuse(inputs: list[Any], samples: int | None) -> object:
        if any(scene.lens.blur == lens.blur for scene in inputs):
            raise bs.UsageError("a blur radius that no kernel holds")
        return render_batch(inputs, samples)

    monkeypatch.setattr(cuda, "_render_batch", refuse)
    made = bs.render_samples(recipe, composed, "cuda")
    assert [json.loads(sample.meta["draw"])["attempt"] for sample in made] == [0, 1, 0]
    for index, sample in enumerate(made):
        again = bs.make_sample(recipe, index, backend="cuda")
        assert sample.meta == again.meta
        assert all(np.array_equal(sample[name], again[name]) for name in again.arrays)


def test_what_is_not_blurred_is_photographed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    render_batch = cuda._render_batch

    def counted(inputs: list[object], samples: int | None) -> object:
        sizes.append(len(inputs))
        return render_batch(inputs, samples)

    monkeypatch.setattr(cuda, "_render_batch", counted)
    sharp, blurred = scenes(2)
    made = bs.render_batch([replace(sharp, lens=bs.Lens(0.0, 0.5)), blurred], "cuda")
    assert sizes == [1, 2]
    assert np.array_equal(made[0].bokeh, made[0].all_in_focus)
    alone = bs.render(blurred.layers, blurred.lens, blurred.margin, "cuda")
    assert np.array_equal(made[1].bokeh, alone.bokeh)


def test_pictures_that_stay_on_the_device_are_made_with_the_same_care(failing: list[CudaError]) -> None:
    inputs = [RenderInput(tuple(scene.layers), scene.lens, scene.margin) for scene in scenes(3)]
    expected = cuda.render_scenes_on_device(inputs)
    failing.append(CudaError(cuda.CUDA_ERROR_OUT_OF_MEMORY))
    made = cuda.render_scenes_on_device(inputs)
    get = cuda_device.the_device().get
    assert all(np.array_equal(get(a.color), get(b.color)) for a, b in zip(made, expected, strict=True))
    failing[0] = CudaError(700)
    with pytest.raises(DeviceError) as refusal:
        cuda.render_scenes_on_device(inputs)
    assert refusal.value.lost
