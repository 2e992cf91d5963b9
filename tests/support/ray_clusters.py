"""Ray clusters of one machine for tests."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from bokehsynth.workers.ray_cluster import OBJECT_STORE, import_ray


@contextmanager
def ray_cluster(nodes: int, cpus: int = 1, **variables: str) -> Iterator[Any]:
    """A cluster of `nodes` nodes of `cpus` CPUs each, with `variables` in their environment."""
    with mock.patch.dict(os.environ, {"PYTHONPATH": str(Path(__file__).parents[1]), **variables}):
        yield from _cluster(nodes, cpus)


def _cluster(nodes: int, cpus: int) -> Iterator[Any]:
    import_ray()
    from ray.cluster_utils import Cluster

    size = {"num_cpus": cpus, "num_gpus": 0, "object_store_memory": OBJECT_STORE}
    cluster = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**size)
        yield cluster
    finally:
        cluster.shutdown()
