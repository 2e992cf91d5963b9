"""What a recipe says about the lens."""

import math
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from bokehsynth.config.distributions import Constant, GrownSpec, bounds
from bokehsynth.config.user_code import is_refused
from bokehsynth.errors import UsageError
from bokehsynth.files import canonical_json, sha256_bytes
from bokehsynth.optics import Aperture, Prescription, load_prescription, sized_aperture
from bokehsynth.optics.prescription import FocusTables, focus_tables, packaged_lenses, read_prescription
from bokehsynth.rendering.aperture.lens_points import needs_field_table, table_digest, unbaked_part
from bokehsynth.scene.aperture_spec import FROM_FILES, ApertureSpec, build_aperture, name_of, portable
from bokehsynth.scene.camera import (
    FULL_FRAME,
    CameraDraw,
    CameraRanges,
    CameraSpec,
    Distances,
    FNumbers,
    SceneLens,
    Widths,
)


def _one_or_many(value: Any) -> str:
    return "many" if isinstance(value, list) else "one"


_OF_PRESCRIPTIONS = ("f_number", "sensor_width_mm", "near_m", "focus_m")

RENDERS_ALL = frozenset({"cpu", "reference"})
"""Backends that render apertures with aberrations, several rims, and weights that depend on the field."""


class LensSpec(GrownSpec):
    """The opening of the lens, or several to choose from."""

    absent_unused = ("camera", "prescription", *_OF_PRESCRIPTIONS)

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
    prescription: str | dict[str, Any] | None = None
    """A real lens, traced: the name of a packaged one, a file (.json, .zmx, .seq) relative to the recipe file, or the
    content of such a JSON, as a data set keeps it. It takes the place of `aperture` and of `scene.blur`, and needs
    near_m. The next four keys belong to it."""
    f_number: FNumbers | None = None
    """f-number, not below the lens's own. Absent: wide open."""
    sensor_width_mm: Widths | None = None
    """Width of the sensor; the picture's width lies on it. Absent: 36."""
    near_m: Distances | None = None
    """Distance from the entrance pupil at which disparity is 1: disparity is near_m / distance."""
    focus_m: Distances | None = None
    """Distance in focus, at least near_m; it takes the place of `scene.focus`. Absent: as `scene.focus` says."""

    @model_validator(mode="after")
    def _usable(self) -> "LensSpec":
        self._check_keys()
        if any(is_refused(path) for path in self.class_paths):
            return self  # it was checked when the data set was made
        if not self.has_unread_files:
            self.check()
        return self

    def _check_keys(self) -> None:
        """ValueError for keys that do not go together."""
        if self.prescription is None:
            given = [name for name in _OF_PRESCRIPTIONS if getattr(self, name) is not None]
            if given:
                raise ValueError(f"{', '.join(given)}: belong to a prescription; of an ideal lens they stand in camera")
        elif self.camera is not None:
            raise ValueError("camera is an ideal lens and prescription a real one: give one of them")
        elif self.aperture != "disc":
            raise ValueError("a prescription has its own opening: leave aperture out")
        elif self.near_m is None:
            raise ValueError("a prescription needs near_m, the distance in metres at which disparity is 1")

    def check(self) -> None:
        """ValueError or UsageError for what cannot be built: an aperture, a prescription, its camera."""
        ranges = self.ranges
        if ranges is not None:
            ranges.check()
        lens = self.real_lens
        if lens is None:
            _ = self.apertures
        elif ranges is not None:
            for number in bounds(ranges.f_number):
                lens.state(number, ranges.nearest_focus_m)

    def check_device(self, device: str) -> None:
        """UsageError for a lens that this backend does not render, before any sample is made."""
        if device in RENDERS_ALL or any(is_refused(path) for path in self.class_paths):
            return
        parts = {name: unbaked_part(aperture) for name, aperture in zip(self.names, self.apertures, strict=True)}
        if self.real_lens is not None:
            parts = {self.real_lens.name: "is traced and has aberrations"}
        others = " and ".join(sorted(RENDERS_ALL))
        for name, part in parts.items():
            if part:
                raise UsageError(
                    f"lens {name} {part}, which {device} does not render yet; {others} can: use --device cpu"
                )

    def device_for(self, asked: str, found: str) -> str:
        """Return `found`, or the CPU where `auto` found one that lacks this lens; UsageError as `check_device`."""
        try:
            self.check_device(found)
        except UsageError:
            if asked != "auto":
                raise
            self.check_device("cpu")
            return "cpu"
        return found

    @property
    def has_unread_files(self) -> bool:
        """Whether it names files whose content is not in it yet."""
        if isinstance(self.prescription, str) and self.prescription not in packaged_lenses():
            return True
        return any(isinstance(spec, FROM_FILES) and spec.data is None for spec in self.aperture_specs)

    def with_files(self, base: Path) -> "LensSpec":
        """The same with the content of the files that it names, relative to `base`, checked; UsageError names one."""
        if not self.has_unread_files:
            return self
        read = [spec.with_data(base) if isinstance(spec, FROM_FILES) else spec for spec in self.aperture_specs]
        changes: dict[str, Any] = {"aperture": read if isinstance(self.aperture, list) else read[0]}
        if isinstance(self.prescription, str):
            changes["prescription"] = load_prescription(self.prescription, base).record
        copy = self.model_copy(update=changes)
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
        spec, lens = self.camera, self.real_lens
        if spec is not None:
            return CameraRanges(spec.focal_length_mm, spec.f_number, spec.sensor_width_mm, spec.near_m, spec.focus_m)
        if lens is None or self.near_m is None:
            return None
        f_number = self.f_number or Constant(value=lens.f_number)
        return CameraRanges(
            None, f_number, self.sensor_width_mm or Constant(value=FULL_FRAME), self.near_m, self.focus_m
        )

    @property
    def has_camera(self) -> bool:
        """Whether K follows from a camera."""
        return self.camera is not None or self.prescription is not None

    @cached_property
    def real_lens(self) -> Prescription | None:
        """The prescription, if it has one; UsageError if that is none, or if its file was not read."""
        if self.prescription is None:
            return None
        if isinstance(self.prescription, dict):
            return read_prescription(self.prescription, f"prescription {self.prescription.get('name')!r}")
        if self.prescription in packaged_lenses():
            return load_prescription(self.prescription)
        raise UsageError(f"prescription {self.prescription!r}: its file was not read")

    def tables(self, size: tuple[int, int]) -> FocusTables | None:
        """The tables of the prescription for pictures of `size` (height, width), if it has one."""
        lens, ranges = self.real_lens, self.ranges
        if lens is None or ranges is None:
            return None
        half_diagonal = bounds(ranges.sensor_width_mm)[1] / 2 * math.hypot(1, size[0] / size[1])
        return focus_tables(lens, half_diagonal, ranges.nearest_focus_m)

    def prepare(self, size: tuple[int, int] | None) -> None:
        """Trace the tables that samples need, so that other processes find them in the cache."""
        tables = self.tables(size) if size is not None else None
        if tables is not None and self.ranges is not None:
            tables.prepare(bounds(self.ranges.f_number))

    def check_tables(self, size: tuple[int, int] | None) -> None:
        """UsageError for aberrations that change too fast for the tables of `cpu`, where all pictures have one size."""
        if size is None or any(is_refused(path) for path in self.class_paths):
            return
        openings = [opening for opening in self._roughest(size) if needs_field_table(opening)]
        if not openings:
            return
        from bokehsynth.rendering.aperture.tables import FieldLensTables, tables_of  # which imports the kernels

        for tables in map(tables_of, openings):
            if isinstance(tables, FieldLensTables):
                tables.field_table(size[1], size[0])

    def _roughest(self, size: tuple[int, int]) -> tuple[Aperture, ...]:
        """All apertures; of a prescription that of the lowest f-number, the nearest focus and the smallest sensor."""
        ranges, tables = self.ranges, self.tables(size)
        if ranges is None or tables is None:
            return self.apertures
        f_number, near, width = (bounds(each)[0] for each in (ranges.f_number, ranges.near_m, ranges.sensor_width_mm))
        focus = ranges.nearest_focus_m
        lens = tables.lens(f_number=f_number, focus_m=focus, near_m=near, sensor_width_mm=width, size=size)
        return (lens.aperture,)

    def blur_bound(self, size: tuple[int, int]) -> float | None:
        """Largest K in pixels that the camera can have in a picture of `size`; None without a camera."""
        ranges, tables = self.ranges, self.tables(size)
        if ranges is None or tables is None:
            return None if ranges is None else ranges.ideal_blur_bound(size[1])
        finest = size[1] / bounds(ranges.sensor_width_mm)[0]
        return tables.blur_bound(bounds(ranges.f_number)[0], bounds(ranges.near_m)[0], finest)

    def scene_lens(
        self, aperture: int, camera: CameraDraw | None = None, size: tuple[int, int] | None = None
    ) -> SceneLens:
        """What was drawn of it: the place of an aperture in the list, and the camera's numbers."""
        opening = self.apertures[aperture]
        if size is not None:
            opening = sized_aperture(opening, size)
        return SceneLens(opening, camera, self.tables(size) if size is not None else None)

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
        if self.real_lens is not None:
            return (self.real_lens.name,)
        return tuple(name_of(spec) for spec in self.aperture_specs)

    @cached_property
    def digest(self) -> str:
        """Identity of all their tables; of a prescription, of its numbers."""
        if self.real_lens is not None:
            return sha256_bytes(canonical_json(self.real_lens.record))
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
