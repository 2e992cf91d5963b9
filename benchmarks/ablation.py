"""What masked attention and alternation are worth at toy size: three seeds each, on assets no training has seen.

`python -m benchmarks.ablation --out runs` trains the first stages of `tiny` once, then the second stage three ways from
there, each with three seeds (of the order of samples and of augmentation): in full, without masked attention
(focus_threshold 1: one region), and without alternation (all at once on bokeh pictures). All take the same number of
steps. The table is `benchmarks/ablation.md`.
"""

import argparse
import statistics
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.machine import machine_lines
from magicbokeh import MagicBokehPipeline
from magicbokeh.data.loader import validation_batches
from magicbokeh.data.sources import open_source
from magicbokeh.recipe import TrainRecipe, load_train_recipe
from magicbokeh.training.run import train

VARIANTS = {
    "full": [],
    "without masked attention": ["model.focus_threshold=1.0"],
    "without alternation": ["stages.0.joint=true"],
}
IN_FOCUS = 0.1
"""Defocus up to which a pixel is counted as in focus, whatever the variant's own threshold."""


CROP = load_train_recipe("tiny").data.crop


def first_stages(out: Path) -> tuple[TrainRecipe, Path]:
    """The tiny recipe up to the end of `sr`."""
    recipe = load_train_recipe("tiny")
    recipe = recipe.model_copy(update={"stages": recipe.stages[:-1]})
    train(recipe, out / "base", resume=True, report=print)
    return recipe, out / "base"


def second_stage(variant: str, seed: int, base: Path, shards: Path, out: Path, steps: int) -> Path:
    """One run of the second stage; goes on with one that was interrupted."""
    tiny = load_train_recipe("tiny")
    stage = tiny.stages[-1].model_dump(mode="json") | {"steps": steps}
    changes = [
        f"seed={seed}",
        f"data={{source: {{shards: {shards}}}, crop: {tiny.data.crop}, workers: 1}}",
        f"stages=[{stage}]",
        f"validation.every={steps}",
        f"checkpoints.every={max(1, steps // 2)}",
        "model={}",
        *VARIANTS[variant],
    ]
    run = out / f"{variant.replace(' ', '-')}-{seed}"
    # A name in quotes is YAML too; True and None are not.
    train(load_train_recipe("tiny", [_yaml(text) for text in changes]), run, resume=True, init=base, report=print)
    return run


def _yaml(text: str) -> str:
    return text.replace("True", "true").replace("False", "false").replace("None", "null")


@torch.no_grad()
def measure(run: Path, shards: Path) -> dict[str, float]:
    """PSNR against hq: everywhere, in focus, out of focus; and against aif without blur. LQ likewise."""
    recipe = load_train_recipe("tiny", [f"data={{source: {{shards: {shards}}}, crop: {CROP}}}"])
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
    parser.add_argument("--base", type=Path, help="a pipeline folder to start from, with --shards; else trained")
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=160)
    options = parser.parse_args()
    base, shards = options.base, options.shards
    if base is None:
        base = first_stages(options.out)[1]
        shards = base / "data"
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        for variant in VARIANTS:
            run = second_stage(variant, seed, base.resolve(), shards.resolve(), options.out, options.steps)
            found.setdefault(variant, []).append(measure(run, shards))
            report(found, options.steps)


def report(found: dict[str, list[dict[str, float]]], steps: int) -> None:
    """The table so far, to `standard output`."""
    columns = ("bokeh", "in focus", "out of focus", "sr", "sharpness")
    print("\n".join(["# Ablation at toy size", "", *machine_lines("python -m benchmarks.ablation"), ""]))
    print(f"PSNR in dB on 16 val samples of unseen assets after {steps} steps; mean ± standard deviation over seeds.")
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
