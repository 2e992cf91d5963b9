"""Composes a drawn scene: layers on one canvas, and the lens in front of them."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.assets.load.store import AssetStore
from bokehsynth.color import LUMINANCE, FloatArray
from bokehsynth.optics import Lens
from bokehsynth.optics.layer import Layer
from bokehsynth.scene.camera import SceneLens
from bokehsynth.scene.compose_lens import lens_of, possible_focus
from bokehsynth.scene.composed_scene import ComposedScene, disparity_seen_at
from bokehsynth.scene.draw import BackgroundDraw, ForegroundDraw, SceneDraw
from bokehsynth.scene.more_pictures import MorePictures
from bokehsynth.scene.place import place_cutout, show_landscape, side_on_canvas
from bokehsynth.schema import SOURCE

NO_MORE = MorePictures()


def compose_layers(
    draw: SceneDraw, store: AssetStore, scene_lens: SceneLens, more: MorePictures = NO_MORE
) -> ComposedScene:
    """Load, scale and place the pictures of a scene on a canvas large enough for every ray of its lenses."""
    margin = margin_of(draw, scene_lens, more)
    height, width = draw.height + 2 * margin, draw.width + 2 * margin
    backdrop, enlarged = _background(draw.background, store, height, width, draw.highlight_boost)
    light = ambient_light(backdrop, np.ones(backdrop.shape[:2], np.float32))
    layers, gains = [], []
    for foreground in draw.foregrounds:
        color, alpha = _foreground(foreground, store, draw, margin)
        gain = matching_gain(light, ambient_light(color, alpha), draw.light_match)
        row = np.tile(np.array(gain, np.float32), alpha.shape[1])  # NumPy loops along rows, not over 3 channels
        layers.append(Layer((color.reshape(len(color), -1) * row).reshape(color.shape), alpha, foreground.plane))
        gains.append(gain)
    layers.append(Layer(backdrop, np.ones((height, width), np.float32), draw.background.plane))
    lens = _possible_lenses(draw, scene_lens)[_focus_of(draw, layers, margin)]
    notes = {"background_enlarged": enlarged, "light_gains": gains}
    scene = ComposedScene(layers=layers, lens=lens, margin=margin, notes=notes)
    return replace(scene, pictures=_pictures(draw, scene, scene_lens, more))


def margin_of(draw: SceneDraw, scene_lens: SceneLens, more: MorePictures = NO_MORE) -> int:
    """Pixels that the canvas has beyond each side of the picture, so that every ray of every lens meets it."""
    lenses = _possible_lenses(draw, scene_lens)
    every = list(lenses.values())
    for lens in lenses.values():
        every += [*more.lenses(draw, scene_lens, lens).values(), *more.source_lenses(draw, lens).values()]
    return max(lens.margin(draw.planes, draw.width, draw.height) for lens in every)


def _possible_lenses(draw: SceneDraw, scene_lens: SceneLens) -> dict[float, Lens]:
    """The lens for each disparity that may turn out to be in focus."""
    return {focus: lens_of(draw, focus, scene_lens, draw.planes) for focus in possible_focus(draw, draw.planes)}


def _focus_of(draw: SceneDraw, layers: Sequence[Layer], margin: int) -> float:
    """The disparity in focus, once it is known what is seen where."""
    if draw.focus.on == "pixel":
        return disparity_seen_at((draw.focus.x, draw.focus.y), layers, margin)
    return draw.focus.disparity


def _pictures(
    draw: SceneDraw, scene: ComposedScene, scene_lens: SceneLens, more: MorePictures
) -> dict[str, ComposedScene]:
    """The same layers through the lens of each view, and of the source."""
    lenses = more.lenses(draw, scene_lens, scene.lens)
    if sources := more.source_lenses(draw, scene.lens):
        lenses[SOURCE] = sources[_focus_of(more.source_scene(draw), scene.layers, scene.margin)]
    return {name: replace(scene, lens=lens) for name, lens in lenses.items()}


def _background(
    draw: BackgroundDraw, store: AssetStore, height: int, width: int, boost: float
) -> tuple[FloatArray, float]:
    """The landscape on the canvas [height, width, 3], and by how much it had to be enlarged."""
    landscape = store.landscape(draw.asset, background_side(draw, height, width))
    color, enlarged = show_landscape(landscape.color, draw, height, width)
    if landscape.highlights is not None and boost > 1:
        # Cubic interpolation would ring round small lights.
        highlights, _ = show_landscape(landscape.highlights, draw, height, width, cv2.INTER_LINEAR)
        color = color + highlights * np.float32(boost - 1)
    return color * np.float32(2**draw.exposure), enlarged


def _foreground(
    draw: ForegroundDraw, store: AssetStore, scene: SceneDraw, margin: int
) -> tuple[FloatArray, FloatArray]:
    cutout = store.cutout(draw.asset, foreground_side(draw, scene))
    side = side_on_canvas(cutout, draw, scene.height, scene.width, margin)
    if side > max(cutout.alpha.shape):  # a fence that has to cover the canvas is shown larger than drawn
        cutout = store.cutout(draw.asset, side)
    color, alpha = place_cutout(cutout, draw, scene.height, scene.width, margin)
    return color * np.float32(2**draw.exposure), alpha


def background_side(draw: BackgroundDraw, height: int, width: int) -> int:
    """Shorter side in pixels of the landscape that a canvas of height x width is filled from."""
    return round(draw.zoom * max(height, width * 3 / 4))


def foreground_side(draw: ForegroundDraw, scene: SceneDraw) -> int:
    """Longer side in pixels of the cut-out that is placed; one that has to cover the canvas may be wanted larger."""
    return round(draw.scale * min(scene.height, scene.width))


Ambient = tuple[float, list[float]]
"""The light of a picture: mean stops of luminance, and the mean colour at luminance 1."""


def ambient_light(color: FloatArray, alpha: FloatArray) -> Ambient:
    """Light of a picture where its alpha is at least one half, lamps counted as white; neutral if that is nowhere."""
    small = cv2.resize(color, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    solid = cv2.resize(alpha, small.shape[1::-1], interpolation=cv2.INTER_AREA) >= 0.5
    chosen: npt.NDArray[np.float32] = np.minimum(small[solid] if solid.any() else color[alpha >= 0.5], 1)
    if len(chosen) == 0:
        return 0.0, [1.0, 1.0, 1.0]
    stops = np.log2(np.maximum(chosen @ LUMINANCE, np.float32(1e-3))).mean(dtype=np.float64)
    mean = np.maximum(chosen.mean(axis=0, dtype=np.float64), 1e-4)
    return float(stops), [float(value) for value in mean / (mean @ LUMINANCE)]


def matching_gain(background: Ambient, foreground: Ambient, strength: float) -> list[float]:
    """Linear gain per channel that brings a cut-out part of the way to the background's light.

    Brightness moves by `strength` of the difference in stops, at most two darker or one lighter; the background's
    tint falls on the cut-out with half that strength, at most half a stop.
    """
    stops = float(np.clip(strength * (background[0] - foreground[0]), -2.0, 1.0))
    tint = [float(np.clip(strength / 2 * np.log2(value), -0.5, 0.5)) for value in background[1]]
    return [float(2 ** (stops + channel)) for channel in tint]
