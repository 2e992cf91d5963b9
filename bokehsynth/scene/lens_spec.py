"""What a recipe says about the lens."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationError,
    model_serializer,
    model_validator,
)

from bokehsynth.config.distributions import Spec
from bokehsynth.config.user_code import is_refused
from bokehsynth.errors import UsageError
from bokehsynth.files import sha256_bytes
from bokehsynth.optics import Aperture
from bokehsynth.rendering.aperture.lens_points import table_digest, unbaked_part
from bokehsynth.scene.aperture_spec import ApertureSpec, ImageSpec, build_aperture, name_of, portable
from bokehsynth.scene.camera import CameraDraw, CameraRanges, CameraSpec, SceneLens


def _one_or_many(value: Any) -> str:
    return "many" if isinstance(value, list) else "one"


_ABSENT_UNUSED = ("camera",)


class LensSpec(Spec):
    """The opening of the lens, or several to choose from."""

    aperture: Annotated[
        Annotated[ApertureSpec, Tag("one")]
        | Annotated[list[ApertureSpec], Field(min_length=1, max_length=64), Tag("many")],
        Discriminator(_one_or_many),
    ] = "disc"
    """`disc`, `polygon:7` (or a mapping with `kind`: polygon, ring, cat_eye, apodized, onion, anamorphic, image), or
    `package.module:Class` for an Aperture of your own; or a list of these."""
    order: Literal["random", "sweep"] = "random"
    """Of a list: `random`: one is drawn for every sample; `sweep`: every scene is photographed through all of them in
    turn, so that sample i is scene i // n through aperture i % n."""

    camera: CameraSpec | None = None
    """An ideal lens in millimetres and metres: K follows from its numbers and from what is in focus, in place of
    `scene.blur`, and near_m / disparity are metres."""

    @model_serializer(mode="wrap")
    def _without_unused(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keys that 0.4.0 did not know are left out where they are not used: its recipes keep their bytes."""
        return {key: value for key, value in serialize(self).items() if key not in _ABSENT_UNUSED or value is not None}

    @model_validator(mode="after")
    def _usable(self) -> "LensSpec":
        if self.ranges is not None:
            self.ranges.check()
        if any(is_refused(path) for path in self.class_paths):
            return self  # it was checked when the data set was made
        if not self.has_unread_files:
            self.check()
        return self

    def check(self) -> None:
        """ValueError or UsageError for an aperture that cannot be built, or that data sets cannot use."""
        for name, aperture in zip(self.names, self.apertures, strict=True):
            part = unbaked_part(aperture)
            if part:
                raise ValueError(
                    f"aperture {name} {part}, which only the reference renderer knows: data sets cannot use it"
                )

    @property
    def has_unread_files(self) -> bool:
        """Whether it names files whose content is not in it yet."""
        return any(isinstance(spec, ImageSpec) and spec.data is None for spec in self.aperture_specs)

    def with_files(self, base: Path) -> "LensSpec":
        """The same with the content of the files that it names, relative to `base`, checked; UsageError names one."""
        if not self.has_unread_files:
            return self
        read = [spec.with_data(base) if isinstance(spec, ImageSpec) else spec for spec in self.aperture_specs]
        copy = self.model_copy(update={"aperture": read if isinstance(self.aperture, list) else read[0]})
        try:
            copy.check()
        except ValueError as error:
            raise UsageError(str(error)) from None
        return copy

    @property
    def portable(self) -> dict[str, Any]:
        """It as plain data, pictures by their digests: what identifies it."""
        apertures = [portable(spec) for spec in self.aperture_specs]
        return self.model_dump(mode="json") | {
            "aperture": apertures if isinstance(self.aperture, list) else apertures[0]
        }

    @property
    def ranges(self) -> CameraRanges | None:
        """The distributions of the camera's numbers, if it has one."""
        spec = self.camera
        if spec is None:
            return None
        return CameraRanges(spec.focal_length_mm, spec.f_number, spec.sensor_width_mm, spec.near_m, spec.focus_m)

    def blur_bound(self, size: tuple[int, int]) -> float | None:
        """Largest K in pixels that the camera can have in a picture of `size`; None without a camera."""
        return None if self.ranges is None else self.ranges.ideal_blur_bound(size[1])

    def scene_lens(self, aperture: int, camera: CameraDraw | None) -> SceneLens:
        """What was drawn of it: the place of an aperture in the list, and the camera's numbers."""
        return SceneLens(self.apertures[aperture], camera)

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
    """Build the aperture that a short text such as `polygon:7` names; UsageError says what is wrong.

    Files are relative to the working directory.
    """
    try:
        return LensSpec(aperture=text).with_files(Path.cwd()).apertures[0]
    except ValidationError as error:
        fault = max(error.errors(), key=lambda fault: len(fault["loc"]))  # the others are about the other forms
        field = f"{fault['loc'][-1]}: " if len(fault["loc"]) > 3 else ""
        words = fault["msg"].removeprefix("Value error, ")
        raise UsageError(words if words.startswith("aperture ") else f"aperture {text!r}: {field}{words}") from None
