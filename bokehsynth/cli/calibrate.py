"""calibrate: a lens from a photograph of lamps out of focus."""

from pathlib import Path
from typing import Any

import click

from bokehsynth.cli.facts import record
from bokehsynth.cli.options import LOCAL_PATH, progress_bar
from bokehsynth.errors import AssetError, UsageError


@click.command()
@click.argument("photo", metavar="PHOTO", type=LOCAL_PATH)
@click.option("--out", required=True, type=LOCAL_PATH, help="The lens file, .json; the sheet goes beside it as .png.")
@click.option(
    "--near-focus/--far-focus", "near_focus", default=True, show_default=True,
    help="Focused nearer than the lamps, which then show the opening upright, or farther (turned by 180 degrees).",
)  # fmt: skip
@click.option("--sharp", type=LOCAL_PATH, metavar="FILE", help="The same view all in focus, stopped down; with:")
@click.option(
    "--disparity", type=LOCAL_PATH, metavar="FILE",
    help="Its disparity map, bright = near, of any scale: K and focus of PHOTO are found as well.",
)  # fmt: skip
def calibrate(photo: Path, out: Path, near_focus: bool, sharp: Path | None, disparity: Path | None) -> None:
    """Find the lens behind PHOTO by its lamps out of focus: blades, rims, light, colours, with error bars.

    \b
    Examples:
      bokehsynth calibrate night.jpg --out my-lens.json
      bokehsynth calibrate f1.8.jpg --sharp f16.jpg --disparity depth.png --out my-lens.json
      bokehsynth render --photo street.jpg --disparity depth.png --focus 1 \\
          --aperture calibrated:my-lens.json --out bokeh.png

    A good photograph shows 15 or more separate street lights, far away, over the whole frame, the lens focused near,
    not all of them burnt out. Look at the sheet: each lamp as photographed, as fitted, and what is left. In a recipe:
    `lens: {aperture: 'calibrated:my-lens.json'}`.
    """
    from bokehsynth.assets.single import open_exposed
    from bokehsynth.calibration import calibrate as fit
    from bokehsynth.calibration import reasons
    from bokehsynth.calibration.lens_file import check_out, write_lens
    from bokehsynth.calibration.pair_fit import fit_pair
    from bokehsynth.calibration.sheet import in_words

    if (sharp is None) != (disparity is None):
        raise UsageError("--sharp and --disparity belong together: K is a radius per unit of disparity")
    check_out(out, [path for path in (photo, sharp, disparity) if path is not None])
    show: Any = progress_bar("fit")
    try:
        light = open_exposed(photo)
    except AssetError as error:  # here a picture is an argument, not one of thousands
        raise UsageError(str(error)) from None
    try:
        found = fit(light, not near_focus, show)
    except UsageError as error:
        raise UsageError(f"{photo}: {error}") from None
    try:
        pair = None if sharp is None or disparity is None else fit_pair(light, sharp, disparity, found.aperture)
    except AssetError as error:
        raise UsageError(str(error)) from None
    files = write_lens(out, found, pair)
    record(
        out=files, opening=found.aperture.record, standard_errors=found.errors, used=len(found.lamps),
        dropped=dict(found.dropped), radius_px=found.radii, warnings=found.warnings,
        pair=None if pair is None else pair.record,
    )  # fmt: skip
    for line in in_words(found):
        click.echo(line)
    if found.dropped:
        click.echo(f"not used: {reasons(found.dropped)}")
    if pair is not None:
        click.echo(f"K {pair.blur:.1f} px per unit of disparity, focus {pair.focus:.3f} (rms {pair.rms:.4f})")
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"wrote {', '.join(map(str, files))}")
