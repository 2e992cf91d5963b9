"""Chooses the engine of a run, and checks a node on which an engine starts workers of it."""

import os
from dataclasses import dataclass

from bokehsynth.errors import ChangedError, UsageError
from bokehsynth.generation.dataset_files import Machine, differences, read_identity, record_machine
from bokehsynth.generation.devices import WorkerAllocation
from bokehsynth.generation.kernels import compile_kernels
from bokehsynth.generation.provenance import describe_machine, pixel_facts
from bokehsynth.generation.shard_lock import set_up_lock
from bokehsynth.recipe import Recipe
from bokehsynth.shards import Layout
from bokehsynth.workers.events import Engine
from bokehsynth.workers.pool import LocalEngine
from bokehsynth.workers.supervisor import RunPolicy

ENGINES = ("local", "ray")


def make_engine(
    name: str, ray_address: str | None, workers: int | None, allocation: WorkerAllocation, policy: RunPolicy
) -> Engine:
    """The engine of that name; UsageError where there is none, or it is not installed.

    `workers` are those that were asked for, `allocation` has those of this machine alone.
    """
    if name not in ENGINES:
        raise UsageError(f"engine must be one of {', '.join(ENGINES)}, got {name!r:.40}")
    if name == "local":
        if ray_address is not None:
            raise UsageError(f"--ray-address {ray_address}: is for --engine ray, and this run has --engine local")
        return LocalEngine(allocation.workers, policy, allocation.environments)
    from bokehsynth.workers.ray_cluster import cluster_address
    from bokehsynth.workers.ray_engine import STARTING, RayEngine

    # A GPU is Ray's to assign; how much of its memory a worker may fill is the same for all that share one.
    environment = dict(allocation.environments[0]) if allocation.environments else {}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    return RayEngine(
        workers if cluster_address(ray_address) else allocation.workers,
        RunPolicy(policy.timeouts, policy.grace, starting=STARTING),
        ray_address,
        cpus=allocation.threads,
        gpus=len(allocation.environments) / allocation.workers,
        environment=environment,
    )


@dataclass(frozen=True)
class NodeCheck:
    """What a node must share with the machine that the run was started on."""

    machine: Machine
    allow_mixed: bool
    lock: bool

    def __call__(self, layout: Layout, recipe: Recipe, device: str) -> None:
        """Check this node, and compile its kernels.

        Raises UsageError where the node does not see the data set, ChangedError where it would make other pixels.
        """
        host = os.uname().nodename
        if read_identity(layout) != recipe.identity:
            raise UsageError(
                f"{layout.root}: node {host} does not see the data set there; --out must be a folder that every node "
                "of the cluster shares, under the same name"
            )
        here = describe_machine(device, recipe)
        found = differences(pixel_facts(self.machine, here), pixel_facts(here, self.machine))
        if found and not self.allow_mixed:
            raise ChangedError(
                f"{layout.root}: node {host} is another kind of machine, or has other versions, than the one that the "
                "run was started on (there -> on the node):\n  " + "\n  ".join(found) + "\n"
                "Its bytes would no longer be those of one machine; --allow-mixed goes on all the same."
            )
        if found:
            with set_up_lock(layout.lock, self.lock):
                record_machine(layout, here)
        compile_kernels(recipe, device)
