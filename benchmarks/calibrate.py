"""Lenses with hidden parameters, photographed at night, with noise and as JPEG, and what `calibrate` finds of them.

python -m benchmarks.calibrate [--scenes 30] [--first 30] [--kind plain|clipped|glow|rendered] [--write]

A spot is drawn by its aperture's class, asked for 36 rays per pixel (`inside`, `weight`, `pupil`), as the backend
`reference` does: exact, and independent of the closed form that is fitted. Lamps lie at four depths, overlap, are
clipped, are cut by the border, and stand before walls. "Rim" is the largest error of the rim's edge where the lamps
used lie, in radii of the opening; "radius" the median error of the green spots' radii, and the largest error of any
lamp's blur radius, which is that of its largest colour. Of kind `clipped` every lamp is burnt out in all channels, of
kind `glow` the opening has a bright outline; of kind `rendered` the night is layers that `bs.render` draws, through
`CatEye`, `Polygon` and openings with both.

The part of the error bars that the lamps' scatter does not show (`SYSTEMATIC` in bokehsynth/calibration/shape_fit.py)
is what the last line says of `--first 0`; the table is of other scenes, which had no part in it.
`--write` puts the table into `benchmarks/calibrate.md`: scenes 30 to 59, then 6 clipped, 6 with a glow, 12 rendered.
"""

import argparse
import io
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import bokehsynth as bs
from benchmarks.machine import machine_lines
from bokehsynth.calibration import Calibration, calibrate
from bokehsynth.optics.calibrated import CalibratedAperture

RAYS = 6
"""Per pixel along each side."""
HUES = np.array([(1, 0.55, 0.2), (1, 0.75, 0.45), (0.5, 0.7, 1), (1, 0.25, 0.2), (0.4, 1, 0.6), (1, 1, 1)])


@dataclass(frozen=True, eq=False)
class Night:
    """A photograph and the truth behind it."""

    jpeg: bytes
    aperture: CalibratedAperture
    lamps: np.ndarray
    """[N, 3]: x, y, blur radius in pixels of the picture."""

    @property
    def photo(self) -> np.ndarray:
        """Linear light [H, W, 3] of the JPEG."""
        return bs.srgb_to_linear(np.array(Image.open(io.BytesIO(self.jpeg))))


def hidden_aperture(rng: np.random.Generator, glow: float = 0.0) -> CalibratedAperture:
    """An opening of 5 to 11 blades with a rim, uneven light, and in half of the lenses colours of its own."""
    blades = int(rng.integers(5, 12))
    colors = np.array([1.0, 1.0, 1.0])
    lateral = (0.0, 0.0)
    if rng.random() < 0.5:
        colors = 1 + rng.uniform(-0.02, 0.02, 3)
        lateral = (float(rng.uniform(-2e-3, 2e-3)), float(rng.uniform(-2e-3, 2e-3)))
    red, green, blue = (float(each) for each in colors / colors.max())
    return CalibratedAperture(
        blades,
        float(rng.uniform(0, 2 * math.pi / blades)),
        float(rng.uniform(0, 0.5 if blades > 8 else 0.7)),
        ((float(rng.uniform(0.4, 1.0)), float(rng.uniform(0.95, 1.1))),),
        edge=float(rng.uniform(0.6, 1.8)),
        glow=glow,
        colors=(red, green, blue),
        lateral=lateral,
    )


def night(seed: int, height: int = 480, width: int = 720, lamps: int = 45, kind: str = "plain") -> Night:
    """A night with lamps at several depths behind the focus, through an opening of hidden numbers."""
    rng = np.random.default_rng([7020, seed])
    aperture = hidden_aperture(rng, float(rng.uniform(0.4, 1.5)) if kind == "glow" else 0.0)
    brightness = (0.9, 1.6) if kind == "clipped" else (-0.9, 0.45)
    largest = float(rng.uniform(15, 26))
    y = np.mgrid[:height, :width][0] / height
    light = np.stack([0.006 + 0.02 * y**2, 0.008 + 0.015 * y**2, 0.02 + 0.01 * y], axis=-1)
    for _ in range(12):  # walls and windows
        top, left = rng.integers(height), rng.integers(width)
        light[top : top + rng.integers(20, 150), left : left + rng.integers(20, 150)] *= rng.uniform(0.4, 2.5)
    light = cv2.GaussianBlur(light, (0, 0), largest / 3)
    radii = largest * np.concatenate([[1.0], rng.uniform(0.7, 1.0, 3)])
    truth = []
    for _ in range(lamps):
        x, y0, radius = rng.uniform(0, width), rng.uniform(0, height), float(rng.choice(radii))
        draw_spot(light, aperture, (x, y0, radius), 10 ** rng.uniform(*brightness) * HUES[rng.integers(len(HUES))])
        truth.append((x, y0, radius))
    light = cv2.GaussianBlur(light, (0, 0), 0.5)  # the lens is not perfect, nor is a lamp a point
    return Night(photographed(light, rng), aperture, np.array(truth))


def photographed(light: np.ndarray, rng: np.random.Generator) -> bytes:
    """The JPEG of linear light, with noise."""
    light = light + rng.normal(0, 1, light.shape) * np.sqrt(light * 2e-4 + 1e-6)
    data = io.BytesIO()
    Image.fromarray(np.rint(255 * bs.linear_to_srgb(np.clip(light, 0, 1))).astype(np.uint8)).save(
        data, "JPEG", quality=90
    )
    return data.getvalue()


def rendered_night(seed: int, height: int = 400, width: int = 600, lamps: int = 45) -> Night:
    """Three layers with discs of light behind the focus, which `bs.render` draws by `CatEye`, `Polygon` or both."""
    rng = np.random.default_rng([7021, seed])
    hidden = replace(hidden_aperture(rng), colors=(1.0, 1.0, 1.0), lateral=(0.0, 0.0))
    lens: bs.Aperture = hidden
    if seed % 3 == 0:
        lens, hidden = bs.CatEye(*hidden.rims[0]), CalibratedAperture(rims=hidden.rims)
    elif seed % 3 == 1:
        lens = bs.Polygon(hidden.blades, hidden.rotation, hidden.curvature)
        hidden = CalibratedAperture(hidden.blades, hidden.rotation, hidden.curvature)
    K, size = float(rng.uniform(15, 24)), 1.2
    margin = math.ceil(K) + 4
    shape = height + 2 * margin, width + 2 * margin
    depths = [*sorted(rng.uniform(0.05, 0.3, 2), reverse=True), 0.0]
    colors, alphas = np.zeros((3, *shape, 3), np.float32), np.zeros((3, *shape), np.float32)
    colors[2], alphas[2] = (0.01, 0.012, 0.025), 1
    truth = []
    for _ in range(lamps):
        x, y, layer = rng.uniform(0, width), rng.uniform(0, height), int(rng.integers(3))
        radius = K * (1 - depths[layer])
        color = 10 ** rng.uniform(-0.9, 0.3) * HUES[rng.integers(len(HUES))] * (radius / size) ** 2
        top, left = int(y) + margin - 4, int(x) + margin - 4
        rows, columns = np.mgrid[top : top + 10, left : left + 10]
        cover = np.clip(size + 0.5 - np.hypot(columns - x - margin, rows - y - margin), 0, 1)
        at = layer, slice(top, top + 10), slice(left, left + 10)
        alphas[at] = np.maximum(alphas[at], cover)
        colors[at] = color if layer < 2 else colors[at] + cover[..., None] * (color - colors[at])
        truth.append((x, y, radius))
    layers = [bs.Layer(*each[:2], bs.Plane(each[2])) for each in zip(colors, alphas, depths, strict=True)]
    light = bs.render(layers, bs.Lens(K, 1.0, lens), margin, "cpu").bokeh
    return Night(photographed(light, rng), hidden, np.array(truth))


def draw_spot(
    light: np.ndarray, aperture: CalibratedAperture, lamp: tuple[float, float, float], color: np.ndarray
) -> None:
    """Add the spot of a lamp (x, y, blur radius) behind the focus to a picture [H, W, 3] of linear light."""
    height, width = light.shape[:2]
    x, y, radius = lamp
    reach = math.ceil(radius) + 3
    top, left = max(0, round(y) - reach), max(0, round(x) - reach)
    bottom, right = min(height, round(y) + reach + 1), min(width, round(x) + reach + 1)
    if bottom <= top or right <= left:
        return
    part = (np.arange(RAYS) + 0.5) / RAYS - 0.5
    rows = (np.arange(top, bottom)[:, None] + part).ravel()
    columns = (np.arange(left, right)[:, None] + part).ravel()
    p = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    centre, half_diagonal = np.array([(width - 1) / 2, (height - 1) / 2]), math.hypot(width, height) / 2
    h = (p - centre) / half_diagonal
    for channel in range(3):
        move = (aperture.lateral[0], 0.0, aperture.lateral[1])[channel]
        q = np.array([x, y]) + move * (np.array([x, y]) - centre)
        s = (p - q) / radius
        passes = aperture.inside(s)
        for rim, size in aperture.pupil_discs(h):
            passes = passes & (np.hypot(*(s - rim).T) <= size)
        weight = np.asarray(aperture.weight(s))
        weight = passes * (weight if weight.ndim == 1 else weight[:, channel])
        cells = weight.reshape(bottom - top, RAYS, right - left, RAYS).mean(axis=(1, 3))
        light[top:bottom, left:right, channel] += color[channel] * cells


@dataclass(frozen=True)
class Score:
    """What was found beside what is true."""

    true_blades: int
    blades: int
    lamps: int
    radius_median: float
    radius_worst: float
    rim: float
    turn: float
    """Degrees."""
    curvature: float
    edge: float
    axial: float
    lateral: float
    """Pixels in the corner."""
    glow: float
    covered: float
    """Share of rotation, curvature, edge and rim numbers within two standard errors."""
    seconds: float
    errors: dict[str, tuple[float, float]]
    """Error and error bar of each of those numbers."""


def score(truth: Night, found: Calibration, seconds: float) -> Score:
    """Compare a calibration with the truth."""
    aperture, true = found.aperture, truth.aperture
    places = truth.lamps[:, :2]
    radii, rims = [], []
    centre = np.array([(found.size[1] - 1) / 2, (found.size[0] - 1) / 2])
    for lamp in found.lamps:
        at = np.array([lamp.x, lamp.y])
        i = int(np.hypot(*(places - at).T).argmin())
        radii.append(lamp.radius / truth.lamps[i, 2] - 1)
        field = float(np.hypot(*(at - centre))) / (math.hypot(*found.size) / 2)
        edges = [min((size - move * field for move, size in each.rims), default=1.0) for each in (true, aperture)]
        if edges[0] < 0.97:
            rims.append(edges[1] - edges[0])
    green = (1 + np.array(radii)) * (aperture.colors[1] / true.colors[1]) - 1
    turn = math.remainder(aperture.rotation - true.rotation, 2 * math.pi / max(1, true.blades))
    differences = {
        "rotation": turn,
        "curvature": aperture.curvature - true.curvature,
        "edge": aperture.edge - true.edge,
    }
    if aperture.rims and true.rims:
        differences["strength"] = aperture.rims[0][0] - true.rims[0][0]
        differences["radius"] = aperture.rims[0][1] - true.rims[0][1]
    errors = {name: (error, found.errors[name]) for name, error in differences.items() if name in found.errors}
    within = [abs(error) <= 2 * bar for error, bar in errors.values()]
    return Score(
        true.blades, aperture.blades, len(found.lamps), float(np.median(green)), float(np.abs(radii).max()),
        float(np.abs(rims).max()) if rims else 0.0, abs(math.degrees(turn)), abs(aperture.curvature - true.curvature),
        abs(aperture.edge - true.edge), float(np.abs(np.subtract(aperture.colors, true.colors)).max()),
        float(np.abs(np.subtract(aperture.lateral, true.lateral)).max()) * math.hypot(*found.size) / 2,
        abs(aperture.glow - true.glow), float(np.mean(within)) if within else 0.0, seconds, errors,
    )  # fmt: skip


def measure(seed: int, kind: str = "plain") -> Score:
    """Photograph one scene, calibrate, compare."""
    truth = rendered_night(seed) if kind == "rendered" else night(seed, kind=kind)
    begun = time.process_time()
    found = calibrate(truth.photo)
    return score(truth, found, time.process_time() - begun)


SETS = (("plain", range(30, 60)), ("clipped", range(60, 66)), ("glow", range(70, 76)), ("rendered", range(80, 92)))
"""What stands in the table: none of the scenes that the error bars were fitted to."""
NUMBERS = ("rotation", "curvature", "strength", "radius", "edge")


def table(scores: list[tuple[int, Score]]) -> list[str]:
    """One row per scene, and what is asked for."""
    lines = [
        "| scene | blades | found | lamps | radius, median | radius, worst | rim | rotation | curvature | edge | "
        "glow | axial | lateral, px | in 2 s.e. | s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {i} | {s.true_blades} | {s.blades} | {s.lamps} | {s.radius_median:+.2%} | {s.radius_worst:.2%} | "
        f"{s.rim:.1%} | {s.turn:.2f}° | {s.curvature:.3f} | {s.edge:.3f} | {s.glow:.2f} | {s.axial:.2%} | "
        f"{s.lateral:.2f} | {s.covered:.0%} | {s.seconds:.1f} |"
        for i, s in scores
    ]
    all_of = [s for _, s in scores]
    return [
        *lines, "",
        f"Blades right in {sum(s.true_blades == s.blades for s in all_of)} of {len(all_of)} scenes; the median radius "
        f"within 1 % in {sum(abs(s.radius_median) < 0.01 for s in all_of)}; the rim within 3 % in "
        f"{sum(s.rim < 0.03 for s in all_of)}; of all numbers with an error bar {covered(all_of):.0%} "
        "within two of it.",
    ]  # fmt: skip


def covered(scores: list[Score]) -> float:
    """Share of all numbers that have an error bar and lie within two of it."""
    within = [abs(error) <= 2 * bar for s in scores for error, bar in s.errors.values()]
    return float(np.mean(within)) if within else 0.0


def systematic(scores: list[Score]) -> dict[str, float]:
    """Root mean square of the error of each number; of the curvature times 1 - cos(pi/blades)."""
    found = {}
    for name in NUMBERS:
        errors = [
            s.errors[name][0] * (1 - math.cos(math.pi / s.blades) if name == "curvature" else 1)
            for s in scores
            if name in s.errors and s.blades == s.true_blades
        ]
        found[name] = float(np.sqrt(np.mean(np.square(errors)))) if errors else math.nan
    return found


def page(of_kind: dict[str, list[tuple[int, Score]]]) -> list[str]:
    """The content of calibrate.md."""
    lines = [
        "# A lens from a photograph", "", *machine_lines("python -m benchmarks.calibrate"), "",
        "Errors by scene; seconds are the processor's. The error bars hold what the lamps' scatter shows and, added in "
        "squares, the root mean square errors of scenes 0 to 29, which are not in these tables.",
    ]  # fmt: skip
    for kind, scores in of_kind.items():
        lines += ["", f"## {TITLES[kind]}", "", *table(scores)]
    return lines


TITLES = {"plain": "Nights", "clipped": "All lamps burnt out", "glow": "With a bright outline", "rendered": "Rendered"}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=30)
    parser.add_argument("--first", type=int, default=30)
    parser.add_argument("--kind", choices=list(TITLES), default="plain")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    own = ((options.kind, range(options.first, options.first + options.scenes)),)
    of_kind: dict[str, list[tuple[int, Score]]] = {}
    for kind, seeds in SETS if options.write else own:
        for seed in seeds:
            of_kind.setdefault(kind, []).append((seed, measure(seed, kind)))
            print(kind, table(of_kind[kind])[1 + len(of_kind[kind])], flush=True)
    print("\n".join(page(of_kind)))
    print("root mean squares:", systematic([score for scores in of_kind.values() for _, score in scores]))
    if options.write:
        Path(__file__).with_suffix(".md").write_text("\n".join(page(of_kind)) + "\n")


if __name__ == "__main__":
    main()
