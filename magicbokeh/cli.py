"""The command line of magicbokeh: parses options, calls the library, and maps errors to exit codes."""

import os
from pathlib import Path
from typing import Any

import click

import bokehsynth
from bokehsynth import BokehsynthError, UsageError
from magicbokeh.given_files import local_path, printable
from magicbokeh.one_exit import GuardedCommand, echo, echo_error, run


class _LocalPath(click.Path):
    """A path of this computer, with `~` expanded; a URL ends the command with exit code 2."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert the word of a command line."""
        return local_path(os.fsdecode(value))


class _ModelSource(click.types.StringParamType):
    """A folder, or the name of a repository: as text, and no URL."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert the word of a command line."""
        return str(local_path(value))


_PATH, _MODEL = _LocalPath(), _ModelSource()


class _Group(click.Group):
    """Lists commands in the order of their definition."""

    command_class = GuardedCommand

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(bokehsynth.__version__, prog_name="magicbokeh")
def cli() -> None:
    """Restore degraded photographs and give them shallow depth of field, in one step of a network.

    \b
    First steps:
      magicbokeh train tiny --out run                                a toy from nothing, in minutes on a CPU
      magicbokeh convert --base SD21 --lora lora.pkl --out model     the official weights, read without running them
      magicbokeh infer photo.jpg --out results                       by the model in the box; --focus 812,640 --blur 24

    \b
    Exit codes: 0 done; 1 unexpected error (its traceback is kept in a file, which the message names) or damaged
    weights; 2 usage or device; 3 done, but for photos that cannot be used; 4 disk or permission; 5 another training
    is at work there; 130, 143 interrupted.
    """


@cli.command()
@click.argument("photos", metavar="PHOTO...", nargs=-1, required=True, type=_PATH)
@click.option(
    "--model", type=_MODEL, help="Folder made by convert or export, or a repository of one.  [default: packaged]"
)
@click.option("--out", required=True, type=_PATH, help="Folder for the results, one PNG of the same name per photo.")
@click.option(
    "--focus", "focuses", multiple=True, metavar="X,Y",
    help="What is sharp: x,y in pixels of the upright photo (again for several points), a box x0,y0,x1,y1, a "
    "disparity 0..1, a mask file, or auto.  [default: auto]",
)  # fmt: skip
@click.option(
    "--blur", default=16.0, show_default=True, type=click.FloatRange(min=0),
    help="Blur radius per unit of disparity difference, pixels at 512 px of the shorter side; 0 restores only.",
)  # fmt: skip
@click.option(
    "--focus-range", default=0.0, show_default=True, type=click.FloatRange(0, 1),
    help="Half width, in disparity, of a zone around the focus that stays sharp.",
)  # fmt: skip
@click.option(
    "--depth", type=_PATH, metavar="MAP", help="Disparity map, 1 = near: .npy or grey picture. For one photo."
)
@click.option(
    "--depth-model", metavar="DIR", type=_MODEL,
    help="Depth network: Depth Anything V2 in transformers' layout (folder or repository), or a run that trained one.  "
    "[default: the model's own, or else the packaged one]",
)  # fmt: skip
@click.option("--sweep", type=click.Choice(["aperture", "focus"]), help="A strip of pictures instead of one.")
@click.option("--steps", default=5, show_default=True, type=click.IntRange(2, 50), help="Pictures of a strip.")
@click.option("--work-size", metavar="PX|full", help="Shorter side at which the network works.  [default: by the blur]")
@click.option(
    "--color", default="auto", show_default=True, type=click.Choice(["auto", "focus", "wavelet", "adain", "none"]),
    help="How colour is brought back to the photo's; auto: not at all where the codec loses nothing, else focus.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), help="Draw the latents from this seed instead of their mode.")
@click.option("--tile-batch", default=1, show_default=True, type=click.IntRange(min=1), help="Tiles at once.")
@click.option(
    "--maps", is_flag=True, help="Also write NAME.defocus.npy (radius in photo pixels) and NAME.disparity.npy."
)
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where to run.")
@click.option(
    "--dtype", type=click.Choice(["float32", "float16"]), help="[default: float16 on CUDA, float32 on the CPU]"
)
def infer(photos: tuple[Path, ...], out: Path, **options: Any) -> None:
    """Restore PHOTOs and blur what is out of focus; the results keep size, colour profile and EXIF.

    A photo that cannot be read, or is under 16 px, is reported, the others are done, and the exit code is 3.
    """
    from magicbokeh.inference.infer import InferOptions, infer_photos, taken_by_default

    settings = InferOptions(focus=options.pop("focuses"), **options)
    for line in taken_by_default(settings):
        echo(line)
    failed = 0
    for photo, outcome in infer_photos(photos, out, settings):
        if isinstance(outcome, BokehsynthError):
            failed += 1
            echo_error(str(outcome))
        else:
            echo(f"{photo.name} -> {outcome}")
    if failed:
        raise _UnreadableError(f"{failed} of {len(photos)} photos could not be used")


@cli.command()
@click.option("--base", required=True, type=_PATH, help="Stable Diffusion 2.1-base: a folder with unet/ and vae/.")
@click.option("--lora", required=True, type=_PATH, help="The official lora.pkl.")
@click.option("--depth", type=_PATH, help="The official DAdepth.pth.")
@click.option("--out", required=True, type=_PATH, help="Pipeline folder to write; must not be there yet.")
def convert(base: Path, lora: Path, depth: Path | None, out: Path) -> None:
    """Turn the official files into a pipeline folder of safetensors. Nothing in them is executed.

    The weights keep their licences: CreativeML Open RAIL++-M for Stable Diffusion, the authors' for theirs.
    """
    from magicbokeh.conversion.official import convert_official

    echo(f"wrote {convert_official(base, lora, out, depth)}")


@cli.command()
@click.argument("recipe", metavar="RECIPE")
@click.option("--out", required=True, type=_PATH, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in --out, at step 0 if there is none.")
@click.option(
    "--init", type=_PATH, metavar="FOLDER",
    help="Weights to start from: a pipeline folder (convert), another run, or Stable Diffusion 2.1-base.",
)  # fmt: skip
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe: dotted key, YAML value.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def train(recipe: str, out: Path, resume: bool, init: Path | None, changes: tuple[str, ...], quiet: bool) -> None:
    """Train by RECIPE, a file or a packaged name: tiny, sr, alternate, depth, ...

    An interrupted run goes on with the same line and --resume, and ends in the same weights.
    On several GPUs: accelerate launch --num_processes 4 -m magicbokeh train RECIPE --out RUN

    \b
    Exit codes: 0 done (also when there was nothing to do); 1 the loss is not finite, or damaged files;
    2 usage, recipe or device; 4 disk; 5 another training is at work in --out; 130, 143 interrupted.
    """
    from magicbokeh.recipe import load_train_recipe
    from magicbokeh.training.run import train as train_model

    result = train_model(
        load_train_recipe(recipe, changes), out, resume=resume, init=init, progress=not quiet, report=_report
    )
    if not result.is_main_process:
        return
    echo(f"{result.run}: {result.steps} steps done; `magicbokeh export {result.run} MODEL` makes a model of it")
    if not result.learned:
        worse = ", ".join(task for task, score in result.scores.items() if not score.beats_lq)
        click.echo(printable(f"NOT LEARNING: {worse}: the model is no better than its input"), err=True)


def _report(message: str) -> None:
    """Print a line above the progress bars."""
    from tqdm import tqdm

    tqdm.write(printable(message))


@cli.command()
@click.argument("source", metavar="RUN", required=False, type=_PATH)
@click.argument("target", metavar="OUT", required=False, type=_PATH)
@click.option("--model", type=_MODEL, help="Pipeline folder or repository, instead of RUN.")
@click.option("--out", type=_PATH, help="Instead of OUT: pipeline folder to write; must not be there yet.")
@click.option("--depth-model", type=_MODEL, help="Put this depth network in: a run that trained one, or a folder.")
@click.option("--checkpoint", default="last", show_default=True, help="Of a run: last, best or step-N.")
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float32", "float16"]))
def export(source: Path | None, target: Path | None, model: str | None, out: Path | None, **options: str) -> None:
    """Write the model of RUN (or --model) into the new folder OUT, ready for `infer`.

    LoRAs and time embeddings are merged into the weights: the same pictures, smaller and faster. Such a model is not
    trained further; `train --init` takes the run itself.
    """
    from magicbokeh.inference.infer import export_model

    if (source is None) == (model is None) or (target is None) == (out is None):
        raise UsageError("export: give RUN OUT, or --model MODEL --out OUT")
    folder = target or out
    assert folder is not None
    echo(f"wrote {export_model(str(source or model), folder, **options)}")


@cli.command()
@click.option(
    "--model", type=_MODEL, help="Folder made by convert or export, or a repository of one.  [default: packaged]"
)
@click.option("--depth-model", metavar="DIR", type=_MODEL, help="Depth network, as infer takes it.")
@click.option(
    "--compare", multiple=True, metavar="NAME=FOLDER",
    help="A method and its pictures, two or more of equal names: a second page asks which is best.",
)  # fmt: skip
@click.option(
    "--votes", default="votes.csv", show_default=True, type=_PATH, help="CSV file of the second page's votes."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Whose requests are answered; 0.0.0.0 for all.")
@click.option("--port", default=7860, show_default=True, type=click.IntRange(0, 65535), help="0 for any that is free.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where to run.")
def demo(**options: Any) -> None:
    """Open a page to try a model on: click what shall be sharp, compare before and after, download.

    With --compare a second page shows pictures of several methods without their names and counts which is liked best.
    Photographs are sent nowhere; a model that is not on this computer is fetched at start. There is no password, so
    think before you open it to others with --host.
    """
    from magicbokeh.demo.server import DemoOptions, run_demo

    run_demo(DemoOptions(report=echo, **options))


@cli.command()
@click.argument("dataset", metavar="SET", type=_PATH)
@click.option(
    "--methods", multiple=True, required=True, metavar="A,B,...",
    help="lq, classical, two-stage (or two-stage=MODEL), a model's folder or NAME=FOLDER of a model or of pictures.",
)  # fmt: skip
@click.option("--out", required=True, type=_PATH, help="Folder for tables, pictures and a sheet.")
@click.option("--metrics", multiple=True, metavar="A,B,...", help="Some of the metrics only.  [default: all]")
@click.option("--baseline", metavar="NAME", help="What differences are taken to.  [default: classical, or the first]")
@click.option("--split", help="Of a generated set.  [default: val, or the only one]")
@click.option("--samples", type=click.IntRange(min=1), help="The first so many only.")
@click.option(
    "--depth", default="exact", show_default=True, type=click.Choice(["exact", "model"]),
    help="What models get: the set's disparity, or that of their own depth network.",
)  # fmt: skip
@click.option(
    "--color", default="auto", show_default=True, type=click.Choice(["auto", "focus", "wavelet", "adain", "none"]),
    help="As for infer.",
)  # fmt: skip
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where networks run.")
@click.option("--dtype", type=click.Choice(["float32", "float16"]), help="As for infer.")
@click.option("--quiet", "progress", is_flag=True, flag_value=False, default=True, help="No progress bar.")
def evaluate(dataset: Path, out: Path, **options: Any) -> None:
    """Compare methods on SET: a generated set, pairs in RealSR's layout, or depth in NYUv2's or KITTI's.

    An interrupted evaluation goes on with the same line. Metrics whose weights are not there are empty cells.
    """
    from magicbokeh.evaluation.evaluate import EvaluateOptions
    from magicbokeh.evaluation.evaluate import evaluate as compare
    from magicbokeh.evaluation.tables import terminal

    results = compare(dataset, out, EvaluateOptions(**options))
    for line in terminal(results).splitlines():
        echo(line)
    echo(f"{results.count} samples, {len(results.methods)} methods: {out / 'table.md'}, {out / 'sheet.png'}")


class _UnreadableError(BokehsynthError):
    exit_code = 3


def main() -> None:
    """Entry point of the console script."""
    run(cli, "magicbokeh")
