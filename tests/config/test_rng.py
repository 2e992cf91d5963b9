"""Addressed randomness: the numbers are part of the format."""

import itertools

import numpy as np
import pytest

from bokehsynth.rng import SPLITS, Stage, chance, draw_seed, from_seed, pick, stream, uniform

# Computed once with NumPy's documented, version-stable SeedSequence and PCG64; a change here is a new data set format.
GOLDEN = {
    (0, "train", Stage.ASSETS, 0): [5559497400832831700, 5319243380202163349, 4284948988431154913],
    (0, "val", Stage.SCENE, 1): [2171390620212620376, 2470852485161051807, 3238020545880520012],
    (7, "train", Stage.LENS, 123456789): [3907112178607693987, 8563308361988501075, 911135193497669011],
    (4611686018427387905, "val", Stage.DEGRADE, 5, 2): [
        1814621124860297606,
        1419447516996526204,
        7732622654314311783,
    ],
}


def first_bits(*address) -> int:
    return int(stream(*address).integers(1 << 63))


@pytest.mark.parametrize("address", GOLDEN, ids=str)
def test_golden_numbers(address):
    assert [int(number) for number in stream(*address).integers(0, 1 << 63, 3)] == GOLDEN[address]


def test_golden_seeded_generator():
    expected = [2096804712593481934, 2921580012919480943, 7354398262316660716]
    assert [int(number) for number in from_seed(12345).integers(0, 1 << 63, 3)] == expected


@pytest.mark.parametrize("index", [0, 1, 17, 999_999_999, 2**32 - 1])
@pytest.mark.parametrize("stage", Stage)
def test_address_is_the_documented_seed_sequence(stage, index):
    for split, number in (("train", 0), ("val", 1)):
        sequence = np.random.SeedSequence(42, spawn_key=(number, int(stage), index))
        expected = np.random.Generator(np.random.PCG64(sequence)).random(8)
        assert np.array_equal(stream(42, split, stage, index).random(8), expected)


def test_stage_and_split_numbers_are_fixed():
    names = ["ASSETS", "SCENE", "LENS", "DEGRADE", "APERTURE", "CAMERA", "SOURCE", "LAYOUT"]
    numbers = {name: number for number, name in enumerate(names)}
    assert {stage.name: int(stage) for stage in Stage} == numbers
    assert SPLITS == {"train": 0, "val": 1}


def test_order_of_asking_does_not_matter():
    addresses = list(itertools.product([5], SPLITS, Stage, range(50)))
    forward = {address: stream(*address).random(4).tolist() for address in addresses}
    backward = {address: stream(*address).random(4).tolist() for address in reversed(addresses)}
    assert forward == backward


def test_every_address_has_a_stream_of_its_own():
    addresses = itertools.product([0, 1], SPLITS, Stage, range(400), range(3))
    draws = [first_bits(*address) for address in addresses]
    assert len(draws) == 2 * 2 * 8 * 400 * 3
    # 38400 random 63-bit numbers agree somewhere with probability 8e-11.
    assert len(set(draws)) == len(draws)


def test_attempt_zero_is_the_ordinary_address():
    assert first_bits(3, "train", Stage.SCENE, 9) == first_bits(3, "train", Stage.SCENE, 9, 0)


def test_neighbouring_addresses_are_not_correlated():
    draws = np.array([stream(0, "train", Stage.SCENE, index).random(2) for index in range(4000)])
    lagged = np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]
    within = np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]
    # Standard deviation of either is 1/sqrt(4000) = 0.016; 4.5 of them.
    assert abs(lagged) < 0.071
    assert abs(within) < 0.071
    assert np.all(np.histogram(draws[:, 0], 10, (0, 1))[0] > 400 - 4.5 * 19)  # binomial(4000, 0.1): sigma 19


def test_unknown_split_is_refused():
    with pytest.raises(KeyError):
        stream(0, "test", Stage.SCENE, 0)


def test_draw_seed_round_trip():
    seeds = {draw_seed(stream(0, "train", Stage.DEGRADE, index)) for index in range(2000)}
    assert len(seeds) == 2000
    assert all(type(seed) is int and 0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62  # the whole range is used, not 32 bits of it
    assert np.array_equal(from_seed(max(seeds)).random(3), from_seed(max(seeds)).random(3))


def test_uniform_is_a_plain_float_within_its_bounds():
    rng = from_seed(1)
    values = [uniform(rng, -2.0, 3.0) for _ in range(5000)]
    assert all(type(value) is float and -2 <= value < 3 for value in values)
    assert np.mean(values) == pytest.approx(0.5, abs=4.5 * 5 / np.sqrt(12 * 5000))


@pytest.mark.parametrize("probability", [0.0, 0.07, 0.5, 1.0])
def test_chance_has_its_probability(probability):
    rng, count = from_seed(2), 5000
    happened = sum(chance(rng, probability) for _ in range(count))
    sigma = np.sqrt(count * probability * (1 - probability))
    assert abs(happened - count * probability) <= 4.5 * sigma  # exact at 0 and 1


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        (None, [0.25, 0.25, 0.25, 0.25]),
        ([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4]),
        ([0.5, 0, 0, 0.5], [0.5, 0, 0, 0.5]),
        ([0, 0, 1e-9, 0], [0, 0, 1, 0]),
    ],
)
def test_pick_has_its_shares(weights, shares):
    rng, count = from_seed(3), 8000
    picked = [pick(rng, "abcd", weights) for _ in range(count)]
    for letter, share in zip("abcd", shares, strict=True):
        assert abs(picked.count(letter) - count * share) <= 4.5 * np.sqrt(count * share * (1 - share))


class Fixed:
    """A generator that always says the same number and counts how often it was asked."""

    def __init__(self, number: float) -> None:
        self.number, self.asked = number, 0

    def random(self) -> float:
        self.asked += 1
        return self.number


@pytest.mark.parametrize("number", [0.0, np.nextafter(1.0, 0.0)])
def test_pick_at_the_ends(number):
    rng = Fixed(number)
    end = -1 if number else 0
    assert pick(rng, "abc") == "abc"[end]
    assert pick(rng, "abc", [0.1, 0.2, 0.7]) == "abc"[end]
    # Weight 0 is never picked, not even when the generator says exactly 0 or nearly 1.
    assert pick(rng, "abc", [0, 1, 0]) == "b"
    assert rng.asked == 3


def test_chance_consumes_one_number_whatever_the_probability():
    rng = Fixed(0.5)
    assert [chance(rng, p) for p in (0.0, 0.5, 1.0)] == [False, False, True]
    assert rng.asked == 3
