"""The generator as it feeds a device: samples per second, and how long each part of a worker waits for the others.

It runs what a worker of `generate` runs (`generation.batching`), past its start and before its end. `python -m
benchmarks.generator --device cuda` calls it; with `--device cpu` the CPU renderer stands in for the device.
"""

import io
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_lines

STAGES = {"compose": "threads", "finish": "threads", "render": "device", "write": "device"}
"""Stages of a sample and the threads that run them: so many at a time, or the one that has the device."""


@dataclass
class Clock:
    """How often each stage was gone through, with how many samples, and the seconds it took, over all threads."""

    totals: "Counter[tuple[str, str]]" = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def timed(self, stage: str, samples: int = 1) -> Iterator[None]:
        """Count the block."""
        start = time.perf_counter()
        yield
        took = time.perf_counter() - start
        with self.lock:
            self.totals.update({(stage, "seconds"): took, (stage, "samples"): samples, (stage, "times"): 1})

    def now(self) -> "Counter[tuple[str, str]]":
        """The totals so far."""
        with self.lock:
            return self.totals.copy()


@dataclass(frozen=True)
class Setting:
    """What is measured, in each of several processes."""

    recipe: Path
    device: str
    samples: int
    threads: int
    batch: int | None = None
    served: bool = False
    """Whether a process beside these renders for them."""


@dataclass(frozen=True)
class Measured:
    """Of one worker."""

    seconds: float
    totals: "Counter[tuple[str, str]]"
    """As the clock has them."""
    size: str
    window: int
    batch: int


def measure(setting: Setting) -> Measured:
    """Make `samples` samples in one worker's queue, after as many as fill its window; another window follows unused."""
    import cv2

    import bokehsynth as bs
    from bokehsynth.generation.batching import BatchOptions, RenderQueue
    from bokehsynth.generation.disk_space import typical_sample_pixels
    from bokehsynth.generation.render_client import the_client
    from bokehsynth.pipeline import sample_from_draw
    from bokehsynth.rendering import Scene, render_batch
    from bokehsynth.rendering.frames import Frames
    from bokehsynth.sample_draw import draw_sample
    from bokehsynth.shards import PackedSample, pack
    from bokehsynth.shards.tar import TarWriter

    cv2.setNumThreads(1)
    recipe = bs.load_recipe(setting.recipe)
    options = BatchOptions.for_device(setting.threads, typical_sample_pixels(recipe))
    if setting.served:
        options = BatchOptions.served(typical_sample_pixels(recipe))
    elif setting.batch is not None:
        options = BatchOptions(setting.threads + 2 * setting.batch, setting.batch, setting.threads)
    clock = Clock()

    def render_timed(scenes: Sequence[Scene]) -> list[Frames]:
        with clock.timed("render", len(scenes)):
            if setting.served:
                return the_client().render(scenes, recipe.device_codes)
            frames = render_batch(scenes, setting.device, codes=recipe.device_codes)
            if setting.device == "cpu":  # which computes them when first read; what a device encoded is there
                for rendered in frames:
                    _ = rendered.bokeh, rendered.all_in_focus
        return frames

    queue: RenderQueue[PackedSample] = RenderQueue(options, render_timed)

    def make(index: int) -> PackedSample:
        with ExitStack() as stage:  # what comes before and after rendering, which is not this thread's time
            stage.enter_context(clock.timed("compose"))

            def render_scene(scene: Scene) -> Frames:
                stage.close()
                frames = queue.render(scene)
                stage.enter_context(clock.timed("finish"))
                return frames

            return pack(sample_from_draw(recipe, draw_sample(recipe, index), render_scene), recipe.shards)

    tar = TarWriter(io.BytesIO())
    start, before = 0.0, clock.now()
    with closing(queue.run(make, range(setting.samples + 2 * options.window))) as made:
        for number, packed in enumerate(made):
            if number == options.window:
                start, before = time.perf_counter(), clock.now()
            if number == options.window + setting.samples:
                break
            with clock.timed("write"):
                for name, data in packed.members.items():
                    tar.add(f"{packed.key}.{name}", data)
        took, totals = time.perf_counter() - start, clock.now()
    totals.subtract(before)
    size = f"{recipe.width} x {recipe.height} px" if recipe.frame else "own size"
    return Measured(took, totals, size, options.window, options.batch)


def check_bytes(setting: Setting) -> None:
    """Correctness before time: through the window, a sample is what the product makes of it by itself."""
    import bokehsynth as bs
    from bokehsynth.generation.batching import BatchOptions, RenderQueue
    from bokehsynth.pipeline import sample_from_draw
    from bokehsynth.rendering import render_batch
    from bokehsynth.sample_draw import draw_sample
    from bokehsynth.shards import pixels_digest

    recipe = bs.load_recipe(setting.recipe)
    render = partial(render_batch, backend=setting.device, codes=recipe.device_codes)
    queue: RenderQueue[Any] = RenderQueue(BatchOptions(4, 2, 2), render)

    def make(index: int) -> Any:
        return sample_from_draw(recipe, draw_sample(recipe, index), queue.render)

    for index, sample in enumerate(queue.run(make, range(4))):
        assert pixels_digest(sample) == pixels_digest(bs.make_sample(recipe, index, backend=setting.device))


def run(recipe: Path, device: str, samples: int, workers: int, batch: int | None, served: bool) -> None:
    """Measure in `workers` processes at once, which share this process's CPUs, and print the table.

    `served`: beside a process that renders for all of them, as `generate` has it; they compose by one thread each.
    """
    threads = 1 if served else max(1, len(os.sched_getaffinity(0)) // workers)
    setting = Setting(recipe, device, samples, threads, batch, served)
    check_bytes(setting)
    with renderer(setting, workers), ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        found = list(pool.map(measure, [setting] * workers))
    report(setting, workers, found)


@contextmanager
def renderer(setting: Setting, workers: int) -> Iterator[None]:
    """The process that renders, if there is to be one, known to those that are started meanwhile."""
    if not setting.served:
        yield
        return
    import bokehsynth as bs
    from bokehsynth.generation.batching import batch_of_all
    from bokehsynth.generation.disk_space import typical_sample_pixels
    from bokehsynth.generation.render_server import RenderServer
    from bokehsynth.workers.companion import Companion, CompanionProcess

    recipe = bs.load_recipe(setting.recipe)
    batch = setting.batch or batch_of_all(workers, typical_sample_pixels(recipe))
    process = CompanionProcess(Companion(RenderServer(setting.device, recipe.device_codes, batch)))
    os.environ |= process.workers_environment
    process.tend()
    try:
        yield
    finally:
        process.close()


def report(setting: Setting, workers: int, found: list[Measured]) -> None:
    """Milliseconds per sample and stage, and the share of its time that each kind of thread waits."""
    print("\n".join(machine_lines("python -m benchmarks.generator")))
    rate = sum(setting.samples / one.seconds for one in found)
    wall = sum(one.seconds for one in found)
    totals: Counter[tuple[str, str]] = Counter()
    for one in found:
        totals.update(one.totals)
    per_batch = totals["render", "samples"] / max(1, totals["render", "times"])
    print(
        f"\nrecipe {setting.recipe.stem} at {found[0].size}, device {setting.device}, {workers} x "
        f"{setting.threads} threads, window {found[0].window}, batches of at most {found[0].batch} "
        f"({per_batch:.1f} on average), {setting.samples} samples each\n"
    )
    if setting.served:
        print("a process beside them renders: `render` is what a worker waits for it, while its thread goes on\n")
    print("| stage | done by | ms per sample | busy |\n|---|---|---|---|")
    lanes = {"threads": setting.threads, "device": 1}
    busy = dict.fromkeys(lanes, 0.0)
    for stage, lane in STAGES.items():
        seconds = totals[stage, "seconds"]
        share = seconds / (wall * lanes[lane])
        busy[lane] += share
        print(f"| {stage} | {lane} | {1e3 * seconds / max(1, totals[stage, 'samples']):.1f} | {share:.0%} |")
    for lane, share in busy.items():
        print(f"| **{lane}** | {lanes[lane]} in each worker | | {share:.0%}, waits {max(0.0, 1 - share):.0%} |")
    print(f"\n**{rate:.2f} samples/s**")
