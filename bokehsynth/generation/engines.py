"""Chooses the engine of a run, and checks a node on which an engine starts workers of it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bokehsynth.assets.load.class_pictures import changed_classes
from bokehsynth.errors import ChangedError, DeviceError, StorageError, UsageError
from bokehsynth.generation.batching import batch_of_all
from bokehsynth.generation.dataset_files import read_identity
from bokehsynth.generation.devices import WorkerAllocation, allocate_workers
from bokehsynth.generation.disk_space import largest_sample_pixels
from bokehsynth.generation.kernels import compile_kernels
from bokehsynth.generation.machine_record import Machine, record_machine
from bokehsynth.generation.provenance import describe_machine, pixel_facts, with_encoder_of
from bokehsynth.generation.records import differences
from bokehsynth.generation.render_server import RENDER_SECONDS, RenderServer
from bokehsynth.generation.shard_lock import set_up_lock
from bokehsynth.recipe import Recipe
from bokehsynth.shards import Layout
from bokehsynth.workers.companion import Companion
from bokehsynth.workers.events import Engine
from bokehsynth.workers.pool import LocalEngine
from bokehsynth.workers.supervisor import RunPolicy
from bokehsynth.workers.timeouts import COMPILING, MOST_DOUBLINGS

ENGINES = ("local", "ray")


def allocate(
    name: str, ray_address: str | None, device: str, workers: int | None, gpus: int | None
) -> WorkerAllocation:
    """What each worker gets: `allocate_workers` of this machine.

    In a cluster that is there already, `workers` are those of all nodes: each gets what it would get here by default.
    Raises UsageError where the numbers do not fit each other or the engine, DeviceError for GPUs that are not there.
    """
    if name == "ray":
        from bokehsynth.workers.ray_cluster import joins_cluster

        if joins_cluster(ray_address):
            if gpus is not None:
                raise UsageError(
                    f"--gpus {gpus}: in a Ray cluster that is there already, GPUs are Ray's to assign; leave --gpus "
                    "out, and ask for --workers"
                )
            if workers is None or workers >= 1:
                workers = None
        return allocate_workers(device, workers, gpus)
    return allocate_workers(device, workers, gpus, shared=True)


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
        return LocalEngine(allocation.workers, policy, () if allocation.served else allocation.environments)
    from bokehsynth.workers.ray_cluster import joins_cluster
    from bokehsynth.workers.ray_engine import SILENCE, STARTING, RayEngine

    groups = len(allocation.environments)
    # A GPU is Ray's to assign; how much of its memory a worker may fill is the same for all that share one.
    environment = dict(allocation.environments[0]) if allocation.environments else {}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    return RayEngine(
        workers if joins_cluster(ray_address) else allocation.workers,
        RunPolicy(policy.timeouts.at_least(SILENCE), policy.grace, starting=STARTING),
        ray_address,
        cpus=allocation.threads,
        sharing=-(-allocation.workers // groups) if groups else 0,
        environment=environment,
    )


def with_compiling_worker(engine: Engine) -> Engine:
    """The engine, with time for its worker to compile what the run has not."""
    if not isinstance(engine, LocalEngine):
        return engine
    return replace(engine, policy=replace(engine.policy, starting=COMPILING))


def with_renderers(
    engine: Engine, allocation: WorkerAllocation, recipe: Recipe, device: str, time_limit: float | None
) -> Engine:
    """The engine, and beside its workers, where they are served, a process for each GPU that renders for them."""
    if not allocation.served or not isinstance(engine, LocalEngine):
        return engine
    each = -(-allocation.workers // len(allocation.environments))
    batch = batch_of_all(each, largest_sample_pixels(recipe))
    # A worker whose scene hangs is to reach its own limit first, however often that has been doubled.
    seconds = RENDER_SECONDS if time_limit is None else 1.25 * 2**MOST_DOUBLINGS * time_limit
    server = RenderServer(device, recipe.device_codes, batch, seconds)
    return replace(engine, companions=tuple(Companion(server, each) for each in allocation.environments))


@dataclass(frozen=True)
class NodeCheck:
    """What a node must share with the machine that the run was started on."""

    machine: Machine
    identity: Mapping[str, str]
    """Digests of the recipe on the machine that the run was started on."""
    allow_mixed: bool
    lock: bool

    def __call__(self, layout: Layout, recipe: Recipe, device: str) -> None:
        """Check this node, and compile its kernels.

        Raises ChangedError where the node does not see the data set, or would make other pixels. The recipe must have
        been pickled `without_derived`: digests that came with it would be compared with themselves.
        """
        host = os.uname().nodename
        self._check_classes(recipe, host)
        if self._identity_there(layout, host) != self.identity:
            advice = "--out must be a folder that every node of the cluster shares, under the same name"
            if layout.remote:
                advice = (
                    "every node of the cluster must reach the same store: compare the variables that name it (of S3 "
                    "AWS_ENDPOINT_URL and AWS_REGION) where Ray was started there and where the line is run"
                )
            raise ChangedError(f"{layout.root}: node {host} does not see the data set there; {advice}")
        try:
            machine = describe_machine(device, recipe)
        except DeviceError:
            raise
        except UsageError as error:
            raise ChangedError(f"node {host}: {error}") from error
        here = with_encoder_of(self.machine, machine)
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

    def _identity_there(self, layout: Layout, host: str) -> Mapping[str, str] | None:
        """The digests of the set as this node reads them; errors name the node and what it needs."""
        advice = (
            "every node of the cluster needs the variables of the store (credentials, AWS_ENDPOINT_URL) in the "
            "environment in which Ray was started there"
        )
        try:
            return read_identity(layout)
        except UsageError as error:
            if isinstance(error.__cause__, ImportError):  # the error says what to install
                advice = "every node of the cluster needs the same packages as the machine that runs the line"
            raise ChangedError(f"node {host}: {error}; {advice}") from None
        except StorageError as error:  # only of a bucket
            raise StorageError(f"node {host}: {error}; {advice}") from None

    def _check_classes(self, recipe: Recipe, host: str) -> None:
        """Raise ChangedError if a class that the recipe names is another one on this node, or cannot be used."""
        advice = (
            "put the same modules on PYTHONPATH of every node before Ray is started there (here: "
            f"{os.environ.get('PYTHONPATH') or 'not set'})"
        )
        try:
            here, changed = recipe.code_identity, changed_classes(recipe.catalogue.assets)
        except UsageError as error:
            raise ChangedError(f"node {host}: {error}; {advice}") from error
        if changed or any(self.identity[name] != digest for name, digest in here.items()):
            raise ChangedError(
                f"node {host} has other code of a class that the recipe names ({', '.join(recipe.class_paths)}), and "
                f"would make other pixels; {advice}"
            )
