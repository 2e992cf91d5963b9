"""The command `assets`: what a folder of photographs holds, before a data set is made of it."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bokehsynth.cli.facts import record
from bokehsynth.cli.options import LOCAL_PATH

if TYPE_CHECKING:
    from bokehsynth.assets.index.report import FolderReport


@click.command()
@click.argument("folder", metavar="DIR", type=LOCAL_PATH)
@click.option(
    "--kind", default="auto", show_default=True, type=click.Choice(["auto", "foreground", "background"]),
    help="What the pictures are for. auto: cut-outs where there is transparency or there are matte folders.",
)  # fmt: skip
@click.option(
    "--sheet", type=LOCAL_PATH, metavar="PNG",
    help="Where the contact sheet goes  [default: assets-NAME.png in the working directory]",
)  # fmt: skip
@click.option(
    "--val-fraction", default=0.1, show_default=True, type=click.FloatRange(0, 1, max_open=True),
    help="Share of the pictures that only val uses; the recipe's assets.val_fraction.",
)  # fmt: skip
@click.option("--max-pixels", type=click.IntRange(min=1), metavar="N", help="Refuse larger pictures  [default: 64 M]")
@click.option("--sharpness-floor", type=click.FloatRange(0, 1, max_open=True), metavar="X", help="[default: 0.2]")
@click.option("--list", "list_all", is_flag=True, help="Also name every usable picture with what was measured.")
def assets(
    folder: Path, kind: str, sheet: Path | None, val_fraction: float, max_pixels: int | None,
    sharpness_floor: float | None, list_all: bool,
) -> None:  # fmt: skip
    """Index the photographs in DIR: measure, split, show, and name what cannot be used.

    DIR (with all below it) may hold landscapes, cut-outs with transparency, or pictures and mattes in folders beside
    each other: image/ + alpha/, original/ + mask/ (AIM-500), blurred_image/ + mask/ (P3M-10k), x.jpg + x_alpha.png.
    PNG, JPEG, WebP, TIFF (8 and 16 bits), .hdr and .exr are read; EXIF orientation and ICC profiles are applied.

    Files are decoded in processes of their own, within bounds of memory and time. The index is kept in
    DIR/.bokehsynth/assets.json (or in ~/.cache/bokehsynth where DIR cannot be written), so that a second run is fast,
    and so that a picture that was once train or val stays that, whatever is added. docs/assets.md has it all.

    Exit code 3 if any file is in quarantine, each named with its reason.

    \b
    Examples:
      bokehsynth assets photos/landscapes
      bokehsynth assets AIM-500 --kind foreground --sheet aim.png --list
    """
    from tqdm import tqdm

    from bokehsynth.assets.index.report import FolderReport, draw_assets_sheet
    from bokehsynth.cli.preview import check_png

    name = folder.absolute().name or "root"
    sheet = Path(f"assets-{name}.png") if sheet is None else sheet
    check_png(sheet)
    changes = {"val_fraction": val_fraction, "max_pixels": max_pixels, "sharpness_floor": sharpness_floor}
    with tqdm(unit="file", leave=False, disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        report = FolderReport.of(folder, kind, {k: v for k, v in changes.items() if v is not None}, progress)
    split_of = Counter(report.split_of.values())
    record(
        folder=report.folder, kind=report.kind, usable=len(report.usable), train=split_of["train"], val=split_of["val"],
        quarantine=[vars(rejected) for rejected in report.quarantine], notes=report.notes, index=report.index_place,
        sheet=sheet if report.usable else None,
    )  # fmt: skip
    _print_report(report, list_all)
    if report.usable:
        draw_assets_sheet(report, sheet)
        click.echo(f"sheet: {sheet}")
    click.echo(f"index: {report.index_place or 'could not be kept anywhere'}")
    if report.quarantine:
        raise click.exceptions.Exit(3)


def _print_report(report: "FolderReport", list_all: bool) -> None:
    """Print the summary, then the quarantine."""
    counts = Counter(report.split_of.values())
    kind = "cut-outs" if report.kind == "foreground" else "landscapes"
    click.echo(f"{report.folder}: {len(report.usable)} usable {kind}, {counts['train']} train, {counts['val']} val")
    for title, counted in report.counts().items():
        click.echo(f"  {title:12} " + ", ".join(f"{count} {name}" for name, count in counted.most_common()))
    for note in report.notes:
        click.echo(f"note: {note}")
    if list_all:
        for line in report.lines():
            click.echo(line)
    if report.quarantine:
        click.echo(f"quarantine: {len(report.quarantine)} files")
        for rejected in report.quarantine:
            click.echo(f"  {rejected.reason:18} {rejected.message!r}"[:400])
