"""Options that several commands share."""

from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]


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
        help="Where to render. auto takes CUDA when it works.",
    )(command)  # fmt: skip
