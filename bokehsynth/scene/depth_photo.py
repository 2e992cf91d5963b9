"""A photograph with a disparity map through a lens: many thin slices, blurred one by one, occlusion between them.

A slice is what lies near one disparity, of both surfaces of `depth_surfaces`; a pixel between two disparities is shared
by their slices. Slices of one surface must not hide each other, or the seams between them would show, and those of
different surfaces must: the light of a slice is attenuated by slices that are nearer by GAPS.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bokehsynth.color import FloatArray
from bokehsynth.errors import UsageError
from bokehsynth.optics import Lens, Plane
from bokehsynth.optics.layer import Layer
from bokehsynth.optics.thin_lens import largest_aberration
from bokehsynth.rendering import render
from bokehsynth.scene.depth_layers import BoolArray, distance_to, reflect_pad
from bokehsynth.scene.depth_surfaces import EDGE, DepthSurfaces, separate_surfaces

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
NARROW_GAP, WIDE_STEP = EDGE - 2 * WIDEST, GAPS[-1] + 2 * WIDEST
"""The sides of a depth edge of less than WIDE_STEP have slices closer than GAPS: there NARROW_GAP is enough to hide."""
MOST_IN_RANGE = 256
"""Slices within the range of a focus pull: enough for a blur of as many pixels."""
BYTES_TO_CUT, BYTES_TO_BLEND, BYTES_TO_RENDER, MOST_BYTES = 300, 150, 150, 10 * 10**9
"""Of memory: per pixel of a photograph while it is cut (250 were measured, and the photograph itself) and while slices
are blended, per pixel of their canvases (140 measured), and the most that is begun with."""
BYTES_PER_PIXEL, MOST_KEPT = 32, 2 << 30
"""Of a slice as a renderer holds it; slices are kept for further pictures while all take no more than so many bytes."""


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
    """A photograph cut for lenses of up to one blur focused within a range; its slices are at `levels`."""

    photo: FloatArray
    """As it is without blur; `surfaces` may have brighter lamps."""
    surfaces: DepthSurfaces
    disparity: FloatArray
    levels: FloatArray
    """Disparities of the slices, descending."""
    margin: int
    kept: dict[int, Layer | None] | None
    """Slices by their place, for the next picture; None: each is made anew, and all together never lie in memory."""

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
        narrow = self._narrow()
        opaque_from = self._solid(lens, defocus) - np.where(narrow, np.float32(NARROW_GAP), np.float32(GAPS[-1]))
        for k, depth in enumerate(self.levels.tolist()):
            layer = self._slice(k)
            if layer is None:
                covered.append(covered[-1])
                continue
            nearer = [int((self.levels > depth + gap).sum()) for gap in GAPS]
            covered[: min(nearer)] = [covered[min(nearer)]] * min(nearer)  # frees what no later slice asks for
            hidden = np.mean([covered[count] for count in nearer], axis=0)
            hidden = np.where(narrow, covered[int((self.levels > depth + NARROW_GAP).sum())], hidden)
            frames = render([layer], _focused(clear, depth), self.margin, backend)
            share = frames.coverage * np.where(opaque_from > depth, 0, 1 - hidden)
            arrived += share
            light += frames.bokeh * share[..., None]
            covered.append(np.minimum(covered[-1] + share, 1))
        light /= np.maximum(arrived, np.float32(1e-6))[..., None]
        return light * self._falloff(lens, backend) if lens.falloff else light

    def _slice(self, k: int) -> Layer | None:
        """What lies at a level, between its neighbours; None if nothing does."""
        if self.kept is not None and k in self.kept:
            return self.kept[k]
        layer = self._cut(k)
        if self.kept is not None:
            self.kept[k] = layer
        return layer

    def _cut(self, k: int) -> Layer | None:
        surfaces = self.surfaces
        front = surfaces.alpha * _tent(surfaces.disparity, self.levels, k)
        back = np.where(surfaces.hidden, _tent(surfaces.hidden_disparity, self.levels, k), np.float32(0))
        alpha = np.minimum(front + back, 1)
        if not alpha.any():
            return None
        color = surfaces.color
        if back.any():
            share = (back / np.maximum(front + back, np.float32(1e-6)))[..., None]
            color = color + share * (surfaces.hidden_color - color)
        return Layer(reflect_pad(color, self.margin), reflect_pad(alpha, self.margin), Plane(float(self.levels[k])))

    def _narrow(self) -> BoolArray:
        """Where light of both sides of a depth edge of less than WIDE_STEP arrives, [H, W]."""
        surfaces = self.surfaces
        narrow = surfaces.hidden & (surfaces.disparity - surfaces.hidden_disparity < WIDE_STEP)
        return distance_to(narrow) <= self.margin if narrow.any() else narrow

    def _solid(self, lens: Lens, defocus: FloatArray) -> FloatArray:
        """Disparity of what nothing behind can shine through, [H, W]: its rim is farther away than its rays go.

        The blurs of slices of one surface do not add up to 1 everywhere, and a little of a bright sky is seen in black.
        """
        height, width = self.disparity.shape
        reach = lens.aperture.extent * defocus + np.float32(largest_aberration(lens, width, height) + RIM)
        opaque = self.surfaces.alpha > OPAQUE
        return np.where((self.surfaces.inside > reach) & opaque, self.disparity, np.float32(-1))

    def _falloff(self, lens: Lens, backend: str) -> FloatArray:
        """What a lens that darkens leaves of white, [H, W, 3]."""
        height, width = self.disparity.shape
        plane = Plane(lens.focus + 1 / lens.blur)
        margin = lens.margin([plane], width, height)
        white = np.ones((height + 2 * margin, width + 2 * margin, 3), np.float32)
        return render([Layer(white, white[..., 0], plane)], lens, margin, backend).bokeh


def cut_photo(
    photo: FloatArray, disparity: FloatArray, lenses: Sequence[Lens], lit: FloatArray | None = None
) -> DepthPhoto:
    """Cut a photograph [H, W, 3] by a map [H, W] in 0..1 once, to be seen through any of these lenses.

    `lit` is the photograph with brighter lamps, which is what is blurred; None: itself. UsageError for what would take
    more than MOST_BYTES of memory.
    """
    height, width = disparity.shape
    ends = float(disparity.min()), float(disparity.max())
    margin = max(lens.margin([Plane(end) for end in ends], width, height) for lens in lenses)
    focuses = [lens.focus for lens in lenses]
    levels = slice_levels(max(lens.blur for lens in lenses), (min(focuses), max(focuses)), ends)
    size = len(levels) * (height + 2 * margin) * (width + 2 * margin) * BYTES_PER_PIXEL
    kept: dict[int, Layer | None] | None = {} if len(lenses) > 1 and size <= MOST_KEPT else None
    _check_memory(height, width, margin, levels, 0 if kept is None else size)
    surfaces = separate_surfaces(photo if lit is None else lit, disparity, margin)
    return DepthPhoto(photo, surfaces, disparity, levels[::-1].copy(), margin, kept)


def _check_memory(height: int, width: int, margin: int, levels: FloatArray, kept: int) -> None:
    """UsageError if cutting and rendering would take more than MOST_BYTES."""
    maps = int((np.searchsorted(levels, levels + GAPS[-1]) - np.arange(len(levels))).max())  # of what is covered so far
    canvas = (height + 2 * margin) * (width + 2 * margin)
    blending = height * width * (BYTES_TO_BLEND + 4 * maps) + canvas * BYTES_TO_RENDER + kept
    need = max(height * width * BYTES_TO_CUT, blending)
    if need > MOST_BYTES:
        raise UsageError(
            f"a photograph of {width} x {height} px with blur that reaches {margin} px takes about {need / 1e9:.1f} GB "
            f"of memory, more than {MOST_BYTES / 1e9:g} GB: make it smaller (--size), or blur it less"
        )


def slice_levels(blur: float, focuses: tuple[float, float], ends: tuple[float, float]) -> FloatArray:
    """Disparities of slices, strictly ascending, across `ends`: FINE apart in focus, COARSE far from it.

    What lies within a hundredth of the finest step of the end of a range, by rounding or by chance, is no level beside
    it.
    """
    low, high = focuses
    finest = min(FINE / max(blur, FINE), WIDEST)
    same = finest / 100
    count = min(math.ceil((high - low) / finest), MOST_IN_RANGE) + 1 if high - low > same else 1
    inside = np.linspace(low, high, count)
    nearer: list[float] = []
    farther: list[float] = []
    for sign, start, end, found in ((1, high, ends[1], nearer), (-1, low, ends[0], farther)):
        step, last = 0.0, max(0.0, (end - start) * sign)
        while last - step > same:
            step += min(max(finest, COARSE * step), WIDEST)
            step = last if step > last - same else step
            found.append(start + sign * step)
    return np.unique(np.asarray([*reversed(farther), *inside, *nearer], np.float32))


def _tent(disparity: FloatArray, levels: FloatArray, k: int) -> FloatArray:
    """Share of each pixel that belongs to level k of descending ones: 1 at it, 0 at neighbours, [H, W].

    The first and the last have all that lies beyond them, so the shares of all levels add up to 1.
    """
    level = levels[k]
    share = np.ones_like(disparity)
    for neighbour in (*levels[max(k - 1, 0) : k], *levels[k + 1 : k + 2]):
        share = np.minimum(share, (disparity - neighbour) / (level - neighbour))
    return share.clip(0, 1)


def _focused(lens: Lens, depth: float) -> Lens:
    """The lens, focused on a slice if the blur of that would be lost within a pixel."""
    return replace(lens, focus=depth) if lens.radius(depth) < FINE / 2 else lens
