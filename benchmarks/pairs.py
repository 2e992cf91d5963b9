"""A render against a real lens: one photograph at f/16 and a depth map, rendered to f/8, f/2.8 and f/1.8.

python -m benchmarks.pairs FOLDER [--names vabd_0001 vabd_0101] [--width 768] [--write]

FOLDER holds, for every name, `NAME_f16.jpg` (stands for the all-in-focus picture), the same view photographed at wider
stops (`NAME_f1_8.jpg`, ...), `NAME_disparity.png` (grey, white is near, of any scale and offset) and
`NAME_focalmask.png` (white where the subject is in focus). The photographs are not ours to hand out; the numbers in
`benchmarks/pairs.md` come from two series of VABD. `--pictures DIR` writes photograph and render side by side.

The scene is built in two ways. `slices`: the disparity is cut into intervals, each a layer that goes on behind what is
nearer, its colour filled in there by push-pull. `field`: one layer whose disparity is the map itself, the
"rubber sheet" of docs/optics.md. K and focus are searched by a pattern search on the squared error, every stop on its
own: nothing in the search knows that K should go as 1/N.

Errors are taken in sRGB, 0..1. SSIM is Wang's, on the Rec. 709 luminance of the sRGB values; for a part of the
picture, the mean of its map over that part. Measures, scenes and search are the product's
(`bokehsynth.imaging.registration`, `scene.depth_layers`, `scene.lens_fit`): a recipe of pairs uses them too.
"""

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

import bokehsynth as bs
from benchmarks.machine import machine_lines
from bokehsynth.color import LUMINANCE, encode_8bit, linear_to_srgb
from bokehsynth.imaging.metrics import CLIPPED, gain_between, psnr, squared_error, tone_curve
from bokehsynth.imaging.registration import shift_between
from bokehsynth.scene.depth_layers import EDGE_STEP, depth_slices, distance_to, height_field_layer, sharpen_depth_edges
from bokehsynth.scene.lens_fit import Error, Fit, best_fit, pattern_search

PINHOLE = 16.0
"""The stop that stands for an all-in-focus picture."""
GROW = 1
"""Pixels that depth edges are moved towards the far side."""
SLICES = 8
FEW_RAYS = 100
"""Per pixel, in searches on a field."""
LARGEST = 0.06
"""Largest blur radius that is searched, in widths of the picture."""
CAMERA = {"focal_length_mm": 50.0, "sensor_width_mm": 22.5}
"""Of both series of VABD: Canon EOS 70D."""
BOOSTS = (1.0, 3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True, eq=False)
class Series:
    """One view at several stops, linear light."""

    name: str
    all_in_focus: np.ndarray
    """The photograph at f/16, [H, W, 3]."""
    wide: dict[float, np.ndarray]
    """The others, by f-number."""
    disparity: np.ndarray
    """[H, W] in 0..1, its edges sharpened."""
    subject: np.ndarray
    """Where the subject is in focus, bool [H, W], two pixels inside of its edge."""

    @cached_property
    def edges(self) -> np.ndarray:
        """Pixels beside a step of disparity, bool [H, W]."""
        window = np.ones((3, 3), np.uint8)
        return cv2.dilate(self.disparity, window) - cv2.erode(self.disparity, window) > EDGE_STEP

    @cached_property
    def lights(self) -> np.ndarray:
        """Pixels that f/16 clips, bool [H, W]."""
        return self.all_in_focus.max(axis=2) > CLIPPED

    @property
    def focus(self) -> float:
        """Where to start the search: the middle of the subject's disparities."""
        return float(np.median(self.disparity[self.subject]))

    def half(self) -> "Series":
        """The series at half the width."""
        height, width = self.disparity.shape

        def smaller(picture: np.ndarray, how: int = cv2.INTER_AREA) -> np.ndarray:
            return cv2.resize(picture, (width // 2, height // 2), interpolation=how)

        disparity = smaller(self.disparity, cv2.INTER_NEAREST)
        subject = smaller(self.subject.astype(np.uint8), cv2.INTER_NEAREST) > 0
        return Series(
            self.name, smaller(self.all_in_focus), {n: smaller(p) for n, p in self.wide.items()}, disparity, subject
        )


def read(path: Path, flag: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """A picture of a pair as OpenCV reads it."""
    picture = cv2.imread(str(path), flag)
    if picture is None:
        raise SystemExit(f"cannot read {path}")
    return picture


def to_width(picture: np.ndarray, width: int) -> np.ndarray:
    """The picture, reduced to this width by area."""
    height = round(width * picture.shape[0] / picture.shape[1])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def load(folder: Path, name: str, width: int, grow: int = GROW) -> Series:
    """Read a series and bring it to this width, in linear light."""

    def sized(picture: np.ndarray) -> np.ndarray:
        return to_width(picture, width)

    def photograph(path: Path) -> np.ndarray:
        return sized(bs.srgb_to_linear(read(path, cv2.IMREAD_COLOR)[..., ::-1]))

    stops = {float(p.stem.rsplit("_f", 1)[1].replace("_", ".")): p for p in sorted(folder.glob(f"{name}_f*.jpg"))}
    photographs = {number: photograph(path) for number, path in sorted(stops.items(), reverse=True)}
    disparity = sized(read(folder / f"{name}_disparity.png", cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255)
    mask = sized(read(folder / f"{name}_focalmask.png", cv2.IMREAD_GRAYSCALE)) > 250
    subject = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return Series(name, photographs.pop(PINHOLE), photographs, sharpen_depth_edges(disparity, grow), subject)


# Two scenes from one photograph -----------------------------------------------------------------------------------


class Scene(NamedTuple):
    """Layers near to far and the overscan of their canvas."""

    layers: list[bs.Layer]
    margin: int

    def render(self, lens: bs.Lens, samples: int | None = None) -> np.ndarray:
        """The picture through the lens, [H, W, 3] linear."""
        return bs.render(self.layers, lens, self.margin, backend="cpu", samples=samples).bokeh


Builder = Callable[[Series, np.ndarray, int], Scene]
"""From a series, the colour to use for it, and a margin."""


def as_field(series: Series, color: np.ndarray, margin: int) -> Scene:
    """One opaque layer that the disparity map bends."""
    return Scene([height_field_layer(color, series.disparity, margin)], margin)


@dataclass(frozen=True)
class Slices:
    """The disparity cut into intervals, each a frontal plane of its own; the arguments are those of `depth_slices`."""

    count: int = SLICES
    soft: float = 0.0
    filled: bool = True

    def __call__(self, series: Series, color: np.ndarray, margin: int) -> Scene:
        """Build the scene."""
        return Scene(depth_slices(color, series.disparity, margin, self.count, self.soft, self.filled), margin)


# A photograph to compare with -------------------------------------------------------------------------------------


def tone(series: Series, photo: np.ndarray) -> np.ndarray:
    """The f/16 photograph in the tones of another exposure, measured on the subject (`imaging.metrics.tone_curve`)."""
    return tone_curve(series.all_in_focus, photo, series.subject)(series.all_in_focus)


def gained(picture: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The picture times the gain of each channel that brings it nearest to the photograph, in linear light."""
    return picture * gain_between(picture, photo)


def shift(series: Series, photo: np.ndarray) -> tuple[float, float]:
    """Where the subject lies in another photograph, in pixels (x, y) from where f/16 has it."""
    window = cv2.GaussianBlur(series.subject.astype(np.float64), (0, 0), 3)
    return shift_between(series.all_in_focus, photo, window)[:2]


def moved(series: Series, picture: np.ndarray, photo: np.ndarray) -> tuple[float, float]:
    """By how much a render's rest has to be shifted, in pixels (x, y), to come nearest to the photograph.

    The rest is what lies farther from the subject than anything of it is blurred.
    """
    theirs = bs.linear_to_srgb(photo.clip(0, 1))
    ours = bs.linear_to_srgb(gained(picture, photo).clip(0, 1))
    height, width = series.subject.shape
    rest = distance_to(series.subject) > LARGEST * width / 2
    rest[:8] = rest[-8:] = rest[:, :8] = rest[:, -8:] = False

    def error(x: float, y: float) -> float:
        shifted = cv2.warpAffine(
            ours, np.array([[1.0, 0.0, x], [0.0, 1.0, y]]), (width, height), flags=cv2.INTER_LINEAR
        )
        return float(((shifted - theirs)[rest] ** 2).mean())

    best, step = (error(0, 0), 0.0, 0.0), 0.5
    while step > 0.05:
        _, x, y = best
        tries = ((x + step, y), (x - step, y), (x, y + step), (x, y - step))
        nearest = min((error(*at), *at) for at in tries)
        if nearest[0] < best[0]:
            best = nearest
        else:
            step /= 2
    return best[1:]


# Search -----------------------------------------------------------------------------------------------------------


def lens_of(fit: Fit) -> bs.Lens:
    """With a round opening."""
    return bs.Lens(fit.blur, fit.focus)


def grid(series: Series, error: Error) -> Fit:
    """The best of a coarse grid: K by factors of 1.5, focus round the subject."""
    blurs = [LARGEST * series.disparity.shape[1] * 1.5**-k for k in range(9)]
    focuses = [series.focus + step for step in (-0.12, 0.0, 0.12)]
    return best_fit(itertools.product(blurs, focuses), error)


def error_at(series: Series, stop: float, build: Builder, samples: int | None = None) -> Error:
    """Mean squared error of a scene by K and focus; infinite where the rays would leave the canvas."""
    photo, margin = series.wide[stop], margin_for(series)
    scene = build(series, tone(series, photo), margin)
    surfaces = [layer.disparity for layer in scene.layers]

    def error(blur: float, focus: float) -> float:
        lens = bs.Lens(blur, focus)
        if lens.margin(surfaces, photo.shape[1], photo.shape[0]) > margin:
            return math.inf
        return float(Comparison.of(scene.render(lens, samples), photo).square.mean())

    return error


def margin_for(series: Series) -> int:
    """Room for every lens of the search."""
    return math.ceil(1.2 * LARGEST * series.disparity.shape[1]) + 3


def search(series: Series, stop: float) -> Fit:
    """K and focus of one stop for slices: grid and pattern at half the width, a finer pattern at the full one."""
    small = series.half()
    half = grid(small, error_at(small, stop, Slices()))
    half = refined(half, error_at(small, stop, Slices()), 0.2, 0.02)
    return refined(replace(half, blur=2 * half.blur), error_at(series, stop, Slices()), 0.04, 0.01)


def refined(start: Fit, error: Error, step: float, least: float) -> Fit:
    """Pattern search from a lens whose error is not known yet; focus may leave 0..1, which a map's ends are not."""
    return pattern_search(
        replace(start, error=error(start.blur, start.focus)), error, step, least, focuses=(-math.inf, math.inf)
    )


def refine(series: Series, stop: float, start: Fit, build: Builder) -> Fit:
    """The search for another way of building the scene, with few rays, from the fit of slices."""
    return refined(start, error_at(series, stop, build, FEW_RAYS), 0.1, 0.02)


def hold_focus(series: Series, stop: float, start: Fit, focus: float) -> Fit:
    """K alone, by golden section of its logarithm from half to twice a first guess."""
    error = error_at(series, stop, Slices())
    low, high, golden = math.log(start.blur / 2), math.log(start.blur * 2), (math.sqrt(5) - 1) / 2
    while high - low > 0.01:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if error(math.exp(left), focus) < error(math.exp(right), focus):
            high = right
        else:
            low = left
    blur = math.exp((low + high) / 2)
    return Fit(blur, focus, error(blur, focus))


# The run ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Comparison:
    """How a picture differs from a photograph, in sRGB, after the best gain per channel."""

    square: np.ndarray
    """Squared error, mean of the channels, [H, W]."""
    luminances: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, picture: np.ndarray, photo: np.ndarray) -> "Comparison":
        """Compare two linear pictures [H, W, 3]."""
        ours, theirs = (linear_to_srgb(p.clip(0, 1)) for p in (picture * gain_between(picture, photo), photo))
        return cls(squared_error(picture, photo), (ours @ LUMINANCE, theirs @ LUMINANCE))

    def psnr(self, where: np.ndarray | None = None) -> float:
        """PSNR over a part of the picture."""
        return psnr(float((self.square if where is None else self.square[where]).mean()))

    def ssim(self, where: np.ndarray | None = None) -> float:
        """Mean SSIM of the luminance over a part of the picture."""
        similarity = ssim_map(*self.luminances)
        return float((similarity if where is None else similarity[where]).mean())


def ssim_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Wang's SSIM of two pictures in 0..1, [H, W]: windows of 11 x 11 with sigma 1.5, K1 = 0.01, K2 = 0.03."""

    def blurred(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x.astype(np.float64), (11, 11), 1.5)

    ma, mb = blurred(a), blurred(b)
    va, vb, cov = blurred(a * a) - ma * ma, blurred(b * b) - mb * mb, blurred(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    result: np.ndarray = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
    return result


@dataclass(eq=False)
class Row:
    """One series at one stop."""

    series: Series
    stop: float
    slices: Fit
    field: Fit
    fixed_focus: Fit
    """Slices again, with the focus of the widest stop."""
    pictures: dict[str, np.ndarray]
    """By what was done; linear."""
    compared: dict[str, Comparison]

    @property
    def far_radius(self) -> float:
        """Blur radius in pixels where the map is 0."""
        return self.slices.blur * self.slices.focus

    @property
    def distance_m(self) -> float:
        """Focus distance of the thin lens that blurs infinity by as much, were the map's 0 at infinity."""
        f, px_per_mm = CAMERA["focal_length_mm"], self.series.all_in_focus.shape[1] / CAMERA["sensor_width_mm"]
        radius = self.far_radius / math.sqrt(1 - (self.stop / PINHOLE) ** 2)
        distance_m = (f + px_per_mm * f * f / (2 * self.stop * radius)) / 1000
        lens = bs.Lens.from_camera(
            **CAMERA, f_number=self.stop, focus_distance_m=distance_m, image_width_px=self.series.all_in_focus.shape[1],
            near_m=1.0,
        )  # fmt: skip
        assert math.isclose(lens.blur * lens.focus, radius, rel_tol=1e-9)
        return distance_m

    @cached_property
    def parts(self) -> dict[str, np.ndarray]:
        """The picture in three: what lights, depth edges, or neither can blur into."""
        reach = math.ceil(self.far_radius) + 2
        lights = distance_to(self.series.lights) <= reach if self.series.lights.any() else self.series.lights
        edges = (distance_to(self.series.edges) <= reach) & ~lights
        return {"lights": lights, "edges": edges, "elsewhere": ~(lights | edges)}


AS_IS, TONED, PLAIN, BY_SLICES, BY_FIELD = "f/16", "f/16, toned", "slices, gain only", "slices", "field"


def measure(series: Series) -> list[Row]:
    """Every stop of a series, widest first; a line on stderr for each."""
    rows: list[Row] = []
    for stop in sorted(series.wide):
        start, photo = time.perf_counter(), series.wide[stop]
        slices = search(series, stop)
        bent = refine(series, stop, slices, as_field)
        fixed_focus = hold_focus(series, stop, slices, rows[0].slices.focus) if rows else slices
        toned, margin = tone(series, photo), margin_for(series)
        pictures = {
            AS_IS: series.all_in_focus,
            TONED: toned,
            PLAIN: Slices()(series, series.all_in_focus, margin).render(lens_of(slices)),
            BY_SLICES: Slices()(series, toned, margin).render(lens_of(slices)),
            BY_FIELD: as_field(series, toned, margin).render(lens_of(bent)),
        }
        compared = {name: Comparison.of(picture, photo) for name, picture in pictures.items()}
        rows.append(Row(series, stop, slices, bent, fixed_focus, pictures, compared))
        took = time.perf_counter() - start
        print(f"{series.name} f/{stop:g}: {slices}, {took:.0f} s", file=sys.stderr, flush=True)
    return rows


def boosted(row: Row) -> dict[float, Comparison]:
    """The render again, with the lights that f/16 clips brightened."""
    found = {}
    for boost in BOOSTS:
        color = tone(row.series, row.series.wide[row.stop])
        color[row.series.lights] *= np.float32(boost)
        picture = Slices()(row.series, color, margin_for(row.series)).render(lens_of(row.slices))
        found[boost] = Comparison.of(picture, row.series.wide[row.stop])
    return found


def variants(row: Row, ungrown: Series) -> dict[str, Comparison]:
    """Other ways to build the scene, through the lens found for the slices."""
    ways: dict[str, tuple[Series, Builder]] = {
        f"{SLICES} slices": (row.series, Slices()),
        "4 slices": (row.series, Slices(4)),
        "16 slices": (row.series, Slices(16)),
        "mattes softened by 0.7 px": (row.series, Slices(soft=0.7)),
        "nothing behind the slices": (row.series, Slices(filled=False)),
        "edges where the map has them": (ungrown, Slices()),
        "field": (row.series, as_field),
        "field, edges where the map has them": (ungrown, as_field),
    }
    photo, margin = row.series.wide[row.stop], margin_for(row.series)
    color = tone(row.series, photo)
    return {
        name: Comparison.of(build(series, color, margin).render(lens_of(row.slices)), photo)
        for name, (series, build) in ways.items()
    }


# The page ---------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def both(comparison: Comparison, where: np.ndarray | None = None) -> str:
    """PSNR and SSIM in one cell."""
    return f"{comparison.psnr(where):.2f} / {comparison.ssim(where):.3f}"


def fits(rows: list[Row]) -> list[str]:
    """The lenses found, beside what 1/N asks for."""
    head = (
        "series", "f/", "K", "focus", "K x focus px", "to widest", "1/N", "1/N less f/16's", "K, focus held",
        "to widest", "field: K x focus", "to widest", "focused at m", "subject shifted px", "rest shifted px",
    )  # fmt: skip
    lines = []
    for row in rows:
        widest = next(r for r in rows if r.series is row.series)
        n, w = row.stop, widest.stop
        expected = math.sqrt((1 / n**2 - 1 / PINHOLE**2) / (1 / w**2 - 1 / PINHOLE**2))
        shifts = (
            shift(row.series, row.series.wide[n]),
            moved(row.series, row.pictures[BY_SLICES], row.series.wide[n]),
        )
        bent = row.field.blur * row.field.focus
        lines.append((
            row.series.name, f"{n:g}", f"{row.slices.blur:.2f}", f"{row.slices.focus:.3f}", f"{row.far_radius:.2f}",
            f"{row.far_radius / widest.far_radius:.3f}", f"{w / n:.3f}", f"{expected:.3f}",
            f"{row.fixed_focus.blur:.2f}",
            f"{row.fixed_focus.blur / widest.fixed_focus.blur:.3f}", f"{bent:.2f}",
            f"{bent / (widest.field.blur * widest.field.focus):.3f}", f"{row.distance_m:.2f}",
            *(f"{x:+.2f}, {y:+.2f}" for x, y in shifts),
        ))  # fmt: skip
    return table(head, lines)


def scores(rows: list[Row]) -> list[str]:
    """PSNR and SSIM of the photograph as it is and of the renders, of the whole, the subject, the rest."""
    names = (AS_IS, TONED, PLAIN, BY_SLICES, BY_FIELD)
    lines = []
    for row in rows:
        for part, where in (("all", None), ("subject", row.series.subject), ("rest", ~row.series.subject)):
            cells = (both(row.compared[name], where) for name in names)
            lines.append((row.series.name, f"{row.stop:g}", part, *cells))
    return table(("series", "f/", "part", *names), lines)


def errors(rows: list[Row]) -> list[str]:
    """Where the error of the renders is."""
    head = ("series", "f/", "part", "of the pixels", "of the slices' squared error", *(f"{n}, RMSE" for n in
            (TONED, BY_SLICES, BY_FIELD)))  # fmt: skip
    lines = []
    for row in rows:
        square = row.compared[BY_SLICES].square
        for part, where in row.parts.items():
            if not where.any():
                continue
            rmse = (math.sqrt(row.compared[name].square[where].mean()) for name in (TONED, BY_SLICES, BY_FIELD))
            lines.append((
                row.series.name, f"{row.stop:g}", part, f"{where.mean():.1%}",
                f"{square[where].sum() / square.sum():.1%}", *(f"{e:.4f}" for e in rmse),
            ))  # fmt: skip
    return table(head, lines)


def brightened(rows: list[Row]) -> list[str]:
    """What a factor on clipped lights changes, at the widest stop."""
    lines = []
    for row in rows:
        if row.series.lights.mean() < 1e-3:
            continue
        for boost, comparison in boosted(row).items():
            parts = (both(comparison, row.parts[part]) for part in ("lights", "elsewhere"))
            lines.append((row.series.name, f"{row.stop:g}", f"{boost:g}", both(comparison), *parts))
    return table(("series", "f/", "clipped lights times", "all", "lights", "elsewhere"), lines)


def choices(rows: list[Row], ungrown: dict[str, Series]) -> list[str]:
    """Other ways to build the scene, at the widest stop."""
    lines = []
    for row in rows:
        for name, comparison in variants(row, ungrown[row.series.name]).items():
            beside = distance_to(row.series.edges) <= 3
            cells = (both(comparison, where) for where in (None, row.series.subject, ~row.series.subject, beside))
            lines.append((row.series.name, f"{row.stop:g}", name, *cells))
    return table(("series", "f/", "scene", "all", "subject", "rest", "3 px beside depth edges"), lines)


NOTES = {
    "head": """
PSNR (dB) and SSIM against the photograph, after the best gain per channel in linear light; errors in sRGB, 0..1. The
map is inverse depth up to a scale and an offset; the scale goes into K, the offset into the focus, so there is nothing
else to fit. *Toned*: the f/16 photograph is first brought to the other exposure's tones by one curve, measured on the
subject alone (`tone` says why); its PSNR on the subject is then what registration, noise, and tones leave at best.
""",
    "fits": """
## Does K go as 1/N?

*K x focus* is the blur radius where the map is 0, about what every far pixel has; K and focus alone are less certain,
since most pixels lie near 0 and tell only their product. f/16 is not a pinhole: it has blurred the background already.
Second moments of discs add, so the render has to add sqrt(1/N^2 - 1/16^2), not 1/N: *1/N less f/16's* is that, to the
widest stop. *Focused at* is the distance at which a 50 mm lens on a sensor 22.5 mm wide blurs infinity so
(`Lens.from_camera`); it ought to be the same at every stop.

Nothing was aligned. The subject's shift is measured by phase correlation (a pole tells nothing along itself), the
rest's by the shift of the render that fits best there. In 0001 the leaves moved in the wind between exposures, and the
search makes up for it with blur. In 0101 nothing moves and K follows the expectation; the rest's shift grows with the
blur, to about a tenth of its radius, as it would if the openings of the lens were not concentric.
""",
    "scores": """
## Against the photographs

*slices, gain only* is rendered without the tone curve, from the f/16 photograph as it is.
""",
    "errors": """
## Where a photograph and a depth map are not enough

*lights*: within the far blur radius + 2 px of pixels that f/16 clips. *edges*: as near to a step of the map, and not to
such lights. What hides behind a near edge was never photographed; the map's edges are a pixel or two off, and twigs,
leaves, and glass are wrong altogether.
""",
    "seen": """
### Seen side by side

*0101, night.* The blurred trees, path, and benches are hard to tell from the photograph's. The lamps are not: bright,
sharply rimmed discs in the photograph, faint ones in ours, in the same places. The lamp half hidden by the pole stays
faint too; the lens flare that it throws on the pole is missing. A disc cut in two by something dark is whole in ours. A
dotted line of lights stays sharp along the pole, where the map's edge is a pixel off; the field draws some at the other
side. A red sign behind the trees was lit at f/16 only.

*0001, day.* The lamp and its pole stay sharp, the tree is about as soft as in the photograph, but its leaves have moved
between the exposures, and in ours they look a little harder: leaf by leaf the map is wrong. Slices leave a thin light
line round the lamp's hoops, which the field does not. The sky is clipped to cyan at f/1.8 and a paler blue in ours.
""",
    "lights": """
### Clipped lights

The jpeg clips a lamp at 1; how many times brighter it is is unknown, and its discs come out as much too dark. One
factor for all lamps is not enough either.
""",
    "choices": """
## Ways to build the scene

All through the lens found for the slices. *nothing behind the slices*: rays that find nothing are left out of the mean
(`coverage`), which fills a hole with what is seen beside it.
""",
}


def report(rows: list[Row], ungrown: dict[str, Series], arguments: argparse.Namespace) -> str:
    """The page."""
    widest = [row for row in rows if row.stop == min(row.series.wide)]
    sections = {
        "head": [], "fits": fits(rows), "scores": scores(rows), "errors": errors(rows), "seen": [],
        "lights": brightened(widest),
        "choices": choices(widest, ungrown),
    }  # fmt: skip
    machine = (line.replace(str(arguments.folder), "FOLDER") for line in machine_lines("python -m benchmarks.pairs"))
    title = ["# A render against a real lens", "", *machine, f"{arguments.width} px wide."]
    body = [line for name, lines in sections.items() for line in (NOTES[name], *lines)]
    return "\n".join([*title, *body]).rstrip() + "\n"


def write_pictures(folder: Path, rows: list[Row]) -> None:
    """Photograph | slices over f/16 | five times the error of the slices, a PNG for every row."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        photo = row.series.wide[row.stop]
        error = np.repeat(np.sqrt(row.compared[BY_SLICES].square)[..., None] * 5, 3, axis=2)
        shown = [encode_8bit(p) for p in (photo, gained(row.pictures[BY_SLICES], photo), row.pictures[TONED])]
        shown.append((error.clip(0, 1) * 255).astype(np.uint8))
        sheet = np.vstack([np.hstack(shown[:2]), np.hstack(shown[2:])])
        cv2.imwrite(str(folder / f"{row.series.name}_f{row.stop:g}.png"), sheet[..., ::-1])
        bent = encode_8bit(gained(row.pictures[BY_FIELD], photo))
        cv2.imwrite(str(folder / f"{row.series.name}_f{row.stop:g}_field.png"), bent[..., ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", nargs="+", default=["vabd_0001", "vabd_0101"])
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write photographs and renders side by side")
    parser.add_argument("--write", action="store_true", help="into benchmarks/pairs.md")
    arguments = parser.parse_args()
    rows = [row for name in arguments.names for row in measure(load(arguments.folder, name, arguments.width))]
    ungrown = {name: load(arguments.folder, name, arguments.width, 0) for name in arguments.names}
    if arguments.pictures:
        write_pictures(arguments.pictures, rows)
    text = report(rows, ungrown, arguments)
    sys.stdout.write(text)
    if arguments.write:
        Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
