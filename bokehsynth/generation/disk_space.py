"""Whether the disk can hold what is still to be made: checked before the first sample, and again by true sizes."""

import os
from collections.abc import Sequence
from pathlib import Path

from bokehsynth.errors import StorageError
from bokehsynth.files import TMP_MARK
from bokehsynth.recipe import Recipe
from bokehsynth.schema import FIELDS
from bokehsynth.shards import Layout, ShardPlan

RESERVE = 1.1
"""The bytes needed, times this, must be free."""

TYPICAL = {"png": {"color": 1.3, "map": 0.5}, "webp": {"color": 1.0, "map": 0.5}}
"""Bytes per pixel of a stored field, measured on the embedded pictures at 256 px; photographs take up to half more."""

UNKNOWN_SIZE = 1_000_000
"""Pixels of a sample where the recipe does not say."""

RECORD = 6000
"""Bytes of a sample besides its pixels: record, tar headers, padding."""


def typical_bytes(recipe: Recipe) -> float:
    """Bytes of a sample of this recipe, estimated before any has been made."""
    rates = TYPICAL[recipe.shards.codec]
    kinds = [FIELDS[name].kind for name in recipe.shards.fields]
    return RECORD + typical_sample_pixels(recipe) * sum(rates.get(kind, rates["color"]) for kind in kinds)


def typical_sample_pixels(recipe: Recipe) -> int:
    """Pixels of a sample; a typical number where each picture has its own size."""
    return recipe.frame[0] * recipe.frame[1] if recipe.frame else UNKNOWN_SIZE


def largest_sample_pixels(recipe: Recipe) -> int:
    """Pixels of the largest sample: each picture may have its own size, and memory has to hold a window of them."""
    sizes = [asset.height * asset.width for asset in recipe.catalogue.assets]
    return typical_sample_pixels(recipe) if recipe.frame else max([UNKNOWN_SIZE, *sizes])


def check_free_space(layout: Layout, plans: Sequence[ShardPlan], per_sample: float) -> None:
    """Raise StorageError unless the disk has room for these shards at `per_sample` bytes per sample. Buckets have."""
    if not isinstance(layout.root, Path):
        return
    needed = RESERVE * per_sample * sum(plan.count for plan in plans)
    free = _free(layout.root) + _staged(layout)
    if needed > free:
        refusal = StorageError(
            f"{layout.root}: the disk is too full: needed {_size(needed)} for {sum(plan.count for plan in plans)} "
            f"samples, have {_size(free)}; free some room, choose another --out, or ask for fewer --samples"
        )
        refusal.full = True
        raise refusal


def describe_shortage(layout: Layout, plans: Sequence[ShardPlan], per_sample: float) -> str:
    """The same comparison in words, for a run that found the disk full."""
    needed = RESERVE * per_sample * sum(plan.count for plan in plans)
    assert isinstance(layout.root, Path)  # no bucket is ever full
    return f"disk full: needed about {_size(needed)} more, have {_size(_free(layout.root))}"


def _free(path: Path) -> float:
    while not path.exists():
        path = path.absolute().parent
    status = os.statvfs(path)
    return float(status.f_bavail * status.f_frsize)


def _staged(layout: Layout) -> int:
    """Bytes of shards that are being written: they take disk space, and are part of what is needed."""
    total = 0
    for path in layout.staging.glob(f"*{TMP_MARK}*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _size(amount: float) -> str:
    return f"{amount / 1e9:.1f} GB" if amount >= 1e9 else f"{amount / 1e6:.1f} MB"
