"""Distributions: what a recipe may write for a number."""

import math
from typing import Annotated

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from bokehsynth.config.distributions import Distribution, bounds, sample, within
from bokehsynth.rng import from_seed

ADAPTER: TypeAdapter = TypeAdapter(Distribution)
NUMBERS = st.floats(-1e6, 1e6)
POSITIVE = st.floats(1e-6, 1e6)
QUICK = settings(deadline=None, max_examples=60)


def read(value):
    return ADAPTER.validate_python(value)


def ordered(numbers):
    return st.tuples(numbers, numbers).map(sorted)


def uniforms():
    return ordered(NUMBERS).map(lambda b: {"kind": "uniform", "low": b[0], "high": b[1]})


def loguniforms():
    return ordered(POSITIVE).map(lambda b: {"kind": "loguniform", "low": b[0], "high": b[1]})


def normals():
    spread = st.tuples(ordered(st.floats(-100, 100)), st.floats(-100, 100), st.floats(0.01, 100))
    return spread.map(lambda v: {"kind": "normal", "mean": v[1], "sigma": v[2], "low": v[0][0], "high": v[0][1]})


def choices():
    values = st.lists(NUMBERS, min_size=1, max_size=6)
    return values.map(lambda v: {"kind": "choice", "values": v})


SIMPLE = st.one_of(NUMBERS, uniforms(), loguniforms(), normals(), choices())
NESTED = st.tuples(st.floats(0, 1), SIMPLE, NUMBERS).map(
    lambda v: {"kind": "sometimes", "probability": v[0], "value": v[1], "otherwise": v[2]}
)


class Fixed:
    """A generator that always says the same number and counts how often it was asked."""

    def __init__(self, number: float) -> None:
        self.number, self.asked = number, 0

    def random(self) -> float:
        self.asked += 1
        return self.number


# --- what holds for every kind


@QUICK
@given(st.one_of(SIMPLE, NESTED), st.integers(0, 2**32))
def test_draws_stay_within_bounds(value, seed):
    distribution, rng = read(value), from_seed(seed)
    low, high = bounds(distribution)
    slack = 1e-9 * max(abs(low), abs(high))  # low + (high - low) * u and exp(log(x)) round
    for _ in range(20):
        number = sample(distribution, rng)
        assert type(number) is float
        assert low - slack <= number <= high + slack


@QUICK
@given(loguniforms(), st.floats(0, 1, exclude_max=True))
def test_loguniform_never_leaves_its_bounds_by_rounding(value, u):
    """What a recipe's checks promised (`blur` <= bound) must hold to the last bit, or a 16-bit map could overflow."""
    number = sample(read(value), Fixed(u))
    assert value["low"] <= number <= value["high"]


@QUICK
@given(st.one_of(uniforms(), normals()), st.floats(0, 1, exclude_max=True))
def test_uniform_and_normal_never_leave_their_bounds_by_rounding(value, u):
    number = sample(read(value), Fixed(u))
    assert value["low"] <= number <= value["high"]


@QUICK
@given(SIMPLE)
def test_one_number_is_consumed(value):
    rng = Fixed(0.3)
    sample(read(value), rng)
    assert rng.asked == 1


@QUICK
@given(NESTED, st.floats(0, 1, exclude_max=True))
def test_sometimes_consumes_the_same_whether_it_happens_or_not(value, u):
    rng = Fixed(u)
    sample(read(value), rng)
    assert rng.asked == 2


@QUICK
@given(uniforms(), uniforms(), st.integers(0, 2**32))
def test_another_distribution_does_not_shift_later_draws(one, other, seed):
    left, right = from_seed(seed), from_seed(seed)
    sample(read(one), left)
    sample(read(other), right)
    assert left.random() == right.random()


@pytest.mark.parametrize(
    "value",
    [
        {"kind": "uniform", "low": -1, "high": 4},
        {"kind": "loguniform", "low": 0.01, "high": 4},
        {"kind": "normal", "mean": 0, "sigma": 2, "low": -1, "high": 4},
        {"kind": "choice", "values": [3, -1, 4]},
        {"kind": "sometimes", "probability": 0.5, "value": {"kind": "uniform", "low": 0, "high": 4}, "otherwise": -1},
        7,
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "constant",
)
def test_bounds_are_tight(value):
    distribution = read(value)
    low, high = bounds(distribution)
    drawn = [sample(distribution, Fixed(u)) for u in np.linspace(0, np.nextafter(1, 0), 5)]
    if distribution.kind == "sometimes":  # Fixed(u) decides twice: small u happens, and then draws small
        rng = from_seed(0)
        drawn = [sample(distribution, rng) for _ in range(20_000)]
    tolerance = 1e-3 * (high - low)  # 20 000 draws, half of them over 5 units: the largest is 5e-4 short on average
    assert min(drawn) == pytest.approx(low, abs=tolerance)
    assert max(drawn) == pytest.approx(high, abs=tolerance)


# --- shapes


@pytest.mark.parametrize(
    ("value", "cdf"),
    [
        ({"kind": "uniform", "low": 2, "high": 5}, scipy.stats.uniform(2, 3).cdf),
        ({"kind": "loguniform", "low": 0.1, "high": 30}, scipy.stats.loguniform(0.1, 30).cdf),
        (
            {"kind": "normal", "mean": 1, "sigma": 2, "low": 0, "high": 6},
            scipy.stats.truncnorm(-0.5, 2.5, loc=1, scale=2).cdf,
        ),
    ],
    ids=["uniform", "loguniform", "normal"],
)
def test_shape_against_scipy(value, cdf):
    rng, distribution = from_seed(11), read(value)
    drawn = [sample(distribution, rng) for _ in range(4000)]
    # Kolmogorov-Smirnov with a fixed seed: a wrong shape of this size gives p < 1e-12.
    assert scipy.stats.kstest(drawn, cdf).pvalue > 1e-4


@pytest.mark.parametrize("u", [0.0, 1e-6, 0.01, 0.25, 0.5, 0.9, 0.999999])
@pytest.mark.parametrize(
    ("mean", "sigma", "low", "high"),
    [(0, 1, -1, 1), (0, 1, -6, 6), (5, 2, 0, 32), (10, 3, 0, 5), (0.5, 0.01, 0, 1), (0, 100, -1, 1)],
)
def test_truncated_normal_quantiles(u, mean, sigma, low, high):
    value = {"kind": "normal", "mean": mean, "sigma": sigma, "low": low, "high": high}
    expected = scipy.stats.truncnorm((low - mean) / sigma, (high - mean) / sigma, loc=mean, scale=sigma).ppf(u)
    # Bisection on a double-precision cdf: in the tails the cdf resolves 1e-16 of probability, at u = 0 and with
    # bounds 50 sigma away nothing; there the quantile is compared in probability below.
    if u == 0 or sigma == 0.01:
        cdf = scipy.stats.norm(mean, sigma).cdf
        inside = cdf(high) - cdf(low)
        assert (cdf(sample(read(value), Fixed(u))) - cdf(low)) / inside == pytest.approx(u, abs=1e-12)
    else:
        assert sample(read(value), Fixed(u)) == pytest.approx(expected, abs=1e-6 * (high - low))


@pytest.mark.parametrize("side", [-1, 1])
def test_truncated_normal_far_in_its_tail(side):
    """low..high 10 sigma away from the mean: the shape there is steep, and must not collapse onto one bound."""
    low, high = sorted((side * 10.0, side * 11.0))
    value = {"kind": "normal", "mean": 0, "sigma": 1, "low": low, "high": high}
    frozen = scipy.stats.truncnorm(low, high)
    for u in (0.1, 0.5, 0.9):
        assert sample(read(value), Fixed(u)) == pytest.approx(float(frozen.ppf(u)), abs=0.02)


@settings(deadline=None, max_examples=200)
@given(st.floats(-2, 2), st.floats(1e-3, 2), st.integers(-4, 4))
def test_truncated_normal_about_its_mean(mean, half, ulps):
    """A range that is symmetric but for a rounding, as most that people write are."""
    low, high = mean - half, mean + half + ulps * math.ulp(mean + half)
    value = {"kind": "normal", "mean": mean, "sigma": 1, "low": low, "high": high}
    assert sample(read(value), Fixed(0.5)) == pytest.approx(mean, abs=1e-9)
    assert sample(read(value), Fixed(0.25)) < mean < sample(read(value), Fixed(0.75))


@pytest.mark.parametrize(("mean", "low", "high"), [(-0.46, -1.94, 1.02), (-0.46, -1.96, 1.04), (-0.46, -1.98, 1.06)])
def test_truncated_normal_of_round_numbers(mean, low, high):
    value = {"kind": "normal", "mean": mean, "sigma": 1, "low": low, "high": high}
    assert low <= sample(read(value), Fixed(0.3)) <= high


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=6), st.integers(0, 1000))
def test_choice_honours_weights(weights, seed):
    values = [float(i) for i in range(len(weights))]
    distribution, rng, count = read({"kind": "choice", "values": values, "weights": weights}), from_seed(seed), 1500
    drawn = [sample(distribution, rng) for _ in range(count)]
    for value, weight in zip(values, weights, strict=True):
        share = weight / sum(weights)
        # Six sigma of a binomial (and room for one count): hypothesis tries many seeds on purpose.
        assert abs(drawn.count(value) - count * share) <= 6 * math.sqrt(count * share * (1 - share)) + 1


def test_choice_never_draws_weight_zero():
    distribution, rng = read({"kind": "choice", "values": [1, 2, 3], "weights": [1, 0, 1]}), from_seed(0)
    assert {sample(distribution, rng) for _ in range(500)} == {1.0, 3.0}


def test_bounds_of_choice_leave_out_weight_zero():
    """`bounds` is the smallest and largest number that `draw` can return."""
    assert bounds(read({"kind": "choice", "values": [1, 2, 99], "weights": [1, 1, 0]})) == (1, 2)


@pytest.mark.parametrize(("probability", "expected"), [(0, (5, 5)), (1, (1, 2))])
def test_bounds_of_sometimes_that_never_or_always_happens(probability, expected):
    inner = {"kind": "uniform", "low": 1, "high": 2}
    value = {"kind": "sometimes", "probability": probability, "value": inner, "otherwise": 5}
    assert bounds(read(value)) == expected


def test_sometimes_has_its_probability():
    value = {"kind": "sometimes", "probability": 0.2, "value": {"kind": "uniform", "low": 1, "high": 2}, "otherwise": 9}
    distribution, rng = read(value), from_seed(5)
    drawn = np.array([sample(distribution, rng) for _ in range(4000)])
    assert np.mean(drawn == 9) == pytest.approx(0.8, abs=4.5 * math.sqrt(0.16 / 4000))
    # What happens and which value it gives are two numbers: the values are still even over their range.
    assert np.mean(drawn[drawn != 9]) == pytest.approx(1.5, abs=4.5 / math.sqrt(12 * 800))


# --- reading


@pytest.mark.parametrize("number", [3, 3.5, 0, -1e-4])
def test_plain_number_means_constant(number):
    distribution = read(number)
    assert distribution.kind == "constant"
    assert bounds(distribution) == (number, number)
    assert sample(distribution, Fixed(0.9)) == number


@QUICK
@given(st.one_of(SIMPLE, NESTED))
def test_round_trip_through_plain_data(value):
    distribution = read(value)
    assert ADAPTER.validate_json(ADAPTER.dump_json(distribution)) == distribution


@pytest.mark.parametrize(
    "value",
    [
        "3",
        True,
        None,
        [1, 2],
        {},
        {"low": 0, "high": 1},
        {"kind": "gamma", "low": 0},
        {"kind": "uniform", "low": 0},
        {"kind": "uniform", "low": 2, "high": 1},
        {"kind": "uniform", "low": "0", "high": 1},
        {"kind": "uniform", "low": 0, "high": 1, "mean": 0},
        {"kind": "loguniform", "low": 0, "high": 1},
        {"kind": "loguniform", "low": 2, "high": 1},
        {"kind": "normal", "mean": 0, "sigma": 0, "low": 0, "high": 1},
        {"kind": "normal", "mean": 0, "sigma": 1, "low": 2, "high": 1},
        {"kind": "choice", "values": []},
        {"kind": "choice", "values": [1, 2], "weights": [1]},
        {"kind": "choice", "values": [1, 2], "weights": [0, 0]},
        {"kind": "choice", "values": [1, 2], "weights": [2, -1]},
        {"kind": "sometimes", "probability": 1.1, "value": 1, "otherwise": 0},
        {"kind": "sometimes", "probability": 0.5, "value": 1},
    ],
    ids=str,
)
def test_refused(value):
    with pytest.raises(ValidationError):
        read(value)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "shape",
    [
        lambda x: x,
        lambda x: {"kind": "uniform", "low": 0, "high": x},
        lambda x: {"kind": "choice", "values": [0, x]},
        lambda x: {"kind": "normal", "mean": x, "sigma": 1, "low": 0, "high": 1},
        lambda x: {"kind": "choice", "values": [0, 1], "weights": [1, abs(x)]},
    ],
    ids=["constant", "uniform", "choice", "normal", "weights"],
)
def test_numbers_are_finite(shape, number):
    """YAML can write .nan and .inf; no distribution has a use for them."""
    with pytest.raises(ValidationError):
        read(shape(number))


def test_within_names_what_can_be_drawn():
    blur: TypeAdapter = TypeAdapter(Annotated[Distribution, within(0, 32)])
    assert blur.validate_python({"kind": "uniform", "low": 0, "high": 32}).high == 32
    with pytest.raises(ValidationError, match=r"must stay within 0\.\.32; this can draw 0\.\.33"):
        blur.validate_python({"kind": "uniform", "low": 0, "high": 33})
    with pytest.raises(ValidationError, match=r"this can draw -1\.\.4"):
        blur.validate_python({"kind": "choice", "values": [4, -1]})


def test_specs_are_frozen():
    with pytest.raises(ValidationError):
        read(3).value = 4
