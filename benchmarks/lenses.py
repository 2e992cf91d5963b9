"""Milliseconds of lenses that change over the picture beside a disc, one thread, by turns in one process.

python -m benchmarks.lenses [--size 512] [--blurs 8 16 32] [--repeats 5] [--write]

Scenes are those of `benchmarks.scenes`. The time is the processor's, of a whole `bs.render(...).bokeh`, median of the
repeats; the first call, which makes the tables and prepares the layers, is told apart. A prescription has its own K. A
last column tells how many tiles were left to plain rays. `--write` puts the table into `benchmarks/lenses.md`.
"""

import os

os.environ["NUMBA_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

import bokehsynth as bs
from benchmarks import scenes
from benchmarks.machine import machine_lines
from bokehsynth.rendering.tile_constants import RAY_TRACED

SEED = 7001


class TwoRims(bs.Polygon):
    """A hexagon that two rims cut, towards the corners and away from them."""

    def __init__(self) -> None:
        super().__init__(6, 0.3)

    def pupil(self, h: np.ndarray) -> list[tuple[np.ndarray, float]]:
        """Both rims."""
        return [(0.7 * h, 1.0), (-0.5 * h, 0.95)]


def lenses(size: int, blurs: list[float], focus: float) -> dict[str, bs.Lens]:
    """The lenses of a table, by name."""
    found = {}
    for blur in blurs:
        for name, aperture in (("Disc()", bs.Disc()), ("CatEye(0.9)", bs.CatEye(0.9)), ("two rims", TwoRims())):
            found[f"{name}, K {blur:g}"] = bs.Lens(blur, focus, aperture)
    near, width = 1.0, 36.0
    traced = bs.load_prescription("double-gauss-1950-f2").at(
        near_m=near, focus_m=near / focus, sensor_width_mm=width, size=(size, size)
    )
    return found | {f"double-gauss-1950-f2, K {traced.blur:.1f}": traced}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--blurs", type=float, nargs="+", default=[8, 16, 32])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    planes = scenes.planes(SEED)
    made, first, times, rays = {}, {}, {}, {}
    for name, lens in lenses(options.size, options.blurs, planes[1].d).items():
        margin = lens.margin(planes, options.size, options.size)
        made[name] = scenes.build(SEED, options.size, margin), lens, margin
        first[name], times[name] = timed(made[name])[0], []
    for _ in range(options.repeats):
        for name, case in made.items():
            seconds, frames = timed(case)
            times[name].append(seconds)
            rays[name] = float((frames.paths == RAY_TRACED).mean())
    lines = [*machine_lines("python -m benchmarks.lenses"), ""]
    lines += [f"{options.size} px, three layers, focus on the middle one, medians of {options.repeats}", ""]
    lines += ["| lens | ms | first call, ms | disc of that K | tiles by rays |", "|---|---|---|---|---|"]
    for name, seconds in times.items():
        median, disc = statistics.median(seconds), times.get(f"Disc(), K {name.rpartition(' ')[2]}")
        ratio = f"{median / statistics.median(disc):.1f} times" if disc else "-"
        lines.append(f"| {name} | {1e3 * median:.1f} | {1e3 * first[name]:.0f} | {ratio} | {rays[name]:.0%} |")
    print("\n".join(lines))
    if options.write:
        Path(__file__).with_suffix(".md").write_text(
            "# Lenses that change over the picture\n\n" + "\n".join(lines) + "\n"
        )


def timed(case: tuple[list[bs.Layer], bs.Lens, int]) -> tuple[float, bs.Frames]:
    """Seconds of the processor, and what was rendered."""
    start = time.process_time()
    frames = bs.render(*case, backend="cpu")
    _ = frames.bokeh
    return time.process_time() - start, frames


if __name__ == "__main__":
    main()
