"""Opens a data set to be read: shards, or a recipe whose samples are rendered when they are read."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from bokehsynth.errors import RecipeError, UsageError
from bokehsynth.shards import open_dataset as open_shards
from bokehsynth.shards.epoch import ReadingOrder
from bokehsynth.shards.iteration import SampleReader

LEAST_DIGEST = 8
"""Hex digits of a digest that are enough to name a recipe."""

_DIGEST = re.compile(rf"(?s)(.+)@(?:sha256:)?([0-9a-f]{{{LEAST_DIGEST},64}})")


def open_dataset(
    path: str | os.PathLike[str],
    split: str = "train",
    fields: Sequence[str] | None = None,
    *,
    rank: int = 0,
    world: int = 1,
    shuffle: int = 0,
    seed: int = 0,
    even: bool = False,
) -> SampleReader:
    """Open one split of a finished data set, or of a recipe (`my.yaml`, `my.yaml@DIGEST`, a packaged name).

    A recipe is a data set without shards: sample i is rendered when it is read, on the device that is found here, and
    equals sample i of its shards bit for bit (but for one that another machine had to put in quarantine). `DIGEST`,
    eight or more digits of `digest`, is compared with that of the recipe, its pictures and its code.

    `fields` limits which arrays are decoded (default: all that are stored); `views` and `layers` there stand for all of
    these. A loop reads the `rank`-th of `world` parts of an epoch; with `shuffle`, in an order that `seed` and the
    epoch decide: shards at random, and samples from a window of so many. With `even` all parts have the same number,
    and what is left over is not read. `len` and indices are those of the whole split.

    Raises DataError, naming the file and what to do, if the data set is missing, unfinished or damaged, or if it has no
    such split or field; RecipeError and UsageError if the recipe or an argument cannot work.
    """
    order = ReadingOrder(rank, world, shuffle, seed, even)
    text = os.fspath(path)
    named = _DIGEST.fullmatch(text)
    name, digest = (named[1], named[2]) if named and not os.path.lexists(text) else (text, "")
    reader = open_shards(path, split, fields) if not _is_recipe(name) else _open_recipe(name, digest, split, fields)
    reader.order = order
    return reader


def _is_recipe(name: str) -> bool:
    """Whether a name means a recipe: a file, or a packaged one where no file or folder has that name."""
    place = Path(name)
    if place.suffix in {".yaml", ".yml"}:
        return not place.is_dir()
    if os.path.lexists(name) or os.sep in name or "://" in name:
        return False
    from bokehsynth.recipe import find_recipe

    try:
        find_recipe(name)
    except RecipeError:
        return False
    return True


def _open_recipe(name: str, digest: str, split: str, fields: Sequence[str] | None) -> SampleReader:
    from bokehsynth.generation.recipe_reader import RecipeReader
    from bokehsynth.recipe import load_recipe

    reader = RecipeReader(load_recipe(name), split, fields)
    if not reader.digest.startswith(digest):
        raise UsageError(
            f"{name}@{digest}: is another recipe now, or finds other pictures or code: its digest is {reader.digest}"
        )
    return reader
