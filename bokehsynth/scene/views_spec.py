"""What a recipe says about further pictures of a scene, and about the picture from which LQ starts."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from bokehsynth.config.distributions import Distribution, Spec, within
from bokehsynth.config.user_code import is_refused
from bokehsynth.optics import Band, part_of
from bokehsynth.rendering.aperture.lens_points import effective_share
from bokehsynth.scene.lens_spec import LensSpec
from bokehsynth.scene.spec import FocusMode
from bokehsynth.schema import (
    DEFAULT_FIELDS,
    LARGEST_GRID,
    LAYER_FIELDS,
    LAYERS,
    MAX_DECODED,
    MAX_STACK,
    SOURCE,
    VIEW_FIELDS,
    VIEWS,
    decoded_bytes,
)

LEAST_SHARE = 0.005
"""Least part of the opening's disc that a view must see through: from 0.0037 on, the renderer's finest grid of lens
points, 2048 x 2048, holds the 128 x 128 rays of a large blur."""

Softness = Annotated[float, Field(gt=0, le=1)]


class FocalStackSpec(Spec):
    """The scene through the same lens, focused nearer and nearer: hq_00, hq_01, ..."""

    kind: Literal["focal_stack"]
    count: Annotated[int, Field(ge=2, le=MAX_STACK)] | None = None
    """Pictures; focus goes in even steps from the farthest to the nearest disparity of the scene's planes."""
    focus: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1, max_length=MAX_STACK)] | None = None
    """Or the disparities in focus, the same in every sample."""

    @model_validator(mode="after")
    def _one_of_both(self) -> "FocalStackSpec":
        if (self.count is None) == (self.focus is None):
            raise ValueError("a focal_stack needs count, or focus: a list of disparities")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Its fields."""
        return tuple(f"hq_{i:02d}" for i in range(self.count or len(self.focus or ())))


class ApertureStackSpec(Spec):
    """The scene through the same lens, stopped down: hq_00, hq_01, ..."""

    kind: Literal["aperture_stack"]
    stops: Annotated[list[Annotated[float, Field(ge=0, le=12)]], Field(min_length=1, max_length=MAX_STACK)] = Field(
        default=[0.0, 1.0, 2.0, 3.0]
    )
    """Stops by which the lens of each picture is closed: the f-number is 2^(stops / 2) times that of `hq`, and K the
    same part of it (a prescription is traced anew)."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its fields."""
        return tuple(f"hq_{i:02d}" for i in range(len(self.stops)))


class DualPixelSpec(Spec):
    """The scene through the left and through the right half of the opening: left, right. Their mean is `hq`."""

    kind: Literal["dual_pixel"]
    softness: Softness = 0.5
    """Where the halves meet: the share of an opening's radius, to either side, within which both get light."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its fields."""
        return ("left", "right")

    @property
    def bands(self) -> list[tuple[Band, Band]]:
        """The bands of x and of y of the part that each field shows."""
        return [(Band(x, 2, self.softness), Band(0, 1, self.softness)) for x in range(2)]


class SubAperturesSpec(Spec):
    """The scene through each of n x n parts of the opening, as a light-field camera sees it: view_YX."""

    kind: Literal["sub_apertures"]
    count: Annotated[int, Field(ge=2, le=LARGEST_GRID)]
    """n: parts along x and along y."""
    softness: Softness = 0.5
    """Where parts meet: the share of half a part's width, to either side, within which both get light."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its fields, row by row."""
        return tuple(f"view_{y}{x}" for y in range(self.count) for x in range(self.count))

    @property
    def bands(self) -> list[tuple[Band, Band]]:
        """The bands of x and of y of the part that each field shows."""
        each = [Band(i, self.count, self.softness) for i in range(self.count)]
        return [(column, row) for row in each for column in each]


ViewsSpec = Annotated[
    FocalStackSpec | ApertureStackSpec | DualPixelSpec | SubAperturesSpec, Field(discriminator="kind")
]


def _short_lens(value: Any) -> Any:
    """An aperture, or a list of them, stands for a lens with it."""
    return {"aperture": value} if isinstance(value, str | list) else value


class SourceLensSpec(Spec):
    """Another setting of the lens, or another lens, before the same layers: its picture, degraded, is LQ."""

    lens: Annotated[LensSpec, BeforeValidator(_short_lens)] | None = None
    """Its opening, or a list of openings, as in `lens.aperture`; or all of a `lens` with a prescription or a camera,
    where that of `hq` has one, too, and near_m and sensor_width_mm stand there alike. Absent: that of `hq`."""
    focus: FocusMode | Annotated[Distribution, within(0, 1)] | None = None
    """What is in focus, drawn anew, as in `scene.focus`. Absent: what is in focus in `hq`."""
    blur: Annotated[Distribution, within(0, 4096)] | None = None
    """K, drawn anew, as in `scene.blur` (also its unit and `blur_is`). Absent: that of `hq`, or that of its camera."""

    @model_validator(mode="after")
    def _differs(self) -> "SourceLensSpec":
        if self.lens is None and self.focus is None and self.blur is None:
            raise ValueError("source needs lens, focus or blur: without them it is the picture through the lens itself")
        if self.blur is not None and self.lens is not None and self.lens.has_camera:
            raise ValueError("source.blur: K follows from the camera of source.lens")
        ranges = None if self.lens is None else self.lens.ranges
        if self.focus is not None and ranges is not None and ranges.focus_m is not None:
            raise ValueError("source.focus: the distance in focus is focus_m of source.lens")
        return self

    @property
    def portable(self) -> dict[str, Any]:
        """It as plain data, pictures of openings by their digests."""
        return self.model_dump(mode="json") | {"lens": None if self.lens is None else self.lens.portable}


def check_views(views: "ViewsSpec", lens: LensSpec) -> None:
    """ValueError for views that a lens cannot make: a part of an opening without light, a focus that is not free."""
    ranges = lens.ranges
    if isinstance(views, FocalStackSpec) and ranges is not None and ranges.focus_m is not None:
        raise ValueError(
            "views: a focal_stack is focused from the farthest to the nearest; leave lens's focus_m out (scene.focus "
            "then says what is in focus in hq)"
        )
    if isinstance(views, FocalStackSpec | ApertureStackSpec) or lens.has_unread_files:
        return
    if any(is_refused(path) for path in lens.class_paths):
        return  # it was checked when the data set was made
    for aperture, whole in zip(lens.names, lens.apertures, strict=True):
        for name, bands in zip(views.names, views.bands, strict=True):
            share = effective_share(part_of(whole, *bands))
            if share < LEAST_SHARE:
                raise ValueError(
                    f"views: {name} of {aperture} gets {'almost ' if share else ''}no light: that part of the opening "
                    "is closed; lower count or raise softness, or take another opening"
                )


def check_lenses(source: SourceLensSpec, lens: LensSpec) -> None:
    """ValueError for a source whose lens does not fit the distances of the scene before `lens`, that of `hq`."""
    own, ranges = source.lens, lens.ranges
    if own is None:
        if ranges is not None and source.blur is not None:
            raise ValueError("source.blur: K follows from lens's camera; give source.lens another f_number")
        if ranges is not None and ranges.focus_m is not None and source.focus is not None:
            raise ValueError(
                "source.focus: the distance in focus is focus_m of lens; give source.lens another focus_m, or leave "
                "that of lens out"
            )
        return
    if own.has_camera != lens.has_camera:
        raise ValueError("source.lens: give both lenses a camera or a prescription, or neither")
    other = own.ranges
    if ranges and other and (ranges.near_m, ranges.sensor_width_mm) != (other.near_m, other.sensor_width_mm):
        raise ValueError("source.lens: near_m and sensor_width_mm must be those of lens: the scene is the same")


def check_decoded(size: tuple[int, int], fields: list[str]) -> None:
    """ValueError for samples of `size` (height, width) that are larger than what readers take at once."""
    decoded = decoded_bytes(size[0] * size[1], fields)
    if decoded > MAX_DECODED:
        raise ValueError(
            f"shards.fields: {len(fields)} fields of {size[1]} x {size[0]} px are {decoded / 1e9:.1f} GB a sample, and "
            f"readers take at most {MAX_DECODED / 1e9:g}; name fewer of the views or layers, or lower size"
        )


def stored_fields(fields: list[str] | None, views: "ViewsSpec | None", source: SourceLensSpec | None) -> list[str]:
    """What `shards.fields` asks for, written out; ValueError for views that a recipe lacks, or stores none of.

    `views` stands for all views. None, where a recipe does not say: the default fields, all views and the source.
    """
    names = () if views is None else views.names
    if fields is None:
        fields = [*DEFAULT_FIELDS, *([SOURCE] if source is not None else []), *names]
    written = [name for each in fields for name in (names if each == VIEWS else (each,))]
    known = {*names, *([SOURCE] if source is not None else [])}
    others = [name for name in written if (name in VIEW_FIELDS or name == SOURCE) and name not in known]
    if others or (VIEWS in fields and views is None):
        there = ", ".join(sorted(known)) or "none: it has neither `views` nor `source`"
        raise ValueError(f"shards.fields: {', '.join(others) or VIEWS} is no picture of this recipe; it has {there}")
    if len(set(written)) != len(written):
        raise ValueError(f"shards.fields: names a view twice: {', '.join(written)}")
    if names and not set(names) & set(written):
        raise ValueError("shards.fields: stores none of the views; name `views` for all of them, or leave `views:` out")
    return written


def with_layers(fields: list[str], most: int) -> list[str]:
    """`shards.fields` with `layers` written out as the fields of `most` layers; ValueError for others."""
    known = [name for name in LAYER_FIELDS if int(name[-2:]) < most]
    written = [name for each in fields for name in (known if each == LAYERS else (each,))]
    others = [name for name in written if name in LAYER_FIELDS and name not in known]
    if others or (LAYERS in fields and not known):
        if not known:
            name = ", ".join(others) or LAYERS
            raise ValueError(
                f"shards.fields: this recipe has no layers for {name}: only scenes of foregrounds over a background "
                "have some; leave it out"
            )
        raise ValueError(
            f"shards.fields: {', '.join(others)} is no layer of this recipe; it has {known[0]} to {known[-1]}"
        )
    if len(set(written)) != len(written):
        raise ValueError(f"shards.fields: names a layer twice: {', '.join(written)}")
    return written
