"""Split decisions of large folders, kept in the user's cache: comparing 100,000 pictures with each other takes half a
minute, and every command asks for them.

Only a cache, `~/.cache/bokehsynth/splits` or below XDG_CACHE_HOME: what cannot be read is decided again, and where
nothing can be written nothing is kept.
"""

import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path

from bokehsynth.assets.index.split import (
    SplitCandidate,
    SplitDecision,
    assign_splits,
    order_of_decision,
    split_without_duplicates,
)
from bokehsynth.errors import DataError, StorageError
from bokehsynth.files import atomic_write, canonical_json, make_directory, user_cache
from bokehsynth.untrusted_files import MAX_LIST, read_json

VERSION = 1
"""Of the rules of `assign_splits`: raised whenever they change."""

KEPT_FROM = 2000
"""Assets from which decisions are kept: fewer are compared in less time than a file takes."""


def decide_or_recall(assets: Iterable[SplitCandidate], val_fraction: float) -> dict[str, SplitDecision]:
    """What `assign_splits` says of these assets, from the cache where it said it before."""
    candidates = sorted(assets, key=lambda asset: asset.sha256)
    if len(candidates) < KEPT_FROM:
        return assign_splits(candidates, val_fraction)
    path = _path(candidates, val_fraction)
    if path is not None and (kept := _load(path, candidates)) is not None:
        alone = ((asset.sha256, split_without_duplicates(asset, val_fraction)) for asset in candidates)
        return {sha256: SplitDecision(split) for sha256, split in alone} | kept
    decided = assign_splits(candidates, val_fraction)
    if path is not None:
        linked = {sha256: found for sha256, found in decided.items() if found.like is not None}
        with contextlib.suppress(StorageError):
            make_directory(path.parent)
            atomic_write(path, canonical_json({key: [one.split, one.like] for key, one in linked.items()}))
    return decided


def _path(candidates: list[SplitCandidate], val_fraction: float) -> Path | None:
    """The file for exactly these assets; None where the user has no cache."""
    digest = hashlib.sha256(f"{VERSION} {val_fraction!r}\n".encode())
    for asset in candidates:
        digest.update(f"{asset.sha256} {asset.known_split} {asset.dhash} {asset.aspect!r} {asset.thumb}\n".encode())
    return user_cache("bokehsynth", "splits", f"{digest.hexdigest()[:32]}.json")


def _load(path: Path, candidates: list[SplitCandidate]) -> dict[str, SplitDecision] | None:
    """The decisions in a file about candidates with near duplicates; None unless each follows one decided before it."""
    rank = {asset.sha256: i for i, asset in enumerate(sorted(candidates, key=order_of_decision))}
    try:
        record = read_json(path, MAX_LIST)
        found = {sha256: SplitDecision(split, like) for sha256, (split, like) in record.items()}
        sound = all(
            one.split in {None, "train", "val"} and rank[one.like or ""] < rank[sha256] for sha256, one in found.items()
        )
    except (OSError, DataError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return found if sound else None
