"""Distributions as inline SVG: histograms of numbers, bars of words, a course over time."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bokehsynth.generation.report.markup import Markup, element, joined

BINS = 40
"""Cells of a histogram, at most; of few values there are fewer, about twice the root of their number."""
WIDTH, HEIGHT, LEFT, BASE, TOP = 340, 150, 8, 122, 10
"""Units of a drawing: its size, where bars begin and where they stand."""
MOST_BARS = 14
"""Words that get a bar of their own; the rest share one."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Histogram:
    """Numbers in cells of equal width."""

    edges: Floats
    """[bins + 1]."""
    counts: Floats
    """[bins]; shares or numbers of values."""
    quantiles: tuple[float, float, float]
    """5, 50 and 95 %."""
    total: float
    """Values in all."""
    whole: bool = False
    """Whether each cell is one whole number."""


def histogram(values: Floats, bins: int = BINS) -> Histogram:
    """Cells over the values: between round numbers, or one for each whole number where these are few."""
    values = np.round(values, 12)
    bins = min(bins, max(10, round(2 * math.sqrt(len(values)))))
    low, high = float(values.min()), float(values.max())
    whole = high - low <= 60 and abs(high) < 1e6 and bool((values == np.rint(values)).all())
    if whole:
        edges = np.arange(low - 0.5, high + 1)
    elif high - low <= 1e-9 * max(abs(low), abs(high)):  # one number
        edges = np.linspace(low - 0.5 * abs(low), low + 0.5 * abs(low), bins + 2)
    else:
        step = nice_step((high - low) / 4)
        edges = np.linspace(math.floor(low / step) * step, math.ceil(high / step) * step, bins + 1)
    counts, _ = np.histogram(values, bins=edges)
    five, half, most = (float(np.quantile(values, share)) for share in (0.05, 0.5, 0.95))
    return Histogram(edges, counts.astype(np.float64), (five, half, most), float(len(values)), whole)


def counted_histogram(numbers: npt.NDArray[np.int64], scale: float, bins: int = BINS) -> Histogram:
    """The same of values that were counted: `numbers[i]` times the value `i * scale`."""
    total = int(numbers.sum())
    used = int(np.flatnonzero(numbers)[-1]) if total else 0
    step = nice_step(max(used * scale, scale) / 4)
    edges = np.linspace(0, math.ceil(max(used * scale, scale) / step) * step, bins + 1)
    counts, _ = np.histogram(np.arange(len(numbers)) * scale, bins=edges, weights=numbers)
    sums = np.cumsum(numbers)
    five, half, most = (float(np.searchsorted(sums, max(1, share * total)) * scale) for share in (0.05, 0.5, 0.95))
    return Histogram(edges, counts.astype(np.float64), (five, half, most), float(total))


def nice_step(rough: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))


def number(value: float) -> str:
    """A number in at most four digits or so, as people read them."""
    if value == 0:
        return "0"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def histogram_figure(title: str, unit: str, found: Histogram, of: str) -> Markup:
    """A histogram with its axis, its median and a line of quantiles; `of` says what was counted."""
    low, high = float(found.edges[0]), float(found.edges[-1])
    most = float(found.counts.max()) or 1.0
    cell = (WIDTH - 2 * LEFT) / len(found.counts)
    width = min(cell - 1, 44)
    bars = []
    for place, count in enumerate(found.counts):
        if count:
            tall = max(1.5, (BASE - TOP) * float(count) / most)
            left, right = float(found.edges[place]), float(found.edges[place + 1])
            cell_name = number(left + 0.5) if found.whole else f"{number(left)} to {number(right)}"
            words = f"{cell_name}: {_share(count, found)}"
            bars.append(
                element(
                    "rect", element("title", words), x=_u(LEFT + place * cell + (cell - width) / 2), y=_u(BASE - tall),
                    width=_u(width), height=_u(tall), class_="bar",
                )
            )  # fmt: skip
    middle = _u(_place(found.quantiles[1], low, high))
    parts = [
        *bars,
        element("line", x1=middle, x2=middle, y1=TOP - 6, y2=BASE, class_="median"),
        *_axis(low, high, found.whole),
    ]
    names = ("5 %", "median", "95 %")
    shares = [
        element("span", name, " ", element("b", number(at))) for name, at in zip(names, found.quantiles, strict=True)
    ]
    caption = joined([element("p", *shares, class_="numbers"), element("p", of, class_="numbers") if of else ""])
    return _figure(title, unit, element("svg", *parts, **_BOX, aria_label=f"Histogram of {title}"), caption)


def bars_table(title: str, counter: Counter[str], of: int, unit: str = "samples") -> Markup:
    """Words with a bar each, the most frequent first."""
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    shown, rest = ordered[:MOST_BARS], ordered[MOST_BARS:]
    if rest:
        shown.append((f"{len(rest)} more", sum(count for _, count in rest)))
    most = max((count for _, count in shown), default=1)
    rows = [_bar_row(word, count, most, of) for word, count in shown]
    return _figure(title, unit, element("table", element("tbody", *rows), class_="bars"), Markup(""))


def _bar_row(word: str, count: int, most: int, of: int) -> Markup:
    bar = element("rect", x=0, y=1, width=_u(100 * count / most), height=8, class_="bar")
    drawing = element("svg", bar, viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true")
    return element(
        "tr",
        element("th", word, scope="row", title=word if len(word) > 18 else None),
        element("td", drawing, class_="course"),
        element("td", f"{count:,}", class_="number"),
        element("td", f"{count / max(of, 1):.1%}", class_="number"),
    )


def course_figure(title: str, unit: str, rates: Sequence[float], ends: tuple[str, str]) -> Markup:
    """Numbers over time as an area, from `ends[0]` to `ends[1]`; its words are HTML, so that they keep their size."""
    step = nice_step(max(*rates, 1e-9) / 3)
    ticks = max(1, math.ceil(max(rates) / step - 1e-9))
    points = ["0,100"]
    for place, rate in enumerate(rates):
        y = _u(100 - 100 * rate / (ticks * step))
        points += [f"{place},{y}", f"{place + 1},{y}"]
    points.append(f"{len(rates)},100")
    heights = [_u(100 - 100 * tick / ticks) for tick in range(ticks + 1)]
    lines = [element("line", x1=0, x2=len(rates), y1=y, y2=y, class_="grid") for y in heights]
    box = element(
        "svg", *lines, element("polygon", points=" ".join(points), class_="area"), viewBox=f"0 0 {len(rates)} 100",
        preserveAspectRatio="none", role="img", aria_label=f"Course of {title}",
    )  # fmt: skip
    labels = element("div", *(element("span", number(tick * step)) for tick in range(ticks + 1)), class_="heights")
    below = element("div", *(element("span", end) for end in ends), class_="ends")
    return _figure(title, unit, element("div", labels, box, below, class_="course-plot"), Markup(""), "wide")


_BOX = {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img"}


def _figure(title: str, unit: str, drawing: Markup, caption: Markup, size: str = "") -> Markup:
    head = element("figcaption", element("b", title), " ", element("span", unit, class_="unit"))
    return element("figure", head, drawing, caption, class_=f"chart {size}".strip())


def _axis(low: float, high: float, whole: bool) -> list[Markup]:
    parts = [element("line", x1=LEFT, x2=WIDTH - LEFT, y1=BASE, y2=BASE, class_="axis")]
    step = max(nice_step((high - low) / 5), 1.0 if whole else 0.0)
    tick = math.ceil(low / step - 1e-9) * step
    while tick <= high + step * 1e-9:
        x = _place(tick, low, high)
        words = number(round(tick / step) * step)
        half = 3.6 * len(words)
        parts.append(element("line", x1=_u(x), x2=_u(x), y1=BASE, y2=BASE + 4, class_="axis"))
        parts.append(
            element("text", words, x=_u(min(max(x, half + 1), WIDTH - half - 1)), y=BASE + 18, text_anchor="middle")
        )
        tick += step
    return parts


def _place(value: float, low: float, high: float) -> float:
    return LEFT + (WIDTH - 2 * LEFT) * min(max((value - low) / max(high - low, 1e-12), 0.0), 1.0)


def _share(count: float, found: Histogram) -> str:
    return f"{count:,.0f} of {found.total:,.0f} ({count / max(found.total, 1):.1%})"


def _u(value: float) -> str:
    """A coordinate, short and the same everywhere."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
