"""Writes the report on a data set: one HTML page that loads nothing."""

import base64
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from bokehsynth.errors import DataError
from bokehsynth.files import atomic_write, data_path, local_path
from bokehsynth.generation.event_log import event_logs
from bokehsynth.generation.plan import read_extensions
from bokehsynth.generation.report.event_log_facts import read_events
from bokehsynth.generation.report.findings import Findings
from bokehsynth.generation.report.lens_spots import LensSpots
from bokehsynth.generation.report.markup import element, page
from bokehsynth.generation.report.page_body import body
from bokehsynth.generation.report.record_numbers import RecordNumbers
from bokehsynth.generation.report.sample_cards import Card, color_levels, ramp_style
from bokehsynth.generation.report.sample_views import view_sample
from bokehsynth.generation.report.side_files import read_assets, read_quarantine, read_recipe_text
from bokehsynth.imaging.contact_sheet import take_spread
from bokehsynth.schema import FIELDS, MAP_MAX, Sample, quantize_map
from bokehsynth.shards import Layout, ShardDataset, read_dataset, read_marker
from bokehsynth.stores import StoredPath

RECORDS = 20_000
"""Records that distributions are taken from; of a larger set, evenly spread ones."""
PICTURE_BYTES = 4_300_000
"""Bytes of a page with at most 64 samples, for their pictures and maps; more samples get as many bytes each."""
SHARE = 64

Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Shows how far a loop is: what it goes over, its name, and how many there are."""


def write_report(
    dataset: str | StoredPath,
    out: str | Path,
    samples: int = 64,
    records: int = RECORDS,
    progress: Progress | None = None,
) -> int:
    """Write the report on a finished data set to the file `out`, and return its size in bytes.

    `samples` samples are shown, evenly spread, and distributions are taken from at most `records` records. The same
    files make the same page. Raises DataError, as any reader, if the set is not there, unfinished or damaged where it
    is read; files beside the shards that are missing or damaged are named on the page.
    """
    layout, out = Layout(data_path(dataset)), local_path(out)
    show: Progress = progress or (lambda items, name, total: items)
    record = read_dataset(layout)
    splits = {split: ShardDataset(layout, split, record=record) for split in sorted(record["splits"])}
    if not splits:
        raise DataError(f"{layout.dataset}: has no split")
    found = Findings(
        name=str(record.get("name", "data set"))[:200], record=record,
        splits={split: (len(data), len(data.plans), _bytes(data)) for split, data in splits.items()},
        numbers=RecordNumbers(), assets=read_assets(layout), quarantine=read_quarantine(layout),
        events=read_events(event_logs(layout)), recipe=read_recipe_text(layout.recipe),
    )  # fmt: skip
    try:
        found.steps = read_extensions(layout)
    except DataError as error:
        found.recipe = (found.recipe[0], str(error))
    _read_records(found, splits, records, show)
    _view_samples(found, layout, splits, samples, show)
    text = page(found.name, _resource("page.css") + ramp_style(), _resource("page.js"), _with_colors(found))
    atomic_write(out, text)
    return len(text.encode())


def _bytes(data: ShardDataset) -> int:
    return sum(read_marker(data.layout, plan).bytes for plan in data.plans)


def _shares(splits: dict[str, ShardDataset], wanted: int) -> dict[str, list[int]]:
    """Which samples stand for all: `wanted` of them, evenly spread over the splits one after the other."""
    chosen, first = take_spread(range(sum(len(data) for data in splits.values())), wanted), 0
    shares = {}
    for split, data in splits.items():
        shares[split] = [place - first for place in chosen if first <= place < first + len(data)]
        first += len(data)
    return shares


def _read_records(found: Findings, splits: dict[str, ShardDataset], records: int, show: Progress) -> None:
    for split, indices in _shares(splits, records).items():
        for meta in show(splits[split].records(indices), f"{split}: records", len(indices)):
            found.numbers.add(meta, found.assets.licence_of)


def _view_samples(
    found: Findings, layout: Layout, splits: dict[str, ShardDataset], samples: int, show: Progress
) -> None:  # fmt: skip
    spots = LensSpots.of(layout)
    chosen = _shares(splits, samples)
    budget = PICTURE_BYTES // max(1, min(SHARE, sum(map(len, chosen.values()))))
    with np.errstate(all="ignore"):  # a stranger's scale may be any number; what it makes of a map is checked
        for split, indices in chosen.items():
            stored = map(splits[split].__getitem__, indices)
            for sample in show(stored, f"{split}: samples", len(indices)):
                found.cards.append(Card(view_sample(sample, budget), spots.of_sample(dict(sample.meta))))
                _count_pixels(found, sample)
    found.spot_fault = spots.fault


def _count_pixels(found: Findings, sample: Sample) -> None:
    """Add the pixels of a sample to the histograms of its maps."""
    for name in ("defocus", "disparity"):
        if name not in sample.arrays:
            continue
        scale = FIELDS[name].scale(sample.meta)
        if found.scales.setdefault(name, scale) != scale:
            raise DataError(f"{sample.key}: {name} has another scale than the samples before it")
        counts = np.bincount(quantize_map(sample.arrays[name], scale, name).ravel(), minlength=MAP_MAX + 1)
        found.counts[name] = found.counts.get(name, np.zeros(MAP_MAX + 1, np.int64)) + counts


def _with_colors(found: Findings) -> Any:
    """The content of the page, with the colours of the maps for its script."""
    colors = {f"data_{name}": base64.b64encode(levels).decode() for name, levels in color_levels().items()}
    return element("div", body(found), id="report", **colors)


def _resource(name: str) -> str:
    return resources.files("bokehsynth.generation.report").joinpath(name).read_text(encoding="utf-8")
