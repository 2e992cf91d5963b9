"""Milliseconds per stage of the `real-esrgan` degradation of one 512x512 picture, on one core.

    python -m benchmarks.degrade [--draws 60]

Beside basicsr on torch, interleaved in one process, where both are installed. Checks first that the two blur alike.
"""

import argparse
import importlib.util
import time
from collections import defaultdict

import cv2
import numpy as np

from benchmarks.machine import machine_lines
from bokehsynth.degradation import apply, basicsr_backend, draw_degradation, resolve
from bokehsynth.degradation.draw import DegradationDraw
from bokehsynth.rng import from_seed

STAGES = ("blur 1", "resize 1", "noise 1", "jpeg 1", "blur 2", "resize 2", "noise 2", "final", "upscale")


def make_picture() -> np.ndarray:
    """Structure at two sizes, uint8 [512, 512, 3]."""
    rng = from_seed(0)
    layers = [rng.integers(0, 256, (side, side, 3)).astype(np.uint8) for side in (16, 256)]
    coarse, fine = (cv2.resize(layer, (512, 512), interpolation=cv2.INTER_CUBIC) for layer in layers)
    return cv2.addWeighted(coarse, 0.8, fine, 0.2, 0)


def run_once(picture: np.ndarray, draw: DegradationDraw, backend: apply.Operations) -> dict[str, float]:
    image, times = apply.as_float(picture), {}
    for name, step in zip(STAGES, draw["steps"], strict=False):
        start = time.perf_counter()
        image = apply.run_step(image, step, (128, 128), backend)
        times[name] = time.perf_counter() - start
    start = time.perf_counter()
    apply.to_bytes(backend.resize(apply.as_float(apply.to_bytes(image)), (512, 512), draw["upscale"]))
    return times | {"upscale": time.perf_counter() - start}


def check(picture: np.ndarray, draws: list[DegradationDraw], backends: dict[str, apply.Operations]) -> None:
    image = apply.as_float(picture)
    for draw in draws[:5]:
        results = [apply.run_step(image, draw["steps"][0], (128, 128), backend) for backend in backends.values()]
        assert all(np.abs(result - results[0]).max() < 5e-6 for result in results), "the backends blur differently"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=60)
    count = parser.parse_args().draws
    cv2.setNumThreads(1)
    backends = {"opencv": apply.OPENCV}
    if importlib.util.find_spec("basicsr") and importlib.util.find_spec("torch"):
        basicsr_backend.load().torch.set_num_threads(1)
        backends["basicsr"] = basicsr_backend.BASICSR
    picture = make_picture()
    draws = [draw_degradation(resolve("real-esrgan"), from_seed(seed)) for seed in range(count)]
    check(picture, draws, backends)
    times = {name: defaultdict(list) for name in backends}
    for draw in [draws[0], *draws]:  # the first run warms up and is dropped below
        for name, backend in backends.items():
            for stage, seconds in run_once(picture, draw, backend).items():
                times[name][stage].append(seconds * 1000)

    print("\n".join(machine_lines("python -m benchmarks.degrade")))
    print(f"\nMean milliseconds over {count} draws, one thread\n")
    print("| stage | " + " | ".join(times) + " |\n|---|" + "---|" * len(times))
    for stage in STAGES:
        print(f"| {stage} | " + " | ".join(f"{np.mean(t[stage][1:]):.1f}" for t in times.values()) + " |")
    totals = {name: np.sum([t[stage][1:] for stage in STAGES], axis=0) for name, t in times.items()}
    for label, function in (("mean", np.mean), ("median", np.median), ("90 %", lambda x: np.quantile(x, 0.9))):
        print(f"| total, {label} | " + " | ".join(f"{function(total):.1f}" for total in totals.values()) + " |")


if __name__ == "__main__":
    main()
