"""Milliseconds and error of the CPU renderer beside the brute force of today's generators, one thread, interleaved.

python -m benchmarks.render [--size 512] [--blurs 32 16 8 2] [--focus near middle far] [--seeds 3] [--write]

Scenes are those of `benchmarks.scenes`; the peer is `benchmarks.brute`: MPIB's 51 x 51 grid (1,957 rays per pixel), in
Numba. What is timed is a whole call: `bs.render` and every field of its Frames, with the blur changed a little from
call to call, so that nothing of one call serves the next but what hangs on the layers. The brute force, ten seconds a
frame, is timed on rows spread over the frame and scaled up (`--full-brute`: on all of them). Both take turns in one
process; times are medians. `--write` puts the table into `benchmarks/render.md`.

Errors are taken on random pixels against a converged float64 tracer; the brute force is then spared its alpha
thresholds. `holds` names the targets that a row misses: RMSE at most 1.02 times, largest error at most 1.1 times and
sRGB PSNR at most 0.2 dB less than the brute force's, and the speed-ups in `SPEEDUP`.
"""

import os

os.environ["NUMBA_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numba
import numpy as np

import bokehsynth as bs
from benchmarks import roofline, scenes
from benchmarks.brute import (
    NO_SKIP,
    NO_STOP,
    SKIP,
    STOP,
    Score,
    Stack,
    brute,
    converged,
    grid_points,
    hand_trace,
    random_pixels,
    rays_of,
    score,
)
from benchmarks.machine import machine_lines
from bokehsynth.rendering.aperture.tables import tables_of
from bokehsynth.rendering.cpu import prepared_layers
from bokehsynth.rendering.cpu import renderer as cpu
from bokehsynth.rendering.tile_constants import TILE_H
from bokehsynth.rendering.types import RenderInput

SPEEDUP = {32: 120, 16: 220, 8: 500, 2: 700}
"""Least time ratio brute / ours by K; other K have no target."""
RMSE_TIMES, MAX_TIMES, PSNR_LESS = 1.02, 1.1, -0.2

STEP = 1e-3
"""Relative change of the blur from one timed call to the next."""
BRUTE_ROWS = 8
"""Rows per timed run of the brute force, evenly spread."""
SPLITS = 3
"""Calls whose stages are timed one by one."""
FIELDS = ("bokeh", "all_in_focus", "disparity", "defocus", "coverage", "transmission")


class Times(NamedTuple):
    """Seconds of one run. On a busy machine the processor's time tells the work from the waiting."""

    wall: float
    cpu: float


def median_times(times: list[Times]) -> Times:
    return Times(*(statistics.median(clock) for clock in zip(*times, strict=True)))


def clocked(work: Callable[[], Any]) -> Times:
    """Run `work` by both clocks; it must stay on one thread."""
    start, busy = time.perf_counter(), time.process_time()
    work()
    took = Times(time.perf_counter() - start, time.process_time() - busy)
    assert took.cpu <= 1.1 * took.wall + 0.002, f"more than one thread: {took}"
    return took


@dataclass
class Row:
    """What was measured for one blur, focus and scene."""

    blur: float
    focus: str
    seed: int
    theirs: Score
    ours: Score
    bound_ms: float
    their_times: list[Times] = field(default_factory=list)
    our_times: list[Times] = field(default_factory=list)
    splits: list[dict[str, float]] = field(default_factory=list)

    @property
    def speedup(self) -> Times:
        """Median brute-force time of a frame over the median of ours."""
        theirs, ours = median_times(self.their_times), median_times(self.our_times)
        return Times(theirs.wall / ours.wall, theirs.cpu / ours.cpu)

    @property
    def split_ms(self) -> dict[str, float]:
        """Median milliseconds by stage."""
        return {name: statistics.median(s[name] for s in self.splits) for name in self.splits[0]}

    @property
    def misses(self) -> list[str]:
        """Targets that do not hold."""
        found = {
            "time": self.speedup.wall >= SPEEDUP.get(self.blur, 0),
            "RMSE": self.ours.rmse <= RMSE_TIMES * self.theirs.rmse,
            "max": self.ours.largest <= MAX_TIMES * self.theirs.largest,
            "PSNR": self.ours.psnr >= self.theirs.psnr + PSNR_LESS,
        }
        return [name for name, holds in found.items() if not holds]


# What is timed ---------------------------------------------------------------------------------------------------


def render_fields(layers: Sequence[bs.Layer], lens: bs.Lens, margin: int) -> list[np.ndarray]:
    """Render a scene and compute every field."""
    frames = bs.render(layers, lens, margin, backend="cpu")
    return [getattr(frames, name) for name in FIELDS]


def split(layers: Sequence[bs.Layer], lens: bs.Lens, margin: int) -> dict[str, float]:
    """Milliseconds of a scene by stage; the keys become columns of the table.

    kernels: tables of texel weights; sums: weighted planes and their prefix sums; filter: the plan of all tiles, then
    all of them with four rays where layers vary together; rays: what the full sets of rays take on top; then the other
    fields.
    """
    scene, tables = RenderInput(tuple(layers), lens, margin), tables_of(lens.aperture)
    spent = {}
    start = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal start
        now = time.perf_counter()
        spent[stage], start = 1e3 * (now - start), now

    prepared = [prepared_layers.prepare_layer(layer, scene, tables) for layer in layers]
    kernels = prepared_layers.kernels_by_radius(scene, prepared, tables)
    lap("kernels")
    tile_rows = -(-scene.height // TILE_H)
    weighted = prepared_layers.weight_planes(prepared, scene, (0, tile_rows))
    lap("sums")
    planes = prepared_layers.layer_planes(scene, prepared, weighted)
    for stage, table in (("filter", tables.rays(2)), ("rays", cpu.ray_set(scene, tables, None))):
        rays = prepared_layers.rays_of(scene, prepared, table)
        output = cpu.empty_output(scene)
        plan = cpu.plan_tiles(scene, prepared, output)
        cpu.render_tiles(planes, plan, kernels, rays, (0, tile_rows), output)
        lap(stage)
    spent["rays"] -= spent["filter"]
    frames = bs.render(layers, lens, margin, backend="cpu")
    for stage, names in (("all in focus", FIELDS[1:2]), ("maps", (*FIELDS[2:4], FIELDS[5]))):
        for name in names:
            getattr(frames, name)
        lap(stage)
    return spent


def time_row(row: Row, layers: Sequence[bs.Layer], lens: bs.Lens, stack: Stack, arguments: argparse.Namespace) -> None:
    """Take turns: some rows of the brute force, a whole frame of ours."""
    height, width = stack.shape
    step = 1 if arguments.full_brute else max(1, height // BRUTE_ROWS)
    for i in range(arguments.repeats):
        timed = bs.Lens(lens.blur * (1 + STEP * (i + 1)), lens.focus)
        rows = np.arange(int(step * ((0.5 + 0.618 * i) % 1)) if step > 1 else 0, height, step)  # others in each turn
        pixels = np.stack(np.meshgrid(rows, np.arange(width), indexing="ij"), axis=-1).reshape(-1, 2)
        theirs = clocked(lambda timed=timed, pixels=pixels: brute(stack, timed, pixels, SKIP, STOP))
        row.their_times.append(Times(*(seconds * height / len(rows) for seconds in theirs)))
        row.our_times.append(clocked(lambda timed=timed: render_fields(layers, timed, stack.margin)))
        if i < SPLITS:
            row.splits.append(split(layers, bs.Lens(timed.blur * (1 + STEP / 2), lens.focus), stack.margin))


# Correctness first -----------------------------------------------------------------------------------------------


def check() -> None:
    """Correctness before time, on a small scene whose background is tilted."""
    assert numba.config.NUMBA_NUM_THREADS == 1, "NUMBA_NUM_THREADS must be 1 before Numba is imported"
    assert len(grid_points()) == 1957
    size, planes = 48, scenes.planes(0)
    lens = bs.Lens(12.0, planes[1].d)
    margin = lens.margin(planes, size, size)
    layers = scenes.build(0, size, margin)
    stack = Stack.of(layers, margin)
    everywhere = np.argwhere(np.ones((size, size), bool))
    truth = bs.render(layers, lens, margin, backend="reference", samples=500).bokeh
    error = np.abs(converged(stack, lens, everywhere, 500).reshape(size, size, 3) - truth).max()
    assert error < 1e-5, f"the converged tracer is {error:.1e} from backend='reference' with the same rays"
    for thresholds in ((SKIP, STOP), (NO_SKIP, NO_STOP)):
        pixels = random_pixels(0, (size, size), 8)
        by_hand = [hand_trace(stack, lens, tuple(p), grid_points(), *thresholds) for p in pixels]
        error = np.abs(brute(stack, lens, pixels, *thresholds) - by_hand).max()
        # 1,957 float32 additions of one light of 20 times white are off by up to 3e-4.
        assert error < 1e-3, f"the brute force is {error:.1e} from a trace by hand"


# The run ---------------------------------------------------------------------------------------------------------


def lens_rows(seed: int, arguments: argparse.Namespace) -> list[tuple[float, str, bs.Lens]]:
    """Blur, name of the focus, and lens of every row of one scene."""
    focus = dict(zip(scenes.FOCUS, (p.d for p in scenes.planes(seed)), strict=True))
    return [(K, name, bs.Lens(K, focus[name])) for K, name in product(arguments.blurs, arguments.focus)]


def margin_of(seed: int, arguments: argparse.Namespace) -> int:
    """One canvas for all rows of a scene: the widest that any timed lens asks for."""
    grown = 1 + STEP * (arguments.repeats + 1)
    widest = (bs.Lens(lens.blur * grown, lens.focus) for _, _, lens in lens_rows(seed, arguments))
    return max(lens.margin(scenes.planes(seed), arguments.size, arguments.size) for lens in widest)


def measure(arguments: argparse.Namespace, core: roofline.Core) -> list[Row]:
    """Every row; a line on stderr for each as it is done."""
    rows = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        margin = margin_of(seed, arguments)
        layers = scenes.build(seed, arguments.size, margin)
        stack = Stack.of(layers, margin)
        pixels = random_pixels(seed, stack.shape, arguments.pixels)
        for blur, focus, lens in lens_rows(seed, arguments):
            truth = converged(stack, lens, pixels, rays_of(blur))
            theirs = score(brute(stack, lens, pixels, NO_SKIP, NO_STOP), truth)
            picture = render_fields(layers, lens, margin)[0]  # also packs the layers and compiles, untimed
            ours = score(picture[pixels[:, 0], pixels[:, 1]], truth)
            row = Row(blur, focus, seed, theirs, ours, roofline.bound_ms(layers, lens, margin, core))
            time_row(row, layers, lens, stack, arguments)
            rows.append(row)
            print(_line(row), file=sys.stderr, flush=True)
    return rows


# The table -------------------------------------------------------------------------------------------------------


def report(rows: list[Row], core: roofline.Core, arguments: argparse.Namespace) -> str:
    """The page: machine, table, summary by blur."""
    head = ["K", "focus", "scene", "brute s", "ours ms", "ratio", "CPU", "L1 bound ms"]
    head += [
        x for name in ("RMSE", "max", "PSNR") for x in (f"{name} brute", "ours", "dB" if name == "PSNR" else "ratio")
    ]
    head += [f"{name} ms" for name in rows[0].split_ms] + ["holds"]
    return "\n".join(
        [
            "# Rendering: the CPU backend against 51 x 51 brute force",
            "",
            *machine_lines("python -m benchmarks.render"),
            *core.lines(),
            "",
            f"{arguments.size} px, three layers, one thread, medians of {arguments.repeats} calls in turns with "
            f"{'whole frames' if arguments.full_brute else f'{BRUTE_ROWS} rows'} of the brute force; "
            f"load average {os.getloadavg()[0]:.1f} at the end. Errors in linear light (lights of "
            f"{scenes.BRIGHTEST:.0f}) on {min(arguments.pixels, arguments.size**2):,} random pixels against "
            "24,576 rays in float64 (8,192 for K <= 8).",
            "",
            "`ratio`: by the wall clock, `CPU`: by processor time (they part where the machine is busy). "
            "`L1 bound`: the loads of filtering each layer once where it is seen, at the rate measured above "
            "(`benchmarks.roofline`).",
            "",
            "| " + " | ".join(head) + " |",
            "|---" * len(head) + "|",
            *(_line(row) for row in rows),
            "",
            *summary(rows),
            "",
        ]
    )


def _line(row: Row) -> str:
    their, our = median_times(row.their_times).wall, 1e3 * median_times(row.our_times).wall
    t, o = row.theirs, row.ours
    cells = [
        f"{row.blur:g}", row.focus, f"{row.seed}", f"{their:.2f}", f"{our:.1f}",
        f"{row.speedup.wall:.0f}", f"{row.speedup.cpu:.0f}", f"{row.bound_ms:.1f}",
        f"{t.rmse:.2e}", f"{o.rmse:.2e}", f"{o.rmse / t.rmse:.2f}",
        f"{t.largest:.1e}", f"{o.largest:.1e}", f"{o.largest / t.largest:.2f}",
        f"{t.psnr:.1f}", f"{o.psnr:.1f}", f"{o.psnr - t.psnr:+.1f}",
        *(f"{ms:.1f}" for ms in row.split_ms.values()), "yes" if not row.misses else "not " + ", ".join(row.misses),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def summary(rows: list[Row]) -> list[str]:
    """Worst and median of every ratio, for each blur."""
    by_blur = defaultdict(list)
    for row in rows:
        by_blur[row.blur].append(row)
    lines = [
        "| K | speed-up: target | worst | median | RMSE ratio: worst | median | max ratio: worst | median | "
        "PSNR dB: worst | median | rows that hold |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for blur, group in by_blur.items():
        times, rmse, largest, decibels = (
            [row.speedup.wall for row in group],
            [row.ours.rmse / row.theirs.rmse for row in group],
            [row.ours.largest / row.theirs.largest for row in group],
            [row.ours.psnr - row.theirs.psnr for row in group],
        )
        cells = [
            f"{blur:g}", f"{SPEEDUP.get(blur, 0)}", f"{min(times):.0f}", f"{statistics.median(times):.0f}",
            f"{max(rmse):.2f}", f"{statistics.median(rmse):.2f}",
            f"{max(largest):.2f}", f"{statistics.median(largest):.2f}",
            f"{min(decibels):+.1f}", f"{statistics.median(decibels):+.1f}",
            f"{sum(not row.misses for row in group)} of {len(group)}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--blurs", type=float, nargs="+", default=[32, 16, 8, 2], metavar="K")
    parser.add_argument("--focus", nargs="+", choices=scenes.FOCUS, default=list(scenes.FOCUS))
    parser.add_argument("--seeds", type=int, default=3, help="how many scenes")
    parser.add_argument("--first-seed", type=int, default=7001)
    parser.add_argument("--pixels", type=int, default=4096, help="on which errors are taken")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--full-brute", action="store_true", help="time whole frames of the brute force")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: see benchmarks/render_cuda.py")
    parser.add_argument("--mpib", type=Path, metavar="FILE", help="with cuda: MPIB's bokeh_generator.py, timed beside")
    parser.add_argument("--write", action="store_true", help="into benchmarks/render.md, or render_cuda.md")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    check()
    if arguments.device == "cuda":
        from benchmarks import render_cuda

        text = render_cuda.run(arguments)
        sys.stdout.write(text)
        if arguments.write:
            Path(__file__).with_name("render_cuda.md").write_text(text)
        return
    core = roofline.measure()
    text = report(measure(arguments, core), core, arguments)
    sys.stdout.write(text)
    if arguments.write:
        Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
