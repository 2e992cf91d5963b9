"""Where the files of a recipe are: beside it, in assets.root, or in the working directory if --set names them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bokehsynth.assets.spec import SOURCE_LISTS, AssetsSpec, absolute_source
from bokehsynth.errors import RecipeError, UsageError
from bokehsynth.files import local_path
from bokehsynth.scene.lens_spec import LensSpec


def absolute_sources(spec: AssetsSpec, path: Path, packaged: bool, overrides: Sequence[str]) -> AssetsSpec:
    """Resolve relative sources: in assets.root or beside the recipe file, those of --set in the working directory."""
    given = _sources_set(overrides)
    changed: dict[str, Any] = {}
    base = path.parent
    if spec.root is not None:
        try:
            root = local_path(spec.root)
        except UsageError as error:
            raise RecipeError(f"{path}: assets.root: {error}") from None
        base = ((Path.cwd() if ("root", None) in given else base) / root).absolute()
        changed["root"] = str(base)
    elif packaged:
        _needs_no_root(spec, path.stem, given)
    for kind in SOURCE_LISTS:
        sources = getattr(spec, kind)
        bases = [Path.cwd() if {(kind, None), (kind, i)} & given else base for i in range(len(sources))]
        changed[kind] = [absolute_source(source, root) for source, root in zip(sources, bases, strict=True)]
    return spec.model_copy(update=changed)


def _needs_no_root(spec: AssetsSpec, name: str, given: set[tuple[str, int | None]]) -> None:
    """RecipeError if a packaged recipe needs photographs: it cannot know where they are."""
    wanted = [
        f"{item} ({kind})"
        for kind in SOURCE_LISTS
        for i, source in enumerate(getattr(spec, kind))
        if not source.drawn and not {(kind, None), (kind, i)} & given
        for item in source.paths
        if not Path(item).is_absolute()
    ]
    if wanted:
        raise RecipeError(
            f"the recipe {name!r} is made from photographs; say which folder they are in:\n"
            f"  bokehsynth generate {name} --out DIR --set assets.root=FOLDER\n"
            f"FOLDER must hold: {', '.join(wanted)}"
        )


def _sources_set(overrides: Sequence[str]) -> set[tuple[str, int | None]]:
    """Return the sources that --set wrote: (kind, position), or (kind, None) for a whole list; weights do not count."""
    given: set[tuple[str, int | None]] = set()
    for text in overrides:
        key, *rest = text.partition("=")[0].strip().split(".")
        if key != "assets" or (len(rest) > 2 and rest[2] != "path"):
            continue
        if not rest:
            given |= {(kind, None) for kind in SOURCE_LISTS}
        else:
            given.add((rest[0], int(rest[1]) if len(rest) > 1 and rest[1].isdigit() else None))
    return given


def read_lens(lens: LensSpec, path: Path, overrides: Sequence[str], section: str) -> LensSpec:
    """Read the files of a lens, `lens` or `source.lens`: beside the recipe, or in the working directory."""
    try:
        return lens.with_files(Path.cwd() if _lens_files_set(overrides, section) else path.parent)
    except UsageError as error:
        raise RecipeError(f"{path}: {section}: {error}") from None


def _lens_files_set(overrides: Sequence[str], section: str) -> bool:
    """Whether --set wrote a prescription, an opening, a picture's file, or something that all of these are part of."""
    for text in overrides:
        key = text.partition("=")[0].strip()
        if section == key or section.startswith(f"{key}."):
            return True
        part, *rest = key.removeprefix(f"{section}.").split(".") if key.startswith(f"{section}.") else [""]
        if part in {"aperture", "prescription"} and all(name.isdigit() or name == "file" for name in rest):
            return True
    return False
