"""The definition of the picture, in float64 and in the plainest way: one lens point at a time over the whole frame.

Nothing here is fast and nothing is shared with the fast backends: the aperture is asked itself for every lens point,
no table is read, and every ray sorts its own hits.

Height fields are solved exactly too. Seen along a ray, a bilinear field is a quadratic between two texel lines, and the
frame is walked from one crossing of such lines to the next, nearest first. All pixels lie on texels, so without an
aberration every ray of one lens point crosses them at the same values of its parameter delta = d - d_f.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from bokehsynth.errors import UsageError
from bokehsynth.optics import Aperture, HeightField, Lens, Surface
from bokehsynth.optics.pupil_parts import PupilPart
from bokehsynth.rendering.aperture.lens_points import (
    check_weights,
    field_positions,
    vogel_points,
    weights_over_field,
)
from bokehsynth.rendering.types import Float64Array, RenderInput, RenderOutput

DEFAULT_RAYS = 2048


def render_scene(scene: RenderInput, samples: int | None) -> RenderOutput:
    """Render with about `samples` rays per pixel (default 2048), spread evenly over the aperture.

    A half of an opening is darkened as the whole is, and gets the share of the light that its rays carry: those of both
    halves are the whole's, so the pictures add up to the whole's as they are.
    """
    points, weights = _lens_points(scene, samples or DEFAULT_RAYS)
    h = field_positions(scene)
    light = np.zeros((scene.height, scene.width, 3))
    arrived = np.zeros_like(light)
    passed = np.zeros_like(light)
    for s, w in zip(points, weights, strict=True):
        weight = weights_over_field(scene.lens.aperture, s, w, h) if scene.lens.blur > 0 else np.ones_like(light)
        color, alpha = _ray(scene, s, h)
        light += weight * color
        arrived += weight * alpha
        passed += weight
    with np.errstate(invalid="ignore", divide="ignore"):
        picture = np.where(arrived > 0, light / arrived, 0.0)
        coverage = np.where(passed > 0, arrived / passed, 0.0)
    share, through_whole = None, passed
    if (half := _half(scene)) is not None:
        scene = replace(scene, lens=replace(scene.lens, aperture=half.whole))
        points, weights = _lens_points(scene, samples or DEFAULT_RAYS)
        through_whole = _passed(scene, points, weights, h)
        share = np.divide(passed, through_whole, out=np.zeros_like(passed), where=through_whole > 0)
    if scene.lens.falloff:
        picture *= through_whole * _per_light_of_centre(scene, points, weights)
    passes = passed > 0  # a channel that is blocked does not count
    mean = (coverage * passes).sum(axis=-1) / np.maximum(passes.sum(axis=-1), 1)
    part_light = None if share is None else share.astype(np.float32)
    return RenderOutput(picture.astype(np.float32), mean.astype(np.float32), part_light=part_light)


def _half(scene: RenderInput) -> PupilPart | None:
    """The opening of a scene, where it is one of two parts and the picture is blurred."""
    aperture = scene.lens.aperture
    if scene.lens.blur > 0 and isinstance(aperture, PupilPart) and aperture.is_half:
        return aperture
    return None


def _lens_points(scene: RenderInput, samples: int) -> tuple[Float64Array, Float64Array]:
    """Points [N, 2] inside the opening with N close to `samples`, and weights [N, 3]; one central ray for a pinhole.

    Weights that depend on the field are those at the picture's centre. Of a half those of the whole's that pass it.
    """
    if scene.lens.blur == 0:
        return np.zeros((1, 2)), np.ones((1, 3))
    aperture, half = scene.lens.aperture, _half(scene)
    opening = aperture if half is None else half.whole
    share = np.asarray(opening.inside(opening.extent * vogel_points(4096)), np.bool_).mean()
    if share == 0:
        raise UsageError(f"{type(opening).__name__} lets no light through")
    points = aperture.extent * vogel_points(int(np.ceil(samples / share)))
    points = points[np.asarray(aperture.inside(points), np.bool_)]
    return points, check_weights(aperture, points)


def _per_light_of_centre(scene: RenderInput, points: Float64Array, weights: Float64Array) -> Float64Array:
    """1 over the light that passes at the centre of the picture, per channel, [1, 1, 3]; 0 where there is none."""
    if scene.lens.blur == 0:
        return np.ones((1, 1, 3))
    light = _passed(scene, points, weights, np.zeros((1, 1, 2)))
    return np.divide(1.0, light, out=np.zeros_like(light), where=light > 0)


def _passed(scene: RenderInput, points: Float64Array, weights: Float64Array, h: Float64Array) -> Float64Array:
    """The light of all rays at field positions h [H, W, 2], whatever they meet: [H, W, 3]."""
    light = np.zeros((*h.shape[:2], 3))
    for s, w in zip(points, weights, strict=True):
        light += weights_over_field(scene.lens.aperture, s, w, h)
    return light


def _ray(scene: RenderInput, s: Float64Array, h: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Premultiplied colour [H, W, 3] and alpha [H, W, 3 or 1] that the rays through lens point s meet at every pixel.

    With an aberration per channel, each channel has rays of its own.
    """
    x, y = scene.offsets()
    if scene.lens.blur == 0 or not scene.lens.aperture.has_aberration:
        return _meet(scene, s, x, y)
    shift = _aberration(scene.lens.aperture, s, h)
    rays = [_meet(scene, s, x + shift[..., i, 0], y + shift[..., i, 1]) for i in range(shift.shape[2])]
    if len(rays) == 1:
        return rays[0]
    color = np.stack([color[..., i] for i, (color, _) in enumerate(rays)], axis=-1)
    return color, np.concatenate([alpha for _, alpha in rays], axis=-1)


def _meet(scene: RenderInput, s: Float64Array, x: Float64Array, y: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Premultiplied colour [H, W, 3] and alpha [H, W, 1] along the rays that leave offsets x, y through s."""
    K = scene.lens.blur
    hits, nearness = [], []
    for surface, packed in ((layer.disparity, layer.packed) for layer in scene.layers):
        delta = _hit(surface, x, y, s, scene.lens)
        hits.append(_bilinear(packed, x + s[0] * K * delta, y + s[1] * K * delta))
        nearness.append(np.broadcast_to(delta, hits[-1].shape[:2]))
    order = np.argsort(-np.stack(nearness), axis=0, kind="stable")
    stack = np.take_along_axis(np.stack(hits), order[..., None], axis=0)
    color = np.zeros((*stack.shape[1:3], 3))
    through = np.ones(stack.shape[1:3])
    for hit in stack:
        color += through[..., None] * hit[..., :3]
        through = through * (1 - hit[..., 3])
    return color, 1 - through[..., None]


def _hit(surface: Surface, x: Float64Array, y: Float64Array, s: Float64Array, lens: Lens) -> Float64Array:
    """d(p') - d_f where the rays that leave offsets x, y meet a layer: [H, W], or less for a plane.

    x [1, W] and y [H, 1] are those of the pixels, or both [H, W] with the aberration added.
    """
    if isinstance(surface, HeightField):
        xs, ys = np.broadcast_arrays(x, y)
        return _first_hit(surface, xs.ravel(), ys.ravel(), s * lens.blur, lens.focus).reshape(xs.shape)
    result: Float64Array = (surface.at(x, y) - lens.focus) / (1 - lens.blur * (surface.gx * s[0] + surface.gy * s[1]))
    return result


def _first_hit(field: HeightField, x: Float64Array, y: Float64Array, u: Float64Array, focus: float) -> Float64Array:
    """Largest delta with d(p + u*delta) - d_f = delta, for rays from offsets x, y [N] and u = K*s [2].

    Coming from the camera the ray is in front of the field, `ahead` > 0. The first delta at which it no longer is, is
    the hit; there is one, because at the field's own minimum nothing is left to be in front of.
    """

    def ahead(delta: float, of: npt.NDArray[np.int64]) -> Float64Array:
        return delta + focus - field.at(x[of] + u[0] * delta, y[of] + u[1] * delta)

    low, high = (d - focus for d in field.range)
    hit = np.full(x.shape, low)
    open_ = np.arange(len(x))
    near = ahead(high, open_)
    hit[near <= 0] = high
    open_, near = open_[near > 0], near[near > 0]
    start = np.stack([x + (field.values.shape[1] - 1) / 2, y + (field.values.shape[0] - 1) / 2]) % 1
    if not start.any():
        start = start[:, :1]  # on texels: all rays cross at the same values
    for starts, ends in pairwise(_crossings(u, low, high, start)):
        d0, d1 = (each if len(each) == 1 else each[open_] for each in (starts, ends))
        middle, far = ahead((d0 + d1) / 2, open_), ahead(d1, open_)
        t = _first_root(near, middle, far)
        met = t <= 1
        hit[open_[met]] = (d0 + np.where(met, t, 0.0) * (d1 - d0))[met]
        open_, near = open_[~met], far[~met]
    return field.at(x + u[0] * hit, y + u[1] * hit) - focus


def _crossings(u: Float64Array, low: float, high: float, start: Float64Array) -> Float64Array:
    """Every delta in low..high at which rays cross a line between texels, descending, the ends included, [M, N].

    `start` [2, N]: where between two texels the rays are at delta = 0.
    """
    lines = [np.broadcast_to([[low], [high]], (2, start.shape[1]))]
    for speed, offset in zip(u, start, strict=True):
        if speed != 0:
            first, last = sorted((low * speed, high * speed))
            lines.append((np.arange(np.ceil(first), np.floor(last) + 2)[:, None] - offset) / speed)
    crossings: Float64Array = -np.sort(-np.clip(np.concatenate(lines), low, high), axis=0)
    return crossings


def _first_root(near: Float64Array, middle: Float64Array, far: Float64Array) -> Float64Array:
    """Smallest t in (0, 1] where the quadratic with these values at 0, 1/2 and 1 reaches 0; infinity if none.

    `near` > 0. The form c/(..) of the solution is the one that loses no digits for the first root.
    """
    a, b = 2 * (near + far - 2 * middle), 4 * middle - 3 * near - far
    with np.errstate(invalid="ignore", divide="ignore"):
        t = 2 * near / (np.sqrt(b * b - 4 * a * near) - b)
    inside = (t > 0) & (t <= 1)
    return np.where(inside, t, np.where(far <= 0, 1.0, np.inf))


def _aberration(aperture: Aperture, s: Float64Array, h: Float64Array) -> Float64Array:
    """Extra displacement in pixels of the rays through s at every pixel, [H, W, 1 or 3, 2]."""
    field = h.reshape(-1, 2)
    answer = np.asarray(aperture.aberration(np.broadcast_to(s, field.shape), field), np.float64)
    if answer.shape not in {field.shape, (len(field), 3, 2)}:
        raise UsageError(
            f"{type(aperture).__name__}.aberration must return [N, 2] or [N, 3, 2], got shape {answer.shape}"
        )
    return answer.reshape(*h.shape[:2], -1, 2)


def _bilinear(packed: npt.NDArray[np.float32], x: Float64Array, y: Float64Array) -> Float64Array:
    """Look premultiplied planes [4, Hc, Wc] up at offsets from the centre -> [H, W, 4]."""
    height, width = packed.shape[1:]
    px = np.clip(x + (width - 1) / 2, 0, width - 1)
    py = np.clip(y + (height - 1) / 2, 0, height - 1)
    ix = np.minimum(px.astype(np.int64), width - 2) if width > 1 else np.zeros(px.shape, np.int64)
    iy = np.minimum(py.astype(np.int64), height - 2) if height > 1 else np.zeros(py.shape, np.int64)
    jx, jy = np.minimum(ix + 1, width - 1), np.minimum(iy + 1, height - 1)
    fx, fy = px - ix, py - iy
    top = (1 - fx) * packed[:, iy, ix] + fx * packed[:, iy, jx]
    bottom = (1 - fx) * packed[:, jy, ix] + fx * packed[:, jy, jx]
    return np.moveaxis((1 - fy) * top + fy * bottom, 0, -1)
