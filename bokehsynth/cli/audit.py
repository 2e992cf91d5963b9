"""audit: random samples of a data set, made again from its recipe."""

import click

from bokehsynth.cli.facts import record
from bokehsynth.cli.options import DATA_PATH, device_option, moved_option, progress_bar, trust_option
from bokehsynth.stores import StoredPath


@click.command()
@click.argument("dataset", metavar="DATASET", type=DATA_PATH)
@click.option("--samples", default=300, show_default=True, type=click.IntRange(min=1), help="Samples to make again.")
@click.option("--seed", type=int, help="Choose the same samples again  [default: by chance]")
@device_option
@moved_option
@trust_option
def audit(
    dataset: StoredPath, samples: int, seed: int | None, device: str, overrides: tuple[str, ...], trust_code: bool
) -> None:
    """Make random samples of DATASET again from its recipe, compare them, and say how many others may differ.

    The answer is a bound, exact whatever the set: of 300 samples without a fault follows that fewer than 1 % of all
    differ, at 95 %. Exit code 1 if any of them differs, or if dataset.json does not fit the shards. Run it on the kind
    of machine that made the set; `verify` compares every byte with its hash, which needs no rendering.

    \b
    Examples:
      bokehsynth audit set
      bokehsynth audit s3://bucket/set --samples 1000
    """
    from bokehsynth.generation.audit import audit as look
    from bokehsynth.generation.audit import refuse_differences

    report = look(dataset, samples, device, seed, trust_code, overrides, progress_bar("sample"))
    record(
        total=report.total, audited=report.audited, differing=report.differing, most_that_differ=report.bound,
        has_root=report.has_root,
    )  # fmt: skip
    refuse_differences(dataset, report)
    if not report.has_root:
        click.echo("note: dataset.json has no root of pixel hashes: the set was completed before version 0.5", err=True)
    click.echo(f"{dataset}: {report.sentence}")
