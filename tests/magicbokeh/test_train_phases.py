"""Phases train their own tensors only; stages begin where the last one ended; processes agree; precision."""

import dataclasses
import json
import math
import os
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from support.phase_toys import EDGES, STAGES, loss_of, picture_batch, toy_models
from support.train_toys import mini

from bokehsynth import DeviceError, UsageError
from magicbokeh.model.bundle import build_networks
from magicbokeh.model.config import ModelConfig
from magicbokeh.model.lora import skip_idle_loras
from magicbokeh.recipe import AlternateStage, DepthStage, LossSpec, SrStage
from magicbokeh.training.depth_distillation import DepthLoss, small_depth_network
from magicbokeh.training.initial_models import controlnet_from_unet
from magicbokeh.training.losses import PictureLoss, edge_loss
from magicbokeh.training.optimizers import PhaseOptimizer, rate_factor
from magicbokeh.training.phases import Models, activate, phases_of, sharp_places, total
from magicbokeh.training.run import enable_checkpointing, make_accelerator

MOVES = {
    "from_scratch": ["controlnet.", "unet.*processor", "unet.conv_in.base_layer", "unet.time_emb", "unet.conv_out"],
    "sr": ["vae.*lora", "unet.*lora_", "unet.conv_in.base_layer"],
    "bokeh": ["controlnet.", "unet.*processor"],
    "sr_turn": ["unet.*lora_"],
    "joint": ["controlnet.", "unet.*processor", "unet.*lora_"],
    "depth": ["depth."],
}
STAYS = {
    "from_scratch": ["vae.", "unet.*sr.weight", "depth."],
    "sr": ["controlnet.", "processor", "vae.decoder", "time_emb", "resnets.0.conv1.base_layer", "depth."],
    "bokeh": ["vae.", "unet.*sr.weight", "unet.*base_layer", "depth."],
    "sr_turn": ["vae.", "controlnet.", "processor", "base_layer", "depth."],
    "joint": ["vae.", "base_layer", "depth."],
    "depth": ["vae.", "controlnet.", "unet."],
}


IDLE = ["depth.backbone.embeddings.mask_token", "depth.neck.fusion_stage.layers.0.residual_layer1."]
"""Without a part in the picture: a token of pretraining, and half of the coarsest fusion, which has no partner."""


def fits(name, patterns):
    return any(all(part in name for part in pattern.split("*")) for pattern in patterns)


@pytest.mark.parametrize("stage", STAGES)
def test_only_the_active_phase_moves(stage):
    """Over all tensors: named ones all move, all others keep their bits. Weight decay too stays with the phase."""
    spec = STAGES[stage]
    models, batch = toy_models(), picture_batch()
    phases = phases_of(spec, loss_of(spec))
    optimizers = {phase.name: PhaseOptimizer(phase, activate(phase, models), spec) for phase in phases}
    for phase in [*phases, *phases]:
        before = {name: value.detach().clone() for name, value in models.parameters()}
        activate(phase, models)
        total(phase.losses(models, batch)).backward()
        idle = {one for one, value in optimizers[phase.name].active.items() if value.grad is None}
        assert all(fits(one, IDLE) for one in idle)
        optimizers[phase.name].adamw.step()
        optimizers[phase.name].adamw.zero_grad()
        moved = {name for name, value in models.parameters() if not torch.equal(value, before[name])}
        name = stage if phase.name == "sr" else phase.name
        assert moved == set(optimizers[phase.name].active) - idle
        assert not [one for one in moved if fits(one, STAYS[name])]
        assert all(any(fits(one, [pattern]) for one in moved) for pattern in MOVES[name])
        left = {one for one, value in models.parameters() if value.grad is not None and one not in moved}
        assert not left


@pytest.mark.parametrize("on_gpu", [True, False])
def test_the_optimizer_is_fused_on_a_gpu_alone(on_gpu, monkeypatch):
    """Elsewhere it is not asked for, so that runs on a CPU keep their bits."""
    options = {}
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, **given: options.update(given))
    phase = types.SimpleNamespace(name="sr", rates=lambda name: 1e-3)
    PhaseOptimizer(phase, {"weight": types.SimpleNamespace(is_cuda=on_gpu)}, STAGES["sr"])
    assert options.get("fused", False) == on_gpu


@pytest.mark.parametrize(("fused", "device"), [(True, "meta"), (None, "cpu")])
def test_counts_of_steps_go_where_the_optimizer_keeps_them(fused, device):
    """A fused one beside the moments; "meta" stands for a GPU."""
    weight = torch.nn.Parameter(torch.empty(2, device="meta"))
    phase = types.SimpleNamespace(name="sr", rates=lambda name: 1e-3)
    optimizer = PhaseOptimizer(phase, {"weight": weight}, STAGES["sr"])
    optimizer.adamw.defaults["fused"] = fused
    optimizer.load({"sr/weight/step": torch.tensor(3.0), "sr/weight/exp_avg": torch.ones(2)})
    found = optimizer.adamw.state[weight]
    assert {name: value.device.type for name, value in found.items()} == {"step": device, "exp_avg": "meta"}


def test_alternate_begins_exactly_where_sr_ended():
    models, batch = toy_models(moved=False), picture_batch(2)
    with torch.no_grad():  # an SR stage has been
        for name, value in models.parameters():
            if ".sr." in name or "conv_in.base_layer" in name or "conv_out" in name:
                value.add_(0.05 * torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name))))
    networks = models.networks
    with torch.no_grad():
        latent = networks.vae.encode(batch.lq)
        ended = networks.vae.decode(networks.step.x0(latent, networks.unet(latent)))
        controlnet_from_unet(networks)
        found = networks.restore(batch.lq, batch.defocus)
        assert torch.equal(networks.vae.decode(found.x0), ended)
        assert not torch.equal(ended, batch.lq)


def test_the_controlnet_begins_as_the_units_encoder():
    models = toy_models(moved=False)
    controlnet_from_unet(models.networks)
    unet, control = models.networks.unet.state_dict(), models.networks.controlnet.state_dict()
    assert torch.equal(control["conv_in.weight"], unet["conv_in.base_layer.weight"])
    name = "down_blocks.0.resnets.0.conv1"
    assert torch.equal(control[f"{name}.weight"], unet[f"{name}.base_layer.weight"])
    assert not control["controlnet_down_blocks.0.weight"].any()


def test_phases_alternate():
    spec = AlternateStage(stage="alternate", steps=9, loss=EDGES, phase_steps={"bokeh": 2, "sr": 1})
    assert [(phase.name, phase.source) for phase in phases_of(spec, PictureLoss(EDGES), has_sr_source=True)] == [
        ("bokeh", "main"), ("bokeh", "main"), ("sr_turn", "sr"),
    ]  # fmt: skip
    assert rate_factor(0, SrStage(stage="sr", steps=10, warmup=4)) == 0.25
    assert rate_factor(9, SrStage(stage="sr", steps=10, warmup=4)) == 1.0
    assert 0.01 < rate_factor(9, SrStage(stage="sr", steps=10, schedule="cosine")) < 0.05


def test_a_cosine_may_fall_at_the_end_alone():
    late = SrStage(stage="sr", steps=10, schedule="cosine", decay=4)
    whole = SrStage(stage="sr", steps=4, schedule="cosine")
    long = SrStage(stage="sr", steps=1500, schedule="cosine")  # to the bit what 0.4 did, so that its runs go on
    assert [rate_factor(step, long) for step in range(1500)] == [
        0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / 1500)) for step in range(1500)
    ]
    assert [rate_factor(step, late) for step in range(7)] == [1.0] * 7
    assert [rate_factor(step, late) for step in range(6, 10)] == [rate_factor(step, whole) for step in range(4)]


@pytest.mark.parametrize("parts", [["unet", "controlnet", "vae"]])
def test_checkpointed_activations_give_the_same_gradients(tmp_path, parts):
    gradients = []
    spec = STAGES["joint"]
    for names in ([], parts):
        models = toy_models(depth=False)
        recipe = mini(tmp_path / "a.yaml", None, f"compute.checkpointing={names}")
        enable_checkpointing(models, recipe)
        for module in models.parts().values():
            module.train()
        (phase,) = phases_of(spec, PictureLoss(spec.loss))
        active = activate(phase, models)
        total(phase.losses(models, picture_batch())).backward()
        gradients.append({name: value.grad for name, value in active.items()})
        if names:
            assert models.networks.vae.decoder.gradient_checkpointing
    for name, value in gradients[0].items():
        assert torch.allclose(value, gradients[1][name], rtol=1e-4, atol=1e-7), name


JOINT_QUARTER = AlternateStage(stage="alternate", steps=1, loss=EDGES, joint=True, sharp=0.25)


@pytest.mark.parametrize("spec", [STAGES["from_scratch"], JOINT_QUARTER], ids=["from_scratch", "joint"])
def test_a_share_of_a_batch_is_restored_without_blur(spec):
    assert sharp_places(8, 0.25).tolist() == [False, False, False, True] * 2
    assert sharp_places(3, 0.0).tolist() == [False] * 3
    assert sharp_places(3, 1.0).tolist() == [True] * 3
    models, batch = toy_models(depth=False), picture_batch(4)
    (phase,) = phases_of(spec, PictureLoss(spec.loss))
    with torch.no_grad():
        before = phase.losses(models, batch)
        # The last sample's target is aif and its map zero: what hq and the map say of it changes nothing.
        hq, defocus = batch.hq.clone(), batch.defocus.clone()
        hq[3], defocus[3] = 1.0, 0.7
        after = phase.losses(models, dataclasses.replace(batch, hq=hq, defocus=defocus))
        hq[2] = 1.0
        other = phase.losses(models, dataclasses.replace(batch, hq=hq))
    assert before == after
    assert before != other


def test_idle_loras_are_left_out_and_change_nothing():
    models, batch = toy_models(moved=False, depth=False), picture_batch()
    unet = models.networks.unet
    with torch.no_grad():
        torch.nn.init.normal_(unet.conv_out.base_layer.weight, std=0.1, generator=torch.Generator().manual_seed(0))
        latent = models.networks.vae.encode(batch.lq)
        whole = unet(latent)
        calls = []
        for layer in unet.modules():
            if hasattr(layer, "lora_A"):
                layer.lora_A["sr"].register_forward_hook(lambda *_: calls.append(1))
        skip_idle_loras(unet, lambda _: False)
        assert torch.equal(unet(latent), whole)
        assert not calls
        unet.conv_in.lora_B["sr"].weight.fill_(0.1)  # no longer idle
        skip_idle_loras(unet, lambda _: False)
        assert not torch.equal(unet(latent), whole)
        assert len(calls) == 1
        skip_idle_loras(unet, lambda name: ".sr." in name)
        unet(latent)
    assert len(calls) == 1 + sum(hasattr(layer, "lora_A") for layer in unet.modules())


def test_the_haar_codec_has_no_activations_to_recompute(tmp_path):
    models = Models(build_networks(ModelConfig.small(), 0))
    with pytest.raises(UsageError, match="checkpointing: vae has no activations with codec haar"):
        enable_checkpointing(models, mini(tmp_path / "a.yaml", None, "compute.checkpointing=[vae]"))


# --- precision


HALF_PRECISION = [
    *((stage, torch.bfloat16) for stage in ("sr", "alternate", "joint", "depth")),
    *((stage, torch.float16) for stage in ("sr", "depth")),
    *(pytest.param(stage, torch.float16, marks=pytest.mark.long) for stage in ("alternate", "joint")),
]  # fp16 takes a CPU half a minute for a stage of two phases


@pytest.mark.parametrize(("stage", "dtype"), HALF_PRECISION)
def test_half_precision_forward_and_backward(stage, dtype):
    """What autocast does on CUDA, on the CPU: gradients exist, are finite, float32, and near those of float32."""
    spec, batch = STAGES[stage], picture_batch()
    batch = dataclasses.replace(
        batch, disparity=0.3 * batch.disparity
    )  # clear of what a fresh depth network says, so that no L1 term sits on its corner
    for phase in phases_of(spec, loss_of(spec)):
        found = []
        for on in (False, True):
            models = toy_models()
            active = activate(phase, models)
            with torch.autocast("cpu", dtype, enabled=on):
                loss = total(phase.losses(models, batch))
            assert loss.dtype == torch.float32
            (loss * 256).backward()  # as a scaler would
            assert all(value.grad.dtype == torch.float32 for value in active.values() if value.grad is not None)
            flat = torch.cat([value.grad.flatten() for value in active.values() if value.grad is not None])
            assert torch.isfinite(flat).all()
            found.append(flat)
        assert torch.nn.functional.cosine_similarity(*found, dim=0) > 0.9


def test_fp16_and_cuda_are_refused_where_they_cannot_be(tmp_path):
    if torch.cuda.is_available():  # pragma: no cover
        return
    with pytest.raises(UsageError, match="fp16 needs CUDA"):
        make_accelerator(mini(tmp_path / "a.yaml", None, "compute.precision=fp16", "compute.device=auto"))
    with pytest.raises(DeviceError, match=r"compute.device: cuda was asked for"):
        make_accelerator(mini(tmp_path / "a.yaml", None, "compute.device=cuda"))


# --- losses


def test_l1_counts_only_where_the_recipe_asks_for_it():
    one, other = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.5)
    plain = PictureLoss(LossSpec(perceptual="none"))(one, other)
    assert {name: float(term) for name, term in plain.items()} == {"l2": 0.25}
    both = PictureLoss(LossSpec(l1=2.0, l2=0.0, perceptual="none"))(one, other)
    assert float(both["l1"]) == pytest.approx(1.0, abs=3e-3)  # Charbonnier's corner of 1e-3


def test_edge_loss_sees_edges_and_no_level():
    picture = torch.rand((1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    assert edge_loss(picture, picture + 0.3) == pytest.approx(0, abs=1e-6)
    soft = torch.nn.functional.avg_pool2d(picture, 3, 1, 1)
    assert edge_loss(soft, picture) > 0.1


def test_lpips_is_never_replaced_in_silence(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(UsageError, match=r"lpips cannot be loaded.*pip install lpips.*perceptual: edges"):
        PictureLoss(LossSpec())

    def no_backbone(**_):
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=no_backbone))
    with pytest.raises(UsageError, match=r"lpips has no backbone \(no route to host\)"):
        PictureLoss(LossSpec())


def test_lpips_is_used_where_it_is(monkeypatch):
    class Stand(torch.nn.Module):
        def __init__(self, net, verbose):
            super().__init__()
            assert net == "vgg"

        def forward(self, one, other):
            return (one - other).abs().mean((1, 2, 3), keepdim=True)

    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=Stand))
    terms = PictureLoss(LossSpec(l2=1.0, weight=2.0))(torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8))
    assert {name: float(term) for name, term in terms.items()} == {"l2": 1.0, "lpips": 2.0}


def test_a_student_learns_from_its_teacher():
    """Features and output; a perfect student of clean inputs has nothing to learn."""
    torch.manual_seed(0)
    teacher, batch = small_depth_network(16, 64), picture_batch(2)
    student = small_depth_network(16, 64)
    student.load_state_dict(teacher.state_dict())
    clean = DepthLoss(DepthStage(stage="depth", steps=1, teacher="x", clean=1.0), teacher)
    assert float(total(clean(student, batch)).detach()) == pytest.approx(0, abs=1e-4)
    loss = DepthLoss(DepthStage(stage="depth", steps=1, teacher="x", clean=0.0), teacher)
    optimizer = torch.optim.AdamW(student.parameters(), lr=2e-4)
    values = []
    for _ in range(12):
        value = total(loss(student, batch))
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        values.append(float(value.detach()))
    assert values[-1] < 0.9 * values[0]
    assert not any(value.requires_grad for value in teacher.parameters())


# --- processes


RANK = """
import json, sys
from support.phase_toys import gradients_of_rank
print("RESULT" + json.dumps([gradients_of_rank(kind, sys.argv[1] + kind) for kind in ("float32", "float64")]))
"""


@pytest.mark.long
def test_two_processes_give_the_gradients_of_one_with_the_double_batch(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tests = str(Path(__file__).parents[1])
    processes = []
    for rank, world in ((0, 2), (1, 2), (0, 1)):
        environment = os.environ | {"PYTHONPATH": tests, "OMP_NUM_THREADS": "1"}
        if world == 2:
            environment |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
            }  # fmt: skip
        line = [sys.executable, "-c", RANK, str(tmp_path / f"{world}-")]
        processes.append(subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True, cwd=tmp_path))
    worlds = []
    for process in processes:
        out = process.communicate(timeout=120)[0]
        assert process.returncode == 0
        worlds.append(json.loads(out.split("RESULT")[1]))
    assert worlds == [[2, 2], [2, 2], [1, 1]]
    for kind, tolerance in (("float32", 1e-5), ("float64", 1e-12)):
        compare(*(torch.load(tmp_path / f"{world}-{kind}") for world in (2, 1)), tolerance)


def compare(two, one, tolerance):
    assert two.keys() == one.keys()
    for phase in ("bokeh", "sr_turn"):
        names = [name for name in one if name.startswith(phase)]
        flat = [torch.cat([found[name].flatten() for name in names]) for found in (one, two)]
        assert float((flat[0] - flat[1]).norm() / flat[0].norm()) < tolerance
        # Tensor by tensor too; those whose gradient is rounding alone are measured against the largest.
        scale = max(float(one[name].norm()) for name in names)
        for name in names:
            error = float((one[name] - two[name]).norm()) / max(float(one[name].norm()), 1e-3 * scale)
            assert error < tolerance * 10, name
