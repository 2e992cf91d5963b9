"""The embedded cut-outs: well formed, repeatable, the same at every size, and true to their family's nature."""

from functools import cache

import cv2
import numpy as np
import pytest

from bokehsynth.imaging.pictures import Cutout
from bokehsynth.procedural.foregrounds import FOREGROUNDS
from bokehsynth.rng import from_seed

SEEDS = range(6)
FAMILIES = list(FOREGROUNDS)
BORDER = 3

# Worst mean differences seen over 30 seeds (OpenCV 5.0, x86-64) times 1.3. The shorter side is rounded to whole
# pixels, so the two pictures are up to half a pixel apart; wires and fern leaflets are hardly wider than that.
ALPHA_BOUND = {"fur": 0.018, "foliage": 0.058, "mesh": 0.095, "glass": 0.027, "object": 0.012, "portrait": 0.010}
LIGHT_BOUND = {"fur": 0.048, "foliage": 0.010, "mesh": 0.092, "glass": 0.028, "object": 0.023, "portrait": 0.009}

# Brightness under soft alpha over that of the paint beside it: 30 seeds, with a margin. Premultiplied colour by
# mistake would give 0.1, a white matte 3 and more. Round wires and glass walls are darker at their very edge.
FRINGE = {
    "fur": (0.75, 1.8),
    "foliage": (0.7, 1.15),
    "mesh": (0.2, 1.3),
    "glass": (0.38, 1.5),
    "object": (0.4, 2.1),
    "portrait": (0.7, 1.3),
}
EVERY = pytest.mark.parametrize(("family", "seed"), [(f, s) for f in FAMILIES for s in SEEDS])


@cache
def cutout(family: str, seed: int, size: int = 192) -> Cutout:
    return FOREGROUNDS[family](from_seed(seed), size)


def sides(alpha: np.ndarray) -> set[str]:
    ends = {"top": alpha[0], "bottom": alpha[-1], "left": alpha[:, 0], "right": alpha[:, -1]}
    return {name for name, line in ends.items() if line.max() > 0}


def partial_share(alpha: np.ndarray) -> float:
    """Share of the covered pixels that are neither empty nor opaque."""
    return float(((alpha > 0.02) & (alpha < 0.98)).sum() / (alpha > 0.02).sum())


def subject(cut: Cutout) -> tuple[np.ndarray, np.ndarray]:
    """Premultiplied colour and alpha without the empty border, whose width in pixels does not scale."""
    touched = sides(cut.alpha)
    top, left = (0 if side in touched else BORDER for side in ("top", "left"))
    bottom, right = (None if side in touched else -BORDER for side in ("bottom", "right"))
    inner = (slice(top, bottom), slice(left, right))
    return np.minimum(cut.color * cut.alpha[..., None], 1)[inner], cut.alpha[inner]


def beside(cut: Cutout) -> np.ndarray:
    """Mean brightness of what is painted within four pixels, [H, W], at most 1."""
    tone = np.minimum(cut.color.mean(-1), 1)
    return cv2.blur(tone * cut.alpha, (9, 9)) / np.maximum(cv2.blur(cut.alpha, (9, 9)), 1e-6)


def test_there_are_six_families():
    assert FAMILIES == ["fur", "foliage", "mesh", "glass", "object", "portrait"]


@EVERY
def test_form(family, seed):
    cut = cutout(family, seed)
    assert cut.color.dtype == cut.alpha.dtype == np.float32
    assert cut.color.shape == (*cut.alpha.shape, 3)
    assert cut.color.flags.c_contiguous
    assert cut.alpha.flags.c_contiguous
    assert abs(max(cut.alpha.shape) - 192) <= 2
    assert np.isfinite(cut.color).all()
    assert cut.color.min() >= 0
    assert cut.color.max() < 20
    assert cut.alpha.min() == 0
    assert cut.alpha.max() <= 1
    assert (cut.alpha > 0.05).mean() > 0.05


@pytest.mark.parametrize("size", [64, 333])
@pytest.mark.parametrize("family", FAMILIES)
def test_longer_side_is_the_size(family, size):
    assert abs(max(cutout(family, 1, size).alpha.shape) - size) <= 2


@pytest.mark.parametrize("family", FAMILIES)
def test_same_seed_same_bytes(family):
    first, again = cutout(family, 2), FOREGROUNDS[family](from_seed(2), 192)
    assert first.color.tobytes() == again.color.tobytes()
    assert first.alpha.tobytes() == again.alpha.tobytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_size_does_not_change_what_is_drawn_from_the_rng(family):
    small, large = from_seed(5), from_seed(5)
    FOREGROUNDS[family](small, 64)
    FOREGROUNDS[family](large, 200)
    assert small.bit_generator.state == large.bit_generator.state


@pytest.mark.parametrize("family", FAMILIES)
def test_seeds_differ(family):
    pictures = {cutout(family, seed).color.tobytes() for seed in SEEDS}
    assert len(pictures) == len(SEEDS)


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_same_subject_at_twice_the_size(family, seed):
    (light, alpha), (light_2, alpha_2) = (subject(cutout(family, seed, size)) for size in (192, 384))
    shape = alpha.shape[::-1]
    alpha_2, light_2 = (cv2.resize(field, shape, interpolation=cv2.INTER_AREA) for field in (alpha_2, light_2))
    assert np.abs(alpha_2 - alpha).mean() < ALPHA_BOUND[family]
    assert np.abs(light_2 - light).mean() < LIGHT_BOUND[family]


@EVERY
def test_sides_that_are_cut_off(family, seed):
    touched = sides(cutout(family, seed).alpha)
    if family == "mesh":
        assert touched in (set(), {"left", "right", "top", "bottom"})
    elif family == "foliage":
        assert touched in ({"left"}, {"right"})
    else:
        assert touched == ({"bottom"} if family in ("fur", "portrait") else set())


@EVERY
def test_uncut_sides_have_an_empty_border(family, seed):
    alpha = cutout(family, seed).alpha
    strips = {"top": alpha[:2], "bottom": alpha[-2:], "left": alpha[:, :2], "right": alpha[:, -2:]}
    assert all(strip.max() == 0 for name, strip in strips.items() if name not in sides(alpha))


@EVERY
def test_no_dark_fringe(family, seed):
    """Under soft alpha, and just outside, the colour is that of the subject beside it: not black and no halo."""
    cut = cutout(family, seed)
    tone = np.minimum(cut.color.mean(-1), 1)
    fringe = (cut.alpha > 0) & (cut.alpha < 0.2)
    outside = (cut.alpha == 0) & (cv2.dilate(cut.alpha, np.ones((5, 5))) > 0)
    for pixels in (fringe, outside):
        ratio = tone[pixels].mean() / beside(cut)[pixels].mean()
        assert FRINGE[family][0] < ratio < FRINGE[family][1]


@pytest.mark.parametrize("seed", SEEDS)
def test_fur_has_a_soft_outline_and_a_solid_body(seed):
    alpha = cutout("fur", seed).alpha
    soft = ((alpha > 0.02) & (alpha < 0.98)).sum()
    smooth = cv2.GaussianBlur((alpha > 0.5).astype(np.float32), (0, 0), 4) > 0.5
    outline = cv2.findContours(smooth.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    # A crisp outline has about 1.5 soft pixels per pixel of its length.
    assert soft > 4 * sum(len(line) for line in outline)
    assert (alpha == 1).mean() > 0.3


@pytest.mark.parametrize("seed", SEEDS)
def test_mesh_is_thin(seed):
    alpha = cutout("mesh", seed, 384).alpha
    assert 0.05 < alpha.mean() < 0.45
    assert cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 5).max() < 0.06 * 384


@pytest.mark.parametrize("seed", SEEDS)
def test_glass_is_translucent(seed):
    cut = cutout("glass", seed)
    assert partial_share(cut.alpha) > 0.8
    assert ((cut.alpha > 0.05) & (cut.alpha < 0.65)).sum() > 0.5 * (cut.alpha > 0.02).sum()
    assert cut.color.max() > 3


@pytest.mark.parametrize("seed", SEEDS)
def test_object_is_crisp(seed):
    assert partial_share(cutout("object", seed, 256).alpha) < 0.08


@pytest.mark.parametrize("seed", SEEDS)
def test_portrait_is_solid_with_a_few_loose_hairs(seed):
    alpha = cutout("portrait", seed).alpha
    assert 0.01 < partial_share(alpha) < 0.25
    assert (alpha == 1).mean() > 0.35


@pytest.mark.parametrize("seed", SEEDS)
def test_foliage_has_gaps(seed):
    """The background shows through holes that leaves and twigs enclose."""
    alpha = cutout("foliage", seed, 256).alpha
    closed = cv2.morphologyEx(alpha, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (21, 21)))
    assert ((closed > 0.5) & (alpha < 0.1)).sum() > 0.08 * (alpha > 0.5).sum()
