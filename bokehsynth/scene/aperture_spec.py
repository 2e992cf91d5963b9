"""What a recipe says about the aperture of the lens, and the short text that names one: `polygon:7,curvature=0.3`."""

from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationError, model_validator

from bokehsynth.config.distributions import Spec
from bokehsynth.config.user_code import UntrustedCodeError, is_refused, load_module
from bokehsynth.errors import USER_ERRORS, UsageError
from bokehsynth.files import sha256_bytes
from bokehsynth.optics import Aperture, CatEye, Disc, Polygon, Ring
from bokehsynth.rendering.aperture.lens_points import table_digest, unbaked_part


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


_SHAPES: dict[str, tuple[type[Spec], type[Aperture]]] = {
    "polygon": (PolygonSpec, Polygon),
    "ring": (RingSpec, Ring),
    "cat_eye": (CatEyeSpec, CatEye),
}
"""What a recipe says of a kind, and its class, which has the same parameters."""


def _read_shape(value: Any) -> Any:
    """Turn a short text such as `ring:0.4` into the mapping it stands for; leave everything else as it is."""
    if not isinstance(value, str) or value.partition(":")[0] not in _SHAPES:
        return value
    kind, _, rest = value.partition(":")
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


ApertureSpec = Annotated[
    str | Annotated[PolygonSpec | RingSpec | CatEyeSpec, Field(discriminator="kind")], BeforeValidator(_read_shape)
]
"""`disc`, `polygon:BLADES[,rotation=..][,curvature=..]`, `ring:INNER`, `cat_eye:STRENGTH[,radius=..]`, the same as a
mapping with `kind`, or `package.module:Class` for an Aperture of one's own."""


def _one_or_many(value: Any) -> str:
    return "many" if isinstance(value, list) else "one"


class LensSpec(Spec):
    """The opening of the lens, or several to choose from."""

    aperture: Annotated[
        Annotated[ApertureSpec, Tag("one")]
        | Annotated[list[ApertureSpec], Field(min_length=1, max_length=64), Tag("many")],
        Discriminator(_one_or_many),
    ] = "disc"
    """`disc`, `polygon:7` (or a mapping with `kind`: polygon, ring, cat_eye), or `package.module:Class` for an Aperture
    of your own; or a list of these."""
    order: Literal["random", "sweep"] = "random"
    """Of a list: `random`: one is drawn for every sample; `sweep`: every scene is photographed through all of them in
    turn, so that sample i is scene i // n through aperture i % n."""

    @model_validator(mode="after")
    def _usable(self) -> "LensSpec":
        if any(is_refused(path) for path in self.class_paths):
            return self  # it was checked when the data set was made
        for name, aperture in zip(self.names, self.apertures, strict=True):
            part = unbaked_part(aperture)
            if part:
                raise ValueError(
                    f"aperture {name} {part}, which only the reference renderer knows: data sets cannot use it"
                )
        return self

    @property
    def aperture_specs(self) -> list[Any]:
        """The list of apertures as written, also where the recipe names a single one."""
        return self.aperture if isinstance(self.aperture, list) else [self.aperture]

    @property
    def class_paths(self) -> list[str]:
        """The entries that name a class, `package.module:Class`."""
        return [spec for spec in self.aperture_specs if isinstance(spec, str) and ":" in spec]

    @cached_property
    def apertures(self) -> tuple[Aperture, ...]:
        """The apertures themselves; UsageError if a class cannot be loaded."""
        return tuple(build_aperture(spec) for spec in self.aperture_specs)

    @property
    def names(self) -> tuple[str, ...]:
        """Their short texts, for the samples' metadata."""
        return tuple(name_of(spec) for spec in self.aperture_specs)

    @cached_property
    def digest(self) -> str:
        """Identity of all their tables."""
        digests = [table_digest(aperture) for aperture in self.apertures]
        return digests[0] if len(digests) == 1 else sha256_bytes("".join(digests))

    def pick_aperture(self, index: int, rng: np.random.Generator) -> tuple[int, int]:
        """Pick the scene that sample `index` shows, and the place of its aperture in the list."""
        count = len(self.aperture_specs)
        if self.order == "sweep":
            return index // count, index % count
        return index, min(int(rng.random() * count), count - 1)


def read_aperture(text: str) -> Aperture:
    """Build the aperture that a short text such as `polygon:7` names; UsageError says what is wrong."""
    try:
        return LensSpec(aperture=text).apertures[0]
    except ValidationError as error:
        fault = max(error.errors(), key=lambda fault: len(fault["loc"]))  # the others are about the other forms
        field = f"{fault['loc'][-1]}: " if len(fault["loc"]) > 3 else ""
        words = fault["msg"].removeprefix("Value error, ")
        raise UsageError(words if words.startswith("aperture ") else f"aperture {text!r}: {field}{words}") from None


def name_of(spec: Any) -> str:
    """Write an aperture as its short text; parameters at their default are left out."""
    if isinstance(spec, str):
        return spec
    first, *others = [name for name in type(spec).model_fields if name != "kind"]
    parts = [f"{getattr(spec, first):g}"]
    for name in others:
        value = getattr(spec, name)
        if value != type(spec).model_fields[name].default:
            parts.append(f"{name}={value:g}")
    return f"{spec.kind}:{','.join(parts)}"


def build_aperture(spec: Any) -> Aperture:
    """Build the aperture of one entry of a recipe; UsageError if its class cannot be loaded."""
    if isinstance(spec, PolygonSpec | RingSpec | CatEyeSpec):
        return _SHAPES[spec.kind][1](**spec.model_dump(exclude={"kind"}))
    return Disc() if spec == "disc" else _load(str(spec))


def _load(name: str) -> Aperture:
    if ":" not in name:
        raise UsageError(
            f"aperture {name!r}: use disc, polygon:BLADES, ring:INNER, cat_eye:STRENGTH, or package.module:Class"
        )
    try:
        found = getattr(load_module(name), name.partition(":")[2])
        usable = isinstance(found, type) and issubclass(found, Aperture)  # nothing else is called
        aperture = found() if usable else None
    except UntrustedCodeError:
        raise
    except USER_ERRORS as error:  # a user's module may raise anything while it is imported or built
        raise UsageError(
            f"aperture {name!r} cannot be loaded: {type(error).__name__}: {error}; the module must be importable "
            "(installed, or its folder named in PYTHONPATH)"
        ) from error
    if not isinstance(aperture, Aperture):
        kind = found.__name__ if isinstance(found, type) else type(found).__name__
        raise UsageError(f"aperture {name!r} is a {kind}, not a subclass of bokehsynth.Aperture")
    return aperture
