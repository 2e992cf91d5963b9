"""render: a picture from cut-outs and a background, or from a photograph and a disparity map, given by hand."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from bokehsynth.cli.options import device_option
from bokehsynth.errors import AssetError, UsageError

PLACE = {"x": float, "bottom": float, "scale": float, "rotation": float}

PER_UNIT = {"defocus": 100.0, "disparity": 65535.0, "mask": 65535.0}
"""Counts of a 16-bit PNG map: hundredths of a pixel of radius; 65535 for disparity or share 1."""


@click.command()
@click.option("--background", type=click.Path(path_type=Path), metavar="FILE", help="Picture that fills the frame.")
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
@click.option("--photo", type=click.Path(path_type=Path), metavar="FILE", help="An all-in-focus photograph, with:")
@click.option(
    "--disparity", type=click.Path(path_type=Path), metavar="FILE",
    help="Its disparity map: bright = near, any scale and size; PNG, TIFF, EXR or NPY.",
)  # fmt: skip
@click.option("--size", metavar="WxH", help="Size of the picture  [default: that of the background or photograph]")
@click.option("--focus", type=float, metavar="D", help="Disparity in focus  [default: that of the first foreground]")
@click.option("--focus-at", metavar="X,Y", help="Focus on what is seen at this pixel instead.")
@click.option(
    "--blur", default=24.0, show_default=True, metavar="K", help="Pixels of blur radius per unit of disparity."
)
@click.option(
    "--aperture", default="disc", show_default=True,
    help="disc, polygon:7[,rotation=..][,curvature=..], ring:0.5, cat_eye:0.9, or package.module:Class.",
)  # fmt: skip
@click.option("--falloff", is_flag=True, help="Let a lens that vignettes darken the corners.")
@click.option(
    "--boost",
    default=1.0,
    show_default=True,
    metavar="X",
    help="How much brighter lamps are that the file clipped at white: at 50 to 300, city lights become discs.",
)
@click.option("--bits", default="8", show_default=True, type=click.Choice(["8", "16"]), help="Of a PNG.")
@click.option("--maps", is_flag=True, help="Also write OUT with _aif, _defocus and _disparity before its ending.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="PNG, or EXR or NPY for linear light.")
@device_option
def render(
    background: Path | None,
    background_disparity: float | None,
    tilt: str,
    foregrounds: tuple[str, ...],
    photo: Path | None,
    disparity: Path | None,
    size: str | None,
    focus: float | None,
    focus_at: str | None,
    blur: float,
    aperture: str,
    falloff: bool,
    boost: float,
    bits: str,
    maps: bool,
    out: Path,
    device: str,
) -> None:
    """Photograph cut-outs in front of a background, or a photograph with a disparity map, through a lens.

    \b
    Examples:
      bokehsynth render --background park.jpg --foreground girl.png:0.8 --focus 0.8 --blur 24 --out park.png
      bokehsynth render --background city.exr --tilt 0.1 --foreground dog.png:0.7,x=0.3,scale=0.6 \\
          --foreground leaves.png:0.95 --focus 0.7 --blur 40 --aperture polygon:7 --out city.exr --maps
      bokehsynth render --photo street.jpg --disparity street_depth.png --focus-at 812,640 --blur 30 --out bokeh.png

    A blur radius is K times the difference of the disparities of a thing and of the focus. A cut-out that is cut off
    by a side of its own file is placed against that side of the picture. In PNG, defocus is stored in hundredths of
    a pixel, disparity as a share of 65535; in EXR and NPY maps and light are stored as they are.
    """
    from bokehsynth.imaging.write_image import check_name, save_color, save_map
    from bokehsynth.rendering import render as shoot
    from bokehsynth.rendering import resolve_device
    from bokehsynth.scene import read_aperture
    from bokehsynth.scene.manual import Shooting

    check_name(out)
    if not 0 <= boost < math.inf:
        raise UsageError(f"--boost must be 0 or more, got {boost:g}")
    if (background is None) == (photo is None):
        raise UsageError("give either --background (with any number of --foreground) or --photo with --disparity")
    if (photo is None) != (disparity is None):
        raise UsageError("--photo and --disparity belong together: a photograph alone has no depth to blur by")
    if photo is not None and foregrounds:
        raise UsageError("--foreground needs --background; a --photo is a scene by itself")
    backend = resolve_device(device)
    shooting = Shooting(blur=blur, focus=_focus(focus, focus_at), aperture=read_aperture(aperture), falloff=falloff)
    try:
        if photo is not None and disparity is not None:
            scene = _relief(photo, disparity, _size(size), shooting, boost)
        else:
            assert background is not None
            scene = _staged(background, background_disparity, tilt, foregrounds, _size(size), shooting, boost)
    except AssetError as error:  # here a picture is an argument, not one of thousands
        raise UsageError(str(error)) from None
    frames = shoot(scene.layers, scene.lens, scene.margin, backend)
    save_color(out, frames.bokeh, int(bits))
    written = [out]
    if maps:
        written += [_beside(out, name) for name in ("aif", "defocus", "disparity")]
        save_color(written[1], frames.all_in_focus, int(bits))
        for path, name in zip(written[2:], ("defocus", "disparity"), strict=True):
            save_map(path, getattr(frames, name), PER_UNIT[name])
    click.echo(
        f"wrote {', '.join(map(str, written))}: focus {scene.lens.focus:.3f}, largest radius "
        f"{float(frames.defocus.max()):.1f} px"
    )


def _beside(out: Path, name: str) -> Path:
    return out.with_name(f"{out.stem}_{name}{out.suffix}")


def _focus(focus: float | None, focus_at: str | None) -> Any:
    """A disparity, a pixel, or None for the first foreground's."""
    if focus is not None and focus_at is not None:
        raise UsageError("give --focus or --focus-at, not both")
    if focus is not None and not 0 <= focus <= 1:
        raise UsageError(f"--focus must lie in 0..1, got {focus:g}")
    return focus if focus_at is None else _numbers(focus_at, ",", int, "--focus-at must be X,Y in pixels")


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, height = _numbers(text.lower(), "x", int, "--size must be WIDTHxHEIGHT in pixels")
    if not (16 <= width <= 16384 and 16 <= height <= 16384):
        raise UsageError(f"--size must lie in 16..16384 pixels a side, got {text}")
    return height, width


def _numbers(text: str, separator: str, kind: type, rule: str) -> Any:
    try:
        first, second = (kind(part) for part in text.split(separator))
    except ValueError:
        raise UsageError(f"{rule}, got {text!r}") from None
    return first, second


def _relief(photo: Path, disparity: Path, size: tuple[int, int] | None, shooting: Any, boost: float) -> Any:
    from bokehsynth.assets.load.pairs import read_map
    from bokehsynth.assets.single import open_landscape
    from bokehsynth.scene.manual import fitted, relief

    color = open_landscape(photo, boost)
    field = read_map(disparity, (color.shape[1], color.shape[0]))
    if shooting.focus is None:
        raise UsageError("a --photo needs --focus D or --focus-at X,Y")
    return relief(fitted(color, size), fitted(field, size), shooting)


def _staged(
    background: Path, d: float | None, tilt: str, foregrounds: tuple[str, ...], size: tuple[int, int] | None,
    shooting: Any, boost: float,
) -> Any:  # fmt: skip
    from bokehsynth.assets.single import open_landscape
    from bokehsynth.scene.manual import fitted, stage, tilted

    color = fitted(open_landscape(background, boost), size)
    span, _, angle = tilt.partition(":")
    try:
        middle = abs(float(span)) / 2 if d is None else d
        plane = tilted(middle, float(span), float(angle or 90), *color.shape[:2])
    except ValueError as error:
        raise (
            error if isinstance(error, UsageError) else UsageError(f"--tilt must be T or T:ANGLE, got {tilt!r}")
        ) from None
    standing = [_standing(text) for text in foregrounds]
    if shooting.focus is None:
        shooting = replace(shooting, focus=standing[0].disparity if standing else plane.d)
    return stage(color, plane, standing, shooting)


def _standing(text: str) -> Any:
    """`FILE:D[,x=..]...`; the last colon ends the file's name."""
    from bokehsynth.assets.single import open_cutout
    from bokehsynth.scene.manual import Standing

    file, colon, rest = text.rpartition(":")
    disparity, *places = rest.split(",")
    try:
        given: dict[str, Any] = {"disparity": float(disparity)}
    except ValueError:
        colon = ""
    if not (colon and file):
        raise UsageError(f"--foreground must be FILE:DISPARITY, for example girl.png:0.8; got {text!r}")
    for place in places:
        name, _, number = place.strip().partition("=")
        try:
            given[name] = number in {"1", "yes", "true"} if name == "flip" else PLACE[name](number)
        except KeyError:
            raise UsageError(
                f"--foreground {text}: unknown {name!r}; known are {', '.join([*PLACE, 'flip'])}"
            ) from None
        except ValueError:
            raise UsageError(f"--foreground {text}: {name} must be a number, got {number!r}") from None
    return Standing(cutout=open_cutout(Path(file)), **given)
