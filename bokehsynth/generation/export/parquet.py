"""A data set as Parquet: a file for each shard, pictures in Hugging Face's `Image` form, the record as columns."""

import json
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from bokehsynth.errors import ChangedError, DataError
from bokehsynth.files import fsync_directory, storage_errors
from bokehsynth.generation.export.create import create_folder, is_file, new_file
from bokehsynth.schema import FIELDS, META_TYPES, OPTIONAL_META_TYPES, sample_key
from bokehsynth.shards import ShardDataset, ShardPlan, read_marker

ROWS = 64
"""Samples of a row group, at most: few enough for a viewer that reads one."""
GROUP_BYTES = 64 << 20
"""Bytes of the members of a row group, at most, unless one sample has more: a writer holds some copies of them."""
_SPLITS = {"train": "train", "val": "validation"}
_TYPES: dict[Any, tuple[pa.DataType, Any]] = {
    int: (pa.int64(), {"dtype": "int64", "_type": "Value"}),
    float: (pa.float64(), {"dtype": "float64", "_type": "Value"}),
    str: (pa.string(), {"dtype": "string", "_type": "Value"}),
    list: (pa.list_(pa.string()), {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}),
    list[float]: (pa.list_(pa.float64()), {"feature": {"dtype": "float64", "_type": "Value"}, "_type": "List"}),
}
"""Type of each value of the record: that of the column, and what Hugging Face calls it."""
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def export_shard_to_parquet(data: ShardDataset, plan: ShardPlan, target: Path) -> None:
    """Write a shard as `data/SPLIT-SHARD-of-SHARDS.parquet`; one that is there has to hold just what would be written.

    What holds it is rows and metadata: versions of pyarrow may store the same ones in other bytes.
    """
    name = f"{_SPLITS[plan.split]}-{plan.shard:05d}-of-{len(data.plans):05d}.parquet"
    path, sha256 = target / "data" / name, read_marker(data.layout, plan).sha256
    create_folder(path.parent, target)
    data.check_sha256(plan)
    with storage_errors(path):
        if os.path.lexists(path):
            same = is_file(path) and _holds(path, _tables(data, plan, sha256))
        else:
            with new_file(path) as file:
                _write(file, _tables(data, plan, sha256))
            fsync_directory(path.parent)
            same = _origin(path) == (plan.count, sha256)  # another export may have been faster
        if not same:
            raise ChangedError(f"{path}: is there and is not {plan.name}; delete it, or choose another --out")


def _write(file: BinaryIO, tables: Iterator[pa.Table]) -> None:
    first = next(tables)
    # pictures are compressed already, and a dictionary of them would be read first
    words = [name for name in first.schema.names if name in META_TYPES]
    options: dict[str, Any] = {"use_dictionary": words, "version": "2.6"}
    # the least and the greatest of a column may be whole pictures, and would be bytes that no checksum covers
    options |= {"write_statistics": False, "write_page_checksum": True}
    with pq.ParquetWriter(file, first.schema, compression="snappy", **options) as writer:
        for table in chain([first], tables):
            writer.write_table(table)


def _holds(path: Path, tables: Iterator[pa.Table]) -> bool:
    """Whether a file holds these tables as its row groups, and their metadata."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as found:
            groups = iter(range(found.num_row_groups))
            for table in tables:
                group = next(groups, None)
                if group is None or found.metadata.row_group(group).num_rows != table.num_rows:
                    return False
                if found.read_row_group(group) != table or not _same_metadata(found, table.schema):
                    return False
            return next(groups, None) is None
    except (pa.ArrowException, ValueError):
        return False
    except OSError as error:  # so pyarrow calls damage, without a number
        if error.errno is not None:
            raise
        return False


def _same_metadata(found: pq.ParquetFile, schema: pa.Schema) -> bool:
    """Whether a file has the metadata of `schema`, both in Parquet's form and in that of Arrow beside it."""
    stored = {name: text for name, text in (found.metadata.metadata or {}).items() if name != b"ARROW:schema"}
    return bool(stored == schema.metadata == found.schema_arrow.metadata)


def _tables(data: ShardDataset, plan: ShardPlan, sha256: str) -> Iterator[pa.Table]:
    """The rows of a shard, in the groups in which they are written."""
    schema, names = None, None
    for batch in _batches(_rows(data, plan)):
        if schema is None:
            names = batch[0].keys()
            columns = [(name, kind) for name, kind, _ in _columns(batch[0])]
            schema = pa.schema(columns).with_metadata(_metadata(batch[0], sha256))
        if any(row.keys() != names for row in batch):
            raise DataError(f"{data.layout.tar(plan)}: not all of its samples have the same members")
        try:
            table = pa.Table.from_pylist(batch, schema)
        except UnicodeError:
            raise DataError(f"{data.layout.tar(plan)}: a record holds text that is no Unicode") from None
        yield table


def _batches(rows: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    """Rows in groups of at most ROWS, and of at most GROUP_BYTES unless one alone has more."""
    batch: list[dict[str, Any]] = []
    held = 0
    for size, row in rows:
        if batch and (len(batch) == ROWS or held + size > GROUP_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(row)
        held += size
    yield batch


def _rows(data: ShardDataset, plan: ShardPlan) -> Iterator[tuple[int, dict[str, Any]]]:
    """Bytes and row of each sample."""
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
        yield sum(map(len, members.values())), row


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
    for name, kind in [*META_TYPES.items(), *(item for group in OPTIONAL_META_TYPES for item in group.items())]:
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
