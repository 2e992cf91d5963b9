"""Training reads a set in a bucket where it is, also in spawned loader processes."""

import pickle

import numpy as np
import pytest
from support.bucket_trees import tree
from support.small_set import make_small_set

from bokehsynth.files import commit_file

pytestmark = pytest.mark.long


def test_a_source_in_a_bucket_gives_the_samples_of_a_folder(place, tmp_path):
    from magicbokeh.data.sources import open_source
    from magicbokeh.recipe import SourceSpec

    local = make_small_set(tmp_path / "set").root
    for name, data in tree(local).items():
        commit_file(place / name, data)
    there = open_source(SourceSpec(shards=str(place)), tmp_path / "run", 0)
    here = open_source(SourceSpec(shards=str(local)), tmp_path / "run", 0)
    assert not (tmp_path / "run").exists()
    assert (there.identity, there.radius_bound, there.size) == (here.identity, here.radius_bound, here.size)
    for given, b in ((there.train, here.train), (there.val, here.val)):
        a = pickle.loads(pickle.dumps(given))  # as a loader process gets it
        for i in range(len(b)):
            assert all(np.array_equal(a[i][name], b[i][name]) for name in b[i].arrays)
