"""estimate: what a recipe will cost and look like, from its draws alone."""

from pathlib import Path
from typing import Any

import click

from bokehsynth.cli.facts import record
from bokehsynth.cli.options import LOCAL_PATH, recipe_options, samples_option
from bokehsynth.cli.preview import check_png

BINS = 40
BARS = " ▁▂▃▄▅▆▇█"


@click.command()
@recipe_options
@samples_option
@click.option(
    "--draws", default=2000, show_default=True, type=click.IntRange(1, 1_000_000),
    help="Samples to draw, evenly spread over the data set.",
)  # fmt: skip
@click.option(
    "--measure", default=0, metavar="N", type=click.IntRange(0, 1000),
    help="Make and time N samples here, on the CPU, instead of taking time and size from a table.",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Processes to reckon with  [default: as generate]"
)
@click.option("--plot", type=LOCAL_PATH, metavar="FILE", help="Also draw the distributions as a PNG.")
def estimate(
    recipe: str,
    overrides: tuple[str, ...],
    samples: int | None,
    draws: int,
    measure: int,
    workers: int | None,
    plot: Path | None,
) -> None:
    """Tell time, size and distributions of RECIPE without rendering anything.

    Every random choice of a sample follows from its index, so a sample can be drawn without being made. Time and size
    come from a table (one core of the machine it names; a factor of two either way) unless --measure makes some. The
    time is that of CPUs; docs/cluster.md says what a GPU changes.

    \b
    Examples:
      bokehsynth estimate quickstart
      bokehsynth estimate paper --set assets.root=/data/matting --samples 1000000 --workers 64
      bokehsynth estimate my.yaml --measure 10 --plot my.png
    """
    from bokehsynth.generation.estimate import estimate as estimate_recipe
    from bokehsynth.generation.estimate import plot_distributions
    from bokehsynth.recipe import load_recipe
    from bokehsynth.workers.pool import usable_cpus

    if plot is not None:
        check_png(plot)
    loaded = load_recipe(recipe, overrides, samples)
    found = estimate_recipe(loaded, draws, measure)
    workers = workers or usable_cpus()
    record(
        name=loaded.name, counts=found.counts, shards=found.shards, workers=workers, draws=found.draws,
        seconds=found.samples * found.cost.seconds / workers, bytes=found.bytes,
        seconds_per_sample=found.cost.seconds, bytes_per_sample=found.cost.bytes, measured=found.cost.measured,
        quantiles={each.name: [each.quantile(share) for share in (0.05, 0.5, 0.95)] for each in found.distributions},
        shares={topic: table for topic, table in found.shares.items() if topic != "pictures"},
        notes=[*found.notes, *loaded.catalogue.notes],
    )  # fmt: skip
    for line in _lines(loaded, found, workers):
        click.echo(line)
    if plot is not None:
        plot_distributions(found, plot)
        click.echo(f"wrote {plot}")


def _lines(recipe: Any, found: Any, workers: int) -> list[str]:
    counts = " + ".join(f"{count:,} {split}" for split, count in found.counts.items())
    size = f"{recipe.width} x {recipe.height} px" if recipe.frame else "each in its own size"
    cost = found.cost
    basis = f"measured on {cost.measured} samples here" if cost.measured else "by the table"
    lines = [
        f"{recipe.name}: {counts} samples, {size}, {found.shards:,} shards",
        f"  time   {_duration(found.samples * cost.seconds / workers)} with {workers} workers ({cost.seconds:.2f} s a "
        f"sample, {basis})",
        f"  size   {_bytes(found.bytes)} ({_bytes(cost.bytes)} a sample, "
        f"{_bytes(cost.bytes * min(recipe.shards.samples, found.samples))} a shard)",
        f"  distributions of {found.draws:,} draws:",
    ]
    for distribution in found.distributions:
        low, high = distribution.bounds
        quantiles = " ".join(f"{distribution.quantile(share):.3g}" for share in (0.05, 0.5, 0.95))
        title = f"{distribution.name}, {distribution.unit}"
        lines.append(
            f"    {title:22} {low:g} |{_bars(distribution.histogram(BINS))}| {high:.3g}   5, 50, 95 %: {quantiles}"
        )
    for topic, table in found.shares.items():
        lines.append(f"    {topic:22} {_share_line(topic, table)}")
    return [
        *lines,
        *(f"  note: {note}" for note in found.notes),
        *(f"  note: {n}" for n in recipe.catalogue.notes),
    ]


def _share_line(topic: str, table: dict[str, float]) -> str:
    if topic == "pictures":
        first, last = next(iter(table.items())), list(table.items())[-1]
        return f"{len(table)} shown; most often {first[0]} ({first[1]:.1%}), least often {last[0]} ({last[1]:.1%})"
    shown = [f"{name} {share:.1%}" for name, share in list(table.items())[:8]]
    return ", ".join(shown) + (f", {len(table) - 8} more" if len(table) > 8 else "")


def _bars(shares: list[float]) -> str:
    most = max(*shares, 1e-9)
    return "".join(BARS[0 if share == 0 else 1 + int(share / most * (len(BARS) - 2))] for share in shares)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
