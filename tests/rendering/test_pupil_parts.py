"""Parts of an opening: their shares, and where they show what is out of focus."""

import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.optics.pupil_parts import all_parts
from bokehsynth.rendering.aperture.lens_points import concentric_grid

K, FOCUS, MARGIN, SIDE = 24.0, 0.5, 30, 48
GX = 2e-3
S = concentric_grid(400)


def _canvas(color):
    return np.ascontiguousarray(np.broadcast_to(color, (SIDE + 2 * MARGIN, SIDE + 2 * MARGIN, 3)), np.float32)


def _solid(color, plane):
    return bs.Layer(_canvas(color), np.ones((SIDE + 2 * MARGIN,) * 2, np.float32), plane)


def _mean_over(part, of):
    weight = np.where(part.inside(S), part.weight(S), 0.0)
    return float((weight * of).sum() / weight.sum())


def test_shares_are_a_partition_of_unity():
    parts = all_parts(bs.part_of(bs.CatEye(0.6), bs.Band(0, 3, 0.4), bs.Band(0, 2, 1.0)))
    assert len(set(map(id, parts))) == 6
    np.testing.assert_allclose(sum(part.share(S) for part in parts), 1, atol=1e-12)
    assert all(type(part).pupil is not bs.Aperture.pupil for part in parts)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("disparity", [0.9, 0.1])
def test_halves_see_what_is_out_of_focus_apart(backend, disparity):
    """A patch is seen K * (d - d_f) * (difference of the mean lens points) further right by the left half."""
    side = SIDE + 2 * MARGIN
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = np.clip(6.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    layers = [bs.Layer(_canvas(1.0), alpha, bs.Plane(disparity)), _solid(0.0, bs.Plane(0.02))]
    halves = bs.halves_of(bs.Disc())
    frames = bs.render_views(layers, [bs.Lens(K, FOCUS, half) for half in halves], MARGIN, backend, 240)
    columns = np.arange(SIDE) - (SIDE - 1) / 2
    left, right = (float((f.bokeh[..., 0] * columns).sum() / f.bokeh[..., 0].sum()) for f in frames)
    apart = _mean_over(halves[1], S[:, 0]) - _mean_over(halves[0], S[:, 0])
    assert apart > 0.7
    expected = K * (disparity - FOCUS) * apart
    assert left - right == pytest.approx(expected, abs=0.02)  # seen: 0.012 px on `reference`, 0.0003 on `cpu`
    assert (left > right) == (disparity > FOCUS)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_sub_apertures_shift_a_tilted_plane_by_the_closed_form(backend):
    """A ramp along x, seen through a part, is the ramp moved by the mean of s K delta / (1 - K g s)."""
    step = 1e-3
    side = SIDE + 2 * MARGIN
    ramp = (0.5 + step * (np.arange(side) - (side - 1) / 2))[None, :, None]
    layers = [_solid(ramp, bs.Plane(0.8, GX))]
    x = np.arange(SIDE) - (SIDE - 1) / 2
    delta = 0.8 + GX * x - FOCUS
    for column in (0, 1):
        part = bs.part_of(bs.Disc(), bs.Band(column, 3, 0.5), bs.Band(0, 3, 0.5))
        picture = bs.render(layers, bs.Lens(K, FOCUS, part), MARGIN, backend, 160).bokeh[SIDE // 2, :, 0]
        shift = (picture - 0.5) / step - x
        expected = K * delta * _mean_over(part, S[:, 0] / (1 - K * GX * S[:, 0]))
        np.testing.assert_allclose(
            shift, expected, atol=0.03
        )  # seen: 0.014 px on `reference`, 0.0006 on `cpu`, of up to 4.7
