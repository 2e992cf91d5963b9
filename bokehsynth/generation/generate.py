"""From a recipe to a whole data set: plan, guard, lock, resume, quarantine, commit, finish.

This room says what has to be made; an engine says where and when. Run the same call again after any interruption and
only what is missing is made; run it on a finished set and nothing happens.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from bokehsynth.assets.catalogue import Catalogue, RejectedFile
from bokehsynth.assets.load import foreground_colors
from bokehsynth.errors import BokehsynthError, UsageError
from bokehsynth.generation.batching import Flow
from bokehsynth.generation.crash_log import Trail
from bokehsynth.generation.dataset_files import (
    devices_of,
    finish,
    guard_output,
    is_described,
    restore_records,
    write_root_files,
)
from bokehsynth.generation.devices import Crew, check_alike, crew_for, settle_device
from bokehsynth.generation.disk_space import check_room, largest_of, typical_bytes
from bokehsynth.generation.event_log import Journal
from bokehsynth.generation.plan import all_plans, check_cut, count, lock_ranges, missing, range_of
from bokehsynth.generation.progress import Watch
from bokehsynth.generation.provenance import describe_machine
from bokehsynth.generation.quarantine import GivenUp, adopt, whole_list
from bokehsynth.generation.shard_lock import set_up_lock, shard_lock
from bokehsynth.generation.shard_task import ShardMaker
from bokehsynth.recipe import Recipe, load_recipe
from bokehsynth.shards import Layout, ShardPlan, sweep_temporaries
from bokehsynth.workers import LocalEngine, Patience, signals

GRACE = 25.0
"""Seconds that shards in flight get after SIGTERM: spot machines and clusters give 30."""

QUARANTINE_SHOWN = 10
"""Files in quarantine that are named while running; all of them stand in quarantine.jsonl."""


@dataclass(frozen=True)
class Outcome:
    """What a call to `generate` found and did."""

    out: Path
    samples: int
    """In the whole data set."""
    made: int
    """Samples made by this call."""
    complete: bool
    """Whether every shard of the data set is committed and `dataset.json` is written."""
    notes: tuple[str, ...] = field(default=())
    given_up: tuple[GivenUp, ...] = field(default=())
    """Draws of samples of this range that are in quarantine, by this call or earlier."""
    refused: tuple[RejectedFile, ...] = field(default=())
    """Files among the assets that cannot be used."""

    @property
    def exit_code(self) -> int:
        """3 if anything is in quarantine, else 0."""
        return 3 if self.given_up or self.refused else 0


@dataclass(frozen=True, kw_only=True)
class Run:
    """How to make a data set; nothing here changes a byte of it."""

    workers: int | None = None
    """Processes; None: the CPUs this process may use, on `cuda` half as many and at least one per GPU."""
    device: str = "auto"
    """`auto`: that of the set where it is begun, else CUDA when it works, else the CPU."""
    gpus: int | None = None
    """On `cuda`, how many of the visible GPUs are used; None: all."""
    flow: Flow | None = None
    """How each worker makes its samples; None: one after the other on the CPU, on `cuda` so that the GPU is busy."""
    shards: str = "0/1"
    """`I/N`: only the I-th of N ranges of the shards, zero-based."""
    allow_mixed: bool = False
    """Go on with other versions, or another kind of CPU or device, than the set was begun with."""
    quarantine: str | Path | None = None
    """A quarantine.jsonl of another run of this recipe, whose list is taken over."""
    grace: float = GRACE
    """Seconds for shards in flight after a signal."""
    time_limit: float | None = None
    """Seconds after which a worker that finished no sample is ended; None: by the running median."""
    progress: bool = False
    """Show a bar on stderr."""
    say: Callable[[str], None] = lambda message: None
    """Receives remarks for the user."""

    def engine(self, crew: Crew) -> LocalEngine:
        """The engine that these options ask for; a UsageError if they cannot be."""
        if (self.time_limit is not None and self.time_limit <= 0) or self.grace < 0:
            raise UsageError(f"time_limit must be above 0 and grace 0 or more, got {self.time_limit}, {self.grace}")
        usual = Patience(times=Patience.times * crew.threads)  # threads share a pace, and each sample has but one
        patience = usual if self.time_limit is None else Patience.fixed(self.time_limit)
        return LocalEngine(crew.workers, patience, self.grace, environments=crew.environments)


def generate(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    device: str = "auto",
    gpus: int | None = None,
    shards: str = "0/1",
    allow_mixed: bool = False,
    quarantine: str | Path | None = None,
    grace: float = GRACE,
    time_limit: float | None = None,
    progress: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> Outcome:
    """Make a data set in the directory `out`, or go on with it.

    `workers` processes (default: the CPUs this process may use) share the shards; `shards="I/N"` makes only the I-th
    of N equal ranges, zero-based, and whoever sees all shards committed finishes the set. On `device="cuda"` the
    workers (default: half as many, at least one per GPU) share `gpus` of the visible GPUs (default: all); `auto` is
    CUDA when it works, and for a set that was begun, what it was begun on. `allow_mixed` lets a data set go on with
    other versions, or another kind of CPU or device, than it was begun with; `quarantine` takes over the list of
    another run of the same recipe. A worker that finishes no sample for `time_limit` seconds (default: by the running
    median) is ended; after a signal, shards in flight get `grace` seconds. `progress` shows a bar on stderr; `say`
    receives remarks for the user.

    The bytes do not depend on workers, ranges, order or interruptions. Raises ChangedError if `out` belongs to
    another recipe, LockedError if another run has these shards, StorageError where the disk refuses,
    FailureBudgetError if too much fails; committed shards stay valid whatever happens.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    run = Run(
        workers=workers, device=device, gpus=gpus, shards=shards, allow_mixed=allow_mixed, quarantine=quarantine,
        grace=grace, time_limit=time_limit, progress=progress, say=say,
    )  # fmt: skip
    return carry_out(recipe, Layout(Path(out)), run)


def carry_out(recipe: Recipe, layout: Layout, run: Run) -> Outcome:
    """`generate`, with its options in one piece."""
    device = settle_device(run.device, devices_of(layout), layout.root, run.allow_mixed)
    crew = crew_for(device, run.workers, run.gpus)
    engine = run.engine(crew)
    recipe.identity  # noqa: B018  # indexes the assets: what is wrong with them is said before anything is written
    everything = all_plans(recipe, layout)
    mine = range_of(everything, run.shards)
    machine = describe_machine(device)
    check_alike(machine, run.allow_mixed)
    guard_output(layout, recipe, machine, run.allow_mixed)
    lock = layout.hidden / "run.lock"
    with shard_lock(lock, lock_ranges(mine)):
        with set_up_lock(lock):
            guard_output(layout, recipe, machine, run.allow_mixed)  # again: another run may have begun in between
            check_cut(layout, everything)
            whole = is_described(layout, everything) and not missing(layout, recipe, everything)
            if whole and run.quarantine is None:
                return _outcome(recipe, layout, mine, everything, made=0, complete=True)
            write_root_files(layout, recipe, everything, machine)
            todo = missing(layout, recipe, mine)
            if run.quarantine is not None:
                adopt(layout, Path(run.quarantine), mine, set(mine) - set(todo))
        sweep_temporaries(layout, mine)
        _say_notes(recipe.catalogue, run.say)
        if todo:
            flow = run.flow or (Flow.for_device(crew.threads, largest_of(recipe)) if device == "cuda" else Flow())
            _make(ShardMaker(recipe, layout, device, flow), todo, mine, engine, run)
        sweep_temporaries(layout, mine)  # of workers that were killed and replaced
        left = missing(layout, recipe, mine)
        if left:
            raise BokehsynthError(f"{layout.root}: {left[0].name} was committed and is gone; run the same line again")
        for plan in mine:
            Trail(layout.trail(plan)).forget()  # of workers that were killed between marker and trail
        with set_up_lock(lock):
            complete = not missing(layout, recipe, everything)
            if complete:
                finish(layout, recipe, everything)
    return _outcome(recipe, layout, mine, everything, count(todo), complete)


def _make(task: ShardMaker, todo: list[ShardPlan], mine: list[ShardPlan], engine: LocalEngine, run: Run) -> None:
    """Have shards made; raises as soon as enough has failed, or at the end if anything has."""
    check_room(task.layout, todo, typical_bytes(task.recipe))
    with signals.held_back():
        from bokehsynth.rendering.cpu import renderer as cpu

        cpu.warm_up()
        if task.device == "cuda":
            from bokehsynth.rendering.cuda import renderer as cuda

            cuda.warm_up()
        if any(asset.colors == "photographed" for asset in task.recipe.catalogue.assets):
            foreground_colors.warm_up()
    watch = Watch(task.recipe, task.layout, todo, Journal(task.layout, run.say))
    watch.journal.write("started", shards=run.shards, workers=engine.workers, missing=len(todo), of=len(mine))
    try:
        with watch.bar(count(mine), run.progress), closing(engine.run(task, todo)) as events:
            for event in events:
                watch.take(event)
        watch.judge()
    except BaseException as error:
        watch.journal.write("stopped", error=type(error).__name__, message=str(error))
        raise
    watch.journal.write("finished")


def _outcome(
    recipe: Recipe, layout: Layout, mine: list[ShardPlan], everything: list[ShardPlan], made: int, complete: bool
) -> Outcome:
    assets, given_up = recipe.catalogue, tuple(whole_list(layout, mine))
    return Outcome(layout.root, count(everything), made, complete, assets.notes, given_up, assets.quarantine)


def _say_notes(catalogue: Catalogue, say: Callable[[str], None]) -> None:
    for note in catalogue.notes:
        say(f"note: {note}")
    for refused in catalogue.quarantine[:QUARANTINE_SHOWN]:
        say(f"quarantined ({refused.reason}): {refused.message}")
    if len(catalogue.quarantine) > QUARANTINE_SHOWN:
        say(f"... and {len(catalogue.quarantine) - QUARANTINE_SHOWN} more in quarantine.jsonl")


def finalize(out: str | Path) -> Outcome:
    """Write `dataset.json`, card and preview of a data set whose shards are all there; else say which are missing."""
    layout = Layout(Path(out))
    recipe = stored_recipe(layout)
    everything = all_plans(recipe, layout)
    check_cut(layout, everything)
    absent = [plan.name for plan in missing(layout, recipe, everything)]
    if absent:
        raise UsageError(
            f"{layout.root}: {len(absent)} of {len(everything)} shards are not committed yet: {', '.join(absent[:8])}"
            f"{' ...' if len(absent) > 8 else ''}; run the generate line again to make them"
        )
    with set_up_lock(layout.hidden / "run.lock"):
        restore_records(layout)
        write_root_files(layout, recipe, everything, machine=None)
        finish(layout, recipe, everything)
    return _outcome(recipe, layout, everything, everything, made=0, complete=True)


def stored_recipe(layout: Layout) -> Recipe:
    """The recipe of the data set at `layout`; a UsageError if there is none."""
    if not layout.recipe.is_file():
        raise UsageError(f"{layout.root}: holds no recipe.yaml; it is not a data set of bokehsynth")
    return load_recipe(layout.recipe)
