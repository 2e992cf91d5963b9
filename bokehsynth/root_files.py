"""What stands beside the shards: the recipe, its schema, the assets, and at the end the set's own description."""

import json
from dataclasses import asdict
from typing import Any

from bokehsynth.errors import ChangedError, StorageError
from bokehsynth.files import atomic_write, canonical_json, make_directory, pretty_json
from bokehsynth.recipe import Recipe, load_recipe, recipe_schema
from bokehsynth.schema import FORMAT_VERSION
from bokehsynth.shards import DatasetInfo, Layout, open_dataset, plan_shards, write_dataset_files
from bokehsynth.sheet import contact_sheet, take_spread

PREVIEW_ROWS = 8


def guard_output(layout: Layout, recipe: Recipe, machine: dict[str, Any], allow_mixed: bool) -> None:
    """Raise ChangedError if `out` holds something else than an unfinished or finished set of this very recipe.

    Nothing is written. A directory that was never one of ours must be empty.
    """
    if layout.root.exists() and not layout.root.is_dir():
        raise StorageError(f"{layout.root}: exists and is not a directory; choose another --out")
    if not layout.recipe.is_file():
        strangers = (
            [p.name for p in layout.root.iterdir() if p.name != layout.hidden.name] if layout.root.is_dir() else []
        )
        if strangers:
            raise ChangedError(
                f"{layout.root}: is not empty and not a data set (found {sorted(strangers)[0]}); choose another --out"
            )
        return
    there = load_recipe(layout.recipe)
    differences = _differences(there.model_dump(mode="json"), recipe.model_dump(mode="json"))
    if not differences and there.catalogue.digest != recipe.catalogue.digest:
        differences = ["assets: the files behind the list have changed"]
    if differences:
        raise ChangedError(
            f"{layout.root}: was begun with another recipe (there -> asked for):\n  " + "\n  ".join(differences) +
            "\nGo on with the recipe it was begun with, or choose another --out."
        )  # fmt: skip
    _guard_machine(layout, machine, allow_mixed)


def _guard_machine(layout: Layout, machine: dict[str, Any], allow_mixed: bool) -> None:
    record = layout.hidden / "machine.json"
    if not record.is_file() or allow_mixed:
        return
    differences = _differences(json.loads(record.read_text()), machine)
    if differences:
        raise ChangedError(
            f"{layout.root}: was begun on another kind of machine or with other versions (there -> here):\n  "
            + "\n  ".join(differences)
            + "\nIts bytes would no longer be those of one machine; --allow-mixed goes on all the same."
        )


def _differences(old: Any, new: Any, place: str = "") -> list[str]:
    """Lines `dotted.path: old -> new` for every leaf that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        nested = (_differences(old.get(key), new.get(key), f"{place}.{key}" if place else key) for key in keys)
        return [line for lines in nested for line in lines]
    if old == new:
        return []
    return [f"{place}: {json.dumps(old)} -> {json.dumps(new)}"]


def write_root_files(layout: Layout, recipe: Recipe, machine: dict[str, Any]) -> None:
    """Directories, recipe.yaml, schema.json, assets.jsonl and the machine's record; the same bytes on every run."""
    for folder in (layout.root, layout.hidden, layout.staging, layout.logs):
        make_directory(folder)
    assets = "".join(f"{canonical_json(asdict(asset))}\n" for asset in recipe.catalogue.assets)
    record = layout.hidden / "machine.json"
    if not record.is_file():
        atomic_write(record, pretty_json(machine))
    atomic_write(layout.assets, assets)
    atomic_write(layout.schema, pretty_json(recipe_schema()))
    atomic_write(layout.recipe, recipe.text())


def finish(layout: Layout, recipe: Recipe) -> None:
    """Describe a set whose shards are all committed: card and dataset.json, then preview.png."""
    plans = {split: plan_shards(split, recipe.count(split), recipe.shards.samples) for split in recipe.splits}
    licences = sorted({asset.licence for asset in recipe.catalogue.assets})
    info = DatasetInfo(
        name=recipe.name,
        identity=recipe.identity,
        licence=f"Made from assets under: {', '.join(licences)} (one line per asset in `assets.jsonl`).",
        description=f"Format {FORMAT_VERSION}; the recipe it follows from is `recipe.yaml`.",
        made_with=json.loads((layout.hidden / "machine.json").read_text()),
    )
    write_dataset_files(layout, info, plans)
    split = recipe.splits[0]
    stored = open_dataset(layout.root, split)
    contact_sheet([stored[i] for i in take_spread(range(len(stored)), PREVIEW_ROWS)], layout.preview)
