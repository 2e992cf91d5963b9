"""Scaling and placing pictures on a canvas, in premultiplied linear light."""

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.color import FloatArray
from bokehsynth.imaging.pictures import Cutout
from bokehsynth.scene.draw import BackgroundDraw, ForegroundDraw

ENLARGE_MAX = 2.0
"""A landscape smaller than the canvas is enlarged up to this factor; what is still missing is mirrored."""

TOUCH_SHARE, TWIG_SHARE = 0.04, 0.008
"""A cut-out touches a side of its picture where it is solid along at least this share of the side: a stray hair is no
cut. One that would touch nothing hangs by a twig from the side it touches most, if by no less than the second share."""


def show_landscape(
    color: FloatArray, draw: BackgroundDraw, height: int, width: int, upwards: int = cv2.INTER_CUBIC
) -> tuple[FloatArray, float]:
    """The drawn part of a landscape [h, w, 3] at canvas size [height, width, 3], aspect kept, and its enlargement.

    `upwards` is OpenCV's interpolation for enlarging.
    """
    cover = max(height / color.shape[0], width / color.shape[1])
    factor = min(cover * draw.zoom, max(cover, 1.0)) if cover * draw.zoom > 1 else cover * draw.zoom
    shown, notes = show_window(color, factor, draw.flip, (draw.u, draw.v), (height, width), upwards)
    return shown, max(1.0, notes["scaled"])


def show_window(
    color: FloatArray,
    factor: float,
    flip: bool,
    at: tuple[float, float],
    size: tuple[int, int],
    upwards: int = cv2.INTER_CUBIC,
) -> tuple[FloatArray, dict[str, Any]]:
    """A window of `size` (height, width) in a picture [h, w, C] scaled by `factor`, and where it lies.

    `at` is the place (u, v) of the window in what is left over, 0..1 from left and top. The picture is enlarged to at
    most ENLARGE_MAX; what is still missing is mirrored. Facts: `scaled`, and `top`, `left` in the scaled picture.
    """
    height, width = size
    h, w = color.shape[:2]
    factor = min(factor, ENLARGE_MAX)
    shown: FloatArray = _resize(color, math.ceil(h * factor - 1e-9), math.ceil(w * factor - 1e-9), upwards)
    if flip:
        shown = shown[:, ::-1]
    down, right = height - shown.shape[0], width - shown.shape[1]
    if down > 0 or right > 0:
        shown = cv2.copyMakeBorder(  # type: ignore[assignment]
            shown, max(down, 0) // 2, (max(down, 0) + 1) // 2, max(right, 0) // 2, (max(right, 0) + 1) // 2,
            cv2.BORDER_REFLECT_101,
        )  # fmt: skip
    top, left = round(at[1] * (shown.shape[0] - height)), round(at[0] * (shown.shape[1] - width))
    window = np.ascontiguousarray(shown[top : top + height, left : left + width])
    return window, {"scaled": float(factor), "top": top, "left": left}


def place_cutout(
    cutout: Cutout, draw: ForegroundDraw, height: int, width: int, margin: int
) -> tuple[FloatArray, FloatArray]:
    """Straight colour [Hc, Wc, 3] and alpha [Hc, Wc] of a cut-out on the canvas of a height x width picture.

    A cut-out that one or two sides of its own picture cut off is placed against those sides of the canvas, so that
    the cut is never seen; one that three or four sides cut off (a fence, a veil) covers the canvas.
    """
    return _placed(cutout, draw, (height, width), margin, margin)


def place_in_picture(
    cutout: Cutout, draw: ForegroundDraw, height: int, width: int, margin: int
) -> tuple[FloatArray, FloatArray]:
    """As `place_cutout`, but against the sides of the picture itself, so that its place does not depend on the margin.

    Beyond those sides it goes on mirrored.
    """
    color, alpha = _placed(cutout, draw, (height, width), margin, 0)
    touches = touching_sides(cutout.alpha)
    if draw.flip:
        touches = frozenset({"left": "right", "right": "left"}.get(side, side) for side in touches)
    top, bottom, left, right = (margin * (side in touches) for side in ("top", "bottom", "left", "right"))
    inside = slice(top, margin + height + margin - bottom), slice(left, margin + width + margin - right)

    def mirrored(kept: FloatArray) -> FloatArray:
        return np.asarray(cv2.copyMakeBorder(kept[inside], top, bottom, left, right, cv2.BORDER_REFLECT), np.float32)

    return mirrored(color), mirrored(alpha)


def _placed(
    cutout: Cutout, draw: ForegroundDraw, size: tuple[int, int], margin: int, frame: int
) -> tuple[FloatArray, FloatArray]:
    """Straight colour and alpha on the canvas, cut sides against a frame `frame` px larger than the picture."""
    height, width = size
    premultiplied = _premultiplied(cutout)
    if draw.flip:
        premultiplied = cv2.flip(premultiplied, 1)  # type: ignore[assignment]
    touches = touching_sides(premultiplied[..., 3])
    canvas_h, canvas_w = height + 2 * margin, width + 2 * margin
    h, w = premultiplied.shape[:2]
    factor = side_on_canvas(cutout, draw, height, width, frame) / max(h, w)
    sized = _resize(premultiplied, max(1, round(h * factor)), max(1, round(w * factor)))
    if not touches:
        sized = _rotate(sized, draw.rotation)
    h, w = sized.shape[:2]
    top = round(frame + draw.bottom * height - h)
    left = round(frame + draw.x * width - w / 2)
    top, left = _against_sides(touches, top, left, (h, w), (height + 2 * frame, width + 2 * frame))
    top, left = top + margin - frame, left + margin - frame
    color, alpha = np.zeros((canvas_h, canvas_w, 3), np.float32), np.zeros((canvas_h, canvas_w), np.float32)
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + h, canvas_h), min(left + w, canvas_w)
    if y0 < y1 and x0 < x1:
        part = sized[y0 - top : y1 - top, x0 - left : x1 - left]
        color[y0:y1, x0:x1], alpha[y0:y1, x0:x1] = _straight(part)
    return color, alpha


# Arithmetic of three channels with one is many times faster once that one is repeated: NumPy's own broadcasting would
# run loops of three numbers.


def _premultiplied(cutout: Cutout) -> FloatArray:
    """R, G, B times alpha, and alpha, [h, w, 4]."""
    color = cutout.color * cv2.merge([cutout.alpha] * 3)
    both = np.empty((*cutout.alpha.shape, 4), np.float32)
    cv2.mixChannels([color, cutout.alpha], [both], [0, 0, 1, 1, 2, 2, 3, 3])
    return both


def _straight(premultiplied: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Straight colour and alpha of [h, w, 4].

    Colour is divided before alpha is clipped: resampling may carry alpha a little over 1, and colour with it.
    """
    size = premultiplied.shape[:2]
    color, alpha = np.empty((*size, 3), np.float32), np.empty(size, np.float32)
    cv2.mixChannels([premultiplied], [color, alpha], [0, 0, 1, 1, 2, 2, 3, 3])
    np.maximum(color, 0, out=color)
    color /= cv2.merge([np.maximum(alpha, np.float32(1e-4))] * 3)
    return color, np.clip(alpha, np.float32(0), np.float32(1))


def side_on_canvas(cutout: Cutout, draw: ForegroundDraw, height: int, width: int, margin: int) -> int:
    """Longer side in pixels at which a cut-out is shown: as drawn, or as much as it takes to cover the canvas."""
    touches = touching_sides(cutout.alpha)
    h, w = cutout.alpha.shape
    side = draw.scale * min(height, width)
    if {"left", "right"} <= touches:
        side = max(side, (width + 2 * margin) / w * max(h, w))
    if {"top", "bottom"} <= touches:
        side = max(side, (height + 2 * margin) / h * max(h, w))
    return math.ceil(side)


def touching_sides(alpha: npt.NDArray[np.float32]) -> frozenset[str]:
    """Which sides of its picture cut a subject off: left, right, top, bottom."""
    edges = {"left": alpha[:, 0], "right": alpha[:, -1], "top": alpha[0], "bottom": alpha[-1]}
    shares = {side: float(np.mean(edge > 0.5)) for side, edge in edges.items()}
    touched = frozenset(side for side, share in shares.items() if share >= TOUCH_SHARE)
    most = max(shares, key=lambda side: shares[side])
    return touched or (frozenset({most}) if shares[most] >= TWIG_SHARE else frozenset())


def _against_sides(
    touches: frozenset[str], top: int, left: int, size: tuple[int, int], canvas: tuple[int, int]
) -> tuple[int, int]:
    if "bottom" in touches:
        top = canvas[0] - size[0]
    elif "top" in touches:
        top = 0
    if "left" in touches and "right" in touches:
        left = (canvas[1] - size[1]) // 2
    elif "left" in touches:
        left = 0
    elif "right" in touches:
        left = canvas[1] - size[1]
    return top, left


def _resize(image: FloatArray, height: int, width: int, upwards: int = cv2.INTER_CUBIC) -> FloatArray:
    """Area averaging down, cubic up (overshoot below zero is clipped)."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else upwards)
    return np.maximum(resized, 0).astype(np.float32, copy=False)


def _rotate(image: FloatArray, degrees: float) -> FloatArray:
    """Rotate clockwise about the middle, on a picture just large enough."""
    if degrees == 0:
        return image
    h, w = image.shape[:2]
    angle = math.radians(degrees)
    new_w = math.ceil(abs(w * math.cos(angle)) + abs(h * math.sin(angle))) + 2
    new_h = math.ceil(abs(h * math.cos(angle)) + abs(w * math.sin(angle))) + 2
    matrix = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), -degrees, 1.0)
    matrix[:, 2] += ((new_w - w) / 2, (new_h - h) / 2)
    turned = cv2.warpAffine(image, matrix, (new_w, new_h), flags=cv2.INTER_CUBIC)
    return np.maximum(turned, 0).astype(np.float32, copy=False)
