"""publish: a data set as a repository of the Hugging Face Hub."""

from pathlib import Path

import click

from bokehsynth.cli.facts import record
from bokehsynth.cli.options import LOCAL_PATH
from bokehsynth.cli.run import echo


@click.command()
@click.argument("dataset", metavar="DATASET", type=LOCAL_PATH)
@click.argument("repo", metavar="NAME/SET")
@click.option("--private", is_flag=True, help="If the repository has to be made: not for the public.")
def publish(dataset: Path, repo: str, private: bool) -> None:
    """Upload DATASET, a finished set, as the dataset repository NAME/SET of the Hugging Face Hub (extra `hub`).

    Shards, indices, recipe, assets and card go first, dataset.json last: a reader that finds it finds everything. Logs
    stay here. The token is that of `hf auth login` or HF_TOKEN. The same line goes on after an interruption.

    \b
    Example:
      bokehsynth publish demo my-name/bokeh-demo       then: datasets.load_dataset("my-name/bokeh-demo")
    """
    from bokehsynth.generation.publish import publish as upload

    address = upload(dataset, repo, private, echo)
    record(repo=repo, address=address)
    echo(f"{dataset}: published, {address}")
