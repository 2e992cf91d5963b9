"""Draws every random choice of a scene, as plain numbers."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bokehsynth.assets.catalogue import Asset, Catalogue
from bokehsynth.config.distributions import sample
from bokehsynth.optics import Plane
from bokehsynth.rng import Stage, chance, pick, stream, uniform
from bokehsynth.scene.camera import MetricCamera
from bokehsynth.scene.layout import LayerPlace, SceneAssets, ScenePlaces, places_of
from bokehsynth.scene.spec import SceneSpec

STEEPEST = 0.5
"""Largest K * slope of a plane: there its footprint reaches twice the blur radius."""


@dataclass(frozen=True, kw_only=True)
class BackgroundDraw:
    """A landscape and the part of it that is shown."""

    asset: str
    flip: bool
    exposure: float
    """Stops."""
    zoom: float
    """>= 1: how much larger than just covering the canvas the landscape is shown."""
    u: float
    v: float
    """Place of the shown part in what is left over, 0..1 from left and top."""
    plane: Plane


@dataclass(frozen=True, kw_only=True)
class ForegroundDraw:
    """A cut-out and where it stands."""

    asset: str
    flip: bool
    exposure: float
    scale: float
    """Longer side over the picture's shorter side."""
    rotation: float
    """Degrees clockwise."""
    x: float
    """Horizontal place of its middle in the picture, 0..1."""
    bottom: float
    """Height of its lower edge in the picture, 0 = top, 1 = bottom: at the edge or below, so that nothing floats."""
    plane: Plane


@dataclass(frozen=True, kw_only=True)
class FocusDraw:
    """What is in focus: a disparity known beforehand, or what is seen at a pixel."""

    on: Literal["disparity", "pixel"]
    disparity: float = 0.0
    x: int = 0
    y: int = 0


@dataclass(frozen=True, kw_only=True)
class SceneDraw:
    """One scene. Foregrounds stand near to far; disparities of planes are per pixel of a height x width picture."""

    kind: Literal["layers"] = "layers"
    height: int
    width: int
    background: BackgroundDraw
    foregrounds: list[ForegroundDraw]
    focus: FocusDraw
    blur: float | None
    """Pixels: K, or the largest radius; None: K is the camera's."""
    blur_is: Literal["K", "largest_radius"]
    highlight_boost: float
    light_match: float

    @property
    def planes(self) -> list[Plane]:
        """Near to far, the background's last."""
        return [*(foreground.plane for foreground in self.foregrounds), self.background.plane]

    @property
    def assets(self) -> list[str]:
        """The background first, then the foregrounds from near to far."""
        return [self.background.asset, *(foreground.asset for foreground in self.foregrounds)]


def draw_layers(
    spec: SceneSpec, size: tuple[int, int], catalogue: Catalogue, seed: int, split: str, index: int, attempt: int = 0,
    camera: MetricCamera | None = None,
) -> SceneDraw:  # fmt: skip
    """Draw scene `index` of a split: assets, places, planes, then focus and blur, each from a stream of its own.

    With a `camera`, K is left to it, and so is the focus where it has a distance.
    """
    height, width = size
    rng = stream(seed, split, Stage.ASSETS, index, attempt)
    count = round(sample(spec.foregrounds, rng))
    background = _pick_asset(catalogue.pool("background", split), [], rng)
    cutouts: list[Asset] = []
    for _ in range(count):
        cutouts.append(_pick_asset(catalogue.pool("foreground", split), cutouts, rng))

    rng = stream(seed, split, Stage.SCENE, index, attempt)
    planes = _draw_planes(spec, count, (height, width), rng, None if camera is None else camera.blur_bound)
    scene_background = BackgroundDraw(
        asset=background.id, flip=chance(rng, spec.flip), exposure=sample(spec.exposure, rng),
        zoom=uniform(rng, 1.0, 1.25), u=uniform(rng, 0, 1), v=uniform(rng, 0, 1), plane=planes[-1],
    )  # fmt: skip
    places = _draw_places(count, rng)
    foregrounds = [
        ForegroundDraw(
            asset=asset.id,
            flip=chance(rng, spec.flip),
            exposure=sample(spec.exposure, rng),
            scale=sample(spec.scale, rng),
            rotation=sample(spec.rotation, rng),
            x=x,
            bottom=uniform(rng, 0.99, 1.12),
            plane=plane,
        )
        for asset, plane, x in zip(cutouts, planes, places, strict=False)
    ]
    boost = sample(spec.highlight_boost, rng)

    if spec.layout is not None:
        shown = SceneAssets(background=background, foregrounds=tuple(cutouts), height=height, width=width)
        laid_out = places_of(spec.layout, stream(seed, split, Stage.LAYOUT, index, attempt), shown)
        bound = None if camera is None else camera.blur_bound
        scene_background, foregrounds = _laid_out(laid_out, scene_background, foregrounds, size, bound)

    rng = stream(seed, split, Stage.LENS, index, attempt)
    blur = sample(spec.blur, rng) * spec.blur_scale(min(size))
    focus = draw_focus(spec, scene_background, foregrounds, height, width, rng)
    if camera is not None and camera.draw.focus_m is not None:
        focus = FocusDraw(on="disparity", disparity=camera.draw.near_m / camera.draw.focus_m)
    return SceneDraw(
        height=height, width=width, background=scene_background, foregrounds=foregrounds, focus=focus,
        blur=blur if camera is None else None, blur_is=spec.blur_is, highlight_boost=boost,
        light_match=spec.light_match,
    )  # fmt: skip


def _laid_out(
    places: ScenePlaces, background: BackgroundDraw, foregrounds: list[ForegroundDraw], size: tuple[int, int],
    blur_bound: float | None,
) -> tuple[BackgroundDraw, list[ForegroundDraw]]:  # fmt: skip
    """The layers where a layout puts them, the cut-outs near to far.

    Tilts too steep for a camera's K, at most `blur_bound`, are eased, as in `_draw_planes`.
    """

    def plane(place: LayerPlace) -> Plane:
        gx, gy = disparity_gradient(place.tilt, place.tilt_angle, *size)
        steep = (blur_bound or 0.0) * math.hypot(gx, gy) / STEEPEST
        return Plane(place.disparity, gx / max(steep, 1.0), gy / max(steep, 1.0))

    background = replace(background, plane=plane(places.background), **places.background.given)
    placed = [
        replace(foreground, plane=plane(place), **place.given)
        for foreground, place in zip(foregrounds, places.foregrounds, strict=True)
    ]
    return background, sorted(placed, key=lambda foreground: -foreground.plane.d)


def _pick_asset(pool: tuple[Asset, ...], taken: list[Asset], rng: np.random.Generator) -> Asset:
    """Choose by weight, without repeating what is taken while anything else is left."""
    left = [asset for asset in pool if asset not in taken] or list(pool)
    return pick(rng, left, [asset.weight for asset in left])


def _draw_planes(
    spec: SceneSpec, count: int, size: tuple[int, int], rng: np.random.Generator, blur_bound: float | None
) -> list[Plane]:
    """Planes near to far, background last, whose disparity ranges stay in 0..1 and apart by the gap.

    The ranges hold over the whole canvas (picture and overscan), so that no two planes cross under any ray. Tilts
    that leave no space for the gaps are scaled down together, and those too steep for a camera's K, which is at most
    `blur_bound`. Without one K is lowered instead (`compose_lens.lens_of`).
    """
    height, width = size
    tilts = [sample(spec.foreground_tilt, rng) for _ in range(count)] + [sample(spec.background_tilt, rng)]
    angles = [uniform(rng, 0, 360) for _ in range(count)] + [sample(spec.background_tilt_angle, rng)]
    center = sample(spec.disparity.background, rng)
    steps = sorted(uniform(rng, 0, 1) for _ in range(count))
    gap, nearest = spec.disparity.gap, spec.disparity.nearest
    gradients = [disparity_gradient(tilt, angle, height, width) for tilt, angle in zip(tilts, angles, strict=True)]
    bound = spec.radius_bound(min(height, width)) if blur_bound is None else blur_bound
    reach = 2 * bound + 3  # K * slope is at most STEEPEST
    half = [abs(gx) * (width / 2 + reach) + abs(gy) * (height / 2 + reach) for gx, gy in gradients]
    space = nearest - center - count * gap
    ease = 1.0
    if blur_bound is not None:
        steepest = blur_bound * max(math.hypot(gx, gy) for gx, gy in gradients)
        ease = min(ease, STEEPEST / steepest if steepest > 0 else 1.0)
    if half[-1] > 0:
        ease = min(ease, center / half[-1])  # the far side stays at or above 0
    taken = half[-1] + 2 * sum(half[:-1])
    if taken > 0:
        ease = min(ease, max(0.0, 0.9 * space) / taken)
    half = [h * ease for h in half]
    free = max(0.0, nearest - (center + half[-1]) - count * gap - 2 * sum(half[:-1]))
    planes = [Plane(center, gradients[-1][0] * ease, gradients[-1][1] * ease)]
    edge = center + half[-1]
    for i in range(count):  # far to near
        middle = edge + gap + half[i] + free * (steps[i] - (steps[i - 1] if i else 0.0))
        planes.append(Plane(min(middle, nearest), gradients[i][0] * ease, gradients[i][1] * ease))
        edge = middle + half[i]
    return planes[::-1]


def disparity_gradient(tilt: float, angle: float, height: int, width: int) -> tuple[float, float]:
    """Return the disparity per pixel (x, y) with which the picture's extent along `angle` (degrees) spans `tilt`."""
    dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    extent = abs(dx) * (width - 1) + abs(dy) * (height - 1)
    return (tilt * dx / extent, tilt * dy / extent) if extent > 0 else (0.0, 0.0)


def _draw_places(count: int, rng: np.random.Generator) -> list[float]:
    """Draw horizontal places, one per column of the picture, columns in random order."""
    order = [rng.random() for _ in range(count)]
    ranks = [sorted(order).index(value) for value in order]
    return [0.08 + 0.84 * (rank + uniform(rng, 0.25, 0.75)) / count for rank in ranks]


def draw_focus(
    spec: SceneSpec,
    background: BackgroundDraw,
    foregrounds: list[ForegroundDraw],
    height: int,
    width: int,
    rng: np.random.Generator,
) -> FocusDraw:
    """Draw the focus: that of a drawn point of a layer, near a cut-out's middle or anywhere on the background."""
    which, u, v = float(rng.random()), uniform(rng, 0, 1), uniform(rng, 0, 1)
    if spec.focus == "pixel":
        return FocusDraw(on="pixel", x=min(int(u * width), width - 1), y=min(int(v * height), height - 1))
    if not isinstance(spec.focus, str):
        return FocusDraw(on="disparity", disparity=sample(spec.focus, rng))
    candidates: list[BackgroundDraw | ForegroundDraw] = []
    if spec.focus != "background":
        candidates += foregrounds
    if spec.focus != "foreground":
        candidates.append(background)
    chosen = candidates[min(int(which * len(candidates)), len(candidates) - 1)]
    if isinstance(chosen, ForegroundDraw):
        u, v = chosen.x + 0.2 * (u - 0.5), chosen.bottom - chosen.scale * (0.3 + 0.4 * v)
    x, y = (min(max(u, 0.0), 1.0) - 0.5) * (width - 1), (min(max(v, 0.0), 1.0) - 0.5) * (height - 1)
    return FocusDraw(on="disparity", disparity=chosen.plane.at(x, y))
