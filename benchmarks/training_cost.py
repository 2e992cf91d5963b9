"""Operations and saved activations of a training step at real size, counted by torch on meta tensors.

`python -m benchmarks.training_cost` prints the table that stands in `docs/training.md`. LPIPS is left out.
"""

import argparse

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import machine_lines
from magicbokeh.data.loader import Batch
from magicbokeh.model.bundle import build_networks
from magicbokeh.model.config import ModelConfig
from magicbokeh.recipe import AlternateStage, LossSpec, SrStage
from magicbokeh.training.losses import PictureLoss
from magicbokeh.training.phases import Models, activate, phases_of, total

SUSTAINED = 60e12
"""Half-precision operations a second that an L40 is taken to sustain: a third of its 181 TFLOP/s."""
NO_LPIPS = LossSpec(perceptual="none")


def cost(phase, models, batch) -> tuple[float, float]:
    """TFLOP and GB of saved activations of one forward and backward pass."""
    active = activate(phase, models)
    parameters = {id(value) for _, value in models.parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if id(tensor) not in parameters and not isinstance(tensor, torch.nn.Parameter):
            sizes[storage._cdata] = tensor.numel() * tensor.element_size()
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        total(phase.losses(models, batch)).backward()
    for value in active.values():
        value.grad = None
    return counter.get_total_flops() / 1e12, sum(sizes.values()) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--gpus", type=int, default=4)
    options = parser.parse_args()
    print("\n".join(["# What a training step costs", "", *machine_lines("python -m benchmarks.training_cost"), ""]))
    with torch.device("meta"):
        models = Models(build_networks(ModelConfig.sd21()))
        picture, one = torch.zeros(1, 3, 512, 512), torch.zeros(1, 1, 512, 512)
        batch = Batch(picture, picture, picture, one, one, ["train-000000000"])
    # Labels cannot be read off a map without values: one region, whose attention costs as much as plain attention.
    models.networks.__class__.regions = lambda self, defocus, latent: None
    weights = sum(value.numel() for _, value in models.parameters())
    print(f"{weights / 1e6:.0f} million parameters, {weights * 4 / 1e9:.1f} GB in float32.\n")
    print(
        "| phase | trained, million | TFLOP per sample | GB saved per sample, float32 | half | "
        f"gradients and AdamW, GB | steps | hours on {options.gpus} GPUs at 60 TFLOP/s each |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    turns = AlternateStage(stage="alternate", steps=1, loss=NO_LPIPS)
    plan = [
        *((phase, 50_000) for phase in phases_of(SrStage(stage="sr", steps=1, loss=NO_LPIPS), PictureLoss(NO_LPIPS))),
        *((phase, 20_000) for phase in phases_of(turns, PictureLoss(NO_LPIPS))),
    ]
    for phase, steps in plan:
        moved = sum(value.numel() for value in activate(phase, models).values())
        found = []
        for kind in (torch.float32, torch.float16):  # autocast does nothing on meta; all in half is its lower bound
            for module in models.parts().values():
                module.to(kind)
            found.append(cost(phase, models, batch.to(torch.device("meta"), kind)))
        (flop, full), (_, half) = found
        hours = steps * options.batch * flop * 1e12 / SUSTAINED / 3600
        print(
            f"| {phase.name} | {moved / 1e6:.1f} | {flop:.1f} | {full:.1f} | {half:.1f} | {moved * 12 / 1e9:.1f} | "
            f"{steps} | {hours:.1f} |"
        )


if __name__ == "__main__":
    main()
