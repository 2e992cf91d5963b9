"""`compute.deterministic`: every operation of every phase has a deterministic kernel on CUDA, and torch must use it."""

import dataclasses
import os
from types import SimpleNamespace

import pytest
import torch
from support.phase_toys import STAGES, loss_of, picture_batch, toy_models
from support.train_toys import mini
from torch.nn.functional import interpolate
from torch.utils._python_dispatch import TorchDispatchMode

from bokehsynth import UsageError
from magicbokeh.recipe import DepthStage
from magicbokeh.training.depth_distillation import DepthLoss, normalised, small_depth_network
from magicbokeh.training.phases import Models, activate, phases_of, total
from magicbokeh.training.run import make_accelerator
from magicbokeh.training.trainer import StageTrainer

REFUSED_ON_CUDA = {
    "avg_pool3d_backward", "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward",
    "adaptive_max_pool2d_backward", "fractional_max_pool2d_backward", "max_unpool2d", "upsample_linear1d_backward",
    "upsample_bicubic2d_backward", "upsample_trilinear3d_backward", "reflection_pad1d_backward",
    "reflection_pad2d_backward", "nll_loss2d_forward", "_ctc_loss_backward", "put_", "histc", "bincount", "median",
    "nanmedian", "kthvalue", "grid_sampler_2d_backward", "grid_sampler_3d_backward", "cumsum",
}  # fmt: skip
"""What `torch.use_deterministic_algorithms` says it refuses, and kthvalue. Not the backward of upsample_bilinear2d:
`interpolate` takes another way on CUDA then."""


class Noted(TorchDispatchMode):
    """Notes the operations that are called, in the backward pass too."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.name().partition("::")[2].partition(".")[0])
        return function(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def torch_as_before(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield
    torch.use_deterministic_algorithms(False)


def operations(phase, models, batch):
    activate(phase, models)
    with Noted() as noted:
        total(phase.losses(models, batch)).backward()
    return noted.names


@pytest.mark.parametrize("stage", ["from_scratch", "sr", "joint", "depth"])
def test_every_phase_has_deterministic_kernels(stage):
    torch.use_deterministic_algorithms(True)
    spec = STAGES[stage]
    for phase in phases_of(spec, loss_of(spec)):
        found = operations(phase, toy_models(), picture_batch())
        assert {"upsample_nearest2d_backward", "upsample_bilinear2d_backward"} & found
        assert not REFUSED_ON_CUDA & found


def distilled(side):
    """The operations of the depth stage with a teacher made for 64 px, on pictures of a side."""
    spec = DepthStage(stage="depth", steps=1, teacher="x", clean=0.5)
    (phase,) = phases_of(spec, DepthLoss(spec, small_depth_network(16, 64)))
    batch = picture_batch()
    names = ("lq", "hq", "aif", "defocus", "disparity")
    batch = dataclasses.replace(batch, **{name: interpolate(getattr(batch, name), size=(side, side)) for name in names})
    return operations(phase, Models(toy_models().networks, small_depth_network(16, 64)), batch)


def test_so_has_the_depth_stage_with_a_teacher_at_its_own_size():
    assert not REFUSED_ON_CUDA & distilled(64)
    # DINOv2 resizes its position embeddings then: refused on CUDA, with the words of the next test
    assert REFUSED_ON_CUDA & distilled(96) == {"upsample_bicubic2d_backward"}


def test_the_middle_is_the_lower_median():
    values = torch.rand((3, 5, 4), generator=torch.Generator().manual_seed(0))
    moved = values.flatten(1) - values.flatten(1).median(dim=1, keepdim=True).values
    expected = moved / moved.abs().mean(dim=1, keepdim=True)
    assert torch.equal(normalised(values).flatten(1), expected)


def test_torch_is_told_to_refuse_not_to_warn(tmp_path):
    make_accelerator(mini(tmp_path / "a.yaml", None, "compute.deterministic=true"))
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled(), "attention's gradients only warn then"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_refusal_names_the_phase_and_the_way_out():
    torch.use_deterministic_algorithms(True)
    run = StageTrainer._deterministic
    with (
        pytest.raises(UsageError, match=r"phase depth needs an operation .*put_.*; leave it off"),
        run(StageTrainer.__new__(StageTrainer), SimpleNamespace(name="depth")),
    ):
        torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))
