"""Extend a finished data set: new shards are appended, and no shard that is there changes."""

from collections.abc import Sequence

from bokehsynth.errors import UsageError
from bokehsynth.files import change_file, data_path, pretty_json
from bokehsynth.generation.dataset_files import check_identity, file_bytes, file_text, unchanged
from bokehsynth.generation.generate import GenerateOptions, GenerateResult, choose_engine, run_generation
from bokehsynth.generation.plan import all_plans, check_shard_boundaries, read_extensions, uncommitted
from bokehsynth.generation.shard_lock import set_up_lock
from bokehsynth.generation.stored_recipe import find_pictures, stored_recipe
from bokehsynth.recipe import Recipe, SamplesSpec
from bokehsynth.shards import Layout, common_identity, refuse_lost_hidden
from bokehsynth.stores import StoredPath


def extend(
    out: str | StoredPath,
    samples: int,
    options: GenerateOptions | None = None,
    trust_code: bool = False,
    overrides: Sequence[str] = (),
) -> GenerateResult:
    """Extend the data set at `out` to `samples` samples in all, shared out in its own proportion, val rounded up.

    Sample i does not depend on how many there are, so what is there stays; a short last shard stays short. The same
    call goes on after an interruption, and does nothing once it is done. Raises UsageError if that would shrink the
    set, or if it is not finished (finish it first), ChangedError if its pictures are others or not there; otherwise as
    `generate`. `trust_code` and `overrides` as in `stored_recipe`.
    """
    layout, options = Layout(data_path(out)), options or GenerateOptions()
    refuse_lost_hidden(layout)
    old = stored_recipe(layout, trust_code, overrides)
    find_pictures(layout, old)
    check_identity(layout, old, common_identity(layout))
    train, val = old.count("train"), old.count("val")
    if samples == train + val:
        return run_generation(old, layout, options)
    grown = SamplesSpec.split_total(samples, train, val)
    new = old.model_copy(update={"samples": grown})
    choose_engine(new, layout, options)  # one that cannot be is refused before the set is touched
    with set_up_lock(layout.lock, options.lock):
        _begin(layout, old, new)
    return run_generation(new, layout, options)


def _begin(layout: Layout, old: Recipe, new: Recipe) -> None:
    """Record the old totals, then store the new recipe; killed in between, the same call begins again."""
    plans = all_plans(old, layout)
    check_shard_boundaries(layout, plans)
    absent = uncommitted(layout, plans, old.identity)
    if absent or not layout.dataset.is_file():
        raise UsageError(
            f"{layout.root}: is not finished, so it cannot be extended; run the line that began it to its end first"
        )
    before = {split: old.count(split) for split in old.splits}
    if any(new.count(split) < count for split, count in before.items()):
        after = {split: new.count(split) for split in old.splits}
        raise UsageError(f"{layout.root}: already holds {before}, more than {after} asked for; shards never shrink")
    known = file_bytes(layout.extensions)
    steps = read_extensions(layout)
    if before not in steps:
        change_file(layout.extensions, unchanged(layout, known, pretty_json([*steps, before])))
    change_file(layout.recipe, unchanged(layout, file_text(layout.recipe).encode(), new.text()))
