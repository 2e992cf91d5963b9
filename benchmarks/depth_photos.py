"""`render --photo` against real lenses, beside a plain scatter by radius that is fitted as freely.

python -m benchmarks.depth_photos FOLDER [--width 512] [--write]

FOLDER holds the pairs of `benchmarks.pairs`, and pairs named as in EBB! (`NAME_input.jpg`, `NAME_bokeh.jpg`,
`NAME_focalmask.jpg`). *Scatter* is what BokehMe calls classical: every pixel spreads its light evenly over a disc of
its blur radius, in linear light, divided by the weights that arrive. K and focus are searched for both by the same
pattern search on the squared error, from the same start; both get the photograph's tones (`metrics.tone_curve`) and
gains. *Lamps* adds `recover_lamps`, 30 times, to either, without another search.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

import bokehsynth as bs
from benchmarks.machine import machine_lines
from benchmarks.pairs import Comparison, both, read, table, to_width
from bokehsynth.assets.load.highlights import recover_lamps
from bokehsynth.cli.render_scene import LAMPS
from bokehsynth.imaging.metrics import squared_error, tone_curve
from bokehsynth.scene.depth_layers import distance_to, normalize_depth
from bokehsynth.scene.depth_photo import cut_photo
from bokehsynth.scene.depth_surfaces import EDGE
from bokehsynth.scene.lens_fit import Fit, best_fit, pattern_search

PAIRS = (
    ("vabd_0101", "f1_8"), ("vabd_0101", "f2_8"), ("vabd_0001", "f1_8"), ("vabd_0001", "f2_8"), ("ebb_2979", "bokeh"),
)  # fmt: skip
LARGEST = 0.06
"""Largest blur radius from which the search starts, in widths of the picture."""
BESIDE = 6
"""Pixels beside depth edges."""

Render = Callable[[np.ndarray, np.ndarray, float, float], np.ndarray]
"""Colour, disparity, K, focus -> picture."""


@dataclass(frozen=True, eq=False)
class View:
    """One view in linear light at the size of the comparison, in the tones of the photograph through the lens."""

    sharp: np.ndarray
    lamps: np.ndarray
    """Light to add for lamps."""
    photo: np.ndarray
    disparity: np.ndarray
    subject: np.ndarray

    @property
    def edges(self) -> np.ndarray:
        """Pixels beside depth edges, bool [H, W]."""
        window = np.ones((3, 3), np.uint8)
        steps = cv2.dilate(self.disparity, window) - cv2.erode(self.disparity, window) > EDGE
        return distance_to(steps) <= BESIDE


def load(folder: Path, name: str, wide: str, width: int) -> View:
    """Read a pair and bring it to this width."""

    def sized(picture: np.ndarray) -> np.ndarray:
        return to_width(picture, width)

    ebb = wide == "bokeh"
    file = bs.srgb_to_linear(read(folder / f"{name}_{'input' if ebb else 'f16'}.jpg")[..., ::-1])
    photo = sized(bs.srgb_to_linear(read(folder / f"{name}_{wide}.jpg")[..., ::-1]))
    mask = sized(read(folder / f"{name}_focalmask.{'jpg' if ebb else 'png'}", cv2.IMREAD_GRAYSCALE)) > 250
    subject = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    depth = read(folder / f"{name}_disparity.png", cv2.IMREAD_GRAYSCALE).astype(np.float32)
    found = recover_lamps(file)
    lamps = np.zeros_like(photo) if found is None else sized(found) * np.float32(LAMPS - 1)
    sharp = sized(file)
    toned = tone_curve(sharp, photo, subject)(sharp)
    return View(toned, lamps, photo, normalize_depth(sized(depth)), subject)


def scatter(color: np.ndarray, disparity: np.ndarray, blur: float, focus: float) -> np.ndarray:
    """Every pixel's light over a disc of its radius, by half pixels of radius, divided by the weights that arrive."""
    place = np.rint(2 * blur * np.abs(disparity - focus)).astype(int)
    light, weight = np.zeros_like(color), np.zeros_like(disparity)
    for k in np.unique(place):
        own = (place == k).astype(np.float32)
        reach = k // 2 + 2
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        disc = np.clip(max(k / 2, 0.5) + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
        disc /= disc.sum()
        light += cv2.filter2D(color * own[..., None], -1, disc, borderType=cv2.BORDER_REFLECT_101)
        weight += cv2.filter2D(own, -1, disc, borderType=cv2.BORDER_REFLECT_101)
    return light / np.maximum(weight, 1e-6)[..., None]


def slices(color: np.ndarray, disparity: np.ndarray, blur: float, focus: float) -> np.ndarray:
    """What `render --photo` makes."""
    lens = bs.Lens(blur, focus)
    return cut_photo(color, disparity, [lens]).render(lens, "cpu").bokeh


SEEN = """
## Seen

*0101, night.* Discs as bright and as sharply rimmed as in the photograph, in the same places; yellow and blue lamps
come out whiter, since the file clips all their channels. The pole keeps a straight edge. The disc that a twig cuts is
whole.
*0001, day.* Hoops and arms keep clean edges but for a dark speck here and there, where leaves behind are as grey as the
underside of an arm; leaves are about as soft as in the photograph, and have moved.
*MPIB's new_11* (no photograph through a lens), K = 24 at 640 px: the cap's rim has no dotted line; a near shoulder out
of focus is transparent at its rim before a sharp slope. A few pixels of an orange strap that the map misses stay sharp.
"""

METHODS: dict[str, Render] = {"scatter": scatter, "slices": slices}


def search(render: Render, view: View, color: np.ndarray) -> Fit:
    """K and focus that bring the render nearest to the photograph."""

    def error(blur: float, focus: float) -> float:
        return float(squared_error(render(color, view.disparity, blur, focus), view.photo).mean())

    focus = float(np.median(view.disparity[view.subject]))
    start = best_fit([(LARGEST * view.photo.shape[1] * 1.5**-k, focus) for k in range(7)], error)
    return pattern_search(start, error, 0.2, 0.03, focuses=(-0.2, 1.2))


def rows_of(name: str, wide: str, view: View) -> list[tuple[str, ...]]:
    """A row for the sharp photograph and for each method, without and with lamps."""
    rows = [(name, wide, "as it is", "", "", *_scores(Comparison.of(view.sharp, view.photo), view), "")]
    for method, render in METHODS.items():
        fit = search(render, view, view.sharp)
        lamps = [("", view.sharp)]
        if view.lamps.any():
            lamps.append((", lamps", view.sharp + view.lamps))
        for words, color in lamps:
            start = time.process_time()
            picture = render(color, view.disparity, fit.blur, fit.focus)
            took = time.process_time() - start
            scores = _scores(Comparison.of(picture, view.photo), view)
            rows.append((name, wide, method + words, f"{fit.blur:.2f}", f"{fit.focus:.3f}", *scores, f"{took:.2f}"))
            print(*rows[-1], file=sys.stderr, flush=True)
    return rows


def _scores(comparison: Comparison, view: View) -> tuple[str, ...]:
    return both(comparison), both(comparison, view.subject), both(comparison, view.edges)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--write", action="store_true", help="into benchmarks/depth_photos.md")
    arguments = parser.parse_args()
    rows = [
        row for name, wide in PAIRS for row in rows_of(name, wide, load(arguments.folder, name, wide, arguments.width))
    ]
    head = ("pair", "photo", "render", "K px", "focus", "all", "subject", f"{BESIDE} px beside edges", "CPU s")
    machine = (
        line.replace(str(arguments.folder), "FOLDER") for line in machine_lines("python -m benchmarks.depth_photos")
    )
    about = (__doc__ or "").split("\n\n", 2)[2].strip().splitlines()
    title = ("# Photographs with a disparity map against real lenses", "")
    sizes = (f"{arguments.width} px wide; PSNR (dB) / SSIM.", "")
    text = "\n".join([*title, *machine, *sizes, *about, "", *table(head, rows)]) + SEEN
    sys.stdout.write(text)
    if arguments.write:
        Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
