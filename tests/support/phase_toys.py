"""Stages, models and batches at toy size, and the gradients of one process of several."""

import torch
from accelerate import Accelerator

from magicbokeh.data.loader import Batch
from magicbokeh.model.bundle import build_networks
from magicbokeh.model.config import ModelConfig
from magicbokeh.recipe import AlternateStage, DepthStage, FromScratchStage, LossSpec, SrStage
from magicbokeh.training.depth_distillation import DepthLoss, small_depth_network
from magicbokeh.training.losses import PictureLoss
from magicbokeh.training.phases import Models, activate, phases_of, total
from magicbokeh.training.trainer import StageTrainer

EDGES = LossSpec(perceptual="edges")
STAGES = {
    "from_scratch": FromScratchStage(stage="from_scratch", steps=1, lr=1e-2),
    "sr": SrStage(stage="sr", steps=1, lr=1e-2, loss=EDGES),
    "alternate": AlternateStage(stage="alternate", steps=1, lr=1e-2, sr_lr=1e-2, loss=EDGES),
    "joint": AlternateStage(stage="alternate", steps=1, lr=1e-2, loss=EDGES, joint=True),
    "depth": DepthStage(stage="depth", steps=1, head_lr=1e-2),
}


def picture_batch(count=1, dtype=torch.float32, seed=0):
    noise = torch.Generator().manual_seed(seed)
    lq, hq, aif = (torch.rand((count, 3, 64, 64), generator=noise) * 2 - 1 for _ in range(3))
    ramp = torch.linspace(0, 1, 64).expand(count, 1, 64, 64)
    batch = Batch(lq, hq, aif, ramp, ramp, [f"train-{i:09d}" for i in range(count)])
    return batch.to(torch.device("cpu"), dtype)


def toy_models(seed=0, moved=True, depth=True):
    """Models; `moved` gives weights that start at zero some value, so that every branch has a gradient."""
    networks = build_networks(ModelConfig.toy(), seed)
    models = Models(networks, small_depth_network(16, 64) if depth else None)
    if moved:
        noise = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for _, value in models.parameters():
                if not value.any():
                    value.copy_(0.05 * torch.randn(value.shape, generator=noise))
    return models


def loss_of(stage):
    return DepthLoss(stage) if isinstance(stage, DepthStage) else PictureLoss(stage.loss)


def gradients_of_rank(kind, out):
    """The gradients of both phases after the trainer's own all-reduce; written by the first process."""
    torch.set_num_threads(1)
    dtype = getattr(torch, kind)
    accelerator = Accelerator(cpu=True)
    world, rank = accelerator.num_processes, accelerator.process_index
    models = toy_models(depth=False)
    for module in models.parts().values():
        module.to(dtype)
    whole = picture_batch(4, dtype)
    share = [one for i, one in enumerate(whole.split()) if i // (4 // world) == rank]
    parts = {name: torch.cat([getattr(one, name) for one in share]) for name in ("lq", "hq", "aif", "defocus")}
    batch = Batch(**parts, disparity=parts["defocus"], keys=[])
    spec = STAGES["alternate"]
    found = {}
    for phase in phases_of(spec, PictureLoss(spec.loss)):
        active = activate(phase, models)
        total(phase.losses(models, batch)).backward()
        trainer = StageTrainer.__new__(StageTrainer)
        trainer.accelerator = accelerator
        trainer._all_reduce(active)
        found |= {f"{phase.name}/{name}": value.grad.clone() for name, value in active.items()}
    if accelerator.is_main_process:
        torch.save(found, out)
    accelerator.wait_for_everyone()
    return world
