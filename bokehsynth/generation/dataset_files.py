"""The files beside the shards: the recipe, its schema, the assets, and at the end the set's own description.

Hold `shard_lock.set_up_lock` to check or write them: runs of other ranges of the same set may be starting or ending.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from bokehsynth.config.strict_yaml import load_yaml
from bokehsynth.config.user_code import user_code
from bokehsynth.errors import ChangedError, DataError, StorageError
from bokehsynth.files import (
    TMP_MARK,
    atomic_write,
    change_file,
    commit_file,
    files_in,
    make_directory,
    pretty_json,
    storage_errors,
)
from bokehsynth.generation.asset_changes import asset_changes
from bokehsynth.generation.card_licences import licence_text
from bokehsynth.generation.machine_record import (
    Machine,
    as_in_set,
    join_machines,
    known_machines,
    machines_of,
    refuse_other_machine,
)
from bokehsynth.generation.quarantine import merged_list, write_lines
from bokehsynth.generation.recipe_schema import is_schema, schema_text
from bokehsynth.generation.records import MAX_RECORDS, differences, read_record
from bokehsynth.imaging.contact_sheet import contact_sheet, take_spread
from bokehsynth.recipe import Recipe
from bokehsynth.rng import SPLITS
from bokehsynth.schema import FORMAT_VERSION
from bokehsynth.shards import (
    MAX_DATASET_JSON,
    Layout,
    ShardDataset,
    ShardPlan,
    common_identity,
    describe_dataset,
    each,
    encode_png,
    refuse_lost_hidden,
    write_dataset_json,
)
from bokehsynth.stores import Change, ObjectPath, StoredPath
from bokehsynth.untrusted_files import MAX_JSON, MAX_LIST, read_bytes, read_json, read_text

PREVIEW_ROWS = 10
UNREADABLE = "\0"
"""No text of a file of a data set."""


def check_output_dir(layout: Layout, recipe: Recipe, machine: Machine, allow_mixed: bool, formats: bool = True) -> bool:
    """Raise ChangedError if `out` holds something else than an unfinished or finished set of this very recipe.

    Nothing is written. A directory that is no data set must be empty. `machine` would go on with the set's encoder.
    Returns whether there is a set; without `formats`, those of its files are known to be right.
    """
    with storage_errors(layout.root):
        if layout.root.exists() and not layout.root.is_dir():
            raise StorageError(f"{layout.root}: exists and is not a directory; choose another --out")
        refuse_lost_hidden(layout)
        begun = layout.identity.is_file()
        names = sorted(path.name for path in layout.root.iterdir()) if layout.root.is_dir() and not begun else []
    for name in names:
        if TMP_MARK not in name and name not in {layout.hidden.name, layout.logs.name}:
            raise ChangedError(f"{layout.root}: is not empty and not a data set (found {name}); choose another --out")
    if not begun:
        return False
    if formats:
        check_format(layout)
    if layout.recipe.is_file():
        _check_recipe(layout, recipe)
    check_identity(layout, recipe, read_record(layout.identity, dict))
    if not allow_mixed:
        refuse_other_machine(layout, as_in_set(layout, machine))
    return True


def _check_recipe(layout: Layout, recipe: Recipe) -> None:
    """Raise ChangedError unless recipe.yaml, which is there, is this recipe but for places on the machine."""
    with user_code(trusted=False):  # what lies there is compared as text
        there = load_yaml(layout.recipe, Recipe)
    _refuse(layout, "another recipe", there.portable_dict, recipe.portable_dict)


def check_identity(layout: Layout, recipe: Recipe, identity: Mapping[str, str] | None) -> None:
    """Raise ChangedError if the set was made from another recipe, other pictures or code than are found now.

    `identity` is what the set was made from; None if that is not known, and is no fault here.
    """
    if identity is None or identity == recipe.identity:
        return
    if identity.get("assets_digest") != recipe.catalogue.digest:
        raise ChangedError(
            f"{layout.root}: its pictures are not those it was made from: {asset_changes(layout, recipe.catalogue)}. "
            "Each sample is drawn from the whole list: put back what is missing and take away what is new, or make "
            "another set of what there is now"
        )
    name = "recipe_digest"
    what = "another recipe" if recipe.layout is None else f"another recipe, or other code of {recipe.layout}"
    _refuse(layout, what, {name: identity.get(name)}, {name: recipe.identity[name]})
    _refuse(layout, "other code of a class that the recipe names", dict(identity), recipe.identity)


def check_format(layout: Layout) -> None:
    """Raise ChangedError if anything at `layout` was committed in another format than this version writes.

    Such shards would otherwise count as missing, and be written over.
    """
    markers = [path for split in SPLITS for path in files_in(layout.split_markers(split), "*.done.json")]
    paths = [layout.dataset, *markers]
    for path, version in zip(paths, each(layout, partial(_format_of, layout), paths), strict=True):
        if version is not None and version != FORMAT_VERSION:
            raise ChangedError(
                f"{path}: is of format {version}; this bokehsynth writes format {FORMAT_VERSION} and leaves other "
                "formats alone. Choose another --out, or go on with the version that began it"
            )


def _format_of(layout: Layout, path: StoredPath) -> int | None:
    """The format that a file names; None where it is missing or damaged: it will be remade."""
    try:
        record = read_json(path, MAX_DATASET_JSON if path == layout.dataset else MAX_JSON)
    except (OSError, DataError):
        return None
    version = record.get("format") if isinstance(record, dict) else None
    return version if type(version) is int else None


def _refuse(layout: Layout, what: str, begun: Any, asked: Any) -> None:
    if lines := "\n  ".join(differences(begun, asked)):
        raise ChangedError(
            f"{layout.root}: was begun with {what} (there -> asked for):\n  {lines}\n"
            "Go on with what it was begun with, or choose another --out."
        )


def write_root_files(
    layout: Layout, recipe: Recipe, plans: Sequence[ShardPlan], machine: Machine | None, allow_mixed: bool = False
) -> None:
    """Write directories, identity, recipe.yaml, assets.jsonl, schema.json; sweep what dead writers left.

    The identity comes first: it tells a data set from any other folder. `machine`, if given, is added to the record of
    machines that have worked on the set, with the set's encoder (`as_in_set`). In a bucket another machine may begin a
    set at the same time: the first identity, recipe and machine that are put stay, and ChangedError tells the other
    machine what it asked for in their place, or, unless `allow_mixed`, in what it is another kind.
    """
    for folder in (layout.root, layout.hidden, layout.staging, layout.logs):
        make_directory(folder)
    for folder in () if layout.remote else (layout.root, layout.hidden):
        for leftover in folder.glob(f".*{TMP_MARK}*"):
            leftover.unlink(missing_ok=True)
    _put_identity(layout, recipe)
    change_file(layout.recipe, partial(_put_recipe, layout, recipe))
    atomic_write(layout.assets, recipe.catalogue.lines())
    write_quarantine(layout, recipe, plans)
    if not is_schema(file_text(layout.schema), recipe):
        atomic_write(layout.schema, schema_text())
    if machine is not None:
        join_machines(layout, machine, allow_mixed)


def _put_identity(layout: Layout, recipe: Recipe) -> None:
    try:
        commit_file(layout.identity, pretty_json(recipe.identity))
    except ChangedError:  # begun since `check_output_dir`
        if layout.recipe.is_file():
            _check_recipe(layout, recipe)
        check_identity(layout, recipe, read_record(layout.identity, dict))
        raise


def _put_recipe(layout: Layout, recipe: Recipe, old: bytes | None) -> bytes:
    """The recipe over itself as another machine may have written it, with its own paths: over no other one.

    Another number of samples has the same identity. `old` is written over only if what is read here is just that.
    """
    new = recipe.text().encode()
    if old is not None and old != new:
        _check_recipe(layout, recipe)
    return new


def lacks_conditions(layout: Layout) -> bool:
    """Whether the set lies in a bucket that is known not to keep the conditions of puts."""
    return isinstance(layout.identity, ObjectPath) and not layout.identity.bucket.conditional


def missing_conditions(layout: Layout) -> str:
    """Words for a bucket that does not keep the conditions of puts, once its set is begun; empty for all others.

    The identity is put again as if it were not there: with the same bytes, so that nothing can be lost.
    """
    if not isinstance(layout.identity, ObjectPath):
        return ""
    bucket = layout.identity.bucket
    if bucket.conditional and bucket.has_conditions(layout.identity.key, layout.identity.read_bytes(MAX_RECORDS)):
        return ""
    bucket.conditional = False
    return (
        f"{bucket.url}: does not keep the conditions of puts (If-None-Match), so every object is compared before and "
        "after it is put; do not run two machines on one range here"
    )


def write_description(layout: Layout, recipe: Recipe, plans: Sequence[ShardPlan]) -> None:
    """Describe a set whose shards are all committed: preview.png, card, and dataset.json last of all."""
    write_quarantine(layout, recipe, plans)
    machines = machines_of(layout, strict=True)  # one that cannot be read just now must not be left out
    record = expected_description(layout, recipe, recipe.identity, plans, machines)
    stored = ShardDataset(layout, recipe.splits[0], record=record)
    sheet = contact_sheet([stored[i] for i in take_spread(range(len(stored)), PREVIEW_ROWS)])
    atomic_write(layout.preview, encode_png(sheet))
    write_dataset_json(layout, record, f"Format {FORMAT_VERSION}; the recipe it follows from is `recipe.yaml`.")


def expected_description(
    layout: Layout,
    recipe: Recipe,
    identity: Mapping[str, str],
    plans: Sequence[ShardPlan],
    machines: Sequence[Machine],
) -> dict[str, Any]:
    """The content that `dataset.json` must have; photographs need not be there. DataError if a shard is not."""
    made_with = machines[0] if len(machines) == 1 else {"mixed": list(machines)}
    record = describe_dataset(layout, plans, recipe.name, identity, made_with)
    record["licence"] = licence_text(layout, recipe.catalogue, record)
    return record


def restore_records(layout: Layout) -> None:
    """Restore what was lost or altered: the identity as the markers have it, the machines as `dataset.json` does."""
    if (identity := common_identity(layout)) is not None:
        atomic_write(layout.identity, pretty_json(identity))
    if not machines_of(layout) and (machines := known_machines(layout)):
        atomic_write(layout.machines, pretty_json(machines))


def read_identity(layout: Layout) -> dict[str, Any] | None:
    """The digests with which the set was begun; None where they cannot be read."""
    try:
        return dict(read_record(layout.identity, dict))
    except DataError:
        return None


def write_quarantine(layout: Layout, recipe: Recipe, plans: Sequence[ShardPlan]) -> None:
    """Write quarantine.jsonl: the assets that cannot be used, and the draws of samples, as far as they are known."""
    draws = "".join(draw.line() for draw in merged_list(layout, plans))
    write_lines(layout.quarantine, recipe.catalogue.quarantine_lines() + draws)


def unchanged(layout: Layout, before: bytes | None, after: str) -> Change:
    """What writes `after` over a file that still holds `before`; ChangedError where another run was faster."""

    def change(old: bytes | None) -> bytes:
        if old not in {before, after.encode()}:
            raise ChangedError(f"{layout.root}: another run is changing this set; wait for it, and run the line again")
        return after.encode()

    return change


def file_bytes(path: StoredPath) -> bytes | None:
    """What a file of at most MAX_LIST bytes holds, however it is written; None where it is missing."""
    with storage_errors(path):
        try:
            return read_bytes(path, MAX_LIST)
        except FileNotFoundError:
            return None


def file_text(path: StoredPath) -> str:
    """The text of a file; empty where it is missing, UNREADABLE where it is none that can be read."""
    try:
        return read_text(path, MAX_LIST)
    except FileNotFoundError:
        return ""
    except (OSError, DataError):
        return UNREADABLE
