"""Unusable samples are drawn again, a stated number of times, and counted; other errors pass through."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.shard_samples import make_sample

import bokehsynth as bs
from bokehsynth.errors import UnsoundError
from bokehsynth.sample_checks import MAX_ATTEMPTS, check_sample, retry_until_valid
from bokehsynth.schema import Sample


def sample(**changes: object) -> Sample:
    made = make_sample("train", 3)
    meta = dict(made.meta) | {"draw": json.dumps({"degradation": {"steps": []}}), "radius_max": 3.0}
    steps = changes.pop("steps", None)
    if steps is not None:
        meta |= {"draw": json.dumps({"degradation": {"steps": steps}}), "radius_max": 0.0}
    return replace(made, meta=meta, arrays=dict(made.arrays) | changes)


def test_a_valid_sample_passes() -> None:
    valid = sample()
    assert retry_until_valid(lambda attempt: valid if attempt == 0 else sample()) is valid


@pytest.mark.parametrize("name", ["lq", "hq", "aif"])
def test_black_pictures(name: str) -> None:
    dark = np.zeros_like(sample().hq)
    dark[0, 0] = 3
    with pytest.raises(UnsoundError, match=f"{name} is black") as refusal:
        check_sample(sample(**{name: dark}))
    assert refusal.value.reason == "black"


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 1e9])
def test_maps_outside_their_range(value: float) -> None:
    bad = sample().defocus.copy()
    bad[2, 3] = value
    with pytest.raises(UnsoundError, match="defocus holds") as refusal:
        check_sample(sample(defocus=bad))
    assert refusal.value.reason == "out_of_range"


@pytest.mark.parametrize(
    ("steps", "sound"),
    [
        ([], True),  # nothing was to be done to it
        (
            [{"kind": "blur", "kernel": None}, {"kind": "jpeg", "quality": None}, {"kind": "resize", "factor": 1.0}],
            True,
        ),
        ([{"kind": "noise", "family": "gaussian"}], False),
        ([{"kind": "resize", "factor": 0.5}], False),
        ([{"kind": "custom", "path": "a:B", "params": {}}], False),
    ],
)
def test_lq_equal_to_hq_where_it_must_not_be(steps: list[dict], sound: bool) -> None:
    same = sample(steps=steps, lq=sample().hq)
    if sound:
        check_sample(same)
        return
    with pytest.raises(UnsoundError, match="lq equals hq"):
        check_sample(same)


def test_lq_equal_to_a_blurred_hq() -> None:
    with pytest.raises(UnsoundError, match="blur radius reaches 3 px"):
        check_sample(sample(lq=sample().hq))


def test_fields_that_are_not_stored_are_not_missed() -> None:
    part = replace(sample(), arrays={"hq": sample().hq})
    assert retry_until_valid(lambda attempt: part if attempt == 0 else sample()) is part


def test_the_next_draw_until_one_is_valid() -> None:
    heard: list[tuple[int, str]] = []

    def make(attempt: int) -> Sample:
        if attempt < 3:
            raise ZeroDivisionError(str(attempt))
        return sample()

    retry_until_valid(make, 1, lambda attempt, error: heard.append((attempt, str(error))))
    assert heard == [(1, "1"), (2, "2")]


def test_a_sample_that_never_comes_out_is_an_error_with_its_cause() -> None:
    tried: list[int] = []

    def make(attempt: int) -> Sample:
        tried.append(attempt)
        raise bs.UsageError("never")

    with pytest.raises(bs.UsageError, match="never"):
        retry_until_valid(make)
    assert tried == list(range(MAX_ATTEMPTS))


@pytest.mark.parametrize(
    "error", [bs.StorageError("full"), MemoryError(), OSError("network"), bs.AssetError("gone"), bs.ChangedError("x")]
)
def test_what_is_not_the_samples_fault_passes_through(error: Exception) -> None:
    def make(attempt: int) -> Sample:
        raise error

    with pytest.raises(type(error)):
        retry_until_valid(make)


def test_pictures_with_nan_are_refused_before_they_become_bytes() -> None:
    from bokehsynth.color import encode_8bit, encode_16bit

    for value in (np.nan, np.inf):
        for encode in (encode_8bit, encode_16bit):
            with pytest.raises(UnsoundError, match="not finite"):
                encode(np.full((2, 2, 3), value, np.float32))


def test_a_source_with_the_lens_of_hq_is_sound_where_nothing_degrades_it() -> None:
    def same(*steps: dict[str, object], **more: object) -> Sample:
        made = sample(steps=list(steps))
        return replace(
            made, arrays=dict(made.arrays) | {"lq": made.hq}, meta=dict(made.meta) | {"radius_max": 3.0} | more
        )

    check_sample(same(source_blur=2.0))
    with pytest.raises(UnsoundError, match="blur radius reaches"):
        check_sample(same())
    with pytest.raises(UnsoundError, match="is to be degraded"):
        check_sample(same({"kind": "resize", "factor": 0.5}, source_blur=2.0))
