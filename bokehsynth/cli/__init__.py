"""The command line: options in, a call of the library, exit codes out. Nothing here is worth testing without click."""

import sys
import warnings

import click

import bokehsynth
from bokehsynth.cli import assets, data, estimate, inspect, pictures, recipes, render
from bokehsynth.errors import BokehsynthError

COMMANDS = [
    data.generate,
    pictures.preview,
    estimate.estimate,
    assets.assets,
    data.verify,
    inspect.replay,
    data.finalize,
    render.render,
    pictures.degrade,
    recipes.recipes,
    recipes.schema,
]


class _Group(click.Group):
    """Lists commands in the order a newcomer needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(bokehsynth.__version__, prog_name="bokehsynth")
def cli() -> None:
    """Make bokeh training data: scenes through a thin lens, degraded, in WebDataset shards.

    \b
    First steps:
      bokehsynth generate quickstart --out demo    a small data set and demo/preview.png
      bokehsynth recipes                           the packaged recipes
      bokehsynth preview my.yaml --out sheet.png   look before you make thousands

    \b
    Exit codes: 0 done; 1 unexpected error or damage found; 2 usage, recipe or device; 3 done, but some files or
    samples are in quarantine; 4 disk or permission; 5 locked by another run; 6 too many failures; 130, 143
    interrupted.
    """


for _command in COMMANDS:
    cli.add_command(_command)


def main() -> None:
    """Entry point of the console script: errors as messages, interrupts as 130 and 143, never 0."""
    warnings.simplefilter("default")
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except BokehsynthError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        code = 130
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        sys.stderr.close()
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
