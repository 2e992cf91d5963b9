"""What a reader holds and reads: a few bytes a sample, and the fields that it was asked for."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.errors import DataError
from bokehsynth.shards import Layout, read_dataset, stored_plans
from bokehsynth.shards.index import adjacent_runs, read_index
from bokehsynth.shards.tar import parse_index, split_name


def test_it_says_what_the_file_says(tiny_dataset: Path) -> None:
    layout = Layout(tiny_dataset)
    for plan in stored_plans(read_dataset(layout), "train"):
        index = read_index(layout, plan)
        listed = parse_index(layout.index(plan).read_text(), "index")
        assert [index.entries(i) for i in range(plan.first, plan.first + plan.count)] == listed


def test_a_million_samples_take_some_tens_of_megabytes(tiny_dataset: Path) -> None:
    """0.4.0 kept 1.6 kB of each."""
    layout = Layout(tiny_dataset)
    plan = stored_plans(read_dataset(layout), "train")[0]
    index = read_index(layout, plan)
    a_sample = (index.starts.nbytes + index.sizes.nbytes) / plan.count
    assert a_sample <= 8 + 4 * len(index.members)
    assert len(pickle.dumps(index)) < 2000


def test_only_the_fields_asked_for_are_read(tiny_dataset: Path, tmp_path: Path) -> None:
    """The headers of the others are destroyed, sizes and markers are not."""
    layout = Layout(tmp_path / "set")
    shutil.copytree(tiny_dataset, layout.root)
    plan = stored_plans(read_dataset(layout), "train")[0]
    with open(layout.tar(plan), "r+b") as file:
        for entry in read_index(layout, plan).entries(plan.first):
            if split_name(entry.name)[1] not in {"lq.png", "defocus.png", "json"}:
                file.seek(entry.offset - 512)
                file.write(b"\xff" * (512 + entry.size))
    whole = bs.open_dataset(tiny_dataset)[plan.first]
    sample = bs.open_dataset(layout.root, fields=["defocus", "lq"])[plan.first]
    assert list(sample.arrays) == ["defocus", "lq"]
    for name, values in sample.arrays.items():
        assert np.array_equal(values, whole.arrays[name])
    with pytest.raises(DataError, match=r"damaged or was not written by bokehsynth"):
        bs.open_dataset(layout.root, fields=["hq"])[plan.first]


def test_members_side_by_side_are_read_at_once(tiny_dataset: Path) -> None:
    layout = Layout(tiny_dataset)
    plan = stored_plans(read_dataset(layout), "train")[0]
    entries = read_index(layout, plan).entries(plan.first)
    assert adjacent_runs(entries) == [entries]
    assert adjacent_runs([entries[0], *entries[2:]]) == [[entries[0]], entries[2:]]
    assert adjacent_runs([]) == []


def test_samples_of_one_shard_have_the_same_members(tiny_dataset: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "set")
    shutil.copytree(tiny_dataset, layout.root)
    plan = stored_plans(read_dataset(layout), "train")[0]
    head, first, *rest = layout.index(plan).read_text().splitlines(keepends=True)
    layout.index(plan).write_text(head + first + "".join(line.replace("hq.png", "ho.png") for line in rest))
    with pytest.raises(DataError, match=r"lists other members of train-000000001"):
        bs.open_dataset(layout.root)[1]
