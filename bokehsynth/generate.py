"""From a recipe to a whole data set: plan, guard, lock, resume, commit, finish.

This room says what has to be made; an engine says where and when. Run the same call again after any interruption and
only what is missing is made; run it on a finished set and nothing happens.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from bokehsynth.assets import colors
from bokehsynth.assets.catalogue import Catalogue
from bokehsynth.engines import Done, Failed, Progress, Report, default_workers, run_local, stopping
from bokehsynth.errors import BokehsynthError, FailureBudgetError, StorageError, UsageError
from bokehsynth.lock import set_up_lock, shard_lock
from bokehsynth.machine import describe_machine
from bokehsynth.pipeline import make_sample
from bokehsynth.recipe import Recipe, load_recipe
from bokehsynth.render import resolve_device
from bokehsynth.root_files import finish, guard_output, verify_root, write_root_files
from bokehsynth.schema import Sample
from bokehsynth.shards import (
    Fault,
    Layout,
    ShardMarker,
    ShardPlan,
    VerifyReport,
    find_shard,
    plan_shards,
    sweep_temporaries,
    verify_dataset,
    write_shard,
)

FAILURES_ALLOWED = 0.05
"""Share of the planned shards (at least two) that may fail before a run gives up."""

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
    quarantined: int = 0
    """Files of photographs that could not be used; `quarantine.jsonl` says why."""


@dataclass(frozen=True)
class ShardMaker:
    """The task of a worker: make the samples of one shard and commit them."""

    recipe: Recipe
    layout: Layout
    device: str

    def __call__(self, plan: ShardPlan, report: Report) -> ShardMarker:
        """Make and commit one shard."""
        return write_shard(self.layout, plan, self._samples(plan, report), self.recipe.shards, self.recipe.identity)

    def _samples(self, plan: ShardPlan, report: Report) -> Iterator[Sample]:
        for index in range(plan.first, plan.first + plan.count):
            yield make_sample(self.recipe, index, plan.split, self.device)
            report(1)


def generate(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    device: str = "auto",
    shards: str = "0/1",
    allow_mixed: bool = False,
    progress: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> Outcome:
    """Make a data set in the directory `out`, or go on with it.

    `workers` processes (default: the CPUs this process may use) share the shards; `shards="I/N"` makes only the I-th
    of N equal ranges, zero-based, and whoever sees all shards committed finishes the set. `allow_mixed` lets a data
    set go on with other versions or another kind of CPU than it was begun with. `progress` shows a bar on stderr;
    `say` receives remarks for the user.

    The bytes do not depend on workers, ranges, order or interruptions. Raises ChangedError if `out` belongs to
    another recipe, LockedError if another run has these shards, StorageError where the disk refuses,
    FailureBudgetError if too many shards fail; committed shards stay valid whatever happens.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    device = resolve_device(device)
    workers = default_workers() if workers is None else workers
    if workers < 1:
        raise UsageError(f"workers must be at least 1, got {workers}")
    recipe.identity  # noqa: B018  # indexes the assets: what is wrong with them is said before anything is written
    layout = Layout(Path(out))
    everything = all_plans(recipe)
    mine = _range_of(everything, shards)
    machine = describe_machine(device)
    guard_output(layout, recipe, machine, allow_mixed)
    lock = layout.hidden / "run.lock"
    with shard_lock(lock, _lock_ranges(mine)):
        with set_up_lock(lock):
            guard_output(layout, recipe, machine, allow_mixed)  # again: another run may have begun in between
            if layout.dataset.exists() and not _missing(layout, recipe, everything):
                return _outcome(recipe, layout, everything, 0, True)
            write_root_files(layout, recipe, machine)
        sweep_temporaries(layout, mine)
        _say_notes(recipe.catalogue, say)
        missing = _missing(layout, recipe, mine)
        done = _count(mine) - _count(missing)
        _run(ShardMaker(recipe, layout, device), missing, workers, (done, _count(mine)), progress)
        sweep_temporaries(layout, mine)  # of workers that were killed and replaced
        with set_up_lock(lock):
            complete = not _missing(layout, recipe, everything)
            if complete:
                finish(layout, recipe, everything)
    return _outcome(recipe, layout, everything, _count(missing), complete)


def _outcome(recipe: Recipe, layout: Layout, everything: list[ShardPlan], made: int, complete: bool) -> Outcome:
    catalogue = recipe.catalogue
    return Outcome(layout.root, _count(everything), made, complete, catalogue.notes, len(catalogue.quarantine))


def finalize(out: str | Path) -> Outcome:
    """Write `dataset.json`, card and preview of a data set whose shards are all there; else say which are missing."""
    layout = Layout(Path(out))
    if not layout.recipe.is_file():
        raise UsageError(f"{layout.root}: holds no recipe.yaml; it is not a data set of bokehsynth")
    recipe = load_recipe(layout.recipe)
    everything = all_plans(recipe)
    missing = [plan.name for plan in _missing(layout, recipe, everything)]
    if missing:
        raise UsageError(
            f"{layout.root}: {len(missing)} of {len(everything)} shards are not committed yet: {', '.join(missing[:8])}"
            f"{' ...' if len(missing) > 8 else ''}; run the generate line again to make them"
        )
    with set_up_lock(layout.hidden / "run.lock"):
        write_root_files(layout, recipe, machine=None)
        finish(layout, recipe, everything)
    return Outcome(layout.root, _count(everything), 0, complete=True)


def verify(out: str | Path, decode: float = 1.0, workers: int = 1, fix: bool = False) -> VerifyReport:
    """Check every byte of a data set, and the files beside its shards against what the shards were made from.

    With `fix`, the markers of damaged shards and dataset.json are taken away, so that the next `generate` makes just
    those shards again and writes all files beside them; no shard is deleted. Raises LockedError if a run is working
    on one of them.
    """
    layout = Layout(Path(out))
    report = verify_dataset(out, decode=decode, workers=workers)
    report.faults += [Fault("", None, "beside the shards", message) for message in verify_root(layout)]
    if fix and not report.ok:
        lock = layout.hidden / "run.lock"
        by_split = {split: [shard for s, shard in report.broken() if s == split] for split, _ in report.broken()}
        with shard_lock(lock, {s: (min(n), max(n)) for s, n in by_split.items()}), set_up_lock(lock):
            for split, shard in report.broken():
                layout.marker(ShardPlan(split, shard, 0, 1)).unlink(missing_ok=True)
            layout.dataset.unlink(missing_ok=True)
    return report


def all_plans(recipe: Recipe) -> list[ShardPlan]:
    """Every shard of a data set, split by split."""
    return [plan for split in recipe.splits for plan in plan_shards(split, recipe.count(split), recipe.shards.samples)]


def _missing(layout: Layout, recipe: Recipe, plans: list[ShardPlan]) -> list[ShardPlan]:
    return [plan for plan in plans if find_shard(layout, plan, recipe.identity) is None]


def _run(task: ShardMaker, missing: list[ShardPlan], workers: int, standing: tuple[int, int], progress: bool) -> None:
    """Have the missing shards made; raises once enough has failed, or at the end if anything has."""
    if not missing:
        return
    with stopping.held_back():
        from bokehsynth.render import cpu

        cpu.warm_up()
        if any(asset.colors == "photographed" for asset in task.recipe.catalogue.assets):
            colors.warm_up()
    done, total = standing
    failures: list[Failed] = []
    allowed = max(2, int(FAILURES_ALLOWED * len(missing)))
    with tqdm(
        total=total, initial=done, unit="sample", disable=not progress, dynamic_ncols=True, smoothing=0.05
    ) as bar:
        for event in run_local(task, missing, min(workers, len(missing))):
            stopping.check()
            match event:
                case Progress(units=units):
                    bar.update(units)
                case Done():
                    _log(task.layout, event)
                case Failed(error=error):
                    failures.append(event)
                    _log(task.layout, event)
                    if isinstance(error, StorageError):
                        raise error
                    if len(failures) > allowed:
                        raise FailureBudgetError(
                            f"{len(failures)} shards failed, so the run stops. {_account(failures)}"
                        )
    if len(failures) == len(missing):
        raise FailureBudgetError(f"every one of the {len(missing)} shards failed. {_account(failures)}")
    if failures:
        raise BokehsynthError(f"{len(failures)} of {len(missing)} shards failed. {_account(failures)}")


def _account(failures: list[Failed]) -> str:
    first = failures[0]
    return (
        f"{first.spec.name}: {type(first.error).__name__}: {first.error}. What was committed stays valid; details "
        f"stand in logs/events.jsonl; run the same line again to make the rest"
    )


def _log(layout: Layout, event: Done | Failed) -> None:
    """One line per shard: the only place for times, hosts and attempts. A log that cannot be written stops nothing."""
    record = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": os.uname().nodename,
        "shard": event.spec.name,
        "attempts": event.attempts,
    }
    if isinstance(event, Done):
        record |= {"event": "committed", "seconds": round(event.seconds, 3)}
    else:
        record |= {"event": "failed", "error": str(event.error), "trace": event.trace}
    try:
        with open(layout.logs / "events.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        tqdm.write(f"warning: {layout.logs}: {error.strerror}; the run goes on without its log")


def _range_of(plans: list[ShardPlan], shards: str) -> list[ShardPlan]:
    """The I-th of N nearly equal consecutive ranges of the shards."""
    number, slash, of = shards.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise UsageError(f"--shards must be I/N with 0 <= I < N, for example 0/3; got {shards!r}")
    i, n = int(number), int(of)
    return plans[len(plans) * i // n : len(plans) * (i + 1) // n]


def _lock_ranges(plans: list[ShardPlan]) -> dict[str, tuple[int, int]]:
    ranges: dict[str, tuple[int, int]] = {}
    for plan in plans:
        first, last = ranges.get(plan.split, (plan.shard, plan.shard))
        ranges[plan.split] = (min(first, plan.shard), max(last, plan.shard))
    return ranges


def _count(plans: list[ShardPlan]) -> int:
    return sum(plan.count for plan in plans)


def _say_notes(catalogue: Catalogue, say: Callable[[str], None]) -> None:
    for note in catalogue.notes:
        say(f"note: {note}")
    for refused in catalogue.quarantine[:QUARANTINE_SHOWN]:
        say(f"quarantined ({refused.reason}): {refused.message}")
    if len(catalogue.quarantine) > QUARANTINE_SHOWN:
        say(f"... and {len(catalogue.quarantine) - QUARANTINE_SHOWN} more in quarantine.jsonl")
