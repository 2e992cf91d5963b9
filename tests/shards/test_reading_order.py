"""The part of an epoch that a rank and a worker read: each sample once, shuffled, and gone on with at the very next."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bokehsynth as bs
from bokehsynth.errors import DataError, UsageError
from bokehsynth.shards import plan_shards
from bokehsynth.shards.epoch import MAX_SHUFFLE, ReadingOrder, positions_after


@given(
    samples=st.integers(1, 60), shard=st.integers(1, 9), world=st.integers(1, 4), workers=st.integers(1, 3),
    shuffle=st.integers(0, 20), epoch=st.integers(0, 3),
)  # fmt: skip
def test_all_parts_together_hold_every_sample_once(
    samples: int, shard: int, world: int, workers: int, shuffle: int, epoch: int
) -> None:
    plans = plan_shards("train", samples, shard)
    parts = [
        [ReadingOrder(rank, world, shuffle).indices(plans, epoch, worker, workers) for worker in range(workers)]
        for rank in range(world)
    ]
    assert sorted(np.concatenate([part for rank in parts for part in rank])) == list(range(samples))
    sizes = [sum(map(len, rank)) for rank in parts]
    assert max(sizes) - min(sizes) <= 1
    for rank, size in enumerate(sizes):
        assert ReadingOrder(rank, world, shuffle).count(samples) == size


@given(
    samples=st.integers(1, 60), world=st.integers(1, 4), workers=st.integers(1, 3), shuffle=st.integers(0, 20),
    epoch=st.integers(0, 3),
)  # fmt: skip
def test_even_parts_give_each_rank_the_same_number_of_batches(
    samples: int, world: int, workers: int, shuffle: int, epoch: int
) -> None:
    plans = plan_shards("train", samples, 7)
    orders = [ReadingOrder(rank, world, shuffle, even=True) for rank in range(world)]
    parts = [order.indices(plans, epoch, worker, workers) for order in orders for worker in range(workers)]
    assert {len(part) for part in parts} == {samples // (world * workers)}
    assert len(set(np.concatenate(parts))) == sum(map(len, parts))


def test_shuffling_mixes_shards_and_a_window_and_each_epoch_anew() -> None:
    plans = plan_shards("train", 2000, 100)

    def order(epoch: int, seed: int = 0, shuffle: int = 50) -> list[int]:
        return ReadingOrder(shuffle=shuffle, seed=seed).indices(plans, epoch).tolist()

    first = order(0)
    assert first == order(0)
    assert len({tuple(order(epoch, seed)) for epoch in range(3) for seed in range(3)}) == 9
    shards = [index // 100 for index in order(0, shuffle=1)]  # a window of one leaves the order of the shards
    assert [shards[place] for place in range(0, 2000, 100)] != sorted(set(shards))
    straight = {index: place for place, index in enumerate(order(0, shuffle=1))}
    shifts = np.array([straight[index] - place for place, index in enumerate(first)])
    assert shifts.max() < 50, "nothing is read before the window has reached it"
    assert np.abs(shifts).mean() > 10
    assert len({index // 100 for index in first[:300]}) <= 4, "few shards at a time"


def test_a_loop_goes_on_at_the_very_next_sample(tiny_dataset: Path) -> None:
    how: dict[str, Any] = {"rank": 1, "world": 2, "shuffle": 6, "seed": 3, "fields": []}
    data = bs.open_dataset(tiny_dataset, **how)
    whole = [sample.key for sample in data]
    second = [sample.key for sample in data]
    assert sorted(whole) != sorted(second), "another epoch, another part"
    again = bs.open_dataset(tiny_dataset, **how)
    loop = iter(again)
    seen = [next(loop).key for _ in range(4)]
    state = json.loads(json.dumps(again.state_dict()))
    resumed = bs.open_dataset(tiny_dataset, **how)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert seen + [sample.key for sample in resumed] == whole
    assert [sample.key for sample in resumed] == second
    again.set_epoch(1)
    assert [sample.key for sample in again] == second
    for other in ({**how, "rank": 0}, {**how, "seed": 4}, {**how, "shuffle": 5}, {"fields": []}):
        with pytest.raises(UsageError, match="saved for another data set or split"):
            bs.open_dataset(tiny_dataset, **other).load_state_dict(state)
    for wrong in (-1, 10_000, 1.5, [], [1, 99]):
        with pytest.raises(UsageError, match="a position must be 0 to"):
            resumed.load_state_dict({**state, "position": wrong})


def test_the_states_of_earlier_versions_are_read(tiny_dataset: Path) -> None:
    data = bs.open_dataset(tiny_dataset, fields=[])
    assert set(data.state_dict()) == {"format", "identity", "split", "position"}
    data.load_state_dict({**data.state_dict(), "position": 15})
    assert [sample.meta["index"] for sample in data] == list(range(15, len(data)))
    assert len(list(data)) == len(data)


@pytest.mark.parametrize(
    "arguments", [{"rank": 2, "world": 2}, {"rank": -1}, {"world": 0}, {"shuffle": -1}, {"shuffle": MAX_SHUFFLE + 1},
                  {"seed": -1}]
)  # fmt: skip
def test_orders_that_cannot_be_are_refused(arguments: dict[str, int], tiny_dataset: Path) -> None:
    with pytest.raises(UsageError):
        bs.open_dataset(tiny_dataset, **arguments)  # type: ignore[arg-type]


def test_a_recipe_is_a_data_set_with_the_bits_of_its_shards(tiny_recipe: Path, tiny_dataset: Path) -> None:
    stored = bs.open_dataset(tiny_dataset, "val", shuffle=4)
    rendered = bs.open_dataset(f"{tiny_recipe}@{stored.digest[:12]}", "val", shuffle=4)
    assert rendered.digest == stored.digest
    assert len(rendered) == len(stored)
    loop = iter(rendered)
    for _, mine, theirs in zip(range(2), loop, stored, strict=False):
        assert (mine.key, mine.meta) == (theirs.key, theirs.meta)
        assert mine.arrays.keys() == theirs.arrays.keys()
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine.arrays)
    stored.load_state_dict(rendered.state_dict())
    assert next(iter(stored)).key == next(loop).key, "a position in one is a position in the other"
    assert list(bs.open_dataset(tiny_recipe, "val", ["hq"])[-1].arrays) == ["hq"]
    assert len(bs.open_dataset("quickstart")) == 58
    with pytest.raises(UsageError, match=f"is another recipe now.*{stored.digest}"):
        bs.open_dataset(f"{tiny_recipe}@{'0' * 8}")
    with pytest.raises(DataError, match="does not make hq16"):
        bs.open_dataset(tiny_recipe, fields=["hq16"])
    with pytest.raises(IndexError):
        rendered[len(rendered)]
    with pytest.raises(DataError, match="no such data set directory"):
        bs.open_dataset("nowhere")


def test_batches_come_from_workers_in_turn_until_each_has_none() -> None:
    """A worker with 5 samples has three batches of two, one with 2 has one; the last batch may be small."""
    given = [positions_after([5, 2], 2, batches) for batches in range(6)]
    assert given == [[0, 0], [2, 0], [2, 2], [4, 2], [5, 2], [5, 2]]


@pytest.mark.parametrize("workers", [0, 2])
def test_torch_reads_each_sample_once_and_goes_on_after_any_batch(workers: int, tiny_dataset: Path) -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader

    def batches(data: Any) -> Iterator[list[str]]:
        loader = DataLoader(data.as_torch(), batch_size=2, num_workers=workers)
        return (batch["key"] for batch in loader)

    def reader(rank: int) -> Any:
        return bs.open_dataset(tiny_dataset, fields=["hq", "defocus"], rank=rank, world=2, shuffle=5)

    parts = [list(batches(reader(rank))) for rank in range(2)]
    keys = [key for part in parts for batch in part for key in batch]
    assert len(keys) == len(set(keys)) == len(reader(0))
    for done in (0, 3) if workers else range(len(parts[0]) + 1):
        resumed = reader(0)
        resumed.load_state_dict(json.loads(json.dumps(resumed.state_after(done, 2, workers))))
        assert list(batches(resumed)) == parts[0][done:]
    sample = next(iter(reader(0).as_torch()))
    one = reader(0)[sample["index"]]
    assert (sample["hq"].dtype, sample["defocus"].dtype) == (torch.uint8, torch.float32)
    assert np.array_equal(sample["hq"].numpy(), one.hq.transpose(2, 0, 1))
    assert np.array_equal(sample["defocus"].numpy(), one.defocus[None])
