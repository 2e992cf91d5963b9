"""Milliseconds of lenses that change over the picture beside a disc, one thread, by turns in one process.

python -m benchmarks.lenses [--size 512] [--blurs 8 16 32] [--focus near middle far] [--repeats 3] [--pixels 150]
    [--write]

Scenes are those of `benchmarks.scenes`. The time is the processor's, of a whole `bs.render(...).bokeh`, the least of
the repeats; the first call, which makes the tables and prepares the layers, is told apart. A disc of the same K is
rendered beside each lens. RMSE is that of some pixels against 40,000 rays each, beside that of 51 x 51 rays
(`benchmarks.lens_rays`); `--pixels 0` leaves both out, which take minutes. A last column tells how many tiles were
left to plain rays. `--write` puts the table into `benchmarks/lenses.md`.
"""

import os

os.environ["NUMBA_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

import bokehsynth as bs
from benchmarks import brute, scenes
from benchmarks.lens_rays import trace_pixels
from benchmarks.machine import machine_lines
from bokehsynth.rendering.tile_constants import RAY_TRACED

SEED = 7001
RAYS = 40_000
TRACED = {8.0: "double-gauss-1950-f2", 16.0: "double-gauss-1950-f2", 32.0: "portrait-85-f1.4"}
"""Prescriptions for a K; `near_m` follows."""


class TwoRims(bs.Polygon):
    """A hexagon that two rims cut, towards the corners and away from them."""

    def __init__(self) -> None:
        super().__init__(6, 0.3)

    def pupil(self, h: np.ndarray) -> list[tuple[np.ndarray, float]]:
        """Both rims."""
        return [(0.7 * h, 1.0), (-0.5 * h, 0.95)]


class GreyRings(bs.Disc):
    """Weights that vary within the opening, as those of a picture do, the same for R, G and B."""

    def weight(self, s: np.ndarray) -> np.ndarray:
        """Rings between 0.2 and 1."""
        return 0.6 + 0.4 * np.cos(14 * np.hypot(*s.T))  # type: ignore[no-any-return]


class ColouredRim(bs.Disc):
    """Weights of R, G and B that differ."""

    def weight(self, s: np.ndarray) -> np.ndarray:
        """Red and green rise towards the rim, blue falls."""
        square = np.einsum("ij,ij->i", s, s)
        return np.stack([0.4 + 0.6 * square, 0.6 + 0.4 * square, 1.0 - 0.5 * square], axis=1)


class Row(NamedTuple):
    """What is told of one lens."""

    name: str
    milliseconds: float
    first: float
    disc: float
    rmse: float
    rmse_of_grid: float
    by_rays: float


def lenses(size: int, blur: float, focus: float) -> Iterator[tuple[str, bs.Lens]]:
    """The lenses of one K and focus, by name."""
    yield "CatEye(0.9)", bs.Lens(blur, focus, bs.CatEye(0.9))
    yield "two rims", bs.Lens(blur, focus, TwoRims())
    yield "grey weights", bs.Lens(blur, focus, GreyRings())
    yield "RGB weights", bs.Lens(blur, focus, ColouredRim())
    if blur in TRACED:
        prescription, near = bs.load_prescription(TRACED[blur]), 1.0
        for _ in range(3):  # K depends a little on the distance
            lens = prescription.at(near_m=near, focus_m=near / focus, sensor_width_mm=36.0, size=(size, size))
            near *= lens.blur / blur
        yield TRACED[blur], lens


def measure(name: str, lens: bs.Lens, size: int, repeats: int, pixels: np.ndarray) -> Row:
    """Render by turns with a disc, judge."""
    planes, disc = scenes.planes(SEED), bs.Lens(lens.blur, lens.focus)
    cases = []
    for each in (lens, disc):
        margin = each.margin(planes, size, size)
        cases.append((scenes.build(SEED, size, margin), each, margin))
    first, _ = timed(cases[0])
    timed(cases[1])
    turns = [[timed(case) for case in cases] for _ in range(repeats)]
    least = [min(turn[k][0] for turn in turns) for k in range(2)]
    frames = turns[-1][0][1]
    if len(pixels) == 0:
        return Row(name, 1e3 * least[0], 1e3 * first, 1e3 * least[1], math.nan, math.nan, by_rays(frames))
    expected = trace_pixels(*cases[0], pixels, brute.spiral_points(RAYS))
    errors = [
        math.sqrt(np.square(found - expected).mean())
        for found in (frames.bokeh[tuple(pixels.T)], trace_pixels(*cases[0], pixels, brute.grid_points()))
    ]
    return Row(name, 1e3 * least[0], 1e3 * first, 1e3 * least[1], *errors, by_rays(frames))


def by_rays(frames: bs.Frames) -> float:
    """Share of the tiles that are left to plain rays."""
    return float((frames.paths == RAY_TRACED).mean())


def timed(case: tuple[list[bs.Layer], bs.Lens, int]) -> tuple[float, bs.Frames]:
    """Seconds of the processor, and what was rendered."""
    start = time.process_time()
    frames = bs.render(*case, backend="cpu")
    _ = frames.bokeh
    return time.process_time() - start, frames


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--blurs", type=float, nargs="+", default=[8, 16, 32])
    parser.add_argument("--focus", nargs="+", choices=scenes.FOCUS, default=list(scenes.FOCUS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pixels", type=int, default=150)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    pixels = np.random.default_rng(SEED).integers(0, options.size, (options.pixels, 2))
    lines = [*machine_lines("python -m benchmarks.lenses"), ""]
    lines += [f"{options.size} px, three layers, least of {options.repeats}; RMSE of {options.pixels} pixels", ""]
    lines += ["| K | focus | lens | ms | disc of that K, ms | times | first call, ms | RMSE | 51 x 51 rays | by rays |"]
    lines += ["|---|---|---|---|---|---|---|---|---|---|"]
    print("\n".join(lines))
    for blur in options.blurs:
        for focus in options.focus:
            plane = scenes.planes(SEED)[scenes.FOCUS.index(focus)]
            for name, lens in lenses(options.size, blur, plane.d):
                row = measure(name, lens, options.size, options.repeats, pixels)
                lines.append(
                    f"| {blur:g} | {focus} | {row.name} | {row.milliseconds:.1f} | {row.disc:.1f} "
                    f"| {row.milliseconds / row.disc:.1f} | {row.first:.0f} | {row.rmse:.1e} | {row.rmse_of_grid:.1e} "
                    f"| {row.by_rays:.0%} |"
                )
                print(lines[-1], flush=True)
    if options.write:
        Path(__file__).with_suffix(".md").write_text(
            "# Lenses that change over the picture\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
