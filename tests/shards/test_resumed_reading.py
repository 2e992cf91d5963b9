"""Positions taken, loaded and taken again: over any number of interruptions each sample of an epoch is read once."""

import copy
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bokehsynth.errors import UsageError
from bokehsynth.schema import Sample
from bokehsynth.shards import plan_shards
from bokehsynth.shards.epoch import ReadingOrder
from bokehsynth.shards.iteration import SampleReader


class Numbers(SampleReader):
    """A data set whose samples hold nothing but their numbers."""

    def read(self, index: int) -> Sample:
        return Sample(str(index), {"index": index}, {})


def numbers(samples: int = 23, shard: int = 4, **order: Any) -> Numbers:
    data = Numbers("train", plan_shards("train", samples, shard), {"recipe": "a"})
    data.order = ReadingOrder(**order)
    return data


def batches(data: Numbers, size: int, workers: int) -> Iterator[list[int]]:
    """What a torch DataLoader gives: each worker has its own copy of the data set, and they take turns."""
    copies = [copy.copy(data) for _ in range(workers)]
    loops = [one.part(number, workers) for number, one in enumerate(copies)] or [data.part(0, 1)]
    while loops:
        for loop in list(loops):
            batch = [sample.meta["index"] for sample in islice(loop, size)]
            if batch:
                yield batch
            else:
                loops.remove(loop)


@given(
    samples=st.integers(1, 40), size=st.integers(1, 4), workers=st.integers(0, 3), shuffle=st.integers(0, 9),
    stops=st.lists(st.integers(0, 4), max_size=4),
)  # fmt: skip
def test_a_loader_that_is_resumed_again_and_again_gives_each_sample_once(
    samples: int, size: int, workers: int, shuffle: int, stops: list[int]
) -> None:
    seen: list[int] = []
    state = None
    for stop in (*stops, None):
        data = numbers(samples, shuffle=shuffle)
        if state is not None:
            data.load_state_dict(state)
        data.set_epoch(0)
        given = list(islice(batches(data, size, workers), stop))
        seen += [index for batch in given for index in batch]
        state = json.loads(json.dumps(data.state_after(len(given), size, workers)))
    assert sorted(seen) == list(range(samples))


@pytest.mark.parametrize("shuffle", [0, 5])
def test_choosing_the_epoch_of_a_loaded_position_keeps_it(shuffle: int) -> None:
    """A state of the usual order has no epoch: the first one that is chosen is its own."""
    first = numbers(shuffle=shuffle)
    first.set_epoch(3)
    whole = [sample.key for sample in first]
    first.set_epoch(3)
    assert first.state_dict()["position"] == 0, "nothing of the chosen epoch was read yet"
    list(islice(first, 7))
    for workers in (0, 1):
        data = numbers(shuffle=shuffle)
        data.load_state_dict(first.state_dict())
        data.set_epoch(3)
        assert [str(index) for batch in batches(data, 2, workers) for index in batch] == whole[7:]
        data.set_epoch(4)
        assert len(list(data)) == len(whole), "the next epoch is whole"


def test_each_worker_of_a_stateful_loader_goes_on_by_its_own_state() -> None:
    states, seen = [], []
    for worker in range(3):
        data = numbers(shuffle=5)
        loop = data.part(worker, 3)
        seen += [next(loop).key for _ in range(worker + 1)]
        states.append(json.loads(json.dumps(data.state_dict())))
    for worker, state in enumerate(states):
        data = numbers(shuffle=5)
        data.load_state_dict(state)
        assert data.state_dict() == state
        seen += [sample.key for sample in data.part(worker, 3)]
    assert sorted(map(int, seen)) == list(range(23))


def test_a_position_is_of_one_number_of_samples_and_workers() -> None:
    data = numbers(shuffle=5)
    state = data.state_after(2, 2, 2)
    with pytest.raises(UsageError, match="saved for another data set or split"):
        numbers(27, shuffle=5).load_state_dict(state)
    with pytest.raises(UsageError, match="saved for another data set or split"):
        numbers(27).load_state_dict(numbers().state_after(2, 2, 2))
    numbers(27).load_state_dict(numbers().state_after(2, 2, 0))  # samples in index order: more of them change nothing
    data.load_state_dict(state)
    for wrong in (0, 3):
        with pytest.raises(UsageError, match=f"saved for 2 loader workers; here are {max(1, wrong)}"):
            data.state_after(1, 2, wrong)


def test_a_loop_is_of_the_epoch_in_which_it_was_begun() -> None:
    data = numbers(shuffle=5)
    loop = iter(data)
    data.set_epoch(1)
    assert [sample.key for sample in loop] == [sample.key for sample in numbers(shuffle=5)]
