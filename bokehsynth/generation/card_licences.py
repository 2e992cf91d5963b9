"""What the card says of licences and authors: it follows from the asset list and the samples' records."""

import re
from collections import Counter
from typing import Any

from bokehsynth.assets.catalogue import Asset, Catalogue
from bokehsynth.errors import DataError
from bokehsynth.shards import Layout, ShardDataset

AUTHORS_SHOWN = 200
"""Authors that the card names; all stand in assets.jsonl."""


def licence_text(layout: Layout, catalogue: Catalogue, record: dict[str, Any]) -> str:
    """Tables for the card: for each licence, its assets and the samples that show one of them; then the authors."""
    licence_of = {asset.id: asset.licence for asset in catalogue.assets}
    samples: Counter[str] = Counter()
    for split in record["splits"]:
        stored = ShardDataset(layout, split, fields=[], record=record)
        for meta in stored.records(range(len(stored))):
            unknown = [name for name in meta["assets"] if name not in licence_of]
            if unknown:
                raise DataError(f"{layout.root}: a sample shows {unknown[0]!r:.80}, which assets.jsonl does not list")
            samples.update({licence_of[name] for name in meta["assets"]})
    assets = Counter(licence_of.values())
    rows = "".join(f"\n| {licence} | {assets[licence]} | {samples[licence]} |" for licence in sorted(assets))
    return (  # licences stand as the recipe says them, those of tables are checked when these are read
        "Samples inherit the licences of the pictures in them (one line per picture in `assets.jsonl`); a sample\n"
        f"counts once for each licence in it.\n\n| licence | assets | samples |\n| --- | --- | --- |{rows}"
        f"{_author_text(catalogue)}"
    )


def _author_text(catalogue: Catalogue) -> str:
    """The authors of the pictures with what they ask to be named by; nothing where no source has a table of credits."""
    by_author: dict[str, list[Asset]] = {}
    for asset in catalogue.assets:
        if asset.author or asset.url:
            by_author.setdefault(asset.author, []).append(asset)
    if not by_author:
        return ""
    rows = ""
    for author in sorted(by_author)[:AUTHORS_SHOWN]:
        theirs = by_author[author]
        licences, address = ", ".join(sorted({asset.licence for asset in theirs})), theirs[0].url
        rows += f"\n| {_plain(author)} | {len(theirs)} | {_plain(licences)} | {f'<{address}>' if address else ''} |"
    more = len(by_author) - AUTHORS_SHOWN
    rest = f"\n\n{more} more authors stand in `assets.jsonl`." if more > 0 else ""
    return (
        "\n\nThe pictures are by (each with title and address in `assets.jsonl`):\n\n"
        f"| author | assets | licences | first address |\n| --- | --- | --- | --- |{rows}{rest}"
    )


def _plain(text: str) -> str:
    """Text of another hand in a cell of a Markdown table: no markup of its own."""
    return re.sub(r"([\\`*_{}\[\]<>|#!&])", r"\\\1", text)
