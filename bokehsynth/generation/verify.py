"""Verify a data set; with `fix`, restore what follows from its tars and have the next `generate` remake the rest."""

import contextlib
from collections.abc import Iterator
from typing import Any

from bokehsynth.assets.catalogue import Catalogue, assets_of
from bokehsynth.assets.load.class_pictures import changed_classes, class_of
from bokehsynth.config.strict_yaml import load_yaml
from bokehsynth.config.user_code import UntrustedCodeError, is_refused, user_code
from bokehsynth.errors import BokehsynthError, DataError, UsageError
from bokehsynth.files import canonical_json, data_path, pretty_json
from bokehsynth.generation.dataset_files import check_format, expected_description, file_text, read_identity
from bokehsynth.generation.machine_record import machines_of
from bokehsynth.generation.mend import (
    Stamps,
    delete_markers,
    delete_uncommitted,
    names_of_whole,
    refuse_changed,
    restore_lost,
    take_stamps,
)
from bokehsynth.generation.plan import all_plans, check_shard_boundaries, is_complete, lock_ranges
from bokehsynth.generation.quarantine import first_attempt, merged_list, read_shard_list
from bokehsynth.generation.recipe_schema import is_schema
from bokehsynth.generation.shard_lock import set_up_lock, shard_lock
from bokehsynth.recipe import Recipe
from bokehsynth.rng import SPLITS
from bokehsynth.shards import (
    Fault,
    Layout,
    ShardPlan,
    VerifyReport,
    committed_plans,
    common_identity,
    parse_range,
    read_dataset,
    refuse_lost_hidden,
    verify_dataset,
)
from bokehsynth.stores import StoredPath
from bokehsynth.untrusted_files import MAX_LINES, parse_json


def verify(
    out: str | StoredPath,
    decode: float = 1.0,
    workers: int = 1,
    fix: bool = False,
    trust_code: bool = False,
    lock: bool = True,
    shards: str = "0/1",
) -> VerifyReport:
    """Check every byte of a data set, and the files beside its shards against what the shards were made from.

    With `fix`, lost markers and indices are written anew where the tars and dataset.json give them. The markers of
    damaged shards and dataset.json are deleted, so that the next `generate` remakes just those shards and writes all
    files beside them; no shard is deleted, but in a bucket, where no run puts a tar over another, the damaged ones are,
    and what is there of shards without a valid marker. Raises LockedError if a run is working on one of them or has
    worked on the set meanwhile, ChangedError for a data set of another format. The code of classes outside bokehsynth
    that the recipe names is compared with `trust_code` alone; without it nothing is imported, and the report's
    `not_compared` names them. `lock` as in `GenerateOptions`, for `fix`. `shards` as in `verify_dataset`; UsageError
    with `fix`, which needs to have seen the whole set.
    """
    number, of = parse_range(shards)
    if fix and of > 1:
        raise UsageError(f"verify: --fix needs the whole set: leave out --shards {shards}")
    layout = Layout(data_path(out))
    with user_code(trust_code):
        check_format(layout)
        stamps = take_stamps(layout)
        report = verify_dataset(layout.root, decode, workers, shards)
        _verify_beside(layout, report)
        if report.ok and number == 0:
            _report_records(layout, report, whole=of == 1)
        if decode == 1:
            _check_attempts(layout, report)
        if fix and not report.ok:
            _fix(layout, report, stamps, lock)
    return report


def _verify_beside(layout: Layout, report: VerifyReport) -> None:
    """Check the files beside the shards, once the shards have been."""
    try:
        refuse_lost_hidden(layout)
    except DataError as error:
        report.faults.insert(0, Fault("", None, "dataset", str(error)))
    for message in _verify_root(layout, report):
        report.fault("beside the shards", message)
    with contextlib.suppress(BokehsynthError):  # a fault that is named already
        report.not_compared = [path for path in load_yaml(layout.recipe, Recipe).class_paths if is_refused(path)]


def _report_records(layout: Layout, report: VerifyReport, whole: bool) -> None:
    """Compare `dataset.json` with what the records of all samples say: left to the first range.

    Unless the `whole` set was checked, the other ranges name what is wrong in their shards.
    """
    try:
        for message in _verify_records(layout):
            report.fault("dataset", message)
    except (DataError, KeyError, TypeError):
        if whole:
            raise


def _fix(layout: Layout, report: VerifyReport, stamps: Stamps, lock: bool) -> None:
    """Restore what follows from the tars; for what is left, delete markers and `dataset.json`, but see `lost_hidden`.

    A set without its hidden folder keeps `dataset.json`: nothing else tells what the tars are.
    """
    broken = [ShardPlan(split, shard, 0, 1) for split, shard in report.broken()]
    lost_hidden = layout.lost_hidden
    with shard_lock(layout.lock, lock_ranges(broken), lock), set_up_lock(layout.lock, lock):
        refuse_changed(layout, stamps)
        recipe = None
        with contextlib.suppress(UsageError):
            recipe = _recorded_recipe(layout, _catalogue(layout))
        mended = {(plan.split, plan.shard) for plan in restore_lost(layout, report, recipe)}
        left = [plan for plan in broken if (plan.split, plan.shard) not in mended]
        report.mended = bool(mended) and not left and not _still_wrong(layout, report, lost_hidden)
        if not report.mended and not lost_hidden:
            whole = names_of_whole(report)
            delete_markers(layout, left, whole)
            delete_uncommitted(layout, whole)
            layout.dataset.unlink(missing_ok=True)


def _still_wrong(layout: Layout, report: VerifyReport, lost_hidden: bool) -> bool:
    """Whether anything but strays is wrong of a set whose shards have all been mended."""
    if not lost_hidden and any(fault.kind == "dataset" for fault in report.faults):
        return True
    try:
        return bool(_verify_root(layout, VerifyReport(layout.root)) or _verify_records(layout))
    except BokehsynthError:
        return True


def _verify_records(layout: Layout) -> list[str]:
    """Compare `dataset.json` with the shards and the files beside them, once these are known to be whole.

    While an extension is under way it describes the smaller set, and cannot be compared.
    """
    record, recipe = read_dataset(layout), _recorded_recipe(layout, _catalogue(layout))
    faults = []
    if read_identity(layout) != record["identity"]:
        faults.append(f"{layout.identity}: missing or altered")
    plans = all_plans(recipe, layout)
    if not is_complete(layout, plans):
        return faults
    true = expected_description(layout, recipe, record["identity"], plans, machines_of(layout))
    if "pixels_root" not in record:
        del true["pixels_root"]  # a set that was completed before version 0.5
    wrong = [name for name in sorted({*true, *record}) if true.get(name) != record.get(name)]
    if not machines_of(layout):
        faults.append(f"{layout.machines}: missing or altered")
    elif wrong == ["made_with"]:
        faults.append(f"{layout.dataset}: made_with is not what {layout.machines} says")
    elif wrong:
        faults.append(f"{layout.dataset}: {', '.join(wrong)} are not what follows from the shards and the recipe")
    elif file_text(layout.dataset) != pretty_json(record):
        faults.append(f"{layout.dataset}: was rewritten by another program: its bytes differ")
    return faults


def _verify_root(layout: Layout, report: VerifyReport) -> list[str]:
    """Faults of the files beside the shards, one line each: they must be what `dataset.json` was made from.

    The photographs need not be there any more: assets.jsonl describes them.
    """
    try:
        record = read_dataset(layout)
        identity = common_identity(layout) or record["identity"]
        catalogue = _catalogue(layout)
        recipe = _recorded_recipe(layout, catalogue)
        known = _known_identity(recipe)
        plans = [plan for split in SPLITS for plan in committed_plans(layout, split)]
        draws = "".join(draw.line() for draw in merged_list(layout, plans))
    except BokehsynthError as error:
        return [] if not layout.dataset.is_file() else [str(error)]  # an unfinished set is a fault already named
    faults = [
        f"{layout.recipe}: is not the recipe the shards were made with ({name} differs)"
        for name, value in known.items()
        if identity.get(name) != value
    ]
    if catalogue is None or catalogue.digest != identity.get("assets_digest"):
        faults.append(f"{layout.assets}: missing or altered")
    else:
        faults += _changed_classes(layout, recipe, catalogue)
    if file_text(layout.recipe) != recipe.text():
        faults.append(f"{layout.recipe}: missing or altered")
    if not is_schema(file_text(layout.schema), recipe):
        faults.append(f"{layout.schema}: missing or altered")
    if not _is_quarantine(file_text(layout.quarantine), draws):
        faults.append(f"{layout.quarantine}: is not what the shards' own lists say")
    try:
        check_shard_boundaries(layout, all_plans(recipe, layout))
    except BokehsynthError as error:
        if all(fault.kind != "dataset" for fault in report.faults):  # else that file contradicts the rest
            faults.append(str(error))
    faults += [f"{path}: missing" for path in (layout.card, layout.preview) if not path.is_file()]
    return faults


def _known_identity(recipe: Recipe) -> dict[str, str]:
    """The digests that follow from the recipe, but for those that need a class which must not be imported.

    Shards, samples and `dataset.json` still have to agree on these.
    """
    known: dict[str, str] = {}
    with contextlib.suppress(UntrustedCodeError):
        known["recipe_digest"] = recipe.digest
    with contextlib.suppress(UntrustedCodeError):
        known["lens_digest"] = recipe.lens_digest
    with contextlib.suppress(UntrustedCodeError):
        known["degradation_digest"] = recipe.resolved_degradation.digest
    return known


def _changed_classes(layout: Layout, recipe: Recipe, catalogue: Catalogue) -> list[str]:
    """A fault for each class that draws pictures and has other code than the set was made with, if it may be imported.

    Also one for a class that cannot be loaded.
    """
    named = {path for path in recipe.assets.class_paths if not is_refused(path)}
    try:
        classes = changed_classes([asset for asset in catalogue.assets if class_of(asset.id) in named])
    except BokehsynthError as error:
        return [str(error)]
    return [f"{layout.assets}: the code of {path} is not the code it was made with" for path in classes]


def _is_quarantine(text: str, draws: str) -> bool:
    """Whether `text` is lines for assets, as they are written, and then just these draws."""
    assets = text.removesuffix(draws)
    if not text.endswith(draws):
        return False
    try:
        return not assets or all(record.get("kind") != "sample" for record in _records(assets))
    except DataError:
        return False


def _records(text: str) -> Iterator[dict[str, Any]]:
    """The objects of lines of JSON, one after the other; DataError at the first byte that is not as it is written."""
    if text.count("\n") > MAX_LINES or not text.endswith("\n"):
        raise DataError("no lines")
    start = 0
    while start < len(text):
        end = text.index("\n", start) + 1
        record = parse_json(text[start : end - 1], "a line")
        if not isinstance(record, dict) or f"{canonical_json(record)}\n" != text[start:end]:
            raise DataError("a line is not as it is written")
        yield record
        start = end


def _recorded_recipe(layout: Layout, catalogue: Catalogue | None) -> Recipe:
    """The recipe with the assets it was made from, if their record is readable: its photographs may be gone."""
    recipe = load_yaml(layout.recipe, Recipe)
    return recipe if catalogue is None else recipe.with_catalogue(catalogue)


def _catalogue(layout: Layout) -> Catalogue | None:
    """The assets of assets.jsonl; None where it is missing or not as it is written."""
    try:
        return Catalogue(assets_of(_records(file_text(layout.assets))))
    except DataError:
        return None


def _check_attempts(layout: Layout, report: VerifyReport) -> None:
    """Report samples whose record has another attempt than the quarantine lists give."""
    for split in SPLITS:
        for plan in committed_plans(layout, split):
            if (plan.split, plan.shard) in report.broken() or (plan.split, plan.shard) not in report.attempts:
                continue
            try:
                entries = read_shard_list(layout, plan)
            except BokehsynthError as error:
                report.fault("quarantine", str(error), split, plan.shard)
                continue
            listed = {entry.index: first_attempt(entries, entry.index) for entry in entries}
            drawn = report.attempts.get((split, plan.shard), {})
            wrong = sorted(i for i in {*listed, *drawn} if listed.get(i, 0) != drawn.get(i, 0))
            if wrong:
                message = (
                    f"{layout.shard_quarantine(plan)}: sample {wrong[0]} should be its draw {listed.get(wrong[0], 0)}, "
                    f"and is its draw {drawn.get(wrong[0], 0)}"
                )
                report.fault("quarantine", message, split, plan.shard)
