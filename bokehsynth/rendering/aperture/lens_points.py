"""Lens points baked from an aperture's methods: all that a fast backend knows of its rays."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth.errors import UsageError
from bokehsynth.optics import Aperture, SameAperture
from bokehsynth.rendering.types import Float64Array, FloatArray, RenderInput

_DIGEST_SIDE = 512
"""Grid whose accepted points and weights stand for an aperture in a data set's identity."""

_DIGEST_FIELD = 65
"""Field positions per side at which a pupil is noted in that identity."""

_DIGEST_RAYS = 1000
"""Lens points whose aberrations and weights are noted at each of 9 x 9 field positions."""

_MEAN_SIDE = 128
"""Grid of lens points whose mean says where an opening lies."""

_FIELD_POINTS = 4096
"""Lens points per pixel of the transmission map."""


def needs_field_table(aperture: Aperture) -> bool:
    """Whether an aperture does more than an outline, one weight for each lens point and rims can say."""
    return aperture.has_aberration or aperture.weight_depends_on_field or aperture.extent > 1


@dataclass(frozen=True, eq=False)
class LensPoints:
    """Rays of one aperture: points float64 [N, 2] on the unit disc and weights float32 [N, 3] for R, G, B."""

    points: Float64Array
    weights: FloatArray


def bake(aperture: Aperture, side: int) -> LensPoints:
    """The lens points of a side x side midpoint grid, mapped to the disc with equal areas, that `inside` accepts.

    The concentric map (Shirley & Chiu 1997) keeps neighbours together, so the grid's even spacing survives on the
    disc; it was the best fixed set measured. The aperture is asked anew each time, so it may be changed between two
    calls. Raises UsageError for an aperture that lets nothing through or whose methods return the wrong shape.
    """
    points = concentric_grid(side)
    points = points[check_inside(aperture, points)]
    weights = check_weights(aperture, points)
    if len(points) == 0 or weights.sum() <= 0:
        raise UsageError(f"{_name(aperture)} lets no light through: `inside` accepted {len(points)} lens points")
    return LensPoints(np.ascontiguousarray(points), np.ascontiguousarray(weights, dtype=np.float32))


def smallest_side(samples: int, rays: "Callable[[int], LensPoints]") -> int:
    """Smallest even side of a grid whose table, rays(side), holds at least `samples` rays."""
    side = max(2, 2 * int(math.sqrt(samples) / 2))
    while len(rays(side).points) < samples:
        side += 2
    return side


def check_inside(aperture: Aperture, points: Float64Array) -> npt.NDArray[np.bool_]:
    """Which points the aperture accepts; UsageError if `inside` returns anything but bool [N]."""
    inside = np.asarray(aperture.inside(points))
    if inside.shape != (len(points),) or inside.dtype != np.bool_:
        raise UsageError(f"{_name(aperture)}.inside must return bool [N], got {inside.dtype} {inside.shape}")
    return inside


def check_weights(aperture: Aperture, points: Float64Array, h: Float64Array | None = None) -> Float64Array:
    """The aperture's weights for these points as float64 [N, 3]; UsageError if they are not finite and >= 0.

    A `weight(s, h)` is asked at the field positions h [N, 2], or, without them, at the picture's centre.
    """
    answer = aperture.transmission(points, np.zeros((len(points), 2)) if h is None else h)
    weights = np.asarray(answer, dtype=np.float64)
    if weights.shape not in {(len(points),), (len(points), 3)}:
        raise UsageError(f"{_name(aperture)}.weight must return [N] or [N, 3], got shape {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise UsageError(f"{_name(aperture)}.weight must return finite numbers >= 0")
    return np.repeat(weights[:, None], 3, axis=1) if weights.ndim == 1 else weights


def vogel_points(count: int) -> Float64Array:
    """A golden-angle spiral of `count` points that covers the unit disc evenly, float64 [N, 2]."""
    index = np.arange(count)
    radius, angle = np.sqrt((index + 0.5) / count), index * (math.pi * (3 - math.sqrt(5)))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def transmission_map(scene: RenderInput) -> FloatArray:
    """Share of the aperture's light that its pupil lets pass at each pixel, float32 [H, W].

    Of an aperture with a `weight(s, h)`: the light, mean of the channels, relative to the picture's centre.
    """
    aperture = scene.lens.aperture
    shape = (scene.height, scene.width)
    over_field = aperture.weight_depends_on_field
    if type(aperture).pupil is Aperture.pupil and not over_field:
        return np.ones(shape, np.float32)
    points = aperture.extent * vogel_points(_FIELD_POINTS)
    points = points[np.asarray(aperture.inside(points), np.bool_)]
    weights = check_weights(aperture, points)
    h, centre = field_positions(scene), np.zeros((1, 1, 2))
    passed, whole = np.zeros(shape), 0.0
    for s, w in zip(points, weights, strict=True):
        passed += weights_over_field(aperture, s, w, h).mean(axis=-1)
        whole += float((weights_over_field(aperture, s, w, centre) if over_field else w).mean())
    return (passed / whole).astype(np.float32)


def weights_over_field(aperture: Aperture, s: Float64Array, weight: Float64Array, h: Float64Array) -> Float64Array:
    """Weights [H, W, 3] of the rays through lens point s [2] at field positions h [H, W, 2], 0 outside the pupil.

    `weight` [3] is what an aperture whose `weight` does not depend on the field answers for s.
    """
    if aperture.weight_depends_on_field:
        fields = h.reshape(-1, 2)
        weight = check_weights(aperture, np.broadcast_to(s, fields.shape), fields).reshape(*h.shape[:2], 3)
    result: Float64Array = weight * in_pupil(aperture, s, h)[..., None]
    return result


def refuse_unbaked(scene: RenderInput) -> None:
    """Raise UsageError for a lens with a part that cuda does not render."""
    part = unbaked_part(scene.lens.aperture)
    if part and scene.lens.blur > 0:
        raise UsageError(
            f"{_name(scene.lens.aperture)} {part}, which cuda does not render: its kernels know one opening, one "
            "weight for each of its points and one moving rim; use backend='cpu'"
        )


def unbaked_part(aperture: Aperture) -> str:
    """What of an aperture cuda does not know, as `has an aberration`; empty if it knows it all."""
    if aperture.has_aberration:
        return "has an aberration"
    if aperture.weight_depends_on_field:
        return "has a weight that depends on the field"
    rims = len(aperture.pupil_discs(np.zeros((1, 2))))
    if rims != 1:
        return f"has a pupil of {rims} rims"
    return f"is open beyond the unit disc (extent {aperture.extent:g})" if aperture.extent > 1 else ""


def field_positions(scene: RenderInput) -> Float64Array:
    """h = (p - centre) / half-diagonal for every pixel, float64 [H, W, 2]; half-diagonal = hypot(W, H) / 2."""
    x, y = scene.offsets()
    half = math.hypot(scene.width, scene.height) / 2
    return np.stack(np.broadcast_arrays(x / half, y / half), axis=-1)


def in_pupil(aperture: Aperture, s: Float64Array, h: Float64Array) -> npt.NDArray[np.bool_]:
    """Whether lens point s [2] lies in the pupil's disc at field positions h [..., 2]."""
    result = np.ones(h.shape[:-1], np.bool_)
    for centre, radius in aperture.pupil_discs(h):
        result &= np.hypot(s[0] - centre[..., 0], s[1] - centre[..., 1]) <= radius
    return result


def effective_share(aperture: Aperture) -> float:
    """Rays that pass an opening over rays that are sent, 0..1, those of uneven weight counted as (sum w)^2 / sum w^2.

    Of the channel that passes fewest, at the picture's centre and without its rims.
    """
    points = aperture.extent * concentric_grid(_MEAN_SIDE)
    weights = check_weights(aperture, points[check_inside(aperture, points)])
    total, square = weights.sum(axis=0), np.square(weights).sum(axis=0)
    return min((float(t * t / s) for t, s in zip(total, square, strict=True) if s > 0), default=0.0) / len(points)


def mean_point(aperture: Aperture) -> tuple[float, float]:
    """Mean of the lens points at the picture's centre, weighted by the light that passes: where a part of it lies."""
    return _mean_point(SameAperture(aperture))


@lru_cache(maxsize=64)
def _mean_point(key: SameAperture) -> tuple[float, float]:
    aperture = key.aperture
    points = aperture.extent * concentric_grid(_MEAN_SIDE)
    points = points[check_inside(aperture, points)]
    for centre, radius in aperture.pupil_discs(np.zeros((1, 2))):
        points = points[np.hypot(*(points - centre).T) <= radius]
    weights = check_weights(aperture, points).mean(axis=1)
    total = float(weights.sum())
    if total <= 0:
        return 0.0, 0.0
    x, y = (float(round(value, 6)) + 0.0 for value in weights @ points / total)
    return x, y


def table_digest(aperture: Aperture) -> str:
    """Hex digest of what an aperture does on fine grids: the identity of its lens in a data set."""
    points = max(1.0, aperture.extent) * concentric_grid(_DIGEST_SIDE)
    inside = np.asarray(aperture.inside(points), np.bool_)
    digest = hashlib.sha256(np.packbits(inside).tobytes())
    digest.update(check_weights(aperture, points[inside]).astype(np.float32).tobytes())
    if type(aperture).pupil is not Aperture.pupil:
        line = np.linspace(-1, 1, _DIGEST_FIELD)
        for centre, radius in aperture.pupil_discs(np.stack(np.meshgrid(line, line), axis=-1)):
            digest.update(np.asarray(centre, np.float64).tobytes() + np.float64(radius).tobytes())
    if aperture.has_aberration or aperture.weight_depends_on_field:
        s = points[inside][:: max(1, inside.sum() // _DIGEST_RAYS)]
        line = np.linspace(-1, 1, 9)
        for h in np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2):
            fields = np.broadcast_to(h, s.shape)
            digest.update(check_weights(aperture, s, fields).astype(np.float32).tobytes())
            digest.update(np.asarray(aperture.aberration(s, fields), np.float64).astype(np.float32).tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=256)
def concentric_grid(side: int) -> Float64Array:
    """A side x side midpoint grid, mapped to the unit disc with equal areas (Shirley & Chiu 1997), float64 [N, 2]."""
    edge = (np.arange(side) + 0.5) * (2 / side) - 1
    u, v = (a.ravel() for a in np.meshgrid(edge, edge))
    steep = np.abs(v) > np.abs(u)
    radius = np.where(steep, v, u)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0/0 at the very centre of an odd grid
        angle = np.where(steep, math.pi / 2 - math.pi / 4 * (u / v), math.pi / 4 * (v / u))
    angle = np.where(radius == 0, 0.0, angle)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _name(aperture: Any) -> str:
    return type(aperture).__name__
