"""render: a picture from cut-outs and a background, or from a photograph and a disparity map, given by hand."""

from pathlib import Path
from typing import Any

import click

from bokehsynth.cli.facts import record
from bokehsynth.cli.options import LOCAL_PATH, device_option
from bokehsynth.cli.render_scene import DEFAULT_BLUR, DEFAULT_FRAMES, LAMPS, SceneOptions
from bokehsynth.errors import AssetError, UsageError

PER_UNIT = {"defocus": 100.0, "disparity": 65535.0, "mask": 65535.0}
"""Counts of a 16-bit PNG map: hundredths of a pixel of radius; 65535 for disparity or share 1."""
DEFAULT_FPS = 12.0


@click.command()
@click.option("--background", type=LOCAL_PATH, metavar="FILE", help="Picture that fills the frame.")
@click.option(
    "--background-disparity", type=float, metavar="D",
    help="0 far .. 1 near, in the middle of the picture  [default: 0, or half the tilt]",
)  # fmt: skip
@click.option(
    "--tilt", default="0", show_default=True, metavar="T[:ANGLE]",
    help="The background's disparity spans T across the picture; it comes nearer along ANGLE, degrees clockwise from "
    "+x (90: downwards, the default).",
)  # fmt: skip
@click.option(
    "--foreground", "foregrounds", multiple=True, metavar="FILE:D[,x=..]",
    help="A cut-out with transparency at disparity D; further x= and bottom= (place of its middle and lower edge, "
    "0..1 of the picture), scale= (longer side over the picture's shorter one), rotation= (degrees), flip=1. Repeat.",
)  # fmt: skip
@click.option("--photo", type=LOCAL_PATH, metavar="FILE", help="An all-in-focus photograph, with:")
@click.option(
    "--disparity", type=LOCAL_PATH, metavar="FILE",
    help="Its disparity map: bright = near, any scale and size; PNG, TIFF, EXR or NPY.",
)  # fmt: skip
@click.option("--size", metavar="WxH", help="Size of the picture  [default: that of the background or photograph]")
@click.option(
    "--focus", metavar="D", help="Disparity in focus  [default: that of the first foreground]; A..B: a focus pull."
)
@click.option("--focus-at", metavar="X,Y", help="Focus on what is seen at this pixel instead.")
@click.option(
    "--blur", metavar="K",
    help=f"Pixels of blur radius per unit of disparity  [default: {DEFAULT_BLUR:g}]; A..B: an aperture pull.",
)  # fmt: skip
@click.option("--frames", type=int, metavar="N", help=f"Of a pull  [default: {DEFAULT_FRAMES}]")
@click.option(
    "--fps", type=click.FloatRange(0.1, 120), metavar="F",
    help="Frames per second of a pull; a GIF has at most 50, each for whole hundredths of a second  "
    f"[default: {DEFAULT_FPS:g}]",
)  # fmt: skip
@click.option(
    "--aperture", default="disc", show_default=True,
    help="disc, polygon:7[,rotation=..][,curvature=..], ring:0.5, cat_eye:0.9, apodized:0.1, onion:8, anamorphic:2, "
    "image:FILE, calibrated:FILE, or package.module:Class.",
)  # fmt: skip
@click.option(
    "--prescription", metavar="NAME|FILE", help="A real lens instead, traced: a packaged one, or its .json, .zmx, .seq."
)
@click.option("--f-number", type=float, metavar="N", help="Of the prescription  [default: wide open]")
@click.option("--near-m", type=float, metavar="M", help="Distance in metres at which disparity is 1 (0: infinity).")
@click.option("--sensor-width-mm", type=float, metavar="MM", help="What the picture's width lies on  [default: 36]")
@click.option("--falloff", is_flag=True, help="Let a lens that vignettes darken the corners.")
@click.option(
    "--boost", type=float, metavar="X",
    help="How much brighter lamps are that the file clipped at white: at 50 to 300, city lights become discs; "
    "without blur and in _aif a --photo is as it was read, and EXR and HDR ones always  "
    f"[default: {LAMPS:g} for a --photo taken at night, else 1]",
)  # fmt: skip
@click.option("--bits", default="8", show_default=True, type=click.Choice(["8", "16"]), help="Of a PNG.")
@click.option("--maps", is_flag=True, help="Also write OUT with _aif, _defocus and _disparity before its ending.")
@click.option("--out", required=True, type=LOCAL_PATH, help="PNG, or EXR or NPY for linear light; a pull: GIF or MP4.")
@device_option
def render(out: Path, bits: str, maps: bool, fps: float | None, device: str, **scene_options: Any) -> None:
    """Photograph cut-outs in front of a background, or a photograph with a disparity map, through a lens.

    \b
    Examples:
      bokehsynth render --background park.jpg --foreground girl.png:0.8 --focus 0.8 --blur 24 --out park.png
      bokehsynth render --background city.exr --tilt 0.1 --foreground dog.png:0.7,x=0.3,scale=0.6 \\
          --foreground leaves.png:0.95 --focus 0.7 --blur 40 --aperture polygon:7 --out city.exr --maps
      bokehsynth render --photo street.jpg --disparity street_depth.png --focus-at 812,640 --blur 30 --out bokeh.png
      bokehsynth render --photo street.jpg --disparity street_depth.png --focus 0.1..0.9 --out pull.mp4

    A blur radius is K times the difference of the disparities of a thing and of the focus. A cut-out that is cut off
    by a side of its own file is placed against that side of the picture. In PNG, defocus is stored in hundredths of
    a pixel, disparity as a share of 65535; in EXR and NPY maps and light are stored as they are.
    """
    from bokehsynth.imaging.animation import save_animation
    from bokehsynth.imaging.write_image import check_name
    from bokehsynth.rendering import resolve_device

    options = SceneOptions(**scene_options)
    if options.is_pull:
        _check_pull(out, maps, bits, fps or DEFAULT_FPS)
    elif fps is not None:
        raise UsageError("--fps needs what changes: --focus A..B or --blur A..B")
    else:
        check_name(out)
    backend = resolve_device(device)
    if options.prescription is not None and device == "auto":
        backend = "cpu"
    try:
        pictures = options.compose()
    except AssetError as error:  # here a picture is an argument, not one of thousands
        raise UsageError(str(error)) from None
    if options.is_pull:
        shown = (photograph(backend=backend).bokeh for photograph, _ in pictures)
        written = save_animation(out, shown, fps or DEFAULT_FPS)
        record(out=[out], frames=written)
        equal = f" ({len(pictures) - written} like the one before, which is shown longer)"
        click.echo(f"wrote {out}: {written} frames{equal if written < len(pictures) else ''}")
        return
    photograph, lens = pictures[0]
    frames = photograph(backend=backend)
    files = _save(frames, out, int(bits), maps)
    record(out=files, focus=lens.focus, radius_max=float(frames.defocus.max()))
    click.echo(
        f"wrote {', '.join(map(str, files))}: focus {lens.focus:.3f}, largest radius "
        f"{float(frames.defocus.max()):.1f} px"
    )


def _check_pull(out: Path, maps: bool, bits: str, fps: float) -> None:
    """UsageError or StorageError unless a pull can be written there."""
    from bokehsynth.imaging.animation import check_animation

    if maps:
        raise UsageError("--maps belong to one picture, not to a pull")
    if bits != "8":
        raise UsageError("--bits belong to a PNG: a pull is written in 8 bits")
    check_animation(out, fps)


def _save(frames: Any, out: Path, bits: int, maps: bool) -> list[Path]:
    """Write the picture and, with `maps`, what else was rendered; the files' paths."""
    from bokehsynth.imaging.write_image import check_map, save_color, save_map

    if maps:  # before the first file is written
        for name in ("defocus", "disparity"):
            check_map(out.with_name(f"{out.stem}_{name}{out.suffix}"), getattr(frames, name), PER_UNIT[name])
    save_color(out, frames.bokeh, bits)
    if not maps:
        return [out]
    beside = [out.with_name(f"{out.stem}_{name}{out.suffix}") for name in ("aif", "defocus", "disparity")]
    save_color(beside[0], frames.all_in_focus, bits)
    for path, name in zip(beside[1:], ("defocus", "disparity"), strict=True):
        save_map(path, getattr(frames, name), PER_UNIT[name])
    return [out, *beside]
