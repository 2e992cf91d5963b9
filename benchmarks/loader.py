"""How fast samples come: our loader beside BokehDiff's way, which renders inside `__getitem__` of the training process.

`python -m benchmarks.loader` prints the table of `benchmarks/loader.md`. BokehDiff's loader gathers some 346 lens
samples per pixel and layer in the process that trains; the ray walk here is our own (`benchmarks.brute`, 18 x 18 rays),
on the same scenes and the same cores. The rest of a sample (drawing, degrading) is ours on both sides.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import bokehsynth as bs
from benchmarks import brute
from benchmarks.machine import machine_lines
from bokehsynth.degradation import apply_degradation
from bokehsynth.pipeline import compose_draw
from magicbokeh.data.loader import BatchSchedule, TrainingSet, make_loader
from magicbokeh.data.sources import OpenSource, open_source
from magicbokeh.recipe import DataSpec, SourceSpec

RAYS = 346
"""BokehDiff's lens samples per pixel at its smallest blur."""


class InsideGetItem(torch.utils.data.Dataset):
    """Rendering as BokehDiff does it: ray by ray, when the training process asks."""

    def __init__(self, recipe: bs.Recipe) -> None:
        self.recipe = recipe

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, index: int):
        draw = bs.draw_sample(self.recipe, index)
        scene = compose_draw(self.recipe, draw)
        height, width = self.recipe.height, self.recipe.width
        rows, columns = np.mgrid[:height, :width]
        pixels = np.stack([rows.ravel(), columns.ravel()], axis=1)
        bokeh = walk(list(scene.layers), scene.lens, scene.margin, pixels).reshape(height, width, 3)
        sharp = walk(list(scene.layers), bs.Lens(0.0, scene.lens.focus), scene.margin, pixels, 1)
        aif = np.rint(np.clip(bs.linear_to_srgb(np.clip(sharp, 0, 1)), 0, 1) * 255).astype(np.uint8)
        lq = apply_degradation(aif.reshape(height, width, 3), draw.degradation).lq
        return {"lq": lq, "hq": bokeh}


def walk(layers, lens, margin: int, pixels: np.ndarray, rays: int = RAYS) -> np.ndarray:
    """Rays through each pixel, layer by layer: linear light [M, 3]."""
    texels = [np.concatenate([x.color * x.alpha[..., None], x.alpha[..., None]], axis=2) for x in layers]
    planes = np.array([(x.disparity.d, x.disparity.gx, x.disparity.gy) for x in layers], np.float32)
    color = np.empty((len(pixels), 3), np.float32)
    f = np.float32
    brute._trace_float32(
        np.ascontiguousarray(np.moveaxis(np.stack(texels), 3, 1).astype(f)), planes,
        brute.spiral_points(rays).astype(f), f(lens.blur), f(lens.focus), margin, pixels, f(brute.SKIP),
        f(brute.STOP), color,
    )  # fmt: skip
    return color


def rate_of_ours(opened: OpenSource, spec: DataSpec, workers: int, batches: int) -> float:
    """Samples per second of the loader, once its workers run."""
    data = TrainingSet({"main": opened}, spec, 0, opened.radius_bound)
    schedule = BatchSchedule(0, 0, 4, 1, 0, 1, {"main": len(opened.train)}, ["main"])
    loader = iter(make_loader(data, schedule, 0, batches + 4, workers, pin=False))
    for _ in range(4):
        next(loader)
    begun = time.perf_counter()
    for _ in range(batches):
        next(loader)
    return 4 * batches / (time.perf_counter() - begun)


def rate_inside(recipe: bs.Recipe, count: int) -> float:
    """Samples per second without workers, as a CUDA context in the process forces it."""
    data = InsideGetItem(recipe)
    data[0]
    begun = time.perf_counter()
    for index in range(1, count + 1):
        data[index]
    return count / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--inside", type=int, default=3, help="samples rendered ray by ray")
    options = parser.parse_args()
    print("\n".join(["# Samples per second", "", *machine_lines("python -m benchmarks.loader"), ""]))
    changes = [f"size={options.size}", "samples.train=256", "samples.val=4", "name=loader"]
    spec = DataSpec(source=SourceSpec(recipe="quickstart", set=changes))
    recipe = bs.load_recipe("quickstart", changes)
    with tempfile.TemporaryDirectory() as folder:
        rendered = open_source(spec.source, Path(folder) / "none", 2)
        bs.generate(recipe, Path(folder) / "set", workers=2)
        stored = open_source(SourceSpec(shards=str(Path(folder) / "set")), Path(folder) / "none", 2)
        rows = [
            (f"{RAYS} rays per pixel inside `__getitem__`, no workers", rate_inside(recipe, options.inside)),
            ("our renderer inside `__getitem__`, no workers", rate_of_ours(rendered, spec, 0, options.batches)),
            ("ours: from the recipe, 2 workers", rate_of_ours(rendered, spec, 2, options.batches)),
            ("ours: from shards, 2 workers", rate_of_ours(stored, spec, 2, 4 * options.batches)),
        ]
    print(f"| {options.size} x {options.size} px, batches of 4 | samples/s | times |\n|---|---|---|")
    for name, rate in rows:
        print(f"| {name} | {rate:.1f} | {rate / rows[0][1]:.1f} |")


if __name__ == "__main__":
    main()
