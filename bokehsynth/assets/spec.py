"""The recipe's section `assets`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from bokehsynth.assets.decode.decoder import MAX_PIXELS, MIN_SIDE, Limits
from bokehsynth.config.distributions import GrownSpec, Spec
from bokehsynth.config.user_code import is_class_path

PILLOW_GUARD = 89_478_485
"""Pixels above which Pillow itself suspects an attack."""

SOURCE_LISTS = ("foregrounds", "backgrounds", "photos", "pairs")
"""The keys of the section that hold sources."""

SHARPNESS_FLOOR = 0.2
"""See docs/assets.md for what it was calibrated on."""


_Share = Annotated[float, Field(ge=0, le=1)]


class QualitySpec(Spec):
    """Which pictures of a source are good enough: the others are quarantined. A threshold that is not given asks for
    nothing. Sharpness and exposure are measured at a shorter side of 512 px, of cut-outs where they are solid; those of
    scene-referred pictures (.hdr, .exr) are not judged."""

    min_side: Annotated[int, Field(ge=1)] | None = None
    """Least shorter side in pixels, of a cut-out that of its subject's box [reason: too_small]."""
    min_laplacian: Annotated[float, Field(ge=0)] | None = None
    """Least variance of the Laplacian of its grey levels, 0..255 [reason: blurred]."""
    max_white: _Share | None = None
    """Largest share of pixels whose channels are all 254 or more of 255 [reason: clipped]."""
    max_black: _Share | None = None
    """Largest share of pixels whose channels are all 1 or less of 255 [reason: clipped]."""
    min_soft: _Share | None = None
    """Of cut-outs: least share of the visible pixels with an alpha between 0.02 and 0.98; mattes that were cut with
    scissors have next to none [reason: poor_matte]."""
    max_soft: _Share | None = None
    """Of cut-outs: largest such share; mattes that are a haze have much [reason: poor_matte]."""
    max_holes: _Share | None = None
    """Of cut-outs: largest share of the subject that is transparent and shut in by it [reason: poor_matte]."""
    min_area: _Share | None = None
    """Of cut-outs: least share of the picture that its subject covers [reason: poor_matte]."""

    @property
    def of_mattes(self) -> list[str]:
        """The given keys that judge a matte."""
        keys = ("min_soft", "max_soft", "max_holes", "min_area")
        return [key for key in keys if getattr(self, key) is not None]


class SourceSpec(GrownSpec):
    """Where assets come from; a plain string or list of strings means its `path`."""

    absent_unused: ClassVar[tuple[str, ...]] = ("credits", "quality")

    path: str | Annotated[list[str], Field(min_length=1)]
    """A folder (with all below it), a glob, a picture, a .txt list of pictures, or a list of these; `procedural` for
    the embedded pictures, `procedural/FAMILY` for one family of them. Relative paths: see `assets.root`."""
    licence: str | None = None
    """Licence of every picture of this source, recorded in assets.jsonl [default: unknown; of embedded pictures
    Apache-2.0]."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """How often an asset of this source is drawn, relative to assets of the other sources."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use at most this many assets of the source; those that were indexed first stay."""
    first: Annotated[int, Field(ge=1)] | None = None
    """Look at the first so many pictures of the source only, in order of their paths (`limit` knows no order)."""
    colors: Literal["auto", "photographed", "straight", "premultiplied"] = "auto"
    """What stands under soft alpha: the photograph with its old background (the foreground's own colour is then
    estimated), that colour already, or that colour times alpha. `auto` looks at each picture; a matte in a file of its
    own means photographed."""
    credits: str | None = None
    """A table of who made the pictures, a .csv file in the folder of the source: columns `file` (the picture's path in
    that folder) and any of `author`, `url`, `title` and `licence` (which goes before the source's). It is recorded in
    assets.jsonl and told on the card."""
    quality: QualitySpec | None = None
    """Thresholds of resolution, sharpness, exposure and mattes; what misses one is quarantined. Absent: none."""

    @field_validator("credits")
    @classmethod
    def _in_the_folder(cls, value: str | None) -> str | None:
        if value is not None and ("/" in value or "\\" in value or not value.lower().endswith(".csv")):
            raise ValueError(f"is the name of a .csv file in the source's folder, not a path; got {value!r}")
        return value

    @model_validator(mode="after")
    def _credits_have_a_folder(self) -> "SourceSpec":
        if self.credits is not None and self.procedural:
            raise ValueError("credits: the embedded pictures have no folder, and no authors but this project's")
        if self.quality is not None and self.procedural:
            raise ValueError("quality: the embedded pictures have no files to judge; leave it out")
        if self.class_path is not None:
            for name in ("credits", "quality", "first"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: {self.path} is a class, whose pictures have no files; leave it out")
            if self.colors != "auto":
                raise ValueError(f"colors: the class {self.path} draws straight colour; leave it out")
        return self

    @property
    def procedural(self) -> bool:
        """Whether these are the embedded pictures."""
        return isinstance(self.path, str) and self.path.partition("/")[0] == "procedural"

    @property
    def class_path(self) -> str | None:
        """The class that draws the pictures, `package.module:Class`; None where no class does."""
        return self.path if isinstance(self.path, str) and is_class_path(self.path) else None

    @property
    def drawn(self) -> bool:
        """Whether the pictures are drawn: they have no files, and no place on this machine."""
        return self.procedural or self.class_path is not None

    @property
    def licence_name(self) -> str:
        """The stated licence; otherwise Apache-2.0 for embedded pictures, else `unknown`."""
        return self.licence or ("Apache-2.0" if self.procedural else "unknown")

    @property
    def paths(self) -> list[str]:
        """`path` as a list."""
        return [self.path] if isinstance(self.path, str) else list(self.path)


def _as_source(value: Any) -> Any:
    return {"path": value} if isinstance(value, str | list) else value


def _as_sources(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


class PairChecks(Spec):
    """What the two photographs of a pair must have in common; a pair that has not is quarantined."""

    max_shift: Annotated[float, Field(ge=0, le=0.5)] = 0.004
    """How far the subject may lie from its place, as a share of the shorter side; 1.5 px are always allowed."""
    max_stops: Annotated[float, Field(ge=0, le=10)] = 0.75
    """How many stops the subject may be lighter or darker, in any channel."""
    min_likeness: Annotated[float, Field(ge=-1, le=1)] = 0.8
    """Least correlation of the subject's log luminance: below, they are not two pictures of one thing."""


class PairPatterns(Spec):
    """File names of a folder of pairs, relative to the source, `{name}` standing for the pair's name."""

    aif: str
    """All in focus, e.g. `{name}_f16.jpg`."""
    bokeh: str
    """Through the lens, e.g. `{name}_f1_8.jpg`."""
    disparity: str | None = None
    """Map of relative inverse depth of any scale, bright = near; PNG, TIFF, EXR or NPY."""
    mask: str | None = None
    """White where the subject is in focus."""

    @field_validator("aif", "bokeh", "disparity", "mask")
    @classmethod
    def _named_once(cls, value: str | None) -> str | None:
        if value is not None and value.count("{name}") != 1:
            raise ValueError(f"needs {{name}} exactly once, as in {{name}}_f16.jpg; got {value!r}")
        return value


class PairSourceSpec(SourceSpec):
    """Where photographed pairs come from; a plain string means its `path`, a folder."""

    absent_unused = ("credits", "quality", "layout")

    names: PairPatterns | None = None
    """How the files of a pair are called, where neither folders (`original/`, `bokeh/`, ...) nor suffixes (`_input`,
    `_bokeh`, ...) say so."""
    layout: Literal["realbokeh"] | None = None
    """How the files of a published set say which belong together: `realbokeh` has `metadata/NAME.json` with
    `source_image`, `target_images` and `target_avs`; each target is a pair with the source, and its f-number is the key
    `f_number` of the sample's record. Absent: by `names`, folders or suffixes."""

    @model_validator(mode="after")
    def _named_in_one_way(self) -> "PairSourceSpec":
        if self.layout is not None and self.names is not None:
            raise ValueError("names and layout: both say which files belong together; leave one out")
        return self


Source = Annotated[SourceSpec, BeforeValidator(_as_source)]
PairSource = Annotated[PairSourceSpec, BeforeValidator(_as_source)]
Sources = Annotated[list[Source], Field(min_length=1), BeforeValidator(_as_sources)]


class LicencesSpec(Spec):
    """Which licences may go into the data set."""

    allow: list[str] | None = None
    """Licences of sources that may be used; a source of another licence is an error. Unset: all, `unknown` too."""


class AssetsSpec(Spec):
    """Which pictures a data set is made of."""

    root: str | None = None
    """Folder that relative sources lie in [default: the folder of the recipe file]. Links inside it may lead anywhere
    below it. Packaged recipes that need photographs have no folder of their own: say where with
    `--set assets.root=FOLDER`."""
    foregrounds: Sources = Field(default=[SourceSpec(path="procedural")])
    """Sources of matted cut-outs: pictures with transparency, or pictures and mattes in folders beside each other."""
    backgrounds: Sources = Field(default=[SourceSpec(path="procedural")])
    """Sources of landscapes."""
    photos: Sources = Field(default=[SourceSpec(path="procedural")])
    """Sources of photographs, for `scene.kind: photo`."""
    pairs: Annotated[list[PairSource], BeforeValidator(_as_sources)] = Field(default=[])
    """Folders of photographed pairs, for `scene.kind: pair`."""
    checks: PairChecks = PairChecks()
    """What the two photographs of a pair must have in common."""
    val_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the assets that only the val split uses: those whose hashed content falls below it, with all that look
    like them."""
    licences: LicencesSpec = LicencesSpec()
    """Which licences may be used."""
    max_pixels: Annotated[int, Field(ge=1, le=PILLOW_GUARD)] = MAX_PIXELS
    """Larger pictures are quarantined before they are decoded."""
    min_side: Annotated[int, Field(ge=1)] = MIN_SIDE
    """Pictures with fewer pixels on a side are quarantined."""
    sharpness_floor: Annotated[float, Field(ge=0, lt=1)] = SHARPNESS_FLOOR
    """Photographed landscapes less sharp than this are quarantined as blurred; 0 takes all. `bokehsynth assets` shows
    the sharpness of each."""

    @model_validator(mode="after")
    def _f_numbers_of_all_or_none(self) -> "AssetsSpec":
        if len({source.layout for source in self.pairs}) > 1:
            raise ValueError(
                "pairs: `layout: realbokeh` gives samples an f_number, and all samples of a set have the same keys; "
                "say it of all sources of pairs or of none"
            )
        return self

    @model_validator(mode="after")
    def _mattes_of_cutouts_alone(self) -> "AssetsSpec":
        for name in SOURCE_LISTS[1:]:
            for source in getattr(self, name):
                if source.quality is not None and source.quality.of_mattes:
                    key = source.quality.of_mattes[0]
                    raise ValueError(f"{name}: quality.{key} judges the mattes of cut-outs, and these have none")
        return self

    @model_validator(mode="after")
    def _classes_draw_one_kind(self) -> "AssetsSpec":
        classes = {name: {source.class_path for source in getattr(self, name)} - {None} for name in SOURCE_LISTS}
        if classes["pairs"]:
            raise ValueError(f"pairs: {min(map(str, classes['pairs']))} is a class, and pairs are photographed")
        for name in ("backgrounds", "photos"):
            if both := classes["foregrounds"] & classes[name]:
                raise ValueError(
                    f"foregrounds and {name} both name {min(map(str, both))}: a class draws cut-outs or landscapes; "
                    "write a second class"
                )
        return self

    @property
    def class_paths(self) -> list[str]:
        """The classes that draw pictures, `package.module:Class`."""
        return [s.class_path for name in SOURCE_LISTS for s in getattr(self, name) if s.class_path is not None]

    @property
    def f_numbers(self) -> bool:
        """Whether each pair has a known f-number."""
        return any(source.layout is not None for source in self.pairs)

    def sources(self, kind: str) -> Sequence[SourceSpec]:
        """The sources of one kind of asset."""
        sources: Sequence[SourceSpec] = getattr(self, f"{kind}s")
        return sources

    @property
    def limits(self) -> Limits:
        """What a header may say."""
        return Limits(self.max_pixels, self.min_side)


def absolute_source(source: SourceSpec, base: Path) -> SourceSpec:
    """The source with its paths resolved against `base`; drawn pictures have none."""
    if source.drawn:
        return source
    paths = [str((base / path).absolute()) for path in source.paths]
    return source.model_copy(update={"path": paths[0] if isinstance(source.path, str) else paths})


def portable(spec: AssetsSpec) -> dict[str, object]:
    """The section without places on this machine: what a moved folder leaves as it is."""
    record = spec.model_dump(mode="json", exclude={"root"})
    for name in SOURCE_LISTS:
        for source, dumped in zip(getattr(spec, name), record[name], strict=True):
            if not source.drawn:
                dumped["path"] = "files"
    return record
