"""Milliseconds a frame that the compiled kernels predict of an H200: no GPU is needed, and none has confirmed it.

    PYTHONPATH=tests python -m benchmarks.gpu_model [--seeds 9201 9202 9203] [--blurs 32 16 8 2]

What each tile does is counted with the kernels compiled for the host; what that costs was counted in their machine code
for sm_90 (NVRTC 12.9, nvdisasm). An H200 does it with 132 cores at 1.9 GHz that issue 3.7 instructions a cycle and
take 5.5 cycles for the 512 bytes that a warp loads from anywhere in the first-level cache, and half as long for 128,
which seldom begin where a line does; the longer of the two counts. Nothing has been measured yet:
`benchmarks.gpu_session` puts these predictions beside what it measures.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import bokehsynth as bs
from benchmarks import scenes
from benchmarks.render_cuda import inputs_of
from bokehsynth.rendering import PATHS
from bokehsynth.rendering.cuda import device as cuda_device
from bokehsynth.rendering.cuda import renderer as cuda
from bokehsynth.rendering.cuda.structs import BLOCK, ROWS, TILE, TILE_W
from bokehsynth.rendering.types import RenderInput

CORES, GIGAHERTZ, ISSUED, LOAD = 132, 1.9, 3.7, 5.5
"""Cores, their clock, instructions a cycle of each, cycles for a warp's load of 16 bytes a thread."""

ROW = {False: (37.3, 331.0), True: (29.3, 267.0)}
"""Of `slide`, without and with the layer opaque: instructions for a row of a column after the eighth, for the rest."""
SHORT, COLUMN, LAYER, NODE = 36.0, 40.0, 600.0, 2000.0
"""Instructions for a row of a column of fewer; for each column; for a layer of a tile; for a node of a tilted one."""
HIT = {
    "frontal": (30.8, 2.5), "alike": (39.0, 2.5), "tilted": (49.8, 4.0), "in focus": (11.0, 1.0), "empty": (1.0, 0.0),
    "nearest frontal": (11.3, 1.25), "nearest alike": (17.5, 1.25), "nearest tilted": (27.5, 2.0),
    "nearest in focus": (5.0, 0.5), "general": (150.0, 8.0),
}  # fmt: skip
"""Of a ray and layer, for 32 pixels: instructions, loads of 512 bytes. Of a tile's `nearest` layer alphas alone are
loaded. `general` is `trace_rays`, its share of each ray included."""
OTHERS = 0.03
"""Milliseconds of the other kernels and of launches, in a batch of 16."""

DIRECT, CONTROL_VARIATE, RAY_TRACED = (PATHS.index(name) for name in ("taps", "together", "rays"))


@dataclass(frozen=True)
class Work:
    """What the tiles of a frame do, in cycles of one core."""

    composite: float
    rays: float
    hits: dict[str, float]
    """Of rays with layers, each for 32 pixels, by kind."""

    def milliseconds(self) -> tuple[float, float]:
        """Of `composite_tiles` and of the ray kernels, in a batch that fills the device."""
        rate = CORES * GIGAHERTZ * 1e6
        return self.composite / rate, self.rays / rate


def cycles(instructions: float, loads: float) -> float:
    """The longer of what is issued and what the cache gives."""
    return max(instructions / ISSUED, loads * LOAD)


def work_of(scene: RenderInput) -> Work:
    """Count the work of a scene's tiles."""
    batch = cuda.prepare([scene])
    batch.render()
    columns = -(-scene.width // TILE_W)
    tiles = batch.outputs[0].tiles.view(TILE).reshape(-1, columns)
    spans = cuda.cache_of(batch.device).ray_sets_by_size(cuda.ray_set(scene, None)).rays.points
    hits = dict.fromkeys(HIT, 0.0)
    composite = 0.0
    filters = [list(_filters(batch.footprints, scene, m)) for m in range(len(scene.layers))]
    for (row, column), tile in np.ndenumerate(tiles):
        if int(tile["path"]) in (DIRECT, CONTROL_VARIATE):
            composite += _composited(tile, filters, scene, row, column)
        if int(tile["path"]) in (CONTROL_VARIATE, RAY_TRACED):
            points = spans[int(tile["start"]) : int(tile["stop"])]
            for kind, share in _kinds(tile, scene, row, column, points):
                hits[kind] += ROWS * len(points) * share
    return Work(composite, sum(cycles(*HIT[kind]) * count for kind, count in hits.items()), hits)


def _filters(nodes: Any, scene: RenderInput, layer: int) -> Iterator[tuple[float, dict[bool, float]]]:
    """Of each node of a layer: its radius, and cycles to filter a tile with it, if the layer is opaque and if not."""
    plane, K = scene.layers[layer].disparity, scene.lens.blur
    low, high = (K * (d - scene.lens.focus) for d in plane.extremes(scene.width, scene.height))
    for node in nodes:
        mine = (node["ex"], node["ey"]) == (K * plane.gx, K * plane.gy) and low - 0.5 <= node["r"] <= high + 0.5
        if not mine:
            continue
        half, side = int(node["half"]), 2 * int(node["half"]) + 1
        heights = 2 * np.sqrt(np.maximum(0, (abs(node["r"]) + 0.5) ** 2 - np.arange(-half, half + 1) ** 2))
        rows = np.ceil(heights[heights > 0])
        tall, short = rows[rows >= ROWS], rows[rows < ROWS]
        cost = {}
        for opaque, (full, rest) in ROW.items():
            instructions = full * (tall - ROWS).sum() + rest * len(tall) + SHORT * short.sum() + COLUMN * side
            loads = (tall + ROWS - 1).sum() + (short + ROWS - 1).sum()
            cost[opaque] = cycles(instructions, loads + 0.2 * rows.sum())
        yield float(node["r"]), cost


def _composited(tile: Any, filters: Any, scene: RenderInput, row: int, column: int) -> float:
    """Cycles of `composite_tiles`."""
    found = 0.0
    for m in tile["order"][: int(tile["count"])].tolist():
        opaque = bool(int(tile["opaque"]) >> m & 1)
        if not int(tile["sharp"]) >> m & 1:
            radii = [r for r, _ in filters[m]]
            low, high = _range(scene, m, row, column)
            for n, (_, cost) in enumerate(filters[m]):
                beyond = (n < len(radii) - 1 and radii[n + 1] <= low) or (n > 0 and radii[n - 1] >= high)
                found += 0 if beyond else cost[opaque] + (NODE / ISSUED if len(radii) > 1 else 0)
        found += LAYER / ISSUED
        if opaque:
            break
    return found


def _range(scene: RenderInput, m: int, row: int, column: int) -> tuple[float, float]:
    """Signed radii of a layer over a tile."""
    plane, lens = scene.layers[m].disparity, scene.lens
    x = np.array([column * TILE_W, column * TILE_W + TILE_W - 1]) - (scene.width - 1) / 2
    y = np.array([row * ROWS, row * ROWS + ROWS - 1]) - (scene.height - 1) / 2
    radii = lens.blur * (plane.at(*np.meshgrid(x, y)) - lens.focus)
    return float(radii.min()), float(radii.max())


def _kinds(tile: Any, scene: RenderInput, row: int, column: int, points: Any) -> Iterator[tuple[str, float]]:
    """The kinds of hits of a tile's rays with its layers, each with the share of the rays that it holds for."""
    for n, m in enumerate(tile["order"][: int(tile["count"])].tolist()):
        plane, which = scene.layers[m].disparity, "" if n else "nearest "
        if not int(tile["planes"]):
            yield "general", 1.0
            continue
        x, y, empty = *_offsets(scene, m, row, column, points), np.zeros(len(points), bool)
        if not int(tile["opaque"]) >> m & 1:
            empty = _empty(scene, m, row, column, x, y)
        alike = (x[0] == x[1]) & (y[0] == y[1])
        yield "empty", float(empty.mean())
        if plane.gx == 0 and plane.gy == 0:
            yield which + ("in focus" if plane.d == scene.lens.focus else "frontal"), float((~empty).mean())
        else:
            yield which + "alike", float((alike & ~empty).mean())
            yield which + "tilted", float((~alike & ~empty).mean())


def _offsets(scene: RenderInput, m: int, row: int, column: int, points: Any) -> tuple[Any, Any]:
    """The least and the largest texel offset of a tile's pixels, of each ray, along x and y."""
    low, high = _range(scene, m, row, column)
    x, y = (np.floor(np.sort([s * low, s * high], axis=0)).astype(int) for s in points.T)
    return x, y


def _empty(scene: RenderInput, m: int, row: int, column: int, x: Any, y: Any) -> Any:
    """Whether rays meet nothing of a layer in a tile, by blocks of texels."""
    alpha = scene.layers[m].alpha
    shift = [(BLOCK - side // 2 % BLOCK) % BLOCK for side in alpha.shape]
    padded = np.pad(alpha, [(s, -(s + side) % BLOCK) for s, side in zip(shift, alpha.shape, strict=True)])
    blocks = padded.reshape(padded.shape[0] // BLOCK, BLOCK, -1, BLOCK).max(axis=(1, 3)) > 0
    across = (column * TILE_W + scene.margin + shift[1] + x + [[0], [TILE_W]]) // BLOCK
    down = (row * ROWS + scene.margin + shift[0] + y + [[0], [ROWS]]) // BLOCK
    places = zip(*across, *down, strict=True)
    return np.array([not blocks[top : end + 1, left : right + 1].any() for left, right, top, end in places])


class NoDevice:
    """A device that only notes what it is asked: for the time that Python takes."""

    out_of_memory, broken = MemoryError, ()

    def put(self, array: Any) -> Any:
        """Return what was given."""
        return array

    def empty(self, shape: Any, dtype: Any) -> Any:
        """Return memory of the host."""
        return np.empty(shape, dtype)

    zeros = empty

    def address(self, array: Any) -> int:
        """Return a number that nothing is read from."""
        return 4096

    def launch(self, kernel: str, *more: Any) -> None:
        """Start nothing."""

    def release(self) -> None:
        """Hold nothing."""


def host_milliseconds(scene: Any, count: int = 16, turns: int = 7) -> float:
    """Of Python for a frame in a batch, the least of some batches: everything but the calls to CuPy."""
    device, best = NoDevice(), float("inf")
    before, cuda_device.the_device = cuda_device.the_device, lambda: device  # type: ignore[assignment, return-value]
    try:
        for turn in range(turns):
            inputs = inputs_of(scene, turn, count)
            start = time.perf_counter()
            cuda.prepare(inputs).render()
            best = min(best, time.perf_counter() - start)
    finally:
        cuda_device.the_device = before
    return 1e3 * best / count


def main() -> None:
    """Print a row for each blur and focus."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[9201])
    parser.add_argument("--blurs", type=float, nargs="+", default=[32.0, 16.0, 8.0, 2.0])
    parser.add_argument("--size", type=int, default=512)
    given = parser.parse_args()
    from support.kernels_on_cpu import HostDevice, library

    device = HostDevice(library())
    cuda_device.the_device = lambda: device  # type: ignore[assignment, return-value]
    print("| K | focus | seed | composite_tiles | rays | others | host | sum | hits with 32 pixels, thousands |")
    print("|---" * 9 + "|")
    for blur in given.blurs:
        for focus, name in enumerate(scenes.FOCUS):
            for seed in given.seeds:
                planes = scenes.planes(seed)
                lens = bs.Lens(blur, planes[focus].d)
                margin = lens.margin(planes, given.size, given.size)
                layers = tuple(scenes.build(seed, given.size, margin))
                work = work_of(RenderInput(layers, lens, margin))
                host = host_milliseconds((layers, lens, margin))
                parts = [*work.milliseconds(), OTHERS, host]
                hits = ", ".join(f"{kind} {count / 1e3:.0f}" for kind, count in work.hits.items() if count)
                print(f"| {blur:g} | {name} | {seed} | " + " | ".join(f"{x:.3f}" for x in (*parts, sum(parts))), end="")
                print(f" | {hits} |", flush=True)


if __name__ == "__main__":
    main()
