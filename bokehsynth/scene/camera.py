"""The camera of a sample in millimetres and metres: what a recipe says of it, its draw, and the lens it makes."""

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from bokehsynth.config.distributions import Constant, Distribution, Spec, bounds, sample, within
from bokehsynth.optics import Aperture, Disc, Lens
from bokehsynth.optics.prescription import FocusTables

FNumbers = Annotated[Distribution, within(0.5, 128)]
Widths = Annotated[Distribution, within(1, 500)]
Distances = Annotated[Distribution, within(0.001, 1e6)]

FULL_FRAME = 36.0
"""Width in mm of the sensor where a recipe does not say."""


class CameraSpec(Spec):
    """An ideal lens in millimetres and metres, in place of `scene.blur`."""

    focal_length_mm: Annotated[Distribution, within(0.5, 5000)]
    """Focal length."""
    f_number: FNumbers
    """f-number."""
    sensor_width_mm: Widths = Constant(value=FULL_FRAME)
    """Width of the sensor; the picture's width lies on it."""
    near_m: Distances
    """Distance at which disparity is 1: disparity is near_m / distance. It must be beyond the focal length."""
    focus_m: Distances | None = None
    """Distance in focus, at least near_m; it takes the place of `scene.focus`. Absent: as `scene.focus` says."""


class CameraRanges(NamedTuple):
    """The distributions of a camera's numbers, of an ideal lens or a prescription."""

    focal_length_mm: Distribution | None
    """None: that of a prescription."""
    f_number: Distribution
    sensor_width_mm: Distribution
    near_m: Distribution
    focus_m: Distribution | None

    @property
    def nearest_focus_m(self) -> float:
        """Nearest distance that can be in focus: disparities are at most 1."""
        return bounds(self.near_m if self.focus_m is None else self.focus_m)[0]

    def check(self) -> None:
        """ValueError where the numbers that can be drawn are no camera."""
        near = bounds(self.near_m)
        if self.focus_m is not None and bounds(self.focus_m)[0] < near[1]:
            raise ValueError(
                f"focus_m ({bounds(self.focus_m)[0]:g} m and more) must be at least near_m (up to {near[1]:g} m), "
                "where disparity is 1"
            )
        if self.focal_length_mm is not None and bounds(self.focal_length_mm)[1] >= 1000 * near[0]:
            raise ValueError(
                f"near_m ({near[0]:g} m and more) must be beyond the focal length (up to "
                f"{bounds(self.focal_length_mm)[1]:g} mm): nothing nearer can be in focus"
            )

    def draw(self, rng: np.random.Generator) -> "CameraDraw":
        """Draw all numbers."""
        focal_length = None if self.focal_length_mm is None else sample(self.focal_length_mm, rng)
        return CameraDraw(
            focal_length_mm=focal_length, f_number=sample(self.f_number, rng),
            sensor_width_mm=sample(self.sensor_width_mm, rng), near_m=sample(self.near_m, rng),
            focus_m=None if self.focus_m is None else sample(self.focus_m, rng),
        )  # fmt: skip

    def ideal_blur_bound(self, width: int) -> float:
        """Largest K that an ideal lens of these numbers can have in a picture of this width."""
        assert self.focal_length_mm is not None
        return Lens.from_camera(
            focal_length_mm=bounds(self.focal_length_mm)[1], f_number=bounds(self.f_number)[0],
            focus_distance_m=self.nearest_focus_m, sensor_width_mm=bounds(self.sensor_width_mm)[0],
            image_width_px=width, near_m=bounds(self.near_m)[0],
        ).blur  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CameraDraw:
    """The numbers of one sample's camera."""

    focal_length_mm: float | None
    """None: that of the recipe's prescription."""
    f_number: float
    sensor_width_mm: float
    near_m: Annotated[float, Field(gt=0)]
    """Distance at which disparity is 1."""
    focus_m: float | None
    """None: the scene says what is in focus."""


class MetricCamera(NamedTuple):
    """A drawn camera, and what bounds the blur of all cameras of its recipe."""

    draw: CameraDraw
    blur_bound: float
    """K in pixels that none of them exceeds."""


@dataclass(frozen=True, eq=False)
class SceneLens:
    """The lens in front of a scene before it is focused: an opening, and a camera where the recipe has one."""

    aperture: Aperture = field(default_factory=Disc)
    camera: CameraDraw | None = None
    tables: FocusTables | None = None
    """Of a prescription, which has its own opening."""

    def blur(self, focus: float, size: tuple[int, int]) -> float:
        """K of the camera's lens with the disparity `focus` sharp, for pictures of `size` (height, width)."""
        camera = self.camera
        assert camera is not None
        distance = camera.near_m / focus if focus > 0 else math.inf
        if self.tables is not None:
            state = self.tables.prescription.state(camera.f_number, distance)
            return state.blur(size[1] / camera.sensor_width_mm, camera.near_m)
        assert camera.focal_length_mm is not None
        return Lens.from_camera(
            focal_length_mm=camera.focal_length_mm, f_number=camera.f_number, focus_distance_m=distance,
            sensor_width_mm=camera.sensor_width_mm, image_width_px=size[1], near_m=camera.near_m,
        ).blur  # fmt: skip

    def focused(self, focus: float, size: tuple[int, int]) -> Lens:
        """The camera's lens with the disparity `focus` sharp, for pictures of `size` (height, width)."""
        camera = self.camera
        if self.tables is None or camera is None:
            return Lens(self.blur(focus, size), focus, self.aperture)
        lens = self.tables.lens(
            f_number=camera.f_number, focus_m=camera.near_m / focus if focus > 0 else math.inf, near_m=camera.near_m,
            sensor_width_mm=camera.sensor_width_mm, size=size,
        )  # fmt: skip
        return replace(lens, focus=focus)
