"""Reader of a data set: samples in index order or by number, with a position that can be saved.

It imports NumPy and OpenCV and nothing heavier, keeps no file open between two samples (so it may be pickled, forked
and shared by threads), and reads no tar whose marker is not valid.
"""

import hashlib
import io
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bokehsynth.errors import DataError
from bokehsynth.files import data_path
from bokehsynth.schema import FIELDS, Sample, fields_read, sample_key
from bokehsynth.shards.codec import META_MEMBER, SMALL_SAMPLE, decode_meta, decode_sample, field_members
from bokehsynth.shards.dataset import check_entries, read_dataset, read_meta, stored_plans
from bokehsynth.shards.index import ShardIndex, adjacent_runs, read_index
from bokehsynth.shards.iteration import SampleReader
from bokehsynth.shards.layout import Layout, refuse_lost_hidden
from bokehsynth.shards.marker import ASKED_AT_A_TIME, check_shards, read_marker
from bokehsynth.shards.plan import ShardPlan
from bokehsynth.shards.tar import BLOCK, TarEntry, padded, read_entry, split_name
from bokehsynth.stores import ObjectPath, StoredPath
from bokehsynth.untrusted_files import open_regular, refuse_holes


def open_dataset(
    path: str | os.PathLike[str] | ObjectPath, split: str = "train", fields: Sequence[str] | None = None
) -> "ShardDataset":
    """Open one split of a finished data set in a folder or a bucket (`s3://bucket/folder`, read by ranges).

    `fields` limits which arrays are decoded (default: all that are stored; `views` and `layers` stand for all of
    these). Raises DataError, naming the file and
    what to do, if the data set is missing, unfinished or damaged, or if it has no such split or field.
    """
    return ShardDataset(Layout(data_path(path)), split, fields)


class ShardDataset(SampleReader):
    """The samples of one split in shards; it also serves as map-style data set of a torch DataLoader."""

    def __init__(
        self, layout: Layout, split: str, fields: Sequence[str] | None = None, record: dict[str, Any] | None = None
    ) -> None:
        self.record: dict[str, Any] = read_dataset(layout) if record is None else record
        """The content of `dataset.json`, or what it will be."""
        super().__init__(split, stored_plans(self.record, split), self.record["identity"])
        self.layout = layout
        self.fields = fields_read(self.record["fields"] if fields is None else fields, self.record["fields"])
        """Names of the arrays that each sample will hold."""
        unknown = [name for name in self.fields if name not in self.record["fields"]]
        if unknown:
            stored = ", ".join(name for name in FIELDS if name in self.record["fields"])
            raise DataError(f"{layout.root} does not store {', '.join(unknown)}; it has {stored}")
        refuse_lost_hidden(layout)
        for _ in check_shards(layout, self.plans, self.record["identity"]):
            pass
        self._firsts = [plan.first for plan in self.plans]
        self._indices: dict[int, ShardIndex] = {}

    def meta(self, index: int) -> dict[str, Any]:
        """The JSON record of a sample, its pictures left unread; IndexError unless it is 0 or above, and there."""
        plan = self.plan_of(index)
        return read_meta(self.layout.tar(plan), self._index(plan).entries(index), sample_key(self.split, index))

    def records(self, indices: Iterable[int]) -> Iterator[dict[str, Any]]:
        """The JSON records of samples in rising order, pictures unread, with the index of one shard at a time."""
        if self.layout.remote:  # each answer takes milliseconds to come
            with ThreadPoolExecutor(ASKED_AT_A_TIME) as pool:
                yield from pool.map(self.meta, indices)
            return
        shard: ShardIndex | None = None
        for index in indices:
            plan = self.plan_of(index)
            if shard is None or plan != shard.plan:
                shard = read_index(self.layout, plan)
            yield read_meta(self.layout.tar(plan), shard.entries(index), sample_key(self.split, index))

    def members(self, index: int) -> dict[str, bytes]:
        """The members of a sample as they are stored, by name (`hq.png`, `json`): known names, none decoded.

        Raises IndexError unless `index` is 0 or above, and there, and DataError as any reader.
        """
        plan = self.plan_of(index)
        key = sample_key(self.split, index)
        members = _read_members(self.layout.tar(plan), self._index(plan).entries(index), key)
        decode_meta(key, members)
        field_members(key, members)
        return members

    def check_sha256(self, plan: ShardPlan) -> None:
        """Read a shard to its end; DataError unless its bytes are those that its marker promises."""
        path, digest = self.layout.tar(plan), hashlib.sha256()
        try:
            with open_regular(path) as file:
                refuse_holes(file, path)
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error})") from None
        if digest.hexdigest() != read_marker(self.layout, plan).sha256:
            raise DataError(f"{path}: its bytes are not those that were committed (`bokehsynth verify` tells which)")

    def read(self, index: int) -> Sample:
        """Sample `index`, decoded; IndexError unless it is 0 or above, and there, DataError if it is damaged."""
        plan = self.plan_of(index)
        tar, key = self.layout.tar(plan), sample_key(self.split, index)
        entries = [entry for entry in self._index(plan).entries(index) if self._is_wanted(entry)]
        try:
            return decode_sample(key, _read_members(tar, entries, key), self.fields)
        except DataError as error:
            where = "" if str(tar) in str(error) else f"{tar}: "
            raise DataError(f"{where}{error} (`bokehsynth verify {self.layout.root}` finds every fault)") from None

    def plan_of(self, index: int) -> ShardPlan:
        """The shard of a sample; IndexError if there is no such sample."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)} in split {self.split}")
        return self.plans[bisect_right(self._firsts, index) - 1]

    def _is_wanted(self, entry: TarEntry) -> bool:
        member = split_name(entry.name)[1]
        return member == META_MEMBER or member.partition(".")[0] in self.fields

    def _index(self, plan: ShardPlan) -> ShardIndex:
        if plan.shard not in self._indices:
            index = read_index(self.layout, plan)
            field_members(plan.first_key, index.members)
            self._indices[plan.shard] = index
        return self._indices[plan.shard]


def _read_members(tar: StoredPath, entries: Sequence[TarEntry], key: str) -> dict[str, bytes]:
    """These members of sample `key`; a DataError unless they stand in the tar where the index has them."""
    members: dict[str, bytes] = {}
    try:
        with open_regular(tar) as file:
            if sum(entry.size for entry in entries) > SMALL_SAMPLE:
                refuse_holes(file, tar)
                check_entries(file, entries, key)
            for run in adjacent_runs(entries):
                start, end = run[0].offset - BLOCK, run[-1].offset + padded(run[-1].size)
                file.seek(start)
                data = file.read(end - start)
                if len(data) != end - start:
                    raise DataError(f"{tar}: truncated: {key} should end at byte {end}")
                members |= _parse_run(tar, run, data)
    except OSError as error:
        raise DataError(f"{tar}: cannot be read ({error})") from None
    return members


def _parse_run(tar: StoredPath, run: Sequence[TarEntry], data: bytes) -> dict[str, bytes]:
    """The payloads of members that stand side by side, by name without key."""
    read, members = io.BytesIO(data).read, {}
    for entry in run:
        found = read_entry(read, entry.offset - BLOCK, str(tar))
        if found is None or found[0] != entry:
            place = entry.offset - BLOCK
            raise DataError(f"{tar}: at byte {place} should stand {entry.name}; the index and the tar disagree")
        members[split_name(entry.name)[1]] = found[1]
    return members
