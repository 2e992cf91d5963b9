"""Time and memory of large pictures on the CPU: every stage of a frame in a process of its own.

python -m benchmarks.large [--cases 512x512:32 2048x2048:128 4032x3024:250] [--focus middle far] [--threads 1 2]
                           [--write]

The scene is the one of `benchmarks.scenes` at 512 px, enlarged until it fills the picture, so that every case shows the
look of 512 px at K = 32: the same shapes, the same blur relative to the picture, tilts in proportion. A process loads
the finished layers from a file, renders a small picture (kernels are compiled and loaded by then, untimed), and then
photographs the layers once. Peak memory is the process's (`ru_maxrss`), so what it holds before rendering is listed
beside it. `--write` puts the table into `benchmarks/large.md`.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REST = ("all_in_focus", "disparity", "defocus", "coverage", "transmission")
"""Fields of Frames after `bokeh`."""
SEED = 7001
PIXELS = 60
"""Whose errors are told."""
SMALL = 512
"""Size at which the scene is drawn."""


@dataclass(frozen=True)
class Case:
    """A picture's size and its blur."""

    width: int
    height: int
    blur: float

    @classmethod
    def parse(cls, text: str) -> "Case":
        """From WIDTHxHEIGHT:K."""
        size, blur = text.split(":")
        width, height = size.split("x")
        return cls(int(width), int(height), float(blur))

    @property
    def scale(self) -> float:
        """Pixels of the picture per pixel of the scene."""
        return max(self.width, self.height) / SMALL

    def __str__(self) -> str:
        return f"{self.width}x{self.height}:{self.blur:g}"


# In a process of its own ------------------------------------------------------------------------------------------


def planes(case: Case) -> list[Any]:
    """The scene's planes; tilts are per pixel of the large picture."""
    import bokehsynth as bs
    from benchmarks import scenes

    return [bs.Plane(p.d, p.gx / case.scale, p.gy / case.scale) for p in scenes.planes(SEED)]


def compose(case: Case, margin: int, to: Path) -> None:
    """Draw the scene, enlarge it, and save colour and alpha of every layer."""
    import cv2
    import numpy as np

    from benchmarks import scenes

    small = scenes.build(SEED, SMALL, math.ceil(margin / case.scale) + 1)
    width, height = case.width + 2 * margin, case.height + 2 * margin
    side = max(width, height)
    top, left = (side - height) // 2, (side - width) // 2
    for i, layer in enumerate(small):
        for name, plane in (("color", layer.color), ("alpha", layer.alpha)):
            large = cv2.resize(plane, (side, side), interpolation=cv2.INTER_LINEAR)
            np.save(to / f"{name}{i}.npy", large[top : top + height, left : left + width])


def peak_mib() -> float:
    """Most memory this process ever held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def shoot(case: Case, focus: str, margin: int, folder: Path, compared: bool) -> dict[str, float]:
    """Photograph the saved layers once: seconds by stage and peaks of memory after each."""
    import numpy as np

    import bokehsynth as bs
    from benchmarks import scenes

    layers = [
        bs.Layer(np.load(folder / f"color{i}.npy"), np.load(folder / f"alpha{i}.npy"), plane)
        for i, plane in enumerate(planes(case))
    ]
    warm(focus)
    found = {"layers MiB": sum(a.nbytes for layer in layers for a in (layer.color, layer.alpha)) / 2**20}
    found["before MiB"] = peak_mib()
    start = time.perf_counter()
    for layer in layers:
        assert len(layer.packed) == 4
    found |= {"pack s": time.perf_counter() - start, "packed MiB": peak_mib()}
    lens = bs.Lens(case.blur, planes(case)[scenes.FOCUS.index(focus)].d)
    start, busy = time.perf_counter(), time.process_time()
    frames = bs.render(layers, lens, margin, backend="cpu")
    assert np.isfinite(frames.bokeh).all()
    found |= {"bokeh s": time.perf_counter() - start, "bokeh CPU s": time.process_time() - busy}
    found["bokeh MiB"] = peak_mib()
    start = time.perf_counter()
    for name in REST:
        getattr(frames, name)
    found |= {"rest s": time.perf_counter() - start, "rest MiB": peak_mib()}
    return found | (beside_all_texels(layers, lens, margin, frames.bokeh) if compared else {})


def beside_all_texels(layers: list[Any], lens: Any, margin: int, picture: Any) -> dict[str, float]:
    """The same picture with every layer filtered texel by texel, as up to 0.4.0; errors of both and of 51 x 51 rays.

    Errors are those of PIXELS pixels against 24,576 rays each.
    """
    import numpy as np

    import bokehsynth as bs
    from benchmarks import brute
    from bokehsynth.rendering.cpu import reduced_layers

    reduced_layers.COARSE_FROM = math.inf  # type: ignore[attr-defined]
    busy = time.process_time()
    exact = bs.render(layers, lens, margin, backend="cpu").bokeh
    found = {"all texels CPU s": time.process_time() - busy}
    pixels = brute.random_pixels(SEED, exact.shape[:2], PIXELS)
    stack = brute.Stack.of(layers, margin)
    truth = brute.converged(stack, lens, pixels, 24_576)
    grid = brute.brute(stack, lens, pixels, brute.NO_SKIP, brute.NO_STOP)
    at = tuple(np.transpose(pixels))
    for name, colors in (("", picture[at]), ("all texels ", exact[at]), ("51 x 51 ", grid)):
        score = brute.score(colors, truth)
        found |= {f"{name}RMSE": score.rmse, f"{name}largest": score.largest}
    return found


def warm(focus: str) -> None:
    """Compile or load every kernel that rendering will use."""
    import bokehsynth as bs
    from benchmarks import scenes
    from bokehsynth.rendering.cpu import renderer

    renderer.warm_up_coarse()  # so small a picture is not reduced below
    surfaces = scenes.planes(SEED)
    for blur in (12.0, 128.0):
        lens = bs.Lens(blur, surfaces[scenes.FOCUS.index(focus)].d)
        margin = lens.margin(surfaces, 96, 96)
        frames = bs.render(scenes.build(SEED, 96, margin), lens, margin, backend="cpu")
        for name in ("bokeh", *REST):
            getattr(frames, name)


# The run ----------------------------------------------------------------------------------------------------------


def child(stage: str, arguments: list[str], threads: int) -> dict[str, float]:
    """Run one stage of this program in a fresh process; what it prints."""
    variables = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = os.environ | dict.fromkeys(variables, str(threads))
    command = [sys.executable, "-m", "benchmarks.large", f"--{stage}", *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def margin_of(case: Case) -> int:
    """One canvas for all focuses of a case."""
    import bokehsynth as bs

    surfaces = planes(case)
    return max(bs.Lens(case.blur, p.d).margin(surfaces, case.width, case.height) for p in surfaces)


def measure(arguments: argparse.Namespace) -> list[str]:
    """A line of the table for every case, focus and number of threads."""
    lines = []
    for case in arguments.cases:
        with tempfile.TemporaryDirectory() as folder:
            margin = margin_of(case)
            common = [str(case), str(margin), folder]
            child("compose", common, 1)
            for focus in arguments.focus:
                for threads in arguments.threads:
                    compared = "compared" if threads == arguments.threads[0] else ""
                    found = child("shoot", [*common, focus, compared], threads)
                    lines.append(_line(case, focus, threads, margin, found))
                    print(lines[-1], file=sys.stderr, flush=True)
    return lines


HEAD = (
    "picture", "K", "focus", "threads", "canvas", "packing s", "bokeh s", "CPU s", "CPU ns per px", "per px of K",
    "other fields s", "layers MiB", "before rendering", "packed", "after bokeh", "after all", "B per px of canvas",
    "all texels, CPU s", "times", "RMSE, largest", "all texels", "51 x 51 rays",
)  # fmt: skip


def _line(case: Case, focus: str, threads: int, margin: int, found: dict[str, float]) -> str:
    width, height = case.width + 2 * margin, case.height + 2 * margin
    own = (found["rest MiB"] - found["before MiB"]) * 2**20 / (width * height)
    ns = 1e9 * found["bokeh CPU s"] / (case.width * case.height)
    cells = (
        f"{case.width} x {case.height}", f"{case.blur:g}", focus, f"{threads}", f"{width} x {height}",
        f"{found['pack s']:.2f}", f"{found['bokeh s']:.2f}", f"{found['bokeh CPU s']:.2f}", f"{ns:.0f}",
        f"{ns / case.blur:.1f}", f"{found['rest s']:.2f}", f"{found['layers MiB']:.0f}", f"{found['before MiB']:.0f}",
        f"{found['packed MiB']:.0f}", f"{found['bokeh MiB']:.0f}", f"{found['rest MiB']:.0f}", f"{own:.0f}",
        *_beside(found),
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _beside(found: dict[str, float]) -> tuple[str, ...]:
    """Cells of `beside_all_texels`; empty where only the time of more threads is told."""
    if "all texels CPU s" not in found:
        return ("",) * 5
    errors = (f"{found[name + 'RMSE']:.1e}, {found[name + 'largest']:.1e}" for name in ("", "all texels ", "51 x 51 "))
    old = found["all texels CPU s"]
    return f"{old:.2f}", f"{old / found['bokeh CPU s']:.1f}", *errors


def report(lines: list[str]) -> str:
    """The page: machine and table."""
    from benchmarks.machine import machine_lines

    return "\n".join(
        [
            "# Rendering large pictures: time and memory",
            "",
            *machine_lines("python -m benchmarks.large"),
            "",
            f"Three layers, the scene of 512 px enlarged; one frame per process, load average {os.getloadavg()[0]:.1f} "
            "at the end (`CPU s`, of all threads, tells the work from the waiting). Peaks of resident memory in MiB, "
            "each of the whole process until then: `before rendering` is Python, the compiled kernels and the layers "
            "(`layers MiB`: colour and alpha, 16 B per pixel of canvas and layer); `packed` adds the renderers' own "
            "form of the layers, as large again; `B per px of canvas` is what rendering took in all, packed layers "
            "included. `all texels` is the same picture in the same process with no layer reduced, as up to 0.4.0; "
            f"errors are those of {PIXELS} pixels against 24,576 rays each.",
            "",
            "| " + " | ".join(HEAD) + " |",
            "|---" * len(HEAD) + "|",
            *lines,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = [Case(512, 512, 32), Case(2048, 2048, 128), Case(4032, 3024, 250)]
    parser.add_argument("--cases", type=Case.parse, nargs="+", default=cases, metavar="WxH:K")
    parser.add_argument("--focus", nargs="+", choices=("near", "middle", "far"), default=["middle", "far"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--write", action="store_true", help="into benchmarks/large.md")
    parser.add_argument("--compose", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--shoot", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.compose:
        case, margin, folder = arguments.compose
        compose(Case.parse(case), int(margin), Path(folder))
        print("{}")
    elif arguments.shoot:
        case, margin, folder, focus, compared = arguments.shoot
        print(json.dumps(shoot(Case.parse(case), focus, int(margin), Path(folder), bool(compared))))
    else:
        text = report(measure(arguments))
        sys.stdout.write(text)
        if arguments.write:
            Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
