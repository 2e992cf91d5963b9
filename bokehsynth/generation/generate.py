"""Makes a data set from a recipe in four steps: prepare, claim, make, complete.

What has to be made is decided here; where and when, by an engine. Run the same call again after any interruption and
only what is missing is made; run it on a finished set and nothing happens.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from bokehsynth.assets.catalogue import RejectedFile
from bokehsynth.errors import BokehsynthError, UsageError, printable
from bokehsynth.files import data_path
from bokehsynth.generation.batching import BatchOptions
from bokehsynth.generation.crash_log import CrashLog
from bokehsynth.generation.dataset_files import (
    check_identity,
    check_output_dir,
    lacks_conditions,
    missing_conditions,
    restore_records,
    write_description,
    write_root_files,
)
from bokehsynth.generation.devices import (
    WorkerAllocation,
    check_same_gpus,
    resolve_dataset_device,
)
from bokehsynth.generation.disk_space import check_free_space, largest_sample_pixels, typical_bytes
from bokehsynth.generation.engines import NodeCheck, allocate, make_engine, with_compiling_worker, with_renderers
from bokehsynth.generation.event_log import EventLog
from bokehsynth.generation.kernels import compile_kernels, left_to_worker
from bokehsynth.generation.machine_record import Machine, as_in_set, devices_of
from bokehsynth.generation.plan import (
    all_plans,
    check_shard_boundaries,
    is_complete,
    lock_ranges,
    sample_count,
    uncommitted,
)
from bokehsynth.generation.progress import RunMonitor
from bokehsynth.generation.provenance import describe_machine, png_encoder, require_png_package
from bokehsynth.generation.quarantine import QuarantinedDraw, import_list, merged_list
from bokehsynth.generation.shard_lock import set_up_lock, shard_lock
from bokehsynth.generation.shard_task import ShardTask
from bokehsynth.generation.stored_recipe import find_pictures, stored_recipe
from bokehsynth.recipe import Recipe, load_recipe
from bokehsynth.shards import (
    Layout,
    ShardPlan,
    common_identity,
    refuse_lost_hidden,
    shard_range,
    sweep_temporaries,
)
from bokehsynth.stores import StoredPath
from bokehsynth.workers.events import Engine
from bokehsynth.workers.supervisor import RunPolicy
from bokehsynth.workers.timeouts import TimeoutPolicy

if TYPE_CHECKING:
    from typing_extensions import Unpack

    class GenerateKeywords(TypedDict, total=False):
        """The keywords of `generate`, for type checkers: fields of `GenerateOptions`, which says what each does."""

        workers: int | None
        device: str
        engine: str
        ray_address: str | None
        gpus: int | None
        shards: str
        allow_mixed: bool
        quarantine: str | Path | None
        grace: float
        time_limit: float | None
        lock: bool
        progress: bool
        say: Callable[[str], None]


GRACE = 25.0
"""Seconds that shards in flight get after SIGTERM: spot machines and clusters give 30."""

REJECTIONS_SHOWN = 10
"""Asset files in quarantine that are named while running; all of them stand in quarantine.jsonl."""


@dataclass(frozen=True)
class GenerateResult:
    """What a call to `generate` found and did."""

    out: StoredPath
    samples: int
    """Samples of the whole data set."""
    made: int
    """Samples made by this call."""
    complete: bool
    """Whether every shard of the data set is committed and `dataset.json` is written."""
    notes: tuple[str, ...] = ()
    quarantined: tuple[QuarantinedDraw, ...] = ()
    """Draws of samples of this range that are in quarantine, by this call or earlier."""
    rejected: tuple[RejectedFile, ...] = ()
    """Files among the assets that cannot be used."""

    @property
    def exit_code(self) -> int:
        """3 if anything is in quarantine, else 0."""
        return 3 if self.quarantined or self.rejected else 0


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """How to make a data set; nothing here changes a byte of it."""

    workers: int | None = None
    """Processes; None: the CPUs this process may use, on `cuda` less one for each GPU, whose process renders for them;
    where workers render by themselves (one CPU per GPU, engine `ray`) one per two CPUs, at least one per GPU; in a Ray
    cluster that is there already, as many as there is room for."""
    device: str = "auto"
    """`auto`: that of the set where it is begun, else CUDA when it works, else the CPU."""
    engine: str = "local"
    """Where the workers run: `local`, or `ray`, a Ray cluster (extra `ray`)."""
    ray_address: str | None = None
    """With engine `ray`: the cluster to join, `auto` or HOST:PORT; None: the one that the program is connected to, that
    of RAY_ADDRESS, or one started for the run."""
    gpus: int | None = None
    """On `cuda`, how many of the visible GPUs are used; None: all."""
    batching: BatchOptions | None = None
    """How each worker makes its samples; None: one after the other on the CPU, on `cuda` so that the GPU is busy."""
    shards: str = "0/1"
    """`I/N`: only the I-th of N ranges of the shards, zero-based; the run that finds all committed completes it."""
    allow_mixed: bool = False
    """Go on with other versions, or another kind of CPU or device, than the set was begun with."""
    quarantine: str | Path | None = None
    """A quarantine.jsonl of another run of this recipe, whose list is taken over."""
    grace: float = GRACE
    """Seconds for shards in flight after a signal."""
    time_limit: float | None = None
    """Seconds after which a worker that finished no sample is ended; None: by the running median, at least 20, with
    engine `ray` 90."""
    lock: bool = True
    """Hold locks against other runs; without them (a file system that has none), nothing else may work on the set."""
    progress: bool = False
    """Show a bar on stderr."""
    say: Callable[[str], None] = lambda message: None
    """Receives messages for the user."""

    def make_engine(self, allocation: WorkerAllocation) -> Engine:
        """The engine that these options ask for; a UsageError if they cannot be."""
        if (self.time_limit is not None and self.time_limit <= 0) or self.grace < 0:
            raise UsageError(f"time_limit must be above 0 and grace 0 or more, got {self.time_limit}, {self.grace}")
        timeouts = TimeoutPolicy(factor=TimeoutPolicy.factor * allocation.threads)  # threads share one median
        if self.time_limit is not None:
            timeouts = TimeoutPolicy.constant(self.time_limit)
        policy = RunPolicy(timeouts, self.grace)
        return make_engine(self.engine, self.ray_address, self.workers, allocation, policy)


def generate(
    recipe: Recipe | str | Path, out: str | StoredPath, **options: "Unpack[GenerateKeywords]"
) -> GenerateResult:
    """Make a data set in the folder or bucket (`s3://bucket/folder`) `out`, or go on with it.

    `options` are the fields of `GenerateOptions` (in this module), which says what each does: workers, device, engine,
    ray_address, gpus, shards, allow_mixed, quarantine, grace, time_limit, lock, progress, say.

    The bytes do not depend on workers, ranges, order or interruptions. Raises ChangedError if `out` belongs to
    another recipe, LockedError if another run has these shards, StorageError where the disk refuses,
    FailureBudgetError if too much fails; committed shards stay valid whatever happens.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    return run_generation(recipe, Layout(data_path(out)), GenerateOptions(**options))


_KEYWORDS = [parameter for parameter in signature(GenerateOptions).parameters.values() if parameter.name != "batching"]
_POSITIONAL = list(signature(generate).parameters.values())[:2]
generate.__signature__ = signature(generate).replace(parameters=_POSITIONAL + _KEYWORDS)  # type: ignore[attr-defined]
"""Every option with its default, for `help`."""


@dataclass(frozen=True)
class _Run:
    """A prepared run: what the options mean for this recipe, folder and machine."""

    recipe: Recipe
    layout: Layout
    options: GenerateOptions
    device: str
    allocation: WorkerAllocation
    engine: Engine
    identity: dict[str, str]
    """Digests of recipe, assets and code; to know them, the assets were indexed."""
    machine: Machine
    begun: bool
    """Whether the set was there, and its files were of this format."""
    everything: list[ShardPlan]
    """All shards of the data set."""
    shards: list[ShardPlan]
    """Those of this run's range."""


def run_generation(recipe: Recipe, layout: Layout, options: GenerateOptions) -> GenerateResult:
    """`generate`, with its options as one object."""
    run = _prepare(recipe, layout, options)
    with shard_lock(run.layout.lock, lock_ranges(run.shards), options.lock):
        todo = _claim(run)
        if todo is None:
            return _result(recipe, layout, run.shards, run.everything, made=0, complete=True)
        _make_shards(run, todo)
        complete = _complete(run)
    return _result(recipe, layout, run.shards, run.everything, sample_count(todo), complete)


def _prepare(recipe: Recipe, layout: Layout, options: GenerateOptions) -> _Run:
    """Resolve device, workers, assets and plan, and check them against `out`; nothing is written."""
    device, allocation, engine = choose_engine(recipe, layout, options)
    identity = recipe.identity
    everything = all_plans(recipe, layout)
    shards = shard_range(everything, options.shards)
    machine = describe_machine(device, recipe)
    check_same_gpus(machine, options.allow_mixed)
    begun = check_output_dir(layout, recipe, machine, options.allow_mixed)
    return _Run(recipe, layout, options, device, allocation, engine, identity, machine, begun, everything, shards)


def choose_engine(recipe: Recipe, layout: Layout, options: GenerateOptions) -> tuple[str, WorkerAllocation, Engine]:
    """The device of a run, what its workers get, and its engine; UsageError where there is none."""
    device = resolve_dataset_device(options.device, devices_of(layout), layout.root, options.allow_mixed)
    device = recipe.device_for(options.device, device)
    allocation = allocate(options.engine, options.ray_address, device, options.workers, options.gpus)
    return device, allocation, options.make_engine(allocation)


def _claim(run: _Run) -> list[ShardPlan] | None:
    """Under the shard lock: write the files beside the shards and return the shards to make; None if all is done."""
    layout, quarantine = run.layout, run.options.quarantine
    with set_up_lock(layout.lock, run.options.lock):
        # Another run may have begun the set between `_prepare` and the lock.
        check_output_dir(layout, run.recipe, run.machine, run.options.allow_mixed, formats=not run.begun)
        check_shard_boundaries(layout, run.everything)
        absent = set(uncommitted(layout, run.everything, run.identity))
        if not absent and quarantine is None and is_complete(layout, run.everything):
            return None
        for lens in run.recipe.lenses:
            lens.check_tables(run.recipe.frame)
        todo = [plan for plan in run.shards if plan in absent]
        if todo:  # before anything ties the folder to this recipe
            check_free_space(layout, todo, typical_bytes(run.recipe))
        if layout.remote and not layout.identity.is_file():  # logs of another set that had this URL, since deleted
            for plan in run.shards:
                CrashLog(layout.crash_log(plan)).delete()
        write_root_files(layout, run.recipe, run.everything, run.machine, run.options.allow_mixed)
        if note := missing_conditions(layout):
            run.options.say(f"note: {note}")
            _check_again(run)
        if quarantine is not None:
            import_list(layout, Path(quarantine), run.shards, set(run.shards) - absent)
    sweep_temporaries(layout, run.shards)  # of runs that were killed
    say, rejected = run.options.say, run.recipe.catalogue.quarantine
    for note in run.recipe.catalogue.notes:
        say(f"note: {printable(note)}")
    for file in rejected[:REJECTIONS_SHOWN]:
        say(f"quarantined ({file.reason}): {printable(file.message)}")
    if len(rejected) > REJECTIONS_SHOWN:
        say(f"... and {len(rejected) - REJECTIONS_SHOWN} more in quarantine.jsonl")
    return todo


def _check_again(run: _Run) -> None:
    """Raise ChangedError if another recipe has been put over this one, as a bucket without conditions lets it be.

    Two machines that both found the place empty both write: whose files have not stayed learns it here.
    """
    check_output_dir(run.layout, run.recipe, run.machine, run.options.allow_mixed, formats=False)


def _make_shards(run: _Run, todo: list[ShardPlan]) -> None:
    """Have shards made; raises as soon as enough has failed, or at the end if anything has."""
    if not todo:
        return
    to_worker = run.options.engine == "local" and left_to_worker(run.engine.workers, run.device)
    if not to_worker:
        compile_kernels(run.recipe, run.device)
    if run.allocation.note:
        run.options.say(f"note: {run.allocation.note}")
    log = EventLog(run.layout, run.options.say)
    monitor = RunMonitor(run.recipe, run.layout, todo, log)
    log.write("started", shards=run.options.shards, workers=run.engine.workers, missing=len(todo), of=len(run.shards))
    recipe, nodes = run.recipe, None
    machine = as_in_set(run.layout, run.machine)  # only now is it settled which machine began the set
    if run.options.engine != "local":
        recipe = recipe.without_derived()
        nodes = NodeCheck(machine, run.identity, run.options.allow_mixed, run.options.lock)
    task = ShardTask(
        recipe, run.layout, run.device, _batching(run), nodes, compiles=to_worker,
        encode_png=png_encoder(machine), served=run.allocation.served,
    )  # fmt: skip
    engine = with_renderers(run.engine, run.allocation, run.recipe, run.device, run.options.time_limit)
    if to_worker:
        engine = with_compiling_worker(engine)
    try:
        bar = monitor.bar(sample_count(run.shards), run.options.progress)
        with bar, closing(engine.run(task, todo)) as events:
            for event in events:
                monitor.handle(event)
        monitor.raise_if_failed()
    except BaseException as error:
        log.write("stopped", error=type(error).__name__, message=str(error))
        raise
    log.write("finished")


def _batching(run: _Run) -> BatchOptions:
    """How each worker makes its samples."""
    if run.options.batching is not None:
        return run.options.batching
    if run.device != "cuda":
        return BatchOptions()
    pixels = largest_sample_pixels(run.recipe)
    return (
        BatchOptions.served(pixels)
        if run.allocation.served
        else BatchOptions.for_device(run.allocation.threads, pixels)
    )


def _complete(run: _Run) -> bool:
    """Clean up after this range; if no shard of the set is missing, describe it. Returns whether that is so."""
    layout = run.layout
    sweep_temporaries(layout, run.shards)  # of workers that were killed and replaced
    with set_up_lock(layout.lock, run.options.lock):
        if lacks_conditions(layout):
            _check_again(run)
        absent = uncommitted(layout, run.everything, run.identity)
        lost = [plan for plan in absent if plan in run.shards]
        if lost:
            raise BokehsynthError(f"{layout.root}: {lost[0].name} was committed and is gone; run the same line again")
        for plan in run.shards:
            CrashLog(layout.crash_log(plan)).delete()  # of workers that were killed between marker and log
        if not absent:
            write_description(layout, run.recipe, run.everything)
    return not absent


def _result(
    recipe: Recipe, layout: Layout, shards: list[ShardPlan], everything: list[ShardPlan], made: int, complete: bool
) -> GenerateResult:
    assets, quarantined = recipe.catalogue, tuple(merged_list(layout, shards))
    return GenerateResult(
        layout.root, sample_count(everything), made, complete, assets.notes, quarantined, assets.quarantine
    )


def finalize(
    out: str | StoredPath, trust_code: bool = False, lock: bool = True, overrides: Sequence[str] = ()
) -> GenerateResult:
    """Write `dataset.json`, card and preview of a data set whose shards are all there; else say which are missing.

    `trust_code` and `overrides` as in `stored_recipe`, `lock` as in `GenerateOptions`.
    """
    require_png_package()
    layout = Layout(data_path(out))
    refuse_lost_hidden(layout)
    recipe = stored_recipe(layout, trust_code, overrides)
    find_pictures(layout, recipe)
    check_identity(layout, recipe, common_identity(layout))
    everything = all_plans(recipe, layout)
    check_shard_boundaries(layout, everything)
    absent = [plan.name for plan in uncommitted(layout, everything, recipe.identity)]
    if absent:
        raise UsageError(
            f"{layout.root}: {len(absent)} of {len(everything)} shards are not committed yet: {', '.join(absent[:8])}"
            f"{' ...' if len(absent) > 8 else ''}; run the generate line again to make them"
        )
    with set_up_lock(layout.lock, lock):
        restore_records(layout)
        write_root_files(layout, recipe, everything, machine=None)
        write_description(layout, recipe, everything)
    return _result(recipe, layout, everything, everything, made=0, complete=True)
