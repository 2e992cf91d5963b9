"""The drawn landscapes: what every family promises, and what each is by name."""

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from bokehsynth.color import LUMINANCE, linear_to_srgb
from bokehsynth.procedural.backgrounds import BACKGROUNDS
from bokehsynth.rng import from_seed

FloatArray = npt.NDArray[np.float32]

FAMILIES = sorted(BACKGROUNDS)
SEEDS = (0, 1)

OTHER_SIZE = 0.035
"""Worst mean difference of encoded colour between a picture at 512 shrunk to 256 and the same drawn at 256, over 12
seeds: 0.0277 (night); two different places differ by 0.103 or more."""

SHARP = 0.004
"""Least variance of the Laplacian at 512 over 12 seeds: 0.0089 (street); after a blur of one pixel at most 0.0025."""


@cache
def _drawn(family: str, seed: int, size: int) -> FloatArray:
    picture = BACKGROUNDS[family](from_seed(seed), size).color
    picture.flags.writeable = False
    return picture


def _encoded(light: FloatArray) -> FloatArray:
    return linear_to_srgb(np.clip(light, 0, 1))


def _difference(first: FloatArray, second: FloatArray) -> float:
    """Mean absolute difference of encoded colour; the first picture is shrunk to the second."""
    small = np.asarray(cv2.resize(first, second.shape[1::-1], interpolation=cv2.INTER_AREA), np.float32)
    return float(np.abs(_encoded(small) - _encoded(second)).mean())


def _sharpness(light: FloatArray) -> float:
    return float(cv2.Laplacian(_encoded(light) @ LUMINANCE, cv2.CV_32F).var())


def test_there_are_four_families() -> None:
    assert FAMILIES == ["forest", "hills", "night", "street"]


@pytest.mark.parametrize("size", [64, 512])
@pytest.mark.parametrize("family", FAMILIES)
def test_shape_and_range(family: str, size: int) -> None:
    for seed in SEEDS:
        color = _drawn(family, seed, size)
        assert color.dtype == np.float32
        assert color.shape == (size, round(size * 4 / 3), 3)
        assert color.flags.c_contiguous
        assert np.isfinite(color).all()
        assert color.min() >= 0
        assert color.max() <= 20
        assert np.clip(color, 0, 1).std() > 0.02


@pytest.mark.parametrize("family", FAMILIES)
def test_same_seed_same_bits(family: str) -> None:
    again = BACKGROUNDS[family](from_seed(1), 256).color
    assert again.tobytes() == _drawn(family, 1, 256).tobytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_generator_is_left_in_the_same_state_at_every_size(family: str) -> None:
    after = []
    for size in (64, 160):
        rng = from_seed(5)
        BACKGROUNDS[family](rng, size)
        after.append(rng.random())
    assert after[0] == after[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_same_place_at_another_size(family: str) -> None:
    for seed in SEEDS:
        assert _difference(_drawn(family, seed, 512), _drawn(family, seed, 256)) < OTHER_SIZE


@pytest.mark.parametrize("family", FAMILIES)
def test_another_seed_is_another_place(family: str) -> None:
    for first, second in ((0, 1), (1, 2), (2, 0)):
        assert _difference(_drawn(family, first, 256), _drawn(family, second, 256)) > 2 * OTHER_SIZE


@pytest.mark.parametrize("family", FAMILIES)
def test_sharp_to_the_pixel(family: str) -> None:
    for seed in SEEDS:
        color = _drawn(family, seed, 512)
        assert _sharpness(color) > SHARP
        assert _sharpness(np.asarray(cv2.GaussianBlur(color, (0, 0), 1.0), np.float32)) < SHARP


def test_night_has_many_separate_bright_lights() -> None:
    for seed in range(5):
        color = _drawn("night", seed, 512)
        peaks, _ = cv2.connectedComponents((color.max(axis=2) > 4).astype(np.uint8), connectivity=8)
        assert peaks - 1 >= 40
        assert 10 <= color.max() <= 20
        # Dark all the same: lights are points, not floods.
        assert np.median(color @ LUMINANCE) < 0.12


def test_night_lights_have_several_colours() -> None:
    for seed in range(5):
        color = _drawn("night", seed, 512)
        lights = color[color.max(axis=2) > 4]
        warm, cool = lights[:, 0] > 1.25 * lights[:, 2], lights[:, 2] > 1.05 * lights[:, 0]
        assert warm.mean() > 0.3
        assert cool.sum() >= 3


@pytest.mark.parametrize("family", ["hills", "street"])
def test_the_sky_is_brighter_than_the_ground(family: str) -> None:
    for seed in SEEDS:
        luminance = _drawn(family, seed, 256) @ LUMINANCE
        middle = luminance[:, luminance.shape[1] // 4 : -luminance.shape[1] // 4]
        assert middle[:70].mean() > 1.2 * middle[-70:].mean()


@pytest.mark.parametrize("family", ["forest", "hills", "street"])
def test_day_is_brighter_than_night(family: str) -> None:
    for seed in SEEDS:
        assert np.median(_drawn(family, seed, 256) @ LUMINANCE) > np.median(_drawn("night", seed, 256) @ LUMINANCE)
