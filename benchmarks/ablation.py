"""What masked attention and alternation are worth at the size of the small model: three seeds each, on unseen assets.

`python -m benchmarks.ablation --shards SET --out runs` trains a base once, as the paper's first stage does: restoration
alone, without blur (`from_scratch` with sharp: 1, since nothing is pretrained). From there the second stage is trained
three ways, each with three seeds (of the order of samples and of augmentation): in full, without masked attention
(focus_threshold 1: one region), and without alternation (all at once, half of each batch on pictures without blur).
All see the same number of pictures of either kind, in the same number of steps at the same rates. SET is a set of
`recipes/data/small.yaml`, such as `data` in a run of `magicbokeh train small`. An interrupted call goes on where it
was. The table is `benchmarks/ablation.md`.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import machine_lines
from magicbokeh import MagicBokehPipeline
from magicbokeh.data.loader import validation_batches
from magicbokeh.data.sources import open_source
from magicbokeh.recipe import AlternateStage, FromScratchStage, ModelSpec, Stage, TrainRecipe, load_train_recipe
from magicbokeh.training.run import train

VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "full": ({}, {}),
    "without masked attention": ({"focus_threshold": 1.0}, {}),
    "without alternation": ({}, {"joint": True, "sharp": 0.5}),
}
"""Of each variant, the changes to the model and to the second stage."""
IN_FOCUS = 0.1
"""Defocus up to which a pixel is counted as in focus, whatever the variant's own threshold."""
RATE = 1e-3
"""The learning rate of every phase; the packaged recipe's."""


def small_recipe(shards: Path, stage: Stage, **changes: Any) -> TrainRecipe:
    """The packaged recipe on finished shards, with one stage."""
    recipe = load_train_recipe("small", [f"data.source={{shards: {shards}}}"])
    often = {"every": stage.steps}
    few = recipe.checkpoints.model_copy(update={"every": 50, "last": 1})
    seen_once = recipe.validation.model_copy(update=often)
    kept = {"stages": [stage], "checkpoints": few, "validation": seen_once}
    return recipe.model_copy(update={**kept, **changes})


def stage_fields(recipe: TrainRecipe, steps: int) -> dict[str, Any]:
    """What the stages of the ablation have in common with the packaged recipe's one."""
    packaged = recipe.stages[0]
    assert isinstance(packaged, FromScratchStage)
    same = {name: getattr(packaged, name) for name in ("batch", "betas", "warmup", "loss")}
    return {**same, "steps": steps, "lr": RATE}


def train_base(shards: Path, out: Path, steps: int) -> Path:
    """Restoration without blur, from new weights."""
    fields = stage_fields(load_train_recipe("small"), steps)
    stage = FromScratchStage(stage="from_scratch", sharp=1.0, **fields)
    train(small_recipe(shards, stage), out / "base", resume=True, report=print)
    return out / "base"


def second_stage(variant: str, seed: int, base: Path, shards: Path, out: Path, steps: int) -> Path:
    """One run of the second stage; goes on with one that was interrupted."""
    model, changes = VARIANTS[variant]
    fields = stage_fields(load_train_recipe("small"), steps) | {"schedule": "cosine"}
    stage = AlternateStage(stage="alternate", sr_lr=RATE, **fields, **changes)
    run = out / f"{variant.replace(' ', '-')}-{seed}"
    recipe = small_recipe(shards, stage, seed=seed, model=ModelSpec(**model))
    train(recipe, run, resume=True, init=base, report=print)
    return run


@torch.no_grad()
def measure(run: Path, shards: Path) -> dict[str, float]:
    """PSNR against hq: everywhere, in focus, out of focus; and against aif without blur. LQ likewise."""
    recipe = load_train_recipe("small", [f"data={{source: {{shards: {shards}}}}}"])  # whole pictures
    opened = open_source(recipe.data.source, shards, 1)
    pipe = MagicBokehPipeline.from_pretrained(run / "checkpoints" / "last" / "pipeline")
    sums: dict[str, list[float]] = {}
    for batch in validation_batches(opened, recipe.data, pipe.config.blur_reference, 1000, 8):
        ours = pipe.forward_tensors(batch.lq, batch.defocus).image
        plain = pipe.forward_tensors(batch.lq, torch.zeros_like(batch.defocus)).image
        sharp = (batch.defocus <= IN_FOCUS).float()
        everywhere = torch.ones_like(sharp)
        for name, found, target, where in (
            ("bokeh", ours, batch.hq, everywhere),
            ("in focus", ours, batch.hq, sharp),
            ("out of focus", ours, batch.hq, 1 - sharp),
            ("sr", plain, batch.aif, everywhere),
            ("LQ bokeh", batch.lq, batch.hq, everywhere),
            ("LQ in focus", batch.lq, batch.hq, sharp),
            ("LQ out of focus", batch.lq, batch.hq, 1 - sharp),
            ("LQ sr", batch.lq, batch.aif, everywhere),
        ):
            error = (((found - target) / 2).square().mean(1, keepdim=True) * where).flatten(1).sum(1)
            area = where.flatten(1).sum(1)
            good = area > 0
            sums.setdefault(name, []).extend((-10 * (error[good] / area[good]).log10()).tolist())
        for name, found in (("sharpness", ours), ("LQ sharpness", batch.lq)):
            sums.setdefault(name, []).extend(sharpness(found, batch.hq, sharp))
    return {name: statistics.fmean(values) for name, values in sums.items()}


def sharpness(found: Tensor, target: Tensor, where: Tensor) -> list[float]:
    """How strong the gradients in focus are, of the truth's: 1 is as sharp, above it is noise."""
    kept = where[..., 1:, 1:] * where[..., :-1, :-1]

    def strength(picture: Tensor) -> Tensor:
        along, down = picture.diff(dim=3)[..., 1:, :], picture.diff(dim=2)[..., 1:]
        return ((along.abs() + down.abs()) * kept).flatten(1).sum(1)

    good = kept.flatten(1).sum(1) > 100
    return (strength(found)[good] / strength(target)[good]).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--base-steps", type=int, default=400)
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    shards = options.shards.resolve()
    base = train_base(shards, options.out, options.base_steps).resolve()
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        for variant in VARIANTS:
            run = second_stage(variant, seed, base, shards, options.out, options.steps)
            found.setdefault(variant, []).append(measure(run, shards))
            report(found, options.steps)


def report(found: dict[str, list[dict[str, float]]], steps: int) -> None:
    """The table so far, to `standard output`."""
    columns = ("bokeh", "in focus", "out of focus", "sr", "sharpness")
    print("# Ablation at the size of the small model\n")
    print("\n".join([*machine_lines("python -m benchmarks.ablation"), ""]))
    print(f"PSNR in dB on the val samples (unseen assets) after {steps} steps; mean ± standard deviation over seeds.")
    print("Gradients in focus: their strength as a share of the truth's.\n")
    print("| | seeds | bokeh | in focus | out of focus | no blur (sr) | gradients in focus |")
    print("|---|---|---|---|---|---|---|")
    lq = next(iter(found.values()))[0]
    plain = [f"{lq['LQ ' + name]:.2f}" for name in columns]
    print(f"| LQ itself | | {' | '.join(plain)} |")
    for variant, runs in found.items():
        cells = []
        for name in columns:
            values = [run[name] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.fmean(values):.2f} ± {spread:.2f}")
        print(f"| {variant} | {len(runs)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
