"""The definition of the picture, in float64 and in the plainest way: one lens point at a time over the whole frame.

Nothing here is fast and nothing is shared with the fast backends: the aperture is asked itself for every lens point,
no table is read, and every ray sorts its own hits.
"""

import numpy as np
import numpy.typing as npt

from bokehsynth.errors import UsageError
from bokehsynth.optics import Aperture
from bokehsynth.render.bake import check_weights, field_positions, in_pupil, vogel_points
from bokehsynth.render.shot import Exposure, Float64Array, Shot

DEFAULT_RAYS = 2048


def trace(shot: Shot, samples: int | None) -> Exposure:
    """Render with about `samples` rays per pixel (default 2048), spread evenly over the aperture."""
    points, weights = _lens_points(shot, samples or DEFAULT_RAYS)
    h = field_positions(shot)
    light = np.zeros((shot.height, shot.width, 3))
    arrived = np.zeros_like(light)
    passed = np.zeros_like(light)
    for s, w in zip(points, weights, strict=True):
        weight = w * in_pupil(shot.lens.aperture, s, h)[..., None]
        color, alpha = _ray(shot, s, h)
        light += weight * color
        arrived += weight * alpha[..., None]
        passed += weight
    with np.errstate(invalid="ignore", divide="ignore"):
        picture = np.where(arrived > 0, light / arrived, 0.0)
        coverage = np.where(passed > 0, arrived / passed, 0.0)
    if shot.lens.falloff:
        picture *= passed / weights.sum(axis=0)
    lit = passed > 0
    mean = (coverage * lit).sum(axis=-1) / np.maximum(lit.sum(axis=-1), 1)  # a channel that is blocked does not count
    return Exposure(picture.astype(np.float32), mean.astype(np.float32))


def _lens_points(shot: Shot, samples: int) -> tuple[Float64Array, Float64Array]:
    """Points [N, 2] and weights [N, 3] with N close to `samples`; one central ray for a pinhole."""
    if shot.lens.blur == 0:
        return np.zeros((1, 2)), np.ones((1, 3))
    aperture = shot.lens.aperture
    share = np.asarray(aperture.inside(vogel_points(4096)), np.bool_).mean()
    if share == 0:
        raise UsageError(f"{type(aperture).__name__} lets no light through")
    points = vogel_points(int(np.ceil(samples / share)))
    points = points[np.asarray(aperture.inside(points), np.bool_)]
    return points, check_weights(aperture, points)


def _ray(shot: Shot, s: Float64Array, h: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Premultiplied colour [H, W, 3] and alpha [H, W] that the rays through lens point s bring to every pixel."""
    x, y = shot.offsets()
    K, focus = shot.lens.blur, shot.lens.focus
    astray = _aberration(shot.lens.aperture, s, h) if K > 0 else np.zeros_like(h)
    hits, nearness = [], []
    for plane, packed in ((layer.disparity, layer.packed) for layer in shot.layers):
        stretch = (plane.at(x, y) - focus) / (1 - K * (plane.gx * s[0] + plane.gy * s[1]))  # = d(p') - d_f
        hits.append(_bilinear(packed, x + s[0] * K * stretch + astray[..., 0], y + s[1] * K * stretch + astray[..., 1]))
        nearness.append(np.broadcast_to(stretch, hits[-1].shape[:2]))
    order = np.argsort(-np.stack(nearness), axis=0, kind="stable")
    stack = np.take_along_axis(np.stack(hits), order[..., None], axis=0)
    color = np.zeros((*stack.shape[1:3], 3))
    through = np.ones(stack.shape[1:3])
    for hit in stack:
        color += through[..., None] * hit[..., :3]
        through = through * (1 - hit[..., 3])
    return color, 1 - through


def _aberration(aperture: Aperture, s: Float64Array, h: Float64Array) -> Float64Array:
    """Extra displacement in pixels of the rays through s at every pixel, [H, W, 2]."""
    if type(aperture).aberration is Aperture.aberration:
        return np.zeros_like(h)
    field = h.reshape(-1, 2)
    return np.asarray(aperture.aberration(np.broadcast_to(s, field.shape), field), np.float64).reshape(h.shape)


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
