"""The figures as Markdown, CSV, JSON and lines for a terminal."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from magicbokeh.evaluation.bootstrap import LEVEL, RESAMPLES, Interval
from magicbokeh.evaluation.metrics import Metric
from magicbokeh.evaluation.results import Results, Table

ARROWS = {"higher": "↑", "lower": "↓", "nearest 1": "→1"}


def markdown(results: Results) -> str:
    """The report: a table per split, differences to the baseline, costs, notes."""
    split_name = f", split {results.set_split}" if results.set_split else ""
    lines = [f"# {results.set_name}{split_name}: {results.count} samples", ""]
    lines += [
        f"Mean over the samples [{LEVEL:.0%} interval: percentile bootstrap, {RESAMPLES} resamples]. "
        "↑ higher is better, ↓ lower, →1 nearest to 1. docs/evaluation.md says what each number means.",
        "",
    ]
    notes = _Notes(results)
    for split in results.splits:
        metrics = _shown(results, split)
        if not metrics:
            continue
        lines += [f"## {split}", ""]
        lines += _table(["method", *(f"{one.name} {ARROWS[one.better]}" for one in metrics)], [
            [method, *(notes.cell(method, one, split) for one in metrics)] for method in results.methods
        ])  # fmt: skip
        compared = [one for one in metrics if not one.of_set and one.missing is None]
        others = [method for method in results.methods if method != results.baseline]
        if others and compared:
            lines += [f"Differences to {results.baseline}, of the same samples:", ""]
            lines += _table(["method", *(one.name for one in compared)], [
                [method, *(_interval(results.cells[method, one.name, split].difference, one, "+") for one in compared)]
                for method in others
            ])  # fmt: skip
    lines += ["## cost of one picture", ""]
    lines += _table(["method", "seconds", "memory above the loaded model", "GFLOP"], [
        [method, *_costs(results, method, notes)] for method in results.methods
    ])  # fmt: skip
    lines += [f"On {results.device}. Seconds: median of warm calls. GFLOP: torch's products and convolutions only, a "
              "multiply-add as two.", ""]  # fmt: skip
    lines += ["## methods and notes", ""]
    lines += [f"- {name}: {about}" for name, about in results.methods.items()]
    lines += [f"- [^{number}] {text}" for number, text in enumerate(notes.texts, start=1)]
    return "\n".join(lines) + "\n"


def terminal(results: Results) -> str:
    """One table for a terminal: the means of the whole picture, without columns that are empty."""
    split = results.splits[0]
    metrics = [one for one in _shown(results, split) if one.missing is None]
    rows = [["method", *(f"{one.name} {ARROWS[one.better]}" for one in metrics), "s"]]
    for method in results.methods:
        cells = [results.cells[method, one.name, split].value for one in metrics]
        seconds = results.costs[method].seconds
        rows.append(
            [
                method,
                *(
                    "" if cell is None else f"{cell.mean:.{one.digits}f}"
                    for cell, one in zip(cells, metrics, strict=True)
                ),
                "" if seconds is None else f"{seconds:.2f}",
            ]
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            word.ljust(width) if place == 0 else word.rjust(width)
            for place, (word, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def comma_separated(results: Results) -> str:
    """One line per method, metric and split."""
    columns = ("method", "metric", "better", "split", "samples", "mean", "low", "high",
               "difference", "difference_low", "difference_high", "empty_because")  # fmt: skip
    rows = []
    for metric in results.metrics:
        for split in results.splits:
            for method in results.methods:
                value, difference = results.cells[method, metric.name, split]
                one = [*_numbers(value, metric)[1:], *_numbers(difference, metric)[1:]]
                reason = "" if value is not None else _reason(results, metric, split)
                rows.append([method, metric.name, metric.better, split, _numbers(value, metric)[0], *one, reason])
    return _csv(columns, rows)


def per_sample(table: Table, metrics: Sequence[Metric], splits: Sequence[str]) -> str:
    """One line per sample, method, metric and split, with what was measured."""
    rows = [
        [key, method, metric.name, split, f"{value.metrics[metric.name][split]:.6g}"]
        for method, values in table.items()
        for key, value in values.items()
        for metric in metrics
        for split in splits
        if split in value.metrics.get(metric.name, {})
    ]
    return _csv(("key", "method", "metric", "split", "value"), rows)


def as_json(results: Results) -> str:
    """All figures."""
    found: dict[str, Any] = {
        "set": results.set_name,
        "set_split": results.set_split,
        "samples": results.count,
        "baseline": results.baseline,
        "device": results.device,
        "methods": dict(results.methods),
        "metrics": [asdict(metric) for metric in results.metrics],
        "figures": [
            {
                "method": method,
                "metric": metric,
                "split": split,
                "value": None if cell.value is None else asdict(cell.value),
                "difference": None if cell.difference is None else asdict(cell.difference),
            }
            for (method, metric, split), cell in results.cells.items()
        ],
        "costs": {method: cost._asdict() for method, cost in results.costs.items()},
    }
    return json.dumps(found, indent=1) + "\n"


class _Notes:
    """Numbers the reasons of empty cells."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.texts: list[str] = []

    def cell(self, method: str, metric: Metric, split: str) -> str:
        value = self.results.cells[method, metric.name, split].value
        if value is not None:
            return _interval(value, metric, "")
        text = f"{metric.name}: {_reason(self.results, metric, split)}"
        return self.mark(text)

    def mark(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return f"[^{self.texts.index(text) + 1}]"


def _reason(results: Results, metric: Metric, split: str) -> str:
    if metric.missing is not None:
        return metric.missing
    if metric.of_set:
        return "needs two pictures at least"
    return f"not measured {'of the whole picture' if split == results.splits[0] else split}"


def _shown(results: Results, split: str) -> list[Metric]:
    """The metrics of a split's table; one that is missing altogether is shown once, in the first."""
    first = split == results.splits[0]
    return [
        metric
        for metric in results.metrics
        if (metric.missing is not None and first)
        or (metric.missing is None and split not in results.empty_splits(metric.name))
    ]


def _interval(value: Interval | None, metric: Metric, sign: str) -> str:
    if value is None:
        return ""
    form = f"{sign}.{metric.digits}f"
    if metric.of_set:
        return f"{value.mean:{form}}"
    return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"


def _numbers(value: Interval | None, metric: Metric) -> list[str]:
    """Count, mean, low, high; a set-level number has no interval."""
    if value is None:
        return ["", "", "", ""]
    ends = ["", ""] if metric.of_set else [f"{value.low:.6g}", f"{value.high:.6g}"]
    return [str(value.count), f"{value.mean:.6g}", *ends]


def _costs(results: Results, method: str, notes: _Notes) -> list[str]:
    seconds, memory, flops, untimed = results.costs[method]
    empty = notes.mark(f"seconds: {untimed}") if untimed else ""
    return [
        empty if seconds is None else f"{seconds:.3g}",
        "" if memory is None else f"{memory / 2**20:.0f} MiB",
        "" if flops is None else f"{flops / 1e9:.4g}",
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return [*lines, ""]


def _csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
