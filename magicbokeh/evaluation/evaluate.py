"""`magicbokeh evaluate`: every method on every sample of a set, and the tables of it."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

import bokehsynth
from bokehsynth import DataError, UsageError, atomic_write
from magicbokeh.evaluation import tables
from magicbokeh.evaluation.cost import measure
from magicbokeh.evaluation.depth import DEPTH_METRICS, measure_depth, parse_depth_methods
from magicbokeh.evaluation.depth_sets import DepthSet, open_depth
from magicbokeh.evaluation.items import DEPTH_SPLITS, PICTURE_SPLITS, Item, ItemSet, Values
from magicbokeh.evaluation.methods import Method, MethodOptions, parse_methods
from magicbokeh.evaluation.metrics import ALL, Metric, MetricSuite
from magicbokeh.evaluation.results import Results, cells, costs
from magicbokeh.evaluation.sets import open_pictures, read_picture
from magicbokeh.evaluation.sheet import MOST_ROWS, SheetRow, draw_sheet
from magicbokeh.evaluation.store import Store
from magicbokeh.given_files import about


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """The options of the command, by its names."""

    methods: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    """Empty: all."""
    split: str | None = None
    samples: int | None = None
    baseline: str | None = None
    depth: str = "exact"
    color: str = "auto"
    device: str = "auto"
    dtype: str | None = None
    pictures: bool = True
    progress: bool = True


def evaluate(path: Path, out: Path, options: EvaluateOptions) -> Results:
    """Compare methods on a set and write tables, pictures and a sheet to `out`; what lies there already is not redone.

    Everything that can be refused is refused before the first sample: UsageError for methods, metrics, pictures of
    other programs and folders that do not fit, DataError for a set that is damaged.
    """
    if (depth := _depth_set(path, options)) is not None:
        return _evaluate_depth(path, depth, out, options)
    items = open_pictures(path, options.split, options.samples)
    words = [name for word in options.metrics for name in word.split(",") if name]
    suite = MetricSuite([name.strip() for name in words] or ALL)
    methods = parse_methods(options.methods, _method_options(options))
    baseline = _baseline(options.baseline, [method.name for method in methods])
    for method in methods:
        if method.needs_lens and items.task != "bokeh":
            raise UsageError(f"--methods: {method.name}: nothing in {path} is blurred by a lens; leave it out")
        method.check(items)
    store = Store.open(out, _identity(items.identity, len(items.outlines), suite.metrics, options.device))
    table = _measure_all(items, methods, suite, store, options)
    splits = PICTURE_SPLITS if items.task == "bokeh" else PICTURE_SPLITS[:1]
    results = Results(
        set_name=path.name or str(path),
        count=len(items.outlines),
        splits=splits,
        metrics=suite.metrics,
        methods={method.name: method.about for method in methods},
        baseline=baseline,
        cells=cells(table, suite.metrics, splits, baseline),
        costs={name: costs(values) for name, values in table.items()},
        device=_device_name(options.device),
        set_split=items.split,
    )
    write_tables(store, results, table)
    _write_sheet(items, methods, table, store)
    return results


def _identity(set_identity: str, count: int, metrics: Sequence[Metric], device: str) -> dict[str, Any]:
    """What must be the same for an evaluation to be gone on with.

    Metrics that were missing then are others now, and times of two devices have no common median.
    """
    there = {metric.name: metric.missing is None for metric in metrics}
    device_name = _device_name(device)
    return {
        "set": set_identity,
        "samples": count,
        "metrics": there,
        "device": device_name,
        "version": bokehsynth.__version__,
    }


def _method_options(options: EvaluateOptions) -> MethodOptions:
    return MethodOptions(options.device, options.dtype, options.color, options.depth == "exact")


def _depth_set(path: Path, options: EvaluateOptions) -> DepthSet | None:
    """The depth set in a folder; None where it holds pictures to restore."""
    return None if (path / "dataset.json").exists() else open_depth(path, options.samples)


def _evaluate_depth(path: Path, items: DepthSet, out: Path, options: EvaluateOptions) -> Results:
    """Compare depth networks on a depth set."""
    if options.metrics or options.split is not None:
        raise UsageError("--metrics, --split: a depth set has its own metrics and no splits; leave them out")
    methods = parse_depth_methods(options.methods, _method_options(options), items)
    baseline = _baseline(options.baseline, [method.name for method in methods])
    store = Store.open(out, _identity(items.identity, len(items), DEPTH_METRICS, options.device))
    with _bar(len(items) * len(methods), options) as bar:
        table = measure_depth(items, methods, store, bar.update)
    results = Results(
        set_name=f"{path.name or path} ({items.kind})",
        count=len(items),
        splits=DEPTH_SPLITS,
        metrics=DEPTH_METRICS,
        methods={method.name: method.about for method in methods},
        baseline=baseline,
        cells=cells(table, DEPTH_METRICS, DEPTH_SPLITS, baseline),
        costs={name: costs(values) for name, values in table.items()},
        device=_device_name(options.device),
    )
    write_tables(store, results, table)
    return results


def _bar(total: int, options: EvaluateOptions) -> Any:
    return tqdm(total=total, unit="picture", disable=None if options.progress else True, leave=False)


def _baseline(wanted: str | None, names: Sequence[str]) -> str:
    """The method that the others are compared with: `classical` if it is among them, else the first."""
    if wanted is None:
        return "classical" if "classical" in names else names[0]
    if wanted not in names:
        raise UsageError(f"--baseline: {wanted} is none of the methods {', '.join(names)}")
    return wanted


def write_tables(store: Store, results: Results, table: Mapping[str, Mapping[str, Values]]) -> None:
    """Write table.md, table.csv, samples.csv and results.json."""
    store.write_text("table.md", tables.markdown(results))
    store.write_text("table.csv", tables.comma_separated(results))
    store.write_text("samples.csv", tables.per_sample(table, results.metrics, results.splits))
    store.write_text("results.json", tables.as_json(results))


def _measure_all(
    items: ItemSet, methods: Sequence[Method], suite: MetricSuite, store: Store, options: EvaluateOptions
) -> dict[str, dict[str, Values]]:
    """The values of every method on every item, by method and key."""
    table: dict[str, dict[str, Values]] = {method.name: {} for method in methods}
    warm: set[str] = set()
    with _bar(len(items.outlines) * len(methods), options) as bar:
        for item in items:
            for method in methods:
                values = store.read(method.name, method.identity, item.key)
                if values is None:
                    bar.set_postfix_str(f"{method.name} {item.key}")
                    with about(Path(f"{method.name}, {item.key}")):
                        values = _measure(item, method, suite, store, method.name in warm, options)
                    warm.add(method.name)
                table[method.name][item.key] = values
                bar.update()
    return table


def _measure(
    item: Item, method: Method, suite: MetricSuite, store: Store, is_warm: bool, options: EvaluateOptions
) -> Values:
    """Run a method on one item and measure what it gives; the first call of a process counts operations instead."""
    on_cuda = torch.cuda.is_available() and options.device in ("auto", "cuda")
    cost = measure(lambda: method.run(item), on_cuda, method.counts_flops and not is_warm)
    found = cost.result
    if found.shape != item.target.shape:
        raise DataError(f"{item.key}: {method.name} gives {list(found.shape)}, the target is {list(item.target.shape)}")
    if options.pictures and (method.is_measured or method.identity == "lq"):
        store.write_picture(method.name, item.key, found)
    numbers = suite.measure(found, item)
    values = Values(
        metrics=numbers.values,
        features=numbers.features,
        target_features=numbers.target_features,
        seconds=cost.seconds if method.is_measured else None,
        memory=cost.memory if method.is_measured and is_warm else None,
        flops=cost.flops,
        warm=is_warm,
    )
    store.write(method.name, method.identity, item.key, values)
    return values


def _write_sheet(
    items: ItemSet, methods: Sequence[Method], table: Mapping[str, Mapping[str, Values]], store: Store
) -> None:
    """Write sheet.png of evenly spread samples."""
    count = len(items.outlines)
    chosen = set(np.linspace(0, count - 1, min(count, MOST_ROWS)).round().astype(int).tolist())
    shown = [method for method in methods if method.name != "lq"]
    rows = []
    for place, item in enumerate(items):
        if place not in chosen:
            continue
        pictures = [item.lq]
        for method in shown:
            path = store.picture_path(method.name, item.key)  # of an earlier method of this name, if not measured
            kept = method.is_measured and path.is_file()
            pictures.append(read_picture(path) if kept else method.run(item))
        captions = [item.key, *(_caption(table[method.name][item.key]) for method in shown), ""]
        rows.append(SheetRow(item.key, [*pictures, item.target], captions))
    sheet = draw_sheet(["lq", *(method.name for method in shown), "target"], rows)
    atomic_write(store.root / "sheet.png", cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())


def _caption(values: Values) -> str:
    return "  ".join(
        f"{name} {values.metrics[name]['all']:.{digits}f}"
        for name, digits in (("PSNR", 2), ("SSIM", 3), ("EffNet distance", 3))
        if "all" in values.metrics.get(name, {})
    )


def _device_name(word: str) -> str:
    threads = torch.get_num_threads()
    if torch.cuda.is_available() and word in ("auto", "cuda"):
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}, magicbokeh {bokehsynth.__version__}"
    processor = f"{platform.processor() or platform.machine()}, {threads} thread{'s' if threads > 1 else ''}"
    return f"{processor}, torch {torch.__version__}, magicbokeh {bokehsynth.__version__}"
