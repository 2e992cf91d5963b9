"""A data set in MDS, the format of MosaicML's streaming: `SPLIT/index.json` and `SPLIT/shard.00000.mds`, ....

A shard file has the number n of its samples, the n + 1 offsets of their starts and of the end, the columns as JSON, and
the samples; numbers are uint32, little-endian. A sample has the sizes of its columns that have no fixed one, then the
columns in the order of their names.
"""

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from bokehsynth.errors import ChangedError, DataError, UsageError
from bokehsynth.files import fsync_directory, storage_errors
from bokehsynth.generation.export.create import create, create_folder, is_file, new_file
from bokehsynth.schema import FIELDS, META_TYPES, OPTIONAL_META_TYPES, sample_key
from bokehsynth.shards import ShardDataset, ShardPlan

MAX_SHARD = (1 << 32) - 1
"""Bytes of a shard file: its offsets are uint32."""
_FIXED = {"int": 8, "float64": 8}
"""Encodings of a fixed size in bytes."""
_ENCODINGS: dict[Any, str] = {int: "int", float: "float64", str: "str", list: "json", list[float]: "json"}
_KINDS = META_TYPES | {name: kind for group in OPTIONAL_META_TYPES for name, kind in group.items()}


def export_shard_to_mds(data: ShardDataset, plan: ShardPlan, target: Path) -> None:
    """Write a shard as `SPLIT/shard.SHARD.mds`; one that is there has to hold just these bytes."""
    path = _path(target, plan)
    create_folder(path.parent, target)
    data.check_sha256(plan)
    with storage_errors(path):
        written = None
        if not os.path.lexists(path):
            with new_file(path) as file:
                _write(file, data, plan)
                written = os.fstat(file.fileno()).st_ino
            fsync_directory(path.parent)
        # another export may have been faster
        if path.lstat().st_ino != written and not (is_file(path) and _holds(path, data, plan)):
            raise ChangedError(f"{path}: is there and is not {plan.name}; delete it, or choose another --out")


def export_mds_index(data: ShardDataset, target: Path) -> None:
    """Write the `index.json` of a split whose shards are all written."""
    shards = []
    for plan in data.plans:
        path = _path(target, plan)
        raw = {"basename": path.name, "bytes": path.stat().st_size, "hashes": {}}
        columns = _config(_columns(data, plan.first, plan))
        shards.append(columns | {"raw_data": raw, "samples": plan.count, "zip_data": None})
    text = json.dumps({"shards": shards, "version": 2}, sort_keys=True)
    create(_path(target, data.plans[0]).with_name("index.json"), text.encode())


def _path(target: Path, plan: ShardPlan) -> Path:
    return target / plan.split / f"shard.{plan.shard:05d}.mds"


def _write(file: BinaryIO, data: ShardDataset, plan: ShardPlan) -> None:
    file.write(bytes(4 * (plan.count + 2)))  # number and offsets, which are known at the end
    ends = []
    for part in _parts(data, plan):
        file.write(part)
        ends.append(file.tell())
    file.seek(0)
    file.write(_head(plan, ends))


def _holds(path: Path, data: ShardDataset, plan: ShardPlan) -> bool:
    """Whether a file holds just what would be written."""
    with path.open("rb") as file:
        head, ends = file.read(4 * (plan.count + 2)), []
        for part in _parts(data, plan):
            if file.read(len(part)) != part:
                return False
            ends.append(file.tell())
        return not file.read(1) and head == _head(plan, ends)


def _head(plan: ShardPlan, ends: list[int]) -> bytes:
    """The start of a shard file; `ends`: where the JSON of the columns and each sample end."""
    if ends[-1] > MAX_SHARD:
        raise UsageError(
            f"{plan.name}: takes {ends[-1]:,} bytes; a shard in MDS has at most {MAX_SHARD:,}: make the set with fewer "
            "shards.samples, or export --to parquet"
        )
    return struct.pack(f"<{plan.count + 2}I", plan.count, *ends)


def _parts(data: ShardDataset, plan: ShardPlan) -> Iterator[bytes]:
    """The JSON of the columns, then each sample."""
    first = None
    for index in range(plan.first, plan.first + plan.count):
        columns = _columns(data, index, plan)
        names = [(name, encoding) for name, encoding, _ in columns]
        if first is None:
            first = names
            yield json.dumps(_config(columns), sort_keys=True).encode()
        if names != first:
            raise DataError(f"{data.layout.tar(plan)}: not all of its samples have the same members")
        sizes = [len(content) for _, encoding, content in columns if encoding not in _FIXED]
        yield struct.pack(f"<{len(sizes)}I", *sizes) + b"".join(content for _, _, content in columns)


def _config(columns: list[tuple[str, str, bytes]]) -> dict[str, Any]:
    """How a shard is described."""
    return {
        "column_encodings": [encoding for _, encoding, _ in columns],
        "column_names": [name for name, _, _ in columns],
        "column_sizes": [_FIXED.get(encoding) for _, encoding, _ in columns],
        "compression": None,
        "format": "mds",
        "hashes": [],
        "size_limit": None,
        "version": 2,
    }


def _columns(data: ShardDataset, index: int, plan: ShardPlan) -> list[tuple[str, str, bytes]]:
    """Name, encoding and content of each column of a sample, by name."""
    key, members = sample_key(plan.split, index), data.members(index)
    found = [("key", "str", key.encode())]
    try:
        for member, content in members.items():
            field = member.partition(".")[0]
            if member == "json":
                found += [(name, _ENCODINGS[_KINDS[name]], _value(name, v)) for name, v in json.loads(content).items()]
            else:  # what MDS calls PNG, Pillow opens, whatever it is; but it would bring 16-bit RGB to 8 bits
                found.append((field, "bytes" if FIELDS[field].kind == "color16" else "png", content))
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        fault = " ".join(str(error).split())[:200]
        raise DataError(f"{data.layout.tar(plan)}: the record of {key} is none of a sample ({fault})") from None
    return sorted(found)


def _value(name: str, value: Any) -> bytes:
    """A value of the record as its column holds it."""
    kind = _KINDS[name]
    if kind is int:
        return struct.pack("<q", value)
    if kind is float:
        return struct.pack("<d", value)
    return value.encode() if kind is str else json.dumps(value).encode()
