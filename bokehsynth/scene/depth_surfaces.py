"""What a photograph and its disparity map show in front, and what lies hidden behind depth edges."""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.color import FloatArray, linear_to_srgb, srgb_to_linear
from bokehsynth.imaging.inpaint import push_pull
from bokehsynth.scene.depth_layers import sharpen_depth_edges

BoolArray = npt.NDArray[np.bool_]

EDGE = 0.15
"""Difference of disparity from which there is a surface behind another one."""
BAND = 1 / 256
"""Share of the shorter side to either side of a depth edge within which colours are mixed or the map may be off."""
COLOR_SPREAD, MATTE_SPREAD = 0.08, 0.5
"""Standard deviations for the matte: of sRGB values of one thing beside an edge, and of the map's own alpha there."""
MATTE_WINDOW = 0.7
"""Sigma in pixels of the window within which the matte is even."""


@dataclass(frozen=True, eq=False)
class DepthSurfaces:
    """A photograph [H, W] as two surfaces; composited, `color * alpha + hidden_color * (1 - alpha)`, they are it.

    In front is what the photograph shows, its `alpha` soft along depth edges; behind near sides of these edges, as far
    as rays go, and beside them lies a second surface whose colour is inpainted where it cannot be seen.
    """

    color: FloatArray
    """[H, W, 3] linear."""
    alpha: FloatArray
    disparity: FloatArray
    hidden: BoolArray
    """Where there is a second surface, [H, W]."""
    hidden_color: FloatArray
    hidden_disparity: FloatArray
    inside: FloatArray
    """Pixels to the nearest far side of a depth edge, [H, W]; infinite without one."""


def separate_surfaces(photo: FloatArray, disparity: FloatArray, reach: float) -> DepthSurfaces:
    """Separate a photograph [H, W, 3] in linear light by a map [H, W] in 0..1.

    What is hidden is continued `reach` pixels behind near sides. At a depth edge the map decides only about where the
    edge is, within BAND the colours on its two sides decide (`_matte`).
    """
    width = max(1, round(BAND * min(disparity.shape)))
    steps = sharpen_depth_edges(disparity, 0, 2 * width + 1, EDGE)
    window = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    near, far = (np.asarray(morph(steps, window), np.float32) for morph in (cv2.dilate, cv2.erode))
    band = near - far > EDGE
    if not band.any():
        nothing = np.full_like(steps, np.inf)
        return DepthSurfaces(photo, np.ones_like(steps), steps, band, photo, steps, nothing)
    near_side = band & (near - steps < steps - far)
    far_side = band & ~near_side
    behind, inside = _nearest(far_side, far)
    before, outside = _nearest(near_side, near)
    hidden = band | ((inside <= reach) & (steps - behind > EDGE))
    ring = 4 * width
    front_of = (before - steps < EDGE) & (outside <= ring) & ~far_side
    back_of = ~hidden & (inside <= max(ring, reach)) | far_side
    front = _Side.around(photo, _trust(front_of, band, inside))
    back = _Side.around(photo, _trust(back_of, band, outside))
    alpha, color, hidden_color = np.ones_like(steps), photo.copy(), back.color
    matte = _matte(photo, front, back, near_side, band)
    alpha[band], color[band], hidden_color[band] = _unmixed(photo[band], front.color[band], back.color[band], matte)
    return DepthSurfaces(
        color, alpha, np.where(band, near, steps), hidden, hidden_color, np.where(band, far, behind), inside
    )  # fmt: skip


class _Side(NamedTuple):
    """Colours of one side of depth edges, continued across them."""

    color: FloatArray
    """[H, W, 3] linear."""
    encoded: FloatArray
    """In sRGB."""
    variance: FloatArray
    """Of a channel in sRGB, [H, W]: texture."""

    @classmethod
    def around(cls, photo: FloatArray, trust: FloatArray) -> "_Side":
        """Means of a photograph round every pixel, weighted by `trust`."""
        encoded = linear_to_srgb(photo)
        moments = push_pull(np.dstack([encoded, np.square(encoded).sum(axis=2)]), trust, trust=4)
        mean = np.ascontiguousarray(moments[..., :3])
        variance = np.maximum(moments[..., 3] - np.square(mean).sum(axis=2), 0) / 3
        return cls(srgb_to_linear(mean), mean, variance)


def _trust(own: BoolArray, band: BoolArray, depth: FloatArray) -> FloatArray:
    """Weights [H, W] of pixels for the colours of one side.

    In full where nothing is mixed, little within the band, where thin things have all they have, and the least where
    there is nothing else. `depth` is the distance in pixels to the other side.
    """
    within = np.float32(0.05) * (depth - np.float32(1.0)).clip(0, 2)
    return np.where(own, np.where(band, within, np.float32(1)), np.float32(0)) + np.float32(1e-6)


def _nearest(where: BoolArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Value at the nearest pixel of a mask, and its distance in pixels, [H, W]; far away where the mask is empty."""
    if not where.any():
        return np.zeros_like(values), np.full_like(values, 1e9)
    distance, labels = cv2.distanceTransformWithLabels(
        (~where).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.zeros(int(labels.max()) + 1, np.float32)
    of_label[labels[where]] = values[where]
    return of_label[labels], np.asarray(distance, np.float32)


def _matte(photo: FloatArray, front: _Side, back: _Side, near_side: BoolArray, band: BoolArray) -> FloatArray:
    """Alpha [N] of the band's pixels between colours in front and behind, the likeliest given that of the map.

    With Gaussian spreads that is the minimum of |I - aF - (1 - a)B|^2 / s^2 + (a - prior)^2 / MATTE_SPREAD^2 in sRGB,
    where s^2 is COLOR_SPREAD^2 and the variances of both sides: texture tells little. The colours count in the mean
    over MATTE_WINDOW, or noise would draw dots.
    """
    prior = cv2.GaussianBlur(near_side.astype(np.float32), (0, 0), 0.7)
    b = back.encoded
    across = front.encoded - b
    weight = band / (np.float32(COLOR_SPREAD**2) + front.variance + back.variance)
    along, length = (
        cv2.GaussianBlur((product * across).sum(axis=2) * weight, (0, 0), MATTE_WINDOW)
        for product in (linear_to_srgb(photo) - b, across)
    )
    trust = np.float32(1 / MATTE_SPREAD**2)
    alpha = (prior * trust + along) / (trust + length)
    return np.asarray(alpha[band].clip(0, 1), np.float32)


def _unmixed(
    mixed: FloatArray, front: FloatArray, back: FloatArray, alpha: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Alpha [N] and colours [N, 3] of both sides that mix to what was photographed.

    The side that has most of a pixel takes what the estimates miss, or details of one would be seen in the other; no
    more of the other side is mixed in than there is light.
    """
    tiny = np.float32(1e-6)
    mostly_front = alpha > 0.5
    least = 1 - (mixed / np.maximum(back, tiny)).min(axis=1)
    most = (mixed / np.maximum(front, tiny)).min(axis=1)
    alpha = np.where(mostly_front, np.maximum(alpha, least), np.minimum(alpha, most)).clip(0, 1)
    a = alpha[:, None]
    own_front = np.maximum((mixed - (1 - a) * back) / np.maximum(a, tiny), 0)
    own_back = np.maximum((mixed - a * front) / np.maximum(1 - a, tiny), 0)
    chosen = mostly_front[:, None]
    return alpha, np.where(chosen, own_front, front), np.where(chosen, back, own_back)
