"""Checks that a recorded scene is one that the recipe can draw: a record may be a stranger's."""

from bokehsynth.assets.catalogue import Asset, Catalogue, Kind
from bokehsynth.config.distributions import bounds
from bokehsynth.errors import DataError
from bokehsynth.optics import Plane
from bokehsynth.scene.camera import CameraDraw, CameraRanges
from bokehsynth.scene.draw import BackgroundDraw, FocusDraw, ForegroundDraw, SceneDraw
from bokehsynth.scene.layout import LIMITS
from bokehsynth.scene.more_pictures import SourceDraw
from bokehsynth.scene.pair import PairDraw, PairSpec
from bokehsynth.scene.photo import PhotoDraw, PhotoSpec, WindowDraw, own_size
from bokehsynth.scene.spec import SceneSpec
from bokehsynth.scene.views_spec import SourceLensSpec

AnyDraw = SceneDraw | PhotoDraw | PairDraw

_SLACK = 1e-9
_PLANE_SLACK = 1e-6
"""Of disparities that were computed on the way to a plane."""


def check_scene_draw(
    spec: SceneSpec | PhotoSpec | PairSpec, draw: AnyDraw, size: tuple[int, int] | None, catalogue: Catalogue,
    split: str,
) -> None:  # fmt: skip
    """DataError, naming the number, unless `spec` can draw `draw`; `size` is (height, width) or None: the picture's."""
    match spec, draw:
        case SceneSpec(), SceneDraw():
            if (draw.height, draw.width) != size:
                raise DataError(f"{draw.width} x {draw.height} px, the recipe has other sizes")
            _check_layers(spec, draw, catalogue, split)
        case PhotoSpec(), PhotoDraw():
            _check_window(spec, draw, size, _asset(catalogue, "photo", split, draw.asset))
        case PairSpec(), PairDraw():
            _check_window(spec, draw, size, _asset(catalogue, "pair", split, draw.asset))
            _check_pair(spec, draw)
        case _:
            raise DataError(f"is a scene of the kind {draw.kind}, the recipe's are of another kind")


def check_camera_draw(ranges: CameraRanges | None, draw: CameraDraw | None, scene: AnyDraw) -> None:
    """DataError unless the cameras of a recipe can be the drawn one, and a scene leaves its blur to it."""
    by_camera = isinstance(scene, SceneDraw) and scene.blur is None
    if (ranges is None) != (draw is None) or by_camera != (draw is not None):
        raise DataError("has a camera where the recipe has none, or the other way round")
    if ranges is None or draw is None:
        return
    for name in draw.__dataclass_fields__:
        value, given = getattr(draw, name), getattr(ranges, name)
        if (value is None) != (given is None):
            raise DataError(f"camera.{name} is {value}, the recipe has it in another way")
        if value is not None:
            _within(f"camera.{name}", value, bounds(given))


def check_source(
    spec: SourceLensSpec, scene_spec: SceneSpec, scene: SceneDraw, draw: SourceDraw, camera: CameraDraw | None
) -> None:
    """DataError, naming the number, unless `spec` can draw `draw` for this scene and its camera."""
    ranges = None if spec.lens is None else spec.lens.ranges
    if (ranges is None) != (draw.camera is None):
        raise DataError("has a camera of the source where the recipe has none, or the other way round")
    if ranges is not None and draw.camera is not None:
        for name in draw.camera.__dataclass_fields__:
            value, given = getattr(draw.camera, name), getattr(ranges, name)
            if (value is None) != (given is None):
                raise DataError(f"source.camera.{name} is {value}, the recipe has it in another way")
            if value is not None:
                _within(f"source.camera.{name}", value, bounds(given))
        if camera is None or any(getattr(camera, n) != getattr(draw.camera, n) for n in ("near_m", "sensor_width_mm")):
            raise DataError("source.camera: near_m and sensor_width_mm are not those of the sample's camera")
    by_distance = ranges is not None and ranges.focus_m is not None
    if (draw.focus is not None) != (spec.focus is not None or by_distance):
        raise DataError("source.focus: the recipe has it in another way")
    if draw.focus is not None:
        _check_focus(draw.focus, scene)
    if (draw.blur is None) != (spec.blur is None):
        raise DataError(f"source.blur is {draw.blur}, the recipe has it in another way")
    if draw.blur is not None and spec.blur is not None:
        scale = scene_spec.blur_scale(min(scene.height, scene.width))
        low, high = bounds(spec.blur)
        _within("source.blur", draw.blur, (low * scale, high * scale))


def _check_focus(focus: FocusDraw, scene: SceneDraw) -> None:
    _within("focus", focus.disparity, (0.0, 1.0), _PLANE_SLACK)
    _within("focus.x", focus.x, (0, scene.width - 1))
    _within("focus.y", focus.y, (0, scene.height - 1))


def _check_layers(spec: SceneSpec, draw: SceneDraw, catalogue: Catalogue, split: str) -> None:
    least, most = map(round, bounds(spec.foregrounds))
    if not least <= len(draw.foregrounds) <= most:
        raise DataError(f"has {len(draw.foregrounds)} foregrounds, the recipe draws {least} to {most}")
    if draw.blur_is != spec.blur_is or draw.light_match != spec.light_match:
        raise DataError("blur_is or light_match is not the recipe's")
    if draw.blur is not None:
        low, high = bounds(spec.blur)
        scale = spec.blur_scale(min(draw.height, draw.width))
        _within("blur", draw.blur, (low * scale, high * scale))
    _within("highlight_boost", draw.highlight_boost, bounds(spec.highlight_boost))
    _asset(catalogue, "background", split, draw.background.asset)
    for name, limit in (("zoom", (1.0, 1.25)), ("u", (0.0, 1.0)), ("v", (0.0, 1.0))):
        _within(name, getattr(draw.background, name), _limits(spec, name, limit))
    for foreground in draw.foregrounds:
        _asset(catalogue, "foreground", split, foreground.asset)
        _within("scale", foreground.scale, _limits(spec, "scale", bounds(spec.scale)))
        _within("rotation", foreground.rotation, _limits(spec, "rotation", bounds(spec.rotation)))
        _within("x", foreground.x, _limits(spec, "x", (0.0, 1.0)))
        _within("bottom", foreground.bottom, _limits(spec, "bottom", (0.99, 1.12)))
    layers: list[BackgroundDraw | ForegroundDraw] = [draw.background, *draw.foregrounds]
    for layer in layers:
        _check_layer(spec, layer, draw)
    _check_focus(draw.focus, draw)


def _limits(spec: SceneSpec, name: str, drawn: tuple[float, float]) -> tuple[float, float]:
    """Least and most of a number: what the recipe draws, and what its layout may say."""
    if spec.layout is None:
        return drawn
    low, high = LIMITS[name]
    return min(low, drawn[0]), max(high, drawn[1])


def _check_layer(spec: SceneSpec, layer: BackgroundDraw | ForegroundDraw, draw: SceneDraw) -> None:
    _within("exposure", layer.exposure, _limits(spec, "exposure", bounds(spec.exposure)))
    plane: Plane = layer.plane
    for disparity in plane.extremes(draw.width, draw.height):
        _within("disparity", disparity, (0.0, 1.0), _PLANE_SLACK)


def _check_window(
    spec: PhotoSpec | PairSpec, draw: WindowDraw, size: tuple[int, int] | None, asset: Asset
) -> None:  # fmt: skip
    if (draw.height, draw.width) != (size or own_size(asset)):
        raise DataError(f"{draw.width} x {draw.height} px, the recipe or its picture has another size")
    if draw.take != spec.take:
        raise DataError(f"take is {draw.take}, the recipe's is {spec.take}")
    for name in ("u", "v"):
        _within(name, getattr(draw, name), (0.0, 1.0))


def _check_pair(spec: PairSpec, draw: PairDraw) -> None:
    scale = spec.blur_scale(min(draw.height, draw.width))
    for number, fixed in zip((*draw.search, draw.fixed_blur), (*spec.search, spec.fixed_blur), strict=True):
        _within("search or fixed_blur", number, (fixed * scale, fixed * scale))
    for name, value, given, factor in (
        ("blur", draw.blur, spec.blur, scale), ("focus", draw.focus, spec.focus, 1.0)
    ):  # fmt: skip
        if (value is None) != isinstance(given, str):
            raise DataError(f"{name} is {value}, the recipe has it in another way")
        if value is not None and not isinstance(given, str):
            low, high = bounds(given)
            _within(name, value, (low * factor, high * factor))
    if draw.by_mask != (spec.focus == "mask"):
        raise DataError("by_mask is not the recipe's")


def _asset(catalogue: Catalogue, kind: Kind, split: str, name: str) -> Asset:
    asset = catalogue.by_id.get(name)
    if asset is None or (asset.kind, asset.split) != (kind, split):
        raise DataError(f"shows {name!r:.80}, which is no {kind} of {split}")
    return asset


def _within(name: str, value: float, limits: tuple[float, float], slack: float = _SLACK) -> None:
    wide = slack * max(1.0, *map(abs, limits))
    if not limits[0] - wide <= value <= limits[1] + wide:  # also for NaN
        raise DataError(f"{name} must lie in {limits[0]:g}..{limits[1]:g}, got {value!r:.40}")
