"""Compares every promise of one shard's marker with the bytes of its tar and index.

Kinds of faults:

    unfinished  no dataset.json, or committed shards that it does not count
    dataset     dataset.json does not parse or disagrees with the markers
    marker      a marker is missing, does not parse, was altered, or speaks of another shard or identity
    missing     a marker without its tar
    size        the tar has another length than its marker says
    tar         truncated, or no whole archive of ours: cut payload, damaged header, no end blocks
    sha256      the bytes are not those that were committed
    key         a sample that belongs elsewhere: swapped or renamed shards, wrong order
    members     a sample with other members than the marker names
    count       another number of samples than planned
    sample      a sample that cannot be decoded or contradicts its metadata
    pixels      decoded arrays and metadata are not those that were committed
    index       the .idx does not describe the tar
    duplicate   two shards with the same content
    stray       something in a split's folder that is not a shard of the data set
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from bokehsynth.errors import DataError
from bokehsynth.schema import FIELDS, FORMAT_VERSION, META_TYPES, check_layers_stored, check_views_stored
from bokehsynth.shards.codec import decode_meta, field_members, iter_stored, stored_digest
from bokehsynth.shards.dataset import check_entries
from bokehsynth.shards.layout import Layout
from bokehsynth.shards.marker import ShardMarker, read_marker
from bokehsynth.shards.plan import ShardPlan
from bokehsynth.shards.tar import (
    TarEntry,
    index_line,
    iter_headers,
    join_index,
    padded,
    read_end,
    read_entry,
    split_name,
)
from bokehsynth.untrusted_files import open_regular, read_bytes, refuse_holes


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong; `shard` is None where it concerns the data set."""

    split: str
    shard: int | None
    kind: str
    message: str


@dataclass
class ShardCheck:
    """The result for one shard."""

    plan: ShardPlan
    marker: ShardMarker | None = None
    faults: list[Fault] = field(default_factory=list)
    samples: int = 0
    decoded: int = 0
    bytes: int = 0
    sha256: str = ""
    attempts: dict[int, int] = field(default_factory=dict)
    keys: Set[str] = frozenset()
    """Of the record of the first sample that was decoded; all have the same."""
    contradicted: str = ""
    """Where `dataset.json` contradicts a sample: no fault of the shard."""
    follows: ShardMarker | None = None
    """Where there is no valid marker: the one that follows from a whole tar and the identity of `dataset.json`."""

    def fault(self, kind: str, message: str) -> None:
        """Add a fault; of each kind only the first one of a shard is kept."""
        if all(known.kind != kind for known in self.faults):
            self.faults.append(Fault(self.plan.split, self.plan.shard, kind, message))


def verify_shard(
    layout: Layout, plan: ShardPlan, record: Mapping[str, Any] | None = None, decode: float = 1.0
) -> ShardCheck:
    """Check one shard against its marker, the plan and, if given, the content of `dataset.json`."""
    check = ShardCheck(plan)
    try:
        check.marker = read_marker(layout, plan)
        if check.marker.plan != plan:
            check.fault("marker", f"{layout.marker(plan)}: speaks of {check.marker.plan}, there belongs {plan}")
        elif record is not None and check.marker.identity != record.get("identity"):
            check.fault("marker", f"{layout.marker(plan)}: its identity is not that of dataset.json")
    except DataError as error:
        check.fault("marker", str(error))
    tar = layout.tar(plan)
    try:
        with open_regular(tar) as file:
            refuse_holes(file, tar)
            lines = _check_tar(check, file, str(tar), record, decode)
    except FileNotFoundError:
        check.fault("missing", f"{tar}: there is no such shard")
        return check
    except OSError as error:
        check.fault("tar", f"{tar}: cannot be read ({error})")
        return check
    except DataError as error:
        check.fault("tar", str(error))
        return check
    index, text = layout.index(plan), join_index(lines).encode()
    try:
        if index.stat().st_size != len(text) or read_bytes(index, len(text)) != text:
            check.fault("index", f"{index}: does not describe the tar beside it")
    except OSError as error:
        check.fault("index", f"{index}: cannot be read ({error})")
    except DataError as error:
        check.fault("index", str(error))
    return check


class _HashingStream:
    """A file that hashes what is read from it, so that a shard is read once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        self.size += len(data)
        return data


def _check_tar(
    check: ShardCheck, file: BinaryIO, where: str, record: Mapping[str, Any] | None, decode: float
) -> list[str]:
    """Walk one archive; returns the lines of its index as far as it is whole."""
    stream, lines, pixels = _HashingStream(file), [], hashlib.sha256()
    keys = iter(check.plan.keys)
    stride, due = (1 / decode, 0.0) if decode > 0 else (math.inf, math.inf)
    members_of_all: list[str] = []
    try:
        for entries, members in _iter_samples(file, stream, where):
            key, held = split_name(entries[0].name)[0], [split_name(entry.name)[1] for entry in entries]
            lines.append(index_line(entries))
            wanted = next(keys, None)
            if key != wanted:
                check.fault("key", f"{where}: holds {key} where {wanted or 'the end'} belongs: swapped or out of order")
            members_of_all = check.marker.members if check.marker is not None else members_of_all or held
            if held != members_of_all:
                whose = "its marker names" if check.marker is not None else "the first sample holds"
                check.fault("members", f"{where}: {key} holds {', '.join(held)}, {whose} others")
            if check.samples >= due:
                due += stride
                pixels.update(f"{_check_sample(check, key, members, where, record)}\n".encode())
            check.samples += 1
    except DataError as error:
        check.fault("tar", str(error))
    while stream.read(1 << 20):
        pass
    check.bytes, check.sha256 = stream.size, stream.digest.hexdigest()
    if check.samples != check.plan.count:
        check.fault("count", f"{where}: holds {check.samples} whole samples where {check.plan.count} belong")
    if check.marker is not None:
        if check.bytes != check.marker.bytes:
            check.fault("size", f"{where}: holds {check.bytes} bytes, its marker says {check.marker.bytes}")
        if check.sha256 != check.marker.sha256:
            check.fault("sha256", f"{where}: its sha256 is {check.sha256}, its marker says {check.marker.sha256}")
        if check.decoded == check.plan.count and pixels.hexdigest() != check.marker.pixels_sha256:
            check.fault("pixels", f"{where}: pixels or metadata are not those of its marker")
    elif record is not None and check.decoded == check.plan.count and {f.kind for f in check.faults} <= {"marker"}:
        check.follows = _marker_of(check, members_of_all, pixels.hexdigest(), record["identity"])
    return lines


def _marker_of(check: ShardCheck, members: list[str], pixels: str, identity: Mapping[str, str]) -> ShardMarker:
    """The marker of a shard that was read to its end and is whole."""
    plan = check.plan
    return ShardMarker(
        format=FORMAT_VERSION, split=plan.split, shard=plan.shard, first=plan.first, n=plan.count,
        first_key=plan.first_key, last_key=plan.last_key, bytes=check.bytes, sha256=check.sha256, pixels_sha256=pixels,
        members=members, identity=dict(identity),
    )  # fmt: skip


def _iter_samples(
    file: BinaryIO, stream: _HashingStream, where: str
) -> Iterator[tuple[list[TarEntry], dict[str, bytes]]]:
    """The members of each sample and what they hold; DataError where the archive is not whole.

    Headers are looked at first, so that nothing is read that cannot be true.
    """
    offset = 0
    for entries in iter_headers(file, where):
        try:
            check_entries(file, entries, split_name(entries[0].name)[0])
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        members: dict[str, bytes] = {}
        for entry in entries:
            found = read_entry(stream.read, offset, where)
            if found is None or found[0] != entry:
                raise DataError(f"{where}: was changed at byte {offset} while it was read")
            members[split_name(entry.name)[1]] = found[1]
            offset = entry.offset + padded(entry.size)
        yield entries, members
    read_end(stream.read, offset, where)


def _check_sample(
    check: ShardCheck, key: str, members: Mapping[str, bytes], where: str, record: Mapping[str, Any] | None
) -> str:
    """Return the digest of one sample and add its faults; empty if it cannot be decoded."""
    check.decoded += 1
    try:
        meta = decode_meta(key, members)
        check_views_stored(meta, field_members(key, members))
        check_layers_stored(meta, field_members(key, members))
        digest = stored_digest(iter_stored(key, meta, members), meta)
    except DataError as error:
        check.fault("sample", f"{where}: {error}")
        return ""
    check.keys = check.keys or meta.keys()
    if meta.keys() != check.keys:
        odd = ", ".join(sorted(meta.keys() ^ check.keys))
        check.fault("sample", f"{where}: {key}: its record has other keys than those before it ({odd})")
    if meta["attempt"]:
        check.attempts[meta["index"]] = meta["attempt"]
    identity = check.marker.identity if check.marker is not None else (record or {}).get("identity", {})
    source = "the marker" if check.marker is not None else "dataset.json"
    for name in sorted(META_TYPES.keys() & identity.keys()):
        if meta[name] != identity[name]:
            check.fault("sample", f"{where}: {key}: {name} is {meta[name]}, {source} says {identity[name]}")
    table = record.get("fields", {}) if record is not None else {}
    for name in field_members(key, members):
        scale_key = FIELDS[name].scale_key
        if scale_key and name in table and meta[scale_key] != table[name].get("scale"):
            check.contradicted = f"the scale of {name} is not that of {key}, {meta[scale_key]}"
    return digest
