"""report: one HTML page about a data set, to look at and to show."""

from pathlib import Path

import click

from bokehsynth.cli.facts import record
from bokehsynth.cli.options import DATA_PATH, LOCAL_PATH, progress_bar
from bokehsynth.errors import UsageError
from bokehsynth.stores import StoredPath


@click.command()
@click.argument("dataset", metavar="DATASET", type=DATA_PATH)
@click.option("--out", default="report.html", show_default=True, type=LOCAL_PATH, help="HTML file to write.")
@click.option("--samples", default=64, show_default=True, type=click.IntRange(1, 256), help="Samples to show.")
@click.option(
    "--records", default=20_000, show_default=True, type=click.IntRange(1, 1_000_000),
    help="Samples whose records the distributions are taken from, at most.",
)  # fmt: skip
def report(dataset: StoredPath, out: Path, samples: int, records: int) -> None:
    """Write one HTML page about DATASET: samples, distributions, assets and licences, quarantine, how it was made.

    The page is one file that loads nothing, so it can be mailed, and it runs nothing that the data set names. Damage
    that keeps a shard from being read is an error; `bokehsynth verify` finds all of it.

    \b
    Examples:
      bokehsynth report demo
      bokehsynth report /data/set --out set.html --samples 24
    """
    from bokehsynth.generation.report.write import write_report

    check_html(out)
    size = write_report(dataset, out, samples, records, progress_bar("sample"))
    record(out=out, bytes=size)
    click.echo(f"wrote {out} ({size / 1e6:.1f} MB)")


def check_html(path: Path) -> None:
    """Check before any work that a browser will know the file, and that its folder exists."""
    if path.suffix.lower() not in {".html", ".htm"}:
        raise UsageError(f"{path}: must end in .html: it is a page for a browser")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.absolute().parent}")
