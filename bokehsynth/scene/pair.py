"""Scenes of a view photographed twice, all in focus and through a lens; the second photograph is `hq`."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import Field, model_validator

from bokehsynth.assets.catalogue import Asset
from bokehsynth.assets.load.pairs import PhotoPair
from bokehsynth.assets.load.store import AssetStore
from bokehsynth.color import FloatArray
from bokehsynth.config.distributions import Distribution, Spec, bounds, sample, within
from bokehsynth.imaging.metrics import psnr
from bokehsynth.imaging.registration import compare_views
from bokehsynth.optics import Aperture, HeightField, Lens, sized_aperture
from bokehsynth.rng import uniform
from bokehsynth.scene.composed_scene import ComposedScene
from bokehsynth.scene.depth_layers import height_field_layer, normalize_depth
from bokehsynth.scene.lens_fit import SEARCH_SIDE, Pair, SearchRange, error_at, fit_lens
from bokehsynth.scene.photo import Order, WindowDraw, choose, own_size, window_of

MARKED = 0.5
"""Value of a focal mask from which a pixel is in focus."""


class PairSpec(Spec):
    """Real pairs: the all-in-focus photo becomes `aif` and, degraded, `lq`; the photo through the lens is `hq`."""

    kind: Literal["pair"]
    blur: Literal["search"] | Annotated[Distribution, within(0, 4096)] = "search"
    """K: `search` finds it for every pair, by rendering the all-in-focus photo until it is nearest to the other one; a
    number (or distribution) is the same for all."""
    search: Annotated[list[Annotated[float, Field(gt=0, le=4096)]], Field(min_length=2, max_length=2)] = Field(
        default=[0.5, 48.0]
    )
    """Smallest and largest K that is tried."""
    fixed_blur: Annotated[float, Field(ge=0, le=4096)] = 20.0
    """K of the protocol that does not search; its PSNR is recorded beside that of the search, whatever `blur` says."""
    unit: Literal["px_at_512", "px"] = "px_at_512"
    """`px_at_512`: K holds for 512 px of the shorter side and scales with the picture; `px`: absolute."""
    focus: Literal["mask", "search"] | Annotated[Distribution, within(0, 1)] = "mask"
    """Disparity in focus: `mask`: the median under the focal mask (a pair without one is searched); `search`: found
    together with K; a number or distribution: that."""
    take: Literal["crop", "fit"] = "fit"
    """Where `size` is not `own`: `fit`: both photos are scaled until they just cover it; `crop`: cut out."""
    order: Order = "turn"
    """`turn`: sample i shows pair i, from the first again after the last; `random`: drawn by weight."""

    @model_validator(mode="after")
    def _ordered(self) -> "PairSpec":
        if self.search[0] >= self.search[1]:
            raise ValueError(f"search must be [smallest, largest], got {self.search}")
        return self

    def radius_bound(self, shorter_side: int) -> float:
        """Largest blur radius in pixels: disparities differ by at most 1."""
        largest = self.search[1] if isinstance(self.blur, str) else max(bounds(self.blur))
        return largest * self.blur_scale(shorter_side)

    def searched_bound(self, shorter_side: int) -> float:
        """Largest blur radius in pixels of what is rendered to find or judge a lens, at SEARCH_SIDE px at most."""
        largest = max(self.search[1], self.fixed_blur)
        return largest * self.blur_scale(shorter_side) * min(1.0, SEARCH_SIDE / shorter_side)

    def blur_scale(self, shorter_side: int) -> float:
        """What K is multiplied by to be in pixels of a picture."""
        return shorter_side / 512 if self.unit == "px_at_512" else 1.0


@dataclass(frozen=True, kw_only=True)
class PairDraw(WindowDraw):
    """A pair, and what is known of its lens beforehand; blurs in pixels."""

    kind: Literal["pair"] = "pair"
    blur: float | None
    """None: searched."""
    search: tuple[float, float]
    fixed_blur: float
    focus: float | None
    """None: from the mask if `by_mask` and there is one, else searched."""
    by_mask: bool


def draw_pair(
    spec: PairSpec, size: tuple[int, int] | None, pool: tuple[Asset, ...], index: int, rng: np.random.Generator
) -> PairDraw:
    """Choose a pair and a window of `size` (height, width) in it; None shows it whole, in its own size."""
    asset = choose(pool, spec.order, index, rng)
    height, width = size or own_size(asset)
    scale = spec.blur_scale(min(height, width))
    return PairDraw(
        height=height, width=width, asset=asset.id, take=spec.take, flip=False,
        u=uniform(rng, 0, 1), v=uniform(rng, 0, 1),
        blur=None if isinstance(spec.blur, str) else sample(spec.blur, rng) * scale,
        search=(spec.search[0] * scale, spec.search[1] * scale),
        fixed_blur=spec.fixed_blur * scale,
        focus=None if isinstance(spec.focus, str) else sample(spec.focus, rng),
        by_mask=spec.focus == "mask",
    )  # fmt: skip


def compose_pair(draw: PairDraw, store: AssetStore, aperture: Aperture) -> ComposedScene:
    """Compose the all-in-focus photo as a height field in front of the lens that made the other photo."""
    aperture = sized_aperture(aperture, (draw.height, draw.width))
    pictures = store.pair(draw.asset)
    sharp, notes = window_of(draw, pictures.all_in_focus)
    photo, _ = window_of(draw, pictures.bokeh)
    disparity, depth = _depth(pictures)
    disparity, _ = window_of(draw, disparity)
    mask = None if pictures.mask is None else window_of(draw, pictures.mask)[0]
    pair = Pair(sharp, photo, disparity, None if mask is None else mask >= MARKED)
    lens, found = _lens(draw, pair, aperture) if depth != "none" else (Lens(0.0, 0.0, aperture), {})
    views = compare_views(sharp, photo, mask)
    notes |= {"depth": depth, "gain": views.gain, "shift": [views.shift[0], views.shift[1]], **found}
    margin = lens.margin([HeightField(disparity)], draw.width, draw.height)
    layer = height_field_layer(sharp, disparity, margin)
    return ComposedScene(layers=[layer], lens=lens, margin=margin, notes=notes, captured=photo, mask=mask)


def _depth(pictures: PhotoPair) -> tuple[FloatArray, str]:
    """Return disparity [H, W] in 0..1 and its source: the pair's map, its focal mask as two planes, or nothing."""
    if pictures.disparity is not None:
        return normalize_depth(pictures.disparity), "map"
    if pictures.mask is not None:
        return (pictures.mask >= MARKED).astype(np.float32), "mask"
    return np.zeros(pictures.bokeh.shape[:2], np.float32), "none"


def _lens(draw: PairDraw, pair: Pair, aperture: Aperture) -> tuple[Lens, dict[str, Any]]:
    """Return the lens of the maps, and the notes of the search and the fixed protocol."""
    focus, focus_by = draw.focus, "recipe"
    if focus is None:
        focus = _focus_of_mask(pair) if draw.by_mask else None
        focus_by = "search" if focus is None else "mask"
    fit = fit_lens(pair, SearchRange(draw.search, focus), aperture)
    notes: dict[str, Any] = {"focus_by": focus_by, "blur_searched": fit.blur, "blur_fixed": draw.fixed_blur}
    for name, blur in (("unblurred", 0.0), ("fixed", draw.fixed_blur)):
        notes[f"psnr_{name}"] = psnr(error_at(pair, blur, fit.focus, aperture))
    notes["psnr_searched"] = psnr(fit.error)
    return Lens(fit.blur if draw.blur is None else draw.blur, fit.focus, aperture), notes


def _focus_of_mask(pair: Pair) -> float | None:
    """Median disparity under the focal mask, away from its edge where it is large enough; None if it marks nothing."""
    if pair.subject is None or not pair.subject.any():
        return None
    inner = cv2.erode(pair.subject.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return float(np.median(pair.disparity[inner if inner.any() else pair.subject]))
