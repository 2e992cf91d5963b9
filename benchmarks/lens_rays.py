"""The judge of `benchmarks.lenses`: plain rays in float64 through any aperture, pixel by pixel.

Shares no code with `bokehsynth.rendering`: the aperture is asked for every ray, hits are those of `docs/optics.md`.
"""

import math
from collections.abc import Sequence

import numba
import numpy as np

import bokehsynth as bs


def trace_pixels(
    layers: Sequence[bs.Layer], lens: bs.Lens, margin: int, pixels: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """Colour [N, 3] of pixels [N, 2] (y, x) by rays through lens points [R, 2] of the unit disc times the extent.

    The layers must lie in front of one another, nearest first.
    """
    texels = np.stack([layer.packed for layer in layers])
    planes = np.array([(layer.disparity.d, layer.disparity.gx, layer.disparity.gy) for layer in layers])
    height, width = (side - 2 * margin for side in layers[0].shape)
    aperture = lens.aperture
    s = aperture.extent * points
    s = s[np.asarray(aperture.inside(s))]
    result = np.empty((len(pixels), 3))
    for number, (y, x) in enumerate(pixels):
        place = np.array([x - (width - 1) / 2, y - (height - 1) / 2])
        h = np.broadcast_to(place / (math.hypot(width, height) / 2), s.shape)
        shift, weight = (
            np.asarray(answer, float) for answer in (aperture.aberration(s, h), aperture.transmission(s, h))
        )
        shift = np.repeat(shift[:, None], 3, axis=1) if shift.ndim == 2 else shift
        weight = np.repeat(weight[:, None], 3, axis=1) if weight.ndim == 1 else weight.copy()
        for centre, radius in aperture.pupil_discs(h):
            weight[np.hypot(*(s - centre).T) > radius] = 0
        camera = lens.blur, lens.focus, *place, x + margin, y + margin
        _trace(texels, planes, camera, s, np.ascontiguousarray(shift), weight, result[number])
    return result


@numba.njit(cache=True, error_model="numpy")
def _trace(texels, planes, camera, s, shift, weight, out):
    K, focus, x, y, texel_x, texel_y = camera
    height, width = texels.shape[2:]
    for c in range(3):
        light, stopped = 0.0, 0.0
        for i in range(len(s)):
            through, ax, ay = weight[i, c], shift[i, c, 0], shift[i, c, 1]
            for m in range(len(planes)):
                if through <= 0:
                    break
                d, gx, gy = planes[m]
                delta = d + gx * (x + ax) + gy * (y + ay) - focus
                moved = K * delta / (1 - K * (gx * s[i, 0] + gy * s[i, 1]))
                px = min(max(texel_x + ax + s[i, 0] * moved, 0.0), width - 1.0)
                py = min(max(texel_y + ay + s[i, 1] * moved, 0.0), height - 1.0)
                column, row = min(int(px), width - 2), min(int(py), height - 2)
                u, v = px - column, py - row
                shares = (1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v
                value, alpha = 0.0, 0.0
                for k in range(4):
                    value += shares[k] * texels[m, c, row + k // 2, column + k % 2]
                    alpha += shares[k] * texels[m, 3, row + k // 2, column + k % 2]
                light += through * value
                stopped += through * alpha
                through *= 1 - alpha
        out[c] = light / stopped if stopped > 0 else 0.0
