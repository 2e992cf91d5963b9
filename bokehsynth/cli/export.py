"""export: a data set in another form."""

from pathlib import Path
from typing import Literal

import click

from bokehsynth.cli.facts import record
from bokehsynth.cli.options import DATA_PATH, LOCAL_PATH, progress_bar
from bokehsynth.stores import StoredPath


@click.command()
@click.argument("dataset", metavar="DATASET", type=DATA_PATH)
@click.option(
    "--to", "form", required=True, type=click.Choice(["folder", "parquet", "mds"]),
    help="folder: a folder of files for each field. parquet: a file for each shard, pictures as Hugging Face's Image. "
    "mds: a file for each shard, as MosaicML's streaming reads them.",
)  # fmt: skip
@click.option("--out", required=True, type=LOCAL_PATH, help="Folder to write; a new one, or one to go on with.")
def export(dataset: StoredPath, form: Literal["folder", "parquet", "mds"], out: Path) -> None:
    """Write DATASET in another form, each member as it is stored: nothing is encoded anew, so nothing is lost.

    Every shard is compared with its sha256 first, and no file that is there is written over. The same line goes on
    after an interruption.

    \b
    Examples:
      bokehsynth export demo --to folder --out demo-files      demo-files/train/lq/train-000000000.png
      bokehsynth export demo --to parquet --out demo-parquet   datasets.load_dataset("demo-parquet")
      bokehsynth export demo --to mds --out demo-mds           StreamingDataset(local="demo-mds", split="train")
    """
    from bokehsynth.generation.export.run import export_dataset

    samples = export_dataset(dataset, out, form, progress_bar("shard"))
    record(out=out, samples=samples, form=form)
    click.echo(f"{out}: {samples} samples as {form}")
