"""Estimates what a recipe will make: from draws alone, and from a few samples only if asked to measure."""

import io
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from bokehsynth.files import atomic_write
from bokehsynth.generation.picture_cost import picture_seconds
from bokehsynth.imaging.drawing import FAINT, INK, PAPER, default_font
from bokehsynth.optics import Lens
from bokehsynth.pipeline import make_sample
from bokehsynth.recipe import Recipe
from bokehsynth.sample_draw import SampleDraw, draw_sample
from bokehsynth.scene import PairDraw, PhotoDraw, SceneDraw, SceneLens
from bokehsynth.scene.compose_lens import blur_of, possible_focus
from bokehsynth.schema import FIELDS, LAYER_FIELDS, SOURCE, VIEW_FIELDS
from bokehsynth.shards import encode_sample

DRAWS = 2000
"""Samples that are drawn, evenly spaced over the data set: their distributions are within 1 % or two of the whole."""
BLUE = (70, 110, 180)

UNBLURRED = 3.0
"""Radius in pixels below which a picture hardly shows a lens at work."""

# Measured by `measure_cost` on one core of an AMD EPYC, one thread, at 512 px (pairs at 1536 x 1024), on photographed
# cut-outs and landscapes that were in memory, the same landscapes as photographs, two real pairs with all that loads
# them. What loads or draws pictures comes from `picture_cost`. Other lenses: a factor of two either way.
# The seconds per megapixel less what five fields take less since they are deflated by ISA-L (0.08; photographs 0.06).
SECONDS_PER_MEGAPIXEL = {"layers": 0.39, "photo": 0.14, "pair": 0.92}
SHARE_OF_VIEW = {"focal_stack": 0.45, "aperture_stack": 0.25, "dual_pixel": 0.55, "sub_apertures": 0.75}
SHARE_OF_SOURCE = 0.4
"""Time of a further picture of a scene, rendered and encoded, over that of the sample without it; `hq` is stored with
a dual pixel, not with the others, as in the packaged recipes. Nine sub-apertures, three stops of an aperture."""
SECONDS_PER_SAMPLE = 0.015
"""What does not depend on its size."""
SECONDS_PER_PAIR = 0.8
"""The search for K, which is made at one size."""
COLOR_BYTES = {"lq": 0.93, "hq": 1.25, "aif": 1.75, "hq16": 4.6, "lq_native": 2.1}
"""PNG, per pixel."""
MAP_BYTES = {"layers": 0.3, "photo": 0.005, "pair": 0.16}
"""The same of defocus and disparity, by kind of scene; planes with edges, nothing, measured depth."""
MASK_BYTES, RECORD_BYTES, WEBP = 0.015, 5000.0, 0.8
CUTOUT_BYTES = 0.25
"""The colour of a cut-out on the picture's canvas, mostly empty."""


@dataclass(frozen=True)
class Distribution:
    """How a number is distributed over the drawn samples."""

    name: str
    unit: str
    values: tuple[float, ...]
    bounds: tuple[float, float]
    """Ends of the axis it is shown on."""

    def histogram(self, bins: int) -> list[float]:
        """Share of the values in each of `bins` equal cells of the axis."""
        low, high = self.bounds
        counts, _ = np.histogram(self.values, bins=bins, range=(low, max(high, low + 1e-9)))
        return [float(count) / max(1, len(self.values)) for count in counts]

    def quantile(self, share: float) -> float:
        """The value that this share of the draws stays below."""
        return float(np.quantile(self.values, share))


@dataclass(frozen=True)
class Cost:
    """The cost of one sample on one core."""

    seconds: float
    bytes: float
    measured: int
    """Samples it was measured on, here; 0: from the table of this module."""


@dataclass(frozen=True)
class Estimate:
    """Counts, cost and distributions to expect of a recipe."""

    counts: dict[str, int]
    shards: int
    cost: Cost
    draws: int
    distributions: list[Distribution]
    shares: dict[str, dict[str, float]]
    """Share of the drawn samples (or pictures) by topic and name."""
    notes: list[str] = field(default_factory=list)

    @property
    def samples(self) -> int:
        """Samples of all splits."""
        return sum(self.counts.values())

    @property
    def bytes(self) -> float:
        """Bytes of all shards."""
        return self.samples * self.cost.bytes


def estimate(recipe: Recipe, draws: int = DRAWS, measure: int = 0) -> Estimate:
    """Counts, cost and distributions of a recipe from `draws` of its samples; `measure` samples are made and timed."""
    counts = {split: recipe.count(split) for split in recipe.splits}
    drawn = [draw_sample(recipe, index, split) for split, index in evenly_spaced(counts, draws)]
    per_shard = recipe.shards.samples
    cost = measure_cost(recipe, list(evenly_spaced(counts, measure))) if measure else table_cost(recipe, drawn)
    distributions, notes = _distributions(recipe, drawn)
    return Estimate(
        counts=counts, shards=sum(-(-count // per_shard) for count in counts.values()), cost=cost, draws=len(drawn),
        distributions=distributions, shares=_shares(recipe, drawn), notes=notes,
    )  # fmt: skip


def evenly_spaced(counts: dict[str, int], wanted: int) -> Iterator[tuple[str, int]]:
    """(split, index) of about `wanted` samples, evenly over all splits in proportion; at least one of each."""
    total = sum(counts.values())
    for split, count in counts.items():
        share = min(count, max(1, round(wanted * count / total)))
        yield from ((split, i * count // share) for i in range(share))


def measure_cost(recipe: Recipe, chosen: Sequence[tuple[str, int]]) -> Cost:
    """Make and encode these samples on the CPU, in this process, one thread, and time them; one more goes before."""
    seconds, sizes = [], []
    make_sample(recipe, chosen[0][1], chosen[0][0], "cpu")  # loads the kernels
    for split, index in chosen:
        start = time.perf_counter()
        members = encode_sample(make_sample(recipe, index, split, "cpu"), recipe.shards)
        seconds.append(time.perf_counter() - start)
        sizes.append(sum(512 + -(-len(data) // 512) * 512 for data in members.values()))
    return Cost(statistics.mean(seconds), statistics.mean(sizes), len(chosen))


def table_cost(recipe: Recipe, drawn: Sequence[SampleDraw]) -> Cost:
    """The cost by the constants above."""
    kind = recipe.scene.kind
    pixels = statistics.mean(draw.scene.height * draw.scene.width for draw in drawn)
    seconds = SECONDS_PER_MEGAPIXEL[kind] * pixels / 1e6 + (SECONDS_PER_PAIR if kind == "pair" else 0.0)
    seconds *= 1 + _more_pictures(recipe)
    seconds += SECONDS_PER_SAMPLE + picture_seconds(recipe, drawn)
    return Cost(
        seconds, pixels * sum(_bytes_per_pixel(recipe, name) for name in recipe.shards.fields) + RECORD_BYTES, 0
    )


def _more_pictures(recipe: Recipe) -> float:
    """Time of all views and the source over that of the sample without them."""
    shares = {SOURCE: SHARE_OF_SOURCE}
    if recipe.views is not None:
        shares |= dict.fromkeys(recipe.views.names, SHARE_OF_VIEW[recipe.views.kind])
    return sum(shares[name] for name in recipe.more_pictures)


def _bytes_per_pixel(recipe: Recipe, name: str) -> float:
    """Bytes of one field per pixel of the sample."""
    if FIELDS[name].kind == "map":
        return MASK_BYTES if name == "mask" or name in LAYER_FIELDS else MAP_BYTES[recipe.scene.kind]
    clean = (name == "hq" and recipe.scene.kind == "photo") or (name == "lq" and not recipe.resolved_degradation.steps)
    if name in LAYER_FIELDS:
        per_pixel = COLOR_BYTES["aif"] if int(name[-2:]) == recipe.most_layers - 1 else CUTOUT_BYTES
    else:
        per_pixel = COLOR_BYTES["aif" if clean else "hq" if name == SOURCE or name in VIEW_FIELDS else name]
    if recipe.shards.codec == "webp" and FIELDS[name].kind == "color":
        per_pixel *= WEBP
    return per_pixel / recipe.resolved_degradation.scale**2 if name == "lq_native" else per_pixel


def _distributions(recipe: Recipe, drawn: Sequence[SampleDraw]) -> tuple[list[Distribution], list[str]]:
    scenes = [draw.scene for draw in drawn]
    layered = [
        (draw.scene, recipe.lens.scene_lens(draw.aperture, draw.camera, recipe.frame))
        for draw in drawn
        if isinstance(draw.scene, SceneDraw)
    ]
    if layered:
        return _layer_distributions(recipe, layered)
    pairs = [scene for scene in scenes if isinstance(scene, PairDraw)]
    known = tuple(pair.blur for pair in pairs if pair.blur is not None)
    if pairs:
        searched = "K is searched for every pair when it is made; so is the focus of a pair without a focal mask"
        distributions = [Distribution("K", "px", known, (0.0, max(known)))] if known else []
        return distributions, [] if known else [searched]
    sizes = [scene for scene in scenes if isinstance(scene, PhotoDraw)]
    pixels = tuple(scene.height * scene.width / 1e6 for scene in sizes)
    distributions = [Distribution("size", "megapixels", pixels, (0.0, max(pixels)))] if len(set(pixels)) > 1 else []
    return distributions, ["photographs: nothing is blurred, defocus is 0 everywhere"]


def _layer_distributions(
    recipe: Recipe, drawn: Sequence[tuple[SceneDraw, SceneLens]]
) -> tuple[list[Distribution], list[str]]:
    bound = recipe.radius_bound or 1.0
    blurs, radii, focuses, near, far = [], [], [], [], []
    for scene, lens_in_front in drawn:
        candidates = possible_focus(scene, scene.planes)
        for focus in candidates:
            lens = Lens(blur_of(scene, focus, lens_in_front, scene.planes), focus)
            blurs.append(lens.blur)
            focuses.append(focus)
            radii.append(max(lens.radius_max(plane, scene.width, scene.height) for plane in scene.planes))
        near += [foreground.plane.d for foreground in scene.foregrounds]
        far.append(scene.background.plane.d)
    unseen = sum(radius <= UNBLURRED for radius in radii) / len(radii)
    notes = [f"nothing is blurred by more than {UNBLURRED:g} px in {unseen:.1%} of the samples"]
    if recipe.scene.kind == "layers" and recipe.scene.focus == "pixel":
        notes.append("focus is on what a pixel shows, known when it is composed: here on each layer alike")
    distributions = [
        Distribution("K", "px", tuple(blurs), (0.0, max(*blurs, 1e-6))),
        Distribution("largest radius", "px", tuple(radii), (0.0, bound)),
        Distribution("focus", "disparity", tuple(focuses), (0.0, 1.0)),
        Distribution("backgrounds", "disparity", tuple(far), (0.0, 1.0)),
    ]
    if near:
        distributions.insert(3, Distribution("foregrounds", "disparity", tuple(near), (0.0, 1.0)))
    return distributions, notes


def _shares(recipe: Recipe, drawn: Sequence[SampleDraw]) -> dict[str, dict[str, float]]:
    """Apertures and degradations by sample, licences by sample that shows a picture under it, pictures by use."""
    by_id = {asset.id: asset for asset in recipe.catalogue.assets}
    licences = Counter(licence for draw in drawn for licence in {by_id[name].licence for name in draw.scene.assets})
    apertures = Counter(recipe.lens.names[draw.aperture] for draw in drawn)
    layers = Counter(f"{len(draw.scene.assets) - 1} foregrounds" for draw in drawn if isinstance(draw.scene, SceneDraw))
    shown = Counter(name for draw in drawn for name in draw.scene.assets)
    tables = {"apertures": apertures, "layers": layers, "licences": licences, "pictures": shown}
    return {
        topic: {name: count / len(drawn) for name, count in table.most_common()}
        for topic, table in tables.items()
        if table
    }


def plot_distributions(found: Estimate, path: Path, bins: int = 40) -> None:
    """Draw the distributions as one PNG: a histogram each, its axis and quantiles written below."""
    width, height, foot, left = 520, 90, 26, 150
    sheet = Image.new("RGB", (left + width + 20, max(1, len(found.distributions)) * (height + foot) + 16), PAPER)
    pen, font = ImageDraw.Draw(sheet), default_font(13)
    for row, distribution in enumerate(found.distributions):
        base = 8 + row * (height + foot) + height
        pen.text((8, base - height / 2 - 16), distribution.name, fill=INK, font=font)
        pen.text((8, base - height / 2), distribution.unit, fill=FAINT, font=font)
        shares = distribution.histogram(bins)
        for i, share in enumerate(shares):
            x = left + i * width / bins
            pen.rectangle((x, base - share / max(*shares, 1e-9) * (height - 8), x + width / bins - 2, base), fill=BLUE)
        pen.line((left, base, left + width, base), fill=INK)
        low, high = distribution.bounds
        pen.text((left, base + 4), f"{low:g}", fill=INK, font=font)
        pen.text((left + width - 30, base + 4), f"{high:.3g}", fill=INK, font=font)
        quantiles = ", ".join(f"{distribution.quantile(share):.3g}" for share in (0.05, 0.5, 0.95))
        pen.text((left + 120, base + 4), f"5, 50, 95 %: {quantiles}", fill=FAINT, font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    atomic_write(path, buffer.getvalue())
