"""The sections about samples: some of them, and how numbers and words are distributed over all."""

import numpy as np

from bokehsynth.generation.report.charts import bars_table, counted_histogram, histogram, histogram_figure
from bokehsynth.generation.report.findings import Findings
from bokehsynth.generation.report.markup import Markup, element, warning
from bokehsynth.generation.report.sample_cards import sample_cards
from bokehsynth.generation.report.wording import many

TITLES = {
    "blur": ("K", "px per unit of disparity"),
    "radius_max": ("largest blur radius", "px in a sample"),
    "focus": ("focus", "disparity"),
    "foregrounds": ("foregrounds", "per sample"),
    "foreground disparity": ("foregrounds", "disparity"),
    "background disparity": ("backgrounds", "disparity"),
    "focal_length_mm": ("focal length", "mm"),
    "f_number": ("f-number", ""),
    "sensor_width_mm": ("sensor width", "mm"),
    "near_m": ("distance of disparity 1", "m"),
    "focus_m": ("distance in focus", "m"),
}
"""Title and unit of the numbers that are no step of the degradation."""


def samples_section(found: Findings) -> list[Markup]:
    """Samples as cards."""
    shown = len(found.cards)
    largest = max((max(card.view.width, card.view.height) for card in found.cards), default=0)
    text = (
        f"{shown} of {found.samples:,} samples, evenly spread. The slider goes from the degraded input (lq) over the "
        "scene all in focus (aif) to the target through the lens (hq): drag over the picture, or use the arrow keys. "
        f"Pictures are lossy here, and at most {largest} px; values of maps are those of the shards. At the foot, the "
        "spot of a light behind the focus, in the middle of the picture and, where it differs, towards a corner."
    )
    parts = [element("p", text, class_="soft")]
    if found.spot_fault:
        parts.append(warning(f"Not every spot could be drawn: {found.spot_fault}"))
    return [*parts, sample_cards(found.cards, found.assets.file_of)]


def distributions_section(found: Findings) -> list[Markup]:
    """Numbers and words of the records, pixels of the maps, and every step of the degradation."""
    numbers = found.numbers
    all_of_them = numbers.samples == found.samples
    basis = (
        f"From the records of all {found.samples:,} samples." if all_of_them
        else f"From the records of {numbers.samples:,} samples, evenly spread over all {found.samples:,}."
    )  # fmt: skip
    parts = [element("p", basis, " A dashed line is the median.", class_="soft")]
    if numbers.unread:
        parts.append(
            element(
                "p",
                f"{many(numbers.unread, 'record')} could not be read further than their first level.",
                class_="warn",
            )
        )
    main = [_series(found, name) for name in TITLES if len(numbers.series.get(name, ()))]
    for name, counts in found.counts.items():
        title, unit = {"defocus": ("blur radius of a pixel", "px"), "disparity": ("disparity of a pixel", "1 = near")}[
            name
        ]
        of = f"pixels of the {len(found.cards)} samples shown"
        main.append(histogram_figure(title, unit, counted_histogram(counts, found.scales[name]), of))
    main += [
        bars_table(name, numbers.words[name], numbers.samples)
        for name in ("lens", "size")
        if len(numbers.words.get(name, ())) > 1
    ]
    parts.append(element("div", *main, class_="grid charts"))
    names = dict.fromkeys([*numbers.words, *numbers.series])
    steps = [name for name in names if name not in TITLES and name not in {"lens", "size"}]
    order = {name: place for place, name in enumerate(dict.fromkeys(name.partition(":")[0] for name in steps))}
    if steps:
        drawn: list[Markup] = []
        for name in sorted(steps, key=lambda name: (order[name.partition(":")[0]], name not in numbers.words)):
            if name in numbers.words:
                drawn.append(bars_table(name, numbers.words[name], numbers.samples))
            if name in numbers.series:
                drawn.append(_series(found, name))
        parts += [
            element("h3", "Degradation, step by step"),
            element("p", "A number that is missing from a sample belongs to a step that was skipped in it, or drawn in "
                    "another way.", class_="soft"),
            element("div", *drawn, class_="grid charts"),
        ]  # fmt: skip
    return parts


def _series(found: Findings, name: str) -> Markup:
    values = np.asarray(found.numbers.series[name], np.float64)
    title, unit = TITLES.get(name, (name, ""))
    every = len(values) == found.numbers.samples
    of = "" if every else f"in {len(values):,} of {found.numbers.samples:,} samples"
    if "disparity" in name:
        of = f"{len(values):,} layers"
    return histogram_figure(title, unit, histogram(values), of)
