"""HTML that is put together from parts: every text is escaped here, and a page allows only its own style and script."""

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from typing import Any

from bokehsynth.errors import printable

MAX_TEXT = 1000
"""Characters of a text that a data set holds, such as a message or a line of its recipe; what is longer is cut."""


class Markup(str):
    """Text that is HTML already; any other text is escaped before it becomes part of a page."""

    __slots__ = ()


def escaped(value: Any, most: int = MAX_TEXT) -> Markup:
    """A value as HTML: Markup as it is, text with all that a browser or an eye would act upon escaped."""
    if isinstance(value, Markup):
        return value
    text = str(value)
    text = text if len(text) <= most else f"{text[:most]}…"
    return Markup(html.escape(text if text.isprintable() else printable(text)))


def element(tag: str, *children: Any, **attributes: Any) -> Markup:
    """`<tag ...>children</tag>`; `_` in names of attributes stands for `-`, and attributes that are None are left out.

    `class_` is `class`. Attributes of style and of events do not exist here: the page's policy would refuse them.
    """
    head = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escaped(value, 1 << 30)}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{head}>{joined(children)}</{tag}>")


def void(tag: str, **attributes: Any) -> Markup:
    """An element of HTML (not of SVG) that has no content and no end, such as `<img>`."""
    return Markup(element(tag, **attributes).removesuffix(f"</{tag}>"))


def joined(parts: Iterable[Any], between: str = "") -> Markup:
    """Parts one after the other, texts among them escaped."""
    return Markup(between.join(escaped(part) for part in parts))


def note(*parts: Any) -> Markup:
    """A paragraph of explanation."""
    return element("p", *parts, class_="soft")


def warning(*parts: Any) -> Markup:
    """A paragraph that says what is missing or damaged."""
    return element("p", *parts, class_="warn")


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]], numbers: Sequence[int] = ()) -> Markup:
    """A table that scrolls by itself where it is too wide; the columns `numbers` stand to the right."""
    rows = [list(row) for row in rows]

    def line(tag: str, cells: Sequence[Any]) -> Markup:
        sides = ["number" if place in numbers else None for place in range(len(cells))]
        return element("tr", *(element(tag, cell, class_=side) for cell, side in zip(cells, sides, strict=True)))

    body = element("tbody", *(line("td", row) for row in rows))
    inner = element("table", element("thead", line("th", head)), body)
    return element("div", inner, class_="table", tabindex=0, role="region", aria_label=joined(head, ", "))


def page(title: str, style: str, script: str, body: Markup) -> str:
    """The whole document. Its policy: nothing is loaded, no style or script runs but these two, by their digests."""
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = [
        void("meta", charset="utf-8"),
        void("meta", http_equiv="Content-Security-Policy", content=policy),
        void("meta", name="viewport", content="width=device-width, initial-scale=1"),
        void("meta", name="color-scheme", content="light dark"),
        void("meta", name="referrer", content="no-referrer"),
        element("title", title),
        void("link", rel="icon", href="data:,"),
        element("style", Markup(style)),
    ]
    document = element(
        "html", element("head", *head), element("body", body, element("script", Markup(script))), lang="en"
    )
    return f"<!doctype html>\n{document}\n"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def data_url(data: bytes, kind: str) -> str:
    """Bytes as the address of a picture of this kind, such as `image/webp`."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
