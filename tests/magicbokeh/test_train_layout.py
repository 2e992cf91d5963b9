"""How networks lie in memory on CUDA, tried on the CPU, and what `compute.compile` needs."""

from typing import Any

import pytest
import torch
from support.train_toys import mini, same_files, weights

import magicbokeh
from bokehsynth import UsageError
from magicbokeh.training import device_layout
from magicbokeh.training import run as training
from magicbokeh.training.losses import PictureLoss
from magicbokeh.training.optimizers import PhaseOptimizer
from magicbokeh.training.phases import Models, activate, phases_of
from magicbokeh.training.trainer import StageTrainer

CHANNELS_LAST = torch.channels_last

CPU = torch.device("cpu")


@pytest.fixture
def as_on_cuda(monkeypatch):
    monkeypatch.setattr(device_layout, "memory_format", lambda device: CHANNELS_LAST)


@pytest.fixture
def recipe(tmp_path):
    return mini(tmp_path / "mini.yaml", None)


def toy(recipe) -> Models:
    return Models(magicbokeh.build_networks(recipe.model.build(4.0), seed=1))


def kernels(models):
    """The weights of convolutions whose order in memory is a choice."""
    return [x for _, x in models.parameters() if x.ndim == 4 and x.shape[1] > 1 and x.shape[2] > 1]


def test_channels_are_last_on_cuda_alone():
    assert device_layout.memory_format(torch.device("cuda", 1)) == CHANNELS_LAST
    assert device_layout.memory_format(CPU) == torch.contiguous_format


def test_networks_keep_their_bits_and_are_contiguous_while_they_are_saved(recipe, as_on_cuda):
    models, before = toy(recipe), toy(recipe)
    device_layout.move_networks(models, CPU)
    assert len(kernels(models)) > 20
    assert all(x.is_contiguous(memory_format=CHANNELS_LAST) and not x.is_contiguous() for x in kernels(models))
    places = [x.data_ptr() for x in kernels(models)]
    with device_layout.contiguous_networks(models):
        assert all(x.is_contiguous() for _, x in models.parameters())
        assert all(torch.equal(x, y) for (_, x), (_, y) in zip(models.parameters(), before.parameters(), strict=True))
    assert [x.data_ptr() for x in kernels(models)] == places


def test_moments_are_restored_in_the_order_of_their_parameters(recipe, as_on_cuda):
    models = toy(recipe)
    device_layout.move_networks(models, CPU)
    stage = recipe.stages[0]
    phase = phases_of(stage, PictureLoss(stage.loss))[0]

    def optimizer():
        return PhaseOptimizer(phase, activate(phase, models), stage)

    first = optimizer()
    for value in first.active.values():
        value.grad = torch.randn_like(value)
    first.step(None)
    second = optimizer()
    second.load(first.tensors())
    for value in first.active.values():
        for moment in ("exp_avg", "exp_avg_sq"):
            one, other = first.adamw.state[value][moment], second.adamw.state[value][moment]
            assert torch.equal(one, other)
            assert one.stride() == other.stride() == value.stride()
        assert first.adamw.state[value]["step"] == second.adamw.state[value]["step"] == 1


class Crash(BaseException):
    """Stands for a power failure."""


@pytest.mark.long
def test_a_resumed_run_ends_in_the_same_bytes(tmp_path, mini_shards, as_on_cuda, monkeypatch):
    recipe = mini(tmp_path / "mini.yaml", mini_shards)
    training.train(recipe, tmp_path / "whole")
    step, count = StageTrainer.step, iter(range(99))

    def until_the_sixth(self: StageTrainer, *arguments: Any) -> Any:
        if next(count) == 6:
            raise Crash
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "step", until_the_sixth)
        with pytest.raises(Crash):
            training.train(recipe, tmp_path / "resumed")
    training.train(recipe, tmp_path / "resumed", resume=True)
    same_files(*(tmp_path / name / "checkpoints" / "last" for name in ("whole", "resumed")))
    assert weights(tmp_path / "whole")


# ------------------------------------------------------------------ compute.compile


@pytest.mark.parametrize(
    ("device", "words"), [("cpu", r"C\+\+ compiler.*g\+\+.*CXX"), ("cuda", r"C compiler.*gcc.*CC")]
)
def test_without_a_compiler_it_says_so_before_anything_is_opened(tmp_path, recipe, device, words, monkeypatch):
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(device_layout.shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match=f"compute.compile: .*{words}.*leave compile off"):
        device_layout.check_compile(device)
    if device == "cpu":
        compiled = mini(tmp_path / "mini.yaml", None, "compute.compile=true")
        with pytest.raises(UsageError, match=r"compute\.compile"):
            training.train(compiled, tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_gpu_needs_triton_and_volta(monkeypatch):
    monkeypatch.setattr(device_layout.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(device_layout.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs Triton.*pip install triton"):
        device_layout.check_compile("cuda")
    monkeypatch.setattr(device_layout.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (6, 1))
    with pytest.raises(UsageError, match=r"compute capability 7\.0"):
        device_layout.check_compile("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    device_layout.check_compile("cuda")


def test_what_torch_cannot_compile_is_explained_and_other_errors_are_not():
    failed = type("BackendCompilerFailed", (RuntimeError,), {"__module__": "torch._dynamo.exc"})
    words = r"BackendCompilerFailed: no kernel\).*leave it off"
    with pytest.raises(UsageError, match=words), device_layout.explained_compilation(True):
        raise failed("no kernel\nand a long trace")
    for compiled, error in ((False, failed), (True, RuntimeError)):
        with pytest.raises(error), device_layout.explained_compilation(compiled):
            raise error("as it is")


def test_the_weights_of_a_run_depend_on_it_and_runs_without_it_are_as_ever(tmp_path):
    identities = [
        mini(tmp_path / "mini.yaml", None, *change).identity()
        for change in ([], ["compute.compile=false"], ["compute.compile=true"])
    ]
    assert identities[0] == identities[1] != identities[2]
    assert identities[0]["compute"]["compile"] is None, "which is what a record without the key reads as"


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_compiled_networks_give_what_they_give(recipe):
    picture, defocus = torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 1, 64, 64)
    found = []
    for compiled in (False, True):
        models = toy(recipe)
        names = [name for name, _ in models.parameters()]
        if compiled:
            device_layout.compile_networks(models)
        made = models.networks.restore(picture, defocus)
        out = models.networks.decode(made.x0)
        out.square().mean().backward()
        grads = {name: value.grad for name, value in models.parameters() if value.grad is not None}
        assert [name for name, _ in models.parameters()] == names
        found.append((out.detach(), grads))
    (out, grads), (other, others) = found
    torch.testing.assert_close(out, other, rtol=1e-4, atol=1e-5)
    assert grads.keys() == others.keys()
    for name, value in grads.items():
        torch.testing.assert_close(value, others[name], rtol=1e-3, atol=1e-6)
