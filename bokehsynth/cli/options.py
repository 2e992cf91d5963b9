"""Options that several commands share."""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from bokehsynth.files import data_path, local_path

Command = Callable[..., Any]


class LocalPath(click.Path):
    """A path of this computer as a Path, with `~` expanded; a URL ends the command with exit code 2."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert the word of a command line."""
        return local_path(str(super().convert(local_path(os.fsdecode(value)), param, ctx)))


class DataPath(LocalPath):
    """Where a data set lies: a path of this computer, or a URL of a bucket."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert the word of a command line."""
        place = data_path(os.fsdecode(value))
        return super().convert(value, param, ctx) if isinstance(place, Path) else place


LOCAL_PATH = LocalPath()
DATA_PATH = DataPath()


def progress_bar(unit: str) -> Callable[[Iterable[Any], str, int], Iterable[Any]]:
    """What shows a bar on a terminal over items, with a name and their number, counted in `unit`."""

    def show(items: Iterable[Any], name: str, total: int) -> Iterable[Any]:
        from tqdm import tqdm

        return tqdm(items, name, total, unit=unit, leave=False, disable=not sys.stderr.isatty())

    return show


def recipe_options(command: Command) -> Command:
    """RECIPE, --set and --samples."""
    command = click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE",
        help="Replace one key of the recipe (dotted path); the value is read as YAML 1.2. May be given again.",
    )(command)  # fmt: skip
    return click.argument("recipe", metavar="RECIPE")(command)


def samples_option(command: Command) -> Command:
    """--samples N in all."""
    return click.option(
        "--samples", type=click.IntRange(min=1), metavar="N",
        help="Samples in all, shared out in the recipe's own proportion (val rounded up).",
    )(command)  # fmt: skip


def device_option(command: Command) -> Command:
    """--device."""
    return click.option(
        "--device", default="auto", show_default=True, metavar="auto|cpu|cuda",
        help="Where to render. auto takes CUDA when it works; with a data set that was begun, what it was begun on.",
    )(command)  # fmt: skip


def trust_option(command: Command) -> Command:
    """--trust-code."""
    return click.option(
        "--trust-code", is_flag=True,
        help="Trust the data set: import classes outside bokehsynth that it names (a lens, a step), which runs their "
        "code, and replay scenes of any size.",
    )(command)  # fmt: skip


def moved_option(command: Command) -> Command:
    """--set, of a data set."""
    return click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE",
        help="Where the set's pictures are now, if they were moved: assets.root=FOLDER. May be given again.",
    )(command)  # fmt: skip


def lock_option(command: Command) -> Command:
    """--no-lock."""
    return click.option(
        "--no-lock", "lock", is_flag=True, flag_value=False, default=True,
        help="For file systems without locks: hold none. No other run may work on the set meanwhile.",
    )(command)  # fmt: skip


def run_options(command: Command) -> Command:
    """How the work is done; none of these changes a byte."""
    options: list[Callable[[Command], Command]] = [
        click.option(
            "--workers", type=click.IntRange(min=1), metavar="N",
            help="Processes in all  [default: one per CPU; on cuda less one for each GPU, at least one per GPU; "
            "with --engine ray one per two CPUs there, in a cluster that is there already as many as it has room for]",
        ),
        device_option,
        click.option(
            "--gpus", type=click.IntRange(min=1), metavar="N",
            help="On cuda: how many of the visible GPUs to use, the workers spread over them  [default: all]",
        ),
        click.option(
            "--engine", default="local", show_default=True, type=click.Choice(["local", "ray"]),
            help="Where the workers run: on this machine, or in a Ray cluster (docs/cluster.md).",
        ),
        click.option(
            "--ray-address", metavar="ADDRESS",
            help="With --engine ray: the cluster to join (auto, HOST:PORT)  [default: RAY_ADDRESS, else one started on "
            "this machine for the run]",
        ),
        click.option(
            "--shards", default="0/1", metavar="I/N", help="Make only the I-th of N ranges of the shards, zero-based."
        ),
        click.option(
            "--allow-mixed", is_flag=True,
            help="Go on with other versions, or another kind of CPU or device, than the set was begun with.",
        ),
        click.option(
            "--grace", default=25.0, show_default=True, type=click.FloatRange(min=0), metavar="SECONDS",
            help="For shards in flight after SIGTERM or Ctrl-C.",
        ),
        click.option(
            "--time-limit", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
            help="End a worker that finishes no sample for so long  [default: 20 s (engine ray: 90 s), or 50 times the "
            "running median, on cuda for each of a worker's threads]",
        ),
        lock_option,
        click.option("--quiet", "-q", is_flag=True, help="No progress bar and no summary."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command
