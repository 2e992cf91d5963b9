"""Audit a data set: random samples are made again from its recipe, and a bound on the others follows.

The samples are chosen after the set was made, so that a change to some of them cannot avoid the ones that are looked
at. The recipe, not the sample's own record, says what each must be.
"""

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bokehsynth.config.user_code import user_code
from bokehsynth.errors import DataError, UsageError
from bokehsynth.files import data_path
from bokehsynth.generation.dataset_files import check_identity
from bokehsynth.generation.plan import all_plans, read_extensions
from bokehsynth.generation.quarantine import first_attempt, read_shard_list
from bokehsynth.generation.replay import check_size, differing_pixels, replay_device
from bokehsynth.generation.stored_recipe import find_pictures, stored_recipe
from bokehsynth.pipeline import sample_from_draw, scene_renderer
from bokehsynth.recipe import Recipe
from bokehsynth.sample_checks import NOT_RETRYABLE
from bokehsynth.sample_draw import draw_sample
from bokehsynth.schema import Sample
from bokehsynth.shards import Layout, ShardDataset, check_totals, read_dataset, stored_plans
from bokehsynth.stores import StoredPath

CONFIDENCE = 0.95
RECORD = "its record"
"""Stands among the fields of a sample for its JSON record."""
NOT_MADE = "the recipe makes no such sample"
"""Stands there where the draw of the sample raises, as it must have done when the set was made."""

WORDS = {RECORD, NOT_MADE}

Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Shows how far a loop is: what it goes over, its name, and how many there are."""


@dataclass
class AuditReport:
    """What an audit looked at and found."""

    total: int
    """Samples of the set."""
    audited: int = 0
    differing: dict[str, dict[str, int]] = field(default_factory=dict)
    """Per key of a sample that is not what the recipe makes: the pixels that differ of each field; RECORD and NOT_MADE
    count 1."""
    has_root: bool = True
    """Whether `dataset.json` has the root of the pixel hashes, which sets made before 0.5 lack."""

    @property
    def bound(self) -> float:
        """The share of samples that may differ at most, at CONFIDENCE; the very share where all were looked at."""
        if self.audited == self.total:
            return len(self.differing) / self.total
        return upper_bound(len(self.differing), self.audited)

    @property
    def sentence(self) -> str:
        """The result in words."""
        same = self.audited - len(self.differing)
        if self.audited == self.total:
            return f"{same} of all {self.total:,} samples are what the recipe makes"
        percent = rounded_up(100 * self.bound)
        return (
            f"{same} of {self.audited} samples are what the recipe makes: fewer than {percent:g} % of all "
            f"{self.total:,} differ, at {CONFIDENCE:.0%}"
        )


def audit(
    dataset: str | StoredPath,
    samples: int = 300,
    device: str = "auto",
    seed: int | None = None,
    trust_code: bool = False,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> AuditReport:
    """Make `samples` random samples of a finished set again, in this process, and compare records and pixels.

    Markers are compared with `dataset.json` first, and their pixel hashes with its root. `seed` chooses the same
    samples again; None: by chance, as an audit of others' sets has to. `device` as in `replay.replay_device`,
    `trust_code` and `overrides` as in `stored_recipe`. Raises DataError where `dataset.json` does not fit
    the shards, ChangedError where pictures or code are others than those of the set.
    """
    if samples < 1:
        raise UsageError(f"samples must be at least 1, got {samples}")
    layout = Layout(data_path(dataset))
    record = read_dataset(layout)
    splits = {split: ShardDataset(layout, split, record=record) for split in sorted(record["splits"])}
    has_root = check_totals(layout, record)
    recipe = stored_recipe(layout, trust_code, overrides)
    find_pictures(layout, recipe)
    check_identity(layout, recipe, record["identity"])
    refuse_missing(layout, recipe, record)
    total = sum(len(data) for data in splits.values())
    report = AuditReport(total, has_root=has_root)
    chance: random.Random = random.SystemRandom() if seed is None else random.Random(seed)
    chosen = sorted(chance.sample(range(total), min(samples, total)))
    render_scene = scene_renderer(replay_device(dataset, device)[1])
    with user_code(trust_code):
        for place in progress(chosen, "audit", len(chosen)) if progress else chosen:
            split, index = next(iter(splits)), place
            if index >= len(splits[split]):
                index, split = index - len(splits[split]), list(splits)[1]
            stored = splits[split][index]
            remade = _make(layout, recipe, splits[split], index, render_scene, trust_code)
            report.audited += 1
            if found := {NOT_MADE: 1} if remade is None else _differences(stored, remade):
                report.differing[stored.key] = found
    return report


def _make(
    layout: Layout, recipe: Recipe, data: ShardDataset, index: int, render_scene: Callable[..., Any], trust_code: bool
) -> Sample | None:
    """The sample that the recipe makes, by the first of its draws that is not in quarantine; None where that raises.

    What is no sample's fault (missing memory, a device that fails) passes through.
    """
    attempt = first_attempt(read_shard_list(layout, data.plan_of(index)), index)
    draw = draw_sample(recipe, index, data.split, attempt)
    if not trust_code:
        check_size(recipe, draw, f"{data.split} {index}")
    try:
        return sample_from_draw(recipe, draw, render_scene)
    except NOT_RETRYABLE:
        raise
    except Exception:
        return None


def refuse_missing(layout: Layout, recipe: Recipe, record: Mapping[str, Any]) -> None:
    """DataError unless `dataset.json` counts just the shards that the recipe has: a bound holds for those it counts."""
    counted = {plan for split in record["splits"] for plan in stored_plans(record, split)}
    planned = set(all_plans(recipe, layout))
    if counted == planned:
        return
    steps = read_extensions(layout)
    totals = {split: sum(plan.count for plan in counted if plan.split == split) for split in recipe.splits}
    if steps and totals == {split: steps[-1].get(split, 0) for split in recipe.splits}:
        raise DataError(
            f"{layout.root}: is being extended from {sum(totals.values()):,} samples to "
            f"{sum(map(recipe.count, recipe.splits)):,}: run the extend line again to its end first"
        )
    names = [plan.name for plan in sorted(counted ^ planned)]
    raise DataError(
        f"{layout.dataset}: {len(names)} shards are not those of {layout.recipe.name}, {', '.join(names[:5])}"
        f"{' ...' if len(names) > 5 else ''}: one of them was altered; `bokehsynth verify` tells more"
    )


def _differences(stored: Sample, remade: Sample) -> dict[str, int]:
    """For each field that differs the number of pixels; RECORD where the records do."""
    found = {name: differing_pixels(stored[name], remade[name]) for name in stored.arrays if name in remade.arrays}
    found |= dict.fromkeys(stored.arrays.keys() ^ remade.arrays.keys(), 1)
    found[RECORD] = int(dict(stored.meta) != dict(remade.meta))
    return {name: count for name, count in found.items() if count}


def upper_bound(found: int, looked_at: int, confidence: float = CONFIDENCE) -> float:
    """The largest share that `found` of `looked_at` random samples do not rule out (Clopper and Pearson 1934).

    One-sided and exact: the share p at which `found` or fewer would turn up with probability 1 - confidence. The
    samples are drawn without replacement, which can only make them tell more.
    """
    if found >= looked_at:
        return 1.0
    low, high = found / looked_at, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if _at_most(found, looked_at, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _at_most(found: int, looked_at: int, share: float) -> float:
    """Probability of `found` or fewer among `looked_at`, each with probability `share`."""
    if share >= 1:
        return float(found >= looked_at)
    if share <= 0:
        return 1.0
    logs = (
        math.lgamma(looked_at + 1) - math.lgamma(k + 1) - math.lgamma(looked_at - k + 1)
        + k * math.log(share) + (looked_at - k) * math.log1p(-share)
        for k in range(found + 1)
    )  # fmt: skip
    return math.fsum(math.exp(value) for value in logs)


def rounded_up(value: float) -> float:
    """A number with two digits that is no smaller: a bound must not shrink by rounding."""
    if value <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / step - 1e-9) * step


def refuse_differences(dataset: object, report: AuditReport) -> None:
    """DataError that names the first samples that are not what the recipe makes, if there are any."""
    if report.differing:
        words = {
            key: ", ".join(name if name in WORDS else f"{name}: {count} px" for name, count in found.items())
            for key, found in list(report.differing.items())[:5]
        }
        shown = [f"{key} ({text})" for key, text in words.items()]
        more = f" and {len(report.differing) - 5} more" if len(report.differing) > 5 else ""
        raise DataError(
            f"{dataset}: {report.sentence}. Others: {', '.join(shown)}{more}. They were altered, or made on another "
            "kind of machine or with other versions"
        )
