"""What `render` photographs, from the options of its command line."""

import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bokehsynth.errors import UsageError
from bokehsynth.files import local_path

PLACE = {"x": float, "bottom": float, "scale": float, "rotation": float}
DEFAULT_BLUR = 24.0
DEFAULT_FRAMES, MOST_FRAMES = 24, 1000
FULL_FRAME_MM = 36.0
LAMPS = 30.0
"""How much brighter lamps are than white, where nothing says it: of two real pairs by night, renders at 20 to 40 come
nearest to the photographs."""


@dataclass(frozen=True, kw_only=True)
class SceneOptions:
    """The options that say what is rendered; the command line explains each."""

    background: Path | None
    background_disparity: float | None
    tilt: str
    foregrounds: tuple[str, ...]
    photo: Path | None
    disparity: Path | None
    size: str | None
    focus: str | None
    focus_at: str | None
    blur: str | None
    frames: int | None
    aperture: str
    prescription: str | None
    f_number: float | None
    near_m: float | None
    sensor_width_mm: float | None
    falloff: bool
    boost: float | None

    def __post_init__(self) -> None:
        if self.boost is not None and not 0 <= self.boost < math.inf:
            raise UsageError(f"--boost must be 0 or more, got {self.boost:g}")
        for name, text, most in (("--focus", self.focus, "1"), ("--blur", self.blur, "4096 px")):
            _pull(name, text, most)
        if self.frames is not None and not 2 <= self.frames <= MOST_FRAMES:
            raise UsageError(f"--frames must lie in 2..{MOST_FRAMES}, got {self.frames}")
        if self.is_pull and self.photo is None:
            raise UsageError("a pull of focus or blur (A..B) needs a --photo")
        if self.frames is not None and not self.is_pull:
            raise UsageError("--frames needs what changes: --focus A..B or --blur A..B")
        self._check_lens()
        if (self.background is None) == (self.photo is None):
            raise UsageError("give either --background (with any number of --foreground) or --photo with --disparity")
        if (self.photo is None) != (self.disparity is None):
            raise UsageError("--photo and --disparity belong together: a photograph alone has no depth to blur by")
        if self.photo is not None and self.foregrounds:
            raise UsageError("--foreground needs --background; a --photo is a scene by itself")

    def _check_lens(self) -> None:
        """UsageError for options of the lens that do not go together."""
        numbers = {"--f-number": self.f_number, "--near-m": self.near_m, "--sensor-width-mm": self.sensor_width_mm}
        for name, value in numbers.items():
            if value is not None and self.prescription is None:
                raise UsageError(f"{name} belongs to a --prescription")
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} must be above 0, got {value:g}")
        if self.prescription is None:
            return
        if self.blur is not None or self.aperture != "disc":
            raise UsageError("a --prescription has its own blur and opening: leave --blur and --aperture out")
        if self.near_m is None:
            raise UsageError("a --prescription needs --near-m, the distance in metres at which disparity is 1")

    @property
    def is_pull(self) -> bool:
        """Whether focus or blur run from one number to another."""
        return ".." in (self.focus or "") or ".." in (self.blur or "")

    def compose(self) -> list[tuple[Any, Any]]:
        """Read the pictures and compose them: for each picture, what renders frames on a backend, and the lens.

        UsageError or AssetError says what is wrong.
        """
        if self.photo is not None and self.disparity is not None:
            return self._compose_photo(self.photo, self.disparity)
        assert self.background is not None
        return [self._compose_cutouts(self.background)]

    def _camera(self, size: tuple[int, int], share: float = 0.0) -> Any:
        """The lens for pictures of `size` (height, width), at a share of a pull."""
        from bokehsynth.scene import read_aperture
        from bokehsynth.scene.manual import CameraSettings, real_lens

        real = None
        if self.prescription is not None and self.near_m is not None:
            real = real_lens(self.prescription, self.f_number, self.near_m, self.sensor_width_mm or FULL_FRAME_MM, size)
        return CameraSettings(
            blur=_at(_pull("--blur", self.blur, "4096 px") or (DEFAULT_BLUR, DEFAULT_BLUR), share),
            focus=self._focus(share),
            aperture=read_aperture(self.aperture), falloff=self.falloff, real=real,
        )  # fmt: skip

    def _focus(self, share: float) -> Any:
        """A disparity, a pixel, or None for the first foreground's."""
        if self.focus is not None and self.focus_at is not None:
            raise UsageError("give --focus or --focus-at, not both")
        if self.focus_at is None:
            ends = _pull("--focus", self.focus, "1")
            return None if ends is None else _at(ends, share)
        return _numbers(self.focus_at, ",", int, "--focus-at must be X,Y in pixels")

    def _compose_photo(self, photo: Path, disparity: Path) -> list[tuple[Any, Any]]:
        from bokehsynth.assets.load.pairs import read_map
        from bokehsynth.assets.single import open_photograph
        from bokehsynth.scene.manual import compose_depth_photo, scale_map_to_cover, scale_to_cover

        size = _size(self.size)
        color, lamps = open_photograph(photo, LAMPS if self.boost is None else self.boost)
        field = read_map(disparity, (color.shape[1], color.shape[0]))
        lit = scale_to_cover(color if lamps is None else color + lamps, size)
        color = scale_to_cover(color, size)
        count = (self.frames or DEFAULT_FRAMES) if self.is_pull else 1
        cameras = [self._camera(color.shape[:2], i / max(1, count - 1)) for i in range(count)]
        if cameras[0].focus is None:
            raise UsageError("a --photo needs --focus D or --focus-at X,Y")
        cut, lenses = compose_depth_photo(color, scale_map_to_cover(field, size), cameras, lit)
        return [(partial(cut.render, lens), lens) for lens in lenses]

    def _compose_cutouts(self, background: Path) -> tuple[Any, Any]:
        from bokehsynth.assets.single import open_landscape
        from bokehsynth.rendering import render
        from bokehsynth.scene.manual import compose_cutouts, scale_to_cover

        size = _size(self.size)
        color = scale_to_cover(open_landscape(background, 1.0 if self.boost is None else self.boost), size)
        plane = self._background_plane(color.shape[:2])
        cutouts = [_read_cutout(text) for text in self.foregrounds]
        camera = self._camera(color.shape[:2])
        if camera.focus is None:
            camera = replace(camera, focus=cutouts[0].disparity if cutouts else plane.d)
        scene = compose_cutouts(color, plane, cutouts, camera)
        return partial(render, scene.layers, scene.lens, scene.margin), scene.lens

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


def _pull(name: str, text: str | None, most: str) -> tuple[float, float] | None:
    """First and last value of an option D or A..B, 0 to `most`; None if it is not given."""
    if text is None:
        return None
    first, dots, last = text.partition("..")
    try:
        ends = float(first), float(last if dots else first)
    except ValueError:
        raise UsageError(f"{name} must be a number, or A..B for a pull; got {text!r}") from None
    if not all(0 <= end <= float(most.split(maxsplit=1)[0]) for end in ends):
        raise UsageError(f"{name} must {'lie in' if most == '1' else 'stay within'} 0..{most}, got {text}")
    return ends


def _at(ends: tuple[float, float], share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])


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
