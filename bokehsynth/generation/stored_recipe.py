"""The recipe of a data set that is there, and the pictures that it was made from, also where they have been moved."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bokehsynth.assets.spec import SOURCE_LISTS, AssetsSpec, SourceSpec
from bokehsynth.config.user_code import refuse, user_code
from bokehsynth.errors import ChangedError, RecipeError, UsageError
from bokehsynth.recipe import Recipe, load_recipe
from bokehsynth.shards import Layout
from bokehsynth.stores import StoredPath
from bokehsynth.untrusted_files import read_text


def stored_recipe(layout: Layout, trust_code: bool = False, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of the data set at `layout`; a UsageError if there is none.

    Classes outside bokehsynth that it names are imported with `trust_code` alone, else UntrustedCodeError names them.
    `overrides` are `KEY=VALUE` strings that say where its pictures are now; a UsageError if they say anything else.
    """
    if not layout.recipe.is_file():
        there = layout.root.exists()
        lack = "not a bokehsynth data set: it has no recipe.yaml" if there else "no such data set directory"
        raise UsageError(f"{layout.root}: {lack}")
    with user_code(trust_code), _local_copy(layout.recipe) as path:
        recipe = load_recipe(path)
        refuse(layout.recipe, recipe.class_paths)
        return _moved(layout, recipe, load_recipe(path, overrides)) if overrides else recipe


@contextlib.contextmanager
def _local_copy(path: StoredPath) -> Iterator[Path]:
    """A recipe in a bucket as a local file, while the block runs; errors in it name the object."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        copy.write_text(read_text(path), encoding="utf-8")
        try:
            yield copy
        except RecipeError as error:
            raise RecipeError(str(error).replace(str(copy), str(path))) from None


def find_pictures(layout: Layout, recipe: Recipe) -> None:
    """Index the pictures of a stored recipe; a ChangedError with the way out where there are none any more."""
    try:
        _ = recipe.catalogue
    except RecipeError as error:
        if isinstance(error.__cause__, UsageError):  # a class that draws pictures cannot be loaded: nothing was moved
            raise
        sources = [
            f"assets.{kind}.{i}.path"
            for kind in SOURCE_LISTS
            for i, source in enumerate(getattr(recipe.assets, kind))
            if not source.drawn
        ]
        key = "assets.root" if recipe.assets.root is not None or not sources else sources[0]
        raise ChangedError(
            f"{layout.root}: the pictures that it was made from are not where {layout.recipe.name} says ({error}). If "
            f"they were moved, say where they are now: --set {key}=FOLDER"
        ) from None


def _moved(layout: Layout, stored: Recipe, moved: Recipe) -> Recipe:
    """The recipe with its pictures in other places; what lay below the old assets.root lies below the new one."""
    if moved.portable_dict != stored.portable_dict:
        raise UsageError(
            f"{layout.root}: --set can only say where its pictures are now (assets.root=FOLDER, or "
            "assets.backgrounds.0.path=FOLDER); another recipe makes another data set, with `bokehsynth generate`"
        )
    before, after = stored.assets, moved.assets
    if after.root == before.root or after.root is None:
        return moved
    if before.root is None:
        places = ", ".join(
            f"assets.{kind}.{i}.path (was {', '.join(source.paths)})"
            for kind in SOURCE_LISTS
            for i, source in enumerate(getattr(before, kind))
            if not source.drawn
        )
        raise UsageError(
            f"{layout.root}: was made without assets.root; say for each source where it is now: --set "
            f"{places or 'nothing: it has no pictures but the embedded ones'}"
        )
    return moved.model_copy(update={"assets": _rebased(before, after)})


def _rebased(before: AssetsSpec, after: AssetsSpec) -> AssetsSpec:
    """Paths that are as before, and below the old root, below the new one."""
    assert before.root is not None
    assert after.root is not None
    old, new = Path(before.root), Path(after.root)

    def place(path: str) -> str:
        return str(new / Path(path).relative_to(old)) if Path(path).is_relative_to(old) else path

    def rebase(was: SourceSpec, source: SourceSpec) -> SourceSpec:
        if source.drawn or source.path != was.path:
            return source
        paths = [place(path) for path in source.paths]
        return source.model_copy(update={"path": paths[0] if isinstance(source.path, str) else paths})

    changed = {
        kind: [rebase(was, source) for was, source in zip(getattr(before, kind), getattr(after, kind), strict=True)]
        for kind in SOURCE_LISTS
    }
    return after.model_copy(update=changed)
