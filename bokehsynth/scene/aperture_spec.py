"""What a recipe says about an opening, and the short text that names one: `polygon:7,curvature=0.3`."""

import base64
import binascii
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.assets.decode.safe_read import read_file
from bokehsynth.assets.single import WEIGHTS_BYTES, weights_from
from bokehsynth.config.distributions import Spec
from bokehsynth.config.fault_words import did_you_mean
from bokehsynth.config.user_code import UntrustedCodeError, load_module
from bokehsynth.errors import UsageError, user_error
from bokehsynth.files import local_path, sha256_bytes
from bokehsynth.optics import (
    Anamorphic,
    Aperture,
    Apodized,
    CalibratedAperture,
    CatEye,
    Disc,
    ImageAperture,
    OnionRings,
    Polygon,
    Ring,
    read_calibration,
)


class PolygonSpec(Spec):
    """An iris of `blades` sides."""

    kind: Literal["polygon"]
    blades: Annotated[int, Field(ge=3, le=64)]
    """Number of blades."""
    rotation: float = 0.0
    """Radians from +x to a vertex."""
    curvature: Annotated[float, Field(ge=0, le=1)] = 0.0
    """0: straight blades, 1: a full disc."""


class RingSpec(Spec):
    """A mirror lens."""

    kind: Literal["ring"]
    inner: Annotated[float, Field(ge=0, lt=1)]
    """Radius of the obstructed middle, relative to the opening."""


class CatEyeSpec(Spec):
    """A disc that the lens's rim cuts more and more towards the picture's corners."""

    kind: Literal["cat_eye"]
    strength: Annotated[float, Field(ge=0)]
    """How far the rim's disc moves from the picture's middle to its corner, in radii of the opening."""
    radius: Annotated[float, Field(gt=0)] = 1.0
    """Of the rim's disc, relative to the opening."""


class ApodizedSpec(Spec):
    """A filter that darkens towards the rim, so that blurred edges run out softly."""

    kind: Literal["apodized"]
    edge: Annotated[float, Field(gt=0, le=1)]
    """Transmission at the rim, relative to the middle."""


class OnionSpec(Spec):
    """Rings in blurred lights, as moulded aspheres draw them."""

    kind: Literal["onion"]
    rings: Annotated[float, Field(ge=0.5, le=40)]
    """Number of rings from the middle to the rim."""
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Their depth: 0 none, 1 from black to twice the mean."""


class AnamorphicSpec(Spec):
    """An upright oval, as high as the disc."""

    kind: Literal["anamorphic"]
    squeeze: Annotated[float, Field(ge=1, le=20)] = 2.0
    """Height over width."""
    corner: Annotated[float, Field(ge=1, le=20)] | None = None
    """Squeeze in the picture's corners; absent: the same everywhere."""
    rotation: float = 0.0
    """Radians by which the oval is turned clockwise."""


class ImageSpec(Spec):
    """A picture whose numbers are the transmission: white passes, black does not."""

    kind: Literal["image"]
    file: str
    """Grey or RGB picture of at most 256 kB, relative to the recipe file; its longer side spans the disc."""
    data: Annotated[str, Field(max_length=-(-WEIGHTS_BYTES // 3) * 4)] | None = None
    """The file's bytes in base64. Written into the data set's own recipe, which needs the file no more."""

    def with_data(self, base: Path) -> "ImageSpec":
        """The same with the file's bytes, and the file's name alone; UsageError if it is no picture of weights."""
        if self.data is not None:
            return self
        path = base / local_path(self.file)
        try:
            data = read_file(path, max_bytes=WEIGHTS_BYTES)
            ImageAperture(weights_from(data, str(path)))
        except RejectedPicture as error:
            raise UsageError(f"a picture of an opening: {error}") from None
        return self.model_copy(update={"file": path.name, "data": base64.b64encode(data).decode("ascii")})

    @property
    def content(self) -> bytes:
        """The file's bytes; UsageError where they were not read, or are no base64."""
        try:
            if self.data is not None:
                return base64.b64decode(self.data, validate=True)
        except binascii.Error:
            raise UsageError(f"aperture image:{self.file}: data is no base64") from None
        raise UsageError(f"aperture image:{self.file} has no data: its file was not read")

    def build(self) -> ImageAperture:
        """The opening; UsageError if the data are no picture."""
        try:
            return ImageAperture(weights_from(self.content, self.file))
        except RejectedPicture as error:
            raise UsageError(f"aperture image:{self.file}: {error}") from None


class CalibratedSpec(Spec):
    """A lens that `bokehsynth calibrate` found in photographs."""

    kind: Literal["calibrated"]
    file: str
    """The file that it wrote, relative to the recipe file."""
    data: dict[str, Any] | None = None
    """The opening of that file. Written into the data set's own recipe, which needs the file no more."""

    def with_data(self, base: Path) -> "CalibratedSpec":
        """The same with the file's opening, and the file's name alone; UsageError if it is none."""
        if self.data is not None:
            return self
        path = base / local_path(self.file)
        opening = CalibratedAperture.from_record(read_calibration(path), str(path))
        return self.model_copy(update={"file": path.name, "data": opening.record})

    def build(self) -> CalibratedAperture:
        """The opening; UsageError where its file was not read, or holds none."""
        if self.data is None:
            raise UsageError(f"aperture calibrated:{self.file} has no data: its file was not read")
        return CalibratedAperture.from_record(self.data, f"aperture calibrated:{self.file}")


FROM_FILES = (ImageSpec, CalibratedSpec)
"""Openings whose numbers stand in a file."""

Shape = PolygonSpec | RingSpec | CatEyeSpec | ApodizedSpec | OnionSpec | AnamorphicSpec | ImageSpec | CalibratedSpec

_SHAPES: dict[str, tuple[type[Spec], type[Aperture]]] = {
    "polygon": (PolygonSpec, Polygon),
    "ring": (RingSpec, Ring),
    "cat_eye": (CatEyeSpec, CatEye),
    "apodized": (ApodizedSpec, Apodized),
    "onion": (OnionSpec, OnionRings),
    "anamorphic": (AnamorphicSpec, Anamorphic),
    "image": (ImageSpec, ImageAperture),
    "calibrated": (CalibratedSpec, CalibratedAperture),
}
"""What a recipe says of a kind, and its class, which has the same parameters (but for those from files)."""


def _read_shape(value: Any) -> Any:
    """Turn a short text such as `ring:0.4` into the mapping it stands for; leave everything else as it is."""
    if not isinstance(value, str) or value.partition(":")[0] not in _SHAPES:
        return value
    kind, _, rest = value.partition(":")
    if kind in {"image", "calibrated"}:
        return {"kind": kind, "file": rest}
    names = [name for name in _SHAPES[kind][0].model_fields if name != "kind"]
    given: dict[str, Any] = {"kind": kind}
    for place, part in enumerate(part.strip() for part in rest.split(",") if part.strip()):
        name, equals, text = part.partition("=")
        if not equals and place > 0:
            raise ValueError(f"{value!r}: {part!r} needs its name, as in {kind}:7,{names[-1]}={part}")
        name, text = (name.strip(), text) if equals else (names[0], name)
        try:
            given[name] = int(text) if name == "blades" else float(text)
        except ValueError:
            raise ValueError(f"{value!r}: {name} must be a number, got {text!r}") from None
    return given


ApertureSpec = Annotated[str | Annotated[Shape, Field(discriminator="kind")], BeforeValidator(_read_shape)]
"""`disc`, `polygon:BLADES[,rotation=..][,curvature=..]`, `ring:INNER`, `cat_eye:STRENGTH[,radius=..]`, `apodized:EDGE`,
`onion:RINGS[,contrast=..]`, `anamorphic:SQUEEZE[,corner=..][,rotation=..]`, `image:FILE`, `calibrated:FILE`, the same
as a mapping with `kind`, or `package.module:Class` for an Aperture of one's own."""


def name_of(spec: Any) -> str:
    """Write an aperture as its short text; parameters at their default are left out."""
    if isinstance(spec, str):
        return spec
    if isinstance(spec, FROM_FILES):
        return f"{spec.kind}:{Path(spec.file).name}"
    first, *others = [name for name in type(spec).model_fields if name != "kind"]
    parts = [f"{getattr(spec, first):g}"]
    for name in others:
        value = getattr(spec, name)
        if value is not None and value != type(spec).model_fields[name].default:
            parts.append(f"{name}={value:g}")
    return f"{spec.kind}:{','.join(parts)}"


def portable(spec: Any) -> Any:
    """An entry as plain data; of a picture its digest, not its bytes."""
    if not isinstance(spec, Spec):
        return spec
    record = spec.model_dump(mode="json")
    if isinstance(spec, ImageSpec) and spec.data is not None:
        record["data"] = f"sha256:{sha256_bytes(spec.data)}"
    return record


def build_aperture(spec: Any) -> Aperture:
    """Build the aperture of one entry of a recipe; UsageError if its class cannot be loaded."""
    if isinstance(spec, FROM_FILES):
        return spec.build()
    if isinstance(spec, Shape):
        return _SHAPES[spec.kind][1](**spec.model_dump(exclude={"kind"}))
    return Disc() if spec == "disc" else _load(str(spec))


def _meant_by_form(name: str) -> str:
    blades = {"triangle": 3, "pentagon": 5, "hexagon": 6, "heptagon": 7, "octagon": 8, "nonagon": 9}
    words = {form: f"polygon:{count}" for form, count in blades.items()} | {"circle": "disc", "round": "disc"}
    return f"did you mean {words[name]!r}? " if name in words else ""


def _load(name: str) -> Aperture:
    if ":" not in name:
        hint = did_you_mean(name, ["disc", *_SHAPES]) or _meant_by_form(name)
        raise UsageError(
            f"aperture {name!r}: {hint}use disc, polygon:BLADES, ring:INNER, cat_eye:STRENGTH, apodized:EDGE, "
            "onion:RINGS, anamorphic:SQUEEZE, image:FILE, calibrated:FILE, or package.module:Class"
        )
    try:
        found = getattr(load_module(name), name.partition(":")[2])
        usable = isinstance(found, type) and issubclass(found, Aperture)  # nothing else is called
        aperture = found() if usable else None
    except UntrustedCodeError:
        raise
    except BaseException as raised:  # a user's module may raise anything while it is imported or built
        error = user_error(raised)
        meant = did_you_mean(name.partition(":")[0], [*_SHAPES]) if isinstance(error, ModuleNotFoundError) else ""
        raise UsageError(
            f"aperture {name!r} cannot be loaded: {type(error).__name__}: {error}; {meant}the module must be "
            "importable (installed, or its folder named in PYTHONPATH)"
        ) from error
    if not isinstance(aperture, Aperture):
        kind = found.__name__ if isinstance(found, type) else type(found).__name__
        raise UsageError(f"aperture {name!r} is a {kind}, not a subclass of bokehsynth.Aperture")
    return aperture
