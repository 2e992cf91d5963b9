"""How networks lie in memory on CUDA, tried on the CPU."""

import weakref
from typing import Any

import pytest
import torch
from support.train_toys import mini, same_files, weights

import magicbokeh
from magicbokeh.inference.pipeline import MagicBokehPipeline
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


def test_networks_keep_their_bits_and_places_while_they_are_saved_contiguous(recipe, as_on_cuda):
    models, before = toy(recipe), toy(recipe)
    device_layout.move_networks(models, CPU)
    assert len(kernels(models)) > 20
    assert all(x.is_contiguous(memory_format=CHANNELS_LAST) and not x.is_contiguous() for x in kernels(models))
    places = [x.data_ptr() for x in kernels(models)]
    with device_layout.contiguous_when_saved(models):
        for part, module in models.parts().items():
            state, other = module.state_dict(), before.parts()[part].state_dict()
            assert list(state) == list(other)
            assert all(x.is_contiguous() for x in state.values())
            assert all(torch.equal(x, other[name]) for name, x in state.items())
        assert [x.data_ptr() for x in kernels(models)] == places, "the networks have no second copy"
    assert all(not x.is_contiguous() for x in kernels(models))
    assert any(not x.is_contiguous() for x in models.networks.unet.state_dict().values())


def test_saving_holds_one_network_at_a_time_and_files_are_as_ever(recipe, as_on_cuda, tmp_path):
    models, before = toy(recipe), toy(recipe)
    config = recipe.model.build(4.0)
    MagicBokehPipeline.from_networks(before.networks, config).save_pretrained(tmp_path / "before")
    device_layout.move_networks(models, CPU)
    copies: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    held, made = [], []

    def note(module, state, prefix, metadata):
        held.append(len(copies))
        own = {x.data_ptr() for x in module.parameters()}
        copies.update(x for x in state.values() if x.data_ptr() not in own)
        made.append(len(copies))

    with device_layout.contiguous_when_saved(models):
        for module in models.parts().values():
            module._register_state_dict_hook(note)
        MagicBokehPipeline.from_networks(models.networks, config).save_pretrained(tmp_path / "after")
    same_files(tmp_path / "before", tmp_path / "after")
    assert held == [0, 0, 0], "copies of the network before are gone"
    assert min(made) > 0


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
