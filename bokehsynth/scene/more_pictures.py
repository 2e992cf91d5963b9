"""Further pictures of one scene: their draw, and the lens of each. The layers and their canvas are shared."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from bokehsynth.config.distributions import sample
from bokehsynth.optics import Lens, Plane, part_of
from bokehsynth.scene.camera import CameraDraw, SceneLens
from bokehsynth.scene.compose_lens import farthest, lens_of, possible_focus
from bokehsynth.scene.draw import FocusDraw, SceneDraw, draw_focus
from bokehsynth.scene.lens_spec import LensSpec
from bokehsynth.scene.spec import SceneSpec
from bokehsynth.scene.views_spec import (
    ApertureStackSpec,
    DualPixelSpec,
    FocalStackSpec,
    SourceLensSpec,
    SubAperturesSpec,
)

AnyViews = FocalStackSpec | ApertureStackSpec | DualPixelSpec | SubAperturesSpec


@dataclass(frozen=True, kw_only=True)
class SourceDraw:
    """What was drawn of the picture from which LQ starts."""

    aperture: int
    """Place in the list of `source.lens`; without one, in that of `lens`."""
    focus: FocusDraw | None
    """None: as in `hq`."""
    blur: float | None
    """Pixels, as `SceneDraw.blur`; None: as in `hq`, or the camera's."""
    camera: CameraDraw | None
    """Where `source.lens` has one; near_m and sensor_width_mm are those of the sample's camera."""


class MorePictures(NamedTuple):
    """What is photographed of a scene besides `hq`."""

    views: AnyViews | None = None
    source: SourceDraw | None = None
    source_lens: SceneLens | None = None
    """The lens of the source before it is focused."""
    radius_bound: float = math.inf
    """Blur radius in pixels that no picture exceeds whose K was found for another focus (`_bounded`)."""

    def lenses(self, draw: SceneDraw, scene_lens: SceneLens, lens: Lens) -> dict[str, Lens]:
        """The lens of each view, by field; `lens` is that of `hq`."""
        return {} if self.views is None else _view_lenses(self, draw, scene_lens, lens)

    def source_lenses(self, draw: SceneDraw, lens: Lens) -> dict[float, Lens]:
        """The lens of the source, by each disparity that may turn out to be in focus; `lens` is that of `hq`."""
        if self.source is None or self.source_lens is None:
            return {}
        drawn = self.source_scene(draw)
        focuses = possible_focus(drawn, drawn.planes)
        if draw.blur is not None and self.source.blur is None:  # K as it came out, not as it would for another focus
            own = replace(lens, aperture=self.source_lens.aperture)
            return {focus: replace(own, focus=focus, blur=self._bounded(draw, lens, [focus])) for focus in focuses}
        return {focus: lens_of(drawn, focus, self.source_lens, draw.planes) for focus in focuses}

    def source_scene(self, draw: SceneDraw) -> SceneDraw:
        """The scene with focus and blur of the source."""
        assert self.source is not None
        blur = draw.blur if self.source.blur is None else self.source.blur
        return replace(draw, focus=self.source.focus or draw.focus, blur=blur)

    def _bounded(self, draw: SceneDraw, lens: Lens, focuses: Sequence[float]) -> float:
        """K of `lens`, that of `hq`, lowered until no radius exceeds the bound at any of these disparities in focus.

        Only a K that follows from the largest radius of `hq` can be too large: where `hq` is all nearly in focus.
        """
        away = max(farthest(draw.planes, focus, draw.width, draw.height) for focus in focuses)
        if draw.blur_is != "largest_radius" or away == 0:
            return lens.blur
        return min(lens.blur, self.radius_bound / away)


def draw_source(
    spec: SourceLensSpec, scene_spec: SceneSpec, draw: SceneDraw, aperture: int, camera: CameraDraw | None, which: int,
    rng: np.random.Generator,
) -> SourceDraw:  # fmt: skip
    """Draw the source of a sample whose scene, number `which`, is `draw`, its aperture and camera those of `hq`.

    Where both lenses sweep, every scene has one opening of the source and all of `lens`, the next scene the next.
    """
    own = camera
    if spec.lens is not None:
        aperture = spec.lens.pick_aperture(which, rng)[1]
        own = _own_camera(spec.lens, camera, rng)
    blur = None
    if spec.blur is not None:
        blur = sample(spec.blur, rng) * scene_spec.blur_scale(min(draw.height, draw.width))
    focus = None
    if spec.focus is not None:
        chosen = scene_spec.model_copy(update={"focus": spec.focus})
        focus = draw_focus(chosen, draw.background, draw.foregrounds, draw.height, draw.width, rng)
    if spec.lens is not None and own is not None and own.focus_m is not None:
        focus = FocusDraw(on="disparity", disparity=own.near_m / own.focus_m)
    return SourceDraw(aperture=aperture, focus=focus, blur=blur, camera=own if spec.lens is not None else None)


def _own_camera(lens: LensSpec, camera: CameraDraw | None, rng: np.random.Generator) -> CameraDraw | None:
    """The numbers of another camera before the same scene, whose distances and sensor are as they are."""
    if lens.ranges is None or camera is None:
        return None
    return replace(lens.ranges.draw(rng), near_m=camera.near_m, sensor_width_mm=camera.sensor_width_mm)


def disparities_of(planes: Sequence[Plane], height: int, width: int) -> tuple[float, float]:
    """Smallest and largest disparity of a scene's planes over the picture, within 0..1."""
    ends = [plane.extremes(width, height) for plane in planes]
    return max(0.0, min(low for low, _ in ends)), min(1.0, max(high for _, high in ends))


def _view_lenses(more: MorePictures, draw: SceneDraw, scene_lens: SceneLens, lens: Lens) -> dict[str, Lens]:
    views = more.views
    assert views is not None
    names = views.names
    size = draw.height, draw.width
    if isinstance(views, FocalStackSpec):
        focuses = views.focus
        if focuses is None:
            low, high = disparities_of(draw.planes, *size)
            focuses = [low + (high - low) * i / (len(names) - 1) for i in range(len(names))]
        if draw.blur is None:
            return {name: scene_lens.focused(focus, size) for name, focus in zip(names, focuses, strict=True)}
        blur = more._bounded(draw, lens, focuses)  # one for all: they are pictures through the same lens
        return {name: replace(lens, focus=focus, blur=blur) for name, focus in zip(names, focuses, strict=True)}
    if isinstance(views, ApertureStackSpec):
        closed = zip(names, (2 ** (stops / 2) for stops in views.stops), strict=True)
        if draw.blur is None and scene_lens.camera is not None:
            camera = scene_lens.camera
            stopped = {name: replace(camera, f_number=camera.f_number * by) for name, by in closed}
            return {n: replace(scene_lens, camera=each).focused(lens.focus, size) for n, each in stopped.items()}
        return {name: replace(lens, blur=lens.blur / by) for name, by in closed}
    parts = zip(names, views.bands, strict=True)
    return {name: replace(lens, aperture=part_of(lens.aperture, *bands)) for name, bands in parts}
