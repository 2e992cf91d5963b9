"""Markers: the files whose presence makes a shard exist, written by `writer.write_shard`.

A shard exists when its marker is valid: it parses, it names this shard of this plan and identity, and the tar and the
index stand there with the recorded size. A tar without a marker is nothing. Only `verify` reads a tar to its end.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from typing import TypeVar

from bokehsynth.errors import DataError
from bokehsynth.files import files_in, pretty_json
from bokehsynth.rng import SPLITS
from bokehsynth.schema import FORMAT_VERSION, MAX_SAMPLES
from bokehsynth.shards.layout import Layout
from bokehsynth.shards.plan import ShardPlan
from bokehsynth.stores import StoredPath
from bokehsynth.untrusted_files import irregular_kind, parse_json, read_text

ASKED_AT_A_TIME = 32
"""Shards of a set in a bucket that are asked for at a time: each answer takes milliseconds to come."""

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")

_DIGEST = re.compile("[0-9a-f]{64}")

REMAKE_HINT = "run the same `bokehsynth generate` line again to make it anew"


@dataclass(frozen=True, kw_only=True)
class ShardMarker:
    """What is promised of one committed shard. Nothing in it depends on time, host or attempt."""

    format: int
    split: str
    shard: int
    first: int
    n: int
    """Samples in the shard."""
    first_key: str
    last_key: str
    bytes: int
    """Size of the tar."""
    sha256: str
    """Hex digest of the tar."""
    pixels_sha256: str
    """Digest over the lines of `codec.stored_digest` of its samples, one per line: independent of any encoder."""
    members: list[str]
    """Members of every sample, in file order: `aif.png`, ..., `json`, ..."""
    identity: dict[str, str]
    """Digests of what the data set is made from: recipe, assets, lens, degradation."""

    @property
    def plan(self) -> ShardPlan:
        """The part of the split that this shard holds."""
        return ShardPlan(self.split, self.shard, self.first, self.n)

    def text(self) -> str:
        """The text of the marker file: canonical, so that equal markers are equal files."""
        return pretty_json(vars(self))


def parse_marker(text: str, where: StoredPath) -> ShardMarker:
    """Parse the text of a marker file; a DataError, naming `where`, unless it is exactly one marker."""
    try:
        values = parse_json(text, str(where))
    except DataError as error:
        raise DataError(f"{error}; {REMAKE_HINT}") from None
    if not isinstance(values, dict) or values.keys() != {item.name for item in fields(ShardMarker)}:
        raise DataError(f"{where}: not a shard marker (it has other keys); {REMAKE_HINT}")
    try:
        marker = ShardMarker(**values)
        for item in fields(ShardMarker):
            kind = {"members": list, "identity": dict}.get(item.name, item.type)
            if type(values[item.name]) is not kind:
                raise TypeError(f"{item.name} is {values[item.name]!r:.80}")
        words = [*marker.members, *marker.identity.values()]
        whole = marker.text() == text and all(type(word) is str for word in words)
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: not a shard marker ({error}); {REMAKE_HINT}") from None
    if marker.format != FORMAT_VERSION:
        raise DataError(f"{where}: format {marker.format}; this bokehsynth reads format {FORMAT_VERSION}")
    plan = marker.plan
    possible = plan.split in SPLITS and min(plan.shard, plan.first, marker.bytes) >= 0 and plan.count >= 1
    possible = possible and plan.shard + plan.first + plan.count <= 2 * MAX_SAMPLES
    possible = possible and all(_DIGEST.fullmatch(digest) for digest in (marker.sha256, marker.pixels_sha256))
    if not (whole and possible) or (marker.first_key, marker.last_key) != (plan.first_key, plan.last_key):
        raise DataError(f"{where}: the marker was altered after it was written; {REMAKE_HINT}")
    return marker


def each(layout: Layout, function: Callable[[_Item], _Found], items: Iterable[_Item]) -> Iterator[_Found]:
    """What `function` gives for each item, in order; of a set in a bucket many are asked for at a time."""
    if not layout.remote:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(ASKED_AT_A_TIME) as pool:
        yield from pool.map(function, items)


def read_marker(layout: Layout, plan: ShardPlan) -> ShardMarker:
    """Read the marker of a shard; a DataError if it is missing or does not parse. Plan and tar are not compared."""
    path = layout.marker(plan)
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no marker: the shard was never finished; {REMAKE_HINT}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    return parse_marker(text, path)


def check_shard(layout: Layout, plan: ShardPlan, identity: Mapping[str, str] | None = None) -> ShardMarker:
    """Return the marker of a shard that exists; otherwise raise a DataError that says which file is wrong and why.

    Compares the marker with the plan and, if given, the identity, and the sizes on disk; it does not read the tar.
    """
    marker, path = read_marker(layout, plan), layout.marker(plan)
    if marker.plan != plan:
        raise DataError(f"{path}: speaks of {marker.plan}, the data set has {plan} there; {REMAKE_HINT}")
    if identity is not None and marker.identity != dict(identity):
        names = [
            name for name in sorted({*marker.identity, *identity}) if marker.identity.get(name) != identity.get(name)
        ]
        raise DataError(f"{path}: made with another {', '.join(names)}; choose another --out, or delete this one")
    tar = layout.tar(plan)
    if (size := _size_of(tar)) != marker.bytes:
        raise DataError(
            f"{tar}: holds {size} bytes where its marker says {marker.bytes}: truncated or altered; {REMAKE_HINT}"
        )
    _size_of(layout.index(plan))
    return marker


def check_shards(
    layout: Layout, plans: Iterable[ShardPlan], identity: Mapping[str, str] | None = None
) -> Iterator[ShardMarker]:
    """`check_shard` of each of these shards, in their order; in a bucket many are asked for at a time."""
    return each(layout, lambda plan: check_shard(layout, plan, identity), plans)


def _size_of(path: StoredPath) -> int:
    """The size of a file of a shard, in bytes; DataError unless it is a regular file."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: missing, though its marker is there; {REMAKE_HINT}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if kind := irregular_kind(status):
        raise DataError(f"{path}: is {kind}, not a file; {REMAKE_HINT}")
    return status.st_size


def find_shards(
    layout: Layout, plans: Iterable[ShardPlan], identity: Mapping[str, str] | None = None
) -> Iterator[ShardMarker | None]:
    """`find_shard` of each of these shards, in their order; in a bucket many are asked for at a time."""
    return each(layout, lambda plan: find_shard(layout, plan, identity), plans)


def find_shard(layout: Layout, plan: ShardPlan, identity: Mapping[str, str] | None = None) -> ShardMarker | None:
    """The marker of a shard that exists, or None if the shard has to be made."""
    try:
        return check_shard(layout, plan, identity)
    except DataError:
        return None


def common_identity(layout: Layout) -> dict[str, str] | None:
    """The identity in which all readable markers agree; None where they do not, or there is none."""
    identities = [marker.identity for split in SPLITS for marker in _readable_markers(layout, split)]
    return identities[0] if identities and all(other == identities[0] for other in identities) else None


def committed_plans(layout: Layout, split: str) -> list[ShardPlan]:
    """The shards of the readable markers of a split, by shard number; tars are not looked at."""
    return sorted(marker.plan for marker in _readable_markers(layout, split))


def _readable_markers(layout: Layout, split: str) -> Iterator[ShardMarker]:
    """The markers of a split that parse and stand in their place; in a bucket many are asked for at a time."""
    paths = files_in(layout.split_markers(split), "*.done.json")
    return (marker for marker in each(layout, partial(_marker_at, layout), paths) if marker is not None)


def _marker_at(layout: Layout, path: StoredPath) -> ShardMarker | None:
    """The marker in a file, if it parses and is that of the shard whose name the file has."""
    try:
        marker = parse_marker(read_text(path), path)
    except (DataError, OSError):
        return None
    return marker if layout.marker(marker.plan) == path else None
