"""Samples as cards: a slider between lq, aif and hq, the maps with their values under the pointer, the lens's spots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from bokehsynth.generation.report.markup import Markup, data_url, element, joined, void
from bokehsynth.generation.report.sample_views import MapView, SampleView
from bokehsynth.imaging.contact_sheet import COLOR_MAPS, take_spread

MAP_TITLES = {"defocus": ("blur radius", " px", 2), "disparity": ("disparity", "", 4), "mask": ("in focus", "", 3)}
"""Words, unit and digits of a value that is read out."""
CARDS_OPEN = 12
"""Samples that are seen at once; the others are folded away."""


@dataclass(frozen=True)
class Card:
    """A sample, and the spots of its lens as PNG: in the middle and perhaps towards a corner."""

    view: SampleView
    spots: list[bytes]


def color_levels() -> dict[str, bytes]:
    """The colours of each map's 256 levels, RGB, 768 bytes."""
    levels = np.arange(256, dtype=np.uint8)[None]
    return {name: cv2.applyColorMap(levels, chosen)[..., ::-1].tobytes() for name, chosen in COLOR_MAPS.items()}


def ramp_style() -> str:
    """Style of the colour ramps beneath the maps."""
    rules = []
    for name, levels in color_levels().items():
        stops = ", ".join(
            f"#{levels[3 * level : 3 * level + 3].hex()}" for level in (0, 32, 64, 96, 128, 160, 192, 224, 255)
        )
        rules.append(f".ramp.{name} {{ background: linear-gradient(90deg, {stops}); }}\n")
    return "".join(rules)


def sample_cards(cards: Sequence[Card], file_of: Mapping[str, str]) -> Markup:
    """All cards; the colours of a map run over one range on the whole page. `file_of` names the files of assets."""
    ranges = {"defocus": 1e-9, "disparity": 1.0, "mask": 1.0}
    for card in cards:
        if "defocus" in card.view.maps:
            ranges["defocus"] = max(ranges["defocus"], card.view.maps["defocus"].largest)
    if ranges["defocus"] <= 1e-9:  # nothing is blurred
        ranges["defocus"] = 1.0
    first = take_spread(range(len(cards)), CARDS_OPEN)
    rest = [card for place, card in enumerate(cards) if place not in first]
    opened = element("div", *(_card(cards[place], ranges, file_of) for place in first), class_="grid samples")
    if not rest:
        return opened
    more = element("div", *(_card(card, ranges, file_of) for card in rest), class_="grid samples")
    return joined([opened, element("details", element("summary", f"{len(rest)} more samples"), more)])


def _card(card: Card, ranges: dict[str, float], file_of: Mapping[str, str]) -> Markup:
    view, meta = card.view, card.view.meta
    views = [part for part in (_slider(view), _maps(view, ranges)) if part]
    hint = "Point at a picture, or walk over a map with the arrow keys, to read its values." if view.maps else ""
    return element(
        "article",
        element("h3", view.key),
        element("p", *_facts(meta), class_="facts"),
        element("div", *views, class_="views" if len(views) > 1 else "views single"),
        element("output", hint, class_="readout"),
        _foot(card, file_of),
        class_="sample", id=view.key, data_width=meta["width"], data_height=meta["height"],
        data_near=repr(meta["near_m"]) if "near_m" in meta else None,
    )  # fmt: skip


def _facts(meta: Any) -> list[Any]:
    facts = [("K", f"{_decimals(meta['blur'], 1)} px"), ("focus", _decimals(meta["focus"], 3)),
             ("largest radius", f"{_decimals(meta['radius_max'], 1)} px")]  # fmt: skip
    if "near_m" in meta:
        facts.append(("disparity 1 at", f"{meta['near_m']:.3g} m"))
    if meta["attempt"]:
        facts.append(("drawn again", f"{meta['attempt']} ×"))
    parts: list[Any] = []
    for name, value in facts:
        parts += [" · " if parts else "", f"{name} ", element("b", value)]
    return parts


def _decimals(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if abs(value) < 1e6 else f"{value:.3g}"


def _slider(view: SampleView) -> Markup:
    """The pictures on top of each other, and what moves between them."""
    if not view.pictures:
        return Markup("")
    names = list(view.pictures)
    images = [
        void("img", src=data_url(data, "image/webp"), alt=name, width=view.width, height=view.height, draggable="false",
             decoding="async")
        for name, data in view.pictures.items()
    ]  # fmt: skip
    marks = [element("span", class_="mark", hidden="")]
    if len(names) == 1:
        return element("figure", element("div", *images, *marks, class_="stack"), class_="stage")
    last = 100 * (len(names) - 1)
    stack = element(
        "div", *images, element("span", class_="cut", hidden=""), element("span", class_="tag left", hidden=""),
        element("span", class_="tag right"), *marks, class_="stack",
    )  # fmt: skip
    slide = void("input", type="range", min=0, max=last, value=last - 50, step=1, disabled="",
                 aria_label=f"{view.key}: between {', '.join(names)}")  # fmt: skip
    stops = element("div", *(element("button", name, type="button") for name in names), class_="stops")
    return element("figure", stack, element("div", slide, stops, class_="slide"), class_="stage")


def _maps(view: SampleView, ranges: dict[str, float]) -> Markup:
    if not view.maps:
        return Markup("")
    return element("div", *(_map(name, found, ranges[name]) for name, found in view.maps.items()), class_="maps")


def _map(name: str, found: MapView, largest: float) -> Markup:
    title, unit, digits = MAP_TITLES[name]
    canvas = element(
        "canvas", width=found.width, height=found.height, tabindex=0, role="img",
        aria_label=f"Map of {title}: walk with the arrow keys", data_name=name, data_title=title, data_unit=unit,
        data_digits=digits, data_scale=repr(found.scale), data_largest=repr(largest), data_counts=found.packed,
    )  # fmt: skip
    pane = element("div", canvas, element("span", class_="mark", hidden=""), class_="pane")
    caption = element(
        "figcaption", title, " 0", element("span", class_=f"ramp {name}"), f"{largest:.3g}{unit}"
    )  # fmt: skip
    return element("figure", pane, caption)


def _foot(card: Card, file_of: Mapping[str, str]) -> Markup:
    meta = card.view.meta
    spots = [
        void("img", src=data_url(data, "image/png"), alt=f"Spot of the lens {place}", width=56, height=56, title=place)
        for data, place in zip(
            card.spots, ("in the middle of the picture", "towards the upper left corner"), strict=False
        )
    ]
    shown = [file_of.get(name, name.removeprefix("procedural/"))[:60] for name in meta["assets"]]
    more = f" and {card.view.assets - len(shown)} more" if card.view.assets > len(shown) else ""
    named = joined(shown, ", ")
    words = element("p", "Lens ", element("code", str(meta["aperture"])), void("br"), "Pictures ", named, more)
    return element("div", *([element("div", *spots, class_="spots")] if spots else []), words, class_="foot")
