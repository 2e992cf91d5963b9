"""Times and errors of one height field on `cpu`, beside 51 x 51 rays: `python -m benchmarks.height_fields`.

`smooth` and `bumpy` are random fields, drawn here; other names are files of disparity maps, bright = near. Errors are
of 40 patches of 12 x 12 pixels against 16,000 rays per pixel; the times are of the processor, one thread.
"""

import argparse
import math
import time

import cv2
import numpy as np

import bokehsynth as bs
from benchmarks import brute, scenes
from benchmarks.machine import machine_lines
from bokehsynth.rendering.aperture.lens_points import LensPoints
from bokehsynth.rendering.cpu.height_field import lone_fields
from bokehsynth.rng import from_seed

PATCH, PATCHES, RAYS = 12, 40, 16_000
CELLS = {"smooth": 8, "bumpy": 24}
"""Random heights along a side, cubic between them."""

Case = tuple[list[bs.Layer], bs.Lens, int]


def height_field(name: str, side: int) -> np.ndarray:
    """Disparities 0..1, float32 [side, side]."""
    if name in CELLS:
        noise = from_seed(3).random((CELLS[name], CELLS[name]), np.float32)
        field = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
        if name == "smooth":
            field = cv2.GaussianBlur(field, (0, 0), 8)
    else:
        read = cv2.imread(name, cv2.IMREAD_UNCHANGED)
        if read is None:
            raise SystemExit(f"{name}: neither a file of a disparity map nor one of {', '.join(CELLS)}")
        field = cv2.resize(read[..., 0] if read.ndim == 3 else read, (side, side)).astype(np.float32)
    low, high = float(field.min()), float(field.max())
    return ((field - low) / max(high - low, 1e-12)).astype(np.float32)


def scene(name: str, size: int, blur: float, focus: float) -> Case:
    """One opaque layer with texture and lights of 20, its lens and its margin."""
    margin = math.ceil(blur * max(focus, 1 - focus)) + 3
    side, rng = size + 2 * margin, from_seed(5)
    color, alpha = scenes.texture(rng, side), np.ones((side, side), np.float32)
    scenes.add_lights(rng, color, alpha, margin, 60)
    return [bs.Layer(color, alpha, height_field(name, side))], bs.Lens(blur, focus), margin


def timed(case: Case) -> tuple[float, np.ndarray]:
    """Seconds of the processor, and the picture."""
    start = time.process_time()
    picture = bs.render(*case, backend="cpu").bokeh
    return time.process_time() - start, picture


def errors(case: Case, picture: np.ndarray) -> tuple[float, float]:
    """RMSE of a picture and of 51 x 51 rays, on patches."""
    (layer,), lens, margin = case
    rng, points = from_seed(1), np.ascontiguousarray(brute.grid_points())
    grid = LensPoints(points, np.ones((len(points), 3), np.float32))
    ours, theirs, usual = [], [], lone_fields.ray_tables
    for _ in range(PATCHES):
        y, x = rng.integers(0, len(picture) - PATCH, 2)
        part = np.s_[y : y + PATCH + 2 * margin, x : x + PATCH + 2 * margin]
        assert not isinstance(layer.disparity, bs.Plane)
        patch = bs.Layer(layer.color[part], layer.alpha[part], np.ascontiguousarray(layer.disparity.values[part]))
        exact = bs.render([patch], lens, margin, backend="cpu", samples=RAYS).bokeh
        lone_fields.ray_tables = lambda _scene, reaches, _samples: [grid] * len(reaches)
        theirs.append(bs.render([patch], lens, margin, backend="cpu", samples=1).bokeh - exact)
        lone_fields.ray_tables = usual
        ours.append(picture[y : y + PATCH, x : x + PATCH] - exact)
    mean, of_grid = (math.sqrt(np.square(each).mean()) for each in (ours, theirs))
    return mean, of_grid


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fields", nargs="*", default=list(CELLS))
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--blur", type=float, default=32)
    parser.add_argument("--focus", type=float, nargs="+", default=[0.9, 0.5, 0.1])
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    print("\n".join(machine_lines("python -m benchmarks.height_fields")))
    print("\n| field | focus | s | RMSE | 51 x 51 rays |\n|---|---|---|---|---|")
    for name in options.fields:
        for focus in options.focus:
            case = scene(name, options.size, options.blur, focus)
            _, picture = timed(case)
            least = min(timed(case)[0] for _ in range(options.repeats))
            mean, of_grid = errors(case, picture)
            print(f"| {name} | {focus:g} | {least:.2f} | {mean:.1e} | {of_grid:.1e} |", flush=True)


if __name__ == "__main__":
    main()
