"""generate, extend, verify, finalize: commands that make and check data sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bokehsynth.cli.facts import record
from bokehsynth.cli.options import (
    DATA_PATH,
    LocalPath,
    lock_option,
    moved_option,
    recipe_options,
    run_options,
    samples_option,
    trust_option,
)
from bokehsynth.cli.run import echo, supervise
from bokehsynth.errors import DataError, printable
from bokehsynth.stores import StoredPath

if TYPE_CHECKING:
    from bokehsynth.generation.generate import GenerateResult


@click.command()
@recipe_options
@click.option(
    "--out", required=True, type=DATA_PATH, help="Folder of the data set, or s3://bucket/folder (gs://, az://)."
)
@samples_option
@click.option(
    "--quarantine", type=LocalPath(exists=True, dir_okay=False), metavar="FILE",
    help="Take over the quarantine.jsonl of another run of the recipe: the same list gives the same bytes anywhere.",
)  # fmt: skip
@run_options
def generate(
    recipe: str,
    overrides: tuple[str, ...],
    out: StoredPath,
    samples: int | None,
    quarantine: Path | None,
    **options: Any,
) -> None:
    """Make a data set from RECIPE, a file or the name of a packaged recipe.

    Run the same line again after any interruption: what is committed stays, only what is missing is made. On a
    finished set it does nothing. The bytes are the same for any number of workers and any order.

    A sample that kills its worker again and again, that hangs, or whose pictures are no use is put in quarantine.jsonl
    and drawn anew; the exit code is then 3. SIGTERM or Ctrl-C finishes the shards in flight within --grace seconds and
    says how to go on (exit 143 or 130); a second one ends everything at once.

    \b
    Examples:
      bokehsynth generate quickstart --out demo
      bokehsynth generate my.yaml --out set --samples 10000 --workers 16
      bokehsynth generate my.yaml --out set --set scene.blur=24 --set size=768
      bokehsynth generate my.yaml --out /shared/set --shards 3/8       (docs/cluster.md)
      bokehsynth generate my.yaml --out s3://bucket/set
    """
    from bokehsynth.generation.generate import GenerateOptions, run_generation
    from bokehsynth.recipe import load_recipe
    from bokehsynth.shards import Layout

    def work(**run: Any) -> "GenerateResult":
        loaded = load_recipe(recipe, overrides, samples)
        return run_generation(loaded, Layout(out), GenerateOptions(quarantine=quarantine, **run))

    supervise(work, out, **options)


@click.command()
@click.argument("dataset", metavar="DATASET", type=DATA_PATH)
@click.option(
    "--samples", required=True, type=click.IntRange(min=1), metavar="N",
    help="Samples in all after the extension, shared out in the set's own proportion (val rounded up).",
)  # fmt: skip
@moved_option
@trust_option
@run_options
def extend(dataset: StoredPath, samples: int, overrides: tuple[str, ...], trust_code: bool, **options: Any) -> None:
    """Make the finished DATASET larger. Shards are appended; those that are there keep every byte.

    Run the same line again after any interruption. Readers of the set see the old one until the new one is whole.
    Its photographs must be those that it was made from; where they were moved, say so.

    \b
    Examples:
      bokehsynth extend set --samples 20000 --workers 16
      bokehsynth extend set --samples 20000 --set assets.root=/new/place
    """
    from bokehsynth.generation.extend import extend as lengthen
    from bokehsynth.generation.generate import GenerateOptions

    def work(**run: Any) -> "GenerateResult":
        return lengthen(dataset, samples, GenerateOptions(**run), trust_code, overrides)

    supervise(work, dataset, **options)


@click.command()
@click.argument("dataset", metavar="DATASET", type=DATA_PATH)
@click.option(
    "--decode", default=1.0, show_default=True, type=click.FloatRange(0, 1),
    help="Share of the samples whose pictures are decoded and compared with their digests.",
)  # fmt: skip
@click.option("--workers", default=2, show_default=True, type=click.IntRange(min=1), help="Threads.")
@click.option(
    "--shards", default="0/1", metavar="I/N",
    help="Read only the I-th of N ranges of the shards, zero-based: N machines share the work.",
)  # fmt: skip
@click.option(
    "--fix", is_flag=True,
    help="Write lost markers and indices anew from the tars; let the next `generate` remake what is damaged (takes its "
    "markers away; in a bucket, where no run puts a tar over another, also damaged tars and what has no valid marker).",
)  # fmt: skip
@trust_option
@lock_option
def verify(
    dataset: StoredPath, decode: float, workers: int, shards: str, fix: bool, trust_code: bool, lock: bool
) -> None:
    """Check every byte of DATASET against its markers: hashes, members, keys, pixels, totals, strays, recipe, assets.

    Reads everything and, without --fix, changes nothing. Exit code 1 if anything is wrong, with one line per fault.
    """
    from bokehsynth.generation.verify import verify as check

    report = check(dataset, decode, workers, fix, trust_code, lock, shards)
    record(
        shards=report.shards, samples=report.samples, decoded=report.decoded, bytes=report.bytes, mended=report.mended,
        faults=[vars(fault) for fault in report.faults], not_compared=report.not_compared,
    )  # fmt: skip
    for fault in report.faults:
        where = fault.split if fault.shard is None else f"{fault.split} shard {fault.shard}"
        echo(printable(f"{where}: {fault.kind}: {fault.message}".removeprefix(": "), keep="\n"))
    for path in report.not_compared:
        echo(f"note: {path!r} was not imported, so its code was not compared (--trust-code does it)", err=True)
    if report.mended:
        raise DataError(f"{dataset}: {len(report.faults)} faults, mended from the tars: nothing has to be made anew")
    if report.faults:
        way_out = f"{'now run' if fix else '`verify --fix`, then'} the generate (or extend) line again"
        raise DataError(f"{dataset}: {len(report.faults)} faults; to mend them: {way_out} (strays: move them away)")
    part = "" if shards.endswith("/1") else f" in range {shards}"
    echo(
        f"{dataset}: whole{part}. {report.shards} shards, {report.samples} samples ({report.decoded} decoded), "
        f"{report.bytes / 1e6:.1f} MB"
    )


@click.command()
@click.argument("dataset", metavar="DATASET", type=DATA_PATH)
@moved_option
@trust_option
@lock_option
def finalize(dataset: StoredPath, overrides: tuple[str, ...], trust_code: bool, lock: bool) -> None:
    """Write dataset.json, the card and the preview of DATASET once all its shards are committed.

    `generate` does this by itself; this is for sets whose ranges were made by jobs that never saw the end.
    """
    from bokehsynth.generation.generate import finalize as finish

    result = finish(dataset, trust_code, lock, overrides)
    record(out=dataset, samples=result.samples, complete=result.complete)
    echo(f"{dataset}: complete, {result.samples} samples.")


@click.command()
@click.argument("dataset", metavar="SET", type=DATA_PATH)
@click.argument("parts", metavar="PART...", nargs=-1, required=True, type=DATA_PATH)
@click.option("--allow-mixed", is_flag=True, help="Take parts of another kind of machine or of other versions, too.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@moved_option
@trust_option
@lock_option
def merge(
    dataset: StoredPath, parts: tuple[StoredPath, ...], allow_mixed: bool, quiet: bool, overrides: tuple[str, ...],
    trust_code: bool, lock: bool,
) -> None:  # fmt: skip
    """Copy into SET the shards that it lacks from PARTs, and complete it: parts of one set that were made apart.

    A part is what `generate RECIPE --out PART --shards I/N` made, here, or on a machine that shares no folder with this
    one; SET is one of them. Run the same line again after any interruption. Exit code 1 while shards are missing.

    \b
    Example:
      bokehsynth generate my.yaml --out a --shards 0/2     on one machine
      bokehsynth generate my.yaml --out b --shards 1/2     on another
      bokehsynth merge a b
    """
    from bokehsynth.generation.merge import merge as put_together

    result = put_together(
        dataset, parts, trust_code=trust_code, lock=lock, allow_mixed=allow_mixed, overrides=overrides,
        progress=not quiet,
    )  # fmt: skip
    record(out=dataset, copied=result.copied, missing=result.missing, complete=result.finished is not None)
    if result.finished is None:
        names = f"{', '.join(result.missing[:8])}{' ...' if len(result.missing) > 8 else ''}"
        raise DataError(
            f"{dataset}: {result.copied} shards copied, {len(result.missing)} are in no part: {names}; merge the parts "
            "that have them, or run the generate line here to make them"
        )
    echo(f"{dataset}: {result.copied} shards copied; complete, {result.finished.samples} samples.")
