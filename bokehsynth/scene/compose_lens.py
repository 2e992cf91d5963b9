"""The lens in front of a drawn scene, for each disparity that may turn out to be in focus."""

from bokehsynth.optics import Lens, Plane
from bokehsynth.scene.camera import SceneLens
from bokehsynth.scene.draw import STEEPEST, SceneDraw


def possible_focus(draw: SceneDraw, planes: list[Plane]) -> list[float]:
    """Disparities that may turn out to be in focus: the drawn one, or every plane's at the drawn pixel."""
    if draw.focus.on == "disparity":
        return [draw.focus.disparity]
    x, y = draw.focus.x - (draw.width - 1) / 2, draw.focus.y - (draw.height - 1) / 2
    return [float(plane.at(x, y)) for plane in planes]


def lens_of(draw: SceneDraw, focus: float, scene_lens: SceneLens, planes: list[Plane]) -> Lens:
    """Build the lens with K as drawn, or such that the most blurred corner has the drawn radius (0 if all is in focus).

    K times the steepest slope stays below STEEPEST: beyond, no canvas is large enough for the rays. Where the recipe
    has a camera, K is the camera's, and the planes were drawn for it.
    """
    if draw.blur is None:
        return scene_lens.focused(focus, (draw.height, draw.width))
    return Lens(blur_of(draw, focus, scene_lens, planes), focus, scene_lens.aperture)


def blur_of(draw: SceneDraw, focus: float, scene_lens: SceneLens, planes: list[Plane]) -> float:
    """K of that lens."""
    blur = draw.blur
    if blur is None:
        return scene_lens.blur(focus, (draw.height, draw.width))
    if draw.blur_is == "largest_radius":
        away = farthest(planes, focus, draw.width, draw.height)
        blur = blur / away if away > 0 else 0.0
    slope = max(plane.slope for plane in planes)
    return min(blur, STEEPEST / slope) if slope > 0 else blur


def farthest(planes: list[Plane], focus: float, width: int, height: int) -> float:
    """Largest difference between the disparity in focus and that of a pixel of the planes."""
    return max(Lens(1.0, focus).radius_max(plane, width, height) for plane in planes)
