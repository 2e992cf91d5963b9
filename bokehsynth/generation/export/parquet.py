"""A data set as Parquet: a file for each shard, pictures in Hugging Face's `Image` form, the record as columns."""

import json
import os
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bokehsynth.errors import ChangedError, DataError
from bokehsynth.files import make_directory, storage_errors
from bokehsynth.generation.export.create import new_file
from bokehsynth.schema import FIELDS, META_TYPES, METRIC_META_TYPES, sample_key
from bokehsynth.shards import ShardDataset, ShardPlan, read_marker

ROWS = 64
"""Samples of a row group: few enough for a viewer that reads one, and for the memory of a writer."""
_SPLITS = {"train": "train", "val": "validation"}
_TYPES: dict[type, tuple[pa.DataType, Any]] = {
    int: (pa.int64(), {"dtype": "int64", "_type": "Value"}),
    float: (pa.float64(), {"dtype": "float64", "_type": "Value"}),
    str: (pa.string(), {"dtype": "string", "_type": "Value"}),
    list: (pa.list_(pa.string()), {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}),
}
"""Of the record's values: the column, and what Hugging Face calls it."""
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def export_shard_to_parquet(data: ShardDataset, plan: ShardPlan, target: Path) -> None:
    """Write a shard as `data/SPLIT-SHARD-of-SHARDS.parquet`; one that is there has to be of this very shard."""
    name = f"{_SPLITS[plan.split]}-{plan.shard:05d}-of-{len(data.plans):05d}.parquet"
    path, marker = target / "data" / name, read_marker(data.layout, plan)
    make_directory(path.parent)
    with storage_errors(path):
        if not path.exists():
            data.check_sha256(plan)
            with new_file(path) as tmp:
                _write(data, plan, tmp, marker.sha256)
        if _origin(path) != (plan.count, marker.sha256):
            raise ChangedError(f"{path}: is there and is not {plan.name}; delete it, or choose another --out")


def _write(data: ShardDataset, plan: ShardPlan, path: Path, sha256: str) -> None:
    rows = _rows(data, plan)
    first = next(rows)
    schema = pa.schema([(name, kind) for name, kind, _ in _columns(first)]).with_metadata(_metadata(first, sha256))
    # pictures are compressed already, and a dictionary of them would be read first
    words = [name for name in schema.names if name in META_TYPES]
    options: dict[str, Any] = {"use_dictionary": words, "version": "2.6"}
    with pq.ParquetWriter(path, schema, compression="snappy", **options) as writer:
        for batch in _batches(chain([first], rows)):
            if any(row.keys() != first.keys() for row in batch):
                raise DataError(f"{data.layout.tar(plan)}: not all of its samples have the same members")
            try:
                writer.write_table(pa.Table.from_pylist(batch, schema))
            except UnicodeError:
                raise DataError(f"{data.layout.tar(plan)}: a record holds text that is no Unicode") from None
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(rows, ROWS)):
        yield batch


def _rows(data: ShardDataset, plan: ShardPlan) -> Iterator[dict[str, Any]]:
    for index in range(plan.first, plan.first + plan.count):
        key, members = sample_key(plan.split, index), data.members(index)
        row: dict[str, Any] = {"key": key}
        for member, content in members.items():
            field = member.partition(".")[0]
            if member == "json":
                row |= json.loads(content)
            elif _is_picture(field):
                row[field] = {"bytes": content, "path": f"{key}.{member}"}
            else:
                row[field] = content
        yield row


def _is_picture(field: str) -> bool:
    """Whether Pillow decodes it as it is: it would bring 16-bit RGB to 8 bits."""
    return FIELDS[field].kind != "color16"


def _columns(row: dict[str, Any]) -> Iterator[tuple[str, pa.DataType, Any]]:
    """Name of each column, what it holds, and what Hugging Face calls that."""
    yield "key", *_TYPES[str]
    for name in FIELDS:
        if name in row and _is_picture(name):
            yield name, _PICTURE, {"_type": "Image"}
        elif name in row:
            yield name, pa.binary(), {"dtype": "binary", "_type": "Value"}
    for name, kind in (META_TYPES | METRIC_META_TYPES).items():
        if name in row:
            yield name, *_TYPES[kind]


def _metadata(row: dict[str, Any], sha256: str) -> dict[bytes, bytes]:
    features = {name: feature for name, _, feature in _columns(row)}
    return {
        b"huggingface": json.dumps({"info": {"features": features}}).encode(),
        b"bokehsynth": json.dumps({"shard_sha256": sha256}).encode(),
    }


def _origin(path: Path) -> tuple[int, str] | None:
    """Rows of a Parquet file, and the shard that it was made from; None if it is no export."""
    try:
        found = pq.read_metadata(path)
        origin = json.loads((found.metadata or {})[b"bokehsynth"])
        return found.num_rows, origin["shard_sha256"]
    except (pa.ArrowException, KeyError, ValueError, TypeError):
        return None
