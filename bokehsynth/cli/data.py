"""generate, verify, finalize: commands that make and check data sets."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bokehsynth.generate import Outcome

from bokehsynth.cli.options import device_option, recipe_options, samples_option
from bokehsynth.engines.stopping import Stopped, stop_on_signals
from bokehsynth.errors import DataError


@click.command()
@recipe_options
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory of the data set.")
@samples_option
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Processes  [default: one per CPU]")
@device_option
@click.option(
    "--engine", default="local", show_default=True, type=click.Choice(["local"]), help="Where the workers run."
)
@click.option(
    "--shards", default="0/1", metavar="I/N", help="Make only the I-th of N ranges of the shards, zero-based."
)
@click.option(
    "--allow-mixed", is_flag=True, help="Go on with other versions or another kind of CPU than the set was begun with."
)
@click.option("--quiet", "-q", is_flag=True, help="No progress bar and no closing words.")
def generate(
    recipe: str,
    overrides: tuple[str, ...],
    out: Path,
    samples: int | None,
    workers: int | None,
    device: str,
    engine: str,
    shards: str,
    allow_mixed: bool,
    quiet: bool,
) -> None:
    """Make a data set from RECIPE, a file or the name of a packaged recipe.

    Run the same line again after any interruption: what is committed stays, only what is missing is made. On a
    finished set it does nothing. The bytes are the same for any number of workers and any order.

    \b
    Examples:
      bokehsynth generate quickstart --out demo
      bokehsynth generate my.yaml --out set --samples 10000 --workers 16
      bokehsynth generate my.yaml --out set --set scene.blur=24 --set size=768
    """
    from bokehsynth.generate import generate as make
    from bokehsynth.recipe import load_recipe

    try:
        with stop_on_signals():
            outcome = make(
                load_recipe(recipe, overrides, samples), out, workers=workers, device=device, shards=shards,
                allow_mixed=allow_mixed, progress=not quiet, say=lambda message: click.echo(message, err=True),
            )  # fmt: skip
    except Stopped as stop:
        line = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        click.echo(f"\ninterrupted; what was committed stays. To go on: {line}", err=True)
        sys.exit(128 + stop.number)
    if not quiet:
        _closing_words(out, outcome)
    if outcome.quarantined:
        sys.exit(3)


def _closing_words(out: Path, outcome: "Outcome") -> None:
    if outcome.quarantined:
        click.echo(
            f"{out}: {outcome.quarantined} files could not be used; {out / 'quarantine.jsonl'} says why.", err=True
        )
    if not outcome.complete:
        click.echo(f"{out}: this range is done ({outcome.made} samples made now); other ranges are still missing.")
    elif outcome.made == 0:
        click.echo(f"{out}: already complete, {outcome.samples} samples; nothing to do.")
    else:
        click.echo(f"{out}: complete, {outcome.samples} samples. Look at {out / 'preview.png'}")


@click.command()
@click.argument("dataset", metavar="DATASET", type=click.Path(path_type=Path))
@click.option(
    "--decode", default=1.0, show_default=True, type=click.FloatRange(0, 1),
    help="Share of the samples whose pictures are decoded and compared with their digests.",
)  # fmt: skip
@click.option("--workers", default=2, show_default=True, type=click.IntRange(min=1), help="Threads.")
@click.option("--fix", is_flag=True, help="Let the next `generate` remake what is damaged (takes its markers away).")
def verify(dataset: Path, decode: float, workers: int, fix: bool) -> None:
    """Check every byte of DATASET against its markers: hashes, members, keys, pixels, totals, strays, recipe, assets.

    Reads everything and, without --fix, changes nothing. Exit code 1 if anything is wrong, with one line per fault.
    """
    from bokehsynth.generate import verify as check

    report = check(dataset, decode, workers, fix)
    for fault in report.faults:
        where = fault.split if fault.shard is None else f"{fault.split} shard {fault.shard}"
        click.echo(f"{where}: {fault.kind}: {fault.message}".removeprefix(": "))
    if report.faults:
        way_out = "now run the generate line again" if fix else "`verify --fix`, then the generate line again"
        raise DataError(f"{dataset}: {len(report.faults)} faults; to mend them: {way_out} (strays: move them away)")
    click.echo(
        f"{dataset}: whole. {report.shards} shards, {report.samples} samples ({report.decoded} decoded), "
        f"{report.bytes / 1e6:.1f} MB"
    )


@click.command()
@click.argument("dataset", metavar="DATASET", type=click.Path(path_type=Path))
def finalize(dataset: Path) -> None:
    """Write dataset.json, the card and the preview of DATASET once all its shards are committed.

    `generate` does this by itself; this is for sets whose ranges were made by jobs that never saw the end.
    """
    from bokehsynth.generate import finalize as finish

    outcome = finish(dataset)
    click.echo(f"{dataset}: complete, {outcome.samples} samples.")
