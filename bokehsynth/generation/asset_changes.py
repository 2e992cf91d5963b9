"""Words for how the pictures found now differ from those that a set was made from."""

import contextlib
from collections.abc import Mapping
from typing import Any

from bokehsynth.assets.catalogue import Catalogue
from bokehsynth.assets.load.class_pictures import class_of
from bokehsynth.errors import DataError
from bokehsynth.shards import Layout
from bokehsynth.untrusted_files import parse_json, read_lines

ASSETS_NAMED = 5
"""Names of pictures in a message."""


def asset_changes(layout: Layout, catalogue: Catalogue) -> str:
    """Words for how the asset list differs from that of assets.jsonl: names of files, or the ids of embedded ones."""
    records: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(OSError, DataError, KeyError, TypeError, AttributeError):
        lines = [parse_json(line, "a line") for line in read_lines(layout.assets)]
        records = {str(record["id"]): dict(record) for record in lines}
    if not records:
        return f"{layout.assets} cannot be read, so they cannot be named"
    before = {name: str(record.get("file", name)) for name, record in records.items()}
    after = {a.id: catalogue.files[a.id].name if a.id in catalogue.files else a.id for a in catalogue.assets}
    parts = []
    for word, there, here in (("new", after, before), ("missing", before, after)):
        if names := sorted(there[name] for name in there.keys() - here.keys()):
            more = f" and {len(names) - ASSETS_NAMED} more" if len(names) > ASSETS_NAMED else ""
            parts.append(f"{len(names)} {word} ({', '.join(names[:ASSETS_NAMED])}{more})")
    recoded = {
        class_of(asset.id)
        for asset in catalogue.assets
        if asset.id in records and records[asset.id].get("sha256") != asset.sha256
    }
    parts += [f"the code of {path} is another" for path in sorted(path for path in recoded if path is not None)]
    return "; ".join(parts) or _other_records(records, catalogue)


def _other_records(before: Mapping[str, dict[str, Any]], catalogue: Catalogue) -> str:
    """Words for what of the same pictures is recorded otherwise, such as `f_number (of a.png, 2.0 -> 2.8)`."""
    found: dict[str, list[str]] = {}
    for asset in catalogue.assets:
        there, here = before[asset.id], asset.record
        name = catalogue.files[asset.id].name if asset.id in catalogue.files else asset.id
        for key in vars(asset):
            if there.get(key) != here.get(key):
                found.setdefault(key, []).append(f"{name}, {there.get(key)!r:.40} -> {here.get(key)!r:.40}")
    told = [f"{key} (of {of[0]}{f', and of {len(of) - 1} more' if of[1:] else ''})" for key, of in found.items()]
    if told:
        return f"recorded otherwise: {'; '.join(told)}"
    same_order = list(before) == [asset.id for asset in catalogue.assets]
    return "assets.jsonl lists those of now, and was changed" if same_order else "their order, that of their names"
