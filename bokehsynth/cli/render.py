"""render: a picture from cut-outs and a background, or from a photograph and a disparity map, given by hand."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from bokehsynth.cli.facts import record
from bokehsynth.cli.options import LOCAL_PATH, device_option
from bokehsynth.errors import AssetError, UsageError
from bokehsynth.files import local_path

PLACE = {"x": float, "bottom": float, "scale": float, "rotation": float}

PER_UNIT = {"defocus": 100.0, "disparity": 65535.0, "mask": 65535.0}
"""Counts of a 16-bit PNG map: hundredths of a pixel of radius; 65535 for disparity or share 1."""


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
@click.option("--focus", type=float, metavar="D", help="Disparity in focus  [default: that of the first foreground]")
@click.option("--focus-at", metavar="X,Y", help="Focus on what is seen at this pixel instead.")
@click.option(
    "--blur", default=24.0, show_default=True, metavar="K", help="Pixels of blur radius per unit of disparity."
)
@click.option(
    "--aperture", default="disc", show_default=True,
    help="disc, polygon:7[,rotation=..][,curvature=..], ring:0.5, cat_eye:0.9, apodized:0.1, onion:8, anamorphic:2, "
    "image:FILE, or package.module:Class.",
)  # fmt: skip
@click.option("--falloff", is_flag=True, help="Let a lens that vignettes darken the corners.")
@click.option(
    "--boost", default=1.0, show_default=True, metavar="X",
    help="How much brighter lamps are that the file clipped at white: at 50 to 300, city lights become discs.",
)  # fmt: skip
@click.option("--bits", default="8", show_default=True, type=click.Choice(["8", "16"]), help="Of a PNG.")
@click.option("--maps", is_flag=True, help="Also write OUT with _aif, _defocus and _disparity before its ending.")
@click.option("--out", required=True, type=LOCAL_PATH, help="PNG, or EXR or NPY for linear light.")
@device_option
def render(out: Path, bits: str, maps: bool, device: str, **scene_options: Any) -> None:
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
    from bokehsynth.imaging.write_image import check_name
    from bokehsynth.rendering import render as render_layers
    from bokehsynth.rendering import resolve_device

    check_name(out)
    options = _SceneOptions(**scene_options)
    backend = resolve_device(device)
    try:
        scene = options.compose()
    except AssetError as error:  # here a picture is an argument, not one of thousands
        raise UsageError(str(error)) from None
    frames = render_layers(scene.layers, scene.lens, scene.margin, backend)
    written = _save(frames, out, int(bits), maps)
    record(out=written, focus=scene.lens.focus, radius_max=float(frames.defocus.max()))
    click.echo(
        f"wrote {', '.join(map(str, written))}: focus {scene.lens.focus:.3f}, largest radius "
        f"{float(frames.defocus.max()):.1f} px"
    )


def _save(frames: Any, out: Path, bits: int, maps: bool) -> list[Path]:
    """Write the picture and, with `maps`, what else was rendered; the files' paths."""
    from bokehsynth.imaging.write_image import save_color, save_map

    save_color(out, frames.bokeh, bits)
    if not maps:
        return [out]
    beside = [out.with_name(f"{out.stem}_{name}{out.suffix}") for name in ("aif", "defocus", "disparity")]
    save_color(beside[0], frames.all_in_focus, bits)
    for path, name in zip(beside[1:], ("defocus", "disparity"), strict=True):
        save_map(path, getattr(frames, name), PER_UNIT[name])
    return [out, *beside]


@dataclass(frozen=True, kw_only=True)
class _SceneOptions:
    """The options that say what is rendered; the command line explains each."""

    background: Path | None
    background_disparity: float | None
    tilt: str
    foregrounds: tuple[str, ...]
    photo: Path | None
    disparity: Path | None
    size: str | None
    focus: float | None
    focus_at: str | None
    blur: float
    aperture: str
    falloff: bool
    boost: float

    def __post_init__(self) -> None:
        if not 0 <= self.boost < math.inf:
            raise UsageError(f"--boost must be 0 or more, got {self.boost:g}")
        if not 0 <= self.blur <= 4096:
            raise UsageError(f"--blur must stay within 0..4096 px, got {self.blur:g}")
        if (self.background is None) == (self.photo is None):
            raise UsageError("give either --background (with any number of --foreground) or --photo with --disparity")
        if (self.photo is None) != (self.disparity is None):
            raise UsageError("--photo and --disparity belong together: a photograph alone has no depth to blur by")
        if self.photo is not None and self.foregrounds:
            raise UsageError("--foreground needs --background; a --photo is a scene by itself")

    def compose(self) -> Any:
        """Read the pictures and compose them; UsageError or AssetError says what is wrong."""
        from bokehsynth.scene import read_aperture
        from bokehsynth.scene.manual import CameraSettings

        camera = CameraSettings(
            blur=self.blur, focus=self._focus(), aperture=read_aperture(self.aperture), falloff=self.falloff
        )
        if self.photo is not None and self.disparity is not None:
            return self._compose_photo(self.photo, self.disparity, camera)
        assert self.background is not None
        return self._compose_cutouts(self.background, camera)

    def _focus(self) -> Any:
        """A disparity, a pixel, or None for the first foreground's."""
        if self.focus is not None and self.focus_at is not None:
            raise UsageError("give --focus or --focus-at, not both")
        if self.focus is not None and not 0 <= self.focus <= 1:
            raise UsageError(f"--focus must lie in 0..1, got {self.focus:g}")
        if self.focus_at is None:
            return self.focus
        return _numbers(self.focus_at, ",", int, "--focus-at must be X,Y in pixels")

    def _compose_photo(self, photo: Path, disparity: Path, camera: Any) -> Any:
        from bokehsynth.assets.load.pairs import read_map
        from bokehsynth.assets.single import open_landscape
        from bokehsynth.scene.manual import compose_depth_photo, scale_to_cover

        size = _size(self.size)
        color = open_landscape(photo, self.boost)
        field = read_map(disparity, (color.shape[1], color.shape[0]))
        if camera.focus is None:
            raise UsageError("a --photo needs --focus D or --focus-at X,Y")
        return compose_depth_photo(scale_to_cover(color, size), scale_to_cover(field, size), camera)

    def _compose_cutouts(self, background: Path, camera: Any) -> Any:
        from bokehsynth.assets.single import open_landscape
        from bokehsynth.scene.manual import compose_cutouts, scale_to_cover

        size = _size(self.size)
        color = scale_to_cover(open_landscape(background, self.boost), size)
        plane = self._background_plane(color.shape[:2])
        cutouts = [_read_cutout(text) for text in self.foregrounds]
        if camera.focus is None:
            camera = replace(camera, focus=cutouts[0].disparity if cutouts else plane.d)
        return compose_cutouts(color, plane, cutouts, camera)

    def _background_plane(self, size: tuple[int, int]) -> Any:
        from bokehsynth.scene.manual import tilted_plane

        span, _, angle = self.tilt.partition(":")
        try:
            middle = abs(float(span)) / 2 if self.background_disparity is None else self.background_disparity
            return tilted_plane(middle, float(span), float(angle or 90), *size)
        except UsageError:
            raise
        except ValueError:
            raise UsageError(f"--tilt must be T or T:ANGLE, got {self.tilt!r}") from None


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


def _read_cutout(text: str) -> Any:
    """Read `FILE:D[,x=..]...`; the last colon ends the file's name."""
    from bokehsynth.assets.single import open_cutout
    from bokehsynth.scene.manual import PlacedCutout

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
    return PlacedCutout(cutout=open_cutout(local_path(file)), **given)
