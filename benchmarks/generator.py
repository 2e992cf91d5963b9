"""Samples per second of one core, and where the time goes.

python -m benchmarks.generator [--size 512] [--samples 24]
python -m benchmarks.generator --device cuda [--workers 1] [--batch 16]      (a worker that feeds a GPU)
python -m benchmarks.generator --device cuda --served --workers 15           (as generate has it)
"""

import argparse
import io
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import batching
from benchmarks.machine import machine_lines

RECIPE = """\
name: benchmark
seed: 3
samples: {{train: {samples}}}
size: {size}
scene:
  foregrounds: 2
  blur: {{kind: uniform, low: 0, high: 32}}
  foreground_tilt: {{kind: sometimes, probability: 0.5, value: {{kind: uniform, low: 0, high: 0.1}}, otherwise: 0}}
"""
STAGES = ("draw", "compose", "render", "degrade", "encode", "write")


def main() -> None:
    """Time every stage of every sample in this process, one thread, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--device", choices=["cpu", "cuda"], help="measure a worker that feeds a device")
    parser.add_argument("--recipe", type=Path, help="of --device: another recipe than the benchmark's own")
    parser.add_argument("--workers", type=int, default=1, help="of --device: processes that share the CPUs")
    parser.add_argument("--batch", type=int, help="of --device: scenes that are photographed together, at most")
    parser.add_argument("--served", action="store_true", help="of --device: one more process renders for them all")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark.yaml"
        path.write_text(RECIPE.format(size=arguments.size, samples=arguments.samples))
        if arguments.device:
            wide = (arguments.device, arguments.samples, arguments.workers, arguments.batch, arguments.served)
            return batching.run(arguments.recipe or path, *wide)
        check_stages_make_the_product(path)
        report(arguments.size, time_stages(path, arguments.samples))


def stages_of(recipe: Any, index: int, timed: Callable[[str, Callable[[], Any]], Any]) -> Any:
    """The stages of `pipeline.sample_from_draw`, each handed to `timed`; returns the sample."""
    from bokehsynth import pipeline, sample_draw
    from bokehsynth.color import encode_8bit
    from bokehsynth.degradation import apply_degradation
    from bokehsynth.rendering import render
    from bokehsynth.schema import Sample, quantized, sample_key

    draw = timed("draw", lambda: sample_draw.draw_sample(recipe, index))
    scene = timed("compose", lambda: pipeline.compose_draw(recipe, draw))

    def render_scene() -> Any:
        frames = render(scene.layers, scene.lens, scene.margin, "cpu")
        return frames, encode_8bit(frames.all_in_focus), encode_8bit(frames.bokeh), frames.defocus, frames.disparity

    frames, aif, hq, defocus, disparity = timed("render", render_scene)
    lq = timed("degrade", lambda: apply_degradation(aif, draw.degradation).lq)
    arrays = {"lq": lq, "hq": hq, "aif": aif}
    for name, values in (("defocus", defocus), ("disparity", disparity)):
        arrays[name] = quantized(name, values, recipe.scales)
    return Sample(sample_key("train", index), sample_draw.sample_meta(recipe, draw, scene, frames), arrays)


def check_stages_make_the_product(path: Path) -> None:
    """Correctness before time: the stages taken apart give the sample that the product gives."""
    import bokehsynth as bs

    recipe = bs.load_recipe(path)
    ours, product = stages_of(recipe, 0, lambda name, work: work()), bs.make_sample(recipe, 0)
    assert all((ours[name] == product[name]).all() for name in product.arrays)


def time_stages(path: Path, samples: int) -> dict[str, list[float]]:
    """Seconds of every stage for every sample, after one untimed sample that loads the kernels."""
    import bokehsynth as bs
    from bokehsynth.shards.codec import encode_sample
    from bokehsynth.shards.tar import TarWriter

    recipe = bs.load_recipe(path)
    seconds: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        seconds[name].append(time.perf_counter() - start)
        return result

    for index in range(samples):
        sample = stages_of(recipe, index, timed)
        members = timed("encode", lambda sample=sample: encode_sample(sample, recipe.shards))
        tar = TarWriter(io.BytesIO())
        timed("write", lambda tar=tar, m=members, k=sample.key: [tar.add(f"{k}.{n}", data) for n, data in m.items()])
    return seconds


def report(size: int, seconds: dict[str, list[float]]) -> None:
    """The table: milliseconds per stage (median, mean, share of the mean) and samples per second."""
    print("\n".join(machine_lines("python -m benchmarks.generator")))
    total = sum(statistics.mean(seconds[stage]) for stage in STAGES)
    print(
        f"\n{size} px, two foregrounds, blur 0..32 px at 512, five PNG fields, one thread, "
        f"{len(seconds['draw'])} samples\n"
    )
    print("| stage | median ms | mean ms | share |\n|---|---|---|---|")
    for stage in STAGES:
        mean = statistics.mean(seconds[stage])
        print(f"| {stage} | {1e3 * statistics.median(seconds[stage]):.1f} | {1e3 * mean:.1f} | {mean / total:.0%} |")
    print(f"| **all** | | {1e3 * total:.1f} | {1 / total:.2f} samples/s per core |")


if __name__ == "__main__":
    import os

    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    import cv2

    cv2.setNumThreads(1)
    main()
