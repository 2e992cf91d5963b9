"""Is the default number of rays (`render.kernels.grid_side`) ever worse than 51 x 51 brute-force rays per pixel?

python -m benchmarks.rays [--size 128] [--truth 40000] [--write]

Two scenes with soft mattes, hairs of 1-3 px and highlights of 20 times white, blur K = 2..32, focus on each of three
layers. Both sets of rays go through the same kernels (`render.kernels`), so that only the rays differ, and both are
scored against a picture of 40,000 rays. The brute-force set is that of MPIB: the regular 51 x 51 grid over
[-1, 1]^2, the 1,957 points inside the unit disc. `--write` puts the table into `benchmarks/rays.md`.
"""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import cv2
import numpy as np

from benchmarks.machine import machine_lines
from bokehsynth.layers import Layer
from bokehsynth.optics import Lens, Plane
from bokehsynth.render import cpu
from bokehsynth.render.bake import bake
from bokehsynth.render.kernels import TILE_H, TILE_W, block_extremes, grid_side, trace_tile
from bokehsynth.render.shot import Shot

BLURS = (2, 8, 16, 32)
PLANES = {
    "frontal": (Plane(0.9), Plane(0.55), Plane(0.1)),
    "tilted": (Plane(0.9, 2e-4, -1e-4), Plane(0.55, -3e-4, 2e-4), Plane(0.15, 1.6e-4, 2.4e-4)),
}
FOCUS = ("near", "middle", "far")


def scene_layers(name: str, size: int, margin: int) -> list[Layer]:
    """Two soft mattes with hairs over an opaque textured background, lights of 20 times white on all three."""
    rng = np.random.default_rng(list(PLANES).index(name))
    side, layers = size + 2 * margin, []
    for i, plane in enumerate(PLANES[name]):
        coarse, fine = rng.random((side // 16, side // 16, 3)), rng.random((side, side, 3))
        color = 0.7 * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).clip(0) + 0.3 * fine
        for x, y in rng.integers(margin, margin + size, (10, 2)):
            cv2.circle(color, (int(x), int(y)), int(rng.integers(0, 3)), (20.0, 20.0, 20.0), -1)
        alpha = np.ones((side, side))
        if i < 2:
            alpha = np.zeros((side, side))
            x, y = rng.uniform(margin, margin + size, 2)
            cv2.ellipse(alpha, (int(x), int(y)), (size // 4, size // 6), float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
            alpha = cv2.GaussianBlur(alpha, (0, 0), 1.5 + i)
            for k in range(12):
                ends = rng.integers(margin, margin + size, 4)
                cv2.line(alpha, tuple(map(int, ends[:2])), tuple(map(int, ends[2:])), 0.9, 1 + k % 3, cv2.LINE_AA)
        layers.append(Layer(color.astype(np.float32), alpha.clip(0, 1).astype(np.float32), plane))
    return layers


def brute_points() -> np.ndarray:
    """The regular 51 x 51 grid inside the unit disc, [1957, 2]."""
    x, y = np.meshgrid(np.linspace(-1, 1, 51), np.linspace(-1, 1, 51))
    inside = x * x + y * y <= 1
    return np.stack([x[inside], y[inside]], axis=1)


def trace_points(shot: Shot, points: np.ndarray) -> np.ndarray:
    """`render.cpu.trace` with the same given lens points for every tile, [H, W, 3]."""
    packed = np.stack([layer.packed for layer in shot.layers])
    planes = np.array([(p.d, p.gx, p.gy) for p in (layer.disparity for layer in shot.layers)])
    extremes = np.stack([block_extremes(layer) for layer in packed[:, 3]])
    weights, first = np.ones((len(points), 3), np.float32), np.array([0, 0, len(points)], np.int64)
    color = np.empty((shot.height, shot.width, 3), np.float32)
    coverage = np.empty((shot.height, shot.width), np.float32)

    def tile(corner: tuple[int, int]) -> None:
        lens = shot.lens
        trace_tile(
            packed, planes, extremes, points, weights, first, -2,
            lens.blur, lens.focus, shot.margin, *corner, color, coverage,
        )  # fmt: skip

    with ThreadPoolExecutor(cpu.THREADS) as pool:
        list(pool.map(tile, product(range(0, shot.height, TILE_H), range(0, shot.width, TILE_W))))
    return color


def check() -> None:
    """The custom tables go through the kernels as the package's own do."""
    shot = Shot(tuple(scene_layers("tilted", 48, 40)), Lens(16.0, 0.5), 40)
    own = cpu.trace(shot, 400).color
    assert np.array_equal(trace_points(shot, bake(shot.lens.aperture, 20).points), own), "tables read differently"
    assert len(brute_points()) == 1957


def score(picture: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    error = picture.astype(np.float64) - truth
    return float(np.sqrt(np.square(error).mean())), float(np.abs(error).max())


def rows(size: int, truth_rays: int) -> list[tuple[str, int, str, float, int, tuple, tuple, float, float]]:
    found = []
    for name, K, which in product(PLANES, BLURS, FOCUS):
        focus = PLANES[name][FOCUS.index(which)].d
        lens = Lens(float(K), focus)
        margin = lens.margin(list(PLANES[name]), size, size)
        shot = Shot(tuple(scene_layers(name, size, margin)), lens, margin)
        truth = cpu.trace(shot, truth_rays).color
        start = time.perf_counter()
        ours = score(cpu.trace(shot, None).color, truth)
        middle = time.perf_counter()
        brute = score(trace_points(shot, brute_points()), truth)
        seconds = time.perf_counter() - middle
        reach = max(lens.reach(plane, size, size) for plane in PLANES[name])
        found.append((name, K, which, reach, grid_side(reach) ** 2, ours, brute, middle - start, seconds))
        print(found[-1], flush=True)
    return found


def report(found: list, arguments: argparse.Namespace) -> str:
    lines = [
        "# Rays: the default against 51 x 51 brute force",
        "",
        *machine_lines("python -m benchmarks.rays"),
        "",
        f"{arguments.size} px pictures, scored in linear light (lights of 20) against {arguments.truth:,} rays. "
        "`rays`: most rays of any tile; a ratio above 1 means the default is worse.",
        "",
        "| scene | K | focus | r max | rays | RMSE default | RMSE 51x51 | ratio | max default | max 51x51 | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, K, which, reach, rays, ours, brute, _, _ in found:
        lines.append(
            f"| {name} | {K} | {which} | {reach:.1f} | {rays} | {ours[0]:.2e} | {brute[0]:.2e} | "
            f"{ours[0] / brute[0]:.2f} | {ours[1]:.1e} | {brute[1]:.1e} | {ours[1] / brute[1]:.2f} |"
        )
    rms, top = ([row[5][k] / row[6][k] for row in found] for k in (0, 1))
    lines += [
        "",
        f"RMSE: worse in {sum(r > 1 for r in rms)} of {len(rms)} cases, ratio {min(rms):.2f} to {max(rms):.2f}, "
        f"geometric mean {np.exp(np.mean(np.log(rms))):.2f}. Largest error: worse in {sum(r > 1 for r in top)}, "
        f"ratio {min(top):.2f} to {max(top):.2f}, geometric mean {np.exp(np.mean(np.log(top))):.2f}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--truth", type=int, default=40_000)
    parser.add_argument("--write", action="store_true", help="into benchmarks/rays.md")
    arguments = parser.parse_args()
    check()
    text = report(rows(arguments.size, arguments.truth), arguments)
    sys.stdout.write(text)
    if arguments.write:
        Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
