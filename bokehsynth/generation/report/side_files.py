"""The files beside the shards, as far as a report shows them: assets, quarantine, recipe, machines.

One that is missing or damaged is no error here: the page says so in its place, and `verify` is the command that judges.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from bokehsynth.errors import DataError
from bokehsynth.shards import Layout
from bokehsynth.stores import StoredPath
from bokehsynth.untrusted_files import MAX_LIST, parse_json, read_lines, read_text

EXAMPLES = 20
"""Lines of the quarantine that are shown for each kind and reason."""
MAX_GROUPS = 60
"""Kinds and reasons, and licences, that are told apart."""
MAX_NAME = 500
"""Characters of a name or a text of a list that are kept."""
MAX_RECIPE = 60_000
"""Characters of the recipe that are shown; one with the bytes of a picture is longer."""


@dataclass
class AssetFacts:
    """What `assets.jsonl` holds."""

    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Assets by kind and split."""
    licences: Counter[str] = field(default_factory=Counter)
    """Assets by licence."""
    licence_of: dict[str, str] = field(default_factory=dict)
    """Licence by id."""
    file_of: dict[str, str] = field(default_factory=dict)
    """Name of the file by id, of pictures that were files."""
    described: dict[str, str] = field(default_factory=dict)
    """Kind and size by id, in words."""
    fault: str = ""
    """Why there is nothing, or not all."""


@dataclass
class QuarantineFacts:
    """What `quarantine.jsonl` holds; empty if there is no such file."""

    groups: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Lines by kind and reason."""
    examples: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)
    """The first of each group: name and message."""
    fault: str = ""

    @property
    def has_draws(self) -> bool:
        """Whether draws of samples are in it."""
        return any(kind == "sample" for kind, _ in self.groups)


def read_assets(layout: Layout) -> AssetFacts:
    """Read the frozen asset list."""
    facts = AssetFacts()
    same: dict[str, str] = {}
    try:
        for line in read_lines(layout.assets):
            record = _record(line, layout.assets)
            name, kind, split, licence = (_word(record, key) for key in ("id", "kind", "split", "licence"))
            licence = licence if licence in same or len(same) < MAX_GROUPS else "others"
            facts.licence_of[name] = same.setdefault(licence, licence)
            facts.licences[licence] += 1
            if "file" in record:
                facts.file_of[name] = _word(record, "file")
            facts.kinds[(kind, split) if len(facts.kinds) < MAX_GROUPS else ("others", "")] += 1
            size = f"{record['width']} x {record['height']} px" if record.get("width") else "drawn by code"
            described = f"{kind}, {size}" if len(size) < 40 else kind
            facts.described[name] = same.setdefault(described, described) if len(same) < 10_000 else kind
    except FileNotFoundError:
        facts.fault = f"there is no {layout.assets.name}"
    except (OSError, DataError) as error:
        facts.fault = str(error)
    return facts


def read_quarantine(layout: Layout) -> QuarantineFacts:
    """Read the list of assets and draws that are not used."""
    facts = QuarantineFacts()
    try:
        for line in read_lines(layout.quarantine):
            record = _record(line, layout.quarantine)
            kind, reason = _word(record, "kind"), _word(record, "reason")
            group = (kind, reason)
            if group not in facts.groups and len(facts.groups) >= MAX_GROUPS:
                group = ("others", "")
            facts.groups[group] += 1
            examples = facts.examples.setdefault(group, [])
            if len(examples) < EXAMPLES:
                name = _word(record, "key" if kind == "sample" else "name")
                draw = f", draw {record.get('attempt')}"[:20] if kind == "sample" else ""
                examples.append((f"{name}{draw}", _word(record, "message")))
    except FileNotFoundError:
        pass  # nothing was put there
    except (OSError, DataError) as error:
        facts.fault = str(error)
    return facts


def read_recipe_text(path: StoredPath) -> tuple[str, str]:
    """The text of `recipe.yaml`, cut to MAX_RECIPE characters, and what is wrong with it."""
    try:
        text = read_text(path, MAX_LIST)
    except FileNotFoundError:
        return "", f"there is no {path.name}"
    except (OSError, DataError) as error:
        return "", str(error)
    if len(text) > MAX_RECIPE:
        return text[:MAX_RECIPE], f"cut after {MAX_RECIPE:,} of {len(text):,} characters"
    return text, ""


def flat(value: Any, most: int = 60) -> list[tuple[str, str]]:
    """The leaves of nested tables as dotted names and texts, at most `most`, each cut to MAX_NAME characters."""
    return list(islice(_leaves(value, ""), most))


def _leaves(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, (f"{place}.{key}" if place else str(key))[:MAX_NAME])
    else:
        yield place, "" if value is None else str(value)[:MAX_NAME]


def _record(line: str, path: StoredPath) -> dict[str, Any]:
    record = parse_json(line, f"{path}: a line")
    if not isinstance(record, dict):
        raise DataError(f"{path}: a line is no table")
    return record


def _word(record: dict[str, Any], key: str) -> str:
    return str(record.get(key, "not stated"))[:MAX_NAME]
