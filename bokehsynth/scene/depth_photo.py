"""A photograph with a disparity map through a lens: many thin slices, blurred one by one, occlusion between them.

A slice is what lies near one disparity, of both surfaces of `depth_surfaces`; a pixel between two disparities is shared
by their slices. Slices of one surface must not hide each other, or the seams between them would show, and those of
different surfaces must: the light of a slice is attenuated by slices that are nearer by GAPS.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bokehsynth.color import FloatArray
from bokehsynth.optics import Lens, Plane
from bokehsynth.optics.layer import Layer
from bokehsynth.rendering import render
from bokehsynth.scene.depth_layers import reflect_pad
from bokehsynth.scene.depth_surfaces import DepthSurfaces, separate_surfaces

GAPS = (0.11, 0.14, 0.17)
"""Differences of disparity from which one slice hides another, by as many equal parts."""
FINE, COARSE = 1.0, 1 / 16
"""Slices lie this many pixels of blur radius apart, or this share of the radius if that is more."""
RIM = 1.5
"""Pixels beyond its blur within which the rim of something may let through what is behind."""
OPAQUE = 0.99
"""Alpha from which a surface hides what is behind it."""
WIDEST = 0.04
"""Largest difference of disparity between slices: neighbours must not hide each other."""


@dataclass(frozen=True, eq=False)
class PhotoFrames:
    """What a photograph became, with its maps."""

    bokeh: FloatArray
    """[H, W, 3] linear light, not clamped."""
    all_in_focus: FloatArray
    disparity: FloatArray
    """The map, [H, W] in 0..1."""
    defocus: FloatArray
    """Blur radius in pixels, [H, W]."""


@dataclass(frozen=True, eq=False)
class DepthPhoto:
    """A photograph cut into slices, near to far, for lenses of up to one blur focused within a range."""

    photo: FloatArray
    disparity: FloatArray
    inside: FloatArray
    """Pixels to the nearest far side of a depth edge, [H, W]; 0 where something is transparent."""
    slices: list[Layer]
    margin: int

    def render(self, lens: Lens, backend: str = "auto") -> PhotoFrames:
        """The photograph through the lens; one without blur gives it back bit for bit."""
        defocus = lens.radius(self.disparity.astype(np.float64)).astype(np.float32)
        bokeh = self.photo if lens.blur == 0 else self._blurred(lens, defocus, backend)
        return PhotoFrames(bokeh, self.photo, self.disparity, defocus)

    def _blurred(self, lens: Lens, defocus: FloatArray, backend: str) -> FloatArray:
        clear = replace(lens, falloff=False)
        light = np.zeros_like(self.photo)
        arrived = np.zeros(self.photo.shape[:2], np.float32)
        covered = [np.zeros_like(arrived)]  # by the nearest 0, 1, ... slices
        depths = [_depth(layer) for layer in self.slices]
        solid = self._solid(defocus)
        for layer, depth in zip(self.slices, depths, strict=True):
            nearer = [sum(other > depth + gap for other in depths) for gap in GAPS]
            covered[: min(nearer)] = [covered[min(nearer)]] * min(nearer)  # frees what no later slice asks for
            hidden = np.mean([covered[count] for count in nearer], axis=0)
            frames = render([layer], _focused(clear, depth), self.margin, backend)
            share = frames.coverage * np.where(solid > depth + GAPS[-1], 0, 1 - hidden)
            arrived += share
            light += frames.bokeh * share[..., None]
            covered.append(np.minimum(covered[-1] + share, 1))
        light /= np.maximum(arrived, np.float32(1e-6))[..., None]
        return light * self._falloff(lens, backend) if lens.falloff else light

    def _solid(self, defocus: FloatArray) -> FloatArray:
        """Disparity of what nothing behind can shine through, [H, W]: it is farther from its rim than it is blurred.

        The blurs of slices of one surface do not add up to 1 everywhere, and a little of a bright sky is seen in black.
        """
        return np.where(self.inside > defocus + RIM, self.disparity, np.float32(-1))

    def _falloff(self, lens: Lens, backend: str) -> FloatArray:
        """What a lens that darkens leaves of white, [H, W, 3]."""
        white = np.ones(self.slices[0].color.shape, np.float32)
        layer = Layer(white, white[..., 0], Plane(lens.focus + 1 / lens.blur))
        return render([layer], lens, self.margin, backend).bokeh


def cut_photo(photo: FloatArray, disparity: FloatArray, lenses: Sequence[Lens]) -> DepthPhoto:
    """Cut a photograph [H, W, 3] by a map [H, W] in 0..1 once, to be seen through any of these lenses."""
    height, width = disparity.shape
    ends = float(disparity.min()), float(disparity.max())
    margin = max(lens.margin([Plane(end) for end in ends], width, height) for lens in lenses)
    surfaces = separate_surfaces(photo, disparity, margin)
    focuses = [lens.focus for lens in lenses]
    levels = slice_levels(max(lens.blur for lens in lenses), (min(focuses), max(focuses)), ends)
    inside = np.where(surfaces.alpha > OPAQUE, surfaces.inside, np.float32(0))
    return DepthPhoto(photo, disparity, inside, list(_slices(surfaces, levels, margin)), margin)


def slice_levels(blur: float, focuses: tuple[float, float], ends: tuple[float, float]) -> FloatArray:
    """Disparities of slices, ascending, across `ends`: FINE apart in focus, COARSE far from it."""
    low, high = focuses
    finest = min(FINE / max(blur, FINE), WIDEST)
    inside = np.linspace(low, high, math.ceil((high - low) / finest) + 1) if high > low else [low]
    nearer: list[float] = []
    farther: list[float] = []
    for sign, start, end, found in ((1, high, ends[1], nearer), (-1, low, ends[0], farther)):
        step, last = 0.0, max(0.0, (end - start) * sign)
        while step < last:
            step = min(step + min(max(finest, COARSE * step), WIDEST), last)
            found.append(start + sign * step)
    return np.asarray([*reversed(farther), *inside, *nearer], np.float32)


def _slices(surfaces: DepthSurfaces, levels: FloatArray, margin: int) -> Iterable[Layer]:
    """Layers near to far; those without any pixel are left out."""
    front_place = np.interp(surfaces.disparity, levels, np.arange(len(levels))).astype(np.float32)
    back_place = np.interp(surfaces.hidden_disparity, levels, np.arange(len(levels))).astype(np.float32)
    for k in range(len(levels) - 1, -1, -1):
        front = surfaces.alpha * np.maximum(1 - np.abs(front_place - np.float32(k)), 0)
        back = np.where(surfaces.hidden, np.maximum(1 - np.abs(back_place - np.float32(k)), 0), np.float32(0))
        alpha = np.minimum(front + back, 1)
        if not alpha.any():
            continue
        color = surfaces.color
        if back.any():
            share = (back / np.maximum(front + back, np.float32(1e-6)))[..., None]
            color = color + share * (surfaces.hidden_color - color)
        yield Layer(reflect_pad(color, margin), reflect_pad(alpha, margin), Plane(float(levels[k])))


def _focused(lens: Lens, depth: float) -> Lens:
    """The lens, focused on a slice if the blur of that would be lost within a pixel."""
    return replace(lens, focus=depth) if lens.radius(depth) < FINE / 2 else lens


def _depth(layer: Layer) -> float:
    assert isinstance(layer.disparity, Plane)
    return layer.disparity.d
