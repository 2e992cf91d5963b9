"""preview, degrade: commands that make pictures to look at."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bokehsynth.cli.facts import record
from bokehsynth.cli.options import LOCAL_PATH, device_option, recipe_options
from bokehsynth.errors import AssetError, UsageError


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """Which samples are shown, and how; the command line explains each option."""

    count: int
    first: int
    split: str | None
    cell: int
    only: str | None
    columns: int


@click.command()
@recipe_options
@click.option("--out", default="preview.png", show_default=True, type=LOCAL_PATH, help="PNG to write.")
@click.option("--count", default=6, show_default=True, type=click.IntRange(1, 200), help="Samples to show.")
@click.option("--first", default=0, show_default=True, type=click.IntRange(min=0), help="Index of the first.")
@click.option("--split", type=click.Choice(["train", "val"]), help="[default: the first that has samples]")
@click.option(
    "--cell", default=256, show_default=True, type=click.IntRange(128, 2048), help="Longer side of a picture."
)
@click.option("--only", metavar="FIELD", help="Show this field alone, many a row, such as hq.")
@click.option("--columns", default=3, show_default=True, type=click.IntRange(1, 20), help="Of --only.")
@device_option
def preview(recipe: str, overrides: tuple[str, ...], out: Path, device: str, **options: Any) -> None:
    """Show samples of RECIPE as one contact sheet, without making a data set.

    The pictures are exactly those that generate would store: aif | hq | lq | defocus | disparity.

    \b
    Examples:
      bokehsynth preview quickstart --first 24 --count 3
      bokehsynth preview lens-gallery --only hq --count 9 --out gallery.png
    """
    from tqdm import tqdm

    from bokehsynth.imaging.contact_sheet import contact_sheet, gallery
    from bokehsynth.pipeline import make_sample
    from bokehsynth.recipe import load_recipe
    from bokehsynth.rendering import resolve_device

    check_png(out)
    shown = _Shown(**options)
    loaded = load_recipe(recipe, overrides)
    if shown.only is not None and shown.only not in loaded.shards.fields:
        raise UsageError(f"--only {shown.only}: the recipe stores {', '.join(loaded.shards.fields)} (shards.fields)")
    split = shown.split or loaded.splits[0]
    backend = loaded.device_for(device, resolve_device(device))
    indices = tqdm(
        range(shown.first, shown.first + shown.count), unit="sample", leave=False, disable=not sys.stderr.isatty()
    )
    samples = [make_sample(loaded, index, split, backend) for index in indices]
    if shown.only is None:
        contact_sheet(samples, out, shown.cell)
    else:
        gallery(samples, out, shown.cell, shown.columns, shown.only)
    record(out=out, keys=[sample.key for sample in samples])
    click.echo(f"wrote {out}")


@click.command()
@click.argument("source", metavar="IN", type=LOCAL_PATH)
@click.argument("target", metavar="OUT", type=LOCAL_PATH)
@click.option(
    "--preset", default="real-esrgan", show_default=True,
    help="real-esrgan, none, or package.module:Class for a step of one's own.",
)  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--backend", default="opencv", show_default=True, type=click.Choice(["opencv", "basicsr"]))
def degrade(source: Path, target: Path, preset: str, seed: int, backend: str) -> None:
    """Degrade the picture IN as Real-ESRGAN's training does and write it to OUT (a PNG) at the same size."""
    import cv2

    from bokehsynth.assets.decode.decoder import Limits
    from bokehsynth.assets.single import open_encoded
    from bokehsynth.degradation import degrade as apply
    from bokehsynth.files import atomic_write

    check_png(target)
    try:
        image = open_encoded(source, Limits(min_side=1))
    except AssetError as error:  # here a picture is an argument, not one of thousands
        raise UsageError(str(error)) from None
    result = apply(image, preset, seed, backend=backend)  # type: ignore[arg-type]
    atomic_write(target, cv2.imencode(".png", result[..., ::-1])[1].tobytes())
    record(out=target)
    click.echo(f"wrote {target}")


def check_png(path: Path) -> None:
    """Check before any work that the name is lossless and its folder exists."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: must end in .png: sheets and degraded pictures are stored without further loss")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.absolute().parent}")
