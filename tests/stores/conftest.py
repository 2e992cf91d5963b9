"""A bucket of the S3 server, asked through a proxy that answers wrongly on demand."""

import itertools
import shutil

import pytest
from support.s3_server import FaultProxy, make_bucket, variables
from support.small_set import make_small_set

from bokehsynth.stores import ObjectPath

_numbers = itertools.count()
RECIPE = """\
name: small
samples: {train: 3, val: 0}
size: 32
scene: {foregrounds: 1}
shards: {samples: 2}
"""


@pytest.fixture
def proxy(s3_port, monkeypatch, tmp_path):
    """The proxy between this test and the server; the environment leads there, and pauses are short."""
    proxy = FaultProxy(s3_port)
    for name, value in {**variables(proxy.port), "BOKEHSYNTH_STORE_SECONDS": "20"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("bokehsynth.stores.bucket.LONGEST_PAUSE", 0.1)
    monkeypatch.setattr("bokehsynth.stores.bucket.FIRST_PAUSE", 0.01)
    yield proxy
    proxy.close()


@pytest.fixture
def place(s3_port, proxy):
    """An empty place in a bucket of this test's own, asked through the proxy."""
    name = f"bucket-{next(_numbers)}"
    make_bucket(s3_port, name)
    return ObjectPath.from_url(f"s3://{name}/set")


@pytest.fixture(scope="session")
def stored_set(tmp_path_factory):
    """A small data set in a folder, made once; tests copy it."""
    return make_small_set(tmp_path_factory.mktemp("stored") / "set", RECIPE)


@pytest.fixture
def local_set(stored_set, tmp_path):
    """A copy of the set in a folder of this test, its recipe beside it."""
    shutil.copytree(stored_set.root, tmp_path / "set")
    shutil.copy(stored_set.root.with_suffix(".yaml"), tmp_path / "set.yaml")
    return tmp_path / "set"
