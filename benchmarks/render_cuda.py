"""Milliseconds and error of the CUDA renderer beside its own brute-force kernel: `benchmarks.render --device cuda`.

Scenes, errors and targets of quality are those of `benchmarks.render`. All clocks are CUDA events, after a warm-up, in
turns, medians. `ours` is everything from layers in the device's memory to pictures in it, tables made on the host
included; `kernels` the launches alone; `host` the time that Python takes of `ours`, which the device waits for where
one batch is made; `pipelined` is `ours` for batches in a row, tables made while the device is at the batch before;
`whole` what `bs.render` takes from NumPy to NumPy, uploads and every field. The
brute force traces MPIB's 51 x 51 grid (1,957 rays per pixel) through every layer. `bound` is the multiply-adds of the
tiles' taps and rays over what the device can do in a second: nothing that does this work is faster.

`--mpib FILE` also times MPIB's own kernel, from a `bokeh_generator.py` of yours; it needs torch.
"""

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import bokehsynth as bs
from benchmarks import scenes
from benchmarks.brute import (
    NO_SKIP,
    NO_STOP,
    Score,
    Stack,
    brute,
    converged,
    grid_points,
    random_pixels,
    rays_of,
    score,
)
from benchmarks.machine import machine_lines
from bokehsynth.rendering import PATHS
from bokehsynth.rendering.aperture.tables import RaySet
from bokehsynth.rendering.cuda import device as cuda_device
from bokehsynth.rendering.cuda import renderer as cuda
from bokehsynth.rendering.cuda.batch import Batch
from bokehsynth.rendering.cuda.structs import ROWS, TILE, TILE_W
from bokehsynth.rendering.types import RenderInput

BATCHES = (1, 16)
SHOWN = ("copy", "taps", "together", "rays")
DIRECT, CONTROL_VARIATE, RAY_TRACED = (PATHS.index(name) for name in SHOWN[1:])
PIXELS = TILE_W * ROWS
WORK_OF_A_HIT = 60
"""Multiply-adds and the like that one ray spends on one layer: a bilinear lookup of four channels and its sums."""


@dataclass
class Row:
    """What was measured for one blur, focus and scene; times in milliseconds per frame."""

    blur: float
    focus: str
    seed: int
    theirs: Score
    ours: Score
    brute_ms: float
    our_ms: dict[int, float]
    kernel_ms: dict[int, float]
    host_ms: dict[int, float]
    pipelined_ms: dict[int, float]
    whole_ms: float
    bound_ms: float
    shares: dict[str, float]
    mpib_ms: float | None


def grid_table() -> RaySet:
    """MPIB's rays as a table."""
    points = grid_points()
    return RaySet(points, np.ones((1, len(points)), np.float32), np.array([(0, len(points))], np.int64))


Measure = Callable[[Callable[[], Any]], float]
"""Milliseconds of one call."""


class Clock:
    """Milliseconds on the device by CUDA events."""

    def __init__(self) -> None:
        import cupy

        self._cuda = cupy.cuda

    def __call__(self, work: Callable[[], Any]) -> float:
        """Of one call, whatever it leaves running included."""
        start, stop = self._cuda.Event(), self._cuda.Event()
        start.record()
        kept = work()
        stop.record()
        stop.synchronize()
        del kept
        return float(self._cuda.get_elapsed_time(start, stop))


def inputs_of(row: Any, turn: int, count: int) -> list[RenderInput]:
    """Scenes of one batch, a little different from those of other turns: nothing is found made already."""
    layers, lens, margin = row
    return [
        RenderInput(layers, bs.Lens(lens.blur * (1 - 1e-4 * (turn * count + k)), lens.focus), margin)
        for k in range(count)
    ]


def host_milliseconds(inputs: Sequence[RenderInput]) -> float:
    """Of Python: tables, uploads begun and launches, while the device may still be at work."""
    start = time.perf_counter()
    cuda.prepare(inputs).render()
    return 1e3 * (time.perf_counter() - start)


IN_A_ROW = 4


def pipelined_milliseconds(row: Any, turn: int, count: int, clock: Measure) -> float:
    """A frame of batches in a row. Launches return at once, so that Python is a batch ahead of the device."""
    batches = [inputs_of(row, turn * IN_A_ROW + k, count) for k in range(IN_A_ROW)]
    return clock(lambda: [cuda.render_scenes_on_device(inputs) for inputs in batches]) / (IN_A_ROW * count)


def measure_row(seed: int, blur: float, focus: int, arguments: argparse.Namespace, clock: Measure) -> Row:
    """Quality first, then the clocks in turns."""
    planes = scenes.planes(seed)
    lens = bs.Lens(blur, planes[focus].d)
    margin = lens.margin(planes, arguments.size, arguments.size)
    layers = tuple(scenes.build(seed, arguments.size, margin))
    stack, scene = Stack.of(layers, margin), RenderInput(layers, lens, margin)
    pixels = random_pixels(seed, stack.shape, arguments.pixels)
    truth = converged(stack, lens, pixels, rays_of(blur))
    theirs = score(brute(stack, lens, pixels, NO_SKIP, NO_STOP), truth)
    picture = bs.render(layers, lens, margin, backend="cuda").bokeh
    ours = score(picture[pixels[:, 0], pixels[:, 1]], truth)
    by_kernel = cuda.brute_force(scene, grid_table())
    worst = np.abs(by_kernel.color[pixels[:, 0], pixels[:, 1]] - brute(stack, lens, pixels, NO_SKIP, NO_STOP)).max()
    assert worst < 1e-3, f"the brute-force kernel is {worst:.1e} from the CPU's"  # as in `benchmarks.render.check`

    mpib = Mpib(arguments.mpib, layers, lens) if arguments.mpib else None
    times: dict[Any, list[float]] = {}

    def take(name: Any, milliseconds: float) -> None:
        times.setdefault(name, []).append(milliseconds)

    table = grid_table()
    for turn in range(arguments.repeats + 1):  # the first warms up
        if turn == 1:
            times.clear()
        take("brute", clock(Batch(cuda.cache_of(cuda_device.the_device()), [scene], [table]).trace_all))
        for batch in BATCHES:
            inputs = inputs_of((layers, lens, margin), turn, batch)
            take(batch, clock(lambda inputs=inputs: cuda.render_scenes_on_device(inputs)) / batch)
            take((batch, "kernels"), clock(cuda.prepare(inputs).render) / batch)
            take((batch, "host"), host_milliseconds(inputs) / batch)
            take((batch, "pipelined"), pipelined_milliseconds((layers, lens, margin), turn, batch, clock))
        start = time.perf_counter()
        frames = bs.render([bs.Layer(x.color, x.alpha, x.disparity) for x in layers], lens, margin, backend="cuda")
        _ = frames.bokeh, frames.all_in_focus, frames.disparity, frames.defocus, frames.coverage
        take("whole", 1e3 * (time.perf_counter() - start))
        if mpib:
            take("mpib", clock(mpib.render))
    median = {name: statistics.median(found) for name, found in times.items()}
    bound, shares = roofline(scene)
    return Row(
        blur, scenes.FOCUS[focus], seed, theirs, ours, median["brute"],
        {batch: median[batch] for batch in BATCHES},
        *({batch: median[batch, what] for batch in BATCHES} for what in ("kernels", "host", "pipelined")),
        median["whole"], bound, shares, median.get("mpib"),
    )  # fmt: skip


def roofline(scene: RenderInput) -> tuple[float, dict[str, float]]:
    """Milliseconds that the multiply-adds of a frame need at the device's peak, and the share of tiles on each path."""
    batch = cuda.prepare([scene])
    batch.render()
    tiles = cuda_device.the_device().get(batch.outputs[0].tiles).view(TILE).ravel()
    taps = [np.pi * mean_square(scene.lens, layer.disparity, scene) for layer in scene.layers]
    work = 0.0
    for tile in tiles:
        seen = tile["order"][: int(tile["count"])].tolist()
        if int(tile["path"]) in (DIRECT, CONTROL_VARIATE):
            work += PIXELS * 4 * sum(taps[m] for m in seen if not int(tile["sharp"]) >> m & 1)
        if int(tile["path"]) in (CONTROL_VARIATE, RAY_TRACED):
            work += PIXELS * WORK_OF_A_HIT * len(seen) * (int(tile["stop"]) - int(tile["start"]))
    shares = {name: float((tiles["path"] == PATHS.index(name)).mean()) for name in SHOWN}
    return 1e3 * work / multiply_adds_per_second(), shares


def mean_square(lens: bs.Lens, plane: bs.Plane, scene: RenderInput) -> float:
    """Of the blur radius over the picture."""
    x, y = scene.offsets()
    return float(np.square(lens.radius(plane.at(x, y))).mean())


def multiply_adds_per_second() -> float:
    """Of float32 on the whole device."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())
    lanes = 64 if (properties["major"], properties["minor"]) in {(7, 0), (7, 5), (8, 0)} else 128
    kilohertz = cupy.cuda.Device().attributes["ClockRate"]
    return float(properties["multiProcessorCount"] * lanes * kilohertz * 1e3)


class Mpib:
    """MPIB's own kernel on a scene, the whole canvas with its margins."""

    def __init__(self, path: Path, layers: Sequence[bs.Layer], lens: bs.Lens) -> None:
        import cupy
        import torch

        if not hasattr(cupy, "int"):
            cupy.int = np.int32  # the alias that its code was written for
        spec = importlib.util.spec_from_file_location("bokeh_generator", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        height, width = layers[0].shape
        images = np.stack([np.moveaxis(layer.color, 2, 0) for layer in layers])[None]
        alphas = np.stack([layer.alpha[None] for layer in layers])[None]
        coefficients = np.array([[self._coefficients(layer.disparity, height, width) for layer in layers]], np.float32)
        self._tensors = [torch.from_numpy(np.ascontiguousarray(a)).cuda() for a in (images, alphas, coefficients)]
        self._render, self._lens = module.ModuleRenderRT().cuda(), lens

    @staticmethod
    def _coefficients(plane: Any, height: int, width: int) -> tuple[float, float, float]:
        """(a, b, c) of d = (1 - a x - b y) / c with (x, y) from the canvas's corner."""
        corner = plane.at(-(width - 1) / 2, -(height - 1) / 2)
        return -plane.gx / corner, -plane.gy / corner, 1 / corner

    def render(self) -> Any:
        """One frame of 51 x 51 rays."""
        return self._render(*self._tensors, float(self._lens.blur), float(1 / self._lens.focus), 51)


def report(rows: list[Row], arguments: argparse.Namespace) -> str:
    """The page."""
    head = [
        "K",
        "focus",
        "scene",
        "brute ms",
        *(f"ours ms, batch {n}" for n in BATCHES),
        *(f"ratio {n}" for n in BATCHES),
    ]
    head += [f"{what} ms {n}" for what in ("kernels", "host", "pipelined") for n in BATCHES]
    head += ["bound ms", "whole ms", "RMSE ratio", "max ratio", "PSNR dB"]
    head += [f"{name} %" for name in SHOWN] + (["MPIB ms"] if arguments.mpib else [])
    described = ", ".join(f"{key} {value}" for key, value in cuda_device.the_device().description().items())
    return "\n".join(
        [
            "# Rendering: the CUDA backend against its brute-force kernel",
            "",
            *machine_lines("python -m benchmarks.render"),
            f"{described}",
            "",
            f"{arguments.size} px, three layers, medians of {arguments.repeats} calls in turns; what the columns mean "
            "stands in `benchmarks/render_cuda.py`. MPIB's kernel, where it is timed, does the whole canvas.",
            "",
            "| " + " | ".join(head) + " |",
            "|---" * len(head) + "|",
            *(_line(row) for row in rows),
            "",
        ]
    )


def _line(row: Row) -> str:
    cells = [f"{row.blur:g}", row.focus, f"{row.seed}", f"{row.brute_ms:.2f}"]
    cells += [f"{row.our_ms[n]:.3f}" for n in BATCHES] + [f"{row.brute_ms / row.our_ms[n]:.1f}" for n in BATCHES]
    cells += [f"{times[n]:.3f}" for times in (row.kernel_ms, row.host_ms, row.pipelined_ms) for n in BATCHES]
    cells += [f"{row.bound_ms:.3f}", f"{row.whole_ms:.1f}"]
    cells += [f"{row.ours.rmse / row.theirs.rmse:.2f}", f"{row.ours.largest / row.theirs.largest:.2f}"]
    cells += [f"{row.ours.psnr - row.theirs.psnr:+.1f}", *(f"{100 * share:.0f}" for share in row.shares.values())]
    return "| " + " | ".join(cells + ([] if row.mpib_ms is None else [f"{row.mpib_ms:.2f}"])) + " |"


def run(arguments: argparse.Namespace, clock: Measure | None = None) -> str:
    """Measure every row and return the page."""
    clock = clock or Clock()
    rows = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for blur in arguments.blurs:
            for name in arguments.focus:
                rows.append(measure_row(seed, blur, scenes.FOCUS.index(name), arguments, clock))
                print(_line(rows[-1]), file=sys.stderr, flush=True)
    return report(rows, arguments)
