"""Collapsed kernels against areas, moments and dense splats of lens points; and the filter made of them.

A kernel at signed radius r holds the weights of texels i for a pixel at 0: integral of tent(r u / (1 - e.u) - i) du.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import correlate
from support.scenes import Scene, disc_share, enough, moments, point_light, sheet, texture

import bokehsynth as bs
from bokehsynth.rendering.aperture.footprint_kernel import (
    UNVIGNETTED,
    coverage_kernel,
    density_kernel,
    footprint_kernels,
    half_width,
    node_spacing,
    radius_nodes,
)
from bokehsynth.rendering.aperture.outline import signed_area
from bokehsynth.rendering.aperture.scanlines import scan
from bokehsynth.rendering.aperture.tables import tables_of
from bokehsynth.rendering.tile_constants import RUNS_FROM

PUPIL = UNVIGNETTED[0]
TILTS = [(0.0, 0.0), (0.1, -0.05), (-0.3, 0.2)]


class Uneven(bs.Disc):
    """More light on the right, as one pass-band for all channels."""

    def weight(self, s):
        return 1 + 0.6 * s[:, 0] - 0.3 * s[:, 1] ** 2


class Tinted(bs.Polygon):
    """Five blades, and another pass-band for each channel."""

    def __init__(self):
        super().__init__(5, 0.3, 0.4)

    def weight(self, s):
        return np.stack([1 + 0.5 * s[:, 0], 0.3 + s[:, 1] ** 2, 0.7 - 0.4 * s[:, 0] * s[:, 1]], axis=1)


class Corner(bs.Aperture):
    """A quarter of the disc and a dot: no two mirror images of it are alike."""

    def inside(self, s):
        dot = np.hypot(s[:, 0] + 0.6, s[:, 1] - 0.3) < 0.25
        return (np.hypot(s[:, 0], s[:, 1]) <= 1) & (((s[:, 0] > 0) & (s[:, 1] > 0)) | dot)


APERTURES = {
    "disc": bs.Disc(),
    "polygon": bs.Polygon(6, 0.2),
    "ring": bs.Ring(0.55),
    "uneven": Uneven(),
    "tinted": Tinted(),
    "corner": Corner(),
}


def coverage(aperture, r, tilt=(0.0, 0.0)):
    tables = tables_of(aperture)
    lines = scan(tables.outline, r, *tilt, tables.detail)
    return coverage_kernel(lines, r, *tilt, PUPIL, half_width(r, *tilt))


def density(aperture, r, tilt=(0.0, 0.0), half=None):
    tables = tables_of(aperture)
    half = half or half_width(r, *tilt)
    return density_kernel(scan(tables.outline, r, *tilt, tables.detail), tables.opening, r, *tilt, PUPIL, half)


def collapsed(aperture, nodes, tilt, runs, stride):
    tables = tables_of(aperture)
    return footprint_kernels(tables.opening, UNVIGNETTED, nodes, *tilt, runs, stride)


def positions(half):
    """Texels' offsets x [1, n] and y [n, 1] from the pixel."""
    line = np.arange(-half, half + 1, dtype=float)
    return line[None, :], line[:, None]


# ------------------------------------------------------------------ closed forms


@pytest.mark.parametrize(
    ("r", "limit"), [(0.4, 2e-6), (2.0, 1.2e-4), (3.7, 2e-6), (8.0, 5e-6), (20.3, 2e-6), (-11.0, 9e-6)]
)
def test_coverage_of_a_disc_is_its_area(r, limit):
    """Of the outline's polygon, 5e-6 below that of the disc. A whole radius has its tips on rows of texels: 1.1e-4."""
    kernel = coverage(bs.Disc(), r)
    area = r * r * signed_area(tables_of(bs.Disc()).outline)
    assert kernel.sum() == pytest.approx(area, rel=limit)
    assert area == pytest.approx(math.pi * r * r, rel=5.2e-6)
    assert kernel.max() < 1 + 1e-12
    assert kernel.min() > -1e-12


@pytest.mark.parametrize(
    ("r", "limit"), [(2.0, 2.9e-3), (3.7, 1.8e-4), (5.2, 8e-5), (8.0, 3.5e-5), (-11.0, 1.6e-5), (20.3, 6e-6)]
)
def test_a_disc_kernel_has_the_variance_of_a_disc_and_a_tent(r, limit):
    """r^2/4 + 1/6 per axis, exact for discs all over a texel on average, not for the one at its middle."""
    for kernel in (coverage(bs.Disc(), r), density(bs.Disc(), r)[0]):
        half = len(kernel) // 2
        _, mean, square = moments(kernel, (half, half))
        np.testing.assert_allclose(mean, 0, atol=1e-9)
        np.testing.assert_allclose(square, r * r / 4 + 1 / 6, rtol=limit)


@pytest.mark.parametrize("r", [2.0, 6.0, 13.4])
def test_the_sums_of_columns_are_knife_edges(r):
    """Columns from c on see a half plane whose ramp rises from c - 1 to c."""
    kernel = coverage(bs.Disc(), r)
    half = len(kernel) // 2
    nodes, weights = np.polynomial.legendre.leggauss(64)
    for c in range(-half + 1, half + 1):
        ramp = c - 1 + (nodes + 1) / 2
        expected = (weights / 2 * (1 - disc_share(ramp / r))).sum()
        for turned in (kernel, kernel.T):
            assert turned[:, half + c :].sum() / kernel.sum() == pytest.approx(
                expected, abs=5.8e-5
            )  # worst 5.5e-5, r = 2


@pytest.mark.parametrize("r", [0.7, 5.2, 14.0])
@pytest.mark.parametrize("tilt", TILTS)
def test_a_disc_kernel_turns_with_its_tilt(r, tilt):
    ex, ey = tilt
    for made in (coverage, lambda *a: density(*a)[0]):
        kernel = made(bs.Disc(), r, tilt)
        scale = kernel.max()
        np.testing.assert_allclose(made(bs.Disc(), r, (-ex, ey)), kernel[:, ::-1], rtol=0, atol=1e-9 * scale)
        np.testing.assert_allclose(made(bs.Disc(), r, (ex, -ey)), kernel[::-1], rtol=0, atol=1e-9 * scale)
        np.testing.assert_allclose(made(bs.Disc(), -r, tilt), kernel[::-1, ::-1], rtol=0, atol=1e-9 * scale)
        turned = made(bs.Disc(), r, (ey, ex))  # rows are scanned, columns are not: worst 1.13e-3
        np.testing.assert_allclose(turned, kernel.T, rtol=0, atol=1.2e-3 * scale)


def test_at_radius_zero_a_kernel_is_the_pixel():
    for aperture in APERTURES.values():
        kernel = density(aperture, 0.0)
        half = kernel.shape[1] // 2
        assert (kernel[:, half, half] == 1).all()
        assert kernel.sum() == len(kernel)
        offsets, weights, first_tap, _, _, _ = collapsed(aperture, np.array([0.0, 0.03125]), (0.1, 0.0), False, 100)
        near = offsets[first_tap[0] : first_tap[1]] == 0
        assert (weights[: len(kernel), : first_tap[1]][:, near] == 1).all()
        assert (weights[: len(kernel), : first_tap[1]][:, ~near] == 0).all()


# ------------------------------------------------------------------ dense splats


def splat(aperture, r, tilt, half, side):
    """Weights [3, n, n] from side x side lens points on a square grid, each shared by the four texels around it."""
    edge = (np.arange(side) + 0.5) * (2 / side) - 1
    s = np.stack(np.meshgrid(edge, edge), axis=-1).reshape(-1, 2)
    s = s[np.einsum("ij,ij->i", s, s) <= 1]
    s = s[aperture.inside(s)]
    weights = np.asarray(aperture.weight(s), float)
    x, y = (r * s / (1 - s @ np.array(tilt))[:, None]).T
    ix, iy = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    u, v = x - ix, y - iy
    n = 2 * half + 1
    at = (iy + half) * n + ix + half
    taps = [(0, (1 - u) * (1 - v)), (1, u * (1 - v)), (n, (1 - u) * v), (n + 1, u * v)]
    kernels = []
    for channel in weights.T if weights.ndim == 2 else [weights]:
        kernel = sum(np.bincount(at + step, channel * share, n * n) for step, share in taps)
        kernels.append((kernel / kernel.sum()).reshape(n, n))
    return np.array(kernels)


@pytest.mark.parametrize("tilt", TILTS)
@pytest.mark.parametrize("name", APERTURES)
def test_a_density_kernel_is_the_splat_of_millions_of_rays(name, tilt):
    aperture = APERTURES[name]
    for r in (0.6, -2.8, 7.3):
        kernel = density(aperture, r, tilt)
        np.testing.assert_allclose(kernel.sum(axis=(1, 2)), 1, rtol=1e-12)
        expected = splat(aperture, r, tilt, kernel.shape[1] // 2, 1600 if r > 1 else 800)
        # worst 1.02e-3, and 3.5e-3 for the corner: its dot has tips of its own
        limit = 3.7e-3 if name == "corner" else 1.07e-3
        assert np.abs(kernel - expected).max() < limit * expected.max()


# ------------------------------------------------------------------ nodes


@pytest.mark.parametrize(
    ("low", "high"), [(-3.3, 2.2), (0.0, 0.0), (5.0, 5.0), (-40.0, -0.01), (0.3, 90.7), (-1e-9, 1e-9)]
)
def test_nodes_enclose_the_range_and_hold_the_focus(low, high):
    nodes = radius_nodes(low, high)
    assert len(nodes) >= 2
    assert nodes[0] <= low
    assert nodes[-1] >= high
    assert (np.diff(nodes) > 0).all()
    assert 0 in nodes or low > 0 or high < 0
    assert (len(nodes) == 2) or nodes[-2] < high
    for near, far in pairwise(nodes):
        assert far - near <= node_spacing(max(abs(near), abs(far)))
        assert min(abs(near), abs(far)) >= 31 * (far - near) or far - near == 0.03125


def test_nodes_are_the_same_whatever_range_they_serve():
    """Else a tile's kernels would depend on how far the layer reaches."""
    everywhere = set(radius_nodes(-70.0, 70.0).tolist())
    for low, high in [(-3.3, 2.2), (4.0, 9.0), (-50.0, -20.0), (30.0, 31.0)]:
        assert set(radius_nodes(low, high).tolist()) <= everywhere


@pytest.mark.parametrize("tilt", TILTS[:2])
@pytest.mark.parametrize("name", ["disc", "polygon", "ring"])
def test_between_two_nodes_the_error_is_small(name, tilt):
    """As a share of a single texel's light, at the middle and a quarter of the way, for every spacing.

    Worst where runs begin to pay 5.9e-5 (disc and polygon) and 8.5e-5 (ring); below, with tips that sweep whole texels,
    1.0e-4, 1.7e-4 and 4.2e-4.
    """
    limit = {"disc": 1.1e-4, "polygon": 1.8e-4, "ring": 4.4e-4}[name]
    far_limit = 9e-5 if name == "ring" else 6.2e-5
    aperture = APERTURES[name]
    for low in (0.0, 0.03125, 0.5, 1.0, 1.125, 1.25, 1.625, 1.96875, 2.0, 3.9375, 6.0, 8.0, 15.75, 16.0, 31.5):
        near, far = radius_nodes(low, low + 1e-9)[:2]
        half = half_width(far, *tilt)
        first, last = density(aperture, near, tilt, half), density(aperture, far, tilt, half)
        for share in (0.25, 0.5):
            exact = density(aperture, near + share * (far - near), tilt, half)
            assert np.abs(first + share * (last - first) - exact).max() < (far_limit if near >= 6 else limit), (
                near,
                far,
            )


# ------------------------------------------------------------------ lists of taps


def apply_taps(picture, entry, made, channel, difference):
    """One entry of `footprint_kernels` (or its difference to the next) applied as `layer_filter` does, in float64."""
    offsets, weights, first_tap, edges, first_run, _ = made
    flat = picture.ravel()
    sums = np.concatenate([np.zeros((len(picture), 1)), np.cumsum(picture, axis=1)[:, :-1]], axis=1).ravel()
    index = np.arange(flat.size)
    row = channel + (len(weights) // 2 if difference else 0)
    out = np.zeros(flat.size)
    for t in range(first_tap[entry], first_tap[entry + 1]):
        out += weights[row, t] * flat[(index + offsets[t]) % flat.size]
    for t in range(0 if difference else first_run[entry], 0 if difference else first_run[entry + 1]):
        out += sums[(index + edges[0, t]) % flat.size] - sums[(index + edges[1, t]) % flat.size]
    return out.reshape(picture.shape)


@pytest.mark.parametrize(
    ("name", "runs"),
    [("disc", True), ("polygon", True), ("ring", True), ("corner", True), ("tinted", False), ("disc", False)],
)
@pytest.mark.parametrize("tilt", TILTS[:2])
def test_taps_and_runs_are_the_dense_kernel(name, runs, tilt):
    aperture = APERTURES[name]
    picture = np.random.default_rng(1).random((48, 50))
    inside = np.s_[16:-16, 16:-16]
    for nodes in (np.array([6.5, 6.625]), np.array([-9.25, -9.0])):
        made = collapsed(aperture, nodes, tilt, runs, picture.shape[1])
        half = max(half_width(r, *tilt) for r in nodes)
        dense = [dense_kernel(aperture, r, tilt, runs, half) for r in nodes]
        for channel in range(len(dense[0])):
            here, step = dense[0][channel], dense[1][channel] - dense[0][channel]
            for kernel, difference in ((here, False), (step, True)):
                expected = correlate(picture, kernel, mode="constant")
                actual = apply_taps(picture, 0, made, channel, difference)
                np.testing.assert_allclose(actual[inside], expected[inside], rtol=0, atol=1e-8 * here.sum())
    assert made[3].shape[1] > 0 or not runs, "runs pay at these radii"


def dense_kernel(aperture, r, tilt, runs, half):
    """What a list of taps and runs stands for: [C, n, n]."""
    if not runs:
        return density(aperture, r, tilt, half)
    made = collapsed(aperture, np.array([r]), tilt, True, 10_000)
    offsets, weights, _, edges, _, _ = made
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    rows = np.rint(offsets / 10_000).astype(int)
    kernel[rows + half, offsets - rows * 10_000 + half] = weights[0]
    for right, left in edges.T:
        row = round(left / 10_000)
        kernel[row + half, left - row * 10_000 + half : right - row * 10_000 + half] = 1
    return kernel[None]


@pytest.mark.parametrize("r", [RUNS_FROM, -8.6, 14.0])
@pytest.mark.parametrize("tilt", TILTS)
@pytest.mark.parametrize("name", ["disc", "polygon", "ring", "corner"])
def test_run_kernels_times_the_slope_of_the_plane_are_the_density(name, tilt, r):
    """A run kernel is applied to a picture times |s|^-3, s the plane's distance from the focus at the texel.

    Inside that is off by the curvature of |s|^-3 over a tent, of order (e/r)^2, at the rim by what the density's slope
    itself changes over the kernel, e^2/r: worst 0.49 e^2/r at r = 14, 0.35 at 6.
    """
    aperture, half = APERTURES[name], half_width(r, *tilt)
    kernel = dense_kernel(aperture, r, tilt, True, half)[0]
    x, y = positions(half)
    scale = 1 + (tilt[0] * x + tilt[1] * y) / r
    weighed = kernel / np.where(kernel != 0, scale, 1) ** 3
    expected = density(aperture, r, tilt, half)[0]
    e = np.hypot(*tilt)
    limit = 0.5 * e * e / abs(r) + 1.2 * np.square(e / r) + 2e-7
    assert np.abs(weighed / weighed.sum() - expected).max() < limit * expected.max()
    norms = collapsed(aperture, np.array([r]), tilt, True, 10_000)[5]
    np.testing.assert_allclose(norms[0], weighed.sum(), rtol=1e-6)


# ------------------------------------------------------------------ the filter


def direct_sum(scene):
    """One opaque layer, every pixel by the density kernel of its very radius, in float64: [H, W, 3]."""
    height, width = scene.size
    plane, lens = scene.layers[0].disparity, scene.lens
    tilt = lens.blur * plane.gx, lens.blur * plane.gy
    picture = scene.layers[0].packed[:3].astype(float)
    out = np.empty((height, width, 3))
    for y in range(height):
        for x in range(width):
            r = lens.blur * (plane.at(x - (width - 1) / 2, y - (height - 1) / 2) - lens.focus)
            kernel = density(lens.aperture, r, tilt)
            half = kernel.shape[1] // 2
            top, left = y + scene.margin - half, x + scene.margin - half
            lower, upper = max(0, -top), max(0, -left)
            window = picture[:, top + lower : top + 2 * half + 1, left + upper : left + 2 * half + 1]
            part = kernel[:, lower:, upper:][:, : window.shape[1], : window.shape[2]]
            out[y, x] = (window * part).sum(axis=(1, 2))
    return out


FILTERS = {
    "across the focus": ((0.5, 1.2e-2, 4e-3), bs.Disc()),
    "before": ((1.0, 6e-3, -5e-3), bs.Disc()),
    "behind": ((0.0, 6e-3, -5e-3), bs.Disc()),
    "down": ((0.9, 0.0, 1.2e-2), bs.Disc()),
    "frontal": ((0.9,), bs.Disc()),
    "steep": ((0.7, 2e-2, 0.0), bs.Disc()),
    "tinted": ((0.8, 6e-3, -5e-3), Tinted()),
    "corner before": ((0.9, 4e-3, 3e-3), Corner()),
    "corner behind": ((0.1, 4e-3, 3e-3), Corner()),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filtered_layer_is_the_direct_sum(name):
    numbers, aperture = FILTERS[name]
    size, plane, lens = (12, 40), bs.Plane(*numbers), bs.Lens(20.0, 0.5, aperture)
    margin = enough([plane], lens, size)
    for lights in (0, 6):
        scene = Scene((sheet(size, margin, texture(size, margin, 3, 2.0, lights), 1.0, plane),), lens, margin)
        difference = np.abs(scene.render().bokeh - direct_sum(scene)).max()
        # kernels between two nodes: worst 2.9e-4, beside lights of 20 4.0e-3; one kernel for all pixels: 2.5e-7
        limit = 3e-7 if name == "frontal" else 4.2e-3 if lights else 3.1e-4
        assert difference < limit


@pytest.mark.parametrize("size", [(8, 16), (5, 33), (11, 40), (9, 15)])
@pytest.mark.parametrize("numbers", [(0.9, 4e-3, 3e-3), (0.1, 4e-3, 3e-3), (0.9, -4e-3, -3e-3), (0.1, -4e-3, -3e-3)])
def test_a_layer_whose_radius_nears_the_least_of_runs_beyond_the_border(size, numbers):
    """Pixels are filtered sixteen by four at a time: those beyond the border have no say in how the others are."""
    lens = bs.Lens(20.0, 0.5)
    x, y = (size[1] - 1) / 2, (size[0] - 1) / 2
    _, gx, gy = numbers
    sign = math.copysign(1, numbers[0] - 0.5)
    nearest = sign * (RUNS_FROM + 0.05) / lens.blur + abs(gx) * x * sign + abs(gy) * y * sign
    plane = bs.Plane(0.5 + nearest, gx, gy)  # |r| > RUNS_FROM in the picture, not in a column or two beyond it
    assert min(abs(lens.blur * (d - 0.5)) for d in plane.corners(size[1], size[0])) == pytest.approx(RUNS_FROM + 0.05)
    margin = enough([plane], lens, size)
    frames = Scene((sheet(size, margin, 0.5, 1.0, plane),), lens, margin).render()
    np.testing.assert_allclose(frames.bokeh, 0.5, rtol=3e-5)


@pytest.mark.parametrize("numbers", [(0.9,), (0.9, 1e-3, 0.0)])
def test_prefix_sums_do_not_drown_next_to_lights(numbers):
    """A row of lights of 20 at the left, dim texture at the right: what no light reaches keeps its digits."""
    size, plane, lens = (16, 220), bs.Plane(*numbers), bs.Lens(20.0, 0.5)
    margin = enough([plane], lens, size)
    color = 0.02 * texture(size, margin, 9)
    color[:, : margin + 60] = 20.0
    scene = Scene((sheet(size, margin, color, 1.0, plane),), lens, margin)
    dim = np.s_[:, 90:]
    expected = direct_sum(scene)[dim]
    np.testing.assert_allclose(scene.render().bokeh[dim], expected, atol=1e-5)


@pytest.mark.parametrize(("disparity", "sign"), [(0.9, 1), (0.1, -1)])
def test_an_opening_without_symmetry_is_not_turned(disparity, sign):
    """A light at q is seen by pixels p = q - r s: the opening's image, inverted in front of the focus."""
    size, at, lens, r = (40, 48), (24, 20), bs.Lens(20.0, 0.5, Corner()), 8.0 * sign
    plane = bs.Plane(disparity)
    margin = enough([plane], lens, size)
    image = Scene((point_light(size, margin, at, plane, 1000.0),), lens, margin).render().bokeh[..., 0] / 1000
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    s = np.stack([at[0] - x, at[1] - y], axis=-1).reshape(-1, 2) / r
    around = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    near = s[:, None] + 1.5 / abs(r) * np.stack([np.cos(around), np.sin(around)], axis=-1)
    opened = Corner().inside(near.reshape(-1, 2)).reshape(len(s), -1)
    lit = image.ravel() * len(s) > 0
    assert lit[opened.all(axis=1) & Corner().inside(s)].all()
    assert not lit[~opened.any(axis=1) & ~Corner().inside(s)].any()
    assert lit.sum() > 40
