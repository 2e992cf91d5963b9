"""What masked attention and alternation are worth at the size of the small model: three seeds each, on unseen assets.

`python -m benchmarks.ablation --shards SET --out runs` trains a base as the packaged recipe does (all at once, since
nothing is pretrained), with and without masked attention (focus_threshold 1: one region), for each seed (of weights,
order of samples and augmentation). From there the paper's second stage is trained three ways: in full, without masked
attention, and without alternation (all at once, half of each batch on pictures without blur). All see the same number
of pictures of either kind, in the same number of steps at the same rates. SET is a set of `recipes/data/small.yaml`,
such as `data` in a run of `magicbokeh train small`. An interrupted call goes on where it was.
The table is `benchmarks/ablation.md`.
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


def train_base(model: dict[str, Any], seed: int, shards: Path, out: Path, steps: int) -> Path:
    """The joint stage from new weights, at a constant rate."""
    packaged = load_train_recipe("small").stages[0]
    assert isinstance(packaged, FromScratchStage)
    fields = stage_fields(load_train_recipe("small"), steps)
    stage = FromScratchStage(stage="from_scratch", sharp=packaged.sharp, **fields)
    run = out / f"base-{'-'.join([*model, str(seed)])}"
    preset = ModelSpec(preset="small", **model)
    train(small_recipe(shards, stage, seed=seed, model=preset), run, resume=True, report=print)
    return run.resolve()


def second_stage(variant: str, seed: int, shards: Path, out: Path, lengths: tuple[int, int]) -> Path:
    """One run of the second stage behind its base; goes on with one that was interrupted."""
    model, changes = VARIANTS[variant]
    base = train_base(model, seed, shards, out, lengths[0])
    fields = stage_fields(load_train_recipe("small"), lengths[1]) | {"schedule": "cosine"}
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
    parser.add_argument("--base-steps", type=int, default=300)
    parser.add_argument("--steps", type=int, default=120)
    options = parser.parse_args()
    shards = options.shards.resolve()
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        for variant in VARIANTS:
            run = second_stage(variant, seed, shards, options.out, (options.base_steps, options.steps))
            found.setdefault(variant, []).append(measure(run, shards))
            report(found, options.base_steps, options.steps)


def report(found: dict[str, list[dict[str, float]]], base_steps: int, steps: int) -> None:
    """The table so far, to `standard output`."""
    columns = ("bokeh", "in focus", "out of focus", "sr", "sharpness")
    print("# Ablation at the size of the small model\n")
    print("\n".join([*machine_lines("python -m benchmarks.ablation"), ""]))
    print(
        f"PSNR in dB on the val samples (unseen assets) after {base_steps} joint steps and {steps} of the second stage;"
    )
    print("mean ± standard deviation over seeds, and of the differences to the full model of the same seed.\n")
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
            apart = [one[name] - other[name] for one, other in zip(runs, found["full"], strict=False)]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cell = f"{statistics.fmean(values):.2f} ± {spread:.2f}"
            if variant != "full":
                cell += f" ({statistics.fmean(apart):+.2f} ± {statistics.stdev(apart) if len(apart) > 1 else 0.0:.2f})"
            cells.append(cell)
        print(f"| {variant} | {len(runs)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
